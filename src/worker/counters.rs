//! Counters of one worker: written by it alone, read by anybody.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Shared;
use crate::proxy::{CookieUse, Forward, Reason, Reply, Status, Way};
use crate::transaction::Event;
use crate::{accounting, mirror};

/// Error numbers that are told apart; Linux has none above.
const ERRNOS: usize = 134;

/// Aligned to two cache lines, which the hardware fetches together, so that
/// no two workers write to one.
#[repr(align(128))]
pub struct Counters {
    received: AtomicU64,
    requests: AtomicU64,
    responses: AtomicU64,
    runs: AtomicU64,
    in_runs: AtomicU64,
    refused_runs: AtomicU64,
    second_chances: AtomicU64,
    cookies_followed: AtomicU64,
    cookies_gone: AtomicU64,
    cookies_forged: AtomicU64,
    replies: [AtomicU64; Status::ALL.len()],
    dropped: [AtomicU64; Reason::ALL.len()],
    send_errors: [AtomicU64; ERRNOS],
    receive_errors: AtomicU64,
    held: AtomicU64,
    not_held: AtomicU64,
    names_resolved: AtomicU64,
    names_failed: AtomicU64,
    /// How many there are.
    transactions: AtomicU64,
    events: [AtomicU64; EVENTS.len()],
    handed_over: AtomicU64,
    not_handed_over: AtomicU64,
    came_back: AtomicU64,
}

/// What transactions count, by name.
const EVENTS: [(&str, Event); 8] = [
    ("transactions-begun", Event::Begun),
    ("transactions-full", Event::TableFull),
    ("transactions-evicted", Event::Evicted),
    ("absorbed", Event::Absorbed),
    ("retransmitted", Event::Retransmitted),
    ("failed-over", Event::FailedOver),
    ("failure-rules-applied", Event::RuleApplied),
    ("attempts-cancelled", Event::Cancelled),
];

/// A load and a store cost less than an atomic addition, and are enough for
/// a single writer.
#[inline]
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    [const { AtomicU64::new(0) }; N]
}

impl Default for Counters {
    /// All at zero.
    fn default() -> Self {
        Self {
            received: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            responses: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            in_runs: AtomicU64::new(0),
            refused_runs: AtomicU64::new(0),
            second_chances: AtomicU64::new(0),
            cookies_followed: AtomicU64::new(0),
            cookies_gone: AtomicU64::new(0),
            cookies_forged: AtomicU64::new(0),
            replies: zeros(),
            dropped: zeros(),
            send_errors: zeros(),
            receive_errors: AtomicU64::new(0),
            held: AtomicU64::new(0),
            not_held: AtomicU64::new(0),
            names_resolved: AtomicU64::new(0),
            names_failed: AtomicU64::new(0),
            transactions: AtomicU64::new(0),
            events: zeros(),
            handed_over: AtomicU64::new(0),
            not_handed_over: AtomicU64::new(0),
            came_back: AtomicU64::new(0),
        }
    }
}

impl Counters {
    #[inline]
    pub(super) fn received(&self, n: usize) {
        add(&self.received, n as u64);
    }

    #[inline]
    pub(super) fn forwarded(&self, forward: &Forward) {
        match forward.way {
            Way::Response => return add(&self.responses, 1),
            _ => add(&self.requests, 1),
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
        add(&self.runs, 1);
        add(&self.in_runs, datagrams as u64);
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
        add(&self.replies[at.unwrap_or(0)], 1);
    }

    /// What has happened to a transaction.
    pub(super) fn transaction(&self, event: Event) {
        match event {
            Event::Replied(status) => self.reply(status),
            event => {
                let at = EVENTS.iter().position(|(_, known)| *known == event);
                add(&self.events[at.unwrap_or(0)], 1);
            }
        }
    }

    /// How many transactions there are.
    pub(super) fn transactions(&self, n: usize) {
        self.transactions.store(n as u64, Ordering::Relaxed);
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
        add(&self.dropped[reason as usize], 1);
    }

    #[cold]
    pub(super) fn send_error(&self, error: &io::Error) {
        let errno = error.raw_os_error().unwrap_or(0).unsigned_abs() as usize;
        add(&self.send_errors[errno.min(ERRNOS - 1)], 1);
    }

    #[cold]
    pub(super) fn receive_error(&self, _error: &io::Error) {
        add(&self.receive_errors, 1);
    }
}

/// The counters of all workers, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Names and values, in a fixed order; those of runs, names, reasons, statuses and
    /// error numbers only where they are not zero. `last-in-dialog-` is an age
    /// in seconds.
    pub values: Vec<(String, u64)>,
}

