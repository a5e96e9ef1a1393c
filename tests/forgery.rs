//! Responses that nobody asked for: whatever is changed in a true one, it goes
//! nowhere, is answered by nothing, and is counted under its reason. Nor can
//! anybody choose where calls go by Call-IDs or by errors.

use std::net::SocketAddr;

use support::dialog::{Peer, Request, Scene, branch, response, status};
use support::net::V4;

/// A call whose client asked for its port: Vias with everything in them.
struct Call {
    scene: Scene,
    /// What the member may rightly send.
    good: String,
    /// Our branch.
    branch: String,
}

impl Call {
    fn set_up() -> Self {
        let scene = Scene::new(1, &[]);
        let port = scene.caller.address().port();
        let via = format!("SIP/2.0/UDP phone.example:{port};rport;branch=z9hG4bKmine");
        let request = scene
            .request("INVITE")
            .via(via)
            .from("<sip:a@b.example>;tag=fff");
        let (_, got) = scene.pass(request.call_id("cid@b.example").text());
        let good = response(&got, "200 OK", "t1");
        let branch = branch(&got);
        Self {
            scene,
            good,
            branch,
        }
    }

    /// Demands that `forged`, and each of them, is dropped for `reason`.
    #[track_caller]
    fn assert_dropped(&mut self, forged: &[String], reason: &str) {
        for (number, forged) in (1..).zip(forged) {
            assert_ne!(*forged, self.good, "the change is none");
            self.scene.farm[0].send(self.scene.front(), forged);
            self.scene.assert_nothing_left();
            self.scene.assert_counter(&format!("drop-{reason}"), number);
        }
        // The true one still comes home.
        self.scene.farm[0].send(self.scene.front(), &self.good);
        self.scene.caller.receive();
    }

    fn changed(&self, from: &str, to: &str) -> String {
        assert!(self.good.contains(from), "{from} in {}", self.good);
        self.good.replacen(from, to, 1)
    }

    fn with_branch(&self, branch: &str) -> String {
        self.changed(&self.branch, branch)
    }
}

/// The branch with the octet at `at` changed to another hexadecimal digit.
fn flipped(branch: &str, at: usize) -> String {
    let digit = if &branch[at..=at] == "0" { "1" } else { "0" };
    format!("{}{digit}{}", &branch[..at], &branch[at + 1..])
}

#[test]
fn a_branch_without_our_mac() {
    let mut call = Call::set_up();
    let ours = call.branch.clone();
    let mut forged: Vec<String> = [
        "z9hG4bK",
        "z9hG4bKs",
        "z9hG4bKs00",
        "z9hG4bKabcdef",
        "x",
        "z9hG4bK-524287-1---0011223344556677",
    ]
    .iter()
    .map(|branch| call.with_branch(branch))
    .collect();
    forged.push(call.with_branch(&ours[7..]));
    forged.push(call.with_branch(&format!("{ours}0")));
    forged.push(call.with_branch(&ours.replacen("z9hG4bKs", "z9hG4bKo", 1)));
    forged.push(call.changed(&format!(";branch={ours}"), ""));
    for length in 0..ours.len() - 7 {
        forged.push(call.with_branch(&ours[..7 + length]));
    }
    forged.retain(|forged| !forged.contains("branch=\r\n"));
    call.assert_dropped(&forged, "forged-response");
}

#[test]
fn a_branch_with_one_digit_changed() {
    let mut call = Call::set_up();
    // Behind the magic and the mode: two digits of the listener, then the MAC.
    let forged: Vec<String> = (8..call.branch.len())
        .map(|at| call.with_branch(&flipped(&call.branch, at)))
        .collect();
    assert_eq!(forged.len(), 18);
    call.assert_dropped(&forged, "forged-response");
}

