//! The transactions of one worker, found by key, in a fixed amount of memory.

use std::collections::TryReserveError;
use std::net::{Ipv6Addr, SocketAddr};

use super::cells::{CELL, Cells, Chain};
use super::slab::{NONE, Slab};
use super::wheel::{Timer, Wheel};
use crate::dispatcher::ip_number;
use crate::proxy::{Begin, Datagram, Identity};

/// Destinations that one transaction tries at most.
pub(super) const MOST_ATTEMPTS: usize = 8;

/// What a transaction may take in all, in octets: its record, the attempts it
/// is granted, and the cells. `docs/stateful.md` promises it.
const SHARE: usize = 4096;
/// Attempts that there is room for, for each transaction.
const ATTEMPTS: usize = 2;
const CELLS: usize = (SHARE - size_of::<Record>() - ATTEMPTS * size_of::<Attempt>()) / CELL;

/// One that has come to its end is in its record, one attempt and, after a
/// failure, a cell with the Request-URI for further ACKs.
const _: () = assert!(size_of::<Record>() + size_of::<Attempt>() + CELL <= 256);

/// Milliseconds from the time that a transaction began.
pub(super) type Since = u32;
/// At no time.
pub(super) const NEVER: Since = Since::MAX;

/// An address and port in 18 octets: as numbers, which are not moved one octet
/// at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(2))]
pub(super) struct Address {
    ip: u128,
    port: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self {
            ip: ip_number(address.ip()),
            port: address.port(),
        }
    }
}

impl From<Address> for SocketAddr {
    fn from(address: Address) -> Self {
        Self::new(Ipv6Addr::from(address.ip).to_canonical(), address.port)
    }
}

/// What the sender of the request has got (RFC 3261 §17.2, RFC 6026 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Server {
    /// No final response.
    Proceeding,
    /// A 2xx to INVITE.
    Accepted,
    /// Another final response; an INVITE's waits for ACK.
    Completed,
    /// The ACK has come, or will not.
    Confirmed,
}

/// Facts of a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Its method's place among the configured ones.
    pub(super) method: u8,
    pub(super) invite: bool,
    /// It does no harm twice.
    pub(super) repeatable: bool,
    pub(super) in_dialog: bool,
    /// Another destination may be tried: a set's policy chose, and it is not
    /// within a dialog.
    pub(super) movable: bool,
    /// Its sender has cancelled it.
    pub(super) cancelled: bool,
}

impl Facts {
    /// Those of a new one.
    fn new(begin: &Begin, movable: bool) -> Self {
        Self {
            method: begin.chosen.method,
            invite: begin.chosen.invite,
            repeatable: begin.chosen.repeatable,
            in_dialog: begin.in_dialog,
            movable,
            cancelled: false,
        }
    }
}

/// A transaction.
pub(super) struct Record {
    /// The halves of its identity, the second where it `has_uri`.
    pub(super) key: u64,
    uri: u64,
    has_uri: bool,
    pub(super) received: u64,
    pub(super) source: Address,
    /// Where responses go.
    pub(super) respond_to: Address,
    /// The next one with a hash like its own.
    next: u32,
    pub(super) timer: Timer,
    order: Links,
    pub(super) first: u32,
    /// The request as it came and, behind it, why it was cancelled.
    pub(super) request: Chain,
    /// In progress the last provisional response that has passed and, behind it,
    /// the best failure so far; in the end the final response.
    pub(super) reply: Chain,
    /// The status of the best failure so far; 0: there was none.
    pub(super) failure: u16,
    /// Its octets in `reply`; 0 where we would have to write it.
    pub(super) failure_length: u16,
    /// Octets in `request` that say why it was cancelled.
    pub(super) reason_length: u8,
    pub(super) facts: Facts,
    pub(super) server: Server,
    pub(super) queue: Queue,
    pub(super) listener: u8,
    pub(super) repeats: u8,
    pub(super) rules_used: u16,
    /// When it first rang.
    pub(super) rang: Since,
    /// When it has rung for long enough.
    pub(super) ring_until: Since,
    /// When the final response leaves again.
    pub(super) repeat_at: Since,
    /// When nothing is owed to the sender any more.
    pub(super) until: Since,
}

