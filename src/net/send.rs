//! Sending a batch of datagrams by one `sendmmsg` for each socket.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr::null_mut;

use super::Socket;
use super::name::Name;

/// The longest datagram that is ever sent.
const LONGEST: usize = crate::sip::MAX_DATAGRAM;

/// Octets for the datagrams of a batch, one behind the other.
const ARENA: usize = 1 << 20;

/// How long a full send buffer is waited for, in milliseconds, before the
/// rest of a batch is given up.
const PATIENCE_MS: i32 = 5;

/// Datagrams to send, each from one of several sockets.
pub struct SendBatch {
    arena: Vec<u8>,
    used: usize,
    queued: Vec<Queued>,
    names: Vec<Name>,
    vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

struct Queued {
    start: usize,
    length: usize,
    to: SocketAddr,
    socket: usize,
}

/// A datagram that the kernel did not take.
#[derive(Debug)]
pub struct SendFailure {
    /// Where it should have gone.
    pub to: SocketAddr,
    /// Why it did not.
    pub error: io::Error,
}

impl SendBatch {
    /// Room for `size` datagrams.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self {
            arena: vec![0; ARENA],
            used: 0,
            queued: Vec::with_capacity(size),
            names: Vec::with_capacity(size),
            vectors: Vec::with_capacity(size),
            headers: Vec::with_capacity(size),
        }
    }

    /// Whether there is room for one more datagram of any length.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.queued.len() < self.queued.capacity() && ARENA - self.used >= LONGEST
    }

    /// Where to write the next datagram. Call only while there is room.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.arena[self.used..self.used + LONGEST]
    }

    /// Queues the first `length` octets of the space.
    #[inline]
    pub fn push(&mut self, length: usize, to: SocketAddr, socket: usize) {
        self.queued.push(Queued {
            start: self.used,
            length,
            to,
            socket,
        });
        self.used += length;
    }

    /// Sends all that is queued, in order for each socket, and forgets it.
    /// A datagram that the kernel refuses is reported and skipped; the others
    /// go out.
    pub fn flush(&mut self, sockets: &[Socket], mut failed: impl FnMut(SendFailure)) {
        for (index, socket) in sockets.iter().enumerate() {
            self.prepare(index);
            self.send(socket, &mut failed);
        }
        self.queued.clear();
        self.used = 0;
    }

    /// Builds the kernel's view of what leaves by one socket.
    fn prepare(&mut self, socket: usize) {
        self.names.clear();
        self.vectors.clear();
        self.headers.clear();
        for queued in self.queued.iter().filter(|queued| queued.socket == socket) {
            let octets = &mut self.arena[queued.start..queued.start + queued.length];
            let (name, name_length) = Name::new(queued.to);
            self.names.push(name);
            self.vectors.push(libc::iovec {
                iov_base: octets.as_mut_ptr().cast(),
                iov_len: octets.len(),
            });
            self.headers.push(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: null_mut(),
                    msg_namelen: name_length,
                    msg_iov: null_mut(),
                    msg_iovlen: 1,
                    msg_control: null_mut(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        // Only now do the vectors stay where they are.
        for ((header, name), vector) in self
            .headers
            .iter_mut()
            .zip(&mut self.names)
            .zip(&mut self.vectors)
        {
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = vector;
        }
    }

    fn send(&mut self, socket: &Socket, failed: &mut impl FnMut(SendFailure)) {
        let mut patient = true;
        let mut sent = 0;
        while sent < self.headers.len() {
            let rest = &mut self.headers[sent..];
            // SAFETY: each header points to a name and an iovec of this
            // struct, which `prepare` has just filled and nothing has moved
            // since; each iovec covers octets of the arena.
            let n = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            if n > 0 {
                sent += n as usize;
                continue;
            }
            // The error is that of the first datagram of the rest.
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock if patient => {
                    wait_writable(socket);
                    patient = false;
                }
                _ => {
                    failed(SendFailure {
                        to: self.names[sent].address(),
                        error,
                    });
                    sent += 1;
                }
            }
        }
    }
}

/// Waits until the socket takes datagrams again, but not for long.
fn wait_writable(socket: &Socket) {
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one pollfd, which lives until the call returns.
    unsafe { libc::poll(&raw mut poll, 1, PATIENCE_MS) };
}
