//! Messages in cells: a fixed amount of memory that is touched as far as it is
//! used, and never fragments.

use std::collections::TryReserveError;

use super::slab::room;

/// Octets of a cell, of which four are the number of the next one.
pub(super) const CELL: usize = 64;
const PAYLOAD: usize = CELL - 4;

/// A message in cells. It must be given back. Packed, for there are three in
/// each transaction, which must fit its share of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, packed(2))]
pub(super) struct Chain {
    /// Its last cell, which the first one follows: they are a ring.
    last: u32,
    length: u16,
}

impl Chain {
    pub(super) const fn is_empty(self) -> bool {
        self.length == 0
    }
}

/// The cells of one worker.
pub(super) struct Cells {
    octets: Vec<[u8; PAYLOAD]>,
    /// For each cell the next one of its message, or the next free one. Apart,
    /// so that a message is kept without a look at cells that are in no cache:
    /// to find one behind the other took an eighth of the time of a transaction.
    next: Vec<u32>,
    /// The first free one. Behind those that were in use before comes the first
    /// that was not.
    free: u32,
    unused: usize,
}

impl Cells {
    /// Room for `most` cells.
    pub(super) fn new(most: usize) -> Result<Self, TryReserveError> {
        Ok(Self {
            octets: room(most)?,
            next: room(most)?,
            free: 0,
            unused: most,
        })
    }

    /// Keeps `message`; `None` where there is no room for it.
    pub(super) fn keep(&mut self, message: &[u8]) -> Option<Chain> {
        let length = u16::try_from(message.len()).ok()?;
        let wanted = message.len().div_ceil(PAYLOAD);
        self.unused = self.unused.checked_sub(wanted)?;
        if wanted == 0 {
            return Some(Chain::default());
        }
        let first = self.free;
        let (mut last, mut free) = (first, first);
        // Whole cells apart, for they are copied without a call.
        let (parts, tail) = message.as_chunks::<PAYLOAD>();
        for part in parts {
            last = free;
            free = self.put(last, part);
        }
        if !tail.is_empty() {
            last = free;
            free = self.put(last, tail);
        }
        self.free = free;
        self.next[last as usize] = first;
        Some(Chain { last, length })
    }

    /// Fills the first free cell; returns the one behind it.
    #[inline]
    fn put(&mut self, free: u32, part: &[u8]) -> u32 {
        let at = free as usize;
        if at == self.next.len() {
            self.octets.push([0; PAYLOAD]);
            self.next.push(free + 1);
        }
        self.octets[at][..part.len()].copy_from_slice(part);
        self.next[at]
    }

    /// Writes the message in the place of what `out` holds.
    pub(super) fn load(&self, chain: Chain, out: &mut Vec<u8>) {
        out.clear();
        if chain.is_empty() {
            return;
        }
        let length = usize::from(chain.length);
        let mut at = self.next[chain.last as usize] as usize;
        for _ in 0..length / PAYLOAD {
            out.extend_from_slice(&self.octets[at]);
            at = self.next[at] as usize;
        }
        out.extend_from_slice(&self.octets[at][..length % PAYLOAD]);
    }

    /// Gives the cells back, and leaves an empty chain. They stay linked, so that
    /// one of them is touched and not all.
    pub(super) fn free(&mut self, chain: &mut Chain) {
        let Chain { last, length } = std::mem::take(chain);
        if length > 0 {
            self.free = std::mem::replace(&mut self.next[last as usize], self.free);
            self.unused += usize::from(length).div_ceil(PAYLOAD);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// As a list of messages would do.
        #[test]
        fn what_is_kept_comes_back(steps in prop::collection::vec((any::<bool>(), 0usize..400), 1..80)) {
            let mut cells = Cells::new(64).expect("room");
            let mut kept: Vec<(Chain, Vec<u8>)> = Vec::new();
            for (number, (add, length)) in steps.into_iter().enumerate() {
                if add {
                    let message: Vec<u8> = (0..length).map(|at| (number * 7 + at) as u8).collect();
                    let needed: usize = kept.iter().map(|(_, m)| m.len().div_ceil(PAYLOAD)).sum();
                    let fits = needed + length.div_ceil(PAYLOAD) <= 64;
                    let chain = cells.keep(&message);
                    prop_assert_eq!(chain.is_some(), fits);
                    kept.extend(chain.map(|chain| (chain, message)));
                } else if !kept.is_empty() {
                    let (mut chain, _) = kept.swap_remove(length % kept.len());
                    cells.free(&mut chain);
                    prop_assert!(chain.is_empty());
                }
                let mut out = Vec::new();
                for (chain, message) in &kept {
                    cells.load(*chain, &mut out);
                    prop_assert_eq!(&out, message);
                }
            }
            for (mut chain, _) in kept {
                cells.free(&mut chain);
            }
            prop_assert_eq!(cells.unused, 64);
        }
    }
}
