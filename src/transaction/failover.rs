//! Where a request goes on when a destination fails: the next one, another set
//! by a failure rule, and else the best of the failures (RFC 3261 §16.5 to
//! §16.7).

use std::net::SocketAddr;

use super::cells::Chain;
use super::slab::NONE;
use super::table::{Attempt, Facts, LedBy, MOST_ATTEMPTS, after};
use super::{Cancel, Client, Event, NEVER, Outbox, Server, Table, Work};
use crate::config::OnFailure;
use crate::proxy::{self, Decision, Forward, Goal, Selection, Way};
use crate::sip::MAX_DATAGRAM;

impl<O: Outbox> Work<'_, O> {
    /// Sends what the space holds as an attempt.
    pub(super) fn launch(
        &mut self,
        at: u32,
        forward: &Forward,
        number: u8,
        led_by: LedBy,
    ) -> Option<u32> {
        let stateful = self.proxy.stateful();
        let timers = &stateful.timers;
        let record = &self.table.records[at];
        let now = record.since(self.now);
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
            Way::Selected(Selection { set, .. }) => self.proxy.dispatcher().sets()[set].number(),
            _ => 0,
        };
        self.make_room(at)?;
        let place = self.table.add_attempt(
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
                led_by,
                status: 0,
                set,
                start: now,
                end: NEVER,
                repeat_at: after(now, timers.t1),
                until: after(now, until),
                head: Chain::default(),
            },
        )?;
        if led_by.uri_rule().is_some() {
            // Another configuration may have other rules.
            self.keep_head(place, forward);
        }
        // Of others nobody tells within this time.
        if moves {
            let patience = 2 * stateful.failover_after.as_millis() as u64;
            self.suspects.try_again(forward.to, self.now, patience);
        }
        self.send_attempt(at, place, forward);
        Some(place)
    }

    /// An attempt has failed with `status`, and no other is under way: another
    /// destination, another set, or the best response there is.
    pub(super) fn go_on(&mut self, at: u32, place: u32, status: u16, moves_on: bool) {
        let record = &self.table.records[at];
        if record.server != Server::Proceeding {
            return;
        }
        let facts = record.facts;
        if facts.movable && !self.is_closed(at) {
            let left = self.is_left_for_rule(at, place, status);
            if moves_on && !left && self.try_same(at, place) {
                return;
            }
            let set = self.table.attempts[place].set;
            if facts.invite && (self.apply_rule(at, set, status) || self.apply_rule_to_best(at)) {
                return;
            }
            // The rule's set has nobody.
            if moves_on && left && self.try_same(at, place) {
                return;
            }
        }
        if !self.waits_for_silent(at) {
            self.conclude(at);
        }
    }

    /// Whether only one more destination is tried, and a failure rule is for
    /// `status` of this attempt: its set comes first then.
    pub(super) fn is_left_for_rule(&self, at: u32, place: u32, status: u16) -> bool {
        let record = &self.table.records[at];
        let (invite, used) = (record.facts.invite, record.rules_used);
        let set = self.table.attempts[place].set;
        invite
            && self.table.attempts_of(at).count() + 1 == MOST_ATTEMPTS
            && rules(self.proxy, used, set, status).next().is_some()
    }

    /// Whether no other destination is tried any more: its sender has
    /// cancelled it, somebody has accepted it, or it is not wanted anywhere
    /// (6xx, §16.7 item 5).
    pub(super) fn is_closed(&self, at: u32) -> bool {
        let record = &self.table.records[at];
        record.failure >= 600 || record.facts.cancelled || record.server != Server::Proceeding
    }

    /// The first rule that is for this failure and whose set has somebody, once
    /// for a transaction.
    pub(super) fn apply_rule(&mut self, at: u32, set: u16, status: u16) -> bool {
        let used = self.table.records[at].rules_used;
        for (number, rule) in rules(self.proxy, used, set, status) {
            let uri = rule.request_uri.as_deref().map(str::as_bytes);
            let led_by = LedBy::rule(number, uri.is_some());
            if self.try_next(at, rule.set, led_by, uri) {
                self.table.records[at].rules_used |= 1 << number;
                self.out.count(Event::RuleApplied);
                return true;
            }
        }
        false
    }

    /// The same for the failure that the caller would get, which may be that of
    /// an earlier attempt.
    fn apply_rule_to_best(&mut self, at: u32) -> bool {
        let best = self.table.records[at].failure;
        let is_its = |each: &&Attempt| match best {
            // Rung for too long, it has another status of its own.
            408 if each.timed_out || each.client == Client::NoAnswer => true,
            503 if each.client == Client::Unreachable => true,
            _ => each.status == best,
        };
        let its = self.table.attempts_of(at).find(is_its);
        let set = its.map(|each| each.set);
        set.is_some_and(|set| self.apply_rule(at, set, best))
    }

    /// Tries another destination of the set of an attempt, if there still is
    /// such a set.
    pub(super) fn try_same(&mut self, at: u32, place: u32) -> bool {
        let Attempt { set, led_by, .. } = self.table.attempts[place];
        let Some(set) = self.proxy.dispatcher().place_of(set) else {
            return false;
        };
        let tried = self.with_rule_uri(place, |work, uri| work.try_next(at, set, led_by, uri));
        if tried {
            self.out.count(Event::FailedOver);
        }
        tried
    }

    /// Tries a destination of `set` that has not been tried.
    fn try_next(&mut self, at: u32, set: usize, led_by: LedBy, uri: Option<&[u8]>) -> bool {
        if self.table.attempts_of(at).count() >= MOST_ATTEMPTS {
            return false;
        }
        // Each rule has numbers of its own: a transaction that is forgotten and begins
        // anew has the same branch again, and must not have it with another Request-URI.
        let its = self.table.attempts_of(at);
        let its = its.filter(|each| each.led_by == led_by);
        let last = its.map(|each| each.number).max();
        let number = last.unwrap_or_else(|| led_by.numbers_after()) + 1;
        let decided = self
            .decide_next(at, Some(set), uri, number, true)
            .or_else(|| self.decide_next(at, Some(set), uri, number, false));
        let Some(forward) = decided else {
            return false;
        };
        self.table.records[at].ring_until = NEVER;
        self.launch(at, &forward, number, led_by).is_some()
    }

    /// Writes the request for a destination that has not been tried, and is
    /// no suspect where `careful`.
    pub(super) fn decide_next(
        &mut self,
        at: u32,
        set: Option<usize>,
        request_uri: Option<&[u8]>,
        number: u8,
        careful: bool,
    ) -> Option<Forward> {
        let mut tried = [None; MOST_ATTEMPTS];
        for (tried, attempt) in tried.iter_mut().zip(self.table.attempts_of(at)) {
            *tried = Some(SocketAddr::from(attempt.to));
        }
        let (suspects, now) = (&self.suspects, self.now);
        let passed = |destination: SocketAddr| {
            tried.contains(&Some(destination)) || (careful && suspects.has(destination, now))
        };
        let attempt = proxy::Attempt {
            number,
            request_uri,
            goal: Goal::Next(set, &passed),
        };
        let record = &self.table.records[at];
        let stored = self.table.stored(record, self.message);
        let space = self.out.space();
        match self.proxy.attempt(&stored, &attempt, self.scratch, space) {
            Decision::Forward(forward) if matches!(forward.way, Way::Selected(_)) => Some(forward),
            _ => None,
        }
    }

    /// Writes the request of an attempt once more, as it was.
    pub(super) fn decide_attempt(&mut self, at: u32, place: u32) -> Option<Forward> {
        let attempt = &self.table.attempts[place];
        let (number, to, listener) = (attempt.number, attempt.to.into(), attempt.listener);
        self.with_rule_uri(place, |work, uri| {
            work.decide_again(at, number, uri, to, listener.into())
        })
    }

    /// Does what needs the Request-URI that a failure rule gave an attempt: as
    /// it was sent where that is kept, for the rules may be others by now.
    fn with_rule_uri<T>(
        &mut self,
        place: u32,
        act: impl FnOnce(&mut Self, Option<&[u8]>) -> T,
    ) -> T {
        let attempt = &self.table.attempts[place];
        let led_by = attempt.led_by;
        if led_by.uri_rule().is_none() || attempt.head.is_empty() {
            let uri = rule_uri(self.proxy, led_by);
            return act(self, uri);
        }
        let mut head = std::mem::take(self.rule_head);
        self.table.cells.load(attempt.head, &mut head);
        let (uri, _) = proxy::split_head(&head);
        let done = act(self, Some(uri));
        *self.rule_head = head;
        done
    }

    /// Writes the request for an attempt at `to`.
    pub(super) fn decide_again(
        &mut self,
        at: u32,
        number: u8,
        request_uri: Option<&[u8]>,
        to: SocketAddr,
        listener: usize,
    ) -> Option<Forward> {
        let record = &self.table.records[at];
        if record.request.is_empty() {
            return None;
        }
        let attempt = proxy::Attempt {
            number,
            request_uri,
            goal: Goal::Again(to, listener),
        };
        let stored = self.table.stored(record, self.message);
        let space = self.out.space();
        match self.proxy.attempt(&stored, &attempt, self.scratch, space) {
            Decision::Forward(forward) => Some(forward),
            _ => None,
        }
    }

    /// Keeps the failure with `status`, which the space holds, or which we
    /// would have to write where it has no octets, where it is the best so far
    /// (§16.7 item 6). False where there is no room for it.
    pub(super) fn hold(&mut self, at: u32, status: u16, octets: usize) -> bool {
        let record = &mut self.table.records[at];
        // Nothing comes any more, for the caller wants nothing.
        let ends = record.facts.cancelled && (status, record.failure) == (487, 408);
        let better = record.failure == 0 || ends || rank(status) < rank(record.failure);
        if !better || record.server != Server::Proceeding {
            return true;
        }
        record.failure = status;
        if record.failure_length == 0 && octets == 0 {
            return true;
        }
        let record = &self.table.records[at];
        self.table.load_provisional(record, self.message);
        if self.message.len() + octets > MAX_DATAGRAM {
            self.message.clear();
        }
        let failure = &self.out.space()[..octets];
        self.message.extend_from_slice(failure);
        let Table { records, cells, .. } = self.table;
        let record = &mut records[at];
        cells.free(&mut record.reply);
        let kept = cells.keep(self.message).or_else(|| cells.keep(failure));
        record.reply = kept.unwrap_or_default();
        record.failure_length = kept.map_or(0, |_| octets as u16);
        kept.is_some()
    }
}

