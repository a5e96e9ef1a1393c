//! The load generator: callers and farm in one busy-polling thread.
//!
//! Callers send requests to the balancer, the farm answers what arrives by
//! the Vias in it, the callers take the responses. Open loop: calls start when
//! they are due, and latency counts from then, so that a stall of the system
//! under load is not omitted. Closed loop: calls start while there is room in
//! the window, which saturates. It follows no timers of SIP and never
//! retransmits: what does not arrive is lost.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use socket2::SockRef;

use crate::check::{self, Between, Checks};
use crate::ledger::Ledger;
use crate::message::{Pass, Tail, Template, VARIANTS, call_number};
use crate::outbox::Outbox;
use crate::report::{Latencies, LoadReport, Messages};
use crate::schedule::Schedule;
use crate::sys::{Receiver, Sender};

/// `SO_RCVBUF` that is asked for, in octets; the kernel grants up to
/// `net.core.rmem_max`.
pub(crate) const RECEIVE_BUFFER: usize = 4 << 20;

/// Calls started before the sockets are looked at again.
const BURST: usize = 256;

/// How long to wait for what is under way at the end, in ns.
const DRAIN: u64 = 600_000_000;

/// What to send, how much of it and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the balancer listens
    #[arg(long, value_name = "ADDR")]
    pub(crate) balancer: SocketAddr,
    /// Upstream sockets that calls come from, in turn
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) peers: u16,
    /// Destinations in the farm
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) destinations: u16,
    /// Port of the first destination; the others follow
    #[arg(long, default_value_t = 5071, value_name = "PORT")]
    pub(crate) destination_base_port: u16,
    /// What a call consists of
    #[arg(long, value_enum, default_value_t = Mix::Requests)]
    pub(crate) mix: Mix,
    /// Open loop: messages a second to offer, responses counted
    #[arg(long, value_name = "MESSAGES/S", conflicts_with = "window")]
    pub(crate) rate: Option<f64>,
    /// Closed loop: messages in flight
    #[arg(long, default_value_t = 256, value_name = "MESSAGES")]
    pub(crate) window: u64,
    /// Time measured
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    pub(crate) seconds: f64,
    /// Time before that in which nothing is measured
    #[arg(long, default_value_t = 0.3, value_name = "S")]
    pub(crate) warm_up: f64,
    /// Messages of equal length that leave as one segmented send; 1 for none
    #[arg(long, default_value_t = 8, value_name = "MESSAGES", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) gso_run: u16,
    /// What lies between changes nothing in a message
    #[arg(long)]
    pub(crate) bare: bool,
}

/// The messages of a call, each of which passes the balancer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mix {
    /// INVITE and 200: a request and a response, both with a body
    Requests,
    /// INVITE, 180, 200, ACK, BYE, 200
    Calls,
}

impl Mix {
    fn messages_a_call(self) -> f64 {
        match self {
            Self::Requests => 2.0,
            Self::Calls => 6.0,
        }
    }
}

/// Runs one load to its end.
///
/// # Errors
/// Sockets that cannot be bound, or a send that the kernel refuses.
pub(crate) fn run(options: &Options) -> Result<LoadReport> {
    let rate = options.rate.unwrap_or(1.0);
    ensure!(rate.is_finite() && rate > 0.0, "--rate must be above zero");
    let longest = Duration::from_secs(86_400).as_secs_f64();
    ensure!(
        (0.0..longest).contains(&options.seconds) && (0.0..longest).contains(&options.warm_up),
        "--seconds and --warm-up must lie between zero and a day"
    );
    Load::new(options)?.run()
}

struct Caller {
    socket: UdpSocket,
    /// For each variant INVITE, ACK and BYE.
    templates: Vec<[Template; 3]>,
    /// Leaves before `second`; each then has its own runs of equal length.
    first: Outbox,
    second: Outbox,
}

