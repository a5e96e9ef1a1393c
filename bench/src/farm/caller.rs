//! Callers: user agents as RFC 3261 has them be, that retransmit, follow the
//! route set of their dialogs, and count what they meet.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use super::Player;
use super::destination::BRANCH;
use crate::sip::{
    Dialog, Message, Pending, SECOND, Start, TRANSACTION, Timers, address, branch, parameter,
};
use crate::sys::{Receiver, bound};

/// Datagrams taken at once.
const BATCH: usize = 256;

/// How long a call is held between ACK and BYE.
const HELD: u64 = SECOND;

/// How long a caller waits for its call to be answered: longer than any
/// transaction takes.
const EXPIRES: u64 = TRANSACTION + 8 * SECOND;

/// Where the callers are.
pub(crate) const CALLER: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    /// Calls without a 2xx, by what the caller got instead.
    pub(crate) failed: BTreeMap<String, u64>,
    /// Answered, held and ended.
    pub(crate) completed: u64,
    /// Answered by a destination that was killed before their end.
    pub(crate) lost_with_it: u64,
    /// BYEs of other calls that were not answered 2xx, by what came instead.
    pub(crate) not_ended: BTreeMap<String, u64>,
    /// Answered by another destination than the first that was chosen.
    pub(crate) moved: u64,
    /// Calls that a second destination answered too; the caller hung up there.
    pub(crate) answered_twice: u64,
    /// INVITEs that callers sent again because nothing came in time.
    pub(crate) retransmissions: u64,
    /// From the INVITE to the 2xx, in milliseconds.
    pub(crate) setup_p50_ms: f64,
    pub(crate) setup_p99_ms: f64,
    pub(crate) setup_max_ms: f64,
    /// The longest time in which the callers did nothing, for something else
    /// had the cores.
    pub(crate) held_up_ms: u64,
}

impl Figures {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Calls that could not be ended although their destination lived.
    pub(crate) fn cut(&self) -> u64 {
        self.not_ended.values().sum()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Inviting,
    Answered,
    HangingUp,
    Over,
}

struct Call {
    dialog: Dialog,
    stage: Stage,
    started: u64,
    pending: Option<Pending>,
    /// Who has it.
    home: Option<SocketAddrV4>,
    /// That one was killed.
    orphaned: bool,
    /// That one was not the first that was chosen.
    moved: bool,
    /// To tags of those that answered it later.
    others: Vec<String>,
}

/// When a call began, and who took it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) started: u64,
    /// `None`: nobody.
    pub(crate) home: Option<SocketAddrV4>,
    /// Another destination was chosen first.
    pub(crate) moved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// To send again what is [`Pending`].
    Repeat,
    HangUp,
    /// The caller would have given up.
    Expire,
}

pub(crate) struct Callers {
    socket: UdpSocket,
    receiver: Receiver,
    own: SocketAddrV4,
    balancer: SocketAddrV4,
    /// Whether a branch is that of a first attempt.
    is_first: fn(&str) -> bool,
    run: u32,
    calls: Vec<Call>,
    timers: Timers<(usize, Event)>,
    /// The destination that is dead.
    dead: Option<SocketAddrV4>,
    going_on: u64,
    setup: Histogram<u64>,
    figures: Figures,
}

impl Callers {
    /// # Errors
    /// No socket.
    pub(crate) fn new(balancer: SocketAddrV4, is_first: fn(&str) -> bool) -> Result<Self> {
        let socket = bound(SocketAddrV4::new(CALLER, 0))?;
        let port = socket.local_addr()?.port();
        Ok(Self {
            socket,
            receiver: Receiver::new(BATCH),
            own: SocketAddrV4::new(CALLER, port),
            balancer,
            is_first,
            run: crate::load::run_id(),
            calls: Vec::new(),
            timers: Timers::new(),
            dead: None,
            going_on: 0,
            setup: Histogram::new_with_bounds(1, 120_000_000, 3)?,
            figures: Figures::default(),
        })
    }

    /// A destination was killed: the dialogs that it had are lost with it.
    pub(crate) fn killed(&mut self, destination: SocketAddrV4) {
        self.dead = Some(destination);
        for call in &mut self.calls {
            call.orphaned |= call.home == self.dead;
        }
    }

