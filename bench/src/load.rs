//! The load generator: callers and farm in one busy-polling thread.
//!
//! Callers send requests to the balancer, the farm answers what arrives by
//! the Vias in it, the callers take the responses. Open loop: calls start when
//! they are due, and latency counts from then, so that a stall of the system
//! under load is not omitted. Closed loop: calls start while there is room in
//! the window, which saturates. It follows no timers of SIP and never
//! retransmits: what does not arrive is lost.
//!
//! All callers share one socket and the whole farm another: each address of a
//! range is an upstream peer or a destination, so that ten thousand cost no
//! more than one.

use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::process::{Pid, Signal, kill_process};

use crate::check::{self, Between, Checks};
use crate::ledger::Ledger;
use crate::message::{Kind, Pass, VARIANTS, read};
use crate::offer::{Mix, Options};
use crate::players::{Callers, Farm, request_index, response_index};
use crate::process::stands_still;
use crate::report::{Latencies, LoadReport, Messages};
use crate::schedule::Schedule;
use crate::sip::Message;
use crate::sys::{Receiver, Route, Run, Sender};

/// Calls started before the sockets are looked at again.
const BURST: usize = 256;

/// Datagrams taken by one system call.
const BATCH: usize = 128;

/// How long after the last patience ends that is noticed, in ns.
const SWEEP: u64 = 100_000_000;

/// How long a process may take to stand still once it is told to.
const HALT: Duration = Duration::from_secs(1);

/// Pieces in which callers and farm send by turns while a process is held.
const TURNS: usize = 64;

/// Up to so many peers send runs of calls each; more take turns call by call,
/// as many phones do.
const TRUNKS: u64 = 64;

/// Runs one load to its end. `at_bounds` is called as the measured time begins
/// and as it ends.
///
/// # Errors
/// Sockets that cannot be bound, a send that the kernel refuses, or what
/// `at_bounds` says.
pub(crate) fn run(options: &Options, at_bounds: impl FnMut() -> Result<()>) -> Result<LoadReport> {
    let rate = options.rate.unwrap_or(1.0);
    ensure!(rate.is_finite() && rate > 0.0, "--rate must be above zero");
    let longest = Duration::from_secs(86_400).as_secs_f64();
    ensure!(
        [options.seconds, options.warm_up, options.patience]
            .iter()
            .all(|time| (0.0..longest).contains(time)),
        "--seconds, --warm-up and --patience must lie between zero and a day"
    );
    Load::new(options)?.run(at_bounds)
}

struct Load<'a> {
    options: &'a Options,
    run: u32,
    callers: Callers,
    farm: Farm,
    sender: Sender,
    ledger: Ledger,
    checks: Checks,
    scratch: Vec<u8>,
    /// Latencies in ns.
    requests: Histogram<u64>,
    responses: Histogram<u64>,
    /// First and last ns of the measured time, and the end of the wait for what
    /// is under way then.
    from: u64,
    until: u64,
    end: u64,
    measured: u64,
    /// First requests among them.
    transactions: u64,
    /// 100s of the balancer itself that arrived in the measured time.
    own: u64,
    /// Those that it still has to send for what waits to leave.
    own_due: usize,
    /// ns of the measured time with nothing to do.
    idle: u64,
    foreign: u64,
}

