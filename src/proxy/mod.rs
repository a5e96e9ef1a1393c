//! The decision: what becomes of one datagram (RFC 3261 §16.11).
//!
//! [`Proxy::decide`] is the only place where that is decided; the workers,
//! `explain`, `simulate`, `replay`, the tests, the fuzz targets and the benches
//! all call it, a worker with `stateful` in its form for transactions,
//! [`Proxy::decide_among`]. It reads the datagram, where it came from and on
//! which listener, and a [`Proxy`] that never changes: [`Proxy::successor`]
//! makes another one when the configuration does. It touches no socket, clock,
//! random source, log or lock, and allocates nothing.
//!
//! Off comes the header of a front balancer (`proxy_protocol`), and `request`
//! takes a request through these, in this order:
//!
//! - `branch`: what its transaction is known by, which may be there (`stateful`)
//! - `request` itself: what RFC 3261 §16.3 has a proxy look at
//! - `repair`: the top Via
//! - `routes`: our own Routes are taken off, and the `cookie` in one is read
//! - `next_hop`: whom it names, by address (`host`) or name (`names`); else
//!   `rules` choose a set and its policy a destination (`select`)
//! - `second_chance`: where else a CANCEL or ACK goes
//! - `branch`, `on_path`: our Via, Record-Route and Path
//! - `reply`: what it gets where it is refused for some `reason`
//!
//! `response` takes our Via off a response, once `branch` has verified it, and
//! drops the 481 of who was asked by `second_chance` in vain.
//!
//! Octets that have just been written in small pieces cannot be read in large
//! ones until they have reached the cache: a processor that copies a structure
//! which was filled only now waits for that, in a store-forwarding stall. So
//! what is read of a message, or put together for it, stays where it was written,
//! and as much as can be is written long before the result is copied together.

mod branch;
mod cookie;
mod datagram;
mod generation;
mod host;
mod limiter;
mod local;
mod names;
mod next_hop;
mod on_path;
mod proxy_protocol;
mod reason;
mod repair;
mod reply;
mod request;
mod response;
mod routes;
mod rules;
mod second_chance;
mod secret;
mod select;
mod stateful;
mod table_id;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;

use crate::config::{Config, Stateful};
use crate::dispatcher::{Dispatcher, Turns};
use crate::sip::{MAX_DATAGRAM, Message, Method, NotSip, Rewrite, StartLine, scan};

pub use branch::Identity;
pub use cookie::{Claim, Cookie, Purpose};
pub use datagram::{Datagram, KeptDatagram};
pub use limiter::ReplyLimiter;
pub use names::{MAX_HELD, MAX_NAMES, Names, Server};
pub use reason::{Reason, Status};
pub use second_chance::MOST_COPIES;
pub use secret::{Secret, SecretError};
pub use stateful::{
    Among, Answer, Attempt, Begin, Chosen, Found, Goal, Leg, Own, Part, Role, Trying, split_head,
};

use generation::Generation;
use local::Locals;
use request::Request;
use routes::Target;

/// Everything a decision depends on beside the datagram.
#[derive(Clone)]
pub struct Proxy {
    locals: Arc<Locals>,
    allowed: Vec<IpNet>,
    /// Whether members may name next hops by host names.
    resolve: bool,
    secret: Secret,
    stateful: Arc<Stateful>,
    current: Arc<Generation>,
    /// What was current before, newest first.
    former: Vec<Arc<Generation>>,
}

/// How many former generations are kept at most. Each has 128 KiB for a set where
/// destinations took something else.
const MOST_FORMER: usize = 16;

/// What becomes of a datagram. The octets to send, if any, are in the buffer
/// that was given to [`Proxy::decide`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Send it on.
    Forward(Forward),
    /// Answer it ourselves, once and without memory (RFC 3261 §8.2.7).
    Reply(Reply),
    /// Find out what [`Names::wanted`] stands for, and decide it again.
    Resolve,
    /// Send nothing.
    Drop(Reason),
}

