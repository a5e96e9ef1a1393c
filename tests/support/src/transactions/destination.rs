//! Destinations: user agents by RFC 3261 §17.2, §13.3 and RFC 6026, of all
//! tempers, that stall, crash and come back.

use std::net::SocketAddr;

use super::agenda::Agenda;
use super::chance::Chance;
use super::message::{Message, address};

const T1: u64 = 500;
const T2: u64 = 4000;
/// Timer H, and how long a 2xx is sent again.
const PATIENCE: u64 = 64 * T1;

/// How a destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    Up,
    /// What comes waits until it goes on.
    Stalled,
    /// What comes is lost.
    Silent,
    /// What comes is lost, and its sender is told by ICMP.
    Refused,
    /// New work is answered 503, with these seconds in Retry-After.
    Overloaded(Option<u64>),
}

/// What a destination makes of an INVITE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Conduct {
    Answers,
    /// Two phones behind it answer.
    Forks,
    Refuses(u16),
    RingsForever,
}

/// How a destination behaves while it is up.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// Weights: answers, forks, 486, 603, 302, 480, rings for ever.
    pub conduct: [u64; 7],
    /// Whether everything is sent twice.
    pub twice: bool,
    /// Percentage of requests with a first response later than usual.
    pub late: u64,
}

pub struct Destination {
    pub address: SocketAddr,
    pub name: String,
    pub condition: Condition,
    /// How often it has lost its memory.
    pub crashes: u64,
    /// When its condition last changed to another than [`Condition::Up`].
    pub troubled: Option<u64>,
    /// Calls as they are; those of before a crash are gone.
    pub calls: Vec<Call>,
    /// What it was sent that no peer may send.
    pub complaint: Option<(String, String)>,
    temper: Temper,
    chance: Chance,
    agenda: Agenda<Due>,
    inbox: Vec<(SocketAddr, Message)>,
    others: Vec<(String, Option<Message>)>,
    tags: u64,
}

/// A server transaction of INVITE.
pub struct Call {
    pub request: Message,
    pub state: State,
    pub provisional_sent: bool,
    from: SocketAddr,
    tag: String,
    conduct: Conduct,
    last: Option<Message>,
    interval: u64,
    pub answers: Vec<Answer>,
}

/// A 2xx that is sent again until its ACK.
pub struct Answer {
    tag: String,
    response: Message,
    interval: u64,
    pub acknowledged: bool,
    pub given_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Proceeding,
    /// A failure was sent.
    Completed,
    /// It was acknowledged.
    Confirmed,
    /// It never was.
    GivenUp,
    Accepted,
}

#[derive(PartialEq)]
enum Due {
    Try(usize),
    Ring(usize, u16),
    Final(usize),
    Fork(usize),
    G(usize),
    H(usize),
    Again(usize, usize),
    NoAck(usize, usize),
    Wait(usize, u16),
    Other(usize, u16),
}

pub type Sends = Vec<(SocketAddr, Message)>;

impl Destination {
    pub fn new(address: SocketAddr, name: String, temper: Temper, chance: Chance) -> Self {
        Self {
            address,
            name,
            condition: Condition::Up,
            crashes: 0,
            troubled: None,
            calls: Vec::new(),
            complaint: None,
            temper,
            chance,
            agenda: Agenda::new(),
            inbox: Vec::new(),
            others: Vec::new(),
            tags: 0,
        }
    }

    /// Whether it may take long to say anything although nothing is wrong.
    pub fn is_slow(&self) -> bool {
        self.temper.late > 0
    }

    pub fn next(&self) -> Option<u64> {
        // One that is stalled does nothing of what is due.
        let runs = self.condition != Condition::Stalled;
        runs.then(|| self.agenda.next()).flatten()
    }

    pub fn wake(&mut self, now: u64, sends: &mut Sends) {
        if self.condition == Condition::Stalled {
            return;
        }
        while let Some(due) = self.agenda.take(now) {
            self.act(due, now, sends);
        }
    }

