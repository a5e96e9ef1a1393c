//! Which keys differ between two configurations, and what brings each into
//! effect.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Config, Listener, Log, OnFailure, Probe, Set, Stateful};

/// The keys in which two configurations differ, as files name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DifferingKeys {
    /// Those that a reload brings into effect, but destinations, policies, hash
    /// keys and routes: of these it matters how they differ.
    pub at_reload: BTreeSet<&'static str>,
    /// Those that only a start can bring into effect.
    pub at_start: Vec<&'static str>,
}

/// A key, and whether what it stands for differs.
type Key = (&'static str, bool);

/// The keys in which `asked` differs from `running`. Both are as loaded, not as
/// bound.
pub fn differing_keys(running: &Config, asked: &Config) -> DifferingKeys {
    // Whole, so that a new setting cannot be forgotten here.
    let Config {
        listeners,
        sets,
        routes: _,
        allowed_next_hops,
        workers,
        steer,
        pin,
        batch,
        gso,
        coalesce,
        spin,
        receive_buffer,
        send_buffer,
        secret_file,
        reply_rate,
        resolve,
        resolvers,
        second_chance,
        stateful,
        admin,
        mirror,
        log,
        stop_timeout,
    } = running;
    let Stateful {
        methods,
        transactions,
        timers,
        failover_after,
        failover_status,
        retry_after_cap,
        ring_timeout,
        on_failure: _,
        accounting,
    } = stateful;
    let Log { format, level } = log;
    let now = &asked.stateful;
    let at_start = [
        ("listener", !alike(listeners, &asked.listeners)),
        ("workers", *workers != asked.workers),
        ("steer", *steer != asked.steer),
        ("pin", *pin != asked.pin),
        ("batch", *batch != asked.batch),
        ("gso", *gso != asked.gso),
        ("coalesce-us", *coalesce != asked.coalesce),
        ("spin-us", *spin != asked.spin),
        ("receive-buffer", *receive_buffer != asked.receive_buffer),
        ("send-buffer", *send_buffer != asked.send_buffer),
        ("secret-file", *secret_file != asked.secret_file),
        ("reply-rate", *reply_rate != asked.reply_rate),
        ("resolve", *resolve != asked.resolve),
        ("resolver", *resolvers != asked.resolvers),
        ("stateful", *methods != now.methods),
        ("transactions", *transactions != now.transactions),
        ("admin", *admin != asked.admin),
        ("mirror", *mirror != asked.mirror),
        ("log.format", *format != asked.log.format),
        ("accounting", *accounting != now.accounting),
    ];
    let names = |set: &Set| set.name.clone();
    let in_order = sets.iter().map(names).eq(asked.sets.iter().map(names));
    let (sets, others) = (by_name(sets), by_name(&asked.sets));
    let at_reload = [
        (
            "allow-next-hop",
            *allowed_next_hops != asked.allowed_next_hops,
        ),
        ("failover-after", *failover_after != now.failover_after),
        ("failover-status", *failover_status != now.failover_status),
        ("log.level", *level != asked.log.level),
        (
            "on-failure",
            !failure_rules(running).eq(failure_rules(asked)),
        ),
        ("retry-after-cap", *retry_after_cap != now.retry_after_cap),
        ("ring-timeout", *ring_timeout != now.ring_timeout),
        ("second-chance-s", *second_chance != asked.second_chance),
        // The first one takes what no route claims.
        ("set", !in_order),
        ("stop-timeout", *stop_timeout != asked.stop_timeout),
        ("timers", *timers != now.timers),
    ];
    let in_both = sets
        .iter()
        .filter_map(|(name, set)| Some((*set, *others.get(name)?)));
    let of_sets = in_both.flat_map(|(set, other)| of_set(set, other));
    let listeners = listeners.iter().zip(&asked.listeners);
    let of_listeners = listeners.flat_map(|(listener, other)| of_listener(listener, other));
    DifferingKeys {
        at_reload: differing(at_reload.into_iter().chain(of_sets).chain(of_listeners)),
        at_start: differing(at_start),
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

/// A failure rule by the names of its sets, which may stand elsewhere.
type Rule<'c> = (&'c [u16], &'c str, Option<&'c str>, Vec<&'c str>);

fn failure_rules(config: &Config) -> impl Iterator<Item = Rule<'_>> {
    let name = |set: &usize| config.sets[*set].name.as_str();
    config.stateful.on_failure.iter().map(move |rule| {
        let OnFailure {
            statuses,
            set,
            request_uri,
            from_sets,
        } = rule;
        let from = from_sets.iter().map(name).collect();
        (&statuses[..], name(set), request_uri.as_deref(), from)
    })
}
