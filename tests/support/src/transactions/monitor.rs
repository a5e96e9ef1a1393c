//! What a bystander at the balancer knows of each transaction: from the
//! datagrams that come and leave, and from what the relay tells.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use viaduct::config::{Config, OnFailure};
use viaduct::proxy::Decision;
use viaduct::transaction::{AttemptId, Event, Received};

use super::balancer::{Act, Output};
use super::message::Message;
use super::tally::Tally;

/// A broken invariant.
#[derive(Debug)]
pub struct Violation {
    pub call: String,
    pub reason: String,
}

/// Ends a check that does not hold, with a reason.
macro_rules! ensure {
    ($holds:expr, $call:expr, $($reason:tt)*) => {
        if !$holds {
            return Err($crate::transactions::monitor::Violation {
                call: $call.to_string(),
                reason: format!($($reason)*),
            });
        }
    };
}
pub(super) use ensure;

pub type Check = Result<(), Violation>;

/// What the configuration promises.
pub struct Promises {
    pub t1: u64,
    pub t2: u64,
    pub b: u64,
    pub c: u64,
    /// How long a failure of INVITE that comes again is acknowledged.
    pub d: u64,
    pub f: u64,
    /// How long an acknowledged failure is remembered.
    pub i: u64,
    /// The longest time that something is remembered after it has ended.
    pub linger: u64,
    pub failover_after: u64,
    pub failover_status: Vec<u16>,
    pub ring_timeout: u64,
    pub on_failure: Vec<OnFailure>,
    pub methods: Vec<String>,
    pub sets: Vec<Vec<SocketAddr>>,
    /// Transactions that a worker remembers at most.
    pub share: usize,
}

impl Promises {
    pub fn new(config: &Config) -> Self {
        let stateful = &config.stateful;
        let timers = &stateful.timers;
        let ms = |duration: std::time::Duration| duration.as_millis() as u64;
        let lingering = [timers.d, timers.h, timers.j, timers.l, timers.m];
        let addresses = |set: &viaduct::config::Set| {
            let destinations = set.destinations.iter();
            destinations.map(|each| each.address).collect()
        };
        Self {
            t1: ms(timers.t1),
            t2: ms(timers.t2),
            b: ms(timers.b),
            c: ms(timers.c),
            d: ms(timers.d),
            f: ms(timers.f),
            i: ms(timers.i),
            linger: lingering.map(ms).into_iter().max().unwrap_or(0),
            failover_after: ms(stateful.failover_after),
            failover_status: stateful.failover_status.clone(),
            ring_timeout: ms(stateful.ring_timeout),
            on_failure: stateful.on_failure.clone(),
            methods: stateful.methods.clone(),
            sets: config.sets.iter().map(addresses).collect(),
            share: stateful.transactions.div_ceil(config.workers),
        }
    }

    /// Whether there is so little memory that one may take what another needs:
    /// then another destination cannot always be tried.
    pub fn is_scarce(&self) -> bool {
        self.share < 100
    }

    /// How often a request is sent that nobody answers (§17.1.1.2, §17.1.2.2).
    pub fn sends(&self, method: &str) -> u64 {
        let (longest, end) = match method {
            "INVITE" => (u64::MAX, self.b),
            _ => (self.t2, self.f),
        };
        repetitions(self.t1, longest, end)
    }

    /// How often a failure is sent that nobody acknowledges (§17.2.1).
    pub fn failures(&self) -> u64 {
        repetitions(self.t1, self.t2, self.linger)
    }
}

/// Sends at 0 and then at intervals that double from `first` to `longest`,
/// before `end`.
fn repetitions(first: u64, longest: u64, end: u64) -> u64 {
    let (mut at, mut interval, mut count) = (0, first, 0);
    while at < end {
        count += 1;
        at += interval;
        interval = (2 * interval).min(longest);
    }
    count
}

/// A request as it came.
pub struct Upstream {
    pub request: Message,
    pub source: SocketAddr,
    pub copies: u64,
    pub cancels: u64,
    /// When its failure was first acknowledged.
    pub acknowledged: Option<u64>,
    pub begun: Option<u64>,
    pub worker: usize,
    /// Less is demanded of it: the table was full when it came, it may have been
    /// forgotten for another one, or the balancer was started anew.
    pub weak: bool,
    /// Branches in the order of their first send.
    pub attempts: Vec<String>,
    pub heard: bool,
    pub last_heard: u64,
    /// When the first provisional response other than 100 was passed on.
    pub rang: Option<u64>,
    pub provisionals_heard: u64,
    pub provisionals_passed: u64,
    pub failures_heard: Vec<u16>,
    pub answers_heard: u64,
    pub answers_passed: u64,
    /// The final response that is none to be passed more than once.
    pub failure: Option<Vec<u8>>,
    pub failure_status: u16,
    pub failure_repeats: u64,
    pub final_at: Option<u64>,
    pub cancel_replies: u64,
    pub own_hundreds: u64,
    pub finished: u64,
    /// Told of as one that was answered behind its failure.
    pub answered: u64,
    /// Told of as one that nobody has answered.
    pub given_up: u64,
    /// Attempts that a failure rule has led to.
    pub rules: usize,
}

