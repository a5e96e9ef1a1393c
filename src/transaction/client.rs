//! What the destination of each attempt is sent, and when: client transactions
//! (RFC 3261 §17.1), their CANCELs (§9.1) and ACKs (§17.1.1.3).

use super::server::interval;
use super::table::after;
use super::{
    AttemptId, Cancel, Client, Event, InRun, Leaving, Lesson, NEVER, Outbox, Server, Since, Work,
};
use crate::proxy::{CookieUse, Forward, Leg, Own};

impl<O: Outbox> Work<'_, O> {
    /// The timers of the client side: A, B, C, E, F, and when another
    /// destination is tried.
    pub(super) fn attempts_due(&mut self, at: u32) {
        let now = self.table.records[at].since(self.now);
        for place in self.table.places(at) {
            let attempt = &self.table.attempts[place];
            if attempt.client.is_over() {
                continue;
            }
            if attempt.until <= now {
                self.patience_ends(at, place);
            } else if attempt.repeat_at <= now {
                self.resend(at, place);
            }
        }
    }

    /// Of an attempt, the time is over that it had: for its first response, for a
    /// final one, or for the one to our CANCEL.
    fn patience_ends(&mut self, at: u32, place: u32) {
        let timers = &self.proxy.stateful().timers;
        let record = &self.table.records[at];
        let invite = record.facts.invite;
        let attempt = &self.table.attempts[place];
        let last = after(attempt.start, if invite { timers.b } else { timers.f });
        match attempt.client {
            Client::Calling if record.since(self.now) < last => {
                self.fall_silent(at, place, last);
            }
            Client::Proceeding if invite && attempt.cancel == Cancel::None => {
                self.time_out(at, place);
            }
            _ => self.give_up(at, place),
        }
    }

    /// An attempt has said nothing for as long as one alone is waited for; until
    /// `last` it may still.
    fn fall_silent(&mut self, at: u32, place: u32, last: Since) {
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let facts = record.facts;
        let attempt = &mut self.table.attempts[place];
        let until = std::mem::replace(&mut attempt.until, last);
        // Given up before, where another configuration has longer timers, or not
        // wanted any more.
        if record.server != Server::Proceeding || attempt.abandoned {
            attempt.repeat_at = NEVER;
            return;
        }
        let closed = self.is_closed(at);
        let answered = self.answered_for(at, place);
        if !self.may_have_missed(at, place, until) {
            self.learn(at, place, Lesson::Silent);
        } else if !closed && answered.is_none() {
            return self.wait_longer(at, place);
        } else {
            self.suspects.untold(self.table.attempts[place].to.into());
        }
        let moves = facts.movable && facts.repeatable && !self.is_left_for_rule(at, place, 408);
        if closed || answered.is_some() || (moves && self.try_same(at, place)) {
            self.table.attempts[place].abandon(now);
        }
        if closed {
            if facts.cancelled {
                self.hold(at, 487, 0);
            }
            self.go_on(at, place, 487, false);
        } else if let Some(answered) = answered {
            let status = self.table.attempts[answered].status;
            self.go_on(at, answered, status, false);
        }
    }

    /// An attempt has not come to a final response, or not to our CANCEL, within
    /// all the time there is.
    fn give_up(&mut self, at: u32, place: u32) {
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let facts = record.facts;
        let attempt = &mut self.table.attempts[place];
        let abandoned = attempt.abandoned;
        let silent = attempt.client == Client::Calling;
        let cancelled = attempt.cancel.is_sent();
        let status = if facts.cancelled || (cancelled && !attempt.timed_out) {
            487
        } else {
            408
        };
        let client = if cancelled {
            Client::Cancelled
        } else {
            Client::NoAnswer
        };
        attempt.finish(client, attempt.end.min(now), attempt.until);
        if abandoned {
            return;
        }
        if silent {
            self.learn(at, place, Lesson::Silent);
        }
        if facts.invite {
            self.hold(at, status, 0);
        }
        self.go_on(at, place, status, silent && facts.repeatable);
    }

    /// It has rung for too long: whoever rings is told to stop.
    pub(super) fn rang_out(&mut self, at: u32) {
        for place in self.table.places(at) {
            let attempt = &self.table.attempts[place];
            if attempt.client == Client::Proceeding && attempt.cancel == Cancel::None {
                self.time_out(at, place);
            }
        }
    }

    fn time_out(&mut self, at: u32, place: u32) {
        self.table.attempts[place].timed_out = true;
        self.cancel(at, place);
    }

    /// Cancels all attempts that are under way, each after its first
    /// provisional response (§9.1), which is not waited for longer than where
    /// another destination would be tried.
    pub(super) fn cancel_all(&mut self, at: u32) {
        let patience = self.proxy.stateful().failover_after;
        for place in self.table.places(at) {
            let attempt = &mut self.table.attempts[place];
            match (attempt.client, attempt.cancel) {
                (Client::Proceeding, Cancel::None) => self.cancel(at, place),
                (Client::Calling, Cancel::None) => {
                    attempt.cancel = Cancel::Wanted;
                    if !attempt.abandoned {
                        attempt.until = attempt.until.min(after(attempt.start, patience));
                    }
                }
                _ => {}
            }
        }
    }

    /// Begins to cancel an attempt that has had a provisional response.
    pub(super) fn cancel(&mut self, at: u32, place: u32) {
        let timers = self.proxy.stateful().timers;
        let now = self.table.records[at].since(self.now);
        let attempt = &mut self.table.attempts[place];
        attempt.cancel = Cancel::Sent;
        attempt.repeats = 0;
        attempt.repeat_at = after(now, timers.t1);
        attempt.until = after(now, timers.f);
        self.out.count(Event::Cancelled);
        self.send_cancel(at, place);
    }

    /// Sends an attempt, or its CANCEL, once more (Timers A and E).
    fn resend(&mut self, at: u32, place: u32) {
        let timers = self.proxy.stateful().timers;
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let invite = record.facts.invite;
        let attempt = &mut self.table.attempts[place];
        let cancels = attempt.cancel == Cancel::Sent;
        attempt.repeats = attempt.repeats.saturating_add(1);
        let time = match attempt.client {
            Client::Proceeding if !invite => timers.t2,
            _ if invite && !cancels => interval(timers.t1, attempt.repeats, timers.b),
            _ => interval(timers.t1, attempt.repeats, timers.t2),
        };
        attempt.repeat_at = after(now, time);
        self.out.count(Event::Retransmitted);
        if cancels {
            return self.send_cancel(at, place);
        }
        if let Some(forward) = self.decide_attempt(at, place) {
            self.send_attempt(at, place, &forward);
        }
    }

    /// Sends the request that the space holds. Once more, it leaves alone: where
    /// nothing cuts a run, ICMP tells of its first datagram only.
    pub(super) fn send_attempt(&mut self, at: u32, place: u32, forward: &Forward) {
        let (record, attempt) = (&self.table.records[at], &self.table.attempts[place]);
        let is_first = attempt.repeats == 0 && record.first == place;
        self.out.forwarded(&Forward {
            // It came once, with the request.
            cookie: match is_first {
                true => forward.cookie,
                false => CookieUse::None,
            },
            ..*forward
        });
        self.out.send(&Leaving {
            length: forward.length,
            to: forward.to,
            listener: forward.listener,
            run: (attempt.repeats == 0).then(|| InRun::of(forward)),
            attempt: Some(AttemptId {
                key: record.key,
                number: attempt.number,
            }),
        });
    }

    fn send_cancel(&mut self, at: u32, place: u32) {
        if !self.find_head(at, place) {
            return;
        }
        self.add_reason(at);
        self.recall(at);
        let message = std::mem::take(self.message);
        self.send_own(at, place, Own::Cancel, &message);
        *self.message = message;
    }

    pub(super) fn acknowledge(&mut self, at: u32, place: u32, response: &[u8]) {
        if self.find_head(at, place) {
            self.send_own(at, place, Own::Ack, response);
        }
    }

    /// Sends an ACK or CANCEL where the attempt went, with its branch and the
    /// head that was found.
    fn send_own(&mut self, at: u32, place: u32, own: Own, from: &[u8]) {
        let record = &self.table.records[at];
        let attempt = &self.table.attempts[place];
        let listener = usize::from(attempt.listener);
        let leg = Leg {
            identity: record.identity(),
            came: record.listener.into(),
            leaves: listener,
            number: attempt.number,
            head: self.head,
        };
        let space = self.out.space();
        let length = self.proxy.own(own, &leg, from, space);
        if let Some(length) = length {
            self.out.send(&Leaving {
                length,
                to: attempt.to.into(),
                listener,
                run: None,
                attempt: None,
            });
        }
    }
}
