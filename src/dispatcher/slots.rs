//! Weighted rendezvous hashing, worked out beforehand for 65,536 slots.
//!
//! Each slot belongs to the destination with the best score for it, among
//! those of the highest priority that can take new work. A destination that goes
//! away leaves only its own slots, and they spread over all others by weight;
//! one that comes takes only those it wins. A look-up is one load.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::hash::Hasher;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;

use siphasher::sip::SipHasher13;

use super::shares::Shares;
use crate::config::Destination;

/// How many slots a set has. The load of equal destinations then differs by
/// about one part in a hundred for a hundred of them.
pub const SLOTS: usize = 1 << 16;

/// A destination's place for one slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Index of the destination in its set.
    pub destination: usize,
    /// What decided it within a priority: the lowest wins.
    pub score: f64,
}

/// The slot that a hash falls into.
#[inline]
#[must_use]
pub fn slot_of(hash: u64) -> usize {
    (hash >> 48) as usize
}

/// The owner of each slot.
#[derive(Clone)]
pub(super) struct Slots {
    /// Whom it was filled for.
    takers: Vec<Taker>,
    owners: Arc<[u16]>,
}

impl Slots {
    /// `None` where no destination can take new work. Of `formers`, the latest
    /// first, one for the same takers is this one too. Else only what differs from
    /// the latest is weighed against the owner of each slot: two parts in `n` of the
    /// work for `n` destinations.
    pub(super) fn fill(
        destinations: &[Destination],
        shares: &Shares,
        formers: &[&Self],
    ) -> Option<Self> {
        let takers = takers(destinations, shares);
        if let Some(same) = formers.iter().find(|former| former.takers == takers) {
            return Some((*same).clone());
        }
        let owners = match (&*takers, formers) {
            ([], _) => return None,
            ([only], _) => iter::repeat_n(only.destination, SLOTS).collect(),
            (_, [former, ..]) => former.owners_among(&takers),
            (_, []) => {
                let all = Contest::of(takers.iter().copied());
                (0..SLOTS).map(|slot| all.winner(slot)).collect()
            }
        };
        Some(Self { takers, owners })
    }

    /// Whose `slot` is.
    #[inline]
    pub(super) fn owner(&self, slot: usize) -> usize {
        self.owners[slot].into()
    }

    fn owners_among(&self, takers: &[Taker]) -> Arc<[u16]> {
        let all = Contest::of(takers.iter().copied());
        let old: BTreeMap<_, _> = self.takers.iter().map(|old| (old.identity, old)).collect();
        let is_kept = |taker: &Taker| {
            let old = old.get(&taker.identity);
            old.filter(|old| old.weight == taker.weight)
        };
        let places = self
            .takers
            .iter()
            .map(|old| usize::from(old.destination) + 1);
        let mut kept = vec![None; places.max().unwrap_or(0)];
        for taker in takers {
            if let Some(old) = is_kept(taker) {
                kept[usize::from(old.destination)] = Some(taker);
            }
        }
        let fresh = takers.iter().filter(|taker| is_kept(taker).is_none());
        let fresh = Contest::of(fresh.copied());
        let owners = self.owners.iter().enumerate();
        let owners = owners.map(|(slot, owner)| match kept[usize::from(*owner)] {
            Some(owner) => fresh.winner_against(owner, slot),
            None => all.winner(slot),
        });
        owners.collect()
    }
}

/// Who may own slots.
#[derive(Clone, Copy, PartialEq)]
struct Taker {
    destination: u16,
    identity: u64,
    weight: f64,
}

/// Those of the highest priority that can take new work.
fn takers(destinations: &[Destination], shares: &Shares) -> Vec<Taker> {
    let top = shares.top_priority(destinations);
    let takers = shares.takers(destinations);
    takers
        .filter(|(_, each, _)| Some(each.priority) == top)
        .map(|(i, each, weight)| Taker {
            destination: i as u16,
            identity: identity(each.address),
            weight,
        })
        .collect()
}

/// Takers by weight. Of those with the same the greatest draw has the best
/// score, so one logarithm does for all of them: a quarter of the time.
struct Contest(Vec<Vec<Taker>>);

