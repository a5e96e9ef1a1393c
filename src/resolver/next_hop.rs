//! What the name of a next hop stands for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lookup::{Lookup, Trouble};
use super::{TIME_LIMIT, TTL};
use crate::config::HostPort;
use crate::proxy::Server;

/// The hosts of the lowest priority of which one has an address, and how long
/// that holds. Those behind them would take over where one does not answer,
/// which nobody knows who remembers nothing. None: there are none, or nobody
/// said so in time; where nobody had the time to ask, that holds not at all.
pub(super) async fn servers(lookup: &Arc<Lookup>, name: &HostPort) -> (Vec<Server>, Duration) {
    let end = Instant::now() + TIME_LIMIT;
    let (hosts, mut until) = match lookup.hosts(name, end).await {
        Ok(found) => found,
        Err(trouble) => return nothing(Some(trouble)),
    };
    let mut trouble: Option<Trouble> = None;
    for equals in hosts.chunk_by(|a, b| a.priority == b.priority) {
        let mut servers = Vec::new();
        for (host, found) in lookup.addresses(equals, end).await {
            if let Some(new) = found.trouble {
                trouble = Some(new.or(trouble.take()));
            }
            // That one has no address holds no longer than its name server says.
            until = until.min(found.until);
            if !found.all.is_empty() {
                servers.push(Server {
                    weight: host.weight,
                    addresses: found.all,
                });
            }
        }
        if !servers.is_empty() {
            let now = Instant::now();
            // What was not answered may be so soon.
            if trouble.is_some_and(|trouble| trouble.may_pass()) {
                until = until.min(now + TTL);
            }
            return (servers, until.saturating_duration_since(now));
        }
    }
    nothing(trouble)
}

fn nothing(trouble: Option<Trouble>) -> (Vec<Server>, Duration) {
    let holds = !matches!(trouble, Some(Trouble::NotAsked));
    (Vec::new(), if holds { TTL } else { Duration::ZERO })
}
