//! Attempts that were given up for their silence, and have the call again.

use super::table::after;
use super::{Around, Client, NEVER, Outbox, Relay};

impl Relay {
    /// An attempt speaks: where it was given up, and the one that took its place
    /// has said nothing so far, they change places.
    pub(super) fn speaks<O: Outbox>(&mut self, around: &Around<'_, O>, at: u32, place: u32) {
        let timers = around.proxy.stateful().timers;
        let record = &self.table.records[at];
        let now = record.since(around.now);
        let invite = record.facts.invite;
        let attempt = &self.table.attempts[place];
        let was_silent = match attempt.client {
            Client::Calling => attempt.abandoned,
            // An earlier copy has got there.
            Client::Unreachable => true,
            _ => false,
        };
        if !was_silent || self.is_closed(at) {
            return;
        }
        let has_it = |at: &u32| {
            let attempt = &self.table.attempts[*at];
            !attempt.abandoned && !attempt.client.is_over()
        };
        let Some(other) = self.table.attempts(at).find(has_it) else {
            return;
        };
        let other = &mut self.table.attempts[other];
        if other.client != Client::Calling {
            return;
        }
        other.abandoned = true;
        other.end = now;
        other.repeat_at = NEVER;
        let patience = if invite { timers.b } else { timers.f };
        other.until = after(other.start, patience);
        let attempt = &mut self.table.attempts[place];
        attempt.client = Client::Calling;
        attempt.abandoned = false;
        attempt.end = NEVER;
    }

    /// Where nobody could be reached, the last attempt that is merely silent has
    /// the call again, until timer B (§16.7 item 6). False where there is none.
    pub(super) fn waits_for_silent<O: Outbox>(&mut self, around: &Around<'_, O>, at: u32) -> bool {
        let t1 = around.proxy.stateful().timers.t1;
        let record = &self.table.records[at];
        let now = record.since(around.now);
        // Any other failure says more than a silent destination would.
        if !record.facts.invite || record.failure != 503 || self.is_closed(at) {
            return false;
        }
        let is_silent = |at: &u32| self.table.attempts[*at].client == Client::Calling;
        let Some(place) = self.table.attempts(at).filter(is_silent).last() else {
            return false;
        };
        let attempt = &mut self.table.attempts[place];
        attempt.abandoned = false;
        attempt.end = NEVER;
        attempt.repeat_at = after(now, t1);
        true
    }
}
