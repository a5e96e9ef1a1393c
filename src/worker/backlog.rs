//! When a worker has more to do than it can: its receive buffers stay nearly full.

/// Milliseconds for which one has to be, until that is no burst any more that it has
/// held.
const BEHIND: u64 = 500;

/// Milliseconds of one turn that count for that: a longer one was held up.
const LONGEST_TURN: u64 = 20;

/// How long a worker has been behind. Milliseconds, by the workers' clock.
#[derive(Default)]
pub(super) struct Backlog {
    /// For how long a receive buffer was nearly full, less the time since.
    behind: u64,
    /// The last turn, and whether it left one nearly full.
    turned_at: u64,
    was_nearly_full: bool,
}

impl Backlog {
    /// Whether more comes than can be done, by what the turn at `now` has left in the
    /// receive buffers.
    pub(super) fn is_too_much(&mut self, nearly_full: bool, now: u64) -> bool {
        let passed = now - std::mem::replace(&mut self.turned_at, now);
        let was_nearly_full = std::mem::replace(&mut self.was_nearly_full, nearly_full);
        self.behind = match (was_nearly_full, nearly_full) {
            (true, true) => (self.behind + passed.min(LONGEST_TURN)).min(2 * BEHIND),
            // It may have slept meanwhile.
            (false, true) => self.behind,
            (_, false) => self.behind.saturating_sub(passed),
        };
        nearly_full && self.behind >= BEHIND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_bursts_nor_stalls_are_too_much() {
        let mut backlog = Backlog::default();
        let mut now = 10_000;
        // How many of these turns say that it is.
        let mut turns = |count: usize, each, nearly_full| {
            let turns = (0..count).map(|_| {
                now += each;
                backlog.is_too_much(nearly_full, now)
            });
            turns.filter(|too_much| *too_much).count()
        };
        assert_eq!(turns(40, 10, true), 0);
        assert_eq!(turns(1, 1_000, false), 0);
        assert_eq!(turns(10, 10_000, true), 0);
        assert_eq!(turns(1, 1_000, false), 0);
        assert_eq!(turns(51, 10, true), 1);
        // What was dropped has made room for a moment.
        assert_eq!(turns(1, 2, false), 0);
        assert_eq!(turns(2, 10, true), 1);
        // However long it was.
        assert_eq!(turns(1_000, 10, true), 1_000);
        assert_eq!(turns(1, 600, false), 0);
        assert_eq!(turns(1, 10, true), 0);
    }
}
