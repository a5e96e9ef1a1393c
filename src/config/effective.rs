//! The effective configuration as TOML: loaded again, it gives the same
//! [`Config`].

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use toml::Value;

use super::stateful::TIMERS;
use super::text;
use super::{
    Accounting, Admin, Config, Destination, Listener, Log, Mirror, Named, OnFailure, Policy, Probe,
    Route, Set, State, Stateful, Timers,
};

/// Writes every setting, whether it was given or is a default.
pub fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    write_config(&mut out, config).expect("invariant: writing to a String does not fail");
    out
}

fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    for (key, value) in settings(config) {
        match value {
            Some(Value::Table(table)) => write!(out, "\n[{key}]\n{table}")?,
            Some(Value::Array(list)) if list.iter().any(Value::is_table) => {
                for table in list.iter().filter_map(Value::as_table) {
                    write!(out, "\n[[{key}]]\n{table}")?;
                }
            }
            Some(value) => writeln!(out, "{key} = {value}")?,
            None => {}
        }
    }
    for listener in &config.listeners {
        writeln!(out, "\n[[listener]]")?;
        write_keys(out, of_listener(listener))?;
    }
    for set in &config.sets {
        write_set(out, set)?;
    }
    for route in &config.routes {
        writeln!(out, "\n[[route]]")?;
        write_keys(out, of_route(config, route))?;
    }
    Ok(())
}

/// Keys of a file, each with its value where it has one.
pub(super) type Keys = Vec<(&'static str, Option<Value>)>;

fn write_keys(out: &mut String, keys: Keys) -> fmt::Result {
    let mut there = keys
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)));
    there.try_for_each(|(key, value)| writeln!(out, "{key} = {value}"))
}

/// All but listeners, sets and routes. The keys are always the same; tables
/// come last.
pub(super) fn settings(config: &Config) -> Keys {
    // Whole, so that a new setting cannot be forgotten here.
    let Config {
        listeners: _,
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
        log: Log { format, level },
        stop_timeout,
    } = config;
    let Stateful {
        methods,
        transactions,
        timers,
        failover_after,
        failover_status,
        retry_after_cap,
        ring_timeout,
        on_failure,
        accounting,
    } = stateful;
    let rules = on_failure.iter().map(|rule| failure_rule(rule, sets));
    let rules = Some(rules.collect()).filter(|rules: &Vec<_>| !rules.is_empty());
    vec![
        ("workers", Some(integer(*workers))),
        ("steer", Some(string(text::name(steer)))),
        ("pin", Some(Value::Boolean(*pin))),
        ("batch", Some(integer(*batch))),
        ("gso", Some(string(text::name(gso)))),
        ("coalesce-us", Some(integer(coalesce.as_micros()))),
        ("spin-us", Some(integer(spin.as_micros()))),
        ("receive-buffer", Some(integer(*receive_buffer))),
        ("send-buffer", Some(integer(*send_buffer))),
        ("reply-rate", Some(integer(*reply_rate))),
        ("resolve", Some(Value::Boolean(*resolve))),
        ("resolver", Some(list(resolvers))),
        ("second-chance-s", Some(integer(second_chance.as_secs()))),
        ("secret-file", secret_file.as_deref().map(path)),
        ("allow-next-hop", Some(list(allowed_next_hops))),
        ("stop-timeout", Some(time(*stop_timeout))),
        ("stateful", Some(list(methods))),
        ("transactions", Some(integer(*transactions))),
        ("failover-after", Some(time(*failover_after))),
        ("failover-status", Some(integers(failover_status))),
        ("retry-after-cap", Some(time(*retry_after_cap))),
        ("ring-timeout", Some(time(*ring_timeout))),
        ("log.format", Some(string(text::name(format)))),
        ("log.level", Some(string(text::name(level)))),
        ("timers", Some(timer_table(*timers))),
        ("accounting", accounting.as_ref().map(accounting_table)),
        ("on-failure", rules.map(Value::Array)),
        ("admin", Some(admin_table(admin))),
        ("mirror", mirror.as_ref().map(mirror_table)),
    ]
}

