//! When a worker has more to do than it can.
//!
//! A receive buffer that overflows loses messages of all transactions alike: each is
//! sent again after a while, and with it comes what answers it. So the worker does
//! less and less of what it was asked for, unless it drops what has not begun.

use crate::net::Socket;

/// Milliseconds for which a receive buffer has to be nearly full until that is no
/// burst any more that it has held.
const BEHIND: u64 = 500;

/// Milliseconds of one turn that count for that: a longer one was held up.
const LONGEST_TURN: u64 = 20;

/// Fewer datagrams in a turn mean that nothing is full.
const FEW: usize = 32;

/// One in so many datagrams at least must be new work, or it is not that which is too
/// much, and nothing would be gained by dropping it. With 100, 180, ACK, BYE and their
/// like it is one in six to ten.
const NEW_WORK: usize = 16;

/// How long a worker has been behind. Milliseconds, by the workers' clock.
#[derive(Default)]
pub(super) struct Backlog {
    /// For how long a receive buffer was nearly full, less the time since.
    behind: u64,
    /// The last turn.
    turned_at: u64,
}

impl Backlog {
    /// Whether the next turn is to drop new work, by what the one at `now` has taken
    /// from these sockets, and how much of that was new work.
    pub(super) fn is_too_much(
        &mut self,
        sockets: &[Socket],
        taken: usize,
        new_work: usize,
        now: u64,
    ) -> bool {
        // A kernel that does not say so (before Linux 4.12) has never too much.
        let nearly_full = |socket: &Socket| socket.is_nearly_full().unwrap_or(false);
        let nearly_full = taken >= FEW && sockets.iter().any(nearly_full);
        self.stays(nearly_full, now) && new_work * NEW_WORK >= taken
    }

    /// Whether a receive buffer is nearly full, and no longer by a burst.
    fn stays(&mut self, nearly_full: bool, now: u64) -> bool {
        let passed = now - std::mem::replace(&mut self.turned_at, now);
        self.behind = if nearly_full {
            (self.behind + passed.min(LONGEST_TURN)).min(2 * BEHIND)
        } else {
            self.behind.saturating_sub(passed)
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
                backlog.stays(nearly_full, now)
            });
            turns.filter(|stays| *stays).count()
        };
        assert_eq!(turns(40, 10, true), 0);
        assert_eq!(turns(1, 1_000, false), 0);
        assert_eq!(turns(10, 10_000, true), 0);
        assert_eq!(turns(1, 1_000, false), 0);
        assert_eq!(turns(50, 10, true), 1);
        // What was dropped has made room for a moment.
        assert_eq!(turns(1, 2, false), 0);
        assert_eq!(turns(2, 10, true), 2);
        // However long it was.
        assert_eq!(turns(1_000, 10, true), 1_000);
        assert_eq!(turns(1, 600, false), 0);
        assert_eq!(turns(1, 10, true), 0);
    }
}
