//! Samples to figures: medians with their spread, ratios, tables.

use std::fmt::{self, Write};

use serde::Serialize;

use super::contender::{GSO, GSO_EQUAL, KAMAILIO, KAMAILIO_TM, MMSG, STATELESS};
use super::measure::{DISTURBING, Sample};
use super::part::Load;
use crate::document::aligned;
use crate::report::Percentiles;

/// A figure that a sample has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    pub(crate) label: &'static str,
    pub(crate) decimals: usize,
    pub(crate) of: fn(&Sample) -> f64,
    /// Whether 0 is a figure and not the lack of one: what should not be.
    pub(crate) from_zero: bool,
}

const fn metric(label: &'static str, decimals: usize, of: fn(&Sample) -> f64) -> Metric {
    Metric {
        label,
        decimals,
        of,
        from_zero: false,
    }
}

const fn amiss(label: &'static str, decimals: usize, of: fn(&Sample) -> f64) -> Metric {
    Metric {
        from_zero: true,
        ..metric(label, decimals, of)
    }
}

fn latency(sample: &Sample, of: fn(&Percentiles) -> f64) -> f64 {
    sample.latency_us.as_ref().map_or(0.0, of)
}

pub(crate) const CPU: Metric = metric("CPU us a message", 2, |s| s.cpu_us);
pub(crate) const RATE: Metric = metric("messages/s", 0, |s| s.rate);
/// What came through of what was offered; 0 in a closed loop.
pub(crate) const CARRIED: Metric = metric("carried", 2, |s| {
    s.offered.map_or(0.0, |offered| s.rate / offered)
});
pub(crate) const P50: Metric = metric("p50 us", 0, |s| latency(s, |l| l.p50));
pub(crate) const P99: Metric = metric("p99 us", 0, |s| latency(s, |l| l.p99));
pub(crate) const P999: Metric = metric("p99.9 us", 0, |s| latency(s, |l| l.p999));
pub(crate) const RESIDENT: Metric = metric("resident MiB", 1, |s| s.resident_mib);
const BUSY: Metric = metric("core busy %", 0, |s| s.busy_percent);
pub(crate) const BESIDE: Metric = metric("beside workers %", 2, |s| s.beside_percent);
const GENERATOR: Metric = metric("generator busy %", 0, |s| s.generator_busy_percent);
const LOSS: Metric = amiss("loss %", 2, |s| s.loss_percent);
pub(crate) const HELD: Metric = metric("memory MiB", 1, |s| s.memory_mib);
pub(crate) const TRANSACTION: Metric = metric("CPU us a transaction", 2, |s| s.transaction_us);
pub(crate) const WIRE: Metric = metric("CPU us a message in or out", 2, |s| s.wire_us);
const A_CPU_SECOND: Metric = metric("transactions a CPU second", 0, |s| 1e6 / s.transaction_us);
pub(crate) const BEGUN: Metric = metric("transactions/s", 0, |s| s.transactions_a_second);
pub(crate) const LOST: Metric = amiss("loss %", 4, |s| s.loss_percent);
pub(crate) const UNEXPECTED: Metric = amiss("sent again", 0, |s| s.unexpected as f64);
pub(crate) const GROWTH: Metric = amiss("growth MiB", 1, |s| s.growth_mib);
pub(crate) const OCTETS: Metric = metric("octets a transaction", 0, |s| {
    s.growth_mib * f64::from(1 << 20) / s.transactions as f64
});

/// What a table shows of each contender.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Columns {
    /// With the spread, and as multiples of each reference's.
    pub(crate) costs: &'static [Metric],
    /// Contenders that the others are held against.
    pub(crate) references: &'static [&'static str],
    /// With the spread.
    pub(crate) rates: &'static [Metric],
    /// Those of which the median says enough.
    pub(crate) others: &'static [Metric],
}

const USUAL: [Metric; 7] = [BUSY, GENERATOR, LOSS, P50, P99, P999, HELD];

pub(crate) const MESSAGES: Columns = Columns {
    costs: &[CPU],
    references: &[MMSG, GSO_EQUAL, GSO, KAMAILIO],
    rates: &[RATE],
    others: &USUAL,
};

pub(crate) const OBSERVED: Columns = Columns {
    references: &[STATELESS],
    others: &[BUSY, BESIDE, GENERATOR, LOSS, P50, P99, P999, HELD],
    ..MESSAGES
};

pub(crate) const TRANSACTIONS: Columns = Columns {
    costs: &[TRANSACTION, WIRE],
    references: &[STATELESS, KAMAILIO_TM],
    rates: &[A_CPU_SECOND],
    others: &USUAL,
};

