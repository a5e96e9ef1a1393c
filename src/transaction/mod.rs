//! Stateful relay: the transactions of chosen methods (RFC 3261 §16, §17,
//! RFC 6026, RFC 4320).

mod finished;
pub mod owner;

use std::net::SocketAddr;

use crate::config::Stateful;
use crate::proxy::{Datagram, Decision, Proxy, Scratch};

pub use finished::{Finished, Outcome, Tried};

/// The transactions of one worker.
pub struct Relay {}

/// What a relay works with.
pub struct Around<'a, O> {
    /// What decides.
    pub proxy: &'a Proxy,
    /// Its working memory.
    pub scratch: &'a mut Scratch,
    /// Milliseconds of a clock that does not go back.
    pub now: u64,
    /// Where what it sends goes.
    pub out: &'a mut O,
}

/// What a relay tells and asks.
pub trait Outbox {
    /// Where to write the next datagram: [`crate::sip::MAX_DATAGRAM`] octets.
    fn space(&mut self) -> &mut [u8];
    /// Sends the first octets of the space.
    fn send(&mut self, leaving: &Leaving);
    /// Has a transaction accounted: once for each, with its final response.
    fn finished(&mut self, finished: &Finished<'_>);
    /// Something has become known of a destination.
    fn learnt(&mut self, destination: SocketAddr, lesson: Lesson);
    /// Whether new work should avoid a destination while another takes it.
    fn is_suspect(&mut self, destination: SocketAddr) -> bool;
    /// Counts.
    fn count(&mut self, event: Event);
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Octets, from the start of the space.
    pub length: usize,
    /// Where to.
    pub to: SocketAddr,
    /// The listener from whose socket it leaves.
    pub listener: usize,
    /// Where in it white space may be put in; `None`: it leaves as it is.
    pub padding_at: Option<usize>,
    /// See [`crate::proxy::Forward::call`].
    pub call: u64,
    /// The attempt that fails where it cannot be delivered.
    pub attempt: Option<AttemptId>,
}

/// One attempt of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId {
    /// The transaction's key.
    pub key: u64,
    /// The attempt's number in its branch.
    pub number: u8,
}

/// What a transaction teaches of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It responds.
    Answers,
    /// It said nothing at all.
    Silent,
    /// ICMP, or the kernel, says that it cannot be reached.
    Unreachable,
    /// It asked for so many milliseconds without new work (RFC 3261 §21.5.4).
    Busy(u64),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// A transaction began.
    Begun,
    /// A request was relayed statelessly, for the table was full.
    TableFull,
    /// A transaction was forgotten for a new one.
    Evicted,
    /// A retransmission was absorbed.
    Absorbed,
    /// We have retransmitted.
    Retransmitted,
    /// Another destination was tried.
    FailedOver,
    /// A failure rule has sent a call on.
    RuleApplied,
    /// We have cancelled an attempt.
    Cancelled,
    /// A reply of our own with this status left.
    Replied(u16),
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It belongs to a transaction; all is done.
    Done,
    /// It belongs to none.
    Decision(Decision),
    /// It belongs to a call of this worker.
    HandOver(usize),
}

impl Relay {
    /// The part of worker `number` of `workers`.
    #[must_use]
    pub fn new(_stateful: &Stateful, _number: usize, _workers: usize) -> Self {
        Self {}
    }

    /// Decides one datagram. What belongs to a transaction is done; what does
    /// not is left to the caller.
    pub fn receive<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
    ) -> Received {
        let Around {
            proxy,
            scratch,
            out,
            ..
        } = around;
        Received::Decision(proxy.decide(datagram, scratch, out.space()))
    }

    /// A datagram of this attempt could not be delivered (RFC 3261 §16.9).
    pub fn undeliverable<O: Outbox>(&mut self, _around: &mut Around<'_, O>, _attempt: AttemptId) {}

    /// Does what is due.
    pub fn expire<O: Outbox>(&mut self, _around: &mut Around<'_, O>) {}

    /// When [`Relay::expire`] is wanted next, by the same clock; `None`: never.
    /// It may be early, never late.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        None
    }

    /// Transactions that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
