//! The MACs that stand in for memory: in our Via's branch, and in the To tag
//! of our replies (RFC 3261 §16.11, §8.2.7).
//!
//! ```text
//! z9hG4bK s LL MMMMMMMMMMMMMMMM             the request had an RFC 3261 branch
//! z9hG4bK o LL UUUUUUUUUUUUUUUU MMMMMMMMMMMMMMMM    it had none (RFC 2543)
//! z9hG4bK a LL NN AAAAAAAAAAAAAAAA          a later attempt of a transaction
//! z9hG4bK b LL NN UUUUUUUUUUUUUUUU AAAAAAAAAAAAAAAA
//! ```
//! L is the listener it came in on, M the MAC, U a hash of the Request-URI,
//! which a request without a branch of its own is told apart by (§16.11), N the
//! number of an attempt, A is M under a mask that N and the key choose; all in
//! hexadecimal digits. The first attempt of a transaction has the branch that
//! the request would have without one, so that it can be forgotten at any
//! time. Whoever has seen two attempts of one transaction knows the mask of a
//! number, and can answer in the name of another attempt of a request that it
//! got; without M it can do nothing.
//!
//! The MAC covers what a request shares with its retransmissions, its CANCEL
//! and the ACK for a non-2xx, so neither method nor To tag, and the address
//! that responses must go to.

use std::net::{IpAddr, SocketAddr};

use super::secret::Secret;
use crate::sip::{Message, Param, Span, Via, address, hex8, hex64, parse_hex64};

/// What every branch of RFC 3261 begins with (§8.1.1.7).
pub(super) const MAGIC: &[u8; 7] = b"z9hG4bK";

/// The most octets that our branch has behind the magic.
const MAX_BRANCH: usize = 5 + 16 + 16;

const PURPOSE_BRANCH: u8 = b'b';
const PURPOSE_TAG: u8 = b't';
const PURPOSE_URI: u8 = b'u';
const PURPOSE_MADDR: u8 = b'm';
const PURPOSE_ATTEMPT: u8 = b'a';

const WITH_BRANCH: u8 = b's';
const WITHOUT_BRANCH: u8 = b'o';
const LATER_WITH_BRANCH: u8 = b'a';
const LATER_WITHOUT_BRANCH: u8 = b'b';

/// What one transaction's messages have in common, request and response.
pub(super) struct Transaction<'a> {
    /// The top Via of the request; the next Via of the response.
    pub(super) via: &'a Via,
    /// The datagram that it stands in.
    pub(super) message: &'a Message<'a>,
    /// The tag of From; empty where there is none (RFC 2543).
    pub(super) from_tag: Span,
    /// The listener the request came in on.
    pub(super) listener: usize,
    /// Where its responses go.
    pub(super) respond_to: SocketAddr,
}

/// Our branch as read from a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) listener: usize,
    /// 0 for the first one.
    pub(super) attempt: u8,
    pub(super) uri: Option<u64>,
    mac: u64,
}

/// What a transaction is known by: the parts of its first branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The hash of the Request-URI, where the request had no branch.
    pub uri: Option<u64>,
    /// The MAC.
    pub key: u64,
}

impl Transaction<'_> {
    /// What this request, its CANCEL and the ACK to its failure have in common.
    #[inline]
    pub(super) fn identity(&self, secret: &Secret, uri: &[u8]) -> Identity {
        let uri = (!self.has_rfc3261_branch()).then(|| uri_hash(secret, uri));
        let key = self.mac(secret, uri);
        Identity { uri, key }
    }

    /// The transaction whose branch came back; `None` where this request was
    /// never given it.
    #[inline]
    pub(super) fn verified(&self, secret: &Secret, branch: &Branch) -> Option<u64> {
        if branch.uri.is_none() != self.has_rfc3261_branch() {
            return None;
        }
        let key = self.mac(secret, branch.uri);
        if branch.key(secret) == key {
            return Some(key);
        }
        self.verified_by_other(secret, branch)
    }

    #[cold]
    #[inline(never)]
    fn verified_by_other(&self, secret: &Secret, branch: &Branch) -> Option<u64> {
        self.verified(&secret.other()?, branch)
    }

    fn has_rfc3261_branch(&self) -> bool {
        let bytes = self.message.bytes;
        self.via.branch.is_some_and(|branch| {
            let value = branch.value.of(bytes);
            let Some((magic, [_, ..])) = value.split_first_chunk() else {
                return false;
            };
            // Nearly all write it as it stands in the RFC.
            magic == MAGIC || magic.eq_ignore_ascii_case(MAGIC)
        })
    }

    #[inline(always)]
    fn mac(&self, secret: &Secret, uri: Option<u64>) -> u64 {
        let maddr = self.via.maddr;
        let maddr = maddr.map(|maddr| self.maddr_hash(secret, maddr));
        let (listener, port) = (self.listener as u8, self.respond_to.port());
        let first = u64::from(self.message.cseq.number) << 24 | u64::from(port) << 8;
        let mut mac = secret.mac(PURPOSE_BRANCH, first | u64::from(listener));
        let (v4, v6) = match self.respond_to.ip() {
            IpAddr::V4(ip) => (ip.to_bits(), None),
            IpAddr::V6(ip) => (0, Some(ip.to_bits())),
        };
        let hashes = u64::from(maddr.is_some()) << 1 | u64::from(uri.is_some());
        let kind = hashes << 1 | u64::from(v6.is_some());
        let sent_by_port = u64::from(self.via.port_or_default());
        mac.number(u64::from(v4) << 32 | kind << 16 | sent_by_port);
        if let Some(ip) = v6 {
            mac.number((ip >> 64) as u64);
            mac.number(ip as u64);
        }
        for hash in [uri, maddr].into_iter().flatten() {
            mac.number(hash);
        }
        mac.finish(self.common())
    }

    /// Sent-by, branch, Call-ID and From tag. The branch alone would let two
    /// clients that use the same one meet at a destination.
    #[inline(always)]
    fn common(&self) -> [&[u8]; 4] {
        let bytes = self.message.bytes;
        [
            self.via.host.of(bytes),
            self.via.branch.map_or(&[], |branch| branch.value.of(bytes)),
            self.message.call_id.value.of(bytes),
            self.from_tag.of(bytes),
        ]
    }

    /// Never followed, but a changed one shows a forged response.
    #[cold]
    fn maddr_hash(&self, secret: &Secret, maddr: Param) -> u64 {
        let maddr = maddr.value.of(self.message.bytes);
        secret.mac(PURPOSE_MADDR, 0).finish([maddr])
    }

    /// Whether `tag` is that of a local reply to the request.
    pub(super) fn is_reply_tag(&self, tag: &[u8], secret: &Secret) -> bool {
        secret.verifies(|secret| self.reply_tag(secret) == tag)
    }

    /// The To tag of a local reply; its ACK brings it back (§17.1.1.3).
    pub(super) fn reply_tag(&self, secret: &Secret) -> [u8; 16] {
        let sent_by_port = u64::from(self.via.port_or_default());
        let numbers = u64::from(self.message.cseq.number) << 16 | sent_by_port;
        let mac = secret.mac(PURPOSE_TAG, numbers);
        hex64(mac.finish(self.common()))
    }
}