struct Destination {
    socket: UdpSocket,
    ringing: Tail,
    answer: Tail,
    bye_answer: Tail,
    first: Outbox,
    second: Outbox,
}

struct Load<'a> {
    options: &'a Options,
    run: u32,
    callers: Vec<Caller>,
    farm: Vec<Destination>,
    sender: Sender,
    ledger: Ledger,
    checks: Checks,
    scratch: Vec<u8>,
    /// Latencies in ns.
    requests: Histogram<u64>,
    responses: Histogram<u64>,
    /// First and last ns of the measured time.
    from: u64,
    until: u64,
    measured: u64,
    foreign: u64,
    refused: u64,
}

impl<'a> Load<'a> {
    fn new(options: &'a Options) -> Result<Self> {
        let run = run_id();
        let callers = (0..options.peers)
            .map(|_| Caller::new(options.balancer, run))
            .collect::<Result<_>>()?;
        let farm = (0..options.destinations)
            .map(|index| {
                let port = options
                    .destination_base_port
                    .checked_add(index)
                    .context("there is no port above 65535 for a destination")?;
                Destination::new(options.balancer, port)
            })
            .collect::<Result<_>>()?;
        let histogram = || Histogram::new_with_bounds(1, 60_000_000_000, 3);
        let from = (options.warm_up * 1e9) as u64;
        Ok(Self {
            options,
            run,
            callers,
            farm,
            sender: Sender::new(),
            ledger: Ledger::new(),
            checks: Checks::default(),
            scratch: Vec::new(),
            requests: histogram()?,
            responses: histogram()?,
            from,
            until: from + (options.seconds * 1e9) as u64,
            measured: 0,
            foreign: 0,
            refused: 0,
        })
    }

    fn run(mut self) -> Result<LoadReport> {
        let mut receiver = Receiver::new();
        let mut schedule = self
            .options
            .rate
            .map(|rate| Schedule::new(rate / self.options.mix.messages_a_call()));
        let begin = Instant::now();
        let clock = || begin.elapsed().as_nanos() as u64;
        loop {
            let now = clock();
            if now >= self.until && (self.ledger.in_flight() == 0 || now >= self.until + DRAIN) {
                break;
            }
            if now < self.until {
                match &mut schedule {
                    Some(schedule) => self.start_due(schedule, now),
                    None => self.start_room(now),
                }
            }
            self.flush_callers()?;
            for index in 0..self.farm.len() {
                let taken = self.take(&mut receiver, |load| &load.farm[index].socket)?;
                let now = clock();
                for datagram in 0..taken {
                    self.at_farm(index, receiver.datagram(datagram), now);
                }
            }
            self.flush_farm()?;
            for index in 0..self.callers.len() {
                let taken = self.take(&mut receiver, |load| &load.callers[index].socket)?;
                let now = clock();
                for datagram in 0..taken {
                    self.at_caller(index, receiver.datagram(datagram), now);
                }
            }
            self.ledger.sweep(now);
        }
        Ok(self.report())
    }

    /// Starts the calls that are due; their time is when they were due.
    fn start_due(&mut self, schedule: &mut Schedule, now: u64) {
        for at in (0..BURST).map_while(|_| schedule.take(now)) {
            self.start_call(at);
        }
    }

    /// Starts whole runs of calls while the window has room for them.
    fn start_room(&mut self, now: u64) {
        let run = u64::from(self.options.gso_run).min(self.options.window.max(1));
        while self.ledger.in_flight() + run <= self.options.window.max(1) {
            (0..run).for_each(|_| self.start_call(now));
        }
    }

    fn start_call(&mut self, at: u64) {
        let number = self.ledger.start(at);
        self.ledger.sent(number, Pass::Invite, at);
        let (peer, variant) = self.peer_and_variant(number);
        let caller = &mut self.callers[peer];
        let template = &caller.templates[variant][0];
        caller.first.push(|out| template.write(number, out));
    }

