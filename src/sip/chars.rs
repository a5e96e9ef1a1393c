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

/// Whether two texts are one name of a host (RFC 3261 §19.1.4), with the dot of
/// the root or without.
#[inline]
#[must_use]
pub fn is_same_name(one: &[u8], other: &[u8]) -> bool {
    let relative = |host| <[u8]>::strip_suffix(host, b".").unwrap_or(host);
    relative(one).eq_ignore_ascii_case(relative(other))
}

/// `value` as sixteen lower-case hexadecimal digits.
#[inline]
#[must_use]
pub fn hex64(value: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&hex32((value >> 32) as u32));
    out[8..].copy_from_slice(&hex32(value as u32));
    out
}

/// `value` as two lower-case hexadecimal digits.
#[inline]
#[must_use]
pub fn hex8(value: u8) -> [u8; 2] {
    let [.., tens, ones] = hex32(value.into());
    [tens, ones]
}

/// All eight digits at a time: a hundred instructions fewer for a branch.
#[inline]
fn hex32(value: u32) -> [u8; 8] {
    /// 1 in each octet.
    const EACH: u64 = 0x0101_0101_0101_0101;
    // Four bits in each octet.
    let value = u64::from(value);
    let value = (value | value << 16) & 0x0000_ffff_0000_ffff;
    let value = (value | value << 8) & 0x00ff_00ff_00ff_00ff;
    let value = (value | value << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // 1 for each that is ten or more.
    let letters = (value + EACH * 6) >> 4 & EACH;
    let digits = value + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10);
    digits.to_be_bytes()
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

/// The digits of `number` with a dot behind them, and how many digits they are:
/// from a table, in a third of the time.
#[inline]
#[must_use]
pub fn dotted(number: u8) -> (&'static [u8; 4], usize) {
    let length = 1 + usize::from(number > 9) + usize::from(number > 99);
    (&DOTTED[usize::from(number)], length)
}

static DOTTED: [[u8; 4]; 256] = all_dotted();

const fn all_dotted() -> [[u8; 4]; 256] {
    let mut table = [[0; 4]; 256];
    let mut number = 0;
    while number < table.len() {
        let [hundreds, tens, ones] = [number / 100, number / 10 % 10, number % 10];
        let digits = [
            hundreds as u8 + b'0',
            tens as u8 + b'0',
            ones as u8 + b'0',
            b'.',
        ];
        let zeros = (number < 100) as usize + (number < 10) as usize;
        let (_, digits) = digits.split_at(zeros);
        let (start, _) = table[number].split_at_mut(digits.len());
        start.copy_from_slice(digits);
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn hexadecimal_digits_are_as_the_standard_library_writes_and_reads_them(
            value: u64,
            text in "[0-9a-fA-F]{0,18}|[ -~]{1,16}",
        ) {
            let written = format!("{value:016x}");
            prop_assert_eq!(&hex64(value)[..], written.as_bytes());
            prop_assert_eq!(&hex8(value as u8)[..], &written.as_bytes()[14..]);
            let plain = u64::from_str_radix(&text, 16).ok();
            // A sign is for numbers, and no digit.
            let plain = plain.filter(|_| text.len() <= 16 && !text.starts_with('+'));
            prop_assert_eq!(parse_hex64(text.as_bytes()), plain);
        }
    }
}
