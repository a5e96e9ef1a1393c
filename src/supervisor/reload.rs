//! Another configuration for a running instance: whole, or not at all.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Instance;
use crate::config::{Config, Destination, needs_restart};
use crate::proxy::Proxy;

/// What a reload has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The number of the generation that decides now.
    pub generation: u64,
    /// Destinations that came, left, and have another weight, priority or
    /// state, each counted in each of its sets.
    pub destinations: [usize; 3],
}

/// The keys that only a start can bring into effect; nothing has changed.
#[derive(Debug, PartialEq, Eq)]
pub struct NeedsRestart(pub Vec<&'static str>);

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation,
            destinations: [added, removed, changed],
        } = self;
        write!(
            f,
            "reloaded: generation {generation}, destinations: {added} added, {removed} removed, \
             {changed} changed"
        )
    }
}

impl fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<_> = self.0.iter().map(|key| format!("`{key}`")).collect();
        write!(
            f,
            "reload refused, the configuration of before stays: a start alone can change {}\n  \
             help: restart, or take {} back and reload again",
            keys.join(", "),
            if keys.len() == 1 { "it" } else { "them" }
        )
    }
}

impl std::error::Error for NeedsRestart {}

impl Instance {
    /// Decides by `asked` from the next batch of each worker on. What was
    /// decided before is remembered for its second chance.
    ///
    /// # Errors
    /// [`NeedsRestart`], and nothing has changed then.
    pub fn reload(&mut self, asked: Config) -> Result<Reloaded, NeedsRestart> {
        let differs = needs_restart(&self.asked, &asked);
        if !differs.is_empty() {
            return Err(NeedsRestart(differs));
        }
        let mut config = asked.clone();
        // A port 0 was bound to a real one.
        for (listener, bound) in config.listeners.iter_mut().zip(&self.config.listeners) {
            listener.name.clone_from(&bound.name);
            listener.address = bound.address;
        }
        let before = self.proxy().generation();
        let proxy = self.proxy().successor(&config);
        let reloaded = Reloaded {
            generation: proxy.generation(),
            destinations: changes(&self.config, &config),
        };
        if reloaded.generation != before {
            self.retired
                .push_back((reloaded.generation, Instant::now()));
        }
        self.asked = asked;
        self.config = config;
        self.publish(proxy);
        Ok(reloaded)
    }

    /// When the oldest former generation has had its time; `None`: never.
    pub(super) fn next_to_forget(&self) -> Option<Duration> {
        let (_, since) = self.retired.front()?;
        Some(self.config.second_chance.saturating_sub(since.elapsed()))
    }

    /// Forgets former generations that have had their time.
    pub(super) fn forget_former(&mut self) {
        self.publish(self.proxy().clone());
    }

    /// Has the workers decide by `proxy`, without what has had its time.
    fn publish(&mut self, mut proxy: Proxy) {
        while self.next_to_forget() == Some(Duration::ZERO)
            && let Some((successor, _)) = self.retired.pop_front()
        {
            proxy = proxy.without_formers_before(successor);
        }
        self.snapshot = Arc::new(self.snapshot.successor(proxy));
        self.shared.latest.store(Arc::clone(&self.snapshot));
    }
}

/// Destinations added, removed, and changed.
fn changes(before: &Config, now: &Config) -> [usize; 3] {
    let (before, now) = (destinations(before), destinations(now));
    let differs = |(place, destination): (&_, &&Destination)| {
        let other: Option<&&Destination> = before.get(place);
        other.is_some_and(|other| {
            (other.weight, other.priority, other.state)
                != (destination.weight, destination.priority, destination.state)
        })
    };
    [
        now.keys()
            .filter(|place| !before.contains_key(place))
            .count(),
        before
            .keys()
            .filter(|place| !now.contains_key(place))
            .count(),
        now.iter().filter(|each| differs(*each)).count(),
    ]
}

fn destinations(config: &Config) -> BTreeMap<(&str, SocketAddr), &Destination> {
    let sets = config.sets.iter();
    let each = sets.flat_map(|set| {
        let destinations = set.destinations.iter();
        destinations.map(|each| ((set.name.as_str(), each.address), each))
    });
    each.collect()
}
