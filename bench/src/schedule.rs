//! When calls are due: at equal distances (open loop), whatever the system
//! under load does. It reads no clock; the time comes in.

/// Calls at a constant rate, each with the time it was meant to start.
pub(crate) struct Schedule {
    calls_a_second: f64,
    started: u64,
}

impl Schedule {
    /// `calls_a_second` must be above zero.
    pub(crate) fn new(calls_a_second: f64) -> Self {
        Self {
            calls_a_second,
            started: 0,
        }
    }

    /// Takes the next call that is due at `now` (ns since the load began) and
    /// returns its intended time in ns; `None` while none is due.
    pub(crate) fn take(&mut self, now: u64) -> Option<u64> {
        let due = (self.started as f64 * 1e9 / self.calls_a_second) as u64;
        (due <= now).then(|| {
            self.started += 1;
            due
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(schedule: &mut Schedule, now: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take(now)).collect()
    }

    #[test]
    fn calls_come_at_equal_distances_from_the_start() {
        let mut schedule = Schedule::new(1000.0);
        assert_eq!(schedule.take(0), Some(0));
        assert_eq!(schedule.take(999_999), None);
        assert_eq!(
            take_all(&mut schedule, 3_000_000),
            [1_000_000, 2_000_000, 3_000_000]
        );
    }

    #[test]
    fn a_stall_delays_no_intended_time_and_drops_no_call() {
        let mut schedule = Schedule::new(30_000.0);
        let times = take_all(&mut schedule, 1_000_000_000);
        assert_eq!(times.len(), 30_001);
        assert!(times.is_sorted());
    }

    #[test]
    fn an_uneven_rate_does_not_drift() {
        let mut schedule = Schedule::new(7.0);
        let times = take_all(&mut schedule, 1_000_000_000_000);
        assert_eq!(times.len(), 7001);
        assert_eq!(times[7000], 1_000_000_000_000);
    }
}
