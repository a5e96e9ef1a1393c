//! Variables in the place of flags.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgMatches, Command, CommandFactory, Error, FromArgMatches};

use super::Cli;
use crate::config::{self, Diagnostic, Loaded, Overrides, Severity, closest};

/// What the names of variables begin with.
const PREFIX: &str = "VIADUCT_";

/// Parses the arguments and the variables of this process; ends it where they
/// are wrong, or ask for help.
pub(super) fn parse() -> Cli {
    // Manifests and unit files write one that is unset so.
    let empty = |name: &OsStr| env::var_os(name).is_some_and(|value| value.is_empty());
    let beaten = beaten();
    let command = without(Cli::command(), |name| empty(name) || beaten.contains(&name));
    let mut matches = match command.clone().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => named(command, error).exit(),
    };
    Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit())
}

/// Flags that say where destinations come from, each with the variable that says
/// otherwise; clap takes them for two flags that exclude each other.
const RIVALS: [(&str, &str); 3] = [
    ("to", "VIADUCT_DISPATCHER_LIST"),
    ("to", "VIADUCT_SET"),
    ("dispatcher_list", "VIADUCT_TO"),
];

/// The variables that flags on the command line go before, by another name.
fn beaten() -> Vec<&'static OsStr> {
    let flags = without(Cli::command(), |_| true).try_get_matches();
    let Some((_, flags)) = flags.as_ref().ok().and_then(ArgMatches::subcommand) else {
        return Vec::new();
    };
    let given = |id: &str| flags.try_contains_id(id).unwrap_or(false);
    let rivals = RIVALS.iter().filter(|(flag, _)| given(flag));
    rivals.map(|(_, variable)| OsStr::new(*variable)).collect()
}

/// Loads a configuration, in which the secret file and the admin socket have
/// their places in systemd's directories where neither file nor flag says
/// otherwise.
pub(super) fn load(file: Option<&Path>, overrides: &Overrides) -> Loaded {
    let mut loaded = config::load(file, overrides);
    if let Some(config) = &mut loaded.config {
        let or_within = |path: &mut Option<PathBuf>, directory: &str, name: &str| {
            *path = path.take().or_else(|| within(directory, name));
        };
        or_within(&mut config.secret_file, "STATE_DIRECTORY", "secret");
        or_within(&mut config.admin.socket, "RUNTIME_DIRECTORY", "admin.sock");
    }
    loaded
}

/// What is called `name` in the directory that systemd names in `variable`; it
/// separates several by colons.
fn within(variable: &str, name: &str) -> Option<PathBuf> {
    let list = env::var(variable).ok()?;
    let first = list.split(':').next().filter(|first| !first.is_empty())?;
    Some(Path::new(first).join(name))
}

/// A warning for each variable that is most likely a slip of one that is read.
/// Others are let be: Kubernetes sets `VIADUCT_PORT` for a service of that name.
pub(super) fn slips() -> Vec<Diagnostic> {
    let command = Cli::command();
    let arguments = command.get_subcommands().flat_map(Command::get_arguments);
    let read = arguments.filter_map(|arg| arg.get_env()?.to_str()?.strip_prefix(PREFIX));
    let read: Vec<_> = read.map(str::to_lowercase).collect();
    let read: Vec<_> = read.iter().map(String::as_str).collect();
    let slip = |(name, value): (OsString, OsString)| {
        let given = name.to_str()?.strip_prefix(PREFIX)?.to_lowercase();
        let meant = closest(&given, &read)?;
        (meant != given && !value.is_empty()).then(|| Diagnostic {
            severity: Severity::Warning,
            location: None,
            flag: Some(name.display().to_string()),
            message: "there is no such variable".to_owned(),
            why: None,
            help: Some(format!("did you mean `{PREFIX}{}`?", meant.to_uppercase())),
        })
    };
    env::vars_os().filter_map(slip).collect()
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
/// names the variable; where two exclude each other, both.
fn named(command: Command, mut error: Error) -> Error {
    let mut built = command.clone();
    built.build();
    let flags_alone = without(command, |_| true).try_get_matches().err();
    let wrong = |error: &Error| error.get(ContextKind::InvalidValue).cloned();
    let by_flags = match error.kind() {
        ErrorKind::ArgumentConflict => flags_alone.is_some(),
        _ => flags_alone.as_ref().and_then(wrong) == wrong(&error),
    };
    for kind in [ContextKind::InvalidArg, ContextKind::PriorArg] {
        let Some(ContextValue::String(flag)) = error.get(kind) else {
            continue;
        };
        let arguments = built.get_subcommands().flat_map(Command::get_arguments);
        let mut variables = arguments.filter(|arg| arg.to_string() == *flag);
        let variable = variables.find_map(|arg| Some(arg.get_env()?.display().to_string()));
        if let Some(variable) = variable.filter(|_| !by_flags) {
            error.insert(kind, ContextValue::String(variable));
        }
    }
    error
}
