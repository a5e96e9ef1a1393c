//! Record-Route and Path: how we stay where the requests of a dialog, and
//! those to a registered phone, pass (RFC 3261 §16.6 item 4, RFC 5658,
//! RFC 3327, RFC 5626 §5.3).

use std::net::SocketAddr;

use super::branch::Transaction;
use super::cookie::{Cookie, Purpose};
use super::host::literal;
use super::next_hop::Hop;
use super::request::Request;
use super::{Scratch, Way};
use crate::dispatcher::{Sender, identity};
use crate::sip::{Span, TooManyEdits};

/// Methods that begin a dialog, or may within one (RFC 3261, 6665, 3515).
const DIALOGS: [&[u8]; 4] = [b"INVITE", b"SUBSCRIBE", b"REFER", b"NOTIFY"];

impl Request<'_> {
    /// Puts our Record-Route or Path above all others, where one is wanted.
    pub(super) fn stay_on_path(
        &self,
        transaction: &Transaction<'_>,
        sender: Option<Sender>,
        hop: &Hop,
        scratch: &mut Scratch,
    ) -> Result<(), TooManyEdits> {
        let ingress = self.datagram.listener;
        let locals = &self.proxy.locals;
        let outward = matches!(hop.way, Way::Outbound(_) | Way::Flow);
        let from_phone = sender.is_none() && locals.adds_path(ingress);
        let cookie = if self.method == b"REGISTER" {
            // The registrar's requests come to the listener that it sees. They
            // must come from a member to be believed.
            let is_member = || self.proxy.dispatcher().sender(hop.to).is_some();
            let believed = from_phone && (hop.way != Way::Allowed || is_member());
            let flow = believed.then(|| self.reached_at(transaction));
            flow.map(|flow| self.cookie(Purpose::Path, 0, Some(flow), outward, hop))
        } else if self.records_route(hop) {
            let (destination, flow) = match (hop.way, sender) {
                (Way::Flow, Some(sender)) => (sender.id, Some(hop.to)),
                (Way::Outbound(_), Some(sender)) => (sender.id, None),
                _ => (identity(hop.to), self.flow(transaction, from_phone)),
            };
            Some(self.cookie(Purpose::Dialog, destination, flow, outward, hop))
        } else {
            None
        };
        let Some(cookie) = cookie else {
            return Ok(());
        };
        let call_id = self.message.call_id.value.of(self.message.bytes);
        let text = cookie.write(&self.proxy.secret, call_id);
        let (leaves, came) = (locals.uri(hop.listener), locals.uri(ingress));
        let name: &[u8] = match cookie.purpose {
            Purpose::Dialog => b"Record-Route: <sip:",
            Purpose::Path => b"Path: <sip:",
        };
        // Each side is given the address that it can reach (RFC 5658 §6).
        let parts = [name, text.as_bytes(), leaves, name, text.as_bytes(), came];
        let both = cookie.purpose == Purpose::Dialog && leaves != came;
        let parts = &parts[..if both { 6 } else { 3 }];
        let start = self.message.headers_start;
        scratch.rewrite.replace(Span { start, end: start }, parts)
    }

    fn records_route(&self, hop: &Hop) -> bool {
        let listener = self.proxy.locals.records_route(self.datagram.listener);
        let wanted = hop.record_route.unwrap_or(listener);
        // Whoever is allowed by the configuration has no destination to keep.
        wanted && hop.way != Way::Allowed && DIALOGS.contains(&self.method)
    }

    /// Where a phone is reached that nobody stands before. Another proxy has a
    /// Record-Route.
    fn flow(&self, transaction: &Transaction<'_>, from_phone: bool) -> Option<SocketAddr> {
        let alone = self.message.next_via.is_none() && transaction.via.next.is_none();
        (from_phone && alone).then(|| self.reached_at(transaction))
    }

    /// Where the phone is reached: where its packets come from, which is the one
    /// way through a NAT. One whose Via has its own address is behind none, and
    /// listens where it says. By a front balancer that one, who knows whose port
    /// it is.
    fn reached_at(&self, transaction: &Transaction<'_>) -> SocketAddr {
        let source = self.datagram.source;
        let named = literal(transaction.via.host.of(self.message.bytes));
        match self.front {
            None if named != Some(source.ip()) => source,
            _ => transaction.respond_to,
        }
    }

    fn cookie(
        &self,
        purpose: Purpose,
        destination: u64,
        flow: Option<SocketAddr>,
        outward: bool,
        hop: &Hop,
    ) -> Cookie {
        let (came, leaves) = (self.datagram.listener, hop.listener);
        let (outer, inner) = if outward {
            (leaves, came)
        } else {
            (came, leaves)
        };
        Cookie {
            purpose,
            outer,
            inner,
            destination,
            flow,
        }
    }
}
