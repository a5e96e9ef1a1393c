//! The Route set (RFC 3261 §16.4, §16.6 items 4 and 6): our own values are
//! taken off, their cookie is read, and strict routers are served.

use super::Scratch;
use super::cookie::{Claim, Cookie};
use super::host::{Named, is_for_udp, named};
use super::reason::Reason;
use super::request::Request;
use crate::sip::{self, Address, Row, Scheme, Span, TooManyEdits, Uri, Via};

/// What Route and Request-URI say.
pub(super) struct Routes {
    /// The Request-URI, or what a strict router made of it.
    pub(super) target: Target,
    /// What the first Route value that is not ours names, or else the target.
    pub(super) named: Named,
    /// What our own Route values say.
    pub(super) claim: Claim,
    /// Whether a Route value stays in the request.
    pub(super) goes_on: bool,
    /// Whether the first that stays has no `lr`.
    strict_next: bool,
    /// Whether the sender is a strict router: the last value is the target.
    strict_sender: bool,
    /// How many values are ours.
    own: usize,
}

impl Routes {
    /// Nothing is known yet, not even the Request-URI in `text`.
    #[inline]
    pub(super) fn new(text: Span) -> Self {
        let uri = Uri::default();
        Self {
            target: Target { text, uri },
            named: Named::Us,
            claim: Claim::None,
            goes_on: false,
            strict_next: false,
            strict_sender: false,
            own: 0,
        }
    }

    /// Whether our own values were all that stood in Route, and the target is a
    /// number or a service (RFC 3966, RFC 5031), which names no host.
    pub(super) fn leads_here_alone(&self) -> bool {
        let has_host = !matches!(self.target.uri.scheme, Scheme::Tel | Scheme::Urn);
        self.own > 0 && !self.goes_on && !has_host
    }
}

/// A URI and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) text: Span,
    pub(super) uri: Uri,
}

