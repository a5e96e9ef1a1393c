//! Sockets: the only room with unsafe code.
//!
//! A socket is bound with `SO_REUSEPORT`, so that each worker has its own for
//! each listener. Datagrams come and go in batches, one system call each, and
//! those for one destination go together ([`Limits`]). Sockets outlive the
//! program: the next one that the process executes inherits them.

#![allow(
    unsafe_code,
    reason = "recvmmsg, sendmmsg, what steers and what is inherited have no safe binding"
)]

mod errors;
mod inherited;
mod name;
mod outgoing;
mod receive;
mod refusals;
mod runs;
mod send;
mod signals;
mod socket;
pub mod steer;

pub use errors::{RETURNED_MAX, is_brought_by_icmp, is_of_the_way};
pub use inherited::{hand_over, inherited_memory, inherited_socket, memory_to_hand_over};
pub use receive::ReceiveBatch;
pub use runs::Limits;
pub use send::{SendBatch, Sent};
pub use signals::{block_signals, unblock_signals};
pub use socket::{Granted, Socket};

/// A message header of nothing. Some C libraries have padding between its
/// fields, so that it cannot be written down.
const fn no_message() -> libc::msghdr {
    // SAFETY: zeros are a value of it, with null pointers.
    unsafe { std::mem::zeroed() }
}

/// The same of a control message.
const fn no_control() -> libc::cmsghdr {
    // SAFETY: zeros are a value of it.
    unsafe { std::mem::zeroed() }
}
