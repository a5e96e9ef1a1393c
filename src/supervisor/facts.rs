//! What an operator should know of a start.

use std::io::{self, Write};

use super::Instance;
use super::sockets::{Origins, Steering};
use crate::config::text;
use crate::net::steer;

impl Instance {
    /// Writes the facts of the start, one a line.
    ///
    /// # Errors
    /// As of writing.
    pub fn write_facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let config = &self.config;
        if self.upgrades > 0 {
            let Origins { kept, new, closed } = self.origins;
            writeln!(
                out,
                "upgraded: version {}, upgrade {} of this process; sockets: {kept} kept, {new} \
                 new, {closed} closed; what came waited for {} ms at most",
                env!("CARGO_PKG_VERSION"),
                self.upgrades,
                self.waited.as_millis()
            )?;
        }
        for (listener, granted) in config.listeners.iter().zip(&self.granted) {
            write!(out, "listening on udp:{}", listener.address)?;
            if let Some(advertise) = &listener.advertise {
                write!(out, ", advertised as {advertise}")?;
            }
            writeln!(out)?;
            write_buffer(
                out,
                "receive",
                "rmem_max",
                config.receive_buffer,
                granted.receive,
            )?;
            write_buffer(out, "send", "wmem_max", config.send_buffer, granted.send)?;
        }
        let cores: Vec<_> = self
            .cores
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let pinned = match cores.is_empty() {
            true => "not pinned".to_owned(),
            false => format!("pinned to cores {}", cores.join(", ")),
        };
        writeln!(
            out,
            "workers: {}, {pinned}, batches of {}",
            config.workers, config.batch
        )?;
        write_steering(out, &self.steering)?;
        let by_name = config.sets.iter().any(|set| !set.named.is_empty());
        let whom = match (config.resolve, by_name) {
            (true, true) => Some("members and destinations"),
            (true, false) => Some("members"),
            (false, true) => Some("destinations"),
            (false, false) => None,
        };
        if let Some(whom) = whom {
            let servers: Vec<_> = config.resolvers.iter().map(ToString::to_string).collect();
            let servers = match servers.is_empty() {
                true => "the name servers of /etc/resolv.conf".to_owned(),
                false => servers.join(", "),
            };
            writeln!(out, "names: resolved by {servers}, for {whom}")?;
        }
        for fact in config.stateful.facts() {
            writeln!(out, "{fact}")?;
        }
        if let Some(mirror) = &config.mirror {
            let (sample, to) = (text::sample_name(mirror.sample), mirror.to);
            writeln!(out, "mirror: {sample} of calls to {to} by HEP")?;
        }
        for set in &config.sets {
            let n = set.destinations.len();
            let plural = if n == 1 { "" } else { "s" };
            writeln!(
                out,
                "set {}: {n} destination{plural}, policy {}",
                set.name,
                text::name(&set.policy)
            )?;
        }
        Ok(())
    }
}

fn write_steering(out: &mut dyn Write, steering: &Steering) -> io::Result<()> {
    match steering {
        Steering::One => Ok(()),
        Steering::Source => writeln!(out, "steering: by addresses and ports"),
        Steering::CallId(searched) => {
            writeln!(
                out,
                "steering: by Call-ID, where it begins within {searched} octets"
            )?;
            if *searched < steer::SEARCH_MAX {
                writeln!(
                    out,
                    "warning: steering: the kernel takes no longer program, and steers other messages by addresses and ports; mend: sysctl -w net.core.optmem_max=131072"
                )?;
            }
            Ok(())
        }
        Steering::Refused(error) => {
            writeln!(out, "steering: by addresses and ports")?;
            writeln!(
                out,
                "warning: steering: the kernel refused to do it by Call-ID: {error}; mend: sysctl -w net.core.optmem_max=131072, or accept it with --steer source"
            )
        }
    }
}

fn write_buffer(
    out: &mut dyn Write,
    what: &str,
    sysctl: &str,
    asked: usize,
    granted: usize,
) -> io::Result<()> {
    writeln!(out, "  {what} buffer: {granted} octets")?;
    if granted < asked {
        writeln!(
            out,
            "warning: {what} buffer: {granted} octets granted of {asked}; mend: sysctl -w net.core.{sysctl}={asked}"
        )?;
    }
    Ok(())
}