    /// Neighbours in a run share the socket and the size, so that they can
    /// leave as one segmented send.
    fn peer_and_variant(&self, number: u64) -> (usize, usize) {
        let block = number as usize / usize::from(self.options.gso_run);
        let variant = (block * 7 + block / VARIANTS) % VARIANTS;
        (block % self.callers.len(), variant)
    }

    /// Receives one batch from the socket that `of` names; 0 if none is there.
    fn take(&mut self, receiver: &mut Receiver, of: impl Fn(&Self) -> &UdpSocket) -> Result<usize> {
        use std::io::ErrorKind::{ConnectionRefused, WouldBlock};
        match receiver.receive(of(self), false) {
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == WouldBlock => Ok(0),
            Err(error) if error.kind() == ConnectionRefused => {
                self.refused += 1;
                Ok(0)
            }
            Err(error) => Err(error).context("cannot receive"),
        }
    }

    /// A destination takes a request and answers it.
    fn at_farm(&mut self, index: usize, message: &[u8], now: u64) {
        let Some((number, pass)) = self.arrived(message, now, true) else {
            return;
        };
        if number % check::SAMPLE == 0 {
            self.check_request(index, message, number, pass);
        }
        let mix = self.options.mix;
        let farm = &mut self.farm[index];
        match pass {
            Pass::Invite => {
                if mix == Mix::Calls {
                    self.ledger.sent(number, Pass::Ringing, now);
                    farm.first
                        .push(|out| farm.ringing.write(message, number, out));
                }
                self.ledger.sent(number, Pass::Answer, now);
                farm.second
                    .push(|out| farm.answer.write(message, number, out));
            }
            Pass::Bye => {
                self.ledger.sent(number, Pass::ByeAnswer, now);
                farm.second
                    .push(|out| farm.bye_answer.write(message, number, out));
            }
            _ => {}
        }
    }

    /// A caller takes a response and goes on with its call.
    fn at_caller(&mut self, index: usize, message: &[u8], now: u64) {
        let Some((number, pass)) = self.arrived(message, now, false) else {
            return;
        };
        if number % check::SAMPLE == 0 {
            self.check_response(index, message, number, pass);
        }
        if pass == Pass::Answer && self.options.mix == Mix::Calls {
            let (peer, variant) = self.peer_and_variant(number);
            let caller = &mut self.callers[peer];
            let [_, ack, bye] = &caller.templates[variant];
            self.ledger.sent(number, Pass::Ack, now);
            caller.first.push(|out| ack.write(number, out));
            self.ledger.sent(number, Pass::Bye, now);
            caller.second.push(|out| bye.write(number, out));
        }
    }

    /// Notes an arrival; `None` if the message is none that is waited for.
    fn arrived(&mut self, message: &[u8], now: u64, request: bool) -> Option<(u64, Pass)> {
        let number = call_number(message, self.run);
        let pass = Pass::of(message).filter(|pass| pass.is_request() == request);
        let (Some(number), Some(pass)) = (number, pass) else {
            self.foreign += 1;
            return None;
        };
        let intended = self.ledger.received(number, pass)?;
        if (self.from..self.until).contains(&now) {
            self.measured += 1;
        }
        if (self.from..self.until).contains(&intended) {
            let histogram = if request {
                &mut self.requests
            } else {
                &mut self.responses
            };
            histogram.saturating_record(now - intended);
        }
        Some((number, pass))
    }

    fn check_request(&mut self, index: usize, message: &[u8], number: u64, pass: Pass) {
        let between = if self.options.bare {
            Between::Bare
        } else {
            Between::Proxy(self.options.balancer)
        };
        self.rewrite(number, pass);
        let kept = self.options.bare || self.ledger.keeps_destination(number, index);
        let result = check::request(message, &self.scratch, between)
            .and_then(|()| check::expect(kept, "the call changed its destination"));
        self.checks.note(result, message);
    }