pub(crate) const SUSTAINED: Columns = Columns {
    costs: &[TRANSACTION, WIRE],
    references: &[STATELESS],
    rates: &[BEGUN],
    others: &[
        BUSY, GENERATOR, LOST, UNEXPECTED, P50, P99, P999, HELD, GROWTH,
    ],
};

pub(crate) const MEMORY: Columns = Columns {
    costs: &[OCTETS],
    references: &[KAMAILIO_TM],
    rates: &[BEGUN],
    others: &[LOST, UNEXPECTED, HELD, GROWTH],
};

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

    pub(crate) fn is_viaduct(&self) -> bool {
        self.contender.starts_with("viaduct")
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
    #[serde(skip)]
    pub(crate) columns: Columns,
}

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
        let references = self.columns.references.iter();
        let references: Vec<_> = references.filter(|name| present.contains(name)).collect();
        for setup in self.setups() {
            for load in self.loads() {
                let mut rows = vec![self.head(&references)];
                for contender in &present {
                    if let Some(cell) = self.cell(contender, setup, load) {
                        let held = references.iter().map(|name| self.cell(name, setup, load));
                        rows.push(self.line(cell, &held.collect::<Vec<_>>()));
                    }
                }
                tables.push((format!("{setup}, {load}"), rows));
            }
        }
        tables
    }

    fn head(&self, references: &[&&str]) -> Vec<String> {
        let Columns {
            costs,
            rates,
            others,
            ..
        } = self.columns;
        let mut head = vec![String::new()];
        for cost in costs {
            head.push(cost.label.to_owned());
            head.extend(references.iter().map(|name| format!("times {name}")));
        }
        let rest = rates.iter().chain(others);
        head.extend(rest.map(|metric| metric.label.to_owned()));
        head
    }

    fn line(&self, cell: &Cell, references: &[Option<&Cell>]) -> Vec<String> {
        let star = if cell.limited() { "*" } else { "" };
        let of = |metric: &Metric| {
            let spread = cell.spread(metric);
            if spread.max > 0.0 {
                spread.text(metric.decimals)
            } else {
                "-".to_owned()
            }
        };
        let mut line = vec![format!("{}{star}", cell.contender)];
        for cost in self.columns.costs {
            line.push(of(cost));
            for reference in references {
                let ratio = reference.and_then(|reference| cell.ratio(reference, cost));
                line.push(ratio.map_or_else(|| "-".to_owned(), |ratio| ratio.text(2)));
            }
        }
        line.extend(self.columns.rates.iter().map(of));
        line.extend(self.columns.others.iter().map(|metric| {
            let median = cell.spread(metric).median;
            if median > 0.0 || metric.from_zero {
                format!("{median:.*}", metric.decimals)
            } else {
                "-".to_owned()
            }
        }));
        line
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

/// How many measurements of a run others disturbed.
#[derive(Debug, PartialEq)]
pub(crate) struct Disturbed {
    all: usize,
    /// By other guests of the host.
    stolen: usize,
    /// Those where waiting for a core tells of other processes.
    alone: usize,
    waited: usize,
}

impl Disturbed {
    pub(crate) fn new(parts: &[Results]) -> Self {
        let cells = || parts.iter().flat_map(|part| &part.cells);
        let samples = || cells().flat_map(|cell| &cell.rounds);
        let waited = || samples().filter_map(|sample| sample.waited_percent);
        Self {
            all: samples().count(),
            stolen: samples().filter(|sample| sample.is_stolen_from()).count(),
            alone: waited().count(),
            waited: waited().filter(|&waited| waited > DISTURBING).count(),
        }
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.stolen + self.waited == 0
    }
}

impl fmt::Display for Disturbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            all,
            stolen,
            alone,
            waited,
        } = self;
        write!(
            f,
            "other guests took more than {DISTURBING} % in {stolen} of {all} measurements, \
             other processes in {waited} of the {alone} where that can be told"
        )
    }
}

/// What the star says.
pub(crate) const LIMITED: &str = "* The generator was the limit, not the contender.";

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
        columns: MESSAGES,
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
    fn a_quiet_run_is_silent_and_both_kinds_of_disturbance_are_counted() {
        let mut parts = [example(Load::Saturated, &[("one", &[1.0; 3])])];
        let quiet = Disturbed::new(&parts);
        assert!(quiet.is_silent(), "{quiet}");
        let rounds = &mut parts[0].cells[0].rounds;
        rounds[0].waited_percent = Some(0.9);
        rounds[1].waited_percent = Some(1.1);
        rounds[2].steal_percent = 1.1;
        let disturbed = Disturbed::new(&parts);
        assert!(!disturbed.is_silent());
        assert_eq!(
            disturbed.to_string(),
            "other guests took more than 1 % in 1 of 3 measurements, \
             other processes in 1 of the 2 where that can be told"
        );
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