/// The failure rules for `status` of the set with this number, without those
/// that were `used`, and their own numbers.
pub(super) fn rules(
    proxy: &proxy::Proxy,
    used: u16,
    set: u16,
    status: u16,
) -> impl Iterator<Item = (usize, &OnFailure)> {
    let set = proxy.dispatcher().place_of(set);
    let rules = proxy.stateful().on_failure.iter().enumerate().take(16);
    rules.filter(move |(number, rule)| {
        let from =
            rule.from_sets.is_empty() || set.is_some_and(|set| rule.from_sets.contains(&set));
        used & (1 << number) == 0 && from && rule.statuses.contains(&status)
    })
}

/// The Request-URI that a failure rule gives, as it is now.
fn rule_uri(proxy: &proxy::Proxy, led_by: LedBy) -> Option<&[u8]> {
    let rule = proxy.stateful().on_failure.get(led_by.uri_rule()?)?;
    rule.request_uri.as_deref().map(str::as_bytes)
}

/// The lower, the better (§16.7 items 5 and 6): 2xx, 6xx, then the lowest
/// class; of 4xx those that the sender can do something about, and last what
/// only says that nothing came.
fn rank(status: u16) -> (u16, u8) {
    let class = match status / 100 {
        2 => 0,
        6 => 1,
        class => class,
    };
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        408 | 487 | 503 => 2,
        _ => 1,
    };
    (class, within)
}
