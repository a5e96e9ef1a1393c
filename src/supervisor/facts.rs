//! What an operator should know of a start.

use super::Instance;
use super::sockets::{Origins, Steering};
use crate::config::{Gso, text};
use crate::net::steer;

impl Instance {
    /// The facts of the start, one a line.
    pub(super) fn start_facts(&self) -> Vec<String> {
        let config = &self.config;
        let mut facts = Vec::new();
        if self.upgrades > 0 {
            let Origins { kept, new, closed } = self.origins;
            facts.push(format!(
                "upgraded: version {}, upgrade {} of this process; sockets: {kept} kept, {new} \
                 new, {closed} closed; what came waited for {} ms at most",
                env!("CARGO_PKG_VERSION"),
                self.upgrades,
                self.waited.as_millis()
            ));
        }
        for (listener, granted) in config.listeners.iter().zip(&self.granted) {
            let advertised = listener.advertise.as_ref();
            let advertised = advertised.map(|address| format!(", advertised as {address}"));
            facts.push(format!(
                "listening on udp:{}{}",
                listener.address,
                advertised.unwrap_or_default()
            ));
            for (what, sysctl, asked, granted) in [
                (
                    "receive",
                    "rmem_max",
                    config.receive_buffer,
                    granted.receive,
                ),
                ("send", "wmem_max", config.send_buffer, granted.send),
            ] {
                facts.push(format!("  {what} buffer: {granted} octets"));
                if granted < asked {
                    facts.push(format!(
                        "warning: {what} buffer: {granted} octets granted of {asked}; mend: \
                         sysctl -w net.core.{sysctl}={asked}"
                    ));
                }
            }
        }
        let cores = text::joined(self.cores.iter().flatten());
        let pinned = match cores.is_empty() {
            true => "not pinned".to_owned(),
            false => format!("pinned to cores {cores}"),
        };
        facts.push(format!(
            "workers: {}, {pinned}, batches of {}",
            config.workers, config.batch
        ));
        if config.pin && cores.is_empty() {
            facts.push(
                "warning: workers are not pinned: which cores they may use is not to be found \
                 out, as on a machine that may have more than 1,024; mend: --pin off, to accept it"
                    .to_owned(),
            );
        }
        if config.gso != Gso::Off && !self.segments {
            facts.push(
                "warning: gso: the kernel cuts no send into datagrams (UDP_SEGMENT), and each \
                 leaves by a send of its own, for more CPU time; mend: Linux 4.18 or newer, or \
                 --gso off to do without"
                    .to_owned(),
            );
        }
        facts.extend(steering(&self.steering));
        let by_name = config.sets.iter().any(|set| !set.named.is_empty());
        let whom = match (config.resolve, by_name) {
            (true, true) => Some("members and destinations"),
            (true, false) => Some("members"),
            (false, true) => Some("destinations"),
            (false, false) => None,
        };
        if let Some(whom) = whom {
            let servers = match config.resolvers.as_slice() {
                [] => "the name servers of /etc/resolv.conf".to_owned(),
                servers => text::joined(servers),
            };
            facts.push(format!("names: resolved by {servers}, for {whom}"));
        }
        facts.extend(config.stateful.facts());
        if let Some(mirror) = &config.mirror {
            let (sample, to) = (text::sample_name(mirror.sample), mirror.to);
            facts.push(format!("mirror: {sample} of calls to {to} by HEP"));
        }
        for set in &config.sets {
            let n = set.destinations.len();
            let plural = if n == 1 { "" } else { "s" };
            facts.push(format!(
                "set {}: {n} destination{plural}, policy {}",
                set.name,
                text::name(&set.policy)
            ));
        }
        facts
    }
}

fn steering(steering: &Steering) -> Vec<String> {
    let (how, warning) = match steering {
        Steering::One => return Vec::new(),
        Steering::Source => ("by addresses and ports".to_owned(), None),
        Steering::CallId(searched) => (
            format!("by Call-ID, where it begins within {searched} octets"),
            (*searched < steer::SEARCH_MAX).then(|| {
                "the kernel takes no longer program, and steers other messages by addresses and \
                 ports; mend: sysctl -w net.core.optmem_max=131072"
                    .to_owned()
            }),
        ),
        Steering::Refused(error) => (
            "by addresses and ports".to_owned(),
            Some(format!(
                "the kernel refused to do it by Call-ID: {error}; mend: sysctl -w \
                 net.core.optmem_max=131072, or accept it with --steer source"
            )),
        ),
    };
    let warning = warning.map(|warning| format!("warning: steering: {warning}"));
    std::iter::once(format!("steering: {how}"))
        .chain(warning)
        .collect()
}
