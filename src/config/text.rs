//! The small texts of a configuration: addresses, networks, sizes and names.
//!
//! Each function takes what one value of the file or one flag holds. Hosts
//! are address literals; names are not resolved. IPv4-mapped IPv6 addresses
//! become the IPv4 addresses they stand for, so that one destination has
//! one address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::diagnostic::Fault;
use super::merge::DEFAULT_COALESCE;
pub use super::methods::{method, stateful_method};
pub use super::names::{
    gso, gso_name, gso_names, hash_key, hash_key_name, policy, policy_name, policy_names, steer,
    steer_name,
};
pub(super) use super::names::{state, state_name};
pub use super::stateful::text::{accounting_target, failure, time, time_name, time_or_none, timer};
use super::{Advertise, Destination, Health, State, WAITS};

/// The port of SIP over UDP (RFC 3261 §18.1.1).
pub const DEFAULT_PORT: u16 = 5060;
/// The port of DNS (RFC 1035 §4.2).
const DNS_PORT: u16 = 53;
/// Bounds of a destination's weight.
pub const WEIGHTS: RangeInclusive<u32> = 1..=1_000_000;
/// Bounds of a socket buffer, in octets.
pub const BUFFERS: RangeInclusive<u64> = 4096..=1 << 30;

/// URI parameters that a destination may carry.
const PARAMETERS: [&str; 5] = ["weight", "priority", "state", "transport", "lr"];

/// Where to send, and what the URI's parameters say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DestinationText {
    pub(super) address: SocketAddr,
    pub(super) weight: Option<u32>,
    pub(super) priority: Option<i32>,
    pub(super) state: Option<State>,
}

/// Reads `host` or `host:port`; the port is 5060 unless given.
pub fn address(text: &str) -> Result<SocketAddr, Fault> {
    let (host, port) = host_port(text)?;
    Ok(SocketAddr::new(
        ip_literal(host)?,
        port.unwrap_or(DEFAULT_PORT),
    ))
}

/// Reads the address of a name server; the port is 53 unless given.
pub fn resolver(text: &str) -> Result<SocketAddr, Fault> {
    let (host, port) = host_port(text)?;
    let address = SocketAddr::new(ip_literal(host)?, port.unwrap_or(DNS_PORT));
    let ip = address.ip();
    if ip.is_unspecified() || ip.is_multicast() || address.port() == 0 {
        return Err(Fault::new(format!("`{text}` cannot be a name server"))
            .why("no query can be sent to it")
            .help("give the address of one name server"));
    }
    Ok(address)
}

/// Reads the address of a listener; port 0 takes any free one.
pub fn listen_address(text: &str) -> Result<SocketAddr, Fault> {
    let address = address(text)?;
    if address.ip().is_multicast() {
        return Err(Fault::new(format!("`{text}` is a multicast address"))
            .why("a listener takes requests that are meant for it alone")
            .help("give a unicast address of this machine"));
    }
    Ok(address)
}

/// Reads `host` or `host:port` of what a Via is to say as sent-by.
pub fn advertise(text: &str) -> Result<Advertise, Fault> {
    let (host, port) = host_port(text)?;
    if port == Some(0) {
        return Err(Fault::new("port 0 cannot be advertised").why("no response can be sent to it"));
    }
    let host = match ip_literal(host) {
        Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
            return Err(Fault::new(format!("`{host}` cannot be advertised"))
                .why("no response can be sent to it")
                .help("give the address that the other side sees"));
        }
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        Err(_) if is_host_name(host) => host.to_owned(),
        Err(_) => {
            return Err(Fault::new(format!(
                "`{host}` is neither a host name nor an address"
            )));
        }
    };
    Ok(Advertise { host, port })
}

/// Reads a destination given as `host`, `host:port` or a SIP URI.
pub fn destination(text: &str) -> Result<Destination, Fault> {
    let parsed = destination_text(text)?;
    Ok(Destination {
        uri: text.to_owned(),
        address: parsed.address,
        weight: parsed.weight.unwrap_or(1),
        priority: parsed.priority.unwrap_or(0),
        state: parsed.state.unwrap_or(State::Active),
        probe: None,
        health: Health::Up,
    })
}

/// As [`destination`], but tells what was written from what is assumed.
pub(super) fn destination_text(text: &str) -> Result<DestinationText, Fault> {
    let (address, parameters) = split_destination(text)?;
    let mut read = DestinationText {
        address,
        weight: None,
        priority: None,
        state: None,
    };
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_lowercase().as_str() {
            "weight" => once(name, &mut read.weight, weight(value)?)?,
            "priority" => once(name, &mut read.priority, priority(value)?)?,
            "state" => once(name, &mut read.state, state(value)?)?,
            "transport" => transport(value)?,
            "lr" => {}
            other => {
                return Err(Fault::new(format!("unknown parameter `{name}`"))
                    .suggest(other, &PARAMETERS)
                    .or_help(|| format!("known are: {}", PARAMETERS.join(", "))));
            }
        }
    }
    Ok(read)
}

/// Splits a destination into its address and its parameters, unread.
pub(super) fn split_destination(
    text: &str,
) -> Result<(SocketAddr, impl Iterator<Item = &str>), Fault> {
    let rest = strip_scheme(text)?;
    if rest.contains('?') {
        return Err(Fault::new("a destination has no headers").help("leave out what follows `?`"));
    }
    // The user part may hold `;` itself (RFC 3261 §25.1); what follows cannot hold `@`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_user, rest)| rest);
    let mut parts = rest.split(';');
    let (host, port) = host_port(parts.next().unwrap_or_default())?;
    let ip = ip_literal(host)?;
    if ip.is_unspecified() || ip.is_multicast() {
        return Err(Fault::new(format!("`{host}` cannot be a destination"))
            .why("it does not name one host")
            .help("give the address of one SIP server"));
    }
    let port = port.unwrap_or(DEFAULT_PORT);
    if port == 0 {
        return Err(Fault::new("port 0 cannot be a destination").help("leave it out for 5060"));
    }
    Ok((SocketAddr::new(ip, port), parts))
}

