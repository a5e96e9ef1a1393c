//! Which worker a call belongs to.

use crate::sip::scan;

/// Octets of a Call-ID that are hashed at most, in words of four.
pub const HASHED: u32 = 32;
/// What the hash of a Call-ID begins with; it stays for an empty one.
pub const SEED: u32 = 0x811c_9dc5;
/// Multiplies the hash after each word.
pub const MULTIPLIER: u32 = 0x9e37_79b1;
/// Mixes the whole hash once more at the end.
pub const FINISHER: u32 = 0x85eb_ca6b;

/// Octets from 0x21 to 0xa0, taken from this, leave the high bit clear; others
/// set it, or their neighbour's when they are above.
pub const CEILING: u32 = 0xa0a0_a0a0;
/// The high bit of each octet.
pub const HIGH_BITS: u32 = 0x8080_8080;

/// The worker, of `workers` (1 to 65,535), that a call belongs to: the one
/// whose socket the kernel gives it where it [steers](crate::net::steer) by
/// Call-ID. `call_id` is the value without white space around it.
///
/// The first worker has what the kernel would choose by addresses.
#[inline]
#[must_use]
pub fn owner(call_id: &[u8], workers: usize) -> usize {
    let hash = hash(call_id);
    if hash == SEED {
        return 0;
    }
    let mixed = (hash ^ (hash >> 15)).wrapping_mul(FINISHER);
    ((mixed >> 16) as usize * workers) >> 16
}

/// The same for the first octets of a message; `None` where they end before
/// they tell.
#[must_use]
pub fn owner_of_cut(octets: &[u8], workers: usize) -> Option<usize> {
    let message = scan(octets).ok()?;
    let call_id = message.call_id.value.of(message.bytes);
    (!call_id.is_empty()).then(|| owner(call_id, workers))
}

/// The hash of a value up to its first octet that no Call-ID has.
#[inline]
fn hash(value: &[u8]) -> u32 {
    let mut hash = SEED;
    let mut mix = |word: u32| hash = (hash ^ word).wrapping_mul(MULTIPLIER);
    for chunk in value.chunks(4).take(HASHED as usize / 4) {
        // What ends a value in a message ends it here: any low octet.
        let mut word = [b'\n'; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        let word = CEILING.wrapping_sub(u32::from_be_bytes(word));
        let sound = (word & HIGH_BITS).leading_zeros() / 8;
        match sound {
            4 => mix(word),
            0 => break,
            _ => {
                mix(word & !(u32::MAX >> (8 * sound)));
                break;
            }
        }
    }
    hash
}
