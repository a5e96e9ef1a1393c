//! Sockets: the only room with unsafe code.
//!
//! A socket is bound with `SO_REUSEPORT`, so that each worker has its own for
//! each listener. Datagrams come and go in batches, one system call each.

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg and what steers have no safe binding"
)]

mod name;
mod receive;
mod send;
mod socket;
pub mod steer;

pub use receive::ReceiveBatch;
pub use send::{SendBatch, SendFailure};
pub use socket::{Granted, Socket};
