//! The secret: two keys, one for choosing destinations, one for the MACs.

use siphasher::sip::SipHasher13;

/// The key material that instances with the same behaviour share.
#[derive(Clone)]
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
    /// for another. `input` is working memory.
    #[inline]
    pub(super) fn mac<'a>(&'a self, purpose: u8, input: &'a mut Vec<u8>) -> Mac<'a> {
        input.clear();
        input.push(purpose);
        Mac {
            key: &self.mac,
            input,
        }
    }
}

/// A MAC in the making: SipHash-1-3, 64 bits. A forger has to guess it over the
/// network; more rounds would buy nothing against that.
///
/// Gathering the fields first and hashing once takes a tenth of the time of
/// handing them to the hasher one by one.
pub(super) struct Mac<'a> {
    key: &'a [u8; 16],
    input: &'a mut Vec<u8>,
}

impl Mac<'_> {
    /// Takes in one field, with its length so that fields cannot run together.
    #[inline]
    pub(super) fn field(&mut self, field: &[u8]) {
        self.fixed((field.len() as u16).to_be_bytes());
        self.input.extend_from_slice(field);
    }

    /// Takes in a field of fixed length.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self, octets: [u8; N]) {
        self.input.extend_from_slice(&octets);
    }

    #[inline]
    pub(super) fn finish(&self) -> u64 {
        SipHasher13::new_with_key(self.key).hash(self.input)
    }
}
