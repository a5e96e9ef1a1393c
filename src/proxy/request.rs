//! Requests: validation (RFC 3261 §16.3), the next hop (§16.4 to §16.6), and
//! the edits on the way (§16.6, §18.2.1).

use std::net::SocketAddr;

use super::branch::{BranchText, Identity, Transaction};
use super::host::respond_to;
use super::next_hop::Hop;
use super::reason::Reason;
use super::repair::Repairs;
use super::routes::{Routes, Target};
use super::stateful::{Among, Attempt, Begin, Found, Part, Role};
use super::{
    Datagram, Decision, Forward, Kind, Place, Proxy, Reply, Scratch, Status, Way, call, reply,
};
use crate::dispatcher::Sender;
use crate::sip::{
    self, Address, Fault, Header, Message, Method, Scheme, Span, TooManyEdits, Uri, Via, address,
};

/// One request under decision.
pub(super) struct Request<'a> {
    pub(super) proxy: &'a Proxy,
    /// As its sender sent it.
    pub(super) datagram: &'a Datagram<'a>,
    /// The front balancer that it came by.
    pub(super) front: Option<SocketAddr>,
    pub(super) message: &'a Message<'a>,
    pub(super) method: &'a [u8],
    /// The Request-URI.
    pub(super) uri: Span,
    /// Which attempt of a transaction it is to be; `None`: the first, if any.
    pub(super) attempt: Option<&'a Attempt<'a>>,
}

impl<'a> Request<'a> {
    pub(super) fn new(
        proxy: &'a Proxy,
        datagram: &'a Datagram<'a>,
        front: Option<SocketAddr>,
        message: &'a Message<'a>,
        method: Span,
        uri: Span,
    ) -> Self {
        Self {
            proxy,
            datagram,
            front,
            message,
            method: method.of(message.bytes),
            uri,
            attempt: None,
        }
    }

