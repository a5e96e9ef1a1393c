//! Walking over one header value.

use super::Span;
use super::chars::{is_host, is_lws, is_param, is_token};
use super::lanes::Lanes;

/// A message as far as one value of it goes. What follows in the message may
/// be loaded, sixteen octets at a time, and is never seen.
#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    bytes: &'a [u8],
    end: usize,
}

impl<'a> Text<'a> {
    /// `bytes` up to `end`, or all of them.
    #[inline]
    pub(super) fn new(bytes: &'a [u8], end: usize) -> Self {
        let end = end.min(bytes.len());
        Self { bytes, end }
    }

    /// The same up to `end`, which is no further.
    #[inline]
    pub(super) fn upto(self, end: usize) -> Self {
        Self { end, ..self }
    }

    /// Where it ends.
    #[inline]
    pub(super) fn end(self) -> usize {
        self.end
    }

    /// The octet at `at`, before the end.
    #[inline]
    pub(super) fn get(self, at: usize) -> Option<u8> {
        self.bytes[..self.end].get(at).copied()
    }

    /// The octets from `from` up to `to`.
    #[inline]
    pub(super) fn slice(self, from: usize, to: usize) -> &'a [u8] {
        &self.bytes[from..to]
    }

    /// Whether `text` stands at `at`.
    #[inline]
    pub(super) fn has_at(self, at: usize, text: &[u8]) -> bool {
        self.bytes[..self.end]
            .get(at..)
            .is_some_and(|rest| rest.starts_with(text))
    }

    /// The token `span` in lower case, to be compared with what [`word`] makes
    /// of others; 0 where it has more than eight octets.
    #[inline]
    pub(super) fn word(self, span: Span) -> u64 {
        let octets = &self.bytes[span.start as usize..];
        match (octets.first_chunk(), span.len()) {
            // The octets behind it are shifted out.
            (Some(octets), length @ 1..=8) => {
                (u64::from_le_bytes(*octets) | LOWER) << (64 - 8 * length)
            }
            (None, _) => word(&octets[..span.len()]),
            _ => 0,
        }
    }

    /// The offset of the first octet from `at` on that is of a class, or the end.
    #[inline]
    pub(super) fn find(self, mut at: usize, class: impl Fn(Lanes) -> Lanes) -> usize {
        let Some(mut rest) = self.bytes.get(at..) else {
            return self.end;
        };
        while let Some((octets, behind)) = rest.split_first_chunk() {
            let bits = class(Lanes::from(*octets)).bits();
            if bits != 0 {
                return (at + bits.trailing_zeros() as usize).min(self.end);
            }
            at += 16;
            if at >= self.end {
                return self.end;
            }
            rest = behind;
        }
        (at + find_in_last(rest, class)).min(self.end)
    }

    /// The first offset from `at` that holds no linear white space, or the end.
    #[inline]
    pub(super) fn skip_lws(self, at: usize) -> usize {
        self.behind_lws(at).0
    }

    /// The same, and the octet there.
    #[inline]
    pub(super) fn behind_lws(self, mut at: usize) -> (usize, Option<u8>) {
        loop {
            match self.get(at) {
                Some(octet) if is_lws(octet) => at += 1,
                octet => return (at, octet),
            }
        }
    }

    /// The decimal number at `at`, 0 where there is no digit, and the offset behind
    /// it; `None` where it is above `max`.
    #[inline]
    pub(super) fn number(self, mut at: usize, max: u64) -> Option<(u64, usize)> {
        let mut number = 0;
        while let Some(digit @ b'0'..=b'9') = self.get(at) {
            number = number * 10 + u64::from(digit - b'0');
            if number > max {
                return None;
            }
            at += 1;
        }
        Some((number, at))
    }

    /// The offset behind the token that starts at `at`, which may be empty.
    #[inline]
    pub(super) fn skip_token(self, at: usize) -> usize {
        self.skip(at, is_token)
    }

    /// The offset behind the host name or IPv4 address that starts at `at`.
    #[inline]
    pub(super) fn skip_host(self, at: usize) -> usize {
        self.skip(at, is_host)
    }

    /// The offset behind the header parameter's value without quotes that
    /// starts at `at`, and whether all of it may stand in a token.
    #[inline]
    pub(super) fn skip_param(self, at: usize) -> (usize, bool) {
        let mut token = true;
        let end = self.skip(at, |b| {
            let is = is_param(b);
            token &= is_token(b) | !is;
            is
        });
        (end, token)
    }

    /// The offset behind the octets of a class that start at `at`. It holds
    /// all that host names do: those are most, and passed sixteen at a time.
    #[inline]
    fn skip(self, mut at: usize, mut class: impl FnMut(u8) -> bool) -> usize {
        loop {
            at = self.find(at, |lanes| !lanes.host_name());
            if !self.get(at).is_some_and(&mut class) {
                return at;
            }
            at += 1;
        }
    }

    /// The offset behind a quoted string that opens at `at`; `None` where it
    /// does not close, or holds a control character that no backslash quotes
    /// (RFC 3261 §25.1 quoted-pair).
    #[inline]
    pub(super) fn skip_quoted(self, at: usize) -> Option<usize> {
        let mut at = at + 1;
        loop {
            at = self.find(at, |lanes| {
                lanes.is(b'"') | lanes.is(b'\\') | lanes.controls()
            });
            match self.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at += 2,
                b if is_lws(b) => at += 1,
                _ => return None,
            }
        }
    }
}

