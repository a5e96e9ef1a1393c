//! What a run found: the table, the page, and which figures fall short.

use serde::Serialize;

use super::play::Figures;
use crate::document::{Machine, page, side_by_side};

/// What a contender's figures must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// Nothing may go wrong.
    Clean,
    /// Requests must be misrouted: that shows that the others would be seen.
    Misrouted,
    /// Nothing is asked of it.
    Record,
}

impl Aim {
    /// What of `figures` falls short.
    pub(super) fn short(self, figures: &Figures) -> Vec<String> {
        match self {
            Self::Clean => faults(figures),
            Self::Misrouted if figures.misrouted == 0 => {
                vec!["nothing is misrouted: the play would not notice it".to_owned()]
            }
            Self::Misrouted | Self::Record => Vec::new(),
        }
    }
}

/// One contender's figures.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) figures: Figures,
    /// Additions, drainings, new weights and removals; or instances killed.
    pub(super) changed: u32,
    /// Of one core: time on it, and ready for it while something else had it.
    pub(super) cpu_percent: f64,
    pub(super) waited_percent: f64,
    /// What falls short.
    pub(super) short: Vec<String>,
}

impl Row {
    /// Its column in the table.
    fn column(&self) -> [String; 12] {
        let figures = &self.figures;
        [
            self.name.to_owned(),
            figures.calls.to_string(),
            figures.failures().to_string(),
            figures.misrouted.to_string(),
            format!("{} of {}", figures.uncancelled, figures.to_cancel),
            figures.late.to_string(),
            figures.foreign.to_string(),
            figures.retransmissions.to_string(),
            figures.held_up_ms.to_string(),
            self.changed.to_string(),
            format!("{:.1}", self.cpu_percent),
            format!("{:.1}", self.waited_percent),
        ]
    }
}

/// Whatever went wrong.
fn faults(figures: &Figures) -> Vec<String> {
    let mut faults: Vec<String> = figures
        .failed
        .iter()
        .map(|(reason, count)| format!("{count} calls failed: {reason}"))
        .collect();
    let counts = [
        (figures.misrouted, "in-dialog requests were misrouted"),
        (figures.uncancelled, "ringing calls could not be cancelled"),
        (
            figures.late,
            "new calls came to destinations that drain or are gone",
        ),
        (figures.foreign, "messages were none that a call waits for"),
    ];
    for (count, what) in counts {
        if count > 0 {
            faults.push(format!("{count} {what}"));
        }
    }
    if figures.completed == 0 {
        faults.push("no call came through".to_owned());
    }
    faults
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
            "misrouted in-dialog requests",
            "uncancelled",
            "new calls where none belong",
            "messages nobody waits for",
            "retransmissions",
            "callers held up, longest, ms",
            "destinations changed",
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
            for fault in faults(&row.figures) {
                let short = if row.short.contains(&fault) {
                    "FALLS SHORT"
                } else {
                    "for the record"
                };
                lines.push(format!("{}: {fault} ({short})", row.name));
            }
            let found = faults(&row.figures);
            let others = row.short.iter().filter(|one| !found.contains(one));
            lines.extend(others.map(|one| format!("{}: {one} (FALLS SHORT)", row.name)));
        }
        lines
    }

    /// For publication.
    pub(super) fn page(&self) -> String {
        let head = format!(
            "# A farm that changes under calls\n\n\
             Written by `scripts/churn --publish docs`: {} calls a second, {} seconds of changes.\n\
             [bench/README.md](../bench/README.md) says how it is done and what the columns are.\n",
            self.rate, self.seconds
        );
        page(&head, self.machine, &self.table(), &self.faults())
    }
}
