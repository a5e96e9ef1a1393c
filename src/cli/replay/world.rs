//! A configuration that decides, and which datagrams are its own.

use std::io;
use std::net::SocketAddr;

use super::outcome::Outcome;
use crate::cli::capture::Captured;
use crate::cli::offline;
use crate::config::Config;
use crate::control::explain::{self, Decider};
use crate::proxy::{Datagram, Proxy, Secret};

/// What a datagram is to a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It came in on this listener.
    In(usize),
    /// A listener sent it.
    Sent,
    /// Neither.
    Elsewhere,
}

pub(super) struct World {
    pub(super) config: Config,
    decider: Decider,
    /// The listener that takes all there is.
    forced: Option<usize>,
}

impl World {
    pub(super) fn new(config: Config, secret: Secret, listener: Option<&str>) -> io::Result<Self> {
        let forced = listener
            .map(|name| offline::listener(&config, name))
            .transpose()?;
        Ok(Self {
            decider: Decider::new(Proxy::new(&config, secret)),
            forced,
            config,
        })
    }

    /// What a datagram is to us.
    pub(super) fn place(&self, source: SocketAddr, destination: SocketAddr) -> Place {
        let listener = |address| offline::listener_at(&self.config, address);
        if listener(source).is_some() {
            return Place::Sent;
        }
        match self.forced.or_else(|| listener(destination)) {
            Some(listener) => Place::In(listener),
            None => Place::Elsewhere,
        }
    }

    /// The payload as its sender sent it: without what a front balancer put
    /// before it.
    pub(super) fn unwrap<'a>(&self, captured: &Captured<'a>, place: Place) -> &'a [u8] {
        let Place::In(listener) = place else {
            return captured.payload;
        };
        let unwrapped = self.decider.proxy.unwrap(&Datagram {
            bytes: captured.payload,
            source: captured.source,
            listener,
        });
        unwrapped.map_or(captured.payload, |(datagram, _)| datagram.bytes)
    }

    /// The outcome, and the octets that would be sent.
    pub(super) fn decide(&mut self, captured: &Captured<'_>, place: Place) -> (Outcome, &[u8]) {
        let Place::In(listener) = place else {
            return (Outcome::not_ours(), &[]);
        };
        let decision = self.decider.decide(&Datagram {
            bytes: captured.payload,
            source: captured.source,
            listener,
        });
        let next = explain::unplaced(&self.config, &self.decider).map(|(_, next)| next);
        match next {
            Some(next) => (Outcome::on_failure(&self.config.sets[next].name), &[]),
            None => {
                let outcome = Outcome::new(decision, &self.config);
                (outcome, self.decider.octets())
            }
        }
    }
}
