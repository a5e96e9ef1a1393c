//! What a run found, and which figures fall short.

use serde::Serialize;

use super::play::Figures;
use crate::document;

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

impl document::Row for Row {
    const LABELS: &[&str] = &[
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

    fn name(&self) -> &str {
        self.name
    }

    fn column(&self) -> Vec<String> {
        let figures = &self.figures;
        vec![
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

    fn faults(&self) -> Vec<(String, bool)> {
        let found = faults(&self.figures);
        let others = self.short.iter().filter(|one| !found.contains(one));
        let others = others.map(|one| (one.clone(), true)).collect::<Vec<_>>();
        let found = found.into_iter().map(|fault| {
            let short = self.short.contains(&fault);
            (fault, short)
        });
        found.chain(others).collect()
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
