//! Classes of octets, and comparisons that ignore case (RFC 3261 §25.1).

const TOKEN: u8 = 1;
const HOST: u8 = 2;

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
    table
}

/// Octets of a token (§25.1 `token`).
#[inline]
pub(super) fn is_token(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

/// Octets of a host name or an IPv4 address.
#[inline]
pub(super) fn is_host(b: u8) -> bool {
    CLASS[b as usize] & HOST != 0
}

/// Octets that a URI may hold as far as a proxy cares: neither white space
/// nor control characters nor the delimiters that enclose it.
#[inline]
pub(super) fn is_uri(b: u8) -> bool {
    (b > 0x20) & (b != 0x7f) & (b != b'<') & (b != b'>') & (b != b'"')
}

/// Whether any octet is of a class. It looks at all of them: a loop that does
/// not stop early, over comparisons without jumps, is done sixteen at a time.
#[inline]
pub(super) fn has(octets: &[u8], class: impl Fn(u8) -> bool) -> bool {
    octets.iter().fold(false, |found, &b| found | class(b))
}

/// Linear white space inside a header value. The scanner lets CR and LF
/// into a value only as part of a fold (§7.3.1).
#[inline]
pub(super) fn is_lws(b: u8) -> bool {
    matches!(b, b' ' | b'\t' | b'\r' | b'\n')
}

/// Control characters other than those of white space.
#[inline]
pub(super) fn is_control(b: u8) -> bool {
    (b < 0x20) & (b != b'\t') & (b != b'\r') & (b != b'\n') | (b == 0x7f)
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
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = [0; 16];
    for (i, digit) in out.iter_mut().enumerate() {
        *digit = DIGITS[(value >> (60 - 4 * i)) as usize & 15];
    }
    out
}

/// Reads up to sixteen hexadecimal digits of either case; `None` where one is
/// none, or there are no or more digits.
#[inline]
#[must_use]
pub fn parse_hex64(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 16 {
        return None;
    }
    digits.iter().try_fold(0u64, |value, &b| {
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            b'a'..=b'f' => b - b'a' + 10,
            b'A'..=b'F' => b - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    })
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
/// not close before `end`. A backslash takes the next octet with it.
#[inline]
pub(super) fn skip_quoted(bytes: &[u8], at: usize, end: usize) -> Option<usize> {
    let mut i = at + 1;
    while i < end {
        match bytes[i] {
            b'"' => return Some(i + 1),
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    None
}

/// The first offset from `at` that holds no linear white space, at most `end`.
#[inline]
pub(super) fn skip_lws(bytes: &[u8], mut at: usize, end: usize) -> usize {
    while at < end && is_lws(bytes[at]) {
        at += 1;
    }
    at
}
