//! Walking the rows of a header section that [`scan`](super::scan) has found
//! sound: for the headers that only some messages need.

use super::chars::{is_lws, is_token};
use super::{Message, Span};

/// One header row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The whole row with its line end.
    pub line: Span,
    /// The value without surrounding white space; folds are still in it.
    pub value: Span,
}

impl<'a> Message<'a> {
    /// All rows, each with its name as it stands.
    pub fn rows(&self) -> impl Iterator<Item = (&'a [u8], Row)> + use<'a> {
        rows(self.bytes, self.headers_start, self.headers_end)
    }

    /// The rows that hold the header with this long name, by that or its compact
    /// form.
    pub fn rows_named<'n>(&self, name: &'n [u8]) -> impl Iterator<Item = Row> + use<'a, 'n> {
        named(self.rows(), name)
    }

    /// The same from `first` on, a row of the message; without one there is none.
    pub fn rows_from<'n>(
        &self,
        first: Option<Row>,
        name: &'n [u8],
    ) -> impl Iterator<Item = Row> + use<'a, 'n> {
        let from = first.map_or(self.headers_end, |row| row.line.start);
        named(rows(self.bytes, from, self.headers_end), name)
    }
}

/// The rows between two offsets, both starts of rows that the scanner has walked
/// over.
fn rows(bytes: &[u8], from: u32, to: u32) -> impl Iterator<Item = (&[u8], Row)> {
    let (mut at, to) = (from as usize, to as usize);
    std::iter::from_fn(move || {
        if at >= to {
            return None;
        }
        let start = at;
        let name_end = start + bytes[start..to].iter().position(|&b| !is_token(b))?;
        let colon = name_end + memchr::memchr(b':', &bytes[name_end..to])?;
        let mut end = colon;
        loop {
            end += memchr::memchr(b'\n', &bytes[end..to])? + 1;
            if end >= to || !matches!(bytes[end], b' ' | b'\t') {
                break;
            }
        }
        at = end;
        let row = Row {
            line: Span::new(start, end),
            value: value_span(bytes, colon + 1, end),
        };
        Some((&bytes[start..name_end], row))
    })
}

fn named<'a>(
    rows: impl Iterator<Item = (&'a [u8], Row)>,
    name: &[u8],
) -> impl Iterator<Item = Row> {
    rows.filter(move |(found, _)| is_named(found, name))
        .map(|(_, row)| row)
}

fn is_named(found: &[u8], name: &[u8]) -> bool {
    let long = match found {
        [letter] => long_form(*letter).map_or(found, str::as_bytes),
        _ => found,
    };
    long.eq_ignore_ascii_case(name)
}

/// The headers with a compact form, from `a` to `z`, in lower case; empty for a
/// letter that stands for none (§7.3.3 and the registry it began).
const COMPACT: [&str; 26] = [
    "accept-contact",
    "referred-by",
    "content-type",
    "request-disposition",
    "content-encoding",
    "from",
    "",
    "",
    "call-id",
    "reject-contact",
    "supported",
    "content-length",
    "contact",
    "identity-info",
    "event",
    "",
    "",
    "refer-to",
    "subject",
    "to",
    "allow-events",
    "via",
    "",
    "session-expires",
    "identity",
    "",
];

/// The long form of the header `name`, where this is a compact one.
#[must_use]
pub fn long_name(name: &str) -> Option<&'static str> {
    match name.as_bytes() {
        [letter] => long_form(*letter),
        _ => None,
    }
}

fn long_form(letter: u8) -> Option<&'static str> {
    let place = letter.to_ascii_lowercase().wrapping_sub(b'a');
    let name = COMPACT.get(usize::from(place))?;
    (!name.is_empty()).then_some(*name)
}

/// The value between a colon and a row's CRLF, which stands before `end`,
/// without white space around it.
#[inline]
pub(super) fn value_span(bytes: &[u8], start: usize, end: usize) -> Span {
    let mut value = &bytes[..end - 2];
    // Nearly every value stands behind one space.
    if let [b' ', first, .., last] = &value[start..]
        && *first > b' '
        && *last > b' '
    {
        return Span::new(start + 1, end - 2);
    }
    let mut start = start;
    while value.get(start).is_some_and(|&b| is_lws(b)) {
        start += 1;
    }
    while let Some((&last, rest)) = value.split_last()
        && is_lws(last)
        && rest.len() >= start
    {
        value = rest;
    }
    Span::new(start, value.len())
}