#[test]
fn another_next_hop() {
    let mut call = Call::set_up();
    let port = call.scene.caller.address().port();
    let rport = format!("rport={port}");
    let forged = vec![
        call.changed("received=127.0.0.1", "received=127.0.0.7"),
        call.changed("received=127.0.0.1", "received=::1"),
        call.changed("received=127.0.0.1", "received=phone.example"),
        call.changed("received=127.0.0.1", "received=255.255.255.255"),
        call.changed("received=127.0.0.1", "received=224.0.0.1"),
        call.changed("received=127.0.0.1", "received=0.0.0.0"),
        call.changed("received=127.0.0.1", "received=ff02::1"),
        call.changed(";received=127.0.0.1", ""),
        call.changed(&rport, "rport=9"),
        call.changed(&rport, "rport=0"),
        call.changed(&rport, "rport=65536"),
        call.changed(&rport, "rport"),
        call.changed(&rport, &format!("rport={}", call.scene.front().port())),
        call.changed("phone.example:", "evil.example:"),
        call.changed("phone.example:", "PHONE.example:"),
        call.changed(&format!("phone.example:{port}"), "phone.example:9"),
        call.changed(&format!("phone.example:{port}"), "phone.example"),
        call.changed("=z9hG4bKmine", "=z9hG4bKmind"),
        call.changed(";branch=z9hG4bKmine", ""),
        call.changed("=z9hG4bKmine", "=z9hG4bKmine;maddr=127.0.0.7"),
    ];
    let victim = Peer::at(SocketAddr::from(([127, 0, 0, 7], port)));
    call.assert_dropped(&forged, "forged-response");
    victim.assert_silent();
}

#[test]
fn another_call() {
    let mut call = Call::set_up();
    let forged = vec![
        call.changed("cid@b.example", "cid@b.examplf"),
        call.changed("cid@b.example", "CID@b.example"),
        call.changed("cseq: 1 ", "cseq: 2 "),
        call.changed("tag=fff", "tag=ffe"),
        call.changed(";tag=fff", ""),
    ];
    call.assert_dropped(&forged, "forged-response");
}

#[test]
fn a_via_of_somebody_else() {
    let mut call = Call::set_up();
    let front = call.scene.front();
    let own = format!("UDP {front}");
    let forged = vec![
        call.changed(&own, "UDP 192.0.2.7:5060"),
        call.changed(&own, "UDP viaduct.example"),
        call.changed(&own, &format!("UDP 127.0.0.2:{}", front.port())),
        call.changed(&own, "UDP 127.0.0.1"),
        call.changed(&own, &format!("UDP 127.0.0.1:{}", front.port() ^ 1)),
    ];
    call.assert_dropped(&forged, "not-our-via");
}

#[test]
fn nobody_below_us() {
    let mut call = Call::set_up();
    let start = call.good.rfind("via: ").expect("the caller's Via");
    let end = start + call.good[start..].find("\r\n").expect("its end") + 2;
    let alone = call.good[..start].to_owned() + &call.good[end..];
    call.assert_dropped(&[alone], "no-next-via");
}

#[test]
fn a_caller_whose_via_says_that_it_is_us_gets_nothing() {
    let mut scene = Scene::new(1, &[]);
    let via = format!("SIP/2.0/UDP {};x;branch=z9hG4bKself", scene.front());
    let (_, got) = scene.pass(scene.request("INVITE").via(via).text());
    scene.farm[0].send(scene.front(), response(got, "200 OK", "t1"));
    scene.assert_nothing_left();
    scene.assert_counter("drop-forbidden-next-hop", 1);
    scene.assert_counter("received", 3);
}

#[test]
fn a_next_via_that_cannot_be_read() {
    let mut call = Call::set_up();
    let port = call.scene.caller.address().port();
    let forged = vec![
        call.changed(&format!("phone.example:{port}"), "phone.example:0"),
        call.changed("SIP/2.0/UDP phone", "HTTP/2.0/UDP phone"),
        call.changed(
            "received=127.0.0.1",
            "received=127.0.0.1;received=127.0.0.1",
        ),
    ];
    call.assert_dropped(&forged, "header-value");
}

#[test]
fn broken_responses() {
    for (from, to, reason) in [
        ("SIP/2.0 200 OK", "SIP/2.0 200", "start-line"),
        ("SIP/2.0 200 OK", "SIP/2.0 700 OK", "start-line"),
        ("SIP/2.0 200 OK", "SIP/3.0 200 OK", "version"),
        ("Content-Length: 0", "Content-Length: 1", "too-short"),
        ("Content-Length: 0", "Content-Length: x", "header-value"),
        (
            "Content-Length: 0\r\n",
            "Content-Length: 0\r\nl: 0\r\n",
            "duplicate-header",
        ),
        ("call-id: cid@b.example\r\n", "", "missing-header"),
        ("Content-Length: 0\r\n", "Content-Length: 0\n", "line-end"),
        ("Content-Length: 0", "Content-Length 0", "header-name"),
        ("z9hG4bK", "\"", "top-via"),
    ] {
        let mut call = Call::set_up();
        let forged = call.changed(from, to);
        call.assert_dropped(&[forged], reason);
    }
}

