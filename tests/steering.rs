//! One trunk, all workers: the kernel hands each datagram to the worker of its
//! Call-ID.

use std::net::SocketAddr;

use viaduct::net::steer::{BLOCKS_MAX, by_call_id};
use viaduct::net::{ReceiveBatch, Socket};

use support::dialog::{Peer, read, response};
use support::load_lock;
use support::net::V4;
use support::steering::{request, worker_for};
use support::viaduct::{Counters, Viaduct};

/// Call-IDs as user agents make them; `number` makes each different.
fn call_id(number: u32) -> String {
    let mixed = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let (high, low) = ((mixed >> 64) as u64, mixed as u64);
    match number % 5 {
        0 => format!(
            "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
            high >> 32,
            high & 0xffff,
            (high >> 16) & 0xfff,
            low >> 52,
            low & 0xffff_ffff_ffff
        ),
        1 => format!("{mixed:032x}@192.0.2.77"),
        2 => format!("{number}-31337@127.0.0.1"),
        3 => format!("call-{number:07}"),
        _ => format!("{number}"),
    }
}

/// Sockets that share their ports would, by chance, be given some twice: of
/// these about six.
#[test]
fn no_two_listeners_that_ask_for_any_port_share_one() {
    let any = SocketAddr::new(V4, 0);
    let bind = || Socket::bind(any, 1 << 16, 1 << 16).expect("a socket");
    let sockets: Vec<_> = (0..600).map(|_| bind()).collect();
    let mut addresses: Vec<_> = sockets.iter().map(|each| each.address().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), sockets.len());
}

/// The kernel's part: what it hands to the program, and what it makes of the
/// result, over IPv4 and IPv6.
#[test]
fn each_message_lands_on_the_workers_socket() {
    for ip in ["127.0.0.1", "::1"] {
        let any = SocketAddr::new(ip.parse().expect("an address"), 0);
        let first = Socket::bind(any, 1 << 20, 1 << 20).expect("a socket");
        let address = first.address().expect("its address");
        let mut sockets = vec![first];
        for _ in 1..5 {
            sockets.push(Socket::bind_beside(address, 1 << 20, 1 << 20).expect("a socket"));
        }
        by_call_id(&sockets[0], 5).expect("a program that the kernel takes");
        let callers = [Peer::new(any.ip()), Peer::new(any.ip())];
        let mut batch = ReceiveBatch::new(8);
        let mut nobody = std::collections::BTreeMap::new();
        for number in 0..2_000 {
            let row = format!("X: {}\r\n", "x".repeat(number as usize % 700));
            let mut message = request(&row, "Call-ID: ", &call_id(number));
            if number % 10 == 0 {
                message.truncate(number as usize % 97);
            }
            let caller = number as usize / 10 % 2;
            callers[caller].send(address, &message);
            let landed: Vec<usize> = (0..sockets.len())
                .filter(|&socket| batch.receive(&sockets[socket]).expect("no error") > 0)
                .collect();
            assert_eq!(landed.len(), 1);
            match worker_for(&message, 5, BLOCKS_MAX) {
                Some(worker) => assert_eq!(landed[0], worker),
                // By addresses and ports: the same one each time.
                None => assert_eq!(*nobody.entry(caller).or_insert(landed[0]), landed[0]),
            }
        }
        assert_eq!(nobody.len(), 2);
    }
}

/// Viaduct with `workers` and a farm of one, which is the given peer.
fn viaduct(workers: usize, farm: &Peer, args: &[&str]) -> Viaduct {
    let (workers, to) = (workers.to_string(), farm.address().to_string());
    let start = [
        "--listen",
        "127.0.0.1:0",
        "--workers",
        &workers,
        "--to",
        &to,
    ];
    Viaduct::start(&[&start[..], args].concat())
}

/// How many datagrams each worker received.
fn shares(counters: &Counters, workers: usize) -> Vec<u64> {
    let name = |worker| format!("worker-{worker}-received");
    (0..workers)
        .map(|worker| counters.get(&name(worker)))
        .collect()
}

#[track_caller]
fn assert_even(shares: &[u64]) {
    let mean = shares.iter().sum::<u64>() / shares.len() as u64;
    assert!(
        shares.iter().all(|share| share * 10 >= mean * 8),
        "{shares:?}"
    );
}

