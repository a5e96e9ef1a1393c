//! The names of choices: how they are written, and how they are read.

use super::diagnostic::Fault;
use super::text::is_token;
use super::{Gso, HashKey, LogFormat, LogLevel, Policy, State, Steer, WhenAllDown};
use crate::sip::long_name;

/// A choice among values that have names.
pub trait Choice: Clone + PartialEq + Send + Sync + 'static {
    /// What a value is, for people.
    const KIND: &'static str;
    /// How each value is written.
    const NAMES: Names<Self>;
}

type Names<T> = &'static [(&'static str, T)];

impl Choice for Policy {
    const KIND: &'static str = "policy";
    const NAMES: Names<Self> = &[
        ("hash", Self::Hash),
        ("kamailio", Self::Kamailio),
        ("round-robin", Self::RoundRobin),
        ("random", Self::Random),
    ];
}

/// All but those that name a header.
impl Choice for HashKey {
    const KIND: &'static str = "hash key";
    const NAMES: Names<Self> = &[
        ("call-id", Self::CallId),
        ("from-uri", Self::FromUri),
        ("to-uri", Self::ToUri),
        ("request-uri", Self::RequestUri),
        ("from-user", Self::FromUser),
        ("to-user", Self::ToUser),
        ("request-user", Self::RequestUser),
        ("source", Self::Source),
    ];
}

impl Choice for Steer {
    const KIND: &'static str = "steering";
    const NAMES: Names<Self> = &[("call-id", Self::CallId), ("source", Self::Source)];
}

impl Choice for State {
    const KIND: &'static str = "state";
    const NAMES: Names<Self> = &[
        ("active", Self::Active),
        ("draining", Self::Draining),
        ("disabled", Self::Disabled),
    ];
}

impl Choice for Gso {
    const KIND: &'static str = "value of gso";
    const NAMES: Names<Self> = &[
        ("pad", Self::Pad),
        ("exact", Self::Exact),
        ("off", Self::Off),
    ];
}

impl Choice for WhenAllDown {
    const KIND: &'static str = "value of when-all-down";
    const NAMES: Names<Self> = &[("forward", Self::Forward), ("reply", Self::Reply)];
}

impl Choice for LogFormat {
    const KIND: &'static str = "format of the log";
    const NAMES: Names<Self> = &[("text", Self::Text), ("json", Self::Json)];
}

impl Choice for LogLevel {
    const KIND: &'static str = "level of the log";
    const NAMES: Names<Self> = &[
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
    ];
}

/// Reads the name of a value.
pub fn choice<T: Choice>(text: &str) -> Result<T, Fault> {
    if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| *name == text) {
        return Ok(value.clone());
    }
    let names: Vec<&str> = names::<T>().collect();
    let fault = Fault::new(format!("`{text}` is not a {}", T::KIND));
    Err(fault
        .why(format!("known are {}", names.join(", ")))
        .suggest(text, &names))
}

/// How a value is written.
#[must_use]
pub fn name<T: Choice>(value: &T) -> &'static str {
    let entry = T::NAMES.iter().find(|(_, known)| known == value);
    entry.expect("invariant: every value has a name").0
}

/// How the values are written.
pub fn names<T: Choice>() -> impl Iterator<Item = &'static str> {
    T::NAMES.iter().map(|(name, _)| *name)
}

/// Reads the name of what is hashed.
pub fn hash_key(text: &str) -> Result<HashKey, Fault> {
    match text.strip_prefix("header:") {
        Some(name) if is_token(name) => {
            // By the long form both are found.
            let name = long_name(name).unwrap_or(name);
            Ok(HashKey::Header(name.to_ascii_lowercase()))
        }
        Some(_) => Err(Fault::new(format!("`{text}` names no header"))
            .help("write its name behind `header:`, as `header:X-Account`")),
        None => choice(text).map_err(|fault| {
            let names: Vec<_> = names::<HashKey>().collect();
            fault.why(format!("known are {} and header:NAME", names.join(", ")))
        }),
    }
}

/// How a hash key is written.
pub fn hash_key_name(key: &HashKey) -> String {
    match key {
        HashKey::Header(name) => format!("header:{name}"),
        other => name(other).to_owned(),
    }
}
