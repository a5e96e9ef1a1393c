//! A world: who is in it, what is about to happen, and one step after the
//! other.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::rc::Rc;

use viaduct::proxy::Datagram;
use viaduct::transaction::{AttemptId, Received};

use super::balancer::{Act, Balancer, Output, Sent};
use super::caller::Caller;
use super::chance::Chance;
use super::destination::Destination;
use super::ladder::Ladder;
use super::message::Message;
use super::monitor::{Cause, Check, Monitor, Scene, Violation, ensure};
use super::network::Network;
use super::plan::{Happening, Plan, Trouble};
use super::tally::Tally;
use crate::fixture;

/// Far more than any world has had.
const MOST_STEPS: u64 = 300_000;
const MOST_TIME: u64 = 3_600_000;
/// How often a relay may be woken early or for what nobody sees, for each
/// transaction: a few times, and once for each turn of a timer wheel.
const MOST_IDLE: u64 = 10;

pub struct World {
    calm: bool,
    epoch: u64,
    time: u64,
    steps: u64,
    /// How often a relay was woken for nothing that is seen.
    idle: u64,
    /// When the relays were last woken, where that is each millisecond and not
    /// when they ask.
    ticked: Option<u64>,
    icmp: u64,
    numbered: u64,
    queue: BinaryHeap<Reverse<Planned>>,
    /// When somebody is going to be woken.
    wakes: BTreeMap<Who, u64>,
    listen: SocketAddr,
    network: Network,
    /// When the balancer last found datagrams lost that were for it.
    lost_at: Option<u64>,
    balancer: Balancer,
    callers: Vec<Caller>,
    destinations: Vec<Destination>,
    monitor: Monitor,
    ladder: Ladder,
    carriage: Chance,
    steering: Chance,
    call: String,
}

/// What is planned, in the order of time and then of planning.
type Planned = (u64, u64, Step);

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Arrives(Arrival),
    HandedOver {
        worker: usize,
        arrival: Arrival,
    },
    /// Somebody who has something to do by itself.
    Wakes(Who),
    Undeliverable {
        worker: usize,
        key: u64,
        number: u8,
    },
    Trouble(usize),
    /// The balancer finds datagrams lost.
    Loses,
    Restart,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Caller(usize),
    Destination(usize),
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    from: SocketAddr,
    to: SocketAddr,
    bytes: Rc<[u8]>,
    /// Worker, key and number of the attempt that fails where it is refused.
    attempt: Option<(usize, u64, u8)>,
}

impl World {
    pub fn new(seed: u64) -> (Self, Vec<Trouble>) {
        let mut plan = Plan::new(seed);
        let listen = fixture::LISTEN.parse().expect("an address");
        let chance = &mut plan.chance;
        let destination = |(n, temper): (usize, &_)| {
            let main = plan.config.sets[0].destinations.len();
            let name = if n < main {
                format!("server {n}")
            } else {
                format!("mailbox {}", n - main)
            };
            Destination::new(fixture::destination(n), name, *temper, chance.fork())
        };
        let destinations: Vec<_> = plan.tempers.iter().enumerate().map(destination).collect();
        let errands = plan.errands.iter().enumerate();
        let callers: Vec<_> = errands
            .map(|(n, errand)| Caller::new(n, *errand, listen))
            .collect();
        let mut names = BTreeMap::from([(listen, "viaduct".to_owned())]);
        names.extend(destinations.iter().map(|d| (d.address, d.name.clone())));
        let named = callers.iter().enumerate();
        names.extend(named.map(|(n, caller)| (caller.address, format!("caller {n}"))));
        let mut world = Self {
            calm: plan.calm,
            epoch: plan.epoch,
            time: 0,
            steps: 0,
            idle: 0,
            ticked: None,
            icmp: plan.icmp,
            numbered: 0,
            queue: BinaryHeap::new(),
            wakes: BTreeMap::new(),
            listen,
            network: plan.network,
            lost_at: None,
            monitor: Monitor::new(&plan.config, plan.epoch),
            balancer: Balancer::new(plan.config),
            callers,
            destinations,
            ladder: Ladder::new(names),
            carriage: plan.chance.fork(),
            steering: plan.chance.fork(),
            call: String::new(),
        };
        for n in 0..world.callers.len() {
            world.caller_says(n, Vec::new());
        }
        for (n, trouble) in plan.troubles.iter().enumerate() {
            world.plan(trouble.at, Step::Trouble(n));
        }
        for at in plan.losses {
            world.plan(at, Step::Loses);
        }
        for at in plan.restarts {
            world.plan(at, Step::Restart);
        }
        (world, plan.troubles)
    }

