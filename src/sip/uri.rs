//! SIP URIs, as far as a next hop depends on them (RFC 3261 §19.1, §25.1).

use super::lanes::Lanes;
use super::text::{Text, word};
use super::via::{host, port_at};
use super::{DEFAULT_PORT, Span};

const SIP: u64 = word(b"sip");
const SIPS: u64 = word(b"sips");
const TEL: u64 = word(b"tel");
const URN: u64 = word(b"urn");
const MADDR: u64 = word(b"maddr");
const LR: u64 = word(b"lr");
const USER: u64 = word(b"user");

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// `sip`.
    Sip,
    /// `sips`.
    Sips,
    /// `tel` (RFC 3966): a number, which names no host.
    Tel,
    /// `urn`, as that of an emergency call (RFC 5031), which names none either.
    Urn,
    /// Any other, which a proxy answers by 416 (§16.3 item 2).
    #[default]
    Other,
}

/// A URI, read as far as a proxy needs it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Uri {
    /// Its scheme; `Tel`, `Urn` and `Other` have no host.
    pub scheme: Scheme,
    /// The user part, as it stands, with a password where there is one; what
    /// stands before parameters in one without a host.
    pub user: Span,
    /// The host; an IPv6 address keeps its brackets.
    pub host: Span,
    /// The port, where it is given.
    pub port: Option<u16>,
    /// The value of `maddr`, or empty.
    pub maddr: Span,
    /// The value of `transport`, or empty.
    pub transport: Span,
    /// Whether its user part is a telephone number: `tel`, or `user=phone`.
    pub phone: bool,
    /// Whether it has `lr`: whose it is leaves the Request-URI alone (§19.1.1).
    pub loose: bool,
}

impl Uri {
    /// The port, or the default one (§19.1.2).
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }
}

/// Reads the URI in `span`; `None` where it breaks the grammar.
///
/// URI headers (`?name=value`) make it unfit for a Request-URI (§19.1.1
/// table 1) and a Route, so they break it here.
#[must_use]
pub fn uri(bytes: &[u8], span: Span) -> Option<Uri> {
    let mut uri = Uri::default();
    uri.read(bytes, span).then_some(uri)
}

/// The scheme of the URI at `start` and the offset behind its colon; `None`
/// where no scheme can be called so.
#[inline]
fn scheme(text: Text<'_>, start: usize) -> Option<(Scheme, usize)> {
    // Nearly every URI begins like this.
    if text.has_at(start, b"sip:") {
        return Some((Scheme::Sip, start + 4));
    }
    let colon = text.skip_token(start);
    if text.get(colon) != Some(b':') {
        return None;
    }
    let name = Span::new(start, colon);
    let scheme = match text.word(name) {
        SIP => Scheme::Sip,
        SIPS => Scheme::Sips,
        TEL => Scheme::Tel,
        URN => Scheme::Urn,
        _ => {
            let (first, rest) = text.slice(start, colon).split_first()?;
            let sound = |b: &u8| b.is_ascii_alphanumeric() || b"+-.".contains(b);
            if !first.is_ascii_alphabetic() || !rest.iter().all(sound) {
                return None;
            }
            Scheme::Other
        }
    };
    Some((scheme, colon + 1))
}

impl Uri {
    /// As [`uri`], into a fresh one; false instead of `None`. A copy would be a
    /// store-forwarding stall.
    #[must_use]
    pub fn read(&mut self, bytes: &[u8], span: Span) -> bool {
        self.parts(Text::new(bytes, span.end as usize), span)
            .is_some()
    }

    #[inline(always)]
    fn parts(&mut self, text: Text<'_>, span: Span) -> Option<()> {
        let end = text.end();
        let (scheme, mut at) = scheme(text, span.start as usize)?;
        let none = Span::new(end, end);
        (self.scheme, self.phone) = (scheme, scheme == Scheme::Tel);
        [self.user, self.host, self.maddr, self.transport] = [none; 4];
        if matches!(scheme, Scheme::Tel | Scheme::Urn | Scheme::Other) {
            self.user = Span::new(at, text.find(at, |lanes| lanes.is(b';')));
            return (at < end && text.find(at, Lanes::not_uri) == end).then_some(());
        }
        // Whatever stands before it is the user's.
        let sign = text.find(at, |lanes| lanes.is(b'@') | lanes.not_uri());
        if sign < end {
            if sign == at || text.get(sign) != Some(b'@') {
                return None;
            }
            self.user = Span::new(at, sign);
            at = sign + 1;
        }
        (self.host, at) = host(text, at)?;
        if text.get(at) == Some(b':') {
            let (port, behind) = port_at(text, at + 1)?;
            self.port = Some(port);
            at = behind;
        }
        self.params(text, at)
    }

    /// `*(";" name ["=" value])` up to the end.
    fn params(&mut self, text: Text<'_>, mut at: usize) -> Option<()> {
        while let Some(octet) = text.get(at) {
            if octet != b';' {
                return None;
            }
            let start = at + 1;
            // What unknown ones hold is for those who know them; a second `@`
            // would let two readers find two hosts.
            at = text.find(start, |lanes| {
                lanes.is(b';') | lanes.is(b'?') | lanes.is(b'@') | lanes.not_uri()
            });
            if text.get(at).is_some_and(|octet| octet != b';') {
                return None;
            }
            let equals = text.upto(at).find(start, |lanes| lanes.is(b'='));
            let name = Span::new(start, equals);
            let value = Span::new(at.min(equals + 1), at);
            let place = match text.word(name) {
                MADDR => &mut self.maddr,
                LR => {
                    self.loose = true;
                    continue;
                }
                USER => {
                    let value = text.slice(value.start as usize, value.end as usize);
                    self.phone |= value.eq_ignore_ascii_case(b"phone");
                    continue;
                }
                _ if (text.slice(start, equals)).eq_ignore_ascii_case(b"transport") => {
                    &mut self.transport
                }
                _ => continue,
            };
            // Twice the same would let two readers choose differently.
            if !place.is_empty() || value.is_empty() {
                return None;
            }
            *place = value;
        }
        Some(())
    }
}
