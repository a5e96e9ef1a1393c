//! What the published pages have in common: the machine they hold for, the
//! contenders that calls are played around, their tables, and how they are
//! written.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use crate::balancer::{Program, machine};
use crate::running::{chosen, fresh};

/// Where and when a run took place, and of what.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Of the sources, as git names it; "unknown" where there is no git.
    pub(crate) commit: String,
    /// The day, in UTC.
    pub(crate) date: String,
    /// What each contender says of its version.
    pub(crate) versions: Vec<(String, String)>,
    /// The arguments that this program was started with.
    pub(crate) arguments: Vec<String>,
}

impl Machine {
    /// This one, today, with what each contender says of its version.
    pub(crate) fn new(versions: Vec<(String, String)>) -> Self {
        Self {
            kernel: first_line("/proc/sys/kernel/osrelease", ""),
            processor: first_line("/proc/cpuinfo", "model name"),
            cores: cores(),
            commit: commit(),
            date: told("date", &["--utc", "+%F"]).unwrap_or_else(|| "unknown".to_owned()),
            versions,
            arguments: std::env::args().skip(1).collect(),
        }
    }

    /// For a page: the machine, when and of what, and the versions.
    pub(crate) fn text(&self) -> String {
        let Self {
            kernel,
            processor,
            cores,
            commit,
            date,
            versions,
            ..
        } = self;
        let mut text = format!(
            "**Machine**: {cores} cores of {processor}, Linux {kernel}. \
             **Measured**: {date}, commit {commit}.\n\n"
        );
        for (name, version) in versions {
            let _ = writeln!(text, "- {name}: {}", version.trim());
        }
        text
    }
}

/// The commit that is checked out, and whether more than what runs publish
/// has changed since.
fn commit() -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let git = |arguments: &[&str]| told("git", &[&["-C", root], arguments].concat());
    let Some(commit) = git(&["describe", "--always"]) else {
        return "unknown".to_owned();
    };
    let others = [".", ":!docs", ":!README.md"];
    match git(&[&["diff", "--quiet", "HEAD", "--"], &others[..]].concat()) {
        Some(_) => commit,
        None => format!("{commit} with changes"),
    }
}

/// What a command says; `None` where it fails.
fn told(program: &str, arguments: &[&str]) -> Option<String> {
    let told = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(told.stdout).ok()?;
    told.status.success().then(|| text.trim().to_owned())
}

/// Cores of the machine.
pub(crate) fn cores() -> usize {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processors = text.lines().filter(|line| line.starts_with("processor"));
    processors.count().max(1)
}

/// The first line of `file` that begins with `key`, without the key.
fn first_line(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.unwrap_or("unknown");
    value.trim_start_matches([' ', '\t', ':']).to_owned()
}

/// A table in columns, for the terminal.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max();
    let widths: Vec<usize> = (0..rows[0].len()).filter_map(width).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

/// A table, the first row its head.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('*', "\\*")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | ").replace("\\\\*", "\\*"));
        if number == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

/// What to play around contenders, and for how long.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Time in which things happen to the farm
    #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: u64,
    /// Calls a second
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rate: u32,
    /// Contenders, by default all
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Write the page to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "only")]
    publish: Option<PathBuf>,
    /// Folder for configurations and logs, by default target/ and the name of the page
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Whoever has a column of the table.
pub(crate) trait Contender {
    fn name(&self) -> &'static str;

    fn program(&self) -> Program;
}

/// Plays calls around one contender after the other, each with a folder of its
/// own; prints the table, or writes the page of this name and head too.
///
/// # Errors
/// A program that is missing or does not start; a figure that falls short.
pub(crate) fn run<C: Contender, R: Row, const N: usize>(
    contenders: [C; N],
    options: &Options,
    (name, head): (&str, &str),
    play: impl Fn(&C, &Path) -> Result<R>,
) -> Result<()> {
    let contenders = chosen(contenders.into(), |one| one.name(), &options.only)?;
    let programs: Vec<_> = contenders.iter().map(C::program).collect();
    let machine = machine(&programs)?;
    let out = options.out.clone();
    let out = out.unwrap_or_else(|| Path::new("target").join(name));
    let mut rows = Vec::new();
    for contender in &contenders {
        let folder = out.join(contender.name());
        fresh(&folder)?;
        rows.push(play(contender, &folder).with_context(|| contender.name())?);
    }
    let document = Document {
        machine: &machine,
        seconds: options.seconds,
        rate: options.rate,
        rows: &rows,
    };
    document.tell(options, (name, head))
}

/// What one contender of a run came to.
pub(crate) trait Row: Serialize {
    /// What stands beside its figures in the table; the first, for its name, is
    /// empty.
    const LABELS: &[&str];

    fn name(&self) -> &str;

    /// Its name and a figure for each further label.
    fn column(&self) -> Vec<String>;

    /// Whatever went wrong, and whether the run falls short by it.
    fn faults(&self) -> Vec<(String, bool)>;
}

/// Calls around one contender after the other: what is written as JSON.
#[derive(Serialize)]
struct Document<'a, R> {
    machine: &'a Machine,
    seconds: u64,
    /// Calls a second.
    rate: u32,
    rows: &'a [R],
}

impl<R: Row> Document<'_, R> {
    /// Prints the table, or JSON, and what went wrong; writes a page of this
    /// name and head where it is to be published.
    ///
    /// # Errors
    /// The page cannot be written; a figure falls short.
    fn tell(&self, options: &Options, (name, head): (&str, &str)) -> Result<()> {
        if options.json {
            println!("{}", serde_json::to_string_pretty(self)?);
        } else {
            println!("{}", aligned(&self.table()));
        }
        let faults = self.faults();
        for fault in &faults {
            eprintln!("{fault}");
        }
        if let Some(folder) = &options.publish {
            let text = page(head, self.machine, &self.table(), &faults);
            write(folder, &format!("{name}.md"), &text)?;
        }
        let faults = self.rows.iter().flat_map(R::faults);
        ensure!(
            faults.filter(|(_, short)| *short).count() == 0,
            "figures fall short, see above"
        );
        Ok(())
    }

    /// A column for each contender.
    fn table(&self) -> Vec<Vec<String>> {
        let columns: Vec<_> = self.rows.iter().map(R::column).collect();
        let line = |(index, label): (usize, &&str)| {
            let cells = columns.iter().map(|column| column[index].clone());
            std::iter::once((*label).to_owned()).chain(cells).collect()
        };
        R::LABELS.iter().enumerate().map(line).collect()
    }

    /// A line for each thing that went wrong.
    fn faults(&self) -> Vec<String> {
        let of = |row: &R| {
            let lines = row.faults().into_iter().map(|(fault, short)| {
                let verdict = match short {
                    true => "FALLS SHORT",
                    false => "for the record",
                };
                format!("{}: {fault} ({verdict})", row.name())
            });
            lines.collect::<Vec<_>>()
        };
        self.rows.iter().flat_map(of).collect()
    }
}

/// A page for publication: what was done, on which machine, what came of it
/// and what went wrong.
pub(crate) fn page(
    head: &str,
    machine: &Machine,
    table: &[Vec<String>],
    faults: &[String],
) -> String {
    let mut text = format!("{head}\n{}", machine.text());
    let _ = write!(text, "\n{}", markdown(table));
    if !faults.is_empty() {
        text += "\n## What went wrong\n\n";
        for fault in faults {
            let _ = writeln!(text, "- {fault}");
        }
    }
    text
}

/// Writes the file `name` in `folder`, and says so.
///
/// # Errors
/// It cannot be written.
pub(crate) fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
