//! What is so at one moment: for the API, `viaduct ctl`, the terminal view and
//! the status page alike.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::lock;
use super::view::{Facts, View};
use crate::config::{Destination, Health, HostPort, Named, State, text};
use crate::dispatcher::Set;
use crate::health::Probed;
use crate::worker::{DestinationTotals, Totals};

/// A running instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The version of the program.
    pub version: String,
    /// The number of its process.
    pub pid: u32,
    /// When it was started, in Unix seconds: the same for as long as it runs.
    pub started: f64,
    /// Seconds since it was started, whatever the clock is set to meanwhile:
    /// two of them give a rate.
    pub uptime_seconds: f64,
    /// When all this was so, in Unix seconds.
    pub time: f64,
    /// Whether it takes new work.
    pub ready: bool,
    /// The number of the configuration in force: 1, and one more for each
    /// change.
    pub generation: u64,
    /// A digest of everything that decides where a call goes, in 16 hex
    /// digits: equal on instances that agree.
    pub table_id: String,
    /// What came of the last reload, if there was one.
    pub last_reload: Option<LastReload>,
    /// The workers, by number.
    pub workers: Vec<WorkerStatus>,
    /// The addresses it listens on.
    pub listeners: Vec<ListenerStatus>,
    /// The dispatcher sets.
    pub sets: Vec<SetStatus>,
    /// All that is counted.
    pub totals: Totals,
}

/// What came of a reload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct LastReload {
    /// Whether it was taken.
    pub successful: bool,
    /// What it has done, or the first error, or which keys need an upgrade.
    pub said: String,
    /// When, in Unix seconds.
    pub at: f64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerStatus {
    /// Its number, from 0 on.
    pub number: usize,
    /// The core that it is pinned to, if it is.
    pub core: Option<usize>,
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that the kernel dropped before it, by listener.
    pub overflow: Vec<u64>,
    /// Seconds that it was on a processor.
    pub busy_seconds: f64,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListenerStatus {
    /// Its name.
    pub name: String,
    /// Its address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
}

/// A dispatcher set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// How it chooses, as the configuration names it.
    pub policy: String,
    /// What it hashes, as the configuration names it.
    pub hash_key: String,
    /// What becomes of new work when all its active destinations are down.
    pub when_all_down: String,
    /// Whether they are, and new work goes to them all the same.
    pub open: bool,
    /// Its destinations, in the order of the configuration.
    pub destinations: Vec<DestinationStatus>,
    /// The names of destinations that cannot be resolved now: they stand for no
    /// address yet, or for those of before.
    pub unresolved: Vec<String>,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DestinationStatus {
    /// Its address and port.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// As the operator wrote it, without parameters.
    pub uri: String,
    /// Its weight as configured.
    pub weight: u32,
    /// What it counts for in new work now: the weight, less while it warms
    /// up, 0 where it takes none.
    pub share: f64,
    /// Higher is used first.
    pub priority: i32,
    /// What an operator has set.
    pub state: State,
    /// What probes have found.
    pub health: HealthStatus,
    /// The same two as Kamailio's operators know them: `AP` active and probed,
    /// `AX` active and not probed, `TP` active, and its latest probe failed or
    /// it warms up, `IP` active but down, `IX` draining, which Kamailio lacks,
    /// `DX` disabled.
    pub letters: String,
    /// Why its health is as it is, in words, where it is probed.
    pub cause: Option<String>,
    /// How long the response to its latest probe took, in milliseconds.
    pub round_trip_ms: Option<f64>,
    /// Requests sent to it.
    pub requests: u64,
    /// Those among them that had been sent to it before; at least so many.
    pub retransmitted: u64,
    /// Responses from it, by class.
    pub responses: BTreeMap<String, u64>,
    /// Times that a transaction found it silent, unreachable or busy.
    pub suspected: u64,
    /// Seconds since a datagram came from it that counts, if any did.
    pub last_seen_seconds: Option<u64>,
    /// Seconds since a request within a dialog went to it or came from it, if
    /// any did.
    pub last_in_dialog_seconds: Option<u64>,
}

/// What probes have found of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// It answers, or nobody has looked.
    Up,
    /// It came back, and takes a growing part of its share.
    Warming,
    /// It does not answer.
    Down,
}

impl From<Health> for HealthStatus {
    fn from(health: Health) -> Self {
        match health {
            Health::Up => Self::Up,
            Health::Warming(_) => Self::Warming,
            Health::Down => Self::Down,
        }
    }
}

impl Status {
    /// What is so now.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let totals = view.totals();
        let probed = view.prober.states();
        let facts = view.facts.load();
        let unresolved = lock(&view.unresolved).clone();
        let listeners = facts.config.listeners.iter().map(|each| ListenerStatus {
            name: each.name.clone(),
            address: each.address,
        });
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started: unix(view.started),
            uptime_seconds: view.shared.started.elapsed().as_secs_f64(),
            time: unix(SystemTime::now()),
            ready: view.is_ready(),
            generation: facts.proxy.generation(),
            table_id: format!("{:016x}", facts.table_id),
            last_reload: view.reload.load().as_ref().map(|last| LastReload {
                successful: last.successful,
                said: last.said.clone(),
                at: unix(last.at),
            }),
            workers: workers(view, &totals),
            listeners: listeners.collect(),
            sets: sets(&facts, &totals, &probed, &unresolved),
            totals,
        }
    }
}

