//! Sixteen octets looked at in one step.
//!
//! What routing reads of a message is short runs of unpredictable length; a
//! loop over their octets costs four instructions an octet and a mispredicted
//! jump at each end. Comparing sixteen octets at once takes a quarter off the
//! instructions of a decision. Each routine has a plain twin in the tests below.

use wide::i8x16;

/// Sixteen octets, or whether each of sixteen is of a class.
#[derive(Clone, Copy)]
pub(super) struct Lanes(i8x16);

impl Lanes {
    /// The octets at `at`; `None` where fewer than sixteen are left.
    #[inline]
    pub(super) fn load(bytes: &[u8], at: usize) -> Option<Self> {
        let octets = bytes.get(at..)?.first_chunk()?;
        Some(Self::from(*octets))
    }

    /// The octets at `at` where fewer than sixteen are left, with zeros behind
    /// the last one. Where both come together in one value it passes through
    /// other registers: callers keep them apart.
    pub(super) fn load_end(bytes: &[u8], at: usize) -> Self {
        let mut octets = [0; 16];
        let rest = bytes.get(at..).unwrap_or(&[]);
        octets[..rest.len()].copy_from_slice(rest);
        Self::from(octets)
    }

    /// The same octets with the letters in lower case, and some others
    /// changed that no token holds.
    #[inline]
    pub(super) fn folded(self) -> Self {
        Self(self.0 | i8x16::splat(0x20))
    }

    /// Which octets are the same in both.
    #[inline]
    pub(super) fn same(self, other: Self) -> Self {
        Self(self.0.simd_eq(other.0))
    }

    /// Which octets are `octet`.
    #[inline]
    pub(super) fn is(self, octet: u8) -> Self {
        Self(self.0.simd_eq(i8x16::splat(octet.cast_signed())))
    }

    /// Which octets are from `first` to `last`, at most 128 of them.
    #[inline]
    pub(super) fn within(self, first: u8, last: u8) -> Self {
        debug_assert!(last - first < 128, "too many octets");
        // Moved to where they are the greatest: one comparison, 1 % of an INVITE.
        let moved = self.0 + i8x16::splat(127u8.wrapping_sub(last).cast_signed());
        let below = 126 - (last - first).cast_signed();
        Self(moved.simd_gt(i8x16::splat(below)))
    }

    /// Which octets are letters.
    #[inline]
    pub(super) fn letters(self) -> Self {
        self.folded().within(b'a', b'z')
    }

    /// Which octets a host name may hold, but for `_`.
    #[inline]
    pub(super) fn host_name(self) -> Self {
        self.letters() | self.within(b'0', b'9') | self.within(b'-', b'.')
    }

    /// Which octets are control characters, white space among them.
    #[inline]
    pub(super) fn controls(self) -> Self {
        self.within(0, 0x1f) | self.is(0x7f)
    }

    /// Which octets no URI holds as far as a proxy cares: white space, control
    /// characters and the delimiters that enclose it.
    #[inline]
    pub(super) fn not_uri(self) -> Self {
        self.within(0, 0x20) | self.is(0x7f) | self.is(b'<') | self.is(b'>') | self.is(b'"')
    }

    /// One bit for each octet of the class, the lowest for the first.
    #[inline]
    pub(super) fn bits(self) -> u32 {
        self.0.to_bitmask()
    }
}

impl From<[u8; 16]> for Lanes {
    #[inline]
    fn from(octets: [u8; 16]) -> Self {
        Self(i8x16::new(octets.map(u8::cast_signed)))
    }
}

impl std::ops::BitOr for Lanes {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::Not for Lanes {
    type Output = Self;

    #[inline]
    fn not(self) -> Self {
        Self(!self.0)
    }
}

/// `word` with zeros behind it.
pub(super) const fn padded(word: &[u8]) -> [u8; 16] {
    let mut octets = [0; 16];
    let (start, _) = octets.split_at_mut(word.len());
    start.copy_from_slice(word);
    octets
}

/// Finds one line end of a message after the other. The message comes along
/// each time, for whoever asks has it at hand.
pub(super) struct LineEnds {
    /// Offset of the 64 octets that are looked at.
    at: usize,
    /// The bits of [`line_ends`] that are still to come.
    bits: u64,
    /// Offset behind the line end that was found last.
    end: usize,
}

impl LineEnds {
    /// From the start of the message on.
    #[inline]
    pub(super) fn new(bytes: &[u8]) -> Self {
        let bits = line_ends(bytes);
        Self {
            at: 0,
            bits,
            end: 0,
        }
    }

