//! What the probes of one destination say of it, and when the next is due.
//!
//! ```text
//! up ──fails──> probing ──down-after in a row──> down
//!  ^              │ ^                              │ up-after answers in a row
//!  │<──answers────┘ └──fails─────────── warming <──┘
//!  └──slow-start is over───────────────────┘
//! ```
//!
//! Only probes move it. Whatever happens, a next probe has its time, so it
//! cannot stick.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Health, Probe};

/// The longest wait for the first probe of a destination. Shorter intervals
/// are themselves the longest, so that many destinations that are new
/// together are probed one after the other.
const FIRST: Duration = Duration::from_secs(1);

/// The share of its weight that a destination comes back with, in percent,
/// and that it gains with each quarter of the slow start.
const STEP: u8 = 20;
const QUARTERS: u32 = 4;

/// The state of one destination. All times count from one moment of the
/// caller's choice, and `chance` is at least 0 and less than 1.
#[derive(Clone, Debug)]
pub struct Machine {
    probe: Arc<Probe>,
    health: Health,
    /// When its share last grew.
    grown: Duration,
    /// Probes in a row that failed, the latest included, and how that did.
    failures: u32,
    last: Failure,
    /// Probes in a row that were answered, the latest included.
    answers: u32,
    /// The sign after which it was probed out of turn, until it answers.
    suspected: Option<&'static str>,
    /// When the latest probe was sent, and whether its response is to come.
    sent: Duration,
    waiting: bool,
    /// When the next probe is sent, if none is waited for.
    next: Duration,
    counts: Counts,
}

/// Outcomes of the probes of one destination so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Probes that an accepted final response came to in time.
    pub answered: u64,
    /// Those that had none in time, or one that is not accepted, or that the
    /// system refused to send.
    pub failed: u64,
}

/// How a probe failed.
#[derive(Clone, Debug)]
enum Failure {
    /// No final response came in this time.
    Silent(Duration),
    /// The system refused to send to it, in its own words.
    Refused(String),
    /// A final response came that is not accepted.
    Status(u16),
}

impl Machine {
    /// A destination that nobody has looked at, or that was found to be
    /// `known` before. The times of `probe`, but for its slow start, are
    /// greater than 0.
    #[must_use]
    pub fn new(probe: Arc<Probe>, known: Health, now: Duration, chance: f64) -> Self {
        let first = probe.interval.min(FIRST).mul_f64(chance);
        Self {
            health: known,
            grown: now,
            failures: 0,
            last: Failure::Silent(probe.timeout),
            answers: 0,
            suspected: None,
            sent: now,
            waiting: false,
            next: now.saturating_add(first),
            counts: Counts::default(),
            probe,
        }
    }

    /// What is to be published.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether it takes work although its latest probe failed.
    #[must_use]
    pub fn probing(&self) -> bool {
        self.failures > 0 && self.health != Health::Down
    }

    /// The outcomes of its probes so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// When [`Self::poll`] is to be called, at the latest.
    #[must_use]
    pub fn next(&self) -> Duration {
        let probe = if self.waiting {
            self.sent.saturating_add(self.probe.timeout)
        } else {
            self.next
        };
        match self.health {
            Health::Warming(_) if self.failures == 0 => probe.min(self.grows()),
            _ => probe,
        }
    }

    /// Does what is due. Returns whether a probe is to be sent: then
    /// [`Self::sent`], [`Self::refused`] or [`Self::unsent`] comes next.
    pub fn poll(&mut self, now: Duration, chance: f64) -> bool {
        let timeout = self.probe.timeout;
        if self.waiting && now >= self.sent.saturating_add(timeout) {
            self.waiting = false;
            self.fail(Failure::Silent(timeout), chance);
        }
        self.grow(now);
        !self.waiting && now >= self.next
    }

    /// A probe was sent.
    pub fn sent(&mut self, now: Duration) {
        self.sent = now;
        self.waiting = true;
    }

    /// The system refused to send a probe to it, and its work would not be sent
    /// either.
    pub fn refused(&mut self, error: String, now: Duration, chance: f64) {
        self.sent = now;
        self.fail(Failure::Refused(error), chance);
    }

    /// A probe could not be sent, for a reason that is ours: that shows
    /// nothing of the destination, and may be over long before the interval.
    pub fn unsent(&mut self, now: Duration) {
        self.next = now.saturating_add(self.least());
    }

