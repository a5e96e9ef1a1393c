//! The secret: two keys, one for choosing destinations, one for the MACs.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

/// The key material that instances with the same behaviour share.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    selection: [u8; 16],
    mac: [u8; 16],
}

/// A text that is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecretError;

impl std::fmt::Display for SecretError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "a secret is {} hexadecimal digits on one line",
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
        };
        secret.selection.copy_from_slice(&octets[..16]);
        secret.mac.copy_from_slice(&octets[16..]);
        secret
    }

    /// Reads the text of a secret file.
    ///
    /// # Errors
    /// [`SecretError`] where it is not 64 hexadecimal digits.
    pub fn from_text(text: &str) -> Result<Self, SecretError> {
        let digits = text.trim_end();
        if digits.len() != 2 * Self::OCTETS || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SecretError);
        }
        let mut octets = [0; Self::OCTETS];
        for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| SecretError)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| SecretError)?;
        }
        Ok(Self::from_octets(octets))
    }

    /// The text of a secret file, to be kept where nobody else reads it.
    #[must_use]
    pub fn to_text(&self) -> String {
        let octets = self.selection.iter().chain(&self.mac);
        octets.map(|octet| format!("{octet:02x}")).collect()
    }

    /// The key that turns a Call-ID into a slot.
    pub(super) fn selection_key(&self) -> [u8; 16] {
        self.selection
    }

    /// A MAC in the making; `purpose` keeps those of one kind from passing
    /// for another. `first` is the first number that it covers, of 56 bits.
    /// `gathered` is working memory.
    #[inline]
    pub(super) fn mac<'a>(&self, purpose: u8, first: u64, gathered: &'a mut Vec<u8>) -> Mac<'a> {
        let mut mac = Mac {
            hasher: SipHasher13::new_with_key(&self.mac),
            gathered,
        };
        mac.number(first << 8 | u64::from(purpose));
        mac
    }
}

/// A MAC in the making: SipHash-1-3, 64 bits. A forger has to guess it over the
/// network; more rounds would buy nothing against that.
///
/// Numbers go from registers into the hash, texts are gathered first and hashed
/// at once: to hand them over one by one takes ten times as long, and what is
/// written in small pieces is not there yet when it is read in large ones.
pub(super) struct Mac<'a> {
    hasher: SipHasher13,
    gathered: &'a mut Vec<u8>,
}

impl Mac<'_> {
    /// Takes in a number.
    #[inline]
    pub(super) fn number(&mut self, number: u64) {
        self.hasher.write_u64(number);
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
        self.gathered.clear();
        for text in texts {
            self.gathered.extend_from_slice(text);
        }
        self.hasher.hash(self.gathered)
    }
}
