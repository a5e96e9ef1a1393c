//! One request leaves the same everywhere: from each worker, each instance
//! with the same secret, before and after a restart. And what is another
//! transaction has another branch (RFC 3261 §16.11, §17.2.3).

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use support::dialog::{
    Peer, Request, Scene, assert_octets, branch, read, response, status, values,
};
use support::net::V4;

/// What outlives a process: its secret, its farm, the address it listens on.
struct Site {
    folder: TempDir,
    front: SocketAddr,
    farm: Vec<SocketAddr>,
}

impl Site {
    /// With a loopback address of its own, so that nobody takes its port
    /// while it restarts.
    fn new() -> (Self, Vec<Peer>) {
        static SITES: AtomicU8 = AtomicU8::new(1);
        let site = SITES.fetch_add(1, Ordering::Relaxed);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let farm: Vec<Peer> = (0..4).map(|_| Peer::new(V4)).collect();
        let new = Self {
            folder: tempfile::tempdir().expect("a folder"),
            front: SocketAddr::from(([127, 100 + site, high, low.max(1)], 0)),
            farm: farm.iter().map(Peer::address).collect(),
        };
        (new, farm)
    }

    fn secret(&self) -> PathBuf {
        self.folder.path().join("secret")
    }

    /// Starts Viaduct here, before this farm.
    fn start(&mut self, farm: Vec<Peer>, args: &[&str]) -> Scene {
        let mut first = vec!["--listen".to_owned(), self.front.to_string()];
        for member in &self.farm {
            first.extend(["--to".to_owned(), member.to_string()]);
        }
        if !args.contains(&"--secret-file") {
            let secret = self.secret().to_str().expect("text").to_owned();
            first.extend(["--secret-file".to_owned(), secret]);
        }
        let scene = Scene::with(farm, &first, args);
        self.front = scene.front();
        scene
    }

    /// Ends it, and starts it again at the same address.
    fn restart(&mut self, scene: Scene, args: &[&str]) -> Scene {
        let Scene {
            viaduct,
            caller,
            farm,
        } = scene;
        viaduct.stop();
        let mut scene = self.start(farm, args);
        scene.caller = caller;
        scene
    }
}

/// A request of each kind that the branch is made up of.
fn kinds(caller: SocketAddr) -> Vec<Request> {
    let plain = || Request::new("INVITE", caller);
    let host = caller.ip();
    vec![
        plain(),
        plain().via(format!("SIP/2.0/UDP {caller}")),
        plain().via(format!("SIP/2.0/UDP {caller};branch=1")),
        plain().via("SIP/2.0/UDP phone.example;branch=z9hG4bKn"),
        plain().via(format!("SIP/2.0/UDP {host};rport;branch=z9hG4bKr")),
        plain().from("sip:a@b.example"),
        plain().method("BYE").to("<sip:a@b.example>;tag=7"),
        plain().row(format!("Route: <sip:{caller};lr>")),
    ]
}

#[test]
fn a_retransmission_leaves_octet_for_octet_alike() {
    let scene = Scene::new(4, &[]);
    for request in kinds(scene.caller.address()) {
        let (member, first) = scene.pass(request.text());
        for _ in 0..3 {
            let (again, octets) = scene.pass(request.text());
            assert_eq!(again, member);
            assert_octets(octets, &first);
        }
    }
}

#[test]
fn every_worker_decides_alike() {
    let mut scene = Scene::new(4, &["--workers", "2", "--steer", "source"]);
    // By Call-ID one worker would get them all; of many source ports each gets
    // some. The Via names no port, and so is repaired alike for each.
    let request = scene
        .request("INVITE")
        .via("SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKw");
    let (member, first) = scene.pass(request.text());
    for _ in 0..32 {
        let other = Peer::new(V4);
        other.send(scene.front(), request.text());
        let (again, octets) = scene.at_farm();
        assert_eq!(again, member);
        assert_octets(octets, &first);
    }
    for worker in 0..2 {
        let received = scene.viaduct.counter(&format!("worker-{worker}-received"));
        assert!(received > 0, "worker {worker} got nothing");
    }
}

#[test]
fn a_restart_changes_nothing() {
    let (mut site, farm) = Site::new();
    let scene = site.start(farm, &[]);
    let requests = kinds(scene.caller.address());
    let before: Vec<_> = requests
        .iter()
        .map(|request| scene.pass(request.text()))
        .collect();
    let scene = site.restart(scene, &[]);
    let after: Vec<_> = requests
        .iter()
        .map(|request| scene.pass(request.text()))
        .collect();
    assert_eq!(before, after);
}

