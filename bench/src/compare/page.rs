//! The published page, the figures in the README, and the raw JSON.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::contender::{STATEFUL, STATELESS, TWO_WORKERS};
use super::part::{FIXED, HALF, Load};
use super::plot;
use super::summary::{CPU, Cell, Disturbed, LIMITED, Metric, P50, P99, P999, RATE, Results};
use super::target::{self, Target};
use crate::document::{Machine, markdown, write};

/// A whole run: what is written as JSON.
#[derive(Serialize)]
pub(crate) struct Document<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) targets: &'a [Target],
    pub(crate) parts: &'a [Results],
}

/// Where the README's figures begin and end.
const BEGIN: &str = "<!-- figures of scripts/compare begin -->\n";
const END: &str = "<!-- figures of scripts/compare end -->\n";

/// Writes JSON and plots to `folder`, each named after `prefix`.
///
/// # Errors
/// The folder cannot be written.
pub(crate) fn raw(document: &Document<'_>, folder: &Path, prefix: &str) -> Result<()> {
    let json = serde_json::to_string(document)?;
    write(folder, &format!("{prefix}.json"), &(json + "\n"))?;
    for part in document.parts {
        let name = format!("{prefix}-{}.svg", part.name);
        write(folder, &name, &plot::svg(part)?)?;
    }
    Ok(())
}

/// Writes the page, JSON and plots to `folder`, and the figures into the
/// README beside it.
///
/// # Errors
/// A file cannot be read or written, or the README has no place for figures.
pub(crate) fn publish(document: &Document<'_>, folder: &Path) -> Result<()> {
    raw(document, folder, "benchmark")?;
    write(folder, "benchmark.md", &page(document))?;
    let root = folder.join("..");
    let path = root.join("README.md");
    let readme = fs::read_to_string(&path).with_context(|| format!("cannot read {path:?}"))?;
    let renewed = renew(&readme, &figures(document))
        .with_context(|| format!("{path:?} has no lines {BEGIN:?} and {END:?}"))?;
    write(&root, "README.md", &renewed)
}

/// `readme` with `figures` between the marks.
fn renew(readme: &str, figures: &str) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{figures}{END}{after}"))
}

/// The headline for the README.
fn figures(document: &Document<'_>) -> String {
    let mut text = format!(
        "On {} cores of {}, Linux {}; medians, least and greatest in brackets:\n\n",
        document.machine.cores, document.machine.processor, document.machine.kernel
    );
    let headline = document.parts.iter().find(|part| part.name == "headline");
    if let Some(headline) = headline {
        let setup = headline.setups().first().copied().unwrap_or_default();
        let columns = [
            (Load::Full, CPU, "CPU us a message, full queue"),
            (Load::Saturated, RATE, "messages/s, saturated"),
            (FIXED, CPU, "CPU us a message, 50,000 messages/s"),
            (HALF, P99, "p99 us, half load"),
        ];
        let mut rows = vec![vec![String::new()]];
        rows[0].extend(columns.iter().map(|(_, _, label)| (*label).to_owned()));
        for contender in headline.contenders() {
            let mut row = vec![contender.to_owned()];
            for (load, metric, _) in &columns {
                let cell = headline.cell(contender, setup, &load.to_string());
                row.push(cell.map_or_else(String::new, |cell| figure(cell, metric)));
            }
            rows.push(row);
        }
        text += &markdown(&rows);
        if headline.cells.iter().any(Cell::limited) {
            let _ = write!(text, "\n\\{LIMITED}\n");
        }
    }
    let count = |met| {
        document
            .targets
            .iter()
            .filter(|one| one.met == Some(met))
            .count()
    };
    let _ = write!(
        text,
        "\n![CPU a message, messages a second, latency](docs/benchmark-headline.svg)\n\n\
         Of the targets {} are met and {} missed; [docs/benchmark.md](docs/benchmark.md) has each of\n\
         them, every axis, the rows that lose, and the raw data.\n",
        count(true),
        count(false)
    );
    text
}

fn figure(cell: &Cell, metric: &Metric) -> String {
    let spread = cell.spread(metric);
    let decimals = if spread.median < 100.0 { 2 } else { 0 };
    let star = if cell.limited() { "\\*" } else { "" };
    if spread.max > 0.0 {
        format!("{}{star}", spread.text(decimals))
    } else {
        "-".to_owned()
    }
}

