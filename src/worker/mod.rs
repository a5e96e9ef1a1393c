//! The loop of one worker thread: wait, receive a batch, decide each, send.
//!
//! What it decides by never changes, and is swapped whole; its counters it
//! alone writes; what it has for other workers, and for the threads of
//! accounting and of the mirror, goes into bounded queues without locks. In
//! the steady state it takes no lock, and reads the clock a few times a batch,
//! however many datagrams that has. It allocates nothing but what leaves by
//! those queues: a copy of each datagram that belongs to another worker's call,
//! of each line of accounting and of each message for the mirror.

mod backlog;
mod copies;
mod counters;
mod epoll;
mod gauges;
mod handover;
mod histogram;
mod lines;
mod outlet;
mod pace;
mod relay;
mod repeats;
mod samples;
mod shared;
mod snapshot;
mod totals;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arc_swap::Cache;
use mio::Waker;

use crate::config::{Config, Gso, HostPort};
use crate::net::{Limits, ReceiveBatch, SendBatch, Socket, is_brought_by_icmp};
use crate::proxy::{Datagram, Decision, KeptDatagram, MOST_COPIES, Reason, ReplyLimiter, Scratch};
use crate::resolver::{Answer, Client, Questions};
use crate::transaction::{AttemptId, InRun, Received};

use copies::Copies;
pub use counters::{Counters, Pending};
use epoll::Epoll;
pub use handover::{Handed, Handovers};
pub use histogram::Distribution;
use outlet::{Trouble, make_room, send_queued};
use pace::{Next, Pace};
use relay::Relaying;
use repeats::Repeats;
pub use samples::{MOST_SAMPLES, Sample, Samples};
use shared::Receiving;
pub use shared::Shared;
pub use snapshot::Snapshot;
pub use totals::{DestinationTotals, Totals, TransactionTotals, WorkerTotals};

/// What one worker needs to run.
pub struct Worker {
    sockets: Vec<Socket>,
    epoll: Epoll,
    /// Among the workers.
    number: usize,
    counters: Arc<Counters>,
    limiter: ReplyLimiter,
    repeats: Repeats,
    /// Where names are resolved.
    resolver: Option<Client>,
    /// What is decided before anything else.
    inherited: Vec<KeptDatagram>,
    /// That it may still receive; other workers wait for the end of that.
    receiving: Option<Receiving>,
    /// What is copied; `None`: nothing is.
    copies: Option<Copies>,
    /// The transactions; `None`: nothing is relayed with one.
    relaying: Option<Relaying>,
    trouble: Trouble,
    shared: Arc<Shared>,
    batch_size: usize,
    limits: Limits,
    pace: Pace,
    /// When the sockets were empty, or the worker woke up to find that they no
    /// longer are: nothing in them has been there for longer.
    empty_at: Instant,
}

/// Datagrams to send; those of attempts say of which.
type SendQueue = SendBatch<AttemptId>;

/// How often a worker at its end looks whether the others are there too.
const LAST_LOOK: Duration = Duration::from_micros(50);

/// Datagrams in a batch from which on it pays to take the socket from epoll.
const WORTH_UNWATCHING: usize = 8;

/// Added to the clock of the limiter, whose buckets start out empty at 0, and
/// of the tallies, where 0 is never.
const CLOCK_START: u64 = 3_600_000;

/// What all steps of one look at a socket share.
struct Step<'a> {
    snapshot: &'a Snapshot,
    out: &'a mut SendQueue,
    scratch: &'a mut Scratch,
    /// Datagrams taken from the sockets.
    taken: usize,
    /// The time, once somebody has asked for it.
    noted: Option<u64>,
}

impl<'a> Step<'a> {
    /// Begins a turn.
    fn new(snapshot: &'a Snapshot, out: &'a mut SendQueue, scratch: &'a mut Scratch) -> Self {
        out.begin_turn();
        Self {
            snapshot,
            out,
            scratch,
            taken: 0,
            noted: None,
        }
    }

    /// Milliseconds since `started`; the same in the whole step.
    fn now(&mut self, started: Instant) -> u64 {
        *self.noted.get_or_insert_with(|| now(started))
    }
}