impl Totals {
    /// Adds up what the workers have counted so far.
    #[must_use]
    pub fn of(workers: &[Arc<Counters>], shared: &Shared) -> Self {
        let snapshot = shared.latest.load();
        let sum = |counter: &dyn Fn(&Counters) -> &AtomicU64| {
            workers
                .iter()
                .map(|w| counter(w).load(Ordering::Relaxed))
                .sum::<u64>()
        };
        let mut values = vec![
            ("received".to_owned(), sum(&|w| &w.received)),
            ("requests-forwarded".to_owned(), sum(&|w| &w.requests)),
            ("responses-forwarded".to_owned(), sum(&|w| &w.responses)),
        ];
        values.extend(snapshot.requests());
        values.extend(snapshot.suspected());
        values.extend(snapshot.last_in_dialog(super::now(shared.started)));
        for (number, worker) in workers.iter().enumerate() {
            let name = format!("worker-{number}-received");
            values.push((name, worker.received.load(Ordering::Relaxed)));
        }
        let mut rare = vec![
            ("runs-sent".to_owned(), sum(&|w| &w.runs)),
            ("sent-in-runs".to_owned(), sum(&|w| &w.in_runs)),
            ("runs-refused".to_owned(), sum(&|w| &w.refused_runs)),
            ("second-chances".to_owned(), sum(&|w| &w.second_chances)),
            ("cookies-followed".to_owned(), sum(&|w| &w.cookies_followed)),
            ("cookies-gone".to_owned(), sum(&|w| &w.cookies_gone)),
            ("cookies-forged".to_owned(), sum(&|w| &w.cookies_forged)),
            ("requests-held".to_owned(), sum(&|w| &w.held)),
            ("requests-not-held".to_owned(), sum(&|w| &w.not_held)),
            ("names-resolved".to_owned(), sum(&|w| &w.names_resolved)),
            ("names-failed".to_owned(), sum(&|w| &w.names_failed)),
        ];
        rare.extend([
            ("transactions".to_owned(), sum(&|w| &w.transactions)),
            ("handed-over".to_owned(), sum(&|w| &w.handed_over)),
            ("not-handed-over".to_owned(), sum(&|w| &w.not_handed_over)),
            ("came-back".to_owned(), sum(&|w| &w.came_back)),
        ]);
        if let Some(accounting) = &shared.accounting {
            let accounting::Counts { written, dropped } = accounting.counts();
            rare.push(("accounting-written".to_owned(), written));
            rare.push(("accounting-dropped".to_owned(), dropped));
        }
        if let Some(mirror) = &shared.mirror {
            let mirror::Counts {
                sent,
                dropped,
                failed,
            } = mirror.counts();
            rare.push(("mirror-sent".to_owned(), sent));
            rare.push(("mirror-dropped".to_owned(), dropped));
            rare.push(("mirror-failed".to_owned(), failed));
        }
        for (i, (name, _)) in EVENTS.iter().enumerate() {
            rare.push(((*name).to_owned(), sum(&|w| &w.events[i])));
        }
        for (i, status) in Status::ALL.iter().enumerate() {
            rare.push((format!("reply-{}", status.code()), sum(&|w| &w.replies[i])));
        }
        for reason in Reason::ALL {
            let name = format!("drop-{}", reason.name());
            rare.push((name, sum(&|w| &w.dropped[reason as usize])));
        }
        for errno in 0..ERRNOS {
            rare.push((
                format!("send-error-{errno}"),
                sum(&|w| &w.send_errors[errno]),
            ));
        }
        rare.push(("receive-error".to_owned(), sum(&|w| &w.receive_errors)));
        values.extend(rare.into_iter().filter(|(_, value)| *value > 0));
        Self { values }
    }

    /// The value of a counter; 0 where it was not listed.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.values
            .iter()
            .find(|(known, _)| known == name)
            .map_or(0, |(_, value)| *value)
    }
}
