//! From worker to worker: what belongs to another one's call.
//!
//! A bounded queue for each worker, to which all others post without waiting.
//! What one posts arrives in order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;
use mio::Waker;

use crate::proxy::KeptDatagram;

/// What waits for one worker at most; the memory that a flood may take is this
/// times the longest datagram.
const INBOX: usize = 1024;

/// What is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    /// A datagram.
    Datagram(KeptDatagram),
    /// The first octets of a datagram of ours that came back.
    Undelivered(Box<[u8]>),
}

/// The inboxes of all workers.
#[derive(Clone)]
pub struct Handovers(Arc<[CachePadded<Inbox>]>);

struct Inbox {
    queue: ArrayQueue<Handed>,
    /// Whether the worker is awake for it, or about to be.
    roused: AtomicBool,
    waker: ArcSwapOption<Waker>,
}

impl Handovers {
    /// An empty inbox for each of `workers`.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let inbox = || Inbox {
            queue: ArrayQueue::new(INBOX),
            roused: AtomicBool::new(false),
            waker: ArcSwapOption::empty(),
        };
        Self((0..workers).map(|_| CachePadded::new(inbox())).collect())
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.len()
    }

    /// Says what wakes worker `number`. It is woken at once, for something may
    /// have been posted before.
    ///
    /// # Errors
    /// As of writing to an eventfd.
    pub fn woken_by(&self, number: usize, waker: Arc<Waker>) -> std::io::Result<()> {
        self.0[number].waker.store(Some(Arc::clone(&waker)));
        waker.wake()
    }

    /// Posts to worker `number`, and wakes it unless it has been woken since
    /// its inbox was empty. False: the inbox is full, and `handed` is lost.
    pub fn post(&self, number: usize, handed: Handed) -> bool {
        let inbox = &self.0[number];
        if inbox.queue.push(handed).is_err() {
            return false;
        }
        if !inbox.roused.swap(true, Ordering::AcqRel)
            && let Some(waker) = &*inbox.waker.load()
        {
            // It fails only where the worker has ended.
            let _ = waker.wake();
        }
        true
    }

    /// The next of what is posted to worker `number`; only that worker may
    /// ask, and must until there is nothing before it sleeps.
    #[must_use]
    pub fn take(&self, number: usize) -> Option<Handed> {
        let inbox = &self.0[number];
        inbox.queue.pop().or_else(|| {
            if !inbox.roused.load(Ordering::Relaxed) {
                return None;
            }
            // Whoever posts from here on wakes; who did not has posted before.
            inbox.roused.swap(false, Ordering::AcqRel);
            inbox.queue.pop()
        })
    }
}
