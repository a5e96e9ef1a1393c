//! What comes of an attempt: responses (RFC 3261 §16.7, RFC 6026 §7.2), or word
//! that it did not arrive (§16.9).

use super::silent::leads_on;
use super::table::after;
use super::{Cancel, Client, Event, Lesson, NEVER, Outbox, Queue, Received, Server, Work};
use crate::proxy::{Answer, Datagram, Decision, Forward, Proxy};
use crate::sip::scan;

impl<O: Outbox> Work<'_, O> {
    /// A response; the space holds it as it would pass.
    pub(super) fn respond(
        &mut self,
        datagram: &Datagram<'_>,
        forward: &Forward,
        answer: &Answer,
    ) -> Received {
        let Answer {
            at,
            attempt: number,
            status,
            method,
        } = *answer;
        if method != self.table.records[at].facts.method {
            return Received::Decision(Decision::Forward(*forward));
        }
        let Some(place) = self.table.numbered(at, number) else {
            return self.unknown(forward, status);
        };
        self.out.forwarded(forward);
        self.answered(at, place, datagram);
        if status < 200 {
            self.provisional(at, place, status, forward);
        } else if status < 300 && self.table.records[at].facts.invite {
            self.accepted(at, place, status, forward, datagram);
        } else {
            let response = &unwrapped(self.proxy, datagram);
            self.ended(at, place, status, forward, response);
        }
        self.settle(at);
        Received::Done
    }

    /// Of an attempt that was made before a restart: only a 2xx passes, for
    /// whoever accepted a call must hear of its ACK.
    fn unknown(&mut self, forward: &Forward, status: u16) -> Received {
        if (200..300).contains(&status) {
            return Received::Decision(Decision::Forward(*forward));
        }
        self.out.count(Event::Absorbed);
        Received::Done
    }

    /// A response to our CANCEL.
    pub(super) fn cancel_answered(
        &mut self,
        at: u32,
        number: u8,
        status: u16,
        datagram: &Datagram<'_>,
    ) {
        self.out.count(Event::Absorbed);
        let Some(place) = self.table.numbered(at, number) else {
            return;
        };
        self.answered(at, place, datagram);
        let attempt = &mut self.table.attempts[place];
        if status >= 200 && attempt.cancel == Cancel::Sent {
            attempt.cancel = Cancel::Answered;
            attempt.repeat_at = NEVER;
        }
        self.settle(at);
    }

    /// The destination of an attempt is alive.
    fn answered(&mut self, at: u32, place: u32, datagram: &Datagram<'_>) {
        let to = self.table.attempts[place].to.into();
        let proxy = self.proxy;
        let is_its = || is_from_farm(proxy, &unwrapped(proxy, datagram));
        self.suspects.answers(to, self.now, is_its);
        if self.table.records[at].queue == Queue::Unanswered {
            self.table.queue(at, Queue::None);
        }
    }

    /// 100 is for us; the others pass at once (§16.7 item 5).
    fn provisional(&mut self, at: u32, place: u32, status: u16, forward: &Forward) {
        self.speaks(at, place);
        let stateful = self.proxy.stateful();
        let timers = &stateful.timers;
        let record = &mut self.table.records[at];
        let now = record.since(self.now);
        let invite = record.facts.invite;
        let attempt = &mut self.table.attempts[place];
        // Without the request, nothing can be done about it any more.
        let unheard = attempt.client.is_unheard() && !record.request.is_empty();
        if attempt.client == Client::Calling || (unheard && invite) {
            attempt.client = Client::Proceeding;
            // The transaction has gone on without it.
            attempt.abandoned |= unheard;
            if invite {
                attempt.repeat_at = NEVER;
                attempt.until = after(now, timers.c);
            } else {
                attempt.until = after(attempt.start, timers.f);
            }
        }
        if attempt.client != Client::Proceeding {
            return self.out.count(Event::Absorbed);
        }
        let cancelled = attempt.cancel != Cancel::None;
        if invite && !cancelled && status > 100 {
            attempt.until = after(now, timers.c);
        }
        let stale = attempt.abandoned || record.server != Server::Proceeding;
        let told = attempt.cancel.is_sent();
        let ends = invite && (stale || cancelled) && !told;
        if stale || status == 100 {
            self.out.count(Event::Absorbed);
        } else {
            if record.rang == NEVER {
                record.rang = now;
            }
            // A dialog would end with a 408 to a request of its own (§12.2.1.2).
            let bounded = invite && !record.facts.in_dialog && !cancelled;
            let bounded = bounded && !stateful.ring_timeout.is_zero();
            if bounded && record.ring_until == NEVER {
                record.ring_until = after(now, stateful.ring_timeout);
            }
            self.keep_provisional(at, forward);
            self.pass(forward);
        }
        if ends {
            self.cancel(at, place);
        }
    }

    /// A 2xx to INVITE: each one passes, from whichever attempt (§16.7 item 5,
    /// RFC 6026 §7.2).
    fn accepted(
        &mut self,
        at: u32,
        place: u32,
        status: u16,
        forward: &Forward,
        datagram: &Datagram<'_>,
    ) {
        self.pass(forward);
        let timers = self.proxy.stateful().timers;
        let now = self.table.records[at].since(self.now);
        let attempt = &mut self.table.attempts[place];
        let first = attempt.client != Client::Answered;
        if first {
            attempt.finish(Client::Answered, now, after(now, timers.m));
            attempt.status = status;
        }
        // §16.7 item 10. The accounting tells of it.
        self.cancel_all(at);
        if first {
            self.accept(at, status, unwrapped(self.proxy, datagram).bytes);
        }
    }

    /// Another final response.
    fn ended(
        &mut self,
        at: u32,
        place: u32,
        status: u16,
        forward: &Forward,
        response: &Datagram<'_>,
    ) {
        let stateful = self.proxy.stateful();
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let (invite, cancelled) = (record.facts.invite, record.facts.cancelled);
        let attempt = &mut self.table.attempts[place];
        let first = !attempt.client.is_over() || attempt.client.is_unheard();
        let live = !attempt.client.is_over() && !attempt.abandoned;
        // It has taken back the call because we asked it to.
        let ours = status == 487 && attempt.abandoned && attempt.cancel.is_sent() && !cancelled;
        // RFC 4320 §4.2: its sender has given up by itself.
        let says_nothing = ours || (status == 408 && !invite);
        let (status_held, octets) = match status {
            // What was cancelled for ringing too long has not answered.
            487 if attempt.timed_out && !cancelled => (408, 0),
            // It is not passed on (§16.7 item 6).
            503 => (503, 0),
            _ => (status, forward.length),
        };
        if first {
            let timers = stateful.timers;
            let lasts = if invite { timers.d } else { timers.k };
            let client = match status {
                200..300 => Client::Answered,
                _ if ours => Client::Cancelled,
                _ => Client::Failed,
            };
            attempt.finish(client, now, after(now, lasts));
            attempt.status = status;
        } else {
            if attempt.client == Client::Cancelled && attempt.until <= now {
                // It was given up because its CANCEL had no answer: what it says
                // now comes again, as any failure.
                attempt.until = after(now, stateful.timers.d);
            }
            self.out.count(Event::Absorbed);
        }
        let kept = !first || says_nothing || self.hold(at, status_held, octets);
        // A 2xx does from whichever attempt.
        let counts = live || (first && (200..300).contains(&status));
        if !kept && counts {
            // It can be neither repeated nor compared. The ACK takes its space.
            self.pass(forward);
        }
        if invite {
            self.acknowledge(at, place, response.bytes);
        }
        if first && status == 503 && is_from_farm(self.proxy, response) {
            let cap = stateful.retry_after_cap.as_millis() as u64;
            let rest = retry_after(response.bytes).map(|rest| rest.min(cap));
            if let Some(rest @ 1..) = rest {
                self.learn(at, place, Lesson::Busy(rest));
            }
        }
        if !kept && counts {
            self.account(at, response.bytes, status, false);
            self.complete(at);
        } else if counts {
            let moves_on = status_held == status && stateful.failover_status.contains(&status);
            self.go_on(at, place, status_held, moves_on);
        } else if first && !says_nothing && !leads_on(stateful, status) {
            if invite && status >= 600 {
                // §16.7 item 5.
                self.cancel_all(at);
            }
            self.hurry(at, place);
        }
    }

    /// ICMP or the kernel says that the request did not get there.
    pub(super) fn unreachable(&mut self, at: u32, place: u32) {
        let patience = self.proxy.stateful().timers.b;
        let record = &self.table.records[at];
        let now = record.since(self.now);
        let invite = record.facts.invite;
        let attempt = &mut self.table.attempts[place];
        if attempt.client != Client::Calling {
            return;
        }
        let live = !attempt.abandoned;
        let until = if invite {
            // An earlier copy may have got there, and ring.
            after(attempt.start, patience)
        } else {
            now
        };
        attempt.finish(Client::Unreachable, now, until);
        self.learn(at, place, Lesson::Unreachable);
        if live {
            self.hold(at, 503, 0);
            self.go_on(at, place, 503, true);
        }
    }

    /// Something has become known of the destination of an attempt. Of phones
    /// nothing is remembered: nobody chooses among them.
    pub(super) fn learn(&mut self, at: u32, place: u32, lesson: Lesson) {
        let attempt = &self.table.attempts[place];
        let destination = attempt.to.into();
        let sent = self.table.records[at].received + u64::from(attempt.start);
        if let Some(member) = self.proxy.dispatcher().member(destination) {
            self.suspects.learn(destination, lesson, sent, self.now);
            self.out.suspected(member, lesson);
        }
    }
}

/// Without what a front balancer has put before it.
fn unwrapped<'a>(proxy: &Proxy, datagram: &Datagram<'a>) -> Datagram<'a> {
    let unwrapped = proxy.unwrap_remembered(datagram);
    unwrapped.map_or(*datagram, |(response, _)| response)
}

/// Whether a response teaches anything of the destination. A proxy shows our
/// branch to all whom it asks, and each of them could answer in its place.
fn is_from_farm(proxy: &Proxy, response: &Datagram<'_>) -> bool {
    proxy.dispatcher().sender(response.source).is_some()
}

/// Milliseconds of Retry-After: 0 where it holds no number; `None`: there is none.
fn retry_after(response: &[u8]) -> Option<u64> {
    let message = scan(response).ok()?;
    let row = message.rows_named(b"Retry-After").next()?;
    let octets = row.value.of(message.bytes).iter();
    let digits = octets.take_while(|octet| octet.is_ascii_digit());
    let seconds = digits.fold(0_u64, |seconds, digit| {
        (seconds * 10 + u64::from(digit - b'0')).min(1 << 32)
    });
    Some(seconds * 1000)
}