/// Which list a transaction is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// No destination has responded.
    Unanswered,
    /// All has been said; it is there for retransmissions.
    Lingering,
    /// In none.
    None,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    behind: u32,
}

/// How far an attempt is (RFC 3261 §17.1).
///
/// ```text
/// Calling ──1xx──> Proceeding
///  │   └───────┬───────┘
///  │           ├─ 2xx ──────────────────────> Answered
///  │           ├─ another final response ───> Failed
///  │           ├─ 487, the call goes on ────> Cancelled
///  │           └─ no final one in time ─────> NoAnswer, or Cancelled where we sent CANCEL
///  └─ ICMP ─────────────────────────────────> Unreachable
/// ```
///
/// A response still counts of one that [is unheard](Client::is_unheard), and a 2xx
/// to INVITE of any. One that is `abandoned` may come to each of these ends, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// No response.
    Calling,
    /// A provisional one.
    Proceeding,
    /// It answered with 2xx.
    Answered,
    /// It answered with another final response.
    Failed,
    /// It did not answer.
    NoAnswer,
    /// It could not be reached.
    Unreachable,
    /// It was cancelled, and did not answer, or by 487 where the call went on.
    Cancelled,
}

impl Client {
    pub(super) fn is_over(self) -> bool {
        !matches!(self, Self::Calling | Self::Proceeding)
    }

    /// It was given up, and may have something to say nevertheless.
    pub(super) fn is_unheard(self) -> bool {
        matches!(self, Self::NoAnswer | Self::Unreachable)
    }
}

/// What becomes of an attempt's CANCEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cancel {
    None,
    /// It waits for the first provisional response (§9.1).
    Wanted,
    /// It is sent until it is answered.
    Sent,
    Answered,
}

impl Cancel {
    /// Whether the destination has been told.
    pub(super) fn is_sent(self) -> bool {
        matches!(self, Self::Sent | Self::Answered)
    }
}

/// What has led to an attempt: a failure rule, counted from 1, and negative where
/// it gave no Request-URI; 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LedBy(i8);

impl LedBy {
    pub(super) const NO_RULE: Self = Self(0);

    /// The failure rule of this number, from 0 to 15.
    pub(super) fn rule(number: usize, gives_uri: bool) -> Self {
        let counted = number as i8 + 1;
        Self(if gives_uri { counted } else { -counted })
    }

    /// What the numbers of its attempts follow, apart from those of any other.
    pub(super) fn numbers_after(self) -> u8 {
        self.0.unsigned_abs() * MOST_ATTEMPTS as u8
    }

    /// The number of the rule that gave it a Request-URI.
    pub(super) fn uri_rule(self) -> Option<usize> {
        usize::try_from(self.0).ok()?.checked_sub(1)
    }
}

/// A request sent to one destination.
pub(super) struct Attempt {
    pub(super) next: u32,
    pub(super) to: Address,
    pub(super) listener: u8,
    pub(super) number: u8,
    pub(super) client: Client,
    pub(super) cancel: Cancel,
    /// Another one has taken its place.
    pub(super) abandoned: bool,
    /// It rang for too long: its end counts as 408.
    pub(super) timed_out: bool,
    pub(super) repeats: u8,
    pub(super) led_by: LedBy,
    pub(super) status: u16,
    /// The number of the set that has chosen its destination.
    pub(super) set: u16,
    pub(super) start: Since,
    pub(super) end: Since,
    pub(super) repeat_at: Since,
    pub(super) until: Since,
    /// Request-URI and Route rows, once they are needed.
    pub(super) head: Chain,
}

impl Attempt {
    /// What its destination was chosen for: of two that differ in it a rule has
    /// led from one to the other.
    pub(super) fn goal(&self) -> (u16, LedBy) {
        (self.set, self.led_by)
    }

    /// It is over at `now`, and remembered for what may come until `until`.
    pub(super) fn finish(&mut self, client: Client, now: Since, until: Since) {
        self.client = client;
        self.end = now;
        self.repeat_at = NEVER;
        self.until = until;
    }

    /// Another one takes its place.
    pub(super) fn abandon(&mut self, now: Since) {
        self.abandoned = true;
        self.end = now;
        self.repeat_at = NEVER;
    }
}

