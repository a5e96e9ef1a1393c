//! What a decision has to do with transactions: the parts that a datagram can
//! have in one, and the messages that only one who remembers can write.

use std::net::SocketAddr;

use super::branch::{Branch, BranchText, Identity};
use super::reason::{Reason, Status};
use super::reply::Writer;
use super::request::Request;
use super::{Datagram, Decision, Proxy, Scratch};
use crate::config::Stateful;
use crate::sip::{MAX_DATAGRAM, StartLine, digits, scan};

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Here, at this place of the table.
    Here(u32),
    /// With another worker, if anywhere.
    Elsewhere(usize),
    /// Nowhere.
    Nowhere,
}

/// What becomes of a datagram among transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Among {
    /// It belongs to none that is there, or is a response that does. Where it
    /// is sent on or [unplaced](Part::Unplaced), [`Scratch::part`] tells more.
    None(Decision),
    /// A request of the one at this place; nothing is written.
    Known(u32, Role),
    /// A response to a CANCEL of our own; nothing is written.
    Cancelled {
        /// Where the transaction is.
        at: u32,
        /// The number of the attempt that was cancelled.
        attempt: u8,
        /// Its status.
        status: u16,
    },
    /// It may belong to one of this worker.
    HandOver(usize),
}

/// What a datagram that is decided is to a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A request that can begin one.
    Begins(Begin),
    /// An INVITE that can, was answered 503, and for which the policy of this set
    /// had no destination.
    Unplaced(Begin, usize),
    /// A response to an attempt of one that is there.
    Answers(Answer),
}

/// What a transaction begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What it is known by.
    pub identity: Identity,
    /// What its method says of it.
    pub chosen: Chosen,
    /// Whether it belongs to a dialog: its To has a tag.
    pub in_dialog: bool,
    /// Where responses go.
    pub respond_to: SocketAddr,
}

/// A response to an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Where the transaction is.
    pub at: u32,
    /// The number of the attempt.
    pub attempt: u8,
    /// Its status.
    pub status: u16,
    /// The method that it answers, as of a request.
    pub method: u8,
}

/// What the method of a request says, where it is among the chosen ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its place in [`Stateful::methods`](crate::config::Stateful::methods).
    pub method: u8,
    /// Whether it is INVITE.
    pub invite: bool,
    /// Whether a destination may get the request while another one that said
    /// nothing has it too: an INVITE is cancelled there, REGISTER and OPTIONS do no
    /// harm twice.
    pub repeatable: bool,
}

/// What a request is to its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The request that begins it, or that one once more.
    Request(Chosen),
    /// Its CANCEL (RFC 3261 §9).
    Cancel,
    /// The ACK to its failure (§17.1.1.3).
    Ack,
}

impl Role {
    /// What a request with this method can be to a transaction.
    #[inline]
    #[must_use]
    pub fn of(stateful: &Stateful, method: &[u8]) -> Option<Self> {
        match method {
            _ if stateful.methods.is_empty() => None,
            b"CANCEL" => Some(Self::Cancel),
            b"ACK" => Some(Self::Ack),
            method => stateful.place(method).map(|place| {
                Self::Request(Chosen {
                    method: place,
                    invite: method == b"INVITE",
                    repeatable: matches!(method, b"INVITE" | b"REGISTER" | b"OPTIONS"),
                })
            }),
        }
    }
}

/// A 100, written with the decision on its INVITE: to read that again for it
/// took a third of the time of a whole transaction.
pub struct Trying {
    pub(super) octets: Vec<u8>,
    pub(super) length: usize,
    /// As [`Forward::padding_at`](super::Forward::padding_at).
    pub padding_at: usize,
}

impl Trying {
    pub(super) fn new() -> Self {
        Self {
            octets: vec![0; MAX_DATAGRAM],
            length: 0,
            padding_at: 0,
        }
    }

    /// What is to be sent.
    #[inline]
    #[must_use]
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

/// A request once more, for a transaction that remembers it.
#[derive(Clone, Copy)]
pub struct Attempt<'a> {
    /// The attempt's number in the branch.
    pub number: u8,
    /// The Request-URI that it gets instead of its own.
    pub request_uri: Option<&'a [u8]>,
    /// Where it goes.
    pub goal: Goal<'a>,
}

/// Where an attempt goes.
#[derive(Clone, Copy)]
pub enum Goal<'a> {
    /// Where it went before, from the same listener.
    Again(SocketAddr, usize),
    /// To the destination that ranks highest, in this set or in the one that
    /// the rules choose, of those that are not passed over.
    Next(Option<usize>, &'a dyn Fn(SocketAddr) -> bool),
}

/// A request of our own within a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// To a failure (§17.1.1.3): To is that of the response.
    Ack,
    /// §9.1: To is that of the request.
    Cancel,
}

