//! The metrics of one scrape, and how they are written.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::health::RoundTrips;
use crate::worker::Distribution;

/// Metrics in the order in which they are written.
#[derive(Debug, Default)]
pub(super) struct Page(Vec<Family>);

/// One metric with all its labels.
#[derive(Debug)]
struct Family {
    /// Of a counter without `_total`, which the encoder adds.
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<(Vec<Label>, Value)>,
}

type Label = (&'static str, String);

/// What is measured.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A whole number.
    Count(u64),
    /// Any number.
    Number(f64),
    /// How often there was how much: for each bucket its upper bound and how
    /// many fell into it; and all values added up.
    Spread(Vec<(f64, u64)>, f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<bool> for Value {
    fn from(holds: bool) -> Self {
        Self::Count(holds.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<&Distribution> for Value {
    fn from(all: &Distribution) -> Self {
        let bounds = all.bounds.iter().copied().chain([f64::INFINITY]);
        Self::Spread(bounds.zip(all.counts.iter().copied()).collect(), all.sum)
    }
}

/// In seconds.
impl From<&RoundTrips> for Value {
    fn from(all: &RoundTrips) -> Self {
        let bounds = RoundTrips::BOUNDS.map(|bound| bound.as_secs_f64());
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        Self::Spread(bounds.zip(all.buckets).collect(), all.sum.as_secs_f64())
    }
}

impl Page {
    /// Adds what only grows.
    pub(super) fn counter(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Value>,
    ) {
        self.counters(name, help, [], [([], value)]);
    }

    /// Adds what goes up and down.
    pub(super) fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Value>,
    ) {
        self.gauges(name, help, [], [([], value)]);
    }

    /// Adds how often there was how much.
    pub(super) fn histogram(
        &mut self,
        name: &'static str,
        help: &'static str,
        value: impl Into<Value>,
    ) {
        self.histograms(name, help, [], [([], value)]);
    }

    /// Adds what has these outcomes, how often each.
    pub(super) fn outcomes<const N: usize>(
        &mut self,
        name: &'static str,
        help: &'static str,
        all: [(&'static str, u64); N],
    ) {
        let all = all.map(|(outcome, n)| ([outcome.to_owned()], n));
        self.counters(name, help, ["outcome"], all);
    }

    /// Adds what only grows, by labels.
    pub(super) fn counters<const N: usize, V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        self.add(MetricType::Counter, name, help, labels, samples);
    }

    /// Adds what goes up and down, by labels.
    pub(super) fn gauges<const N: usize, V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        self.add(MetricType::Gauge, name, help, labels, samples);
    }

    /// Adds how often there was how much, by labels.
    pub(super) fn histograms<const N: usize, V: Into<Value>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        self.add(MetricType::Histogram, name, help, labels, samples);
    }

    fn add<const N: usize, V: Into<Value>>(
        &mut self,
        kind: MetricType,
        name: &'static str,
        help: &'static str,
        labels: [&'static str; N],
        samples: impl IntoIterator<Item = ([String; N], V)>,
    ) {
        let samples = samples.into_iter().map(|(values, value)| {
            let labels = labels.into_iter().zip(values).collect();
            (labels, value.into())
        });
        self.0.push(Family {
            name,
            help,
            kind,
            samples: samples.collect(),
        });
    }

    /// The text.
    pub(super) fn write(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        prometheus_text::encode(&mut text, &registry).expect("invariant: a String takes all");
        text
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.0 {
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.samples {
                let labels = labels.as_slice();
                value.encode(family.kind, metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, mut metric: MetricEncoder<'_>) -> fmt::Result {
        let counter = matches!(kind, MetricType::Counter);
        match self {
            Self::Count(n) if counter => metric.encode_counter::<NoLabelSet, _, f64>(n, None),
            Self::Number(n) if counter => metric.encode_counter::<NoLabelSet, _, f64>(n, None),
            Self::Count(n) => metric.encode_gauge(n),
            Self::Number(n) => metric.encode_gauge(n),
            Self::Spread(buckets, sum) => {
                let count = buckets.iter().map(|(_, n)| n).sum();
                metric.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)
            }
        }
    }
}
