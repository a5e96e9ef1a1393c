//! Whether a transaction begins, and which others are forgotten for it.

use super::failover::rules;
use super::slab::NONE;
use super::table::LedBy;
use super::{Event, Outbox, Queue, Received, Work};
use crate::proxy::{Begin, Datagram, Decision, Forward, Reason, Status, Way};

/// One in so many datagrams would begin a transaction at least where that is what is
/// too much: with 100, 180, ACK, BYE and their like it is one in six to sixteen.
const BEGINNINGS: usize = 32;

/// Transactions that give up their room for one that is new: one for its record, and
/// as many as hold the octets of the longest request, where all are of usual size.
const MOST_EVICTED: usize = 17;

/// Whether transactions begin, where there is room.
#[derive(Default)]
pub(super) struct Admission {
    /// Whether no transaction begins any more.
    pub(super) begins_none: bool,
    /// Whether what would begin a transaction is dropped.
    overloaded: bool,
    /// Datagrams decided since that was last said, and those which would begin one.
    pub(super) decided: usize,
    beginnings: usize,
}

impl Admission {
    /// See [`Relay::overload`](super::Relay::overload).
    pub(super) fn overload(&mut self, too_much: bool) {
        let decided = std::mem::take(&mut self.decided);
        let beginnings = std::mem::take(&mut self.beginnings);
        self.overloaded = too_much && beginnings * BEGINNINGS >= decided;
    }

    /// Whether a request that would begin a transaction is dropped. Not the first
    /// one: where more comes than can be dropped, somebody is let in all the same.
    fn is_dropped(&mut self) -> bool {
        self.beginnings += 1;
        self.overloaded && self.beginnings > 1
    }
}

impl<O: Outbox> Work<'_, O> {
    /// A request that no transaction knows: one begins.
    pub(super) fn begin(
        &mut self,
        datagram: &Datagram<'_>,
        forward: &Forward,
        begin: &Begin,
    ) -> Received {
        if self.admission.begins_none {
            return Received::Decision(Decision::Forward(*forward));
        }
        if self.admission.is_dropped() {
            return Received::Decision(Decision::Drop(Reason::Overload));
        }
        let movable = matches!(forward.way, Way::Selected(_)) && !begin.in_dialog;
        let Some(at) = self.open(datagram, begin, movable) else {
            self.out.count(Event::TableFull);
            return Received::Decision(Decision::Forward(*forward));
        };
        let mut forward = *forward;
        let mut number = 0;
        if movable && self.suspects.has(forward.to, self.now) {
            let owner = forward.to;
            match self.decide_next(at, None, None, 1, true) {
                Some(other) => (forward, number) = (other, 1),
                None => match self.decide_again(at, 0, None, owner, forward.listener) {
                    Some(same) => forward = same,
                    None => {
                        self.table.close(at);
                        return Received::Decision(self.stateless(datagram));
                    }
                },
            }
        }
        let launched = self.launch(at, &forward, number, LedBy::NO_RULE);
        if launched.is_none() {
            self.table.close(at);
            self.out.count(Event::TableFull);
            return Received::Decision(self.stateless(datagram));
        }
        self.out.count(Event::Begun);
        if begin.chosen.invite {
            self.say_trying(at, forward.call);
        }
        self.settle(at);
        Received::Done
    }

    /// An INVITE for which its set has no destination: one begins where a failure
    /// rule for 503 has one, else it is answered so.
    #[cold]
    pub(super) fn begin_elsewhere(
        &mut self,
        datagram: &Datagram<'_>,
        refused: Decision,
        begin: &Begin,
        set: usize,
    ) -> Received {
        let set = self.proxy.dispatcher().sets()[set].number();
        let any = rules(self.proxy, 0, set, 503).next().is_some();
        if !any || self.admission.begins_none {
            return Received::Decision(refused);
        }
        if self.admission.is_dropped() {
            return Received::Decision(Decision::Drop(Reason::Overload));
        }
        let Some(at) = self.open(datagram, begin, true) else {
            self.out.count(Event::TableFull);
            return Received::Decision(refused);
        };
        if !self.apply_rule(at, set, 503) {
            self.table.close(at);
            // Else the rule's set has nobody.
            if self.table.attempts.is_full() {
                self.out.count(Event::TableFull);
            }
            return Received::Decision(self.stateless(datagram));
        }
        self.out.count(Event::Begun);
        self.say(datagram, Status::Trying);
        self.settle(at);
        Received::Done
    }

    /// Finds room for a transaction, be it that of others.
    fn open(&mut self, datagram: &Datagram<'_>, begin: &Begin, movable: bool) -> Option<u32> {
        let mut evicted = 0;
        loop {
            let opened = self.table.open(begin, movable, datagram, self.now);
            if opened.is_some() || evicted == MOST_EVICTED {
                return opened;
            }
            let victim = self.victim()?;
            match self.table.records.is_full() || self.table.holds_octets(victim) {
                true => self.evict(victim),
                // It would go for nothing, and is not looked at again soon.
                false => self.table.queue(victim, Queue::Lingering),
            }
            evicted += 1;
        }
    }

    /// What is forgotten for a new one: one that nobody has responded to for
    /// longer than T1, else one that is only there for retransmissions.
    fn victim(&self) -> Option<u32> {
        let victim = self.unanswered();
        victim.or_else(|| self.table.oldest(Queue::Lingering))
    }

    /// The oldest that nobody has responded to for longer than T1.
    fn unanswered(&self) -> Option<u32> {
        let t1 = self.proxy.stateful().timers.t1.as_millis() as u64;
        let patient = |at: &u32| self.table.records[*at].received + t1 < self.now;
        self.table.oldest(Queue::Unanswered).filter(patient)
    }

    /// Finds room for one more attempt, where others have taken what there is
    /// for each transaction: for a first one as for the transaction itself, else
    /// that of one that only lingers.
    pub(super) fn make_room(&mut self, at: u32) -> Option<()> {
        while self.table.attempts.is_full() {
            let victim = match self.table.records[at].first {
                NONE => self.victim(),
                _ => self.table.oldest(Queue::Lingering),
            }?;
            self.evict(victim);
        }
        Some(())
    }

    fn evict(&mut self, victim: u32) {
        self.out.count(Event::Evicted);
        self.table.close(victim);
    }
}
