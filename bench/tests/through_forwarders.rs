//! The generator, the forwarders and the comparison as a user runs them.

use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

fn bench() -> Command {
    Command::new(env!("CARGO_BIN_EXE_viaduct-bench"))
}

/// A forwarder under way; ended when dropped.
struct Forwarder {
    child: Child,
    address: String,
}

impl Forwarder {
    fn start(engine: &str, base_port: u16) -> Self {
        let mut command = bench();
        command.args(["forward", "--engine", engine, "--listen", "127.0.0.1:0"]);
        for port in base_port..base_port + 4 {
            command.args(["--to", &format!("127.0.0.1:{port}")]);
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

/// A port with three free ones behind it.
fn base_port() -> u16 {
    let bind = |port| UdpSocket::bind(("127.0.0.1", port));
    loop {
        let first = bind(0)
            .and_then(|socket| socket.local_addr())
            .expect("a port")
            .port();
        if first < 65_000 && (first..first + 4).all(|port| bind(port).is_ok()) {
            return first;
        }
    }
}

/// A load of one second through a forwarder.
fn load(engine: &str, arguments: &[&str]) -> Value {
    let base_port = base_port();
    let forwarder = Forwarder::start(engine, base_port);
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
        .args(["--destination-base-port", &base_port.to_string()])
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
    for amiss in ["lost", "unexpected", "refused"] {
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
    let report = load("mmsg", &["--mix", "calls", "--rate", "1200"]);
    assert_nothing_amiss(&report);
    let rate = report["rate"].as_f64().expect("a rate");
    assert!(
        (1000.0..1400.0).contains(&rate),
        "{rate} messages/s of 1200"
    );
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
fn messages_leave_alone_where_segmentation_is_off() {
    assert_nothing_amiss(&load("mmsg", &["--rate", "1000", "--gso-run", "1"]));
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
        .args(["--destination-base-port", &base_port().to_string()])
        .output()
        .expect("a load");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("nothing came through"), "{said}");
}

#[test]
fn a_comparison_prints_a_table_and_writes_json_and_a_plot() {
    let out = env!("CARGO_TARGET_TMPDIR");
    let output = bench()
        .args(["compare", "--rounds", "1", "--seconds", "0.3", "--out", out])
        .args(["--only", "bare-single,bare-mmsg"])
        .output()
        .expect("a comparison");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(String::from_utf8_lossy(&output.stdout).contains("times bare mmsg"));
    let json = std::fs::read(format!("{out}/compare.json")).expect("compare.json");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    assert!(json["contenders"][1]["figures"]["saturated_rate"]["median"].as_f64() > Some(0.0));
    let svg = std::fs::read_to_string(format!("{out}/compare.svg")).expect("compare.svg");
    assert!(svg.contains("bare single"));
}

#[test]
fn a_contender_that_carries_nothing_ends_the_comparison() {
    let out = format!("{}/silent", env!("CARGO_TARGET_TMPDIR"));
    let output = bench()
        .args([
            "compare",
            "--quick",
            "--out",
            &out,
            "--only",
            "bare-mmsg",
            "--viaduct",
            "/bin/echo",
        ])
        .output()
        .expect("a comparison");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("viaduct-2 ended by itself"), "{said}");
}
