//! Classes of octets, and comparisons that ignore case (RFC 3261 §25.1).

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

/// Octets of a host name or an IPv4 address.
#[inline]
pub(super) fn is_host(b: u8) -> bool {
    CLASS[b as usize] & HOST != 0
}

/// Octets of a header parameter's value without quotes.
#[inline]
pub(super) fn is_param(b: u8) -> bool {
    CLASS[b as usize] & (TOKEN | PARAM) != 0
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

/// `number` in decimal, within `room`.
#[inline]
#[must_use]
pub fn digits(mut number: u32, room: &mut [u8; 10]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        room[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
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
