//! `viaduct man`.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory};
use clap_mangen::Man;

use super::Cli;

/// Print a manual page: `viaduct man run | man -l -`.
#[derive(Debug, Args)]
pub(super) struct ManArgs {
    /// The subcommand whose page is wanted; without one, the page of viaduct
    subcommand: Option<String>,
}

pub(super) fn man(args: &ManArgs) -> io::Result<ExitCode> {
    let mut command = Cli::command();
    command.build();
    let page = match &args.subcommand {
        None => command,
        Some(name) => match command.find_subcommand(name) {
            Some(subcommand) => subcommand.clone(),
            None => {
                let message = format!("there is no subcommand `{name}`");
                command.error(ErrorKind::InvalidSubcommand, message).exit()
            }
        },
    };
    let mut out = Vec::new();
    Man::new(page).render(&mut out)?;
    io::stdout().write_all(&out)?;
    Ok(ExitCode::SUCCESS)
}
