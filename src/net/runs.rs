//! Which datagrams leave together: runs, each one segmented send (UDP GSO).
//!
//! The kernel cuts what it is given into segments of one length, of which only
//! the last may be shorter, and takes the whole way down its layers once for
//! all of them. So the datagrams of a batch for one destination make a run,
//! in the order in which they came, as long as their lengths allow it; those
//! that may be lengthened, by white space, are made equal.

use std::net::{IpAddr, SocketAddr};

/// The most octets that a run carries.
const LONGEST_RUN: usize = crate::sip::MAX_DATAGRAM;

/// What a run may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Datagrams in a run.
    pub(super) segments: usize,
    /// Octets that one datagram may be lengthened by.
    pub(super) padding: usize,
}

impl Limits {
    /// Each datagram leaves alone.
    pub const OFF: Self = Self {
        segments: 1,
        padding: 0,
    };
    /// Datagrams of equal length make a run, and a shorter one may end it.
    ///
    /// More than 32 gain nothing (with 64 it is as slow as with 16), and may
    /// be too many for a receiver's buffer.
    pub const EXACT: Self = Self {
        segments: 32,
        padding: 0,
    };
    /// The same, and a datagram may be lengthened by 64 octets.
    ///
    /// That evens out what varies between messages of one kind. With mixed
    /// kinds it takes 6 % less time than 32; 256 would take 11 % off, and
    /// make some messages half as long again.
    pub const PADDED: Self = Self {
        segments: 32,
        padding: 64,
    };
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
    shortest: usize,
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

    fn takes(&self, length: usize, limits: Limits) -> bool {
        let segment = self.segment.max(length);
        self.count < limits.segments
            && segment - self.shortest <= limits.padding
            && segment <= self.bound
            && segment * self.count + length <= LONGEST_RUN
    }
}

/// The runs of one batch. Datagrams go by their number: 0, 1, 2 …
///
/// Runs are in the order of their first datagram, and a datagram joins only
/// the youngest run of its destination: sent in order, no datagram overtakes
/// another one for the same destination.
pub(super) struct Runs {
    limits: Limits,
    runs: Vec<Run>,
    /// For each datagram the next one of its run.
    next: Vec<u32>,
    /// An open-addressed table of the youngest run of each destination, twice
    /// as large as the batch. Entries of another generation are empty.
    youngest: Vec<Entry>,
    generation: u32,
}

#[derive(Clone, Copy, Default)]
struct Entry {
    generation: u32,
    run: u32,
}

impl Runs {
    /// Room for `size` datagrams.
    pub(super) fn new(size: usize, limits: Limits) -> Self {
        Self {
            limits,
            runs: Vec::with_capacity(size),
            next: Vec::with_capacity(size),
            youngest: vec![Entry::default(); (2 * size).next_power_of_two()],
            generation: 1,
        }
    }

    /// Takes in the next datagram, for a run with segments of up to `bound`
    /// octets; 0: it must leave alone. There must be room.
    #[inline]
    pub(super) fn push(&mut self, to: SocketAddr, socket: usize, length: usize, bound: usize) {
        let number = self.next.len() as u32;
        self.next.push(number);
        let at = self.find(to, socket);
        let entry = self.youngest[at];
        if entry.generation == self.generation && bound > 0 {
            let run = &mut self.runs[entry.run as usize];
            if run.takes(length, self.limits) {
                run.segment = run.segment.max(length);
                run.shortest = run.shortest.min(length);
                run.count += 1;
                self.next[run.last as usize] = number;
                run.last = number;
                return;
            }
        }
        self.youngest[at] = Entry {
            generation: self.generation,
            run: self.runs.len() as u32,
        };
        self.runs.push(Run {
            to,
            socket,
            segment: length,
            count: 1,
            shortest: length,
            bound,
            first: number,
            last: number,
        });
    }

