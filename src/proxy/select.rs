//! Which set takes a request, and what of it is hashed.

use std::io::Write;
use std::net::IpAddr;
use std::sync::Arc;

use super::generation::Generation;
use super::host::literal;
use super::next_hop::Hop;
use super::reason::Reason;
use super::request::Request;
use super::routes::Target;
use super::rules::unescaped;
use super::stateful::{Attempt, Goal};
use super::{CookieUse, Scratch, Selection, Way};
use crate::config::{HashKey, Policy, Route};
use crate::sip::{self, Message, Span, Uri, address};

/// Headers that name a dialog by its Call-ID, for the request to meet it
/// (RFC 3891 §6.1, RFC 3911 §7.1, RFC 4538 §7).
const FOLLOWED: [&str; 3] = ["Replaces", "Join", "Target-Dialog"];

/// The key of a request, and what it is a key to.
pub(super) struct Keyed<'g, 'a> {
    /// The rules that it was found by.
    rules: &'g Arc<[Route]>,
    /// The rule that claims the request.
    pub(super) rule: Option<&'g Route>,
    pub(super) set: usize,
    /// What the rule and the set have hashed.
    made_of: MadeOf<'g>,
    /// The hash of the key.
    pub(super) hash: u64,
    /// The Call-ID that a set by Call-ID goes by.
    pub(super) call_id: &'a [u8],
}

/// What of a request is hashed: all that its key depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct MadeOf<'g> {
    follow_replaces: bool,
    hash_key: &'g HashKey,
    policy: Policy,
}

impl<'a> Request<'a> {
    /// Lets the rules choose a set, and the set a destination.
    pub(super) fn select(
        &self,
        target: &Target,
        cookie_use: CookieUse,
        scratch: &mut Scratch,
    ) -> Result<Option<Hop>, Reason> {
        let current = &self.proxy.current;
        let Keyed {
            rule,
            set,
            hash,
            call_id,
            ..
        } = self.hashed(current, target, None, &mut scratch.octets);
        let chosen = &current.dispatcher.sets()[set];
        let destination = match self.attempt {
            Some(Attempt {
                goal: Goal::Next(_, passed),
                ..
            }) => chosen.next(hash, call_id, |each| passed(each.address)),
            _ => chosen.choose(set, hash, call_id, &mut scratch.turns, || self.begins()),
        };
        let Some(destination) = destination else {
            return self.select_former(target, cookie_use, scratch);
        };
        let to = chosen.definition().destinations[destination].address;
        let way = Way::Selected(Selection {
            set,
            hash,
            destination,
        });
        let record_route = rule.and_then(|rule| rule.record_route);
        self.hop(way, to, None, cookie_use, record_route)
    }

    /// Whether it belongs to no request before it: neither to a transaction,
    /// as ACK and CANCEL, nor to a dialog.
    fn begins(&self) -> bool {
        !self.is_hop_by_hop() && !self.message.has_to_tag()
    }

    /// The Call-ID of the dialog that a new request is about, where `rule`
    /// has it followed, and the header that names it. A request within a
    /// dialog belongs to that one.
    #[inline]
    pub(super) fn followed(&self, rule: &Route) -> Option<(&'static str, &'a [u8])> {
        if !rule.follow_replaces || self.message.has_to_tag() {
            return None;
        }
        let mut found = [None; FOLLOWED.len()];
        for (name, row) in self.message.rows() {
            let is_named = |followed: &&str| name.eq_ignore_ascii_case(followed.as_bytes());
            if let Some(at) = FOLLOWED.iter().position(is_named) {
                found[at].get_or_insert(row);
            }
        }
        let mut found = FOLLOWED.into_iter().zip(found);
        let (name, row) = found.find_map(|(name, row)| Some((name, row?)))?;
        // No Call-ID has a semicolon in it (RFC 3261 §25.1).
        let bytes = self.message.bytes;
        let call_id = row.value.of(bytes).split(|&b| b == b';').next()?;
        Some((name, call_id.trim_ascii()))
    }

    /// Where no destination takes new work: what belongs to a call in set-up
    /// is none.
    #[cold]
    fn select_former(
        &self,
        target: &Target,
        cookie_use: CookieUse,
        scratch: &mut Scratch,
    ) -> Result<Option<Hop>, Reason> {
        let owner = self
            .is_hop_by_hop()
            .then(|| self.former_owners(target, &mut scratch.octets).next());
        let to = owner.flatten().ok_or(Reason::NoDestination)?;
        self.hop(Way::Former, to, None, cookie_use, None)
    }

