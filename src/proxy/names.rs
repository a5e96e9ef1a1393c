//! Next hops that members name by a host name (RFC 3263): what is known of
//! them, and the choice among their addresses.
//!
//! Whoever takes a [`Decision::Resolve`](super::Decision::Resolve)
//! [holds](Names::hold) the datagram, finds out what the name stands for, has
//! it [learned](Names::learn), and decides the datagram again. Requests from
//! outside never lead here.

use std::net::SocketAddr;

use super::call;
use super::reason::Reason;
use super::request::Request;
use crate::config::HostPort;
use crate::sip::Span;

/// Names that are known at once; for one more, the one that expires first is
/// forgotten.
pub const MAX_NAMES: usize = 1024;
/// Requests that may wait for an answer at once.
pub const MAX_HELD: usize = 256;
/// The longest name of DNS as text, without a dot at its end (RFC 1035 §2.3.4).
const LONGEST: usize = 253;

/// What a name stands for: one host of those that SRV puts first (RFC 2782),
/// or the one host of that name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Server {
    /// Share against the others; where all have 0, they have equal ones.
    pub weight: u16,
    /// Its addresses; at least one.
    pub addresses: Vec<SocketAddr>,
}

/// What is known of names.
#[derive(Debug)]
pub struct Names {
    /// Ordered by host and port.
    known: Vec<Known>,
    /// When the first of them expires.
    first_expiry: u64,
    /// What the last decision asked for: in lower case, without a dot at the end.
    wanted: HostPort,
    /// Requests that wait for an answer.
    held: usize,
}

#[derive(Debug)]
struct Known {
    name: HostPort,
    /// None: the name is known to stand for nothing.
    servers: Vec<Server>,
    until: u64,
}

impl Names {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self {
            known: Vec::new(),
            first_expiry: u64::MAX,
            wanted: HostPort {
                host: String::with_capacity(LONGEST),
                port: None,
            },
            held: 0,
        }
    }

    /// The name that the last [`Decision::Resolve`](super::Decision::Resolve)
    /// asks for.
    #[must_use]
    pub fn wanted(&self) -> &HostPort {
        &self.wanted
    }

    /// Counts a request that waits for that name until it is learned.
    pub fn hold(&mut self) -> HostPort {
        self.held += 1;
        self.wanted.clone()
    }

    /// Takes what a name stands for, on behalf of one request that was held;
    /// no servers: for nothing. That is true until [forgotten](Self::forget)
    /// at the time `until`. Returns whether it is news.
    pub fn learn(&mut self, name: HostPort, mut servers: Vec<Server>, until: u64) -> bool {
        self.held = self.held.saturating_sub(1);
        // DNS gives them in any order; the choice must not depend on it.
        servers
            .iter_mut()
            .for_each(|to| to.addresses.sort_unstable());
        servers.sort_unstable();
        let place = self.place(name.host.as_bytes(), name.port);
        let known = Known {
            name,
            servers,
            until,
        };
        match place {
            Ok(at) => self.known[at] = known,
            Err(at) => self.known.insert(at, known),
        }
        if self.known.len() > MAX_NAMES {
            let others = self.known.iter().enumerate();
            let first = others.min_by_key(|(at, known)| (Err(*at) == place, known.until));
            let first = first.map(|(at, _)| at);
            first.map(|at| self.known.remove(at));
        }
        self.first_expiry = self.first_expiry.min(until);
        place.is_err()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets what has expired. `now` counts milliseconds of a clock that
    /// does not go back.
    pub fn forget(&mut self, now: u64) {
        if now >= self.first_expiry {
            self.known.retain(|known| known.until > now);
            let expiries = self.known.iter().map(|known| known.until);
            self.first_expiry = expiries.min().unwrap_or(u64::MAX);
        }
    }

    fn want(&mut self, host: &[u8], port: Option<u16>) {
        let lower = host.iter().map(|b| char::from(b.to_ascii_lowercase()));
        self.wanted.host.clear();
        self.wanted.host.extend(lower);
        self.wanted.port = port;
    }

    /// Where a name is, or belongs.
    fn place(&self, host: &[u8], port: Option<u16>) -> Result<usize, usize> {
        self.known.binary_search_by(|known| {
            let lower = host.iter().map(u8::to_ascii_lowercase);
            let order = known.name.host.bytes().cmp(lower);
            order.then_with(|| known.name.port.cmp(&port))
        })
    }
}

impl Request<'_> {
    /// The address of the host that a member names; `None` where it has to be
    /// found out first.
    pub(super) fn resolve(
        &self,
        host: Span,
        port: Option<u16>,
        names: &mut Names,
    ) -> Result<Option<SocketAddr>, Reason> {
        let host = host.of(self.message.bytes);
        let host = host.strip_suffix(b".").unwrap_or(host);
        if !self.proxy.resolve || !is_host_name(host) {
            return Err(Reason::NextHop);
        }
        match names.place(host, port) {
            Ok(at) => {
                let servers = &names.known[at].servers;
                let server = choose(servers, call(self.message), self.datagram.source);
                server.map(Some).ok_or(Reason::Unresolved)
            }
            Err(_) if names.held == MAX_HELD => Err(Reason::TooManyNames),
            Err(_) => {
                names.want(host, port);
                Ok(None)
            }
        }
    }
}

/// Whether it can be a name of DNS: not too long, without other octets, and no
/// address gone wrong, for the last label begins with a letter (RFC 3261
/// §25.1).
fn is_host_name(host: &[u8]) -> bool {
    let sound = |b: &u8| b.is_ascii_alphanumeric() || b"-._".contains(b);
    let last = host.rsplit(|&b| b == b'.').next().unwrap_or_default();
    host.len() <= LONGEST
        && host.iter().all(sound)
        && last.first().is_some_and(u8::is_ascii_alphabetic)
}

/// One address for all messages of a `call` (RFC 3263 §4.4, RFC 3261 §16.11):
/// the server by weight, among its addresses one of the family that the
/// request came by, for that needs no other listener.
fn choose(servers: &[Server], call: u64, from: SocketAddr) -> Option<SocketAddr> {
    let even = servers.iter().all(|server| server.weight == 0);
    let weight = |server: &Server| if even { 1 } else { u64::from(server.weight) };
    let (mut at, rest) = part(call, servers.iter().map(weight).sum());
    let server = servers.iter().find(|server| {
        let chosen = at < weight(server);
        at = at.saturating_sub(weight(server));
        chosen
    })?;
    let near = |to: &&SocketAddr| to.is_ipv4() == from.is_ipv4();
    let addresses = server.addresses.iter();
    match addresses.clone().filter(near).count() {
        0 => addresses
            .clone()
            .nth(part(rest, addresses.len() as u64).0 as usize),
        n => addresses.filter(near).nth(part(rest, n as u64).0 as usize),
    }
    .copied()
}

/// Takes the lower half of `hash`, where that of a Call-ID is mixed best, for
/// a fraction: the part it falls into of so many, and what is left of it.
fn part(hash: u64, parts: u64) -> (u64, u64) {
    let scaled = (hash & 0xFFFF_FFFF) * parts;
    (scaled >> 32, scaled & 0xFFFF_FFFF)
}
