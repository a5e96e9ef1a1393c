//! Destinations that new work avoids for a while: what failovers teach.
//!
//! A destination that says nothing or cannot be reached is avoided for a
//! second, and twice as long each time that one call which tries it again
//! finds it so, up to half a minute. One that asks for it by Retry-After (RFC
//! 3261 §21.5.4) is avoided as long as it says, up to a cap. Nobody is avoided
//! where nobody else is left.

use std::net::SocketAddr;

use super::Lesson;

/// Milliseconds that a destination is avoided the first time, and at most.
const SHORTEST: u64 = 1_000;
const LONGEST: u64 = 30_000;

/// Destinations remembered at most; others are not avoided.
const MOST: usize = 1024;

/// What one worker has learnt.
#[derive(Default)]
pub(super) struct Suspects(Vec<Suspect>);

struct Suspect {
    destination: SocketAddr,
    /// Until when new work avoids it.
    until: u64,
    /// How long it was avoided the last time; 0: it asked for it.
    period: u64,
    /// Whether one call tries it again.
    tried: bool,
}

impl Suspects {
    fn known(&self, destination: SocketAddr) -> Option<usize> {
        let mut suspects = self.0.iter();
        suspects.position(|each| each.destination == destination)
    }

    /// A destination has responded, where it `is_its` response.
    pub(super) fn answers(
        &mut self,
        destination: SocketAddr,
        now: u64,
        is_its: impl FnOnce() -> bool,
    ) {
        if let Some(at) = self.known(destination)
            && is_its()
        {
            // Calls that were on their way to one that asked for a rest may
            // still be answered.
            let suspect = &self.0[at];
            if suspect.period > 0 || suspect.tried || suspect.until <= now {
                self.0.swap_remove(at);
            }
        }
    }

    /// Takes in what a request teaches that was `sent` then.
    pub(super) fn learn(&mut self, destination: SocketAddr, lesson: Lesson, sent: u64, now: u64) {
        match (lesson, self.known(destination)) {
            (Lesson::Busy(rest), Some(at)) => {
                let suspect = &mut self.0[at];
                suspect.until = suspect.until.max(now + rest);
                suspect.tried = false;
            }
            (Lesson::Silent | Lesson::Unreachable, Some(at)) => {
                let suspect = &mut self.0[at];
                // Calls that were on their way to it teach nothing new.
                let was_tried = std::mem::take(&mut suspect.tried);
                if suspect.until <= sent || was_tried {
                    suspect.period = (suspect.period * 2).clamp(SHORTEST, LONGEST);
                    suspect.until = now + suspect.period;
                }
            }
            (lesson, None) => {
                // Those whose time is long over, and that nobody has tried again,
                // may be no destinations any more.
                self.0.retain(|each| each.until + LONGEST > now);
                if self.0.len() == MOST {
                    return;
                }
                let (time, period) = match lesson {
                    Lesson::Busy(rest) => (rest, 0),
                    _ => (SHORTEST, SHORTEST),
                };
                self.0.push(Suspect {
                    destination,
                    until: now + time,
                    period,
                    tried: false,
                });
            }
        }
    }

    /// Whether new work avoids it.
    pub(super) fn has(&self, destination: SocketAddr, now: u64) -> bool {
        let known = self.known(destination);
        known.is_some_and(|at| self.0[at].until > now)
    }

    /// A request is sent to it: where its time was over, the others wait `patience`
    /// milliseconds for what becomes of this one. If nobody has told of the one
    /// before, it was answered, be it from another address.
    pub(super) fn try_again(&mut self, destination: SocketAddr, now: u64, patience: u64) {
        let Some(at) = self.known(destination) else {
            return;
        };
        let suspect = &mut self.0[at];
        if suspect.until > now {
            return;
        }
        if suspect.tried {
            self.0.swap_remove(at);
        } else {
            suspect.until = now + patience;
            suspect.tried = true;
        }
    }

    /// Nobody will know what becomes of the request that tries it again: another
    /// one tries.
    pub(super) fn untold(&mut self, destination: SocketAddr) {
        if let Some(at) = self.known(destination) {
            self.0[at].tried = false;
        }
    }

    /// What becomes of the request that tries it again is known later, but before
    /// `until`: till then nobody's silence about it means that it was answered.
    pub(super) fn wait(&mut self, destination: SocketAddr, until: u64) {
        if let Some(at) = self.known(destination) {
            let suspect = &mut self.0[at];
            if suspect.tried {
                suspect.until = suspect.until.max(until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_not_found_silent_again_has_answered_somehow() {
        let silent = SocketAddr::from(([127, 0, 0, 1], 5071));
        let mut suspects = Suspects::default();
        suspects.learn(silent, Lesson::Silent, 0, 0);
        suspects.try_again(silent, 1_000, 2_000);
        assert!(suspects.has(silent, 2_999));
        suspects.learn(silent, Lesson::Silent, 1_000, 2_000);
        assert!(suspects.has(silent, 3_999), "twice as long");
        suspects.try_again(silent, 4_000, 2_000);
        assert!(suspects.has(silent, 5_999));
        suspects.try_again(silent, 6_000, 2_000);
        assert!(!suspects.has(silent, 6_001));
    }

    #[test]
    fn each_time_in_vain_it_is_avoided_for_twice_as_long_up_to_half_a_minute() {
        let silent = SocketAddr::from(([127, 0, 0, 1], 5071));
        let mut suspects = Suspects::default();
        let mut now = 0;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            suspects.try_again(silent, now, 2_000);
            suspects.learn(silent, Lesson::Silent, now, now);
            now += seconds * 1_000;
            assert!(suspects.has(silent, now - 1), "{seconds}");
            assert!(!suspects.has(silent, now), "{seconds}");
        }
    }

    #[test]
    fn what_nobody_will_know_of_is_tried_once_more() {
        let silent = ([127, 0, 0, 1], 5071).into();
        let mut suspects = Suspects::default();
        suspects.learn(silent, Lesson::Silent, 0, 0);
        suspects.try_again(silent, SHORTEST, 10);
        suspects.untold(silent);
        assert!(suspects.has(silent, SHORTEST + 9));
        suspects.try_again(silent, SHORTEST + 10, 10);
        assert!(suspects.has(silent, SHORTEST + 19), "it was answered");
    }

    #[test]
    fn who_is_a_destination_no_more_is_forgotten() {
        let [gone, other, next] = [5071, 5072, 5073].map(|port| ([127, 0, 0, 1], port).into());
        let mut suspects = Suspects::default();
        suspects.learn(gone, Lesson::Silent, 0, 0);
        suspects.learn(other, Lesson::Silent, SHORTEST, SHORTEST + LONGEST - 1);
        assert!(suspects.known(gone).is_some(), "it may be tried again");
        suspects.learn(next, Lesson::Silent, SHORTEST, SHORTEST + LONGEST);
        assert!(suspects.known(gone).is_none());
        assert_eq!(suspects.0.len(), 2);
    }
}