    /// The offset behind the next CRLF, and the octet there, 0 for none; `None`
    /// where there is no CRLF, or a CR or LF by itself before it.
    #[inline]
    pub(super) fn crlf(&mut self, bytes: &[u8]) -> Option<(usize, u8)> {
        loop {
            while self.bits == 0 {
                self.at += 64;
                self.bits = line_ends(bytes.get(self.at..)?);
            }
            let at = self.at + self.bits.trailing_zeros() as usize;
            self.bits &= self.bits - 1;
            let rest = bytes.get(at..)?;
            let next = if let Some([end @ .., next]) = rest.first_chunk::<3>()
                && end == b"\r\n"
            {
                *next
            } else if rest == b"\r\n" {
                0
            } else if at < self.end || !matches!(rest[0], b'\r' | b'\n') {
                continue;
            } else {
                return None;
            };
            // Its LF; in the next 64 octets it stands before the end.
            self.bits &= self.bits.wrapping_sub(1);
            self.end = at + 2;
            return Some((self.end, next));
        }
    }
}

/// One bit for each of the first 64 octets that may be CR or LF, the lowest for
/// the first.
#[inline]
fn line_ends(rest: &[u8]) -> u64 {
    if let Some(block) = rest.first_chunk() {
        return line_ends_of(block);
    }
    last_line_ends(rest)
}

#[cold]
fn last_line_ends(rest: &[u8]) -> u64 {
    let mut block = [0; 64];
    block[..rest.len()].copy_from_slice(rest);
    line_ends_of(&block)
}

/// One bit for each octet from LF to CR: one comparison. VT and FF, which are
/// among them and which nobody writes, are told apart by who asks.
#[inline]
fn line_ends_of(block: &[u8; 64]) -> u64 {
    let quarters = block.as_chunks().0.iter().rev();
    quarters.fold(0, |bits, octets| {
        let ends = Lanes::from(*octets).within(b'\n', b'\r');
        bits << 16 | u64::from(ends.bits())
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        vec(
            prop_oneof![any::<u8>(), Just(b'\r'), Just(b'\n'), b'a'..b'd'],
            0..200,
        )
    }

    /// Lines of many lengths, so that each thing stands at each place of the 64
    /// octets that are looked at together; few have a line end that is none.
    fn lines() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            20 => vec(b'a'..b'd', 0..40),
            20 => Just(b"\r\n".to_vec()),
            2 => select(&b"\x0b\x0c\0"[..]).prop_map(|octet| vec![octet]),
            1 => select(&b"\r\n"[..]).prop_map(|octet| vec![octet]),
        ];
        vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn load_reads_what_is_there_and_zeros_behind(bytes in octets(), at in 0usize..220) {
            let plain: Vec<u8> = (at..at + 16).map(|i| bytes.get(i).copied().unwrap_or(0)).collect();
            let found = match Lanes::load(&bytes, at) {
                Some(lanes) => {
                    prop_assert!(at + 16 <= bytes.len());
                    lanes
                }
                None => Lanes::load_end(&bytes, at),
            };
            prop_assert_eq!(found.0.to_array().map(i8::cast_unsigned).to_vec(), plain);
        }

        #[test]
        fn classes_are_those_of_single_octets(first: u8, more in 0u8..128, bytes: [u8; 16]) {
            let last = first.saturating_add(more);
            let bits = |holds: &dyn Fn(u8) -> bool| {
                (0..16).fold(0, |bits, i| bits | u32::from(holds(bytes[i])) << i)
            };
            let lanes = Lanes::from(bytes);
            prop_assert_eq!(lanes.is(first).bits(), bits(&|b| b == first));
            prop_assert_eq!(lanes.within(first, last).bits(), bits(&|b| first <= b && b <= last));
            prop_assert_eq!(lanes.letters().bits(), bits(&|b| b.is_ascii_alphabetic()));
            let host_name = |b: u8| b.is_ascii_alphanumeric() || b"-.".contains(&b);
            prop_assert_eq!(lanes.host_name().bits(), bits(&host_name));
            prop_assert_eq!(lanes.controls().bits(), bits(&|b| b.is_ascii_control()));
            let not_uri = |b: u8| b == b' ' || b.is_ascii_control() || b"<>\"".contains(&b);
            prop_assert_eq!(lanes.not_uri().bits(), bits(&not_uri));
        }

        #[test]
        fn line_ends_are_those_of_a_walk_over_all_octets(bytes in lines()) {
            let mut ends = LineEnds::new(&bytes);
            let mut from = 0;
            loop {
                let plain = (from..bytes.len())
                    .find(|&i| matches!(bytes[i], b'\r' | b'\n'))
                    .filter(|&i| bytes[i..].starts_with(b"\r\n"))
                    .map(|i| (i + 2, bytes.get(i + 2).copied().unwrap_or(0)));
                prop_assert_eq!(ends.crlf(&bytes), plain);
                let Some((end, _)) = plain else { break };
                from = end;
            }
        }
    }
}
