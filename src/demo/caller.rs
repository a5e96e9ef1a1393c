//! The caller: a thread that makes whole calls at a fixed rate, whatever
//! becomes of them, and says of each how it ended.
//!
//! INVITE, 180, 200, ACK, a short pause, BYE, 200. A request without a
//! response is sent again, and given up after a few seconds.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::message::{self, Dialog, is_method, status};
use super::tally::Shared;
use super::wire::{self, GIVE_UP, T1, Timers};
use super::{Plan, SERVERS};
use crate::sip::{MAX_DATAGRAM, Message, scan};

/// How long a call lasts once it is answered.
const TALK: Duration = Duration::from_millis(250);

/// A caller at work.
pub(super) struct Running(JoinHandle<io::Result<Vec<Ended>>>);

/// How a call ended, and which server had answered it, if one had.
#[derive(Clone, Copy)]
pub(super) struct Ended {
    pub(super) outcome: Outcome,
    pub(super) answered_by: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every request of it was answered by 200.
    Completed,
    /// One of its requests got no final response in time.
    Lost,
    /// One of its requests was answered by something else.
    Refused,
}

/// Begins to make calls.
pub(super) fn start(
    socket: UdpSocket,
    caller: Arc<message::Caller>,
    servers: [SocketAddr; SERVERS],
    plan: Plan,
    tally: Arc<Shared>,
) -> io::Result<Running> {
    let calls = Calls {
        socket,
        caller,
        servers,
        tally,
        calls: Vec::new(),
        open: 0,
        timers: Timers::new(),
    };
    let thread = thread::Builder::new()
        .name("caller".to_owned())
        .spawn(move || calls.make(plan))?;
    Ok(Running(thread))
}

impl Running {
    pub(super) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end of all calls; they are in the order of their numbers.
    pub(super) fn join(self) -> io::Result<Vec<Ended>> {
        let panicked = |_| io::Error::other("the caller panicked");
        self.0.join().map_err(panicked)?
    }
}

struct Calls {
    socket: UdpSocket,
    caller: Arc<message::Caller>,
    servers: [SocketAddr; SERVERS],
    tally: Arc<Shared>,
    /// By number.
    calls: Vec<Call>,
    /// How many of them have not ended.
    open: usize,
    timers: Timers<usize>,
}

struct Call {
    step: Step,
    /// When its latest request was sent for the first time.
    sent: Instant,
    /// When something is to be done about it.
    due: Instant,
    interval: Duration,
    dialog: Option<Dialog>,
    answered_by: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Inviting,
    Ringing,
    Talking,
    Leaving,
    Ended(Outcome),
}

