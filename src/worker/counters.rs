//! Counters of one worker: written by it alone, read by anybody.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::gauges::Gauges;
use super::histogram::{Sizes, Times};
use crate::proxy::{CookieUse, Forward, Kind, Reason, Reply, Status};
use crate::sip::Method;
use crate::transaction::{Event, Population};

/// Error numbers that are told apart; Linux has none above.
pub(super) const ERRNOS: usize = 134;

/// Classes of responses (RFC 3261 §7.2).
pub(super) const CLASSES: usize = 6;

/// Aligned to two cache lines, which the hardware fetches together, so that
/// no two workers write to one.
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    /// What can be read of the worker beside what it counts.
    pub(super) gauges: Gauges,
    turns: AtomicU64,
    pub(super) batches: Sizes,
    pub(super) runs: Sizes,
    pub(super) in_balancer: Times,
    pub(super) requests: Each<{ Method::ALL.len() }>,
    pub(super) responses: Each<CLASSES>,
    pub(super) refused_runs: AtomicU64,
    pub(super) second_chances: AtomicU64,
    pub(super) cookies_followed: AtomicU64,
    pub(super) cookies_gone: AtomicU64,
    pub(super) cookies_forged: AtomicU64,
    pub(super) replies: Each<{ Status::ALL.len() }>,
    pub(super) dropped: Each<{ Reason::ALL.len() }>,
    pub(super) send_errors: Each<ERRNOS>,
    pub(super) receive_errors: AtomicU64,
    pub(super) held: AtomicU64,
    pub(super) not_held: AtomicU64,
    pub(super) names_resolved: AtomicU64,
    pub(super) names_failed: AtomicU64,
    /// Requests that wait for a name now.
    holding: AtomicU64,
    /// How many there are.
    pub(super) transactions: AtomicU64,
    unfinished: AtomicU64,
    unanswered: AtomicU64,
    pub(super) begun: AtomicU64,
    pub(super) full: AtomicU64,
    pub(super) evicted: AtomicU64,
    pub(super) absorbed: AtomicU64,
    pub(super) retransmitted: AtomicU64,
    pub(super) failed_over: AtomicU64,
    pub(super) rules_applied: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) handed_over: AtomicU64,
    pub(super) not_handed_over: AtomicU64,
    pub(super) came_back: AtomicU64,
}

/// What has been begun and not brought to an end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Transactions that are there for more than retransmissions.
    pub unfinished: u64,
    /// Those among them that no destination has responded to.
    pub unanswered: u64,
    /// Requests that wait for the name of their next hop.
    pub held: u64,
}

impl std::ops::Add for Pending {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            unfinished: self.unfinished + other.unfinished,
            unanswered: self.unanswered + other.unanswered,
            held: self.held + other.held,
        }
    }
}

/// A load and a store cost less than an atomic addition, and are enough for
/// a single writer.
#[inline]
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

/// One counter for each of something.
pub(super) struct Each<const N: usize>(pub(super) [AtomicU64; N]);

impl<const N: usize> Default for Each<N> {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; N])
    }
}

/// The number of a status' class: 0 for 1xx.
#[inline]
pub(super) fn class(status: u16) -> usize {
    usize::from(status / 100 - 1)
}

impl<const N: usize> Each<N> {
    /// Counts one of number `at`.
    #[inline]
    pub(super) fn add(&self, at: usize) {
        add(&self.0[at], 1);
    }

    /// How many of each the workers have counted.
    pub(super) fn sums<'a>(workers: impl Iterator<Item = &'a Self>) -> [u64; N] {
        let mut sums = [0; N];
        for worker in workers {
            for (sum, counter) in sums.iter_mut().zip(&worker.0) {
                *sum += counter.load(Ordering::Relaxed);
            }
        }
        sums
    }
}

impl Counters {
    /// The worker begins a turn.
    #[inline]
    pub(super) fn turn(&self) {
        add(&self.turns, 1);
    }

