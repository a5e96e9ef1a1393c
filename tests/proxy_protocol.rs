//! Datagrams that come by a front balancer, which says who sent them by a
//! header of the PROXY protocol: the decision sees the sender, and the answer
//! goes back by the balancer.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};

use support::dialog::{Peer, Request, Scene, assert_octets, branch, read, response, status};
use support::farm::Farm;
use support::folder::Folder;
use support::net::V4;
use support::stateful::{STILL, only};
use support::wait_until;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// What the balancer puts before a datagram of `client`: version and command,
/// family and transport, and what stands behind the addresses.
fn header(client: SocketAddr, command: u8, transport: u8, more: &[u8]) -> Vec<u8> {
    let (family, source, target): (u8, Vec<u8>, Vec<u8>) = match client.ip() {
        IpAddr::V4(ip) => (0x10, ip.octets().to_vec(), vec![127, 0, 0, 1]),
        IpAddr::V6(ip) => (0x20, ip.octets().to_vec(), vec![9; 16]),
    };
    let ports = [client.port().to_be_bytes(), 5060_u16.to_be_bytes()].concat();
    let fields = [&source[..], &target, &ports, more].concat();
    let length = u16::try_from(fields.len()).expect("a short header");
    [
        SIGNATURE,
        &[command, family | transport],
        &length.to_be_bytes(),
        &fields,
    ]
    .concat()
}

/// The datagram as the balancer sends it on.
fn by_balancer(client: &str, octets: impl AsRef<[u8]>) -> Vec<u8> {
    let client = client.parse().expect("an address");
    [&header(client, PROXY, 2, &[]), octets.as_ref()].concat()
}

/// Viaduct with a listener for the balancers of 127.0.0.64/30, one for nobody,
/// and sets of one member each: `s1` for clients of 203.0.113.0/24 and
/// 2001:db8::/32, `s2` for the balancers themselves, `s0` for all others.
fn scene(args: &[&str]) -> Scene {
    let farm: Vec<Peer> = (0..3).map(|_| Peer::new(V4)).collect();
    let sets = farm.iter().enumerate().map(|(number, member)| {
        let address = member.address();
        format!("[[set]]\nname = 's{number}'\ndestinations = ['{address}']\n")
    });
    let text = format!(
        "{}\n[[listener]]\nname = 'other'\naddress = '127.0.0.2:0'\n{}\
         [[route]]\nset = 's1'\nsource = ['203.0.113.0/24', '2001:db8::/32']\n\
         [[route]]\nset = 's2'\nsource = '127.0.0.64/30'\n",
        LISTENER,
        sets.collect::<String>()
    );
    Scene::with_file(farm, &text, args)
}

const LISTENER: &str =
    "[[listener]]\nname = 'front'\naddress = '127.0.0.1:0'\nproxy-protocol = ['127.0.0.64/30']\n";

fn balancer() -> Peer {
    Peer::at(SocketAddr::from(([127, 0, 0, 65], 0)))
}

#[test]
fn the_rules_see_the_client_and_the_answer_goes_back_by_the_balancer() {
    let scene = scene(&[]);
    let balancer = balancer();
    let at = balancer.address();
    let port = at.port();
    // Nobody asked for `rport` but the second; the third could be reached at
    // its own word, were it not for the port.
    for (via, repaired) in [
        (
            "192.168.0.9:5060;branch=z9hG4bK1",
            format!("192.168.0.9:5060;branch=z9hG4bK1;received=127.0.0.65;rport={port}"),
        ),
        (
            "192.168.0.9;rport;branch=z9hG4bK2",
            format!("192.168.0.9;received=127.0.0.65;rport={port};branch=z9hG4bK2"),
        ),
        (
            "127.0.0.65;branch=z9hG4bK3",
            format!("127.0.0.65;branch=z9hG4bK3;received=127.0.0.65;rport={port}"),
        ),
        (
            "a.example;received=203.0.113.7;rport=9;branch=z9hG4bK4;maddr=203.0.113.8",
            format!("a.example;received=127.0.0.65;rport={port};branch=z9hG4bK4;maddr=203.0.113.8"),
        ),
    ] {
        let request = Request::new("INVITE", at).via(format!("SIP/2.0/UDP {via}"));
        balancer.send(
            scene.front(),
            by_balancer("203.0.113.7:5062", request.text()),
        );
        let (member, got) = scene.at_farm();
        assert_eq!(member, 1);
        let below = String::from_utf8_lossy(&read(&got).vias[1]).into_owned();
        assert_eq!(below, format!("SIP/2.0/UDP {repaired}"));
        scene.farm[1].send(scene.front(), response(&got, "200 OK", "t"));
        let (home, source) = balancer.receive_from();
        assert_eq!((status(&home), source), (200, scene.front()));
    }
    scene.assert_nothing_left();
}