/// What follows from the number of a call.
struct Traits {
    peer: u64,
    kind: Kind,
    /// Of `templates` and `tails`.
    index: usize,
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let run = run_id();
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        let [from, seconds, patience] =
            [options.warm_up, options.seconds, options.patience].map(|time| (time * 1e9) as u64);
        let until = from + seconds;
        Ok(Self {
            options,
            run,
            callers: Callers::new(options, run)?,
            farm: Farm::new(options)?,
            sender: Sender::new(),
            ledger: Ledger::new(options.trying, patience),
            checks: Checks::default(),
            scratch: Vec::new(),
            requests: histogram()?,
            responses: histogram()?,
            from,
            until,
            end: until + patience + SWEEP,
            measured: 0,
            transactions: 0,
            own: 0,
            own_due: 0,
            idle: 0,
            foreign: 0,
        })
    }

    fn run(mut self, mut at_bounds: impl FnMut() -> Result<()>) -> Result<LoadReport> {
        let mut receiver = Receiver::new(BATCH);
        let mut schedule = self
            .options
            .rate
            .map(|rate| Schedule::new(rate / self.options.mix.messages_a_call()));
        let begin = Instant::now();
        let clock = || begin.elapsed().as_nanos() as u64;
        let mut bounds = [self.from, self.until].into_iter().peekable();
        let mut before = 0;
        let mut moved = 0;
        loop {
            let now = clock();
            if moved == 0 && (self.from..self.until).contains(&now) {
                self.idle += now - before;
            }
            before = now;
            if bounds.next_if(|&bound| now >= bound).is_some() {
                at_bounds()?;
            }
            if now >= self.until && (self.ledger.in_flight() == 0 || now >= self.end) {
                break;
            }
            if now < self.until {
                match &mut schedule {
                    Some(schedule) => self.start_due(schedule, now),
                    None if self.options.hold.is_empty() => self.start_room(now),
                    None => self.start_share(now),
                }
            }
            if self.options.hold.is_empty() {
                moved = self.turn(&mut receiver, clock)?;
            } else {
                moved = self.held_turn(&mut receiver, clock)?;
            }
            self.ledger.sweep(now);
        }
        Ok(self.report())
    }

    /// Sends what waits and takes what came. Returns how much that was.
    fn turn(&mut self, receiver: &mut Receiver, clock: impl Fn() -> u64) -> Result<usize> {
        let longest = self.options.gso_run.into();
        let Callers { socket, outbox, .. } = &mut self.callers;
        let mut moved = outbox
            .flush(socket, &mut self.sender, longest)
            .context(SEND_FAILED)?;
        moved += self.take_requests(receiver, &clock)?;
        let Farm { socket, outbox, .. } = &mut self.farm;
        moved += outbox
            .flush(socket, &mut self.sender, longest)
            .context(SEND_FAILED)?;
        moved += self.take_responses(receiver, &clock)?;
        Ok(moved)
    }

    /// Sends all that waits while the held processes stand still, then takes
    /// what they make of it.
    fn held_turn(&mut self, receiver: &mut Receiver, clock: impl Fn() -> u64) -> Result<usize> {
        let hold = Hold::new(&self.options.hold)?;
        let requests = self.callers.outbox.runs(1);
        let responses = self.farm.outbox.runs(1);
        let sent = requests.len() + responses.len();
        let due = sent + mem::take(&mut self.own_due);
        for turn in 0..TURNS {
            for (runs, socket) in [
                (&requests, &self.callers.socket),
                (&responses, &self.farm.socket),
            ] {
                let part = runs.len() * turn / TURNS..runs.len() * (turn + 1) / TURNS;
                self.sender
                    .send_all(socket, &runs[part])
                    .context(SEND_FAILED)?;
            }
        }
        self.callers.outbox.clear();
        self.farm.outbox.clear();
        drop(hold);
        let end = clock() + (self.options.patience * 1e9) as u64;
        let mut taken = 0;
        while taken < due && clock() < end {
            taken += self.take_requests(receiver, &clock)?;
            taken += self.take_responses(receiver, &clock)?;
        }
        Ok(sent + taken)
    }

    /// The farm takes a batch. Returns how many datagrams that was.
    fn take_requests(&mut self, receiver: &mut Receiver, clock: impl Fn() -> u64) -> Result<usize> {
        let taken = receiver.receive(&self.farm.socket, false);
        let taken = taken.context("cannot receive")?;
        let now = clock();
        for turn in 0..taken {
            self.at_farm(receiver, shuffled(turn, taken), now);
        }
        Ok(taken)
    }

    /// The callers take a batch. Returns how many datagrams that was.
    fn take_responses(
        &mut self,
        receiver: &mut Receiver,
        clock: impl Fn() -> u64,
    ) -> Result<usize> {
        let taken = receiver.receive(&self.callers.socket, false);
        let taken = taken.context("cannot receive")?;
        let now = clock();
        for index in 0..taken {
            self.at_caller(receiver, index, now);
        }
        Ok(taken)
    }

    /// What leaves before what: passage by passage and peer by peer, for long
    /// runs; shuffled while a process is held, but a 200 behind the 180 of its call.
    fn rank(&self, number: u64, pass: Pass, peer: u64) -> u32 {
        if self.options.hold.is_empty() {
            return (pass as u32) << 16 | peer as u32;
        }
        let place = |pass| scattered((number as u32).wrapping_mul(8) | pass as u32);
        match pass {
            // Not far behind, or else a turn would begin with 180s and end with 200s.
            Pass::Answer => place(Pass::Ringing).saturating_add(place(pass) / 16),
            _ => place(pass),
        }
    }

    /// Starts the calls that are due; their time is when they were due.
    fn start_due(&mut self, schedule: &mut Schedule, now: u64) {
        for at in (0..BURST).map_while(|_| schedule.take(now)) {
            self.start_call(at);
        }
    }

    /// Starts whole runs of calls while the window has room for them.
    fn start_room(&mut self, now: u64) {
        let window = self.options.window.max(1);
        let run = u64::from(self.options.gso_run).min(window);
        while self.ledger.in_flight() + run <= window {
            (0..run).for_each(|_| self.start_call(now));
        }
    }

    /// Starts the calls of one held turn. Each goes a step further in a turn, so that
    /// some turns later there are calls at every step, and a window of messages in all.
    fn start_share(&mut self, now: u64) {
        let share = self.options.window as f64 / self.options.mix.messages_a_call();
        (0..(share as u64).max(1)).for_each(|_| self.start_call(now));
    }

    fn start_call(&mut self, at: u64) {
        let number = self.ledger.start(at);
        self.send_request(number, Pass::Request, at);
    }

    fn send_request(&mut self, number: u64, pass: Pass, at: u64) {
        self.ledger.sent(number, pass, at);
        let traits = self.traits(number);
        if self.options.trying && pass == Pass::Request && traits.kind == Kind::Call {
            self.ledger.sent(number, Pass::Trying, at);
            self.own_due += 1;
        }
        let template = &self.callers.templates[traits.index][request_index(pass)];
        let to = self.options.balancer.unwrap_or_else(|| {
            let run = number / u64::from(self.options.gso_run);
            let destination = run % u64::from(self.options.destinations);
            let first = self.options.destination_address;
            SocketAddrV4::new(nth(*first.ip(), destination), first.port())
        });
        let route = Route {
            to,
            from: Some(nth(*self.options.peer_address.ip(), traits.peer)),
        };
        let rank = self.rank(number, pass, traits.peer);
        self.callers
            .outbox
            .push(rank, route, |out| template.write(number, out));
    }

    /// Calls in a run are of one kind and length, and of one peer unless there
    /// are very many, so that they can leave as one segmented send.
    fn traits(&self, number: u64) -> Traits {
        let block = number / u64::from(self.options.gso_run);
        let peers = u64::from(self.options.peers);
        let (peer, step) = if peers <= TRUNKS {
            (block % peers, block / peers)
        } else {
            (number % peers, block)
        };
        let variant = (step * 7 + step / VARIANTS as u64) as usize % VARIANTS;
        let kind = match (self.options.mix, step % 8) {
            (Mix::Calls, 6) => Kind::Register,
            (Mix::Calls, 7) => Kind::Options,
            _ => Kind::Call,
        };
        Traits {
            peer,
            kind,
            index: kind as usize * VARIANTS + variant,
        }
    }

    /// A destination takes a request and answers it.
    fn at_farm(&mut self, receiver: &Receiver, datagram: usize, now: u64) {
        let message = receiver.datagram(datagram);
        if message.starts_with(b"OPTIONS ") && read(message, self.run).is_none() {
            return self.answer_probe(receiver, datagram);
        }
        let Some((number, pass)) = self.arrived(message, now, true) else {
            return;
        };
        if number % check::SAMPLE == 0 {
            self.check_request(receiver, datagram, number, pass);
        }
        let to = self
            .options
            .balancer
            .unwrap_or_else(|| receiver.source(datagram));
        let kind = self.traits(number).kind;
        let answers: &[Pass] = match (pass, kind, self.options.mix) {
            (Pass::Request, Kind::Call, Mix::Calls) if !self.options.trying => {
                &[Pass::Trying, Pass::Ringing, Pass::Answer]
            }
            (Pass::Request, Kind::Call, Mix::Calls | Mix::Transactions) => {
                &[Pass::Ringing, Pass::Answer]
            }
            (Pass::Request, _, Mix::Ringing) => &[Pass::Ringing],
            (Pass::Request, ..) => &[Pass::Answer],
            (Pass::Bye, ..) => &[Pass::ByeAnswer],
            _ => &[],
        };
        for &answer in answers {
            self.send_response(number, answer, Route { to, from: None }, message, now);
        }
    }

    /// A request that is none of ours, and wants to know whether the
    /// destination is there. It is answered at once, for nothing comes of it
    /// that would be waited for.
    fn answer_probe(&mut self, receiver: &Receiver, datagram: usize) {
        let Some(probe) = Message::read(receiver.datagram(datagram)) else {
            self.foreign += 1;
            return;
        };
        let answer = probe.answer("200 OK", "there", "");
        let run = Run {
            octets: answer.as_bytes(),
            segment: answer.len(),
            route: Route {
                to: receiver.source(datagram),
                from: receiver.destination(datagram),
            },
        };
        // One that does not leave is a probe that fails.
        let _ = self.sender.send(&self.farm.socket, &[run]);
    }

    fn send_response(&mut self, number: u64, pass: Pass, route: Route, request: &[u8], now: u64) {
        self.ledger.sent(number, pass, now);
        let rank = self.rank(number, pass, 0);
        let tail = &self.farm.tails[self.traits(number).index][response_index(pass)];
        self.farm
            .outbox
            .push(rank, route, |out| tail.write(request, number, out));
    }

    /// A caller takes a response and goes on with its call.
    fn at_caller(&mut self, receiver: &Receiver, datagram: usize, now: u64) {
        let message = receiver.datagram(datagram);
        let Some((number, pass)) = self.arrived(message, now, false) else {
            return;
        };
        if number % check::SAMPLE == 0 {
            self.check_response(receiver, datagram, number, pass);
        }
        let follow: &[Pass] = match (pass, self.traits(number).kind, self.options.mix) {
            (Pass::Answer, Kind::Call, Mix::Calls) => &[Pass::Ack, Pass::Bye],
            (Pass::Answer, Kind::Call, Mix::Transactions) => &[Pass::Ack],
            _ => &[],
        };
        for &request in follow {
            self.send_request(number, request, now);
        }
    }

    /// Notes an arrival; `None` if the message is none that is waited for.
    fn arrived(&mut self, message: &[u8], now: u64, request: bool) -> Option<(u64, Pass)> {
        let read = read(message, self.run).filter(|(_, pass)| pass.is_request() == request);
        let Some((number, pass)) = read else {
            self.foreign += 1;
            return None;
        };
        let intended = self.ledger.received(number, pass)?;
        let measured = u64::from((self.from..self.until).contains(&now));
        if self.options.trying && pass == Pass::Trying {
            self.own += measured;
            return Some((number, pass));
        }
        self.measured += measured;
        if pass == Pass::Request {
            self.transactions += measured;
        }
        if (self.from..self.until).contains(&intended) {
            let histogram = if request {
                &mut self.requests
            } else {
                &mut self.responses
            };
            histogram.saturating_record(now.saturating_sub(intended));
        }
        Some((number, pass))
    }

    fn between(&self) -> Between {
        match self.options.balancer {
            Some(balancer) if !self.options.bare => Between::Proxy(balancer),
            _ => Between::Bare,
        }
    }

    fn check_request(&mut self, receiver: &Receiver, datagram: usize, number: u64, pass: Pass) {
        let message = receiver.datagram(datagram);
        let first = *self.options.destination_address.ip();
        let index = receiver
            .destination(datagram)
            .map_or(u32::MAX, |ip| u32::from(ip).wrapping_sub(first.into()));
        let between = self.between();
        self.rewrite(number, pass);
        let known = index < u32::from(self.options.destinations);
        // Who is stateful may have tried another one.
        let kept = self.options.trying
            || matches!(between, Between::Bare)
            || self.ledger.keeps_destination(number, index as usize);
        let result = check::request(message, &self.scratch, between)
            .and_then(|()| check::expect(known, "it came to an address of no destination"))
            .and_then(|()| check::expect(kept, "the call changed its destination"));
        self.checks.note(result, message);
    }

    fn check_response(&mut self, receiver: &Receiver, datagram: usize, number: u64, pass: Pass) {
        let message = receiver.datagram(datagram);
        let answered = match pass {
            Pass::ByeAnswer => Pass::Bye,
            _ => Pass::Request,
        };
        self.rewrite(number, answered);
        let peer = nth(*self.options.peer_address.ip(), self.traits(number).peer);
        let right = self.options.bare || receiver.destination(datagram) == Some(peer);
        let own = self.options.trying && pass == Pass::Trying;
        let mut left = Vec::new();
        let tail = &self.farm.tails[self.traits(number).index][response_index(pass)];
        tail.write(&self.scratch, number, &mut left);
        let filling = self.options.mix == Mix::Equal;
        let result = check::response(message, &self.scratch)
            .and_then(|()| match own {
                true => Ok(()),
                false => check::unchanged(message, &left, filling),
            })
            .and_then(|()| check::expect(right, "the response went to another caller"));
        self.checks.note(result, message);
    }

    /// Puts the request `pass` of call `number` into `scratch`, as it was sent.
    fn rewrite(&mut self, number: u64, pass: Pass) {
        let index = self.traits(number).index;
        self.scratch.clear();
        self.callers.templates[index][request_index(pass)].write(number, &mut self.scratch);
    }

    fn report(mut self) -> LoadReport {
        self.ledger.close();
        let totals = self.ledger.totals();
        let measured = (self.until - self.from).max(1) as f64;
        LoadReport {
            seconds: self.options.seconds,
            offered_rate: self.options.rate,
            rate: self.measured as f64 / self.options.seconds,
            transactions: self.transactions,
            own: self.own,
            generator_busy_percent: 100.0 - 100.0 * self.idle as f64 / measured,
            calls: totals.calls,
            messages: Messages::new(totals, self.foreign),
            checks: self.checks,
            latency: Latencies::new(&self.requests, &self.responses),
        }
    }
}

