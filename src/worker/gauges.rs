//! What the control side reads of a worker by itself, so that it costs the
//! worker nothing.

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::net::Socket;

/// Of one worker.
pub(super) struct Gauges(ArcSwap<Worker>);

enum Worker {
    Running {
        /// By listener.
        sockets: Vec<Socket>,
        /// The thread, as the kernel numbers it.
        thread: OnceLock<i32>,
        /// Of the threads that it had before, until upgrades that failed.
        before: Scheduled,
    },
    /// It has ended, or not begun; what there was to read at last.
    Ended {
        overflow: Vec<u64>,
        scheduled: Scheduled,
    },
}

/// What became of a thread that had something to do.
#[derive(Clone, Copy, Default)]
pub(super) struct Scheduled {
    /// The time that it was on a processor.
    pub(super) busy: Duration,
    /// The time that it waited for one.
    pub(super) waiting: Duration,
}

impl Default for Gauges {
    fn default() -> Self {
        Self(ArcSwap::from_pointee(Worker::Ended {
            overflow: Vec::new(),
            scheduled: Scheduled::default(),
        }))
    }
}

impl Gauges {
    /// Lets the sockets be looked at until the end.
    ///
    /// # Errors
    /// As of `fcntl`.
    pub(super) fn begin(&self, sockets: &[Socket]) -> io::Result<()> {
        let sockets = sockets.iter().map(Socket::twin);
        let running = Worker::Running {
            sockets: sockets.collect::<Result<_, _>>()?,
            thread: OnceLock::new(),
            before: self.scheduled(),
        };
        self.0.store(running.into());
        Ok(())
    }

    /// The calling thread is the worker's.
    pub(super) fn run_by_this_thread(&self) {
        if let Worker::Running { thread, .. } = &**self.0.load() {
            let _ = thread.set(rustix::thread::gettid().as_raw_pid());
        }
    }

    /// Keeps what can be read, and lets go of the sockets: they must close with
    /// the worker, or they would go on taking datagrams.
    pub(super) fn end(&self) {
        let ended = Worker::Ended {
            overflow: self.overflow(),
            scheduled: self.scheduled(),
        };
        self.0.store(ended.into());
    }

    /// Datagrams for which each listener's socket had no room.
    pub(super) fn overflow(&self) -> Vec<u64> {
        match &**self.0.load() {
            Worker::Running { sockets, .. } => sockets.iter().map(Socket::overflow).collect(),
            Worker::Ended { overflow, .. } => overflow.clone(),
        }
    }

    /// What became of the thread so far.
    pub(super) fn scheduled(&self) -> Scheduled {
        match &**self.0.load() {
            Worker::Running { thread, before, .. } => {
                let now = thread.get().and_then(Scheduled::of).unwrap_or_default();
                Scheduled {
                    busy: before.busy + now.busy,
                    waiting: before.waiting + now.waiting,
                }
            }
            Worker::Ended { scheduled, .. } => *scheduled,
        }
    }
}

impl Scheduled {
    fn of(thread: &i32) -> Option<Self> {
        // Nanoseconds both, and the number of turns.
        let path = format!("/proc/self/task/{thread}/schedstat");
        let text = std::fs::read_to_string(path).ok()?;
        let mut numbers = text.split(' ').map_while(|number| number.parse().ok());
        let mut next = || numbers.next().map(Duration::from_nanos);
        Some(Self {
            busy: next()?,
            waiting: next()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::Gauges;

    #[test]
    fn a_worker_that_begins_again_goes_on_from_what_was_read_at_its_end() {
        let gauges = Gauges::default();
        let run = || {
            gauges.begin(&[]).expect("no sockets");
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    gauges.run_by_this_thread();
                    let before = gauges.scheduled().busy;
                    let end = Instant::now() + Duration::from_secs(10);
                    while gauges.scheduled().busy < before + Duration::from_millis(1) {
                        assert!(Instant::now() < end, "its time is not counted");
                    }
                    gauges.end();
                });
            });
            gauges.scheduled().busy
        };
        let first = run();
        assert!(run() >= first + Duration::from_millis(1));
    }
}
