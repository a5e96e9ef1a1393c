//! Responses: back along the Vias (RFC 3261 §16.11, §18.1.2, §18.2.2,
//! RFC 3581 §4). All pass, 100 and each 2xx too, for nothing is remembered
//! that could tell the first from the next.

use super::branch::{Branch, Transaction, from_tag};
use super::host::{literal, read_respond_to};
use super::reason::Reason;
use super::request::fault_reason;
use super::stateful::{Among, Answer, Found, Part};
use super::{
    CookieUse, Datagram, Decision, Forward, Kind, Place, Proxy, Scratch, Way, call, second_chance,
};
use crate::sip::{Message, Row, Span, Via, via};

/// Decides, and writes what is to be sent into `out`.
#[inline]
pub(super) fn decide(
    proxy: &Proxy,
    datagram: &Datagram<'_>,
    message: &Message<'_>,
    status: u16,
    find: impl Fn(&[u8], u64) -> Found,
    scratch: &mut Scratch,
    out: &mut [u8],
) -> Result<Among, Reason> {
    if let Some(fault) = message.fault {
        return Err(fault_reason(fault));
    }
    let bytes = message.bytes;
    let row = message.via.ok_or(Reason::MissingHeader)?;
    let own = own_via(proxy, bytes, row)?;
    let mut next = Via::default();
    if !read_next_via(&mut next, message, row, own.next)? {
        return to_own_cancel(proxy, message, status, own.branch, find).ok_or(Reason::NoNextVia);
    }
    let to = verified_next_hop(proxy, message, own.branch, &next).ok_or(Reason::ForgedResponse)?;
    match answer(proxy, message, status, &to, find) {
        Ok(answer) => scratch.part = answer.map(Part::Answers),
        Err(worker) => return Ok(Among::HandOver(worker)),
    }
    if proxy.locals.is_forbidden(to.respond_to) {
        return Err(Reason::ForbiddenNextHop);
    }
    if scratch.part.is_none()
        && is_unknown_to_cancel(message, status)
        && second_chance::is_strangers(
            proxy,
            message,
            datagram.source,
            to.respond_to,
            &mut scratch.octets,
        )
    {
        return Err(Reason::StrangersAnswer);
    }
    let own_value = if own.next.is_some() {
        Span {
            start: row.value.start,
            end: next.value.start,
        }
    } else {
        row.line
    };
    scratch
        .rewrite
        .cut(own_value)
        .map_err(|_| Reason::HeaderValue)?;
    let whole = &bytes[..message.end as usize];
    let length = scratch.rewrite.write(whole, out).ok_or(Reason::TooLarge)?;
    Ok(Among::None(Decision::Forward(Forward {
        length,
        padding_at: scratch.rewrite.position(next.value.start),
        call: call(message),
        to: to.respond_to,
        listener: to.listener,
        way: Way::Response,
        kind: Kind::Response(status),
        branch: to.key,
        from: proxy.dispatcher().member(datagram.source).map(Place::new),
        in_dialog: false,
        cookie: CookieUse::None,
    })))
}

/// What it is to a transaction that is there; an error names the worker
/// whose it may be.
#[inline]
fn answer(
    proxy: &Proxy,
    message: &Message<'_>,
    status: u16,
    to: &NextHop,
    find: impl Fn(&[u8], u64) -> Found,
) -> Result<Option<Answer>, usize> {
    let stateful = &*proxy.stateful;
    if stateful.methods.is_empty() {
        return Ok(None);
    }
    let Some(method) = stateful.place(message.cseq.method.of(message.bytes)) else {
        return Ok(None);
    };
    match find(message.call_id.value.of(message.bytes), to.key) {
        Found::Nowhere => Ok(None),
        Found::Elsewhere(worker) => Err(worker),
        Found::Here(at) => Ok(Some(Answer {
            at,
            attempt: to.attempt,
            status,
            method,
        })),
    }
}

/// A response to a CANCEL of our own, on which ours is the only Via. It counts
/// where its branch names a transaction that is there.
#[cold]
fn to_own_cancel(
    proxy: &Proxy,
    message: &Message<'_>,
    status: u16,
    branch: Option<Branch>,
    find: impl Fn(&[u8], u64) -> Found,
) -> Option<Among> {
    if proxy.stateful.methods.is_empty() || message.cseq.method.of(message.bytes) != b"CANCEL" {
        return None;
    }
    let branch = branch?;
    let key = branch.key(&proxy.secret);
    match find(message.call_id.value.of(message.bytes), key) {
        Found::Nowhere => None,
        Found::Elsewhere(worker) => Some(Among::HandOver(worker)),
        Found::Here(at) => Some(Among::Cancelled {
            at,
            attempt: branch.attempt,
            status,
        }),
    }
}

/// Whether it is a 481 to CANCEL (§9.2).
fn is_unknown_to_cancel(message: &Message<'_>, status: u16) -> bool {
    status == 481 && message.cseq.method.of(message.bytes) == b"CANCEL"
}

/// What a response needs of our own Via.
struct OwnVia {
    /// `None` where it is no branch of ours.
    branch: Option<Branch>,
    /// Where the next value of the same row starts.
    next: Option<u32>,
}

#[inline]
fn own_via(proxy: &Proxy, bytes: &[u8], row: Row) -> Result<OwnVia, Reason> {
    // Nearly always it comes back as we wrote it, and alone in its row.
    let behind_magic = proxy.locals.behind_magic(row.value.of(bytes));
    if let Some(branch) = behind_magic.and_then(Branch::parse_behind_magic) {
        return Ok(OwnVia {
            branch: Some(branch),
            next: None,
        });
    }
    let own = via(bytes, row.value).ok_or(Reason::TopVia)?;
    let host = own.host.of(bytes);
    let is_ours = (proxy.locals).names(host, literal(host), own.port_or_default());
    if !is_ours {
        return Err(Reason::NotOurVia);
    }
    Ok(OwnVia {
        branch: own
            .branch
            .and_then(|branch| Branch::parse(branch.value.of(bytes))),
        next: own.next,
    })
}

/// Reads the Via below ours: in the same row behind a comma, or in the next
/// one. False: there is none.
#[inline]
fn read_next_via(
    via: &mut Via,
    message: &Message<'_>,
    row: Row,
    next: Option<u32>,
) -> Result<bool, Reason> {
    let span = match (next, message.next_via) {
        (Some(start), _) => Span {
            start,
            end: row.value.end,
        },
        (None, Some(below)) => below.value,
        (None, None) => return Ok(false),
    };
    let sound = via.read(message.bytes, span);
    sound.then_some(true).ok_or(Reason::HeaderValue)
}

struct NextHop {
    respond_to: std::net::SocketAddr,
    listener: usize,
    key: u64,
    attempt: u8,
}

/// The address that our branch vouches for; `None` where the branch is none
/// of ours, or belongs to another Via, address or call.
#[inline]
fn verified_next_hop(
    proxy: &Proxy,
    message: &Message<'_>,
    branch: Option<Branch>,
    next: &Via,
) -> Option<NextHop> {
    let branch = branch?;
    if !proxy.locals.has(branch.listener) {
        return None;
    }
    let respond_to = read_respond_to(message.bytes, next)?;
    let transaction = Transaction {
        via: next,
        message,
        from_tag: from_tag(message),
        listener: branch.listener,
        respond_to,
    };
    let key = transaction.verified(&proxy.secret, &branch)?;
    Some(NextHop {
        respond_to,
        listener: branch.listener,
        key,
        attempt: branch.attempt,
    })
}
