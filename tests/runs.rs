//! Runs over real sockets (UDP GSO): datagrams that wait together leave
//! together, all of them, those of a call in order, and changed by nothing but
//! white space behind one colon (RFC 3261 §25.1).

use std::net::SocketAddr;
use std::process::Command;

use rustix::io::Errno;

use support::dialog::{Peer, Scene, assert_octets, response, with_own_via};
use support::net::{V4, V6};
use support::process::{Signal, in_a_network_of_its_own};
use support::wait_until;

/// Fewer than a batch, so that all of them make one, and few enough for the
/// receive buffer of a socket of the test.
const MESSAGES: usize = 60;

/// Calls that the messages belong to, in turn.
const CALLS: usize = 30;

/// The length of the filling of message `number`: blocks of four are alike,
/// blocks differ by a little or by much.
fn filling(number: usize) -> usize {
    [0, 7, 31, 60, 300, 310, 20][number / 4 % 7]
}

/// What the test sends and gets in one direction.
struct Passage {
    sent: Vec<String>,
    /// By the peer that got them, in order.
    got: Vec<Vec<Vec<u8>>>,
}

/// Stops Viaduct while `send` runs, so that what it sends waits together.
fn together(scene: &Scene, send: impl FnOnce()) {
    scene.viaduct.halt();
    send();
    scene.viaduct.signal(Signal::CONT);
}

fn requests(scene: &Scene, filling: impl Fn(usize) -> usize) -> Passage {
    let sent: Vec<String> = (0..MESSAGES)
        .map(|number| {
            let request = scene.request("MESSAGE");
            let row = format!("X-Number: {number:04}{}", "x".repeat(filling(number)));
            request
                .call_id(format!("{:04}@phones.example", number % CALLS))
                .from(format!("<sip:ann@phones.example>;tag=from-{number:04}"))
                .row(row)
                .text()
        })
        .collect();
    together(scene, || sent.iter().for_each(|octets| scene.send(octets)));
    let mut got = vec![Vec::new(); scene.farm.len()];
    for _ in 0..MESSAGES {
        let (member, octets) = scene.at_farm();
        got[member].push(octets);
    }
    Passage { sent, got }
}

/// Answers to all of `requests`, in turn from each member of the farm.
fn responses(scene: &Scene, requests: &Passage) -> Passage {
    let mut sent = Vec::new();
    together(scene, || {
        for (member, requests) in scene.farm.iter().zip(&requests.got) {
            for request in requests {
                let octets = response(request, "200 OK", "farm");
                member.send(scene.front(), &octets);
                sent.push(octets);
            }
        }
    });
    let got = (0..MESSAGES).map(|_| scene.caller.receive()).collect();
    Passage {
        sent,
        got: vec![got],
    }
}

/// The message with one space behind the colon of Max-Forwards, or of the
/// topmost Via in a response; and how many more were there.
fn without_padding(octets: &[u8]) -> (Vec<u8>, usize) {
    let name: &[u8] = match octets.starts_with(b"SIP/2.0 ") {
        true => b"\r\nVia: ",
        false => b"\r\nMax-Forwards: ",
    };
    let mut parts = octets.windows(name.len());
    let at = parts.position(|part| part.eq_ignore_ascii_case(name));
    let (head, tail) = octets.split_at(at.expect("such a row") + name.len());
    let spaces = tail.iter().take_while(|octet| **octet == b' ').count();
    ([head, &tail[spaces..]].concat(), spaces)
}

/// Request `sent` as it should have come to the farm, where it was `got`.
fn passed_on(scene: &Scene, sent: &str, got: &[u8]) -> String {
    let sent = sent.replace("Max-Forwards: 70", "Max-Forwards: 69");
    with_own_via(&sent, got, scene.front())
}

/// The number in a message.
fn number(octets: &[u8]) -> usize {
    let text = String::from_utf8_lossy(octets);
    let (_, rest) = text.split_once("tag=from-").expect("the tag of From");
    rest[..4].parse().expect("a number")
}

