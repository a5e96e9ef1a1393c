//! One Via value (RFC 3261 §20.42, §25.1; `rport`: RFC 3581 §3).

use std::net::Ipv6Addr;

use super::chars::{skip_host, skip_lws, skip_token, token};
use super::param::{Next, Param, next_param};
use super::{DEFAULT_PORT, Span, eq_ignore_case};

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
    let bytes = &bytes[..span.end as usize];
    let start = skip_lws(bytes, span.start as usize);
    let at = sent_protocol(bytes, start)?;
    let (host, at) = host(bytes, at)?;
    let (port, at) = sent_by_port(bytes, at)?;
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
    via.params(bytes, at)?;
    let branch_is_token = via
        .branch
        .is_none_or(|branch| token(branch.value.of(bytes)));
    branch_is_token.then_some(via)
}

/// `SIP / 2.0 / transport LWS`; returns where sent-by starts.
#[inline]
fn sent_protocol(bytes: &[u8], start: usize) -> Option<usize> {
    // Nearly every Via begins like this.
    if bytes[start..].starts_with(b"SIP/2.0/UDP ") {
        return Some(skip_lws(bytes, start + 12));
    }
    let at = word(bytes, start, b"SIP")?;
    let at = word(bytes, slash(bytes, at)?, b"2.0")?;
    let at = slash(bytes, at)?;
    let transport = skip_token(bytes, at);
    let sent_by = skip_lws(bytes, transport);
    (transport > at && sent_by > transport).then_some(sent_by)
}

/// The offset behind the token at `at`, which must be `wanted`.
fn word(bytes: &[u8], at: usize, wanted: &[u8]) -> Option<usize> {
    let end = skip_token(bytes, at);
    eq_ignore_case(&bytes[at..end], wanted).then_some(end)
}

fn slash(bytes: &[u8], at: usize) -> Option<usize> {
    let at = skip_lws(bytes, at);
    (bytes.get(at) == Some(&b'/')).then(|| skip_lws(bytes, at + 1))
}

/// A host name, an IPv4 address or a bracketed IPv6 address at `at`.
#[inline]
pub(super) fn host(bytes: &[u8], at: usize) -> Option<(Span, usize)> {
    let mut end = at;
    if bytes.get(at) == Some(&b'[') {
        end += memchr::memchr(b']', &bytes[at..])?;
        let inside = std::str::from_utf8(&bytes[at + 1..end]).ok()?;
        inside.parse::<Ipv6Addr>().ok()?;
        end += 1;
    } else {
        end = skip_host(bytes, at);
    }
    (end > at).then(|| (Span::new(at, end), end))
}

/// `[LWS ":" LWS 1*DIGIT]`; returns the offset behind what there is.
#[inline]
fn sent_by_port(bytes: &[u8], at: usize) -> Option<(Option<u16>, usize)> {
    let colon = skip_lws(bytes, at);
    if bytes.get(colon) != Some(&b':') {
        return Some((None, at));
    }
    let (port, at) = digits(bytes, skip_lws(bytes, colon + 1))?;
    Some((Some(port), at))
}

/// A port in decimal, 1 to 65,535, and nothing else.
#[inline]
#[must_use]
pub fn port(text: &[u8]) -> Option<u16> {
    digits(text, 0)
        .filter(|(_, end)| *end == text.len())
        .map(|(port, _)| port)
}

/// A port in decimal, 1 to 65,535, and the offset behind its digits.
#[inline]
pub(super) fn digits(bytes: &[u8], mut at: usize) -> Option<(u16, usize)> {
    let mut port = 0u32;
    while at < bytes.len() && bytes[at].is_ascii_digit() {
        port = port * 10 + u32::from(bytes[at] - b'0');
        if port > 65_535 {
            return None;
        }
        at += 1;
    }
    (port > 0).then_some((port as u16, at))
}

impl Via {
    #[inline]
    fn params(&mut self, bytes: &[u8], mut at: usize) -> Option<()> {
        loop {
            self.value.end = at as u32;
            match next_param(bytes, at)? {
                Next::Param(name, param) => {
                    self.note(name.of(bytes), param)?;
                    at = param.whole.end as usize;
                }
                Next::Comma(next) => {
                    self.next = Some(next);
                    return Some(());
                }
                Next::End => return Some(()),
            }
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
        if place.is_some() {
            return None;
        }
        *place = Some(param);
        Some(())
    }
}