fn uri_hash(secret: &Secret, uri: &[u8]) -> u64 {
    secret.mac(PURPOSE_URI, 0).finish([uri])
}

/// What hides the MAC in the branch of attempt `number`; nothing does in that of
/// the first.
#[inline]
fn mask(secret: &Secret, number: u8) -> u64 {
    match number {
        0 => 0,
        _ => later_mask(secret, number),
    }
}

#[cold]
fn later_mask(secret: &Secret, number: u8) -> u64 {
    secret.mac(PURPOSE_ATTEMPT, u64::from(number)).finish([])
}

/// The tag of From; empty where there is none, or where From cannot be read.
#[inline]
pub(super) fn from_tag(message: &Message<'_>) -> Span {
    address(message.bytes, message.from.value).map_or_else(Span::default, |from| from.tag)
}

/// A branch behind its magic.
pub(super) struct BranchText {
    octets: [u8; MAX_BRANCH],
    length: usize,
}

impl BranchText {
    /// Nothing yet.
    pub(super) const EMPTY: Self = Self {
        octets: [0; MAX_BRANCH],
        length: 0,
    };

    /// Writes the branch of attempt `number` of a request that came in on
    /// `listener`. It stays where it is written, for a copy would stall.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        listener: usize,
        identity: Identity,
        number: u8,
        secret: &Secret,
    ) {
        let Identity { uri, key } = identity;
        let octets = &mut self.octets;
        let mode = match (uri, number) {
            (None, 0) => WITH_BRANCH,
            (Some(_), 0) => WITHOUT_BRANCH,
            (None, _) => LATER_WITH_BRANCH,
            (Some(_), _) => LATER_WITHOUT_BRANCH,
        };
        octets[0] = mode;
        octets[1..3].copy_from_slice(&hex8(listener as u8));
        let mut length = 3;
        if number > 0 {
            octets[3..5].copy_from_slice(&hex8(number));
            length = 5;
        }
        let mac = key ^ mask(secret, number);
        for part in [uri, Some(mac)].into_iter().flatten() {
            octets[length..length + 16].copy_from_slice(&hex64(part));
            length += 16;
        }
        self.length = length;
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

impl Branch {
    /// The key of the transaction that it claims to be of.
    #[inline]
    pub(super) fn key(&self, secret: &Secret) -> u64 {
        self.mac ^ mask(secret, self.attempt)
    }

    /// Reads a branch of ours, in either case (a token's does not matter,
    /// §7.3.1); `None` where it is none.
    #[inline]
    pub(super) fn parse(branch: &[u8]) -> Option<Self> {
        let (magic, rest) = branch.split_at_checked(MAGIC.len())?;
        magic
            .eq_ignore_ascii_case(MAGIC)
            .then(|| Self::parse_behind_magic(rest))
            .flatten()
    }

    /// The same for what stands behind the magic.
    #[inline]
    pub(super) fn parse_behind_magic(rest: &[u8]) -> Option<Self> {
        let (mode, rest) = rest.split_first()?;
        let (listener, rest) = rest.split_at_checked(2)?;
        let (later, has_uri) = match mode.to_ascii_lowercase() {
            WITH_BRANCH => (false, false),
            WITHOUT_BRANCH => (false, true),
            LATER_WITH_BRANCH => (true, false),
            LATER_WITHOUT_BRANCH => (true, true),
            _ => return None,
        };
        let (number, rest) = rest.split_at_checked(if later { 2 } else { 0 })?;
        let (uri, mac) = rest.split_at_checked(if has_uri { 16 } else { 0 })?;
        if mac.len() != 16 {
            return None;
        }
        let attempt = match later {
            true => parse_hex64(number).filter(|number| *number > 0)?,
            false => 0,
        };
        let uri = match has_uri {
            true => Some(parse_hex64(uri)?),
            false => None,
        };
        Some(Self {
            listener: parse_hex64(listener)? as usize,
            attempt: attempt as u8,
            uri,
            mac: parse_hex64(mac)?,
        })
    }
}
