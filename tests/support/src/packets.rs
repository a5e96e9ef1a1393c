//! Captures written octet by octet: pcap and pcapng, link types, fragments.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// A datagram, microseconds after the start of the capture.
#[derive(Clone, Debug)]
pub struct Sent {
    pub at: u64,
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub payload: Vec<u8>,
}

/// The formats of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Micros,
    MicrosBigEndian,
    Nanos,
    /// With the length of the frame check sequence beside the link type.
    Checked,
    Next,
    /// With time stamps in a power of two.
    NextBinary,
}

/// The headers below IP.
#[derive(Clone, Copy, Debug)]
pub enum Link {
    Ethernet,
    Vlan,
    TwoVlans,
    Cooked,
    Cooked2,
    Raw,
    Null,
    NullBigEndian,
}

pub const FORMATS: [Format; 6] = [
    Format::Micros,
    Format::MicrosBigEndian,
    Format::Nanos,
    Format::Checked,
    Format::Next,
    Format::NextBinary,
];

pub const LINKS: [Link; 8] = [
    Link::Ethernet,
    Link::Vlan,
    Link::TwoVlans,
    Link::Cooked,
    Link::Cooked2,
    Link::Raw,
    Link::Null,
    Link::NullBigEndian,
];

/// The binary digits of a second's fraction in time stamps of that kind.
const BINARY: u8 = 30;

/// Seconds since 1970 at the start of each capture.
const START: u64 = 1_700_000_000;

impl Sent {
    /// UDP in one IP packet.
    pub fn packet(&self) -> Vec<u8> {
        ip(self.source.ip(), self.destination.ip(), &self.udp(), None)
    }

    /// The same in fragments of `size` octets of payload, a multiple of 8.
    pub fn fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let udp = self.udp();
        let pieces: Vec<_> = udp.chunks(size).collect();
        let last = pieces.len() - 1;
        let pieces = pieces.iter().enumerate();
        pieces
            .map(|(i, piece)| {
                let place = (i * size, i < last);
                ip(self.source.ip(), self.destination.ip(), piece, Some(place))
            })
            .collect()
    }

    fn udp(&self) -> Vec<u8> {
        let length = 8 + self.payload.len() as u16;
        let mut udp = Vec::new();
        for field in [self.source.port(), self.destination.port(), length, 0] {
            udp.extend(field.to_be_bytes());
        }
        udp.extend(&self.payload);
        udp
    }
}

/// `fragment`: where the payload begins, and whether more follows.
fn ip(from: IpAddr, to: IpAddr, payload: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
    let (offset, more) = fragment.unwrap_or((0, false));
    let mut packet = Vec::new();
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + payload.len() as u16).to_be_bytes());
            packet.extend([0, 7]);
            let place = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
            packet.extend(place.to_be_bytes());
            packet.extend([64, 17, 0, 0]);
            packet.extend(from.octets());
            packet.extend(to.octets());
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let extra = if fragment.is_some() { 8 } else { 0 };
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((payload.len() as u16 + extra).to_be_bytes());
            packet.extend([if fragment.is_some() { 44 } else { 17 }, 64]);
            packet.extend(from.octets());
            packet.extend(to.octets());
            if fragment.is_some() {
                let place = offset as u16 | u16::from(more);
                packet.extend([17, 0]);
                packet.extend(place.to_be_bytes());
                packet.extend([0, 0, 0, 7]);
            }
        }
        _ => panic!("{from} and {to} are of two families"),
    }
    packet.extend(payload);
    packet
}

impl Link {
    fn number(self) -> u16 {
        match self {
            Self::Ethernet | Self::Vlan | Self::TwoVlans => 1,
            Self::Cooked => 113,
            Self::Cooked2 => 276,
            Self::Raw => 101,
            Self::Null | Self::NullBigEndian => 0,
        }
    }

    fn wrap(self, packet: &[u8]) -> Vec<u8> {
        let v4 = packet[0] >> 4 == 4;
        let ether_type: [u8; 2] = if v4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        let family: u32 = if v4 { 2 } else { 30 };
        let mut frame = match self {
            Self::Ethernet => [&[2; 12][..], &ether_type].concat(),
            Self::Vlan => [&[2; 12][..], &[0x81, 0, 0, 5], &ether_type].concat(),
            Self::TwoVlans => {
                let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6];
                [&[2; 12][..], &tags, &ether_type].concat()
            }
            Self::Cooked => [&[0, 0, 0, 1, 0, 6][..], &[2; 8], &ether_type].concat(),
            Self::Cooked2 => {
                let rest = [0, 0, 0, 0, 0, 3, 0, 1, 0, 6];
                [&ether_type[..], &rest, &[2; 8]].concat()
            }
            Self::Raw => Vec::new(),
            Self::Null => family.to_le_bytes().to_vec(),
            Self::NullBigEndian => family.to_be_bytes().to_vec(),
        };
        frame.extend(packet);
        // Ethernet fills short frames up.
        if self.number() == 1 {
            frame.resize(frame.len().max(60), 0);
        }
        frame
    }
}

