//! What one configuration decides by, kept whole, so that what was decided
//! before a change can still be told after it.

use std::sync::Arc;

use crate::config::{self, Config, Health, Route};
use crate::dispatcher::Dispatcher;

/// The sets with their tables, and the rules that choose among them.
pub(super) struct Generation {
    /// One more than that of the generation before.
    pub(super) number: u64,
    pub(super) dispatcher: Dispatcher,
    /// Those of the generation before where they are the same.
    pub(super) rules: Arc<[Route]>,
}

impl Generation {
    pub(super) fn new(config: &Config, selection_key: [u8; 16]) -> Self {
        Self {
            number: 1,
            dispatcher: Dispatcher::new(&config.sets, selection_key),
            rules: config.routes.as_slice().into(),
        }
    }

    /// The next one, by `config`.
    pub(super) fn successor(&self, config: &Config) -> Self {
        Self {
            number: self.number + 1,
            dispatcher: self.dispatcher.successor(&config.sets),
            rules: match *self.rules == *config.routes {
                true => Arc::clone(&self.rules),
                false => config.routes.as_slice().into(),
            },
        }
    }

    /// Whether requests come to the same set by both, by its name and place.
    pub(super) fn routes_as(&self, other: &Self) -> bool {
        let (sets, others) = (self.dispatcher.sets().iter(), other.dispatcher.sets());
        let names = sets.map(|set| &set.definition().name);
        self.rules == other.rules && names.eq(others.iter().map(|set| &set.definition().name))
    }

    /// Whether `next` differs by nothing but destinations that have come back and
    /// take more of their share: keys move to those, and to nobody else.
    pub(super) fn only_warms_up_to(&self, next: &Self) -> bool {
        let (sets, nexts) = (self.dispatcher.sets(), next.dispatcher.sets());
        let warms_up = |was: &config::Set, is: &config::Set| {
            let mut warmer = was.clone();
            for (was, is) in warmer.destinations.iter_mut().zip(&is.destinations) {
                if was.health != Health::Down && was.health.percent() < is.health.percent() {
                    was.health = is.health;
                }
            }
            warmer == *is
        };
        let mut both = sets.iter().zip(nexts);
        self.rules == next.rules
            && sets.len() == nexts.len()
            && both.all(|(was, is)| warms_up(was.definition(), is.definition()))
    }

    /// Whether `config` would make the same one again.
    pub(super) fn is_of(&self, config: &Config) -> bool {
        let sets = self.dispatcher.sets().iter();
        sets.map(|set| set.definition()).eq(&config.sets) && *self.rules == *config.routes
    }
}