    /// Becomes so; what had waited is done then.
    pub fn become_so(&mut self, condition: Condition, now: u64, sends: &mut Sends) {
        if condition != Condition::Up {
            self.troubled = Some(now);
        }
        self.condition = condition;
        if condition == Condition::Up {
            for (from, message) in std::mem::take(&mut self.inbox) {
                self.receive(from, &message, now, sends);
            }
            self.wake(now, sends);
        }
    }

    pub fn crash(&mut self) {
        self.crashes += 1;
        self.calls.clear();
        self.others.clear();
        self.inbox.clear();
        self.agenda.clear();
    }

    /// Whether the sender learns that this datagram reached nobody.
    pub fn refuses(&self) -> bool {
        self.condition == Condition::Refused
    }

    pub fn receive(&mut self, from: SocketAddr, message: &Message, now: u64, sends: &mut Sends) {
        match self.condition {
            Condition::Stalled => return self.inbox.push((from, message.clone())),
            Condition::Silent | Condition::Refused => return,
            Condition::Up | Condition::Overloaded(_) => {}
        }
        match message.method() {
            _ if !message.is_request() => {}
            "INVITE" => self.invited(from, message, now, sends),
            "ACK" => self.acknowledged(message),
            "CANCEL" => self.cancelled(from, message, now, sends),
            _ => self.asked(from, message, now, sends),
        }
    }

    fn act(&mut self, due: Due, now: u64, sends: &mut Sends) {
        match due {
            Due::Try(n) => self.progress(n, 100, sends),
            Due::Ring(n, status) => self.progress(n, status, sends),
            Due::Final(n) => match self.calls[n].conduct {
                _ if self.calls[n].state != State::Proceeding => {}
                Conduct::Answers => self.accept(n, now, sends),
                Conduct::Forks => {
                    self.accept(n, now, sends);
                    let after = self.chance.between(0..=3000);
                    self.agenda.set(now + after, Due::Fork(n));
                }
                Conduct::Refuses(status) => self.fail(n, status, &[], now, sends),
                Conduct::RingsForever => {}
            },
            Due::Fork(n) => self.accept(n, now, sends),
            Due::G(n) => {
                let call = &mut self.calls[n];
                let failure = call.last.clone().expect("a failure");
                call.interval = (2 * call.interval).min(T2);
                self.agenda.set(now + call.interval, Due::G(n));
                let to = call.from;
                self.say(to, failure, sends);
            }
            Due::H(n) => {
                self.agenda.drop(&Due::G(n));
                self.calls[n].state = State::GivenUp;
            }
            Due::Again(n, a) => {
                let (to, answer) = (self.calls[n].from, &mut self.calls[n].answers[a]);
                answer.interval = (2 * answer.interval).min(T2);
                let response = answer.response.clone();
                self.agenda.set(now + answer.interval, Due::Again(n, a));
                self.say(to, response, sends);
            }
            Due::NoAck(n, a) => {
                self.agenda.drop(&Due::Again(n, a));
                let answer = &mut self.calls[n].answers[a];
                answer.given_up = !answer.acknowledged;
            }
            Due::Wait(n, status) => {
                if let Some(request) = self.others[n].1.as_ref().filter(|m| m.is_request()) {
                    let (to, response) =
                        (reply_address(request), request.response(status, None, &[]));
                    self.say(to, response, sends);
                }
            }
            Due::Other(n, status) => {
                // The request is kept where its response is going to be.
                let Some(request) = self.others[n].1.take() else {
                    return;
                };
                let tag = self.new_tag();
                let response = request.response(status, Some(&tag), &self.contact());
                self.others[n].1 = Some(response.clone());
                let to = reply_address(&request);
                self.say(to, response, sends);
            }
        }
    }

