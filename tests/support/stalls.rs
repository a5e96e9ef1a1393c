//! Whether the machine itself stood still: one that others share may, for
//! longer than it takes a sipp to send again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Half of what sipp waits for before it sends again.
const STALL: Duration = Duration::from_millis(250);

/// How often each core is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Plays a load; where it fails and a core stood still meanwhile, which Viaduct
/// has no part in, once more, three times at most.
pub fn undisturbed<T>(play: impl Fn() -> T) -> T {
    for _ in 0..2 {
        let watch = Watch::start();
        let played = catch_unwind(AssertUnwindSafe(&play));
        let longest = watch.longest();
        match played {
            Ok(outcome) => return outcome,
            Err(panic) if longest < STALL => resume_unwind(panic),
            Err(_) => eprintln!("a core stood still for {longest:?}: played once more"),
        }
    }
    play()
}

/// A thread on each core that only wakes up.
struct Watch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Watch {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let on = |core| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                core_affinity::set_for_current(core);
                let mut longest = Duration::ZERO;
                while !stop.load(Ordering::Relaxed) {
                    let before = Instant::now();
                    thread::sleep(LOOK);
                    longest = longest.max(before.elapsed() - LOOK);
                }
                longest
            })
        };
        let threads = cores.into_iter().map(on).collect();
        Self { stop, threads }
    }

    /// The longest time that a core did not wake one up for.
    fn longest(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let each = self.threads.into_iter();
        let each = each.map(|thread| thread.join().expect("a watch"));
        each.max().unwrap_or_default()
    }
}
