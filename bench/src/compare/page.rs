//! The published page, the figures in the README, and the raw JSON.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use super::contender::{DIRECT, GSO_EQUAL, KAMAILIO, MMSG, OFF, STATELESS, TWO_WORKERS};
use super::part::{FIXED, HALF, Load};
use super::plot;
use super::summary::{
    CARRIED, CPU, Cell, Disturbed, HELD, LIMITED, Metric, P50, P99, P999, RATE, Results, Spread,
};
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

/// The rows of the headline that the README has: the forwarders to be measured by,
/// the peer, and Viaduct without runs and as it comes.
const FOR_README: [&str; 5] = [MMSG, GSO_EQUAL, KAMAILIO, OFF, STATELESS];

/// The headline for the README.
fn figures(document: &Document<'_>) -> String {
    let mut text = format!(
        "On {} cores of {}, Linux {}, {}; medians, least and greatest in brackets:\n\n",
        document.machine.cores,
        document.machine.processor,
        document.machine.kernel,
        document.machine.date
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
        let contenders = headline.contenders().into_iter();
        for contender in contenders.filter(|name| FOR_README.contains(name)) {
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
    let mut text = format!(
        "# The benchmark's results\n\n\
         Written by `scripts/compare --publish docs`; [bench/README.md](../bench/README.md) says how\n\
         everything is measured, [benchmark.json](benchmark.json) has every round of it.\n\n\
         {}",
        document.machine.text()
    );
    let _ = writeln!(
        text,
        "\n**Disturbance**: {}.",
        Disturbed::new(document.parts)
    );
    text += "Ratios carry over to other machines better than times do. Loss, and what is sent again, count\n\
             with the warm-up before the measured time, 35 s of the sustained minute; all else counts in\n\
             that time.\n\n## Targets\n\n";
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

/// Where a Viaduct costs more, waits longer, loses more, carries less or takes
/// more memory than another.
fn losses(document: &Document<'_>) -> String {
    let mut text = String::new();
    for part in document.parts {
        let mut lines = String::new();
        for own in part.cells.iter().filter(|cell| cell.is_viaduct()) {
            let rivals = rivals(part, own);
            let lost = rivals.flat_map(|other| worse(part, own, other));
            let lost: Vec<String> = lost.collect();
            if !lost.is_empty() {
                let (setup, load, name) = (&own.setup, &own.load, &own.contender);
                let _ = writeln!(lines, "- {setup}, {load}, {name}: {}", lost.join("; "));
            }
        }
        if !lines.is_empty() {
            let _ = write!(text, "**{}**\n\n{lines}\n", part.title);
        }
    }
    text += &memory(document);
    if text.is_empty() {
        text.push_str("Nowhere in this run.\n");
    }
    text
}

/// Who takes less memory than each Viaduct, in the first part that has it and
/// after all its loads: told once, for it hardly depends on anything else.
fn memory(document: &Document<'_>) -> String {
    let mut lines = String::new();
    let mut told = Vec::new();
    for part in document.parts {
        let (setups, loads) = (part.setups(), part.loads());
        let cells = part.cells.iter().filter(|cell| {
            cell.is_viaduct() && cell.setup == setups[0] && cell.load == loads[loads.len() - 1]
        });
        for own in cells {
            if told.contains(&&own.contender) {
                continue;
            }
            told.push(&own.contender);
            let held = |cell: &Cell| cell.spread(&HELD).median;
            let less = rivals(part, own).filter(|other| held(other) < held(own));
            let less = less.map(|other| format!("{} {:.1}", other.contender, held(other)));
            let less: Vec<String> = less.collect();
            if !less.is_empty() {
                let (name, held, less) = (&own.contender, held(own), less.join(", "));
                let _ = writeln!(lines, "- {name} {held:.1}; {less}");
            }
        }
    }
    if lines.is_empty() {
        return lines;
    }
    format!("**Memory in MiB, and who takes less**\n\n{lines}")
}

/// What `own` is held against: other programs, and Viaduct as it comes.
fn rivals<'a>(part: &'a Results, own: &'a Cell) -> impl Iterator<Item = &'a Cell> {
    part.cells.iter().filter(|other| {
        let apart = !other.is_viaduct() && other.contender != DIRECT;
        let plain = other.contender == STATELESS && own.contender != STATELESS;
        (apart || plain) && other.setup == own.setup && other.load == own.load
    })
}

/// In which figures `own` loses against `other`.
fn worse(part: &Results, own: &Cell, other: &Cell) -> Vec<String> {
    let times = |metric: &Metric, ratio: Spread| {
        let label = metric.label.replace(" us", "");
        format!("{label} {} times {}", ratio.text(2), other.contender)
    };
    let mut lost = Vec::new();
    let mut more = |metric: &Metric| {
        let ratio = own.ratio(other, metric).filter(|ratio| ratio.median > 1.0);
        lost.extend(ratio.map(|ratio| times(metric, ratio)));
    };
    part.columns.costs.iter().for_each(&mut more);
    if own.contender == TWO_WORKERS {
        return lost;
    }
    [P50, P99, P999].iter().for_each(&mut more);
    // With a full queue the rate follows from the cost, and where all comes through
    // it is what was offered.
    let fell_short = own.spread(&CARRIED).median < 0.995;
    if own.load != Load::Full.to_string() && fell_short && !own.limited() {
        let ratio = own.ratio(other, &RATE).filter(|ratio| ratio.median < 1.0);
        lost.extend(ratio.map(|ratio| times(&RATE, ratio)));
    }
    let amiss = part.columns.others.iter().filter(|metric| metric.from_zero);
    for metric in amiss {
        let least = 0.5 / 10f64.powi(metric.decimals as i32);
        let beyond = own.beyond(other, metric);
        if let Some(beyond) = beyond.filter(|beyond| beyond.median >= least) {
            let (label, figures) = (metric.label, beyond.text(metric.decimals));
            lost.push(format!("{label} {figures} beyond {}", other.contender));
        }
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::{SUSTAINED, example};

    fn machine() -> Machine {
        Machine {
            kernel: "6.18".to_owned(),
            processor: "a processor".to_owned(),
            cores: 2,
            commit: "0123abc".to_owned(),
            date: "2026-01-31".to_owned(),
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
        assert!(page.contains("- kamailio: version: 5.6\n"), "{page}");
        assert!(page.contains("2026-01-31, commit 0123abc."), "{page}");
    }

    #[test]
    fn rate_loss_memory_and_every_viaduct_count_among_the_losses() {
        let names = ["kamailio", "viaduct-off", "viaduct-pad-2w"];
        let mut parts = [example(
            Load::Saturated,
            &names.map(|name| (name, &[1.0][..])),
        )];
        for (cell, figure) in parts[0].cells.iter_mut().zip([4.0, 2.0, 2.0]) {
            let sample = &mut cell.rounds[0];
            sample.rate = figure;
            sample.loss_percent = 4.0 - figure;
            sample.memory_mib = 10.0 - figure;
        }
        let machine = machine();
        let lost = |parts: &[Results]| {
            losses(&Document {
                machine: &machine,
                targets: &[],
                parts,
            })
        };
        let text = lost(&parts);
        let off = "- 4, saturated, viaduct-off: messages/s 0.50 (0.50..0.50) times kamailio; \
                   loss % 2.00 (2.00..2.00) beyond kamailio\n";
        assert!(text.contains(off), "{text}");
        assert!(!text.contains("viaduct-pad-2w:"), "{text}");
        assert!(
            text.contains("\n- viaduct-pad-2w 8.0; kamailio 6.0\n"),
            "{text}"
        );
        // Offered: all that came through, and twice as much.
        for (offered, is_told) in [(2.0, false), (4.0, true)] {
            for cell in &mut parts[0].cells {
                cell.load = "100 % load".to_owned();
                cell.rounds[0].offered = Some(offered);
            }
            let text = lost(&parts);
            assert_eq!(text.contains("messages/s 0.50"), is_told, "{text}");
        }
        parts[0].cells[1].rounds[0].generator_busy_percent = 99.0;
        let text = lost(&parts);
        assert!(!text.contains("messages/s"), "{text}");
        for (cell, again) in parts[0].cells.iter_mut().zip([0, 3, 0]) {
            cell.rounds[0].unexpected = again;
            cell.rounds[0].growth_mib = again as f64;
        }
        assert!(!lost(&parts).contains("sent again"));
        parts[0].columns = SUSTAINED;
        let more =
            "sent again 3 (3..3) beyond kamailio; growth MiB 3.0 (3.0..3.0) beyond kamailio\n";
        let text = lost(&parts);
        assert!(text.contains(more), "{text}");
    }

    #[test]
    fn figures_replace_what_stands_between_the_marks() {
        let readme = format!("# One\n{BEGIN}old\n{END}two\n");
        let renewed = renew(&readme, "new\n");
        assert_eq!(renewed, Some(format!("# One\n{BEGIN}new\n{END}two\n")));
        assert_eq!(renew("no marks", "new"), None);
    }
}