/// A request as it left for one destination.
pub struct Attempt {
    pub upstream: String,
    pub to: SocketAddr,
    pub request: Message,
    pub bytes: Vec<u8>,
    pub id: Option<AttemptId>,
    pub worker: usize,
    pub sends: Vec<u64>,
    /// First responses, as far as a relay heard them.
    pub provisional: Option<u64>,
    pub ringing: Option<u64>,
    pub last_ringing: Option<u64>,
    pub failure: Option<u16>,
    /// When that was first heard.
    pub failed: Option<u64>,
    pub answered: bool,
    pub finals_heard: u64,
    pub acks: u64,
    pub undeliverable: bool,
    pub cancels: Vec<u64>,
    pub cancel_answered: bool,
    /// Its response came when nothing was remembered any more.
    pub heard_too_late: bool,
}

pub struct Monitor {
    pub promises: Promises,
    pub epoch: u64,
    pub upstreams: BTreeMap<String, Upstream>,
    pub attempts: BTreeMap<String, Attempt>,
    pub tally: Tally,
}

/// What made the balancer act.
pub struct Scene<'a> {
    pub time: u64,
    pub worker: usize,
    pub cause: Cause<'a>,
    /// When the balancer last found datagrams lost that were for it.
    pub lost_at: Option<u64>,
}

pub enum Cause<'a> {
    Datagram {
        from: SocketAddr,
        message: &'a Message,
    },
    Undeliverable(AttemptId),
    Due,
}

impl Monitor {
    pub fn new(config: &Config, epoch: u64) -> Self {
        Self {
            promises: Promises::new(config),
            epoch,
            upstreams: BTreeMap::new(),
            attempts: BTreeMap::new(),
            tally: Tally::default(),
        }
    }

    /// Takes notice of one call of the product, and checks it.
    pub fn observe(&mut self, scene: &Scene<'_>, output: &Output) -> Check {
        if let Some(Received::HandOver(_)) = output.received {
            ensure!(output.acts.is_empty(), "", "handed over, and acted on");
            self.tally.add("hand-over");
            return Ok(());
        }
        self.note_cause(scene, output);
        for act in &output.acts {
            match act {
                Act::Count(event) => self.counted(scene, *event)?,
                Act::Send(_) | Act::Finished(_) | Act::Learnt(..) => {}
            }
        }
        for act in &output.acts {
            match act {
                Act::Send(sent) => self.sent(scene, output, sent)?,
                Act::Finished(told) => self.finished(scene, told)?,
                Act::Learnt(destination, lesson) => self.learnt(scene, *destination, *lesson)?,
                Act::Count(_) => {}
            }
        }
        self.owed(scene, output)
    }

    fn note_cause(&mut self, scene: &Scene<'_>, output: &Output) {
        match scene.cause {
            Cause::Datagram { from, message } if message.is_request() => {
                self.request_came(scene.time, from, message);
            }
            Cause::Datagram { message, .. } => {
                let by_relay = output.received == Some(Received::Done);
                self.response_came(scene.time, message, by_relay);
            }
            Cause::Undeliverable(id) => {
                let mut attempts = self.attempts.values_mut();
                let is_it = |each: &Attempt| each.id == Some(id) && each.worker == scene.worker;
                if let Some(attempt) = attempts.find(|each| is_it(each)) {
                    attempt.undeliverable = true;
                }
            }
            Cause::Due => {}
        }
        if let Some(Received::Decision(Decision::Drop(_))) = output.received {
            self.tally.add("dropped");
        }
    }

