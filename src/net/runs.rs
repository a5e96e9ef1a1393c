//! Which datagrams leave together: runs, each one segmented send (UDP GSO).
//!
//! The kernel cuts what it is given into segments of one length, of which only
//! the last may be shorter, and takes the whole way down its layers once for
//! all of them. So the datagrams of a batch for one destination make runs by
//! their length, each in the order in which they came; those that may be
//! lengthened, by white space, are made equal.
//!
//! A short message that comes between two long ones leaves before or after
//! both. Only the messages of one call must not change places.

use std::net::{IpAddr, SocketAddr};

/// The most octets that a run carries.
const LONGEST_RUN: usize = crate::sip::MAX_DATAGRAM;

/// What a run may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams in a run.
    pub(super) segments: usize,
    /// So many lengths that follow one another are made one: a datagram is
    /// lengthened by less than this. A power of two, so that nothing is
    /// divided.
    pub(super) lengths: usize,
}

impl Limits {
    /// Each datagram leaves alone.
    pub const OFF: Self = Self {
        segments: 1,
        lengths: 1,
    };
    /// Datagrams of equal length make a run.
    ///
    /// More than 32 gain nothing (with 64 it is as slow as with 16), and may
    /// be too many for a receiver's buffer.
    pub const EXACT: Self = Self {
        segments: 32,
        lengths: 1,
    };
    /// The same, and a datagram may be lengthened by less than 64 octets.
    pub const PADDED: Self = Self {
        segments: 32,
        lengths: 64,
    };

    /// The same for lengths that are made one.
    #[inline]
    fn class(self, length: usize) -> usize {
        length >> self.lengths.trailing_zeros()
    }
}

/// A datagram as the runs see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    pub(super) to: SocketAddr,
    /// The number of the socket that it leaves by.
    pub(super) socket: usize,
    /// Octets.
    pub(super) length: usize,
    /// The longest segment that it may be part of; 0: it must leave alone.
    pub(super) bound: usize,
    /// The same for all datagrams of a call.
    pub(super) call: u64,
}

/// Datagrams that leave together; one alone is a run too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) to: SocketAddr,
    pub(super) socket: usize,
    /// Octets of each segment but the last, which may have fewer.
    pub(super) segment: usize,
    /// How many datagrams.
    pub(super) count: usize,
    /// The longest segment it may have; 0 where nothing may join it.
    bound: usize,
    first: u32,
    last: u32,
}

impl Run {
    /// The number of its first datagram.
    pub(super) fn first(&self) -> usize {
        self.first as usize
    }

    /// Whether `leaving`, of a length like the others', may join.
    fn takes(&self, leaving: &Leaving, limits: Limits) -> bool {
        let segment = self.segment.max(leaving.length);
        self.count < limits.segments
            && segment <= self.bound.min(leaving.bound)
            && segment * self.count + leaving.length <= LONGEST_RUN
    }
}

/// The runs of one batch. Datagrams go by their number: 0, 1, 2 …
///
/// Runs are in the order of their first datagram, and a datagram joins only
/// the youngest run of its destination and length, and no run older than one
/// that its call has part in: sent in order, no datagram overtakes another
/// one of its call.
pub(super) struct Runs {
    limits: Limits,
    runs: Vec<Run>,
    /// For each datagram the next one of its run.
    next: Vec<u32>,
    /// The youngest run of each destination and length.
    youngest: Table,
    /// The youngest run that each call has part in.
    calls: Table,
}

/// An open-addressed table of runs, twice as large as the batch.
struct Table {
    entries: Vec<Entry>,
    /// Entries of another one are empty.
    generation: u32,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    key: u64,
    generation: u32,
    run: u32,
}

impl Table {
    fn new(size: usize) -> Self {
        Self {
            entries: vec![Entry::default(); (2 * size).next_power_of_two()],
            generation: 1,
        }
    }

    /// The entry with `key` for which `is_it` holds, or the empty one where it
    /// would be; and whether it is there.
    #[inline]
    fn find(&mut self, key: u64, is_it: impl Fn(u32) -> bool) -> (&mut Entry, bool) {
        let last = self.entries.len() - 1;
        let mut at = (key >> 32) as usize & last;
        loop {
            let entry = self.entries[at];
            if entry.generation != self.generation {
                let empty = &mut self.entries[at];
                empty.key = key;
                empty.generation = self.generation;
                return (empty, false);
            }
            if entry.key == key && is_it(entry.run) {
                return (&mut self.entries[at], true);
            }
            at = (at + 1) & last;
        }
    }

