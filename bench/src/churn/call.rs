//! One call: what it is to do, and how far each side has come.

use crate::sip::{Dialog, Pending, SECOND};

/// How long a phone rings that is picked up.
pub(super) const RINGS: u64 = SECOND / 5;

/// How long a call is held between ACK and BYE.
pub(super) const HELD: u64 = 5 * SECOND;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Answered, held, ended by this side.
    EndedBy(End),
    /// Rings until the caller gives up, so long after the first 180.
    Cancelled(u64),
}

impl Plan {
    /// Of call `number`: of twenty, nine are ended by the caller, nine by the
    /// server, and two are cancelled after up to three seconds.
    pub(super) fn of(number: usize) -> Self {
        match number % 20 {
            0 | 11 => {
                let tenths = (number / 20 * 7 + number % 20) % 30;
                Self::Cancelled(SECOND / 10 * (1 + tenths as u64))
            }
            even if even % 2 == 0 => Self::EndedBy(End::Caller),
            _ => Self::EndedBy(End::Server),
        }
    }
}

/// The two ends of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Caller,
    Server,
}

/// What a call waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The time to send what is [`Pending`] at this end again.
    Repeat(End),
    /// The server picks up.
    PickUp,
    /// The end that ends the call does so.
    HangUp,
    /// The caller cancels.
    GiveUp,
    /// Longer than any call may take.
    Expire,
}

/// One end of a call.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub(super) dialog: Dialog,
    pub(super) pending: Option<Pending>,
    /// Has seen all it waits for.
    pub(super) done: bool,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) plan: Plan,
    pub(super) caller: Side,
    pub(super) server: Side,
    /// The destination that the INVITE came to first, and the INVITE.
    pub(super) home: Option<usize>,
    pub(super) invite: Vec<u8>,
    /// What the caller has seen.
    pub(super) ringing: bool,
    /// It has sent CANCEL.
    pub(super) gave_up: bool,
    pub(super) answered: bool,
    pub(super) cancel_answered: bool,
    pub(super) terminated: bool,
    /// What the server has seen.
    pub(super) acknowledged: bool,
    pub(super) cancelled: bool,
    /// In-dialog requests that came to another destination, by method, each
    /// counted once.
    pub(super) astray: Vec<&'static str>,
    /// Ended, well or not.
    pub(super) over: bool,
}

impl Call {
    pub(super) fn new(plan: Plan, dialog: Dialog) -> Self {
        Self {
            plan,
            caller: Side {
                dialog,
                ..Side::default()
            },
            server: Side::default(),
            home: None,
            invite: Vec::new(),
            ringing: false,
            gave_up: false,
            answered: false,
            cancel_answered: false,
            terminated: false,
            acknowledged: false,
            cancelled: false,
            astray: Vec::new(),
            over: false,
        }
    }

    pub(super) fn side(&mut self, end: End) -> &mut Side {
        match end {
            End::Caller => &mut self.caller,
            End::Server => &mut self.server,
        }
    }

    /// Ends it; what it held is given back, for there are many.
    pub(super) fn close(&mut self) {
        self.over = true;
        self.caller = Side::default();
        self.server = Side::default();
        self.invite = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_twenty_calls_two_are_cancelled_and_both_ends_end_nine() {
        let plans: Vec<_> = (0..20_000).map(Plan::of).collect();
        let count = |plan| plans.iter().filter(|one| **one == plan).count();
        assert_eq!(count(Plan::EndedBy(End::Caller)), 9_000);
        assert_eq!(count(Plan::EndedBy(End::Server)), 9_000);
        let mut waits: Vec<_> = plans
            .iter()
            .filter_map(|plan| match plan {
                Plan::Cancelled(after) => Some(*after),
                Plan::EndedBy(_) => None,
            })
            .collect();
        waits.sort_unstable();
        waits.dedup();
        assert_eq!(waits.len(), 30);
        assert_eq!(waits[29], 3 * SECOND);
    }
}
