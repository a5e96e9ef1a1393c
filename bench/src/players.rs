//! Callers and farm: a socket each, and the messages that they write.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result};

use crate::message::{Form, Kind, Pass, Tail, Template, VARIANTS};
use crate::offer::{Mix, Options};
use crate::outbox::Outbox;
use crate::sys::{self, tell_destinations};

/// The callers and their requests.
pub(crate) struct Callers {
    pub(crate) socket: UdpSocket,
    /// For each kind and variant the first request, ACK and BYE.
    pub(crate) templates: Vec<[Template; 3]>,
    pub(crate) outbox: Outbox,
}

/// The farm and its responses.
pub(crate) struct Farm {
    pub(crate) socket: UdpSocket,
    /// For each kind and variant 100, 180, 200, and 200 to the BYE.
    pub(crate) tails: Vec<[Tail; 4]>,
    pub(crate) outbox: Outbox,
}

/// Which of the requests of a kind and variant `pass` is.
pub(crate) fn request_index(pass: Pass) -> usize {
    match pass {
        Pass::Ack => 1,
        Pass::Bye => 2,
        _ => 0,
    }
}

/// Which of the responses of a kind and variant `pass` is.
pub(crate) fn response_index(pass: Pass) -> usize {
    match pass {
        Pass::Trying => 0,
        Pass::Ringing => 1,
        Pass::ByeAnswer => 3,
        _ => 2,
    }
}

/// One of each for every kind and variant.
fn each<T>(make: impl Fn(Kind, usize) -> T) -> Vec<T> {
    let make = &make;
    Kind::ALL
        .into_iter()
        .flat_map(|kind| (0..VARIANTS).map(move |variant| make(kind, variant)))
        .collect()
}

fn form(options: &Options) -> Form {
    match options.mix {
        Mix::Equal => Form::Filled(options.length.into()),
        _ => Form::Usual,
    }
}

impl Callers {
    pub(crate) fn new(options: &Options, run: u32) -> Result<Self> {
        let socket = bound(options.peer_address.port())?;
        let port = socket.local_addr()?.port();
        let caller = SocketAddrV4::new(*options.peer_address.ip(), port);
        let form = form(options);
        let templates = each(|kind, variant| {
            [Pass::Request, Pass::Ack, Pass::Bye]
                .map(|pass| Template::request(kind, pass, variant, form, caller, run))
        });
        Ok(Self {
            socket,
            templates,
            outbox: Outbox::default(),
        })
    }
}

impl Farm {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let address = options.destination_address;
        let form = form(options);
        let tails = each(|kind, variant| {
            [Pass::Trying, Pass::Ringing, Pass::Answer, Pass::ByeAnswer]
                .map(|pass| Tail::new(kind, pass, variant, form, address))
        });
        Ok(Self {
            socket: bound(address.port())?,
            tails,
            outbox: Outbox::default(),
        })
    }
}

/// A socket on `port` of all local addresses.
fn bound(port: u16) -> Result<UdpSocket> {
    let socket = sys::bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port))
        .with_context(|| format!("cannot bind UDP port {port}"))?;
    tell_destinations(&socket)?;
    Ok(socket)
}
