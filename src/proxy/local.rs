//! Our own addresses: what our Via says, and what names us.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::branch::MAGIC;
use crate::config::Listener;
use crate::sip::eq_ignore_case;

/// What stands before the value in a Via row of ours.
const NAME: &str = "Via: ";

/// The listeners.
pub(super) struct Locals(Vec<Local>);

struct Local {
    address: SocketAddr,
    /// Host of the sent-by, in brackets where it is an IPv6 address.
    host: Vec<u8>,
    port: u16,
    /// Our whole Via row up to the end of the branch's magic.
    via: Vec<u8>,
    /// Front balancers.
    fronts: Vec<IpNet>,
}

impl Locals {
    pub(super) fn new(listeners: &[Listener]) -> Self {
        Self(listeners.iter().map(Local::new).collect())
    }

    /// Our Via row for requests that leave by `listener`, up to our branch.
    #[inline]
    pub(super) fn via(&self, listener: usize) -> &[u8] {
        &self.0[listener].via
    }

    /// Whether there is a listener of that number.
    #[inline]
    pub(super) fn has(&self, listener: usize) -> bool {
        listener < self.0.len()
    }

    /// Whether `host` and `port` are the sent-by of one of our Vias, or one
    /// of our addresses.
    #[inline]
    pub(super) fn names(&self, host: &[u8], port: u16) -> bool {
        self.0.iter().any(|local| {
            (local.port == port && eq_ignore_case(&local.host, host))
                || (local.address.port() == port
                    && super::target::literal(host) == Some(local.address.ip()))
        })
    }

    /// What stands behind the magic of our branch in `value`, a Via value that
    /// begins as one that we wrote.
    #[inline]
    pub(super) fn behind_magic<'a>(&self, value: &'a [u8]) -> Option<&'a [u8]> {
        let mut written = self.0.iter().map(|local| &local.via[NAME.len()..]);
        written.find_map(|via| value.strip_prefix(via))
    }

    /// Whether one of our sockets is bound to `address`.
    #[inline]
    pub(super) fn is_bound(&self, address: SocketAddr) -> bool {
        self.0.iter().any(|local| local.address == address)
    }

    /// Whether `source` is a front balancer, whose datagrams on `listener`
    /// say who sent them.
    #[inline]
    pub(super) fn is_front(&self, listener: usize, source: IpAddr) -> bool {
        let mut fronts = self.0[listener].fronts.iter();
        fronts.any(|network| network.contains(&source))
    }

    /// The listener to leave by for `to`: the one the message came in on, or
    /// else the first of the right address family.
    #[inline]
    pub(super) fn egress(&self, ingress: usize, to: SocketAddr) -> Option<usize> {
        let fits = |local: &Local| local.address.is_ipv4() == to.is_ipv4();
        if fits(&self.0[ingress]) {
            Some(ingress)
        } else {
            self.0.iter().position(fits)
        }
    }
}

impl Local {
    fn new(listener: &Listener) -> Self {
        let own_host = match listener.address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        let own_port = listener.address.port();
        let (host, port) = match &listener.advertise {
            Some(other) => (other.host.clone(), other.port.unwrap_or(own_port)),
            None => (own_host.clone(), own_port),
        };
        // A sent-by that is not the address we send from may be out of the
        // next element's reach: rport asks it to answer the latter (RFC 3581).
        let rport = if (&host, port) == (&own_host, own_port) {
            ""
        } else {
            ";rport"
        };
        let magic = String::from_utf8_lossy(MAGIC);
        let via = format!("{NAME}SIP/2.0/UDP {host}:{port}{rport};branch={magic}");
        Self {
            address: listener.address,
            host: host.into_bytes(),
            port,
            via: via.into_bytes(),
            fronts: listener.proxy_protocol.clone(),
        }
    }
}