impl Request<'_> {
    /// §16.4: takes our own values off the top of Route and reads what is
    /// behind them. Two of ours with one cookie are one pass through us by two
    /// listeners (RFC 5658); with two cookies they are two passes. A member
    /// undoes them all, and the last leads on; anybody else gets to the member
    /// between them first.
    pub(super) fn follow(
        &self,
        routes: &mut Routes,
        from_member: bool,
        scratch: &mut Scratch,
    ) -> Result<(), Reason> {
        let bytes = self.message.bytes;
        let locals = &self.proxy.locals;
        if self.message.route.is_none() {
            return self.by_target(routes, scratch);
        }
        let user = routes.target.uri.user;
        self.undo_strict_sender(routes)?;
        // A strict router brings the first in the Request-URI.
        let mut cookie = routes.strict_sender.then(|| user.of(bytes));
        // Of a member's many the last alone is verified.
        let mut unread = None;
        let mut stays = None;
        for value in sip::route_values(self.message) {
            let (value, row) = value.ok_or(Reason::Route)?;
            if routes.strict_sender && value.uri == routes.target.text {
                break;
            }
            let route = sip::uri(bytes, value.uri).ok_or(Reason::Route)?;
            let names = named(locals, bytes, &route);
            let user = route.user.of(bytes);
            let is_ours = matches!(names, Named::Us);
            let other_pass = !from_member && cookie.is_some_and(|first| first != user);
            if is_ours && !(other_pass && Cookie::has_shape(user)) {
                let is_next = cookie.is_none_or(|before| from_member && before != user);
                if Cookie::has_shape(user) && is_next {
                    cookie = Some(user);
                    unread = cookie;
                }
                routes.own += 1;
                if value.next.is_none() {
                    cut(scratch, row.line)?;
                }
                continue;
            }
            if value.value.start != row.value.start {
                let own = Span {
                    start: row.value.start,
                    end: value.value.start,
                };
                cut(scratch, own)?;
            }
            stays = Some((names, route.loose));
            break;
        }
        if let Some(user) = unread {
            routes.claim = self.claim(user);
        }
        let Some((names, loose)) = stays else {
            return self.by_target(routes, scratch);
        };
        self.leave_maddr_out(&routes.target.uri, scratch)?;
        routes.named = names;
        routes.goes_on = true;
        routes.strict_next = !loose;
        Ok(())
    }

    /// No Route is left: the target names the next hop.
    fn by_target(&self, routes: &mut Routes, scratch: &mut Scratch) -> Result<(), Reason> {
        let left = self.leave_maddr_out(&routes.target.uri, scratch)?;
        let uri = left.as_ref().unwrap_or(&routes.target.uri);
        routes.named = named(&self.proxy.locals, self.message.bytes, uri);
        Ok(())
    }

    /// An `maddr` that led to us would lead the next element back to us, so it
    /// goes, with the port and the transport; returns what is left (§16.4).
    #[inline]
    fn leave_maddr_out(&self, uri: &Uri, scratch: &mut Scratch) -> Result<Option<Uri>, Reason> {
        if uri.maddr.is_empty() {
            return Ok(None);
        }
        self.leave_out(uri, scratch)
    }

    #[cold]
    fn leave_out(&self, uri: &Uri, scratch: &mut Scratch) -> Result<Option<Uri>, Reason> {
        let bytes = self.message.bytes;
        let leads_here = matches!(named(&self.proxy.locals, bytes, uri), Named::Us);
        if !leads_here || !is_for_udp(bytes, uri) || self.new_uri().is_some() {
            return Ok(None);
        }
        let port = uri.port.map(|_| {
            let digits = bytes[uri.host.end as usize..].iter().skip(1);
            let digits = digits.take_while(|octet| octet.is_ascii_digit()).count();
            Span {
                start: uri.host.end,
                end: uri.host.end + 1 + digits as u32,
            }
        });
        let param = |name: &str, value: Span| {
            (!value.is_empty()).then(|| Span {
                start: value.start - name.len() as u32,
                ..value
            })
        };
        let maddr = param(";maddr=", uri.maddr);
        let transport = param(";transport=", uri.transport);
        let mut parts = [port, maddr, transport].into_iter().flatten();
        parts.try_for_each(|part| cut(scratch, part))?;
        Ok(Some(Uri {
            port: None,
            maddr: Span::default(),
            transport: Span::default(),
            ..*uri
        }))
    }

    fn claim(&self, user: &[u8]) -> Claim {
        let call_id = self.message.call_id.value.of(self.message.bytes);
        self.proxy.claim(user, call_id)
    }

    /// §16.4: a strict router put our Record-Route URI into the Request-URI,
    /// and what stood there behind all Route values.
    fn undo_strict_sender(&self, routes: &mut Routes) -> Result<(), Reason> {
        let bytes = self.message.bytes;
        let uri = routes.target.uri;
        let user = uri.user.of(bytes);
        if !Cookie::has_shape(user) || !matches!(named(&self.proxy.locals, bytes, &uri), Named::Us)
        {
            return Ok(());
        }
        let claim = self.claim(user);
        if let Claim::Verified(_) = claim {
            let values = sip::route_values(self.message);
            let (last, _) = values.last().flatten().ok_or(Reason::Route)?;
            let uri = sip::uri(bytes, last.uri).ok_or(Reason::Route)?;
            routes.target = Target {
                text: last.uri,
                uri,
            };
            routes.claim = claim;
            routes.strict_sender = true;
        }
        Ok(())
    }

    /// Writes the Route set of a strict router, on either side of us, anew
    /// (§16.4, §16.6 item 6); `followed` says whether the first value names
    /// the next hop. All others keep what they have, but for a Request-URI that
    /// a failure rule gives.
    pub(super) fn serve_strict_routers(
        &self,
        routes: &Routes,
        followed: bool,
        via: &Via,
        scratch: &mut Scratch,
    ) -> Result<(), Reason> {
        let strict_next = routes.strict_next && followed;
        match self.message.route {
            Some(first) if routes.strict_sender || strict_next => {
                self.rebuild(routes, first, strict_next, scratch)
                    .map_err(|TooManyEdits| Reason::Route)?;
                self.repair(via, scratch)
            }
            _ => match self.new_uri() {
                Some(uri) => {
                    let put = scratch.rewrite.replace(self.uri, &[uri]);
                    put.map_err(|TooManyEdits| Reason::Route)
                }
                None => Ok(()),
            },
        }
    }

    /// The Request-URI that a failure rule gives it.
    fn new_uri(&self) -> Option<&[u8]> {
        self.attempt?.request_uri
    }

    #[cold]
    fn rebuild(
        &self,
        routes: &Routes,
        first: Row,
        strict_next: bool,
        scratch: &mut Scratch,
    ) -> Result<(), TooManyEdits> {
        let bytes = self.message.bytes;
        let rewrite = &mut scratch.rewrite;
        // The cuts of single values, and the repairs, which are made anew.
        rewrite.clear();
        // What cannot be read cannot be moved either.
        let mut all = sip::route_values(self.message);
        if all.any(|value| value.is_none()) {
            return Err(TooManyEdits);
        }
        let is_last = |value: &Address| routes.strict_sender && value.uri == routes.target.text;
        let mut target = routes.target.text;
        let values = sip::route_values(self.message);
        let mut values = values.flatten().enumerate().peekable();
        let mut start = first.line.start;
        while let Some((number, (value, row))) = values.next() {
            // Each value with what stands before it and a row's end behind.
            let end = value.next.unwrap_or(row.line.end);
            let place = Span { start, end };
            start = end;
            let mut parts: [&[u8]; 6] = [b""; 6];
            if number == routes.own && strict_next {
                target = value.uri;
            } else if number >= routes.own && !is_last(&value) {
                parts[..3].copy_from_slice(&[b"Route: ", value.value.of(bytes), b"\r\n"]);
            }
            match values.peek() {
                Some((_, (_, next))) if value.next.is_none() => start = next.line.start,
                None if strict_next => {
                    let appended = routes.target.text.of(bytes);
                    parts[3..].copy_from_slice(&[b"Route: <", appended, b">\r\n"]);
                }
                _ => {}
            }
            rewrite.replace(place, &parts)?;
        }
        let target = self.new_uri().unwrap_or_else(|| target.of(bytes));
        rewrite.replace(self.uri, &[target])
    }
}

fn cut(scratch: &mut Scratch, span: Span) -> Result<(), Reason> {
    let cut = scratch.rewrite.cut(span);
    cut.map_err(|TooManyEdits| Reason::Route)
}
