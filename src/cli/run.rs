//! `viaduct run`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use super::Tunables;
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
    let load_again = || args.tunables.load();
    supervisor::run(config, &load_again, &mut io::stderr()).map_err(io::Error::other)?;
    Ok(ExitCode::SUCCESS)
}
