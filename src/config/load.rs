//! From files and flags to a [`Config`], or to the reasons why there is none.

use std::num::NonZero;
use std::path::Path;

use super::diagnostic::{Diagnostic, Fault, Origin, Report};
use super::dispatcher_list;
use super::file::{self, Draft, Members, SetDraft};
use super::merge::{self, Lists, Overrides, Reader};
use super::table::Placed;
use super::{AccountingTarget, Config, Set};

/// The outcome of [`load`].
#[derive(Debug)]
pub struct Loaded {
    /// The configuration; `None` where a diagnostic is an error.
    pub config: Option<Config>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// The outcome of [`load_list`].
#[derive(Debug)]
pub struct LoadedList {
    /// The sets by id, named by it; `None` where a diagnostic is an error.
    pub sets: Option<Vec<Set>>,
    /// Errors and warnings in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

/// Loads a configuration from a TOML file, if there is one, and from flags.
pub fn load(file: Option<&Path>, overrides: &Overrides) -> Loaded {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let cores = cores.min(*super::WORKERS.end());
    let mut loaded = load_with(file, overrides, cores, &|path| std::fs::read(path));
    if let Some(config) = &mut loaded.config {
        // So that the effective configuration means the same anywhere.
        let absolute = |path| std::path::absolute(&path).unwrap_or(path);
        let admin = &mut config.admin;
        for path in [
            &mut config.secret_file,
            &mut admin.socket,
            &mut admin.token_file,
        ] {
            *path = path.take().map(absolute);
        }
        if let Some(accounting) = &mut config.stateful.accounting {
            match &mut accounting.target {
                AccountingTarget::File(path) | AccountingTarget::Socket(path) => {
                    *path = absolute(std::mem::take(path));
                }
                AccountingTarget::Stdout => {}
            }
        }
    }
    loaded
}

/// As [`load`], on a machine of `cores` cores whose files `reader` reads.
pub fn load_with(
    file: Option<&Path>,
    overrides: &Overrides,
    cores: usize,
    reader: Reader<'_>,
) -> Loaded {
    let mut report = Report::default();
    let base = file.and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    let flags = overrides.draft(&mut report);
    let draft = match file {
        Some(file) => draft(file, overrides, flags, reader, &mut report),
        None => Some(flags),
    };
    let config = draft.and_then(|draft| merge::finish(draft, base, cores, reader, &mut report));
    Loaded {
        config,
        diagnostics: report.into_diagnostics(),
    }
}

fn draft(
    file: &Path,
    overrides: &Overrides,
    flags: Draft,
    reader: Reader<'_>,
    report: &mut Report,
) -> Option<Draft> {
    let origin = Origin::Flag(overrides.file_flag.unwrap_or("--config"));
    let source = merge::text(file, &origin, reader, report)?;
    if dispatcher_list::looks_like(source.text()) {
        let fault = Fault::new(format!("`{}` is a dispatcher.list", file.display()));
        let help = match overrides.file_flag {
            None => format!("give --dispatcher-list {} and --listen", file.display()),
            Some(_) => format!(
                "name it in a file of TOML: `dispatcher-list = \"{}\"` in its [[set]]",
                file.display()
            ),
        };
        report.error(&origin, fault.help(help));
        return None;
    }
    file::read(&source, flags, report)
}

/// Reads a `dispatcher.list` by itself, to check it with what flags say of its
/// sets: one of them, or all.
pub fn load_list(file: &Path, overrides: &Overrides) -> LoadedList {
    let mut report = Report::default();
    let general = overrides.draft(&mut report);
    general.operation.check_health(&mut report);
    let origin = Origin::Flag("--dispatcher-list");
    let reader = |path: &Path| std::fs::read(path);
    let mut lists = Lists::new(&reader);
    let ids = match overrides.set {
        Some(id) => vec![id],
        None => lists.ids(file, &origin, &mut report),
    };
    let mut sets = Vec::new();
    for id in ids {
        let members = lists.members(file, &origin, Some(id), &mut report);
        let Some(first) = members.first() else {
            continue;
        };
        let name = Placed::new(id.to_string(), first.origin.clone());
        let draft = SetDraft::of(name, Members::Here(members));
        let set = merge::set(draft, &general, &[], Path::new(""), &mut lists, &mut report);
        sets.push(set.value);
    }
    let sets = (report.errors() == 0).then_some(sets);
    LoadedList {
        sets,
        diagnostics: report.into_diagnostics(),
    }
}
