//! Samples to figures: medians with their spread, ratios, tables.

use std::fmt::Write;

use serde::Serialize;

use super::measure::Sample;
use super::part::Load;
use crate::document::aligned;
use crate::report::Percentiles;

/// A figure that a sample has.
#[derive(Clone, Copy)]
pub(crate) struct Metric {
    pub(crate) label: &'static str,
    decimals: usize,
    pub(crate) of: fn(&Sample) -> f64,
}

const fn metric(label: &'static str, decimals: usize, of: fn(&Sample) -> f64) -> Metric {
    Metric {
        label,
        decimals,
        of,
    }
}

fn latency(sample: &Sample, of: fn(&Percentiles) -> f64) -> f64 {
    sample.latency_us.as_ref().map_or(0.0, of)
}

pub(crate) const CPU: Metric = metric("CPU us a message", 2, |s| s.cpu_us);
pub(crate) const RATE: Metric = metric("messages/s", 0, |s| s.rate);
pub(crate) const P50: Metric = metric("p50 us", 0, |s| latency(s, |l| l.p50));
pub(crate) const P99: Metric = metric("p99 us", 0, |s| latency(s, |l| l.p99));
pub(crate) const P999: Metric = metric("p99.9 us", 0, |s| latency(s, |l| l.p999));
pub(crate) const RESIDENT: Metric = metric("resident MiB", 1, |s| s.resident_mib);
const BUSY: Metric = metric("core busy %", 0, |s| s.busy_percent);
const GENERATOR: Metric = metric("generator busy %", 0, |s| s.generator_busy_percent);
const LOSS: Metric = metric("loss %", 2, |s| s.loss_percent);
const MEMORY: Metric = metric("memory MiB", 1, |s| s.memory_mib);

/// The figures that stand with their spread, and those of which the median
/// says enough.
const SPREAD: [Metric; 2] = [CPU, RATE];
const PLAIN: [Metric; 7] = [BUSY, GENERATOR, LOSS, P50, P99, P999, MEMORY];

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(crate) fn new(figures: impl Iterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.collect();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        }
    }

    pub(crate) fn text(self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
    }
}

/// The rounds of one contender in one setup under one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cell {
    pub(crate) contender: String,
    pub(crate) setup: String,
    pub(crate) load: String,
    pub(crate) rounds: Vec<Sample>,
}

impl Cell {
    pub(crate) fn spread(&self, metric: &Metric) -> Spread {
        Spread::new(self.rounds.iter().map(metric.of))
    }

    /// Relative to `other` round by round, so that a slow drift of the machine
    /// falls out; `None` where `other` has no such figure.
    pub(crate) fn ratio(&self, other: &Self, metric: &Metric) -> Option<Spread> {
        self.paired(other, metric, |own, other| own / other)
            .filter(|ratio| ratio.max.is_finite() && ratio.min > 0.0)
    }

    /// Beyond `other`, round by round.
    pub(crate) fn beyond(&self, other: &Self, metric: &Metric) -> Option<Spread> {
        self.paired(other, metric, |own, other| own - other)
    }

    fn paired(
        &self,
        other: &Self,
        metric: &Metric,
        of: impl Fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        let pairs = self.rounds.iter().zip(&other.rounds);
        let figures: Vec<f64> = pairs
            .map(|(own, other)| of((metric.of)(own), (metric.of)(other)))
            .collect();
        (!figures.is_empty()).then(|| Spread::new(figures.into_iter()))
    }

    /// Whether the generator was the limit and not the contender.
    pub(crate) fn limited(&self) -> bool {
        if self.load == Load::Full.to_string() {
            return false;
        }
        let generator = self.spread(&GENERATOR).median;
        generator > 95.0 && self.spread(&BUSY).median < 95.0
    }
}

/// A grid that was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) rounds: u16,
    /// Of each load.
    pub(crate) seconds: f64,
    pub(crate) cells: Vec<Cell>,
}

/// Contenders that the others are held against.
pub(crate) const REFERENCES: [&str; 4] = ["bare-mmsg", "bare-gso-equal", "bare-gso", "kamailio"];

impl Results {
    pub(crate) fn cell(&self, contender: &str, setup: &str, load: &str) -> Option<&Cell> {
        self.cells
            .iter()
            .find(|cell| cell.contender == contender && cell.setup == setup && cell.load == load)
    }