    /// The same world, whose relays are woken each millisecond.
    pub fn at_every_tick(mut self) -> Self {
        self.ticked = Some(0);
        self
    }

    /// Runs until all is at rest.
    pub fn run(&mut self, troubles: &[Trouble]) -> Check {
        while let Some(time) = self.next_time() {
            let endless = self.steps > MOST_STEPS || time > MOST_TIME;
            ensure!(!endless, self.call, "it does not come to rest");
            self.time = self.time.max(time);
            let planned = self.queue.peek().map(|Reverse((at, ..))| *at);
            if planned.is_some_and(|at| at <= self.time) {
                let Reverse((_, _, step)) = self.queue.pop().expect("one, as just seen");
                self.steps += 1;
                self.step(step, troubles)?;
            } else {
                self.expire()?;
            }
        }
        let empty = self.balancer.is_empty();
        ensure!(empty, self.call, "something is remembered for ever");
        let (idle, begun) = (self.idle, self.monitor.tally.of("begun"));
        let rests = idle <= 50 + MOST_IDLE * begun;
        ensure!(
            rests,
            "",
            "woken {idle} times for nothing by {begun} transactions"
        );
        let (callers, destinations) = (&self.callers, &self.destinations);
        self.monitor.at_rest(callers, destinations, self.calm)
    }

    fn next_time(&self) -> Option<u64> {
        let planned = self.queue.peek().map(|Reverse((at, ..))| *at);
        let due = (0..self.balancer.workers()).filter_map(|n| self.balancer.next_due(n));
        let due = due.min().map(|due| match self.ticked {
            Some(ticked) => ticked + 1,
            None => due.saturating_sub(self.epoch),
        });
        planned.into_iter().chain(due).min()
    }

    fn step(&mut self, step: Step, troubles: &[Trouble]) -> Check {
        match step {
            Step::Arrives(arrival) => self.arrives(arrival),
            Step::HandedOver { worker, arrival } => self.reaches(worker, arrival, true),
            Step::Wakes(who) => {
                if self.wakes.get(&who) == Some(&self.time) {
                    self.wakes.remove(&who);
                }
                let mut sends = Vec::new();
                match who {
                    Who::Caller(n) => {
                        self.callers[n].wake(self.time, &mut sends);
                        self.caller_says(n, sends);
                    }
                    Who::Destination(n) => {
                        self.destinations[n].wake(self.time, &mut sends);
                        self.destination_says(n, sends);
                    }
                }
                Ok(())
            }
            Step::Undeliverable {
                worker,
                key,
                number,
            } => {
                let id = AttemptId { key, number };
                let now = self.epoch + self.time;
                let output = self.balancer.undeliverable(worker, id, now);
                self.monitor.tally.add("ICMP");
                self.balancer_says(worker, Cause::Undeliverable(id), output)
            }
            Step::Trouble(n) => {
                self.trouble(troubles[n]);
                Ok(())
            }
            Step::Loses => {
                self.balancer.lost(self.epoch + self.time);
                self.lost_at = Some(self.time);
                self.monitor.tally.add("loss here");
                self.ladder
                    .note_all(self.time, "the balancer has lost datagrams");
                Ok(())
            }
            Step::Restart => {
                self.lost_at = None;
                self.balancer.restart();
                self.monitor.restarted();
                self.monitor.tally.add("restart");
                self.ladder.note_all(self.time, "the balancer starts anew");
                Ok(())
            }
        }
    }

