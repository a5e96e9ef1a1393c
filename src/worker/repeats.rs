//! Which requests are retransmissions, without any state of calls.

use super::snapshot::Tallies;
use crate::proxy::{Forward, Kind};
use crate::sip::Method;

/// Fingerprints remembered. At 10,000 requests a second 93 % of them are still
/// there after T1 (500 ms, RFC 3261 §17.1.1.2), when the first retransmission
/// comes, and a table of 256 KiB stays in the second cache of a core.
const SLOTS: usize = 1 << 16;

/// Requests that are looked up at once.
const AT_ONCE: usize = 256;

/// Fingerprints of the requests that were sent on last, in a fixed amount of
/// memory: each has one place, where it displaces what was there. So what is
/// counted by it is a lower bound, the better the lower the load, and no flood
/// can do more than lower it.
pub(super) struct Repeats {
    seen: Box<[u32]>,
    /// Those of this batch, with the destinations that they went to. Where each
    /// is looked up by itself, each waits for memory; together they wait once.
    noted: Vec<(u64, (usize, usize))>,
}

impl Repeats {
    pub(super) fn new() -> Self {
        Self {
            seen: vec![0; SLOTS].into(),
            noted: Vec::with_capacity(AT_ONCE),
        }
    }

    /// Notes a request that is sent on to a destination; [`Self::count`] says
    /// whether one with the same method and branch was before.
    ///
    /// An ACK never was: it is sent again for the sake of a response that was.
    /// CANCEL has the branch of its INVITE, so it has a place of its own.
    #[inline]
    pub(super) fn note(&mut self, forward: &Forward, tallies: &Tallies) {
        let (Kind::Request(method), Some(to)) = (forward.kind, forward.way.destination()) else {
            return;
        };
        if method == Method::Ack {
            return;
        }
        if self.noted.len() == AT_ONCE {
            self.count(tallies);
        }
        self.noted.push((forward.branch ^ method as u64, to));
    }

    /// Counts those noted that were sent on before.
    pub(super) fn count(&mut self, tallies: &Tallies) {
        for (key, to) in self.noted.drain(..) {
            let fingerprint = (key >> 32) as u32;
            let seen = &mut self.seen[key as usize % SLOTS];
            if std::mem::replace(seen, fingerprint) == fingerprint {
                tallies.retransmitted(to);
            }
        }
    }
}
