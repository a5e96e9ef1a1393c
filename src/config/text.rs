//! The small texts of a configuration: addresses, networks, sizes and names.
//!
//! Each function takes what one value of the file or one flag holds. Hosts
//! are address literals, but what is advertised may be a name. IPv4-mapped IPv6
//! addresses become the IPv4 addresses they stand for, so that one destination
//! has one address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net};

use super::HostPort;
use super::diagnostic::Fault;
pub use super::member::{destination, destination_address, member};
pub use super::methods::{method, stateful_method};
pub use super::names::{Choice, choice, hash_key, hash_key_name, name, names};
pub use super::operation::text::{
    ADMIN_PORT, admin_listen, collector, interval, quiet, sample, sample_name, timeout,
};
pub use super::stateful::text::{accounting_target, failure, time, time_name, time_or_none, timer};
use crate::sip::DEFAULT_PORT;

/// The port of DNS (RFC 1035 §4.2).
pub(crate) const DNS_PORT: u16 = 53;
/// Bounds of a destination's weight.
pub(super) const WEIGHTS: RangeInclusive<u32> = 1..=1_000_000;
/// What to give for a weight. Disabled, a destination would lose its calls.
pub(super) const WEIGHT_HELP: &str = "give 1 to 1000000; for no new calls, state=draining";
/// Bounds of a socket buffer, in octets.
pub const BUFFERS: RangeInclusive<u64> = 4096..=1 << 30;
/// How many are named to whoever asks for one that is not there.
const NAMED: usize = 10;

/// Reads `host` or `host:port`; the port is 5060 unless given.
pub fn address(text: &str) -> Result<SocketAddr, Fault> {
    address_or_port(text, DEFAULT_PORT)
}

/// The same with another `port` where none is given.
pub(super) fn address_or_port(text: &str, port: u16) -> Result<SocketAddr, Fault> {
    let (host, given) = host_port(text)?;
    Ok(SocketAddr::new(ip_literal(host)?, given.unwrap_or(port)))
}

/// The same for an address that datagrams are sent to: that of `whom`.
pub(super) fn peer(text: &str, port: u16, whom: &str) -> Result<SocketAddr, Fault> {
    let address = address_or_port(text, port)?;
    if !is_one_host(address.ip()) || address.port() == 0 {
        return Err(Fault::new(format!("`{text}` cannot be {whom}"))
            .why("nothing can be sent to it")
            .help(format!("give the address of {whom}")));
    }
    Ok(address)
}

/// Reads the address of a name server; the port is 53 unless given.
pub fn resolver(text: &str) -> Result<SocketAddr, Fault> {
    peer(text, DNS_PORT, "a name server")
}

/// Reads the address of a listener; port 0 takes any free one.
pub fn listen_address(text: &str) -> Result<SocketAddr, Fault> {
    let address = address(text).map_err(|fault| no_scheme(text).unwrap_or(fault))?;
    if address.ip().is_multicast() {
        return Err(Fault::new(format!("`{text}` is a multicast address"))
            .why("a listener takes requests that are meant for it alone")
            .help("give a unicast address of this machine"));
    }
    if matches!(address.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(Fault::new(format!("`{text}` is a link-local address"))
            .why("it says nothing without an interface, and a Via has no place for one")
            .help("give a global or unique local address of this machine"));
    }
    Ok(address)
}

/// What is wrong with an address behind a scheme; the log and `check` write
/// `udp:` before it.
fn no_scheme(text: &str) -> Option<Fault> {
    let (scheme, address) = text.split_once(':')?;
    match scheme.to_ascii_lowercase().as_str() {
        "udp" | "sip" => Some(
            Fault::new(format!("`{scheme}:` is no part of an address"))
                .help(format!("leave out `{scheme}:`: {address}")),
        ),
        "tcp" | "tls" | "ws" | "wss" | "sips" => Some(
            Fault::new(format!("`{scheme}:` is not supported"))
                .why("Viaduct speaks SIP over UDP alone")
                .help(format!("for UDP give {address}")),
        ),
        _ => None,
    }
}

/// Whether a datagram to `ip` is for one host, and can be sent: not so to an
/// unspecified, multicast or broadcast address, nor to a link-local one of
/// IPv6, which says nothing without an interface.
#[inline]
#[must_use]
pub fn is_one_host(ip: IpAddr) -> bool {
    let none = match ip {
        IpAddr::V4(ip) => ip.is_broadcast() || ip.octets()[0] == 0,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_unicast_link_local(),
    };
    !none && !ip.is_multicast()
}

/// Reads `host` or `host:port` of what a Via is to say as sent-by.
pub fn advertise(text: &str) -> Result<HostPort, Fault> {
    let (host, port) = host_port(text).map_err(|fault| no_scheme(text).unwrap_or(fault))?;
    if port == Some(0) {
        return Err(Fault::new("port 0 cannot be advertised").why("no response can be sent to it"));
    }
    let host = match ip_literal(host) {
        Ok(ip) if !is_one_host(ip) => {
            return Err(Fault::new(format!("`{host}` cannot be advertised"))
                .why("no response can be sent to it")
                .help("give the address that the other side sees"));
        }
        Ok(ip) => uri_host(ip),
        Err(_) if is_host_name(host) => host.to_owned(),
        Err(_) => {
            return Err(Fault::new(format!(
                "`{host}` is neither a host name nor an address"
            )));
        }
    };
    Ok(HostPort { host, port })
}

