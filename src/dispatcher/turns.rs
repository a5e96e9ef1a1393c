//! Round robin by weight, and the little memory that it needs.
//!
//! A turn is no function of the message, so a retransmission, a CANCEL or an
//! ACK would be given a destination of its own. Each worker therefore
//! remembers its last 65,536 Call-IDs at most; what it has forgotten, and
//! what comes to another worker or instance, takes a new turn.

use crate::config::{self, Destination, Policy, State};

/// Call-IDs remembered for one set.
const REMEMBERED: usize = 1 << 16;

/// Whose turn it is in each round-robin set, for one worker.
pub struct Turns {
    /// By set; `None` for those of another policy.
    sets: Vec<Option<Turn>>,
}

struct Turn {
    /// How far each destination is behind its due share.
    due: Vec<i64>,
    /// By the low bits of the hash: the hash, and the destination it got.
    memory: Vec<(u64, u16)>,
}

impl Turns {
    /// Nothing remembered, for the sets of a configuration.
    #[must_use]
    pub fn new<'a>(sets: impl IntoIterator<Item = &'a config::Set>) -> Self {
        let turn = |set: &config::Set| {
            (set.policy == Policy::RoundRobin).then(|| Turn {
                due: vec![0; set.destinations.len()],
                memory: vec![(0, 0); REMEMBERED],
            })
        };
        Self {
            sets: sets.into_iter().map(turn).collect(),
        }
    }

    pub(super) fn choose(
        &mut self,
        set: usize,
        destinations: &[Destination],
        hash: u64,
    ) -> Option<usize> {
        let turn = self.sets[set].as_mut()?;
        let place = hash as usize % REMEMBERED;
        let (known, destination) = turn.memory[place];
        let destination = usize::from(destination);
        if known == hash && destinations[destination].state != State::Disabled {
            return Some(destination);
        }
        let next = turn.next(destinations)?;
        turn.memory[place] = (hash, next as u16);
        Some(next)
    }
}

impl Turn {
    /// Each gains its weight; who then has most is taken and pays the sum.
    fn next(&mut self, destinations: &[Destination]) -> Option<usize> {
        let top = super::top_priority(destinations)?;
        let able = |d: &Destination| d.state == State::Active && d.priority == top;
        let mut sum = 0;
        let mut best: Option<usize> = None;
        for (i, destination) in destinations.iter().enumerate().filter(|(_, d)| able(d)) {
            let weight = i64::from(destination.weight);
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
