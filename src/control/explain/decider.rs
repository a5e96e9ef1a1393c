//! Deciding where nothing runs.

use std::net::SocketAddr;

use crate::config::HostPort;
use crate::proxy::{Datagram, Decision, Part, Proxy, Scratch};
use crate::sip::MAX_DATAGRAM;

/// A proxy and what a worker would have beside it.
pub struct Decider {
    /// What decides.
    pub proxy: Proxy,
    scratch: Scratch,
    out: Vec<u8>,
    length: usize,
}

impl Decider {
    /// One that has decided nothing yet.
    #[must_use]
    pub fn new(proxy: Proxy) -> Self {
        Self {
            scratch: proxy.scratch(),
            proxy,
            out: vec![0; MAX_DATAGRAM],
            length: 0,
        }
    }

    /// Decides as a worker would that has just started.
    pub fn decide(&mut self, datagram: &Datagram<'_>) -> Decision {
        let decision = self
            .proxy
            .decide(datagram, &mut self.scratch, &mut self.out);
        self.length = match decision {
            Decision::Forward(forward) => forward.length,
            Decision::Reply(reply) => reply.length,
            Decision::Resolve | Decision::Drop(_) => 0,
        };
        decision
    }

    /// Where else the last decision would send it.
    #[must_use]
    pub fn also(&self) -> &[SocketAddr] {
        self.scratch.also()
    }

    /// What the last one is to a transaction.
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        self.scratch.part()
    }

    /// The name that the last decision asks for, if it does.
    #[must_use]
    pub fn wanted(&self) -> &HostPort {
        self.scratch.names().wanted()
    }

    /// What the last decision would send; empty where that is nothing.
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.out[..self.length]
    }
}
