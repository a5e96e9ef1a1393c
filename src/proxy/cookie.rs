//! The cookie in the user part of our Record-Route and Path URIs: what a
//! proxy with memory would remember of a dialog or a registration (RFC 3261
//! §16.6 item 4, RFC 3327).
//!
//! ```text
//! d OO II DDDDDDDDDDDDDDDD FFFFFFFFPPPP MMMMMMMMMMMMMMMM
//! ```
//! `d` for a dialog, `p` for a Path; O is the listener on the callers' side,
//! I the one on the farm's; D says which destination has the dialog (a hash of
//! its address, so that its place in the file does not matter), or which host
//! of the member sources, and is 0 in a Path; F and P are address and port of
//! the phone, which is left out where it is to be reached by its Contact; M is
//! the MAC. All in hexadecimal digits.
//!
//! The MAC of a dialog's cookie covers its Call-ID: one call's cookie is no
//! way to steer another. That of a Path cannot, for each call to the phone
//! has a Call-ID of its own; only members are believed to send one.

use std::net::{IpAddr, SocketAddr};

use super::CookieUse;
use super::secret::Secret;
use crate::sip::{hex8, hex64, parse_hex64};

const PURPOSE_COOKIE: u8 = b'c';

/// Octets without a flow, and of a flow of either family.
const BARE: usize = 1 + 2 + 2 + 16 + 16;
const FLOW_V4: usize = 8 + 4;
const FLOW_V6: usize = 32 + 4;

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// In Record-Route.
    Dialog = b'd',
    /// In Path.
    Path = b'p',
}

/// What a cookie says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// Which of the two it is.
    pub purpose: Purpose,
    /// The listener on the callers' side.
    pub outer: usize,
    /// The listener on the farm's side.
    pub inner: usize,
    /// See [`Sender`](crate::dispatcher::Sender); 0 in a Path.
    pub destination: u64,
    /// Where the phone is reached, through the binding that its NAT keeps.
    pub flow: Option<SocketAddr>,
}

/// What the user part of a URI of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is no cookie.
    None,
    /// A cookie that does not verify.
    Forged(Purpose),
    /// One that does.
    Verified(Cookie),
}

impl Claim {
    /// What becomes of it in a request from a member.
    pub(super) fn cookie_use(self) -> CookieUse {
        match self {
            Self::None => CookieUse::None,
            Self::Forged(_) => CookieUse::Forged,
            Self::Verified(_) => CookieUse::Followed,
        }
    }
}

/// A cookie as it stands in a URI.
pub(super) struct CookieText {
    octets: [u8; BARE + FLOW_V6],
    length: usize,
}

impl CookieText {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.octets[..self.length]
    }

    fn put(&mut self, text: &[u8]) {
        self.octets[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }
}

impl Cookie {
    /// Writes it, with its MAC.
    pub(super) fn write(&self, secret: &Secret, call_id: &[u8]) -> CookieText {
        let mut text = CookieText {
            octets: [0; BARE + FLOW_V6],
            length: 0,
        };
        text.put(&[self.purpose as u8]);
        text.put(&hex8(self.outer as u8));
        text.put(&hex8(self.inner as u8));
        text.put(&hex64(self.destination));
        if let Some(flow) = self.flow {
            match flow.ip() {
                IpAddr::V4(ip) => text.put(&hex64(u64::from(ip.to_bits()))[8..]),
                IpAddr::V6(ip) => {
                    text.put(&hex64((ip.to_bits() >> 64) as u64));
                    text.put(&hex64(ip.to_bits() as u64));
                }
            }
            text.put(&hex64(u64::from(flow.port()))[12..]);
        }
        let mac = self.mac(secret, call_id);
        text.put(&hex64(mac));
        text
    }

    /// Whether the user part of a URI may be a cookie.
    #[inline]
    pub(super) fn has_shape(user: &[u8]) -> bool {
        matches!(user.first(), Some(b'd' | b'D' | b'p' | b'P'))
            && [BARE, BARE + FLOW_V4, BARE + FLOW_V6].contains(&user.len())
    }

    /// Reads the user part of a URI of ours.
    pub(super) fn read(user: &[u8], secret: &Secret, call_id: &[u8]) -> Claim {
        let Some((cookie, mac)) = Self::parse(user) else {
            return Claim::None;
        };
        match secret.verifies(|secret| cookie.mac(secret, call_id) == mac) {
            true => Claim::Verified(cookie),
            false => Claim::Forged(cookie.purpose),
        }
    }

    fn parse(user: &[u8]) -> Option<(Self, u64)> {
        let flow_length = user.len().checked_sub(BARE)?;
        let purpose = match user.first()?.to_ascii_lowercase() {
            b'd' => Purpose::Dialog,
            b'p' => Purpose::Path,
            _ => return None,
        };
        let mut at = 1;
        let mut take = |digits| {
            at += digits;
            parse_hex64(&user[at - digits..at])
        };
        let (outer, inner) = (take(2)? as usize, take(2)? as usize);
        let destination = take(16)?;
        let ip = match flow_length {
            0 => None,
            FLOW_V4 => Some(IpAddr::V4((take(8)? as u32).into())),
            FLOW_V6 => Some(IpAddr::V6(
                (u128::from(take(16)?) << 64 | u128::from(take(16)?)).into(),
            )),
            _ => return None,
        };
        let flow = match ip {
            Some(ip) => Some(SocketAddr::new(ip, take(4)? as u16)),
            None => None,
        };
        let cookie = Self {
            purpose,
            outer,
            inner,
            destination,
            flow,
        };
        Some((cookie, take(16)?))
    }

    fn mac(&self, secret: &Secret, call_id: &[u8]) -> u64 {
        let (v4, v6) = match self.flow.map(|flow| flow.ip()) {
            None => (None, None),
            Some(IpAddr::V4(ip)) => (Some(ip.to_bits()), None),
            Some(IpAddr::V6(ip)) => (None, Some(ip.to_bits())),
        };
        let port = self.flow.map_or(0, |flow| flow.port());
        let kind = u64::from(v4.is_some()) << 1 | u64::from(v6.is_some());
        let listeners = u64::from(self.outer as u8) << 8 | u64::from(self.inner as u8);
        let first = u64::from(port) << 32 | kind << 24 | listeners << 8 | self.purpose as u64;
        let mut mac = secret.mac(PURPOSE_COOKIE, first);
        mac.number(self.destination);
        if let Some(ip) = v4 {
            mac.number(u64::from(ip));
        }
        if let Some(ip) = v6 {
            mac.number((ip >> 64) as u64);
            mac.number(ip as u64);
        }
        mac.finish([match self.purpose {
            Purpose::Dialog => call_id,
            Purpose::Path => &[],
        }])
    }
}
