//! Round robin by weight, and the little memory that it needs.
//!
//! A turn is no function of the message, so a retransmission, a CANCEL or an
//! ACK would be given a destination of its own. Each worker therefore
//! remembers the last 65,536 Call-IDs of each set at most; what it has forgotten,
//! and what comes to another worker or instance, takes a new turn.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::{iter, mem};

use super::{Dispatcher, Set};
use crate::config::{self, Policy, State};

/// Call-IDs remembered for one set.
const REMEMBERED: usize = 1 << 16;

/// Those whose hashes end alike, of which the oldest gives way to a new one. With
/// one place for all of them, a call in 650 would lose it while a hundred others
/// begin, and with it the way of its CANCEL and ACK.
const ALIKE: usize = 4;

/// What stands in a place that nothing is remembered in: zeros, which the system
/// gives without any memory until they are written to.
const NOTHING: (u64, u16) = (0, 0);

/// Whose turn it is in each round-robin set, for one worker.
pub struct Turns {
    /// By set; `None` for those of another policy.
    sets: Vec<Option<Turn>>,
}

struct Turn {
    /// How far each destination is behind its due share.
    due: Vec<i64>,
    /// By the low bits of the hash, the youngest first: the hash, and the
    /// destination it got.
    memory: Vec<[(u64, u16); ALIKE]>,
}

impl Turns {
    /// Nothing remembered, for the sets of `dispatcher`.
    #[must_use]
    pub fn new(dispatcher: &Dispatcher) -> Self {
        let sets = dispatcher.sets().iter();
        let turn = |set: &config::Set| (set.policy == Policy::RoundRobin).then(|| Turn::new(set));
        Self {
            sets: sets.map(|set| turn(set.definition())).collect(),
        }
    }

    /// Goes on with other sets: what is remembered stays with the set of the
    /// same name and the destination of the same address. Between two datagrams,
    /// so what need not change is not touched.
    pub fn follow(&mut self, before: &Dispatcher, now: &Dispatcher) {
        let (formers, turns) = (before.sets(), &mut self.sets);
        let mut turn = |(here, set): (usize, &Arc<Set>)| {
            let definition = set.definition();
            if definition.policy != Policy::RoundRobin {
                return None;
            }
            let is_known = |at: &usize| {
                let former = formers.get(*at);
                former.is_some_and(|former| former.definition().name == definition.name)
            };
            let mut places = iter::once(here).chain(0..formers.len());
            let former = places
                .find(is_known)
                .and_then(|at| Some((&formers[at], turns[at].take()?)));
            let Some((former, mut turn)) = former else {
                return Some(Turn::new(definition));
            };
            if !Arc::ptr_eq(former, set) {
                turn.follow(former.definition(), definition);
            }
            Some(turn)
        };
        self.sets = now.sets().iter().enumerate().map(&mut turn).collect();
    }

    /// The destination of `hash`: the one remembered, unless work begins anew
    /// and that one takes none; else the one whose turn it is.
    pub(super) fn choose(
        &mut self,
        at: usize,
        set: &Set,
        hash: u64,
        begins: impl FnOnce() -> bool,
    ) -> Option<usize> {
        let destinations = &set.definition().destinations;
        let turn = self.sets[at].as_mut()?;
        let place = hash as usize % (REMEMBERED / ALIKE);
        let alike = &turn.memory[place];
        let known = alike.iter().position(|(known, _)| *known == hash);
        if let Some(at) = known {
            let destination = usize::from(alike[at].1);
            let stays = match destinations.get(destination).map(|each| each.state) {
                Some(State::Active) => set.share(destination) > 0.0 || !begins(),
                Some(State::Draining) => true,
                Some(State::Disabled) | None => false,
            };
            if stays {
                return Some(destination);
            }
        }
        let next = turn.next(set)?;
        let alike = &mut turn.memory[place];
        alike[..=known.unwrap_or(ALIKE - 1)].rotate_right(1);
        alike[0] = (hash, next as u16);
        Some(next)
    }
}

impl Turn {
    fn new(set: &config::Set) -> Self {
        Self {
            due: vec![0; set.destinations.len()],
            memory: vec![[NOTHING; ALIKE]; REMEMBERED / ALIKE],
        }
    }

    fn follow(&mut self, before: &config::Set, now: &config::Set) {
        let places = now.destinations.iter().map(|each| each.address).zip(0..);
        let places: BTreeMap<_, u16> = places.collect();
        let destinations = before.destinations.iter();
        let moved: Vec<_> = destinations
            .map(|each| places.get(&each.address).copied())
            .collect();
        let former = mem::replace(&mut self.due, vec![0; now.destinations.len()]);
        let weight = |to: u16| now.destinations[usize::from(to)].weight;
        let mut kept = before.destinations.iter().zip(&moved);
        // What is due is counted in weights: by others it could take for ever.
        if kept.all(|(each, to)| to.is_none_or(|to| each.weight == weight(to))) {
            for (due, to) in former.iter().zip(&moved) {
                if let Some(to) = to {
                    self.due[usize::from(*to)] = *due;
                }
            }
        }
        if (0..).zip(&moved).all(|(was, to)| *to == Some(was)) {
            return;
        }
        for place in self.memory.as_flattened_mut() {
            // Memory that nothing was written to takes none of the machine's.
            if *place == NOTHING {
                continue;
            }
            let to = moved.get(usize::from(place.1)).copied().flatten();
            *place = to.map_or(NOTHING, |to| (place.0, to));
        }
    }

    /// Each gains its weight; who then has most is taken and pays the sum.
    fn next(&mut self, set: &Set) -> Option<usize> {
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for i in 0..set.definition().destinations.len() {
            // In hundredths, for a share may be a percentage of a weight.
            let weight = (set.share(i) * 100.0) as i64;
            if weight == 0 {
                continue;
            }
            sum += weight;
            self.due[i] += weight;
            if best.is_none_or(|best| self.due[i] > self.due[best]) {
                best = Some(i);
            }
        }
        let best = best?;
        self.due[best] -= sum;
        Some(best)
    }
}
