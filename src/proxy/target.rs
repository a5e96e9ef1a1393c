//! From hosts on the wire to addresses. No name is ever resolved here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::sip::{Span, Uri, Via, eq_ignore_case};

/// The address that `host` is: IPv4, or IPv6 with or without brackets.
#[inline]
pub(super) fn literal(host: &[u8]) -> Option<IpAddr> {
    let last = *host.last()?;
    if !last.is_ascii_hexdigit() && last != b']' && last != b':' {
        return None;
    }
    let text = std::str::from_utf8(host).ok()?;
    if !host.contains(&b':') {
        return text.parse().ok().map(IpAddr::V4);
    }
    let inside = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => text,
    };
    let v6: Ipv6Addr = inside.parse().ok()?;
    Some(IpAddr::V6(v6).to_canonical())
}

/// Where responses go to a request with the top Via `via` from `source`
/// (RFC 3261 §18.2.2, RFC 3581 §4). `maddr` is not followed: it would let a
/// sender choose who is hit by the responses (§26.1.5).
#[inline]
pub(super) fn respond_to(via: &Via, source: SocketAddr) -> SocketAddr {
    let port = if via.rport.is_some() {
        source.port()
    } else {
        via.port_or_default()
    };
    SocketAddr::new(source.ip(), port)
}

/// The same address, read back from the Via that we repaired.
#[inline]
pub(super) fn responds_to(bytes: &[u8], via: &Via) -> Option<SocketAddr> {
    let host = via.received.map_or(via.host, |received| received.value);
    let ip = literal(host.of(bytes))?;
    let port = match via.rport {
        Some(rport) => std::str::from_utf8(rport.value.of(bytes))
            .ok()?
            .parse()
            .ok()?,
        None => via.port_or_default(),
    };
    Some(SocketAddr::new(ip, port))
}

/// The address that a URI names, where it names one that UDP can reach;
/// `maddr` goes before the host (RFC 3263 §4).
#[inline]
pub(super) fn uri_address(bytes: &[u8], uri: &Uri) -> Option<SocketAddr> {
    let host = uri_host(uri);
    literal(host.of(bytes)).map(|ip| SocketAddr::new(ip, uri.port_or_default()))
}

/// The host of a URI that a next hop depends on.
pub(super) fn uri_host(uri: &Uri) -> Span {
    if uri.maddr.is_empty() {
        uri.host
    } else {
        uri.maddr
    }
}

/// Whether a URI asks for a transport other than UDP.
pub(super) fn wants_other_transport(bytes: &[u8], uri: &Uri) -> bool {
    !uri.transport.is_empty() && !eq_ignore_case(uri.transport.of(bytes), b"udp")
}

/// Addresses that no datagram may be sent to.
#[inline]
pub(super) fn is_forbidden(to: SocketAddr) -> bool {
    let ip = to.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0);
    to.port() == 0 || ip.is_multicast() || ip.is_unspecified() || broadcast
}
