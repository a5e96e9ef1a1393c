//! Which keys move from one destination to another, and how the load of each
//! changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::{Policy, State};
use crate::dispatcher::{SLOTS, Set};

/// Who has a key before and after; `None`: nobody.
type Owners = (Option<SocketAddr>, Option<SocketAddr>);

/// How many keys have which owners.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Owners, u64>);

/// The share of one destination, where it is in the set.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Load {
    pub(super) destination: SocketAddr,
    pub(super) before: Option<Share>,
    pub(super) after: Option<Share>,
}

/// A part of the whole load, 1.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Share {
    /// `None` where no keys were looked at.
    pub(super) share: Option<f64>,
    /// What its policy means it to have.
    pub(super) ideal: f64,
    pub(super) state: State,
}

impl Moves {
    /// All slots of a set, which need not be there both before and after; `None`
    /// where its destinations are not chosen by the slot of one key.
    pub(super) fn of_slots(before: Option<&Set>, after: Option<&Set>) -> Option<Self> {
        let key = |set: &Set| {
            let set = set.definition();
            (set.policy, set.hash_key.clone())
        };
        let (old, new) = (before.map(key), after.map(key));
        let differ = old.is_some() && new.is_some() && old != new;
        let by_slot = |policy| matches!(policy, Policy::Hash | Policy::Random);
        if differ || !old.or(new).is_some_and(|(policy, _)| by_slot(policy)) {
            return None;
        }
        let owner = |set: Option<&Set>, hash| {
            let set = set?;
            let index = set.owner(hash, b"")?;
            Some(set.definition().destinations[index].address)
        };
        let mut moves = Self::default();
        for slot in 0..SLOTS as u64 {
            let hash = slot << (u64::BITS - SLOTS.ilog2());
            moves.count(owner(before, hash), owner(after, hash));
        }
        Some(moves)
    }

    pub(super) fn count(&mut self, before: Option<SocketAddr>, after: Option<SocketAddr>) {
        *self.0.entry((before, after)).or_default() += 1;
    }

    /// Keys in all.
    pub(super) fn all(&self) -> u64 {
        self.0.values().sum()
    }

    /// Keys that have another destination than before.
    pub(super) fn moved(&self) -> u64 {
        let moved = self.0.iter().filter(|((before, after), _)| before != after);
        moved.map(|(_, number)| number).sum()
    }

    /// The load of each destination that is in either set.
    pub(super) fn loads(&self, before: Option<&Set>, after: Option<&Set>) -> Vec<Load> {
        let mut loads: Vec<Load> = Vec::new();
        for set in [before, after].into_iter().flatten() {
            for destination in &set.definition().destinations {
                let address = destination.address;
                if !loads.iter().any(|load| load.destination == address) {
                    loads.push(Load {
                        destination: address,
                        before: self.share(before, address, |pair| pair.0),
                        after: self.share(after, address, |pair| pair.1),
                    });
                }
            }
        }
        loads
    }

    fn share(
        &self,
        set: Option<&Set>,
        address: SocketAddr,
        side: fn(&Owners) -> Option<SocketAddr>,
    ) -> Option<Share> {
        let set = set?;
        let destinations = &set.definition().destinations;
        let mut all = destinations.iter();
        let at = all.position(|each| each.address == address)?;
        let own = self
            .0
            .iter()
            .filter(|(pair, _)| side(pair) == Some(address));
        let own: u64 = own.map(|(_, number)| number).sum();
        let due = set.share(at);
        let of_all: f64 = (0..destinations.len()).map(|each| set.share(each)).sum();
        Some(Share {
            share: (self.all() > 0).then(|| own as f64 / self.all() as f64),
            ideal: if due > 0.0 { due / of_all } else { 0.0 },
            state: destinations[at].state,
        })
    }
}