/// An address as the host of a URI: that of IPv6 stands in brackets.
#[must_use]
pub fn uri_host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; the host stays unread.
pub(super) fn host_port(text: &str) -> Result<(&str, Option<u16>), Fault> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(
            Fault::new(format!("`{text}` is an IPv6 address without brackets"))
                .why("its end could be a port")
                .help(format!("write `[{text}]`, or `[{text}]:5060` with a port")),
        );
    }
    if text.contains(':') && text.contains('%') {
        return Err(Fault::new(format!("`{text}` names an interface"))
            .why("link-local addresses are not supported")
            .help("give a global or unique local address"));
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    if text.starts_with('[') && bracketed.is_none() {
        return Err(Fault::new(format!("the bracket of `{text}` is not closed"))
            .help("write `[address]` or `[address]:port`"));
    }
    let (host, port) = match bracketed {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(""))),
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err(Fault::new("there is no address").help("write `host:port`"));
    }
    if bracketed.is_some() && host.parse::<Ipv6Addr>().is_err() {
        return Err(Fault::new(format!("`{host}` is not an IPv6 address"))
            .why("brackets are for IPv6 addresses alone"));
    }
    Ok((host, port.map(port_number).transpose()?))
}

fn port_number(text: &str) -> Result<u16, Fault> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| digits);
    port.ok_or_else(|| Fault::new(format!("`{text}` is not a port")).help("give 1 to 65535"))
}

pub(super) fn ip_literal(host: &str) -> Result<IpAddr, Fault> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ip.to_canonical());
    }
    Err(if is_host_name(host) {
        Fault::new(format!("`{host}` is a name, not an address"))
            .why("only an address can stand here")
            .help("give an IPv4 address, or an IPv6 address in brackets")
    } else {
        Fault::new(format!("`{host}` is not an address"))
            .help("give an IPv4 address, or an IPv6 address in brackets")
    })
}

/// Whether this is a host name (RFC 3261 §25.1, `hostname`) of a length that
/// DNS allows (RFC 1035 §2.3.4): the last label begins with a letter, so that
/// no broken IPv4 address passes.
pub(super) fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let octets = label.bytes();
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && octets
                .into_iter()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    let top = labels.rsplit('.').next().unwrap_or_default();
    labels.len() <= 253
        && labels.split('.').all(label)
        && top.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// What a terminal may be sent, character for character.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |c: char| match c {
        '\t' => ' ',
        c if c.is_control() => char::REPLACEMENT_CHARACTER,
        // They break a line, or change the order in which it is shown.
        '\u{61c}' | '\u{200e}' | '\u{200f}' => char::REPLACEMENT_CHARACTER,
        '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => char::REPLACEMENT_CHARACTER,
        c => c,
    };
    text.chars().map(plain).collect()
}

/// Names the first of what there is, in place of what is not there.
pub fn first_few<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let mut all = all.into_iter().map(|each| each.to_string());
    let mut named: Vec<_> = all.by_ref().take(NAMED).collect();
    named.extend(all.next().map(|_| "…".to_owned()));
    named.join(", ")
}

/// All of them, one behind the other.
pub fn joined<T: ToString>(all: impl IntoIterator<Item = T>) -> String {
    let all: Vec<_> = all.into_iter().map(|each| each.to_string()).collect();
    all.join(", ")
}

/// Reads a weight.
pub fn weight(text: &str) -> Result<u32, Fault> {
    let weight = text.parse().ok().filter(|weight| WEIGHTS.contains(weight));
    weight.ok_or_else(|| Fault::new(format!("`{text}` is not a weight")).help(WEIGHT_HELP))
}

/// Reads a priority.
pub(super) fn priority(text: &str) -> Result<i32, Fault> {
    let fault =
        |_| Fault::new(format!("`{text}` is not a priority")).help("give an integer of 32 bits");
    text.parse().map_err(fault)
}

/// Whether this is a token (RFC 3261 §25.1): a method, a header's name.
pub(super) fn is_token(text: &str) -> bool {
    let octet = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
    !text.is_empty() && text.bytes().all(octet)
}

/// Reads a size in octets: a number alone, or with KiB, MiB or GiB.
pub fn octets(text: &str) -> Result<usize, Fault> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        _ => 0,
    };
    let fault = Fault::new(format!("`{text}` is not a size"))
        .help("give octets from 4096 to 1GiB: a number alone, or with KiB, MiB or GiB");
    let size = number
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    let size = size.filter(|size| BUFFERS.contains(size)).ok_or(fault)?;
    Ok(usize::try_from(size).expect("invariant: 1 GiB fits"))
}

