//! `viaduct simulate`: what a change of the configuration would do.

mod changes;
mod classes;
mod messages;
mod moves;
mod report;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::offline;
use super::tunables::Tunables;
use crate::config::{Config, HashKey};
use crate::proxy::Proxy;

use changes::Changes;
use classes::Worlds;
use report::{Report, SetReport, have_addresses};

/// Calls at most: a quarter of an hour or so.
const MOST_CALLS: u64 = 100_000_000;

/// Show what a change of sets, destinations or routes would do to calls.
#[derive(Clone, Debug, Args)]
pub(super) struct SimulateArgs {
    #[command(flatten)]
    tunables: Tunables,
    /// The configuration before the change; flags and variables override this file too [default: that of --config]
    #[arg(long, value_name = "FILE")]
    before: Option<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// How many calls to make up, or a file with the Call-ID (or whatever else is hashed) of one call a line
    #[arg(long, value_name = "NUMBER|FILE", default_value = "100000", value_parser = asked)]
    calls: Asked,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn simulate(args: &SimulateArgs) -> io::Result<ExitCode> {
    let Some(config) = args.tunables.load()? else {
        return Ok(ExitCode::FAILURE);
    };
    let before = match &args.before {
        Some(file) => args.tunables.load_from("--before", file)?,
        None => Some(config.clone()),
    };
    let (Some(before), Some(after)) = (before, args.changes.apply(&config)?) else {
        return Ok(ExitCode::FAILURE);
    };
    let calls = Calls::read(&args.calls)?;
    let (secret, secret_known) = offline::secret(&before)?;
    let first = Proxy::new(&before, secret.clone());
    let (next, needs_restart) = offline::successor(&first, &before, &after, &secret)?;
    let worlds = Worlds {
        config: &before,
        before: first,
        changed: &after,
        after: next,
    };
    let unchanged = unchanged(&before, &after);
    let report = Report {
        secret_known,
        needs_restart,
        sets: sets(&worlds, &unchanged, &calls)?,
        unchanged,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    if args.json {
        writeln!(out, "{:#}", json!(report))?;
    } else {
        report.write(&mut out)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The sets, by name, of which there is nothing to tell: others change, and
/// nothing else.
fn unchanged(before: &Config, after: &Config) -> Vec<String> {
    let but_for_sets = Config {
        sets: before.sets.clone(),
        ..after.clone()
    };
    let both = || before.sets.iter().zip(&after.sets);
    let in_place = before.sets.len() == after.sets.len() && both().all(|(a, b)| a.name == b.name);
    if before == after || *before != but_for_sets || !in_place {
        return Vec::new();
    }
    let same = both().filter(|(a, b)| a == b);
    same.map(|(set, _)| set.name.clone()).collect()
}

/// Every set of either configuration, but those that are `unchanged`.
fn sets(worlds: &Worlds<'_>, unchanged: &[String], calls: &Calls) -> io::Result<Vec<SetReport>> {
    let mut sets = Vec::new();
    for (index, set) in worlds.config.sets.iter().enumerate() {
        if unchanged.contains(&set.name) {
            continue;
        }
        let mut after = worlds.changed.sets.iter();
        let after = after.find(|each| each.name == set.name);
        let survey = match worlds.line_for(index) {
            Some(line) if have_addresses(Some(set), after) => {
                calls.fit(&set.hash_key)?;
                let survey = worlds.survey(index, &line, calls.keys());
                Some(survey.map_err(|(number, what)| calls.refuse(number, &what))?)
            }
            _ => None,
        };
        sets.push(SetReport::new(worlds, Some(set), after, survey));
    }
    for set in &worlds.changed.sets {
        if !worlds.config.sets.iter().any(|each| each.name == set.name) {
            sets.push(SetReport::new(worlds, None, Some(set), None));
        }
    }
    Ok(sets)
}

/// What `--calls` says.
#[derive(Clone, Debug)]
enum Asked {
    Number(u64),
    File(PathBuf),
}

/// A number within its bounds, or whatever may be the name of a file.
fn asked(text: &str) -> Result<Asked, String> {
    match text.parse() {
        Ok(number) if !(1..=MOST_CALLS).contains(&number) => Err(format!("give 1 to {MOST_CALLS}")),
        Ok(number) => Ok(Asked::Number(number)),
        Err(_) => Ok(Asked::File(text.into())),
    }
}

/// The calls asked for.
enum Calls {
    Number(u64),
    Keys(PathBuf, Vec<String>),
}

impl Calls {
    fn read(asked: &Asked) -> io::Result<Self> {
        let path = match asked {
            Asked::Number(number) => return Ok(Self::Number(*number)),
            Asked::File(path) => path,
        };
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            io::Error::other(format!(
                "{name}: {error}\n  help: --calls takes a number, or a text file with a Call-ID a \
                 line"
            ))
        })?;
        // Editors put a mark at the start, and an empty line at the end.
        let lines = text.trim_start_matches('\u{feff}').trim_end().lines();
        let keys: Vec<_> = lines.map(|line| line.trim().to_owned()).collect();
        if keys.is_empty() {
            let what = format!("{name}: the file is empty\n  help: write one Call-ID a line");
            return Err(io::Error::other(what));
        }
        Ok(Self::Keys(path.clone(), keys))
    }

    fn keys(&self) -> Box<dyn Iterator<Item = Option<&str>> + '_> {
        match self {
            Self::Number(number) => Box::new((0..*number).map(|_| None)),
            Self::Keys(_, keys) => Box::new(keys.iter().map(|key| Some(&**key))),
        }
    }

    /// Whether the keys of a file can be what a set hashes.
    fn fit(&self, hash_key: &HashKey) -> io::Result<()> {
        let (HashKey::Source, Self::Keys(_, keys)) = (hash_key, self) else {
            return Ok(());
        };
        let is_address = |key: &String| key.parse::<std::net::IpAddr>().is_ok();
        match keys.iter().position(|key| !is_address(key)) {
            Some(at) => Err(self.refuse(at as u64, "the set hashes the source address")),
            None => Ok(()),
        }
    }

    fn refuse(&self, number: u64, what: &str) -> io::Error {
        let Self::Keys(path, keys) = self else {
            return io::Error::other(format!("call {number}: {what}"));
        };
        let key = crate::config::text::printable(&keys[number as usize]);
        io::Error::other(format!(
            "{}:{}:1: `{key}` makes no message: {what}\n  help: give one key a line, as it stands \
             in the header",
            path.display(),
            number + 1
        ))
    }
}
