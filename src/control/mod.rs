//! What operators see and change while it runs: the admin API, metrics and the
//! status page, in one thread of its own.
//!
//! It reads facts that are swapped whole and counters that workers write; what
//! it changes it asks of the supervisor. No worker ever waits for it.

mod order;
pub mod status;
mod view;

pub use order::{Answer, Change, Difference, Done, Moved, Order, Place, Refusal};
pub use status::Status;
pub use view::{Facts, ProbedFact, Reload, View};
