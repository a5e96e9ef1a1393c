//! `viaduct run`.

use std::io;
use std::process::ExitCode;

use clap::Args;

use super::{Tunables, log, report};
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
    let loaded = args.tunables.load_all();
    let Some(config) = loaded.config else {
        report::print(&loaded.diagnostics)?;
        return Ok(ExitCode::FAILURE);
    };
    let set_level = log::start(config.log);
    let say_warnings = || log::say(&loaded.diagnostics);
    let load_again = || {
        let loaded = args.tunables.load_all();
        log::say(&loaded.diagnostics);
        loaded
    };
    match supervisor::run(config, &say_warnings, &load_again, &set_level) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            tracing::error!("error: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}
