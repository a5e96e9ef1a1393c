//! `viaduct ctl`: asks a running instance, and changes it.

mod bad_packets;
mod drain;
mod list;
mod upgrade;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anstream::AutoStream;
use clap::builder::PossibleValuesParser;
use clap::{ArgGroup, Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::client::{Admin, Client, ClientError, Question, SOCKET};
use super::message::MessageArgs;
use super::report;
use super::table::Table;
use super::tunables::{choice, within};
use crate::config::{Fault, LogLevel, State, text};
use crate::control::{
    Addition, Done, LevelChange, ReloadRequest, Removal, StateChange, Status, WeightChange,
};
use crate::proxy::Reason;

/// How long an answer may take; the instance itself gives up before.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ask a running instance, and change it without a restart.
#[derive(Clone, Debug, Args)]
pub(super) struct CtlArgs {
    /// The instance: the path of its admin socket, or http://ADDR:PORT
    #[arg(long, global = true, value_name = "PATH|URL", env = "VIADUCT_ADMIN", default_value = SOCKET)]
    admin: Admin,
    /// File with the token for changes, explain and bad-packets over TCP
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "VIADUCT_ADMIN_TOKEN_FILE"
    )]
    token_file: Option<PathBuf>,
    /// Print JSON instead of text: the answers of the API
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Sets and destinations: state, health, weight, share, requests
    List,
    /// Set the administrative state of a destination
    State {
        #[command(flatten)]
        place: PlaceArgs,
        /// active takes work; draining takes no new calls; disabled takes nothing that names it either, only probes, and CANCEL and ACK of calls that it was setting up
        #[arg(value_name = "STATE", value_parser = choice::<State>())]
        state: State,
    },
    /// Set the weight of a destination
    Weight {
        #[command(flatten)]
        place: PlaceArgs,
        /// 1 to 1000000
        #[arg(value_parser = weight)]
        weight: u32,
    },
    /// Add a destination to a set, until it is removed or changes are forgotten
    Add {
        /// The name of the set
        set: String,
        /// By its address, not by a name; else as in --to: "sip:192.0.2.1:5060;weight=2;priority=1"
        destination: String,
    },
    /// Remove a destination
    Remove(PlaceArgs),
    /// Take no new calls to a destination, so that it can be stopped
    Drain {
        #[command(flatten)]
        place: PlaceArgs,
        /// Wait until no request within a dialog has gone to it or come from it for TIME, 1ms to 24h (default 15m). A call that is silent for longer, as without session timers (RFC 4028), is not noticed
        #[arg(long, value_name = "TIME", num_args = 0..=1, default_missing_value = "15m", value_parser = text::quiet)]
        wait: Option<Duration>,
    },
    /// Read the configuration again, whole or not at all
    Reload {
        /// Only tell what it would do
        #[arg(long)]
        dry_run: bool,
        /// Forget what operators have changed: the file alone counts
        #[arg(long)]
        forget_changes: bool,
    },
    /// All counters
    Stats,
    /// Where a message would go now, and why
    #[command(group = ArgGroup::new("what").args(["message", "call_id"]).required(true))]
    Explain(MessageArgs),
    /// The next datagrams that are dropped or answered by ourselves, with their octets
    BadPackets {
        /// How many at most, 1 to 10000
        #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(1..=10_000_u32))]
        count: u32,
        /// Only those of this reason [default: any but those that are there where all is well]
        #[arg(long, value_name = "REASON", value_parser = PossibleValuesParser::new(Reason::ALL.iter().map(|reason| reason.name())), hide_possible_values = true)]
        reason: Option<String>,
        /// How long to wait for them at most, 1ms to 1h
        #[arg(long, value_name = "TIME", default_value = "10s", value_parser = text::time)]
        wait: Duration,
    },
    /// Set the least important lines that are logged
    LogLevel {
        #[arg(value_name = "LEVEL", value_parser = choice::<LogLevel>())]
        level: LogLevel,
    },
    /// Start the binary again with the sockets it has, and wait until it is ready; no datagram is lost
    Upgrade,
}

fn weight(written: &str) -> Result<u32, Fault> {
    let help = "give 1 to 1000000; for no new calls, `viaduct ctl drain DESTINATION`";
    text::weight(written).map_err(|fault| fault.help(help))
}

/// A destination.
#[derive(Clone, Debug, Args)]
#[group(skip)]
struct PlaceArgs {
    /// Its address, with port 5060 unless given
    destination: String,
    /// The set that is meant [default: every set that has it]
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
}

pub(super) fn ctl(args: &CtlArgs) -> io::Result<ExitCode> {
    let client = Client::new(args.admin.clone(), args.token_file.as_deref(), PATIENCE)?;
    let ctl = Ctl {
        client,
        json: args.json,
    };
    let Err(error) = ctl.run(&args.command) else {
        return Ok(ExitCode::SUCCESS);
    };
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        // For a program, in the form that it asked for.
        Some(ClientError::Refused(problem)) if args.json => {
            report::read_or_not(writeln!(io::stdout(), "{:#}", json!(problem)))?;
            Ok(ExitCode::FAILURE)
        }
        _ => Err(error),
    }
}

