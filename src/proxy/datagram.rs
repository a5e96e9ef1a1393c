//! What comes from a socket.

use std::net::SocketAddr;

/// A datagram as it was received.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its payload.
    pub bytes: &'a [u8],
    /// Where it came from.
    pub source: SocketAddr,
    /// The listener it arrived on: an index into the configuration's.
    pub listener: usize,
}

impl Datagram<'_> {
    /// Copies it, to be decided at another time or by another thread.
    #[must_use]
    pub fn kept(&self) -> KeptDatagram {
        KeptDatagram {
            bytes: self.bytes.into(),
            source: self.source,
            listener: self.listener,
        }
    }
}

/// A datagram as it was received, with octets of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDatagram {
    /// See [`Datagram::bytes`].
    pub bytes: Box<[u8]>,
    /// See [`Datagram::source`].
    pub source: SocketAddr,
    /// See [`Datagram::listener`].
    pub listener: usize,
}

impl KeptDatagram {
    /// The same, to be decided.
    #[must_use]
    pub fn datagram(&self) -> Datagram<'_> {
        Datagram {
            bytes: &self.bytes,
            source: self.source,
            listener: self.listener,
        }
    }
}
