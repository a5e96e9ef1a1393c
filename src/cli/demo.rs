//! `viaduct demo`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use super::tunables::within;
use crate::demo::{self, Plan};

/// Run calls through a load balancer and three SIP servers on loopback.
#[derive(Clone, Debug, Args)]
pub(super) struct DemoArgs {
    /// How long calls are made, in seconds, 10 to 600
    #[arg(long, value_name = "SECONDS", default_value_t = 12, value_parser = within(10..=600_u64))]
    seconds: u64,
    /// New calls a second, 20 to 2000
    #[arg(long, value_name = "CALLS", default_value_t = 200, value_parser = within(20..=2000_u32))]
    rate: u32,
    /// Print the summary as JSON, without the live display
    #[arg(long)]
    json: bool,
}

pub(super) fn demo(args: &DemoArgs) -> io::Result<ExitCode> {
    let plan = Plan {
        seconds: args.seconds,
        rate: args.rate,
    };
    let Some(summary) = demo::run(plan, args.json)? else {
        return Err(io::Error::other("interrupted, so nothing was checked"));
    };
    let program = std::env::args().next();
    let program = program.as_deref().unwrap_or("viaduct");
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{:#}", summary.json(program))?;
    } else {
        summary.write(&mut out, program)?;
    }
    Ok(match summary.holds() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
