//! What a run found: the table, the page, and which figures fall short.

use serde::Serialize;

use crate::document::{Machine, page, side_by_side};
use crate::farm::caller::Figures;

/// One contender's figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    /// Whether figures that fall short fail the run.
    #[serde(skip)]
    pub(super) must_hold: bool,
    pub(super) figures: Figures,
    /// Of one core: time on it, and ready for it while something else had it.
    pub(super) cpu_percent: f64,
    pub(super) waited_percent: f64,
}

impl Row {
    /// Its column in the table.
    fn column(&self) -> [String; 14] {
        let figures = &self.figures;
        [
            self.name.to_owned(),
            figures.calls.to_string(),
            figures.failures().to_string(),
            figures.completed.to_string(),
            figures.lost_with_it.to_string(),
            figures.cut().to_string(),
            figures.moved.to_string(),
            figures.answered_twice.to_string(),
            figures.retransmissions.to_string(),
            format!("{:.1}", figures.setup_p50_ms),
            format!("{:.1}", figures.setup_p99_ms),
            format!("{:.1}", figures.setup_max_ms),
            format!("{:.1}", self.cpu_percent),
            format!("{:.1}", self.waited_percent),
        ]
    }

    /// Whatever went wrong.
    fn faults(&self) -> Vec<String> {
        let figures = &self.figures;
        let failed = figures.failed.iter();
        let mut faults: Vec<_> = failed
            .map(|(reason, count)| format!("{count} calls failed: {reason}"))
            .collect();
        let not_ended = figures.not_ended.iter();
        faults.extend(not_ended.map(|(reason, count)| {
            format!("{count} calls could not be ended although their destination lived: {reason}")
        }));
        if figures.completed == 0 || figures.moved == 0 {
            faults.push("no call had to go to another destination: nothing was shown".to_owned());
        }
        faults
    }

    pub(super) fn falls_short(&self) -> bool {
        self.must_hold && !self.faults().is_empty()
    }
}

/// A whole run: what is written as JSON.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) machine: &'a Machine,
    pub(super) seconds: u64,
    /// Calls a second.
    pub(super) rate: u32,
    pub(super) rows: &'a [Row],
}

impl Document<'_> {
    /// A column for each contender.
    pub(super) fn table(&self) -> Vec<Vec<String>> {
        let labels = [
            "",
            "calls",
            "failed calls",
            "answered, held and ended",
            "answered, and lost with the destination that was killed",
            "answered, but not to be ended",
            "answered by another destination than the first choice",
            "answered by two destinations",
            "INVITEs that callers sent again",
            "INVITE to 200, p50, ms",
            "INVITE to 200, p99, ms",
            "INVITE to 200, longest, ms",
            "CPU, % of a core",
            "waited for a core, %",
        ];
        let columns: Vec<_> = self.rows.iter().map(Row::column).collect();
        side_by_side(labels, &columns)
    }

    /// A line for each thing that went wrong.
    pub(super) fn faults(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for row in self.rows {
            let verdict = match row.must_hold {
                true => "FALLS SHORT",
                false => "for the record",
            };
            let faults = row.faults().into_iter();
            lines.extend(faults.map(|fault| format!("{}: {fault} ({verdict})", row.name)));
        }
        lines
    }

    /// For publication.
    pub(super) fn page(&self) -> String {
        let head = format!(
            "# Destinations that die, stall and refuse under load\n\n\
             Written by `scripts/kill --publish docs`: {} calls a second for {} seconds.\n\
             [bench/README.md](../bench/README.md) says how it is done and what the figures are.\n",
            self.rate, self.seconds
        );
        page(&head, self.machine, &self.table(), &self.faults())
    }
}