/// Reads a decimal number; `None` where it is no number or above `max`.
#[inline]
pub(super) fn decimal(digits: &[u8], max: u64) -> Option<u64> {
    let (number, end) = Text::new(digits, digits.len()).number(0, max)?;
    (end > 0 && end == digits.len()).then_some(number)
}

/// As [`Text::find`] in the last octets of a message, fewer than sixteen.
#[cold]
#[inline(never)]
fn find_in_last(octets: &[u8], class: impl Fn(Lanes) -> Lanes) -> usize {
    let bits = class(Lanes::load_end(octets, 0)).bits();
    bits.trailing_zeros() as usize
}

/// Puts letters into lower case; of what else a token holds, nothing becomes
/// a letter.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// A token as a number, whatever its case; 0 where it has more than eight
/// octets.
pub(super) const fn word(token: &[u8]) -> u64 {
    if token.is_empty() || token.len() > 8 {
        return 0;
    }
    let mut octets = [0; 8];
    let (_, end) = octets.split_at_mut(8 - token.len());
    end.copy_from_slice(token);
    u64::from_le_bytes(octets) | LOWER << (64 - 8 * token.len())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        vec(
            prop_oneof![any::<u8>(), Just(b'a'), Just(b'~'), Just(b':'), Just(0)],
            0..60,
        )
    }

    /// As [`Text::find`] and [`Text::skip`], an octet at a time.
    fn plain(bytes: &[u8], at: usize, end: usize, ends: impl Fn(u8) -> bool) -> usize {
        (at..end)
            .find(|&i| ends(bytes[i]))
            .unwrap_or_else(|| end.max(at))
    }

    proptest! {
        #[test]
        fn find_and_skip_do_as_their_plain_twins(bytes in octets(), at in 0usize..60, end in 0usize..60) {
            let end = end.min(bytes.len());
            let at = at.min(end);
            let text = Text::new(&bytes, end);
            for octet in [b':', 0] {
                let found = text.find(at, |lanes| lanes.is(octet));
                prop_assert_eq!(found, plain(&bytes, at, end, |b| b == octet));
            }
            prop_assert_eq!(text.skip_token(at), plain(&bytes, at, end, |b| !is_token(b)));
            prop_assert_eq!(text.skip_host(at), plain(&bytes, at, end, |b| !is_host(b)));
            let behind = plain(&bytes, at, end, |b| !is_param(b));
            let token = bytes[at..behind].iter().all(|&b| is_token(b));
            prop_assert_eq!(text.skip_param(at), (behind, token));
            prop_assert_eq!(text.skip_lws(at), plain(&bytes, at, end, |b| !is_lws(b)));
        }

        #[test]
        fn a_word_is_known_in_any_case(name in "(?i)branch[a-z]?|[a-z*-]{0,9}", before in 0usize..30, behind in 0usize..9) {
            let bytes = [&vec![b' '; before], name.as_bytes(), &vec![b'='; behind]].concat();
            let found = Text::new(&bytes, bytes.len()).word(Span::new(before, before + name.len()));
            prop_assert_eq!(found, word(name.as_bytes()));
            prop_assert_eq!(found == word(b"branch"), name.eq_ignore_ascii_case("branch"));
        }
    }
}