#[test]
fn instances_that_share_secret_and_name_decide_alike_and_take_each_others_responses() {
    let (mut site, farm) = Site::new();
    let name = ["--advertise", "edge.example:5060"];
    let one = site.start(farm, &name);
    let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    for member in &site.farm {
        args.extend(["--to".to_owned(), member.to_string()]);
    }
    let secret = site.secret();
    let secret = secret.to_str().expect("text");
    let two = Scene::with(
        Vec::new(),
        &args,
        &[&name[..], &["--secret-file", secret]].concat(),
    );
    for request in kinds(one.caller.address()) {
        let (member, first) = one.pass(request.text());
        one.caller.send(two.front(), request.text());
        let (octets, source) = one.farm[member].receive_from();
        assert_eq!(source, two.front());
        assert_octets(&octets, &first);
        // Where no port is named it is 5060, and nobody is there.
        let next = String::from_utf8(read(&octets).vias[1].clone()).expect("text");
        if next.contains(&one.caller.address().port().to_string()) {
            one.farm[member].send(two.front(), response(&octets, "200 OK", "t"));
            let (octets, source) = one.caller.receive_from();
            assert_eq!(source, two.front());
            assert_eq!(read(octets).call_id, request.call_id.into_bytes());
        }
    }
}

/// INVITE, CANCEL, the ACK to a final response that is no 2xx, the ACK to a
/// 2xx; with what the client's branch is in the first three and in the last.
fn invite_transaction(caller: SocketAddr, branches: [&str; 2]) -> [Request; 4] {
    let [branch, next] = branches.map(|branch| format!("SIP/2.0/UDP {caller}{branch}"));
    let invite = Request::new("INVITE", caller).via(branch).row("Subject: s");
    let to = format!("{};tag=t1", invite.to);
    // Neither hops, a name to be shown nor what nobody reads counts.
    let mut cancel = invite.method("CANCEL");
    cancel.from = format!("Bob {}", invite.from);
    cancel.rows = ["Max-Forwards: 40", "Subject: t"].map(str::to_owned).into();
    let ack = invite.method("ACK").to(to.as_str()).max_forwards("");
    let ack_2xx = invite
        .method("ACK")
        .to(to)
        .via(next)
        .uri("sip:desk@192.0.2.77:5099");
    [invite, cancel, ack, ack_2xx]
}

#[test]
fn invite_cancel_and_the_ack_to_a_failure_are_one_transaction() {
    let scene = Scene::new(4, &[]);
    let caller = scene.caller.address();
    for branches in [
        [";branch=z9hG4bKone", ";branch=z9hG4bKtwo"],
        [";branch=Z9HG4BKone;rport", ";branch=Z9HG4BKtwo;rport"],
        // RFC 2543: no branch, or one that says nothing.
        ["", ""],
        [";branch=1", ";branch=1"],
        [";branch=z9hG4bK", ";branch=z9hG4bK"],
    ] {
        for _ in 0..5 {
            let [invite, cancel, ack, ack_2xx] = invite_transaction(caller, branches);
            let (member, got) = scene.pass(invite.text());
            for same in [cancel, ack] {
                let (to, octets) = scene.pass(same.text());
                assert_eq!(to, member, "{branches:?}");
                assert_eq!(branch(octets), branch(&got), "{branches:?}");
            }
            let (to, octets) = scene.pass(ack_2xx.text());
            assert_eq!(to, member, "{branches:?}");
            assert_ne!(branch(octets), branch(&got), "{branches:?}");
        }
    }
}

#[test]
fn what_is_another_transaction_has_another_branch() {
    let scene = Scene::new(1, &[]);
    let caller = scene.caller.address();
    for client in [";branch=z9hG4bKsame", "", ";branch=1"] {
        let via = |sent_by: &str| format!("SIP/2.0/UDP {sent_by}{client}");
        let plain = Request::new("INVITE", caller)
            .via(via("127.0.0.1:5999"))
            .from("<sip:a@b.example>;tag=1");
        let mut other_number = plain.clone();
        other_number.cseq = 2;
        let mut different = vec![
            plain.clone(),
            other_number,
            // Two clients that chose one branch.
            plain.clone().via(via("127.0.0.1:5998")),
            plain.clone().via(via("phone.example:5999")),
            plain.clone().via(via("[::1]:5999")),
            plain.clone().call_id("another"),
            plain.clone().from("<sip:a@b.example>;tag=2"),
            plain.clone().from("<sip:a@b.example>"),
        ];
        if client == ";branch=z9hG4bKsame" {
            different.push(
                plain
                    .clone()
                    .via("SIP/2.0/UDP 127.0.0.1:5999;branch=z9hG4bKsamf"),
            );
        } else {
            different.push(plain.clone().uri("sip:other@farm.example"));
        }
        let branches: BTreeSet<String> = different
            .iter()
            .map(|request| branch(scene.pass(request.text()).1))
            .collect();
        assert_eq!(branches.len(), different.len(), "{client}");
        // From another address the responses go elsewhere: another branch.
        let neighbour = Peer::at(([127, 0, 0, 31], 0).into());
        neighbour.send(scene.front(), plain.text());
        assert!(!branches.contains(&branch(scene.at_farm().1)), "{client}");
    }
}

