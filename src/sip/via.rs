//! One Via value (RFC 3261 §20.42, §25.1; `rport`: RFC 3581 §3).

use super::chars::{is_host, is_token, skip_lws, skip_quoted};
use super::{DEFAULT_PORT, Span, eq_ignore_case};

/// A parameter that a Via holds at most once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// From its semicolon to the end of its value.
    pub whole: Span,
    /// Behind the `=`; empty for a parameter without a value.
    pub value: Span,
}

/// A Via value, read as far as a proxy needs it.
#[derive(Clone, Copy, Debug)]
pub struct Via {
    /// From the protocol name to the end of the last parameter.
    pub value: Span,
    /// The host of sent-by; an IPv6 address keeps its brackets.
    pub host: Span,
    /// The port of sent-by, where it is given.
    pub port: Option<u16>,
    /// `branch`.
    pub branch: Option<Param>,
    /// `received`.
    pub received: Option<Param>,
    /// `rport`.
    pub rport: Option<Param>,
    /// `maddr`.
    pub maddr: Option<Param>,
    /// Where the next value of the same row starts, behind the comma.
    pub next: Option<u32>,
}

impl Via {
    /// The port of sent-by, or the default one (§18.1.1).
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or(DEFAULT_PORT)
    }
}

/// Reads the value that starts at `span.start`; `span` ends with its row.
///
/// Returns `None` where the value breaks the grammar, holds a parameter twice
/// that routing reads, or has port 0. Values behind a comma are not looked at.
#[must_use]
pub fn via(bytes: &[u8], span: Span) -> Option<Via> {
    let end = span.end as usize;
    let start = skip_lws(bytes, span.start as usize, end);
    let at = sent_protocol(bytes, start, end)?;
    let (host, at) = host(bytes, at, end)?;
    let (port, at) = port(bytes, at, end)?;
    let mut via = Via {
        value: Span::new(start, at),
        host,
        port,
        branch: None,
        received: None,
        rport: None,
        maddr: None,
        next: None,
    };
    via.params(bytes, at, end)?;
    Some(via)
}

/// `SIP / 2.0 / transport LWS`; returns where sent-by starts.
#[inline]
fn sent_protocol(bytes: &[u8], start: usize, end: usize) -> Option<usize> {
    // Nearly every Via begins like this.
    if bytes[start..end].starts_with(b"SIP/2.0/UDP ") {
        return Some(skip_lws(bytes, start + 12, end));
    }
    let at = word(bytes, start, end, Some(b"SIP"))?;
    let at = slash(bytes, at, end)?;
    let at = word(bytes, at, end, Some(b"2.0"))?;
    let at = slash(bytes, at, end)?;
    let transport = word(bytes, at, end, None)?;
    let sent_by = skip_lws(bytes, transport, end);
    (sent_by > transport).then_some(sent_by)
}

/// The offset behind the token at `at`, which must be `wanted` if given.
fn word(bytes: &[u8], at: usize, end: usize, wanted: Option<&[u8]>) -> Option<usize> {
    let length = bytes[at..end].iter().take_while(|&&b| is_token(b)).count();
    let token = &bytes[at..at + length];
    let fits = wanted.map_or(length > 0, |wanted| eq_ignore_case(token, wanted));
    fits.then_some(at + length)
}

fn slash(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let at = skip_lws(bytes, at, end);
    (at < end && bytes[at] == b'/').then(|| skip_lws(bytes, at + 1, end))
}

/// A host name, an IPv4 address or a bracketed IPv6 address at `at`.
#[inline]
pub(super) fn host(bytes: &[u8], at: usize, end: usize) -> Option<(Span, usize)> {
    let rest = &bytes[at..end];
    let length = if rest.first() == Some(&b'[') {
        let close = memchr::memchr(b']', rest)?;
        let inside = &rest[1..close];
        if inside.is_empty()
            || !inside
                .iter()
                .all(|&b| b.is_ascii_hexdigit() || b":.".contains(&b))
        {
            return None;
        }
        close + 1
    } else {
        rest.iter().take_while(|&&b| is_host(b)).count()
    };
    (length > 0).then(|| (Span::new(at, at + length), at + length))
}

/// `[LWS ":" LWS 1*DIGIT]`; returns the offset behind what there is.
#[inline]
fn port(bytes: &[u8], at: usize, end: usize) -> Option<(Option<u16>, usize)> {
    let colon = skip_lws(bytes, at, end);
    if colon >= end || bytes[colon] != b':' {
        return Some((None, at));
    }
    let start = skip_lws(bytes, colon + 1, end);
    let (port, at) = digits(bytes, start, end)?;
    Some((Some(port), at))
}

/// A port in decimal, 1 to 65,535, and the offset behind its digits.
#[inline]
pub(super) fn digits(bytes: &[u8], start: usize, end: usize) -> Option<(u16, usize)> {
    let mut at = start;
    let mut port = 0u32;
    while at < end && bytes[at].is_ascii_digit() {
        port = port * 10 + u32::from(bytes[at] - b'0');
        if port > 65_535 {
            return None;
        }
        at += 1;
    }
    (port > 0).then_some((port as u16, at))
}

impl Via {
    /// `*(LWS ";" LWS name [LWS "=" LWS value])`, up to a comma or the end.
    fn params(&mut self, bytes: &[u8], mut at: usize, end: usize) -> Option<()> {
        loop {
            self.value.end = at as u32;
            let semicolon = skip_lws(bytes, at, end);
            if semicolon == end {
                return Some(());
            }
            if bytes[semicolon] == b',' {
                self.next = Some(semicolon as u32 + 1);
                return Some(());
            }
            if bytes[semicolon] != b';' {
                return None;
            }
            let name = skip_lws(bytes, semicolon + 1, end);
            let name_end = word(bytes, name, end, None)?;
            let value = param_value(bytes, name_end, end)?;
            at = value.end as usize;
            let whole = Span::new(semicolon, at);
            self.note(&bytes[name..name_end], Param { whole, value })?;
        }
    }

    #[inline]
    fn note(&mut self, name: &[u8], param: Param) -> Option<()> {
        let place = match name.len() {
            5 if eq_ignore_case(name, b"rport") => &mut self.rport,
            5 if eq_ignore_case(name, b"maddr") => &mut self.maddr,
            6 if eq_ignore_case(name, b"branch") => &mut self.branch,
            8 if eq_ignore_case(name, b"received") => &mut self.received,
            _ => return Some(()),
        };
        place.replace(param).is_none().then_some(())
    }
}

/// `[LWS "=" LWS (token / host / quoted-string)]` behind a name that ends at
/// `at`: the value, or an empty span there.
#[inline]
pub(super) fn param_value(bytes: &[u8], at: usize, end: usize) -> Option<Span> {
    let equals = skip_lws(bytes, at, end);
    if equals >= end || bytes[equals] != b'=' {
        return Some(Span::new(at, at));
    }
    let start = skip_lws(bytes, equals + 1, end);
    let value_end = if bytes.get(start) == Some(&b'"') && start < end {
        skip_quoted(bytes, start, end)?
    } else {
        // A host in a parameter may hold colons and brackets (5118 §4.5).
        start
            + bytes[start..end]
                .iter()
                .take_while(|&&b| is_token(b) || matches!(b, b':' | b'[' | b']'))
                .count()
    };
    (value_end > start).then(|| Span::new(start, value_end))
}
