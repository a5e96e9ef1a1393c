//! Which keys move from one destination to another, and how the load of each
//! changes.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::config::{Policy, Set, State};
use crate::dispatcher::{Dispatcher, SLOTS, Turns};

/// Who has a key before and after; `None`: nobody.
type Owners = (Option<SocketAddr>, Option<SocketAddr>);

/// How many keys have which owners.
#[derive(Debug, Default)]
pub(super) struct Moves(BTreeMap<Owners, u64>);

/// The share of one destination, where it is in the set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) address: SocketAddr,
    pub(super) before: Option<Share>,
    pub(super) after: Option<Share>,
}

/// A part of the whole load, 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub(super) share: f64,
    /// What its weight says.
    pub(super) ideal: f64,
    pub(super) state: State,
}

impl Moves {
    /// All slots of the set of that name, which need not be in both; `None`
    /// where its destinations are not chosen by the slot of one key.
    pub(super) fn of_slots(name: &str, before: &Dispatcher, after: &Dispatcher) -> Option<Self> {
        let find = |dispatcher: &Dispatcher| {
            let mut sets = dispatcher.sets().iter();
            sets.position(|set| set.definition().name == name)
        };
        let (was, is) = (find(before), find(after));
        let key = |dispatcher: &Dispatcher, at: Option<usize>| {
            let set = dispatcher.sets()[at?].definition();
            Some((set.policy, set.hash_key.clone()))
        };
        let (old, new) = (key(before, was), key(after, is));
        let differ = old.is_some() && new.is_some() && old != new;
        let by_slot = |policy| matches!(policy, Policy::Hash | Policy::Random);
        if differ || !old.or(new).is_some_and(|(policy, _)| by_slot(policy)) {
            return None;
        }
        let mut turns = (Turns::new(before), Turns::new(after));
        let owner = |dispatcher: &Dispatcher, at: Option<usize>, hash, turns: &mut Turns| {
            let (at, set) = (at?, &dispatcher.sets()[at?]);
            let index = set.choose(at, hash, b"", turns, || true)?;
            Some(set.definition().destinations[index].address)
        };
        let mut moves = Self::default();
        for slot in 0..SLOTS as u64 {
            let hash = slot << (u64::BITS - SLOTS.ilog2());
            moves.count(
                owner(before, was, hash, &mut turns.0),
                owner(after, is, hash, &mut turns.1),
            );
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
            for destination in &set.destinations {
                let address = destination.address;
                if !loads.iter().any(|load| load.address == address) {
                    loads.push(Load {
                        address,
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
        let mut all = set.destinations.iter();
        let destination = all.find(|each| each.address == address)?;
        let own = self
            .0
            .iter()
            .filter(|(pair, _)| side(pair) == Some(address));
        let own: u64 = own.map(|(_, number)| number).sum();
        let able = |priority: i32| {
            let all = set.destinations.iter();
            all.filter(move |each| each.state == State::Active && each.priority >= priority)
        };
        let takes =
            destination.state == State::Active && able(destination.priority + 1).next().is_none();
        let weights = able(destination.priority).map(|each| f64::from(each.weight));
        let weights: f64 = weights.sum();
        Some(Share {
            share: own as f64 / self.all().max(1) as f64,
            ideal: match takes {
                true => f64::from(destination.weight) / weights,
                false => 0.0,
            },
            state: destination.state,
        })
    }
}
