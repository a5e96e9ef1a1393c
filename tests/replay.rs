//! `viaduct replay` says of the messages of a capture what `viaduct run` does
//! with them, whatever tool wrote the capture, and tells what it leaves out.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use support::dialog::{Peer, Request, Scene, response};
use support::folder::{Folder, said, stdout};
use support::net::V4;
use support::packets::{FORMATS, Format, LINKS, Link, Sent, Writer};

const FRONT: &str = "192.0.2.10:5060";
const PHONE: &str = "198.51.100.7:5070";

/// A folder with a secret.
fn bench() -> Folder {
    let bench = Folder::with(&["replay", "calls.pcap"], &[]);
    bench.write("secret", format!("{}\n", "5c".repeat(32)));
    bench
}

/// Writes a configuration with these lines before its one set.
fn write_config(bench: &Folder, name: &str, lines: &str, destinations: &[&str]) {
    let set = format!("[[set]]\nname = 'farm'\ndestinations = {destinations:?}\n");
    bench.write(name, format!("secret-file = 'secret'\n{lines}\n{set}"));
}

fn write_capture(bench: &Folder, sent: &[Sent]) {
    Writer::of(sent).save(&bench.path("calls.pcap"));
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn sent(at: u64, source: &str, destination: &str, payload: impl AsRef<[u8]>) -> Sent {
    Sent {
        at,
        source: address(source),
        destination: address(destination),
        payload: payload.as_ref().to_vec(),
    }
}

/// New calls of the phone, and what else comes to a listener.
fn calls(number: u64) -> Vec<Sent> {
    let invite = |i| {
        let text = Request::new("INVITE", address(PHONE)).text();
        sent(i * 1500, PHONE, FRONT, text)
    };
    (0..number).map(invite).collect()
}

const FARM: [&str; 3] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];

#[test]
fn replay_says_what_run_did() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let secret = secret.to_str().expect("text").to_owned();
    let farm: Vec<Peer> = (0..4).map(|_| Peer::new(V4)).collect();
    let mut shared = vec!["--secret-file".to_owned(), secret];
    for member in &farm {
        shared.extend(["--to".to_owned(), member.address().to_string()]);
    }
    let listen = ["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    let scene = Scene::with(farm, &[&listen[..], &shared].concat(), &[]);
    let (front, caller) = (scene.front(), scene.caller.address());

    let bench = bench();
    let mut capture = Vec::new();
    let mut wanted = Vec::new();
    let mut note = |source, destination, payload: &[u8]| {
        capture.push(Sent {
            at: capture.len() as u64,
            source,
            destination,
            payload: payload.to_vec(),
        });
    };
    for _ in 0..12 {
        let request = scene.request("INVITE").text();
        let (member, got) = scene.pass(&request);
        let member = &scene.farm[member];
        note(caller, front, request.as_bytes());
        // What we send ourselves is no message to decide.
        note(front, member.address(), &got);
        wanted.push(("forward", member.address().to_string()));
        let answer = response(&got, "200 OK", "t");
        member.send(front, &answer);
        note(member.address(), front, answer.as_bytes());
        assert!(!scene.caller.receive().is_empty());
        wanted.push(("forward", caller.to_string()));
    }
    let bad = scene
        .request("INVITE")
        .max_forwards("Max-Forwards: 0")
        .text();
    assert!(scene.answer(&bad).starts_with(b"SIP/2.0 483"));
    note(caller, front, bad.as_bytes());
    wanted.push(("reply", caller.to_string()));
    write_capture(&bench, &capture);

    let mut args = vec!["--listen".to_owned(), front.to_string()];
    args.extend(shared);
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let told = bench.json(&args);
    let messages = told["messages"].as_array().expect("messages");
    let found: Vec<_> = messages
        .iter()
        .map(|message| {
            let decision = &message["decision"];
            let text = |key: &str| decision[key].as_str().expect("text");
            (text("action"), text("to").to_owned())
        })
        .collect();
    assert_eq!(found, wanted);
    assert_eq!(messages[24]["decision"]["status"], 483);
    let summary = &told["summary"];
    assert_eq!(summary["capture"]["sent_by_listeners"], 12);
    assert_eq!(summary["decisions"]["forward, response"], 12);
    assert_eq!(summary["decisions"]["reply 483, too-many-hops"], 1);
    assert_eq!(summary["destinations"]["elsewhere"], 12);
}

