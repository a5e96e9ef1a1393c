//! A relay with plain surroundings and a clock that stands still until it is
//! set: what tests and benches of transactions share.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use std::net::{IpAddr, SocketAddr};

use viaduct::config::Config;
use viaduct::proxy::{Datagram, Forward, Proxy, Scratch};
use viaduct::sip::MAX_DATAGRAM;
use viaduct::transaction::{Around, Event, Finished, Leaving, Lesson, Outbox, Received, Relay};

use super::fixture;

/// A relay, and all that it works with.
pub struct Relaying {
    /// Milliseconds.
    pub now: u64,
    relay: Relay,
    proxy: Proxy,
    scratch: Scratch,
    out: Sink,
}

struct Sink {
    space: Vec<u8>,
    sent: usize,
}

impl Outbox for Sink {
    fn space(&mut self) -> &mut [u8] {
        &mut self.space
    }

    fn send(&mut self, _: &Leaving) {
        self.sent += 1;
    }

    fn finished(&mut self, _: &Finished<'_>) {}

    fn suspected(&mut self, _: (usize, usize), _: Lesson) {}

    fn allows(&mut self, _: IpAddr, _: usize) -> bool {
        true
    }

    fn forwarded(&mut self, _: &Forward) {}

    fn count(&mut self, _: Event) {}
}

impl Relaying {
    /// One with transactions for INVITE, `transactions` of them.
    #[must_use]
    pub fn new(transactions: usize) -> Self {
        let config = config(transactions);
        let proxy = Proxy::new(&config, fixture::secret());
        Self {
            now: 1_000_000,
            relay: Relay::new(&config.stateful, 0, 1).expect("memory"),
            scratch: proxy.scratch(),
            proxy,
            out: Sink {
                space: vec![0; MAX_DATAGRAM],
                sent: 0,
            },
        }
    }

    /// Gives it a datagram; returns how many messages it has sent then.
    ///
    /// # Panics
    /// The datagram was of no transaction.
    pub fn receive(&mut self, bytes: &[u8], source: SocketAddr) -> usize {
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        let sent = self.out.sent;
        let received = self.relay.receive(
            &mut Around {
                proxy: &self.proxy,
                scratch: &mut self.scratch,
                now: self.now,
                out: &mut self.out,
            },
            &datagram,
        );
        assert_eq!(received, Received::Done);
        self.out.sent - sent
    }

    /// Has it do what is due, and say when it wants that again.
    pub fn expire(&mut self) -> Option<u64> {
        self.relay.expire(&mut Around {
            proxy: &self.proxy,
            scratch: &mut self.scratch,
            now: self.now,
            out: &mut self.out,
        });
        self.relay.next_due()
    }

    /// Transactions that it remembers.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.relay.len()
    }
}

/// The usual configuration, with transactions for INVITE.
#[must_use]
pub fn config(transactions: usize) -> Config {
    let mut config = fixture::config();
    config.stateful.methods = vec!["INVITE".to_owned()];
    config.stateful.transactions = transactions;
    config
}
