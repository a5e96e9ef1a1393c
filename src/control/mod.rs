//! What operators see and change while it runs: the admin API, metrics and the
//! status page, in one thread of its own.
//!
//! It reads facts that are swapped whole and counters that workers write; what
//! it changes it asks of the supervisor. No worker ever waits for it.

mod api;
pub mod explain;
mod files;
mod guard;
pub mod metrics;
mod order;
mod page;
mod problem;
mod server;
mod socket;
pub mod status;
mod view;

use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use api::{
    Addition, BadPacket, BadPackets, BadPacketsRequest, LevelChange, ReloadRequest, Removal,
    StateChange, WeightChange,
};
pub use files::{is_open, may_make, open_warning};
pub use guard::{Denials, token};
pub use order::{
    Answer, Change, Command, Difference, Done, Moved, Order, Place, Refusal, needs_upgrade,
};
pub use problem::Problem;
pub use server::{Control, missing, rehearse, start};
pub use status::Status;
pub use view::{Facts, Reload, Unresolved, View};

/// Locks it; whoever panicked meanwhile has left it whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What answers requests.
struct App {
    view: Arc<View>,
    orders: Sender<Order>,
    /// The file with the token for changes and `explain` over TCP.
    token_file: Option<PathBuf>,
}