/// A capture in the making.
pub struct Writer {
    format: Format,
    link: Link,
    octets: Vec<u8>,
}

impl Writer {
    pub fn new(format: Format, link: Link) -> Self {
        let mut writer = Self {
            format,
            link,
            octets: Vec::new(),
        };
        match format {
            Format::Next | Format::NextBinary => {
                writer.block(0x0A0D_0D0A, &{
                    let mut body = 0x1A2B_3C4Du32.to_le_bytes().to_vec();
                    body.extend([1, 0, 0, 0]);
                    body.extend([0xff; 8]);
                    body
                });
                // The unit of time stamps (option 9), and the end of the options.
                let link = link.number().to_le_bytes();
                let unit = match format {
                    Format::Next => 9,
                    _ => 0x80 | BINARY,
                };
                let options = [9, 0, 1, 0, unit, 0, 0, 0, 0, 0, 0, 0];
                writer.block(1, &[&link[..], &[0, 0, 0, 0, 4, 0], &options].concat());
            }
            _ => {
                let magic = match format {
                    Format::Nanos => 0xA1B2_3C4D,
                    _ => 0xA1B2_C3D4,
                };
                writer.word(magic);
                let version = match format {
                    Format::MicrosBigEndian => [0, 2, 0, 4],
                    _ => [2, 0, 4, 0],
                };
                writer.octets.extend(version);
                let check = match format {
                    Format::Checked => 0x2400_0000,
                    _ => 0,
                };
                for word in [0, 0, 1 << 18, check | u32::from(link.number())] {
                    writer.word(word);
                }
            }
        }
        writer
    }

    /// All of `sent`, in the simplest format.
    pub fn of(sent: &[Sent]) -> Self {
        let mut writer = Self::new(Format::Micros, Link::Ethernet);
        for each in sent {
            writer.packet(each.at, &each.packet());
        }
        writer
    }

    /// Adds an IP packet.
    pub fn packet(&mut self, at: u64, packet: &[u8]) {
        let frame = self.link.wrap(packet);
        self.frame(at, &frame, frame.len());
    }

    /// Adds a frame that had `length` octets on the wire.
    pub fn frame(&mut self, at: u64, frame: &[u8], length: usize) {
        let (seconds, micros) = (START + at / 1_000_000, at % 1_000_000);
        let lengths = [frame.len() as u32, length as u32];
        if matches!(self.format, Format::Next | Format::NextBinary) {
            let time = match self.format {
                Format::Next => seconds * 1_000_000_000 + micros * 1000,
                // Rounded up, for readers cut off what is below a microsecond.
                _ => (seconds << BINARY) + (micros << BINARY).div_ceil(1_000_000),
            };
            let mut body = Vec::new();
            for word in [0, (time >> 32) as u32, time as u32] {
                body.extend(word.to_le_bytes());
            }
            body.extend(lengths.into_iter().flat_map(u32::to_le_bytes));
            body.extend(frame);
            body.resize(body.len().next_multiple_of(4), 0);
            self.block(6, &body);
            return;
        }
        let fraction = match self.format {
            Format::Nanos => micros * 1000,
            _ => micros,
        };
        for word in [seconds as u32, fraction as u32, lengths[0], lengths[1]] {
            self.word(word);
        }
        self.octets.extend(frame);
    }

    pub fn save(&self, path: &Path) {
        std::fs::write(path, &self.octets).expect("a capture");
    }

    pub fn block(&mut self, kind: u32, body: &[u8]) {
        let length = 12 + body.len() as u32;
        self.octets.extend(kind.to_le_bytes());
        self.octets.extend(length.to_le_bytes());
        self.octets.extend(body);
        self.octets.extend(length.to_le_bytes());
    }

    fn word(&mut self, word: u32) {
        self.octets.extend(match self.format {
            Format::MicrosBigEndian => word.to_be_bytes(),
            _ => word.to_le_bytes(),
        });
    }
}