impl Worker {
    /// Prepares worker `number`, which owns one socket for each listener.
    ///
    /// # Errors
    /// As of `epoll_create1`, `eventfd` and `fcntl`; `OutOfMemory` where its
    /// share of the transactions has no room.
    pub fn new(
        number: usize,
        sockets: Vec<Socket>,
        shared: Arc<Shared>,
        counters: Arc<Counters>,
        limiter: ReplyLimiter,
        questions: Option<Questions>,
        config: &Config,
    ) -> io::Result<(Self, Arc<Waker>)> {
        counters.gauges.begin(&sockets)?;
        let epoll = Epoll::new(sockets.len())?;
        let waker = Arc::new(epoll.waker()?);
        let client = |questions| Client::new(questions, Arc::clone(&waker));
        let limits = match config.gso {
            _ if !sockets.iter().all(Socket::segments) => Limits::OFF,
            Gso::Pad => Limits::PADDED,
            Gso::Exact => Limits::EXACT,
            Gso::Off => Limits::OFF,
        };
        let mirror = shared.mirror.clone();
        let stateful = &config.stateful;
        let is_stateful = !stateful.methods.is_empty();
        (sockets.iter()).try_for_each(|socket| socket.hear_errors(is_stateful))?;
        let relaying = if !is_stateful {
            None
        } else {
            shared.handovers.woken_by(number, Arc::clone(&waker))?;
            Some(Relaying::new(stateful, number, config.workers)?)
        };
        let worker = Self {
            sockets,
            epoll,
            number,
            counters,
            limiter,
            repeats: Repeats::new(),
            resolver: questions.map(client),
            inherited: Vec::new(),
            receiving: Some(Receiving::new(&shared)),
            copies: mirror.map(|mirror| Copies::new(mirror, config)),
            relaying,
            trouble: Trouble::default(),
            batch_size: config.batch,
            limits,
            pace: Pace::new(config.coalesce, config.spin, shared.started),
            empty_at: Instant::now(),
            shared,
        };
        Ok((worker, waker))
    }

    /// Has it decide these first of all.
    #[must_use]
    pub fn beginning_with(self, inherited: Vec<KeptDatagram>) -> Self {
        Self { inherited, ..self }
    }

    /// Runs until it is told to stop, and gives its sockets back then. Of what
    /// it or another worker has taken from them, nothing is left undone.
    ///
    /// # Errors
    /// As of `epoll_wait` and `epoll_ctl`. Errors of single sockets are counted, not returned.
    pub fn run(mut self) -> io::Result<Vec<Socket>> {
        self.counters.gauges.run_by_this_thread();
        let result = self.serve();
        self.counters.gauges.end();
        result.map(|()| self.sockets)
    }

