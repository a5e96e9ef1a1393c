//! Histograms: written by one worker, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::counters::{Each, add};

/// Buckets for sizes: 1, 2, 4 … 1024 at most, and above.
const SIZES: usize = 12;

/// Upper bounds of the buckets for times, in microseconds.
const MICROSECONDS: [u64; 11] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000,
];

/// How often there were how many of something.
#[derive(Default)]
pub(super) struct Sizes {
    buckets: Each<SIZES>,
    sum: AtomicU64,
}

impl Sizes {
    /// Counts `n`, which is not 0.
    #[inline]
    pub(super) fn add(&self, n: usize) {
        let bucket = (usize::BITS - (n - 1).leading_zeros()) as usize;
        self.buckets.add(bucket.min(SIZES - 1));
        add(&self.sum, n as u64);
    }

    /// Of how many in all.
    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

/// How often something took how long.
#[derive(Default)]
pub(super) struct Times {
    buckets: Each<{ MICROSECONDS.len() + 1 }>,
    nanoseconds: AtomicU64,
}

impl Times {
    /// Counts one.
    #[inline]
    pub(super) fn add(&self, time: Duration) {
        let bucket = MICROSECONDS.partition_point(|bound| Duration::from_micros(*bound) < time);
        self.buckets.add(bucket);
        add(&self.nanoseconds, time.as_nanos() as u64);
    }
}

/// A histogram as it was at one time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Distribution {
    /// The upper bound of each bucket, itself included, but of the last.
    pub bounds: Vec<f64>,
    /// How many fell into each bucket; the last is for all above.
    pub counts: Vec<u64>,
    /// All values added up.
    pub sum: f64,
}

impl Distribution {
    pub(super) fn of_sizes<'a>(all: impl Iterator<Item = &'a Sizes> + Clone) -> Self {
        let sum: u64 = all.clone().map(Sizes::sum).sum();
        Self {
            bounds: (0..SIZES - 1).map(|each| (1 << each) as f64).collect(),
            counts: Each::sums(all.map(|each| &each.buckets)).into(),
            sum: sum as f64,
        }
    }

    /// In seconds.
    pub(super) fn of_times<'a>(all: impl Iterator<Item = &'a Times> + Clone) -> Self {
        let nanoseconds = all
            .clone()
            .map(|each| each.nanoseconds.load(Ordering::Relaxed));
        Self {
            bounds: MICROSECONDS.map(|each| each as f64 / 1e6).into(),
            counts: Each::sums(all.map(|each| &each.buckets)).into(),
            sum: Duration::from_nanos(nanoseconds.sum()).as_secs_f64(),
        }
    }

    /// How many values there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_falls_into_the_bucket_that_bounds_it() {
        let sizes = Sizes::default();
        for n in [1, 2, 3, 4, 5, 1024, 1025, 5000] {
            sizes.add(n);
        }
        let found = Distribution::of_sizes([&sizes].into_iter());
        assert_eq!(found.counts, [1, 1, 2, 1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!((found.count(), found.sum), (8, 7064.0));
        assert_eq!(found.bounds.len() + 1, found.counts.len());
        let bounds = [
            1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
        ];
        assert_eq!(found.bounds, bounds);
    }

    #[test]
    fn a_time_falls_into_the_bucket_that_bounds_it() {
        let times = Times::default();
        for bound in MICROSECONDS {
            times.add(Duration::from_micros(bound));
        }
        times.add(Duration::from_nanos(25_001));
        times.add(Duration::from_secs(1));
        let found = Distribution::of_times([&times, &Times::default()].into_iter());
        assert_eq!(found.counts, [1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
        let bounds = [
            0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025,
            0.1,
        ];
        assert_eq!(found.bounds, bounds);
        assert!((found.sum - 1.144_45).abs() < 1e-4, "{}", found.sum);
    }
}
