//! One destination: a process of its own, so that it can be killed and
//! stopped. It answers calls as a user agent does (RFC 3261 §13.3, §17.2.1)
//! and does what it is told on its standard input.

use std::collections::HashMap;
use std::io::{ErrorKind, stdin};
use std::net::{SocketAddrV4, UdpSocket};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use crate::sip::{Message, Pending, Start, TRANSACTION, Timers, address, parameter};
use crate::sys::{Route, Run, Sender, bound};

/// How long to wait for a datagram before looking at the timers.
const NAP: Duration = Duration::from_millis(2);

/// What it is told.
pub(crate) const BUSY: &str = "answer 503";
pub(crate) const NORMAL: &str = "answer calls";

/// What it says when it is ready.
pub(crate) const READY: &str = "ready";

/// Where the branch is told that the INVITE came with, so that a caller can
/// tell at which attempt it was answered.
pub(crate) const BRANCH: &str = "X-Branch";

/// Which destination to play.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Where it listens
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddrV4,
}

/// An INVITE and what became of it.
struct Call {
    invite: Vec<u8>,
    pending: Option<Pending>,
    /// It has got its final response.
    answered: bool,
    acknowledged: bool,
}

struct Destination {
    socket: UdpSocket,
    listen: SocketAddrV4,
    busy: Arc<AtomicBool>,
    /// By the number in our To tag.
    calls: HashMap<u32, Call>,
    /// The numbers of INVITEs by their branch.
    branches: HashMap<String, u32>,
    /// How many calls there were.
    count: u32,
    timers: Timers<(u32, Event)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// To send again what is [`Pending`].
    Repeat,
    Forget,
}

/// Plays a destination until its standard input ends.
///
/// # Errors
/// The address is not to be had, or the socket fails.
pub(crate) fn run(options: &Options) -> Result<()> {
    let listen = options.listen;
    let socket = bound(listen).with_context(|| format!("cannot listen on {listen}"))?;
    socket.set_read_timeout(Some(NAP))?;
    let busy = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&busy);
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            told.store(line == BUSY, Ordering::Relaxed);
        }
        process::exit(0);
    });
    eprintln!("{READY}");
    let mut destination = Destination {
        socket,
        listen,
        busy,
        calls: HashMap::new(),
        branches: HashMap::new(),
        count: 0,
        timers: Timers::new(),
    };
    let begin = Instant::now();
    let mut buffer = vec![0; 65_536];
    loop {
        let taken = destination.socket.recv(&mut buffer);
        let now = begin.elapsed().as_nanos() as u64;
        match taken {
            Ok(length) => destination.take(&buffer[..length], now)?,
            Err(error) if is_passing(error.kind()) => {}
            Err(error) => return Err(error).context("cannot receive"),
        }
        destination.timers(now)?;
    }
}

/// A timeout or a signal.
fn is_passing(kind: ErrorKind) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(kind, WouldBlock | TimedOut | Interrupted)
}

impl Destination {
    fn take(&mut self, octets: &[u8], now: u64) -> Result<()> {
        let Some(message) = Message::read(octets) else {
            return Ok(());
        };
        let Start::Request(method) = message.start else {
            return Ok(());
        };
        let branch = parameter(message.row("Via"), "branch").unwrap_or_default();
        let known = self.branches.get(branch).copied();
        match (method, known) {
            ("INVITE", None) => self.ring(octets, &message, branch, now),
            ("INVITE", Some(number)) => self.invited_again(number),
            ("CANCEL", Some(number)) => self.cancel(&message, number, now),
            ("ACK", _) => {
                let number = known.or_else(|| self.dialog(&message));
                if let Some(call) = number.and_then(|number| self.calls.get_mut(&number)) {
                    call.acknowledged = true;
                    call.pending = None;
                }
                Ok(())
            }
            // A caller whose ACK is lost on the way has no call here.
            ("BYE", _) => {
                let number = self.dialog(&message);
                let call = number.and_then(|number| self.calls.get(&number));
                let status = match call.is_some_and(|call| call.acknowledged) {
                    true => "200 OK",
                    false => "481 No Such Call",
                };
                self.answer(&message, status, "none")
            }
            // A probe (§11.2).
            ("OPTIONS", _) => self.answer(&message, "200 OK", "none"),
            _ => self.answer(&message, "481 No Such Transaction", "none"),
        }
    }

