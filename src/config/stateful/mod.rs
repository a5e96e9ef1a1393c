//! What is relayed with a transaction, and how.

mod file;
mod merge;
pub(super) mod text;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

pub(super) use file::{OnFailureDraft, on_failure};
pub use merge::StatefulDraft;

/// Bounds of [`Stateful::transactions`].
pub const TRANSACTIONS: RangeInclusive<usize> = 1..=1 << 24;

/// Failure rules at most: a transaction remembers by 16 bits which it has used.
pub(super) const MOST_RULES: usize = 16;

/// Stateful relay of chosen methods (RFC 3261 §16, §17).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stateful {
    /// The methods, in the case of the wire; never ACK or CANCEL. Where there
    /// are none, nothing is relayed statefully.
    pub methods: Vec<String>,
    /// Transactions that all workers together remember at most.
    pub transactions: usize,
    /// The timers of RFC 3261 §17 and RFC 6026.
    pub timers: Timers,
    /// How long a destination may say nothing at all before the next one is
    /// tried.
    pub failover_after: Duration,
    /// Final responses that have the next destination tried.
    pub failover_status: Vec<u16>,
    /// The longest time that Retry-After keeps new work from a destination.
    pub retry_after_cap: Duration,
    /// How long the called party of a new call may ring; 0: as long as timer C lets it.
    pub ring_timeout: Duration,
    /// Where a call goes on that has failed; the first rule that matches.
    pub on_failure: Vec<OnFailure>,
    /// Where finished transactions are written down.
    pub accounting: Option<Accounting>,
}

/// The timers that are chosen; A, E and G follow from T1 and T2 (RFC 3261
/// Table 4, RFC 6026 §8.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// The estimate of a round trip: the first interval of retransmissions.
    pub t1: Duration,
    /// The longest interval of retransmissions of what is no INVITE.
    pub t2: Duration,
    /// How long a datagram may stay in the network.
    pub t4: Duration,
    /// INVITE without a response ends.
    pub b: Duration,
    /// INVITE without a final response ends.
    pub c: Duration,
    /// Retransmitted failures are still acknowledged.
    pub d: Duration,
    /// Another request without a final response ends.
    pub f: Duration,
    /// A failure that nobody acknowledges is given up.
    pub h: Duration,
    /// Retransmitted ACKs are still absorbed.
    pub i: Duration,
    /// Retransmissions of another request are still answered.
    pub j: Duration,
    /// Retransmitted final responses to another request are still absorbed.
    pub k: Duration,
    /// Retransmissions of an INVITE that was accepted are still absorbed.
    pub l: Duration,
    /// Retransmitted 2xx are still known to belong to it.
    pub m: Duration,
}

/// Where a timer is kept.
pub(super) type TimerField = fn(&mut Timers) -> &mut Duration;

/// The timers by the names that RFC 3261 and RFC 6026 give them.
pub(super) const TIMERS: [(&str, TimerField); 13] = [
    ("T1", |timers| &mut timers.t1),
    ("T2", |timers| &mut timers.t2),
    ("T4", |timers| &mut timers.t4),
    ("B", |timers| &mut timers.b),
    ("C", |timers| &mut timers.c),
    ("D", |timers| &mut timers.d),
    ("F", |timers| &mut timers.f),
    ("H", |timers| &mut timers.h),
    ("I", |timers| &mut timers.i),
    ("J", |timers| &mut timers.j),
    ("K", |timers| &mut timers.k),
    ("L", |timers| &mut timers.l),
    ("M", |timers| &mut timers.m),
];

/// A rule for failed calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnFailure {
    /// The final responses that it is for.
    pub statuses: Vec<u16>,
    /// The set that takes the call then: an index into the configuration's.
    pub set: usize,
    /// The Request-URI that it gets.
    pub request_uri: Option<String>,
    /// The sets whose failures it is for; where there are none: all.
    pub from_sets: Vec<usize>,
}

/// Where finished transactions are written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounting {
    /// Where to.
    pub target: AccountingTarget,
    /// The methods; where there are none: all that are relayed statefully.
    pub methods: Vec<String>,
}

/// What takes the lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountingTarget {
    /// A file, which is opened anew where somebody has moved it away.
    File(PathBuf),
    /// The standard output.
    Stdout,
    /// A Unix socket that somebody listens on, of streams or of datagrams.
    Socket(PathBuf),
}

impl Stateful {
    /// The place of a method in the list; `None`: its requests have no
    /// transactions.
    #[inline]
    #[must_use]
    pub fn place(&self, method: &[u8]) -> Option<u8> {
        let mut methods = self.methods.iter();
        let place = methods.position(|known| known.as_bytes() == method)?;
        u8::try_from(place).ok()
    }
}

impl Default for Stateful {
    /// Nothing stateful, and the RFC's times.
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            transactions: 131_072,
            timers: Timers::default(),
            failover_after: Duration::from_secs(1),
            failover_status: vec![503],
            retry_after_cap: Duration::from_secs(30),
            ring_timeout: Duration::ZERO,
            on_failure: Vec::new(),
            accounting: None,
        }
    }
}

impl Default for Timers {
    fn default() -> Self {
        Self::of(
            Duration::from_millis(500),
            Duration::from_secs(4),
            Duration::from_secs(5),
        )
    }
}

impl Timers {
    /// The RFC's values for these three, as far as a time can be that long.
    #[must_use]
    pub fn of(t1: Duration, t2: Duration, t4: Duration) -> Self {
        let patience = (64 * t1).min(*text::TIMES.end());
        Self {
            t1,
            t2,
            t4,
            b: patience,
            // "MUST be larger than 3 minutes" (§16.6 item 11).
            c: Duration::from_secs(181),
            d: patience.max(Duration::from_secs(32)),
            f: patience,
            h: patience,
            i: t4,
            j: patience,
            k: t4,
            l: patience,
            m: patience,
        }
    }
}