    /// The labels of the setups, each once, in order.
    pub(crate) fn setups(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.setup.as_str()))
    }

    pub(crate) fn loads(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.load.as_str()))
    }

    pub(crate) fn contenders(&self) -> Vec<&str> {
        distinct(self.cells.iter().map(|cell| cell.contender.as_str()))
    }

    /// A table for each setup and load: its title, the head and the lines.
    pub(crate) fn tables(&self) -> Vec<(String, Vec<Vec<String>>)> {
        let mut tables = Vec::new();
        let present = self.contenders();
        let references = || REFERENCES.iter().filter(|name| present.contains(name));
        for setup in self.setups() {
            for load in self.loads() {
                let mut rows = vec![head(references())];
                for contender in &present {
                    if let Some(cell) = self.cell(contender, setup, load) {
                        let held = references().map(|name| self.cell(name, setup, load));
                        rows.push(line(cell, held));
                    }
                }
                tables.push((format!("{setup}, {load}"), rows));
            }
        }
        tables
    }

    /// For the terminal.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{}\n", self.title);
        for (title, rows) in self.tables() {
            let _ = writeln!(text, "\n{title}");
            text += &aligned(&rows);
        }
        if self.cells.iter().any(Cell::limited) {
            text.push_str(LIMITED);
            text.push('\n');
        }
        text
    }
}

/// What the star says.
pub(crate) const LIMITED: &str = "* The generator was the limit, not the contender.";

fn head<'a>(references: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    let mut head = vec![String::new(), CPU.label.to_owned()];
    head.extend(references.map(|name| format!("times {name}")));
    head.push(RATE.label.to_owned());
    head.extend(PLAIN.map(|metric| metric.label.to_owned()));
    head
}

fn line<'a>(cell: &Cell, references: impl Iterator<Item = Option<&'a Cell>>) -> Vec<String> {
    let star = if cell.limited() { "*" } else { "" };
    let of = |metric: &Metric| {
        let spread = cell.spread(metric);
        if spread.max > 0.0 {
            spread.text(metric.decimals)
        } else {
            "-".to_owned()
        }
    };
    let mut line = vec![format!("{}{star}", cell.contender), of(&SPREAD[0])];
    for reference in references {
        let ratio = reference.and_then(|reference| cell.ratio(reference, &CPU));
        line.push(ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.text(2)));
    }
    line.push(of(&SPREAD[1]));
    line.extend(PLAIN.map(|metric| {
        let median = cell.spread(&metric).median;
        if median > 0.0 || metric.label == LOSS.label {
            format!("{median:.*}", metric.decimals)
        } else {
            "-".to_owned()
        }
    }));
    line
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// Results of one setup, with these CPU times a message.
#[cfg(test)]
pub(crate) fn example(load: Load, contenders: &[(&str, &[f64])]) -> Results {
    let cell = |&(name, cpu): &(&str, &[f64])| Cell {
        contender: name.to_owned(),
        setup: "4".to_owned(),
        load: load.to_string(),
        rounds: cpu
            .iter()
            .map(|&cpu_us| Sample {
                cpu_us,
                ..Sample::default()
            })
            .collect(),
    };
    Results {
        name: "headline".to_owned(),
        title: "An example".to_owned(),
        rounds: 1,
        seconds: 1.0,
        cells: contenders.iter().map(cell).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64, min: f64, max: f64) -> Spread {
        Spread { median, min, max }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let of = |figures: &[f64]| Spread::new(figures.iter().copied());
        assert_eq!(of(&[3.0, 1.0, 2.0]), spread(2.0, 1.0, 3.0));
        assert_eq!(of(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(of(&[7.0]), spread(7.0, 7.0, 7.0));
    }

    #[test]
    fn ratios_compare_within_a_round() {
        let results = example(
            Load::Full,
            &[("one", &[2.0, 4.0, 6.0]), ("other", &[4.0, 8.0, 8.0])],
        );
        let ratio = results.cells[0].ratio(&results.cells[1], &CPU);
        assert_eq!(ratio, Some(spread(0.5, 0.5, 0.75)));
    }

    #[test]
    fn nothing_is_a_multiple_of_what_takes_no_time() {
        let results = example(Load::Full, &[("one", &[2.0]), ("direct", &[0.0])]);
        assert_eq!(results.cells[0].ratio(&results.cells[1], &CPU), None);
    }

    #[test]
    fn the_table_holds_every_contender_against_the_references() {
        let text = example(
            Load::Full,
            &[("bare-mmsg", &[4.0]), ("viaduct-pad", &[5.0])],
        )
        .text();
        assert!(text.contains("times bare-mmsg"), "{text}");
        assert!(text.contains("1.25 (1.25..1.25)"), "{text}");
        assert!(!text.contains("times kamailio"), "{text}");
        assert!(!text.contains(LIMITED), "{text}");
    }

    #[test]
    fn a_row_where_the_generator_was_the_limit_is_marked() {
        let mut results = example(Load::Saturated, &[("bare-gso", &[1.0])]);
        results.cells[0].rounds[0].generator_busy_percent = 99.0;
        results.cells[0].rounds[0].busy_percent = 60.0;
        assert!(results.text().contains("bare-gso*"));
        assert!(results.text().contains(LIMITED));
        results.cells[0].rounds[0].busy_percent = 99.0;
        assert!(!results.text().contains(LIMITED));
    }
}
