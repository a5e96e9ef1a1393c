//! From hosts on the wire to addresses; names are not resolved here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::local::Locals;
use crate::sip::{Scheme, Span, Uri, Via, port};

/// What a URI names.
#[derive(Clone, Copy)]
pub(super) enum Named {
    /// Us.
    Us,
    /// An address, and whether it is to be reached by another transport than
    /// UDP.
    Address(SocketAddr, bool),
    /// A host by its name, to be reached by UDP, and the port where it is given.
    Name(Span, Option<u16>),
    /// A telephone number, a service, or a host by its name that is not for UDP.
    NoAddress,
}

/// What `uri` names.
#[inline]
pub(super) fn named(locals: &Locals, bytes: &[u8], uri: &Uri) -> Named {
    let host = uri_host(uri).of(bytes);
    let (ip, port) = (literal(host), uri.port_or_default());
    if locals.names(host, ip, port) || (uri.port.is_none() && locals.names_at_any_port(host)) {
        return Named::Us;
    }
    match ip {
        Some(ip) => Named::Address(SocketAddr::new(ip, port), !is_for_udp(bytes, uri)),
        None if !is_for_udp(bytes, uri) => Named::NoAddress,
        None => Named::Name(uri_host(uri), uri.port),
    }
}

/// The address that `host` is: IPv4, or IPv6 with or without brackets.
#[inline]
pub(super) fn literal(host: &[u8]) -> Option<IpAddr> {
    if let Some(v4) = ipv4(host) {
        return Some(IpAddr::V4(v4));
    }
    // An IPv6 address has a colon behind a bracket and four digits at most.
    if !host.iter().take(6).any(|&b| b == b':') {
        return None;
    }
    let text = std::str::from_utf8(host).ok()?;
    let inside = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']')?,
        None => text,
    };
    let v6: Ipv6Addr = inside.parse().ok()?;
    Some(IpAddr::V6(v6).to_canonical())
}

/// As the standard library reads it, in a fifth of the time: it stands in
/// nearly every Via.
#[inline]
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut at = 0;
    for (i, octet) in octets.iter_mut().enumerate() {
        if i > 0 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let start = at;
        let mut value = 0u32;
        while at < text.len() && at - start < 3 && text[at].is_ascii_digit() {
            value = value * 10 + u32::from(text[at] - b'0');
            at += 1;
        }
        let leading_zero = at - start > 1 && text[start] == b'0';
        if at == start || leading_zero {
            return None;
        }
        *octet = u8::try_from(value).ok()?;
    }
    (at == text.len()).then(|| octets.into())
}

/// Where responses go to a request with the top Via `via` from `source`
/// (RFC 3261 §18.2.2, RFC 3581 §4): where it came by a front balancer, to that
/// one, who knows from the port whom they are for. `maddr` is not followed: it
/// would let a sender choose who is hit by the responses (§26.1.5).
#[inline]
pub(super) fn respond_to(via: &Via, source: SocketAddr, front: Option<SocketAddr>) -> SocketAddr {
    if let Some(front) = front {
        return front;
    }
    let port = if via.rport.is_some() {
        source.port()
    } else {
        via.port_or_default()
    };
    SocketAddr::new(source.ip(), port)
}

/// The same address, read back from the Via that we repaired.
#[inline]
pub(super) fn read_respond_to(bytes: &[u8], via: &Via) -> Option<SocketAddr> {
    let host = via.received.map_or(via.host, |received| received.value);
    let ip = literal(host.of(bytes))?;
    let port = match via.rport {
        Some(rport) => port(rport.value.of(bytes))?,
        None => via.port_or_default(),
    };
    Some(SocketAddr::new(ip, port))
}

/// The host of a URI that a next hop depends on: `maddr` goes before it (RFC 3263
/// §4).
fn uri_host(uri: &Uri) -> Span {
    if uri.maddr.is_empty() {
        uri.host
    } else {
        uri.maddr
    }
}

/// Whether what a URI names may be reached by UDP: SIPS is for TLS alone
/// (RFC 3261 §26.2.2).
pub(super) fn is_for_udp(bytes: &[u8], uri: &Uri) -> bool {
    let transport = uri.transport.of(bytes);
    uri.scheme == Scheme::Sip && (transport.is_empty() || transport.eq_ignore_ascii_case(b"udp"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ipv4_reads_what_the_standard_library_reads(text in "[0-9.]{0,16}|[0-9]{1,3}(\\.[0-9]{1,3}){3}") {
            prop_assert_eq!(ipv4(text.as_bytes()), text.parse::<Ipv4Addr>().ok());
        }
    }
}
