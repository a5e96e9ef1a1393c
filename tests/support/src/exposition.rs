//! A reader of Prometheus' text format, version 0.0.4.

use std::collections::{BTreeMap, BTreeSet};

/// One metric as the text describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    pub help: String,
    pub labels: BTreeSet<String>,
}

/// A scrape.
pub struct Exposition {
    /// By name.
    pub metrics: BTreeMap<String, Described>,
    /// By name and labels as they are written.
    pub samples: BTreeMap<String, f64>,
}

impl Exposition {
    #[track_caller]
    pub fn read(text: &str) -> Self {
        let mut metrics: BTreeMap<String, Described> = BTreeMap::new();
        let mut samples = BTreeMap::new();
        let mut current = String::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a help");
                current = name.to_owned();
                let described = metrics.entry(current.clone()).or_default();
                assert!(described.help.is_empty(), "{name} is described twice");
                described.help = help.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a type");
                assert_eq!(name, current);
                metrics.entry(current.clone()).or_default().kind = kind.to_owned();
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a sample");
                assert!(sample.starts_with(&current), "{sample} below {current}");
                let labels = labels(sample).into_iter().map(|(name, _)| name);
                let described = metrics.entry(current.clone()).or_default();
                described.labels.extend(labels.filter(|name| name != "le"));
                let value = value.parse().expect("a number");
                let before = samples.insert(sample.to_owned(), value);
                assert_eq!(before, None, "{sample} is there twice");
            }
        }
        Self { metrics, samples }
    }

    /// The value of a sample, by its name and labels as they are written.
    #[track_caller]
    pub fn value(&self, sample: &str) -> f64 {
        *self
            .samples
            .get(sample)
            .unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples.keys()))
    }

    /// The samples of a name added up.
    pub fn sum(&self, name: &str) -> f64 {
        let samples = self.samples.iter();
        let of = samples.filter(|(sample, _)| sample.split('{').next() == Some(name));
        of.map(|(_, value)| value).sum()
    }

    /// The names that a query may use.
    pub fn queried(&self) -> BTreeSet<String> {
        let samples = self.samples.keys();
        samples
            .map(|sample| sample.split('{').next().unwrap_or_default().to_owned())
            .chain(self.metrics.keys().cloned())
            .collect()
    }
}

/// The labels of a sample and their values; none holds a quote or a comma.
fn labels(sample: &str) -> Vec<(String, String)> {
    let Some((_, labels)) = sample.split_once('{') else {
        return Vec::new();
    };
    let labels = labels.strip_suffix('}').expect("a brace").split(',');
    labels
        .map(|label| {
            let (name, value) = label.split_once('=').expect("a label");
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}
