//! The command line: arguments in, one subcommand called, an exit code out.
//!
//! Exit codes: 0 good, 1 failed, 2 wrong usage. Facts and diagnostics go to
//! stderr, results to stdout; a reader that closes stdout ends it cleanly.

mod backlog;
mod capture;
mod check;
mod client;
mod completions;
mod ctl;
mod demo;
mod environment;
mod explain;
pub mod limits;
mod log;
mod man;
mod message;
mod offline;
mod operation;
mod replay;
mod report;
mod run;
mod simulate;
mod stateful;
mod system;
mod table;
mod top;
mod tunables;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A SIP load balancer for UDP: stateless by Call-ID, with transactions where
/// they pay.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    Simulate(simulate::SimulateArgs),
    Replay(replay::ReplayArgs),
    Demo(demo::DemoArgs),
    Ctl(ctl::CtlArgs),
    Top(top::TopArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

/// Parses the arguments of this process and does what they say.
pub fn main() -> ExitCode {
    let outcome = match environment::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Simulate(args) => simulate::simulate(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Ctl(args) => ctl::ctl(&args),
        Command::Top(args) => top::top(&args),
        Command::Completions(args) => completions::completions(&args),
        Command::Man(args) => man::man(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to tell of a failure to write this.
            let _ = writeln!(io::stderr(), "viaduct: error: {error}");
            ExitCode::FAILURE
        }
    }
}
