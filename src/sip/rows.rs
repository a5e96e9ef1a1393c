//! Walking the rows of a header section that [`scan`](super::scan) has found
//! sound: for the headers that only some messages need.

use super::chars::{is_lws, is_token};
use super::{Span, eq_ignore_case};

/// One header row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// The whole row with its line end.
    pub line: Span,
    /// The value without surrounding white space; folds are still in it.
    pub value: Span,
}

/// The rows between two offsets, each with its name as it stands.
///
/// Both must be starts of rows that the scanner has walked over.
pub fn rows(bytes: &[u8], from: usize, to: usize) -> impl Iterator<Item = (&[u8], Row)> {
    let mut at = from;
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

/// Headers with a compact form, in lower case (§7.3.3 and the registry it
/// began).
const COMPACT: [(&str, u8); 17] = [
    ("accept-contact", b'a'),
    ("allow-events", b'u'),
    ("call-id", b'i'),
    ("contact", b'm'),
    ("content-encoding", b'e'),
    ("content-length", b'l'),
    ("content-type", b'c'),
    ("event", b'o'),
    ("from", b'f'),
    ("identity", b'y'),
    ("refer-to", b'r'),
    ("referred-by", b'b'),
    ("session-expires", b'x'),
    ("subject", b's'),
    ("supported", b'k'),
    ("to", b't'),
    ("via", b'v'),
];

/// The long form of the header `name`, where this is a compact one.
#[must_use]
pub fn long_name(name: &str) -> Option<&'static str> {
    let long = COMPACT
        .iter()
        .find(|(_, compact)| eq_ignore_case(&[*compact], name.as_bytes()));
    long.map(|(long, _)| *long)
}

/// The first row between two offsets that holds the header `name`, by its
/// long or its compact form.
#[must_use]
pub fn find_row(bytes: &[u8], from: usize, to: usize, name: &[u8]) -> Option<Row> {
    let compact = COMPACT
        .iter()
        .find(|(long, _)| eq_ignore_case(long.as_bytes(), name))
        .map(|(_, compact)| *compact);
    rows(bytes, from, to)
        .find(|(found, _)| {
            eq_ignore_case(found, name)
                || matches!(found, [one] if Some(one.to_ascii_lowercase()) == compact)
        })
        .map(|(_, row)| row)
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
