//! Algorithm 0 of Kamailio's `ds_select_dst`, bit for bit, for farms that
//! move over one balancer at a time (tests/kamailio.rs compares with a real
//! one). A destination that takes no new work passes its whole share on to
//! its neighbour; prefer the hash policy where nothing has to match.

use crate::config::Destination;

/// Destinations in the order in which Kamailio numbers them: by priority
/// from the highest, and backwards among equals.
pub(super) fn order(destinations: &[Destination]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..destinations.len() as u16).rev().collect();
    order.sort_by_key(|&i| std::cmp::Reverse(destinations[usize::from(i)].priority));
    order
}

/// The destination for a Call-ID; `None` where none is able to take it.
pub(super) fn choose(order: &[u16], call_id: &[u8], able: impl Fn(usize) -> bool) -> Option<usize> {
    // A set may be empty: its names are not resolved yet, or all have left.
    let first = (hash(call_id) as usize).checked_rem(order.len())?;
    (0..order.len())
        .map(|step| usize::from(order[(first + step) % order.len()]))
        .find(|&i| able(i))
}

/// Kamailio's hash of a Call-ID: words of four octets, each octet taken as a
/// signed number, as on the machines it runs on.
#[must_use]
pub fn hash(call_id: &[u8]) -> u32 {
    let word = |octets: &[u8]| {
        octets
            .iter()
            .fold(0u32, |v, &b| (v << 8).wrapping_add(b as i8 as u32))
    };
    let words = call_id.chunks_exact(4);
    let rest = words.remainder();
    let h = words
        .map(word)
        .chain(std::iter::once(word(rest)))
        .fold(0u32, |h, v| h.wrapping_add(v ^ (v >> 3)));
    let h = h
        .wrapping_add(h >> 11)
        .wrapping_add((h >> 13).wrapping_add(h >> 23));
    h.max(1)
}
