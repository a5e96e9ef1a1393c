//! `viaduct run`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use super::{Tunables, log};
use crate::supervisor;

/// Run the load balancer until SIGTERM or SIGINT; SIGHUP reloads its configuration.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    #[expect(
        missing_docs,
        reason = "a comment here would replace the help of the subcommand"
    )]
    pub tunables: Tunables,
}

pub(super) fn run(args: &RunArgs) -> io::Result<ExitCode> {
    let Some(config) = args.tunables.load()? else {
        return Ok(ExitCode::FAILURE);
    };
    let set_level = log::start(config.log);
    let load_again = || {
        let loaded = args.tunables.load_all();
        log::say(&loaded.diagnostics);
        loaded
    };
    supervisor::run(config, &load_again, &set_level).map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}
