//! A member of a set as it is written: an address or a name, and what is said
//! of it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::diagnostic::Fault;
use super::text::{self, host_port, ip_literal, is_host_name, is_one_host};
use super::{Destination, Health, HealthSettings, HostPort, Named, Probe, Set, State};
use crate::sip::DEFAULT_PORT;

/// URI parameters that a member may carry.
const PARAMETERS: [&str; 5] = ["weight", "priority", "state", "transport", "lr"];

/// Where a member is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    /// At one address.
    Address(SocketAddr),
    /// Where a name, in lower case, says.
    Name(HostPort),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

/// A member of a set as written: a [`Destination`], or a [`Named`] one. What is
/// not said of it is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub(super) uri: String,
    pub(super) host: Host,
    pub(super) weight: Option<u32>,
    pub(super) priority: Option<i32>,
    pub(super) state: Option<State>,
    pub(super) health: HealthSettings,
}

impl Member {
    /// A member of which nothing but its place is said.
    pub(super) fn at(text: &str, host: Host) -> Self {
        Self {
            uri: bare(text).to_owned(),
            host,
            weight: None,
            priority: None,
            state: None,
            health: HealthSettings::default(),
        }
    }

    /// The destination that it is, with the defaults for what is not said; or
    /// the name that stands for several.
    fn finish(self, probe: Option<Arc<Probe>>) -> Result<Destination, Named> {
        let priority = self.priority.unwrap_or(0);
        let state = self.state.unwrap_or(State::Active);
        match self.host {
            Host::Address(address) => Ok(Destination {
                uri: self.uri,
                address,
                weight: self.weight.unwrap_or(1),
                priority,
                state,
                probe,
                health: Health::Up,
            }),
            Host::Name(name) => Err(Named {
                uri: self.uri,
                name,
                weight: self.weight,
                priority,
                state,
                probe,
                resolved: false,
            }),
        }
    }

    /// Adds it to a set.
    pub(super) fn join(self, set: &mut Set, probe: Option<Arc<Probe>>) {
        match self.finish(probe) {
            Ok(destination) => set.destinations.push(destination),
            Err(named) => set.named.push(named),
        }
    }
}

/// As [`destination`] reads it, all that is said of it included.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            uri,
            weight,
            priority,
            ..
        } = self;
        let state = text::name(&self.state);
        write!(f, "{uri};weight={weight};priority={priority};state={state}")
    }
}

