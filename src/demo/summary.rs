//! The end of the demo: what has happened, and whether it is what should.
//!
//! Whose a call was is asked of the same pure code that decided it on the
//! wire, with fresh working memory; nothing the demo noted is believed.

use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::caller::{Ended, Outcome};
use super::message::Caller;
use super::tally::Tally;
use super::{Plan, SERVERS, STOPPED, WEIGHTS};
use crate::proxy::{Datagram, Decision, Forward, Proxy, Way};
use crate::sip::MAX_DATAGRAM;
use crate::worker::Totals;

/// What has happened, and what was checked of it.
pub struct Summary {
    plan: Plan,
    outcomes: Outcomes,
    servers: Vec<Share>,
    checks: Vec<Check>,
    responses: [u64; 6],
    latency: [f64; 4],
    totals: Totals,
}

/// One thing that must hold.
pub struct Check {
    /// Whether it does.
    pub holds: bool,
    /// What it is, with the figures.
    pub text: String,
}

struct Outcomes {
    calls: usize,
    completed: usize,
    lost: usize,
    refused: usize,
    /// Those lost that belong to the stopped server.
    lost_to_stop: usize,
    /// Those answered by another server than theirs.
    astray: usize,
}

struct Share {
    address: SocketAddr,
    weight: u32,
    calls: usize,
    answered: usize,
    share: f64,
    due: f64,
    tolerance: f64,
}

/// The server that each call belongs to; `None` where the decision on its
/// INVITE is another than to send it to one of them.
pub(super) fn owners(proxy: &Proxy, caller: &Caller, calls: usize) -> Vec<Option<usize>> {
    let mut scratch = proxy.scratch();
    let mut out = vec![0; MAX_DATAGRAM];
    let mut owner = |number| {
        let datagram = Datagram {
            bytes: &caller.invite(number),
            source: caller.address,
            listener: 0,
        };
        match proxy.decide(&datagram, &mut scratch, &mut out) {
            Decision::Forward(Forward {
                way: Way::Selected(selection),
                ..
            }) => Some(selection.destination),
            _ => None,
        }
    };
    (0..calls).map(&mut owner).collect()
}

impl Summary {
    pub(super) fn new(
        plan: Plan,
        servers: [SocketAddr; SERVERS],
        ended: &[Ended],
        owners: &[Option<usize>],
        tally: &Tally,
        totals: Totals,
    ) -> Self {
        let outcomes = Outcomes::new(ended, owners);
        let servers: Vec<_> = (0..SERVERS)
            .map(|i| Share::new(i, servers[i], ended, owners))
            .collect();
        let mut checks = outcomes.checks(plan);
        checks.extend(
            servers
                .iter()
                .enumerate()
                .map(|(i, server)| server.check(i)),
        );
        checks.push(check_counters(&totals));
        Self {
            plan,
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
            "\nlatency, request to first response: p50 {p50:.2} ms, p90 {p90:.2} ms, \
             p99 {p99:.2} ms, max {max:.2} ms\n"
        )?;
        for check in &self.checks {
            let verdict = if check.holds { "ok    " } else { "FAILED" };
            writeln!(out, "{verdict}  {}", check.text)?;
        }
        writeln!(out, "\n{}\n\nNext:", self.lesson())?;
        for command in next(program) {
            writeln!(out, "  {command}")?;
        }
        Ok(())
    }

    /// The same for programs.
    #[must_use]
    pub fn json(&self, program: &str) -> Value {
        let Outcomes {
            calls,
            completed,
            lost,
            refused,
            lost_to_stop,
            astray,
        } = self.outcomes;
        let [p50, p90, p99, max] = self.latency;
        let servers: Vec<_> = self.servers.iter().map(Share::json).collect();
        let checks = self.checks.iter();
        let checks: Vec<_> = checks
            .map(|check| json!({ "ok": check.holds, "text": check.text }))
            .collect();
        let responses = self.responses.iter().enumerate();
        let responses: serde_json::Map<_, _> = responses
            .map(|(i, n)| (format!("{}xx", i + 1), json!(n)))
            .collect();
        let counters = self.totals.values.iter();
        let counters: serde_json::Map<_, _> = counters
            .map(|(name, value)| (name.clone(), json!(value)))
            .collect();
        json!({
            "ok": self.holds(),
            "seconds": self.plan.seconds,
            "rate": self.plan.rate,
            "calls": {
                "made": calls,
                "completed": completed,
                "lost": lost,
                "refused": refused,
                "lost_that_belong_to_the_stopped_server": lost_to_stop,
                "answered_by_another_server_than_theirs": astray,
            },
            "servers": servers,
            "stopped": {
                "server": STOPPED + 1,
                "address": self.servers[STOPPED].address,
                "after_seconds": self.plan.stop_at().as_secs_f64(),
            },
            "responses": responses,
            "latency_ms": { "p50": p50, "p90": p90, "p99": p99, "max": max },
            "counters": counters,
            "checks": checks,
            "lesson": self.lesson(),
            "next": next(program),
        })
    }