impl Record {
    pub(super) fn identity(&self) -> Identity {
        Identity {
            key: self.key,
            uri: self.has_uri.then_some(self.uri),
        }
    }

    /// `now` as it counts.
    pub(super) fn since(&self, now: u64) -> Since {
        now.saturating_sub(self.received).min(u64::from(NEVER) - 1) as Since
    }
}

/// Later than `now` by so many milliseconds.
pub(super) fn after(now: Since, time: std::time::Duration) -> Since {
    let time = Since::try_from(time.as_millis()).unwrap_or(NEVER);
    now.saturating_add(time).min(NEVER - 1)
}

pub(super) struct Table {
    pub(super) records: Slab<Record>,
    pub(super) attempts: Slab<Attempt>,
    pub(super) cells: Cells,
    pub(super) wheel: Wheel,
    /// By the low bits of the key: the first record.
    buckets: Box<[u32]>,
    /// Of each [`Queue`] but the last, which is none.
    lines: [Line; 2],
}

/// The transactions of a queue.
#[derive(Clone, Copy)]
struct Line {
    oldest: u32,
    youngest: u32,
    count: usize,
}

impl Table {
    /// Room for `most` transactions, where there is any.
    pub(super) fn new(most: usize) -> Result<Self, TryReserveError> {
        let none = Line {
            oldest: NONE,
            youngest: NONE,
            count: 0,
        };
        Ok(Self {
            records: Slab::new(most)?,
            attempts: Slab::new(most * ATTEMPTS)?,
            cells: Cells::new(most * CELLS)?,
            wheel: Wheel::new(),
            buckets: vec![NONE; most.next_power_of_two()].into_boxed_slice(),
            lines: [none; 2],
        })
    }

