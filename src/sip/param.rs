//! Parameters of a header value (RFC 3261 §25.1 generic-param, via-params).

use super::Span;
use super::text::Text;

/// A parameter, without its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param {
    /// From the end of what stands before it to the end of its value.
    pub whole: Span,
    /// Behind the `=`; empty for a parameter without a value.
    pub value: Span,
    /// Whether the value is a token.
    pub token: bool,
}

/// What follows a value or a parameter of it.
pub(super) enum Next {
    /// A parameter: its name, and the rest.
    Param(Span, Param),
    /// A comma; the next value of the row starts here.
    Comma(u32),
    /// The end of the row.
    End,
}

/// Reads `LWS ";" LWS name [LWS "=" LWS value]`, or what stands in its place
/// at `at`; `text` ends with the row. `None` where it is nothing of these.
#[inline(always)]
pub(super) fn next_param(text: Text<'_>, at: usize) -> Option<Next> {
    let (semicolon, octet) = text.behind_lws(at);
    match octet {
        None => return Some(Next::End),
        Some(b',') => return Some(Next::Comma(semicolon as u32 + 1)),
        Some(b';') => {}
        Some(_) => return None,
    }
    let start = text.skip_lws(semicolon + 1);
    let end = text.skip_token(start);
    if end == start {
        return None;
    }
    let (value, token) = value(text, end)?;
    // White space goes with it: two folds in a row would be one too many.
    let whole = Span::new(at, value.end as usize);
    let param = Param {
        whole,
        value,
        token,
    };
    Some(Next::Param(Span::new(start, end), param))
}

/// `[LWS "=" LWS (token / host / quoted-string)]` behind a name that ends at
/// `at`: the value, or an empty span there, and whether it is a token.
#[inline]
fn value(text: Text<'_>, at: usize) -> Option<(Span, bool)> {
    let (equals, octet) = text.behind_lws(at);
    if octet != Some(b'=') {
        return Some((Span::new(at, at), false));
    }
    let (start, octet) = text.behind_lws(equals + 1);
    let (end, token) = if octet == Some(b'"') {
        (text.skip_quoted(start)?, false)
    } else {
        text.skip_param(start)
    };
    (end > start).then(|| (Span::new(start, end), token))
}
