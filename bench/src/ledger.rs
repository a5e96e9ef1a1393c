//! What is under way: for each call the messages sent and not yet received,
//! and the totals.
//!
//! Calls are numbered from zero and kept in a ring. A message that does not
//! arrive in time is written off as lost, so that a closed loop
//! keeps its window and an open loop its memory.

use crate::message::Pass;

/// Calls that can be under way at once; a power of two.
const RING: usize = 1 << 18;

#[derive(Clone, Copy, Default)]
struct Call {
    number: u64,
    /// One bit for each [`Pass`] that was sent and not received.
    outstanding: u8,
    /// One more than the index of the destination that took the call.
    destination: u16,
    /// Intended time of sending of each [`Pass`], in ns.
    sent: [u64; Pass::COUNT],
    started: u64,
}

/// Totals of a load, in messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) sent: u64,
    pub(crate) received_by_farm: u64,
    pub(crate) received_by_callers: u64,
    pub(crate) lost: u64,
    /// Came twice, or after having been written off.
    pub(crate) unexpected: u64,
}

/// The calls under way and the totals.
pub(crate) struct Ledger {
    /// How long a message may take, in ns, before it counts as lost.
    patience: u64,
    /// The bits of all [`Pass`]es that callers or farm send.
    offered: u8,
    ring: Vec<Call>,
    oldest: u64,
    in_flight: u64,
    totals: Totals,
}

impl Ledger {
    /// `trying`: whether 100 is of the balancer and not of the farm.
    pub(crate) fn new(trying: bool, patience: u64) -> Self {
        Self {
            patience,
            offered: if trying { !bit(Pass::Trying) } else { !0 },
            ring: vec![Call::default(); RING],
            oldest: 0,
            in_flight: 0,
            totals: Totals::default(),
        }
    }

    /// Messages that callers or farm sent, and neither received nor written off.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// Opens the next call, intended for `at`, and returns its number. Where
    /// the ring is full, what the oldest call still waits for counts as lost.
    pub(crate) fn start(&mut self, at: u64) -> u64 {
        let number = self.totals.calls;
        if number - self.oldest == RING as u64 {
            self.write_off_oldest();
        }
        self.ring[slot(number)] = Call {
            number,
            started: at,
            ..Call::default()
        };
        self.totals.calls += 1;
        number
    }

    /// Notes that `pass` of call `number` leaves, or should have left, at `at`.
    pub(crate) fn sent(&mut self, number: u64, pass: Pass, at: u64) {
        let call = &mut self.ring[slot(number)];
        call.outstanding |= bit(pass);
        call.sent[pass as usize] = at;
        self.in_flight += u64::from(bit(pass) & self.offered != 0);
        self.totals.sent += 1;
    }

    /// Notes that `pass` of call `number` arrived. Returns the intended time
    /// of its sending, or `None` if it is not expected.
    pub(crate) fn received(&mut self, number: u64, pass: Pass) -> Option<u64> {
        let call = &mut self.ring[slot(number)];
        let bit = bit(pass);
        if call.number != number || call.outstanding & bit == 0 {
            self.totals.unexpected += 1;
            return None;
        }
        call.outstanding &= !bit;
        self.in_flight -= u64::from(bit & self.offered != 0);
        if pass.is_request() {
            self.totals.received_by_farm += 1;
        } else {
            self.totals.received_by_callers += 1;
        }
        Some(call.sent[pass as usize])
    }

    /// Notes that destination `index` took a request of call `number`.
    /// Returns whether it is the one that took the requests before.
    pub(crate) fn keeps_destination(&mut self, number: u64, index: usize) -> bool {
        let call = &mut self.ring[slot(number)];
        let mark = index as u16 + 1;
        let first = call.destination == 0;
        if first {
            call.destination = mark;
        }
        first || call.destination == mark
    }

    /// Writes off the oldest calls that wait in vain at `now` (ns).
    pub(crate) fn sweep(&mut self, now: u64) {
        while self.oldest < self.totals.calls {
            let call = &self.ring[slot(self.oldest)];
            let latest = call
                .sent
                .iter()
                .copied()
                .max()
                .unwrap_or(0)
                .max(call.started);
            if call.outstanding != 0 && now < latest.saturating_add(self.patience) {
                return;
            }
            self.write_off_oldest();
        }
    }

    /// Writes off everything that is still under way.
    pub(crate) fn close(&mut self) {
        while self.oldest < self.totals.calls {
            self.write_off_oldest();
        }
    }

    fn write_off_oldest(&mut self) {
        let call = &mut self.ring[slot(self.oldest)];
        let lost = u64::from(call.outstanding.count_ones());
        self.in_flight -= u64::from((call.outstanding & self.offered).count_ones());
        call.outstanding = 0;
        self.totals.lost += lost;
        self.oldest += 1;
    }
}

fn bit(pass: Pass) -> u8 {
    1 << pass as u8
}

fn slot(number: u64) -> usize {
    number as usize % RING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_once() {
        let mut ledger = Ledger::new(false, 100);
        let number = ledger.start(10);
        ledger.sent(number, Pass::Request, 10);
        assert_eq!(ledger.in_flight(), 1);
        assert_eq!(ledger.received(number, Pass::Request), Some(10));
        assert_eq!(ledger.received(number, Pass::Request), None);
        let totals = ledger.totals();
        assert_eq!(
            (totals.sent, totals.received_by_farm, totals.unexpected),
            (1, 1, 1)
        );
        assert_eq!(ledger.in_flight(), 0);
    }

    #[test]
    fn what_does_not_arrive_in_time_is_lost_and_frees_its_place() {
        let mut ledger = Ledger::new(false, 100);
        let number = ledger.start(0);
        ledger.sent(number, Pass::Answer, 0);
        ledger.sweep(99);
        assert_eq!(ledger.totals().lost, 0);
        ledger.sweep(100);
        assert_eq!(ledger.totals().lost, 1);
        assert_eq!(ledger.in_flight(), 0);
        assert_eq!(ledger.received(number, Pass::Answer), None);
    }

    #[test]
    fn what_the_balancer_itself_sends_is_awaited_but_not_in_flight() {
        let mut ledger = Ledger::new(true, 100);
        for number in 0..2 {
            assert_eq!(ledger.start(0), number);
            ledger.sent(number, Pass::Request, 0);
            ledger.sent(number, Pass::Trying, 0);
        }
        assert_eq!(ledger.in_flight(), 2);
        assert_eq!(ledger.received(0, Pass::Trying), Some(0));
        ledger.close();
        assert_eq!((ledger.in_flight(), ledger.totals().lost), (0, 3));
    }

    #[test]
    fn a_full_ring_writes_off_the_oldest_call() {
        let mut ledger = Ledger::new(false, 100);
        for _ in 0..=RING {
            let number = ledger.start(0);
            ledger.sent(number, Pass::Request, 0);
        }
        assert_eq!(ledger.totals().lost, 1);
        assert_eq!(ledger.received(0, Pass::Request), None);
        assert_eq!(ledger.received(1, Pass::Request), Some(0));
    }

    #[test]
    fn a_call_that_changes_its_destination_is_noticed() {
        let mut ledger = Ledger::new(false, 100);
        let number = ledger.start(0);
        assert!(ledger.keeps_destination(number, 2));
        assert!(ledger.keeps_destination(number, 2));
        assert!(!ledger.keeps_destination(number, 3));
    }
}
