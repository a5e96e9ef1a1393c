//! The effective configuration as TOML: loaded again, it gives the same
//! [`Config`].

use std::fmt::{self, Write};
use std::time::Duration;

use toml::{Table, Value};

use super::stateful::TIMERS;
use super::text;
use super::{Config, Destination, HashKey, Listener, Policy, Route, State};

/// Writes every setting, whether it was given or is a default.
pub fn to_toml(config: &Config) -> String {
    let mut out = String::new();
    write_config(&mut out, config).expect("invariant: writing to a String does not fail");
    out
}

fn write_config(out: &mut String, config: &Config) -> fmt::Result {
    writeln!(out, "workers = {}", config.workers)?;
    let steer = text::steer_name(config.steer);
    writeln!(out, "steer = {}", string(steer))?;
    writeln!(out, "pin = {}", config.pin)?;
    writeln!(out, "batch = {}", config.batch)?;
    writeln!(out, "gso = {}", string(text::gso_name(config.gso)))?;
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
    write_stateful(out, config)?;
    for listener in &config.listeners {
        write_listener(out, listener)?;
    }
    for set in &config.sets {
        writeln!(out, "\n[[set]]")?;
        writeln!(out, "name = {}", string(&set.name))?;
        writeln!(out, "policy = {}", string(text::policy_name(set.policy)))?;
        // The other policies would warn of a key that has no effect.
        if set.policy == Policy::Hash || set.hash_key != HashKey::CallId {
            let key = text::hash_key_name(&set.hash_key);
            writeln!(out, "hash-key = {}", string(&key))?;
        }
        writeln!(out, "destinations = [")?;
        for destination in &set.destinations {
            writeln!(out, "    {},", destination_value(destination))?;
        }
        writeln!(out, "]")?;
        if !set.member_sources.is_empty() {
            writeln!(out, "member-sources = {}", list(&set.member_sources))?;
        }
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

fn write_listener(out: &mut String, listener: &Listener) -> fmt::Result {
    writeln!(out, "\n[[listener]]")?;
    writeln!(out, "name = {}", string(&listener.name))?;
    writeln!(out, "address = {}", string(&listener.address.to_string()))?;
    if let Some(advertise) = &listener.advertise {
        writeln!(out, "advertise = {}", string(&advertise.to_string()))?;
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

/// The URI alone where it says all, else a table with what it leaves out.
fn destination_value(destination: &Destination) -> Value {
    let uri = Value::String(destination.uri.clone());
    let mut table = Table::new();
    let written = text::destination_text(&destination.uri).ok();
    let written = written.as_ref();
    if written.is_none_or(|w| w.weight.is_none()) && destination.weight != 1 {
        table.insert("weight".to_owned(), destination.weight.into());
    }
    if written.is_none_or(|w| w.priority.is_none()) && destination.priority != 0 {
        table.insert("priority".to_owned(), destination.priority.into());
    }
    if written.is_none_or(|w| w.state.is_none()) && destination.state != State::Active {
        let state = text::state_name(destination.state).to_owned();
        table.insert("state".to_owned(), Value::String(state));
    }
    if table.is_empty() {
        return uri;
    }
    table.insert("uri".to_owned(), uri);
    Value::Table(table)
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