fn strip_scheme(text: &str) -> Result<&str, Fault> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Ok(text);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "sip" => Ok(rest),
        "sips" | "tls" => Err(no_transport("TLS")),
        "tcp" => Err(no_transport("TCP")),
        "udp" => Err(Fault::new("`udp:` is no URI scheme").help(format!("write `{rest}`"))),
        _ => Ok(text),
    }
}

/// Accepts the value of a `transport` parameter if it is `udp`.
pub(super) fn transport(value: &str) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case("udp") {
        Ok(())
    } else {
        Err(no_transport(&value.to_ascii_uppercase()))
    }
}

fn no_transport(name: &str) -> Fault {
    Fault::new(format!("destinations over {name} are not supported"))
        .why("Viaduct speaks SIP over UDP")
        .help("give the destination's UDP address as `host:port` or `sip:host:port`")
}

fn once<T>(name: &str, slot: &mut Option<T>, value: T) -> Result<(), Fault> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::new(format!("`{name}` is given twice"))),
    }
}

/// Splits `host`, `host:port`, `[v6]` or `[v6]:port`; the host stays unread.
fn host_port(text: &str) -> Result<(&str, Option<u16>), Fault> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(
            Fault::new(format!("`{text}` is an IPv6 address without brackets"))
                .why("its end could be a port")
                .help(format!("write `[{text}]`, or `[{text}]:5060` with a port")),
        );
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
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

fn ip_literal(host: &str) -> Result<IpAddr, Fault> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ip.to_canonical());
    }
    Err(if is_host_name(host) {
        Fault::new(format!("`{host}` is a name, not an address"))
            .why("names are not resolved")
            .help("give an IPv4 address, or an IPv6 address in brackets")
    } else {
        Fault::new(format!("`{host}` is not an address"))
            .help("give an IPv4 address, or an IPv6 address in brackets")
    })
}

/// Whether this is a host name (RFC 3261 §25.1, `hostname`): the last label
/// begins with a letter, so that no broken IPv4 address passes.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        let octets = label.bytes();
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && octets
                .into_iter()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    let top = labels.rsplit('.').next().unwrap_or_default();
    labels.split('.').all(label) && top.starts_with(|c: char| c.is_ascii_alphabetic())
}

/// Reads a weight.
pub(super) fn weight(text: &str) -> Result<u32, Fault> {
    let weight = text.parse().ok().filter(|weight| WEIGHTS.contains(weight));
    weight.ok_or_else(|| {
        Fault::new(format!("`{text}` is not a weight"))
            .help("give 1 to 1000000; for none, state=disabled")
    })
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

/// Reads how long datagrams may gather: microseconds, or `auto`.
pub fn coalesce(text: &str) -> Result<Duration, Fault> {
    if text == "auto" {
        return Ok(DEFAULT_COALESCE);
    }
    let wait = text.parse().ok().filter(|wait| WAITS.contains(wait));
    let fault = || Fault::new(format!("`{text}` is not a time to wait"));
    let help = "give microseconds from 0 to 10000, or auto";
    wait.map(Duration::from_micros)
        .ok_or_else(|| fault().help(help))
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
    use crate::config::HashKey;

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
    fn destinations() {
        let plain = |address: &str| DestinationText {
            address: socket(address),
            weight: None,
            priority: None,
            state: None,
        };
        let read = |text| destination_text(text);
        assert_eq!(read("10.0.0.1"), Ok(plain("10.0.0.1:5060")));
        assert_eq!(read("SIP:[::1]:5070"), Ok(plain("[::1]:5070")));
        assert_eq!(
            read("sip:bob;x=1:pw@10.0.0.1;lr;Transport=UDP"),
            Ok(plain("10.0.0.1:5060"))
        );
        let full = DestinationText {
            address: socket("10.0.0.1:5070"),
            weight: Some(1_000_000),
            priority: Some(-2),
            state: Some(State::Disabled),
        };
        assert_eq!(
            read("10.0.0.1:5070;WEIGHT=1000000;priority=-2;state=disabled"),
            Ok(full)
        );
        let bad = [
            "10.0.0.1;",
            "10.0.0.1;weight",
            "10.0.0.1;weight=0",
            "10.0.0.1;weight=1000001",
            "10.0.0.1;weight=1;weight=1",
            "10.0.0.1;state=up",
            "10.0.0.1;priority=x",
            "10.0.0.1?subject=x",
            "sips:10.0.0.1",
            "tcp:10.0.0.1",
            "udp:10.0.0.1",
            "sip:",
            "sip:a@",
            "[::]",
            "239.1.2.3",
            "10.0.0.1:0",
            "10.0.0.1;transport=sctp",
            "tel:+49123",
        ];
        for text in bad {
            assert!(read(text).is_err(), "{text}");
        }
        assert_eq!(
            destination("10.0.0.1").map(|to| (to.weight, to.priority)),
            Ok((1, 0))
        );
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
        for name in policy_names() {
            assert_eq!(policy(name).map(policy_name), Ok(name));
        }
        for name in [
            "call-id",
            "from-uri",
            "to-uri",
            "request-uri",
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
        assert!(hash_key("header:").is_err());
    }
}
