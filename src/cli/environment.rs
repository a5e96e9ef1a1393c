//! Variables in the place of flags.

use std::env;
use std::ffi::OsStr;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue};
use clap::{Command, CommandFactory, Error, FromArgMatches};

use super::Cli;

/// Parses the arguments and the variables of this process; ends it where they
/// are wrong, or ask for help.
pub(super) fn parse() -> Cli {
    // Manifests and unit files write one that is unset so.
    let empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let command = without(Cli::command(), empty);
    let mut matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => named(command, error).exit(),
    };
    Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// The command line that does not look at these variables.
fn without(command: Command, unset: impl Fn(&OsStr) -> bool) -> Command {
    command.mut_subcommands(|subcommand| {
        subcommand.mut_args(|arg| match arg.get_env() {
            Some(name) if unset(name) => arg.env(Resettable::Reset),
            _ => arg,
        })
    })
}

/// Where a variable is wrong, and not the flag that it stands for, the error
/// names the variable.
fn named(command: Command, mut error: Error) -> Error {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let mut built = command.clone();
    built.build();
    let arguments = built.get_subcommands().flat_map(Command::get_arguments);
    let mut variables = arguments.filter(|arg| arg.to_string() == *flag);
    let variable = variables.find_map(|arg| Some(arg.get_env()?.display().to_string()));
    let wrong = |error: &Error| error.get(ContextKind::InvalidValue).cloned();
    let flags_alone = without(command, |_| true).try_get_matches();
    match variable {
        Some(variable) if flags_alone.err().as_ref().and_then(wrong) != wrong(&error) => {
            error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
            error
        }
        _ => error,
    }
}