    /// What `generation` makes of a request, for the set that a failure rule names
    /// where one does. What another one made of it, which is `known`, is the same
    /// where the rules are, and where the same is hashed: to try rules and to look
    /// for headers takes as long as there are any.
    #[inline]
    pub(super) fn hashed<'g>(
        &self,
        generation: &'g Generation,
        target: &Target,
        known: Option<&Keyed<'g, 'a>>,
        key: &mut Vec<u8>,
    ) -> Keyed<'g, 'a> {
        let rules = &generation.rules;
        let rule = match known {
            Some(known) if Arc::ptr_eq(known.rules, rules) => known.rule,
            _ => self.rule_in(generation, target),
        };
        let (set, following) = match self.attempt {
            // The dialog that it is about is not there.
            Some(&Attempt {
                goal: Goal::Next(Some(set), _),
                ..
            }) => (set, None),
            _ => (rule.map_or(0, |rule| rule.set), rule),
        };
        let definition = generation.dispatcher.sets()[set].definition();
        let made_of = MadeOf {
            follow_replaces: following.is_some_and(|rule| rule.follow_replaces),
            hash_key: &definition.hash_key,
            policy: definition.policy,
        };
        if let Some(known) = known.filter(|known| known.made_of == made_of) {
            return Keyed {
                rules,
                rule,
                set,
                ..*known
            };
        }
        let own = self.message.call_id.value.of(self.message.bytes);
        let followed = following.and_then(|rule| self.followed(rule));
        let followed = followed.map(|(_, call_id)| call_id);
        key.clear();
        match followed {
            Some(call_id) => key.extend_from_slice(call_id),
            None => self.write_key(&definition.hash_key, target, key),
        }
        add_salt(self.message, definition.policy, key);
        Keyed {
            rules,
            rule,
            set,
            made_of,
            hash: generation.dispatcher.hash(key),
            call_id: followed.unwrap_or(own),
        }
    }

    /// Appends what the set hashes.
    #[inline]
    pub(super) fn write_key(&self, hash_key: &HashKey, target: &Target, key: &mut Vec<u8>) {
        let bytes = self.message.bytes;
        match hash_key {
            HashKey::CallId
            | HashKey::FromUri
            | HashKey::ToUri
            | HashKey::FromUser
            | HashKey::ToUser => {
                add_common_key(self.message, hash_key, key);
            }
            HashKey::RequestUri => add_uri_key(bytes, target.text, Some(target.uri), key),
            HashKey::RequestUser => add_user_key(bytes, target.text, Some(target.uri), key),
            HashKey::Source => match self.datagram.source.ip() {
                IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
                IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
            },
            HashKey::Header(name) => {
                let row = self.message.rows_named(name.as_bytes()).next();
                // All that say nothing there would meet one destination.
                let row = row.filter(|row| !row.value.is_empty());
                key.extend_from_slice(row.unwrap_or(self.message.call_id).value.of(bytes));
            }
        }
    }
}

/// Appends what `hash_key` reads of a request and its responses alike; false
/// for what a response may not have.
#[inline]
pub(super) fn add_common_key(message: &Message<'_>, hash_key: &HashKey, key: &mut Vec<u8>) -> bool {
    let (from, to) = (message.from.value, message.to.value);
    match hash_key {
        HashKey::CallId => key.extend_from_slice(message.call_id.value.of(message.bytes)),
        HashKey::FromUri => add_address_key(message.bytes, from, add_uri_key, key),
        HashKey::ToUri => add_address_key(message.bytes, to, add_uri_key, key),
        HashKey::FromUser => add_address_key(message.bytes, from, add_user_key, key),
        HashKey::ToUser => add_address_key(message.bytes, to, add_user_key, key),
        HashKey::RequestUri | HashKey::RequestUser | HashKey::Source | HashKey::Header(_) => {
            return false;
        }
    }
    true
}

/// With [`Policy::Random`] each request of a dialog is chosen for anew; its
/// CANCEL and ACK share the number.
#[inline]
pub(super) fn add_salt(message: &Message<'_>, policy: Policy, key: &mut Vec<u8>) {
    if policy == Policy::Random {
        key.extend_from_slice(&message.cseq.number.to_be_bytes());
    }
}

/// Appends what is hashed of a URI, given as text and read.
type AddKey = fn(&[u8], Span, Option<Uri>, &mut Vec<u8>);

fn add_address_key(bytes: &[u8], value: Span, add_key: AddKey, key: &mut Vec<u8>) {
    // Validated before: a request with a value that cannot be read was
    // answered 400.
    if let Some(address) = address(bytes, value) {
        add_key(bytes, address.uri, sip::uri(bytes, address.uri), key);
    }
}

/// user@host:port, the host in lower case and without the dot of the root, or as
/// an IPv6 address is written commonly, so that two ways to write one address of
/// record (§19.1.4, RFC 5954 §4.2) meet one destination.
fn add_uri_key(bytes: &[u8], text: Span, uri: Option<Uri>, key: &mut Vec<u8>) {
    match uri.filter(|uri| !uri.host.is_empty()) {
        Some(uri) => {
            key.extend_from_slice(uri.user.of(bytes));
            key.extend_from_slice(b"@");
            let host = uri.host.of(bytes);
            let host = host.strip_suffix(b".").unwrap_or(host);
            // Writing into memory cannot fail.
            match host.starts_with(b"[").then(|| literal(host)).flatten() {
                Some(ip) => drop(write!(key, "{ip}")),
                None => key.extend(host.iter().map(u8::to_ascii_lowercase)),
            }
            drop(write!(key, ":{}", uri.port_or_default()));
        }
        None => key.extend_from_slice(text.of(bytes)),
    }
}

/// The user alone, without a password and however it is escaped (§19.1.4), so
/// that it meets one destination whatever names its host; where there is none,
/// what [`add_uri_key`] appends.
fn add_user_key(bytes: &[u8], text: Span, uri: Option<Uri>, key: &mut Vec<u8>) {
    let user = uri.filter(|uri| !uri.host.is_empty());
    let user = user.and_then(|uri| uri.user.of(bytes).split(|&b| b == b':').next());
    match user {
        None | Some(b"") => add_uri_key(bytes, text, uri, key),
        Some(user) => key.extend(unescaped(user)),
    }
}