#[test]
fn every_format_and_link_type_is_read_alike() {
    let bench = bench();
    let listen = "listen = ['192.0.2.10:5060', '[2001:db8::10]:5060']";
    write_config(&bench, "a.toml", listen, &["10.0.0.1", "[2001:db8:1::1]"]);
    let phone = "[2001:db8:2::7]:5070";
    let v6 = Request::new("OPTIONS", address(phone)).text();
    let mut messages = calls(3);
    messages.push(sent(2_000_001, phone, "[2001:db8::10]:5060", v6));
    messages.push(sent(2_000_002, PHONE, FRONT, "\r\n"));
    let mut first = None;
    for format in FORMATS {
        for link in LINKS {
            let mut writer = Writer::new(format, link);
            for message in &messages {
                writer.packet(message.at, &message.packet());
            }
            writer.save(&bench.path("calls.pcap"));
            let told = bench.json(&["--config", "a.toml"]);
            let first = first.get_or_insert_with(|| told.clone());
            assert_eq!(told, *first, "{format:?}, {link:?}");
        }
    }
    let told = first.expect("a replay");
    let list = told["messages"].as_array().expect("messages");
    let times: Vec<_> = list.iter().map(|each| each["at_us"].as_u64()).collect();
    assert_eq!(times, [0, 1500, 3000, 2_000_001, 2_000_002].map(Some));
    assert_eq!(told["summary"]["decisions"]["drop, keep-alive"], 1);
    assert_eq!(told["summary"]["messages"], 5);
}

#[test]
fn a_capture_may_come_from_a_pipe() {
    let bench = bench();
    write_config(&bench, "a.toml", "listen = ['192.0.2.10']", &FARM);
    write_capture(&bench, &calls(3));
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let capture = fs::read(bench.path("calls.pcap")).expect("a capture");
    writer.write_all(&capture).expect("room in a pipe");
    drop(writer);
    let mut replay = Folder::with(&["replay", "-"], &[]).command();
    replay.current_dir(bench.path(""));
    let output = replay.args(["--config", "a.toml"]).stdin(reader).output();
    let output = output.expect("an end");
    said(&output, 0, &[]);
    assert_eq!(stdout(&output), bench.text(&["--config", "a.toml"]));
}

#[test]
fn fragments_are_put_together() {
    let bench = bench();
    let listen = "listen = ['192.0.2.10:5060', '[2001:db8::10]:5060']";
    write_config(&bench, "a.toml", listen, &["10.0.0.1"]);
    let long = |from: &str| {
        let request = Request::new("INVITE", address(from));
        request.row(format!("Subject: {}", "x".repeat(3000))).text()
    };
    let phone = "[2001:db8:2::7]:5070";
    let v4 = sent(0, PHONE, FRONT, long(PHONE));
    let v6 = sent(0, phone, "[2001:db8::10]:5060", long(phone));
    let mut writer = Writer::new(Format::Micros, Link::Ethernet);
    let (v4, v6) = (v4.fragments(1480), v6.fragments(1448));
    assert_eq!((v4.len(), v6.len()), (3, 3));
    // Mixed, and not in order; then one that never gets whole.
    for packet in [&v4[2], &v6[0], &v4[0], &v6[2], &v6[1], &v4[1], &v4[0]] {
        writer.packet(1, packet);
    }
    writer.save(&bench.path("calls.pcap"));
    let told = bench.json(&["--config", "a.toml"]);
    let summary = &told["summary"];
    assert_eq!(summary["messages"], 2, "{told}");
    assert_eq!(summary["decisions"]["forward, hash in set farm"], 2);
    let capture = &summary["capture"];
    assert_eq!(
        [
            &capture["fragments"],
            &capture["rejoined"],
            &capture["fragments_missing"]
        ],
        [7, 2, 1]
    );
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("7 fragments made 2 datagrams"), "{text}");
}

