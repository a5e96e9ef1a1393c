//! Whether what has happened is what should.
//!
//! Whose a call was is asked of the same pure code that decided it on the
//! wire, with fresh working memory; nothing the demo noted is believed. That
//! changes with what probes find: there is an owner by each table in turn.

use std::net::SocketAddr;

use serde::Serialize;

use super::caller::{Ended, Outcome};
use super::fate::Fate;
use super::message::Caller;
use super::{Plan, STOPPED, WEIGHTS, due};
use crate::control::explain::Decider;
use crate::proxy::{Datagram, Decision, Forward, Proxy, Way};
use crate::worker::Totals;

/// One thing that must hold.
#[derive(Serialize)]
pub struct Check {
    /// Whether it does.
    #[serde(rename = "ok")]
    pub holds: bool,
    /// What it is, with the figures.
    pub text: String,
}

/// How many calls ended how.
#[derive(Serialize)]
pub(super) struct Outcomes {
    #[serde(rename = "made")]
    pub(super) calls: usize,
    pub(super) completed: usize,
    pub(super) lost: usize,
    pub(super) refused: usize,
    /// Those lost that belong to the stopped server.
    #[serde(rename = "lost_that_belong_to_the_stopped_server")]
    pub(super) lost_to_stop: usize,
    /// Those begun while it took none.
    #[serde(rename = "begun_while_it_was_out")]
    pub(super) without: usize,
    /// Those lost among them.
    #[serde(rename = "lost_of_those")]
    pub(super) lost_without: usize,
    /// Those answered by a server that never was theirs.
    #[serde(rename = "answered_by_another_server_than_theirs")]
    pub(super) astray: usize,
}

/// What came to one server.
#[derive(Serialize)]
pub(super) struct Share {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) calls: usize,
    pub(super) answered: usize,
    pub(super) share: f64,
    #[serde(rename = "share_by_weight")]
    pub(super) due: f64,
    pub(super) tolerance: f64,
}

/// The server that each call belongs to by one table; `None` where the decision
/// on its INVITE is another than to send it to one of them.
pub(super) fn owners(proxy: &Proxy, caller: &Caller, calls: usize) -> Vec<Option<usize>> {
    let mut decider = Decider::new(proxy.clone());
    let owner = |number| {
        let datagram = Datagram {
            bytes: &caller.invite(number),
            source: caller.address,
            listener: 0,
        };
        match decider.decide(&datagram) {
            Decision::Forward(Forward {
                way: Way::Selected(selection),
                ..
            }) => Some(selection.destination),
            _ => None,
        }
    };
    (0..calls).map(owner).collect()
}

impl Outcomes {
    pub(super) fn new(
        plan: Plan,
        fate: Fate,
        ended: &[Ended],
        owners: &[Vec<Option<usize>>],
    ) -> Self {
        let lost = |call: &Ended| call.outcome == Outcome::Lost;
        let count = |outcome| ended.iter().filter(|call| call.outcome == outcome).count();
        let calls = || ended.iter().enumerate();
        let had = |number: usize, server| owners.iter().any(|table| table[number] == server);
        let to_stop = |(number, call): &(usize, &Ended)| lost(call) && had(*number, Some(STOPPED));
        let astray = |(number, call): &(usize, &Ended)| {
            call.answered_by.is_some() && !had(*number, call.answered_by)
        };
        let out = fate.without(plan);
        let without = || calls().filter(|(number, _)| out.contains(number));
        Self {
            calls: ended.len(),
            completed: count(Outcome::Completed),
            lost: count(Outcome::Lost),
            refused: count(Outcome::Refused),
            lost_to_stop: calls().filter(to_stop).count(),
            without: without().count(),
            lost_without: without().filter(|(_, call)| lost(call)).count(),
            astray: calls().filter(astray).count(),
        }
    }

    pub(super) fn checks(&self, plan: Plan) -> Vec<Check> {
        let Self {
            calls,
            completed,
            lost,
            refused,
            lost_to_stop,
            without,
            lost_without,
            astray,
        } = *self;
        let server = STOPPED + 1;
        vec![
            Check {
                holds: calls == plan.calls() && calls == completed + lost + refused,
                text: format!(
                    "all {} calls accounted for: {completed} completed, {lost} lost, \
                     {refused} refused",
                    plan.calls()
                ),
            },
            Check {
                holds: lost == lost_to_stop && refused == 0,
                text: format!(
                    "none lost but those whose Call-ID belongs to server {server}: \
                     {lost_to_stop} of {lost}"
                ),
            },
            Check {
                holds: without > 0 && lost_without == 0,
                text: format!(
                    "none lost of those begun while server {server} was out: {lost_without} of \
                     {without}"
                ),
            },
            Check {
                holds: astray == 0,
                text: format!(
                    "each answered by the server that its Call-ID belonged to, {astray} by another"
                ),
            },
        ]
    }
}