    fn invited(&mut self, from: SocketAddr, request: &Message, now: u64, sends: &mut Sends) {
        let is_its = |call: &Call| call.request.branch(0) == request.branch(0);
        if let Some(call) = self.calls.iter().find(|call| is_its(call)) {
            // RFC 6026 §7.1: once it is accepted, only the 2xx speaks.
            if let (true, Some(last)) = (call.answers.is_empty(), &call.last) {
                let (to, last) = (call.from, last.clone());
                self.say(to, last, sends);
            }
            return;
        }
        let within = !request.to_tag().is_empty();
        let refusal = match self.condition {
            _ if within => (!self.knows(request)).then_some(481),
            _ if self.is_merged(request) => Some(482),
            Condition::Overloaded(_) => Some(503),
            _ => None,
        };
        let tag = self.new_tag();
        let n = self.calls.len();
        self.calls.push(Call {
            request: request.clone(),
            state: State::Proceeding,
            provisional_sent: false,
            from,
            tag,
            conduct: Conduct::Answers,
            last: None,
            interval: T1,
            answers: Vec::new(),
        });
        if let Some(status) = refusal {
            let retry = match self.condition {
                Condition::Overloaded(Some(seconds)) => {
                    vec![("Retry-After", format!("{seconds} (busy);duration=60"))]
                }
                _ => Vec::new(),
            };
            return self.fail(n, status, &retry, now, sends);
        }
        if within {
            return self.accept(n, now, sends);
        }
        self.plan(n, now);
    }

    fn plan(&mut self, n: usize, now: u64) {
        let chance = &mut self.chance;
        let [answers, forks, busy, declines, moved, away, rings] = self.temper.conduct;
        self.calls[n].conduct = chance.weighted(&[
            (answers, Conduct::Answers),
            (forks, Conduct::Forks),
            (busy, Conduct::Refuses(486)),
            (declines, Conduct::Refuses(603)),
            (moved, Conduct::Refuses(302)),
            (away, Conduct::Refuses(480)),
            (rings, Conduct::RingsForever),
        ]);
        let mut at = now;
        at += if chance.percent(self.temper.late) {
            chance.between(700..=9000)
        } else {
            chance.between(0..=150)
        };
        let tries = chance.percent(70);
        if tries {
            self.agenda.set(at, Due::Try(n));
        }
        let rings = self.calls[n].conduct == Conduct::RingsForever || chance.percent(85);
        if rings {
            at += chance.between(0..=300);
            let mut again = at;
            for _ in 0..chance.between(1..=3) {
                self.agenda
                    .set(again, Due::Ring(n, chance.pick(&[180, 180, 183])));
                again += chance.between(500..=60_000);
            }
        }
        at += match chance.between(0..=9) {
            // Who needs time says so (§13.3.1.1).
            _ if !tries && !rings => 0,
            0..3 => 0,
            3..8 => chance.between(200..=6000),
            _ => chance.between(6000..=40_000),
        };
        self.agenda.set(at, Due::Final(n));
    }

    fn progress(&mut self, n: usize, status: u16, sends: &mut Sends) {
        let contact = self.contact();
        let call = &mut self.calls[n];
        if call.state != State::Proceeding {
            return;
        }
        call.provisional_sent = true;
        // With a tag on the 100 too, which tells it from the balancer's own.
        let response = call.request.response(status, Some(&call.tag), &contact);
        call.last = Some(response.clone());
        let to = call.from;
        self.say(to, response, sends);
    }

    fn fail(
        &mut self,
        n: usize,
        status: u16,
        more: &[(&str, String)],
        now: u64,
        sends: &mut Sends,
    ) {
        let call = &mut self.calls[n];
        let response = call.request.response(status, Some(&call.tag), more);
        call.last = Some(response.clone());
        call.state = State::Completed;
        let to = call.from;
        self.agenda.set(now + T1, Due::G(n));
        self.agenda.set(now + PATIENCE, Due::H(n));
        self.say(to, response, sends);
    }

    /// A 2xx: the first with the tag that it rang with, the next with others.
    fn accept(&mut self, n: usize, now: u64, sends: &mut Sends) {
        let a = self.calls[n].answers.len();
        let tag = if a == 0 {
            self.calls[n].tag.clone()
        } else {
            self.new_tag()
        };
        let contact = self.contact();
        let call = &mut self.calls[n];
        let response = call.request.response(200, Some(&tag), &contact);
        call.state = State::Accepted;
        call.answers.push(Answer {
            tag: response.to_tag().to_owned(),
            response: response.clone(),
            interval: T1,
            acknowledged: false,
            given_up: false,
        });
        let to = call.from;
        self.agenda.set(now + T1, Due::Again(n, a));
        self.agenda.set(now + PATIENCE, Due::NoAck(n, a));
        self.say(to, response, sends);
    }

