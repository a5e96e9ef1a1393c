//! One trunk, all workers: the program that chooses a datagram's worker by its
//! Call-ID, by itself and in the kernel.

use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use viaduct::net::steer::{BLOCKS_MAX, NOBODY, by_call_id, program};
use viaduct::net::{ReceiveBatch, Socket};
use viaduct::transaction::owner::owner;

use support::dialog::{Peer, read, response};
use support::generate::{damaged, message};
use support::load_lock;
use support::net::V4;
use support::steering::{run, worker_for};
use support::viaduct::{Counters, Viaduct};

/// What the program returns, as a worker.
fn ran(message: &[u8], workers: usize, blocks: usize) -> Option<usize> {
    match run(&program(workers, blocks), message) {
        NOBODY => None,
        worker => Some(worker as usize),
    }
}

/// A request with one Via and `row` in front of the Call-ID's `name`.
fn request(row: &str, name: &str, call_id: &str) -> Vec<u8> {
    format!(
        "INVITE sip:desk@farm.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         Max-Forwards: 70\r\n{row}{name}{call_id}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>\r\n\
         CSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_program_does_what_is_to_be_done_with_any_message(
        sample in message(), workers in 1..1025_usize, blocks in 0..=BLOCKS_MAX,
    ) {
        let wanted = worker_for(&sample.octets, workers, blocks);
        prop_assert_eq!(ran(&sample.octets, workers, blocks), wanted);
    }

    #[test]
    fn the_program_does_what_is_to_be_done_with_any_octets(octets in damaged()) {
        prop_assert_eq!(ran(&octets, 7, BLOCKS_MAX), worker_for(&octets, 7, BLOCKS_MAX));
    }

    #[test]
    fn the_program_does_what_is_to_be_done_with_a_message_cut_anywhere(
        row in "X: [a-z]{0,40}\r\n", id in "[!-~]{0,70}", end in any::<prop::sample::Index>(),
    ) {
        let mut octets = request(&row, "Call-ID: ", &id);
        octets.truncate(end.index(octets.len() + 1));
        prop_assert_eq!(ran(&octets, 7, BLOCKS_MAX), worker_for(&octets, 7, BLOCKS_MAX));
    }

    /// What a worker is said to own is what the kernel gives it, whatever the
    /// octets of the value are.
    #[test]
    fn the_owner_of_a_call_is_the_worker_that_the_program_chooses(
        id in prop_oneof![
            "[!-~]{0,70}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>().prop_filter("a line end", |b| *b != b'\n'), 0..40),
        ],
        workers in 1..1025_usize,
    ) {
        // White space in front is none of the value's.
        prop_assume!(!id.first().is_some_and(u8::is_ascii_whitespace));
        let mut message = b"MESSAGE sip:desk@farm.example SIP/2.0\r\nCall-ID: ".to_vec();
        message.extend_from_slice(&id);
        message.extend_from_slice(b"\r\n\r\n");
        let chosen = ran(&message, workers, BLOCKS_MAX);
        prop_assert_eq!(worker_for(&message, workers, BLOCKS_MAX), chosen);
        prop_assert_eq!(owner(&id, workers), chosen.unwrap_or(0));
    }

    /// Wherever it stands, however its name is written, whatever follows.
    #[test]
    fn one_call_id_has_one_worker(
        id in "[!-~]{1,70}",
        before in prop::collection::vec("[ -~]{0,50}", 0..6),
        name in prop::sample::select(vec!["Call-ID: ", "Call-ID:", "call-id: ", "CALL-ID: ", "Call-Id:"]),
        behind in "[A-Z][a-z]{0,9}: [ -~]{0,50}\r\n",
        body in prop::collection::vec(any::<u8>(), 0..60),
        space in prop::sample::select(vec!["", " ", "  ", "\t"]),
    ) {
        // Nothing before it that looks like it.
        prop_assume!(!before.iter().any(|row| row.to_lowercase().contains("call")));
        let mut row = String::new();
        before.iter().for_each(|text| row += &format!("X: {text}\r\n"));
        let usual = ran(&request("", "Call-ID: ", &id), 1_000, BLOCKS_MAX);
        prop_assert!(usual.is_some());
        let mut other = request(&row, name, &format!("{id}{space}\r\n{behind}"));
        other.extend(body);
        prop_assert_eq!(ran(&other, 1_000, BLOCKS_MAX), usual);
    }
}

#[test]
fn the_program_is_one_that_the_kernel_takes() {
    let longest = program(1024, BLOCKS_MAX);
    assert!(longest.len() <= 4_096, "{}", longest.len());
    assert!(program(1024, BLOCKS_MAX + 1).len() > 4_096, "room is left");
}

#[test]
fn the_call_id_is_found_at_each_place_of_the_search() {
    for length in 0..860 {
        let row = format!("X: {}\r\n", "x".repeat(length));
        let found = ran(&request(&row, "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
        assert!(found.is_some(), "behind {length} octets");
    }
}

#[test]
fn what_only_looks_like_it_is_passed_over() {
    let usual = ran(&request("", "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
    for row in [
        "Call-Info: <sip:x@y>\r\n",
        "Contact: <sip:call@192.0.2.1>\r\n",
        "To: <sip:call-identity@192.0.2.1>\r\n",
        "CSeq: 1 BYE\r\n",
        "Session-ID: ab30317f1a784dc48ff824d0d3715d86\r\n",
        "To: \"all-in\" <sip:call-in@192.0.2.1>\r\n",
        "All-IDs: 7103\r\n",
    ] {
        for length in 0..16 {
            let row = format!("X: {}\r\n{row}", "x".repeat(length));
            let found = ran(&request(&row, "Call-ID: ", "one@a"), 1_000, BLOCKS_MAX);
            assert_eq!(found, usual, "{row}");
        }
    }
}

#[test]
fn without_a_call_id_the_kernel_chooses() {
    let mut without = request("", "X: ", "one@a");
    assert_eq!(ran(&without, 4, BLOCKS_MAX), None);
    without.truncate(4);
    assert_eq!(ran(&without, 4, BLOCKS_MAX), None);
    assert_eq!(ran(b"", 4, BLOCKS_MAX), None);
    assert_eq!(ran(&request("", "i: ", "one@a"), 4, BLOCKS_MAX), None);
    assert_eq!(
        ran(&request("", "X-Call-ID: ", "one@a"), 4, BLOCKS_MAX),
        None
    );
    assert_eq!(ran(&request("", "Call-ID: ", ""), 4, BLOCKS_MAX), None);
    let deep = format!("X: {}\r\n", "x".repeat(2_000));
    assert_eq!(
        ran(&request(&deep, "Call-ID: ", "one@a"), 4, BLOCKS_MAX),
        None
    );
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
            sockets.push(Socket::bind(address, 1 << 20, 1 << 20).expect("a socket"));
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
    assert_eq!(farm.address().ip(), Ipv4Addr::LOCALHOST);
}
