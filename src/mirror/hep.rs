//! The packets of HEP, version 3 (the "HEP3/EEP" draft of sipcapture.org):
//! octets out of values, no more.
//!
//! A packet is `HEP3`, its whole length, and chunks: vendor (0), type, length
//! with these six octets, value. Numbers are big-endian.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What a packet begins with.
const MAGIC: &[u8; 4] = b"HEP3";
/// Octets of the magic and the length.
const HEAD: usize = 6;

/// Types of chunks that we write.
const FAMILY: u16 = 1;
const PROTOCOL: u16 = 2;
const SOURCE_V4: u16 = 3;
const DESTINATION_V4: u16 = 4;
const SOURCE_V6: u16 = 5;
const DESTINATION_V6: u16 = 6;
const SOURCE_PORT: u16 = 7;
const DESTINATION_PORT: u16 = 8;
const SECONDS: u16 = 9;
const MICROSECONDS: u16 = 10;
const PAYLOAD_TYPE: u16 = 11;
const AGENT: u16 = 12;
const KEY: u16 = 14;
const PAYLOAD: u16 = 15;
const CORRELATION: u16 = 17;

/// Values of FAMILY, PROTOCOL and PAYLOAD_TYPE.
const INET: u8 = 2;
const INET6: u8 = 10;
const UDP: u8 = 17;
const SIP: u8 = 1;

/// A SIP message that was seen on its way.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// Who gets it.
    pub to: SocketAddr,
    /// When, since 1970.
    pub time: Duration,
    /// Who has seen it.
    pub agent: u32,
    /// What the collector admits it by.
    pub key: Option<&'a str>,
    /// What all packets of a call have in common: the Call-ID. Empty where
    /// there is none.
    pub correlation: &'a [u8],
    /// The message.
    pub payload: &'a [u8],
}

impl Packet<'_> {
    /// Writes it into `out`, instead of what was there. False where it is
    /// longer than a packet can say, 65,535 octets.
    pub fn write(&self, out: &mut Vec<u8>) -> bool {
        out.clear();
        out.extend(MAGIC);
        out.extend([0; 2]);
        self.addresses(out);
        chunk(out, PROTOCOL, &[UDP]);
        chunk(out, SOURCE_PORT, &self.from.port().to_be_bytes());
        chunk(out, DESTINATION_PORT, &self.to.port().to_be_bytes());
        chunk(out, SECONDS, &(self.time.as_secs() as u32).to_be_bytes());
        chunk(out, MICROSECONDS, &self.time.subsec_micros().to_be_bytes());
        chunk(out, PAYLOAD_TYPE, &[SIP]);
        chunk(out, AGENT, &self.agent.to_be_bytes());
        if let Some(key) = self.key {
            chunk(out, KEY, key.as_bytes());
        }
        if !self.correlation.is_empty() {
            chunk(out, CORRELATION, self.correlation);
        }
        chunk(out, PAYLOAD, self.payload);
        // One that fits has only chunks that do.
        let length = u16::try_from(out.len());
        if let Ok(length) = length {
            out[MAGIC.len()..HEAD].copy_from_slice(&length.to_be_bytes());
        }
        length.is_ok()
    }

    fn addresses(&self, out: &mut Vec<u8>) {
        if let (IpAddr::V4(from), IpAddr::V4(to)) = (self.from.ip(), self.to.ip()) {
            chunk(out, FAMILY, &[INET]);
            chunk(out, SOURCE_V4, &from.octets());
            chunk(out, DESTINATION_V4, &to.octets());
            return;
        }
        let octets = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        };
        chunk(out, FAMILY, &[INET6]);
        chunk(out, SOURCE_V6, &octets(self.from));
        chunk(out, DESTINATION_V6, &octets(self.to));
    }
}

fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (HEAD + value.len()) as u16;
    out.extend([0; 2]);
    out.extend(kind.to_be_bytes());
    out.extend(length.to_be_bytes());
    out.extend(value);
}