/// Reads a member given as `host`, `host:port` or a SIP URI; `host` is an
/// address or a name.
pub fn member(text: &str) -> Result<Member, Fault> {
    let (host, parameters) = split_member(text)?;
    let mut read = Member::at(text, host);
    for parameter in parameters {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        match name.to_ascii_lowercase().as_str() {
            "weight" => once(name, &mut read.weight, text::weight(value)?)?,
            "priority" => once(name, &mut read.priority, text::priority(value)?)?,
            "state" => once(name, &mut read.state, text::choice(value)?)?,
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

/// Reads a member that is given by its address; it is not probed.
pub fn destination(text: &str) -> Result<Destination, Fault> {
    member(text)?.finish(None).map_err(|named| {
        Fault::new(format!("`{}` is a name, not an address", named.name.host))
            .help("give an IPv4 address, or an IPv6 address in brackets")
    })
}

/// Reads the address by which a destination that is there is meant.
pub fn destination_address(text: &str) -> Result<SocketAddr, Fault> {
    let read = member(text)?.finish(None);
    read.map(|read| read.address).map_err(|named| {
        Fault::new(format!("`{}` is a name, not an address", named.name.host))
            .why("each address that a name stands for is a destination of its own")
            .help("give that address (`viaduct ctl list` shows them)")
    })
}

/// A member without its parameters.
fn bare(text: &str) -> &str {
    // The user part may hold `;` itself (RFC 3261 §25.1); what follows cannot hold `@`.
    let after = text.rfind('@').unwrap_or(0);
    let end = text[after..].find(';').map_or(text.len(), |at| after + at);
    &text[..end]
}

/// Splits a member into its place and its parameters, unread.
pub(super) fn split_member(text: &str) -> Result<(Host, impl Iterator<Item = &str>), Fault> {
    let rest = strip_scheme(text)?;
    if rest.contains('?') {
        return Err(Fault::new("a destination has no headers").help("leave out what follows `?`"));
    }
    // As in `bare`.
    let rest = rest.rsplit_once('@').map_or(rest, |(_user, rest)| rest);
    let mut parts = rest.split(';');
    let (host, port) = host_port(parts.next().unwrap_or_default())?;
    if port == Some(0) {
        return Err(Fault::new("port 0 cannot be a destination").help("leave it out for 5060"));
    }
    if is_host_name(host) {
        let host = host.to_ascii_lowercase();
        return Ok((Host::Name(HostPort { host, port }), parts));
    }
    let ip = ip_literal(host).map_err(|fault| match host {
        host if host.contains('_') => {
            fault.help("give an address: the name of a host has no underscore (RFC 1123 §2.1)")
        }
        host if !host.is_ascii() => {
            fault.help("write the name as DNS has it, as `xn--mnchen-3ya.de` for `münchen.de`")
        }
        _ => fault,
    })?;
    if !is_one_host(ip) {
        return Err(Fault::new(format!("`{host}` cannot be a destination"))
            .why("it does not name one host by itself")
            .help("give the address of one SIP server"));
    }
    let address = SocketAddr::new(ip, port.unwrap_or(DEFAULT_PORT));
    Ok((Host::Address(address), parts))
}

fn strip_scheme(text: &str) -> Result<&str, Fault> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Ok(text);
    };
    match scheme.to_ascii_lowercase().as_str() {
        "sip" => Ok(rest),
        "sips" | "tls" => Err(no_transport("TLS")),
        "tcp" => Err(no_transport("TCP")),
        "tel" if !rest.starts_with(|first: char| first.is_ascii_digit()) => {
            Err(Fault::new(format!("`{text}` is no SIP URI"))
                .why("a number is no place to send to")
                .help("give the address of a server as `host:port` or `sip:host:port`"))
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, address: &str) -> Member {
        Member::at(text, Host::Address(address.parse().expect("an address")))
    }

    #[test]
    fn addresses_and_what_is_said_of_them() {
        for (text, address) in [
            ("10.0.0.1", "10.0.0.1:5060"),
            ("SIP:[::1]:5070", "[::1]:5070"),
            ("sip:bob;x=1:pw@10.0.0.1;lr;Transport=UDP", "10.0.0.1:5060"),
        ] {
            assert_eq!(member(text), Ok(at(text, address)));
        }
        let text = "10.0.0.1:5070;WEIGHT=1000000;priority=-2;state=disabled";
        let full = Member {
            weight: Some(1_000_000),
            priority: Some(-2),
            state: Some(State::Disabled),
            ..at(text, "10.0.0.1:5070")
        };
        assert_eq!(member(text), Ok(full));
        let read = destination("10.0.0.1").map(|to| (to.weight, to.priority));
        assert_eq!(read, Ok((1, 0)));
        for text in ["sip:a;b@10.0.0.1;state=disabled;lr", "[::1]:5070;weight=3"] {
            let read = destination(text).expect("a destination");
            assert_eq!(read.uri, bare(text));
            assert_eq!(destination(&read.to_string()), Ok(read));
        }
    }

    #[test]
    fn names() {
        let longest = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "b".repeat(61));
        for (text, host, port) in [
            ("farm.example.com", "farm.example.com", None),
            ("Farm:5070", "farm", Some(5070)),
            ("sip:gw@GW.Example.COM.;lr", "gw.example.com.", None),
            (&longest, &longest, None),
        ] {
            let host = host.to_owned();
            let name = Host::Name(HostPort { host, port });
            assert_eq!(member(text), Ok(Member::at(text, name)));
            assert!(destination(text).is_err(), "{text}");
        }
        let weighted = member("sip:gw.example.com:5060;weight=2").map(|read| read.weight);
        assert_eq!(weighted, Ok(Some(2)));
        for text in [&format!("a{longest}"), &"a".repeat(64), "a_b", "a..b", "-a"] {
            assert!(member(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_member() {
        for text in [
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
            "farm:0",
            "10.0.0.1;transport=sctp",
            "tel:+49123",
            "10.0.0",
            "10.0.0.1x",
        ] {
            assert!(member(text).is_err(), "{text}");
        }
    }
}
