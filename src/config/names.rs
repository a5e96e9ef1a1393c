//! The names of choices: how they are written, and how they are read.

use super::diagnostic::Fault;
use super::text::is_token;
use super::{Gso, HashKey, LogFormat, LogLevel, Policy, State, Steer, WhenAllDown};

const POLICIES: [(&str, Policy); 4] = [
    ("hash", Policy::Hash),
    ("kamailio", Policy::Kamailio),
    ("round-robin", Policy::RoundRobin),
    ("random", Policy::Random),
];
const HASH_KEYS: [(&str, HashKey); 5] = [
    ("call-id", HashKey::CallId),
    ("from-uri", HashKey::FromUri),
    ("to-uri", HashKey::ToUri),
    ("request-uri", HashKey::RequestUri),
    ("source", HashKey::Source),
];
const STEERS: [(&str, Steer); 2] = [("call-id", Steer::CallId), ("source", Steer::Source)];
const STATES: [(&str, State); 3] = [
    ("active", State::Active),
    ("draining", State::Draining),
    ("disabled", State::Disabled),
];
const GSO: [(&str, Gso); 3] = [("pad", Gso::Pad), ("exact", Gso::Exact), ("off", Gso::Off)];

const WHEN_ALL_DOWN: [(&str, WhenAllDown); 2] = [
    ("forward", WhenAllDown::Forward),
    ("reply", WhenAllDown::Reply),
];
const LOG_FORMATS: [(&str, LogFormat); 2] = [("text", LogFormat::Text), ("json", LogFormat::Json)];
const LOG_LEVELS: [(&str, LogLevel); 4] = [
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
];

/// Reads `active`, `draining` or `disabled`.
pub fn state(text: &str) -> Result<State, Fault> {
    one_of("state", text, &STATES)
}

/// How the policies are written.
pub fn policy_names() -> [&'static str; 4] {
    POLICIES.map(|(name, _)| name)
}

/// Reads the name of a policy.
pub fn policy(text: &str) -> Result<Policy, Fault> {
    one_of("policy", text, &POLICIES)
}

/// How the values of `gso` are written.
pub fn gso_names() -> [&'static str; 3] {
    GSO.map(|(name, _)| name)
}

/// Reads a value of `gso`.
pub fn gso(text: &str) -> Result<Gso, Fault> {
    one_of("value of gso", text, &GSO)
}

/// How a value of `gso` is written.
pub fn gso_name(gso: Gso) -> &'static str {
    name_of(&gso, &GSO)
}

/// How the values of `when-all-down` are written.
pub fn when_all_down_names() -> [&'static str; 2] {
    WHEN_ALL_DOWN.map(|(name, _)| name)
}

/// Reads a value of `when-all-down`.
pub fn when_all_down(text: &str) -> Result<WhenAllDown, Fault> {
    one_of("value of when-all-down", text, &WHEN_ALL_DOWN)
}

/// How a value of `when-all-down` is written.
pub fn when_all_down_name(choice: WhenAllDown) -> &'static str {
    name_of(&choice, &WHEN_ALL_DOWN)
}

/// How the forms of the log are written.
pub fn log_format_names() -> [&'static str; 2] {
    LOG_FORMATS.map(|(name, _)| name)
}

/// Reads the form of the log.
pub fn log_format(text: &str) -> Result<LogFormat, Fault> {
    one_of("format of the log", text, &LOG_FORMATS)
}

/// How the form of the log is written.
pub fn log_format_name(format: LogFormat) -> &'static str {
    name_of(&format, &LOG_FORMATS)
}

/// How the levels of the log are written.
pub fn log_level_names() -> [&'static str; 4] {
    LOG_LEVELS.map(|(name, _)| name)
}

/// Reads a level of the log.
pub fn log_level(text: &str) -> Result<LogLevel, Fault> {
    one_of("level of the log", text, &LOG_LEVELS)
}

/// How a level of the log is written.
pub fn log_level_name(level: LogLevel) -> &'static str {
    name_of(&level, &LOG_LEVELS)
}

/// Reads the name of what decides which worker a datagram goes to.
pub fn steer(text: &str) -> Result<Steer, Fault> {
    one_of("steering", text, &STEERS)
}

/// How what decides the worker is written.
pub fn steer_name(steer: Steer) -> &'static str {
    name_of(&steer, &STEERS)
}

/// Reads the name of what is hashed.
pub fn hash_key(text: &str) -> Result<HashKey, Fault> {
    match text.strip_prefix("header:") {
        Some(name) if is_token(name) => Ok(HashKey::Header(name.to_ascii_lowercase())),
        Some(name) => Err(Fault::new(format!("`{name}` is not the name of a header"))),
        None => one_of("hash key", text, &HASH_KEYS)
            .map_err(|fault| fault.or_help(|| "or `header:NAME`".to_owned())),
    }
}

fn one_of<T: Clone>(kind: &str, text: &str, known: &[(&str, T)]) -> Result<T, Fault> {
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let fault = Fault::new(format!("`{text}` is not a {kind}"));
    Err(fault
        .why(format!("known are {}", names.join(", ")))
        .suggest(text, &names))
}

/// How a policy is written.
pub fn policy_name(policy: Policy) -> &'static str {
    name_of(&policy, &POLICIES)
}

/// How a state is written.
#[must_use]
pub fn state_name(state: State) -> &'static str {
    name_of(&state, &STATES)
}

/// How a hash key is written.
pub fn hash_key_name(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("header:{name}"),
        other => name_of(other, &HASH_KEYS).to_owned(),
    }
}

fn name_of<T: PartialEq>(value: &T, known: &[(&'static str, T)]) -> &'static str {
    let entry = known.iter().find(|(_, known)| known == value);
    entry.expect("invariant: every value has a name").0
}