fn timer_table(mut timers: Timers) -> Value {
    table(TIMERS.map(|(name, field)| (name, Some(time(*field(&mut timers))))))
}

fn accounting_table(accounting: &Accounting) -> Value {
    table([
        ("to", Some(string(&accounting.target.to_string()))),
        ("methods", list_or_none(&accounting.methods)),
    ])
}

fn failure_rule(rule: &OnFailure, sets: &[Set]) -> Value {
    // By the names of the sets, which may stand elsewhere in another file.
    let name = |set: &usize| sets[*set].name.as_str();
    table([
        ("status", Some(integers(&rule.statuses))),
        ("set", Some(string(name(&rule.set)))),
        ("request-uri", rule.request_uri.as_deref().map(string)),
        ("from-set", list_or_none(rule.from_sets.iter().map(name))),
    ])
}

fn admin_table(admin: &Admin) -> Value {
    table([
        ("socket", admin.socket.as_deref().map(path)),
        ("listen", Some(list(&admin.listen))),
        ("token-file", admin.token_file.as_deref().map(path)),
    ])
}

fn mirror_table(mirror: &Mirror) -> Value {
    table([
        ("to", Some(string(&mirror.to.to_string()))),
        ("sample", Some(string(&text::sample_name(mirror.sample)))),
        ("id", Some(integer(mirror.id))),
        ("key", mirror.key.as_deref().map(string)),
    ])
}

fn write_set(out: &mut String, set: &Set) -> fmt::Result {
    let Set {
        name,
        policy,
        hash_key,
        destinations,
        member_sources,
        named,
        when_all_down,
    } = set;
    // The other policies have no choice.
    let chosen = *policy == Policy::Hash;
    let hash_key = chosen.then(|| string(&text::hash_key_name(hash_key)));
    let common = common_probe(set);
    writeln!(out, "\n[[set]]")?;
    let keys = vec![
        ("name", Some(string(name))),
        ("policy", Some(string(text::name(policy)))),
        ("hash-key", hash_key),
        ("when-all-down", Some(string(text::name(when_all_down)))),
        ("health", Some(health_value(common.as_ref()))),
    ];
    write_keys(out, keys)?;
    writeln!(out, "destinations = [")?;
    let destinations = destinations.iter().map(|destination| {
        let mut entry = Entry::of_destination(destination);
        // What a name stands for has its URI, but a state of its own.
        if named.iter().any(|named| named.uri == destination.uri) {
            entry.uri = destination.address.to_string();
        }
        entry
    });
    for entry in destinations.chain(named.iter().map(Entry::of_name)) {
        writeln!(out, "    {},", entry.value(common.as_ref()))?;
    }
    writeln!(out, "]")?;
    write_keys(out, vec![("member-sources", list_or_none(member_sources))])
}

/// What a set can say of the probes of its members: what the first of them
/// says. A member cannot take back a URI, so that one is left to the members
/// where not all have it.
fn common_probe(set: &Set) -> Option<Probe> {
    let destinations = set.destinations.iter().map(|each| &each.probe);
    let all = destinations.chain(set.named.iter().map(|each| &each.probe));
    let mut probes = all.filter_map(Option::as_deref);
    let mut common = probes.next()?.clone();
    for probe in probes {
        common.from = common.from.filter(|_| probe.from.is_some());
        common.request_uri = common.request_uri.filter(|_| probe.request_uri.is_some());
    }
    Some(common)
}

fn health_value(probe: Option<&Probe>) -> Value {
    let Some(probe) = probe else {
        return string("off");
    };
    table([
        ("interval", Some(time(probe.interval))),
        ("timeout", Some(time(probe.timeout))),
        ("down-after", Some(integer(probe.down_after))),
        ("up-after", Some(integer(probe.up_after))),
        ("accept", Some(list(&probe.accept))),
        ("from", probe.from.as_deref().map(string)),
        ("request-uri", probe.request_uri.as_deref().map(string)),
        ("slow-start", Some(time(probe.slow_start))),
    ])
}

