//! Which keys differ between two configurations, and what brings each into
//! effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::effective::settings;
use super::{Config, Listener, Probe, Set};

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

/// A key, and whether what it stands for differs.
type Key = (&'static str, bool);

/// The keys in which `asked` differs from `running`. Both are as loaded, not as
/// bound.
pub fn differing_keys(running: &Config, asked: &Config) -> DifferingKeys {
    let settings = settings(running).into_iter().zip(settings(asked));
    let settings = settings.map(|((key, was), (_, is))| (key, was != is));
    let (at_reload, at_start): (Vec<Key>, Vec<Key>) =
        settings.partition(|(key, _)| AT_RELOAD.contains(key));
    let sockets = ("listener", !alike(&running.listeners, &asked.listeners));
    let name = |set: &Set| set.name.clone();
    let in_order = (running.sets.iter().map(name)).eq(asked.sets.iter().map(name));
    // The first one takes what no route claims.
    let order = ("set", !in_order);
    let (sets, others) = (by_name(&running.sets), by_name(&asked.sets));
    let in_both = sets
        .iter()
        .filter_map(|(name, set)| Some((*set, *others.get(name)?)));
    let of_sets = in_both.flat_map(|(set, other)| of_set(set, other));
    let listeners = running.listeners.iter().zip(&asked.listeners);
    let of_listeners = listeners.flat_map(|(listener, other)| of_listener(listener, other));
    let at_reload = at_reload.into_iter().chain([order]);
    DifferingKeys {
        at_reload: differing(at_reload.chain(of_sets).chain(of_listeners)),
        at_start: differing([sockets].into_iter().chain(at_start)),
    }
}

fn differing<C: FromIterator<&'static str>>(keys: impl IntoIterator<Item = Key>) -> C {
    let differing = keys.into_iter().filter(|(_, differs)| *differs);
    differing.map(|(key, _)| key).collect()
}

fn by_name(sets: &[Set]) -> BTreeMap<&str, &Set> {
    sets.iter().map(|set| (set.name.as_str(), set)).collect()
}

/// Whether the sockets are the same, and what our Via says of them.
fn alike(running: &[Listener], asked: &[Listener]) -> bool {
    let fixed = |listener: &Listener| {
        let Listener {
            name,
            address,
            advertise,
            ..
        } = listener;
        (name.clone(), *address, advertise.clone())
    };
    running.iter().map(fixed).eq(asked.iter().map(fixed))
}

/// The keys of a listener that a reload brings into effect.
fn of_listener(running: &Listener, asked: &Listener) -> [Key; 5] {
    let Listener {
        name: _,
        address: _,
        advertise: _,
        also_known_as,
        proxy_protocol,
        record_route,
        path,
        egress,
    } = running;
    [
        ("also-known-as", *also_known_as != asked.also_known_as),
        ("proxy-protocol", *proxy_protocol != asked.proxy_protocol),
        ("record-route", *record_route != asked.record_route),
        ("path", *path != asked.path),
        ("egress", *egress != asked.egress),
    ]
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