    fn bucket(&self, key: u64) -> usize {
        key as usize & (self.buckets.len() - 1)
    }

    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let mut at = self.buckets[self.bucket(key)];
        while at != NONE && self.records[at].key != key {
            at = self.records[at].next;
        }
        (at != NONE).then_some(at)
    }

    /// A new transaction that no destination has responded to; `None` where
    /// there is no room.
    pub(super) fn open(
        &mut self,
        begin: &Begin,
        movable: bool,
        datagram: &Datagram<'_>,
        now: u64,
    ) -> Option<u32> {
        if self.records.is_full() {
            return None;
        }
        let Datagram {
            bytes,
            source,
            listener,
        } = *datagram;
        let Identity { key, uri } = begin.identity;
        let bucket = self.bucket(key);
        let request = self.cells.keep(bytes)?;
        let record = Record {
            key,
            uri: uri.unwrap_or_default(),
            has_uri: uri.is_some(),
            received: now,
            source: source.into(),
            respond_to: begin.respond_to.into(),
            next: self.buckets[bucket],
            timer: Timer::NOWHERE,
            order: Links {
                before: NONE,
                behind: NONE,
            },
            first: NONE,
            request,
            reply: Chain::default(),
            failure: 0,
            failure_length: 0,
            reason_length: 0,
            facts: Facts::new(begin, movable),
            server: Server::Proceeding,
            queue: Queue::None,
            listener: listener as u8,
            repeats: 0,
            rules_used: 0,
            rang: NEVER,
            ring_until: NEVER,
            repeat_at: NEVER,
            until: NEVER,
        };
        let at = self.records.insert(record)?;
        self.buckets[bucket] = at;
        self.queue(at, Queue::Unanswered);
        Some(at)
    }

    /// Forgets a transaction.
    pub(super) fn close(&mut self, at: u32) {
        self.queue(at, Queue::None);
        self.wheel.remove(&mut self.records, at);
        let bucket = self.bucket(self.records[at].key);
        let behind = self.records[at].next;
        let mut before = self.buckets[bucket];
        if before == at {
            self.buckets[bucket] = behind;
        } else {
            while self.records[before].next != at {
                before = self.records[before].next;
            }
            self.records[before].next = behind;
        }
        let record = &mut self.records[at];
        self.cells.free(&mut record.request);
        self.cells.free(&mut record.reply);
        for place in self.places(at) {
            self.cells.free(&mut self.attempts[place].head);
            self.attempts.remove(place);
        }
        self.records[at].first = NONE;
        self.records.remove(at);
    }

    /// Whether a transaction has octets of messages.
    pub(super) fn holds_octets(&self, at: u32) -> bool {
        let Record { request, reply, .. } = &self.records[at];
        !request.is_empty() || !reply.is_empty()
    }

    /// Whether a transaction has been forgotten, and none begun since.
    pub(super) fn is_forgotten(&self, at: u32) -> bool {
        self.records[at].first == NONE
    }

    /// The request of a transaction as it came; `message` is working memory.
    pub(super) fn stored<'m>(&self, record: &Record, message: &'m mut Vec<u8>) -> Datagram<'m> {
        self.cells.load(record.request, message);
        message.truncate(message.len() - usize::from(record.reason_length));
        Datagram {
            bytes: message,
            source: record.source.into(),
            listener: record.listener.into(),
        }
    }

    /// Writes the last provisional response of a transaction in progress in the
    /// place of what `message` holds.
    pub(super) fn load_provisional(&self, record: &Record, message: &mut Vec<u8>) {
        self.cells.load(record.reply, message);
        message.truncate(message.len() - usize::from(record.failure_length));
    }

    /// The same for the best failure so far.
    pub(super) fn load_failure(&self, record: &Record, message: &mut Vec<u8>) {
        self.cells.load(record.reply, message);
        message.drain(..message.len() - usize::from(record.failure_length));
    }

    /// The oldest of a queue.
    pub(super) fn oldest(&self, queue: Queue) -> Option<u32> {
        let oldest = self.lines.get(queue as usize)?.oldest;
        (oldest != NONE).then_some(oldest)
    }

    /// How many are in a queue.
    pub(super) fn count(&self, queue: Queue) -> usize {
        self.lines.get(queue as usize).map_or(0, |line| line.count)
    }

    /// Moves a transaction to the end of `queue`.
    pub(super) fn queue(&mut self, at: u32, queue: Queue) {
        let was = std::mem::replace(&mut self.records[at].queue, queue);
        let Links { before, behind } = self.records[at].order;
        if let Some(line) = self.lines.get_mut(was as usize) {
            line.count -= 1;
            if before == NONE {
                line.oldest = behind;
            }
            if behind == NONE {
                line.youngest = before;
            }
            if before != NONE {
                self.records[before].order.behind = behind;
            }
            if behind != NONE {
                self.records[behind].order.before = before;
            }
        }
        if let Some(line) = self.lines.get_mut(queue as usize) {
            line.count += 1;
            let last = std::mem::replace(&mut line.youngest, at);
            match last {
                NONE => line.oldest = at,
                last => self.records[last].order.behind = at,
            }
            self.records[at].order = Links {
                before: last,
                behind: NONE,
            };
        }
    }

    /// The attempts of a transaction, from the first to the last.
    pub(super) fn attempts_of(&self, at: u32) -> impl Iterator<Item = &Attempt> {
        self.walk(at).map(|place| &self.attempts[place])
    }

    /// Where they are, to change them on the way: one that is added meanwhile is
    /// not among them.
    #[inline]
    pub(super) fn places(&self, at: u32) -> impl Iterator<Item = u32> + use<> {
        let mut places = [NONE; MOST_ATTEMPTS];
        for (place, attempt) in places.iter_mut().zip(self.walk(at)) {
            *place = attempt;
        }
        places.into_iter().take_while(|place| *place != NONE)
    }

    /// Where the one with this number is.
    pub(super) fn numbered(&self, at: u32, number: u8) -> Option<u32> {
        let mut places = self.walk(at);
        places.find(|place| self.attempts[*place].number == number)
    }

    fn walk(&self, at: u32) -> impl Iterator<Item = u32> {
        let first = self.records[at].first;
        let place = |next: u32| (next != NONE).then_some(next);
        std::iter::successors(place(first), move |last| place(self.attempts[*last].next))
    }

    /// Adds one behind the others; `None`: there is no room.
    pub(super) fn add_attempt(&mut self, at: u32, attempt: Attempt) -> Option<u32> {
        let last = self.walk(at).last();
        let new = self.attempts.insert(attempt)?;
        match last {
            None => self.records[at].first = new,
            Some(last) => self.attempts[last].next = new,
        }
        Some(new)
    }
}
