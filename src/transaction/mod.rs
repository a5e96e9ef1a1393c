//! Stateful relay: the transactions of chosen methods (RFC 3261 §16, §17,
//! RFC 6026, RFC 4320).
//!
//! A [`Relay`] is asked before the stateless decision is carried out. It
//! remembers each request of a chosen method by the MAC of the branch that the
//! request has without it, so that whatever it forgets or never knew goes on
//! statelessly and nobody notices. All it needs are datagrams and the time.
//!
//! - `table`: what is remembered, in a fixed amount of memory
//! - `admission`: which requests begin one, and what is forgotten for them
//! - `server`: what the sender of the request gets
//! - `client`: what the destination of each attempt is sent, and when
//! - `responses`: what it says, or ICMP in its place
//! - `failover`: which destination is tried next, and the best of the failures
//! - `silent`: attempts that were given up for their silence, and speak
//! - `memory`: what is kept of a request
//! - `suspects`: destinations that new work avoids
//!
//! Throughout, `at` is where a transaction is in the table, `place` where one of
//! its attempts is.

mod admission;
mod cells;
mod client;
mod failover;
mod finished;
mod memory;
pub mod owner;
mod responses;
mod server;
mod silent;
mod slab;
mod suspects;
mod table;
mod wheel;

use std::collections::TryReserveError;
use std::net::{IpAddr, SocketAddr};

use crate::config::Stateful;
use crate::proxy::{Among, Datagram, Decision, Forward, Found, Part, Proxy, Role, Scratch, Status};

use admission::Admission;
pub use finished::{Finished, Outcome, Tried};
use suspects::Suspects;
use table::{Cancel, Client, NEVER, Queue, Server, Since, Table};

/// The transactions of one worker.
pub struct Relay {
    table: Table,
    suspects: Suspects,
    admission: Admission,
    /// Among the workers.
    number: usize,
    workers: usize,
    /// Working memory: the request of a transaction, or what is to leave.
    message: Vec<u8>,
    /// The same for the head of an attempt.
    head: Vec<u8>,
    /// The same for one whose Request-URI a failure rule gave.
    rule_head: Vec<u8>,
    /// The heads of attempts for which room is yet to be made.
    heads: Vec<u8>,
    /// What is due and has not been seen to, the first one last.
    due: Vec<u32>,
    /// When datagrams to us were last found to be lost.
    lost_at: Option<u64>,
}

/// How many transactions are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Population {
    /// All of them.
    pub all: usize,
    /// Those that are there for more than retransmissions.
    pub unfinished: usize,
    /// Those that no destination has responded to.
    pub unanswered: usize,
}

/// What a relay works with.
pub struct Around<'a, O> {
    /// What decides.
    pub proxy: &'a Proxy,
    /// Its working memory.
    pub scratch: &'a mut Scratch,
    /// Milliseconds of a clock that does not go back.
    pub now: u64,
    /// Where what it sends goes.
    pub out: &'a mut O,
}

/// What a relay tells and asks.
pub trait Outbox {
    /// Where to write the next datagram: [`crate::sip::MAX_DATAGRAM`] octets.
    fn space(&mut self) -> &mut [u8];
    /// Sends the first octets of the space.
    fn send(&mut self, leaving: &Leaving);
    /// Has a transaction accounted, with its final response: once for each,
    /// where accounting is configured.
    fn finished(&mut self, finished: &Finished<'_>);
    /// A transaction has found the destination at `place`, its set and its index in
    /// that, silent, unreachable or busy: told each time.
    fn suspected(&mut self, place: (usize, usize), lesson: Lesson);
    /// Whether so many more octets that nobody asked for may go there; counts
    /// them if so.
    fn allows(&mut self, to: IpAddr, octets: usize) -> bool;
    /// Counts an attempt that is sent, or a response to one, which is sent on or
    /// not.
    fn forwarded(&mut self, forward: &Forward);
    /// Counts.
    fn count(&mut self, event: Event);
}

/// A datagram to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// Octets, from the start of the space.
    pub length: usize,
    /// Where to.
    pub to: SocketAddr,
    /// The listener from whose socket it leaves.
    pub listener: usize,
    /// What lets it leave together with others; `None`: it leaves alone.
    pub run: Option<InRun>,
    /// The attempt that fails where it cannot be delivered.
    pub attempt: Option<AttemptId>,
}

/// What a datagram must tell to leave in a run; see [`Forward`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InRun {
    /// Where in it white space may be put in.
    pub padding_at: usize,
    /// The same for all datagrams of a call.
    pub call: u64,
}

impl InRun {
    /// What one that is sent on tells.
    #[inline]
    #[must_use]
    pub fn of(forward: &Forward) -> Self {
        let Forward {
            padding_at, call, ..
        } = *forward;
        Self { padding_at, call }
    }
}

/// One attempt of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptId {
    /// The transaction's key.
    pub key: u64,
    /// The attempt's number in its branch.
    pub number: u8,
}

