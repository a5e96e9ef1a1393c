//! What the name of a next hop stands for.

use std::time::{Duration, Instant};

use super::lookup::Lookup;
use crate::proxy::{HostPort, Server};

/// The hosts of the lowest priority of which one has an address, and how long
/// that holds; `None`: nothing. Those behind them would take over where one
/// does not answer, which nobody knows who remembers nothing.
pub(super) async fn servers(lookup: &Lookup, name: &HostPort) -> Option<(Vec<Server>, Duration)> {
    let (hosts, mut until) = lookup.hosts(name).await.ok()?;
    for equals in hosts.chunk_by(|a, b| a.priority == b.priority) {
        let mut servers = Vec::new();
        for host in equals {
            let found = lookup.addresses(host).await;
            if !found.all.is_empty() {
                until = until.min(found.until);
                servers.push(Server {
                    weight: host.weight,
                    addresses: found.all,
                });
            }
        }
        if !servers.is_empty() {
            let ttl = until.saturating_duration_since(Instant::now());
            return Some((servers, ttl));
        }
    }
    None
}
