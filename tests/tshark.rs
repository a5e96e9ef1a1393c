//! A capture of calls through Viaduct, read back by tshark: what leaves is
//! SIP without a fault in the eyes of another implementation, and differs
//! from what came by no more than a stateless proxy may change.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use support::capture::{Capture, Recording};
use support::light_load;
use support::net::{V4, free_addresses};
use support::sipp::{Load, Scenario, Sipp};
use support::viaduct::Viaduct;

const CALLS: usize = 200;

/// Ports of the parties to the calls.
struct Ports {
    caller: u16,
    viaduct: u16,
    farm: [u16; 2],
}

fn record_calls(secret: &str) -> (Recording, Ports) {
    let [caller, first, second] = free_addresses(V4);
    // A capture on the sending machine has a run as one packet.
    let viaduct = Viaduct::start(&[
        "--gso",
        "off",
        "--listen",
        "127.0.0.1:0",
        "--secret-file",
        secret,
        "--to",
        &first.to_string(),
        "--to",
        &second.to_string(),
    ]);
    let front = viaduct.address(0);
    let servers = [first, second].map(|address| Sipp::server(Scenario::BuiltIn("uas"), address));
    let ports = Ports {
        caller: caller.port(),
        viaduct: front.port(),
        farm: [first.port(), second.port()],
    };
    let capture = Capture::start(&[ports.caller, ports.viaduct, ports.farm[0], ports.farm[1]]);
    let load = Load::new(CALLS as u32, 100);
    let stats = Sipp::caller(Scenario::BuiltIn("uac"), caller, front, load);
    stats.finish().assert_clean("caller", CALLS as u64);
    let taken = servers.map(|server| server.stop().calls());
    assert_eq!(
        taken.iter().sum::<u64>(),
        CALLS as u64,
        "calls of each server: {taken:?}"
    );
    (capture.stop(), ports)
}

/// A SIP message as tshark reads it.
#[derive(Debug)]
struct Message {
    from: u16,
    to: u16,
    /// Method of a request; empty for a response.
    method: String,
    call_id: String,
    cseq: String,
    /// `host:port` of each Via, the top one first.
    vias: Vec<String>,
    branches: Vec<String>,
    max_forwards: String,
}

fn messages(recording: &Recording) -> Vec<Message> {
    let fields = [
        "udp.srcport",
        "udp.dstport",
        "sip.Method",
        "sip.Call-ID",
        "sip.CSeq",
        "sip.Via.sent-by.address",
        "sip.Via.sent-by.port",
        "sip.Via.branch",
        "sip.Max-Forwards",
    ];
    let list = |text: &str| text.split('|').map(str::to_owned).collect::<Vec<_>>();
    let parse = |row: Vec<String>| {
        let [
            from,
            to,
            method,
            call_id,
            cseq,
            hosts,
            ports,
            branches,
            max_forwards,
        ] = <[String; 9]>::try_from(row).expect("a value for each field");
        let vias = list(&hosts).into_iter().zip(list(&ports));
        Message {
            from: from.parse().expect("a port"),
            to: to.parse().expect("a port"),
            method,
            call_id,
            cseq,
            vias: vias.map(|(host, port)| format!("{host}:{port}")).collect(),
            branches: list(&branches),
            max_forwards,
        }
    };
    recording
        .read("sip", &fields)
        .into_iter()
        .map(parse)
        .collect()
}

/// Call-ID and CSeq: what makes a request (of one kind) known on both sides.
fn requests(
    messages: &[Message],
    on_this_side: impl Fn(&Message) -> bool,
) -> BTreeMap<(&str, &str), &Message> {
    let chosen = messages.iter().filter(|message| !message.method.is_empty());
    let chosen = chosen.filter(|message| on_this_side(message));
    chosen
        .map(|message| ((&*message.call_id, &*message.cseq), message))
        .collect()
}

#[test]
fn capture_reads_back_clean() {
    let _load = light_load();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret").display().to_string();
    let (recording, ports) = record_calls(&secret);
    let captured = recording.read("udp", &["frame.number"]).len();
    // A network with a smaller MTU may cut what leaves into fragments.
    let from_viaduct = format!("udp.srcport == {} and ip.flags.df == 1", ports.viaduct);
    assert_eq!(recording.read(&from_viaduct, &["frame.number"]).len(), 0);
    let faults = recording.read(
        "_ws.malformed or _ws.expert",
        &["frame.number", "_ws.expert.message"],
    );
    assert!(
        faults.is_empty(),
        "tshark finds fault with {}: {:?}",
        faults.len(),
        &faults[..1]
    );

    let messages = messages(&recording);
    assert_eq!(messages.len(), captured, "every datagram is SIP");
    // INVITE, 180, 200, ACK, BYE, 200: each seen on both sides of Viaduct.
    assert!(
        messages.len() >= CALLS * 12,
        "only {} messages",
        messages.len()
    );

    let came = requests(&messages, |message| message.from == ports.caller);
    let left = requests(&messages, |message| message.from == ports.viaduct);
    assert_eq!(came.len(), CALLS * 3, "INVITE, ACK and BYE of each call");
    assert!(
        came.keys().eq(left.keys()),
        "Call-ID and CSeq leave as they came"
    );

    let own = format!("127.0.0.1:{}", ports.viaduct);
    let mut invite_branches = BTreeSet::new();
    for (key, before) in &came {
        let after = left[key];
        assert!(ports.farm.contains(&after.to), "to the farm: {after:?}");
        assert_eq!(after.method, before.method);
        assert_eq!(after.vias[0], own, "our Via on top: {after:?}");
        assert_eq!(after.vias[1..], before.vias, "the others as they came");
        assert!(after.branches[0].starts_with("z9hG4bK"), "{after:?}");
        assert_eq!(
            after.branches[1..],
            before.branches,
            "the others as they came"
        );
        assert_eq!((&*before.max_forwards, &*after.max_forwards), ("70", "69"));
        if after.method == "INVITE" {
            assert!(
                invite_branches.insert(&after.branches[0]),
                "a branch twice: {after:?}"
            );
        }
    }
    assert_replay_agrees(&recording, &ports, &secret, &messages);

    // The caller sees responses with its own Via and no other.
    let home = messages.iter().filter(|message| message.to == ports.caller);
    for response in home {
        assert_eq!(
            response.vias,
            [format!("127.0.0.1:{}", ports.caller)],
            "{response:?}"
        );
    }
}

/// `viaduct replay` decides on what came as the capture shows that it was.
fn assert_replay_agrees(recording: &Recording, ports: &Ports, secret: &str, all: &[Message]) {
    let local = |port: &u16| format!("127.0.0.1:{port}");
    let front = local(&ports.viaduct);
    let mut command = Command::new(support::program());
    command.arg("replay").arg(recording.file());
    command.args(["--json", "--secret-file", secret, "--listen", &front]);
    command.args(
        ports
            .farm
            .iter()
            .flat_map(|port| ["--to".to_owned(), local(port)]),
    );
    let output = command.output().expect("an end");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let told = told["messages"].as_array().expect("messages");
    let mut told: Vec<_> = told
        .iter()
        .map(|each| {
            let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
            (text(&each["call_id"]), text(&each["decision"]["to"]))
        })
        .collect();
    let left = all.iter().filter(|message| message.from == ports.viaduct);
    let mut left: Vec<_> = left
        .map(|message| (message.call_id.clone(), local(&message.to)))
        .collect();
    told.sort();
    left.sort();
    assert_eq!(told, left);
}
