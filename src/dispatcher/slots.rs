//! Weighted rendezvous hashing, worked out beforehand for 65,536 slots.
//!
//! Each slot belongs to the destination with the best score for it, among
//! those of the highest priority that can take new work. A destination that goes
//! away leaves only its own slots, and they spread over all others by weight;
//! one that comes takes only those it wins. A look-up is one load.

use std::cmp::Ordering;
use std::hash::Hasher;
use std::net::SocketAddr;

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

/// The owner of each slot; `None` where no destination can take new work.
pub(super) fn fill(destinations: &[Destination], shares: &Shares) -> Option<Box<[u16]>> {
    let top = shares.top_priority(destinations)?;
    let able: Vec<_> = shares
        .takers(destinations)
        .filter(|(_, d, _)| d.priority == top)
        .map(|(i, d, weight)| (i, identity(d.address), weight))
        .collect();
    let owner = |slot| {
        let best = able
            .iter()
            .map(|&(i, id, weight)| (i, score(id, slot, weight)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        best.map_or(0, |(i, _)| i as u16)
    };
    Some((0..SLOTS).map(owner).collect())
}

/// The destinations that can take new work, best first for `slot`.
pub(super) fn rank(destinations: &[Destination], shares: &Shares, slot: usize) -> Vec<Ranked> {
    let mut ranked: Vec<_> = shares
        .takers(destinations)
        .map(|(destination, d, weight)| Ranked {
            destination,
            score: score(identity(d.address), slot, weight),
        })
        .collect();
    ranked.sort_by(|a, b| {
        let priority = |r: &Ranked| destinations[r.destination].priority;
        match priority(b).cmp(&priority(a)) {
            Ordering::Equal => a.score.total_cmp(&b.score),
            order => order,
        }
    });
    ranked
}

/// The first of them that is not passed over.
pub(super) fn first(
    destinations: &[Destination],
    shares: &Shares,
    slot: usize,
    passed: impl Fn(&Destination) -> bool,
) -> Option<usize> {
    let able = shares.takers(destinations);
    let able = able.filter(|(_, d, _)| !passed(d));
    let place = |d: &Destination, weight| {
        let score = score(identity(d.address), slot, weight);
        (std::cmp::Reverse(d.priority), score)
    };
    let best = able
        .map(|(i, d, weight)| (i, place(d, weight)))
        .min_by(|(_, a), (_, b)| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    best.map(|(i, _)| i)
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
///
/// `libm`'s logarithm gives the same bits on every machine; instances on
/// different ones must fill their slots alike.
fn score(identity: u64, slot: usize, weight: f64) -> f64 {
    let mut hasher = SipHasher13::new();
    hasher.write(&identity.to_be_bytes());
    hasher.write(&(slot as u16).to_be_bytes());
    let uniform = ((hasher.finish() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -libm::log(uniform) / weight
}
