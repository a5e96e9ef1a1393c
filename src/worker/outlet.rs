//! Where what leaves goes, and what a relay tells.

use std::net::IpAddr;

use super::SendQueue;
use super::copies::Copies;
use super::counters::Counters;
use super::repeats::Repeats;
use super::snapshot::Tallies;
use crate::accounting::Handle;
use crate::net::{Sent, Socket, is_of_the_way};
use crate::proxy::{Forward, MOST_COPIES, ReplyLimiter};
use crate::transaction::{AttemptId, Event, Finished, Leaving, Lesson, Outbox};

/// The outbox of one worker's relay.
pub(super) struct Outlet<'a> {
    pub(super) queued: &'a mut SendQueue,
    pub(super) sockets: &'a [Socket],
    pub(super) counters: &'a Counters,
    pub(super) tallies: &'a Tallies,
    pub(super) repeats: &'a mut Repeats,
    pub(super) trouble: &'a mut Trouble,
    pub(super) limiter: &'a mut ReplyLimiter,
    pub(super) accounting: Option<&'a Handle>,
    pub(super) copies: Option<&'a Copies>,
    /// The time, for the tallies.
    pub(super) now: u64,
}

/// What the kernel said of sends since somebody looked.
#[derive(Default)]
pub(super) struct Trouble {
    /// Attempts that it knows no way for.
    pub(super) failed: Vec<AttemptId>,
    /// Whether ICMP errors may wait at a socket.
    pub(super) disturbed: bool,
}

impl Outbox for Outlet<'_> {
    fn space(&mut self) -> &mut [u8] {
        make_room(self.queued, self.sockets, self.counters, self.trouble);
        self.queued.space()
    }

    fn send(&mut self, leaving: &Leaving) {
        let Leaving {
            length,
            to,
            listener,
            run,
            attempt,
        } = *leaving;
        if let Some(copies) = self.copies {
            copies.sent(&self.queued.space()[..length], listener, to);
        }
        // What keeps us from sending it once more, when it leaves alone, says nothing
        // of who may have it already.
        let attempt = attempt.filter(|_| run.is_some());
        self.queued.push(length, to, listener, run, attempt);
    }

    fn finished(&mut self, finished: &Finished<'_>) {
        if let Some(accounting) = self.accounting {
            // What it drops it counts.
            let _ = accounting.record(finished);
        }
    }

    fn suspected(&mut self, place: (usize, usize), _lesson: Lesson) {
        self.tallies.suspected(place);
    }

    fn allows(&mut self, to: IpAddr, octets: usize) -> bool {
        self.limiter.allow(to, octets, self.now)
    }

    fn forwarded(&mut self, forward: &Forward) {
        let now = self.now;
        count(forward, self.counters, self.tallies, self.repeats, || now);
    }

    fn count(&mut self, event: Event) {
        self.counters.transaction(event);
    }
}

/// Has room for a datagram and what it may bring with it.
#[inline]
pub(super) fn make_room(
    out: &mut SendQueue,
    sockets: &[Socket],
    counters: &Counters,
    trouble: &mut Trouble,
) {
    if !out.has_room(1 + MOST_COPIES) {
        send_queued(out, sockets, counters, trouble);
    }
}

/// Sends all that is queued, and notes what the kernel says to it.
pub(super) fn send_queued(
    out: &mut SendQueue,
    sockets: &[Socket],
    counters: &Counters,
    trouble: &mut Trouble,
) {
    out.flush(sockets, |sent| match sent {
        Sent::Run(datagrams) => counters.sent_run(datagrams),
        Sent::Refusal => counters.refused_run(),
        Sent::Failure(error, attempt) => {
            counters.send_error(&error);
            if is_of_the_way(&error) {
                trouble.failed.extend(attempt);
            }
        }
        Sent::Disturbed => trouble.disturbed = true,
    });
}

/// Counts what is forwarded.
#[inline]
pub(super) fn count(
    forward: &Forward,
    counters: &Counters,
    tallies: &Tallies,
    repeats: &mut Repeats,
    now: impl FnOnce() -> u64,
) {
    counters.forwarded(forward);
    repeats.note(forward, tallies);
    tallies.forwarded(forward, now);
}