/// Whether the messages of each call came in order.
fn calls_are_in_order(got: &[Vec<u8>]) -> bool {
    (0..CALLS).all(|call| {
        let numbers = got.iter().map(|octets| number(octets));
        numbers.filter(|number| number % CALLS == call).is_sorted()
    })
}

/// Sends both ways; demands that each message came once and intact, those of
/// a call in order.
/// Returns the scene and the most octets that one was padded by.
fn play(gso: &str) -> (Scene, usize) {
    let scene = Scene::new(3, &["--gso", gso]);
    let requests = requests(&scene, filling);
    let mut most = 0;
    for got in &requests.got {
        assert!(got.len() > 5, "a member got {}", got.len());
        assert!(calls_are_in_order(got), "out of order");
        for octets in got {
            let (plain, spaces) = without_padding(octets);
            let wanted = passed_on(&scene, &requests.sent[number(octets)], &plain);
            assert_octets(&plain, wanted);
            most = most.max(spaces);
        }
    }
    let responses = responses(&scene, &requests);
    assert!(calls_are_in_order(&responses.got[0]), "out of order");
    let mut numbers: Vec<usize> = responses.got[0]
        .iter()
        .map(|octets| number(octets))
        .collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..MESSAGES), "lost or doubled");
    for octets in &responses.got[0] {
        let (plain, spaces) = without_padding(octets);
        let same = |sent: &&String| number(sent.as_bytes()) == number(octets);
        let sent = responses.sent.iter().find(same).expect("sent");
        // All but our Via, the second row.
        let (start, rest) = sent.split_once("\r\n").expect("a start line");
        let (_, rest) = rest.split_once("\r\n").expect("our Via");
        assert_octets(&plain, format!("{start}\r\n{rest}"));
        most = most.max(spaces);
    }
    scene.assert_nothing_left();
    (scene, most)
}

#[test]
fn messages_of_similar_length_are_padded_and_leave_in_runs() {
    let (scene, most) = play("pad");
    assert!((1..64).contains(&most), "padded by {most}");
    let counters = scene.viaduct.stop();
    let (runs, sent) = (counters.get("runs-sent"), counters.get("sent-in-runs"));
    assert!(sent > MESSAGES as u64, "{counters:?}");
    assert!(runs > 0 && runs < sent / 4, "{counters:?}");
    counters.assert_all_forwarded();
}

#[test]
fn exact_runs_change_no_octet() {
    let (scene, most) = play("exact");
    assert_eq!(most, 0);
    let counters = scene.viaduct.stop();
    assert!(counters.get("runs-sent") > 0, "{counters:?}");
    counters.assert_all_forwarded();
}

#[test]
fn switched_off_there_are_no_runs() {
    let (scene, most) = play("off");
    assert_eq!(most, 0);
    assert_eq!(scene.viaduct.stop().get("runs-sent"), 0);
}

/// Local replies leave alone, and overtake nothing.
#[test]
fn replies_among_requests_leave_unpadded() {
    let scene = Scene::new(1, &["--gso", "pad", "--reply-rate", "1000000"]);
    let refused = scene.request("OPTIONS").max_forwards("Max-Forwards: 0");
    let request = scene.request("MESSAGE");
    together(&scene, || {
        for _ in 0..20 {
            scene.send(refused.text());
            scene.send(request.text());
        }
    });
    for _ in 0..20 {
        let reply = scene.caller.receive();
        assert!(reply.starts_with(b"SIP/2.0 483 "));
        assert_eq!(without_padding(&reply).1, 0);
        scene.at_farm();
    }
    scene.assert_nothing_left();
}

