//! Health of a running instance: who is probed, from where, and which signs
//! in the traffic have one probed at once.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use tracing::{error, warn};

use super::Instance;
use crate::config::{Config, Health, Policy, Set, State, WhenAllDown};
use crate::health::{Judge, Prober, Report, Sample, Target};
use crate::worker::DestinationTotals;

/// Why no destination of a set takes calls by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idle {
    /// All that are active are down.
    Down(WhenAllDown),
    /// None is active.
    Inactive,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inactive => {
                "no destination is active; calls are answered 503 unless a failure rule takes them"
            }
            Self::Down(WhenAllDown::Forward) => {
                "every active destination is down; calls go to them all the same (when-all-down = \
                 forward)"
            }
            Self::Down(WhenAllDown::Reply) => {
                "every active destination is down; calls are answered 503 unless a failure rule \
                 takes them (when-all-down = reply)"
            }
        })
    }
}

/// The sets of which no destination is active and up, and what is so instead.
pub(super) fn idle_sets(config: &Config) -> Vec<(String, Idle)> {
    let idle = |set: &Set| {
        let all = set.destinations.iter();
        let mut active = all.filter(|each| each.state == State::Active).peekable();
        let idle = match active.peek() {
            Some(_) => Idle::Down(set.when_all_down),
            None => Idle::Inactive,
        };
        let is_idle = active.all(|each| each.health == Health::Down);
        is_idle.then(|| (set.name.clone(), idle))
    };
    config.sets.iter().filter_map(idle).collect()
}

/// The prober, and who judges the traffic of each destination.
pub struct Watch {
    prober: Arc<Prober>,
    /// By address: a server that is in several sets has its responses counted
    /// in one of them.
    judges: BTreeMap<SocketAddr, Judge>,
    started: Instant,
    /// What nobody has taken yet.
    found: Receiver<Vec<Report>>,
}

impl Watch {
    /// Starts the prober. `tell` is called when there is something to
    /// [take](Self::found). All that has come is [taken in](Instance::learn)
    /// together, for each time the table of the set is worked out anew: one by one,
    /// hundreds of destinations that die at once would take many seconds.
    ///
    /// # Errors
    /// As of [`Prober::start`].
    pub fn start(tell: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (sender, found) = mpsc::channel();
        let report = move |reports| {
            // Where nobody receives, it is about to end.
            let _ = sender.send(reports);
            tell();
        };
        Ok(Self {
            prober: Arc::new(Prober::start(report)?),
            judges: BTreeMap::new(),
            started: Instant::now(),
            found,
        })
    }

    /// All that has changed since this was last asked.
    pub fn found(&self) -> Vec<Report> {
        self.found.try_iter().flatten().collect()
    }

    /// The prober, to be asked what it knows.
    pub(super) fn prober(&self) -> Arc<Prober> {
        Arc::clone(&self.prober)
    }

    /// Probes what `instance` has now.
    pub fn follow(&self, instance: &Instance) {
        let mut targets = Vec::new();
        for set in &instance.config.sets {
            for each in &set.destinations {
                let Some(probe) = &each.probe else {
                    continue;
                };
                let mut probe = Arc::clone(probe);
                if set.policy == Policy::Kamailio {
                    // It knows no parts of a share.
                    Arc::make_mut(&mut probe).slow_start = Duration::ZERO;
                }
                targets.push(Target {
                    set: set.name.clone(),
                    address: each.address,
                    uri: each.uri.clone(),
                    probe,
                    from: instance.leaves_from(each.address),
                    health: each.health,
                });
            }
        }
        self.prober.watch(targets);
    }

    /// Looks for signs of death in what has been counted.
    pub fn look(&mut self, totals: &[DestinationTotals]) {
        let now = self.started.elapsed();
        let mut samples: BTreeMap<SocketAddr, Sample> = BTreeMap::new();
        for each in totals {
            let sample = samples.entry(each.address).or_default();
            sample.requests += each.requests;
            sample.responses += each.responses.values().sum::<u64>();
            sample.suspected += each.suspected;
        }
        self.judges
            .retain(|address, _| samples.contains_key(address));
        for (address, sample) in samples {
            let judge = self.judges.entry(address);
            let judge = judge.or_insert_with(|| Judge::new(sample, now));
            if let Some(cause) = judge.look(sample, now) {
                for each in totals.iter().filter(|each| each.address == address) {
                    self.prober.suspect(&each.set, address, cause);
                }
            }
        }
    }
}

impl Instance {
    /// The alarm where a set is idle and was not `before`, and its end; those
    /// that are now.
    pub(super) fn tell_idle_sets(&self, before: &[(String, Idle)]) -> Vec<(String, Idle)> {
        let now = idle_sets(&self.config);
        for (set, idle) in now.iter().filter(|each| !before.contains(each)) {
            match idle {
                Idle::Inactive => warn!("set {set}: {idle}"),
                Idle::Down(_) => error!("set {set}: {idle}"),
            }
        }
        for (set, _) in before {
            let is_idle = now.iter().any(|(name, _)| name == set);
            if !is_idle && self.config.sets.iter().any(|each| each.name == *set) {
                warn!("set {set}: a destination is active and up again");
            }
        }
        now
    }

    /// The local address that what goes to `to` leaves from.
    fn leaves_from(&self, to: SocketAddr) -> IpAddr {
        let listener = self.proxy().leaves_by(to);
        match (
            listener.map(|at| self.config.listeners[at].address.ip()),
            to,
        ) {
            (Some(ip), _) => ip,
            (None, SocketAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (None, SocketAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}
