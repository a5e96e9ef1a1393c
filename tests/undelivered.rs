//! Destinations where nobody listens: the kernel tells what came back, and
//! nothing for anybody else is lost by it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use viaduct::net::{Limits, RETURNED_MAX, ReceiveBatch, SendBatch, Sent, Socket};
use viaduct::transaction::InRun;

use support::LONG;
use support::net::free_addresses;

const LOOPBACKS: [&str; 2] = ["127.0.0.1", "::1"];

/// An address on `ip`, of any port.
fn any(ip: &str) -> SocketAddr {
    SocketAddr::new(ip.parse().expect("an address"), 0)
}

/// Our socket, which hears errors.
fn hearing(ip: &str) -> Socket {
    let socket = Socket::bind(any(ip), 1 << 20, 1 << 20).expect("a socket");
    socket.hear_errors(true).expect("errors are heard");
    socket
}

/// A destination that listens.
fn open(ip: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(any(ip)).expect("a socket");
    let timeout = Some(LONG);
    socket.set_read_timeout(timeout).expect("a time limit");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

/// A destination that nobody is at.
fn closed(ip: &str) -> SocketAddr {
    let [address] = free_addresses(any(ip).ip());
    address
}

/// Queues `octets` with its number as the tag.
fn push(out: &mut SendBatch<u32>, to: SocketAddr, octets: &str, number: u32) {
    out.space()[..octets.len()].copy_from_slice(octets.as_bytes());
    let run = InRun {
        padding_at: 0,
        call: number.into(),
    };
    out.push(octets.len(), to, 0, Some(run), Some(number));
}

/// What became of a batch: sends that failed by their tags, whether an error
/// may wait, and the lengths of runs.
#[derive(Debug, Default, PartialEq)]
struct Told {
    failed: Vec<u32>,
    disturbed: bool,
    runs: Vec<usize>,
}

fn flush(out: &mut SendBatch<u32>, sockets: &[Socket]) -> Told {
    let mut told = Told::default();
    out.flush(sockets, |sent| match sent {
        Sent::Run(datagrams) => told.runs.push(datagrams),
        Sent::Refusal => panic!("a run was refused"),
        Sent::Failure(_, tag) => told.failed.push(tag.expect("its tag")),
        Sent::Disturbed => told.disturbed = true,
    });
    told
}

/// All that has come back, as texts.
fn returned(socket: &Socket) -> Vec<String> {
    let mut buffer = [0; RETURNED_MAX];
    let mut all = Vec::new();
    while let Some(octets) = socket.take_undelivered(&mut buffer).expect("no error") {
        all.push(String::from_utf8(octets.to_vec()).expect("text"));
    }
    all
}

#[track_caller]
fn assert_receives(socket: &UdpSocket, wanted: &str) {
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert_eq!(String::from_utf8_lossy(&buffer[..length]), wanted);
}

#[test]
fn what_nobody_takes_comes_back() {
    for ip in LOOPBACKS {
        let sockets = [hearing(ip)];
        let dead = closed(ip);
        let mut out = SendBatch::new(8, Limits::OFF);
        push(&mut out, dead, "first", 1);
        push(&mut out, dead, "second", 2);
        assert!(flush(&mut out, &sockets).failed.is_empty());
        assert_eq!(returned(&sockets[0]), ["first", "second"]);
        assert!(returned(&sockets[0]).is_empty());
    }
}

/// Each datagram for the dead one fails the next send, whoever that is for:
/// within a batch, and the first of the next one.
#[test]
fn a_dead_destination_costs_the_others_nothing() {
    for ip in LOOPBACKS {
        let sockets = [hearing(ip)];
        let dead = closed(ip);
        let (live, to_live) = open(ip);
        let mut out = SendBatch::new(64, Limits::OFF);
        for round in 0..5 {
            for number in 0..10 {
                push(&mut out, to_live, &format!("live {round} {number}"), number);
                push(&mut out, dead, &format!("dead {round} {number}"), number);
            }
            let told = flush(&mut out, &sockets);
            assert!(told.failed.is_empty());
            assert!(told.disturbed, "nobody says that errors wait");
            for number in 0..10 {
                assert_receives(&live, &format!("live {round} {number}"));
            }
        }
        let sent = (0..50).map(|nth| format!("dead {} {}", nth / 10, nth % 10));
        assert!(returned(&sockets[0]).into_iter().eq(sent));
    }
}

#[test]
fn an_error_that_waits_breaks_no_run() {
    for ip in LOOPBACKS {
        let sockets = [hearing(ip)];
        let dead = closed(ip);
        let (live, to_live) = open(ip);
        let mut out = SendBatch::new(64, Limits::EXACT);
        for round in 0..5 {
            for number in 10..20 {
                push(&mut out, to_live, &format!("live {round} {number}"), number);
                push(&mut out, dead, &format!("dead {round} {number}"), number);
            }
            let told = flush(&mut out, &sockets);
            assert_eq!((told.failed, told.runs), (vec![], vec![10, 10]));
            for number in 10..20 {
                assert_receives(&live, &format!("live {round} {number}"));
            }
        }
        // Nothing has cut the runs, so that each comes back as one.
        let returned = returned(&sockets[0]);
        assert_eq!(returned.len(), 5);
        for (round, text) in returned.iter().enumerate() {
            assert!(text.starts_with(&format!("dead {round} 10dead {round} 11")));
        }
    }
}

#[test]
fn a_send_that_fails_tells_which() {
    // Without SO_BROADCAST the kernel refuses.
    let nowhere = SocketAddr::new(IpAddr::from([255; 4]), 5060);
    for limits in [Limits::OFF, Limits::EXACT] {
        let sockets = [hearing("127.0.0.1")];
        let (live, to_live) = open("127.0.0.1");
        let mut out = SendBatch::new(8, limits);
        for number in 1..4 {
            push(&mut out, nowhere, &format!("nowhere {number}"), number);
            push(&mut out, to_live, &format!("live {number}"), 10 + number);
        }
        assert_eq!(flush(&mut out, &sockets).failed, [1, 2, 3]);
        for number in 1..4 {
            assert_receives(&live, &format!("live {number}"));
        }
    }
}

/// What must be known to be told of each error in time.
#[test]
fn an_error_raises_an_event_that_is_an_error() {
    let sockets = [hearing("127.0.0.1")];
    let dead = closed("127.0.0.1");
    let mut out = SendBatch::new(8, Limits::OFF);
    let mut poll = Poll::new().expect("epoll");
    let fd = sockets[0].as_raw_fd();
    let mut events = Events::with_capacity(8);
    let mut is_told = |poll: &mut Poll, patience| {
        poll.poll(&mut events, Some(patience)).expect("no error");
        events.iter().any(|event| event.is_error())
    };
    let (soon, never) = (LONG, Duration::ZERO);
    // One that was there before the socket was watched.
    push(&mut out, dead, "early", 1);
    flush(&mut out, &sockets);
    let registry = poll.registry();
    registry
        .register(&mut SourceFd(&fd), Token(0), Interest::READABLE)
        .expect("watched");
    assert!(is_told(&mut poll, soon));
    assert!(!is_told(&mut poll, never));
    // One that comes while the former still waits.
    push(&mut out, dead, "late", 2);
    flush(&mut out, &sockets);
    assert!(is_told(&mut poll, soon));
    assert_eq!(returned(&sockets[0]).len(), 2);
    assert!(!is_told(&mut poll, never));
}

#[test]
fn a_receive_that_an_error_fails_has_taken_nothing() {
    let sockets = [hearing("127.0.0.1")];
    let (peer, _) = open("127.0.0.1");
    let to_us = sockets[0].address().expect("its address");
    peer.send_to(b"hello", to_us).expect("sent");
    let mut out = SendBatch::new(8, Limits::OFF);
    push(&mut out, closed("127.0.0.1"), "dead", 1);
    flush(&mut out, &sockets);
    let mut batch = ReceiveBatch::new(8);
    assert!(batch.receive(&sockets[0]).is_err());
    assert_eq!(batch.receive(&sockets[0]).expect("a datagram"), 1);
}
