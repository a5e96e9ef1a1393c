//! Copies of what passes a worker's sockets, for the mirror.

use std::net::SocketAddr;

use crate::config::Config;
use crate::mirror::Handle;
use crate::proxy::{Datagram, Proxy};

/// What makes them.
pub(super) struct Copies {
    mirror: Handle,
    /// Of each listener.
    addresses: Vec<SocketAddr>,
}

impl Copies {
    pub(super) fn new(mirror: Handle, config: &Config) -> Self {
        let addresses = config.listeners.iter().map(|listener| listener.address);
        Self {
            mirror,
            addresses: addresses.collect(),
        }
    }

    /// Copies what has come, as its sender sent it: without the header of a
    /// front balancer.
    #[cold]
    pub(super) fn received(&self, proxy: &Proxy, datagram: &Datagram<'_>) {
        if let Ok((sent, _front)) = proxy.unwrap(datagram) {
            let to = self.addresses[sent.listener];
            self.mirror.copy(sent.bytes, sent.source, to);
        }
    }

    /// Copies what leaves by a listener, as it is before padding.
    #[cold]
    pub(super) fn sent(&self, octets: &[u8], listener: usize, to: SocketAddr) {
        self.mirror.copy(octets, self.addresses[listener], to);
    }
}
