//! SIP URIs, as far as a next hop depends on them (RFC 3261 §19.1, §25.1).

use super::chars::is_uri;
use super::lanes::{Lanes, find};
use super::via::{digits, host};
use super::{DEFAULT_PORT, Span, eq_ignore_case};

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip`.
    Sip,
    /// `sips`.
    Sips,
    /// `tel` (RFC 3966): a number, which names no host.
    Tel,
    /// Any other, which a proxy answers by 416 (§16.3 item 2).
    Other,
}

/// A URI, read as far as a proxy needs it.
#[derive(Clone, Copy, Debug)]
pub struct Uri {
    /// Its scheme; `Tel` and `Other` have no host.
    pub scheme: Scheme,
    /// The user part, as it stands, with a password where there is one; the
    /// number of a `tel` URI.
    pub user: Span,
    /// The host; an IPv6 address keeps its brackets.
    pub host: Span,
    /// The port, where it is given.
    pub port: Option<u16>,
    /// The value of `maddr`, or empty.
    pub maddr: Span,
    /// The value of `transport`, or empty.
    pub transport: Span,
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
    let (start, end) = (span.start as usize, span.end as usize);
    let bytes = &bytes[..end];
    let (scheme, behind) = scheme(bytes, start)?;
    let none = Span::new(end, end);
    let mut uri = Uri {
        scheme,
        user: none,
        host: none,
        port: None,
        maddr: none,
        transport: none,
    };
    let mut at = behind;
    if matches!(scheme, Scheme::Tel | Scheme::Other) {
        let number = memchr::memchr(b';', &bytes[at..]).map_or(end, |n| at + n);
        uri.user = Span::new(at, number);
        return (at < end && is_uri(&bytes[at..])).then_some(uri);
    }
    // Until then anything may be the user's; nothing else of the URI may hold
    // what this finds.
    let sign = find(bytes, at, |lanes| lanes.is(b'@') | lanes.not_uri());
    if sign < end {
        if sign == at || bytes[sign] != b'@' {
            return None;
        }
        uri.user = Span::new(at, sign);
        at = sign + 1;
    }
    (uri.host, at) = host(bytes, at)?;
    if bytes.get(at) == Some(&b':') {
        let (port, behind) = digits(bytes, at + 1)?;
        uri.port = Some(port);
        at = behind;
    }
    uri.params(bytes, at)?;
    Some(uri)
}

/// The scheme of the URI at `start` and the offset behind its colon; `None`
/// where no scheme can be called so.
#[inline]
fn scheme(bytes: &[u8], start: usize) -> Option<(Scheme, usize)> {
    let colon = start + memchr::memchr(b':', &bytes[start..])?;
    let name = &bytes[start..colon];
    let scheme = match name.len() {
        3 if eq_ignore_case(name, b"sip") => Scheme::Sip,
        4 if eq_ignore_case(name, b"sips") => Scheme::Sips,
        3 if eq_ignore_case(name, b"tel") => Scheme::Tel,
        _ => {
            let (first, rest) = name.split_first()?;
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
    /// `*(";" name ["=" value])` up to the end.
    fn params(&mut self, bytes: &[u8], mut at: usize) -> Option<()> {
        let end = bytes.len();
        while at < end {
            if bytes[at] != b';' {
                return None;
            }
            let name = at + 1;
            let whole_end = memchr::memchr(b';', &bytes[name..]).map_or(end, |n| name + n);
            let whole = &bytes[name..whole_end];
            // What unknown ones hold is for those who know them; a second `@`
            // would let two readers find two hosts.
            let foreign = |lanes: Lanes| lanes.is(b'?') | lanes.is(b'@') | lanes.not_uri();
            if find(whole, 0, foreign) < whole.len() {
                return None;
            }
            let equals = memchr::memchr(b'=', whole);
            let name_end = equals.map_or(whole_end, |n| name + n);
            let value = Span::new(equals.map_or(whole_end, |n| name + n + 1), whole_end);
            let place = match name_end - name {
                5 if eq_ignore_case(&bytes[name..name_end], b"maddr") => Some(&mut self.maddr),
                9 if eq_ignore_case(&bytes[name..name_end], b"transport") => {
                    Some(&mut self.transport)
                }
                _ => None,
            };
            if let Some(place) = place {
                // Twice the same would let two readers choose differently.
                if !place.is_empty() || value.is_empty() {
                    return None;
                }
                *place = value;
            }
            at = whole_end;
        }
        Some(())
    }
}