    /// The place in the table of the youngest run, or for it.
    #[inline]
    fn find(&self, to: SocketAddr, socket: usize) -> usize {
        let last = self.youngest.len() - 1;
        let mut at = hash(to) & last;
        loop {
            let entry = self.youngest[at];
            if entry.generation != self.generation {
                return at;
            }
            let run = &self.runs[entry.run as usize];
            if run.to == to && run.socket == socket {
                return at;
            }
            at = (at + 1) & last;
        }
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
        self.generation = self.generation.wrapping_add(1);
        if self.generation == 0 {
            // After months; entries of the first time round must not count.
            self.youngest.fill(Entry::default());
            self.generation = 1;
        }
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
pub(super) fn hash(address: SocketAddr) -> usize {
    let ip = match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            (bits >> 64) as u64 ^ (bits as u64).rotate_left(32)
        }
    };
    let mixed = (ip << 16 ^ ip >> 48 ^ u64::from(address.port())).wrapping_mul(MIXER);
    (mixed >> 32) as usize
}

/// An odd number without a pattern: 2^64 by the golden ratio.
const MIXER: u64 = 0x9E37_79B9_7F4A_7C15;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// A datagram as the runs see it.
    #[derive(Clone, Copy, Debug)]
    struct Datagram {
        to: SocketAddr,
        socket: usize,
        length: usize,
        bound: usize,
    }

    /// The plain twin: what may be a run is tried anew for each datagram.
    fn plain(datagrams: &[Datagram], limits: Limits) -> Vec<Vec<usize>> {
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for (number, datagram) in datagrams.iter().enumerate() {
            let same = |run: &&mut Vec<usize>| {
                let first = &datagrams[run[0]];
                (first.to, first.socket) == (datagram.to, datagram.socket)
            };
            if let Some(run) = runs.iter_mut().rev().find(same) {
                run.push(number);
                if may_leave(run, datagrams, limits) {
                    continue;
                }
                run.pop();
            }
            runs.push(vec![number]);
        }
        runs
    }

    fn may_leave(run: &[usize], datagrams: &[Datagram], limits: Limits) -> bool {
        let lengths: Vec<usize> = run.iter().map(|&number| datagrams[number].length).collect();
        let segment = lengths.iter().copied().max().unwrap_or(0);
        let (last, others) = lengths.split_last().expect("one");
        let padding_fits = others
            .iter()
            .all(|length| segment - length <= limits.padding);
        let bound_fits = run.iter().all(|&number| segment <= datagrams[number].bound);
        let octets = segment * others.len() + last;
        run.len() <= limits.segments && padding_fits && bound_fits && octets <= LONGEST_RUN
    }

    fn grouped(runs: &Runs) -> Vec<Vec<usize>> {
        let all = runs.all().iter();
        all.map(|run| runs.members(run).collect()).collect()
    }

    fn filled(datagrams: &[Datagram], limits: Limits) -> Runs {
        let mut runs = Runs::new(datagrams.len(), limits);
        for datagram in datagrams {
            runs.push(
                datagram.to,
                datagram.socket,
                datagram.length,
                datagram.bound,
            );
        }
        runs
    }

    fn datagrams() -> impl Strategy<Value = Vec<Datagram>> {
        let to = prop_oneof![
            (0..4_u8, 5060..5062_u16).prop_map(|(host, port)| ([10, 0, 0, host], port).into()),
            (0..2_u16).prop_map(|host| ([0x2001, 0xdb8, 0, 0, 0, 0, 0, host], 5060).into()),
        ];
        // Lengths that are alike, any, and so long that few make a run.
        let length = prop_oneof![400..420_usize, 1..1600_usize, 2800..3000_usize];
        // One bound for a destination, or none at all.
        let datagram = (to, 0..2_usize, length, prop::bool::weighted(0.1));
        let datagram = datagram.prop_map(|(to, socket, length, alone)| Datagram {
            to,
            socket,
            length,
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
        fn each_datagram_leaves_once_and_in_the_order_of_its_destination(
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
                let Datagram { to, socket, .. } = datagrams[number];
                let before = last.insert((to, socket), number);
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
                for datagram in &datagrams {
                    runs.push(datagram.to, datagram.socket, datagram.length, datagram.bound);
                }
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
