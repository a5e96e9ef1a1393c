//! Which destinations of a set take new work, and with what weight: what its
//! file says, and what health checks have found.

use crate::config::{self, Destination, Health, Policy, State, WhenAllDown};

/// What each destination of one set is to get of new work.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Shares {
    /// In weights; 0: none.
    weights: Vec<f64>,
    /// Whether every active one is down, and new work goes to them all the same.
    pub(super) open: bool,
}

impl Shares {
    pub(super) fn new(set: &config::Set) -> Self {
        let active = |each: &&Destination| each.state == State::Active;
        let down = |each: &Destination| each.health == Health::Down;
        let mut actives = set.destinations.iter().filter(active).peekable();
        let all_down = actives.peek().is_some() && actives.all(down);
        let open = all_down && set.when_all_down == WhenAllDown::Forward;
        // Kamailio's algorithm 0 gives all the same.
        let alike = set.policy == Policy::Kamailio;
        let weights = set.destinations.iter().map(|each| {
            let weight = if alike { 1.0 } else { f64::from(each.weight) };
            let percent = match (each.state, each.health) {
                (State::Draining | State::Disabled, _) => 0,
                (State::Active, Health::Down) if open => 100,
                (State::Active, health) => health.percent(),
            };
            weight * f64::from(percent) / 100.0
        });
        Self {
            weights: weights.collect(),
            open,
        }
    }

    /// The weight of destination `index`; 0: it takes no new work.
    #[inline]
    pub(super) fn of(&self, index: usize) -> f64 {
        self.weights[index]
    }

    /// Those that take new work, with their weights.
    pub(super) fn takers<'a>(
        &'a self,
        destinations: &'a [Destination],
    ) -> impl Iterator<Item = (usize, &'a Destination, f64)> {
        let all = destinations.iter().zip(&self.weights).enumerate();
        let all = all.map(|(i, (each, weight))| (i, each, *weight));
        all.filter(|(.., weight)| *weight > 0.0)
    }

    /// The highest priority that has one.
    pub(super) fn top_priority(&self, destinations: &[Destination]) -> Option<i32> {
        self.takers(destinations)
            .map(|(_, each, _)| each.priority)
            .max()
    }
}