#[test]
fn nothing_is_sent_to_the_address_that_a_header_claims() {
    let scene = scene(&[]);
    let balancer = balancer();
    let victim = Peer::at(SocketAddr::from(([127, 0, 0, 7], 0)));
    let claimed = victim.address().to_string();
    let request = Request::new("INVITE", victim.address());
    balancer.send(scene.front(), by_balancer(&claimed, request.text()));
    let (member, got) = scene.at_farm();
    assert_eq!(member, 0);
    scene.farm[0].send(scene.front(), response(&got, "180 Ringing", "t"));
    assert_eq!(status(balancer.receive()), 180);
    let refused = Request::new("INVITE", victim.address()).max_forwards("Max-Forwards: 0");
    balancer.send(scene.front(), by_balancer(&claimed, refused.text()));
    assert_eq!(status(balancer.receive()), 483);
    scene.assert_nothing_left();
    victim.assert_silent();
}

#[test]
fn each_form_of_header_is_read() {
    let scene = scene(&[]);
    let balancer = balancer();
    let fields = [&[0x04, 0, 3, 1, 2, 3][..], &[0x20; 300]].concat();
    for (client, member) in [
        ("203.0.113.7:1", 1),
        ("203.0.114.7:65535", 0),
        ("[2001:db8::7]:5060", 1),
        ("[2001:db9::7]:5060", 0),
        ("[::ffff:203.0.113.7]:5060", 1),
    ] {
        let client = client.parse().expect("an address");
        for (transport, more) in [(1, &[][..]), (2, &[]), (2, &fields)] {
            let request = Request::new("OPTIONS", balancer.address()).text();
            let header = header(client, PROXY, transport, more);
            balancer.send(scene.front(), [&header, request.as_bytes()].concat());
            let (at, got) = scene.at_farm();
            assert_eq!(at, member, "{client}");
            // Not one octet of the header is left.
            let got = String::from_utf8(got).expect("text");
            assert!(got.starts_with("OPTIONS "), "{got}");
            assert_eq!(read(&got).call_id, read(&request).call_id);
        }
    }
}

#[test]
fn what_the_balancer_sends_of_its_own_is_from_itself() {
    let scene = scene(&[]);
    let balancer = balancer();
    let at = balancer.address();
    let elsewhere = "203.0.113.7:5062".parse().expect("an address");
    let no_fields = [SIGNATURE, &[LOCAL, 0, 0, 0]].concat();
    for header in [no_fields, header(elsewhere, LOCAL, 2, &[])] {
        let request = Request::new("OPTIONS", at);
        balancer.send(scene.front(), [&header, request.text().as_bytes()].concat());
        let (member, got) = scene.at_farm();
        assert_eq!(member, 2);
        // As from anybody: `rport` where it was asked for.
        assert!(!String::from_utf8_lossy(&got).contains("rport"));
        scene.farm[2].send(scene.front(), response(&got, "200 OK", "t"));
        assert_eq!(status(balancer.receive()), 200);
    }
}