/// What a transaction teaches of a destination that new work should avoid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It said nothing at all.
    Silent,
    /// ICMP, or the kernel, says that it cannot be reached.
    Unreachable,
    /// It asked for a time without new work (RFC 3261 §21.5.4): so many
    /// milliseconds, up to the cap.
    Busy(u64),
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A transaction began.
    Begun,
    /// A request was relayed without a transaction, or answered 503, for the table
    /// was full.
    TableFull,
    /// A transaction was forgotten for a new one.
    Evicted,
    /// A retransmission was absorbed.
    Absorbed,
    /// We have retransmitted.
    Retransmitted,
    /// Another destination was tried.
    FailedOver,
    /// A failure rule has sent a call on.
    RuleApplied,
    /// We have cancelled an attempt.
    Cancelled,
    /// A reply of our own with this status left.
    Replied(Status),
}

/// What is left for a worker to do about a datagram. The relay has done the
/// rest of what the proxy says ([`Among`]); a [`Decision`] is the proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// It belongs to a transaction; all is done.
    Done,
    /// It belongs to none.
    Decision(Decision),
    /// It belongs to a call of this worker.
    HandOver(usize),
}

impl Relay {
    /// The part of worker `number` of `workers`.
    ///
    /// # Errors
    /// There is no memory for so many transactions.
    pub fn new(
        stateful: &Stateful,
        number: usize,
        workers: usize,
    ) -> Result<Self, TryReserveError> {
        Ok(Self {
            table: Table::new(stateful.transactions.div_ceil(workers))?,
            suspects: Suspects::default(),
            admission: Admission::default(),
            number,
            workers,
            message: Vec::with_capacity(crate::sip::MAX_DATAGRAM),
            head: Vec::with_capacity(crate::sip::MAX_DATAGRAM),
            rule_head: Vec::with_capacity(crate::sip::MAX_DATAGRAM),
            heads: Vec::with_capacity(crate::sip::MAX_DATAGRAM),
            due: Vec::new(),
            lost_at: None,
        })
    }

    /// Says whether transactions no longer begin: what would have had one goes
    /// on statelessly then.
    pub fn begin_none(&mut self, none: bool) {
        self.admission.begins_none = none;
    }

    /// Says whether more comes than can be done. What would begin a transaction is
    /// dropped then, for its sender sends it again, and what has begun is brought to
    /// its end: else all of it would lose some of its messages, and what is sent again
    /// for their sake would leave room for still less. Not where it is little of what
    /// has come since this was last said: it is not that which is too much then.
    pub fn overload(&mut self, too_much: bool) {
        self.admission.overload(too_much);
    }

    /// Says that datagrams to us were lost before `now`: the response of whoever
    /// seems to be silent may have been among them.
    pub fn lost(&mut self, now: u64) {
        self.lost_at = Some(now);
    }

    /// Decides one datagram. What belongs to a transaction is done; what does
    /// not is left to the caller.
    pub fn receive<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
    ) -> Received {
        let find = |call_id: &[u8], key| self.find(call_id, key);
        let space = around.out.space();
        let decided = around
            .proxy
            .decide_among(datagram, find, around.scratch, space);
        self.admission.decided += usize::from(!matches!(decided, Ok(Among::HandOver(_))));
        match &decided {
            Err(reason) => Received::Decision(Decision::Drop(*reason)),
            Ok(Among::HandOver(worker)) => Received::HandOver(*worker),
            Ok(Among::Known(at, role)) => self.work(around).known(*at, *role, datagram),
            Ok(Among::Cancelled {
                at,
                attempt,
                status,
            }) => {
                let mut work = self.work(around);
                work.cancel_answered(*at, *attempt, *status, datagram);
                Received::Done
            }
            Ok(Among::None(decision)) => match (decision, around.scratch.part()) {
                (Decision::Forward(forward), Some(Part::Begins(begin))) => {
                    self.work(around).begin(datagram, forward, &begin)
                }
                (Decision::Forward(forward), Some(Part::Answers(answer))) => {
                    self.work(around).respond(datagram, forward, &answer)
                }
                (_, Some(Part::Unplaced(begin, set))) => {
                    let mut work = self.work(around);
                    work.begin_elsewhere(datagram, *decision, &begin, set)
                }
                _ => Received::Decision(*decision),
            },
        }
    }

    fn find(&self, call_id: &[u8], key: u64) -> Found {
        if self.workers > 1 {
            let owner = owner::owner(call_id, self.workers);
            if owner != self.number {
                return Found::Elsewhere(owner);
            }
        }
        self.table.find(key).map_or(Found::Nowhere, Found::Here)
    }

    /// A datagram of this attempt could not be delivered (RFC 3261 §16.9).
    /// False where there is no such transaction.
    pub fn undeliverable<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        attempt: AttemptId,
    ) -> bool {
        let Some(at) = self.table.find(attempt.key) else {
            return false;
        };
        let mut work = self.work(around);
        if let Some(place) = work.table.numbered(at, attempt.number) {
            work.unreachable(at, place);
            work.settle(at);
        }
        true
    }

    /// Does what is due.
    pub fn expire<O: Outbox>(&mut self, around: &mut Around<'_, O>) {
        let Table { wheel, records, .. } = &mut self.table;
        wheel.take(records, around.now, &mut self.due);
        self.due.reverse();
        while let Some(at) = self.due.pop() {
            // For an attempt of one that was due before.
            if self.table.is_forgotten(at) {
                continue;
            }
            let mut work = self.work(around);
            work.attempts_due(at);
            work.server_due(at);
            work.settle(at);
        }
    }

    /// When [`Relay::expire`] is wanted next, by the same clock; `None`: never.
    /// It may be early, never late.
    #[must_use]
    pub fn next_due(&mut self) -> Option<u64> {
        (!self.is_empty()).then(|| self.table.wheel.next())
    }

    /// Transactions that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.records.len()
    }

    /// The same in more detail.
    #[must_use]
    pub fn population(&self) -> Population {
        let all = self.len();
        Population {
            all,
            unfinished: all - self.table.count(Queue::Lingering),
            unanswered: self.table.count(Queue::Unanswered),
        }
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn work<'a, O>(&'a mut self, around: &'a mut Around<'_, O>) -> Work<'a, O> {
        Work {
            proxy: around.proxy,
            scratch: around.scratch,
            now: around.now,
            out: around.out,
            table: &mut self.table,
            suspects: &mut self.suspects,
            admission: &mut self.admission,
            message: &mut self.message,
            head: &mut self.head,
            rule_head: &mut self.rule_head,
            heads: &mut self.heads,
            lost_at: self.lost_at,
        }
    }
}