struct Ctl {
    client: Client,
    json: bool,
}

impl Ctl {
    fn run(&self, command: &Command) -> io::Result<()> {
        match command {
            Command::List => self.list(),
            Command::State { place, state } => self.set_state(place, *state),
            Command::Weight { place, weight } => self.change(
                "/api/v1/destinations/weight",
                &WeightChange {
                    set: place.set.clone(),
                    destination: place.destination.clone(),
                    weight: *weight,
                },
            ),
            Command::Add { set, destination } => self.change(
                "/api/v1/destinations/add",
                &Addition {
                    set: set.clone(),
                    destination: destination.clone(),
                },
            ),
            Command::Remove(place) => self.change(
                "/api/v1/destinations/remove",
                &Removal {
                    set: place.set.clone(),
                    destination: place.destination.clone(),
                },
            ),
            Command::Drain { place, wait } => {
                self.set_state(place, State::Draining)?;
                match wait {
                    Some(quiet) => self.wait_for_quiet(place, *quiet),
                    None => Ok(()),
                }
            }
            Command::Reload {
                dry_run,
                forget_changes,
            } => self.change(
                "/api/v1/reload",
                &ReloadRequest {
                    dry_run: *dry_run,
                    forget_changes: *forget_changes,
                },
            ),
            Command::Stats => self.stats(),
            Command::Explain(args) => self.explain(args),
            Command::BadPackets {
                count,
                reason,
                wait,
            } => self.bad_packets(*count, reason.as_deref(), *wait),
            Command::LogLevel { level } => {
                self.change("/api/v1/log-level", &LevelChange { level: *level })
            }
            Command::Upgrade => self.upgrade(),
        }
    }

    fn set_state(&self, place: &PlaceArgs, state: State) -> io::Result<()> {
        let change = StateChange {
            set: place.set.clone(),
            destination: place.destination.clone(),
            state,
        };
        self.change("/api/v1/destinations/state", &change)
    }

    /// Asks for a change, and tells what has come of it, read or not: some wait
    /// then for what follows.
    fn change(&self, path: &str, change: &impl Serialize) -> io::Result<()> {
        let answer = self.client.post(path, change)?;
        let mut out = io::stdout().lock();
        if self.json {
            let told = writeln!(out, "{}", String::from_utf8_lossy(&answer));
            return report::read_or_not(told);
        }
        let done: Done = self.client.parse(&answer)?;
        report::read_or_not(tell(&mut out, &done))?;
        report::print(&done.warnings)
    }

    fn list(&self) -> io::Result<()> {
        if self.json {
            return self.print_json("/api/v1/sets");
        }
        let status: Status = self.client.get("/api/v1/status")?;
        let mut out = io::BufWriter::new(AutoStream::auto(io::stdout().lock()));
        list::write(&mut out, &status)?;
        out.flush()
    }

    fn stats(&self) -> io::Result<()> {
        if self.json {
            return self.print_json("/api/v1/status");
        }
        let status: Status = self.client.get("/api/v1/status")?;
        let mut table = Table::new(&[false, true]);
        for (name, value) in status.totals.lines() {
            table.row([&name, &value]);
        }
        let mut out = io::BufWriter::new(io::stdout().lock());
        table.write(&mut out)?;
        out.flush()
    }

    fn print_json(&self, path: &str) -> io::Result<()> {
        let answer: serde_json::Value = self.client.get(path)?;
        writeln!(io::stdout(), "{answer:#}")
    }

    fn explain(&self, args: &MessageArgs) -> io::Result<()> {
        let message = args.octets()?;
        let body = message.map(|octets| ("application/octet-stream", octets));
        let mut query = form_urlencoded::Serializer::new(String::new());
        let given = [
            ("call_id", args.call_id.clone()),
            ("from", args.from.map(|from| from.to_string())),
            ("listener", args.listener.clone()),
        ];
        for (name, value) in given {
            query.extend_pairs(value.map(|value| (name, value)));
        }
        let answer = self.client.ask(&Question {
            path: &format!("/api/v1/explain?{}", query.finish()),
            accept: match self.json {
                true => "application/json",
                false => "text/plain",
            },
            body,
        })?;
        io::stdout().write_all(&answer)
    }
}

/// Writes what a change has done.
fn tell(out: &mut dyn Write, done: &Done) -> io::Result<()> {
    writeln!(out, "{}", done.said)?;
    // Of one destination that was named, the words above may say it all.
    let differences = done.differences.iter().map(ToString::to_string);
    for difference in differences.filter(|each| !done.said.contains(each)) {
        writeln!(out, "  {difference}")?;
    }
    if !done.rules.is_empty() {
        writeln!(
            out,
            "  which share of calls that moves: viaduct simulate --before BEFORE.toml --config \
             NOW.toml"
        )?;
    }
    for moved in done.moved.iter().filter(|moved| moved.share > 0.0) {
        let percent = moved.share * 100.0;
        writeln!(
            out,
            "  set {}: {percent:.1} % of new calls go elsewhere than before",
            moved.set
        )?;
    }
    Ok(())
}

/// Whether somebody watches the progress of something.
fn is_watched() -> bool {
    io::stderr().is_terminal()
}
