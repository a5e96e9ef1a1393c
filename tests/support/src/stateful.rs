//! What the tests of stateful relay say again and again: an INVITE under way,
//! what a member says to it, and what comes of that.

use std::time::Duration;

use super::dialog::{Peer, Request, Scene, read, response, status, values};
use super::net::V4;
use super::twin::StartLine;
use super::wait_for;

/// Timers so long that nothing is sent again and nothing ends by itself.
pub const STILL: [&str; 4] = ["--timer", "T1=30s,T2=30s", "--failover-after", "60s"];
/// Timers so short that a test sees them run out: T1 is 20 ms, so that B, F
/// and H are 1.28 s.
pub const QUICK: [&str; 4] = [
    "--timer",
    "T1=20ms,T2=80ms,T4=200ms",
    "--failover-after",
    "50ms",
];

/// A request at a member, as it came there.
#[derive(Clone, Debug)]
pub struct Leg {
    pub member: usize,
    pub request: Vec<u8>,
}

impl Scene {
    /// INVITE is stateful, and timers are [`STILL`].
    pub fn still(members: usize, args: &[&str]) -> Self {
        Self::stateful(members, "INVITE", &STILL, args)
    }

    /// INVITE is stateful, and timers are [`QUICK`].
    pub fn quick(members: usize, args: &[&str]) -> Self {
        Self::stateful(members, "INVITE", &QUICK, args)
    }

    pub fn stateful(members: usize, methods: &str, timers: &[&str], args: &[&str]) -> Self {
        let all = [&["--stateful", methods], timers, args].concat();
        Self::new(members, &all)
    }

    /// Sends a new INVITE from the caller and takes the 100: the INVITE at
    /// its member.
    #[track_caller]
    pub fn begin(&self, call: &Request) -> Leg {
        self.send(call.text());
        self.hears(100);
        self.next_leg()
    }

    /// The next datagram that comes to a member.
    #[track_caller]
    pub fn next_leg(&self) -> Leg {
        let (member, request) = self.at_farm();
        Leg { member, request }
    }

    /// The next datagram that comes to a member and differs from `leg`'s.
    #[track_caller]
    pub fn other_than(&self, leg: &Leg) -> Leg {
        loop {
            let next = self.next_leg();
            if next.request != leg.request {
                return next;
            }
        }
    }

    /// The member answers, with the To tag `t` and its number.
    #[track_caller]
    pub fn says(&self, leg: &Leg, status: &str) {
        let tag = format!("t{}", leg.member);
        self.says_all(leg, &response(&leg.request, status, &tag));
    }

    /// The member answers with these octets.
    #[track_caller]
    pub fn says_all(&self, leg: &Leg, octets: &str) {
        self.farm[leg.member].send(self.front(), octets);
    }

    /// The next datagram at the member, which must be such a request.
    #[track_caller]
    pub fn gets(&self, leg: &Leg, method: &str) -> Leg {
        let (request, source) = self.farm[leg.member].receive_from();
        assert_eq!(source, self.front());
        assert_eq!(self::method(&request), method);
        Leg {
            member: leg.member,
            request,
        }
    }

    /// The next such request at the member; others of the same call before
    /// are passed over.
    #[track_caller]
    pub fn gets_in_the_end(&self, leg: &Leg, method: &str) -> Leg {
        loop {
            let request = self.farm[leg.member].receive();
            if self::method(&request) == method {
                return Leg {
                    member: leg.member,
                    request,
                };
            }
        }
    }

    /// The next datagram at the caller, which must be such a response.
    #[track_caller]
    pub fn hears(&self, status: u16) -> Vec<u8> {
        let (octets, source) = self.caller.receive_from();
        assert_eq!(source, self.front());
        assert_eq!(
            self::status(&octets),
            status,
            "{}",
            String::from_utf8_lossy(&octets)
        );
        octets
    }

    /// The next such response at the caller; others before are passed over.
    #[track_caller]
    pub fn hears_in_the_end(&self, status: u16) -> Vec<u8> {
        wait_for(&format!("a {status}"), || {
            let octets = self.caller.receive();
            (self::status(&octets) == status).then_some(octets)
        })
    }

