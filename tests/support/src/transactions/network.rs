//! What the network does to datagrams.

use super::chance::Chance;

/// How bad it is.
#[derive(Clone, Debug)]
pub struct Network {
    /// Of a thousand datagrams, so many are lost.
    pub loss: u64,
    /// Of a thousand datagrams, so many come twice.
    pub duplication: u64,
    /// The longest delay of most, in milliseconds.
    pub delay: u64,
    /// Of a thousand datagrams, so many come a lot later.
    pub stragglers: u64,
}

/// How late a straggler is at most; less than T4, "the maximum duration a
/// message will remain in the network" (RFC 3261 §17.1.2.2).
const STRAGGLES: u64 = 2000;

impl Network {
    /// Nothing is lost, and everything is fast.
    pub const CALM: Self = Self {
        loss: 0,
        duplication: 0,
        delay: 20,
        stragglers: 0,
    };

    /// The delays with which copies of a datagram arrive; none: it is lost.
    pub fn carry(&self, chance: &mut Chance) -> Vec<u64> {
        if chance.per_mille(self.loss) {
            return Vec::new();
        }
        let copies = 1 + u64::from(chance.per_mille(self.duplication));
        let delay = |_| {
            let late = chance.per_mille(self.stragglers);
            let longest = if late { STRAGGLES } else { self.delay };
            chance.between(1..=longest)
        };
        (0..copies).map(delay).collect()
    }
}
