//! What workers have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::{Handovers, Samples, Snapshot};
use crate::accounting;
use crate::mirror;

/// What all workers, and the supervisor, have in common.
pub struct Shared {
    /// What to decide by.
    pub latest: Arc<ArcSwap<Snapshot>>,
    /// Whether to end.
    pub stop: AtomicBool,
    /// Whether no transaction begins any more; what would have had one goes on
    /// statelessly.
    pub finishing: AtomicBool,
    /// Workers that may still hand something over.
    pub receiving: AtomicUsize,
    /// When time began.
    pub started: Instant,
    /// From worker to worker.
    pub handovers: Handovers,
    /// How often a worker has found datagrams lost before it could read them, or
    /// had no room for one with the worker whose it was.
    pub losses: AtomicU64,
    /// Where finished transactions are written down.
    pub accounting: Option<accounting::Handle>,
    /// Copies of what was dropped, where an operator asks for some.
    pub samples: Samples,
    /// Where copies of messages go.
    pub mirror: Option<mirror::Handle>,
}

/// Counts a worker in [`Shared::receiving`] until it is dropped.
pub(super) struct Receiving(Arc<Shared>);

impl Receiving {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        shared.receiving.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(shared))
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        self.0.receiving.fetch_sub(1, Ordering::AcqRel);
    }
}