#[test]
fn a_restart_in_mid_call_is_not_noticed() {
    let (mut site, farm) = Site::new();
    let scene = site.start(farm, &[]);
    let invites: Vec<Request> = (0..12).map(|_| scene.request("INVITE")).collect();
    let ringing: Vec<_> = invites
        .iter()
        .map(|invite| scene.pass(invite.text()))
        .collect();
    let scene = site.restart(scene, &[]);
    for (invite, (member, got)) in invites.iter().zip(ringing) {
        scene.farm[member].send(scene.front(), response(&got, "200 OK", "t1"));
        assert_eq!(
            read(scene.caller.receive()).call_id,
            invite.call_id.as_bytes()
        );
        for method in ["ACK", "BYE"] {
            let mut later = invite.method(method).to("<sip:desk@farm.example>;tag=t1");
            later.via += method;
            assert_eq!(scene.pass(later.text()).0, member);
        }
    }
}

#[test]
fn with_another_secret_no_response_comes_home() {
    let (mut site, farm) = Site::new();
    let scene = site.start(farm, &[]);
    let (member, got) = scene.pass(scene.request("INVITE").text());
    let other = site.folder.path().join("other");
    let mut scene = site.restart(scene, &["--secret-file", other.to_str().expect("text")]);
    scene.farm[member].send(scene.front(), response(&got, "200 OK", "t1"));
    scene.assert_nothing_left();
    scene.assert_counter("drop-forged-response", 1);
}

/// The choice of a destination goes by the first half of a secret, which stays.
#[test]
fn while_one_secret_takes_the_place_of_another_the_marks_of_both_are_good() {
    let (mut site, farm) = Site::new();
    let args = ["--record-route"];
    let scene = site.start(farm, &args);
    let invites: Vec<Request> = (0..12).map(|_| scene.request("INVITE")).collect();
    let begun: Vec<_> = invites
        .iter()
        .map(|invite| scene.pass(invite.text()))
        .collect();
    let refused = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    let reply = scene.answer(refused.text());
    let ack = refused
        .method("ACK")
        .max_forwards("Max-Forwards: 70")
        .to(values(&reply, "to")[0].clone());
    let former = fs::read_to_string(site.secret()).expect("the secret");
    let (selection, mac) = former.trim_end().split_at(32);
    let next = format!("{selection}{}", mac.chars().rev().collect::<String>());
    assert_ne!(next, former.trim_end());

    // The next one may be known beforehand, which changes nothing, or sign.
    let mut scene = scene;
    for text in [format!("{former}{next}\n"), format!("{next}\r\n{former}")] {
        fs::write(site.secret(), text).expect("a file");
        scene = site.restart(scene, &args);
        for (invite, (member, got)) in invites.iter().zip(&begun) {
            scene.farm[*member].send(scene.front(), response(got, "200 OK", "t1"));
            assert_eq!(status(scene.caller.receive()), 200);
            let mut bye = invite.method("BYE").to("<sip:desk@farm.example>;tag=t1");
            bye.via += "bye";
            let bye = bye.row(format!("Route: {}", values(got, "record-route")[0]));
            assert_eq!(scene.pass(bye.text()).0, *member);
        }
        scene.assert_counter("cookies-followed", invites.len() as u64);
        scene.send(ack.text());
        scene.assert_nothing_left();
        scene.assert_counter("drop-reply-ack", 1);
    }
    let (member, got) = scene.pass(invites[0].text());
    assert_eq!(member, begun[0].0);
    assert_ne!(branch(&got), branch(&begun[0].1));

    // What was marked by either is good until its secret goes.
    fs::write(site.secret(), next).expect("a file");
    let mut scene = site.restart(scene, &args);
    scene.farm[member].send(scene.front(), response(&begun[0].1, "200 OK", "t1"));
    scene.assert_nothing_left();
    scene.assert_counter("drop-forged-response", 1);
    scene.farm[member].send(scene.front(), response(&got, "200 OK", "t1"));
    assert_eq!(status(scene.caller.receive()), 200);
}