    fn lesson(&self) -> String {
        format!(
            "Server {} was stopped after {} s. Viaduct keeps no state and has no health checks: \
             it\nwent on sending that server's Call-IDs to it, and those calls were lost. All \
             other\ncalls went on as if nothing had happened. Weights decide again once the \
             server is\nno longer among the destinations.",
            STOPPED + 1,
            self.plan.stop_at().as_secs_f64()
        )
    }
}

impl Outcomes {
    fn new(ended: &[Ended], owners: &[Option<usize>]) -> Self {
        let count = |outcome| ended.iter().filter(|call| call.outcome == outcome).count();
        let calls = || ended.iter().zip(owners);
        let to_stop = |(call, owner): &(&Ended, &Option<usize>)| {
            call.outcome == Outcome::Lost && **owner == Some(STOPPED)
        };
        let astray = |(call, owner): &(&Ended, &Option<usize>)| {
            call.answered_by.is_some() && call.answered_by != **owner
        };
        Self {
            calls: ended.len(),
            completed: count(Outcome::Completed),
            lost: count(Outcome::Lost),
            refused: count(Outcome::Refused),
            lost_to_stop: calls().filter(to_stop).count(),
            astray: calls().filter(astray).count(),
        }
    }

    fn checks(&self, plan: Plan) -> Vec<Check> {
        let Self {
            calls,
            completed,
            lost,
            refused,
            lost_to_stop,
            astray,
        } = *self;
        let server = STOPPED + 1;
        vec![
            Check {
                holds: calls == plan.calls() && calls == completed + lost + refused,
                text: format!(
                    "every call is accounted for: {} made, {completed} completed, {lost} lost, \
                     {refused} refused",
                    plan.calls()
                ),
            },
            Check {
                holds: lost == lost_to_stop && refused == 0,
                text: format!(
                    "no call lost but those whose Call-ID belongs to server {server}: \
                     {lost_to_stop} of {lost}"
                ),
            },
            Check {
                holds: astray == 0,
                text: format!(
                    "each call answered by the server its Call-ID belongs to: {astray} by another"
                ),
            },
        ]
    }
}

impl Share {
    /// Of the calls that a server has answered, or that were lost on the way
    /// to it.
    fn new(server: usize, address: SocketAddr, ended: &[Ended], owners: &[Option<usize>]) -> Self {
        let had =
            |(call, owner): &(&Ended, &Option<usize>)| call.answered_by.or(**owner) == Some(server);
        let calls = ended.iter().zip(owners).filter(had).count();
        let answered = ended.iter().filter(|call| call.answered_by == Some(server));
        let all = ended.len().max(1) as f64;
        let due = f64::from(WEIGHTS[server]) / f64::from(WEIGHTS.iter().sum::<u32>());
        Self {
            address,
            weight: WEIGHTS[server],
            calls,
            answered: answered.count(),
            share: calls as f64 / all,
            due,
            // Call-IDs fall at random: five standard deviations of that, and
            // half a point for slots that the weights cannot divide evenly.
            tolerance: 5.0 * (due * (1.0 - due) / all).sqrt() + 0.005,
        }
    }

    fn check(&self, server: usize) -> Check {
        Check {
            holds: (self.share - self.due).abs() <= self.tolerance,
            text: format!(
                "server {}: {} calls, {:.1} % of all; weight {} makes it {:.1} %, give or take \
                 {:.1}",
                server + 1,
                self.calls,
                100.0 * self.share,
                self.weight,
                100.0 * self.due,
                100.0 * self.tolerance
            ),
        }
    }

    fn json(&self) -> Value {
        json!({
            "address": self.address,
            "weight": self.weight,
            "calls": self.calls,
            "answered": self.answered,
            "share": self.share,
            "share_by_weight": self.due,
            "tolerance": self.tolerance,
        })
    }
}

/// All counters but those of forwarding must be zero; a zero is not listed.
fn check_counters(totals: &Totals) -> Check {
    let forwarding = ["received", "requests-forwarded", "responses-forwarded"];
    let others = totals.values.iter();
    let others: Vec<_> = others
        .filter(|(name, _)| !forwarding.contains(&name.as_str()) && !name.starts_with("to-"))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let forwarded = format!(
        "{} requests and {} responses forwarded",
        totals.get("requests-forwarded"),
        totals.get("responses-forwarded")
    );
    Check {
        holds: others.is_empty(),
        text: match others.is_empty() {
            true => format!("{forwarded}, nothing dropped, no reply of its own, no error"),
            false => format!("{forwarded}, but also: {}", others.join(", ")),
        },
    }
}

/// Commands to go on with.
fn next(program: &str) -> [String; 2] {
    let farm = "--listen 127.0.0.1:5060 --to 127.0.0.1:5071 --to \"sip:127.0.0.1:5072;weight=2\"";
    [
        format!("{program} run {farm}"),
        format!("{program} explain {farm} --call-id any@example.com"),
    ]
}