    fn trouble(&mut self, trouble: Trouble) {
        let Trouble {
            destination: n,
            what,
            ..
        } = trouble;
        let name = self.destinations[n].name.clone();
        let mut sends = Vec::new();
        match what {
            Happening::Crashes => {
                self.destinations[n].crash();
                self.ladder.note_all(self.time, &format!("{name} crashes"));
            }
            Happening::Becomes(condition) => {
                let note = format!("{name} is {condition:?}");
                self.ladder.note_all(self.time, &note);
                self.destinations[n].become_so(condition, self.time, &mut sends);
            }
        }
        self.destination_says(n, sends);
    }

    fn arrives(&mut self, arrival: Arrival) -> Check {
        if arrival.to == self.listen {
            let count = self.balancer.workers() as u64;
            let worker = self.steering.between(0..=count - 1) as usize;
            return self.reaches(worker, arrival, false);
        }
        let Some(message) = Message::read(&arrival.bytes) else {
            ensure!(false, "", "no message, to {}", arrival.to);
            return Ok(());
        };
        let mut sends = Vec::new();
        let time = self.time;
        let mut members = self.destinations.iter();
        if let Some(n) = members.position(|each| each.address == arrival.to) {
            let destination = &mut self.destinations[n];
            if destination.refuses() {
                self.refused(&arrival);
            } else {
                destination.receive(arrival.from, &message, time, &mut sends);
            }
            self.destination_says(n, sends);
            return Ok(());
        }
        let mut callers = self.callers.iter();
        if let Some(n) = callers.position(|each| each.address == arrival.to) {
            self.callers[n].receive(&message, time, &mut sends);
            self.caller_says(n, sends);
            return Ok(());
        }
        let call = message.call_id();
        ensure!(false, call, "sent to {}, which is nobody", arrival.to);
        Ok(())
    }

    fn refused(&mut self, arrival: &Arrival) {
        if let Some((worker, key, number)) = arrival.attempt
            && self.carriage.percent(self.icmp)
        {
            let after = self.carriage.between(0..=self.network.delay);
            self.plan(
                self.time + after,
                Step::Undeliverable {
                    worker,
                    key,
                    number,
                },
            );
        }
    }

    fn reaches(&mut self, worker: usize, arrival: Arrival, handed: bool) -> Check {
        let datagram = Datagram {
            bytes: &arrival.bytes,
            source: arrival.from,
            listener: 0,
        };
        let message = Message::read(&arrival.bytes).expect("what an endpoint wrote");
        message.call_id().clone_into(&mut self.call);
        let now = self.epoch + self.time;
        let output = self.balancer.receive(worker, &datagram, now);
        if let Some(Received::HandOver(owner)) = output.received {
            let call = message.call_id();
            let sound = owner != worker && owner < self.balancer.workers();
            ensure!(sound, call, "{worker} hands over to {owner}");
            ensure!(!handed, call, "handed over twice, to {worker} and {owner}");
            let arrival = arrival.clone();
            let step = Step::HandedOver {
                worker: owner,
                arrival,
            };
            self.plan(self.time, step);
        }
        let cause = Cause::Datagram {
            from: arrival.from,
            message: &message,
        };
        self.balancer_says(worker, cause, output)
    }

    fn expire(&mut self) -> Check {
        let now = self.epoch + self.time;
        let ticks = self.ticked.is_some();
        self.ticked = self.ticked.map(|_| self.time);
        for worker in 0..self.balancer.workers() {
            let is_due = |due| ticks || due <= now;
            if !self.balancer.next_due(worker).is_some_and(is_due) {
                continue;
            }
            let output = self.balancer.expire(worker, now);
            if ticks && output.acts.is_empty() {
                continue;
            }
            self.idle += u64::from(output.acts.is_empty());
            self.balancer_says(worker, Cause::Due, output)?;
            let next = self.balancer.next_due(worker);
            let later = next.is_none_or(|next| next > now);
            ensure!(
                later,
                self.call,
                "due at {next:?} after what was due at {now}"
            );
            let count = self.balancer.remembered(worker);
            self.monitor.remembers(worker, count, self.time)?;
        }
        Ok(())
    }

