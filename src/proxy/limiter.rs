//! An allowance of what we send of our own accord to each source prefix: what a
//! forged source address can be hit with through us stays small (RFC 3261
//! §26.1.5).

use std::hash::Hasher;
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// A reply of more octets counts as several.
const UNIT: usize = 1024;

/// Buckets in all. Prefixes that fall into one share its allowance.
const BUCKETS: usize = 4096;

/// Token buckets by source prefix: IPv4 /24, IPv6 /48. Fixed in size.
pub struct ReplyLimiter {
    /// Replies a second, and at once after a quiet second.
    rate: u32,
    /// Keyed, so that nobody can pick a prefix to share a bucket with.
    key: [u8; 16],
    /// Thousandths of replies left, and when they were counted, in milliseconds.
    buckets: Vec<(u64, u64)>,
}

impl ReplyLimiter {
    /// Full buckets for `rate` replies a second.
    #[must_use]
    pub fn new(rate: u32, key: [u8; 16]) -> Self {
        Self {
            rate,
            key,
            buckets: vec![(0, 0); BUCKETS],
        }
    }

    /// Whether a reply of so many octets may go to `source` now; counts it if so,
    /// each started KiB as one. `now` counts milliseconds of a clock that does not
    /// go back, from over 1,000 on.
    pub fn allow(&mut self, source: IpAddr, octets: usize, now: u64) -> bool {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        match source {
            IpAddr::V4(ip) => hasher.write(&ip.octets()[..3]),
            IpAddr::V6(ip) => hasher.write(&ip.octets()[..6]),
        }
        let bucket = &mut self.buckets[hasher.finish() as usize % BUCKETS];
        let (left, since) = *bucket;
        let elapsed = now.saturating_sub(since).min(1000);
        let rate = u64::from(self.rate);
        let left = (left + elapsed * rate).min(1000 * rate);
        // The largest passes, too, where nothing else does.
        let wanted = (octets.div_ceil(UNIT) as u64).min(rate).max(1);
        let rest = left.checked_sub(1000 * wanted);
        *bucket = (rest.unwrap_or(left), now);
        rest.is_some()
    }
}