    /// Waits until Viaduct has done with all that was sent before, by two
    /// requests that it answers itself: what is decided together may leave
    /// in another order.
    #[track_caller]
    pub fn sync(&self) {
        for _ in 0..2 {
            let probe = Peer::new(V4);
            let request = Request::new("OPTIONS", probe.address());
            probe.send(self.front(), request.max_forwards("Max-Forwards: 0").text());
            assert_eq!(status(probe.receive()), 483);
        }
    }

    /// Demands that nothing more comes of what was sent before.
    #[track_caller]
    pub fn assert_quiet(&self) {
        self.sync();
        self.caller.assert_silent();
        self.farm.iter().for_each(Peer::assert_silent);
    }

    /// Demands that nothing is sent by itself for so long; what was on its
    /// way before is passed over.
    #[track_caller]
    pub fn assert_still_for(&self, time: Duration) {
        self.sync();
        while self.caller.poll().is_some() {}
        for member in &self.farm {
            while member.poll().is_some() {}
        }
        std::thread::sleep(time);
        self.assert_quiet();
    }

    /// The member that a call's Call-ID names, by a request that begins no
    /// transaction.
    #[track_caller]
    pub fn owner(&self, call: &Request) -> usize {
        self.pass(call.method("OPTIONS").text()).0
    }

    /// Has a member no longer be there: what is sent to it is refused.
    pub fn close(&self, member: usize) {
        self.farm[member].close();
    }

    /// The caller's ACK to a failure that it has heard.
    pub fn acknowledge(&self, call: &Request, failure: &[u8]) {
        self.send(ack(call, failure).text());
    }

    /// Has the member say 180 and then 200, and the caller acknowledge it.
    /// Returns the ACK at the member.
    #[track_caller]
    pub fn answered_at(&self, call: &Request, leg: &Leg) -> Leg {
        self.says(leg, "180 Ringing");
        self.hears(180);
        self.says(leg, "200 OK");
        let answer = self.hears(200);
        let ack = Request::new("ACK", self.caller.address())
            .call_id(&call.call_id)
            .from(&call.from)
            .to(only(&answer, "to"))
            .uri(format!("sip:desk@{}", self.farm[leg.member].address()));
        self.send(ack.text());
        self.gets_in_the_end(leg, "ACK")
    }

    /// Has a member refuse an INVITE, so that it goes on to another one.
    #[track_caller]
    pub fn passes_on(&self, leg: &Leg) -> Leg {
        self.says(leg, "503 Service Unavailable");
        self.gets(leg, "ACK");
        self.next_leg()
    }

    /// Has a request answered by another member than the one that it is for,
    /// which is out of reach.
    #[track_caller]
    pub fn answered_by_another(&self, method: &str) {
        let request = self.request(method);
        let owner = self.owner(&request);
        self.close(owner);
        self.send(request.text());
        let leg = self.next_leg();
        assert_ne!(leg.member, owner);
        self.says(&leg, "200 OK");
        self.hears_in_the_end(200);
    }

    /// Has a call fail at its member, and all acknowledged.
    #[track_caller]
    pub fn fails_at(&self, call: &Request, leg: &Leg, status: &str, heard: u16) -> Vec<u8> {
        self.says(leg, status);
        self.gets(leg, "ACK");
        let failure = self.hears(heard);
        self.acknowledge(call, &failure);
        failure
    }
}

/// The ACK of a caller to a failure (RFC 3261 §17.1.1.3).
pub fn ack(call: &Request, failure: &[u8]) -> Request {
    call.method("ACK").to(only(failure, "to"))
}

/// The method of a request.
#[track_caller]
pub fn method(octets: &[u8]) -> String {
    match read(octets).start {
        StartLine::Request { method, .. } => method,
        StartLine::Response { status, .. } => panic!("a request expected, not a {status}"),
    }
}

/// The Request-URI of a request.
#[track_caller]
pub fn request_uri(octets: &[u8]) -> String {
    match read(octets).start {
        StartLine::Request { uri, .. } => String::from_utf8(uri).expect("text"),
        StartLine::Response { status, .. } => panic!("a request expected, not a {status}"),
    }
}

/// The value of the only row `name`.
#[track_caller]
pub fn only(octets: &[u8], name: &str) -> String {
    let [value] = <[String; 1]>::try_from(values(octets, name))
        .unwrap_or_else(|all| panic!("not one {name}: {all:?}"));
    value
}

/// A message with one more row.
pub fn with_row(octets: &str, row: &str) -> String {
    octets.replacen("Content-Length:", &format!("{row}\r\nContent-Length:"), 1)
}
