//! Where a request goes (RFC 3261 §16.4 to §16.6): which direction it has,
//! who may name whom, and what is left to the dispatcher.

use std::net::SocketAddr;

use super::cookie::{Claim, Cookie, Purpose};
use super::host::{Named, literal};
use super::reason::Reason;
use super::request::Request;
use super::routes::Routes;
use super::stateful::{Attempt, Goal};
use super::{CookieUse, Place, Scratch, Selection, Way};
use crate::config::State;
use crate::dispatcher::Sender;
use crate::sip::{self, Via};

/// A member may name us in a request that has passed us less often. A call for
/// another proxy of the farm and from there for a phone passes three times.
const MOST_PASSES: usize = 4;

/// Where a request goes.
pub(super) struct Hop {
    pub(super) way: Way,
    pub(super) to: SocketAddr,
    /// The listener to leave by.
    pub(super) listener: usize,
    pub(super) cookie_use: CookieUse,
    /// What the rule that chose the set says of Record-Route.
    pub(super) record_route: Option<bool>,
}

impl Request<'_> {
    /// §16.5, §16.6 item 7. A member's word is followed. From anybody else it
    /// is followed to members and allowed hosts only; the rest is dispatched.
    /// `None`: what it names has to be [resolved](super::Names) first.
    pub(super) fn next_hop(
        &self,
        sender: Option<Sender>,
        routes: &Routes,
        scratch: &mut Scratch,
    ) -> Result<Option<Hop>, Reason> {
        let hop = match sender {
            Some(sender) => self.outward(sender, routes, scratch),
            None => self.inward(routes, scratch),
        };
        match self.attempt {
            Some(&Attempt {
                goal: Goal::Again(to, listener),
                ..
            }) => {
                let fresh = hop.ok().flatten();
                Ok(Some(self.again(sender, routes, to, listener, fresh)))
            }
            _ => hop,
        }
    }

    /// Where it went before, whatever has changed since: even where it could
    /// not be placed `fresh`.
    fn again(
        &self,
        sender: Option<Sender>,
        routes: &Routes,
        to: SocketAddr,
        listener: usize,
        fresh: Option<Hop>,
    ) -> Hop {
        let dispatcher = self.proxy.dispatcher();
        let way = match fresh.as_ref().map(|hop| hop.way) {
            // What is counted is where it goes.
            Some(Way::Selected(chosen)) => match dispatcher.member_of(chosen.set, to) {
                Some((set, destination)) => Way::Selected(Selection {
                    set,
                    destination,
                    ..chosen
                }),
                None => Way::Former,
            },
            Some(Way::Outbound(_)) => self.way_out(to),
            Some(way) => way,
            None if sender.is_some() => self.way_out(to),
            None => Way::Former,
        };
        Hop {
            way,
            to,
            listener,
            // What cannot be placed any more was counted when it could.
            cookie_use: fresh.as_ref().map_or(CookieUse::None, |hop| hop.cookie_use),
            record_route: match fresh {
                Some(hop) => hop.record_route,
                None if sender.is_some() => None,
                // What its rule says counts although nothing can be chosen.
                None => {
                    let rule = self.rule_in(&self.proxy.current, &routes.target);
                    rule.and_then(|rule| rule.record_route)
                }
            },
        }
    }

    /// From a member.
    fn outward(
        &self,
        sender: Sender,
        routes: &Routes,
        scratch: &mut Scratch,
    ) -> Result<Option<Hop>, Reason> {
        let cookie = match routes.claim {
            Claim::Forged(Purpose::Path) => return Err(Reason::ForgedFlow),
            Claim::Verified(cookie) => Some(cookie),
            _ => None,
        };
        // Whoever comes by the callers' side and is not the destination called it,
        // and means the other side.
        let back = cookie.filter(|cookie| {
            cookie.destination == sender.id || cookie.outer != self.datagram.listener
        });
        let back = back.map(|cookie| cookie.outer);
        let used = routes.claim.cookie_use();
        // What a phone's own Path says is followed, whatever its Contact. The
        // flow of a dialog ends at the next hop, which a Route would name.
        if let Some(Cookie {
            flow: Some(flow),
            purpose,
            outer,
            ..
        }) = cookie
            && (purpose == Purpose::Path || !routes.goes_on)
        {
            return self.hop(Way::Flow, flow, Some(outer), used, None);
        }
        // Another destination is tried for what a set had chosen before: who is
        // named need not be known any more.
        let named = match self.attempt {
            Some(Attempt {
                goal: Goal::Next(..),
                ..
            }) => Named::Us,
            _ => routes.named,
        };
        match named {
            Named::Address(address, false) => self.outbound(address, back, used),
            Named::Name(host, port) => match self.resolve(host, port, &mut scratch.names)? {
                Some(address) if !self.is_us(address) => self.outbound(address, back, used),
                // A Route or `maddr` that stays would lead the farm back to us.
                Some(_) if routes.goes_on || !routes.target.uri.maddr.is_empty() => {
                    Err(Reason::NextHop)
                }
                Some(_) => self.dispatch(sender, routes, scratch),
                None => Ok(None),
            },
            // A number has no host of its own: what named us was the Route.
            Named::NoAddress if routes.leads_here_alone() => self.dispatch(sender, routes, scratch),
            Named::Address(..) | Named::NoAddress => Err(Reason::NextHop),
            Named::Us => self.dispatch(sender, routes, scratch),
        }
    }

    /// Where a member says. With a loopback address it means itself, and what
    /// listens there is meant for this host alone: it is followed where the
    /// member and the listener are there too, or anybody may name it.
    fn outbound(
        &self,
        to: SocketAddr,
        listener: Option<usize>,
        used: CookieUse,
    ) -> Result<Option<Hop>, Reason> {
        let listener = self.leave_by(to, listener)?;
        let is_within = || {
            let from = self.datagram.source.ip();
            from.is_loopback() && self.proxy.locals.reaches_loopback(listener)
        };
        if to.ip().is_loopback() && !is_within() && self.trusted(to, CookieUse::None).is_none() {
            return Err(Reason::ForbiddenNextHop);
        }
        self.hop(self.way_out(to), to, Some(listener), used, None)
    }

    fn way_out(&self, to: SocketAddr) -> Way {
        Way::Outbound(self.proxy.dispatcher().member(to).map(Place::new))
    }

    /// A member that names us means the farm: a new call of a B2BUA, a call
    /// forwarded (§16.3: a spiral), or the member that has its dialog. Once; a
    /// Contact that names us would have it come round for ever.
    fn dispatch(
        &self,
        sender: Sender,
        routes: &Routes,
        scratch: &mut Scratch,
    ) -> Result<Option<Hop>, Reason> {
        if self.has_come_round() {
            return Err(Reason::Loop);
        }
        let used = match routes.claim {
            Claim::Verified(cookie) if cookie.destination != sender.id => {
                if let Some(hop) = self.in_dialog(cookie) {
                    return hop;
                }
                CookieUse::Gone
            }
            // Its own dialog leads to itself.
            Claim::Verified(_) => CookieUse::None,
            claim => claim.cookie_use(),
        };
        self.select(&routes.target, used, scratch)
    }

    /// To the member that a cookie names; `None` where there is none, or none
    /// any more.
    fn in_dialog(&self, cookie: Cookie) -> Option<Result<Option<Hop>, Reason>> {
        let dispatcher = self.proxy.dispatcher();
        let (set, destination) = dispatcher.with_id(cookie.destination)?;
        let to = dispatcher.sets()[set].definition().destinations[destination].address;
        let way = Way::Dialog(Place::new((set, destination)));
        Some(self.hop(way, to, Some(cookie.inner), CookieUse::Followed, None))
    }

    fn is_us(&self, address: SocketAddr) -> bool {
        let (ip, port) = (address.ip(), address.port());
        self.proxy.locals.names(&[], Some(ip), port)
    }

    /// From anybody else.
    fn inward(&self, routes: &Routes, scratch: &mut Scratch) -> Result<Option<Hop>, Reason> {
        let dispatcher = self.proxy.dispatcher();
        let mut inner = None;
        let used = match routes.claim {
            Claim::None => CookieUse::None,
            Claim::Verified(cookie) if cookie.purpose == Purpose::Dialog => {
                if let Some(hop) = self.in_dialog(cookie) {
                    return hop;
                }
                inner = Some(cookie.inner);
                match routes.named {
                    Named::Address(address, _)
                        if dispatcher.is_source(address.ip(), cookie.destination) =>
                    {
                        CookieUse::Followed
                    }
                    _ => CookieUse::Gone,
                }
            }
            // A Path is for members alone.
            Claim::Verified(_) => CookieUse::None,
            Claim::Forged(_) => CookieUse::Forged,
        };
        if let Named::Address(address, _) = routes.named
            && let Some(way) = self.trusted(address, used)
        {
            return self.hop(way, address, inner, used, None);
        }
        self.select(&routes.target, used, scratch)
    }

    /// Where it goes, as [`next_hop`](Self::next_hop) gives it: put together once,
    /// for a copy would stall.
    pub(super) fn hop(
        &self,
        way: Way,
        to: SocketAddr,
        listener: Option<usize>,
        cookie_use: CookieUse,
        record_route: Option<bool>,
    ) -> Result<Option<Hop>, Reason> {
        Ok(Some(Hop {
            way,
            to,
            listener: self.leave_by(to, listener)?,
            cookie_use,
            record_route,
        }))
    }

    /// The listener that a cookie names, or the one for the network.
    fn leave_by(&self, to: SocketAddr, listener: Option<usize>) -> Result<usize, Reason> {
        let locals = &self.proxy.locals;
        let listener = listener.filter(|&listener| locals.reaches(listener, to));
        let listener = listener.or_else(|| locals.egress(self.datagram.listener, to));
        listener.ok_or(Reason::NextHop)
    }

    /// Whether anybody may name `address`: members that are not disabled, hosts
    /// that the configuration allows, and the member source whose dialog it is.
    fn trusted(&self, address: SocketAddr, used: CookieUse) -> Option<Way> {
        let dispatcher = self.proxy.dispatcher();
        if let Some((set, destination)) = dispatcher.member(address) {
            let member = &dispatcher.sets()[set].definition().destinations[destination];
            let way = Way::Named(Place::new((set, destination)));
            return (member.state != State::Disabled).then_some(way);
        }
        let allowed = &mut self.proxy.allowed.iter();
        let ip = address.ip();
        let allowed = allowed.any(|net| net.contains(&ip));
        (allowed || used == CookieUse::Followed).then_some(Way::Allowed)
    }

    /// Whether it has passed us too often to be anything but a loop.
    fn has_come_round(&self) -> bool {
        self.own_vias().take(MOST_PASSES).count() == MOST_PASSES
    }

    /// Our own Vias in it: one for each time that it has passed us.
    pub(super) fn own_vias(&self) -> impl Iterator<Item = Via> {
        sip::vias(self.message).filter(|via| {
            let host = via.host.of(self.message.bytes);
            let locals = &self.proxy.locals;
            locals.names(host, literal(host), via.port_or_default())
        })
    }
}
