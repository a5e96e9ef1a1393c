//! What a run found, and which figures fall short.

use serde::Serialize;

use crate::document;
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

impl document::Row for Row {
    const LABELS: &[&str] = &[
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

    fn name(&self) -> &str {
        self.name
    }

    fn column(&self) -> Vec<String> {
        let figures = &self.figures;
        vec![
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

    fn faults(&self) -> Vec<(String, bool)> {
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
        let verdict = |fault| (fault, self.must_hold);
        faults.into_iter().map(verdict).collect()
    }
}