/// Reads a network in CIDR notation, or one address.
pub fn network(text: &str) -> Result<IpNet, Fault> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(ip.to_canonical()));
    }
    let net: IpNet = text.parse().map_err(|_| {
        Fault::new(format!("`{text}` is neither a network nor an address"))
            .help("write 198.51.100.0/24, 2001:db8::/32 or 192.0.2.1")
    })?;
    if net.trunc() != net {
        return Err(
            Fault::new(format!("`{text}` has bits set outside its prefix")).help(format!(
                "write `{}` for the network, `{}` for the address",
                net.trunc(),
                net.addr()
            )),
        );
    }
    Ok(match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => IpNet::V4(mapped_network(v4, v6.prefix_len() - 96)),
            None => net,
        },
        _ => net,
    })
}

fn mapped_network(address: Ipv4Addr, prefix: u8) -> Ipv4Net {
    Ipv4Net::new(address, prefix).expect("invariant: an IPv6 prefix less 96 is at most 32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HashKey, Policy};

    fn socket(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn addresses() {
        let good = [
            ("192.0.2.1", "192.0.2.1:5060"),
            ("192.0.2.1:0", "192.0.2.1:0"),
            ("192.0.2.1:65535", "192.0.2.1:65535"),
            ("[2001:DB8::1]", "[2001:db8::1]:5060"),
            ("[2001:db8::1]:5070", "[2001:db8::1]:5070"),
            ("[::ffff:192.0.2.1]:5070", "192.0.2.1:5070"),
        ];
        for (text, wanted) in good {
            assert_eq!(address(text), Ok(socket(wanted)), "{text}");
        }
        let bad = [
            "",
            ":",
            ":5060",
            "[]",
            "[]:5060",
            "[::1",
            "[::1]5060",
            "[10.0.0.1]",
            "[::1]5060x",
            "::1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.4:",
            "1.2.3.4:+5",
            "1.2.3.4:65536",
            "1.2.3.4:5060:1",
            "host",
            "[fe80::1%eth0]",
            " 1.2.3.4",
        ];
        for text in bad {
            assert!(address(text).is_err(), "{text}");
        }
        assert!(listen_address("224.0.0.1").is_err());
    }

    #[test]
    fn advertised_addresses() {
        for text in [
            "sip.example.com",
            "sip.example.com:5070",
            "192.0.2.1",
            "[2001:db8::1]:5060",
        ] {
            let read = advertise(text).map(|advertise| advertise.to_string());
            assert_eq!(read, Ok(text.to_owned()));
        }
        let mapped = advertise("[::ffff:192.0.2.1]").map(|advertise| advertise.host);
        assert_eq!(mapped, Ok("192.0.2.1".to_owned()));
        for text in [
            "",
            "a b",
            "-a",
            "a..b",
            "1.2.3",
            "a:0",
            "[a]",
            "[::]",
            "0.0.0.0",
            "2001:db8::1",
            "ä",
        ] {
            assert!(advertise(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_terminal_is_sent_what_leaves_its_lines_as_they_are() {
        let steering = ['\u{1b}', '\n', '\u{85}', '\u{61c}', '\u{200e}', '\u{200f}'].into_iter();
        let steering = steering.chain('\u{2028}'..='\u{202e}');
        for c in steering.chain('\u{2066}'..='\u{2069}') {
            assert_eq!(printable(&format!("a{c}b")), "a\u{fffd}b", "{c:?}");
        }
        let plain = "ä\u{2027}\u{202f}\u{2065}\u{206a}☎";
        assert_eq!(printable(&format!("\t{plain}")), format!(" {plain}"));
    }

    #[test]
    fn sizes() {
        assert_eq!(octets("4096"), Ok(4096));
        assert_eq!(octets("64k"), Ok(65_536));
        assert_eq!(octets("4 MiB"), Ok(4 << 20));
        assert_eq!(octets("1GiB"), Ok(1 << 30));
        for text in [
            "",
            "MiB",
            "-1",
            "4095",
            "2GiB",
            "4MB",
            "1.5MiB",
            "99999999999999999999",
            "18014398509481984KiB",
        ] {
            assert!(octets(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        let good = [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.0.0.1", "10.0.0.1/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ];
        for (text, wanted) in good {
            assert_eq!(
                network(text).map(|net| net.to_string()),
                Ok(wanted.to_owned())
            );
        }
        for text in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "[::1]", "any"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for written in names::<Policy>() {
            let read = choice::<Policy>(written);
            assert_eq!(read.map(|policy| name(&policy)), Ok(written));
        }
        for name in [
            "call-id",
            "from-uri",
            "to-uri",
            "request-uri",
            "from-user",
            "to-user",
            "request-user",
            "source",
            "header:x-id",
        ] {
            assert_eq!(
                hash_key(name).map(|key| hash_key_name(&key)),
                Ok(name.to_owned())
            );
        }
        assert_eq!(
            hash_key("header:X-Id"),
            Ok(HashKey::Header("x-id".to_owned()))
        );
        for (compact, long) in [("header:f", "from"), ("header:S", "subject")] {
            assert_eq!(hash_key(compact), Ok(HashKey::Header(long.to_owned())));
        }
        assert!(hash_key("header:").is_err());
    }
}
