//! The effective configuration as TOML: loaded again, it gives the same
//! [`Config`].

use std::fmt::{self, Write};
use std::path::Path;
use std::time::Duration;

use toml::{Table, Value};

use super::stateful::TIMERS;
use super::text;
use super::{
    Accounting, Admin, Config, Destination, HashKey, Listener, Log, Member, Mirror, Named,
    OnFailure, Policy, Probe, Route, Set, State, Stateful, Timers,
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
        write_listener(out, listener)?;
    }
    for set in &config.sets {
        write_set(out, set)?;
    }
    config
        .routes
        .iter()
        .try_for_each(|route| write_route(out, config, route))
}

/// All but listeners, sets and routes: each key of the file and its value,
/// where it has one. The keys are always the same; tables come last.
pub(super) fn settings(config: &Config) -> Vec<(&'static str, Option<Value>)> {
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
    writeln!(out, "\n[[set]]")?;
    writeln!(out, "name = {}", string(&set.name))?;
    writeln!(out, "policy = {}", string(text::name(&set.policy)))?;
    // The other policies would warn of a key that has no effect.
    if set.policy == Policy::Hash || set.hash_key != HashKey::CallId {
        let key = text::hash_key_name(&set.hash_key);
        writeln!(out, "hash-key = {}", string(&key))?;
    }
    let when = text::name(&set.when_all_down);
    writeln!(out, "when-all-down = {}", string(when))?;
    let common = common_probe(set);
    writeln!(out, "health = {}", health_value(common.as_ref()))?;
    writeln!(out, "destinations = [")?;
    let destinations = set.destinations.iter().map(Entry::of_destination);
    for entry in destinations.chain(set.named.iter().map(Entry::of_name)) {
        writeln!(out, "    {},", entry.value(common.as_ref()))?;
    }
    writeln!(out, "]")?;
    if !set.member_sources.is_empty() {
        writeln!(out, "member-sources = {}", list(&set.member_sources))?;
    }
    Ok(())
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

fn write_listener(out: &mut String, listener: &Listener) -> fmt::Result {
    writeln!(out, "\n[[listener]]")?;
    writeln!(out, "name = {}", string(&listener.name))?;
    writeln!(out, "address = {}", string(&listener.address.to_string()))?;
    if let Some(advertise) = &listener.advertise {
        writeln!(out, "advertise = {}", string(&advertise.to_string()))?;
    }
    if !listener.also_known_as.is_empty() {
        writeln!(out, "also-known-as = {}", list(&listener.also_known_as))?;
    }
    if !listener.proxy_protocol.is_empty() {
        writeln!(out, "proxy-protocol = {}", list(&listener.proxy_protocol))?;
    }
    writeln!(out, "record-route = {}", listener.record_route)?;
    writeln!(out, "path = {}", listener.path)?;
    if !listener.egress.is_empty() {
        writeln!(out, "egress = {}", list(&listener.egress))?;
    }
    Ok(())
}

/// A member of a set, whether it is given by address or by name.
struct Entry<'c> {
    uri: &'c str,
    weight: Option<u32>,
    priority: i32,
    state: State,
    probe: Option<&'c Probe>,
}

impl<'c> Entry<'c> {
    fn of_destination(destination: &'c Destination) -> Self {
        Self {
            uri: &destination.uri,
            weight: Some(destination.weight).filter(|weight| *weight != 1),
            priority: destination.priority,
            state: destination.state,
            probe: destination.probe.as_deref(),
        }
    }

    fn of_name(named: &'c Named) -> Self {
        Self {
            uri: &named.uri,
            weight: named.weight,
            priority: named.priority,
            state: named.state,
            probe: named.probe.as_deref(),
        }
    }

    /// Whether nothing has become of it but what its URI says.
    fn is_as(&self, written: &Member) -> bool {
        let weight = self.weight.unwrap_or(1);
        written.weight.is_none_or(|said| said == weight)
            && written.priority.is_none_or(|said| said == self.priority)
            && written.state.is_none_or(|said| said == self.state)
    }

    /// The URI alone where it says all, else a table with what it leaves out;
    /// the set says how its members are probed in `common`.
    fn value(&self, common: Option<&Probe>) -> Value {
        let written = text::member(self.uri).ok();
        let written = written.as_ref().filter(|written| self.is_as(written));
        let uri = match written {
            Some(_) => string(self.uri),
            None => string(&text::bare_member(self.uri)),
        };
        let mut table = Table::new();
        let mut add = |key: &str, value| table.insert(key.to_owned(), value);
        let in_uri = written.is_some_and(|written| written.weight.is_some());
        if let Some(weight) = self.weight.filter(|_| !in_uri) {
            add("weight", weight.into());
        }
        if written.is_none_or(|w| w.priority.is_none()) && self.priority != 0 {
            add("priority", self.priority.into());
        }
        if written.is_none_or(|w| w.state.is_none()) && self.state != State::Active {
            add("state", string(text::name(&self.state)));
        }
        if self.probe != common {
            add("health", health_value(self.probe));
        }
        if table.is_empty() {
            return uri;
        }
        table.insert("uri".to_owned(), uri);
        Value::Table(table)
    }
}

fn write_route(out: &mut String, config: &Config, route: &Route) -> fmt::Result {
    let listeners = route
        .listeners
        .iter()
        .map(|index| &config.listeners[*index].name);
    let conditions = [
        ("method", list_or_none(&route.methods)),
        ("host", list_or_none(&route.hosts)),
        ("user-prefix", list_or_none(&route.user_prefixes)),
        ("source", list_or_none(&route.sources)),
        ("listener", list_or_none(listeners)),
    ];
    writeln!(out, "\n[[route]]")?;
    writeln!(out, "set = {}", string(&config.sets[route.set].name))?;
    for (key, values) in conditions {
        if let Some(values) = values {
            writeln!(out, "{key} = {values}")?;
        }
    }
    if let Some(record_route) = route.record_route {
        writeln!(out, "record-route = {record_route}")?;
    }
    if route.follow_replaces {
        writeln!(out, "follow = \"replaces\"")?;
    }
    Ok(())
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