impl Contest {
    fn of(takers: impl Iterator<Item = Taker>) -> Self {
        let mut groups: Vec<Vec<Taker>> = Vec::new();
        let mut place = BTreeMap::new();
        for taker in takers {
            let group = *place.entry(taker.weight.to_bits()).or_insert_with(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(taker);
        }
        Self(groups)
    }

    /// Whose `slot` is, where there is a taker.
    fn winner(&self, slot: usize) -> u16 {
        let best = self.best(slot);
        best.map_or(0, |(taker, _)| taker.destination)
    }

    /// Whose `slot` is where `owner` has it against all others.
    fn winner_against(&self, owner: &Taker, slot: usize) -> u16 {
        match self.best(slot) {
            Some((taker, best)) if best < score(owner.identity, slot, owner.weight) => {
                taker.destination
            }
            _ => owner.destination,
        }
    }

    fn best(&self, slot: usize) -> Option<(&Taker, f64)> {
        let groups = self.0.iter().filter_map(|group| {
            let draws = group
                .iter()
                .map(|taker| (taker, draw(taker.identity, slot)));
            // Of equals the first, as everywhere.
            let (taker, draw) = draws.reduce(|a, b| if b.1 > a.1 { b } else { a })?;
            Some((taker, score_of(draw, taker.weight)))
        });
        groups.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// The destinations that can take new work, best first for `slot`.
pub(super) fn rank(destinations: &[Destination], shares: &Shares, slot: usize) -> Vec<Ranked> {
    let mut ranked: Vec<_> = weighed(destinations, shares, slot, |_| false).collect();
    ranked.sort_by(|a, b| best_first(destinations, a, b));
    ranked
}

/// The first of them that is not passed over.
pub(super) fn first(
    destinations: &[Destination],
    shares: &Shares,
    slot: usize,
    passed: impl Fn(&Destination) -> bool,
) -> Option<usize> {
    let best =
        weighed(destinations, shares, slot, passed).min_by(|a, b| best_first(destinations, a, b));
    best.map(|best| best.destination)
}

/// The destinations that can take new work, but for those that are `passed`
/// over, which cost no logarithm.
fn weighed<'a>(
    destinations: &'a [Destination],
    shares: &'a Shares,
    slot: usize,
    passed: impl Fn(&Destination) -> bool,
) -> impl Iterator<Item = Ranked> {
    let able = shares.takers(destinations);
    let able = able.filter(move |(_, each, _)| !passed(each));
    able.map(move |(destination, each, weight)| Ranked {
        destination,
        score: score(identity(each.address), slot, weight),
    })
}

fn best_first(destinations: &[Destination], a: &Ranked, b: &Ranked) -> Ordering {
    let priority = |ranked: &Ranked| destinations[ranked.destination].priority;
    let by_priority = priority(b).cmp(&priority(a));
    by_priority.then(a.score.total_cmp(&b.score))
}

/// What a destination is known by, whatever its place in the file.
#[must_use]
pub fn identity(address: SocketAddr) -> u64 {
    let mut hasher = SipHasher13::new();
    match address {
        SocketAddr::V4(v4) => hasher.write(&v4.ip().octets()),
        SocketAddr::V6(v6) => hasher.write(&v6.ip().octets()),
    }
    hasher.write(&address.port().to_be_bytes());
    hasher.finish()
}

/// An exponential variate with rate `weight`: the lowest of several comes
/// from each with a probability in proportion to its weight.
fn score(identity: u64, slot: usize, weight: f64) -> f64 {
    score_of(draw(identity, slot), weight)
}

/// `libm`'s logarithm gives the same bits on every machine; instances on
/// different ones must fill their slots alike.
fn score_of(draw: u64, weight: f64) -> f64 {
    let uniform = (draw as f64 + 0.5) / (1u64 << 53) as f64;
    -libm::log(uniform) / weight
}

/// A number of 53 bits, all equally likely.
fn draw(identity: u64, slot: usize) -> u64 {
    let mut octets = [0; 10];
    octets[..8].copy_from_slice(&identity.to_be_bytes());
    octets[8..].copy_from_slice(&(slot as u16).to_be_bytes());
    SipHasher13::new().hash(&octets) >> 11
}
