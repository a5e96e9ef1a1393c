//! Our own addresses: what our Via says, and what names us.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use memchr::{memchr, memmem};

use super::branch::MAGIC;
use super::host::literal;
use crate::config::text::{is_one_host, uri_host};
use crate::config::{HostPort, Listener};
use crate::sip::is_same_name;

/// What stands before the value in a Via row of ours.
const NAME: &str = "Via: ";

/// The listeners.
pub(super) struct Locals {
    all: Vec<Local>,
    /// What else stands for us.
    also: Vec<Name>,
    /// Networks with the listener to leave by, the longest prefix first.
    egress: Vec<(IpNet, usize)>,
}

struct Local {
    address: SocketAddr,
    /// The sent-by.
    name: Name,
    /// Our whole Via row up to the end of the branch's magic.
    via: Vec<u8>,
    /// Front balancers.
    fronts: Vec<IpNet>,
    /// Our URI behind its user part, up to the end of the row.
    uri: Vec<u8>,
    record_route: bool,
    path: bool,
}

/// A host and a port that stand for us.
struct Name {
    /// In brackets where it is an IPv6 address.
    host: Vec<u8>,
    /// The same, where it is an address.
    ip: Option<IpAddr>,
    port: u16,
    /// Whether it is a name that was given without a port.
    is_open: bool,
}

impl Locals {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        let networks = listeners.iter().enumerate().flat_map(|(number, listener)| {
            let networks = listener.egress.iter();
            networks.map(move |network| (*network, number))
        });
        let mut egress: Vec<_> = networks.collect();
        egress.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        let also = listeners.iter().flat_map(|listener| {
            let names = listener.also_known_as.iter();
            names.map(|name| Name::new(name.clone(), listener.address.port()))
        });
        Self {
            all: listeners.iter().map(Local::new).collect(),
            also: also.collect(),
            egress,
        }
    }

    /// Everything of them that decides where a request goes, as text: their
    /// places, and no addresses of ours, for each instance has its own.
    pub(super) fn outline(&self) -> String {
        let each = |local: &Local| {
            let family = local.address.is_ipv4();
            let is_loopback = local.address.ip().is_loopback();
            format!(
                "{family} {is_loopback} {:?} {} {}",
                local.fronts, local.record_route, local.path
            )
        };
        let Self { all, also, egress } = self;
        let all: Vec<_> = all.iter().map(each).collect();
        let names = also.iter().filter(|name| name.ip.is_none());
        let names: Vec<_> = names.map(|name| (&name.host, name.port)).collect();
        format!("{all:?} {names:?} {egress:?}")
    }

    /// What stands behind the user part in a Record-Route or Path row of ours
    /// that `listener` is reached by.
    pub(super) fn uri(&self, listener: usize) -> &[u8] {
        &self.all[listener].uri
    }

    /// Whether requests that came in on `listener` have us stay on the path.
    #[inline]
    pub(super) fn records_route(&self, listener: usize) -> bool {
        self.all[listener].record_route
    }

    /// Whether registrations that came in on `listener` get a Path.
    #[inline]
    pub(super) fn adds_path(&self, listener: usize) -> bool {
        self.all[listener].path
    }

    /// Whether a datagram to `to` can leave by `listener`, wherever that is: from
    /// a loopback address nothing leaves for another machine.
    pub(super) fn reaches(&self, listener: usize, to: SocketAddr) -> bool {
        let local = self.all.get(listener);
        local.is_some_and(|local| {
            local.is_of_family(to) && (to.ip().is_loopback() || !local.address.ip().is_loopback())
        })
    }

    /// Whether `listener` is bound to a loopback address, be it among all.
    pub(super) fn reaches_loopback(&self, listener: usize) -> bool {
        let ip = self.all[listener].address.ip();
        ip.is_loopback() || ip.is_unspecified()
    }

    /// Our Via row for requests that leave by `listener`, up to our branch.
    #[inline]
    pub(super) fn via(&self, listener: usize) -> &[u8] {
        &self.all[listener].via
    }

    /// Whether there is a listener of that number.
    #[inline]
    pub(super) fn has(&self, listener: usize) -> bool {
        listener < self.all.len()
    }

    /// Whether `host`, which is the address `ip` or a name, and `port` are the
    /// sent-by of one of our Vias, one of our addresses, or what else stands
    /// for us.
    #[inline]
    pub(super) fn names(&self, host: &[u8], ip: Option<IpAddr>, port: u16) -> bool {
        self.all.iter().any(|local| {
            local.name.is(host, ip, port)
                || (local.address.port() == port && Some(local.address.ip()) == ip)
        }) || self.also.iter().any(|name| name.is(host, ip, port))
    }

    /// Whether a URI with the name `host` and without a port leads to us: its
    /// sender may have found the port by SRV (RFC 3263 §4.2).
    #[inline]
    pub(super) fn names_at_any_port(&self, host: &[u8]) -> bool {
        let mut also = self.also.iter();
        also.any(|name| name.is_open && is_same_name(&name.host, host))
    }

    /// What stands behind the magic of our branch in `value`, a Via value that
    /// begins as one that we wrote.
    #[inline]
    pub(super) fn behind_magic<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let mut written = self.all.iter().map(|local| &local.via[NAME.len()..]);
        written.find_map(|via| value.strip_prefix(via))
    }

    /// What stands behind the magic in the first Via row of ours in `octets`,
    /// which may be anything.
    pub(super) fn branch_in<'a>(&self, octets: &'a [u8]) -> Option<&'a [u8]> {
        let behind = |local: &Local| Some(memmem::find(octets, &local.via)? + local.via.len());
        let first = self.all.iter().filter_map(behind).min()?;
        let rest = &octets[first..];
        Some(&rest[..memchr(b'\r', rest)?])
    }

    /// Whether one of our sockets is bound to `address`.
    #[inline]
    pub(super) fn is_bound(&self, address: SocketAddr) -> bool {
        self.all.iter().any(|local| local.address == address)
    }

    /// Whether no datagram may be sent to `to`: it is no address of one host, or
    /// it is ours.
    #[inline]
    pub(super) fn is_forbidden(&self, to: SocketAddr) -> bool {
        to.port() == 0 || !is_one_host(to.ip()) || self.is_bound(to)
    }

    /// Whether `source` is a front balancer, whose datagrams on `listener`
    /// say who sent them.
    #[inline]
    pub(super) fn is_front(&self, listener: usize, source: IpAddr) -> bool {
        let mut fronts = self.all[listener].fronts.iter();
        fronts.any(|network| network.contains(&source))
    }

    /// The listener to leave by for `to`: the one for its network, else the one
    /// the message came in on, else the first that reaches it. Where there are
    /// loopback addresses alone, one of the right address family does: `to` may be
    /// another address of this machine.
    #[inline]
    pub(super) fn egress(&self, ingress: usize, to: SocketAddr) -> Option<usize> {
        let mut networks = self.egress.iter();
        let network = networks
            .find(|(network, listener)| network.contains(&to.ip()) && self.reaches(*listener, to));
        if let Some((_, listener)) = network {
            return Some(*listener);
        }
        let mut all = std::iter::once(ingress).chain(0..self.all.len());
        let reaching = all.clone().find(|&listener| self.reaches(listener, to));
        reaching.or_else(|| all.find(|&listener| self.all[listener].is_of_family(to)))
    }
}

