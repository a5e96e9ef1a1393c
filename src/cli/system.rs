//! `viaduct check --system`.

use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;
use serde_json::json;

use super::limits::{self, Facts, Finding};
use super::tunables::{Tunables, within};
use super::{check, environment, report};
use crate::config::{Config, HELP, Loaded, text};
use crate::net::Socket;
use crate::supervisor;

/// Where to listen if nothing says: on any free port, which no destination has,
/// and on no loopback address, from which nothing reaches another machine.
const STAND_INS: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 0),
    SocketAddr::new(
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
        0,
    ),
];

/// What is asked of the machine.
#[derive(Debug, Args)]
pub(super) struct SystemArgs {
    /// Say instead which limits of this machine are too small for --rate, and which files `run` could not read or make, why, and what mends it; exit code 1 where there is one
    #[arg(long, conflicts_with = "print_effective")]
    pub(super) system: bool,
    /// Messages a second that --system is about, requests and responses, 1 to 10000000
    #[arg(long, value_name = "MESSAGES", requires = "system", default_value = "50000", value_parser = within(1..=10_000_000_u64))]
    rate: u64,
}

/// Checks the machine against `tunables`, or the defaults of what they leave
/// out.
pub(super) fn check(args: &SystemArgs, tunables: &Tunables, as_json: bool) -> io::Result<ExitCode> {
    let loaded = load(tunables);
    let mut out = io::BufWriter::new(io::stdout().lock());
    let Some(config) = loaded.config else {
        let told = match as_json {
            true => check::diagnose(&mut out, false, &loaded.diagnostics),
            false => report::print(&loaded.diagnostics),
        };
        report::read_or_not(told.and_then(|()| out.flush()))?;
        return Ok(ExitCode::FAILURE);
    };
    let findings = limits::find(&facts(&config), &config, args.rate);
    let files: Vec<_> = supervisor::missing(&config).iter().map(unusable).collect();
    let good = findings.iter().all(|finding| finding.good) && files.is_empty();
    let told = if as_json {
        let told = json!({
            "ok": good,
            "rate": args.rate,
            "limits": findings,
            "files": files,
            "diagnostics": loaded.diagnostics,
        });
        writeln!(out, "{told:#}")
    } else {
        report::print(&loaded.diagnostics)?;
        write_all(&mut out, args.rate, &findings, &files)
    };
    report::read_or_not(told.and_then(|()| out.flush()))?;
    Ok(match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn write_all(
    out: &mut dyn Write,
    rate: u64,
    findings: &[Finding],
    files: &[Unusable],
) -> io::Result<()> {
    findings
        .iter()
        .try_for_each(|finding| write(out, finding))?;
    for Unusable { what, why, mend } in files {
        writeln!(out, "unusable   {what}\n           why: {why}")?;
        writeln!(out, "           mend: {mend}")?;
    }
    match findings.iter().filter(|finding| !finding.good).count() {
        0 if !files.is_empty() => Ok(()),
        0 => writeln!(out, "good for {rate} messages a second"),
        few => writeln!(out, "{few} too small for {rate} messages a second"),
    }
}

/// The configuration; with stand-ins for a listener and a destination that are
/// not given, for no limit depends on which they are. They collide with nothing
/// that is given, and reach it.
fn load(tunables: &Tunables) -> Loaded {
    let mut overrides = tunables.overrides();
    let file = tunables.config.as_deref();
    if file.is_none() {
        let has_destinations = !overrides.to.is_empty() || overrides.dispatcher_list.is_some();
        if !has_destinations {
            overrides
                .to
                .extend(text::member(&beside(&overrides.listen)));
        }
        if overrides.listen.is_empty() {
            // Destinations may be of either family; that of ours is IPv4.
            let families = if has_destinations { 2 } else { 1 };
            overrides.listen.extend(&STAND_INS[..families]);
        }
    }
    let mut loaded = environment::load(file, &overrides);
    loaded.diagnostics.extend(environment::slips());
    loaded
}

/// A destination that whoever listens at `listen` reaches, and that is none of
/// them.
fn beside(listen: &[SocketAddr]) -> String {
    let ip: IpAddr = match listen.first() {
        Some(SocketAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        _ => Ipv4Addr::LOCALHOST.into(),
    };
    let is_free = |port: &u16| listen.iter().all(|own| own.port() != *port);
    let port = (5060..=u16::MAX).find(is_free).unwrap_or(5060);
    SocketAddr::new(ip, port).to_string()
}

fn facts(config: &Config) -> Facts {
    let core = |name: &str| number(&format!("net/core/{name}"));
    let tracking = |name: &str| number(&format!("net/netfilter/nf_conntrack_{name}"));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = Socket::bind(any, config.receive_buffer, config.send_buffer);
    Facts {
        rmem_max: core("rmem_max"),
        wmem_max: core("wmem_max"),
        netdev_max_backlog: core("netdev_max_backlog"),
        optmem_max: core("optmem_max"),
        // No number is no limit.
        files: Some(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)),
        cores: std::thread::available_parallelism()
            .ok()
            .map(|cores| NonZero::get(cores) as u64),
        segments: socket.ok().map(|socket| socket.segments()),
        tracked: tracking("count").zip(tracking("max")),
    }
}

/// A file that `run` needs.
#[derive(Serialize)]
struct Unusable {
    /// Which one, and the error.
    what: String,
    /// What it is good for.
    why: &'static str,
    /// What mends it.
    mend: String,
}

fn unusable(error: &supervisor::Failure) -> Unusable {
    let said = error.to_string();
    let (what, mend) = said.split_once(HELP).unwrap_or((&said, ""));
    Unusable {
        what: what.to_owned(),
        why: "`run`, as this user, would end at it",
        mend: mend.to_owned(),
    }
}

/// A setting of the kernel, where it is there.
fn number(path: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/sys/{path}"));
    text.ok()?.trim().parse().ok()
}

fn write(out: &mut dyn Write, finding: &Finding) -> io::Result<()> {
    let Finding {
        what,
        value,
        wanted,
        unit,
        good,
        why,
        mend,
    } = finding;
    let verdict = match (good, value) {
        (false, _) => "too small",
        (true, None) => "unknown",
        (true, Some(_)) => "good",
    };
    let value = value.map_or("not to be read here".to_owned(), |value| value.to_string());
    let unit = match wanted {
        1 => unit.strip_suffix('s').unwrap_or(unit),
        _ => unit,
    };
    writeln!(out, "{verdict:<9}  {what}: {value}, wanted {wanted} {unit}")?;
    if let Some(mend) = mend {
        writeln!(out, "           why: {why}")?;
        writeln!(out, "           mend: {mend}")?;
    }
    Ok(())
}