/// The whole page.
fn page(document: &Document<'_>) -> String {
    let machine = document.machine;
    let mut text = format!(
        "# The benchmark's results\n\n\
         Written by `scripts/compare --publish docs`; [bench/README.md](../bench/README.md) says how\n\
         everything is measured, [benchmark.json](benchmark.json) has every round of it.\n\n\
         **Machine**: {} cores of {}, Linux {}. Ratios carry over to others better than times do.\n\n",
        machine.cores, machine.processor, machine.kernel
    );
    for (name, version) in &machine.versions {
        let _ = writeln!(text, "- {name}: {version}");
    }
    let _ = writeln!(
        text,
        "\n**Disturbance**: {}.",
        Disturbed::new(document.parts)
    );
    text += "\n## Targets\n\n";
    text += &markdown(&target::table(document.targets));
    text += "\n## Where Viaduct loses\n\n";
    text += &losses(document);
    for part in document.parts {
        let _ = write!(
            text,
            "\n## {}\n\n{} rounds of {} s.\n\n![{}](benchmark-{}.svg)\n",
            part.title, part.rounds, part.seconds, part.title, part.name
        );
        for (title, rows) in part.tables() {
            let _ = write!(text, "\n**{title}**\n\n{}", markdown(&rows));
        }
        if part.cells.iter().any(Cell::limited) {
            let _ = write!(text, "\n\\{LIMITED}\n");
        }
        if part.contenders().contains(&TWO_WORKERS) {
            let _ = write!(
                text,
                "\n{TWO_WORKERS} has both cores, one of them together with the generator: its CPU time and\n\
                 memory count, its messages a second and latency do not compare.\n"
            );
        }
    }
    text
}

/// Every setup and load in which Viaduct as it comes, or with transactions,
/// takes more than another.
fn losses(document: &Document<'_>) -> String {
    let mut lines = Vec::new();
    for part in document.parts {
        let costs = part.columns.costs.iter();
        let metrics: Vec<Metric> = costs.copied().chain([P50, P99, P999]).collect();
        let own = part.cells.iter();
        for own in own.filter(|cell| [STATELESS, STATEFUL].contains(&cell.contender.as_str())) {
            let others = part.cells.iter().filter(|cell| {
                let name = cell.contender.as_str();
                let stateless = name == STATELESS && own.contender == STATEFUL;
                let apart = stateless || name != "direct" && !name.starts_with("viaduct");
                apart && cell.setup == own.setup && cell.load == own.load
            });
            let mut lost = Vec::new();
            for other in others {
                for metric in &metrics {
                    let label = metric.label.replace(" us", "");
                    let ratio = own.ratio(other, metric);
                    if let Some(ratio) = ratio.filter(|ratio| ratio.median > 1.0) {
                        let ratio = ratio.text(2);
                        lost.push(format!("{label} {ratio} times {}", other.contender));
                    }
                }
            }
            if !lost.is_empty() {
                let (title, setup, load) = (&part.title, &own.setup, &own.load);
                let who = match own.contender.as_str() {
                    STATEFUL => format!(", {STATEFUL}"),
                    _ => String::new(),
                };
                lines.push(format!(
                    "- **{title}: {setup}, {load}{who}**: {}\n",
                    lost.join("; ")
                ));
            }
        }
    }
    if lines.is_empty() {
        "Nowhere in this run.\n".to_owned()
    } else {
        lines.concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::example;

    fn machine() -> Machine {
        Machine {
            kernel: "6.18".to_owned(),
            processor: "a processor".to_owned(),
            cores: 2,
            versions: vec![("kamailio".to_owned(), "version: 5.6".to_owned())],
            arguments: Vec::new(),
        }
    }

    #[test]
    fn the_page_names_targets_missed_and_rows_that_lose() {
        let parts = [example(
            Load::Full,
            &[
                ("bare-mmsg", &[4.0]),
                ("kamailio", &[8.0]),
                ("viaduct-pad", &[5.0]),
            ],
        )];
        let machine = machine();
        let document = Document {
            machine: &machine,
            targets: &target::all(&parts),
            parts: &parts,
        };
        let page = page(&document);
        assert!(page.contains("in 0 of 3 measurements"), "{page}");
        assert!(page.contains("MISSED"), "{page}");
        assert!(
            page.contains("CPU a message 1.25 (1.25..1.25) times bare-mmsg"),
            "{page}"
        );
        assert!(!losses(&document).contains("kamailio"), "{page}");
        assert!(page.contains("kamailio: version: 5.6"), "{page}");
    }

    #[test]
    fn figures_replace_what_stands_between_the_marks() {
        let readme = format!("# One\n{BEGIN}old\n{END}two\n");
        let renewed = renew(&readme, "new\n");
        assert_eq!(renewed, Some(format!("# One\n{BEGIN}new\n{END}two\n")));
        assert_eq!(renew("no marks", "new"), None);
    }
}
