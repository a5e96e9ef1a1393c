//! One Via value (RFC 3261 §20.42, §25.1; `rport`: RFC 3581 §3).

use std::net::Ipv6Addr;

use super::param::{Next, Param, next_param};
use super::text::{Text, decimal, word};
use super::{DEFAULT_PORT, Message, Span};

const BRANCH: u64 = word(b"branch");
const RPORT: u64 = word(b"rport");
const RECEIVED: u64 = word(b"received");
const MADDR: u64 = word(b"maddr");

/// A Via value, read as far as a proxy needs it.
#[derive(Clone, Copy, Debug, Default)]
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

/// All Via values of a message, from the topmost on, up to one that breaks the
/// grammar.
pub fn vias<'a>(message: &'a Message<'_>) -> impl Iterator<Item = Via> + 'a {
    let bytes = message.bytes;
    let rows = message.rows_from(message.via, b"Via");
    let values = rows.flat_map(move |row| {
        let mut next = Some(row.value.start);
        std::iter::from_fn(move || {
            let start = next?;
            let end = row.value.end;
            let value = via(bytes, Span { start, end });
            next = value.and_then(|value| value.next);
            Some(value)
        })
    });
    values.map_while(|value| value)
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
    let mut via = Via::default();
    via.read(bytes, span).then_some(via)
}

/// `SIP / version / transport LWS`; returns where sent-by starts. Which version
/// the sender's way here had is nobody's business but its own.
#[inline]
fn sent_protocol(text: Text<'_>, start: usize) -> Option<usize> {
    // Nearly every Via begins like this.
    if text.has_at(start, b"SIP/2.0/UDP ") {
        return Some(text.skip_lws(start + 12));
    }
    let name = text.skip_token(start);
    if !text.slice(start, name).eq_ignore_ascii_case(b"SIP") {
        return None;
    }
    let version = slash(text, name)?;
    let behind = text.skip_token(version);
    let transport = slash(text, behind)?;
    let end = text.skip_token(transport);
    let sent_by = text.skip_lws(end);
    (behind > version && end > transport && sent_by > end).then_some(sent_by)
}

fn slash(text: Text<'_>, at: usize) -> Option<usize> {
    let at = text.skip_lws(at);
    (text.get(at) == Some(b'/')).then(|| text.skip_lws(at + 1))
}

/// A host name, an IPv4 address or a bracketed IPv6 address at `at`.
#[inline(always)]
pub(super) fn host(text: Text<'_>, at: usize) -> Option<(Span, usize)> {
    let end = if text.get(at) == Some(b'[') {
        let close = text.find(at, |lanes| lanes.is(b']'));
        let inside = std::str::from_utf8(text.slice(at + 1, close)).ok()?;
        inside.parse::<Ipv6Addr>().ok()?;
        (close < text.end()).then_some(close + 1)?
    } else {
        text.skip_host(at)
    };
    (end > at).then(|| (Span::new(at, end), end))
}

/// `[LWS ":" LWS 1*DIGIT]`; returns the offset behind what there is.
#[inline]
fn sent_by_port(text: Text<'_>, at: usize) -> Option<(Option<u16>, usize)> {
    let (colon, octet) = text.behind_lws(at);
    if octet != Some(b':') {
        return Some((None, at));
    }
    let (port, at) = port_at(text, text.skip_lws(colon + 1))?;
    Some((Some(port), at))
}

/// A port in decimal, 1 to 65,535, and nothing else.
#[inline]
#[must_use]
pub fn port(text: &[u8]) -> Option<u16> {
    let port = decimal(text, 65_535).filter(|port| *port > 0)?;
    Some(port as u16)
}

/// A port in decimal, 1 to 65,535, and the offset behind its digits.
#[inline]
pub(super) fn port_at(text: Text<'_>, at: usize) -> Option<(u16, usize)> {
    let (port, behind) = text.number(at, 65_535)?;
    (port > 0).then_some((port as u16, behind))
}

impl Via {
    /// As [`via`], into a fresh one; false instead of `None`. A [`Via`] that is
    /// handed on is copied, in a store-forwarding stall (see the head of `proxy`):
    /// 4 % of a decision's time.
    #[must_use]
    #[inline(always)] // with its parts, where they are called: 4 % more
    pub fn read(&mut self, bytes: &[u8], span: Span) -> bool {
        let text = Text::new(bytes, span.end as usize);
        let start = text.skip_lws(span.start as usize);
        self.sent_by(text, start).is_some() && self.branch.is_none_or(|branch| branch.token)
    }

    #[inline(always)]
    fn sent_by(&mut self, text: Text<'_>, start: usize) -> Option<()> {
        let at = sent_protocol(text, start)?;
        let (host, at) = host(text, at)?;
        let (port, at) = sent_by_port(text, at)?;
        self.host = host;
        self.port = port;
        self.value = Span::new(start, at);
        self.params(text, at)
    }

    #[inline]
    fn params(&mut self, text: Text<'_>, mut at: usize) -> Option<()> {
        loop {
            self.value.end = at as u32;
            match next_param(text, at)? {
                Next::Param(name, param) => {
                    self.note(text, name, param)?;
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
    fn note(&mut self, text: Text<'_>, name: Span, param: Param) -> Option<()> {
        let place = match text.word(name) {
            BRANCH => &mut self.branch,
            RPORT => &mut self.rport,
            RECEIVED => &mut self.received,
            MADDR => &mut self.maddr,
            _ => return Some(()),
        };
        if place.is_some() {
            return None;
        }
        *place = Some(param);
        Some(())
    }
}