impl Calls {
    fn make(mut self, plan: Plan) -> io::Result<Vec<Ended>> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let start = Instant::now();
        let begins = |number| start + Duration::from_secs_f64(number as f64 / f64::from(plan.rate));
        while self.calls.len() < plan.calls() || self.open > 0 {
            let next = (self.calls.len() < plan.calls()).then(|| begins(self.calls.len()));
            let due = [next, self.timers.next()].into_iter().flatten().min();
            if let Some((length, _)) = wire::receive(&self.socket, &mut buffer, due)?
                && let Ok(message) = scan(&buffer[..length])
            {
                self.response(&message)?;
            }
            let now = Instant::now();
            while self.calls.len() < plan.calls() && begins(self.calls.len()) <= now {
                self.begin(now)?;
            }
            while let Some((due, number)) = self.timers.take(now) {
                if self.calls[number].due == due {
                    self.overdue(number, now)?;
                }
            }
        }
        let ended = |call: &Call| match call.step {
            Step::Ended(outcome) => Some(Ended {
                outcome,
                answered_by: call.answered_by,
            }),
            _ => None,
        };
        Ok(self.calls.iter().filter_map(ended).collect())
    }

    fn begin(&mut self, now: Instant) -> io::Result<()> {
        let number = self.calls.len();
        self.calls.push(Call {
            step: Step::Inviting,
            sent: now,
            due: now,
            interval: T1,
            dialog: None,
            answered_by: None,
        });
        self.open += 1;
        self.tally.lock().counts.begun += 1;
        self.send(number, now)
    }

    /// Sends the request that the call waits to have answered.
    fn send(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let call = &mut self.calls[number];
        let request = match &call.dialog {
            Some(dialog) => self.caller.bye(number, dialog),
            None => self.caller.invite(number),
        };
        self.socket.send_to(&request, self.caller.proxy)?;
        call.due = (now + call.interval).min(call.sent + GIVE_UP);
        call.interval *= 2;
        self.timers.add(call.due, number);
        Ok(())
    }

    fn overdue(&mut self, number: usize, now: Instant) -> io::Result<()> {
        let call = &mut self.calls[number];
        match call.step {
            Step::Ended(_) => Ok(()),
            Step::Talking => {
                (call.step, call.sent, call.interval) = (Step::Leaving, now, T1);
                self.send(number, now)
            }
            _ if now >= call.sent + GIVE_UP => {
                self.end(number, Outcome::Lost);
                Ok(())
            }
            _ => {
                self.tally.lock().counts.repeated += 1;
                self.send(number, now)
            }
        }
    }

    fn response(&mut self, message: &Message<'_>) -> io::Result<()> {
        let call_id = message.call_id.value.of(message.bytes);
        let (Some(status), Some(number)) = (status(message), self.caller.number(call_id)) else {
            return Ok(());
        };
        let Some(call) = self
            .calls
            .get_mut(number)
            .filter(|_| message.fault.is_none())
        else {
            return Ok(());
        };
        let now = Instant::now();
        let invited = is_method(message, b"INVITE");
        let awaited = match call.step {
            Step::Inviting | Step::Ringing => invited,
            Step::Leaving => !invited,
            Step::Talking | Step::Ended(_) => false,
        };
        {
            let mut tally = self.tally.lock();
            tally.counts.classes[usize::from(status / 100 - 1)] += 1;
            if awaited && call.step != Step::Ringing {
                let waited = now.duration_since(call.sent).as_micros() as u64;
                tally.latency.saturating_record(waited);
            }
        }
        match (status, awaited) {
            (100..200, true) if invited => {
                // No more repeating (§17.1.1.2), but no endless waiting either.
                (call.step, call.due) = (Step::Ringing, call.sent + GIVE_UP);
                self.timers.add(call.due, number);
            }
            (200..300, true) if invited => return self.answered(number, message, now),
            (200..300, true) => self.end(number, Outcome::Completed),
            // The ACK was lost (§13.2.2.4).
            (200..300, false) if invited => return self.acknowledge(number),
            (300.., true) => self.end(number, Outcome::Refused),
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, number: usize, message: &Message<'_>, now: Instant) -> io::Result<()> {
        let Some((dialog, server)) = message::dialog(message) else {
            self.end(number, Outcome::Refused);
            return Ok(());
        };
        let call = &mut self.calls[number];
        call.answered_by = self.servers.iter().position(|&known| known == server);
        if let Some(server) = call.answered_by {
            self.tally.lock().counts.answered[server] += 1;
        }
        call.dialog = Some(dialog);
        (call.step, call.due) = (Step::Talking, now + TALK);
        self.timers.add(call.due, number);
        self.acknowledge(number)
    }

    fn acknowledge(&self, number: usize) -> io::Result<()> {
        if let Some(dialog) = &self.calls[number].dialog {
            let ack = self.caller.ack(number, dialog);
            self.socket.send_to(&ack, self.caller.proxy)?;
        }
        Ok(())
    }

    fn end(&mut self, number: usize, outcome: Outcome) {
        let call = &mut self.calls[number];
        call.step = Step::Ended(outcome);
        call.dialog = None;
        self.open -= 1;
        let counts = &mut self.tally.lock().counts;
        match outcome {
            Outcome::Completed => counts.completed += 1,
            Outcome::Lost => counts.lost += 1,
            Outcome::Refused => counts.refused += 1,
        }
    }
}