    /// It is there again, and knows nothing.
    pub(crate) fn back(&mut self) {
        self.dead = None;
    }

    fn again(&mut self, number: usize, now: u64) -> Result<()> {
        let pending = self.calls[number].pending.as_mut();
        let Some(pending) = pending.filter(|one| one.at <= now) else {
            return Ok(());
        };
        if !pending.again(now) {
            self.end(number, "nothing came");
            return Ok(());
        }
        self.figures.retransmissions += u64::from(pending.what == "INVITE");
        self.timers.set(pending.at, (number, Event::Repeat));
        let pending = pending.clone();
        self.send(&pending.octets, &pending.hop)
    }

    fn hang_up(&mut self, number: usize, now: u64) -> Result<()> {
        let call = &mut self.calls[number];
        call.stage = Stage::HangingUp;
        let bye = call
            .dialog
            .request("BYE", 2, &branch(self.run, number, "b"));
        let hop = call.dialog.next_hop().to_owned();
        self.repeat(number, Pending::new("BYE", bye, hop, now))
    }

    fn take(&mut self, octets: &[u8], now: u64) -> Result<()> {
        let Some(message) = Message::read(octets) else {
            return Ok(());
        };
        let number = message.number(self.run);
        let number = number.filter(|&one| one < self.calls.len());
        let (Start::Response(status), Some(number)) = (message.start, number) else {
            return Ok(());
        };
        let stage = self.calls[number].stage;
        match (message.cseq_method(), status, stage) {
            // Proceeding: no more retransmissions (§17.1.1.2).
            ("INVITE", ..200, Stage::Inviting) => {
                self.calls[number].pending = None;
                Ok(())
            }
            ("INVITE", 200..300, Stage::Inviting) => self.answered(number, &message, now),
            ("INVITE", 200..300, _) => self.answered_again(number, &message),
            ("INVITE", 300.., _) => self.refused(number, status, &message),
            ("BYE", 200.., Stage::HangingUp) => {
                let said = format!("answered {status}");
                self.end(number, if status < 300 { "" } else { &said });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn answered(&mut self, number: usize, answer: &Message<'_>, now: u64) -> Result<()> {
        let call = &mut self.calls[number];
        call.stage = Stage::Answered;
        call.pending = None;
        call.dialog = call.dialog.confirmed(answer);
        call.home = address(&call.dialog.target);
        call.orphaned = call.home.is_some() && call.home == self.dead;
        let took = (now - call.started) / 1000;
        self.setup.saturating_record(took);
        call.moved = !(self.is_first)(answer.row(BRANCH));
        self.figures.moved += u64::from(call.moved);
        self.timers.set(now + HELD, (number, Event::HangUp));
        self.acknowledge(number)
    }

    /// A 2xx that came again is acknowledged again; one of another
    /// destination is a dialog that nobody wants (§13.2.2.4).
    fn answered_again(&mut self, number: usize, answer: &Message<'_>) -> Result<()> {
        let call = &mut self.calls[number];
        let tag = parameter(answer.row("To"), "tag").unwrap_or_default();
        if parameter(&call.dialog.to, "tag") == Some(tag) {
            return self.acknowledge(number);
        }
        let is_new = !call.others.iter().any(|one| one == tag);
        if is_new {
            self.figures.answered_twice += u64::from(call.others.is_empty());
            call.others.push(tag.to_owned());
        }
        let dialog = call.dialog.confirmed(answer);
        let request = |method, cseq, which| {
            let text = dialog.request(method, cseq, &branch(self.run, number, which));
            self.send(&text, dialog.next_hop())
        };
        request("ACK", 1, "y")?;
        if is_new {
            request("BYE", 2, "z")?;
        }
        Ok(())
    }

    fn acknowledge(&self, number: usize) -> Result<()> {
        let dialog = &self.calls[number].dialog;
        let ack = dialog.request("ACK", 1, &branch(self.run, number, "a"));
        self.send(&ack, dialog.next_hop())
    }

    fn refused(&mut self, number: usize, status: u16, answer: &Message<'_>) -> Result<()> {
        let call = &self.calls[number];
        let dialog = call.dialog.refused(answer);
        let ack = dialog.request("ACK", 1, &branch(self.run, number, "i"));
        if call.stage == Stage::Inviting {
            self.end(number, &format!("answered {status}"));
        }
        self.send(&ack, &format!("sip:{}", self.balancer))
    }

    /// Ends a call, for this `reason` if it did not go as it should.
    fn end(&mut self, number: usize, reason: &str) {
        let call = &mut self.calls[number];
        let figures = &mut self.figures;
        match (call.stage, reason) {
            (Stage::Inviting, _) => *figures.failed.entry(reason.to_owned()).or_default() += 1,
            (_, "") => figures.completed += 1,
            _ if call.orphaned => figures.lost_with_it += 1,
            _ => *figures.not_ended.entry(reason.to_owned()).or_default() += 1,
        }
        call.stage = Stage::Over;
        call.pending = None;
        self.going_on -= 1;
    }

    /// Sends now, and again until it is answered.
    fn repeat(&mut self, number: usize, pending: Pending) -> Result<()> {
        self.timers.set(pending.at, (number, Event::Repeat));
        self.send(&pending.octets, &pending.hop)?;
        self.calls[number].pending = Some(pending);
        Ok(())
    }

    fn send(&self, octets: &str, hop: &str) -> Result<()> {
        let to = address(hop).with_context(|| format!("no address: {hop}"))?;
        let sent = self.socket.send_to(octets.as_bytes(), to);
        sent.with_context(|| format!("cannot send to {to}"))?;
        Ok(())
    }

    /// All calls so far, in the order in which they began.
    pub(crate) fn records(&self) -> Vec<Record> {
        let record = |call: &Call| Record {
            started: call.started,
            home: call.home,
            moved: call.moved,
        };
        self.calls.iter().map(record).collect()
    }

    pub(crate) fn figures(&self) -> Figures {
        let milliseconds = |microseconds: u64| microseconds as f64 / 1000.0;
        Figures {
            setup_p50_ms: milliseconds(self.setup.value_at_quantile(0.5)),
            setup_p99_ms: milliseconds(self.setup.value_at_quantile(0.99)),
            setup_max_ms: milliseconds(self.setup.max()),
            ..self.figures.clone()
        }
    }
}

impl Player for Callers {
    fn start(&mut self, now: u64) -> Result<()> {
        let number = self.calls.len();
        let dialog = Dialog::first(self.run, number, self.own, self.balancer);
        let invite = dialog.request("INVITE", 1, &branch(self.run, number, "i"));
        self.calls.push(Call {
            dialog,
            stage: Stage::Inviting,
            started: now,
            pending: None,
            home: None,
            orphaned: false,
            moved: false,
            others: Vec::new(),
        });
        self.figures.calls += 1;
        self.going_on += 1;
        self.timers.set(now + EXPIRES, (number, Event::Expire));
        let hop = format!("sip:{}", self.balancer);
        self.repeat(number, Pending::new("INVITE", invite, hop, now))
    }

    fn receive(&mut self, now: u64) -> Result<usize> {
        let taken = self.receiver.receive(&self.socket, false);
        let taken = taken.context("cannot receive")?;
        for index in 0..taken {
            let octets = self.receiver.datagram(index).to_vec();
            self.take(&octets, now)?;
        }
        Ok(taken)
    }

    fn timers(&mut self, now: u64) -> Result<()> {
        while let Some((number, event)) = self.timers.due(now) {
            match event {
                Event::Repeat => self.again(number, now)?,
                Event::HangUp => self.hang_up(number, now)?,
                Event::Expire if self.calls[number].stage == Stage::Inviting => {
                    self.end(number, "no final response");
                }
                Event::Expire => {}
            }
        }
        Ok(())
    }

    fn going_on(&self) -> u64 {
        self.going_on
    }

    fn held_up(&mut self, milliseconds: u64) {
        self.figures.held_up_ms = self.figures.held_up_ms.max(milliseconds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;

    /// A caller, and a socket that the test answers it from.
    fn scene() -> (Callers, UdpSocket) {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = server.local_addr().expect("an address").port();
        let balancer = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let callers = Callers::new(balancer, |branch| branch == "first").expect("a socket");
        (callers, server)
    }

    /// The next request, answered with these statuses, each with its To tag.
    fn answer(callers: &mut Callers, server: &UdpSocket, answers: &[(&str, &str)]) -> String {
        let mut buffer = [0; 4096];
        let (length, source) = server.recv_from(&mut buffer).expect("a request");
        let request = Message::read(&buffer[..length]).expect("SIP");
        let here = format!("sip:desk@{}", callers.balancer);
        for (status, tag) in answers {
            let text = request.answer(status, tag, &here);
            server.send_to(text.as_bytes(), source).expect("a response");
            while callers.receive(0).expect("what came") == 0 {}
        }
        match request.start {
            Start::Request(method) => method.to_owned(),
            Start::Response(_) => panic!("a response"),
        }
    }

    #[test]
    fn a_call_is_answered_acknowledged_held_and_ended() {
        let (mut callers, server) = scene();
        callers.start(0).expect("an INVITE");
        let answers = [("180 Ringing", "a"), ("200 OK", "a"), ("200 OK", "a")];
        answer(&mut callers, &server, &answers);
        assert_eq!(answer(&mut callers, &server, &[]), "ACK");
        assert_eq!(answer(&mut callers, &server, &[]), "ACK");
        callers.timers(HELD).expect("what is due");
        let bye = answer(&mut callers, &server, &[("200 OK", "")]);
        let figures = callers.figures();
        assert_eq!((bye.as_str(), callers.going_on()), ("BYE", 0));
        assert_eq!((figures.completed, figures.failures()), (1, 0));
        // The answer did not say that it was the first attempt's.
        assert_eq!(figures.moved, 1);
    }

    #[test]
    fn what_is_refused_or_never_answered_fails() {
        let (mut callers, server) = scene();
        callers.start(0).expect("an INVITE");
        answer(&mut callers, &server, &[("486 Busy Here", "a")]);
        assert_eq!(answer(&mut callers, &server, &[]), "ACK");
        callers.start(0).expect("an INVITE");
        answer(&mut callers, &server, &[("180 Ringing", "a")]);
        callers.start(0).expect("an INVITE");
        for half in 0..100 {
            callers.timers(half * SECOND / 2).expect("what is due");
        }
        let figures = callers.figures();
        assert_eq!((callers.going_on(), figures.failures()), (0, 3));
        let wanted = [("answered 486", 1), ("no final response", 2)];
        let wanted = wanted.map(|(reason, count)| (reason.to_owned(), count));
        assert_eq!(figures.failed, BTreeMap::from(wanted));
        // RFC 3261 §17.1.1.2: at 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s; none
        // after a provisional response.
        assert_eq!(figures.retransmissions, 6);
    }

    #[test]
    fn a_second_answer_is_hung_up_and_a_killed_destination_is_told_apart() {
        let (mut callers, server) = scene();
        for _ in 0..2 {
            callers.start(0).expect("an INVITE");
        }
        let answers = [("200 OK", "a"), ("200 OK", "b"), ("200 OK", "b")];
        answer(&mut callers, &server, &answers);
        let requests = [(); 5].map(|()| answer(&mut callers, &server, &[]));
        // The second INVITE; one that comes again is acknowledged, and ended once.
        assert_eq!(requests, ["INVITE", "ACK", "ACK", "BYE", "ACK"]);
        server.set_nonblocking(true).expect("an option");
        let more = server.recv(&mut [0; 4096]).map_err(|error| error.kind());
        assert_eq!(more, Err(ErrorKind::WouldBlock));
        callers.killed(callers.balancer);
        callers.timers(HELD).expect("what is due");
        for half in 0..200 {
            callers.timers(half * SECOND / 2).expect("what is due");
        }
        let figures = callers.figures();
        assert_eq!(figures.answered_twice, 1);
        assert_eq!((figures.lost_with_it, figures.failures()), (1, 1));
        assert!(figures.not_ended.is_empty());
    }
}
