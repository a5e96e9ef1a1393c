//! What a worker does for transactions: lends its sockets, its clock and the
//! queues to the other workers.

use std::collections::TryReserveError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::backlog::Backlog;
use super::outlet::Outlet;
use super::{Handed, Step, Worker, now};
use crate::config::Stateful;
use crate::net::{RETURNED_MAX, Socket};
use crate::proxy::Datagram;
use crate::transaction::owner::owner_of_cut;
use crate::transaction::{Around, AttemptId, Relay};

/// Milliseconds that a timer may be late under load.
const LATE: u64 = 8;

/// Milliseconds that they wait beyond that for sockets to be empty: more than
/// what a receive buffer holds takes.
const LATEST: u64 = 100;

/// Datagrams taken in a turn from which on a receive buffer may be nearly full, and the
/// kernel is worth asking.
const MANY: usize = 32;

/// ICMP errors taken from a socket at a time.
const ERRORS: usize = 256;

/// What a worker needs to relay with transactions.
pub(super) struct Relaying {
    pub(super) relay: Relay,
    look: Look,
    backlog: Backlog,
    /// What its sockets had dropped at the last look.
    overflow: u64,
    /// [`super::Shared::losses`] at the last look.
    losses: u64,
}

/// When the timers are looked at. Milliseconds, by the workers' clock.
#[derive(Default)]
struct Look {
    /// When again.
    at: u64,
    /// When they were first left for what is in the sockets.
    left_at: Option<u64>,
    /// The last turn.
    turned_at: u64,
}

impl Look {
    /// Whether to look in a turn at `time`; `more` says whether datagrams may
    /// be left in the sockets.
    fn is_due(&mut self, time: u64, more: bool) -> bool {
        // Behind a stall there is as much to read as ever.
        if time - self.turned_at > LATEST {
            self.left_at = None;
        }
        self.turned_at = time;
        if time < self.at || (more && time < *self.left_at.get_or_insert(time) + LATEST) {
            return false;
        }
        self.at = time + LATE;
        self.left_at = None;
        true
    }
}

impl Relaying {
    pub(super) fn new(
        stateful: &Stateful,
        number: usize,
        workers: usize,
    ) -> Result<Self, TryReserveError> {
        Ok(Self {
            relay: Relay::new(stateful, number, workers)?,
            look: Look::default(),
            backlog: Backlog::default(),
            overflow: 0,
            losses: 0,
        })
    }

    /// Says whether more comes than can be done, by what a turn at `now` has taken from
    /// these sockets, and whether there may be `more`.
    fn see_backlog(&mut self, sockets: &[Socket], taken: usize, more: bool, now: u64) {
        let may_be = more || taken >= MANY;
        let nearly_full = may_be && sockets.iter().any(Socket::is_nearly_full);
        let too_much = self.backlog.is_too_much(nearly_full, now);
        self.relay.overload(too_much);
    }

    /// How long may be slept.
    pub(super) fn patience(&mut self, now: u64) -> Option<Duration> {
        // Not before the timers are looked at again: it would wake in vain.
        let due = self.relay.next_due()?.max(self.look.at);
        Some(Duration::from_millis(due.saturating_sub(now)))
    }
}

impl Worker {
    /// Lets `act` work with the transactions, where there are any.
    #[inline]
    pub(super) fn with_relay<T>(
        &mut self,
        step: &mut Step<'_>,
        act: impl FnOnce(&mut Relay, &mut Around<'_, Outlet<'_>>) -> T,
    ) -> Option<T> {
        let relaying = self.relaying.as_mut()?;
        let now = step.now(self.shared.started);
        let mut outlet = Outlet {
            queued: step.out,
            sockets: &self.sockets,
            counters: &self.counters,
            tallies: step.snapshot.tallies(self.number),
            repeats: &mut self.repeats,
            trouble: &mut self.trouble,
            limiter: &mut self.limiter,
            accounting: self.shared.accounting.as_ref(),
            copies: self.copies.as_ref(),
            now,
        };
        let mut around = Around {
            proxy: step.snapshot.proxy(),
            scratch: step.scratch,
            now,
            out: &mut outlet,
        };
        Some(act(&mut relaying.relay, &mut around))
    }

