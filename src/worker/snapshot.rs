//! What the workers decide by, and count by destination: swapped whole when
//! the configuration changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::add;
use crate::proxy::Proxy;

/// One state of the configuration. A worker asks for the latest once for each
/// batch.
pub struct Snapshot {
    proxy: Proxy,
    /// By worker.
    tallies: Vec<Tallies>,
}

/// What one worker counts, by set and destination.
pub(super) struct Tallies(Vec<Vec<Arc<Tally>>>);

/// What one worker counts of one destination. Two cache lines, which the
/// hardware fetches together, so that no two workers write to one.
#[derive(Default)]
#[repr(align(128))]
pub(super) struct Tally {
    /// Requests sent to it.
    requests: AtomicU64,
    /// When the last request within a dialog went to it or came from it, in
    /// milliseconds; 0: never.
    last_in_dialog: AtomicU64,
    /// Times that a transaction found it silent, unreachable or busy.
    suspected: AtomicU64,
}

impl Snapshot {
    /// The first one, all counts at zero.
    #[must_use]
    pub fn new(proxy: Proxy, workers: usize) -> Self {
        let tallies = (0..workers).map(|_| Tallies::new(&proxy, |_| Arc::default()));
        Self {
            tallies: tallies.collect(),
            proxy,
        }
    }

    /// The next one. The counts of a destination go on where its set has the
    /// same name and itself the same address.
    #[must_use]
    pub fn successor(&self, proxy: Proxy) -> Self {
        let places: HashMap<Place<'_>, (usize, usize)> = places(&self.proxy).collect();
        let tallies = self.tallies.iter().map(|tallies| {
            Tallies::new(&proxy, |place| match places.get(&place) {
                Some((set, destination)) => Arc::clone(&tallies.0[*set][*destination]),
                None => Arc::default(),
            })
        });
        Self {
            tallies: tallies.collect(),
            proxy,
        }
    }

    /// What decides.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where worker `number` counts.
    pub(super) fn tallies(&self, number: usize) -> &Tallies {
        &self.tallies[number]
    }

    /// Requests sent by all workers, by the names of set and destination.
    pub(super) fn requests(&self) -> impl Iterator<Item = (String, u64)> {
        places(&self.proxy).map(|((set, address), place)| {
            let requests = self.each(place, |tally| &tally.requests);
            (format!("to-{set}-{address}"), requests.sum())
        })
    }

    /// Times that transactions had to go elsewhere, where there were any.
    pub(super) fn suspected(&self) -> impl Iterator<Item = (String, u64)> {
        places(&self.proxy).filter_map(|((set, address), place)| {
            let times = self.each(place, |tally| &tally.suspected).sum();
            (times > 0).then(|| (format!("suspected-{set}-{address}"), times))
        })
    }

    /// Seconds since the last request within a dialog, where there was one.
    pub(super) fn last_in_dialog(&self, now: u64) -> impl Iterator<Item = (String, u64)> {
        places(&self.proxy).filter_map(move |((set, address), place)| {
            let last = self.each(place, |tally| &tally.last_in_dialog).max();
            let last = last.filter(|last| *last > 0)?;
            let seconds = now.saturating_sub(last) / 1000;
            Some((format!("last-in-dialog-{set}-{address}"), seconds))
        })
    }

    /// What each worker has in `field` of one destination.
    fn each(
        &self,
        (set, destination): (usize, usize),
        field: impl Fn(&Tally) -> &AtomicU64,
    ) -> impl Iterator<Item = u64> {
        let tallies = self.tallies.iter();
        tallies.map(move |each| field(&each.0[set][destination]).load(Ordering::Relaxed))
    }
}

/// What a destination is known by: the name of its set, and its address.
type Place<'a> = (&'a str, std::net::SocketAddr);

/// Each destination and its indices.
fn places(proxy: &Proxy) -> impl Iterator<Item = (Place<'_>, (usize, usize))> {
    let sets = proxy.dispatcher().sets().iter().enumerate();
    sets.flat_map(|(s, set)| {
        let set = set.definition();
        let destinations = set.destinations.iter().enumerate();
        destinations.map(move |(d, each)| ((set.name.as_str(), each.address), (s, d)))
    })
}

impl Tallies {
    fn new(proxy: &Proxy, tally: impl Fn(Place<'_>) -> Arc<Tally>) -> Self {
        let mut sets: Vec<_> = proxy
            .dispatcher()
            .sets()
            .iter()
            .map(|_| Vec::new())
            .collect();
        for (place, (set, _)) in places(proxy) {
            sets[set].push(tally(place));
        }
        Self(sets)
    }

    /// Notes a request within a dialog, to a destination or from it.
    #[inline]
    pub(super) fn in_dialog(&self, set: usize, destination: usize, now: u64) {
        let last = &self.0[set][destination].last_in_dialog;
        last.store(now, Ordering::Relaxed);
    }

    /// Counts a lesson about a destination.
    #[cold]
    pub(super) fn suspected(&self, set: usize, destination: usize) {
        add(&self.0[set][destination].suspected, 1);
    }

    /// Counts a request to a destination.
    #[inline]
    pub(super) fn sent(&self, set: usize, destination: usize) {
        add(&self.0[set][destination].requests, 1);
    }
}
