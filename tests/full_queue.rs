//! What finds a queue or buffer of our own full, or for a while no way, is lost
//! like what is lost on its way: it is sent again, and says nothing of where it
//! was to go.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use support::dialog::{Peer, Request, Scene, read, response, status};
use support::process::{Signal, in_a_network_of_its_own};
use support::{LONG, wait_until};

/// More than either holds, and fewer than the receive buffers of the test do.
const MESSAGES: usize = 60;
/// How soon the caller sends again what is unanswered.
const AGAIN: Duration = Duration::from_millis(500);

/// The test with this name in a network of its own, whose loopback takes
/// 500,000 octets a second and lets so many wait.
fn on_a_slow_link(waiting: &str, test: &str) {
    let queue = format!("tc qdisc add dev lo root tbf rate 4mbit burst 3000 limit {waiting}");
    in_a_network_of_its_own(&format!("ip link set lo up && {queue}"), test);
}

#[test]
fn a_full_queue_of_an_interface_moves_no_request() {
    on_a_slow_link("6000", "where_the_queue_is_full");
}

#[test]
fn a_full_send_buffer_moves_no_request() {
    on_a_slow_link("4000000", "where_the_send_buffer_is_full");
}

#[test]
#[ignore = "runs in a network namespace of its own, started by a test above"]
fn where_the_queue_is_full() {
    all_are_answered_where_they_were_sent(&[], rustix::io::Errno::NOBUFS);
}

#[test]
#[ignore = "runs in a network namespace of its own, started by a test above"]
fn where_the_send_buffer_is_full() {
    let args = ["--send-buffer", "16KiB"];
    all_are_answered_where_they_were_sent(&args, rustix::io::Errno::AGAIN);
}

/// Requests that wait together at Viaduct, and so leave together.
fn all_are_answered_where_they_were_sent(args: &[&str], lack: rustix::io::Errno) {
    let timers = ["--timer", "T1=100ms,T2=400ms,F=5m", "--gso", "off"];
    let mut scene = Scene::stateful(2, "MESSAGE", &timers, args);
    let mut unanswered: BTreeMap<_, _> = (0..MESSAGES)
        .map(|_| scene.request("MESSAGE"))
        .map(|request| (request.call_id.clone().into_bytes(), request))
        .collect();
    // No faster than the link takes them.
    let send_all = |unanswered: &BTreeMap<Vec<u8>, Request>| {
        for request in unanswered.values() {
            scene.send(request.text());
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    scene.viaduct.halt();
    send_all(&unanswered);
    scene.viaduct.signal(Signal::CONT);
    let mut places = BTreeSet::new();
    let end = Instant::now() + LONG;
    let mut again = Instant::now() + AGAIN;
    while !unanswered.is_empty() {
        assert!(Instant::now() < end, "{} unanswered", unanswered.len());
        for (number, member) in scene.farm.iter().enumerate() {
            while let Some((octets, _)) = member.poll() {
                places.insert((read(&octets).call_id, number));
                member.send(scene.front(), response(&octets, "200 OK", "t"));
            }
        }
        while let Some((octets, _)) = scene.caller.poll() {
            assert_eq!(status(&octets), 200);
            unanswered.remove(&read(&octets).call_id);
        }
        if again < Instant::now() {
            send_all(&unanswered);
            again = Instant::now() + AGAIN;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(places.len(), MESSAGES, "some came to two destinations");
    let counters = scene.viaduct.counters();
    let lost = format!("send-error-{}", lack.raw_os_error());
    assert!(counters.get(&lost) > 0, "nothing was full: {counters:?}");
    assert_eq!(counters.get("failed-over"), 0);
    for member in scene.farm.iter().map(Peer::address) {
        assert_eq!(counters.get(&format!("suspected-default-{member}")), 0);
    }
}

#[test]
fn a_copy_that_cannot_leave_ends_no_call() {
    in_a_network_of_its_own(
        "ip link set lo up && ip address add 198.51.100.1/32 dev lo && \
         ip address add 198.51.100.2/32 dev lo",
        "where_the_way_is_gone_for_a_while",
    );
}

/// The first copy has arrived before.
#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_the_way_is_gone_for_a_while() {
    const GONE: i32 = rustix::io::Errno::NETUNREACH.raw_os_error();
    let farm = [1, 2].map(|last| Peer::new(IpAddr::from([198, 51, 100, last])));
    let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    for member in &farm {
        args.extend(["--to".to_owned(), member.address().to_string()]);
    }
    let timers = ["--stateful", "INVITE", "--timer", "T1=200ms,B=60s"];
    let more = [&timers[..], &["--failover-after", "30s"]].concat();
    let mut scene = Scene::with(farm.into(), &args, &more);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let way = |change: &str| {
        let ip = scene.farm[leg.member].address().ip();
        let mut command = Command::new("ip");
        command.args(["address", change, &format!("{ip}/32"), "dev", "lo"]);
        assert!(command.status().expect("ip runs").success());
    };
    way("del");
    let lost = format!("send-error-{GONE}");
    wait_until("a retransmission", || scene.viaduct.counter(&lost) > 0);
    way("add");
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.farm[1 - leg.member].assert_silent();
    scene.assert_counter("failed-over", 0);
}
