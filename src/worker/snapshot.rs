//! What the workers decide by, and count by destination: swapped whole when
//! the configuration changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::{CLASSES, Each, add, class};
use super::totals::{DestinationTotals, by_class};
use crate::proxy::{Forward, Kind, Place, Proxy};

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
    /// Those among them that were sent to it before.
    retransmitted: AtomicU64,
    /// Responses from it, by class.
    responses: Each<CLASSES>,
    /// When the last datagram came from it that counts, in milliseconds;
    /// 0: never.
    last_seen: AtomicU64,
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
        let places: HashMap<Name<'_>, (usize, usize)> = places(&self.proxy).collect();
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

    /// What all workers have counted by `now`, by set and destination.
    pub(super) fn destinations(&self, now: u64) -> Vec<DestinationTotals> {
        let totals = places(&self.proxy).map(|((set, address), place)| {
            let sum = |field: fn(&Tally) -> &AtomicU64| self.each(place, field).sum();
            let seconds_since = |field: fn(&Tally) -> &AtomicU64| {
                let last = self.each(place, field).max().filter(|last| *last > 0)?;
                Some(now.saturating_sub(last) / 1000)
            };
            let tallies = self.tallies.iter().map(|each| each.at(place));
            DestinationTotals {
                set: set.to_owned(),
                address,
                requests: sum(|tally| &tally.requests),
                retransmitted: sum(|tally| &tally.retransmitted),
                responses: by_class(Each::sums(tallies.map(|tally| &tally.responses))),
                suspected: sum(|tally| &tally.suspected),
                last_seen: seconds_since(|tally| &tally.last_seen),
                last_in_dialog: seconds_since(|tally| &tally.last_in_dialog),
            }
        });
        totals.collect()
    }

    /// What each worker has in `field` of one destination.
    fn each(
        &self,
        place: (usize, usize),
        field: fn(&Tally) -> &AtomicU64,
    ) -> impl Iterator<Item = u64> {
        let tallies = self.tallies.iter();
        tallies.map(move |each| field(each.at(place)).load(Ordering::Relaxed))
    }
}

/// What a destination is known by: the name of its set, and its address.
type Name<'a> = (&'a str, std::net::SocketAddr);

/// Each destination and its indices.
fn places(proxy: &Proxy) -> impl Iterator<Item = (Name<'_>, (usize, usize))> {
    let sets = proxy.dispatcher().sets().iter().enumerate();
    sets.flat_map(|(s, set)| {
        let set = set.definition();
        let destinations = set.destinations.iter().enumerate();
        destinations.map(move |(d, each)| ((set.name.as_str(), each.address), (s, d)))
    })
}

impl Tallies {
    fn new(proxy: &Proxy, tally: impl Fn(Name<'_>) -> Arc<Tally>) -> Self {
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

    fn at(&self, (set, destination): (usize, usize)) -> &Tally {
        &self.0[set][destination]
    }

    fn of(&self, Place { set, destination }: Place) -> &Tally {
        self.at((set.into(), destination.into()))
    }

    /// Counts a lesson about a destination.
    #[cold]
    pub(super) fn suspected(&self, place: (usize, usize)) {
        add(&self.at(place).suspected, 1);
    }

    /// Counts a request that was sent on before.
    #[cold]
    pub(super) fn retransmitted(&self, place: (usize, usize)) {
        add(&self.at(place).retransmitted, 1);
    }

    /// Counts what is sent on.
    #[inline]
    pub(super) fn forwarded(&self, forward: &Forward, now: impl FnOnce() -> u64) {
        let to = forward.way.destination().map(|place| self.at(place));
        let from = forward.from.map(|place| self.of(place));
        if let Some(tally) = to {
            add(&tally.requests, 1);
        }
        if from.is_none() && !forward.in_dialog {
            return;
        }
        let now = now();
        if let Some(tally) = from {
            tally.last_seen.store(now, Ordering::Relaxed);
            if let Kind::Response(status) = forward.kind {
                tally.responses.add(class(status));
            }
        }
        if forward.in_dialog {
            for tally in [from, to].into_iter().flatten() {
                tally.last_in_dialog.store(now, Ordering::Relaxed);
            }
        }
    }
}
