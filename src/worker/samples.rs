//! A few of the datagrams that were dropped, or answered by ourselves, copied
//! for an operator who asks for them, and never otherwise.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::SystemTime;

use crossbeam::queue::ArrayQueue;

use crate::proxy::{Datagram, Reason};

/// How many are kept at most.
pub const MOST_SAMPLES: u32 = 64;
/// How much of each is kept at most, in octets.
const OCTETS: usize = 2048;
/// Any reason but the usual ones.
const ANY: u8 = u8::MAX;

/// One of them.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was taken.
    pub at: SystemTime,
    /// Why it went no further.
    pub reason: Reason,
    /// Who sent it.
    pub source: SocketAddr,
    /// The listener that it came in on: index into the configuration's.
    pub listener: usize,
    /// How long it is, in octets.
    pub length: usize,
    /// Its first octets.
    pub octets: Box<[u8]>,
}

/// Those that were taken, and how many are wanted still.
pub struct Samples {
    wanted: AtomicU32,
    /// The number of the only reason of interest, or [`ANY`].
    reason: AtomicU8,
    taken: ArrayQueue<Sample>,
}

impl Default for Samples {
    fn default() -> Self {
        Self {
            wanted: AtomicU32::new(0),
            reason: AtomicU8::new(ANY),
            taken: ArrayQueue::new(MOST_SAMPLES as usize),
        }
    }
}

impl Samples {
    /// Asks for the next `count`, [`MOST_SAMPLES`] at most, that go no further
    /// for this reason; without one, for any but the
    /// [usual](Reason::is_usual).
    pub fn want(&self, count: u32, reason: Option<Reason>) {
        let reason = reason.map_or(ANY, |reason| reason as u8);
        self.reason.store(reason, Ordering::Relaxed);
        self.wanted
            .store(count.min(MOST_SAMPLES), Ordering::Release);
    }

    /// How many are wanted still.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        // With it goes the reason that was asked for.
        self.wanted.load(Ordering::Acquire)
    }

    /// Those that were taken since somebody asked, in order; no more are until
    /// they are wanted.
    #[must_use]
    pub fn take(&self) -> Vec<Sample> {
        self.wanted.store(0, Ordering::Relaxed);
        std::iter::from_fn(|| self.taken.pop()).collect()
    }

    /// Copies a datagram, if it is wanted.
    #[inline]
    pub(super) fn offer(&self, reason: Reason, datagram: &Datagram<'_>) {
        if self.wanted() > 0 {
            self.copy(reason, datagram);
        }
    }

    #[cold]
    fn copy(&self, reason: Reason, datagram: &Datagram<'_>) {
        let less = |wanted: u32| wanted.checked_sub(1);
        let is_wanted = match self.reason.load(Ordering::Relaxed) {
            ANY => !reason.is_usual(),
            only => only == reason as u8,
        };
        let counted = is_wanted
            && (self.wanted)
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
                .is_ok();
        if counted {
            let octets = &datagram.bytes[..datagram.bytes.len().min(OCTETS)];
            // There is room for all that are wanted.
            let _ = self.taken.push(Sample {
                at: SystemTime::now(),
                reason,
                source: datagram.source,
                listener: datagram.listener,
                length: datagram.bytes.len(),
                octets: octets.into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(samples: &Samples, reason: Reason, bytes: &[u8]) {
        let source = SocketAddr::from(([192, 0, 2, 1], 5060));
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        samples.offer(reason, &datagram);
    }

    #[test]
    fn only_what_is_wanted_is_taken_and_no_more() {
        let samples = Samples::default();
        offer(&samples, Reason::NotSip, b"before");
        assert_eq!(samples.take().len(), 0);
        samples.want(2, None);
        offer(&samples, Reason::KeepAlive, b"\r\n");
        for text in [&b"one"[..], b"two", b"three"] {
            offer(&samples, Reason::NotSip, text);
        }
        assert_eq!(samples.wanted(), 0);
        let taken = samples.take();
        let texts: Vec<_> = taken.iter().map(|sample| &*sample.octets).collect();
        assert_eq!(texts, [&b"one"[..], b"two"]);
        samples.want(1, Some(Reason::KeepAlive));
        offer(&samples, Reason::NotSip, b"four");
        offer(&samples, Reason::KeepAlive, b"\0");
        assert_eq!(samples.take().len(), 1);
    }

    #[test]
    fn all_of_it_is_bounded() {
        let samples = Samples::default();
        samples.want(u32::MAX, None);
        for _ in 0..2 * MOST_SAMPLES {
            offer(&samples, Reason::NotSip, &[b'x'; 60_000]);
        }
        let taken = samples.take();
        assert_eq!(taken.len(), MOST_SAMPLES as usize);
        assert_eq!((taken[0].length, taken[0].octets.len()), (60_000, OCTETS));
        samples.want(3, None);
        offer(&samples, Reason::NotSip, b"");
        assert_eq!(samples.take().len(), 1);
        // Whoever has taken them wants no more.
        offer(&samples, Reason::NotSip, b"");
        assert_eq!(samples.take().len(), 0);
    }
}
