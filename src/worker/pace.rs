//! What a worker does when its sockets are empty.
//!
//! A batch costs a few microseconds whatever is in it, and a run of one saves
//! nothing, so under load it pays to let datagrams gather. Without load it
//! would only delay them.

use std::time::{Duration, Instant};

/// Time over which the rate of datagrams is measured. Long enough that the
/// few messages of one call are no load.
const WINDOW: Duration = Duration::from_millis(4);

/// Datagrams that a wait must bring, by the rate so far, to be worth it.
const WORTH_WAITING: u32 = 6;

/// Datagrams that are enough for one batch, as many as the longest run has:
/// more would cost latency and gain little, and might overflow a small
/// receive buffer.
const ENOUGH: u32 = 32;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Sleep until a datagram comes.
    Await,
    /// Sleep for this long, then look at the sockets.
    Gather(Duration),
    /// Look at the sockets again.
    Look,
}

/// The rate of datagrams, and what follows from it.
pub(super) struct Pace {
    coalesce: Duration,
    spin: Duration,
    window_start: Instant,
    /// Datagrams since then.
    taken: u32,
    /// How far apart the window before says that batches should be.
    apart: Option<Duration>,
    /// When the sockets were looked at after the last wait.
    looked: Instant,
    /// When the sockets were first found empty, and whether they have had
    /// datagrams since.
    empty_since: Instant,
    fresh: bool,
}

impl Pace {
    /// Gathers for at most `coalesce`; looks for `spin` before it awaits.
    pub(super) fn new(coalesce: Duration, spin: Duration, now: Instant) -> Self {
        Self {
            coalesce,
            spin,
            window_start: now,
            taken: 0,
            apart: None,
            looked: now,
            empty_since: now,
            fresh: false,
        }
    }

    /// Notes that a batch of datagrams was taken.
    pub(super) fn took(&mut self, datagrams: usize) {
        self.taken = self.taken.saturating_add(datagrams as u32);
        self.fresh |= datagrams > 0;
    }

    /// What to do at `now`, with all sockets found empty.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let elapsed = now - self.window_start;
        if elapsed >= WINDOW {
            self.apart = self.worth_while(elapsed);
            self.window_start = now;
            self.taken = 0;
        }
        if let Some(apart) = self.apart {
            // The time that the last batch took counts too.
            let wait = apart.saturating_sub(now - self.looked);
            self.looked = now + wait;
            return if wait.is_zero() {
                Next::Look
            } else {
                Next::Gather(wait)
            };
        }
        if std::mem::take(&mut self.fresh) {
            self.empty_since = now;
        }
        if now - self.empty_since < self.spin {
            Next::Look
        } else {
            Next::Await
        }
    }

    /// The time that brings some datagrams, but no more than enough, at the
    /// rate of a window of this length.
    fn worth_while(&self, elapsed: Duration) -> Option<Duration> {
        let each = elapsed.checked_div(self.taken)?;
        let brings_some = self.coalesce >= each * WORTH_WAITING;
        brings_some.then_some(self.coalesce.min(each * ENOUGH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COALESCE: Duration = Duration::from_micros(400);

    /// The waits of a worker that takes `datagrams` in each of `cycles`,
    /// which last `cycle` without the wait.
    fn waits(
        pace: &mut Pace,
        from: Instant,
        cycles: u32,
        cycle: Duration,
        datagrams: usize,
    ) -> Vec<Next> {
        let mut now = from;
        let mut all = Vec::new();
        for _ in 0..cycles {
            pace.took(datagrams);
            let next = pace.next(now);
            now += cycle;
            if let Next::Gather(wait) = next {
                now += wait;
            }
            all.push(next);
        }
        all
    }

    #[test]
    fn the_messages_of_one_call_are_never_waited_for() {
        let start = Instant::now();
        let mut pace = Pace::new(COALESCE, Duration::ZERO, start);
        let at = start + Duration::from_secs(1);
        let burst = waits(&mut pace, at, 8, Duration::from_micros(20), 1);
        assert_eq!(burst, [Next::Await; 8]);
        // Nor is what comes long after.
        let at = at + Duration::from_millis(5);
        assert_eq!(waits(&mut pace, at, 1, COALESCE, 1), [Next::Await]);
    }

    #[test]
    fn under_load_datagrams_gather_until_the_load_ends() {
        let start = Instant::now();
        let mut pace = Pace::new(COALESCE, Duration::ZERO, start);
        let cycle = Duration::from_micros(20);
        let load = waits(&mut pace, start, 400, cycle, 1);
        assert_eq!(load[0], Next::Await);
        // What the batch took counts as waited for.
        assert!(load.contains(&Next::Gather(COALESCE - cycle)));
        let later = start + Duration::from_secs(1);
        assert_eq!(waits(&mut pace, later, 1, cycle, 1), [Next::Await]);
    }

    #[test]
    fn a_high_rate_is_waited_for_no_longer_than_until_there_is_enough() {
        let start = Instant::now();
        let mut pace = Pace::new(COALESCE, Duration::ZERO, start);
        pace.took(4000);
        let full = start + WINDOW;
        assert_eq!(pace.next(full), Next::Look);
        assert_eq!(
            pace.next(full),
            Next::Gather(Duration::from_micros(ENOUGH.into()))
        );
    }

    #[test]
    fn nothing_gathers_where_that_is_switched_off() {
        let start = Instant::now();
        let mut pace = Pace::new(Duration::ZERO, Duration::ZERO, start);
        pace.took(4000);
        assert_eq!(pace.next(start + WINDOW), Next::Await);
    }

    #[test]
    fn the_sockets_are_looked_at_for_a_while_before_it_sleeps() {
        let start = Instant::now();
        let spin = Duration::from_micros(50);
        let mut pace = Pace::new(Duration::ZERO, spin, start);
        let empty = start + Duration::from_secs(1);
        pace.took(1);
        assert_eq!(pace.next(empty), Next::Look);
        pace.took(0);
        assert_eq!(pace.next(empty + spin / 2), Next::Look);
        assert_eq!(pace.next(empty + spin), Next::Await);
    }
}