#[test]
fn only_what_is_decided_otherwise_is_listed_against_another_configuration() {
    let bench = bench();
    let listen = "listen = ['192.0.2.10']";
    write_config(&bench, "a.toml", listen, &FARM);
    write_config(&bench, "b.toml", listen, &FARM[..2]);
    let mut messages = calls(60);
    messages.push(sent(90_000, PHONE, FRONT, "\0"));
    write_capture(&bench, &messages);
    let alone = bench.json(&["--config", "a.toml"]);
    let list = alone["messages"].as_array().expect("messages");
    let of_the_removed = list
        .iter()
        .filter(|each| each["decision"]["to"] == "10.0.0.3:5060")
        .map(|each| each["call_id"].clone());
    let of_the_removed: Vec<_> = of_the_removed.collect();
    assert!((5..40).contains(&of_the_removed.len()));

    let told = bench.json(&["--config", "a.toml", "--against", "b.toml"]);
    let list = told["messages"].as_array().expect("messages");
    let listed: Vec<_> = list.iter().map(|each| each["call_id"].clone()).collect();
    assert_eq!(listed, of_the_removed, "and no other");
    assert!(list.iter().all(|each| {
        each["decision"]["to"] == "10.0.0.3:5060" && each["against"]["to"] != "10.0.0.3:5060"
    }));
    let summary = &told["summary"];
    let moved = of_the_removed.len();
    assert_eq!(summary["differing"], moved);
    assert_eq!(summary["other_octets"], 0);
    let class = &summary["classes"]["request outside a dialog"];
    assert_eq!(
        (&class["messages"], &class["differing"]),
        (&60.into(), &moved.into())
    );
    let gone = &summary["destinations"]["10.0.0.3:5060 in set farm"];
    assert_eq!(
        (&gone["config"], &gone["against"]),
        (&moved.into(), &0.into())
    );

    let text = bench.text(&["--config", "a.toml", "--against", "b.toml"]);
    assert!(text.contains(&format!("{moved} of 61 messages")), "{text}");
    assert_eq!(text.matches("  --against  forward to ").count(), moved);
    // One listener more, however they are named, takes none of them.
    let more = "[[listener]]\nname = 'outside'\naddress = '192.0.2.10'\n\
                [[listener]]\naddress = '192.0.2.11'";
    write_config(&bench, "more.toml", more, &FARM);
    for other in ["a.toml", "more.toml"] {
        let text = bench.text(&["--config", "a.toml", "--against", other]);
        assert!(text.contains("0 of 61 messages (0.0 %)"), "{text}");
        assert!(!text.contains("INVITE"), "{text}");
    }
}

#[test]
fn the_listener_is_found_by_the_address_a_datagram_was_sent_to() {
    let bench = bench();
    let lines = "[[listener]]\nname = 'inside'\naddress = '10.0.0.99'\n\
                 [[listener]]\nname = 'outside'\naddress = '10.0.0.98:5062'\n\
                 advertise = '192.0.2.10:5060'\n";
    write_config(&bench, "a.toml", lines, &FARM);
    let call = || Request::new("INVITE", address(PHONE)).text();
    write_capture(
        &bench,
        &[
            sent(0, PHONE, "10.0.0.99:5060", call()),
            sent(1, PHONE, "10.0.0.98:5062", call()),
            sent(2, PHONE, FRONT, call()),
            sent(3, PHONE, "10.0.0.98:5060", call()),
            sent(4, FRONT, PHONE, call()),
            sent(5, "10.0.0.98:5062", "10.0.0.1:5060", call()),
        ],
    );
    let told = bench.json(&["--config", "a.toml"]);
    let list = told["messages"].as_array().expect("messages");
    let left: Vec<_> = list
        .iter()
        .map(|each| &each["decision"]["listener"])
        .collect();
    assert_eq!(left, ["inside", "outside", "outside"]);
    let capture = &told["summary"]["capture"];
    assert_eq!(capture["sent_by_listeners"], 2);
    assert_eq!(capture["to_others"], 1);

    let told = bench.json(&["--config", "a.toml", "--listener", "inside"]);
    let list = told["messages"].as_array().expect("messages");
    assert_eq!(list.len(), 4);
    assert!(
        list.iter()
            .all(|each| each["decision"]["listener"] == "inside")
    );
    bench.refused(
        &["--config", "a.toml", "--listener", "inner"],
        1,
        &["there is no listener `inner`", "inside, outside"],
    );

    write_capture(&bench, &[sent(0, PHONE, "203.0.113.1:5060", call())]);
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("nothing was sent to a listener"), "{text}");
    for hint in [
        "--listen ADDR --advertise HOST",
        "--listener NAME takes all",
    ] {
        assert!(text.contains(hint), "{text}");
    }

    // What comes to a wildcard over loopback surely comes there.
    let lines = "listen = ['0.0.0.0']\nadvertise = '192.0.2.10'";
    write_config(&bench, "b.toml", lines, &FARM);
    write_capture(
        &bench,
        &[
            sent(0, "127.0.0.1:5070", "127.0.0.9:5060", call()),
            sent(1, "127.0.0.1:5060", "127.0.0.1:5070", call()),
            sent(2, PHONE, "203.0.113.1:5060", call()),
        ],
    );
    let told = bench.json(&["--config", "b.toml"]);
    assert_eq!(told["summary"]["messages"], 1, "{told}");
    let capture = &told["summary"]["capture"];
    assert_eq!(capture["sent_by_listeners"], 1);
    assert_eq!(capture["to_others"], 1);

    // Else with the address that it had, and what it advertises.
    let came = sent(0, PHONE, "203.0.113.1:5060", call());
    let left = sent(1, "203.0.113.1:5060", "10.0.0.1:5060", call());
    write_capture(&bench, &[came, left]);
    let flags = ["--listen", "203.0.113.1", "--advertise", "192.0.2.10"];
    let told = bench.json(&[&["--config", "b.toml"], &flags[..]].concat());
    assert_eq!(told["summary"]["messages"], 1, "{told}");
    assert_eq!(told["summary"]["capture"]["sent_by_listeners"], 1, "{told}");
}

