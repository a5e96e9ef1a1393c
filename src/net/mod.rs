//! Sockets: the only room with unsafe code.
//!
//! A socket is bound with `SO_REUSEPORT`, so that each worker has its own for
//! each listener. Datagrams come and go in batches, one system call each, and
//! those for one destination go together ([`Limits`]).

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and what steers have no safe binding"
)]

mod errors;
mod name;
mod outgoing;
mod receive;
mod refusals;
mod runs;
mod send;
mod socket;
pub mod steer;

pub use errors::{RETURNED_MAX, Undelivered};
pub use receive::ReceiveBatch;
pub use runs::Limits;
pub use send::{InRun, SendBatch, Sent};
pub use socket::{Granted, Socket, SocketHandle};
