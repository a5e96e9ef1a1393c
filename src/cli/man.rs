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
    /// The subcommand whose page is wanted, as in `ctl drain`; without one, the page of viaduct
    subcommand: Vec<String>,
}

pub(super) fn man(args: &ManArgs) -> io::Result<ExitCode> {
    // `help` says nothing that a page of its own could tell.
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = &command;
    for name in &args.subcommand {
        let Some(subcommand) = page.find_subcommand(name) else {
            let message = format!("there is no subcommand `{}`", args.subcommand.join(" "));
            command.error(ErrorKind::InvalidSubcommand, message).exit()
        };
        page = subcommand;
    }
    let mut out = Vec::new();
    let source = format!("viaduct {}", page.get_version().unwrap_or_default());
    // No date, in quotes: without any, the source would stand in its place.
    Man::new(page.clone())
        .date("\"\"")
        .source(source)
        .render(&mut out)?;
    io::stdout().write_all(&out)?;
    Ok(ExitCode::SUCCESS)
}