    #[cold]
    pub(super) fn hand_over(&self, worker: usize, datagram: &Datagram<'_>) {
        let handed = Handed::Datagram(datagram.kept());
        let posted = self.shared.handovers.post(worker, handed);
        self.counters.handed_over(posted);
        if !posted {
            self.shared.losses.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Tells the transactions where datagrams were lost since the last look, by
    /// any worker.
    fn see_losses(&mut self, now: u64) {
        let Some(relaying) = &mut self.relaying else {
            return;
        };
        let overflow = self.sockets.iter().map(Socket::overflow).sum();
        if std::mem::replace(&mut relaying.overflow, overflow) != overflow {
            self.shared.losses.fetch_add(1, Ordering::Relaxed);
        }
        let losses = self.shared.losses.load(Ordering::Relaxed);
        if std::mem::replace(&mut relaying.losses, losses) != losses {
            relaying.relay.lost(now);
        }
    }

    /// The same before anything is read, at first and behind a sleep: what was lost
    /// long before says nothing of a transaction that begins then. Not in each turn of
    /// many, for it asks the kernel.
    pub(super) fn see_earlier_losses(&mut self) {
        let now = now(self.shared.started);
        let relaying = self.relaying.as_ref();
        if relaying.is_some_and(|relaying| relaying.look.at <= now) {
            self.see_losses(now);
        }
    }

    /// Does what transactions want beside datagrams: what other workers have
    /// handed over, what came back, and what is due. Behind the datagrams: after
    /// a stall they hold the responses that were waited for. `more` says whether
    /// some of them may still be in the sockets. Returns whether some may be in
    /// the inbox.
    pub(super) fn see_to_transactions(&mut self, step: &mut Step<'_>, more: bool) -> bool {
        let more_handed = self.take_handed(step);
        let more = more || more_handed;
        let Some(relaying) = &mut self.relaying else {
            return more_handed;
        };
        let now = step.now(self.shared.started);
        relaying.see_backlog(&self.sockets, step.taken, more, now);
        let look = relaying.look.is_due(now, more);
        if look || self.trouble.disturbed {
            self.take_undelivered(step);
        }
        if look {
            self.see_losses(now);
            self.with_relay(step, |relay, around| relay.expire(around));
        }
        self.flush(step);
        if let Some(relaying) = &self.relaying {
            self.counters.transactions(relaying.relay.population());
        }
        more_handed
    }

    /// Takes what other workers have handed over: one batch, for they may hand
    /// over faster than it is taken, and all else would wait for ever. Returns
    /// whether there may be more.
    pub(super) fn take_handed(&mut self, step: &mut Step<'_>) -> bool {
        for _ in 0..self.batch_size {
            let Some(handed) = self.shared.handovers.take(self.number) else {
                return false;
            };
            match handed {
                Handed::Datagram(kept) => self.take(step, &kept.datagram()),
                Handed::Undelivered(bytes) => {
                    self.came_back(step, &bytes);
                }
            }
        }
        true
    }

    /// Takes what ICMP brings back from all sockets.
    #[cold]
    fn take_undelivered(&mut self, step: &mut Step<'_>) {
        self.trouble.disturbed = false;
        let mut returned = [0; RETURNED_MAX];
        for socket in 0..self.sockets.len() {
            for _ in 0..ERRORS {
                let taken = self.sockets[socket].take_undelivered(&mut returned);
                let Ok(Some(octets)) = taken else {
                    break;
                };
                self.counters.came_back();
                if !self.came_back(step, octets) {
                    self.ask_others(octets);
                }
            }
        }
    }

    /// Tells the transaction whose request came back; false where it is not
    /// here.
    fn came_back(&mut self, step: &mut Step<'_>, octets: &[u8]) -> bool {
        let proxy = step.snapshot.proxy();
        let Some((key, number)) = proxy.returned(octets) else {
            return true;
        };
        let attempt = AttemptId { key, number };
        let known = self.with_relay(step, |relay, around| relay.undeliverable(around, attempt));
        known.unwrap_or(true)
    }

    /// The kernel chooses a socket for an error by addresses alone: it is for
    /// the worker that has the call, and for all where too little came back to
    /// tell which.
    fn ask_others(&self, octets: &[u8]) {
        let handovers = &self.shared.handovers;
        let workers = handovers.workers();
        let owner = owner_of_cut(octets, workers);
        let asked = owner.map_or(0..workers, |owner| owner..owner + 1);
        for other in asked.filter(|other| *other != self.number) {
            if !handovers.post(other, Handed::Undelivered(octets.into())) {
                self.counters.handed_over(false);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_wait_for_what_is_in_the_sockets_but_not_forever() {
        let mut look = Look::default();
        assert!(look.is_due(1000, false));
        assert!(!look.is_due(1000 + LATE - 1, false));
        let overdue = 1000 + LATE;
        assert!(!look.is_due(overdue, true));
        assert!(!look.is_due(overdue + LATEST - 1, true));
        assert!(look.is_due(overdue + LATEST, true));
        assert!(look.is_due(overdue + LATEST + LATE, false));
    }

    #[test]
    fn after_a_stall_they_wait_anew() {
        let mut look = Look::default();
        assert!(look.is_due(1000, false));
        // One before they were overdue, and one in the midst of the wait.
        for time in [10_000, 20_000] {
            assert!(!look.is_due(time, true));
            assert!(!look.is_due(time + LATEST - 1, true));
        }
        assert!(look.is_due(20_000 + LATEST, true));
    }
}