#[test]
fn where_no_message_could_be_read_the_hint_says_why() {
    let bench = bench();
    write_config(&bench, "a.toml", "listen = ['192.0.2.10']", &FARM);
    let mut writer = Writer::new(Format::Micros, Link::Ethernet);
    let mut frame = vec![2; 12];
    frame.extend([8, 0]);
    frame.extend(calls(1)[0].packet());
    for at in 0..2 {
        writer.frame(at, &frame[..96], frame.len());
    }
    writer.frame(2, &[0x4f; 14], 14);
    writer.save(&bench.path("calls.pcap"));
    let text = bench.text(&["--config", "a.toml"]);
    let why = "2 packets are cut short by the capture (its snap length)\n  help: capture again";
    assert!(text.contains(why) && !text.contains("--listen"), "{text}");
    write_capture(&bench, &[]);
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("the capture holds no packet"), "{text}");
}

#[test]
fn what_comes_by_a_front_balancer_is_read_behind_its_header() {
    let bench = bench();
    let lines = "[[listener]]\nname = 'x'\naddress = '192.0.2.10'\n\
                 proxy-protocol = ['10.9.0.0/24']\n";
    write_config(&bench, "a.toml", lines, &FARM);
    let call = &calls(1)[0];
    // PROXY protocol version 2: UDP over IPv4, 12 octets of addresses.
    let mut payload = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c".to_vec();
    payload.extend([198, 51, 100, 7, 192, 0, 2, 10, 0x13, 0xce, 0x13, 0xc4]);
    payload.extend(&call.payload);
    write_capture(&bench, &[sent(0, "10.9.0.3:40000", FRONT, payload)]);
    let told = bench.json(&["--config", "a.toml"]);
    let message = &told["messages"][0];
    assert_eq!(message["class"], "request outside a dialog", "{told}");
    assert_eq!(message["decision"]["action"], "forward");
}

#[test]
fn line_ends_before_a_start_line_are_left_out() {
    let bench = bench();
    write_config(&bench, "a.toml", "listen = ['192.0.2.10']", &FARM);
    let cancel = Request::new("CANCEL", address(PHONE));
    let payload = format!("\r\n\r\n{}", cancel.text());
    write_capture(&bench, &[sent(0, PHONE, FRONT, payload)]);
    let told = bench.json(&["--config", "a.toml"]);
    let message = &told["messages"][0];
    assert_eq!(message["class"], "CANCEL", "{told}");
    assert_eq!(message["call_id"], cancel.call_id);
    assert_eq!(message["message"], format!("CANCEL {} SIP/2.0", cancel.uri));
    assert_eq!(told["summary"]["longer_than_message"], 0);
}

#[test]
fn without_the_secret_replay_says_what_it_cannot_know() {
    let bench = bench();
    write_config(&bench, "a.toml", "listen = ['192.0.2.10']", &FARM);
    write_capture(&bench, &calls(2));
    let text = bench.text(&["--config", "a.toml"]);
    assert!(!text.contains("secret"), "{text}");
    fs::remove_file(bench.path("secret")).expect("the secret");
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("responses cannot be verified"), "{text}");
    assert!(text.contains("--secret-file"), "{text}");
    let told = bench.json(&["--config", "a.toml"]);
    assert_eq!(told["summary"]["secret_known"], false);
    assert!(!bench.path("secret").exists(), "replaying makes none");
}