    /// The turns that it has begun: where their number stays, it sleeps or hangs.
    #[must_use]
    pub fn turns(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    /// A batch of datagrams was taken and sent on, none of which was here for
    /// longer than `time`.
    #[inline]
    pub(super) fn received(&self, n: usize, time: Duration) {
        self.batches.add(n);
        self.in_balancer.add(time);
    }

    #[inline]
    pub(super) fn forwarded(&self, forward: &Forward) {
        match forward.kind {
            Kind::Request(method) => self.requests.add(method as usize),
            Kind::Response(status) => return self.responses.add(class(status)),
        }
        match forward.cookie {
            CookieUse::None => {}
            CookieUse::Followed => add(&self.cookies_followed, 1),
            CookieUse::Gone => add(&self.cookies_gone, 1),
            CookieUse::Forged => add(&self.cookies_forged, 1),
        }
    }

    #[cold]
    pub(super) fn second_chance(&self) {
        add(&self.second_chances, 1);
    }

    #[inline]
    pub(super) fn sent_run(&self, datagrams: usize) {
        self.runs.add(datagrams);
    }

    #[cold]
    pub(super) fn refused_run(&self) {
        add(&self.refused_runs, 1);
    }

    #[cold]
    pub(super) fn replied(&self, reply: &Reply) {
        self.reply(reply.status);
        if reply.reason == Reason::TooManyNames {
            add(&self.not_held, 1);
        }
    }

    fn reply(&self, status: Status) {
        let at = Status::ALL.iter().position(|&known| known == status);
        self.replies.add(at.unwrap_or(0));
    }

    /// What has happened to a transaction.
    pub(super) fn transaction(&self, event: Event) {
        let counter = match event {
            Event::Replied(status) => return self.reply(status),
            Event::Begun => &self.begun,
            Event::TableFull => &self.full,
            Event::Evicted => &self.evicted,
            Event::Absorbed => &self.absorbed,
            Event::Retransmitted => &self.retransmitted,
            Event::FailedOver => &self.failed_over,
            Event::RuleApplied => &self.rules_applied,
            Event::Cancelled => &self.cancelled,
        };
        add(counter, 1);
    }

    /// How many transactions there are.
    #[inline]
    pub(super) fn transactions(&self, population: Population) {
        let Population {
            all,
            unfinished,
            unanswered,
        } = population;
        self.transactions.store(all as u64, Ordering::Relaxed);
        self.unfinished.store(unfinished as u64, Ordering::Relaxed);
        self.unanswered.store(unanswered as u64, Ordering::Relaxed);
    }

    /// What the worker has begun and not brought to an end.
    #[must_use]
    pub fn pending(&self) -> Pending {
        Pending {
            unfinished: self.unfinished.load(Ordering::Relaxed),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            held: self.holding.load(Ordering::Relaxed),
        }
    }

    /// A datagram was given to another worker, or could not be.
    #[cold]
    pub(super) fn handed_over(&self, posted: bool) {
        let counter = if posted {
            &self.handed_over
        } else {
            &self.not_handed_over
        };
        add(counter, 1);
    }

    /// ICMP has brought a datagram back.
    #[cold]
    pub(super) fn came_back(&self) {
        add(&self.came_back, 1);
    }

    /// A request waits for the name of its next hop.
    #[cold]
    pub(super) fn held(&self) {
        add(&self.held, 1);
        add(&self.holding, 1);
    }

    /// It waits no longer.
    #[cold]
    pub(super) fn released(&self) {
        let held = self.holding.load(Ordering::Relaxed);
        self.holding
            .store(held.saturating_sub(1), Ordering::Relaxed);
    }

    /// The worker ends before what still waits has an answer.
    #[cold]
    pub(super) fn given_up(&self) {
        let held = self.holding.swap(0, Ordering::Relaxed);
        add(&self.dropped.0[Reason::Unresolved as usize], held);
    }

    /// A name has become known, or that there is none.
    #[cold]
    pub(super) fn answered(&self, resolved: bool) {
        let counter = if resolved {
            &self.names_resolved
        } else {
            &self.names_failed
        };
        add(counter, 1);
    }

    #[cold]
    pub(super) fn dropped(&self, reason: Reason) {
        self.dropped.add(reason as usize);
    }

    #[cold]
    pub(super) fn send_error(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0).unsigned_abs() as usize;
        self.send_errors.add(errno.min(ERRNOS - 1));
    }

    #[cold]
    pub(super) fn receive_error(&self) {
        add(&self.receive_errors, 1);
    }
}
