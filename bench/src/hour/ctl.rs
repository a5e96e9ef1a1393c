//! What an operator has in hand: `viaduct ctl`, and the metrics.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::admin::get;
use crate::running::viaduct_beside;

/// The admin socket of one instance.
pub(super) struct Ctl {
    program: PathBuf,
    socket: PathBuf,
}

impl Ctl {
    pub(super) fn new(socket: &Path) -> Result<Self> {
        Ok(Self {
            program: viaduct_beside()?,
            socket: socket.to_owned(),
        })
    }

    /// Runs `viaduct ctl` with these words. Returns what it prints.
    ///
    /// # Errors
    /// It fails; with its words.
    pub(super) fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        ensure!(
            output.status.success(),
            "viaduct ctl {} fails: {}",
            words.join(" "),
            said(&output)
        );
        Ok(said(&output))
    }

    /// Runs it where it must be refused. Returns what it says to that.
    ///
    /// # Errors
    /// It does not fail.
    pub(super) fn refused(&self, words: &[&str]) -> Result<String> {
        let output = self.output(words)?;
        ensure!(
            !output.status.success(),
            "viaduct ctl {} is not refused: {}",
            words.join(" "),
            said(&output)
        );
        Ok(said(&output))
    }

    /// Starts it. What it prints is to be read at its end.
    ///
    /// # Errors
    /// It does not start.
    pub(super) fn start(&self, words: &[&str]) -> Result<Child> {
        Command::new(&self.program)
            .args(["ctl", "--admin"])
            .arg(&self.socket)
            .args(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} cannot be run", self.program.display()))
    }

    fn output(&self, words: &[&str]) -> Result<Output> {
        Ok(self.start(words)?.wait_with_output()?)
    }

    /// What Prometheus would get.
    ///
    /// # Errors
    /// Nobody answers, or not with metrics.
    pub(super) fn metrics(&self) -> Result<Metrics> {
        let body = get(&self.socket, "/metrics")?;
        Ok(Metrics::read(&body))
    }
}

fn said(output: &Output) -> String {
    let both = [&*output.stdout, &*output.stderr].concat();
    String::from_utf8_lossy(&both).trim().to_owned()
}

/// One scrape: values by sample.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the text format of Prometheus.
    pub(super) fn read(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Self(lines.filter_map(sample).collect())
    }

    pub(super) fn value(&self, sample: &str) -> Option<f64> {
        self.0.get(sample).copied()
    }

    /// Those samples that begin with `name`.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let samples = self.0.iter().map(|(sample, value)| (&**sample, *value));
        samples.filter(move |(sample, _)| sample.starts_with(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_name_and_labels() {
        let metrics = Metrics::read(
            "# TYPE a_total counter\na_total{of=\"x y\"} 3\na_total{of=\"z\"} 4.5\nb 1\n# EOF\n",
        );
        assert_eq!(metrics.value("a_total{of=\"x y\"}"), Some(3.0));
        assert_eq!(metrics.value("a_total"), None);
        assert_eq!(
            metrics.of("a_total").map(|(_, value)| value).sum::<f64>(),
            7.5
        );
    }
}
