//! Which keys differ between two configurations, and what brings each into
//! effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::effective::{Keys, of_listener, settings};
use super::{Config, Probe, Set};

/// The keys in which two configurations differ, as files name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingKeys {
    /// Those that a reload brings into effect, but destinations, policies, hash
    /// keys and routes: of these it matters how they differ.
    pub at_reload: BTreeSet<&'static str>,
    /// Those that only a start can bring into effect.
    pub at_start: Vec<&'static str>,
}

/// The settings that a reload brings into effect; all others need a start.
const AT_RELOAD: [&str; 10] = [
    "allow-next-hop",
    "failover-after",
    "failover-status",
    "log.level",
    "on-failure",
    "retry-after-cap",
    "ring-timeout",
    "second-chance-s",
    "stop-timeout",
    "timers",
];

/// Those of a listener, likewise; the others say what its socket is, and what our
/// Via says of it.
const OF_LISTENER_AT_RELOAD: [&str; 5] = [
    "also-known-as",
    "egress",
    "path",
    "proxy-protocol",
    "record-route",
];

/// A key, and whether what it stands for differs.
type Key = (&'static str, bool);

/// The keys in which `asked` differs from `running`. Both are as loaded, not as
/// bound.
pub fn differing_keys(running: &Config, asked: &Config) -> DifferingKeys {
    let settings = compared(settings(running), settings(asked));
    let (at_reload, at_start): (Vec<Key>, Vec<Key>) =
        settings.partition(|(key, _)| AT_RELOAD.contains(key));
    let listeners = running.listeners.iter().zip(&asked.listeners);
    let of_listeners = listeners.flat_map(|(was, is)| compared(of_listener(was), of_listener(is)));
    let (of_listeners, of_sockets): (Vec<Key>, Vec<Key>) =
        of_listeners.partition(|(key, _)| OF_LISTENER_AT_RELOAD.contains(key));
    let as_many = running.listeners.len() == asked.listeners.len();
    let sockets_differ = !as_many || of_sockets.iter().any(|(_, differs)| *differs);
    let sockets = ("listener", sockets_differ);
    let name = |set: &Set| set.name.clone();
    let in_order = (running.sets.iter().map(name)).eq(asked.sets.iter().map(name));
    // The first one takes what no route claims.
    let order = ("set", !in_order);
    let (sets, others) = (by_name(&running.sets), by_name(&asked.sets));
    let in_both = sets
        .iter()
        .filter_map(|(name, set)| Some((*set, *others.get(name)?)));
    let of_sets = in_both.flat_map(|(set, other)| of_set(set, other));
    let at_reload = at_reload.into_iter().chain([order]);
    DifferingKeys {
        at_reload: differing(at_reload.chain(of_sets).chain(of_listeners)),
        at_start: differing([sockets].into_iter().chain(at_start)),
    }
}

fn compared(running: Keys, asked: Keys) -> impl Iterator<Item = Key> {
    let both = running.into_iter().zip(asked);
    both.map(|((key, was), (_, is))| (key, was != is))
}

fn differing<C: FromIterator<&'static str>>(keys: impl IntoIterator<Item = Key>) -> C {
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}

fn by_name(sets: &[Set]) -> BTreeMap<&str, &Set> {
    sets.iter().map(|set| (set.name.as_str(), set)).collect()
}

/// The keys of a set, but those of which it matters how they differ.
fn of_set(running: &Set, asked: &Set) -> [Key; 3] {
    let Set {
        name: _,
        policy: _,
        hash_key: _,
        destinations,
        named,
        member_sources,
        when_all_down,
    } = running;
    let health = probed_otherwise(
        destinations.iter().map(|each| (each.address, &each.probe)),
        asked
            .destinations
            .iter()
            .map(|each| (each.address, &each.probe)),
    ) || probed_otherwise(
        named.iter().map(|each| (&each.name, &each.probe)),
        asked.named.iter().map(|each| (&each.name, &each.probe)),
    );
    [
        ("health", health),
        ("member-sources", *member_sources != asked.member_sources),
        ("when-all-down", *when_all_down != asked.when_all_down),
    ]
}

/// Whether one that both have is probed otherwise.
fn probed_otherwise<'c, K: Ord>(
    mut running: impl Iterator<Item = (K, &'c Option<Arc<Probe>>)>,
    asked: impl Iterator<Item = (K, &'c Option<Arc<Probe>>)>,
) -> bool {
    let asked: BTreeMap<_, _> = asked.collect();
    running.any(|(key, probe)| asked.get(&key).is_some_and(|other| *other != probe))
}
