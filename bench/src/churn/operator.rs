//! The operator, who changes the farm every second and removes a destination
//! only when its dialogs have ended.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::call::HELD;
use crate::balancer::{Destination, State};
use crate::sip::SECOND;

/// Destinations at the start, and those that there are in all.
const FIRST: usize = 8;
pub(super) const ALL: usize = 20;

/// How long a destination drains at least: as long as a call is held, and a
/// margin.
const DRAINS: u64 = HELD + SECOND;

/// How long a removed destination stays away at least.
const AWAY: u64 = SECOND;

/// The address of destination `number`.
pub(super) fn ip(number: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, 0, 1 + number as u8)
}

/// The farm as the operator wants it.
pub(super) struct Operator {
    pub(super) farm: Vec<Destination>,
    turn: u32,
}

impl Operator {
    /// A farm on `port` of addresses in a row.
    pub(super) fn new(port: u16) -> Self {
        let destination = |number| {
            let address = SocketAddrV4::new(ip(number), port);
            let state = match number < FIRST {
                true => State::Active,
                false => State::Out,
            };
            Destination {
                state,
                ..Destination::new(address)
            }
        };
        Self {
            farm: (0..ALL).map(destination).collect(),
            turn: 0,
        }
    }

    pub(super) fn count(&self, state: State) -> usize {
        self.farm.iter().filter(|one| one.state == state).count()
    }

    /// Adds one destination, drains the oldest, re-weights another, removes
    /// those that have drained; `open` are the dialogs of each. Returns how
    /// many were changed.
    pub(super) fn change(&mut self, now: u64, open: &[u32]) -> u32 {
        self.turn += 1;
        let mut changed = 0;
        for (one, open) in self.farm.iter_mut().zip(open) {
            let empty = *open == 0 && now >= one.since + DRAINS;
            if one.state == State::Draining && empty {
                (one.state, one.since) = (State::Out, now);
                changed += 1;
            }
        }
        let added = self.oldest(State::Out).filter(|one| {
            // Those of the beginning were never there.
            one.since == 0 || now >= one.since + AWAY
        });
        if let Some(one) = added {
            (one.state, one.since, one.weight) = (State::Active, now, 1);
            changed += 1;
        }
        let weight = 1 + self.turn % 4;
        let actives = self.farm.iter_mut();
        let mut actives: Vec<_> = actives.filter(|one| one.state == State::Active).collect();
        let middle = actives.len() / 2;
        if let Some(one) = actives.get_mut(middle) {
            // A weight that it did not have.
            one.weight = if one.weight == weight { 5 } else { weight };
            changed += 1;
        }
        if self.count(State::Active) >= FIRST
            && let Some(one) = self.oldest(State::Active)
        {
            (one.state, one.since) = (State::Draining, now);
            changed += 1;
        }
        changed
    }

    fn oldest(&mut self, state: State) -> Option<&mut Destination> {
        let those = self.farm.iter_mut().filter(|one| one.state == state);
        those.min_by_key(|one| one.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_brings_all_four_kinds_of_change_and_none_is_removed_with_dialogs() {
        let mut operator = Operator::new(5060);
        let mut open = [0; ALL];
        open[0] = 1;
        for second in 1..60 {
            let before: Vec<_> = operator.farm.iter().map(|one| one.state).collect();
            let changed = operator.change(second * SECOND, &open);
            let became = |from, to| {
                let after = operator.farm.iter().map(|one| one.state);
                before
                    .iter()
                    .zip(after)
                    .filter(|&(&b, a)| b == from && a == to)
                    .count()
            };
            assert_eq!(became(State::Active, State::Draining), 1, "second {second}");
            assert_eq!(became(State::Active, State::Out), 0);
            assert_eq!(became(State::Out, State::Active), 1, "second {second}");
            // The one that never empties is the only one left behind.
            let removed = became(State::Draining, State::Out);
            assert!(
                second < 9 || removed == 1 || second == 7,
                "second {second}: {removed}"
            );
            assert_eq!(changed as usize, 3 + removed);
            assert_eq!(operator.count(State::Active), FIRST);
        }
        assert_eq!(operator.farm[0].state, State::Draining);
    }
}