    /// A final response came to the latest probe. Returns how long that took;
    /// `None` where none was waited for any more, and nothing changes.
    pub fn answered(&mut self, status: u16, now: Duration, chance: f64) -> Option<Duration> {
        if !std::mem::take(&mut self.waiting) {
            return None;
        }
        if self.probe.accept.iter().any(|accept| accept.holds(status)) {
            self.succeed(now, chance);
        } else {
            self.fail(Failure::Status(status), chance);
        }
        Some(now.saturating_sub(self.sent))
    }

    /// Something else than a probe makes it look dead. It is probed as soon
    /// as it may be, and nothing else changes.
    pub fn suspected(&mut self, cause: &'static str, now: Duration) {
        if self.health != Health::Down {
            self.suspected = Some(cause);
            self.next = self.next.min(self.again().max(now));
        }
    }

    /// It is to be probed in another way. What was learnt stays.
    pub fn reconfigured(&mut self, probe: Arc<Probe>, now: Duration, chance: f64) {
        self.probe = probe;
        self.next = self.next.min(now.saturating_add(self.interval(chance)));
    }

    fn succeed(&mut self, now: Duration, chance: f64) {
        self.counts.answered += 1;
        self.answers = self.answers.saturating_add(1);
        if self.failures > 0 {
            // What it has not gained meanwhile is not made up for at once.
            let quarter = self.probe.slow_start / QUARTERS;
            self.grown = self.grown.max(now.saturating_sub(quarter));
        }
        self.failures = 0;
        self.suspected = None;
        self.next = self.sent.saturating_add(self.interval(chance));
        if self.health == Health::Down && self.answers >= self.probe.up_after {
            self.health = Health::Warming(STEP);
            self.grown = now;
            self.grow(now);
        }
    }

    fn fail(&mut self, failure: Failure, chance: f64) {
        self.counts.failed += 1;
        self.failures = self.failures.saturating_add(1);
        self.answers = 0;
        self.last = failure;
        if self.health != Health::Down && self.failures >= self.probe.down_after {
            self.health = Health::Down;
        }
        self.next = match self.health {
            Health::Down => self.sent.saturating_add(self.interval(chance)),
            _ => self.again(),
        };
    }

    /// Gives it the share that it has warmed up to, unless its latest probe
    /// failed.
    fn grow(&mut self, now: Duration) {
        while let Health::Warming(share) = self.health
            && self.failures == 0
            && now >= self.grows()
        {
            self.grown = self.grows();
            self.health = match share.saturating_add(STEP) {
                share @ ..100 => Health::Warming(share),
                _ => Health::Up,
            };
        }
    }

    /// When its share grows next.
    fn grows(&self) -> Duration {
        self.grown.saturating_add(self.probe.slow_start / QUARTERS)
    }

    /// The soonest that the next probe may follow the latest: one that failed
    /// by a status is no reason to send probes as fast as they are answered.
    fn again(&self) -> Duration {
        self.sent.saturating_add(self.least())
    }

    /// The least time between two probes.
    fn least(&self) -> Duration {
        self.probe.timeout.min(self.probe.interval)
    }

    /// The interval, give or take a tenth, so that the probes of many
    /// destinations do not fall into step.
    fn interval(&self, chance: f64) -> Duration {
        let interval = self.probe.interval;
        let least = interval - interval / 10;
        least.saturating_add((interval / 5).mul_f64(chance))
    }

    /// Why it is as it is, in words.
    #[must_use]
    pub fn cause(&self) -> String {
        let last = &self.last;
        let sign = self
            .suspected
            .map(|sign| format!("; the first sign: {sign}"));
        let sign = sign.unwrap_or_default();
        match (self.failures, self.answers) {
            (0, 0) => "no probe has had an outcome yet".to_owned(),
            (0, 1) => "the last probe was answered".to_owned(),
            (0, probes) => format!("the last {probes} probes were answered"),
            (1, _) => format!("the last probe failed: {last}{sign}"),
            (probes, _) => format!("the last {probes} probes failed: {last}{sign}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(timeout) => write!(f, "no answer in {timeout:?}"),
            Self::Refused(error) => write!(f, "nothing can be sent to it: {error}"),
            Self::Status(status) => write!(f, "answered {status}"),
        }
    }
}
