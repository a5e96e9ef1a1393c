//! Whether what has happened is what should.
//!
//! Whose a call was is asked of the same pure code that decided it on the
//! wire, with fresh working memory; nothing the demo noted is believed.

use std::net::SocketAddr;

use super::caller::{Ended, Outcome};
use super::message::Caller;
use super::{Plan, STOPPED, WEIGHTS};
use crate::proxy::{Datagram, Decision, Forward, Proxy, Way};
use crate::sip::MAX_DATAGRAM;
use crate::worker::Totals;

/// One thing that must hold.
pub struct Check {
    /// Whether it does.
    pub holds: bool,
    /// What it is, with the figures.
    pub text: String,
}

/// How many calls ended how.
pub(super) struct Outcomes {
    pub(super) calls: usize,
    pub(super) completed: usize,
    pub(super) lost: usize,
    pub(super) refused: usize,
    /// Those lost that belong to the stopped server.
    pub(super) lost_to_stop: usize,
    /// Those answered by another server than theirs.
    pub(super) astray: usize,
}

/// What came to one server.
pub(super) struct Share {
    pub(super) address: SocketAddr,
    pub(super) weight: u32,
    pub(super) calls: usize,
    pub(super) answered: usize,
    pub(super) share: f64,
    pub(super) due: f64,
    pub(super) tolerance: f64,
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

impl Outcomes {
    pub(super) fn new(ended: &[Ended], owners: &[Option<usize>]) -> Self {
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

    pub(super) fn checks(&self, plan: Plan) -> Vec<Check> {
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
                holds: astray == 0,
                text: format!(
                    "each answered by the server that its Call-ID belongs to, {astray} by another"
                ),
            },
        ]
    }
}

impl Share {
    /// Of the calls that a server has answered, or that were lost on the way
    /// to it.
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

    pub(super) fn check(&self, server: usize) -> Check {
        Check {
            holds: (self.share - self.due).abs() <= self.tolerance,
            text: format!(
                "server {} had {:.1} % of the calls; weight {} says {:.1} %, tolerance {:.1}",
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
    let forwarding = [
        "received",
        "requests-forwarded",
        "responses-forwarded",
        "runs-sent",
        "sent-in-runs",
    ];
    let usual = [
        "to-",
        "from-",
        "retransmitted-",
        "last-in-dialog-",
        "last-seen-",
        "method-",
        "class-",
        "worker-",
    ];
    let others = totals.lines().into_iter();
    let others: Vec<_> = others
        .filter(|(name, _)| !forwarding.contains(&name.as_str()))
        .filter(|(name, _)| !usual.iter().any(|start| name.starts_with(start)))
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
    /// and belongs to `owner`; the other three are as they should be.
    fn holding(last: Option<Ended>, owner: usize) -> Vec<bool> {
        let mut calls = vec![
            ended(Outcome::Completed, Some(0)),
            ended(Outcome::Completed, Some(1)),
            ended(Outcome::Lost, None),
        ];
        calls.extend(last);
        let owners = [Some(0), Some(1), Some(STOPPED), Some(owner)];
        let checks = Outcomes::new(&calls, &owners[..calls.len()]).checks(PLAN);
        checks.iter().map(|check| check.holds).collect()
    }

    #[test]
    fn each_fault_fails_its_own_check() {
        use Outcome::{Completed, Lost, Refused};
        let all = [true, true, true];
        assert_eq!(holding(Some(ended(Completed, Some(1))), 1), all);
        assert_eq!(holding(Some(ended(Lost, Some(STOPPED))), STOPPED), all);
        assert_eq!(holding(None, 0), [false, true, true]);
        assert_eq!(holding(Some(ended(Lost, None)), 1), [true, false, true]);
        assert_eq!(holding(Some(ended(Refused, None)), 2), [true, false, true]);
        assert_eq!(
            holding(Some(ended(Completed, Some(0))), 1),
            [true, true, false]
        );
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