    /// A new call.
    fn ring(&mut self, octets: &[u8], invite: &Message<'_>, branch: &str, now: u64) -> Result<()> {
        self.count += 1;
        let number = self.count;
        let call = Call {
            invite: octets.to_vec(),
            pending: None,
            answered: false,
            acknowledged: false,
        };
        self.calls.insert(number, call);
        self.branches.insert(branch.to_owned(), number);
        self.timers
            .set(now + 2 * TRANSACTION, (number, Event::Forget));
        if self.busy.load(Ordering::Relaxed) {
            return self.finally(number, &[], "503 Service Unavailable", now);
        }
        let ringing = invite.answer("180 Ringing", &tag(number), "");
        self.finally(number, &[&ringing], "200 OK", now)
    }

    fn invited_again(&mut self, number: u32) -> Result<()> {
        let Some(call) = self.calls.get(&number) else {
            return Ok(());
        };
        if call.acknowledged {
            return Ok(());
        }
        let last = call.pending.as_ref().map(|pending| pending.octets.clone());
        let Some(invite) = Message::read(&call.invite) else {
            return Ok(());
        };
        let text = last.unwrap_or_else(|| invite.answer("180 Ringing", &tag(number), ""));
        self.send(&[&text], invite.row("Via"))
    }

    fn cancel(&mut self, cancel: &Message<'_>, number: u32, now: u64) -> Result<()> {
        self.answer(cancel, "200 OK", &tag(number))?;
        self.finally(number, &[], "487 Request Terminated", now)
    }

    /// Gives a call its final response, once, behind what goes `before` it.
    fn finally(
        &mut self,
        number: u32,
        before: &[&str],
        status: &'static str,
        now: u64,
    ) -> Result<()> {
        let Some(call) = self.calls.get_mut(&number).filter(|call| !call.answered) else {
            return Ok(());
        };
        let Some(invite) = Message::read(&call.invite) else {
            return Ok(());
        };
        let contact = format!("sip:desk@{}", self.listen);
        let text = invite.answer(status, &tag(number), &contact);
        let via = invite.row("Via");
        let branch = parameter(via, "branch").unwrap_or_default();
        let text = text.replacen("Contact:", &format!("{BRANCH}: {branch}\r\nContact:"), 1);
        let pending = Pending::new(status, text, via.to_owned(), now);
        call.answered = true;
        self.timers.set(pending.at, (number, Event::Repeat));
        let pending = call.pending.insert(pending).clone();
        self.send(&[before, &[&pending.octets]].concat(), &pending.hop)
    }

    fn timers(&mut self, now: u64) -> Result<()> {
        while let Some((number, event)) = self.timers.due(now) {
            match event {
                Event::Repeat => self.again(number, now)?,
                Event::Forget => self.forget(number),
            }
        }
        Ok(())
    }

    fn again(&mut self, number: u32, now: u64) -> Result<()> {
        let call = self.calls.get_mut(&number);
        let pending = call.and_then(|call| call.pending.as_mut());
        let Some(pending) = pending.filter(|one| one.at <= now) else {
            return Ok(());
        };
        if !pending.again(now) {
            return Ok(());
        }
        self.timers.set(pending.at, (number, Event::Repeat));
        let pending = pending.clone();
        self.send(&[&pending.octets], &pending.hop)
    }

    fn forget(&mut self, number: u32) {
        let call = self.calls.remove(&number);
        let invite = call.as_ref().and_then(|call| Message::read(&call.invite));
        let branch = invite.and_then(|invite| parameter(invite.row("Via"), "branch"));
        branch.map(|branch| self.branches.remove(branch));
    }

    /// The number of the call that a request within a dialog belongs to.
    fn dialog(&self, message: &Message<'_>) -> Option<u32> {
        let own = parameter(message.row("To"), "tag")?;
        let number = own.strip_suffix(&suffix())?.strip_prefix('d')?;
        number.parse().ok()
    }

    fn answer(&self, request: &Message<'_>, status: &str, tag: &str) -> Result<()> {
        self.send(&[&request.answer(status, tag, "")], request.row("Via"))
    }

    /// Sends by one system call, which no signal comes into: a call that has
    /// rung at a destination that dies is moved by nobody (RFC 3261 §16.7
    /// item 1), so none may be left ringing.
    fn send(&self, messages: &[&str], via: &str) -> Result<()> {
        let Some(to) = address(via) else {
            return Ok(());
        };
        let route = Route { to, from: None };
        let runs = messages.iter().map(|message| Run {
            octets: message.as_bytes(),
            segment: message.len(),
            route,
        });
        let runs: Vec<_> = runs.collect();
        match Sender::new().send_all(&self.socket, &runs) {
            Err(error) if !is_passing(error.kind()) => {
                Err(error).with_context(|| format!("cannot send to {to}"))
            }
            _ => Ok(()),
        }
    }
}

/// The To tag of a call: of this process, for the one before knew others.
fn tag(number: u32) -> String {
    format!("d{number}{}", suffix())
}

fn suffix() -> String {
    format!("-{}", process::id())
}