/// An attempt as it left.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// What its transaction is known by.
    pub identity: Identity,
    /// The listener that the request came in on.
    pub came: usize,
    /// The listener that it left by.
    pub leaves: usize,
    /// Its number in the branch.
    pub number: u8,
    /// See [`Proxy::head`].
    pub head: &'a [u8],
}

impl Proxy {
    /// Decides a request that a transaction has remembered once more: without
    /// any look at transactions.
    pub fn attempt(
        &self,
        datagram: &Datagram<'_>,
        attempt: &Attempt<'_>,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Decision {
        let decided = self.with_request(datagram, |request| {
            scratch.start(&self.current);
            let request = Request {
                attempt: Some(attempt),
                ..request
            };
            request.decide(|_, _| Found::Nowhere, scratch, out)
        });
        match decided.flatten() {
            Ok(Among::None(decision)) => decision,
            Ok(_) => unreachable!("invariant: nothing was found"),
            Err(reason) => Decision::Drop(reason),
        }
    }

    /// Answers a request with a status of our own: octets, and where to
    /// (§18.2.2). `None` where that must not be.
    pub fn reply(
        &self,
        datagram: &Datagram<'_>,
        status: Status,
        out: &mut [u8],
    ) -> Option<(usize, SocketAddr)> {
        self.with_request(datagram, |request| request.reply(status, out))
            .ok()?
    }

    fn with_request<T>(
        &self,
        datagram: &Datagram<'_>,
        then: impl FnOnce(Request<'_>) -> T,
    ) -> Result<T, Reason> {
        let (datagram, front) = self.unwrap_remembered(datagram)?;
        let message = scan(datagram.bytes).map_err(|_| Reason::NotSip)?;
        let StartLine::Request { method, uri } = message.start else {
            return Err(Reason::NotSip);
        };
        Ok(then(Request::new(
            self, &datagram, front, &message, method, uri,
        )))
    }

    /// Writes an ACK or CANCEL for an attempt. Its headers are those of `from`,
    /// the request as it came or a response to the attempt. `None` where that
    /// cannot be read, or `out` is too small.
    pub fn own(&self, own: Own, leg: &Leg<'_>, from: &[u8], out: &mut [u8]) -> Option<usize> {
        let Leg {
            identity,
            came,
            leaves,
            number,
            head,
        } = *leg;
        let message = scan(from).ok()?;
        let bytes = message.bytes;
        let mut branch = BranchText::EMPTY;
        branch.write(came, identity, number, &self.secret);
        let (uri, routes) = split_head(head);
        let method: &[u8] = match own {
            Own::Ack => b"ACK",
            Own::Cancel => b"CANCEL",
        };
        let mut number = [0; 10];
        let parts: [&[u8]; 16] = [
            method,
            b" ",
            uri,
            b" SIP/2.0\r\n",
            self.locals.via(leaves),
            branch.as_bytes(),
            b"\r\nMax-Forwards: 70\r\n",
            routes,
            message.from.line.of(bytes),
            message.to.line.of(bytes),
            message.call_id.line.of(bytes),
            b"CSeq: ",
            digits(message.cseq.number, &mut number),
            b" ",
            method,
            b"\r\nContent-Length: 0\r\n\r\n",
        ];
        let mut out = Writer { out, length: 0 };
        out.put(&parts)?;
        Some(out.length)
    }

    /// The key and the number of the attempt that the first octets of a datagram
    /// say to belong to, which came back undelivered; `None` where they are not
    /// those of a request of ours.
    pub fn returned(&self, octets: &[u8]) -> Option<(u64, u8)> {
        let branch = Branch::parse_behind_magic(self.locals.branch_in(octets)?)?;
        let key = branch.key(&self.secret);
        (!octets.starts_with(b"SIP/")).then_some((key, branch.attempt))
    }

    /// The head of a request as it leaves: its Request-URI and, behind a line
    /// feed, its Route rows.
    pub fn head(request: &[u8]) -> impl Iterator<Item = &[u8]> {
        let line = memchr::memchr(b'\r', request).unwrap_or(request.len());
        let uri = request[..line].split(|&b| b == b' ').nth(1).unwrap_or(b"");
        let routes = Self::rows_of(request, b"Route");
        [uri, b"\n".as_slice()].into_iter().chain(routes)
    }

    /// The rows of a message that hold the header with this long name.
    pub fn rows_of<'m>(message: &'m [u8], name: &'static [u8]) -> impl Iterator<Item = &'m [u8]> {
        scan(message).into_iter().flat_map(move |message| {
            let rows = message.rows_named(name);
            rows.map(move |row| row.line.of(message.bytes))
        })
    }
}

/// Request-URI and Route rows of a [head](Proxy::head).
#[must_use]
pub fn split_head(head: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'\n', head).unwrap_or(head.len());
    (&head[..end], head.get(end + 1..).unwrap_or_default())
}
