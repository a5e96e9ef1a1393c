//! Forwarders that do not parse: the floor that a SIP balancer stands on.
//!
//! A datagram that does not begin with `SIP/` goes to the destinations in
//! turn; one that does goes to whoever sent the last request. So they serve
//! one upstream peer, which is enough to measure by, and nothing else.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use socket2::{SockAddr, SockRef};

use crate::load::RECEIVE_BUFFER;
use crate::sys::{BATCH, Receiver, Run, Sender};

/// Where to listen and where to send.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How datagrams are taken and given
    #[arg(long, value_enum)]
    pub(crate) engine: Engine,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Destinations, in turn
    #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
    pub(crate) to: Vec<SocketAddr>,
}

/// System calls of a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// recvfrom and sendto, one datagram each
    Single,
    /// recvmmsg and sendmmsg, up to 64 datagrams each
    Mmsg,
}

/// Forwards until the process is ended.
///
/// # Errors
/// A socket that cannot be bound, or a failing receive.
pub(crate) fn run(options: &Options) -> Result<()> {
    let socket = UdpSocket::bind(options.listen)
        .with_context(|| format!("cannot bind {}", options.listen))?;
    SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
    ensure!(!options.to.is_empty(), "no destination");
    eprintln!("listening on udp:{}", socket.local_addr()?);
    eprintln!("ready: forwarding to {} destinations", options.to.len());
    match options.engine {
        Engine::Single => single(&socket, &options.to),
        Engine::Mmsg => mmsg(&socket, &options.to),
    }
    .context("forwarding ended")
}

fn single(socket: &UdpSocket, destinations: &[SocketAddr]) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    let mut upstream = None;
    let mut turn = destinations.iter().cycle();
    loop {
        let (length, source) = socket.recv_from(&mut buffer)?;
        let datagram = &buffer[..length];
        let to = if is_response(datagram) {
            upstream
        } else {
            upstream = Some(source);
            turn.next().copied()
        };
        if let Some(to) = to {
            // A datagram that cannot leave is lost, as on any network; the
            // generator counts it.
            let _ = socket.send_to(datagram, to);
        }
    }
}

fn mmsg(socket: &UdpSocket, destinations: &[SocketAddr]) -> io::Result<()> {
    let destinations: Vec<SockAddr> = destinations.iter().copied().map(SockAddr::from).collect();
    let mut receiver = Receiver::new();
    let mut sender = Sender::new();
    let mut upstream = None;
    let mut turn = destinations.iter().cycle();
    loop {
        let taken = receiver.receive(socket, true)?;
        let requests = |&index: &usize| !is_response(receiver.datagram(index));
        if let Some(last) = (0..taken).rev().find(requests) {
            upstream = Some(receiver.source(last));
        }
        let mut runs = Vec::with_capacity(BATCH);
        for index in 0..taken {
            let datagram = receiver.datagram(index);
            let to = if is_response(datagram) {
                upstream.as_ref()
            } else {
                turn.next()
            };
            if to.is_some() {
                runs.push(Run {
                    octets: datagram,
                    segment: datagram.len(),
                    to,
                });
            }
        }
        let mut rest = &runs[..];
        while !rest.is_empty() {
            // As above: the one that could not leave is lost.
            let sent = sender.send(socket, rest).unwrap_or(1);
            rest = &rest[sent..];
        }
    }
}

fn is_response(datagram: &[u8]) -> bool {
    datagram.starts_with(b"SIP/")
}
