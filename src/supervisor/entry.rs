//! One destination as operators and health checks have it by now.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::text;
use crate::config::{Destination, Health, MAX_DESTINATIONS, Probe, Set, State};

/// What is so of one destination.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) set: String,
    pub(super) address: SocketAddr,
    #[serde(flatten)]
    pub(super) changes: Changes,
    pub(super) health: Health,
}

/// What operators have changed of one destination.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Changes {
    pub(super) state: Option<State>,
    pub(super) weight: Option<u32>,
    pub(super) priority: Option<i32>,
    /// As an operator added it, with all that was said of it then.
    pub(super) added: Option<String>,
    pub(super) removed: bool,
}

impl Entry {
    pub(super) fn new(set: &str, address: SocketAddr) -> Self {
        Self {
            set: set.to_owned(),
            address,
            changes: Changes::default(),
            health: Health::Up,
        }
    }

    /// Brings it into effect; `probe` is for what operators have added. A
    /// destination that has no place any more is removed.
    pub(super) fn apply(
        &self,
        set: &mut Set,
        places: &mut HashMap<SocketAddr, usize>,
        probe: Option<&Arc<Probe>>,
    ) {
        let changes = &self.changes;
        if changes.removed {
            places.remove(&self.address);
            return;
        }
        if let Some(Ok(added)) = changes.added.as_deref().map(text::destination)
            && !places.contains_key(&self.address)
            && places.len() < MAX_DESTINATIONS
        {
            places.insert(added.address, set.destinations.len());
            let probe = probe.cloned();
            set.destinations.push(Destination { probe, ..added });
        }
        if let Some(&at) = places.get(&self.address) {
            let each = &mut set.destinations[at];
            each.state = changes.state.unwrap_or(each.state);
            each.weight = changes.weight.unwrap_or(each.weight);
            each.priority = changes.priority.unwrap_or(each.priority);
            // What is not probed any more is not found out any more.
            if each.probe.is_some() {
                each.health = self.health;
            }
        }
    }
}

impl Changes {
    /// Ends those of what the file, which `was` and `is` are from, says
    /// something else now.
    pub(super) fn drop_superseded(&mut self, was: Option<&Destination>, is: Option<&Destination>) {
        let differs = |field: fn(&Destination) -> i64| was.map(field) != is.map(field);
        if differs(|each| each.state as i64) {
            self.state = None;
        }
        if differs(|each| i64::from(each.weight)) {
            self.weight = None;
        }
        if differs(|each| i64::from(each.priority)) {
            self.priority = None;
        }
        // One that the file has now and had not before is wanted again.
        self.removed &= is.is_some() && was.is_some();
    }
}
