//! The effective configuration as TOML: loaded again, it gives the same
//! [`Config`].

use std::fmt::{self, Write};
use std::time::Duration;

use toml::{Table, Value};

use super::stateful::TIMERS;
use super::text;
use super::{
    Config, Destination, HashKey, Listener, Member, Named, Policy, Probe, Route, Set, State,
};

/// Writes every setting, whether it was given or is a default.
pub fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    write_config(&mut out, config).expect("invariant: writing to a String does not fail");
    out
}

fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    writeln!(out, "workers = {}", config.workers)?;
    let steer = text::name(&config.steer);
    writeln!(out, "steer = {}", string(steer))?;
    writeln!(out, "pin = {}", config.pin)?;
    writeln!(out, "batch = {}", config.batch)?;
    writeln!(out, "gso = {}", string(text::name(&config.gso)))?;
    writeln!(out, "coalesce-us = {}", config.coalesce.as_micros())?;
    writeln!(out, "spin-us = {}", config.spin.as_micros())?;
    writeln!(out, "receive-buffer = {}", config.receive_buffer)?;
    writeln!(out, "send-buffer = {}", config.send_buffer)?;
    writeln!(out, "reply-rate = {}", config.reply_rate)?;
    writeln!(out, "resolve = {}", config.resolve)?;
    writeln!(out, "resolver = {}", list(&config.resolvers))?;
    let second_chance = config.second_chance.as_secs();
    writeln!(out, "second-chance-s = {second_chance}")?;
    if let Some(path) = &config.secret_file {
        writeln!(out, "secret-file = {}", string(&path.to_string_lossy()))?;
    }
    writeln!(out, "allow-next-hop = {}", list(&config.allowed_next_hops))?;
    let stop_timeout = time(config.stop_timeout);
    writeln!(out, "stop-timeout = {stop_timeout}")?;
    write_stateful(out, config)?;
    write_operation(out, config)?;
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

/// The keys of the top level, and then the tables.
fn write_stateful(out: &mut String, config: &Config) -> fmt::Result {
    let stateful = &config.stateful;
    writeln!(out, "stateful = {}", list(&stateful.methods))?;
    writeln!(out, "transactions = {}", stateful.transactions)?;
    writeln!(out, "failover-after = {}", time(stateful.failover_after))?;
    writeln!(out, "failover-status = {:?}", stateful.failover_status)?;
    writeln!(out, "retry-after-cap = {}", time(stateful.retry_after_cap))?;
    writeln!(out, "ring-timeout = {}", time(stateful.ring_timeout))?;
    writeln!(out, "\n[timers]")?;
    let mut timers = stateful.timers;
    for (name, field) in TIMERS {
        writeln!(out, "{name} = {}", time(*field(&mut timers)))?;
    }
    if let Some(accounting) = &stateful.accounting {
        writeln!(out, "\n[accounting]")?;
        writeln!(out, "to = {}", string(&accounting.target.to_string()))?;
        if !accounting.methods.is_empty() {
            writeln!(out, "methods = {}", list(&accounting.methods))?;
        }
    }
    let name = |set: &usize| config.sets[*set].name.as_str();
    for rule in &stateful.on_failure {
        writeln!(out, "\n[[on-failure]]")?;
        writeln!(out, "status = {:?}", rule.statuses)?;
        writeln!(out, "set = {}", string(name(&rule.set)))?;
        if let Some(uri) = &rule.request_uri {
            writeln!(out, "request-uri = {}", string(uri))?;
        }
        if !rule.from_sets.is_empty() {
            let names = rule.from_sets.iter().map(name);
            writeln!(out, "from-set = {}", list(names))?;
        }
    }
    Ok(())
}

fn write_operation(out: &mut String, config: &Config) -> fmt::Result {
    let Config {
        admin, mirror, log, ..
    } = config;
    writeln!(out, "\n[admin]")?;
    if let Some(socket) = &admin.socket {
        writeln!(out, "socket = {}", string(&socket.to_string_lossy()))?;
    }
    writeln!(out, "listen = {}", list(&admin.listen))?;
    if let Some(path) = &admin.token_file {
        writeln!(out, "token-file = {}", string(&path.to_string_lossy()))?;
    }
    if let Some(mirror) = mirror {
        writeln!(out, "\n[mirror]")?;
        writeln!(out, "to = {}", string(&mirror.to.to_string()))?;
        let sample = text::sample_name(mirror.sample);
        writeln!(out, "sample = {}", string(&sample))?;
        writeln!(out, "id = {}", mirror.id)?;
        if let Some(key) = &mirror.key {
            writeln!(out, "key = {}", string(key))?;
        }
    }
    writeln!(out, "\n[log]")?;
    let format = text::name(&log.format);
    writeln!(out, "format = {}", string(format))?;
    writeln!(out, "level = {}", string(text::name(&log.level)))
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
    let uris = [("from", &probe.from), ("request-uri", &probe.request_uri)];
    let uris = uris.into_iter().filter_map(|(key, uri)| {
        let uri = uri.as_deref()?;
        Some((key, string(uri)))
    });
    let table = [
        ("interval", time(probe.interval)),
        ("timeout", time(probe.timeout)),
        ("down-after", Value::from(probe.down_after)),
        ("up-after", Value::from(probe.up_after)),
        ("accept", list(&probe.accept)),
        ("slow-start", time(probe.slow_start)),
    ];
    let table = table.into_iter().chain(uris);
    Value::Table(table.map(|(key, value)| (key.to_owned(), value)).collect())
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
        ("method", list(&route.methods)),
        ("host", list(&route.hosts)),
        ("user-prefix", list(&route.user_prefixes)),
        ("source", list(&route.sources)),
        ("listener", list(listeners)),
    ];
    writeln!(out, "\n[[route]]")?;
    writeln!(out, "set = {}", string(&config.sets[route.set].name))?;
    for (key, values) in conditions {
        if values.as_array().is_some_and(|values| !values.is_empty()) {
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

fn list<T: ToString>(values: impl IntoIterator<Item = T>) -> Value {
    let strings = values
        .into_iter()
        .map(|value| Value::String(value.to_string()));
    Value::Array(strings.collect())
}

fn time(time: Duration) -> Value {
    Value::String(text::time_name(time))
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}
