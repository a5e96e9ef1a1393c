//! What the caller counts while the demo runs, for the display.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::SERVERS;

/// Rates are means over this time.
const WINDOW: Duration = Duration::from_secs(2);

/// Counts since the start.
#[derive(Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) begun: u64,
    pub(super) completed: u64,
    pub(super) lost: u64,
    pub(super) refused: u64,
    /// Requests that were sent a second or later time.
    pub(super) repeated: u64,
    /// Calls answered, by server.
    pub(super) answered: [u64; SERVERS],
    /// Responses by class: 1xx first.
    pub(super) classes: [u64; 6],
}

impl Counts {
    pub(super) fn in_progress(&self) -> u64 {
        self.begun - self.completed - self.lost - self.refused
    }
}

/// Counts, and the times between requests and their first responses.
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// In microseconds.
    pub(super) latency: Histogram<u64>,
}

impl Tally {
    /// Milliseconds from a request to its first response: the median, the
    /// 90th and 99th percentile, the maximum.
    pub(super) fn latencies(&self) -> [f64; 4] {
        let quantiles = [0.5, 0.9, 0.99, 1.0];
        quantiles.map(|q| self.latency.value_at_quantile(q) as f64 / 1000.0)
    }
}

/// A tally that the caller writes and the display reads.
pub(super) struct Shared(Mutex<Tally>);

impl Shared {
    pub(super) fn new() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3);
        Self(Mutex::new(Tally {
            counts: Counts::default(),
            latency: latency.expect("bounds that hdrhistogram documents as good"),
        }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The counts of the last two seconds, to tell rates.
#[derive(Default)]
pub(super) struct Window(VecDeque<(Instant, Counts)>);

/// What has happened in a window, a second.
pub(super) struct Rates {
    pub(super) begun: f64,
    /// Calls answered, by server.
    pub(super) answered: [f64; SERVERS],
}

impl Window {
    /// Takes in the counts of `now`.
    pub(super) fn push(&mut self, now: Instant, counts: Counts) {
        while self.0.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back((now, counts));
    }

    pub(super) fn rates(&self) -> Rates {
        let (Some((from, before)), Some((to, after))) = (self.0.front(), self.0.back()) else {
            return Rates {
                begun: 0.0,
                answered: [0.0; SERVERS],
            };
        };
        let seconds = (*to - *from).as_secs_f64().max(0.001);
        let rate = |before: u64, after: u64| (after - before) as f64 / seconds;
        Rates {
            begun: rate(before.begun, after.begun),
            answered: std::array::from_fn(|i| rate(before.answered[i], after.answered[i])),
        }
    }
}