#[test]
fn names_whose_datagrams_are_taken_for_an_outsiders_are_told() {
    let bench = bench();
    let listen = "listen = ['192.0.2.10']";
    write_config(&bench, "a.toml", listen, &["10.0.0.1", "farm.example.com"]);
    write_config(&bench, "b.toml", listen, &["10.0.0.1", "other.example.com"]);
    write_capture(&bench, &calls(2));
    let told = bench.json(&["--config", "a.toml"]);
    let names = &told["summary"]["unresolved"];
    assert_eq!(*names, serde_json::json!(["farm.example.com"]));
    let text = bench.text(&["--config", "a.toml"]);
    let by_name = "by name farm.example.com: not resolved here";
    assert!(text.contains(by_name), "{text}");
    let text = bench.text(&["--config", "b.toml", "--against", "a.toml"]);
    let by_name = "by name farm.example.com, other.example.com: not resolved here";
    assert!(text.contains(by_name), "{text}");
}

#[test]
fn what_cannot_be_read_is_counted_or_refused_with_a_way_to_mend() {
    let bench = bench();
    write_config(&bench, "a.toml", "listen = ['192.0.2.10']", &FARM);
    let call = &calls(1)[0];
    // Cut short, no IP, TCP, and an IP header that is none.
    let mut writer = Writer::of(std::slice::from_ref(call));
    let mut frame = vec![2; 12];
    frame.extend([8, 0]);
    frame.extend(call.packet());
    writer.frame(2, &frame[..200], frame.len());
    let mut arp = vec![2; 12];
    arp.extend([0x88, 0xcc, 1, 2, 3, 4]);
    writer.frame(3, &arp, arp.len());
    let mut tcp = call.packet();
    tcp[9] = 6;
    tcp[20..].fill(0x50);
    writer.packet(4, &tcp);
    writer.packet(5, &[0x4f; 10]);
    writer.save(&bench.path("calls.pcap"));
    let told = bench.json(&["--config", "a.toml"]);
    let capture = &told["summary"]["capture"];
    assert_eq!(told["summary"]["messages"], 1, "{told}");
    assert_eq!(capture["packets"], 5);
    assert_eq!(capture["cut_short"], 1);
    assert_eq!(capture["not_udp"], 2);
    assert_eq!(capture["malformed"], 1);

    // A packet in a block of the first pcapng.
    let whole = fs::read(bench.path("calls.pcap")).expect("a capture");
    let mut next = Writer::new(Format::Next, Link::Ethernet);
    next.packet(0, &call.packet());
    next.block(2, &[0; 20]);
    next.save(&bench.path("calls.pcap"));
    let told = bench.json(&["--config", "a.toml"]);
    let capture = &told["summary"]["capture"];
    assert_eq!(
        (&capture["packets"], &capture["obsolete_blocks"]),
        (&2.into(), &1.into())
    );
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("1 in obsolete Packet Blocks"), "{text}");

    // Two datagrams that the sender's kernel was given as one.
    let both = [&call.payload[..], &call.payload].concat();
    let one = sent(0, PHONE, FRONT, both);
    write_capture(&bench, &[one]);
    let text = bench.text(&["--config", "a.toml"]);
    assert!(
        text.contains("1 datagrams go on behind their message"),
        "{text}"
    );

    // The end of the file in the middle of a packet.
    fs::write(bench.path("calls.pcap"), &whole[..whole.len() - 3]).expect("a file");
    let text = bench.text(&["--config", "a.toml"]);
    assert!(text.contains("ends in the middle of a packet"), "{text}");
    assert!(text.contains("1 messages for a listener"), "{text}");

    let with = |octets: &[u8]| fs::write(bench.path("calls.pcap"), octets).expect("a file");
    let config = ["--config", "a.toml"];
    with(b"");
    bench.refused(&config, 1, &["calls.pcap: the file is empty"]);
    with(b"\x1f\x8b\x08\0 compressed with gzip, this one");
    bench.refused(&config, 1, &["neither pcap nor pcapng", "unpack"]);
    with(b"SIP");
    bench.refused(&config, 1, &["neither pcap nor pcapng"]);
    // A packet longer than anything.
    let mut damaged = whole[..24].to_vec();
    damaged.extend([
        0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
    ]);
    let damage = ["damaged at octet 24", "longer than any packet", "editcap"];
    with(&damaged);
    bench.refused(&config, 1, &damage);
    damaged.resize(18 << 20, 0);
    with(&damaged);
    bench.refused(&config, 1, &damage);
    let mut next = Writer::new(Format::Next, Link::Ethernet);
    next.packet(0, &call.packet());
    next.save(&bench.path("calls.pcap"));
    let next = fs::read(bench.path("calls.pcap")).expect("a capture");
    with(&[&next[..], &[6, 0, 0, 0, 255, 255, 255, 127]].concat());
    let damage = format!("damaged at octet {}: what is there is longer", next.len());
    bench.refused(&config, 1, &[&damage]);
    // One behind the other: pcapng may be so, pcap may not.
    with(&[&next[..], &next].concat());
    assert_eq!(bench.json(&config)["summary"]["messages"], 2);
    with(&[&whole[..], &whole].concat());
    let damage = format!("damaged at octet {}: another capture", whole.len());
    bench.refused(&config, 1, &[&damage, "mergecap"]);
    // What stands before the damage is told all the same.
    with(&[&whole[..], &damaged[24..]].concat());
    bench.refused(&config, 1, &["damaged at octet", "editcap"]);
    let told: Value = serde_json::from_slice(&bench.run(&["--config", "a.toml", "--json"]).stdout)
        .expect("JSON to its end");
    assert_eq!(told["summary"]["messages"], 1, "{told}");
    let damage = told["summary"]["capture"]["damaged"].as_str();
    assert!(
        damage.is_some_and(|damage| damage.contains("damaged at octet")),
        "{told}"
    );
    let mut other = whole.clone();
    other[20] = 127;
    with(&other);
    let text = bench.text(&config);
    assert!(
        text.contains("5 of link type 127, which is not read"),
        "{text}"
    );
    fs::remove_file(bench.path("calls.pcap")).expect("the capture");
    bench.refused(&config, 1, &["calls.pcap: No such file"]);
    let output = bench.run(&[&config[..], &["--json"]].concat());
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "half of JSON");
    bench.refused(
        &["--config", "none.toml"],
        1,
        &["--config: error: cannot read `none.toml`"],
    );
    let against = [&config[..], &["--against", "none.toml"]].concat();
    bench.refused(&against, 1, &["--against: error: cannot read `none.toml`"]);
}