    fn acknowledged(&mut self, ack: &Message) {
        let branch = ack.branch(0);
        for (n, call) in self.calls.iter_mut().enumerate() {
            if call.request.branch(0) == branch {
                let told = call.last.as_ref().map_or("", Message::to_tag);
                if call.state == State::Completed {
                    call.state = State::Confirmed;
                    self.agenda.drop(&Due::G(n));
                    self.agenda.drop(&Due::H(n));
                }
                if call.answers.is_empty() && ack.to_tag() != told {
                    let said = format!("an ACK with the tag {}, not {told}", ack.to_tag());
                    self.complaint = Some((ack.call_id().to_owned(), said));
                }
                return;
            }
            let same_request =
                call.request.call_id() == ack.call_id() && call.request.cseq() == ack.cseq();
            for (a, answer) in call.answers.iter_mut().enumerate() {
                if same_request && answer.tag == ack.to_tag() {
                    answer.acknowledged = true;
                    self.agenda.drop(&Due::Again(n, a));
                }
            }
        }
    }

    fn cancelled(&mut self, from: SocketAddr, cancel: &Message, now: u64, sends: &mut Sends) {
        let branch = cancel.branch(0);
        let mut calls = self.calls.iter();
        let Some(n) = calls.position(|call| call.request.branch(0) == branch) else {
            let tag = self.new_tag();
            let response = cancel.response(481, Some(&tag), &[]);
            return self.say(from, response, sends);
        };
        let response = cancel.response(200, Some(&self.calls[n].tag), &[]);
        self.say(from, response, sends);
        if self.calls[n].state == State::Proceeding {
            self.fail(n, 487, &[], now, sends);
        }
    }

    /// Any other request.
    fn asked(&mut self, from: SocketAddr, request: &Message, now: u64, sends: &mut Sends) {
        let key = format!("{} {}", request.method(), request.branch(0));
        if let Some((_, response)) = self.others.iter().find(|(each, _)| *each == key) {
            if let Some(response) = response.clone().filter(|response| !response.is_request()) {
                self.say(from, response, sends);
            }
            return;
        }
        let n = self.others.len();
        self.others.push((key, Some(request.clone())));
        let status = match self.condition {
            _ if !request.to_tag().is_empty() => 481 - 281 * u16::from(self.knows(request)),
            Condition::Overloaded(_) => 503,
            _ => self.chance.weighted(&[(9, 200), (1, 404)]),
        };
        let after = if self.chance.percent(self.temper.late) {
            self.chance.between(700..=9000)
        } else {
            self.chance.between(0..=150)
        };
        if after > 500 && self.chance.percent(50) {
            let soon = self.chance.between(0..=after);
            let status = self.chance.pick(&[100, 100, 182]);
            self.agenda.set(now + soon, Due::Wait(n, status));
        }
        self.agenda.set(now + after, Due::Other(n, status));
    }

    fn knows(&self, request: &Message) -> bool {
        let mut answers = self.calls.iter().flat_map(|call| &call.answers);
        answers.any(|answer| answer.tag == request.to_tag())
    }

    /// §8.2.2.2.
    fn is_merged(&self, request: &Message) -> bool {
        let key = |message: &Message| {
            let from = message.sender_tag().to_owned();
            (message.call_id().to_owned(), from, message.cseq())
        };
        let mut calls = self.calls.iter();
        calls.any(|call| key(&call.request) == key(request))
    }

    fn say(&self, to: SocketAddr, message: Message, sends: &mut Sends) {
        if self.temper.twice {
            sends.push((to, message.clone()));
        }
        sends.push((to, message));
    }

    fn contact(&self) -> [(&'static str, String); 1] {
        [("Contact", format!("<sip:{}>", self.address))]
    }

    fn new_tag(&mut self) -> String {
        self.tags += 1;
        format!("{}.{}", self.name.replace(' ', ""), self.tags)
    }
}

/// Where a response to `request` goes.
fn reply_address(request: &Message) -> SocketAddr {
    let via = request.header("Via").split(';').next();
    let sent_by = via.and_then(|via| via.split(' ').nth(1)).unwrap_or("");
    address(&format!("sip:{sent_by}")).expect("an address as sent-by")
}
