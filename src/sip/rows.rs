//! Walking the rows of a header section that [`scan`](super::scan) has found
//! sound: for the headers that only some messages need.

use super::chars::{is_lws, is_token, trim};
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

/// The first row between two offsets whose name is `long`, or `compact`.
#[must_use]
pub fn find_row(
    bytes: &[u8],
    from: usize,
    to: usize,
    long: &[u8],
    compact: Option<u8>,
) -> Option<Row> {
    rows(bytes, from, to)
        .find(|(name, _)| {
            eq_ignore_case(name, long)
                || compact.is_some_and(|c| name.len() == 1 && name[0].eq_ignore_ascii_case(&c))
        })
        .map(|(_, row)| row)
}

/// The value between a colon and a row's end, without white space around it.
#[inline]
pub(super) fn value_span(bytes: &[u8], mut start: usize, mut end: usize) -> Span {
    while start < end && is_lws(bytes[start]) {
        start += 1;
    }
    while end > start && is_lws(bytes[end - 1]) {
        end -= 1;
    }
    debug_assert_eq!(trim(&bytes[start..end]), &bytes[start..end]);
    Span::new(start, end)
}
