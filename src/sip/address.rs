//! name-addr and addr-spec: From, To, and the values of Route (RFC 3261
//! §20.10, §20.20, §20.34, §25.1).

use std::{iter, mem};

use super::chars::is_lws;
use super::lanes::Lanes;
use super::param::{Next, Param, next_param};
use super::text::{Text, word};
use super::{Message, Row, Span};

/// One address with its header parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The URI, without angle brackets.
    pub uri: Span,
    /// The value of the `tag` parameter, or empty.
    pub tag: Span,
    /// From the display name to the end of the last parameter.
    pub value: Span,
    /// Where the next value of the same row starts, behind the comma.
    pub next: Option<u32>,
}

/// Reads the one address that `span` holds, as in From and To.
///
/// Without angle brackets a semicolon ends the URI: what follows belongs to
/// the header (§20). Returns `None` where the value breaks the grammar, or
/// holds two tags or an empty one.
#[must_use]
pub fn address(bytes: &[u8], span: Span) -> Option<Address> {
    read(bytes, span, false)
}

impl Message<'_> {
    /// Whether To has a tag, as in a request within a dialog (RFC 3261 §12.2);
    /// not where its value breaks the grammar.
    #[must_use]
    pub fn has_to_tag(&self) -> bool {
        address(self.bytes, self.to.value).is_some_and(|to| !to.tag.is_empty())
    }
}

/// Reads one address; where it is `listed`, as in Route, others may follow
/// behind commas, and each stands in angle brackets.
#[inline]
fn read(bytes: &[u8], span: Span, listed: bool) -> Option<Address> {
    let text = Text::new(bytes, span.end as usize);
    let start = text.skip_lws(span.start as usize);
    let (uri, at) = match open_bracket(text, start, listed)? {
        Some(open) => {
            let close = text.find(open, Lanes::not_uri);
            if text.get(close) != Some(b'>') {
                return None;
            }
            (Span::new(open, close), close + 1)
        }
        None if listed => return None,
        None => {
            let end = text.find(start, |lanes| {
                lanes.not_uri() | lanes.is(b';') | lanes.is(b',') | lanes.is(b'?')
            });
            if text
                .get(end)
                .is_some_and(|b| !is_lws(b) && !b";,?".contains(&b))
            {
                return None;
            }
            (Span::new(start, end), end)
        }
    };
    if uri.is_empty() {
        return None;
    }
    let none = Span::new(at, at);
    let mut address = Address {
        uri,
        tag: none,
        value: Span::new(start, at),
        next: None,
    };
    address.params(text, at, listed)?;
    (listed || address.next.is_none()).then_some(address)
}

/// All Route values of a message; one that breaks the grammar ends them as
/// `None`.
pub fn route_values<'a>(
    message: &Message<'a>,
) -> impl Iterator<Item = Option<(Address, Row)>> + use<'a> {
    let bytes = message.bytes;
    let rows = message.rows_from(message.route, b"Route");
    let values = rows.flat_map(move |row| {
        let mut next = Some(row.value.start);
        iter::from_fn(move || {
            let start = next?;
            let end = row.value.end;
            let value = read(bytes, Span { start, end }, true);
            next = value.and_then(|value| value.next);
            Some(value.map(|value| (value, row)))
        })
    });
    let mut broken = false;
    values.take_while(move |value| !mem::replace(&mut broken, value.is_none()))
}

/// Where the URI starts behind a `<`; `None` inside for an address without
/// angle brackets. The first `<` or `;` outside quotes decides; a display
/// name is nobody's business here but for its quotes and control characters.
#[inline]
fn open_bracket(text: Text<'_>, start: usize, listed: bool) -> Option<Option<usize>> {
    let mut at = start;
    loop {
        match text.get(at) {
            Some(b'<') => return Some(Some(at + 1)),
            Some(b'"') => at = text.skip_quoted(at)?,
            Some(b) if is_lws(b) => at += 1,
            None | Some(b';') => return Some(None),
            // A list has its commas there, and no address without brackets.
            Some(b',') if listed => return None,
            Some(b) if b.is_ascii_control() => return None,
            Some(_) => {
                at = text.find(at + 1, |lanes| {
                    let mark = lanes.is(b'<') | lanes.is(b';') | lanes.is(b'"') | lanes.controls();
                    if listed { mark | lanes.is(b',') } else { mark }
                });
            }
        }
    }
}

const TAG_WORD: u64 = word(b"tag");

/// How nearly all write it.
const TAG: &[u8] = b";tag=";

impl Address {
    #[inline]
    fn params(&mut self, text: Text<'_>, mut at: usize, listed: bool) -> Option<()> {
        if at == text.end() {
            return Some(());
        }
        // Nearly every From ends like this, and To within a dialog.
        if !listed && text.has_at(at, TAG) {
            let tag = at + TAG.len();
            let end = text.skip_token(tag);
            if end > tag && end == text.end() {
                self.tag = Span::new(tag, end);
                self.value.end = end as u32;
                return Some(());
            }
        }
        loop {
            self.value.end = at as u32;
            match next_param(text, at)? {
                Next::Param(
                    name,
                    Param {
                        whole,
                        value,
                        token,
                    },
                ) => {
                    at = whole.end as usize;
                    // In Route it is a parameter like any other.
                    if !listed && text.word(name) == TAG_WORD {
                        if !self.tag.is_empty() || !token {
                            return None;
                        }
                        self.tag = value;
                    }
                }
                Next::Comma(next) => {
                    self.next = Some(next);
                    return Some(());
                }
                Next::End => return Some(()),
            }
        }
    }
}
