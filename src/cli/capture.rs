//! Captures, pcap and pcapng: the UDP datagrams in them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::Path;

use etherparse::defrag::IpDefragPool;
use etherparse::{EtherType, NetSlice, SlicedPacket, TransportSlice, UdpSlice, ip_number};
use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};
use serde::Serialize;

/// Octets of a capture that are read at once.
const BUFFER: usize = 1 << 20;
/// The longest packet of pcap and the longest block of pcapng that are believed.
const LONGEST_PACKET: usize = 256 << 10;
const LONGEST_BLOCK: usize = 16 << 20;
/// How a section of pcapng begins, whatever its byte order.
const SECTION: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// A datagram whose fragments lie further apart than this many others, or twice as
/// many, is given up, so that no capture makes us keep more than 64 MiB of them.
const FRAGMENTS_KEPT: u64 = 512;

/// An UDP datagram of a capture.
pub(super) struct Captured<'a> {
    /// Microseconds since the first packet; below 0 where the capture is out
    /// of order.
    pub(super) at: i64,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) payload: &'a [u8],
}

/// What else was in a capture.
#[derive(Debug, Default, Serialize)]
pub(super) struct Leavings {
    /// Packets in all.
    pub(super) packets: u64,
    /// Packets that hold no UDP over IP.
    pub(super) not_udp: u64,
    /// Packets that were captured in part (a snap length).
    pub(super) cut_short: u64,
    /// Packets that break the grammar of Ethernet, IP or UDP.
    pub(super) malformed: u64,
    /// Packets by link type that is not read.
    pub(super) other_link_types: BTreeMap<i32, u64>,
    /// Packets in blocks that pcapng has long given up, which are not read.
    pub(super) obsolete_blocks: u64,
    /// IP fragments.
    pub(super) fragments: u64,
    /// Datagrams put together from them.
    pub(super) rejoined: u64,
    /// Datagrams of which fragments are missing.
    pub(super) fragments_missing: u64,
    /// Whether the file ends in the middle of a packet.
    pub(super) ends_early: bool,
    /// Where it is damaged, and how to mend that; nothing behind it was read.
    pub(super) damaged: Option<String>,
}