    fn check_response(&mut self, index: usize, message: &[u8], number: u64, pass: Pass) {
        let answered = match pass {
            Pass::ByeAnswer => Pass::Bye,
            _ => Pass::Invite,
        };
        self.rewrite(number, answered);
        let right = self.peer_and_variant(number).0 == index;
        let result = check::response(message, &self.scratch)
            .and_then(|()| check::expect(right, "the response went to another caller"));
        self.checks.note(result, message);
    }

    /// Puts the request `pass` of call `number` into `scratch`, as it was sent.
    fn rewrite(&mut self, number: u64, pass: Pass) {
        let (peer, variant) = self.peer_and_variant(number);
        let [invite, ack, bye] = &self.callers[peer].templates[variant];
        let template = match pass {
            Pass::Ack => ack,
            Pass::Bye => bye,
            _ => invite,
        };
        self.scratch.clear();
        template.write(number, &mut self.scratch);
    }

    fn flush_callers(&mut self) -> Result<()> {
        let longest = self.options.gso_run.into();
        for caller in &mut self.callers {
            for outbox in [&mut caller.first, &mut caller.second] {
                self.refused += outbox
                    .flush(&caller.socket, &mut self.sender, longest)
                    .context(SEND_FAILED)?;
            }
        }
        Ok(())
    }

    fn flush_farm(&mut self) -> Result<()> {
        let longest = self.options.gso_run.into();
        for farm in &mut self.farm {
            for outbox in [&mut farm.first, &mut farm.second] {
                self.refused += outbox
                    .flush(&farm.socket, &mut self.sender, longest)
                    .context(SEND_FAILED)?;
            }
        }
        Ok(())
    }

    fn report(mut self) -> LoadReport {
        self.ledger.close();
        let totals = self.ledger.totals();
        LoadReport {
            seconds: self.options.seconds,
            offered_rate: self.options.rate,
            rate: self.measured as f64 / self.options.seconds,
            calls: totals.calls,
            messages: Messages::new(totals, self.foreign, self.refused),
            checks: self.checks,
            latency: Latencies::new(&self.requests, &self.responses),
        }
    }
}

const SEND_FAILED: &str = "cannot send (without UDP segmentation in the kernel: --gso-run 1)";

impl Caller {
    fn new(balancer: SocketAddr, run: u32) -> Result<Self> {
        let socket = connected(balancer, 0)?;
        let address = socket.local_addr()?;
        let request = |pass, variant| Template::request(pass, variant, address, run);
        let templates = (0..VARIANTS)
            .map(|variant| [Pass::Invite, Pass::Ack, Pass::Bye].map(|pass| request(pass, variant)))
            .collect();
        Ok(Self {
            socket,
            templates,
            first: Outbox::default(),
            second: Outbox::default(),
        })
    }
}

impl Destination {
    fn new(balancer: SocketAddr, port: u16) -> Result<Self> {
        let socket = connected(balancer, port)?;
        let address = socket.local_addr()?;
        Ok(Self {
            socket,
            ringing: Tail::new(Pass::Ringing, address),
            answer: Tail::new(Pass::Answer, address),
            bye_answer: Tail::new(Pass::ByeAnswer, address),
            first: Outbox::default(),
            second: Outbox::default(),
        })
    }
}

/// A socket on `port` of the local address that leads to `balancer`,
/// connected to it: sends are cheaper, and a refusal is noticed.
fn connected(balancer: SocketAddr, port: u16) -> Result<UdpSocket> {
    let any: IpAddr = match balancer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket =
        UdpSocket::bind((any, port)).with_context(|| format!("cannot bind UDP port {port}"))?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket
        .connect(balancer)
        .with_context(|| format!("no way to {balancer}"))?;
    Ok(socket)
}

/// A number that no other load has at about this time.
fn run_id() -> u32 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    (now.as_micros() as u32).wrapping_add(process::id().rotate_left(16))
}