/// A datagram to send on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Octets to send, from the start of the buffer.
    pub length: usize,
    /// Where in them the value of Max-Forwards starts, in a response that of
    /// the topmost Via. White space may be put in there, for any may stand
    /// behind the colon (RFC 3261 §25.1). Not at the Via of a request, because
    /// servers compare that of CANCEL with that of INVITE as text.
    pub padding_at: usize,
    /// The same for all datagrams with one Call-ID, and rarely for others:
    /// who sends several at once must not change their order.
    pub call: u64,
    /// Where to.
    pub to: SocketAddr,
    /// The listener from whose socket it leaves.
    pub listener: usize,
    /// How its way was found.
    pub way: Way,
    /// What it is.
    pub kind: Kind,
    /// What our branch is made from: of two requests with one method, the same
    /// only where the second one is a retransmission.
    pub branch: u64,
    /// The destination that it comes from.
    pub from: Option<Place>,
    /// Whether it is a request within a dialog: one whose To has a tag.
    pub in_dialog: bool,
    /// What came of the cookie in its Route.
    pub cookie: CookieUse,
}

/// A destination: the index of its set, and its own in it. Short, for what is
/// decided is handed from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Index of the set.
    pub set: u16,
    /// Index of the destination in it.
    pub destination: u16,
}

impl Place {
    /// The dispatcher has no more than 65,536 of either.
    #[inline]
    fn new((set, destination): (usize, usize)) -> Self {
        Self {
            set: set as u16,
            destination: destination as u16,
        }
    }
}

/// A request or a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A request with this method.
    Request(Method),
    /// A response with this status, 100 to 699.
    Response(u16),
}

/// What came of the cookie that a request brought back in a Route of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieUse {
    /// There was none.
    None,
    /// It verified, and the request went as it says.
    Followed,
    /// It verified, but its destination is no longer there or is disabled.
    Gone,
    /// It did not verify.
    Forged,
}

/// How the way of a datagram was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The set's policy chose.
    Selected(Selection),
    /// Its Route has a cookie: this member has its dialog.
    Dialog(Place),
    /// No destination takes new work, and it belongs to a call that one of a
    /// former generation may have; or it is an attempt sent once more, and its
    /// destination is in no set any more, or none would be chosen today.
    Former,
    /// Route or Request-URI names this member.
    Named(Place),
    /// A member sent it; it goes where Route or Request-URI says, which may be
    /// another member.
    Outbound(Option<Place>),
    /// A member sent it; it goes to the phone whose address its Route vouches
    /// for, by the listener the phone came in on (RFC 5626 §5.3).
    Flow,
    /// Route or Request-URI names a host that is allowed explicitly, or one of
    /// the member sources in a dialog of theirs.
    Allowed,
    /// A response: back along the Vias.
    Response,
}

impl Way {
    /// The destination of the present generation that it leads to, as set and
    /// index in it.
    #[inline]
    #[must_use]
    pub fn destination(self) -> Option<(usize, usize)> {
        match self {
            Self::Selected(selection) => Some((selection.set, selection.destination)),
            Self::Dialog(place) | Self::Named(place) | Self::Outbound(Some(place)) => {
                Some((place.set.into(), place.destination.into()))
            }
            Self::Former | Self::Outbound(None) | Self::Flow | Self::Allowed | Self::Response => {
                None
            }
        }
    }
}

/// A choice among the destinations of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Index of the set.
    pub set: usize,
    /// The hash of the key.
    pub hash: u64,
    /// Index of the chosen destination.
    pub destination: usize,
}

/// A local reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Octets to send, from the start of the buffer.
    pub length: usize,
    /// Where to: always the address that the request came from.
    pub to: SocketAddr,
    /// Who sent the request, be it by a front balancer: whose allowance of
    /// replies this one takes.
    pub sender: IpAddr,
    /// What it says.
    pub status: Status,
    /// Why.
    pub reason: Reason,
}

/// Working memory of a decision: made once for each worker.
pub struct Scratch {
    rewrite: Rewrite,
    also: Vec<SocketAddr>,
    turns: Turns,
    /// The one that `turns` counts by.
    generation: Arc<Generation>,
    /// What is hashed. Never more than the parts of one datagram and a few
    /// octets beside them, so it does not grow.
    octets: Vec<u8>,
    names: Names,
    part: Option<Part>,
    trying: Trying,
}

