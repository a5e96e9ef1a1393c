//! The second chance of a call that was being set up when the farm changed.
//!
//! What belongs to a dialog finds its destination by cookie or by name. A
//! CANCEL and the ACK to a failure have neither: they follow the hash, as
//! their INVITE did, and where sets or routes have changed since, the hash may
//! lead elsewhere. So, while former generations are kept (`second-chance-s`),
//! a CANCEL or ACK that is hashed goes
//!
//! - where the present generation sends it, and
//! - to the other destinations that the former ones would have chosen by their
//!   own rules, keys and tables: [`MOST_COPIES`] of them at most, from the newest
//!   on, the same octets from the same socket.
//!
//! Neither does harm where the call is unknown: an ACK is ignored there
//! (RFC 3261 §17.2.3, §13.3.1.4), a CANCEL answered with 481 (§9.2). Nothing
//! else is ever sent twice, and nothing that has passed us before: copies that
//! came round would multiply (RFC 5393 §3). In a round-robin set, the memory
//! that follows its destinations stands in for the tables; a destination that
//! was taken out without having been drained gets no second chance there.
//!
//! All copies have one branch, so the caller would get the answers of all. The
//! one that counts is that of the destination which has the call; 481 comes
//! from a stranger, and is not passed on as long as it may be one
//! ([`is_strangers`]). Where nobody has the call, the caller gets no answer
//! to CANCEL and gives up by itself (§9.1).

use std::net::SocketAddr;

use super::generation::Generation;
use super::request::Request;
use super::routes::Target;
use super::select::{add_common_key, add_salt};
use super::{Proxy, Scratch};
use crate::dispatcher::{Dispatcher, Set};
use crate::sip::Message;

/// How many other destinations a request goes to at most.
pub const MOST_COPIES: usize = 3;

impl Request<'_> {
    /// Where else a CANCEL or ACK goes that was hashed to `to` and leaves by
    /// `listener`.
    pub(super) fn second_chance(
        &self,
        target: &Target,
        to: SocketAddr,
        listener: usize,
        scratch: &mut Scratch,
    ) {
        let locals = &self.proxy.locals;
        if self.proxy.former.is_empty() || self.own_vias().next().is_some() {
            return;
        }
        let Scratch { also, octets, .. } = scratch;
        for owner in self.former_owners(target, octets) {
            if also.len() < MOST_COPIES
                && owner != to
                && !also.contains(&owner)
                && locals.egress(self.datagram.listener, owner) == Some(listener)
                && !locals.is_forbidden(owner)
            {
                also.push(owner);
            }
        }
    }

    /// Whom the former generations would have chosen, from the newest on.
    pub(super) fn former_owners(
        &self,
        target: &Target,
        key: &mut Vec<u8>,
    ) -> impl Iterator<Item = SocketAddr> {
        let mut known = None;
        self.proxy.former.iter().filter_map(move |former| {
            let keyed = known.insert(self.hashed(former, target, known.as_ref(), key));
            let set = &former.dispatcher.sets()[keyed.set];
            address(set, keyed.hash, keyed.call_id)
        })
    }
}

fn address(set: &Set, hash: u64, call_id: &[u8]) -> Option<SocketAddr> {
    let owner = set.owner(hash, call_id)?;
    Some(set.definition().destinations[owner].address)
}

/// Whether a 481 to CANCEL from `source` may be the answer of a destination
/// that got a copy: whether, since a generation that is still kept, the routes
/// are others, or the owner of this key in a set that has `source`.
///
/// The key is read from the response where a response has it: Call-ID, From or
/// To. By any other the owner counts as another if the set is.
///
/// What a member gets from anybody else is none: it had called that one.
#[cold]
pub(super) fn is_strangers(
    proxy: &Proxy,
    message: &Message<'_>,
    source: SocketAddr,
    to: SocketAddr,
    key: &mut Vec<u8>,
) -> bool {
    let now = &*proxy.current;
    let mut former = proxy.former.iter();
    let sends = |generation: &Generation| generation.dispatcher.sender(source).is_some();
    let is_called = !sends(now) && !former.clone().any(|then| sends(then));
    if is_called && now.dispatcher.sender(to).is_some() {
        return false;
    }
    let is_of = |generation: &Generation| generation.dispatcher.member(source).is_some();
    former.any(|then| {
        let mut sets = now.dispatcher.sets().iter().zip(then.dispatcher.sets());
        !now.routes_as(then)
            || !(is_of(now) || is_of(then))
            || sets.any(|(set, was)| {
                (set.has(source) || was.has(source))
                    && has_other_owner(&now.dispatcher, set, was, message, key)
            })
    })
}

fn has_other_owner(
    dispatcher: &Dispatcher,
    set: &Set,
    was: &Set,
    message: &Message<'_>,
    key: &mut Vec<u8>,
) -> bool {
    let mut owner = |set: &Set| {
        let definition = set.definition();
        key.clear();
        add_common_key(message, &definition.hash_key, key).then(|| {
            add_salt(message, definition.policy, key);
            let call_id = message.call_id.value.of(message.bytes);
            address(set, dispatcher.hash(key), call_id)
        })
    };
    match (owner(set), owner(was)) {
        (Some(owner), Some(before)) => owner != before,
        _ => set.definition() != was.definition(),
    }
}
