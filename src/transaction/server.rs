//! What the sender of a request gets: the server transaction (RFC 3261 §17.2,
//! RFC 6026 §7.1).

use std::net::SocketAddr;
use std::time::Duration;

use super::table::{Attempt, after};
use super::{Client, Event, InRun, Leaving, NEVER, Outbox, Server, Since, Table, Work};
use crate::proxy::{Datagram, Forward, Status};

impl<O: Outbox> Work<'_, O> {
    /// The request once more: the last response is what it gets.
    pub(super) fn repeated(&mut self, at: u32, datagram: &Datagram<'_>) {
        self.out.count(Event::Absorbed);
        let record = &self.table.records[at];
        match record.server {
            Server::Completed => self.table.cells.load(record.reply, self.message),
            Server::Proceeding => self.table.load_provisional(record, self.message),
            Server::Accepted | Server::Confirmed => return,
        }
        if !self.message.is_empty() {
            // A small copy with a forged address must not fetch what is large,
            // over and over (§26.1.5).
            let fits = self.message.len() <= datagram.bytes.len();
            if fits || self.allows_message(at) {
                self.send_message(at);
            }
        } else if record.server == Server::Proceeding && record.facts.invite {
            self.say(datagram, Status::Trying);
        }
    }

    /// Its CANCEL (§9.2, §16.10): answered, each time that it comes.
    pub(super) fn cancelled(&mut self, at: u32, datagram: &Datagram<'_>) {
        self.say(datagram, Status::Ok);
        let record = &mut self.table.records[at];
        // Of what is no INVITE there is nothing to cancel (§9.1).
        if record.server != Server::Proceeding || !record.facts.invite {
            return;
        }
        record.facts.cancelled = true;
        self.keep_reason(at, datagram);
        self.cancel_all(at);
        self.settle(at);
    }

    /// The ACK to its failure.
    pub(super) fn acknowledged(&mut self, at: u32) {
        self.out.count(Event::Absorbed);
        let record = &self.table.records[at];
        if record.server == Server::Completed {
            let now = record.since(self.now);
            self.confirm(at, now);
            self.settle(at);
        }
    }

    /// Nothing more is sent to the sender of a failed INVITE.
    fn confirm(&mut self, at: u32, now: Since) {
        let record = &mut self.table.records[at];
        record.server = Server::Confirmed;
        record.repeat_at = NEVER;
        record.until = after(now, self.proxy.stateful().timers.i);
        self.table.cells.free(&mut record.reply);
    }

    /// The timers of the server side: G, H, J, L, I, and how long it may ring.
    pub(super) fn server_due(&mut self, at: u32) {
        let timers = self.proxy.stateful().timers;
        let record = &mut self.table.records[at];
        let now = record.since(self.now);
        if record.server == Server::Proceeding && record.ring_until <= now {
            record.ring_until = NEVER;
            self.rang_out(at);
            return;
        }
        if record.server != Server::Completed {
            return;
        }
        if record.until <= now {
            if record.facts.invite {
                self.confirm(at, now);
            } else {
                record.server = Server::Confirmed;
                self.table.cells.free(&mut record.reply);
            }
        } else if record.repeat_at <= now {
            record.repeats = record.repeats.saturating_add(1);
            record.repeat_at = after(now, interval(timers.t1, record.repeats, timers.t2));
            self.table.cells.load(record.reply, self.message);
            // Behind a forged address nobody acknowledges (§26.1.5).
            if !self.message.is_empty() && self.allows_message(at) {
                self.out.count(Event::Retransmitted);
                self.send_message(at);
            }
        }
    }

    /// All attempts have failed: the best response is the final one.
    pub(super) fn conclude(&mut self, at: u32) {
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let invite = record.facts.invite;
        let held = record.failure;
        let ours = match held {
            408 | 503 if record.facts.cancelled => Some(Status::RequestTerminated),
            503 => Some(Status::ServerInternalError),
            1.. if record.failure_length > 0 => None,
            487 => Some(Status::RequestTerminated),
            _ if invite => Some(Status::RequestTimeout),
            // RFC 4320 §4.2: who gets no answer must not be told so.
            _ => {
                self.recall(at);
                self.account_message(at, Status::RequestTimeout.code(), true);
                let record = &mut self.table.records[at];
                record.server = Server::Confirmed;
                // Its sender repeats it meanwhile, which must not begin another one.
                let timers = &self.proxy.stateful().timers;
                record.until = after(0, timers.j).max(after(now, timers.k));
                self.table.cells.free(&mut record.reply);
                return;
            }
        };
        let said = match ours {
            Some(status) => self.write(at, status),
            None => {
                self.table.load_failure(record, self.message);
                self.keep_final(at);
                true
            }
        };
        if said {
            self.account_message(at, ours.map_or(held, Status::code), ours.is_some());
        }
        self.complete(at);
        if said {
            self.send_message(at);
        }
    }

    /// The final response is on its way; what is kept is that one.
    pub(super) fn complete(&mut self, at: u32) {
        let timers = self.proxy.stateful().timers;
        let record = &mut self.table.records[at];
        let now = record.since(self.now);
        record.server = Server::Completed;
        record.ring_until = NEVER;
        record.repeats = 0;
        if record.facts.invite {
            record.repeat_at = after(now, timers.t1);
            record.until = after(now, timers.h);
            return;
        }
        record.until = after(now, timers.j);
        // Without a CANCEL, the others are not asked any more.
        for place in self.table.places(at) {
            let attempt = &mut self.table.attempts[place];
            if !attempt.client.is_over() {
                attempt.client = Client::NoAnswer;
                attempt.repeat_at = NEVER;
                attempt.until = now;
            }
        }
    }

    /// Writes a final response of our own, and keeps it where there is room.
    /// False where there must be none.
    fn write(&mut self, at: u32, status: Status) -> bool {
        let datagram = self.table.stored(&self.table.records[at], self.message);
        let space = self.out.space();
        let Some((length, _)) = self.proxy.reply(&datagram, status, space) else {
            self.table.cells.free(&mut self.table.records[at].reply);
            return false;
        };
        self.out.count(Event::Replied(status));
        self.message.clear();
        self.message.extend_from_slice(&self.out.space()[..length]);
        self.keep_final(at);
        true
    }

    /// Keeps the working memory, the final response, where there is room.
    fn keep_final(&mut self, at: u32) {
        let Table { records, cells, .. } = self.table;
        let reply = &mut records[at].reply;
        cells.free(reply);
        *reply = cells.keep(self.message).unwrap_or_default();
    }

    /// Answers a datagram of the transaction itself, at once.
    pub(super) fn say(&mut self, datagram: &Datagram<'_>, status: Status) {
        let space = self.out.space();
        let Some((length, to)) = self.proxy.reply(datagram, status, space) else {
            return;
        };
        self.out.count(Event::Replied(status));
        self.out.send(&Leaving {
            length,
            to,
            listener: datagram.listener,
            run: None,
            attempt: None,
        });
    }

    /// Answers the INVITE that was decided last with 100, at once.
    pub(super) fn say_trying(&mut self, at: u32, call: u64) {
        let trying = self.scratch.trying();
        let (padding_at, length) = (trying.padding_at, trying.octets().len());
        self.out.space()[..length].copy_from_slice(trying.octets());
        self.out.count(Event::Replied(Status::Trying));
        let record = &self.table.records[at];
        self.out.send(&Leaving {
            length,
            to: record.respond_to.into(),
            listener: record.listener.into(),
            run: Some(InRun { padding_at, call }),
            attempt: None,
        });
    }

    /// Whether the working memory may go to the sender of the request although
    /// that has not asked for as much.
    fn allows_message(&mut self, at: u32) -> bool {
        let to = SocketAddr::from(self.table.records[at].respond_to);
        self.out.allows(to.ip(), self.message.len())
    }

    /// Sends the working memory to the sender of the request.
    fn send_message(&mut self, at: u32) {
        let record = &self.table.records[at];
        let length = self.message.len();
        self.out.space()[..length].copy_from_slice(self.message);
        self.out.send(&Leaving {
            length,
            to: record.respond_to.into(),
            listener: record.listener.into(),
            run: None,
            attempt: None,
        });
    }

    /// A response passes: what the space holds.
    pub(super) fn pass(&mut self, forward: &Forward) {
        self.out.send(&Leaving {
            length: forward.length,
            to: forward.to,
            listener: forward.listener,
            run: Some(InRun::of(forward)),
            attempt: None,
        });
    }

    /// Keeps the provisional response that the space holds, for a
    /// retransmission of the request (§17.2.1).
    pub(super) fn keep_provisional(&mut self, at: u32, forward: &Forward) {
        let record = &self.table.records[at];
        let failure = usize::from(record.failure_length);
        let whole = forward.length + failure;
        let space = self.out.space();
        if failure > 0 {
            self.table.load_failure(record, self.message);
            let Some(behind) = space.get_mut(forward.length..whole) else {
                return;
            };
            behind.copy_from_slice(self.message);
        }
        let Table { records, cells, .. } = self.table;
        let reply = &mut records[at].reply;
        cells.free(reply);
        let kept = cells.keep(&space[..whole]);
        let kept = kept.or_else(|| cells.keep(&space[forward.length..whole]));
        *reply = kept.unwrap_or_default();
    }

    /// The first 2xx to INVITE of a destination has passed.
    pub(super) fn accept(&mut self, at: u32, status: u16, response: &[u8]) {
        let record = &mut self.table.records[at];
        if record.server != Server::Proceeding {
            // Its caller had a failure before, and has a call now.
            let late = record.server != Server::Accepted && !record.request.is_empty();
            let is_answered = |each: &&Attempt| each.client == Client::Answered;
            if late && self.table.attempts_of(at).filter(is_answered).count() == 1 {
                self.account(at, response, status, false);
            }
            return;
        }
        let now = record.since(self.now);
        record.server = Server::Accepted;
        record.until = after(now, self.proxy.stateful().timers.l);
        record.ring_until = NEVER;
        self.table.cells.free(&mut record.reply);
        // Whom no copy has reached is not to ring any more.
        for place in self.table.places(at) {
            let attempt = &mut self.table.attempts[place];
            if attempt.client == Client::Calling {
                attempt.repeat_at = NEVER;
            }
        }
        self.account(at, response, status, false);
    }
}

/// The interval of the `n`th retransmission: T1, doubled each time, up to `most`.
pub(super) fn interval(t1: Duration, n: u8, most: Duration) -> Duration {
    let doubled = t1.saturating_mul(1 << n.min(24));
    doubled.min(most.max(t1))
}
