//! Forwarders that do not parse: the floor that a SIP balancer stands on.
//!
//! A datagram that does not begin with `SIP/` goes to the destinations in
//! turn; one that does goes, in turn, to the senders of the last requests.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use socket2::SockRef;

use crate::outbox::runs;
use crate::sys::{BUFFER, Receiver, Route, Run, Sender};

/// Datagrams taken by one system call, as Viaduct takes them.
const BATCH: usize = 256;

/// Datagrams that leave as one segmented send; more gain nothing (1.22 us a
/// message with 32, 1.31 with 64).
const SEGMENTS: usize = 32;

/// Where to listen and where to send.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// How datagrams are taken and given
    #[arg(long, value_enum)]
    pub(crate) engine: Engine,
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: SocketAddrV4,
    /// Destinations, in turn
    #[arg(long, value_name = "ADDR", required = true, value_delimiter = ',')]
    pub(crate) to: Vec<SocketAddrV4>,
    /// Senders of requests that are remembered
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) peers: u16,
    /// Datagrams taken by one system call
    #[arg(long, default_value_t = BATCH as u16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) batch: u16,
}

/// System calls of a forwarder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// recvfrom and sendto, one datagram each
    Single,
    /// recvmmsg and sendmmsg, a batch each
    Mmsg,
    /// recvmmsg, and sendmmsg of segmented sends (UDP_SEGMENT) where datagrams to one place are of equal length
    Gso,
}

/// Forwards until the process is ended.
///
/// # Errors
/// A socket that cannot be bound, or a failing receive.
pub(crate) fn run(options: &Options) -> Result<()> {
    let socket = UdpSocket::bind(options.listen)
        .with_context(|| format!("cannot bind {}", options.listen))?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    ensure!(!options.to.is_empty(), "no destination");
    eprintln!("listening on udp:{}", socket.local_addr()?);
    eprintln!("ready: forwarding to {} destinations", options.to.len());
    let mut turns = Turns::new(options.to.clone(), options.peers.into());
    match options.engine {
        Engine::Single => single(&socket, &mut turns),
        Engine::Mmsg => mmsg(&socket, &mut turns, options.batch.into()),
        Engine::Gso => gso(&socket, &mut turns, options.batch.into()),
    }
    .context("forwarding ended")
}

/// Whose turn it is.
struct Turns {
    destinations: Vec<SocketAddrV4>,
    requests: usize,
    /// Senders of the last requests, the oldest overwritten first.
    peers: Vec<SocketAddrV4>,
    remembered: usize,
    responses: usize,
}

impl Turns {
    fn new(destinations: Vec<SocketAddrV4>, remembered: usize) -> Self {
        Self {
            destinations,
            requests: 0,
            peers: Vec::with_capacity(remembered),
            remembered,
            responses: 0,
        }
    }

    /// Where `datagram` goes: a number that stands for the place, and the
    /// place; nowhere if it is a response before there was any request.
    fn next(&mut self, datagram: &[u8], source: SocketAddrV4) -> Option<(usize, SocketAddrV4)> {
        if datagram.starts_with(b"SIP/") {
            let turn = self.responses % self.peers.len().max(1);
            self.responses += 1;
            let peer = self.peers.get(turn)?;
            return Some((self.destinations.len() + turn, *peer));
        }
        let at = self.requests % self.remembered;
        match self.peers.get_mut(at) {
            Some(peer) => *peer = source,
            None => self.peers.push(source),
        }
        let turn = self.requests % self.destinations.len();
        self.requests += 1;
        Some((turn, self.destinations[turn]))
    }
}

fn single(socket: &UdpSocket, turns: &mut Turns) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    loop {
        let (length, source) = socket.recv_from(&mut buffer)?;
        let SocketAddr::V4(source) = source else {
            continue;
        };
        if let Some((_, to)) = turns.next(&buffer[..length], source) {
            // A datagram that cannot leave is lost, as on any network; the
            // generator counts it.
            let _ = socket.send_to(&buffer[..length], to);
        }
    }
}

fn mmsg(socket: &UdpSocket, turns: &mut Turns, batch: usize) -> io::Result<()> {
    let mut receiver = Receiver::new(batch);
    let mut sender = Sender::new();
    loop {
        let taken = receiver.receive(socket, true)?;
        let mut runs = Vec::with_capacity(batch);
        for index in 0..taken {
            let datagram = receiver.datagram(index);
            if let Some((_, to)) = turns.next(datagram, receiver.source(index)) {
                runs.push(Run {
                    octets: datagram,
                    segment: datagram.len(),
                    route: Route { to, from: None },
                });
            }
        }
        send(socket, &mut sender, &runs);
    }
}

fn gso(socket: &UdpSocket, turns: &mut Turns, batch: usize) -> io::Result<()> {
    let mut receiver = Receiver::new(batch);
    let mut sender = Sender::new();
    let mut arena = Vec::new();
    let mut queue = Vec::with_capacity(batch);
    loop {
        let taken = receiver.receive(socket, true)?;
        queue.clear();
        for index in 0..taken {
            let next = turns.next(receiver.datagram(index), receiver.source(index));
            queue.extend(next.map(|(place, to)| (place, index, to)));
        }
        // The index keeps what goes to one place in order.
        queue.sort_unstable_by_key(|&(place, index, _)| (place, index));
        let messages = queue
            .iter()
            .map(|&(_, index, to)| (Route { to, from: None }, receiver.datagram(index)));
        send(socket, &mut sender, &runs(messages, SEGMENTS, &mut arena));
    }
}

/// Sends `runs`; as above, the one that could not leave is lost.
fn send(socket: &UdpSocket, sender: &mut Sender, mut runs: &[Run<'_>]) {
    while !runs.is_empty() {
        let sent = sender.send(socket, runs).unwrap_or(1);
        runs = &runs[sent..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddrV4 {
        format!("127.0.0.1:{port}").parse().expect("an address")
    }

    #[test]
    fn responses_go_to_the_senders_of_the_last_requests_in_turn() {
        let mut turns = Turns::new(vec![address(1), address(2)], 2);
        assert_eq!(turns.next(b"SIP/2.0 200 OK", address(1)), None);
        let mut to = |datagram: &[u8], from| turns.next(datagram, address(from)).map(|(_, to)| to);
        assert_eq!(to(b"INVITE", 11), Some(address(1)));
        assert_eq!(to(b"INVITE", 12), Some(address(2)));
        assert_eq!(to(b"INVITE", 13), Some(address(1)));
        let mut answered = [to(b"SIP/2.0", 1), to(b"SIP/2.0", 1)];
        answered.sort_unstable();
        assert_eq!(answered, [Some(address(12)), Some(address(13))]);
    }

    #[test]
    fn the_batch_is_that_of_viaduct() {
        let overrides = viaduct::config::Overrides {
            listen: vec!["127.0.0.1:0".parse().expect("an address")],
            to: vec![viaduct::config::text::member("127.0.0.1").expect("a destination")],
            ..Default::default()
        };
        let config = viaduct::config::load(None, &overrides).config;
        assert_eq!(config.expect("a configuration").batch, BATCH);
    }
}
