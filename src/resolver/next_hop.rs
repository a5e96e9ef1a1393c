//! What the name of a next hop stands for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lookup::Lookup;
use super::{TIME_LIMIT, TTL};
use crate::proxy::{HostPort, Server};

/// The hosts of the lowest priority of which one has an address, and how long
/// that holds. Those behind them would take over where one does not answer,
/// which nobody knows who remembers nothing. None: there are none, or nobody
/// said so in time.
pub(super) async fn servers(lookup: &Arc<Lookup>, name: &HostPort) -> (Vec<Server>, Duration) {
    let end = Instant::now() + TIME_LIMIT;
    let Ok((hosts, mut until)) = lookup.hosts(name, end).await else {
        return (Vec::new(), TTL);
    };
    let mut whole = true;
    for equals in hosts.chunk_by(|a, b| a.priority == b.priority) {
        let mut servers = Vec::new();
        for (host, found) in lookup.addresses(equals, end).await {
            whole &= !found.trouble.is_some_and(|trouble| trouble.may_pass());
            if !found.all.is_empty() {
                until = until.min(found.until);
                servers.push(Server {
                    weight: host.weight,
                    addresses: found.all,
                });
            }
        }
        if !servers.is_empty() {
            let now = Instant::now();
            // What was not answered may be so soon.
            if !whole {
                until = until.min(now + TTL);
            }
            return (servers, until.saturating_duration_since(now));
        }
    }
    (Vec::new(), TTL)
}
