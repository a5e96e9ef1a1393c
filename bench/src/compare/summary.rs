//! Samples to figures: medians with their spread, ratios, a table, JSON.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

/// What one contender did in one round.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) saturated_cpu_us: f64,
    pub(crate) saturated_rate: f64,
    pub(crate) saturated_busy_percent: f64,
    pub(crate) saturated_loss_percent: f64,
    pub(crate) half_rate: f64,
    pub(crate) half_cpu_us: f64,
    pub(crate) half_p50_us: f64,
    pub(crate) half_p99_us: f64,
    pub(crate) half_p999_us: f64,
    pub(crate) half_loss_percent: f64,
    pub(crate) memory_mib: f64,
    pub(crate) disturbed_percent: f64,
}

/// A figure that a sample has.
pub(crate) struct Metric {
    pub(crate) key: &'static str,
    pub(crate) label: &'static str,
    decimals: usize,
    pub(crate) of: fn(&Sample) -> f64,
}

const fn metric(
    key: &'static str,
    label: &'static str,
    decimals: usize,
    of: fn(&Sample) -> f64,
) -> Metric {
    Metric {
        key,
        label,
        decimals,
        of,
    }
}

pub(crate) const SATURATED_CPU: Metric =
    metric("saturated_cpu_us", "saturated: CPU us a message", 2, |s| {
        s.saturated_cpu_us
    });
pub(crate) const SATURATED_RATE: Metric =
    metric("saturated_rate", "saturated: messages/s", 0, |s| {
        s.saturated_rate
    });
pub(crate) const HALF_CPU: Metric = metric("half_cpu_us", "half load: CPU us a message", 2, |s| {
    s.half_cpu_us
});
pub(crate) const HALF_P99: Metric =
    metric("half_p99_us", "half load: p99 us", 0, |s| s.half_p99_us);

/// Every figure of the table, in its order.
const METRICS: [Metric; 12] = [
    SATURATED_CPU,
    SATURATED_RATE,
    metric("saturated_busy_percent", "saturated: core busy %", 0, |s| {
        s.saturated_busy_percent
    }),
    metric("saturated_loss_percent", "saturated: loss %", 4, |s| {
        s.saturated_loss_percent
    }),
    metric("half_rate", "half load: messages/s offered", 0, |s| {
        s.half_rate
    }),
    HALF_CPU,
    metric("half_p50_us", "half load: p50 us", 0, |s| s.half_p50_us),
    HALF_P99,
    metric("half_p999_us", "half load: p99.9 us", 0, |s| s.half_p999_us),
    metric("half_loss_percent", "half load: loss %", 4, |s| {
        s.half_loss_percent
    }),
    metric("memory_mib", "memory MiB", 1, |s| s.memory_mib),
    metric("disturbed_percent", "cores taken by others %", 1, |s| {
        s.disturbed_percent
    }),
];

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

    fn text(self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}..{max:.decimals$})")
    }
}

/// One contender and what it did in every round.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Results {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) rounds: Vec<Sample>,
}

impl Results {
    pub(crate) fn spread(&self, metric: &Metric) -> Spread {
        Spread::new(self.rounds.iter().map(metric.of))
    }

    /// CPU a message at saturation, relative to `other` round by round, so
    /// that a slow drift of the machine falls out.
    fn cpu_ratio(&self, other: &Self) -> Spread {
        let pairs = self.rounds.iter().zip(&other.rounds);
        Spread::new(pairs.map(|(own, other)| own.saturated_cpu_us / other.saturated_cpu_us))
    }
}

/// Names of the contenders that the others are held against.
const REFERENCES: [&str; 2] = ["bare mmsg", "kamailio"];

fn references(all: &[Results]) -> impl Iterator<Item = &Results> {
    REFERENCES
        .iter()
        .filter_map(|name| all.iter().find(|results| results.name == *name))
}

