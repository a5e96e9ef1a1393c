//! The secret: two keys, one for choosing destinations, one for the MACs. While
//! one secret takes the place of another, the other's MACs verify too.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::sip::parse_hex64;

/// The key material that instances with the same behaviour share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    selection: [u8; 16],
    mac: [u8; 16],
    /// The key of MACs that verify and are never made.
    other: Option<[u8; 16]>,
}

/// A text that is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretError {
    /// The line that is none, from 1.
    pub line: usize,
}

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a secret is {} hexadecimal digits on one line; a second line may hold another one, whose \
             signatures are still accepted",
            2 * Secret::OCTETS
        )
    }
}

impl std::error::Error for SecretError {}

impl Secret {
    /// Octets of key material.
    pub const OCTETS: usize = 32;

    /// Takes random octets as a secret.
    #[must_use]
    pub fn from_octets(octets: [u8; Self::OCTETS]) -> Self {
        let mut secret = Self {
            selection: [0; 16],
            mac: [0; 16],
            other: None,
        };
        secret.selection.copy_from_slice(&octets[..16]);
        secret.mac.copy_from_slice(&octets[16..]);
        secret
    }

    /// Reads the text of a secret file: the secret, and perhaps another one
    /// below, of which only the key of the MACs counts.
    ///
    /// # Errors
    /// [`SecretError`] where a line is not 64 hexadecimal digits, or there is a
    /// third one.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let lines = text.trim_end().lines().zip(1..);
        let mut secrets = lines.map(|(digits, line)| octets(digits).ok_or(SecretError { line }));
        let first = secrets.next().unwrap_or(Err(SecretError { line: 1 }))?;
        let second = secrets.next().transpose()?.map(Self::from_octets);
        match secrets.next() {
            Some(_) => Err(SecretError { line: 3 }),
            None => Ok(Self {
                other: second.map(|second| second.mac),
                ..Self::from_octets(first)
            }),
        }
    }

    /// The text of a secret file, to be kept where nobody else reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |mac: &[u8; 16]| -> String {
            let octets = self.selection.iter().chain(mac);
            octets.map(|octet| format!("{octet:02x}")).collect()
        };
        let lines = [Some(&self.mac), self.other.as_ref()];
        let lines: Vec<_> = lines.into_iter().flatten().map(line).collect();
        lines.join("\n")
    }

    /// Whether both choose alike and make the same marks.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        (self.selection, self.mac) == (other.selection, other.mac)
    }

    /// Whether the marks of another one are good, too.
    #[must_use]
    pub fn has_other(&self) -> bool {
        self.other.is_some()
    }

    /// Whether a mark is `good` by this secret, or by the other one.
    #[inline]
    pub(super) fn verifies(&self, mut good: impl FnMut(&Self) -> bool) -> bool {
        good(self) || self.other().is_some_and(|other| good(&other))
    }

    /// The secret whose marks are accepted beside its own.
    pub(super) fn other(&self) -> Option<Self> {
        self.other.map(|mac| Self {
            mac,
            other: None,
            ..*self
        })
    }

    /// The key that turns a Call-ID into a slot.
    pub(super) fn selection_key(&self) -> [u8; 16] {
        self.selection
    }

    /// A MAC in the making; `purpose` keeps those of one kind from passing
    /// for another. `first` is the first number that it covers, of 56 bits.
    #[inline]
    pub(super) fn mac(&self, purpose: u8, first: u64) -> Mac {
        let mut mac = Mac(SipHasher13::new_with_key(&self.mac));
        mac.number(first << 8 | u64::from(purpose));
        mac
    }
}

/// The octets that hexadecimal `digits` stand for.
fn octets(digits: &str) -> Option<[u8; Secret::OCTETS]> {
    let mut octets = [0; Secret::OCTETS];
    if digits.len() != 2 * octets.len() {
        return None;
    }
    let (places, _) = octets.as_chunks_mut();
    let (words, _) = digits.as_bytes().as_chunks::<16>();
    for (place, word) in places.iter_mut().zip(words) {
        *place = parse_hex64(word)?.to_be_bytes();
    }
    Some(octets)
}

/// A MAC in the making: SipHash-1-3, 64 bits. A forger has to guess it over the
/// network; more rounds would buy nothing against that.
///
/// All goes into the hash eight octets at a time, from where it stands: texts of
/// any length, handed over as they are, would take ten times as long.
pub(super) struct Mac(SipHasher13);

impl Mac {
    /// Takes in a number.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        self.0.write_u64(number);
    }

    /// The MAC of all numbers and of `texts`, none of which is longer than a
    /// datagram. How many there are must follow from the numbers.
    #[inline(always)]
    pub(super) fn finish<const N: usize>(mut self, texts: [&[u8]; N]) -> u64 {
        // Their lengths, so that they cannot run together.
        for four in texts.chunks(4) {
            let lengths = four.iter().map(|text| text.len() as u64);
            self.number(lengths.fold(0, |lengths, length| lengths << 16 | length));
        }
        for text in texts {
            self.text(text);
        }
        self.0.finish()
    }

    /// Takes in a text whose length is known already: the last word may begin
    /// within the one before, or is filled up with zeros.
    #[inline(always)]
    fn text(&mut self, text: &[u8]) {
        let (words, rest) = text.as_chunks();
        for word in words {
            self.number(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            self.number(match text.last_chunk() {
                Some(last) => u64::from_le_bytes(*last),
                None => rest.iter().fold(0, |word, &b| word << 8 | u64::from(b)),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    fn mac(texts: &[Vec<u8>; 2]) -> u64 {
        let secret = Secret::from_octets([7; Secret::OCTETS]);
        let [one, other] = texts;
        secret
            .mac(b'x', 1)
            .finish([one.as_slice(), other.as_slice()])
    }

    /// Of few octets, so that many have much in common.
    fn texts() -> impl Strategy<Value = [Vec<u8>; 2]> {
        let text = || vec(select(&b"\0ab"[..]), 0..26);
        [text(), text()]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn other_texts_have_another_mac(texts in texts(), others in texts(), at: usize) {
            prop_assert_eq!(mac(&texts) == mac(&others), texts == others);
            // The same octets with the border elsewhere.
            let whole = texts.concat();
            let (one, other) = whole.split_at(at % (whole.len() + 1));
            let moved = [one.to_vec(), other.to_vec()];
            prop_assert_eq!(mac(&texts) == mac(&moved), texts == moved);
            // One octet less, at either end.
            let [one, other] = &texts;
            for cut in [one.get(1..), one.split_last().map(|(_, rest)| rest)].into_iter().flatten() {
                prop_assert_ne!(mac(&texts), mac(&[cut.to_vec(), other.clone()]));
            }
        }
    }
}
