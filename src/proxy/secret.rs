//! The secret: two keys, one for choosing destinations, one for the MACs.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

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

    /// The key that turns a Call-ID into a slot.
    pub(super) fn selection_key(&self) -> [u8; 16] {
        self.selection
    }

    /// A MAC over what is written to it, `purpose` first.
    #[inline]
    pub(super) fn mac(&self, purpose: u8) -> Mac {
        let mut hasher = SipHasher24::new_with_key(&self.mac);
        hasher.write_u8(purpose);
        Mac(hasher)
    }
}

/// A MAC in the making: SipHash-2-4, 64 bits.
pub(super) struct Mac(SipHasher24);

impl Mac {
    /// Takes in one field, with its length so that fields cannot run together.
    #[inline]
    pub(super) fn field(&mut self, field: &[u8]) {
        self.0.write(&(field.len() as u16).to_be_bytes());
        self.0.write(field);
    }

    /// Takes in a field of fixed length.
    #[inline]
    pub(super) fn fixed<const N: usize>(&mut self, octets: [u8; N]) {
        self.0.write(&octets);
    }

    #[inline]
    pub(super) fn finish(&self) -> u64 {
        self.0.finish()
    }
}