/// A relay at work: its fields and those of [`Around`] side by side, so that one of
/// them can be borrowed apart from the others.
struct Work<'a, O> {
    proxy: &'a Proxy,
    scratch: &'a mut Scratch,
    now: u64,
    out: &'a mut O,
    table: &'a mut Table,
    suspects: &'a mut Suspects,
    admission: &'a mut Admission,
    message: &'a mut Vec<u8>,
    head: &'a mut Vec<u8>,
    rule_head: &'a mut Vec<u8>,
    heads: &'a mut Vec<u8>,
    lost_at: Option<u64>,
}

impl<O: Outbox> Work<'_, O> {
    /// A request of the transaction at `at`.
    fn known(&mut self, at: u32, role: Role, datagram: &Datagram<'_>) -> Received {
        let record = &self.table.records[at];
        match role {
            Role::Request(chosen) if chosen.method == record.facts.method => {
                self.repeated(at, datagram);
            }
            Role::Cancel => self.cancelled(at, datagram),
            Role::Ack if record.facts.invite && record.server != Server::Accepted => {
                self.acknowledged(at);
            }
            // Of another method with the same branch; or the ACK to a
            // 2xx, which should have one of its own.
            _ => return Received::Decision(self.stateless(datagram)),
        }
        Received::Done
    }

    /// What becomes of a datagram that only seemed to belong to a transaction.
    #[cold]
    fn stateless(&mut self, datagram: &Datagram<'_>) -> Decision {
        let space = self.out.space();
        self.proxy.decide(datagram, self.scratch, space)
    }

    /// After whatever has happened to a transaction: drops what it needs no
    /// more, forgets it when its time is over, and else has it come up in time.
    fn settle(&mut self, at: u32) {
        let now = self.table.records[at].since(self.now);
        let (mut over, mut gone, mut may_ring, mut due) = (true, true, false, NEVER);
        for attempt in self.table.attempts_of(at) {
            let passed = attempt.until <= now;
            over &= attempt.client != Client::Proceeding;
            // One that has said nothing, or seemed to be unreachable, whose
            // CANCEL is made of the request.
            may_ring |= match attempt.client {
                Client::Calling => true,
                Client::Unreachable => !passed,
                _ => false,
            };
            gone &= attempt.client.is_over() && passed;
            due = due.min(attempt.repeat_at).min(match attempt.until {
                // Nothing happens to it any more.
                until if attempt.client.is_over() && until <= now => NEVER,
                until => until.max(now + 1),
            });
        }
        let record = &self.table.records[at];
        let done = over && record.server != Server::Proceeding;
        if done && gone && record.until <= now && record.server != Server::Completed {
            self.table.close(at);
            return;
        }
        due = due.min(record.repeat_at).min(record.ring_until);
        due = due.min(match record.until {
            // It stays for its attempts alone.
            until if record.server != Server::Completed && until <= now => NEVER,
            until => until.max(now + 1),
        });
        let due = record.received + u64::from(due);
        let lingered = record.queue == Queue::Lingering;
        let ends = done && !lingered;
        let drops = done && !may_ring && !record.request.is_empty();
        let Table { wheel, records, .. } = self.table;
        if ends {
            // What it waited for before comes no more: one look less, half a
            // second from now, at a record that is in no cache then.
            wheel.remove(records, at);
        }
        wheel.schedule(records, at, due);
        if drops {
            self.drop_request(at);
        }
        if ends {
            self.table.queue(at, Queue::Lingering);
        } else if lingered && !done {
            self.table.queue(at, Queue::None);
        }
    }
}