/// A table with a line a figure and a column a contender.
pub(crate) fn table(all: &[Results]) -> String {
    let mut rows = vec![(
        String::new(),
        all.iter().map(|one| one.name.clone()).collect(),
    )];
    for metric in &METRICS {
        let cells = |one: &Results| one.spread(metric).text(metric.decimals);
        rows.push((
            metric.label.to_owned(),
            all.iter().map(cells).collect::<Vec<_>>(),
        ));
        if metric.key == SATURATED_CPU.key {
            for reference in references(all) {
                let cells = |one: &Results| one.cpu_ratio(reference).text(2);
                let label = format!("  times {}", reference.name);
                rows.push((label, all.iter().map(cells).collect()));
            }
        }
    }
    let width = |column: usize| rows.iter().map(|(_, cells)| cells[column].len()).max();
    let widths: Vec<usize> = (0..all.len()).filter_map(width).collect();
    let mut text = String::new();
    for (label, cells) in &rows {
        let _ = write!(text, "{label:<30}");
        for (cell, width) in cells.iter().zip(&widths) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// Medians, spreads and ratios of one contender, by key.
#[derive(Debug, Serialize)]
pub(crate) struct Figures<'a> {
    #[serde(flatten)]
    results: &'a Results,
    figures: BTreeMap<&'static str, Spread>,
    /// CPU a message at saturation, relative to the reference named.
    cpu_ratio_to: BTreeMap<&'a str, Spread>,
}

/// The figures of every contender.
pub(crate) fn figures(all: &[Results]) -> Vec<Figures<'_>> {
    all.iter()
        .map(|results| Figures {
            results,
            figures: METRICS
                .iter()
                .map(|metric| (metric.key, results.spread(metric)))
                .collect(),
            cpu_ratio_to: references(all)
                .map(|reference| (reference.name.as_str(), results.cpu_ratio(reference)))
                .collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(name: &str, cpu: &[f64]) -> Results {
        let round = |&saturated_cpu_us: &f64| Sample {
            saturated_cpu_us,
            ..Sample::default()
        };
        Results {
            name: name.to_owned(),
            version: String::new(),
            rounds: cpu.iter().map(round).collect(),
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two() {
        let spread = |figures: &[f64]| Spread::new(figures.iter().copied());
        assert_eq!(
            spread(&[3.0, 1.0, 2.0]),
            Spread {
                median: 2.0,
                min: 1.0,
                max: 3.0
            }
        );
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(
            spread(&[7.0]),
            Spread {
                median: 7.0,
                min: 7.0,
                max: 7.0
            }
        );
    }

    #[test]
    fn ratios_compare_within_a_round() {
        let own = results("viaduct", &[2.0, 4.0, 6.0]);
        let other = results("kamailio", &[4.0, 8.0, 8.0]);
        assert_eq!(
            own.cpu_ratio(&other),
            Spread {
                median: 0.5,
                min: 0.5,
                max: 0.75
            }
        );
    }

    #[test]
    fn the_table_holds_every_figure_against_the_references() {
        let all = [results("bare mmsg", &[4.0]), results("viaduct", &[5.0])];
        let table = table(&all);
        assert!(table.contains("times bare mmsg"), "{table}");
        assert!(table.contains("1.25 (1.25..1.25)"), "{table}");
        assert!(!table.contains("times kamailio"), "{table}");
        let lengths: Vec<usize> = table.lines().map(str::len).collect();
        assert!(
            lengths.iter().all(|&length| length == lengths[0]),
            "{table}"
        );
    }

    #[test]
    fn the_json_names_figures_and_ratios() {
        let all = [results("bare mmsg", &[4.0]), results("viaduct", &[5.0])];
        let json = serde_json::to_value(figures(&all)).expect("JSON");
        assert_eq!(json[1]["figures"]["saturated_cpu_us"]["median"], 5.0);
        assert_eq!(json[1]["cpu_ratio_to"]["bare mmsg"]["median"], 1.25);
        assert_eq!(json[1]["rounds"][0]["saturated_cpu_us"], 5.0);
    }
}