#[test]
fn without_a_header_that_can_be_read_a_balancer_is_not_heard() {
    let mut scene = scene(&[]);
    let balancer = balancer();
    let client = "203.0.113.7:5062".parse().expect("an address");
    let request = Request::new("INVITE", balancer.address()).text();
    let good = header(client, PROXY, 2, &[]);
    let changed = |at: usize, octet: u8| {
        let mut header = good.clone();
        header[at] = octet;
        header
    };
    let mut headers = vec![
        Vec::new(),
        b"\r\n".to_vec(),
        b"PROXY UDP4 203.0.113.7 127.0.0.1 5062 5060\r\n".to_vec(),
        // Another version, another command.
        changed(12, 0x11),
        changed(12, 0x22),
        changed(12, 0x01),
        // No family, a family without addresses, no transport.
        changed(13, 0x00),
        changed(13, 0x02),
        changed(13, 0x31),
        changed(13, 0x10),
        changed(13, 0x13),
        // Addresses of the other family, that do not fit in.
        changed(13, 0x22),
        // Fewer octets than the addresses have, more than the datagram.
        changed(15, 11),
        changed(14, 0xff),
    ];
    headers.extend((0..SIGNATURE.len()).map(|at| changed(at, b'x')));
    let mut datagrams: Vec<Vec<u8>> = headers
        .iter()
        .map(|header| [header, request.as_bytes()].concat())
        .collect();
    datagrams.extend(headers);
    // Cut short, with nothing behind it that could be taken for the rest.
    let long = header(
        "[2001:db8::7]:5060".parse().expect("an address"),
        PROXY,
        2,
        &[],
    );
    datagrams.extend((1..good.len()).map(|length| good[..length].to_vec()));
    datagrams.extend((1..long.len()).map(|length| long[..length].to_vec()));
    for datagram in &datagrams {
        balancer.send(scene.front(), datagram);
    }
    scene.assert_nothing_left();
    balancer.assert_silent();
    scene.assert_counter("drop-proxy-header", datagrams.len() as u64);
    // With nothing behind it a good one is a keep-alive of the client's.
    balancer.send(scene.front(), &good);
    scene.assert_nothing_left();
    scene.assert_counter("drop-keep-alive", 1);
}

#[test]
fn from_anybody_else_a_header_is_not_honoured() {
    let mut scene = scene(&[]);
    let balancer = balancer();
    let request = Request::new("INVITE", balancer.address()).text();
    let wrapped = by_balancer("203.0.113.7:5062", &request);
    // From outside, from a member, from a balancer where it is none, and in
    // what a client sent.
    scene.send(&wrapped);
    scene.farm[0].send(scene.front(), &wrapped);
    let other = scene.viaduct.address(1);
    balancer.send(other, &wrapped);
    balancer.send(scene.front(), by_balancer("198.51.100.9:5060", &wrapped));
    scene.assert_nothing_left();
    balancer.assert_silent();
    scene.assert_counter("drop-not-sip", 4);
    // There, without one, it is a sender like any other.
    balancer.send(other, &request);
    assert_eq!(
        read(scene.farm[2].receive()).call_id,
        read(&request).call_id
    );
}

#[test]
fn a_client_is_neither_us_nor_at_port_0() {
    let mut scene = scene(&[]);
    let balancer = balancer();
    let request = Request::new("INVITE", balancer.address()).text();
    let us = scene.front().to_string();
    for client in ["203.0.113.7:0", "[2001:db8::7]:0", &us] {
        balancer.send(scene.front(), by_balancer(client, &request));
    }
    scene.assert_nothing_left();
    balancer.assert_silent();
    scene.assert_counter("drop-bad-source", 3);
}

