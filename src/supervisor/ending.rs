//! The end: calls in set-up are seen through, for a while.

use std::io;
use std::time::{Duration, Instant};

use tracing::info;

use super::Instance;

/// How long workers may take to hear that no transaction begins any more.
pub(super) const HEARD_AFTER: Duration = Duration::from_millis(20);

/// An end that has begun: requests go on statelessly, and transactions that
/// there are come to their end.
pub(super) struct Ending {
    since: Instant,
    limit: Duration,
}

impl Ending {
    /// Begins the end.
    ///
    /// # Errors
    /// As of writing to an eventfd.
    pub(super) fn begin(instance: &Instance) -> io::Result<Self> {
        let limit = instance.config.stop_timeout;
        if instance.is_stateful() && !limit.is_zero() {
            instance.begin_none()?;
            let unfinished = instance.pending().unfinished;
            info!(
                "ending: unfinished transactions are waited for, {unfinished} now, {limit:?} at \
                 most; a second signal ends at once"
            );
        }
        Ok(Self {
            since: Instant::now(),
            limit,
        })
    }

    /// Whether there is nothing to wait for any more.
    pub(super) fn is_over(&self, instance: &Instance) -> bool {
        if !instance.is_stateful() {
            return true;
        }
        let unfinished = instance.pending().unfinished;
        let time = self.since.elapsed();
        if time >= self.limit && unfinished > 0 {
            info!("ending: transactions left unfinished: {unfinished}");
        }
        time >= self.limit || (time >= HEARD_AFTER && unfinished == 0)
    }
}

impl Instance {
    pub(super) fn is_stateful(&self) -> bool {
        !self.config.stateful.methods.is_empty()
    }
}