/// What is known of destinations, by the names of their sets and their
/// addresses: to search for each in a large set would keep everybody else
/// waiting for an answer.
type ByPlace<'a, T> = HashMap<(&'a str, SocketAddr), &'a T>;

fn sets(
    facts: &Facts,
    totals: &Totals,
    probed: &[Probed],
    unresolved: &BTreeSet<HostPort>,
) -> Vec<SetStatus> {
    let counted = totals.destinations.iter();
    let counted = counted.map(|of| ((of.set.as_str(), of.address), of));
    let counted = counted.collect();
    let probed = probed.iter().map(|of| ((of.set.as_str(), of.address), of));
    let probed = probed.collect();
    let sets = facts.proxy.dispatcher().sets().iter();
    sets.map(|set| SetStatus::of(set, &counted, &probed, unresolved))
        .collect()
}

fn workers(view: &View, totals: &Totals) -> Vec<WorkerStatus> {
    let numbered = totals.workers.iter().zip(&view.cores).enumerate();
    let each = numbered.map(|(number, (worker, core))| WorkerStatus {
        number,
        core: *core,
        received: worker.received,
        overflow: worker.overflow.clone(),
        busy_seconds: worker.busy,
    });
    each.collect()
}

impl SetStatus {
    fn of(
        set: &Set,
        counted: &ByPlace<'_, DestinationTotals>,
        probed: &ByPlace<'_, Probed>,
        unresolved: &BTreeSet<HostPort>,
    ) -> Self {
        let definition = set.definition();
        let name = &definition.name;
        let destinations = definition.destinations.iter().enumerate();
        let destinations = destinations.map(|(index, each)| {
            let place = (name.as_str(), each.address);
            let counted = counted.get(&place).copied();
            let probed = probed.get(&place).copied();
            DestinationStatus::of(each, set.share(index), counted, probed)
        });
        let is_unresolved = |named: &&Named| !named.resolved || unresolved.contains(&named.name);
        let unresolved = definition.named.iter().filter(is_unresolved);
        Self {
            name: name.clone(),
            policy: text::name(&definition.policy).to_owned(),
            hash_key: text::hash_key_name(&definition.hash_key),
            when_all_down: text::name(&definition.when_all_down).to_owned(),
            open: set.is_open(),
            destinations: destinations.collect(),
            unresolved: unresolved.map(|named| named.name.to_string()).collect(),
        }
    }

    /// What an operator should see at once.
    pub fn alarms(&self) -> impl Iterator<Item = String> {
        let open = "all are down: new work goes to them all the same (when-all-down = forward)";
        let open = self.open.then(|| open.to_owned());
        let alarms = [open, self.emptiness(), self.unresolved_names()];
        alarms.into_iter().flatten()
    }

    /// Where no destination takes new work.
    fn emptiness(&self) -> Option<String> {
        if self.destinations.iter().any(|each| each.share > 0.0) {
            return None;
        }
        let said = match self.destinations[..] {
            [] => "no destination",
            _ => "all are down, draining or disabled",
        };
        Some(format!("{said}: new work gets 503 unless a rule takes it"))
    }

    /// The names of destinations that cannot be resolved now, in words.
    fn unresolved_names(&self) -> Option<String> {
        let names = self.unresolved.join(", ");
        (!names.is_empty()).then(|| format!("not resolved: {names}"))
    }
}

impl DestinationStatus {
    fn of(
        destination: &Destination,
        share: f64,
        counted: Option<&DestinationTotals>,
        probed: Option<&Probed>,
    ) -> Self {
        let suspect = probed.is_some_and(|probed| probed.probing);
        let milliseconds = |trip: Duration| trip.as_secs_f64() * 1000.0;
        let count = |field: fn(&DestinationTotals) -> u64| counted.map_or(0, field);
        Self {
            address: destination.address,
            uri: destination.uri.clone(),
            weight: destination.weight,
            share,
            priority: destination.priority,
            state: destination.state,
            health: destination.health.into(),
            letters: letters(destination, suspect).to_owned(),
            cause: probed.map(|probed| probed.cause.clone()),
            round_trip_ms: probed.and_then(|probed| probed.round_trip.map(milliseconds)),
            requests: count(|of| of.requests),
            retransmitted: count(|of| of.retransmitted),
            responses: counted.map(|of| of.responses.clone()).unwrap_or_default(),
            suspected: count(|of| of.suspected),
            last_seen_seconds: counted.and_then(|of| of.last_seen),
            last_in_dialog_seconds: counted.and_then(|of| of.last_in_dialog),
        }
    }
}

/// See [`DestinationStatus::letters`].
fn letters(destination: &Destination, suspect: bool) -> &'static str {
    match (destination.state, destination.health) {
        (State::Disabled, _) => "DX",
        (State::Draining, _) => "IX",
        (State::Active, Health::Down) => "IP",
        (State::Active, Health::Warming(_)) => "TP",
        (State::Active, Health::Up) if suspect => "TP",
        (State::Active, Health::Up) if destination.probe.is_some() => "AP",
        (State::Active, Health::Up) => "AX",
    }
}

/// Unix seconds.
pub(super) fn unix(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}