#[test]
fn who_the_balancer_says_is_a_member_is_one() {
    let scene = scene(&[]);
    let balancer = balancer();
    let phone = Peer::at(SocketAddr::from(([127, 0, 0, 8], 0)));
    let member = scene.farm[0].address();
    let request = Request::new("NOTIFY", member).uri(format!("sip:ann@{}", phone.address()));
    balancer.send(
        scene.front(),
        by_balancer(&member.to_string(), request.text()),
    );
    let (got, source) = phone.receive_from();
    assert_eq!(source, scene.front());
    phone.send(scene.front(), response(&got, "200 OK", "t"));
    assert_eq!(status(balancer.receive()), 200);
    // Another port of the member's host is not the member.
    let mut beside = member;
    beside.set_port(member.port() ^ 1);
    balancer.send(
        scene.front(),
        by_balancer(&beside.to_string(), request.text()),
    );
    scene.at_farm();
    scene.assert_nothing_left();
    phone.assert_silent();
}

#[test]
fn a_transaction_is_one_by_a_balancer_too() {
    let scene = scene(&[]);
    let balancer = balancer();
    let invite = Request::new("INVITE", balancer.address());
    let pass = |octets: &str| {
        balancer.send(scene.front(), by_balancer("203.0.113.7:5062", octets));
        scene.at_farm().1
    };
    let first = pass(&invite.text());
    assert_octets(pass(&invite.text()), &first);
    assert_eq!(
        branch(pass(&invite.method("CANCEL").text())),
        branch(&first)
    );
    let ack = invite.method("ACK").to("<sip:desk@farm.example>;tag=t");
    assert_eq!(branch(pass(&ack.text())), branch(&first));
}

/// Stateful relay to one member, with accounting to the file `calls` of the folder.
fn accounted(folder: &tempfile::TempDir) -> Scene {
    let farm = vec![Peer::new(V4)];
    let text = format!(
        "stateful = ['INVITE', 'MESSAGE']\n[timers]\nT1 = '20ms'\nT2 = '20ms'\nB = '60s'\nF = '200ms'\n\
         [accounting]\nto = '{}'\n{LISTENER}\
         [[set]]\nname = 's'\ndestinations = ['{}']\n",
        folder.path().join("calls").display(),
        farm[0].address()
    );
    Scene::with_file(farm, &text, &[])
}

/// The lines of accounting once there are so many.
fn lines(folder: &tempfile::TempDir, count: usize) -> String {
    let read = || fs::read_to_string(folder.path().join("calls")).unwrap_or_default();
    wait_until("the lines", || read().lines().count() >= count);
    read()
}

#[test]
fn a_failure_that_comes_by_a_balancer_is_acknowledged_and_accounted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scene, balancer) = (accounted(&folder), balancer());
    let call = Request::new("INVITE", balancer.address());
    balancer.send(scene.front(), by_balancer("203.0.113.7:9", call.text()));
    let leg = scene.next_leg();
    let member = scene.farm[0].address().to_string();
    let busy = response(&leg.request, "486 Busy Here", "t");
    balancer.send(scene.front(), by_balancer(&member, busy));
    let ack = scene.gets_in_the_end(&leg, "ACK");
    assert_eq!(branch(&ack.request), branch(&leg.request));
    let line = lines(&folder, 1);
    assert!(line.contains("\"status\":486") && line.contains(&call.call_id));
}

#[test]
fn a_call_that_came_by_a_balancer_is_cancelled_and_accounted() {
    let folder = tempfile::tempdir().expect("a folder");
    let (scene, balancer) = (accounted(&folder), balancer());
    let send = |request: &Request| {
        balancer.send(scene.front(), by_balancer("203.0.113.7:9", request.text()));
    };
    let call = Request::new("INVITE", balancer.address());
    send(&call);
    assert_eq!(status(balancer.receive()), 100);
    let invite = scene.next_leg();
    scene.says(&invite, "180 Ringing");
    assert_eq!(status(balancer.receive()), 180);
    send(&call.method("CANCEL"));
    assert_eq!(status(balancer.receive()), 200);
    // Before the 180 the INVITE may have come again.
    let cancel = scene.gets_in_the_end(&invite, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&invite.request));
    scene.says(&cancel, "200 OK");
    scene.says(&invite, "487 Request Terminated");
    assert_eq!(status(balancer.receive()), 487);
    // Nobody answers this one, and nobody is told so (RFC 4320 §4.2).
    let message = Request::new("MESSAGE", balancer.address());
    send(&message);
    let all = lines(&folder, 2);
    assert!(
        all.contains("\"status\":487") && all.contains(&message.call_id),
        "{all}"
    );
}

