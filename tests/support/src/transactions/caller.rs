//! Callers: user agents over UDP by RFC 3261 §17.1, §9.1, §13.2, each with
//! one call or one other request.

use std::net::SocketAddr;

use super::agenda::Agenda;
use super::message::{Common, Message, address};

const T1: u64 = 500;
const T2: u64 = 4000;
/// Timers B and F, and how long a CANCEL is given to have an effect.
const PATIENCE: u64 = 64 * T1;

/// What a caller is going to do.
#[derive(Clone, Copy, Debug)]
pub struct Errand {
    pub at: u64,
    pub method: &'static str,
    /// When the caller hangs up while it still rings.
    pub cancels_after: Option<u64>,
    /// When the caller vanishes without a word.
    pub dies_after: Option<u64>,
    /// How long an answered call lasts.
    pub talks: u64,
    /// When an answered call is changed by another INVITE.
    pub changes_after: Option<u64>,
    /// Whether the INVITE has a Timestamp.
    pub timestamp: bool,
    /// Whether branches are those of RFC 2543.
    pub old: bool,
    /// Octets in the body of its first request.
    pub body: usize,
}

pub struct Caller {
    pub errand: Errand,
    pub address: SocketAddr,
    pub call_id: String,
    pub dead: bool,
    pub invites: Vec<Invite>,
    pub others: Vec<Other>,
    balancer: SocketAddr,
    number: usize,
    agenda: Agenda<Due>,
    dialogs: Vec<Dialog>,
    branches: u32,
    cseq: u32,
}

/// A client transaction of INVITE.
pub struct Invite {
    pub request: Message,
    to: SocketAddr,
    interval: u64,
    pub provisional: bool,
    /// Final responses as they came first: a failure once, a 2xx for each tag.
    pub finals: Vec<u16>,
    pub wants_cancel: bool,
    pub cancelled: bool,
    /// Nothing came for so long that the caller no longer waits.
    pub given_up: bool,
}

/// A client transaction of another method.
pub struct Other {
    pub request: Message,
    to: SocketAddr,
    interval: u64,
    proceeding: bool,
    pub outcome: Option<u16>,
    pub given_up: bool,
}

/// One 2xx.
struct Dialog {
    invite: usize,
    tag: String,
    uri: String,
    routes: Vec<String>,
    /// The ACK, to be sent again for each retransmission.
    ack: Message,
    ended: bool,
}

#[derive(PartialEq)]
enum Due {
    Start,
    Die,
    A(usize),
    B(usize),
    HangUp,
    NoEffect(usize),
    E(usize),
    F(usize),
    Change,
    Bye(usize),
}

pub type Sends = Vec<(SocketAddr, Message)>;

