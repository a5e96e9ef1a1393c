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

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// A datagram that begins with a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proxied<'a> {
    /// Who sent it; `None`: the balancer itself (LOCAL).
    pub(super) client: Option<SocketAddr>,
    /// What was sent.
    pub(super) bytes: &'a [u8],
}

/// Takes the header off a datagram; `None` where it has none, or one that
/// does not say who sent it.
pub(super) fn read(datagram: &[u8]) -> Option<Proxied<'_>> {
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
    Some(Proxied {
        client: client.map(SocketAddr::from),
        bytes,
    })
}