/// Calls `each` with every UDP datagram of the capture at `path`, or of standard
/// input where that is `-`.
///
/// # Errors
/// A file that is no capture, and those of `each`.
pub(super) fn read(
    path: &Path,
    each: &mut dyn FnMut(Captured<'_>) -> io::Result<()>,
) -> io::Result<Leavings> {
    let file = match path == Path::new("-") {
        true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    let file = file.map_err(|error| {
        io::Error::other(format!(
            "{}: {error}\n  help: give a capture of UDP, pcap or pcapng; `-` reads stdin",
            path.display()
        ))
    })?;
    let length = file.metadata()?.len();
    let mut reader = create_reader(BUFFER, file).map_err(|error| refused(path, &error))?;
    // On a terminal that shows nothing else.
    let watched = length > 0 && io::stderr().is_terminal() && !io::stdout().is_terminal();
    let mut packets = Packets::default();
    let start: Vec<u8> = reader.data().iter().take(8).copied().collect();
    loop {
        let step = match packets.nonsense(reader.data(), &start) {
            Some(what) => Err(what),
            None => match reader.next() {
                Ok((used, block)) => {
                    packets.block(block, each)?;
                    Ok(used)
                }
                Err(PcapError::Eof) => break,
                Err(PcapError::UnexpectedEof) => {
                    packets.leavings.ends_early = true;
                    break;
                }
                Err(PcapError::Incomplete(_) | PcapError::BufferTooSmall) => {
                    if watched {
                        let percent = reader.consumed() as u64 * 100 / length;
                        write!(io::stderr(), "\r{}: {percent} % read", path.display())?;
                    }
                    fill(&mut *reader).map(|()| 0)
                }
                Err(_) => Err("what is there is no block"),
            },
        };
        match step {
            Ok(used) => reader.consume(used),
            Err(what) => {
                packets.leavings.damaged = Some(damage(path, &*reader, what));
                break;
            }
        }
    }
    if watched {
        write!(io::stderr(), "\r\x1b[K")?;
    }
    Ok(packets.finish())
}

/// Reads on, into a larger buffer where the present one is full.
fn fill(reader: &mut dyn PcapReaderIterator) -> Result<(), &'static str> {
    let before = reader.data().len();
    reader.refill().map_err(|_| "it cannot be read")?;
    if reader.data().len() == before && !reader.reader_exhausted() {
        // It is full, and nothing but its size keeps it from taking more.
        let larger = 2 * before;
        if larger > LONGEST_BLOCK || !reader.grow(larger) {
            return Err(TOO_LONG);
        }
    }
    Ok(())
}

const TOO_LONG: &str = "what is there is longer than any packet";

fn refused(path: &Path, error: &PcapError<&[u8]>) -> io::Error {
    let path = path.display();
    io::Error::other(match error {
        PcapError::Eof => format!(
            "{path}: the file is empty\n  help: let dumpcap or tcpdump end by itself or by Ctrl-C; \
             they write the last packets only when they end"
        ),
        PcapError::ReadError => format!("{path}: it cannot be read\n  help: give a file"),
        _ => format!(
            "{path}: neither pcap nor pcapng\n  help: unpack a compressed capture first; `editcap \
             -F pcapng {path} new.pcapng` of Wireshark converts other formats"
        ),
    })
}

fn damage(path: &Path, reader: &dyn PcapReaderIterator, what: &str) -> String {
    let (path, at) = (path.display(), reader.consumed());
    format!(
        "{path}: damaged at octet {at}: {what}\n  help: `editcap {path} new.pcapng` of Wireshark \
         keeps what can be read"
    )
}

/// A packet as the capture has it.
struct Packet<'a> {
    /// Microseconds since 1970.
    time: i64,
    link: Linktype,
    data: &'a [u8],
    /// Octets it had on the wire.
    length: u32,
}

/// Where a packet or block of a capture says how long it is.
struct Lengths {
    at: usize,
    /// The longest that is believed.
    most: usize,
    big_endian: bool,
}

/// One interface of a capture.
struct Interface {
    link: Linktype,
    /// Time stamps in a second.
    resolution: u64,
    /// Seconds to add to them.
    offset: i64,
}

#[derive(Default)]
struct Packets {
    lengths: Option<Lengths>,
    interfaces: Vec<Interface>,
    /// When the first packet came.
    start: Option<i64>,
    /// Its time stamps count fragments.
    fragments: IpDefragPool<u64>,
    leavings: Leavings,
}

