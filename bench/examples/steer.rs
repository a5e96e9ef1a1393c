//! What it costs the kernel to choose the worker by Call-ID: sends datagrams
//! over loopback to two sockets that share an address, by turns with the
//! program and without it, and prints the difference. Over loopback the
//! sender's system call does the receiver's share too, which is what is timed.
#![allow(missing_docs, reason = "a program has no readers of its API")]
#![allow(clippy::print_stdout, reason = "its output is what it is for")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;
use viaduct::net::steer::{BLOCKS_MAX, program};
use viaduct::net::{ReceiveBatch, Socket};

const BATCH: usize = 64;
const BATCHES: usize = 200;
const ROUNDS: usize = 41;
/// Octets before the Call-ID's row.
const DEPTHS: [usize; 5] = [50, 200, 400, 800, 1_600];

/// Two sockets at one address, and one that sends to it.
struct Pair {
    sockets: Vec<Socket>,
    sender: UdpSocket,
}

impl Pair {
    fn new() -> Result<Self> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let first = Socket::bind(any, 1 << 20, 1 << 20)?;
        let address = first.address()?;
        let second = Socket::bind_beside(address, 1 << 20, 1 << 20)?;
        let sender = UdpSocket::bind(any)?;
        sender.connect(address)?;
        Ok(Self {
            sockets: vec![first, second],
            sender,
        })
    }

    /// The time to send one datagram.
    fn time(&self, message: &[u8], received: &mut ReceiveBatch) -> Result<Duration> {
        let mut spent = Duration::ZERO;
        for _ in 0..BATCHES {
            let start = Instant::now();
            for _ in 0..BATCH {
                self.sender.send(message)?;
            }
            spent += start.elapsed();
            for socket in &self.sockets {
                while received.receive(socket)? == BATCH {}
            }
        }
        Ok(spent / (BATCH * BATCHES) as u32)
    }
}

/// A response with the Call-ID's row at `depth`, and a body behind it.
fn message(depth: usize) -> Vec<u8> {
    let mut message = b"SIP/2.0 200 OK\r\n".to_vec();
    while message.len() + 80 < depth {
        message.extend(b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK776asdhds;rport\r\n");
    }
    let rest = depth - message.len();
    message.extend(format!("X: {}\r\n", "x".repeat(rest - 5)).bytes());
    message.extend(b"Call-ID: 550e8400-e29b-41d4-a716-446655440000\r\nCSeq: 1 INVITE\r\n\r\n");
    message.resize(message.len() + 200, b'a');
    message
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn main() -> Result<()> {
    let (plain, steered) = (Pair::new()?, Pair::new()?);
    steered.sockets[0].steer(&program(2, BLOCKS_MAX))?;
    let mut received = ReceiveBatch::new(BATCH);
    println!("Call-ID at   by source   by Call-ID   more, median of {ROUNDS}");
    for depth in DEPTHS {
        let message = message(depth);
        let (mut without, mut with) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            without.push(plain.time(&message, &mut received)?);
            with.push(steered.time(&message, &mut received)?);
        }
        let (without, with) = (median(without).as_nanos(), median(with).as_nanos());
        let more = with as i128 - without as i128;
        println!("{depth:>10}   {without:>6} ns   {with:>7} ns   {more:>4} ns");
    }
    Ok(())
}
