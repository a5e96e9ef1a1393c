//! Receiving a batch of datagrams by one `recvmmsg`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::Socket;
use super::name::{NAME_MAX, Name};
use super::no_message;

/// The longest payload of UDP over IPv6, so that nothing is cut off.
const SLOT: usize = 65_536;

/// Octets from one slot to the next. An odd number of cache lines beyond the
/// slot, for heads of slots at equal places would fall into one cache set.
/// Pages that no datagram reaches are never backed by memory.
const STRIDE: usize = SLOT + 17 * 64;

/// Buffers for a batch, and the datagrams received last.
pub struct ReceiveBatch {
    buffer: Vec<u8>,
    names: Vec<Name>,
    // Keeps what `headers` points to.
    _vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

impl ReceiveBatch {
    /// Room for `size` datagrams.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let mut buffer = vec![0; size * STRIDE];
        let mut names = vec![Name::EMPTY; size];
        let mut vectors: Vec<_> = buffer
            .chunks_exact_mut(STRIDE)
            .map(|slot| libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: SLOT,
            })
            .collect();
        let headers = names
            .iter_mut()
            .zip(&mut vectors)
            .map(|(name, vector)| {
                let mut msg_hdr = no_message();
                msg_hdr.msg_name = std::ptr::from_mut(name).cast();
                msg_hdr.msg_namelen = NAME_MAX;
                msg_hdr.msg_iov = vector;
                msg_hdr.msg_iovlen = 1;
                libc::mmsghdr {
                    msg_hdr,
                    msg_len: 0,
                }
            })
            .collect();
        Self {
            buffer,
            names,
            _vectors: vectors,
            headers,
            received: 0,
        }
    }

    /// Receives what is there, up to the size of the batch, and says how many
    /// datagrams that were. Fewer than the size: the socket was empty.
    ///
    /// # Errors
    /// As of `recvmmsg`; an empty socket is no error.
    pub fn receive(&mut self, socket: &Socket) -> io::Result<usize> {
        for header in &mut self.headers[..self.received] {
            header.msg_hdr.msg_namelen = NAME_MAX;
        }
        self.received = 0;
        // SAFETY: the headers point into vectors of this struct, which are
        // neither moved nor resized while it lives; each iovec covers SLOT
        // octets of its own slot, each name a whole `Name`.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                null_mut(),
            )
        };
        if n < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock => Ok(0),
                _ => Err(error),
            };
        }
        self.received = n as usize;
        Ok(self.received)
    }

    /// How many datagrams it holds at most.
    #[must_use]
    pub fn size(&self) -> usize {
        self.headers.len()
    }

    /// The datagrams received last, with their sources.
    pub fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let filled = self.headers[..self.received].iter().zip(&self.names);
        filled
            .zip(self.buffer.chunks_exact(STRIDE))
            .map(|((header, name), slot)| (&slot[..header.msg_len as usize], name.address()))
    }
}
