//! The generator, the forwarders and the comparison as a user runs them.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitOptions, waitpid};
use serde_json::Value;

#[path = "../../tests/support/src/ports.rs"]
mod ports;

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_viaduct-bench"))
}

/// A machine that others share may stand still for a second.
const PATIENT: [&str; 2] = ["--patience", "10"];

/// A forwarder under way; ended when dropped.
struct Forwarder {
    child: Child,
    address: String,
}

impl Forwarder {
    fn start(engine: &str, destinations: &[String], peers: usize) -> Self {
        let mut command = bench();
        command.args(["forward", "--engine", engine, "--listen", "127.0.0.1:0"]);
        command.args(["--peers", &peers.to_string()]);
        for destination in destinations {
            command.args(["--to", destination]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a forwarder");
        let mut facts = BufReader::new(child.stderr.take().expect("its facts")).lines();
        let mut address = None;
        loop {
            let line = facts.next().expect("a fact").expect("text");
            if let Some(text) = line.strip_prefix("listening on udp:") {
                address = Some(text.to_owned());
            }
            if line.starts_with("ready:") {
                break;
            }
        }
        let address = address.expect("an address before it is ready");
        Self { child, address }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that is free on every local address.
fn free_port() -> u16 {
    let [port] = ports::free_ports(Ipv4Addr::UNSPECIFIED.into());
    port
}

/// A load of one second through a forwarder.
fn load(engine: &str, arguments: &[&str]) -> Value {
    let port = free_port();
    let destinations = [1, 2, 3, 4].map(|host| format!("127.1.0.{host}:{port}"));
    let forwarder = Forwarder::start(engine, &destinations, 1);
    let output = bench()
        .args([
            "load",
            "--balancer",
            &forwarder.address,
            "--bare",
            "--json",
            "--seconds",
            "1",
        ])
        .args(PATIENT)
        .args(["--destination-address", &destinations[0]])
        .args(arguments)
        .output()
        .expect("a load");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn assert_nothing_amiss(report: &Value) {
    let messages = &report["messages"];
    for amiss in ["lost", "unexpected"] {
        assert_eq!(messages[amiss], 0, "{amiss}: {report:#}");
    }
    assert_eq!(report["checks"]["failed"], 0, "{report:#}");
    assert!(report["checks"]["checked"].as_u64() > Some(0), "{report:#}");
    let sent = messages["sent"].as_u64().expect("a count");
    let received = ["received_by_farm", "received_by_callers"]
        .map(|key| messages[key].as_u64().expect("a count"));
    assert_eq!(sent, received.iter().sum::<u64>(), "{report:#}");
}

#[test]
fn whole_calls_pass_a_batching_forwarder_without_loss() {
    let report = load("mmsg", &["--rate", "1200"]);
    assert_nothing_amiss(&report);
    assert_eq!(report["offered_rate"], 1200.0);
    assert!(report["rate"].as_f64() > Some(0.0), "{report:#}");
    assert!(
        report["latency"]["requests"]["p50"].as_f64() > Some(0.0),
        "{report:#}"
    );
}

#[test]
fn a_closed_loop_passes_a_single_forwarder_without_loss() {
    let report = load("single", &["--window", "32"]);
    assert_nothing_amiss(&report);
    assert!(report["offered_rate"].is_null());
}

#[test]
fn messages_of_one_length_and_of_many_pass_a_segmenting_forwarder_without_loss() {
    for mix in ["equal", "calls", "invite", "transactions", "ringing"] {
        assert_nothing_amiss(&load("gso", &["--mix", mix, "--window", "256"]));
    }
}

#[test]
fn a_forwarder_that_is_held_again_and_again_loses_nothing() {
    for engine in ["single", "mmsg", "gso"] {
        let port = free_port();
        let destinations = [1, 2].map(|host| format!("127.1.0.{host}:{port}"));
        let forwarder = Forwarder::start(engine, &destinations, 1);
        let output = bench()
            .args(["load", "--balancer", &forwarder.address, "--bare"])
            .args(PATIENT)
            .args(["--destination-address", &destinations[0]])
            .args(["--destinations", "2", "--seconds", "0.5", "--gso-run", "1"])
            .args(["--hold", &forwarder.child.id().to_string(), "--json"])
            .output()
            .expect("a load");
        let report = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_nothing_amiss(&report);
    }
}

/// What a process finds that was held: the test takes its place at the socket.
#[test]
fn a_process_that_was_held_finds_a_full_queue_of_all_kinds() {
    // As many as a default buffer holds.
    const WINDOW: usize = 64;
    let turns = held_turns("transactions", WINDOW);
    // The first has nothing but INVITEs, the second their responses as well.
    let quarter = WINDOW / 4;
    for (number, turn) in turns.iter().enumerate() {
        for (kind, since) in [("INVITE", 0), ("180", 1), ("200", 1), ("ACK", 2)] {
            let wanted = if number < since { 0 } else { quarter };
            assert_eq!(
                count(turn, kind),
                wanted,
                "{kind}s of turn {number}: {turn:?}"
            );
        }
    }
    // One kind behind the other would favour whoever segments.
    let is_response = |kind: &&String| kind.starts_with(|first: char| first.is_ascii_digit());
    let (responses, requests): (Vec<_>, Vec<_>) = turns[3].iter().partition(is_response);
    for way in [requests, responses] {
        let changes = way.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(changes > way.len() / 3, "{way:?}");
    }
    let turns = held_turns("calls", WINDOW);
    for turn in &turns[3..] {
        for kind in ["INVITE", "ACK", "BYE", "100", "180", "200"] {
            assert!(count(turn, kind) > 0, "no {kind}: {turn:?}");
        }
        let share = WINDOW * 3 / 4..=WINDOW * 5 / 4;
        assert!(share.contains(&turn.len()), "{}: {turn:?}", turn.len());
    }
}

fn count(turn: &[String], kind: &str) -> usize {
    turn.iter().filter(|one| *one == kind).count()
}

/// Methods and status codes in the order in which they lay in the queue, turn by turn.
fn held_turns(mix: &str, window: usize) -> Vec<Vec<String>> {
    let held = Command::new("sleep").arg("60").spawn();
    let held = Ended(held.expect("a process to be held"));
    let queue = socket();
    let farm = format!("127.1.0.1:{}", free_port());
    let mut load = bench();
    load.args([
        "load",
        "--balancer",
        &address(&queue),
        "--bare",
        "--mix",
        mix,
    ])
    .args(PATIENT)
    .args(["--destination-address", &farm, "--destinations", "1"])
    .args(["--window", &window.to_string(), "--gso-run", "1"])
    .args(["--hold", &held.0.id().to_string(), "--seconds", "30"]);
    let _load = Ended(load.stdout(Stdio::null()).spawn().expect("a load"));
    let mut caller = None;
    let mut turn = || {
        let mut buffer = [0; 4096];
        let mut found = Vec::new();
        let mut next = queue.recv_from(&mut buffer);
        goes_on(&held.0);
        queue.set_nonblocking(true).expect("an option");
        while let Ok((length, source)) = next {
            found.push((buffer[..length].to_vec(), source));
            next = queue.recv_from(&mut buffer);
        }
        queue.set_nonblocking(false).expect("an option");
        let kinds = found.iter().map(|(message, source)| {
            let text = String::from_utf8_lossy(message);
            let mut words = text.split(' ');
            let word = words.next().expect("a word");
            if word == "SIP/2.0" {
                let caller = caller.expect("a request before its response");
                queue.send_to(message, caller).expect("a send");
                return words.next().expect("a status").to_owned();
            }
            caller = Some(*source);
            queue.send_to(message, &farm).expect("a send");
            word.to_owned()
        });
        kinds.collect()
    };
    (0..8).map(|_| turn()).collect()
}

/// Waits until a process that stood still has been told to go on.
fn goes_on(held: &Child) {
    let begin = Instant::now();
    let pid = Some(Pid::from_child(held));
    let look = WaitOptions::CONTINUED | WaitOptions::NOHANG;
    while waitpid(pid, look).expect("a child").is_none() {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing held it");
        sleep(Duration::from_millis(1));
    }
}

/// A process that is ended when dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_response_that_was_changed_is_found_of_every_kind_of_call() {
    for method in ["INVITE", "REGISTER", "OPTIONS"] {
        let report = load_through_a_liar(method);
        let found = &report["checks"]["first_failure"];
        let found = found.as_str().expect("a failure");
        assert!(found.contains("a header changed"), "{found}");
        assert!(found.contains(&format!("CSeq: 1 {method}")), "{found}");
    }
}

/// A load through this test, which writes another Contact into each 200 to `method`.
fn load_through_a_liar(method: &str) -> Value {
    let liar = socket();
    let farm = format!("127.1.0.1:{}", free_port());
    let mut load = bench();
    load.args(["load", "--balancer", &address(&liar), "--bare", "--json"])
        .args(PATIENT)
        .args(["--destination-address", &farm, "--destinations", "1"])
        .args(["--window", "32", "--gso-run", "1", "--seconds", "1"]);
    let mut load = Ended(load.stdout(Stdio::piped()).spawn().expect("a load"));
    let patience = Some(Duration::from_millis(20));
    liar.set_read_timeout(patience).expect("an option");
    let mut caller = None;
    let mut buffer = [0; 4096];
    while load.0.try_wait().expect("a child").is_none() {
        let Ok((length, source)) = liar.recv_from(&mut buffer) else {
            continue;
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        if !text.starts_with("SIP/2.0 ") {
            caller = Some(source);
            liar.send_to(text.as_bytes(), &farm).expect("a send");
            continue;
        }
        let lie = text.starts_with("SIP/2.0 200 ") && text.contains(&format!("CSeq: 1 {method}"));
        let contact = if lie {
            "Contact: <sip:no"
        } else {
            "Contact: <sip:"
        };
        let text = text.replacen("Contact: <sip:", contact, 1);
        let caller = caller.expect("a request before its response");
        liar.send_to(text.as_bytes(), caller).expect("a send");
    }
    let report = load.0.stdout.take().expect("its output");
    serde_json::from_reader(report).expect("JSON")
}

#[test]
fn callers_and_farm_can_do_without_anything_between() {
    let port = free_port();
    let output = bench()
        .args(["load", "--direct", "--json", "--seconds", "0.5"])
        .args(PATIENT)
        .args(["--rate", "2000", "--peers", "10"])
        .args(["--destination-address", &format!("127.1.0.1:{port}")])
        .output()
        .expect("a load");
    let report = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_nothing_amiss(&report);
}

/// Whether each of many datagrams leaves once, and those to one place in the
/// order in which they came.
#[test]
fn each_datagram_leaves_once_and_in_order_for_its_destination() {
    const DATAGRAMS: usize = 2000;
    for engine in ["single", "mmsg", "gso"] {
        let farm: Vec<UdpSocket> = (0..4).map(|_| socket()).collect();
        let destinations: Vec<String> = farm.iter().map(address).collect();
        let forwarder = Forwarder::start(engine, &destinations, 1);
        let caller = socket();
        caller.connect(&forwarder.address).expect("a way");
        let mut sent = vec![Vec::new(); farm.len()];
        let mut received = vec![Vec::new(); farm.len()];
        for number in 0..DATAGRAMS {
            // Runs of equal length, shorter and longer ones between.
            let length = 40 + (number / 7 % 5) * (number / 3 % 4) * 100;
            let text = format!("{number:09} {}", "x".repeat(length));
            caller.send(text.as_bytes()).expect("a send");
            sent[number % farm.len()].push(text);
            if number % 200 == 199 {
                take(&farm, &sent, &mut received);
            }
        }
        // One more to each: a second copy of the one before would come first.
        for sent in &mut sent {
            caller.send(b"end").expect("a send");
            sent.push("end".to_owned());
        }
        take(&farm, &sent, &mut received);
        assert!(
            sent == received,
            "{engine} lost, doubled or mixed up datagrams"
        );
    }
}

/// Receives until as many have come as were sent.
fn take(farm: &[UdpSocket], sent: &[Vec<String>], received: &mut [Vec<String>]) {
    let mut buffer = [0; 4096];
    for ((socket, sent), received) in farm.iter().zip(sent).zip(received) {
        while received.len() < sent.len() {
            let length = socket.recv(&mut buffer).expect("a datagram");
            received.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
}

#[test]
fn responses_reach_every_peer_that_is_remembered() {
    for engine in ["single", "mmsg", "gso"] {
        let farm = socket();
        let forwarder = Forwarder::start(engine, &[address(&farm)], 3);
        let callers: Vec<UdpSocket> = (0..3).map(|_| socket()).collect();
        for caller in &callers {
            caller
                .send_to(b"OPTIONS", &forwarder.address)
                .expect("a send");
            farm.recv(&mut [0; 16]).expect("a request");
        }
        for _ in &callers {
            farm.send_to(b"SIP/2.0 200 OK", &forwarder.address)
                .expect("a send");
        }
        for caller in &callers {
            assert_eq!(
                caller.recv(&mut [0; 16]).expect("a response"),
                14,
                "{engine}"
            );
        }
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).expect("an option");
    socket
}

fn address(socket: &UdpSocket) -> String {
    socket.local_addr().expect("an address").to_string()
}

#[test]
fn a_load_that_nobody_forwards_fails() {
    let nobody = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let address = nobody.local_addr().expect("an address").to_string();
    let output = bench()
        .args([
            "load",
            "--balancer",
            &address,
            "--seconds",
            "0.2",
            "--rate",
            "100",
        ])
        .args([
            "--destination-address",
            &format!("127.1.0.1:{}", free_port()),
        ])
        .output()
        .expect("a load");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing came through"), "{said}");
}

#[test]
fn a_comparison_prints_a_table_and_writes_data_and_a_plot() {
    let out = env!("CARGO_TARGET_TMPDIR");
    let output = bench()
        .args(["compare", "--quick", "--out", out])
        .args(["--only", "direct,bare-single,bare-mmsg,bare-gso-equal"])
        .output()
        .expect("a comparison");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("times bare-mmsg"));
    let json = std::fs::read(format!("{out}/compare.json")).expect("compare.json");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    let cells = json["parts"][0]["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 4 * 4, "contenders and loads");
    for cell in cells {
        assert!(cell["rounds"][0]["rate"].as_f64() > Some(0.0), "{cell:#}");
        assert!(cell["rounds"][0]["checked"].as_u64() > Some(0), "{cell:#}");
    }
    let svg = std::fs::read_to_string(format!("{out}/compare-headline.svg")).expect("a plot");
    assert!(svg.contains("bare-gso-equal"));
}

#[test]
fn a_comparison_along_an_axis_measures_every_setup() {
    let out = format!("{}/peers", env!("CARGO_TARGET_TMPDIR"));
    let output = bench()
        .args(["compare", "--quick", "--axis", "peers", "--out", &out])
        .args(["--only", "bare-mmsg"])
        .output()
        .expect("a comparison");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let table = String::from_utf8_lossy(&output.stdout);
    for peers in ["1, full queue", "10, full queue", "10000, full queue"] {
        assert!(table.contains(peers), "{table}");
    }
}

#[test]
fn a_contender_that_does_not_start_ends_the_comparison_and_is_named() {
    let out = format!("{}/silent", env!("CARGO_TARGET_TMPDIR"));
    let output = bench()
        .args(["compare", "--quick", "--out", &out])
        .args(["--only", "bare-mmsg", "--viaduct", "/bin/echo"])
        .output()
        .expect("a comparison");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("viaduct-2 did not start"), "{said}");
}

#[test]
fn an_unknown_contender_is_named_with_those_there_are() {
    let output = bench()
        .args(["compare", "--quick", "--only", "bare-mmsg,opensips"])
        .output()
        .expect("a comparison");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("no contender opensips"), "{said}");
    assert!(said.contains("bare-gso-equal"), "{said}");
}