impl Share {
    /// Of the calls that were begun while all were up: those that a server has
    /// answered, or that were lost on the way to it.
    pub(super) fn new(
        server: usize,
        address: SocketAddr,
        ended: &[Ended],
        owners: &[Option<usize>],
    ) -> Self {
        let had =
            |(call, owner): &(&Ended, &Option<usize>)| call.answered_by.or(**owner) == Some(server);
        let calls = ended.iter().zip(owners).filter(had).count();
        let answered = ended.iter().filter(|call| call.answered_by == Some(server));
        let all = ended.len().max(1) as f64;
        let due = due(server);
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

    pub(super) fn check(&self, server: usize) -> Check {
        Check {
            holds: (self.share - self.due).abs() <= self.tolerance,
            text: format!(
                "server {} had {:.1} % of the calls before the stop; weight {} says {:.1} %, tolerance {:.1}",
                server + 1,
                100.0 * self.share,
                self.weight,
                100.0 * self.due,
                100.0 * self.tolerance
            ),
        }
    }
}

/// All counters but those of forwarding must be zero; a zero is not listed.
pub(super) fn check_counters(totals: &Totals) -> Check {
    let others = totals.lines().into_iter();
    let others: Vec<_> = others
        .filter(|(name, _)| !Totals::counts_forwarding(name))
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let forwarded = format!(
        "forwarded {} requests, {} responses",
        totals.requests_forwarded(),
        totals.responses_forwarded()
    );
    Check {
        holds: others.is_empty(),
        text: match others.is_empty() {
            true => format!("{forwarded}; no drop, local reply or error"),
            false => format!("{forwarded}; but also {}", others.join(", ")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PLAN: Plan = Plan {
        seconds: 2,
        rate: 2,
    };

    fn ended(outcome: Outcome, answered_by: Option<usize>) -> Ended {
        Ended {
            outcome,
            answered_by,
        }
    }

    /// Which of the checks of outcomes hold where the fourth call is `last`
    /// and belongs to `owner`; the other three are as they should be, and the
    /// stopped server was found dead after the second one.
    fn holding(last: Option<Ended>, owner: usize) -> Vec<bool> {
        let fate = Fate {
            out: Some(Duration::from_secs(1)),
            ..Fate::default()
        };
        let mut calls = vec![
            ended(Outcome::Completed, Some(0)),
            ended(Outcome::Lost, None),
            ended(Outcome::Completed, Some(1)),
        ];
        calls.extend(last);
        let before = [Some(0), Some(STOPPED), Some(STOPPED), Some(owner)];
        let without = [Some(0), Some(1), Some(1), Some(owner)];
        let owners = [before, without].map(Vec::from);
        let checks = Outcomes::new(PLAN, fate, &calls, &owners).checks(PLAN);
        checks.iter().map(|check| check.holds).collect()
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        use Outcome::{Completed, Lost, Refused};
        let call = |outcome, answered_by, owner| holding(Some(ended(outcome, answered_by)), owner);
        assert_eq!(call(Completed, Some(1), 1), [true, true, true, true]);
        assert_eq!(holding(None, 0), [false, true, true, true]);
        assert_eq!(call(Refused, None, 2), [true, false, true, true]);
        assert_eq!(call(Lost, None, STOPPED), [true, true, false, true]);
        assert_eq!(call(Lost, None, 1), [true, false, false, true]);
        assert_eq!(call(Completed, Some(0), 1), [true, true, true, false]);
    }

    #[test]
    fn a_share_far_from_its_weight_fails() {
        let address = ([127, 0, 0, 1], 5060).into();
        let calls = |first: usize| {
            let by = |i| ended(Outcome::Completed, Some(usize::from(i >= first)));
            (0..1000).map(by).collect::<Vec<_>>()
        };
        let holds = |first| {
            let calls = calls(first);
            let owners: Vec<_> = calls.iter().map(|call| call.answered_by).collect();
            Share::new(0, address, &calls, &owners).check(0).holds
        };
        assert!(holds(500) && holds(550));
        assert!(!holds(400) && !holds(600));
    }

    #[test]
    fn a_drop_fails() {
        let mut totals = Totals {
            requests: [("INVITE".to_owned(), 9)].into(),
            ..Totals::default()
        };
        assert!(check_counters(&totals).holds);
        totals.dropped.insert("forged-response".to_owned(), 1);
        assert!(!check_counters(&totals).holds);
    }
}