#[test]
fn the_farm_reaches_the_client_of_a_dialog_by_the_balancer() {
    let scene = scene(&["--record-route", "on", "--path", "on"]);
    let balancer = balancer();
    let client = Peer::at(SocketAddr::from(([127, 0, 0, 7], 0)));
    let invite = Request::new("INVITE", client.address());
    balancer.send(
        scene.front(),
        by_balancer(&client.address().to_string(), invite.text()),
    );
    let (_, got) = scene.at_farm();
    let route = only(&got, "record-route");
    let bye = Request::new("BYE", scene.farm[0].address())
        .call_id(&invite.call_id)
        .uri(format!("sip:ann@{}", client.address()))
        .row(format!("Route: {route}"));
    scene.farm[0].send(scene.front(), bye.text());
    assert_eq!(
        read(balancer.receive()).call_id,
        invite.call_id.into_bytes()
    );
    scene.assert_nothing_left();
    client.assert_silent();
}

#[test]
fn replies_are_limited_by_client() {
    let mut scene = scene(&["--reply-rate", "1"]);
    let balancer = balancer();
    let ask = |client: &str| {
        let request = Request::new("OPTIONS", balancer.address());
        let request = request.max_forwards("Max-Forwards: 0").text();
        balancer.send(scene.front(), by_balancer(client, request));
    };
    (0..20).for_each(|_| ask("203.0.113.7:5062"));
    ask("[2001:db8:9::7]:5062");
    // Another client of this balancer is answered all the same.
    scene.fence();
    let mut answers = 0;
    while balancer.poll().is_some() {
        answers += 1;
    }
    assert!((2..21).contains(&answers), "{answers}");
    scene.assert_counter("drop-reply-limit", 21 - answers);
}

#[test]
fn the_key_source_is_the_client() {
    let farm: Vec<Peer> = (0..4).map(|_| Peer::new(V4)).collect();
    let list: Vec<String> = farm
        .iter()
        .map(|member| member.address().to_string())
        .collect();
    let text =
        format!("{LISTENER}[[set]]\nname = 'farm'\nhash-key = 'source'\ndestinations = {list:?}\n");
    let scene = Scene::with_file(farm, &text, &[]);
    let balancers = [balancer(), Peer::at(SocketAddr::from(([127, 0, 0, 66], 0)))];
    let mut taken = BTreeSet::new();
    for client in 0..40 {
        let members = balancers.each_ref().map(|balancer| {
            let request = Request::new("REGISTER", balancer.address()).text();
            let client = format!("203.0.113.{client}:5060");
            balancer.send(scene.front(), by_balancer(&client, request));
            scene.at_farm().0
        });
        assert_eq!(members[0], members[1]);
        taken.insert(members[0]);
    }
    assert_eq!(taken.len(), 4);
}

#[test]
fn all_workers_serve_one_balancer() {
    let mut scene = scene(&["--workers", "2"]);
    let balancer = balancer();
    for _ in 0..60 {
        let request = Request::new("OPTIONS", balancer.address()).text();
        balancer.send(scene.front(), by_balancer("203.0.113.7:5062", request));
        scene.farm[1].receive();
    }
    for worker in 0..2 {
        let received = scene.viaduct.counter(&format!("worker-{worker}-received"));
        assert!(received > 10, "worker {worker}: {received}");
    }
}