impl Scratch {
    /// Where else the datagram of the last decision goes, the same octets by
    /// the same listener: the second chance of a CANCEL or ACK.
    #[inline]
    #[must_use]
    pub fn also(&self) -> &[SocketAddr] {
        &self.also
    }

    /// What the datagram that was decided last is to a transaction; see
    /// [`Among::None`].
    #[inline]
    #[must_use]
    pub fn part(&self) -> Option<Part> {
        self.part
    }

    /// The 100 to the INVITE of the last decision, where that [can
    /// begin](Part::Begins) a transaction.
    #[inline]
    #[must_use]
    pub fn trying(&self) -> &Trying {
        &self.trying
    }

    /// What is known of names.
    #[must_use]
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The same, to add to it.
    pub fn names_mut(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Is ready for another datagram.
    #[inline]
    fn start(&mut self, current: &Arc<Generation>) {
        self.rewrite.clear();
        self.also.clear();
        self.part = None;
        if !Arc::ptr_eq(&self.generation, current) {
            self.follow(current);
        }
    }

    #[cold]
    fn follow(&mut self, generation: &Arc<Generation>) {
        self.turns
            .follow(&self.generation.dispatcher, &generation.dispatcher);
        self.generation = Arc::clone(generation);
    }
}

/// See [`Forward::call`]. Whoever finds Call-IDs that meet gains nothing, so
/// it needs no key; it takes a tenth of the time of one that has.
#[inline]
fn call(message: &Message<'_>) -> u64 {
    let call_id = message.call_id.value.of(message.bytes);
    let (words, rest) = call_id.as_chunks();
    let rest = rest.iter().fold(0, |word, &b| word << 8 | u64::from(b));
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words.chain([rest]).fold(0, |hash: u64, word| {
        (hash ^ word)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .rotate_left(32)
    })
}

impl Proxy {
    /// Prepares decisions. The addresses in `config` must be the bound ones:
    /// a port 0 has become a real one.
    #[must_use]
    pub fn new(config: &Config, secret: Secret) -> Self {
        Self {
            locals: Arc::new(Locals::new(&config.listeners)),
            allowed: config.allowed_next_hops.clone(),
            resolve: config.resolve,
            stateful: Arc::new(config.stateful.clone()),
            current: Arc::new(Generation::new(config, secret.selection_key())),
            former: Vec::new(),
            secret,
        }
    }

    /// What decides when `config` has taken the place of the one before, with
    /// the same secret. Where sets or routes differ, the generation of before
    /// is the newest former one, but for a step on the way from one to another.
    #[must_use]
    pub fn successor(&self, config: &Config) -> Self {
        let mut next = Self {
            locals: Arc::new(Locals::new(&config.listeners)),
            allowed: config.allowed_next_hops.clone(),
            stateful: Arc::new(config.stateful.clone()),
            ..self.clone()
        };
        if !self.current.is_of(config) {
            let fresh = self.current.successor(config);
            let before = std::mem::replace(&mut next.current, Arc::new(fresh));
            next.former.retain(|former| !former.is_of(config));
            // A server that comes back takes its share in steps. Who had a key
            // before the second one had it until it moved to that server: only
            // between several that come back it may have moved twice.
            let newest = next.former.first();
            let is_step = newest.is_some_and(|newest| {
                newest.only_warms_up_to(&before) && before.only_warms_up_to(&next.current)
            });
            if !is_step {
                next.former.insert(0, before);
                next.former.truncate(MOST_FORMER);
            }
        }
        next
    }

    /// What verifies its marks, for a program that goes on with them.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// What is relayed with a transaction, and how.
    #[must_use]
    pub fn stateful(&self) -> &Stateful {
        &self.stateful
    }

    /// The number of the present generation: 1, and one more for each change
    /// of sets or routes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.number
    }

    /// Whether the former generation of this number is kept.
    #[must_use]
    pub fn keeps(&self, generation: u64) -> bool {
        let mut former = self.former.iter();
        former.any(|former| former.number == generation)
    }

    /// The same without the former generations of lower numbers.
    #[must_use]
    pub fn without_formers_before(&self, generation: u64) -> Self {
        let mut next = self.clone();
        next.former.retain(|former| former.number >= generation);
        next
    }

