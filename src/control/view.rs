//! What the control thread reads.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::guard::Denials;
use super::{lock, metrics};
use crate::config::{Config, HostPort};
use crate::health::Prober;
use crate::proxy::Proxy;
use crate::worker::{Counters, Shared, Totals};

/// What decides now; swapped whole with each change.
pub struct Facts {
    /// The configuration in force: what the file says, what operators have
    /// changed, and what health checks have found.
    pub config: Arc<Config>,
    /// What decides by it.
    pub proxy: Proxy,
    /// See [`Proxy::table_id`], which takes a while.
    pub table_id: u64,
}

impl Facts {
    /// Those of `config`, by which `proxy` decides.
    #[must_use]
    pub fn of(config: Arc<Config>, proxy: &Proxy) -> Self {
        Self {
            config,
            proxy: proxy.clone(),
            table_id: proxy.table_id(),
        }
    }
}

/// What came of the last reload.
#[derive(Clone, Debug)]
pub struct Reload {
    /// Whether it was taken.
    pub successful: bool,
    /// What it has done, or why it was not taken, in one line.
    pub said: String,
    /// When.
    pub at: SystemTime,
    /// When one was last taken, or the start.
    pub taken: SystemTime,
}

/// Names of destinations that the last look-up has not resolved.
pub type Unresolved = Mutex<BTreeSet<HostPort>>;

/// A running instance, as it is seen from outside.
pub struct View {
    /// What decides.
    pub facts: Arc<ArcSwap<Facts>>,
    /// What the workers share.
    pub shared: Arc<Shared>,
    /// What each worker counts.
    pub counters: Vec<Arc<Counters>>,
    /// The core of each worker, where it is pinned.
    pub cores: Vec<Option<usize>>,
    /// When it was started.
    pub started: SystemTime,
    /// Whether it takes new work: not before it has started, nor after
    /// SIGTERM.
    pub ready: AtomicBool,
    /// What came of the last reload, if there was one.
    pub reload: ArcSwapOption<Reload>,
    /// The names that are in trouble.
    pub unresolved: Arc<Unresolved>,
    /// Who probes destinations.
    pub prober: Arc<Prober>,
    /// Requests that were refused.
    pub denials: Denials,
}

impl View {
    /// Whether it takes new work.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// What all workers have counted.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(&self.counters, &self.shared)
    }

    /// The page that Prometheus reads.
    #[must_use]
    pub fn metrics(&self) -> String {
        let reload = self.reload.load();
        // The supervisor is not to wait while the system is asked.
        let unresolved = lock(&self.unresolved).clone();
        metrics::text(&metrics::Input {
            totals: &self.totals(),
            facts: &self.facts.load(),
            probes: &self.prober.states(),
            unresolved: &unresolved,
            reload_taken: reload.as_ref().is_none_or(|last| last.successful),
            reloaded: reload.as_ref().map_or(self.started, |last| last.taken),
            ready: self.is_ready(),
            denied: self.denials.count(),
            started: self.started,
        })
    }
}
