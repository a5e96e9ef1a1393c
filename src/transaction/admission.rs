//! Whether a transaction begins, and which others are forgotten for it.

use super::failover::rules;
use super::slab::NONE;
use super::table::LedBy;
use super::{Around, Event, Outbox, Queue, Received, Relay};
use crate::proxy::{Begin, Datagram, Decision, Forward, Reason, Status, Way};

/// Transactions that give up their room for one that is new: as many as hold
/// the octets of the longest request, where all are of usual size.
const MOST_EVICTED: usize = 16;

impl Relay {
    /// A request that no transaction knows: one begins.
    pub(super) fn begin<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
        forward: &Forward,
        begin: &Begin,
    ) -> Received {
        if self.begins_none {
            return Received::Decision(Decision::Forward(*forward));
        }
        if self.is_dropped() {
            return Received::Decision(Decision::Drop(Reason::Overload));
        }
        let chosen = matches!(forward.way, Way::Selected(_));
        let movable = chosen && !begin.in_dialog;
        let Some(at) = self.open(around, datagram, begin, movable) else {
            around.out.count(Event::TableFull);
            return Received::Decision(Decision::Forward(*forward));
        };
        let mut forward = *forward;
        let mut number = 0;
        if movable && self.suspects.has(forward.to, around.now) {
            let owner = forward.to;
            match self.decide_next(around, at, None, None, 1, true) {
                Some(other) => (forward, number) = (other, 1),
                None => match self.decide_again(around, at, 0, None, owner, forward.listener) {
                    Some(same) => forward = same,
                    None => {
                        self.table.close(at);
                        return Received::Decision(self.stateless(around, datagram));
                    }
                },
            }
        }
        let launched = self.launch(around, at, &forward, number, LedBy::NO_RULE);
        if launched.is_none() {
            self.table.close(at);
            around.out.count(Event::TableFull);
            return Received::Decision(self.stateless(around, datagram));
        }
        around.out.count(Event::Begun);
        if begin.invite {
            self.say_trying(around, at, forward.call);
        }
        self.settle(around, at);
        Received::Done
    }

    /// An INVITE for which its set has no destination: one begins where a failure
    /// rule for 503 has one, else it is answered so.
    #[cold]
    pub(super) fn begin_elsewhere<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
        refused: Decision,
        begin: &Begin,
        set: usize,
    ) -> Received {
        let set = around.proxy.dispatcher().sets()[set].number();
        let any = rules(around.proxy, 0, set, 503).next().is_some();
        if !any || self.begins_none {
            return Received::Decision(refused);
        }
        if self.is_dropped() {
            return Received::Decision(Decision::Drop(Reason::Overload));
        }
        let Some(at) = self.open(around, datagram, begin, true) else {
            around.out.count(Event::TableFull);
            return Received::Decision(refused);
        };
        if !self.apply_rule(around, at, set, 503) {
            self.table.close(at);
            // Else the rule's set has nobody.
            if self.table.attempts.is_full() {
                around.out.count(Event::TableFull);
            }
            return Received::Decision(self.stateless(around, datagram));
        }
        around.out.count(Event::Begun);
        self.say(around, datagram, Status::Trying);
        self.settle(around, at);
        Received::Done
    }

    /// Finds room for a transaction, be it that of others.
    fn open<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
        begin: &Begin,
        movable: bool,
    ) -> Option<u32> {
        if self.table.records.is_full() {
            let victim = self.victim(around)?;
            self.evict(around, victim);
        }
        let mut evicted = 0;
        loop {
            let opened = self.table.open(begin, movable, datagram, around.now);
            // Otherwise its message has found no room.
            if opened.is_some() || evicted == MOST_EVICTED {
                return opened;
            }
            let victim = self.victim(around)?;
            match self.table.holds_octets(victim) {
                true => self.evict(around, victim),
                // It would go for nothing, and is not looked at again soon.
                false => self.table.queue(victim, Queue::Lingering),
            }
            evicted += 1;
        }
    }

    /// What is forgotten for a new one: one that nobody has responded to for
    /// longer than T1, else one that is only there for retransmissions.
    fn victim<O: Outbox>(&self, around: &Around<'_, O>) -> Option<u32> {
        let victim = self.unanswered(around);
        victim.or_else(|| self.table.oldest(Queue::Lingering))
    }

    /// The oldest that nobody has responded to for longer than T1.
    fn unanswered<O: Outbox>(&self, around: &Around<'_, O>) -> Option<u32> {
        let t1 = around.proxy.stateful().timers.t1.as_millis() as u64;
        let patient = |at: &u32| self.table.records[*at].received + t1 < around.now;
        self.table.oldest(Queue::Unanswered).filter(patient)
    }

    /// Finds room for one more attempt, where others have taken what there is
    /// for each transaction: for a first one as for the transaction itself, else
    /// that of one that only lingers.
    pub(super) fn make_room<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
    ) -> Option<()> {
        while self.table.attempts.is_full() {
            let victim = match self.table.records[at].first {
                NONE => self.victim(around),
                _ => self.table.oldest(Queue::Lingering),
            }?;
            self.evict(around, victim);
        }
        Some(())
    }

    fn evict<O: Outbox>(&mut self, around: &mut Around<'_, O>, victim: u32) {
        around.out.count(Event::Evicted);
        self.table.close(victim);
    }
}
