//! Attempts that were given up for their silence, and speak.

use super::table::after;
use super::{Client, NEVER, Outbox, Since, Work};
use crate::config::Stateful;

/// After so many repeats without an answer it counts as silent: that the answers to
/// all of them were lost here is too unlikely.
const MOST_REPEATS: u8 = 3;

impl<O: Outbox> Work<'_, O> {
    /// Whether the attempt at `place`, silent `until` now, may seem so because its
    /// response was lost here. Not for ever: whoever can have a datagram dropped, by a
    /// wrong checksum, must not keep calls at a dead destination.
    pub(super) fn may_have_missed(&self, at: u32, place: u32, until: Since) -> bool {
        let patience = self.proxy.stateful().failover_after;
        let received = self.table.records[at].received;
        let asked = (received + u64::from(until)).saturating_sub(patience.as_millis() as u64);
        let repeats = self.table.attempts[place].repeats;
        repeats < MOST_REPEATS && self.lost_at.is_some_and(|lost| lost > asked)
    }

    /// The attempt at `place` has as long once more, from the next copy of its
    /// request on, and is avoided for as long where that one tries it again: where
    /// there is more to do than can be done, failovers would add to it.
    pub(super) fn wait_longer(&mut self, at: u32, place: u32) {
        let patience = self.proxy.stateful().failover_after;
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let attempt = &mut self.table.attempts[place];
        let asks = attempt.repeat_at.max(now);
        attempt.until = attempt.until.min(after(asks, patience));
        let tried_until = record.received + u64::from(after(attempt.until, patience));
        self.suspects.wait(attempt.to.into(), tried_until);
    }

    /// An attempt speaks: where it was given up, and the one that took its place
    /// has said nothing so far, they change places. Not where a rule has led
    /// elsewhere meanwhile.
    pub(super) fn speaks(&mut self, at: u32, place: u32) {
        let patience = self.proxy.stateful().timers.b;
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let attempt = &self.table.attempts[place];
        let was_silent = match attempt.client {
            Client::Calling => attempt.abandoned,
            // An earlier copy has got there.
            Client::Unreachable => true,
            _ => false,
        };
        if !was_silent || !record.facts.invite || self.is_closed(at) {
            return;
        }
        let goal = attempt.goal();
        let calls = |place: &u32| {
            let attempt = &self.table.attempts[*place];
            attempt.client == Client::Calling && !attempt.abandoned && attempt.goal() == goal
        };
        let Some(other) = self.table.places(at).find(calls) else {
            return;
        };
        let other = &mut self.table.attempts[other];
        other.abandon(now);
        other.until = after(other.start, patience);
        let attempt = &mut self.table.attempts[place];
        attempt.client = Client::Calling;
        attempt.abandoned = false;
        attempt.end = NEVER;
    }

    /// Where nobody could be reached, the last attempt that is merely silent, or
    /// slow where it is no INVITE, has the request again, until timer B or F (§16.7
    /// item 6). False where there is none.
    pub(super) fn waits_for_silent(&mut self, at: u32) -> bool {
        let t1 = self.proxy.stateful().timers.t1;
        let record = &self.table.records[at];
        let now = record.since(self.now);
        // Any other failure says more than a silent destination would; 0 is a 408
        // that is not passed.
        if !matches!(record.failure, 0 | 503) || self.is_closed(at) {
            return false;
        }
        let is_open = |place: &u32| {
            let attempt = &self.table.attempts[*place];
            !attempt.client.is_over() && !attempt.cancel.is_sent()
        };
        let Some(place) = self.table.places(at).filter(is_open).last() else {
            return false;
        };
        self.table.records[at].ring_until = NEVER;
        let attempt = &mut self.table.attempts[place];
        attempt.abandoned = false;
        attempt.end = NEVER;
        attempt.repeat_at = after(now, t1);
        true
    }

    /// The attempt at `failed` has failed, and was given up before: the one in its
    /// place has as long to speak as where another would be tried, see
    /// [`Self::answered_for`].
    pub(super) fn hurry(&mut self, at: u32, failed: u32) {
        let patience = self.proxy.stateful().failover_after;
        let goal = self.table.attempts[failed].goal();
        for place in self.table.places(at) {
            let attempt = &mut self.table.attempts[place];
            let calls = attempt.client == Client::Calling && !attempt.abandoned;
            if calls && attempt.goal() == goal {
                attempt.until = attempt.until.min(after(attempt.start, patience));
            }
        }
    }

    /// The attempt that was given up for the one at `place` and has answered by a
    /// failure that leads to no other: that says more than silence (but for a 408 to
    /// what is no INVITE, which is none: RFC 4320 §4.2). One that a rule has led away
    /// from says nothing of where it has led to.
    pub(super) fn answered_for(&self, at: u32, place: u32) -> Option<u32> {
        let stateful = self.proxy.stateful();
        let invite = self.table.records[at].facts.invite;
        let other = &self.table.attempts[place];
        self.table.places(at).find(|place| {
            let each = &self.table.attempts[*place];
            let given_up = each.goal() == other.goal() && each.end > other.start;
            let counts = (invite || each.status != 408) && !leads_on(stateful, each.status);
            given_up && each.client == Client::Failed && counts
        })
    }
}

/// Whether another destination is tried after this failure.
pub(super) fn leads_on(stateful: &Stateful, status: u16) -> bool {
    status == 503 || stateful.failover_status.contains(&status)
}
