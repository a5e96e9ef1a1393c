//! What the sender of a request gets: the server transaction (RFC 3261 §17.2,
//! RFC 6026 §7.1), the best response (§16.7), and where a failed call goes on.

use std::net::SocketAddr;
use std::time::Duration;

use super::slab::NONE;
use super::table::{Attempt, Client, Facts, MOST_ATTEMPTS, after};
use super::{
    Around, Cancel, Event, Finished, Kept, Leaving, NEVER, Outbox, Outcome, Queue, Received, Relay,
    Server, Since, Tried,
};
use crate::proxy::{self, Datagram, Decision, Forward, Goal, Part, Role, Selection, Status, Way};
use crate::sip::{StartLine, scan};

impl Relay {
    /// A request that no transaction knows: one begins.
    pub(super) fn begin<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
        forward: &Forward,
        part: &Part,
    ) -> Received {
        let Role::Request { invite, repeatable } = part.role else {
            return Received::Decision(Decision::Forward(*forward));
        };
        let chosen = matches!(forward.way, Way::Selected(_));
        let facts = Facts {
            invite,
            repeatable,
            movable: chosen && forward.dialog.is_none(),
            cancelled: false,
            answered: false,
        };
        let Some(at) = self.open(around, datagram, part, facts) else {
            around.out.count(Event::TableFull);
            return Received::Decision(Decision::Forward(*forward));
        };
        let mut forward = *forward;
        let mut number = 0;
        if facts.movable && self.suspects.has(forward.to, around.now) {
            let owner = forward.to;
            match self.decide_next(around, at, None, None, 1, true) {
                Some(other) => (forward, number) = (other, 1),
                None => match self.decide_again(around, at, 0, None, owner, forward.listener) {
                    Some(same) => forward = same,
                    None => {
                        self.table.close(at);
                        return Received::Done;
                    }
                },
            }
        }
        around.out.count(Event::Begun);
        if self.launch(around, at, &forward, number, 0).is_none() {
            self.table.close(at);
            return Received::Decision(Decision::Forward(forward));
        }
        if invite {
            self.say(around, at, datagram, Status::Trying);
        }
        self.settle(around, at);
        Received::Done
    }

    /// Finds room for a transaction: that of one that nobody has responded to
    /// for longer than T1, else of one that is only there for retransmissions.
    fn open<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        datagram: &Datagram<'_>,
        part: &Part,
        facts: Facts,
    ) -> Option<u32> {
        if self.table.records.is_full() {
            let t1 = around.proxy.stateful().timers.t1.as_millis() as u64;
            let patient = |at: &u32| self.table.records[*at].received + t1 < around.now;
            let victim = self.table.oldest(Queue::Unanswered).filter(patient);
            let victim = victim.or_else(|| self.table.oldest(Queue::Lingering))?;
            around.out.count(Event::Evicted);
            self.table.close(victim);
        }
        let Datagram {
            bytes,
            source,
            listener,
        } = *datagram;
        self.table
            .open(part.identity, source, listener, facts, bytes, around.now)
    }

    /// The request once more: the last response is what it gets.
    pub(super) fn repeated<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        datagram: &Datagram<'_>,
    ) {
        around.out.count(Event::Absorbed);
        let record = &self.table.records[at];
        match (record.server, record.kept) {
            (Server::Proceeding, Kept::Provisional) | (Server::Completed, Kept::Final) => {
                self.repeat(around, at);
            }
            (Server::Proceeding, _) if record.facts.invite => {
                self.say(around, at, datagram, Status::Trying);
            }
            _ => {}
        }
    }

    /// Its CANCEL (§9.2, §16.10): answered, each time that it comes.
    pub(super) fn cancelled<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        datagram: &Datagram<'_>,
    ) {
        self.say(around, at, datagram, Status::Ok);
        let record = &mut self.table.records[at];
        if record.server != Server::Proceeding || !record.facts.invite {
            return;
        }
        record.facts.cancelled = true;
        self.cancel_all(around, at);
        self.settle(around, at);
    }

    /// The ACK to its failure; that of a 2xx goes on, should it have the same
    /// branch.
    pub(super) fn acknowledged<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        datagram: &Datagram<'_>,
    ) -> Received {
        let record = &mut self.table.records[at];
        if record.server == Server::Accepted {
            let space = around.out.space();
            let decision = around.proxy.decide(datagram, around.scratch, space);
            return Received::Decision(decision);
        }
        around.out.count(Event::Absorbed);
        if record.server == Server::Completed && record.facts.invite {
            let now = record.since(around.now);
            self.confirm(around, at, now);
            self.settle(around, at);
        }
        Received::Done
    }

    /// Nothing more is sent to the sender of a failed INVITE.
    fn confirm<O: Outbox>(&mut self, around: &Around<'_, O>, at: u32, now: Since) {
        let record = &mut self.table.records[at];
        record.server = Server::Confirmed;
        record.repeat_at = NEVER;
        record.until = after(now, around.proxy.stateful().timers.i);
        record.kept = Kept::Nothing;
        self.table.cells.free(&mut record.reply);
    }

    /// The timers of the server side: G, H, J, L, I, and how long it may ring.
    pub(super) fn server_due<O: Outbox>(&mut self, around: &mut Around<'_, O>, at: u32) {
        let timers = around.proxy.stateful().timers;
        let record = &mut self.table.records[at];
        let now = record.since(around.now);
        if record.server == Server::Proceeding && record.ring_until <= now {
            record.ring_until = NEVER;
            self.rang_out(around, at);
            return;
        }
        if record.server != Server::Completed {
            return;
        }
        if record.until <= now {
            if record.facts.invite {
                self.confirm(around, at, now);
            } else {
                record.server = Server::Confirmed;
                record.kept = Kept::Nothing;
                self.table.cells.free(&mut record.reply);
            }
        } else if record.repeat_at <= now {
            record.repeats = record.repeats.saturating_add(1);
            record.repeat_at = after(now, interval(timers.t1, record.repeats, timers.t2));
            around.out.count(Event::Retransmitted);
            self.repeat(around, at);
        }
    }

    /// An attempt has failed with `status`, and no other is under way: another
    /// destination, another set, or the best response there is.
    pub(super) fn go_on<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        attempt: u32,
        status: u16,
        moves_on: bool,
    ) {
        let record = &self.table.records[at];
        if record.server != Server::Proceeding {
            return;
        }
        let facts = record.facts;
        if facts.movable && !facts.cancelled && status < 600 {
            let set = usize::from(self.table.attempts[attempt].set);
            let rule = self.table.attempts[attempt].rule;
            if moves_on && self.try_next(around, at, Some(set), rule) {
                around.out.count(Event::FailedOver);
                return;
            }
            if facts.invite && self.apply_rule(around, at, set, status) {
                return;
            }
        }
        self.conclude(around, at);
    }

    /// The first rule that is for this failure, once for a transaction.
    fn apply_rule<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        set: usize,
        status: u16,
    ) -> bool {
        let proxy = around.proxy;
        let rules = proxy.stateful().on_failure.iter().enumerate();
        for (number, rule) in rules.take(16) {
            let used = self.table.records[at].rules_used & (1 << number) != 0;
            let from = rule.from_sets.is_empty() || rule.from_sets.contains(&set);
            if used || !from || !rule.statuses.contains(&status) {
                continue;
            }
            self.table.records[at].rules_used |= 1 << number;
            if self.try_next(around, at, Some(rule.set), number as u8 + 1) {
                around.out.count(Event::RuleApplied);
                return true;
            }
        }
        false
    }

    /// Tries a destination of `set` that has not been tried.
    pub(super) fn try_next<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        set: Option<usize>,
        rule: u8,
    ) -> bool {
        if self.table.attempts(at).count() >= MOST_ATTEMPTS {
            return false;
        }
        let number = self.table.records[at].last_number + 1;
        let uri = rule_uri(around.proxy, rule);
        let decided = self
            .decide_next(around, at, set, uri, number, true)
            .or_else(|| self.decide_next(around, at, set, uri, number, false));
        let Some(forward) = decided else {
            return false;
        };
        self.table.records[at].ring_until = NEVER;
        self.launch(around, at, &forward, number, rule).is_some()
    }

    /// Writes the request for a destination that has not been tried, and is
    /// no suspect where `careful`.
    fn decide_next<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        set: Option<usize>,
        request_uri: Option<&[u8]>,
        number: u8,
        careful: bool,
    ) -> Option<Forward> {
        let mut tried = [None; MOST_ATTEMPTS];
        for (place, attempt) in tried.iter_mut().zip(self.table.attempts(at)) {
            *place = Some(SocketAddr::from(self.table.attempts[attempt].to));
        }
        let (suspects, now) = (&self.suspects, around.now);
        let passed = |destination: SocketAddr| {
            tried.contains(&Some(destination)) || (careful && suspects.has(destination, now))
        };
        let record = &self.table.records[at];
        self.table.cells.load(record.request, &mut self.message);
        let datagram = Datagram {
            bytes: &self.message,
            source: record.source.into(),
            listener: record.listener.into(),
        };
        let attempt = proxy::Attempt {
            number,
            request_uri,
            goal: Goal::Next(set, &passed),
        };
        let space = around.out.space();
        let decision = around
            .proxy
            .attempt(&datagram, &attempt, around.scratch, space);
        match decision {
            Decision::Forward(forward) if matches!(forward.way, Way::Selected(_)) => Some(forward),
            _ => None,
        }
    }

    /// Sends what the space holds as an attempt.
    fn launch<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        forward: &Forward,
        number: u8,
        rule: u8,
    ) -> Option<u32> {
        let stateful = around.proxy.stateful();
        let timers = &stateful.timers;
        let record = &self.table.records[at];
        let now = record.since(around.now);
        let Facts {
            invite,
            repeatable,
            movable,
            ..
        } = record.facts;
        let patience = if invite { timers.b } else { timers.f };
        let moves = movable && repeatable;
        let until = if moves {
            patience.min(stateful.failover_after)
        } else {
            patience
        };
        let set = match forward.way {
            Way::Selected(Selection { set, .. }) => set,
            _ => 0,
        };
        let attempt = self.table.add_attempt(
            at,
            Attempt {
                next: NONE,
                to: forward.to.into(),
                listener: forward.listener as u8,
                number,
                client: Client::Calling,
                cancel: Cancel::None,
                abandoned: false,
                timed_out: false,
                repeats: 0,
                rule,
                status: 0,
                set: set as u16,
                start: now,
                end: NEVER,
                repeat_at: after(now, timers.t1),
                until: after(now, until),
                head: super::cells::Chain::default(),
            },
        )?;
        self.table.records[at].last_number = number;
        let patience = 2 * stateful.failover_after.as_millis() as u64;
        self.suspects.try_again(forward.to, around.now, patience);
        self.send_attempt(around, at, attempt, forward);
        Some(attempt)
    }

    /// Keeps the failure with `status`, which the space holds, or which we
    /// would have to write where it has no octets, where it is the best so far
    /// (§16.7 item 6). False where there is no room for it.
    pub(super) fn hold<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        status: u16,
        octets: usize,
    ) -> bool {
        let record = &mut self.table.records[at];
        let better = match record.kept {
            Kept::Failure(held) => rank(status) < rank(held),
            _ => true,
        };
        if !better || record.server != Server::Proceeding {
            return true;
        }
        self.table.cells.free(&mut record.reply);
        record.kept = Kept::Failure(status);
        if octets == 0 {
            return true;
        }
        match self.table.cells.keep(&around.out.space()[..octets]) {
            Some(chain) => record.reply = chain,
            None => return false,
        }
        true
    }

    /// All attempts have failed: the best response is the final one.
    fn conclude<O: Outbox>(&mut self, around: &mut Around<'_, O>, at: u32) {
        let record = &self.table.records[at];
        let now = record.since(around.now);
        let timers = around.proxy.stateful().timers;
        let invite = record.facts.invite;
        let held = match record.kept {
            Kept::Failure(status) => status,
            _ => 0,
        };
        let ours = match held {
            503 => Some(Status::ServerInternalError),
            _ if !record.reply.is_empty() => None,
            487 => Some(Status::RequestTerminated),
            _ if invite => Some(Status::RequestTimeout),
            // RFC 4320 §4.2: who gets no answer must not be told so.
            _ => {
                self.finish(around, at, Status::RequestTimeout.code(), true, true);
                let record = &mut self.table.records[at];
                record.server = Server::Confirmed;
                record.until = now;
                record.kept = Kept::Nothing;
                return;
            }
        };
        if let Some(status) = ours {
            self.write(around, at, status);
        }
        self.finish(
            around,
            at,
            ours.map_or(held, Status::code),
            ours.is_some(),
            false,
        );
        let record = &mut self.table.records[at];
        record.server = Server::Completed;
        record.kept = Kept::Final;
        record.repeats = 0;
        if invite {
            record.repeat_at = after(now, timers.t1);
            record.until = after(now, timers.h);
        } else {
            record.until = after(now, timers.j);
        }
        self.repeat(around, at);
    }

    /// Puts a final response of our own in the place of what is kept.
    fn write<O: Outbox>(&mut self, around: &mut Around<'_, O>, at: u32, status: Status) {
        let record = &mut self.table.records[at];
        self.table.cells.free(&mut record.reply);
        self.table.cells.load(record.request, &mut self.message);
        let datagram = Datagram {
            bytes: &self.message,
            source: record.source.into(),
            listener: record.listener.into(),
        };
        let space = around.out.space();
        let Some((length, to)) = around.proxy.reply(&datagram, status, around.scratch, space)
        else {
            return;
        };
        around.out.count(Event::Replied(status));
        record.respond_to = to.into();
        record.reply = self
            .table
            .cells
            .keep(&space_of(around)[..length])
            .unwrap_or_default();
    }

    /// Answers a datagram of the transaction itself, at once.
    fn say<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        datagram: &Datagram<'_>,
        status: Status,
    ) {
        let space = around.out.space();
        let Some((length, to)) = around.proxy.reply(datagram, status, around.scratch, space) else {
            return;
        };
        self.table.records[at].respond_to = to.into();
        around.out.count(Event::Replied(status));
        around.out.send(&Leaving {
            length,
            to,
            listener: datagram.listener,
            forward: None,
            attempt: None,
        });
    }

    /// Sends the response that is kept.
    fn repeat<O: Outbox>(&mut self, around: &mut Around<'_, O>, at: u32) {
        let record = &self.table.records[at];
        if record.reply.is_empty() {
            return;
        }
        self.table.cells.load(record.reply, &mut self.message);
        let length = self.message.len();
        around.out.space()[..length].copy_from_slice(&self.message);
        around.out.send(&Leaving {
            length,
            to: record.respond_to.into(),
            listener: record.listener.into(),
            forward: None,
            attempt: None,
        });
    }

    /// A response passes: what the space holds.
    pub(super) fn pass<O: Outbox>(&mut self, around: &mut Around<'_, O>, forward: &Forward) {
        around.out.send(&Leaving {
            length: forward.length,
            to: forward.to,
            listener: forward.listener,
            forward: Some(*forward),
            attempt: None,
        });
    }

    /// Keeps the provisional response that the space holds, for a
    /// retransmission of the request (§17.2.1).
    pub(super) fn keep_provisional<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        forward: &Forward,
    ) {
        let record = &mut self.table.records[at];
        if matches!(record.kept, Kept::Failure(_)) {
            return;
        }
        self.table.cells.free(&mut record.reply);
        let kept = self.table.cells.keep(&around.out.space()[..forward.length]);
        record.kept = kept.map_or(Kept::Nothing, |_| Kept::Provisional);
        record.reply = kept.unwrap_or_default();
        record.respond_to = forward.to.into();
    }

    /// A 2xx to INVITE has passed.
    pub(super) fn accept<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        status: u16,
        response: &[u8],
    ) {
        let record = &mut self.table.records[at];
        if record.server != Server::Proceeding {
            return;
        }
        let now = record.since(around.now);
        record.server = Server::Accepted;
        record.until = after(now, around.proxy.stateful().timers.l);
        record.ring_until = NEVER;
        record.kept = Kept::Nothing;
        self.table.cells.free(&mut record.reply);
        if around.proxy.stateful().accounting.is_some() {
            self.message.clear();
            self.message.extend_from_slice(response);
            self.account(around, at, status, false);
        }
    }

    /// Tells of the end: with the response that is kept, or with the request
    /// where there is none.
    fn finish<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        status: u16,
        local: bool,
        silent: bool,
    ) {
        if around.proxy.stateful().accounting.is_none() {
            return;
        }
        let record = &self.table.records[at];
        let message = if silent || record.reply.is_empty() {
            record.request
        } else {
            record.reply
        };
        self.table.cells.load(message, &mut self.message);
        self.account(around, at, status, local);
    }

    fn account<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        status: u16,
        local: bool,
    ) {
        let record = &self.table.records[at];
        let time = |since: Since| record.received + u64::from(since);
        let nobody = Tried {
            destination: SocketAddr::from(([0, 0, 0, 0], 0)),
            outcome: Outcome::NoAnswer,
            status: 0,
            start: 0,
            end: 0,
        };
        let mut tried = [nobody; MOST_ATTEMPTS];
        let mut count = 0;
        for (place, attempt) in tried.iter_mut().zip(self.table.attempts(at)) {
            let attempt = &self.table.attempts[attempt];
            *place = Tried {
                destination: attempt.to.into(),
                outcome: match attempt.client {
                    Client::Answered => Outcome::Answered,
                    Client::Failed => Outcome::Failed,
                    Client::Unreachable => Outcome::Unreachable,
                    Client::Cancelled => Outcome::Cancelled,
                    Client::NoAnswer | Client::Calling | Client::Proceeding => Outcome::NoAnswer,
                },
                status: attempt.status,
                start: time(attempt.start),
                end: if attempt.end == NEVER {
                    around.now
                } else {
                    time(attempt.end)
                },
            };
            count += 1;
        }
        self.table.cells.load(record.request, &mut self.head);
        let datagram = Datagram {
            bytes: &self.head,
            source: record.source.into(),
            listener: record.listener.into(),
        };
        let (source, request) = match around.proxy.unwrap(&datagram) {
            Ok((unwrapped, _)) => (unwrapped.source, unwrapped.bytes),
            Err(_) => (datagram.source, datagram.bytes),
        };
        let request_uri = scan(request).ok().and_then(|message| match message.start {
            StartLine::Request { uri, .. } => Some(uri.of(message.bytes)),
            StartLine::Response { .. } => None,
        });
        around.out.finished(&Finished {
            response: &self.message,
            request_uri: request_uri.unwrap_or_default(),
            source,
            status,
            local,
            cancelled: record.facts.cancelled,
            received: record.received,
            rang: (record.rang != NEVER).then(|| time(record.rang)),
            ended: around.now,
            tried: &tried[..count],
        });
    }
}

fn space_of<'s, O: Outbox>(around: &'s mut Around<'_, O>) -> &'s mut [u8] {
    around.out.space()
}

/// The Request-URI of a failure rule, counted from 1.
pub(super) fn rule_uri(proxy: &proxy::Proxy, rule: u8) -> Option<&[u8]> {
    let rules = &proxy.stateful().on_failure;
    let rule = rules.get(usize::from(rule).checked_sub(1)?)?;
    rule.request_uri.as_deref().map(str::as_bytes)
}

/// The interval of the `n`th retransmission: T1, doubled each time, up to `most`.
pub(super) fn interval(t1: Duration, n: u8, most: Duration) -> Duration {
    let doubled = t1.saturating_mul(1 << n.min(24));
    doubled.min(most.max(t1))
}

/// The lower, the better (§16.7 item 6): 6xx, then the lowest class; of 4xx
/// those that the sender can do something about, and last what only says that
/// nothing came.
fn rank(status: u16) -> (u16, u8) {
    let class = match status / 100 {
        6 => 0,
        class => class,
    };
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        408 | 487 | 503 => 2,
        _ => 1,
    };
    (class, within)
}