    fn request_came(&mut self, time: u64, from: SocketAddr, request: &Message) {
        let key = request.branch(0);
        match request.method() {
            "ACK" => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.acknowledged.get_or_insert(time);
                }
            }
            "CANCEL" => {
                if let Some(upstream) = self.upstreams.get_mut(key) {
                    upstream.cancels += 1;
                }
            }
            _ => {
                let new = || Upstream::new(request, from);
                let upstream = self.upstreams.entry(key.to_owned());
                upstream.or_insert_with(new).copies += 1;
            }
        }
    }

    fn response_came(&mut self, time: u64, response: &Message, by_relay: bool) {
        let status = response.status();
        let Some(attempt) = self.attempts.get_mut(response.branch(0)) else {
            return;
        };
        if response.method() == "CANCEL" {
            attempt.cancel_answered |= status >= 200;
            return;
        }
        let Some(upstream) = self.upstreams.get_mut(&attempt.upstream) else {
            return;
        };
        if !by_relay {
            attempt.heard_too_late = true;
            return;
        }
        upstream.heard = true;
        upstream.last_heard = time;
        let is_invite = upstream.request.method() == "INVITE";
        match status {
            0..200 => {
                attempt.provisional.get_or_insert(time);
                if status > 100 {
                    attempt.ringing.get_or_insert(time);
                    attempt.last_ringing = Some(time);
                    upstream.provisionals_heard += 1;
                }
            }
            200..300 if is_invite => {
                attempt.answered = true;
                attempt.finals_heard += 1;
                upstream.answers_heard += 1;
            }
            _ => {
                attempt.failure.get_or_insert(status);
                attempt.failed.get_or_insert(time);
                attempt.finals_heard += 1;
                upstream.failures_heard.push(status);
            }
        }
    }

    fn counted(&mut self, scene: &Scene<'_>, event: Event) -> Check {
        self.tally.add(match event {
            Event::Begun => "begun",
            Event::TableFull => "table full",
            Event::Evicted => "evicted",
            Event::Absorbed => "absorbed",
            Event::Retransmitted => "retransmitted",
            Event::FailedOver => "failed over",
            Event::RuleApplied => "rule applied",
            Event::Cancelled => "cancelled by us",
            Event::Replied(_) => "replied",
        });
        let worker = scene.worker;
        match (event, &scene.cause) {
            (Event::Evicted, cause) => {
                let begins =
                    matches!(cause, Cause::Datagram { message, .. } if message.is_request());
                self.weaken_evicted(scene.time, worker, begins);
            }
            (Event::Begun | Event::TableFull, Cause::Datagram { message, .. }) => {
                let key = message.branch(0);
                let (call, method) = (message.call_id(), message.method());
                let stateful = self.promises.methods.iter().any(|each| each == method);
                ensure!(stateful, call, "{method} is not to be relayed statefully");
                let Some(upstream) = self.upstreams.get_mut(key) else {
                    return Ok(());
                };
                if event == Event::TableFull {
                    upstream.weak = true;
                    return Ok(());
                }
                let again = upstream.begun.is_some() && !upstream.weak;
                ensure!(!again, call, "one request began two transactions");
                upstream.begun.get_or_insert(scene.time);
                upstream.worker = worker;
            }
            (Event::Begun | Event::TableFull, _) => {
                ensure!(false, "", "{event:?} without a request");
            }
            _ => {}
        }
        Ok(())
    }

    /// One of these was forgotten: for a transaction that begins, the oldest that
    /// no destination has responded to, if there is one older than T1, else one
    /// that lingers.
    fn weaken_evicted(&mut self, time: u64, worker: usize, begins: bool) {
        let t1 = self.promises.t1;
        let of_worker = |each: &&mut Upstream| each.worker == worker && each.begun.is_some();
        let mut candidates: Vec<_> = self.upstreams.values_mut().filter(of_worker).collect();
        // With a final response of our own it may count as either.
        let certain = candidates.iter().filter(|each| {
            let begun = each.begun.unwrap_or(time);
            !each.heard && each.final_at.is_none() && begun + t1 < time && !each.weak
        });
        let oldest = certain.filter_map(|each| each.begun).min();
        if let Some(oldest) = oldest.filter(|_| begins) {
            candidates.retain(|each| !each.heard && each.begun <= Some(oldest));
        } else {
            candidates.retain(|each| each.final_at.is_some() || !each.heard);
        }
        for each in candidates {
            each.weak = true;
        }
    }

    pub fn restarted(&mut self) {
        for upstream in self.upstreams.values_mut() {
            upstream.weak = true;
        }
    }
}

impl Attempt {
    /// Whether somebody must be told to stop, and has not been.
    pub fn rings(&self) -> bool {
        let is_invite = self.request.method() == "INVITE";
        let over = self.answered || self.failure.is_some() || !self.cancels.is_empty();
        is_invite && self.provisional.is_some() && !over
    }
}

impl Upstream {
    fn new(request: &Message, source: SocketAddr) -> Self {
        Self {
            request: request.clone(),
            source,
            copies: 0,
            cancels: 0,
            acknowledged: None,
            begun: None,
            worker: 0,
            weak: false,
            attempts: Vec::new(),
            heard: false,
            last_heard: 0,
            rang: None,
            provisionals_heard: 0,
            provisionals_passed: 0,
            failures_heard: Vec::new(),
            answers_heard: 0,
            answers_passed: 0,
            failure: None,
            failure_status: 0,
            failure_repeats: 0,
            final_at: None,
            cancel_replies: 0,
            own_hundreds: 0,
            finished: 0,
            answered: 0,
            given_up: 0,
            rules: 0,
        }
    }

    pub fn is_invite(&self) -> bool {
        self.request.method() == "INVITE"
    }

    /// Until when it is remembered at least after its final response.
    pub fn kept_until(&self, promises: &Promises) -> u64 {
        let at = self.final_at.unwrap_or(0);
        match self.acknowledged {
            Some(acknowledged) if self.answers_passed == 0 => acknowledged + promises.i,
            _ => at + promises.linger,
        }
    }

    /// Whether a relay has it, and all invariants hold of it.
    pub fn is_strong(&self) -> bool {
        self.begun.is_some() && !self.weak
    }
}
