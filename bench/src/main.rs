//! Load generator, bare forwarders, side-by-side comparison, and farms that
//! change and die under calls, for Viaduct.
#![allow(clippy::print_stdout, clippy::print_stderr)] // it prints what it measures

mod admin;
mod balancer;
mod check;
mod churn;
mod compare;
mod document;
mod farm;
mod forward;
mod hour;
mod kamailio;
mod kill;
mod ledger;
mod load;
mod message;
mod offer;
mod outbox;
mod players;
#[path = "../../tests/support/src/ports.rs"]
mod ports;
mod process;
mod report;
mod running;
mod schedule;
mod sip;
mod sys;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use rustix::thread::{CpuSet, sched_setaffinity};

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Play callers and farm around a balancer, and report what came through
    Load {
        #[command(flatten)]
        options: offer::Options,
        /// Core to run on
        #[arg(long, value_name = "N")]
        core: Option<usize>,
        /// Report as JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure bare forwarders, Kamailio and Viaduct side by side
    Compare(compare::Options),
    /// Change the farm of Viaduct and of Kamailio every second under calls that have built up
    Churn(document::Options),
    /// Kill, stall and make refuse destinations of Viaduct and of Kamailio under calls, and bring them back: after 15, 25, 35 and 45 sixtieths of the time
    Kill(document::Options),
    /// Drain, kill, add, remove, reload and upgrade under calls, as an operator does
    Hour(hour::Options),
    /// Play one destination of these, until the standard input ends
    #[command(hide = true)]
    Destination(farm::destination::Options),
    /// Forward datagrams without parsing them, for one upstream peer
    Forward {
        #[command(flatten)]
        options: forward::Options,
        /// Core to run on
        #[arg(long, value_name = "N")]
        core: Option<usize>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Load {
            options,
            core,
            json,
        } => {
            core.map_or(Ok(()), |core| pin(&[core]))?;
            let report = load::run(&options, || Ok(()))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&report)?);
            } else {
                println!("{report}");
            }
            let received = report.messages.received();
            ensure!(received > 0, "nothing came through");
            Ok(())
        }
        Command::Compare(options) => compare::run(&options),
        Command::Churn(options) => churn::run(&options),
        Command::Kill(options) => kill::run(&options),
        Command::Hour(options) => hour::run(&options),
        Command::Destination(options) => farm::destination::run(&options),
        Command::Forward { options, core } => {
            core.map_or(Ok(()), |core| pin(&[core]))?;
            forward::run(&options)
        }
    }
}

/// Keeps this thread, and what it starts, on `cores`.
///
/// # Errors
/// There is no such core, or it is not allowed to this process.
fn pin(cores: &[usize]) -> Result<()> {
    let unknown = || format!("cores {cores:?} are not to be had on this machine");
    let mut set = CpuSet::new();
    ensure!(cores.iter().all(|&core| core < CpuSet::MAX_CPU), unknown());
    cores.iter().for_each(|&core| set.set(core));
    sched_setaffinity(None, &set).with_context(unknown)
}
