//! What becomes of the server that is stopped and started again.

use std::time::Duration;

use super::checks::Check;
use super::{Plan, STOPPED};
use crate::config::Health;

/// How long probes may take to find it out: docs/health.md has 2.6 s and
/// 2.2 s at the worst, and nearly twice that is for a machine that others share.
const PATIENCE: Duration = Duration::from_secs(5);

/// When what happened, from the start of the demo on.
#[derive(Clone, Copy, Default)]
pub(super) struct Fate {
    pub(super) stopped: Option<Duration>,
    /// When probes had found it dead, and it took no new calls any more.
    pub(super) out: Option<Duration>,
    pub(super) started: Option<Duration>,
    /// When it took new calls again.
    pub(super) back: Option<Duration>,
}

impl Fate {
    /// Takes in what probes say of it.
    pub(super) fn note(&mut self, health: Health, now: Duration) {
        match (health, self.out) {
            (Health::Down, None) => self.out = Some(now),
            (Health::Warming(_) | Health::Up, Some(_)) => {
                self.back.get_or_insert(now);
            }
            _ => {}
        }
    }

    /// Whether it is not running.
    pub(super) fn is_dead(self) -> bool {
        self.stopped.is_some() && self.started.is_none()
    }

    /// The calls that were begun while it took none, by number.
    pub(super) fn without(self, plan: Plan) -> std::ops::Range<usize> {
        let number = |at: Option<Duration>| at.map_or_else(|| plan.calls(), |at| plan.begun_by(at));
        number(self.out)..number(self.back)
    }

    pub(super) fn checks(self) -> Vec<Check> {
        let server = STOPPED + 1;
        let check = |from: Option<Duration>, to: Option<Duration>, what: &str, since: &str| {
            let took = to.zip(from).and_then(|(to, from)| to.checked_sub(from));
            Check {
                holds: took.is_some_and(|took| took <= PATIENCE),
                text: match took {
                    Some(took) => format!(
                        "probes found server {server} {what} {:.1} s after its {since}",
                        took.as_secs_f64()
                    ),
                    None => format!("probes did not find server {server} {what}"),
                },
            }
        };
        vec![
            check(self.stopped, self.out, "dead", "stop"),
            check(self.started, self.back, "alive", "new start"),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_probes_find_out_late_or_never_fails() {
        let seconds = |of: [u64; 4]| of.map(|at| (at > 0).then(|| Duration::from_secs(at)));
        let holds = |of| {
            let [stopped, out, started, back] = seconds(of);
            let fate = Fate {
                stopped,
                out,
                started,
                back,
            };
            fate.checks()
                .iter()
                .map(|each| each.holds)
                .collect::<Vec<_>>()
        };
        assert_eq!(holds([4, 6, 8, 10]), [true, true]);
        assert_eq!(holds([4, 10, 10, 16]), [false, false]);
        assert_eq!(holds([4, 0, 8, 0]), [false, false]);
        // It cannot have been found out before it was so.
        assert_eq!(holds([4, 3, 8, 7]), [false, false]);
    }
}
