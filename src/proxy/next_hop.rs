//! Where a request goes (RFC 3261 §16.4 to §16.6): the Route set and the
//! Request-URI, who may name whom, and what is left to the dispatcher.

use std::net::SocketAddr;

use super::names::Unresolved;
use super::reason::Reason;
use super::request::Request;
use super::target::{uri_address, uri_host, wants_other_transport};
use super::{Scratch, Way};
use crate::config::State;
use crate::sip::{self, Scheme, Span, TooManyEdits, Uri};

/// What the topmost Route that is not ours, or else the Request-URI, names.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// Us.
    Us,
    /// An address, and whether it is asked for by another transport than UDP.
    Address(SocketAddr, bool),
    /// A host name, to be reached by UDP.
    Name(Unresolved),
    /// A telephone number, or what UDP does not reach.
    NoAddress,
}

impl Request<'_> {
    /// §16.4: takes our own values off the top of Route, and reads what the
    /// first other one names, or else the Request-URI.
    pub(super) fn remove_own_routes(
        &self,
        uri: &Uri,
        scratch: &mut Scratch,
    ) -> Result<Named, Reason> {
        let bytes = self.message.bytes;
        let Some(first) = self.message.route else {
            return Ok(self.named(uri));
        };
        for value in sip::route_values(bytes, first, self.message.headers_end) {
            let (value, row) = value.ok_or(Reason::Route)?;
            let route = sip::uri(bytes, value.uri).ok_or(Reason::Route)?;
            let named = self.named(&route);
            if !matches!(named, Named::Us) {
                if value.value.start != row.value.start {
                    let own = Span {
                        start: row.value.start,
                        end: value.value.start,
                    };
                    scratch
                        .rewrite
                        .cut(own)
                        .map_err(|TooManyEdits| Reason::Route)?;
                }
                return Ok(named);
            }
            if value.next.is_none() {
                scratch
                    .rewrite
                    .cut(row.line)
                    .map_err(|TooManyEdits| Reason::Route)?;
            }
        }
        Ok(self.named(uri))
    }

    fn named(&self, uri: &Uri) -> Named {
        let bytes = self.message.bytes;
        let host = uri_host(uri).of(bytes);
        if self.proxy.locals.names(host, uri.port_or_default()) {
            return Named::Us;
        }
        match uri_address(bytes, uri) {
            Some(address) => Named::Address(address, wants_other_transport(bytes, uri)),
            None if uri.scheme != Scheme::Sip || wants_other_transport(bytes, uri) => {
                Named::NoAddress
            }
            None => Named::Name(Unresolved {
                host: uri_host(uri),
                port: uri.port,
            }),
        }
    }

    /// Whether a member sent it.
    pub(super) fn is_from_member(&self) -> bool {
        let dispatcher = self.proxy.dispatcher();
        dispatcher.member(self.datagram.source).is_some()
    }

    /// §16.5, §16.6 item 7. A member's word is followed. From anybody else it
    /// is followed to members and allowed hosts only; the rest is dispatched.
    pub(super) fn next_hop(
        &self,
        named: Named,
        from_member: bool,
        uri: &Uri,
        scratch: &mut Scratch,
    ) -> Result<(Way, SocketAddr), Reason> {
        match named {
            Named::Address(address, false) if from_member => {
                return Ok((Way::Outbound, address));
            }
            Named::Address(..) | Named::Name(_) | Named::NoAddress if from_member => {
                return Err(Reason::NextHop);
            }
            Named::Address(address, _) => {
                if let Some(way) = self.trusted(address) {
                    return Ok((way, address));
                }
            }
            // A member that names us and nobody else means the farm: a new
            // call of a B2BUA (§16.3: a spiral, bounded by Max-Forwards).
            Named::Us | Named::Name(_) | Named::NoAddress => {}
        }
        self.select(uri, scratch)
    }

    /// Whether anybody may name `address`: members that take work, and hosts
    /// that the configuration allows.
    fn trusted(&self, address: SocketAddr) -> Option<Way> {
        let dispatcher = self.proxy.dispatcher();
        if let Some((set, destination)) = dispatcher.member(address) {
            let member = &dispatcher.sets()[set].definition().destinations[destination];
            return (member.state == State::Active).then_some(Way::Named { set, destination });
        }
        let allowed = self
            .proxy
            .allowed
            .iter()
            .any(|net| net.contains(&address.ip()));
        allowed.then_some(Way::Allowed)
    }
}
