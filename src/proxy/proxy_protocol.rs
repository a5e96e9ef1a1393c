//! The header by which a front balancer says who sent a datagram: the PROXY
//! protocol, version 2 (§2.2 of HAProxy's `proxy-protocol.txt`).
//!
//! ```text
//! 0D 0A 0D 0A 00 0D 0A 51 55 49 54 0A    signature
//! 20 or 21                               version 2; LOCAL or PROXY
//! 11 or 12, 21 or 22                     IPv4 or IPv6; a stream or datagrams
//! LL LL                                  octets that follow, before the datagram
//! source, destination                    addresses, then the two ports
//! …                                      further fields, which are skipped
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Datagram, Proxy, Reason};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

impl Proxy {
    /// The datagram as its sender sent it, and the front balancer that it
    /// came by, if it did: that one's header is taken off, and the source is
    /// what it says.
    ///
    /// # Errors
    /// Why the datagram is dropped.
    pub fn unwrap<'a>(
        &self,
        datagram: &Datagram<'a>,
    ) -> Result<(Datagram<'a>, Option<SocketAddr>), Reason> {
        self.unwrap_if(self.is_front(datagram), datagram)
    }

    /// The same of one that a transaction has remembered: who was a front
    /// balancer when it came, its header tells.
    ///
    /// # Errors
    /// As of [`unwrap`](Self::unwrap).
    pub fn unwrap_remembered<'a>(
        &self,
        datagram: &Datagram<'a>,
    ) -> Result<(Datagram<'a>, Option<SocketAddr>), Reason> {
        let is_front = read(datagram.bytes).is_some();
        self.unwrap_if(is_front, datagram)
    }

    fn unwrap_if<'a>(
        &self,
        is_front: bool,
        datagram: &Datagram<'a>,
    ) -> Result<(Datagram<'a>, Option<SocketAddr>), Reason> {
        if !self.is_sound(datagram.source) {
            return Err(Reason::BadSource);
        }
        if !is_front {
            return Ok((*datagram, None));
        }
        let (client, bytes) = read(datagram.bytes).ok_or(Reason::ProxyHeader)?;
        let source = client.unwrap_or(datagram.source);
        if !self.is_sound(source) {
            return Err(Reason::BadSource);
        }
        let unwrapped = Datagram {
            bytes,
            source,
            ..*datagram
        };
        Ok((unwrapped, client.map(|_| datagram.source)))
    }

    /// Whether it comes from a front balancer.
    #[inline]
    pub(super) fn is_front(&self, datagram: &Datagram<'_>) -> bool {
        (self.locals).is_front(datagram.listener, datagram.source.ip())
    }

    /// Whether answers can go to `source`, and it is none of our sockets.
    #[inline]
    pub(super) fn is_sound(&self, source: SocketAddr) -> bool {
        source.port() != 0 && !self.locals.is_bound(source)
    }
}

/// Takes the header off a datagram: who sent it, `None` for the balancer itself
/// (LOCAL), and what was sent. Nothing where it has no header, or one that does
/// not say who sent it.
fn read(datagram: &[u8]) -> Option<(Option<SocketAddr>, &[u8])> {
    let rest = datagram.strip_prefix(SIGNATURE)?;
    let (&[command, family, high, low], rest) = rest.split_first_chunk()?;
    let length = u16::from_be_bytes([high, low]);
    let (fields, bytes) = rest.split_at_checked(length.into())?;
    let client = match (command, family) {
        (LOCAL, _) => None,
        (PROXY, 0x11 | 0x12) => {
            let (&[a, b, c, d, _, _, _, _, high, low, _, _], _) = fields.split_first_chunk()?;
            let ip = Ipv4Addr::new(a, b, c, d);
            Some((IpAddr::V4(ip), u16::from_be_bytes([high, low])))
        }
        (PROXY, 0x21 | 0x22) => {
            let (source, rest) = fields.split_first_chunk::<16>()?;
            let (_destination, ports) = rest.split_first_chunk::<16>()?;
            let (&[high, low, _, _], _) = ports.split_first_chunk()?;
            let ip = IpAddr::V6(Ipv6Addr::from(*source)).to_canonical();
            Some((ip, u16::from_be_bytes([high, low])))
        }
        _ => return None,
    };
    Some((client.map(SocketAddr::from), bytes))
}