    /// Decides, and writes what is to be sent into `out`. `find` knows the
    /// transactions.
    #[inline]
    pub(super) fn decide(
        &self,
        find: impl Fn(&[u8], u64) -> Found,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<Among, Reason> {
        let mut via = Via::default();
        self.read_top_via(&mut via)?;
        // Read here because the MAC covers the tag, even of a reply.
        let from = address(self.message.bytes, self.message.from.value);
        let tag = from.as_ref().map(|from| from.tag).unwrap_or_default();
        let transaction = self.transaction(&via, tag);
        let decided = match (self.message.fault, &from) {
            (Some(fault), _) => Err(fault_reason(fault)),
            (None, None) => Err(Reason::HeaderValue),
            (None, Some(_)) => self.forward(&transaction, find, scratch, out),
        };
        decided.or_else(|reason| {
            let refused = self.refuse(&transaction, reason, scratch, out);
            refused.map(Among::None)
        })
    }

    #[inline(always)]
    fn read_top_via(&self, via: &mut Via) -> Result<(), Reason> {
        let missing = || (self.message.fault).map_or(Reason::MissingHeader, fault_reason);
        let row = self.message.via.ok_or_else(missing)?;
        // It left us, and nobody was in between: a socket bound to a wildcard
        // cannot tell its own addresses otherwise.
        let value = row.value.of(self.message.bytes);
        if self.proxy.locals.behind_magic(value).is_some() {
            return Err(Reason::BadSource);
        }
        let sound = via.read(self.message.bytes, row.value);
        sound.then_some(()).ok_or(Reason::TopVia)
    }

    #[inline]
    fn transaction<'v>(&'v self, via: &'v Via, from_tag: Span) -> Transaction<'v> {
        Transaction {
            via,
            message: self.message,
            from_tag,
            listener: self.datagram.listener,
            respond_to: respond_to(via, self.datagram.source, self.front),
        }
    }

    fn forward(
        &self,
        transaction: &Transaction<'_>,
        find: impl Fn(&[u8], u64) -> Found,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<Among, Reason> {
        let uri = self.uri.of(self.message.bytes);
        let identity = transaction.identity(&self.proxy.secret, uri);
        let role = self.role();
        if let Some(role) = role {
            let call_id = self.message.call_id.value.of(self.message.bytes);
            match find(call_id, identity.key) {
                Found::Here(at) => return Ok(Among::Known(at, role)),
                Found::Elsewhere(worker) => return Ok(Among::HandOver(worker)),
                Found::Nowhere => {}
            }
        }
        let attempt = self.attempt.map_or(0, |attempt| attempt.number);
        // Long before it is copied, against a stall, as the repairs.
        let mut branch = BranchText::EMPTY;
        let secret = &self.proxy.secret;
        branch.write(self.datagram.listener, identity, attempt, secret);
        let bytes = self.message.bytes;
        let to = address(bytes, self.message.to.value);
        let to = to.as_ref().ok_or(Reason::HeaderValue)?;
        let in_dialog = !to.tag.is_empty();
        let mut routes = Routes::new(self.uri);
        let uri = &mut routes.target.uri;
        let is_uri = uri.read(bytes, self.uri);
        self.validate(transaction, to, is_uri.then_some(&*uri))?;
        self.repair(transaction.via, scratch)?;
        let sender = self.proxy.dispatcher().sender(self.datagram.source);
        self.follow(&mut routes, sender.is_some(), scratch)?;
        let hop = self.next_hop(sender, &routes, scratch);
        let Some(hop) = hop.as_ref().map_err(|reason| {
            if !in_dialog {
                let begin = begin(role, identity, in_dialog, transaction);
                self.note_unplaced(*reason, begin, &routes.target, scratch);
            }
            *reason
        })?
        else {
            return Ok(Among::None(Decision::Resolve));
        };
        let Hop { way, to, .. } = *hop;
        if self.proxy.locals.is_forbidden(to) {
            return Err(Reason::ForbiddenNextHop);
        }
        let hashed = matches!(way, Way::Selected(_) | Way::Former);
        if hashed && self.is_hop_by_hop() {
            self.second_chance(&routes.target, to, hop.listener, scratch);
        }
        self.serve_strict_routers(&routes, !hashed, transaction.via, scratch)?;
        // The space is bounded by the length of names we write ourselves.
        let padding_at = self
            .add(transaction, &branch, sender, hop, scratch)
            .map_err(|TooManyEdits| Reason::Route)?;
        let whole = &self.message.bytes[..self.message.end as usize];
        let length = scratch.rewrite.write(whole, out).ok_or(Reason::TooLarge)?;
        let dispatcher = self.proxy.dispatcher();
        let from = sender.and_then(|sender| dispatcher.with_id(sender.id));
        if let Some(begin) = begin(role, identity, in_dialog, transaction) {
            // What cannot be answered goes on statelessly.
            if !begin.chosen.invite || self.write_trying(transaction, scratch) {
                scratch.part = Some(Part::Begins(begin));
            }
        }
        Ok(Among::None(Decision::Forward(Forward {
            length,
            padding_at,
            call: call(self.message),
            to,
            listener: hop.listener,
            way,
            kind: Kind::Request(Method::of(self.method)),
            branch: identity.key ^ u64::from(attempt),
            from: from.map(Place::new),
            in_dialog,
            cookie: hop.cookie_use,
        })))
    }

    /// Where no destination of its set takes an INVITE: its transaction can go
    /// to another set.
    #[cold]
    fn note_unplaced(
        &self,
        reason: Reason,
        begin: Option<Begin>,
        target: &Target,
        scratch: &mut Scratch,
    ) {
        let begin = begin.filter(|begin| begin.chosen.invite && reason == Reason::NoDestination);
        if let Some(begin) = begin {
            let keyed = self.hashed(&self.proxy.current, target, None, &mut scratch.octets);
            scratch.part = Some(Part::Unplaced(begin, keyed.set));
        }
    }

    /// What it can be to a transaction of ours.
    #[inline(always)]
    fn role(&self) -> Option<Role> {
        if self.attempt.is_some() {
            return None;
        }
        Role::of(&self.proxy.stateful, self.method)
    }

    /// Answers it with a status of our own, as its transaction does. `None`
    /// where that cannot be written, or must not be sent.
    pub(super) fn reply(&self, status: Status, out: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut via = Via::default();
        self.read_top_via(&mut via).ok()?;
        let from = address(self.message.bytes, self.message.from.value)?;
        let transaction = self.transaction(&via, from.tag);
        let length = self.write_reply(&transaction, status, out)?;
        Some((length, transaction.respond_to))
    }

    /// Writes the 100 that a transaction would answer it with; false where that
    /// cannot be written, or must not be sent.
    fn write_trying(&self, transaction: &Transaction<'_>, scratch: &mut Scratch) -> bool {
        let trying = &mut scratch.trying;
        let written = self.write_reply(transaction, Status::Trying, &mut trying.octets);
        trying.length = written.unwrap_or(0);
        trying.padding_at = reply::via_value(self.message, Status::Trying);
        written.is_some()
    }

    fn write_reply(
        &self,
        transaction: &Transaction<'_>,
        status: Status,
        out: &mut [u8],
    ) -> Option<usize> {
        let to = transaction.respond_to;
        if self.proxy.locals.is_forbidden(to) {
            return None;
        }
        let tag = || transaction.reply_tag(&self.proxy.secret);
        let repairs = self.repairs(transaction.via);
        reply::write(self.message, status, tag, &repairs, out)
    }

    /// §16.3, in its order, for a message without a fault; what may be
    /// answered by a reply is an error. The Request-URI is `None` where it
    /// breaks the grammar.
    #[inline(always)]
    fn validate(
        &self,
        transaction: &Transaction<'_>,
        to: &Address,
        uri: Option<&Uri>,
    ) -> Result<(), Reason> {
        let bytes = self.message.bytes;
        if self.is_ack_of_reply(to, transaction) {
            return Err(Reason::ReplyAck);
        }
        let uri = uri.ok_or(Reason::RequestUri)?;
        if uri.scheme == Scheme::Other {
            return Err(Reason::UriScheme);
        }
        if matches!(self.message.max_forwards, Some((_, 0))) {
            return Err(Reason::TooManyHops);
        }
        if self.message.has(Header::ProxyRequire) && !self.is_hop_by_hop() {
            return Err(Reason::ProxyRequire);
        }
        if self.message.cseq.method.of(bytes) != self.method {
            return Err(match Method::of(self.method) {
                Method::Other => Reason::UnknownMethod,
                _ => Reason::CSeqMethod,
            });
        }
        Ok(())
    }

    /// A reply's To tag is a MAC of the request: no memory needed to know it.
    fn is_ack_of_reply(&self, to: &Address, transaction: &Transaction<'_>) -> bool {
        let tag = to.tag.of(self.message.bytes);
        self.method == b"ACK"
            && tag.len() == 16
            && transaction.is_reply_tag(tag, &self.proxy.secret)
    }

    /// ACK and CANCEL: never answered, and exempt from Proxy-Require
    /// (§8.2.2.3, §8.2.7).
    pub(super) fn is_hop_by_hop(&self) -> bool {
        matches!(self.method, b"ACK" | b"CANCEL")
    }

    /// §16.6 item 3, §18.2.1, RFC 3581 §4: what does not depend on the way it
    /// takes. All edits depend on what a retransmission shares, so it leaves
    /// byte for byte alike.
    ///
    /// It is done long before the result is written, for a stall there costs 7 %
    /// of a decision's time.
    pub(super) fn repair(&self, via: &Via, scratch: &mut Scratch) -> Result<(), Reason> {
        let rewrite = &mut scratch.rewrite;
        let mut edit = || {
            self.repairs(via).apply(rewrite)?;
            let Some((span, hops)) = self.message.max_forwards else {
                return Ok(());
            };
            let (digits, length) = sip::dotted(hops - 1);
            rewrite.replace(span, &[&digits[..length]])
        };
        edit().map_err(|TooManyEdits| Reason::Route)
    }

    /// §16.6 items 3, 4 and 8: what we add. Returns where in the result the
    /// value of Max-Forwards starts.
    fn add(
        &self,
        transaction: &Transaction<'_>,
        branch: &BranchText,
        sender: Option<Sender>,
        hop: &Hop,
        scratch: &mut Scratch,
    ) -> Result<usize, TooManyEdits> {
        let message = self.message;
        let via_start = message.via.map_or(0, |row| row.line.start as usize);
        let own_via = self.proxy.locals.via(hop.listener);
        let max_forwards: &[u8] = if message.max_forwards.is_some() {
            b"\r\n"
        } else {
            b"\r\nMax-Forwards: 70\r\n"
        };
        scratch.rewrite.replace(
            Span::new(via_start, via_start),
            &[own_via, branch.as_bytes(), max_forwards],
        )?;
        self.stay_on_path(transaction, sender, hop, scratch)?;
        let rewrite = &scratch.rewrite;
        if let Some((span, _)) = message.max_forwards {
            return Ok(rewrite.position(span.start));
        }
        let own_via = rewrite.position(via_start as u32) + own_via.len() + branch.as_bytes().len();
        Ok(own_via + max_forwards.len() - b"70\r\n".len())
    }

    /// Answers with the status that `reason` calls for, or drops.
    #[cold]
    fn refuse(
        &self,
        transaction: &Transaction<'_>,
        reason: Reason,
        scratch: &mut Scratch,
        out: &mut [u8],
    ) -> Result<Decision, Reason> {
        let status = reason
            .status()
            .filter(|_| !self.is_hop_by_hop())
            .ok_or(reason)?;
        let written = self.write_reply(transaction, status, out);
        let Some(length) = written else {
            // Nor could its transaction.
            scratch.part = None;
            return Err(reason);
        };
        Ok(Decision::Reply(Reply {
            length,
            to: transaction.respond_to,
            sender: self.datagram.source.ip(),
            status,
            reason,
        }))
    }

    fn repairs(&self, via: &Via) -> Repairs {
        Repairs::new(self.message.bytes, via, self.datagram.source, self.front)
    }
}

/// What begins with a request that is this to a transaction of ours.
#[inline(always)]
fn begin(
    role: Option<Role>,
    identity: Identity,
    in_dialog: bool,
    transaction: &Transaction<'_>,
) -> Option<Begin> {
    let Some(Role::Request(chosen)) = role else {
        return None;
    };
    Some(Begin {
        identity,
        chosen,
        in_dialog,
        respond_to: transaction.respond_to,
    })
}

pub(super) fn fault_reason(fault: Fault) -> Reason {
    match fault {
        Fault::StartLine => Reason::StartLine,
        Fault::Version => Reason::Version,
        Fault::LineEnd => Reason::LineEnd,
        Fault::HeaderName => Reason::HeaderName,
        Fault::Missing => Reason::MissingHeader,
        Fault::Duplicate => Reason::DuplicateHeader,
        Fault::Value => Reason::HeaderValue,
        Fault::TooShort => Reason::TooShort,
    }
}
