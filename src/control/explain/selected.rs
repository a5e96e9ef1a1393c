//! How the policy of a set chose.

use std::fmt;

use serde::Serialize;

use super::{NO_SECRET, lossy};
use crate::config::{Config, Destination, HashKey, Policy, text};
use crate::dispatcher::{SLOTS, kamailio_hash, slot_of};
use crate::proxy::{Datagram, Proxy, Selection};

/// How many destinations are shown to people, the first choice first.
const RANKED: usize = 10;

/// What `explain` says of it.
#[derive(Debug, Serialize)]
pub(super) struct Selected<'a> {
    set: &'a str,
    policy: &'static str,
    key: Key,
    hash: String,
    /// The place among all that the hash leads to.
    slot: Option<String>,
    ranked: Vec<Candidate<'a>>,
    secret_known: bool,
}

/// What is hashed.
#[derive(Debug, Serialize)]
struct Key {
    name: String,
    value: String,
}

/// A destination in the order in which the key would fall to it.
#[derive(Debug, Serialize)]
struct Candidate<'a> {
    destination: &'a str,
    weight: u32,
    priority: i32,
    /// What the policy compared, where it compares anything.
    score: Option<f64>,
    chosen: bool,
}

impl<'a> Selected<'a> {
    pub(super) fn of(
        config: &'a Config,
        proxy: &Proxy,
        datagram: &Datagram<'_>,
        selection: Selection,
        secret_known: bool,
    ) -> Self {
        let set = &config.sets[selection.set];
        let (octets, followed) = proxy.key(datagram, selection.set).unwrap_or_default();
        let (name, value) = match (followed, &set.hash_key) {
            (Some(header), _) => (format!("call-id in {header}"), lossy(&octets)),
            (None, HashKey::Source) => {
                let source = datagram.source.ip();
                ("source".to_owned(), source.to_string())
            }
            (None, key) => (text::hash_key_name(key), lossy(&octets)),
        };
        let value = text::printable(&value);
        let hash = format!("{:016x}", selection.hash);
        let (hash, slot) = match set.policy {
            Policy::Hash | Policy::Random => {
                let slot = slot_of(selection.hash);
                (hash, Some(format!("{slot} of {SLOTS}")))
            }
            Policy::Kamailio => {
                let (hash, n) = (kamailio_hash(&octets), set.destinations.len());
                let slot = format!("{} of {n}", hash as usize % n);
                (format!("{hash:08x}"), Some(slot))
            }
            Policy::RoundRobin => (hash, None),
        };
        let candidate = |index: usize, score| {
            let Destination {
                uri,
                weight,
                priority,
                ..
            } = &set.destinations[index];
            Candidate {
                destination: uri,
                weight: *weight,
                priority: *priority,
                score,
                chosen: index == selection.destination,
            }
        };
        let ranked = match set.policy {
            Policy::Hash | Policy::Random => proxy.dispatcher().sets()[selection.set]
                .rank(slot_of(selection.hash))
                .iter()
                .map(|ranked| candidate(ranked.destination, Some(ranked.score)))
                .collect(),
            Policy::Kamailio | Policy::RoundRobin => vec![candidate(selection.destination, None)],
        };
        Self {
            set: &set.name,
            policy: text::name(&set.policy),
            key: Key { name, value },
            hash,
            slot,
            ranked,
            secret_known,
        }
    }
}

/// The lines of the explanation.
impl fmt::Display for Selected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Key { name, value } = &self.key;
        writeln!(f, "set        {}, policy {}", self.set, self.policy)?;
        writeln!(f, "key        {name} {value}")?;
        writeln!(f, "hash       {}", self.hash)?;
        if let Some(slot) = &self.slot {
            writeln!(f, "slot       {slot}")?;
        }
        for (rank, candidate) in self.ranked.iter().take(RANKED).enumerate() {
            let label = if rank == 0 { "ranked" } else { "" };
            writeln!(f, "{label:<10} {}. {candidate}", rank + 1)?;
        }
        if let more @ 1.. = self.ranked.len().saturating_sub(RANKED) {
            writeln!(f, "           … {more} more")?;
        }
        if !self.secret_known {
            writeln!(f, "           ({NO_SECRET})")?;
        }
        Ok(())
    }
}

impl fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            destination,
            weight,
            priority,
            score,
            chosen,
        } = self;
        write!(f, "{destination}  weight {weight}  priority {priority}")?;
        if let Some(score) = score {
            write!(f, "  score {score:.4}")?;
        }
        f.write_str(if *chosen { "  <- chosen" } else { "" })
    }
}
