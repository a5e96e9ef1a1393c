//! What the servers and the caller share: a UDP socket on loopback, and
//! things to do later.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// First wait for an answer before a message is sent again; each further one
/// is twice as long (RFC 3261 §17.1.1.1).
pub(super) const T1: Duration = Duration::from_millis(500);

/// When nobody waits any longer. RFC 3261 says 64 times T1; nobody wants to
/// watch half a minute of silence.
pub(super) const GIVE_UP: Duration = Duration::from_secs(3);

/// How often a thread that waits looks whether it is to stop.
const GLANCE: Duration = Duration::from_millis(20);

/// Octets of a receive buffer: room for a burst while the thread waits for
/// a core.
const BUFFER: usize = 1 << 20;

/// A socket on a free port of the loopback interface, and its address.
pub(super) fn bind() -> io::Result<(UdpSocket, SocketAddr)> {
    bind_to((Ipv4Addr::LOCALHOST, 0).into())
}

/// The same at an address.
pub(super) fn bind_to(address: SocketAddr) -> io::Result<(UdpSocket, SocketAddr)> {
    let socket = UdpSocket::bind(address)?;
    socket2::SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// Waits for a datagram, at most until `due` and never long.
pub(super) fn receive(
    socket: &UdpSocket,
    buffer: &mut [u8],
    due: Option<Instant>,
) -> io::Result<Option<(usize, SocketAddr)>> {
    let wait = due.map_or(GLANCE, |due| due.saturating_duration_since(Instant::now()));
    // A timeout of zero would mean none at all.
    socket.set_read_timeout(Some(wait.clamp(Duration::from_millis(1), GLANCE)))?;
    match socket.recv_from(buffer) {
        Ok(received) => Ok(Some(received)),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

/// Keys with the time when each is due. One that has become pointless stays:
/// its owner knows by its own `due` that it is.
pub(super) struct Timers<K>(BinaryHeap<Reverse<(Instant, K)>>);

impl<K: Ord> Timers<K> {
    pub(super) fn new() -> Self {
        Self(BinaryHeap::new())
    }

    pub(super) fn add(&mut self, due: Instant, key: K) {
        self.0.push(Reverse((due, key)));
    }

    /// When the first is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((due, _))| *due)
    }

    /// Takes one that is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<(Instant, K)> {
        self.next().filter(|due| *due <= now)?;
        self.0.pop().map(|Reverse(timer)| timer)
    }
}
