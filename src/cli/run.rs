//! `viaduct run`.

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::tunables::Tunables;
use super::{log, report};
use crate::supervisor::{self, StartError};

/// How long the end, or another program, waits for whoever reads the log.
const LOG: Duration = Duration::from_secs(1);

/// Run the load balancer until SIGTERM or SIGINT; SIGHUP reloads its configuration.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    tunables: Tunables,
}

pub(super) fn run(args: &RunArgs) -> io::Result<ExitCode> {
    let loaded = args.tunables.load_all();
    let Some(config) = loaded.config else {
        report::print(&loaded.diagnostics)?;
        return Ok(ExitCode::FAILURE);
    };
    supervisor::hold_signals()?;
    let (set_level, log) =
        log::start(config.log).map_err(|error| io::Error::other(StartError::Thread(error)))?;
    let flush_log = || log.flush(LOG);
    let ended = supervisor::run(
        config,
        &loaded.diagnostics,
        &|| args.tunables.load_all(),
        &log::say,
        &set_level,
        &flush_log,
    );
    let code = match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("error: {error}");
            ExitCode::FAILURE
        }
    };
    flush_log();
    Ok(code)
}