/// Sends one INVITE for each of `calls` from the callers in turn, has the farm
/// answer each, and returns the counters.
fn pass(
    viaduct: Viaduct,
    farm: &Peer,
    rounds: impl Iterator<Item = Vec<Peer>>,
    calls: u32,
) -> Counters {
    let front = viaduct.address(0);
    let mut number = 0;
    for callers in rounds {
        let end = number + calls;
        while number < end {
            let burst = number..end.min(number + 50);
            number = burst.end;
            for number in burst.clone() {
                let caller = &callers[number as usize % callers.len()];
                let via = format!(
                    "Via: SIP/2.0/UDP {};rport;branch=z9hG4bK{number}",
                    caller.address()
                );
                let text = request("", "Call-ID: ", &call_id(number));
                let text = String::from_utf8(text).expect("text");
                let text = text.replace("Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1", &via);
                caller.send(front, text);
            }
            for _ in burst.clone() {
                let got = farm.receive();
                farm.send(front, response(&got, "200 OK", "t"));
            }
            for number in burst {
                callers[number as usize % callers.len()].receive();
            }
        }
    }
    let counters = viaduct.stop();
    counters.assert_all_forwarded();
    counters
}

/// Requests from `peers` sources, as many at a time as there may be files, and
/// the responses of one destination, all of 20,000 calls.
#[track_caller]
fn assert_served_by_all(workers: usize, peers: u32) {
    let _lock = load_lock();
    let farm = Peer::new(V4);
    let at_once = peers.min(500);
    let round = |_| (0..at_once).map(|_| Peer::new(V4)).collect();
    let counters = pass(
        viaduct(workers, &farm, &[]),
        &farm,
        (0..peers / at_once).map(round),
        20_000 / (peers / at_once),
    );
    assert_eq!(counters.get("received"), 40_000);
    assert_even(&shares(&counters, workers));
}

#[test]
fn one_peer_is_served_by_two_workers() {
    assert_served_by_all(2, 1);
}

#[test]
fn one_peer_is_served_by_four_workers() {
    assert_served_by_all(4, 1);
}

#[test]
fn ten_peers_are_served_by_two_workers() {
    assert_served_by_all(2, 10);
}

#[test]
fn ten_peers_are_served_by_four_workers() {
    assert_served_by_all(4, 10);
}

#[test]
fn ten_thousand_peers_are_served_by_two_workers() {
    assert_served_by_all(2, 10_000);
}

#[test]
fn ten_thousand_peers_are_served_by_four_workers() {
    assert_served_by_all(4, 10_000);
}

#[test]
fn by_source_one_peer_stays_with_one_worker() {
    let farm = Peer::new(V4);
    let viaduct = viaduct(4, &farm, &["--steer", "source"]);
    assert!(
        viaduct
            .output()
            .contains("steering: by addresses and ports\n")
    );
    let caller = Peer::new(V4);
    for number in 0..200 {
        caller.send(
            viaduct.address(0),
            request("", "Call-ID: ", &call_id(number)),
        );
        farm.receive();
    }
    let mut shares = shares(&viaduct.stop(), 4);
    shares.sort_unstable();
    assert_eq!(shares, [0, 0, 0, 200]);
}

#[test]
fn the_messages_of_a_call_arrive_in_order() {
    let _lock = load_lock();
    const CALLS: u32 = 20;
    let farm = Peer::new(V4);
    let viaduct = viaduct(4, &farm, &["--pin", "off"]);
    let caller = Peer::new(V4);
    let mut last = vec![0; CALLS as usize];
    for burst in 0..50 {
        for cseq in burst * 5 + 1..=burst * 5 + 5 {
            for call in 0..CALLS {
                let text = request("", "Call-ID: ", &format!("{call}@order.example"));
                let text = String::from_utf8(text).expect("text");
                let text = text.replace("CSeq: 1 ", &format!("CSeq: {cseq} "));
                caller.send(viaduct.address(0), text);
            }
        }
        for _ in 0..5 * CALLS {
            let got = read(farm.receive());
            let id = String::from_utf8(got.call_id).expect("text");
            let call: usize = id
                .split('@')
                .next()
                .and_then(|n| n.parse().ok())
                .expect("a number");
            assert_eq!(got.cseq.number, last[call] + 1);
            last[call] += 1;
        }
    }
    let shares = shares(&viaduct.stop(), 4);
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
}

#[test]
fn the_facts_of_the_start_say_what_steers() {
    let farm = Peer::new(V4);
    assert!(
        viaduct(2, &farm, &[])
            .output()
            .contains("steering: by Call-ID, where it begins within ")
    );
    assert!(!viaduct(1, &farm, &[]).output().contains("steering"));
}