const SEND_FAILED: &str = "cannot send (without UDP segmentation in the kernel: --gso-run 1)";

/// Processes that stand still until this is dropped.
struct Hold(Vec<Pid>);

impl Hold {
    fn new(processes: &[u32]) -> Result<Self> {
        let pid = |id: u32| Pid::from_raw(id.try_into().ok()?);
        let mut hold = Self(Vec::new());
        for &id in processes {
            let unheld = || format!("cannot hold process {id}");
            let pid = pid(id).with_context(unheld)?;
            kill_process(pid, Signal::STOP).with_context(unheld)?;
            hold.0.push(pid);
        }
        let begin = Instant::now();
        for &id in processes {
            while !stands_still(id)? {
                ensure!(begin.elapsed() < HALT, "process {id} does not stand still");
                thread::yield_now();
            }
        }
        Ok(hold)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // Whose process is gone is noticed by what does not come through.
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

/// Each number at another place, and neighbours far apart (the finalizer of MurmurHash3).
fn scattered(mut number: u32) -> u32 {
    number = (number ^ number >> 16).wrapping_mul(0x85eb_ca6b);
    number = (number ^ number >> 13).wrapping_mul(0xc2b2_ae35);
    number ^ number >> 16
}

/// The order in which the farm answers a batch: not as it came, for
/// destinations do not wait for each other.
fn shuffled(turn: usize, count: usize) -> usize {
    const STEP: usize = 17;
    if count.is_multiple_of(STEP) {
        turn
    } else {
        turn * STEP % count
    }
}

/// The address `n` behind `first`.
fn nth(first: Ipv4Addr, n: u64) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first).wrapping_add(n as u32))
}

/// A number that no other load has at about this time.
pub(crate) fn run_id() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_micros() as u32).wrapping_add(process::id().rotate_left(16))
}