/// What is said of a listener; the keys are always the same.
pub(super) fn of_listener(listener: &Listener) -> Keys {
    let Listener {
        name,
        address,
        advertise,
        also_known_as,
        proxy_protocol,
        record_route,
        path,
        egress,
    } = listener;
    let advertise = advertise.as_ref().map(ToString::to_string);
    vec![
        ("name", Some(string(name))),
        ("address", Some(string(&address.to_string()))),
        ("advertise", advertise.as_deref().map(string)),
        ("also-known-as", list_or_none(also_known_as)),
        ("proxy-protocol", list_or_none(proxy_protocol)),
        ("record-route", Some(Value::Boolean(*record_route))),
        ("path", Some(Value::Boolean(*path))),
        ("egress", list_or_none(egress)),
    ]
}

/// A member of a set, whether it is given by address or by name.
struct Entry<'c> {
    uri: String,
    weight: Option<u32>,
    priority: i32,
    state: State,
    probe: Option<&'c Probe>,
}

impl<'c> Entry<'c> {
    fn of_destination(destination: &'c Destination) -> Self {
        Self {
            uri: destination.uri.clone(),
            weight: Some(destination.weight).filter(|weight| *weight != 1),
            priority: destination.priority,
            state: destination.state,
            probe: destination.probe.as_deref(),
        }
    }

    fn of_name(named: &'c Named) -> Self {
        Self {
            uri: named.uri.clone(),
            weight: named.weight,
            priority: named.priority,
            state: named.state,
            probe: named.probe.as_deref(),
        }
    }

    /// The URI alone where it says all, else a table; the set says how its
    /// members are probed in `common`.
    fn value(self, common: Option<&Probe>) -> Value {
        let Self {
            uri,
            weight,
            priority,
            state,
            probe,
        } = self;
        let uri = Value::String(uri);
        let said = [
            ("weight", weight.map(integer)),
            ("priority", (priority != 0).then(|| integer(priority))),
            (
                "state",
                (state != State::Active).then(|| string(text::name(&state))),
            ),
            ("health", (probe != common).then(|| health_value(probe))),
        ];
        match said.iter().any(|(_, value)| value.is_some()) {
            true => table(said.into_iter().chain([("uri", Some(uri))])),
            false => uri,
        }
    }
}

fn of_route(config: &Config, route: &Route) -> Keys {
    let Route {
        set,
        methods,
        hosts,
        user_prefixes,
        sources,
        listeners,
        record_route,
        follow_replaces,
    } = route;
    let listeners = listeners.iter().map(|index| &config.listeners[*index].name);
    vec![
        ("set", Some(string(&config.sets[*set].name))),
        ("method", list_or_none(methods)),
        ("host", list_or_none(hosts)),
        ("user-prefix", list_or_none(user_prefixes)),
        ("source", list_or_none(sources)),
        ("listener", list_or_none(listeners)),
        ("record-route", record_route.map(Value::Boolean)),
        ("follow", follow_replaces.then(|| string("replaces"))),
    ]
}

/// The keys that have a value.
fn table(keys: impl IntoIterator<Item = (&'static str, Option<Value>)>) -> Value {
    let keys = keys.into_iter();
    let there = keys.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    Value::Table(there.collect())
}

fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Value {
    let strings = values.into_iter().map(|value| string(&value.to_string()));
    Value::Array(strings.collect())
}

fn list_or_none<T: ToString>(values: impl IntoIterator<Item = T>) -> Option<Value> {
    Some(list(values)).filter(|list| list.as_array().is_some_and(|list| !list.is_empty()))
}

fn integers(values: &[u16]) -> Value {
    Value::Array(values.iter().copied().map(integer).collect())
}

fn integer(value: impl TryInto<i64, Error: fmt::Debug>) -> Value {
    let value = value.try_into();
    Value::Integer(value.expect("invariant: no setting is that large"))
}

fn time(time: Duration) -> Value {
    Value::String(text::time_name(time))
}

fn path(path: &Path) -> Value {
    string(&path.to_string_lossy())
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}
