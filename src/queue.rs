//! A queue from workers to a thread that does what may wait: bounded in items
//! and in the octets that they hold of messages, so that a thread that falls
//! behind costs what it was given, and no worker its time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;

/// Items that wait at most.
pub const MOST: usize = 16_384;
/// Octets of messages that they hold at most.
const MOST_OCTETS: usize = 32 << 20;
/// How long the end of a thread may go unnoticed.
const POLL: Duration = Duration::from_millis(5);

/// The queue; its ends are any number of threads.
pub struct Queue<T> {
    /// Each with its octets.
    items: ArrayQueue<(usize, T)>,
    octets: AtomicUsize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            items: ArrayQueue::new(MOST),
            octets: AtomicUsize::new(0),
        }
    }
}

impl<T> Queue<T> {
    /// Puts `item`, which holds so many octets, behind the others. Never waits;
    /// false where there is no room, and mostly `item` is not made then.
    #[must_use]
    pub fn push(&self, octets: usize, item: impl FnOnce() -> T) -> bool {
        let before = self.octets.fetch_add(octets, Ordering::Relaxed);
        let has_room = before + octets <= MOST_OCTETS && !self.items.is_full();
        // Others may have filled it meanwhile.
        let is_in = has_room && self.items.push((octets, item())).is_ok();
        if !is_in {
            self.octets.fetch_sub(octets, Ordering::Relaxed);
        }
        is_in
    }

    /// The foremost item.
    #[must_use]
    pub fn pop(&self) -> Option<T> {
        let (octets, item) = self.items.pop()?;
        self.octets.fetch_sub(octets, Ordering::Relaxed);
        Some(item)
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.items.len()
    }
}

/// Wakes the thread that empties a queue, and waits until it has ended, as it has
/// been told to, but no longer than `limit`. False where it has not: one that hangs
/// in a system call ends with the process.
#[must_use]
pub fn end(thread: JoinHandle<()>, limit: Duration) -> bool {
    thread.thread().unpark();
    let end = Instant::now() + limit;
    while !thread.is_finished() && Instant::now() < end {
        std::thread::sleep(POLL);
    }
    // A panic has been told.
    thread.is_finished() && thread.join().is_ok()
}

#[cfg(test)]
mod tests {
    use super::{MOST, MOST_OCTETS, Queue};

    #[test]
    fn it_takes_so_many_items_and_so_many_octets() {
        let queue = Queue::default();
        assert!((0..MOST).all(|i| queue.push(1, || i)));
        assert!(!queue.push(1, || unreachable!("not made where there is no room")));
        assert_eq!((queue.waiting(), queue.pop()), (MOST, Some(0)));
        while queue.pop().is_some() {}
        assert!(queue.push(MOST_OCTETS - 1, || 1));
        assert!(!queue.push(2, || unreachable!("not made where there is no room")));
        assert!(queue.push(1, || 2) && !queue.push(1, || 3));
        assert_eq!(
            (queue.pop(), queue.pop(), queue.pop()),
            (Some(1), Some(2), None)
        );
        assert!(queue.push(MOST_OCTETS, || 4));
    }
}
