//! Datagrams in any order around a relay with a small table: requests, what
//! comes back for them, whole or changed, errors, and time. Nothing panics
//! or goes astray, and when nothing more comes, all is forgotten in the end.
#![no_main]

#[path = "../../support/src/fixture.rs"]
mod fixture;
#[path = "../../support/src/passage.rs"]
mod passage;
#[path = "../../support/src/twin.rs"]
mod twin;

use std::net::{IpAddr, SocketAddr};

use viaduct::config::{Accounting, AccountingTarget, Config, OnFailure};
use viaduct::proxy::{Datagram, Forward, Proxy, Scratch};
use viaduct::sip::MAX_DATAGRAM;
use viaduct::transaction::{
    Around, AttemptId, Event, Finished, Leaving, Lesson, Outbox, Received, Relay,
};

const METHODS: [&str; 5] = ["INVITE", "REGISTER", "MESSAGE", "CANCEL", "ACK"];
const STATUSES: [&str; 8] = [
    "100 Trying",
    "180 Ringing",
    "200 OK",
    "401 Unauthorized",
    "486 Busy Here",
    "487 Request Terminated",
    "503 Service Unavailable\r\nRetry-After: 7",
    "603 Decline",
];
/// What has left most recently can be answered.
const REMEMBERED: usize = 32;

#[derive(Default)]
struct Outlet {
    space: Vec<u8>,
    sent: Vec<(Vec<u8>, SocketAddr)>,
}

impl Outbox for Outlet {
    fn space(&mut self) -> &mut [u8] {
        self.space.resize(MAX_DATAGRAM, 0);
        &mut self.space
    }

    fn send(&mut self, leaving: &Leaving) {
        if self.sent.len() == REMEMBERED {
            self.sent.remove(0);
        }
        let octets = self.space[..leaving.length].to_vec();
        passage::check_way(&octets, leaving.to).unwrap_or_else(|what| panic!("{what}"));
        self.sent.push((octets, leaving.to));
    }

    fn finished(&mut self, finished: &Finished<'_>) {
        assert!(finished.ended >= finished.received);
        assert!(!finished.response.is_empty());
    }

    fn suspected(&mut self, _place: (usize, usize), _lesson: Lesson) {}

    fn allows(&mut self, _to: IpAddr, _octets: usize) -> bool {
        true
    }

    fn forwarded(&mut self, _forward: &Forward) {}

    fn count(&mut self, _event: Event) {}
}

thread_local! {
    /// It does not change, and takes long to make.
    static PROXY: Proxy = Proxy::new(&config(), fixture::secret());
}

struct World<'a> {
    proxy: &'a Proxy,
    scratch: Scratch,
    relay: Relay,
    outlet: Outlet,
    now: u64,
}

fn config() -> Config {
    let mut config = fixture::on_path();
    let stateful = &mut config.stateful;
    stateful.methods = METHODS[..3].iter().map(ToString::to_string).collect();
    stateful.transactions = 4;
    stateful.ring_timeout = std::time::Duration::from_secs(20);
    stateful.on_failure = vec![OnFailure {
        statuses: vec![408, 486],
        set: 0,
        request_uri: Some("sip:box@198.51.100.9".to_owned()),
        from_sets: Vec::new(),
    }];
    stateful.accounting = Some(Accounting {
        target: AccountingTarget::Stdout,
        methods: Vec::new(),
    });
    config
}

impl<'a> World<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        Self {
            scratch: proxy.scratch(),
            relay: Relay::new(proxy.stateful(), 0, 1).expect("memory"),
            proxy,
            outlet: Outlet::default(),
            now: 1_000_000,
        }
    }

    fn with_relay<T>(&mut self, act: impl FnOnce(&mut Relay, &mut Around<'_, Outlet>) -> T) -> T {
        let mut around = Around {
            proxy: self.proxy,
            scratch: &mut self.scratch,
            now: self.now,
            out: &mut self.outlet,
        };
        act(&mut self.relay, &mut around)
    }

    fn receive(&mut self, bytes: &[u8], source: SocketAddr) {
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        let received = self.with_relay(|relay, around| relay.receive(around, &datagram));
        assert!(!matches!(received, Received::HandOver(_)));
        assert!(self.relay.len() <= 4);
    }

    fn pass_time(&mut self, milliseconds: u64) {
        self.now += milliseconds;
        self.with_relay(|relay, around| relay.expire(around));
    }

    /// Something that was sent, and who got it.
    fn sent(&self, choice: u8) -> Option<(Vec<u8>, SocketAddr)> {
        let sent = &self.outlet.sent;
        let at = usize::from(choice).checked_rem(sent.len())?;
        sent.get(at).cloned()
    }

    fn step(&mut self, [what, which, how, octet]: [u8; 4]) {
        match what % 6 {
            0 => {
                let request = request(METHODS[usize::from(how) % METHODS.len()], which % 8);
                self.receive(&request, fixture::caller());
            }
            1 | 2 => {
                let Some((request, to)) = self.sent(which) else {
                    return;
                };
                let status = STATUSES[usize::from(how) % STATUSES.len()];
                let mut response = fixture::answer(&request, &format!("SIP/2.0 {status}"));
                if what % 6 == 2 {
                    let at = usize::from(octet) * response.len() / 256;
                    response[at] = octet ^ how;
                }
                self.receive(&response, to);
            }
            3 => self.pass_time(1 << (which % 18)),
            4 => {
                let Some((octets, _)) = self.sent(which) else {
                    return;
                };
                let octets = &octets[..octets.len() * usize::from(how) / 255];
                if let Some((key, number)) = self.proxy.returned(octets) {
                    let attempt = AttemptId { key, number };
                    self.with_relay(|relay, around| relay.undeliverable(around, attempt));
                }
            }
            _ => {
                let Some((octets, _)) = self.sent(which) else {
                    return;
                };
                self.receive(&octets, fixture::destination(usize::from(how) % 4));
            }
        }
    }
}

fn request(method: &str, number: u8) -> Vec<u8> {
    let text = String::from_utf8(fixture::invite()).expect("a text");
    let text = text.replace("nashds8.1", &format!("call{number}"));
    text.replace("INVITE sip", &format!("{method} sip"))
        .replace("2 INVITE", &format!("2 {method}"))
        .replace("3848276298220188511", &format!("call{number}"))
        .into_bytes()
}

libfuzzer_sys::fuzz_target!(|steps: Vec<[u8; 4]>| {
    PROXY.with(|proxy| {
        let mut world = World::new(proxy);
        for step in steps {
            world.step(step);
        }
        // The longest timers, one behind the other, for each attempt.
        for _ in 0..40 {
            // To walk over the empty wheel takes longer than all else.
            if world.relay.is_empty() {
                break;
            }
            world.pass_time(60_000);
        }
        assert!(world.relay.is_empty(), "{} are left", world.relay.len());
        assert_eq!(world.relay.next_due(), None);
    });
});