    fn serve(&mut self) -> io::Result<()> {
        // Nobody wakes it for what it begins with.
        let mut ready = vec![true; self.sockets.len()];
        let mut received = ReceiveBatch::new(self.batch_size);
        // A transaction answers an INVITE beside sending it on.
        let answers = if self.relaying.is_some() { 2 } else { 1 };
        let mut out = SendBatch::new(answers * self.batch_size + MOST_COPIES, self.limits);
        let mut latest = Cache::new(Arc::clone(&self.shared.latest));
        let mut scratch = latest.load().proxy().scratch();
        let mut read_at = Instant::now();
        self.see_earlier_losses();
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.counters.turn();
            if !ready.contains(&true) {
                // What is there now has come after the sockets were read last.
                self.empty_at = read_at;
                match self.pace.next(Instant::now()) {
                    Next::Await => self.wait(&mut ready)?,
                    Next::Gather(time) => {
                        std::thread::sleep(time);
                        ready.fill(true);
                    }
                    Next::Look => ready.fill(true),
                }
            }
            read_at = Instant::now();
            let mut step = Step::new(latest.load(), &mut out, &mut scratch);
            self.look_around(&mut step);
            for (listener, ready) in ready.iter_mut().enumerate().filter(|(_, ready)| **ready) {
                step.noted = None;
                *ready = self.receive(listener, &mut received, &mut step)?;
            }
            if self.relaying.is_some() && self.see_to_transactions(&mut step, ready.contains(&true))
            {
                // Nobody wakes for what is left: it is not to sleep.
                ready.fill(true);
            }
        }
        let mut step = Step::new(latest.load(), &mut out, &mut scratch);
        self.finish(&mut step);
        Ok(())
    }

    /// Does what is to be done in each turn before the sockets are read.
    fn look_around(&mut self, step: &mut Step<'_>) {
        let inherited = std::mem::take(&mut self.inherited);
        if !inherited.is_empty() {
            for held in &inherited {
                self.take_received(step, &held.datagram());
            }
            self.flush(step);
            let waited = self.empty_at.elapsed();
            self.counters.received(inherited.len(), waited);
        }
        if let Some(relaying) = &mut self.relaying {
            relaying
                .relay
                .begin_none(self.shared.finishing.load(Ordering::Relaxed));
        }
        self.take_answers(step);
    }

    /// Sends what is queued; attempts that lead nowhere go on elsewhere.
    fn flush(&mut self, step: &mut Step<'_>) {
        loop {
            // Before they leave: who has got one may ask for the counter.
            self.repeats.count(step.snapshot.tallies(self.number));
            send_queued(step.out, &self.sockets, &self.counters, &mut self.trouble);
            let failed = std::mem::take(&mut self.trouble.failed);
            if failed.is_empty() {
                return;
            }
            for attempt in failed {
                self.with_relay(step, |relay, around| relay.undeliverable(around, attempt));
            }
        }
    }

    /// Takes nothing from the sockets any more, and does what is left: answers
    /// that are there, and what other workers hand over until they are this
    /// far too.
    fn finish(&mut self, step: &mut Step<'_>) {
        self.take_answers(step);
        self.counters.given_up();
        self.receiving = None;
        while self.shared.receiving.load(Ordering::Acquire) > 0 {
            if !self.take_handed(step) {
                std::thread::sleep(LAST_LOOK);
            }
        }
        while self.take_handed(step) {}
        self.flush(step);
    }

    /// Sleeps until a datagram comes or a timer is due, and notes where to look.
    fn wait(&mut self, ready: &mut [bool]) -> io::Result<()> {
        let patience = (self.relaying.as_mut())
            .and_then(|relaying| relaying.patience(now(self.shared.started)));
        self.trouble.disturbed |= self.epoll.wait(&self.sockets, patience, ready)?;
        self.empty_at = Instant::now();
        self.see_earlier_losses();
        Ok(())
    }

    /// Takes one batch from one socket; false when the socket is empty.
    ///
    /// Fewer datagrams than asked for mean that it is: with edge-triggered
    /// epoll a later one raises a new event, which saves one call in each
    /// wake-up (a Linux property; the tests would hang without it).
    fn receive(
        &mut self,
        listener: usize,
        received: &mut ReceiveBatch,
        step: &mut Step<'_>,
    ) -> io::Result<bool> {
        let n = match received.receive(&self.sockets[listener]) {
            Ok(n) => n,
            Err(error) => {
                // What is queued is still there.
                self.trouble.disturbed = true;
                if !is_brought_by_icmp(&error) {
                    self.counters.receive_error();
                }
                return Ok(true);
            }
        };
        if n >= WORTH_UNWATCHING {
            self.epoll.unwatch(listener, &self.sockets[listener])?;
        }
        for (bytes, source) in received.datagrams() {
            let datagram = Datagram {
                bytes,
                source,
                listener,
            };
            self.take_received(step, &datagram);
        }
        self.flush(step);
        if n > 0 {
            self.counters.received(n, self.empty_at.elapsed());
        }
        self.pace.took(n);
        step.taken += n;
        Ok(n == received.size())
    }

    /// Takes in what has come from the network.
    #[inline]
    fn take_received(&mut self, step: &mut Step<'_>, datagram: &Datagram<'_>) {
        if let Some(copies) = &self.copies {
            copies.received(step.snapshot.proxy(), datagram);
        }
        self.take(step, datagram);
    }

    /// Takes a datagram in: its transaction does, or it is decided statelessly.
    #[inline]
    fn take(&mut self, step: &mut Step<'_>, datagram: &Datagram<'_>) {
        let received = self.with_relay(step, |relay, around| relay.receive(around, datagram));
        let decision = match received {
            Some(Received::Decision(decision)) => decision,
            Some(Received::HandOver(worker)) => return self.hand_over(worker, datagram),
            Some(Received::Done) => return,
            None => {
                make_room(step.out, &self.sockets, &self.counters, &mut self.trouble);
                let proxy = step.snapshot.proxy();
                proxy.decide(datagram, step.scratch, step.out.space())
            }
        };
        self.carry_out(step, datagram, decision);
    }

    /// Does what was decided of a datagram; its octets are in the space of
    /// the queue.
    #[inline]
    fn carry_out(&mut self, step: &mut Step<'_>, datagram: &Datagram<'_>, decision: Decision) {
        match decision {
            Decision::Forward(forward) => {
                let run = InRun::of(&forward);
                let out = &mut *step.out;
                if let Some(copies) = &self.copies {
                    for to in [&forward.to].into_iter().chain(step.scratch.also()) {
                        let octets = &out.space()[..forward.length];
                        copies.sent(octets, forward.listener, *to);
                    }
                }
                out.push(
                    forward.length,
                    forward.to,
                    forward.listener,
                    Some(run),
                    None,
                );
                for to in step.scratch.also() {
                    out.repeat(*to, forward.listener, forward.call);
                    self.counters.second_chance();
                }
                let tallies = step.snapshot.tallies(self.number);
                let started = self.shared.started;
                outlet::count(&forward, &self.counters, tallies, &mut self.repeats, || {
                    step.now(started)
                });
            }
            Decision::Reply(reply) => {
                let now = step.now(self.shared.started);
                if self.limiter.allow(reply.sender, reply.length, now) {
                    let out = &mut *step.out;
                    if let Some(copies) = &self.copies {
                        let octets = &out.space()[..reply.length];
                        copies.sent(octets, datagram.listener, reply.to);
                    }
                    out.push(reply.length, reply.to, datagram.listener, None, None);
                    self.counters.replied(&reply);
                    self.shared.samples.offer(reply.reason, datagram);
                } else {
                    self.dropped(Reason::ReplyLimit, datagram);
                }
            }
            Decision::Resolve => self.hold(datagram, step.scratch.names_mut().hold()),
            Decision::Drop(reason) => self.dropped(reason, datagram),
        }
    }

    #[cold]
    fn dropped(&self, reason: Reason, datagram: &Datagram<'_>) {
        self.counters.dropped(reason);
        self.shared.samples.offer(reason, datagram);
    }

    /// Hands a request over to the resolver, to be decided when it comes back.
    #[cold]
    fn hold(&self, datagram: &Datagram<'_>, name: HostPort) {
        let resolver = self.resolver.as_ref();
        if resolver.is_some_and(|resolver| resolver.ask(name, datagram.kept())) {
            self.counters.held();
        } else {
            self.dropped(Reason::Unresolved, datagram);
        }
    }

    /// Decides the requests that the resolver has given back.
    fn take_answers(&mut self, step: &mut Step<'_>) {
        if self.resolver.is_none() {
            return;
        }
        if !step.scratch.names().is_empty() {
            step.scratch.names_mut().forget(now(self.shared.started));
        }
        while let Some(answer) = self.resolver.as_ref().and_then(Client::answer) {
            let Answer {
                name,
                servers,
                ttl,
                held,
            } = answer;
            let resolved = !servers.is_empty();
            let until = now(self.shared.started) + ttl.as_millis() as u64;
            if step.scratch.names_mut().learn(name, servers, until) {
                self.counters.answered(resolved);
            }
            self.counters.released();
            self.take(step, &held.datagram());
        }
        self.flush(step);
    }
}

/// Milliseconds, as the workers count them.
pub fn now(started: Instant) -> u64 {
    CLOCK_START + started.elapsed().as_millis() as u64
}
