//! The packets of the mirror against a plain reader.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use proptest::prelude::*;
use support::hep::{self, Hep};
use viaduct::mirror::Packet;

fn octets(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        from: (IpAddr, u16),
        to: (IpAddr, u16),
        (seconds, microseconds) in (any::<u32>(), 0..1_000_000_u32),
        agent: u32,
        key: Option<String>,
        correlation in octets(300),
        payload in octets(2000),
    ) {
        let packet = Packet {
            from: from.into(),
            to: to.into(),
            time: Duration::new(seconds.into(), microseconds * 1000 + 999),
            agent,
            key: key.as_deref(),
            correlation: &correlation,
            payload: &payload,
        };
        // What an earlier packet has left there does not matter.
        let mut out = b"something else".to_vec();
        prop_assert!(packet.write(&mut out));
        let is_v4 = from.0.is_ipv4() && to.0.is_ipv4();
        let address = |(ip, port): (IpAddr, u16)| {
            SocketAddr::new(if is_v4 { ip } else { mapped(ip) }, port)
        };
        let wanted = Hep {
            from: address(from),
            to: address(to),
            protocol: 17,
            seconds,
            microseconds,
            kind: 1,
            agent,
            key: key.map(String::into_bytes),
            correlation: Some(correlation).filter(|id| !id.is_empty()),
            payload,
        };
        prop_assert_eq!(hep::read(&out), wanted);
    }
}

fn written(payload: &[u8]) -> Option<Vec<u8>> {
    let packet = Packet {
        from: SocketAddr::from(([192, 0, 2, 1], 5060)),
        to: SocketAddr::from(([192, 0, 2, 2], 5062)),
        time: Duration::ZERO,
        agent: 7,
        key: None,
        correlation: b"a84b4c76e66710@pc33",
        payload,
    };
    let mut out = Vec::new();
    packet.write(&mut out).then_some(out)
}

/// The length of a packet has 16 bits.
#[test]
fn the_longest_packet_is_written_and_no_longer_one() {
    let head = written(b"").expect("a packet").len();
    let longest = vec![b'x'; usize::from(u16::MAX) - head];
    let packet = written(&longest).expect("a packet");
    assert_eq!(hep::read(&packet).payload, longest);
    assert_eq!(written(&[&longest[..], b"x"].concat()), None);
    assert_eq!(written(&vec![b'x'; 100_000]), None);
}

/// Octet by octet, from the definition.
#[test]
fn a_packet_is_what_the_definition_says() {
    let packet = Packet {
        from: SocketAddr::from(([192, 0, 2, 1], 5060)),
        to: SocketAddr::from(([198, 51, 100, 2], 5062)),
        time: Duration::from_micros(1_700_000_000_000_042),
        agent: 2001,
        key: Some("myHep"),
        correlation: b"id@host",
        payload: b"OPTIONS",
    };
    let mut out = Vec::new();
    assert!(packet.write(&mut out));
    let wanted: [&[u8]; 14] = [
        b"HEP3\x00\x82",
        b"\0\0\0\x01\0\x07\x02",
        b"\0\0\0\x03\0\x0a\xc0\x00\x02\x01",
        b"\0\0\0\x04\0\x0a\xc6\x33\x64\x02",
        b"\0\0\0\x02\0\x07\x11",
        b"\0\0\0\x07\0\x08\x13\xc4",
        b"\0\0\0\x08\0\x08\x13\xc6",
        b"\0\0\0\x09\0\x0a\x65\x53\xf1\x00",
        b"\0\0\0\x0a\0\x0a\0\0\0\x2a",
        b"\0\0\0\x0b\0\x07\x01",
        b"\0\0\0\x0c\0\x0a\0\0\x07\xd1",
        b"\0\0\0\x0e\0\x0bmyHep",
        b"\0\0\0\x11\0\x0did@host",
        b"\0\0\0\x0f\0\x0dOPTIONS",
    ];
    assert_eq!(
        out.escape_ascii().to_string(),
        wanted.concat().escape_ascii().to_string()
    );
}
