//! Whether a request is relayed with a transaction, and where it goes when a
//! destination fails, as people are told.

use std::fmt;

use serde::{Serialize, Serializer};

use super::Decider;
use crate::config::{Config, Destination, OnFailure};
use crate::proxy::{Datagram, Decision, Forward, Part, Proxy, Role, Selection, Way};
use crate::sip::{self, StartLine};

/// Other destinations that are told at most; no transaction tries more.
const TOLD: usize = 7;

/// How a request is relayed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum How {
    /// With a transaction of its own.
    Stateful,
    /// With that of the request that it cancels or acknowledges, if there is
    /// one.
    WithRequest,
    Stateless,
}

/// What `explain` says of it.
#[derive(Debug, Serialize)]
pub(super) struct Relayed<'a> {
    relay: How,
    failover: Option<Failover<'a>>,
    /// Why no other destination is tried, where a transaction cannot.
    alone: Option<&'static str>,
    /// The rules that its failure can come to.
    rules: Vec<Rule<'a>>,
}

/// When other destinations are tried, beside one that cannot be reached.
#[derive(Debug, Serialize)]
struct Failover<'a> {
    /// After this silence; `None`: it could be done twice.
    silent_ms: Option<u128>,
    /// After these final responses.
    status: &'a [u16],
    /// In this order.
    then: Vec<&'a str>,
}

#[derive(Debug)]
struct Rule<'a> {
    rule: &'a OnFailure,
    config: &'a Config,
}

impl Serialize for Rule<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { rule, config } = self;
        let told = serde_json::json!({
            "status": rule.statuses,
            "set": config.sets[rule.set].name,
            "request_uri": rule.request_uri,
        });
        told.serialize(serializer)
    }
}

impl<'a> Relayed<'a> {
    /// `None` for what is no request, or is not relayed.
    pub(super) fn of(
        config: &'a Config,
        proxy: &Proxy,
        datagram: &Datagram<'_>,
        decision: Decision,
        part: Option<Part>,
    ) -> Option<Self> {
        let message = sip::scan(datagram.bytes).ok()?;
        let StartLine::Request { method, .. } = message.start else {
            return None;
        };
        let method = method.of(message.bytes);
        let stateful = &config.stateful;
        let forward = match decision {
            Decision::Forward(forward) => Some(forward),
            Decision::Resolve => None,
            Decision::Reply(_) | Decision::Drop(_) => return None,
        };
        let mut relayed = Self {
            relay: How::Stateless,
            failover: None,
            alone: None,
            rules: Vec::new(),
        };
        match Role::of(stateful, method) {
            Some(Role::Cancel | Role::Ack) => relayed.relay = How::WithRequest,
            // One that could not be answered begins none.
            Some(Role::Request(chosen)) if forward.is_none() || part.is_some() => {
                relayed.relay = How::Stateful;
                match forward {
                    _ if message.has_to_tag() => relayed.alone = Some("its dialog is there"),
                    Some(Forward {
                        way: Way::Selected(selection),
                        ..
                    }) => {
                        relayed.failover = Some(Failover {
                            silent_ms: (chosen.repeatable)
                                .then_some(stateful.failover_after.as_millis()),
                            status: &stateful.failover_status,
                            then: others(config, proxy, datagram, selection),
                        });
                        if chosen.invite {
                            relayed.rules = rules(config, selection.set);
                        }
                    }
                    _ => relayed.alone = Some("no policy chose: it names where it goes"),
                }
            }
            _ => {}
        }
        Some(relayed)
    }

    /// An INVITE for which `set` has no destination, but a rule.
    pub(super) fn elsewhere(config: &'a Config, set: usize) -> Self {
        Self {
            relay: How::Stateful,
            failover: None,
            alone: Some("none takes new work"),
            rules: rules(config, set),
        }
    }
}

/// The other destinations in the order in which they are tried.
fn others<'a>(
    config: &'a Config,
    proxy: &Proxy,
    datagram: &Datagram<'_>,
    selection: Selection,
) -> Vec<&'a str> {
    let Selection {
        set,
        hash,
        destination,
    } = selection;
    let (key, _) = proxy.key(datagram, set).unwrap_or_default();
    let destinations = &config.sets[set].destinations;
    let mut passed = vec![destinations[destination].address];
    let mut others = Vec::new();
    while others.len() < TOLD {
        let is_passed = |each: &Destination| passed.contains(&each.address);
        let next = proxy.dispatcher().sets()[set].next(hash, &key, is_passed);
        let Some(next) = next else { break };
        passed.push(destinations[next].address);
        others.push(&*destinations[next].uri);
    }
    others
}

fn applies(rule: &OnFailure, set: usize) -> bool {
    rule.from_sets.is_empty() || rule.from_sets.contains(&set)
}

/// The set that a rule has try what `set` has no destination for: that is as
/// good as a 503.
fn leads_to(config: &Config, set: usize) -> Option<usize> {
    let mut rules = config.stateful.on_failure.iter();
    let rule = rules.find(|rule| applies(rule, set) && rule.statuses.contains(&503));
    rule.map(|rule| rule.set)
}

/// The set that has no destination for the request that was decided last, and the
/// one that a failure rule has it tried in then, instead of the reply.
#[must_use]
pub fn unplaced(config: &Config, decider: &Decider) -> Option<(usize, usize)> {
    match decider.part() {
        Some(Part::Unplaced(_, set)) => leads_to(config, set).map(|next| (set, next)),
        _ => None,
    }
}

/// The rules for failures of `set`, and for those of the sets that they lead
/// to, in the order of the file.
fn rules(config: &Config, set: usize) -> Vec<Rule<'_>> {
    let rules = &config.stateful.on_failure;
    let mut reached = vec![set];
    let mut at = 0;
    while at < reached.len() {
        let from = reached[at];
        for rule in rules.iter().filter(|rule| applies(rule, from)) {
            if !reached.contains(&rule.set) {
                reached.push(rule.set);
            }
        }
        at += 1;
    }
    let possible = rules
        .iter()
        .filter(|rule| reached.iter().any(|set| applies(rule, *set)));
    possible.map(|rule| Rule { rule, config }).collect()
}

/// The lines of the explanation.
impl fmt::Display for Relayed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.relay {
            How::Stateful => "stateful",
            How::WithRequest => {
                "with the transaction of its request, or stateless where there is none"
            }
            How::Stateless => "stateless",
        };
        writeln!(f, "relay      {how}")?;
        if let Some(why) = self.alone {
            writeln!(f, "next       no other destination: {why}")?;
        }
        if let Some(failover) = &self.failover {
            writeln!(f, "next       {failover}")?;
        }
        for Rule { rule, config } in &self.rules {
            writeln!(f, "on failure {}", rule.text(&config.sets))?;
        }
        Ok(())
    }
}

impl fmt::Display for Failover<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.then.is_empty() {
            return f.write_str("no other destination: the set has none");
        }
        write!(f, "{} (when it is unreachable", self.then.join(", then "))?;
        if let Some(time) = self.silent_ms {
            write!(f, ", silent for {time} ms")?;
        }
        for status in self.status {
            write!(f, ", answers {status}")?;
        }
        f.write_str(")")
    }
}
