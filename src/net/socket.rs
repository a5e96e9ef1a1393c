//! Binding a UDP socket, and what the kernel grants of its buffers.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use socket2::{Domain, Protocol, SockAddr, Type};

use super::steer::Instruction;

/// Numbers that `SO_MEMINFO` tells of a socket, and which are those of its receive
/// buffer: what it holds, its size, and what was dropped (linux/sock_diag.h).
const MEMINFO: usize = 9;
const MEMINFO_HELD: usize = 0;
const MEMINFO_SIZE: usize = 1;
const MEMINFO_DROPS: usize = 8;

/// A bound, non-blocking UDP socket.
pub struct Socket(UdpSocket);

fn unbound(address: SocketAddr) -> io::Result<socket2::Socket> {
    let domain = Domain::for_address(address);
    let socket = socket2::Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Else one socket would see IPv4 sources in a second notation.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Buffer sizes as the kernel counts them, in octets of payload and overhead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Granted {
    /// Of the receive buffer.
    pub receive: usize,
    /// Of the send buffer.
    pub send: usize,
}

impl Socket {
    /// Binds to `address` where no socket has it, also none of another instance
    /// of the same user, which would share it; with port 0 to a port that no
    /// socket has. From then on others may be [beside](Self::bind_beside) it.
    ///
    /// # Errors
    /// As of `socket`, `setsockopt` and `bind`: the address in use, not on this
    /// machine, a port below 1024 without the right to it.
    pub fn bind(address: SocketAddr, receive: usize, send: usize) -> io::Result<Self> {
        Self::bound(address, false, (receive, send))
    }

    /// Binds to `address` beside other sockets that have it.
    ///
    /// # Errors
    /// As of [`Socket::bind`]: in use without `SO_REUSEPORT` or by another user.
    pub fn bind_beside(address: SocketAddr, receive: usize, send: usize) -> io::Result<Self> {
        Self::bound(address, true, (receive, send))
    }

    fn bound(
        address: SocketAddr,
        beside: bool,
        (receive, send): (usize, usize),
    ) -> io::Result<Self> {
        let socket = unbound(address)?;
        socket.set_reuse_port(beside)?;
        socket.set_nonblocking(true)?;
        let socket = Self(socket.into());
        socket.tune(receive, send)?;
        let bound = socket2::SockRef::from(&socket.0);
        bound.bind(&SockAddr::from(address))?;
        bound.set_reuse_port(true)?;
        Ok(socket)
    }

    /// Asks for buffers of these sizes, in octets, and lets networks cut what
    /// is sent over IPv4 into fragments. A program before us may have done
    /// neither.
    ///
    /// # Errors
    /// As of `setsockopt`. That the kernel clips what is over its limit is
    /// none; [`Socket::granted`] tells.
    pub fn tune(&self, receive: usize, send: usize) -> io::Result<()> {
        if self.address()?.is_ipv4() {
            // Linux forbids fragments otherwise: where a path is narrower than
            // ours, a long INVITE would be lost until an ICMP error comes, and
            // always where none does.
            set_ip_mtu_discover(&self.0, Ipv4PathMtuDiscovery::DONT)?;
        }
        let socket = socket2::SockRef::from(&self.0);
        socket.set_recv_buffer_size(receive)?;
        socket.set_send_buffer_size(send)
    }

    /// Has `program` choose the socket of each datagram among those that share
    /// this one's address, by their numbers in the order of binding. One call
    /// serves them all.
    ///
    /// # Errors
    /// As of `setsockopt`: `ENOMEM` where the program is too long for
    /// `net.core.optmem_max`.
    pub fn steer(&self, program: &[Instruction]) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: program.len() as libc::c_ushort,
            filter: program.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel reads `len` instructions from `filter`, copies
        // them and writes nothing; a program has at most 4,096, so that no
        // length is cut off.
        let result = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_REUSEPORT_CBPF,
                std::ptr::from_ref(&program).cast(),
                size_of::<libc::sock_fprog>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Whether the kernel cuts one send into segments (Linux 4.18 and newer).
    /// An older one would send a run as one datagram.
    #[must_use]
    pub fn segments(&self) -> bool {
        let mut value: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` octets, those of `value`.
        let result = unsafe {
            libc::getsockopt(
                self.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                (&raw mut value).cast(),
                &raw mut length,
            )
        };
        result == 0
    }

    pub(super) fn send_to(&self, octets: &[u8], to: SocketAddr) -> io::Result<usize> {
        self.0.send_to(octets, to)
    }

    /// Where it is bound; port 0 has become a real one.
    ///
    /// # Errors
    /// As of `getsockname`.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// The buffer sizes in force. The kernel doubles what it is asked for, to
    /// pay for its own overhead; this is halved again.
    ///
    /// # Errors
    /// As of `getsockopt`.
    pub fn granted(&self) -> io::Result<Granted> {
        let socket = socket2::SockRef::from(&self.0);
        Ok(Granted {
            receive: socket.recv_buffer_size()? / 2,
            send: socket.send_buffer_size()? / 2,
        })
    }

    /// Datagrams that the kernel has dropped because the receive buffer was
    /// full, or their checksum wrong; it wraps at 2^32. 0 where the kernel does
    /// not tell (Linux before 4.12).
    ///
    /// Asked for when somebody wants to know it, and so at no cost for the
    /// datagrams; `SO_RXQ_OVFL` would bring it with each of them.
    #[must_use]
    pub fn overflow(&self) -> u64 {
        self.memory().map_or(0, |info| info[MEMINFO_DROPS].into())
    }

    /// Whether three quarters of the receive buffer are taken. The kernel counts some
    /// of what was read as long as there is more: half of it may be free. Never where
    /// the kernel does not tell.
    #[must_use]
    pub fn is_nearly_full(&self) -> bool {
        let is_so = |info: [u32; MEMINFO]| info[MEMINFO_HELD] >= info[MEMINFO_SIZE] / 4 * 3;
        self.memory().is_some_and(is_so)
    }

    fn memory(&self) -> Option<[u32; MEMINFO]> {
        let mut info = [0_u32; MEMINFO];
        let mut length = size_of_val(&info) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` octets, those of `info`.
        let result = unsafe {
            libc::getsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MEMINFO,
                (&raw mut info).cast(),
                &raw mut length,
            )
        };
        (result == 0).then_some(info)
    }

    /// The same socket once more, for another thread to ask the kernel about it. It
    /// stays open while either lives.
    ///
    /// # Errors
    /// As of `fcntl`: there are too many open files.
    pub fn twin(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::sockopt::ip_mtu_discover;

    use super::*;

    #[test]
    fn a_socket_of_another_program_lets_networks_fragment_from_now_on() {
        let inherited = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let socket = Socket(inherited);
        let now = || ip_mtu_discover(&socket.0).expect("a setting");
        assert_ne!(now(), Ipv4PathMtuDiscovery::DONT);
        socket.tune(1 << 16, 1 << 16).expect("settings");
        assert_eq!(now(), Ipv4PathMtuDiscovery::DONT);
    }
}
