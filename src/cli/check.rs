//! `viaduct check`.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use serde_json::json;

use super::system::{self, SystemArgs};
use super::tunables::Tunables;
use super::{Cli, environment, report};
use crate::config::{self, Config, Diagnostic, Policy, Set, State, text};
use crate::supervisor;

/// Check a configuration, a dispatcher.list or the machine and say what is wrong with it.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    tunables: Tunables,
    /// Print the effective configuration as TOML: file, environment, flags and defaults
    #[arg(long, conflicts_with = "json")]
    print_effective: bool,
    /// Print as JSON on stdout what is found, instead of as text
    #[arg(long)]
    json: bool,
    /// Also say whether this binary could take over what a running instance hands over, which asks that before an upgrade and tells it on stdin
    #[arg(long, hide = true)]
    inherits: bool,
    #[command(flatten)]
    system: SystemArgs,
}

pub(super) fn check(args: &CheckArgs) -> io::Result<ExitCode> {
    if args.system.system {
        return system::check(&args.system, &args.tunables, args.json);
    }
    if let Some(list) = list_alone(&args.tunables) {
        return check_list(args, list);
    }
    let loaded = args.tunables.load_all();
    if args.inherits
        && let Some(config) = &loaded.config
    {
        report::print(&loaded.diagnostics)?;
        let said = supervisor::rehearse(config).map_err(io::Error::other)?;
        writeln!(io::stdout(), "{said}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let good = |out: &mut dyn Write, config: &Config| {
        if args.print_effective {
            write!(out, "{}", config::to_toml(config))
        } else {
            summarise(out, config)
        }
    };
    finish(args, &loaded.diagnostics, loaded.config.as_ref(), good)
}

/// The `dispatcher.list` that is all there is to check.
fn list_alone(tunables: &Tunables) -> Option<&Path> {
    let is_alone = tunables.config.is_none() && tunables.listen.is_empty();
    tunables.dispatcher_list.as_deref().filter(|_| is_alone)
}

fn check_list(args: &CheckArgs, list: &Path) -> io::Result<ExitCode> {
    if args.print_effective {
        let message = "--print-effective needs a whole configuration: give --listen too";
        Cli::command()
            .error(ErrorKind::MissingRequiredArgument, message)
            .exit();
    }
    let mut loaded = config::load_list(list, &args.tunables.overrides());
    loaded.diagnostics.extend(environment::slips());
    let good = |out: &mut dyn Write, sets: &Vec<Set>| {
        sets.iter()
            .try_for_each(|set| writeln!(out, "set {}: {}", set.name, destinations(set)))
    };
    finish(args, &loaded.diagnostics, loaded.sets.as_ref(), good)
}

/// Prints diagnostics and, where all is good, what `good` writes.
fn finish<T>(
    args: &CheckArgs,
    diagnostics: &[Diagnostic],
    outcome: Option<&T>,
    good: impl FnOnce(&mut dyn Write, &T) -> io::Result<()>,
) -> io::Result<ExitCode> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let told = if args.json {
        diagnose(&mut out, outcome.is_some(), diagnostics)
    } else {
        report::print(diagnostics)?;
        report::print_number(diagnostics)?;
        outcome.map_or(Ok(()), |outcome| good(&mut out, outcome))
    };
    report::read_or_not(told.and_then(|()| out.flush()))?;
    Ok(match outcome {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

/// Writes as JSON what was found.
pub(super) fn diagnose(
    out: &mut dyn Write,
    ok: bool,
    diagnostics: &[Diagnostic],
) -> io::Result<()> {
    writeln!(out, "{:#}", json!({ "ok": ok, "diagnostics": diagnostics }))
}

fn summarise(out: &mut dyn Write, config: &Config) -> io::Result<()> {
    for listener in &config.listeners {
        write!(out, "listener {}: udp:{}", listener.name, listener.address)?;
        if let Some(advertise) = &listener.advertise {
            write!(out, ", advertised as {advertise}")?;
        }
        if !listener.also_known_as.is_empty() {
            let names = text::joined(&listener.also_known_as);
            write!(out, ", also known as {names}")?;
        }
        if !listener.proxy_protocol.is_empty() {
            let networks = text::joined(&listener.proxy_protocol);
            write!(out, ", PROXY protocol from {networks}")?;
        }
        writeln!(out)?;
    }
    for set in &config.sets {
        let policy = match set.policy {
            Policy::Hash => format!("hash of {}", text::hash_key_name(&set.hash_key)),
            other => text::name(&other).to_owned(),
        };
        writeln!(out, "set {}: {policy}, {}", set.name, destinations(set))?;
    }
    let routes = config.routes.len();
    writeln!(
        out,
        "routes: {routes}; what none claims goes to set {}",
        config.sets[0].name
    )?;
    for fact in config.stateful.facts() {
        writeln!(out, "{fact}")?;
    }
    for rule in &config.stateful.on_failure {
        writeln!(out, "on failure: {}", rule.text(&config.sets))?;
    }
    operation(out, config)?;
    let pinned = if config.pin { "pinned" } else { "not pinned" };
    writeln!(out, "workers: {}, {pinned}", config.workers)?;
    writeln!(out, "the configuration is good")
}

/// What an operator's day has of it, a line each.
fn operation(out: &mut dyn Write, config: &Config) -> io::Result<()> {
    let destinations = config.sets.iter().flat_map(|set| &set.destinations);
    let named = config.sets.iter().flat_map(|set| &set.named);
    let probes = destinations.map(|each| &each.probe);
    let probes: Vec<_> = probes.chain(named.map(|each| &each.probe)).collect();
    let probed = probes.iter().filter(|probe| probe.is_some()).count();
    writeln!(out, "probed: {probed} of {}", probes.len())?;
    let admin = &config.admin;
    if let Some(socket) = &admin.socket {
        writeln!(out, "admin: {}", socket.display())?;
    }
    for address in &admin.listen {
        let may = match admin.token_file {
            Some(_) => "changes by token",
            None => "reads only",
        };
        writeln!(out, "admin: http://{address}, {may}")?;
    }
    if let Some(mirror) = &config.mirror {
        let sample = text::sample_name(mirror.sample);
        writeln!(out, "mirror: {sample} of calls to {}", mirror.to)?;
    }
    Ok(())
}

/// How many destinations a set has; a name counts as one.
fn destinations(set: &Set) -> String {
    let named = set.named.iter().map(|each| each.state);
    let states = set.destinations.iter().map(|each| each.state).chain(named);
    let states: Vec<_> = states.collect();
    let all = states.len();
    let mut text = format!("{all} destination{}", if all == 1 { "" } else { "s" });
    let with = |state| states.iter().filter(|each| **each == state).count();
    for (count, name) in [
        (set.named.len(), "by name"),
        (with(State::Draining), "draining"),
        (with(State::Disabled), "disabled"),
    ] {
        match count {
            0 => {}
            1 if all == 1 => text += &format!(", {name}"),
            count => text += &format!(", {count} of them {name}"),
        }
    }
    text
}
