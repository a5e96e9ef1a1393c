//! How long the segments of a run may be on the way to a destination.

use std::io;
use std::net::SocketAddr;

use super::runs::{Run, hash};

/// The most octets of an IPv4 packet in a run. The kernel counts the packets of a
/// run on from one identification and gives the next run the same ones, so none may
/// need fragments on its way: those of several would be taken for those of one (RFC
/// 6864 §4.3). Paths that take less are as rare as with IPv6, which asks this of
/// each link (RFC 8200 §5), and where only the sender makes fragments.
const PACKET: usize = 1280;

/// The longest segment to a destination that has refused none.
fn usual(to: SocketAddr) -> usize {
    match to {
        SocketAddr::V4(_) => PACKET - 28,
        SocketAddr::V6(_) => usize::MAX,
    }
}

/// Destinations that refused a run, and the longest segment that each may
/// still be sent, until the process ends.
///
/// The table has a fixed size: where two destinations meet in one place, the
/// older one is forgotten and may have to refuse again.
pub(super) struct Refusals {
    places: [Option<(SocketAddr, usize)>; PLACES],
    any: bool,
}

const PLACES: usize = 256;

impl Refusals {
    pub(super) const fn new() -> Self {
        Self {
            places: [None; PLACES],
            any: false,
        }
    }

    /// The longest segment that a run to `to` may have; 0: no run at all.
    #[inline]
    pub(super) fn longest_segment(&self, to: SocketAddr) -> usize {
        if self.any
            && let Some((known, longest)) = self.places[place(to)]
            && known == to
        {
            return longest;
        }
        usual(to)
    }

    /// Notes that `run` failed; false where that was not because it is one.
    pub(super) fn note(&mut self, run: &Run, error: &io::Error) -> bool {
        let longest = match error.raw_os_error() {
            // The path's MTU is smaller (EINVAL in Linux before 6.14): shorter
            // segments may do.
            Some(libc::EMSGSIZE | libc::EINVAL) => run.segment - 1,
            // No segmentation on this path: IPsec, or before Linux 6.11 a device
            // that computes no checksums.
            Some(libc::EIO | libc::ENOPROTOOPT) => 0,
            _ => return false,
        };
        // Another run of the same flush may have told more.
        let longest = longest.min(self.longest_segment(run.to));
        self.any = true;
        self.places[place(run.to)] = Some((run.to, longest));
        true
    }
}

fn place(to: SocketAddr) -> usize {
    (hash(to) >> 32) as usize % PLACES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::runs::{Leaving, Limits, Runs};

    const LENGTH: usize = 700;

    fn run_to(to: SocketAddr) -> Run {
        let mut runs = Runs::new(2, Limits::EXACT);
        for call in 0..2 {
            runs.push(&Leaving {
                to,
                socket: 0,
                length: LENGTH,
                bound: usize::MAX,
                call,
            });
        }
        runs.all()[0]
    }

    /// What `to` may be sent, and whether it was the run, after `error`.
    fn after(refusals: &mut Refusals, to: SocketAddr, error: i32) -> (usize, bool) {
        let noted = refusals.note(&run_to(to), &io::Error::from_raw_os_error(error));
        (refusals.longest_segment(to), noted)
    }

    #[test]
    fn each_path_tells_by_refusing_what_it_takes() {
        let path = |host: u8| SocketAddr::from(([10, 0, 0, host], 5060));
        let mut refusals = Refusals::new();
        let mut told = |host, error| after(&mut refusals, path(host), error);
        assert_eq!(told(1, libc::EMSGSIZE), (LENGTH - 1, true));
        assert_eq!(told(2, libc::EINVAL), (LENGTH - 1, true));
        assert_eq!(told(3, libc::EIO), (0, true));
        assert_eq!(told(4, libc::ENETUNREACH), (usual(path(4)), false));
        assert_eq!(told(1, libc::EIO), (0, true));
        assert_eq!(told(1, libc::EMSGSIZE), (0, true));
    }
}