impl Caller {
    pub fn new(number: usize, errand: Errand, balancer: SocketAddr) -> Self {
        let mut agenda = Agenda::new();
        agenda.set(errand.at, Due::Start);
        if let Some(after) = errand.dies_after {
            agenda.set(errand.at + after, Due::Die);
        }
        Self {
            errand,
            address: SocketAddr::from(([203, 0, 113, 1 + number as u8], 5062)),
            call_id: format!("call-{number}@phone.example"),
            dead: false,
            invites: Vec::new(),
            others: Vec::new(),
            balancer,
            number,
            agenda,
            dialogs: Vec::new(),
            branches: 0,
            cseq: 0,
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.agenda.next()
    }

    pub fn wake(&mut self, now: u64, sends: &mut Sends) {
        while let Some(due) = self.agenda.take(now) {
            self.act(due, now, sends);
        }
    }

    fn act(&mut self, due: Due, now: u64, sends: &mut Sends) {
        match due {
            Due::Start => self.start(now, sends),
            Due::Die => {
                self.dead = true;
                self.agenda.clear();
            }
            Due::A(n) => {
                let invite = &mut self.invites[n];
                sends.push((invite.to, invite.request.clone()));
                invite.interval *= 2;
                self.agenda.set(now + invite.interval, Due::A(n));
            }
            Due::B(n) => {
                self.agenda.drop(&Due::A(n));
                self.invites[n].given_up = true;
            }
            Due::HangUp => {
                self.invites[0].wants_cancel = true;
                self.cancel(0, now, sends);
            }
            Due::NoEffect(n) => self.invites[n].given_up |= self.invites[n].finals.is_empty(),
            Due::E(n) => {
                let other = &mut self.others[n];
                sends.push((other.to, other.request.clone()));
                let doubled = (2 * other.interval).min(T2);
                other.interval = if other.proceeding { T2 } else { doubled };
                self.agenda.set(now + other.interval, Due::E(n));
            }
            Due::F(n) => {
                self.agenda.drop(&Due::E(n));
                self.others[n].given_up = true;
            }
            Due::Change => self.change(now, sends),
            Due::Bye(n) => self.bye(n, now, sends),
        }
    }

    fn start(&mut self, now: u64, sends: &mut Sends) {
        let uri = format!("sip:desk{}@farm.example", self.number);
        let to = format!("<{uri}>");
        let method = self.errand.method;
        let mut headers = vec![("Contact", format!("<sip:{}>", self.address))];
        if self.errand.timestamp {
            headers.push(("Timestamp", format!("{}.{}", 54 + self.number, now % 1000)));
        }
        let request = self.request(method, &uri, &to, &headers);
        let request = request.with_body(self.errand.body);
        if method == "INVITE" {
            self.invite(request, self.balancer, now, sends);
            if let Some(after) = self.errand.cancels_after {
                self.agenda.set(now + after, Due::HangUp);
            }
        } else {
            self.ask(request, self.balancer, now, sends);
        }
    }

    /// A request with a new branch and CSeq number.
    fn request(&mut self, method: &str, uri: &str, to: &str, more: &[(&str, String)]) -> Message {
        self.cseq += 1;
        self.request_numbered(self.cseq, method, uri, to, more)
    }

    fn request_numbered(
        &mut self,
        cseq: u32,
        method: &str,
        uri: &str,
        to: &str,
        more: &[(&str, String)],
    ) -> Message {
        self.branches += 1;
        let magic = if self.errand.old { "" } else { "z9hG4bK-" };
        let via = format!(
            "SIP/2.0/UDP {};rport;branch={magic}{}-{}",
            self.address, self.number, self.branches
        );
        let common = Common {
            via: &via,
            from: &format!("<sip:{0}@phone.example>;tag=from{0}", self.number),
            to,
            call_id: &self.call_id,
            cseq,
        };
        Message::request(method, uri, &common, more)
    }

    fn invite(&mut self, request: Message, to: SocketAddr, now: u64, sends: &mut Sends) {
        let n = self.invites.len();
        sends.push((to, request.clone()));
        self.invites.push(Invite {
            request,
            to,
            interval: T1,
            provisional: false,
            finals: Vec::new(),
            wants_cancel: false,
            cancelled: false,
            given_up: false,
        });
        self.agenda.set(now + T1, Due::A(n));
        self.agenda.set(now + PATIENCE, Due::B(n));
    }

    fn ask(&mut self, request: Message, to: SocketAddr, now: u64, sends: &mut Sends) {
        let n = self.others.len();
        sends.push((to, request.clone()));
        self.others.push(Other {
            request,
            to,
            interval: T1,
            proceeding: false,
            outcome: None,
            given_up: false,
        });
        self.agenda.set(now + T1, Due::E(n));
        self.agenda.set(now + PATIENCE, Due::F(n));
    }

    /// §9.1: not before a provisional response, not after a final one.
    fn cancel(&mut self, n: usize, now: u64, sends: &mut Sends) {
        let invite = &mut self.invites[n];
        if invite.cancelled || !invite.provisional || !invite.finals.is_empty() {
            return;
        }
        invite.cancelled = true;
        let request = hop_by_hop("CANCEL", &invite.request, invite.request.header("To"));
        let to = invite.to;
        self.agenda.set(now + PATIENCE, Due::NoEffect(n));
        self.ask(request, to, now, sends);
    }

    fn change(&mut self, now: u64, sends: &mut Sends) {
        if let Some(n) = self.dialogs.iter().position(|dialog| !dialog.ended) {
            let more = [("Contact", format!("<sip:{}>", self.address))];
            let (request, to) = self.within(n, "INVITE", &more);
            self.invite(request, to, now, sends);
        }
    }

    fn bye(&mut self, n: usize, now: u64, sends: &mut Sends) {
        if !std::mem::replace(&mut self.dialogs[n].ended, true) {
            let (request, to) = self.within(n, "BYE", &[]);
            self.ask(request, to, now, sends);
        }
    }

    /// A request within dialog `n` (§12.2.1.1), and where it goes.
    fn within(&mut self, n: usize, method: &str, more: &[(&str, String)]) -> (Message, SocketAddr) {
        let dialog = &self.dialogs[n];
        let (uri, to, mut headers) = dialog.target(&self.invites[dialog.invite].request);
        headers.extend(more.iter().cloned());
        let request = self.request(method, &uri, &to, &headers);
        let hop = next_hop(&request);
        (request, hop)
    }

    pub fn receive(&mut self, response: &Message, now: u64, sends: &mut Sends) {
        if self.dead || response.is_request() {
            return;
        }
        let branch = response.branch(0);
        if response.method() == "INVITE" {
            let mut invites = self.invites.iter();
            if let Some(n) = invites.position(|each| each.request.branch(0) == branch) {
                self.invite_answered(n, response, now, sends);
            }
            return;
        }
        let is_its = |each: &Other| {
            each.request.branch(0) == branch && each.request.method() == response.method()
        };
        if let Some(n) = self.others.iter().position(is_its) {
            let other = &mut self.others[n];
            if response.status() < 200 {
                other.proceeding = true;
                return;
            }
            let status = response.status();
            other.outcome = other.outcome.or(Some(status));
            self.agenda.drop(&Due::E(n));
            self.agenda.drop(&Due::F(n));
        }
    }

    fn invite_answered(&mut self, n: usize, response: &Message, now: u64, sends: &mut Sends) {
        self.agenda.drop(&Due::A(n));
        self.agenda.drop(&Due::B(n));
        let status = response.status();
        let invite = &mut self.invites[n];
        match status {
            0..200 => {
                invite.provisional = true;
                if invite.wants_cancel {
                    self.cancel(n, now, sends);
                }
            }
            200..300 => self.accepted(n, response, now, sends),
            _ => {
                // §17.1.1.3: each time, on the branch of the INVITE.
                let ack = hop_by_hop("ACK", &invite.request, response.header("To"));
                sends.push((invite.to, ack));
                if invite.finals.is_empty() {
                    invite.finals.push(status);
                }
            }
        }
    }

    /// §13.2.2.4: each 2xx gets an ACK, each dialog but the first a BYE.
    fn accepted(&mut self, n: usize, response: &Message, now: u64, sends: &mut Sends) {
        let tag = response.to_tag();
        let mut dialogs = self.dialogs.iter();
        if let Some(known) = dialogs.find(|each| each.invite == n && each.tag == tag) {
            sends.push((next_hop(&known.ack), known.ack.clone()));
            return;
        }
        let contact = response.header("Contact").trim_matches(['<', '>']);
        let routes = response.values("Record-Route").rev();
        let mut dialog = Dialog {
            invite: n,
            tag: tag.to_owned(),
            uri: contact.to_owned(),
            routes: routes.map(str::to_owned).collect(),
            ack: response.clone(),
            ended: false,
        };
        let invite = &self.invites[n].request;
        let (uri, to, headers) = dialog.target(invite);
        let is_change = !invite.to_tag().is_empty();
        dialog.ack = self.request_numbered(invite.cseq(), "ACK", &uri, &to, &headers);
        sends.push((next_hop(&dialog.ack), dialog.ack.clone()));
        let is_first = self.dialogs.is_empty();
        let id = self.dialogs.len();
        dialog.ended = is_change;
        self.dialogs.push(dialog);
        let invite = &mut self.invites[n];
        invite.finals.push(response.status());
        if is_change {
            return;
        }
        if !is_first || invite.wants_cancel || invite.given_up {
            self.agenda.set(now, Due::Bye(id));
            return;
        }
        if let Some(after) = self.errand.changes_after {
            self.agenda.set(now + after, Due::Change);
        }
        self.agenda.set(now + self.errand.talks, Due::Bye(id));
    }
}

impl Dialog {
    /// Request-URI, To and Route of a request within it.
    fn target(&self, invite: &Message) -> (String, String, Vec<(&'static str, String)>) {
        let to = invite.header("To").split(';').next().unwrap_or("");
        let routes = self.routes.iter().map(|route| ("Route", route.clone()));
        (
            self.uri.clone(),
            format!("{to};tag={}", self.tag),
            routes.collect(),
        )
    }
}

/// Where a request goes whose routers are all loose.
fn next_hop(request: &Message) -> SocketAddr {
    let uri = match request.header("Route") {
        "" => request.request_uri(),
        route => route,
    };
    address(uri).expect("the address of a member or of ours")
}

/// CANCEL for an INVITE, or ACK for its failure (§9.1, §17.1.1.3).
fn hop_by_hop(method: &str, invite: &Message, to: &str) -> Message {
    let routes = invite.values("Route");
    let routes: Vec<_> = routes.map(|route| ("Route", route.to_owned())).collect();
    let common = Common {
        via: invite.header("Via"),
        from: invite.header("From"),
        to,
        call_id: invite.call_id(),
        cseq: invite.cseq(),
    };
    Message::request(method, invite.request_uri(), &common, &routes)
}