#[test]
fn a_reload_changes_who_is_a_balancer() {
    let mut farm = Farm::new(&[""], "", &[]);
    let balancer = balancer();
    let member = farm.scene.farm[0].address();
    let request = || Request::new("OPTIONS", balancer.address()).text();
    for line in ["", "proxy-protocol = '127.0.0.65'\n", ""] {
        let said = farm.reload(&format!(
            "[[listener]]\naddress = '127.0.0.1:0'\n{line}\
             [[set]]\nname = 'farm'\ndestinations = ['{member}']\n"
        ));
        assert!(said.starts_with("reloaded: "), "{said}");
        // One of them is heard, and never the other.
        let (plain, wrapped) = (request(), by_balancer("203.0.113.7:5062", request()));
        balancer.send(farm.scene.front(), &plain);
        balancer.send(farm.scene.front(), &wrapped);
        let (_, got) = farm.scene.at_farm();
        let is_plain = read(got).call_id == read(&plain).call_id;
        assert_eq!(is_plain, line.is_empty());
        farm.scene.assert_nothing_left();
    }
}

/// By whom a call under way came its header says, not the configuration of now.
#[test]
fn a_call_goes_on_to_its_end_whoever_is_a_balancer_now() {
    let lines = ["", "proxy-protocol = '127.0.0.65'\n"];
    for (before, after) in [(lines[1], lines[0]), (lines[0], lines[1])] {
        let args = [
            &["--stateful", "INVITE", "--ring-timeout", "1s"],
            &STILL[..],
        ]
        .concat();
        let mut farm = Farm::new(&["", ""], "", &args);
        let balancer = balancer();
        let members = [0, 1].map(|member: usize| farm.scene.farm[member].address());
        let text = |line: &str| {
            format!(
                "[[listener]]\naddress = '127.0.0.1:0'\n{line}\
                 [[set]]\nname = 'farm'\ndestinations = ['{}', '{}']\n",
                members[0], members[1]
            )
        };
        farm.reload(&text(before));
        let request = Request::new("INVITE", balancer.address()).text();
        let sent = match before {
            "" => request.into_bytes(),
            _ => by_balancer("203.0.113.7:5062", request),
        };
        balancer.send(farm.scene.front(), sent);
        assert_eq!(status(balancer.receive()), 100);
        let first = farm.scene.next_leg();
        farm.reload(&text(after));
        let scene = &farm.scene;
        let second = scene.passes_on(&first);
        scene.says(&second, "180 Ringing");
        assert_eq!(status(balancer.receive()), 180);
        scene.gets(&second, "CANCEL");
        scene.says(&second, "487 Request Terminated");
        assert_eq!(status(balancer.receive()), 408);
    }
}

#[test]
fn explain_tells_the_client_from_the_balancer() {
    let set = "[[set]]\nname = 'a'\nhash-key = 'source'\ndestinations = ['10.0.0.1']\n";
    let request = Request::new("INVITE", SocketAddr::from(([192, 168, 0, 9], 5060))).text();
    let folder = Folder::with(
        &[
            "explain",
            "--from",
            "127.0.0.65:40000",
            "--config",
            "v.toml",
            "--message",
        ],
        &[
            ("v.toml", &format!("{LISTENER}{set}")),
            ("without", &request),
        ],
    );
    folder.write("with", by_balancer("203.0.113.7:5062", &request));
    let text = folder.text(&["with"]);
    for wanted in [
        "octets from 203.0.113.7:5062 by front balancer 127.0.0.65:40000 on listener front\n",
        "key        source 203.0.113.7\n",
        "decision   forward to 10.0.0.1:5060 ",
        "+ Via: SIP/2.0/UDP 192.168.0.9:5060;branch=",
        ";received=127.0.0.65;rport=40000\n",
    ] {
        assert!(text.contains(wanted), "no {wanted:?} in\n{text}");
    }
    let json = folder.json(&["with"]);
    assert_eq!(json["source"], "203.0.113.7:5062");
    assert_eq!(json["front"], "127.0.0.65:40000");
    let text = folder.text(&["without"]);
    assert!(
        text.contains("decision   drop, nothing is sent\n"),
        "{text}"
    );
    assert!(text.contains("why        proxy-header: "), "{text}");
}
