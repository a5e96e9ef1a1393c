//! The end of the demo, for people and for programs.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::caller::Ended;
use super::checks::{Check, Outcomes, Share, check_counters};
use super::fate::Fate;
use super::tally::Tally;
use super::{Plan, SERVERS, STOPPED};
use crate::worker::Totals;

/// What has happened, and what was checked of it.
pub struct Summary {
    plan: Plan,
    fate: Fate,
    outcomes: Outcomes,
    servers: Vec<Share>,
    checks: Vec<Check>,
    responses: [u64; 6],
    latency: [f64; 4],
    totals: Totals,
}

impl Summary {
    pub(super) fn new(
        plan: Plan,
        fate: Fate,
        servers: [SocketAddr; SERVERS],
        ended: &[Ended],
        owners: &[Vec<Option<usize>>],
        tally: &Tally,
        totals: Totals,
    ) -> Self {
        let outcomes = Outcomes::new(plan, fate, ended, owners);
        // Weights can be seen in full while all servers are there.
        let whole = plan.begun_by(plan.stop_at()).min(ended.len());
        let servers: Vec<_> = (0..SERVERS)
            .map(|i| Share::new(i, servers[i], &ended[..whole], &owners[0]))
            .collect();
        let shares = servers.iter().enumerate();
        let mut checks: Vec<_> = shares.map(|(i, server)| server.check(i)).collect();
        checks.extend(fate.checks());
        checks.extend(outcomes.checks(plan));
        checks.push(check_counters(&totals));
        Self {
            plan,
            fate,
            outcomes,
            servers,
            checks,
            responses: tally.counts.classes,
            latency: tally.latencies(),
            totals,
        }
    }

    /// Whether every check holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.holds)
    }

    /// Writes it for people; `program` is what they call this program by.
    ///
    /// # Errors
    /// As of writing.
    pub fn write(&self, out: &mut dyn Write, program: &str) -> io::Result<()> {
        let [p50, p90, p99, max] = self.latency;
        writeln!(
            out,
            "\ntime to first response: p50 {p50:.2} ms, p90 {p90:.2} ms, p99 {p99:.2} ms, \
             max {max:.2} ms\n"
        )?;
        for check in &self.checks {
            let verdict = if check.holds { "ok    " } else { "FAILED" };
            writeln!(out, "{verdict}  {}", check.text)?;
        }
        writeln!(out, "\n{}\n\nNext:", self.lesson())?;
        for command in next(program) {
            let broken = command.replacen(" --to", " \\\n      --to", 1);
            writeln!(out, "  {broken}")?;
        }
        Ok(())
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self, program: &str) -> Value {
        let [p50, p90, p99, max] = self.latency;
        let responses = self.responses.iter().enumerate();
        let responses: Map<_, _> = responses
            .map(|(i, n)| (format!("{}xx", i + 1), json!(n)))
            .collect();
        let counters = self.totals.lines().into_iter();
        let counters: Map<_, _> = counters.map(|(name, value)| (name, json!(value))).collect();
        json!({
            "ok": self.holds(),
            "seconds": self.plan.seconds,
            "rate": self.plan.rate,
            "calls": self.outcomes,
            "servers_before_the_stop": self.servers,
            "stopped": {
                "server": STOPPED + 1,
                "address": self.servers[STOPPED].address,
                "after_seconds": seconds(self.fate.stopped),
                "out_after_seconds": seconds(self.fate.out),
                "started_after_seconds": seconds(self.fate.started),
                "back_after_seconds": seconds(self.fate.back),
            },
            "responses": responses,
            "latency_ms": { "p50": p50, "p90": p90, "p99": p99, "max": max },
            "counters": counters,
            "checks": self.checks,
            "lesson": self.lesson().replace('\n', " "),
            "next": next(program),
        })
    }

    fn lesson(&self) -> String {
        format!(
            "Server {} was stopped: its Call-IDs went on to it, and those calls were lost, until\n\
             probes had found that out. Then they spread over the others by weight, whose own\n\
             calls noticed nothing, and came back with the server. With --stateful INVITE\n\
             those first ones are not lost either: each tries another server in its turn.",
            STOPPED + 1
        )
    }
}

fn seconds(at: Option<Duration>) -> Option<f64> {
    at.map(|at| at.as_secs_f64())
}

/// Commands to go on with.
fn next(program: &str) -> [String; 2] {
    let farm = "--listen 127.0.0.1:5060 --to 127.0.0.1:5071 --to \"sip:127.0.0.1:5072;weight=2\"";
    [
        format!("{program} run {farm}"),
        format!("{program} explain {farm} --call-id any@example.com"),
    ]
}
