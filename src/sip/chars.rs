//! Classes of octets, and comparisons that ignore case (RFC 3261 §25.1).

use super::lanes::{Lanes, find};

const TOKEN: u8 = 1;
const HOST: u8 = 2;
const PARAM: u8 = 4;

/// One look-up tells all classes of an octet.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < 256 {
        let b = octet as u8;
        if b.is_ascii_alphanumeric() {
            table[octet] = TOKEN | HOST;
        }
        octet += 1;
    }
    let mut i = 0;
    let marks = b"-.!%*_+`'~";
    while i < marks.len() {
        table[marks[i] as usize] |= TOKEN;
        i += 1;
    }
    // `_` stands in no host of the grammar and in many of the field.
    table[b'-' as usize] |= HOST;
    table[b'.' as usize] |= HOST;
    table[b'_' as usize] |= HOST;
    // A host in a parameter may hold colons and brackets (RFC 5118 §4.5).
    table[b':' as usize] |= PARAM;
    table[b'[' as usize] |= PARAM;
    table[b']' as usize] |= PARAM;
    table
}

/// Octets of a token (§25.1 `token`).
#[inline]
pub(super) fn is_token(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

/// Whether no octet is one that a URI cannot hold.
#[inline]
pub(super) fn is_uri(octets: &[u8]) -> bool {
    find(octets, 0, Lanes::not_uri) == octets.len()
}

/// Linear white space inside a header value. The scanner lets CR and LF
/// into a value only as part of a fold (§7.3.1).
#[inline]
pub(super) fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// Compares tokens and host names (§7.3.1: case-insensitive).
#[inline]
#[must_use]
pub fn eq_ignore_case(a: &[u8], b: &[u8]) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// `value` as sixteen lower-case hexadecimal digits.
#[inline]
#[must_use]
pub fn hex64(value: u64) -> [u8; 16] {
    let mut out = [0; 16];
    for (pair, octet) in out.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        pair[0] = digit(octet >> 4);
        pair[1] = digit(octet & 15);
    }
    out
}

/// `value` as two lower-case hexadecimal digits.
#[inline]
#[must_use]
pub fn hex8(value: u8) -> [u8; 2] {
    [digit(value >> 4), digit(value & 15)]
}

/// Without a table and without jumps, so that sixteen are done at a time.
#[inline]
fn digit(nibble: u8) -> u8 {
    nibble + b'0' + u8::from(nibble > 9) * (b'a' - b'0' - 10)
}

/// Reads up to sixteen hexadecimal digits of either case; `None` where one is
/// none, or there are no or more digits.
#[inline]
#[must_use]
pub fn parse_hex64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    let mut value = 0;
    let mut sound = true;
    // Without jumps: a forged branch costs no more than a good one.
    for &b in digits {
        let letter = (b | 0x20).wrapping_sub(b'a');
        let number = b.wrapping_sub(b'0');
        sound &= (letter < 6) | (number < 10);
        let digit = if letter < 6 { letter + 10 } else { number };
        value = value << 4 | u64::from(digit & 15);
    }
    sound.then_some(value)
}

/// Reads a decimal number; `None` where it is no number or above `max`.
#[inline]
pub(super) fn decimal(digits: &[u8], max: u64) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &b| {
        if !b.is_ascii_digit() {
            return None;
        }
        let value = value * 10 + u64::from(b - b'0');
        (value <= max).then_some(value)
    })
}

/// The offset behind a quoted string that opens at `at`; `None` where it does
/// not close, or holds a control character that no backslash quotes (§25.1
/// quoted-pair).
#[inline]
pub(super) fn skip_quoted(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        at = find(bytes, at, |lanes| {
            lanes.is(b'"') | lanes.is(b'\\') | lanes.controls()
        });
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            b if is_lws(*b) => at += 1,
            _ => return None,
        }
    }
}

/// The first offset from `at` that holds no linear white space, or the end.
#[inline]
pub(super) fn skip_lws(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && is_lws(bytes[at]) {
        at += 1;
    }
    at
}

/// Whether `text` is a token.
#[inline]
pub(super) fn token(text: &[u8]) -> bool {
    !text.is_empty() && skip_token(text, 0) == text.len()
}

/// The offset behind the token that starts at `at`, which may be empty.
#[inline]
pub(super) fn skip_token(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, TOKEN)
}

/// The offset behind the host name or IPv4 address that starts at `at`.
#[inline]
pub(super) fn skip_host(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, HOST)
}

/// The offset behind a header parameter's value without quotes.
#[inline]
pub(super) fn skip_param(bytes: &[u8], at: usize) -> usize {
    skip(bytes, at, TOKEN | PARAM)
}

/// The offset behind the octets of some classes that start at `at`. Those
/// that all classes hold are most of them, and passed sixteen at a time.
#[inline]
fn skip(bytes: &[u8], mut at: usize, classes: u8) -> usize {
    while at < bytes.len() {
        let common = Lanes::load(bytes, at).host_name().bits();
        at += common.trailing_ones() as usize;
        if common == 0xffff {
            continue;
        }
        if at >= bytes.len() || CLASS[bytes[at] as usize] & classes == 0 {
            break;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn skip_passes_what_is_of_a_class(
            bytes in vec(prop_oneof![any::<u8>(), Just(b'a'), Just(b'~'), Just(b':')], 0..60),
            at in 0usize..60,
        ) {
            let at = at.min(bytes.len());
            for classes in [TOKEN, HOST, TOKEN | PARAM] {
                let rest = &bytes[at..];
                let length = rest.iter().position(|&b| CLASS[b as usize] & classes == 0);
                prop_assert_eq!(skip(&bytes, at, classes), at + length.unwrap_or(rest.len()));
            }
        }
    }
}