#[test]
fn what_a_failure_rule_has_tried_elsewhere_is_no_reply() {
    let bench = bench();
    let set = "[[set]]\nname = 'farm'\ndestinations = ['sip:10.0.0.1;state=draining']\n";
    let spare = "[[set]]\nname = 'spare'\ndestinations = ['10.0.0.9']\n";
    let rule = "[[on-failure]]\nstatus = 503\nset = 'spare'\n";
    let lines = format!("secret-file = 'secret'\nlisten = ['{FRONT}']\nstateful = ['INVITE']\n");
    bench.write("v.toml", format!("{lines}{set}{spare}"));
    bench.write("rule.toml", format!("{lines}{set}{spare}{rule}"));
    write_capture(&bench, &calls(2));
    let told = bench.json(&["--config", "v.toml", "--against", "rule.toml"]);
    let message = &told["messages"][0];
    assert_eq!(message["decision"]["action"], "reply", "{told}");
    assert_eq!(message["against"]["action"], "on-failure", "{told}");
    assert_eq!(message["against"]["to"], Value::Null, "{told}");
    let decision = "on-failure, no-destination, tried in set spare";
    let counts = &told["summary"]["decisions"][decision];
    assert_eq!(
        (&counts["config"], &counts["against"]),
        (&0.into(), &2.into())
    );
}

#[test]
fn an_address_in_two_sets_is_told_of_by_set() {
    let bench = bench();
    let set = |name: &str| format!("[[set]]\nname = '{name}'\ndestinations = ['10.0.0.1']\n");
    let route = "[[route]]\nmethod = 'OPTIONS'\nset = 'green'\n";
    let (blue, green) = (set("blue"), set("green"));
    bench.write(
        "v.toml",
        format!("secret-file = 'secret'\nlisten = ['{FRONT}']\n{blue}{green}{route}"),
    );
    let options = Request::new("OPTIONS", address(PHONE)).text();
    let mut all = calls(2);
    all.extend((0..3).map(|at| sent(at, PHONE, FRONT, &options)));
    write_capture(&bench, &all);
    let told = bench.json(&["--config", "v.toml"]);
    let destinations = &told["summary"]["destinations"];
    assert_eq!(destinations["10.0.0.1:5060 in set blue"], 2, "{told}");
    assert_eq!(destinations["10.0.0.1:5060 in set green"], 3, "{told}");
}