impl Packets {
    /// Why `data`, where the next packet or block is, cannot be one: else a file with
    /// a damaged length would seem to end early. `start` is the start of the file.
    fn nonsense(&self, data: &[u8], start: &[u8]) -> Option<&'static str> {
        let lengths = self.lengths.as_ref()?;
        // Sections of pcapng may follow each other, in another byte order, too.
        if data.starts_with(&SECTION) {
            return None;
        }
        if data.starts_with(start) {
            return Some("another capture begins there (`mergecap` of Wireshark joins captures)");
        }
        let length = *data.get(lengths.at..)?.first_chunk()?;
        let length = match lengths.big_endian {
            true => u32::from_be_bytes(length),
            false => u32::from_le_bytes(length),
        };
        (length as usize > lengths.most).then_some(TOO_LONG)
    }

    fn block(
        &mut self,
        block: PcapBlockOwned<'_>,
        each: &mut dyn FnMut(Captured<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.lengths = Some(Lengths {
                    at: 8,
                    most: LONGEST_PACKET,
                    big_endian: header.is_bigendian(),
                });
                self.interfaces.push(Interface {
                    // The bits above say how long the frame check sequence is.
                    link: Linktype(header.network.0 & 0xffff),
                    resolution: match header.is_nanosecond_precision() {
                        true => 1_000_000_000,
                        false => 1_000_000,
                    },
                    offset: 0,
                });
            }
            PcapBlockOwned::NG(Block::SectionHeader(header)) => {
                self.lengths = Some(Lengths {
                    at: 4,
                    most: LONGEST_BLOCK,
                    big_endian: header.big_endian(),
                });
                self.interfaces.clear();
            }
            PcapBlockOwned::NG(Block::InterfaceDescription(each)) => {
                self.interfaces.push(Interface {
                    link: each.linktype,
                    resolution: resolution(each.if_tsresol),
                    offset: each.if_tsoffset,
                });
            }
            PcapBlockOwned::Legacy(block) => {
                let packet = self.interfaces.first().map(|interface| Packet {
                    time: interface.micros(block.ts_sec.into(), block.ts_usec.into()),
                    link: interface.link,
                    data: block.data,
                    length: block.origlen,
                });
                self.packet(packet, each)?;
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(block)) => {
                let interface = self.interfaces.get(block.if_id as usize);
                let packet = interface.map(|interface| {
                    let time = u64::from(block.ts_high) << 32 | u64::from(block.ts_low);
                    let (seconds, rest) =
                        (time / interface.resolution, time % interface.resolution);
                    Packet {
                        time: interface.micros(seconds, rest),
                        link: interface.link,
                        data: block.packet_data(),
                        length: block.origlen,
                    }
                });
                self.packet(packet, each)?;
            }
            PcapBlockOwned::NG(Block::SimplePacket(block)) => {
                let packet = self.interfaces.first().map(|interface| Packet {
                    time: 0,
                    link: interface.link,
                    data: block.packet_data(),
                    length: block.origlen,
                });
                self.packet(packet, each)?;
            }
            PcapBlockOwned::NG(Block::Unknown(block)) if is_obsolete(block.block_type) => {
                self.leavings.packets += 1;
                self.leavings.obsolete_blocks += 1;
            }
            // Names, statistics, comments.
            PcapBlockOwned::NG(_) => {}
        }
        Ok(())
    }

    /// `None`: a packet of an interface that the capture does not describe.
    fn packet(
        &mut self,
        packet: Option<Packet<'_>>,
        each: &mut dyn FnMut(Captured<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        self.leavings.packets += 1;
        let Some(packet) = packet else {
            self.leavings.malformed += 1;
            return Ok(());
        };
        let start = *self.start.get_or_insert(packet.time);
        let at = packet.time.saturating_sub(start);
        let sliced = match slice(packet.link, packet.data) {
            Some(Ok(sliced)) => sliced,
            Some(Err(_)) if (packet.data.len() as u64) < u64::from(packet.length) => {
                self.leavings.cut_short += 1;
                return Ok(());
            }
            Some(Err(_)) => {
                self.leavings.malformed += 1;
                return Ok(());
            }
            None => {
                *self
                    .leavings
                    .other_link_types
                    .entry(packet.link.0)
                    .or_default() += 1;
                return Ok(());
            }
        };
        let Some((source, destination)) = addresses(&sliced) else {
            self.leavings.not_udp += 1;
            return Ok(());
        };
        let mut pass = |udp: &UdpSlice<'_>| {
            each(Captured {
                at,
                source: SocketAddr::new(source, udp.source_port()),
                destination: SocketAddr::new(destination, udp.destination_port()),
                payload: udp.payload(),
            })
        };
        match &sliced.transport {
            Some(TransportSlice::Udp(udp)) => pass(udp),
            None if sliced.is_ip_payload_fragmented() => {
                let whole = self.rejoin(&sliced);
                let udp = whole.as_deref().map(UdpSlice::from_slice);
                match udp {
                    Some(Ok(udp)) => pass(&udp),
                    Some(Err(_)) => {
                        self.leavings.malformed += 1;
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            _ => {
                self.leavings.not_udp += 1;
                Ok(())
            }
        }
    }

    /// Takes in a fragment; the payload of IP where it was the last one of a
    /// datagram.
    fn rejoin(&mut self, fragment: &SlicedPacket<'_>) -> Option<Vec<u8>> {
        self.leavings.fragments += 1;
        let number = self.leavings.fragments;
        if number.is_multiple_of(FRAGMENTS_KEPT) {
            self.give_up(number - FRAGMENTS_KEPT);
        }
        let whole = self
            .fragments
            .process_sliced_packet(fragment, number, ())
            .ok()??;
        self.leavings.rejoined += 1;
        (whole.ip_number == ip_number::UDP).then_some(whole.payload)
    }

    /// Forgets the datagrams that got no fragment since the one of `number`.
    fn give_up(&mut self, number: u64) {
        // It may ask for one more than once.
        let gone = RefCell::new(BTreeSet::new());
        self.fragments.retain(|last| {
            let keep = *last > number;
            if !keep {
                gone.borrow_mut().insert(*last);
            }
            keep
        });
        self.leavings.fragments_missing += gone.borrow().len() as u64;
    }

    fn finish(mut self) -> Leavings {
        self.give_up(u64::MAX);
        self.leavings
    }
}

/// Whether a block is pcapng's first kind of packet, in either byte order.
fn is_obsolete(block_type: u32) -> bool {
    [2, 2_u32.swap_bytes()].contains(&block_type)
}

/// Time stamps in a second, by the option that says so: a power of ten, or of
/// two where its highest bit is set, which the parser takes for a part of the
/// number.
fn resolution(option: u8) -> u64 {
    let (base, exponent) = match option & 0x80 {
        0 => (10_u64, option),
        _ => (2, option & 0x7f),
    };
    base.checked_pow(exponent.into()).unwrap_or(1_000_000)
}

impl Interface {
    fn micros(&self, seconds: u64, rest: u64) -> i64 {
        let whole = self.offset.saturating_add_unsigned(seconds);
        let rest = u128::from(rest) * 1_000_000 / u128::from(self.resolution);
        whole.saturating_mul(1_000_000).saturating_add(rest as i64)
    }
}

/// Reads the headers of a packet; `None` where its link type is not known.
fn slice(
    link: Linktype,
    data: &[u8],
) -> Option<Result<SlicedPacket<'_>, etherparse::err::packet::SliceError>> {
    let behind = |octets: usize| data.get(octets..).unwrap_or_default();
    let ether_type = |at: usize| match data.get(at..at + 2) {
        Some(&[high, low]) => EtherType(u16::from_be_bytes([high, low])),
        _ => EtherType(0),
    };
    Some(match link {
        Linktype::ETHERNET => SlicedPacket::from_ethernet(data),
        // The family in front has the byte order of who knows which machine,
        // and other numbers on each; IP says its version itself.
        Linktype::NULL | Linktype::LOOP => SlicedPacket::from_ip(behind(4)),
        // 12 and 14 are what some systems write for RAW.
        Linktype::RAW | Linktype::IPV4 | Linktype::IPV6 | Linktype(12 | 14) => {
            SlicedPacket::from_ip(data)
        }
        Linktype::LINUX_SLL => SlicedPacket::from_ether_type(ether_type(14), behind(16)),
        Linktype::LINUX_SLL2 => SlicedPacket::from_ether_type(ether_type(0), behind(20)),
        _ => return None,
    })
}

fn addresses(packet: &SlicedPacket<'_>) -> Option<(IpAddr, IpAddr)> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
            ))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header();
            Some((
                header.source_addr().into(),
                header.destination_addr().into(),
            ))
        }
        NetSlice::Arp(_) => None,
    }
}
