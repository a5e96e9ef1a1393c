//! A plain reader of HEP, version 3, that knows nothing of the writer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a packet says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hep {
    pub from: SocketAddr,
    pub to: SocketAddr,
    /// IP protocol.
    pub protocol: u8,
    pub seconds: u32,
    pub microseconds: u32,
    /// Of the payload; 1 is SIP.
    pub kind: u8,
    pub agent: u32,
    pub key: Option<Vec<u8>>,
    pub correlation: Option<Vec<u8>>,
    pub payload: Vec<u8>,
}

fn number<const N: usize>(octets: &[u8], at: usize) -> [u8; N] {
    octets[at..at + N].try_into().expect("so many octets")
}

/// Reads a packet; panics where it is malformed, or has a chunk that is not
/// asked for here.
#[track_caller]
pub fn read(packet: &[u8]) -> Hep {
    assert_eq!(&packet[..4], b"HEP3");
    let whole = u16::from_be_bytes(number(packet, 4));
    assert_eq!(usize::from(whole), packet.len(), "the length of all");
    let mut chunks = BTreeMap::new();
    let mut at = 6;
    while at < packet.len() {
        let vendor = u16::from_be_bytes(number(packet, at));
        let kind = u16::from_be_bytes(number(packet, at + 2));
        let length = usize::from(u16::from_be_bytes(number(packet, at + 4)));
        assert_eq!(vendor, 0, "chunk {kind}");
        assert!(length >= 6 && at + length <= packet.len(), "chunk {kind}");
        let value = packet[at + 6..at + length].to_vec();
        assert_eq!(chunks.insert(kind, value), None, "chunk {kind} twice");
        at += length;
    }
    let mut take = |kind: u16| chunks.remove(&kind);
    let family = take(1).expect("a family");
    let mut ip = |v4: u16, v6: u16| -> IpAddr {
        match family[..] {
            [2] => Ipv4Addr::from(number::<4>(&take(v4).expect("an address"), 0)).into(),
            [10] => Ipv6Addr::from(number::<16>(&take(v6).expect("an address"), 0)).into(),
            _ => panic!("family {family:?}"),
        }
    };
    let (from, to) = (ip(3, 5), ip(4, 6));
    let mut port = || u16::from_be_bytes(number(&take(7).expect("a port"), 0));
    let from = SocketAddr::new(from, port());
    let to_port = u16::from_be_bytes(number(&take(8).expect("a port"), 0));
    let mut long = |kind| u32::from_be_bytes(number(&take(kind).expect("a number"), 0));
    let (seconds, microseconds, agent) = (long(9), long(10), long(12));
    let mut short = |kind| number::<1>(&take(kind).expect("a number"), 0)[0];
    let (protocol, kind) = (short(2), short(11));
    let hep = Hep {
        from,
        to: SocketAddr::new(to, to_port),
        protocol,
        seconds,
        microseconds,
        kind,
        agent,
        key: take(14),
        correlation: take(17),
        payload: take(15).expect("a payload"),
    };
    assert!(chunks.is_empty(), "more chunks: {:?}", chunks.keys());
    hep
}