#[test]
fn an_answer_to_another_instance() {
    let mut call = Call::set_up();
    // Another secret, and so another MAC, but the same addresses in the Vias.
    let other = Call::set_up();
    let forged = call.with_branch(&other.branch);
    call.assert_dropped(&[forged], "forged-response");
}

#[test]
fn call_ids_that_all_meet_one_member_do_so_by_one_secret_alone() {
    const CALLS: usize = 120;
    let folder = tempfile::tempdir().expect("a folder");
    let start = |secret: &str, farm: Vec<Peer>| {
        let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        for member in &farm {
            args.extend(["--to".to_owned(), member.address().to_string()]);
        }
        let secret = folder.path().join(secret).display().to_string();
        Scene::with(farm, &args, &["--secret-file", &secret])
    };
    let shares = |scene: &Scene, calls: &[String]| {
        let mut shares = [0; 4];
        for call in calls {
            let request = scene.request("INVITE").call_id(call);
            shares[scene.pass(request.text()).0] += 1;
        }
        shares
    };
    // What an attacker would gather who could see where calls go.
    let scene = start("one", (0..4).map(|_| Peer::new(V4)).collect());
    let mut calls = Vec::new();
    while calls.len() < CALLS {
        let request = scene.request("INVITE");
        if scene.pass(request.text()).0 == 0 {
            calls.push(request.call_id);
        }
    }
    let again = |secret: &str, scene: Scene| {
        let Scene { viaduct, farm, .. } = scene;
        viaduct.stop();
        start(secret, farm)
    };
    let scene = again("one", scene);
    assert_eq!(shares(&scene, &calls), [CALLS, 0, 0, 0]);
    let scene = again("two", scene);
    let spread = shares(&scene, &calls);
    // 30 each; 5 standard deviations are 24.
    assert!(
        spread.iter().all(|share| (6..=54).contains(share)),
        "{spread:?}"
    );
}

#[test]
fn no_error_from_the_network_true_or_forged_changes_where_calls_go() {
    let mut scene = Scene::new(3, &[]);
    let own = scene.front();
    let requests: Vec<Request> = (0..60).map(|_| scene.request("INVITE")).collect();
    let places = |scene: &Scene| -> Vec<usize> {
        let place = |request: &Request| scene.pass(request.text()).0;
        requests.iter().map(place).collect()
    };
    let before = places(&scene);
    // Failures in the name of a member, from everybody, and one true one.
    let outsider = Peer::at(SocketAddr::from(([127, 0, 0, 78], 0)));
    for (number, request) in requests.iter().enumerate() {
        let (member, got) = scene.pass(request.text());
        for failure in ["503 Service Unavailable", "408 Request Timeout"] {
            let true_one = response(&got, failure, "t")
                .replace("Content-Length", "Retry-After: 3600\r\nContent-Length");
            let forged = true_one.replace(&branch(&got), &format!("z9hG4bKs00{number:016x}"));
            outsider.send(own, &forged);
            scene.farm[member].send(own, &forged);
            scene.farm[member].send(own, &true_one);
            assert_eq!(
                status(scene.caller.receive()),
                if failure.starts_with('5') { 503 } else { 408 }
            );
        }
    }
    assert_eq!(places(&scene), before);
    // A member that is gone has the kernel answer each request by a true ICMP
    // error, which a forged one could only imitate.
    let gone = scene.farm.remove(2);
    let address = gone.address();
    drop(gone);
    let name = format!("to-default-{address}");
    for _ in 0..3 {
        let sent = scene.viaduct.counter(&name);
        let mut calls_of_it = 0;
        for (request, &member) in requests.iter().zip(&before) {
            scene.send(request.text());
            if member == 2 {
                calls_of_it += 1;
            } else {
                assert_eq!(scene.at_farm().0, member);
            }
        }
        assert!(calls_of_it > 0);
        scene.assert_counter(&name, sent + calls_of_it);
    }
    scene.caller.assert_silent();
    scene.farm.iter().for_each(Peer::assert_silent);
    scene.farm.push(Peer::at(address));
    assert_eq!(places(&scene), before);
}