    /// Fresh working memory.
    #[must_use]
    pub fn scratch(&self) -> Scratch {
        Scratch {
            rewrite: Rewrite::default(),
            also: Vec::with_capacity(MOST_COPIES),
            turns: Turns::new(self.dispatcher()),
            generation: Arc::clone(&self.current),
            octets: Vec::with_capacity(MAX_DATAGRAM + 1024),
            names: Names::new(),
            part: None,
            trying: Trying::new(),
        }
    }

    /// The listener by which what is for `to` leaves, of requests that come in
    /// on the first one; `None`: none has its address family.
    #[must_use]
    pub fn leaves_by(&self, to: SocketAddr) -> Option<usize> {
        self.locals.egress(0, to)
    }

    /// The sets and their tables.
    #[must_use]
    pub fn dispatcher(&self) -> &Dispatcher {
        &self.current.dispatcher
    }

    /// Decides one datagram and writes what is to be sent into `out`, which
    /// should hold [`crate::sip::MAX_DATAGRAM`] octets; a request that would
    /// outgrow it is answered 513. `scratch` may be one of a predecessor: what
    /// it remembers is taken over.
    #[inline]
    pub fn decide(
        &self,
        datagram: &Datagram<'_>,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Decision {
        match self.decide_among(datagram, |_, _| Found::Nowhere, scratch, out) {
            Ok(Among::None(decision)) => decision,
            Ok(_) => unreachable!("invariant: nothing was found"),
            Err(reason) => Decision::Drop(reason),
        }
    }

    /// The same with transactions, for a relay, which answers `find`: where
    /// the transaction with this Call-ID and key is.
    ///
    /// # Errors
    /// Why the datagram is dropped.
    #[inline]
    pub fn decide_among(
        &self,
        datagram: &Datagram<'_>,
        find: impl Fn(&[u8], u64) -> Found,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<Among, Reason> {
        scratch.start(&self.current);
        let unwrapped;
        // Nearly all are read where they are: a copy would stall.
        let (datagram, front) = if self.is_front(datagram) {
            let (inner, front) = self.unwrap(datagram)?;
            unwrapped = inner;
            (&unwrapped, front)
        } else if self.is_sound(datagram.source) {
            (datagram, None)
        } else {
            return Err(Reason::BadSource);
        };
        // It stays where the scanner has left it, for the same reason.
        let scanned = scan(datagram.bytes);
        let message = match &scanned {
            Ok(message) => message,
            Err(NotSip::KeepAlive) => return Err(Reason::KeepAlive),
            Err(NotSip::Garbage) => return Err(Reason::NotSip),
        };
        match message.start {
            StartLine::Request { method, uri } => {
                let request = Request::new(self, datagram, front, message, method, uri);
                request.decide(find, scratch, out)
            }
            StartLine::Response { status } => {
                response::decide(self, datagram, message, status, find, scratch, out)
            }
        }
    }

    /// The octets that `set` hashes of a request that came as `unwrap` gives
    /// it, and the header of another dialog that they are from, if they are;
    /// `None` for what is none.
    /// It allocates, and is there to be shown to people.
    #[must_use]
    pub fn key(
        &self,
        datagram: &Datagram<'_>,
        set: usize,
    ) -> Option<(Vec<u8>, Option<&'static str>)> {
        let message = scan(datagram.bytes).ok()?;
        let StartLine::Request { method, uri } = message.start else {
            return None;
        };
        let request = Request::new(self, datagram, None, &message, method, uri);
        let target = Target {
            text: uri,
            uri: crate::sip::uri(message.bytes, uri)?,
        };
        let rule = request.rule_in(&self.current, &target);
        if let Some((header, call_id)) = rule.and_then(|rule| request.followed(rule)) {
            return Some((call_id.to_vec(), Some(header)));
        }
        let mut key = Vec::new();
        let hash_key = &self.dispatcher().sets()[set].definition().hash_key;
        request.write_key(hash_key, &target, &mut key);
        Some((key, None))
    }

    /// What the user part of a Route of ours says in a message of the call
    /// `call_id`.
    #[must_use]
    pub fn claim(&self, user: &[u8], call_id: &[u8]) -> Claim {
        Cookie::read(user, &self.secret, call_id)
    }
}