impl Name {
    fn new(name: HostPort, port: u16) -> Self {
        let host = name.host.into_bytes();
        let ip = literal(&host);
        Self {
            is_open: ip.is_none() && name.port.is_none(),
            ip,
            host,
            port: name.port.unwrap_or(port),
        }
    }

    /// Whether `host`, which is the address `ip` or a name, and `port` are this.
    #[inline]
    fn is(&self, host: &[u8], ip: Option<IpAddr>, port: u16) -> bool {
        self.port == port
            && match ip {
                Some(_) => self.ip == ip,
                None => is_same_name(&self.host, host),
            }
    }
}

impl Local {
    fn is_of_family(&self, to: SocketAddr) -> bool {
        self.address.is_ipv4() == to.is_ipv4()
    }

    fn new(listener: &Listener) -> Self {
        let own_host = uri_host(listener.address.ip());
        let own_port = listener.address.port();
        let sent_by = listener.advertise.clone().unwrap_or_else(|| HostPort {
            host: own_host.clone(),
            port: None,
        });
        let name = Name::new(sent_by, own_port);
        let (host, port) = (String::from_utf8_lossy(&name.host), name.port);
        // A sent-by that is not the address we send from may be out of the
        // next element's reach: rport asks it to answer the latter (RFC 3581).
        let rport = if (&*host, port) == (&*own_host, own_port) {
            ""
        } else {
            ";rport"
        };
        let magic = String::from_utf8_lossy(MAGIC);
        let via = format!("{NAME}SIP/2.0/UDP {host}:{port}{rport};branch={magic}");
        let uri = format!("@{host}:{port};lr>\r\n");
        Self {
            address: listener.address,
            name,
            via: via.into_bytes(),
            fronts: listener.proxy_protocol.clone(),
            uri: uri.into_bytes(),
            record_route: listener.record_route,
            path: listener.path,
        }
    }
}