    fn clear(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            // After months; entries of the first time round must not count.
            self.entries.fill(Entry::default());
            self.generation = 1;
        }
    }
}

impl Runs {
    /// Room for `size` datagrams.
    pub(super) fn new(size: usize, limits: Limits) -> Self {
        Self {
            limits,
            runs: Vec::with_capacity(size),
            next: Vec::with_capacity(size),
            youngest: Table::new(size),
            calls: Table::new(size),
        }
    }

    /// Takes in the next datagram. There must be room.
    #[inline]
    pub(super) fn push(&mut self, leaving: &Leaving) {
        let number = self.next.len() as u32;
        self.next.push(number);
        let limits = self.limits;
        let class = limits.class(leaving.length);
        let key = mix(hash(leaving.to) ^ class as u64);
        let runs = &self.runs;
        let (youngest, is_known) = self.youngest.find(key, |run| {
            let run = &runs[run as usize];
            run.to == leaving.to
                && run.socket == leaving.socket
                && limits.class(run.segment) == class
        });
        let (of_call, call_is_known) = self.calls.find(mix(leaving.call), |_| true);
        if is_known
            && !(call_is_known && of_call.run > youngest.run)
            && self.runs[youngest.run as usize].takes(leaving, self.limits)
        {
            of_call.run = youngest.run;
            let run = &mut self.runs[youngest.run as usize];
            run.segment = run.segment.max(leaving.length);
            run.count += 1;
            self.next[run.last as usize] = number;
            run.last = number;
            return;
        }
        youngest.run = self.runs.len() as u32;
        of_call.run = youngest.run;
        self.runs.push(Run {
            to: leaving.to,
            socket: leaving.socket,
            segment: leaving.length,
            count: 1,
            bound: leaving.bound,
            first: number,
            last: number,
        });
    }

    /// All runs, in the order in which to send them.
    pub(super) fn all(&self) -> &[Run] {
        &self.runs
    }

    /// The numbers of the datagrams of a run, in order.
    pub(super) fn members(&self, run: &Run) -> impl Iterator<Item = usize> {
        let mut at = run.first as usize;
        (0..run.count).map(move |_| {
            let number = at;
            at = self.next[at] as usize;
            number
        })
    }

    /// Forgets all datagrams.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.next.clear();
        self.youngest.clear();
        self.calls.clear();
    }
}

/// Writes `message` into `out`, lengthened to all of it by spaces at
/// `padding_at`.
#[inline]
pub(super) fn write_padded(message: &[u8], padding_at: usize, out: &mut [u8]) {
    let (head, tail) = message.split_at(padding_at);
    let tail_at = out.len() - tail.len();
    out[..padding_at].copy_from_slice(head);
    out[padding_at..tail_at].fill(b' ');
    out[tail_at..].copy_from_slice(tail);
}

/// A hash of an address. Whoever chooses addresses that collide makes the
/// search in a batch longer, but a batch is small.
#[inline]
pub(super) fn hash(address: SocketAddr) -> u64 {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
        }
    };
    mix(ip << 16 ^ ip >> 48 ^ u64::from(address.port()))
}