    /// Has the monitor see what the balancer did, and sends what it sent.
    fn balancer_says(&mut self, worker: usize, cause: Cause<'_>, output: Output) -> Check {
        let scene = Scene {
            time: self.time,
            worker,
            cause,
            lost_at: self.lost_at,
        };
        let seen = self.monitor.observe(&scene, &output);
        for act in output.acts {
            if let Act::Send(sent) = act {
                self.carry_sent(worker, sent);
            }
        }
        seen?;
        let share = self.monitor.promises.share;
        let count = self.balancer.remembered(worker);
        ensure!(
            count <= share,
            self.call,
            "{count} transactions, not {share}"
        );
        Ok(())
    }

    fn carry_sent(&mut self, worker: usize, sent: Sent) {
        let attempt = sent.attempt.map(|id| (worker, id.key, id.number));
        let mut bytes = sent.bytes;
        // As the shell does to have datagrams of equal length.
        if let Some(at) = sent.padding_at
            && self.carriage.percent(10)
        {
            let (head, rest) = bytes.split_at(at);
            bytes = [head, b"   ", rest].concat().into();
        }
        self.carry(self.listen, sent.to, bytes, attempt);
    }

    fn caller_says(&mut self, n: usize, sends: Vec<(SocketAddr, Message)>) {
        let from = self.callers[n].address;
        for (to, message) in sends {
            self.carry(from, to, message.write().into(), None);
        }
        let next = self.callers[n].next();
        self.wake_later(Who::Caller(n), next);
    }

    fn destination_says(&mut self, n: usize, sends: Vec<(SocketAddr, Message)>) {
        let from = self.destinations[n].address;
        for (to, message) in sends {
            self.carry(from, to, message.write().into(), None);
        }
        let next = self.destinations[n].next();
        self.wake_later(Who::Destination(n), next);
    }

    /// Unless that one is going to be woken before.
    fn wake_later(&mut self, who: Who, next: Option<u64>) {
        let Some(at) = next.map(|at| at.max(self.time)) else {
            return;
        };
        if self.wakes.get(&who).is_none_or(|planned| at < *planned) {
            self.wakes.insert(who, at);
            self.plan(at, Step::Wakes(who));
        }
    }

    fn carry(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        bytes: Rc<[u8]>,
        attempt: Option<(usize, u64, u8)>,
    ) {
        let delays = self.network.carry(&mut self.carriage);
        self.monitor.tally.add("datagrams");
        if let Some(message) = Message::read(&bytes) {
            let time = self.time;
            self.ladder
                .leaves(time, from, to, &bytes, &message, &delays);
        }
        for delay in delays {
            let arrival = Arrival {
                from,
                to,
                bytes: Rc::clone(&bytes),
                attempt,
            };
            self.plan(self.time + delay, Step::Arrives(arrival));
        }
    }

    fn plan(&mut self, at: u64, step: Step) {
        self.numbered += 1;
        self.queue.push(Reverse((at, self.numbered, step)));
    }

    /// What happened, a fingerprint of it, and how much it was.
    pub fn end(mut self) -> (Tally, u64) {
        self.monitor.tally.add_many("steps", self.steps);
        self.monitor.tally.add_many("woken for nothing", self.idle);
        (self.monitor.tally, self.ladder.trace())
    }

    /// What is known of a broken invariant.
    pub fn explain(&self, violation: &Violation) -> String {
        let call = match violation.call.as_str() {
            "" => &self.call,
            call => call,
        };
        let clock = super::ladder::clock(self.time);
        format!(
            "at {clock} s, {call}: {}\n{}",
            violation.reason,
            self.ladder.show(call)
        )
    }
}
