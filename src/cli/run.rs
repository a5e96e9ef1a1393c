//! `viaduct run`.

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use super::tunables::Tunables;
use super::{log, report};
use crate::supervisor::{self, StartError, Surroundings};

/// How long the end, or another program, waits for whoever reads the log.
const LOG: Duration = Duration::from_secs(1);
/// How long calls wait, after an upgrade, for a configuration that can be used.
const EDITED: Duration = Duration::from_secs(5);
/// How often it is loaded meanwhile.
const POLL: Duration = Duration::from_millis(50);

/// Run the load balancer until SIGTERM or SIGINT; SIGHUP reloads its configuration.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    tunables: Tunables,
}

pub(super) fn run(args: &RunArgs) -> io::Result<ExitCode> {
    let mut loaded = args.tunables.load_all();
    if loaded.config.is_none() {
        report::print(&loaded.diagnostics)?;
    }
    // The check before an upgrade found it good, so somebody is editing it.
    let end = Instant::now() + EDITED;
    while loaded.config.is_none() && supervisor::is_heir() && Instant::now() < end {
        std::thread::sleep(POLL);
        loaded = args.tunables.load_all();
    }
    let Some(config) = loaded.config else {
        if supervisor::is_heir() {
            // By now they may be others.
            report::print(&loaded.diagnostics)?;
        }
        return Ok(ExitCode::FAILURE);
    };
    supervisor::hold_signals()?;
    let (set_level, log) =
        log::start(config.log).map_err(|error| io::Error::other(StartError::Thread(error)))?;
    let flush_log = || log.flush(LOG);
    let around = Surroundings {
        load_again: &|| args.tunables.load_all(),
        say: &log::say,
        set_level: &set_level,
        flush_log: &flush_log,
    };
    let ended = supervisor::run(config, &loaded.diagnostics, around);
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