/// Over IPv4 a router may have to fragment what is longer than a packet that takes
/// any path, and the packets of runs have no identification of their own.
#[test]
fn long_messages_leave_in_runs_where_no_router_fragments_them() {
    for (ip, filling, in_runs) in [(V4, 700, true), (V4, 1100, false), (V6, 1500, true)] {
        let farm = vec![Peer::new(ip)];
        let listen = SocketAddr::new(ip, 0);
        let first = ["--listen", &listen.to_string(), "--to"].map(str::to_owned);
        let first = [&first[..], &[farm[0].address().to_string()]].concat();
        let mut scene = Scene::with(farm, &first, &["--gso", "pad"]);
        scene.caller = Peer::new(ip);
        let requests = requests(&scene, |_| filling);
        for (octets, sent) in requests.got[0].iter().zip(&requests.sent) {
            let (plain, _) = without_padding(octets);
            assert_octets(&plain, passed_on(&scene, sent, &plain));
        }
        scene.pass(scene.request("OPTIONS").text());
        let left = scene.viaduct.counter("sent-in-runs");
        assert_eq!(
            left > 0,
            in_runs,
            "{left} of {filling} octets and more to {ip}"
        );
        scene.assert_counter("runs-refused", 0);
    }
}

/// Datagrams that this network fragments.
const SMALL_MTU: &str = "900";

/// The test below in a network namespace of its own, whose loopback has a
/// small MTU.
#[test]
fn a_path_that_refuses_runs_loses_nothing() {
    in_a_network_of_its_own(
        &format!("ip link set lo mtu {SMALL_MTU} up"),
        "where_the_mtu_is_small",
    );
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_the_mtu_is_small() {
    let links = Command::new("ip").args(["link", "show", "lo"]).output();
    let links = String::from_utf8(links.expect("ip").stdout).expect("text");
    assert!(links.contains(&format!("mtu {SMALL_MTU} ")), "{links}");

    let mut scene = Scene::new(1, &["--gso", "pad"]);
    let all_came = |scene: &Scene, filling: usize| {
        let requests = requests(scene, |_| filling);
        let numbers = requests.got[0].iter().map(|octets| number(octets));
        assert!(numbers.eq(0..MESSAGES), "lost or out of order");
        for (octets, sent) in requests.got[0].iter().zip(&requests.sent) {
            assert_octets(octets, passed_on(scene, sent, octets));
        }
    };
    all_came(&scene, 700);
    // A worker counts behind what it has sent, and last what it has received.
    wait_until("the count", || {
        scene.viaduct.counter("received") == MESSAGES as u64
    });
    let refused = scene.viaduct.counter("runs-refused");
    assert!(refused > 0);
    scene.assert_counter("runs-sent", 0);
    // It is remembered: no run of that length again, but shorter ones.
    all_came(&scene, 700);
    all_came(&scene, 0);
    scene.assert_counter("runs-refused", refused);
    wait_until("a run", || scene.viaduct.counter("runs-sent") > 0);
}

/// A route that is away for a moment refuses every datagram, as one without
/// segmentation refuses runs.
#[test]
fn who_refuses_single_datagrams_as_well_is_sent_runs_again() {
    let rules = "ip rule add pref 100 lookup local && ip rule del pref 0";
    in_a_network_of_its_own(
        &format!("ip link set lo up && {rules}"),
        "where_a_route_comes_back",
    );
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_a_route_comes_back() {
    let rule = |verb: &str, port: u16| {
        let mut command = Command::new("ip");
        command.args(["rule", verb, "pref", "10", "ipproto", "udp"]);
        command.args(["dport", &port.to_string(), "blackhole"]);
        assert!(command.status().expect("ip").success());
    };
    let mut scene = Scene::new(1, &["--gso", "pad"]);
    let port = scene.farm[0].address().port();
    rule("add", port);
    let request = scene.request("MESSAGE");
    together(&scene, || {
        (0..MESSAGES).for_each(|_| scene.send(request.text()))
    });
    let invalid = format!("send-error-{}", Errno::INVAL.raw_os_error());
    wait_until("refused one by one", || {
        scene.viaduct.counter(&invalid) >= MESSAGES as u64
    });
    rule("del", port);
    requests(&scene, |_| 0);
    // A worker counts behind what it has sent.
    wait_until("a run", || scene.viaduct.counter("runs-sent") > 0);
    scene.assert_counter("runs-refused", 0);
}
