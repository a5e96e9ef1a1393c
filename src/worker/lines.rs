//! Totals as lines of text, for people and for scripts.

use super::totals::{DestinationTotals, Totals, TransactionTotals};
use crate::proxy::Reason;

/// The name of what is counted of a destination.
fn of(name: &str, destination: &DestinationTotals) -> String {
    let DestinationTotals { set, address, .. } = destination;
    format!("{name}-{set}-{address}")
}

impl Totals {
    /// Whether the counter of this name, as [`lines`](Self::lines) has it, counts what is there
    /// where all is well and each datagram is forwarded.
    #[must_use]
    pub fn counts_forwarding(name: &str) -> bool {
        const WHOLE: [&str; 5] = [
            "received",
            "requests-forwarded",
            "responses-forwarded",
            "runs-sent",
            "sent-in-runs",
        ];
        const BEGINNINGS: [&str; 8] = [
            "to-",
            "from-",
            "retransmitted-",
            "last-in-dialog-",
            "last-seen-",
            "method-",
            "class-",
            "worker-",
        ];
        WHOLE.contains(&name) || BEGINNINGS.iter().any(|start| name.starts_with(start))
    }

    /// Names and values, in a fixed order; those of runs, names, reasons,
    /// statuses, error numbers and the like only where they are not zero.
    /// `last-in-dialog-` and `last-seen-` are ages in seconds.
    #[must_use]
    pub fn lines(&self) -> Vec<(String, u64)> {
        let mut lines = vec![
            ("received".to_owned(), self.received),
            ("requests-forwarded".to_owned(), self.requests_forwarded()),
            ("responses-forwarded".to_owned(), self.responses_forwarded()),
        ];
        for each in &self.destinations {
            lines.push((of("to", each), each.requests));
        }
        lines.extend(self.ages());
        for (number, worker) in self.workers.iter().enumerate() {
            lines.push((format!("worker-{number}-received"), worker.received));
        }
        let rare = self
            .by_destination()
            .chain(self.rare())
            .chain(self.by_kind());
        lines.extend(rare.filter(|(_, value)| *value > 0));
        lines
    }

    /// Where there were any.
    fn ages(&self) -> impl Iterator<Item = (String, u64)> {
        self.destinations.iter().flat_map(|each| {
            [
                ("last-in-dialog", each.last_in_dialog),
                ("last-seen", each.last_seen),
            ]
            .into_iter()
            .filter_map(|(name, age)| Some((of(name, each), age?)))
        })
    }

    fn by_destination(&self) -> impl Iterator<Item = (String, u64)> {
        self.destinations.iter().flat_map(|each| {
            let responses = each.responses.iter();
            let responses = responses.map(|(class, n)| (of(&format!("from-{class}"), each), *n));
            responses.chain([
                (of("retransmitted", each), each.retransmitted),
                (of("suspected", each), each.suspected),
            ])
        })
    }

    fn rare(&self) -> impl Iterator<Item = (String, u64)> {
        let TransactionTotals {
            held,
            begun,
            full,
            evicted,
            absorbed,
            retransmitted,
            failed_over,
            failure_rules_applied,
            attempts_cancelled,
        } = self.transactions;
        let accounting = self.accounting.unwrap_or_default();
        let mirror = self.mirror.unwrap_or_default();
        [
            ("runs-sent", self.runs.count()),
            ("sent-in-runs", self.runs.sum as u64),
            ("runs-refused", self.runs_refused),
            ("second-chances", self.second_chances),
            ("cookies-followed", self.cookies_followed),
            ("cookies-gone", self.cookies_gone),
            ("cookies-forged", self.cookies_forged),
            ("requests-held", self.requests_held),
            ("requests-not-held", self.requests_not_held),
            ("names-resolved", self.names_resolved),
            ("names-failed", self.names_failed),
            ("transactions", held),
            ("handed-over", self.handed_over),
            ("not-handed-over", self.not_handed_over),
            ("came-back", self.came_back),
            ("accounting-written", accounting.written),
            ("accounting-dropped", accounting.dropped),
            ("mirror-sent", mirror.sent),
            ("mirror-dropped", mirror.dropped),
            ("mirror-failed", mirror.failed),
            ("transactions-begun", begun),
            ("transactions-full", full),
            ("transactions-evicted", evicted),
            ("absorbed", absorbed),
            ("retransmitted", retransmitted),
            ("failed-over", failed_over),
            ("failure-rules-applied", failure_rules_applied),
            ("attempts-cancelled", attempts_cancelled),
            ("receive-error", self.receive_errors),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
    }

    /// By method, class, status, reason, error number and socket.
    fn by_kind(&self) -> impl Iterator<Item = (String, u64)> {
        let mut lines = Vec::new();
        for (method, n) in &self.requests {
            lines.push((format!("method-{method}"), *n));
        }
        for (class, n) in &self.responses {
            lines.push((format!("class-{class}"), *n));
        }
        for (status, n) in &self.replies {
            lines.push((format!("reply-{status}"), *n));
        }
        for reason in Reason::ALL.iter().map(|reason| reason.name()) {
            let n = self.dropped.get(reason).copied().unwrap_or(0);
            lines.push((format!("drop-{reason}"), n));
        }
        for (errno, n) in &self.send_errors {
            lines.push((format!("send-error-{errno}"), *n));
        }
        for (number, worker) in self.workers.iter().enumerate() {
            lines.push((
                format!("overflow-worker-{number}"),
                worker.overflow.iter().sum(),
            ));
        }
        lines.into_iter()
    }
}