/// Spreads what differs over the upper half: by 2^64 over the golden ratio,
/// an odd number without a pattern.
#[inline]
fn mix(value: u64) -> u64 {
    value.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// The plain twin: what may be a run is tried anew for each datagram.
    fn plain(datagrams: &[Leaving], limits: Limits) -> Vec<Vec<usize>> {
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            let kind = |d: &Leaving| (d.to, d.socket, d.length / limits.lengths);
            let same_call = |&other: &usize| datagrams[other].call == datagram.call;
            let oldest = runs.iter().rposition(|run| run.iter().any(same_call));
            let youngest = runs
                .iter()
                .rposition(|run| kind(&datagrams[run[0]]) == kind(datagram));
            if let Some(youngest) = youngest.filter(|youngest| oldest <= Some(*youngest)) {
                runs[youngest].push(number);
                if may_leave(&runs[youngest], datagrams, limits) {
                    continue;
                }
                runs[youngest].pop();
            }
            runs.push(vec![number]);
        }
        runs
    }

    fn may_leave(run: &[usize], datagrams: &[Leaving], limits: Limits) -> bool {
        let lengths: Vec<usize> = run.iter().map(|&number| datagrams[number].length).collect();
        let segment = lengths.iter().copied().max().unwrap_or(0);
        let (last, others) = lengths.split_last().expect("one");
        let padding_fits = lengths
            .iter()
            .all(|length| segment - length < limits.lengths);
        let bound_fits = run.iter().all(|&number| segment <= datagrams[number].bound);
        let octets = segment * others.len() + last;
        run.len() <= limits.segments && padding_fits && bound_fits && octets <= LONGEST_RUN
    }

    fn grouped(runs: &Runs) -> Vec<Vec<usize>> {
        let all = runs.all().iter();
        all.map(|run| runs.members(run).collect()).collect()
    }

    fn filled(datagrams: &[Leaving], limits: Limits) -> Runs {
        let mut runs = Runs::new(datagrams.len(), limits);
        datagrams.iter().for_each(|datagram| runs.push(datagram));
        runs
    }

    fn datagrams() -> impl Strategy<Value = Vec<Leaving>> {
        let to = prop_oneof![
            (0..4_u8, 5060..5062_u16).prop_map(|(host, port)| ([10, 0, 0, host], port).into()),
            (0..2_u16).prop_map(|host| ([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 5060).into()),
        ];
        // Lengths that are alike, any, and so long that few make a run.
        let length = prop_oneof![400..420_usize, 1..1600_usize, 2800..3000_usize];
        // One bound for a destination, or none at all.
        let datagram = (to, 0..2_usize, length, prop::bool::weighted(0.1), 0..20_u64);
        let datagram = datagram.prop_map(|(to, socket, length, alone, call)| Leaving {
            to,
            socket,
            length,
            call,
            bound: match to {
                _ if alone => 0,
                SocketAddr::V4(_) => 1472,
                SocketAddr::V6(_) => LONGEST_RUN,
            },
        });
        prop::collection::vec(datagram, 0..256)
    }

    fn limits() -> impl Strategy<Value = Limits> {
        prop::sample::select(vec![Limits::OFF, Limits::EXACT, Limits::PADDED])
    }

    proptest! {
        #[test]
        fn runs_are_those_of_the_plain_twin(datagrams in datagrams(), limits in limits()) {
            let runs = filled(&datagrams, limits);
            prop_assert_eq!(grouped(&runs), plain(&datagrams, limits));
        }

        #[test]
        fn each_datagram_leaves_once_and_in_the_order_of_its_call(
            datagrams in datagrams(),
            limits in limits(),
        ) {
            let runs = filled(&datagrams, limits);
            let order: Vec<usize> = grouped(&runs).concat();
            let mut sorted = order.clone();
            sorted.sort_unstable();
            prop_assert!(sorted.into_iter().eq(0..datagrams.len()));
            let mut last = HashMap::new();
            for number in order {
                let before = last.insert(datagrams[number].call, number);
                prop_assert!(before.is_none_or(|before| before < number));
            }
        }

        #[test]
        fn runs_keep_their_bounds(datagrams in datagrams(), limits in limits()) {
            let runs = filled(&datagrams, limits);
            for run in runs.all() {
                let members: Vec<usize> = runs.members(run).collect();
                prop_assert!(members.len() == 1 || may_leave(&members, &datagrams, limits));
                let longest = members.iter().map(|&number| datagrams[number].length).max();
                prop_assert_eq!(Some(run.segment), longest);
            }
        }

        #[test]
        fn nothing_is_left_of_an_earlier_batch(
            batches in prop::collection::vec(datagrams(), 1..4),
            limits in limits(),
        ) {
            let mut runs = Runs::new(256, limits);
            for datagrams in batches {
                runs.clear();
                datagrams.iter().for_each(|datagram| runs.push(datagram));
                prop_assert_eq!(grouped(&runs), plain(&datagrams, limits));
            }
        }

        #[test]
        fn without_its_padding_a_message_is_as_it_was(
            message in prop::collection::vec(any::<u8>(), 1..200),
            at in any::<prop::sample::Index>(),
            padding in 0..65_usize,
        ) {
            let at = at.index(message.len());
            let mut out = vec![0; message.len() + padding];
            write_padded(&message, at, &mut out);
            let spaces = out.drain(at..at + padding);
            prop_assert!(spaces.into_iter().all(|octet| octet == b' '));
            prop_assert_eq!(out, message);
        }
    }
}
