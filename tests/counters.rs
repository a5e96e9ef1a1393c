//! What is counted of the datagrams that pass: methods, classes, each
//! destination's share, what was sent again, and what the kernel dropped.

use std::collections::BTreeMap;

use support::dialog::{Peer, Request, Scene, response, values};
use support::net::V4;
use support::process::Signal;
use support::stateful::{QUICK, method};
use support::viaduct::Counters;
use support::{wait_for, wait_until};

/// The counters that begin with one of `starts`, but for ages.
fn counted(scene: &mut Scene, starts: &[&str]) -> BTreeMap<String, u64> {
    let all = scene.viaduct.counters().since(&Counters::default());
    all.into_iter()
        .filter(|(name, _)| starts.iter().any(|start| name.starts_with(start)))
        .collect()
}

fn map(counters: &[(&str, u64)]) -> BTreeMap<String, u64> {
    let counters = counters.iter();
    counters
        .map(|(name, value)| ((*name).to_owned(), *value))
        .collect()
}

#[test]
fn requests_count_by_method_and_responses_by_class() {
    let mut scene = Scene::new(1, &[]);
    for method in ["INVITE", "INVITE", "BYE", "PRACK", "invite", "NEWS"] {
        scene.pass(scene.request(method).text());
    }
    let (_, got) = scene.pass(scene.request("INVITE").text());
    let statuses = [
        "100 a", "180 b", "302 c", "404 d", "503 e", "603 f", "200 g",
    ];
    for status in statuses {
        scene.farm[0].send(scene.front(), response(&got, status, "t"));
        scene.caller.receive();
    }
    // What is not sent on counts as something else.
    scene.send(
        scene
            .request("INVITE")
            .max_forwards("")
            .row("Max-Forwards: 0")
            .text(),
    );
    scene.caller.receive();
    let wanted = [
        ("method-BYE", 1),
        ("method-INVITE", 3),
        ("method-PRACK", 1),
        ("method-other", 2),
        ("class-1xx", 2),
        ("class-2xx", 1),
        ("class-3xx", 1),
        ("class-4xx", 1),
        ("class-5xx", 1),
        ("class-6xx", 1),
    ];
    assert_eq!(counted(&mut scene, &["method-", "class-"]), map(&wanted));
    let counters = scene.viaduct.stop();
    assert_eq!(counters.get("requests-forwarded"), 7);
    assert_eq!(counters.get("responses-forwarded"), 7);
}

/// As one server of the farm calls another, or sends a REFER on.
#[test]
fn a_request_between_two_members_counts_for_both() {
    let mut scene = Scene::new(2, &[]);
    let [first, second] = [0, 1].map(|number: usize| scene.farm[number].address());
    let bye = Request::new("BYE", first)
        .uri(format!("sip:desk@{second}"))
        .to("<sip:desk@farm.example>;tag=t");
    scene.farm[0].send(scene.front(), bye.text());
    assert_eq!(scene.at_farm().0, 1);
    scene.assert_counter(&format!("to-default-{second}"), 1);
    let counters = scene.viaduct.counters();
    for member in [first, second] {
        let name = format!("last-in-dialog-default-{member}");
        assert!(counters.has(&name), "{name}");
    }
}

#[test]
fn responses_count_for_the_destination_that_they_come_from() {
    let mut scene = Scene::new(2, &[]);
    let mut wanted = BTreeMap::new();
    for call in 0..20 {
        let (member, got) = scene.pass(scene.request("INVITE").text());
        let status = if call % 2 == 0 {
            "200 OK"
        } else {
            "404 Not Found"
        };
        scene.farm[member].send(scene.front(), response(&got, status, "t"));
        scene.caller.receive();
        let address = scene.farm[member].address();
        let name = format!("from-{}xx-default-{address}", &status[..1]);
        *wanted.entry(name).or_insert(0) += 1;
    }
    assert_eq!(counted(&mut scene, &["from-"]), wanted);
    let seen = wanted.len();
    assert!(seen >= 3, "both members answered: {wanted:?}");
    // One that is no member passes a response on, and is not counted.
    let (_, got) = scene.pass(scene.request("INVITE").text());
    let other = Peer::new(V4);
    other.send(scene.front(), response(&got, "200 OK", "t"));
    scene.caller.receive();
    assert_eq!(counted(&mut scene, &["from-"]), wanted);
}

/// Whether the caller hears of them or not.
#[test]
fn responses_that_a_transaction_takes_in_count_too() {
    let mut scene = Scene::still(1, &[]);
    let leg = scene.begin(&scene.request("INVITE"));
    for status in ["100 Trying", "180 Ringing", "486 Busy Here"] {
        scene.says(&leg, status);
    }
    scene.hears(180);
    scene.hears(486);
    let address = scene.farm[0].address();
    let names = ["1xx", "4xx"].map(|class| format!("from-{class}-default-{address}"));
    let wanted = [
        ("class-1xx", 2),
        ("class-4xx", 1),
        (&*names[0], 2),
        (&*names[1], 1),
    ];
    assert_eq!(counted(&mut scene, &["from-", "class-"]), map(&wanted));
}

#[test]
fn a_request_that_is_sent_again_counts_as_retransmitted() {
    let mut scene = Scene::new(1, &[]);
    let name = format!("retransmitted-default-{}", scene.farm[0].address());
    let invite = scene.request("INVITE");
    let own = |scene: &mut Scene| counted(scene, &["retransmitted"]);
    for method in ["INVITE", "CANCEL", "ACK", "ACK"] {
        scene.pass(invite.method(method).text());
    }
    scene.pass(scene.request("INVITE").text());
    assert_eq!(own(&mut scene), map(&[]), "these are all new");
    for count in 1..=3 {
        scene.pass(invite.text());
        assert_eq!(own(&mut scene), map(&[(&name, count)]));
    }
    scene.pass(invite.method("CANCEL").text());
    assert_eq!(own(&mut scene), map(&[(&name, 4)]));
}

#[test]
fn a_cookie_counts_once_however_often_its_request_is_sent_again() {
    let mut scene = Scene::stateful(1, "BYE", &QUICK, &["--record-route"]);
    let invite = scene.request("INVITE");
    let (_, got) = scene.pass(invite.text());
    let route = &values(&got, "record-route")[0];
    let bye = Request {
        cseq: 2,
        ..scene.request("BYE")
    };
    let bye = bye
        .call_id(&invite.call_id)
        .from(&invite.from)
        .to("<sip:desk@farm.example>;tag=t")
        .row(format!("Route: {route}"));
    scene.pass(bye.text());
    for _ in 0..3 {
        assert_eq!(method(&scene.at_farm().1), "BYE");
    }
    scene.assert_counter("cookies-followed", 1);
}

#[test]
fn a_cookie_counts_once_however_many_destinations_are_tried() {
    let mut scene = Scene::stateful(2, "INVITE", &[], &["--record-route"]);
    let (_, got) = scene.pass(scene.request("SUBSCRIBE").text());
    let route = &values(&got, "record-route")[0];
    let invite = scene.request("INVITE").row(format!("Route: {route}"));
    let (first, got) = scene.pass(invite.text());
    let refusal = response(&got, "503 Service Unavailable", "t");
    scene.farm[first].send(scene.front(), refusal);
    let mut methods = [0; 2].map(|_| method(&scene.at_farm().1).to_owned());
    methods.sort();
    assert_eq!(methods, ["ACK", "INVITE"]);
    scene.assert_counter("failed-over", 1);
    scene.assert_counter("cookies-forged", 1);
}

#[test]
fn another_attempt_is_no_retransmission() {
    let scene = Scene::still(2, &[]);
    let (first, got) = scene.pass(scene.request("INVITE").text());
    let refusal = response(&got, "503 Service Unavailable", "t");
    scene.farm[first].send(scene.front(), refusal);
    let mut ends = Vec::new();
    while ends.len() < 2 {
        let (member, got) = scene.at_farm();
        ends.push((member, String::from_utf8_lossy(&got)[..3].to_owned()));
    }
    ends.sort();
    let mut wanted = [(first, "ACK".to_owned()), (1 - first, "INV".to_owned())];
    wanted.sort();
    assert_eq!(ends, wanted);
    let counters = scene.viaduct.stop();
    assert_eq!(counters.get("failed-over"), 1);
    let failed = scene.farm[first].address();
    assert_eq!(counters.get(&format!("from-5xx-default-{failed}")), 1);
    for member in &scene.farm {
        let address = member.address();
        assert_eq!(counters.get(&format!("to-default-{address}")), 1);
        assert_eq!(counters.get(&format!("retransmitted-default-{address}")), 0);
    }
}

#[test]
fn what_becomes_of_a_call_that_rings_too_long_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let farm: Vec<_> = (0..2).map(|_| Peer::new(V4)).collect();
    let text = format!(
        "listen = ['127.0.0.1:0']\nstateful = ['INVITE']\nfailover-after = '60s'\n\
         ring-timeout = '100ms'\ntimers = {{ T1 = '30s', T2 = '30s' }}\n\
         accounting = {{ to = '{}' }}\n\
         [[set]]\nname = 'phones'\ndestinations = ['{}']\n\
         [[set]]\nname = 'voicemail'\ndestinations = ['{}']\n\
         [[on-failure]]\nstatus = [408]\nset = 'voicemail'\n",
        folder.path().join("calls").display(),
        farm[0].address(),
        farm[1].address(),
    );
    let mut scene = Scene::with_file(farm, &text, &[]);
    let leg = scene.begin(&scene.request("INVITE"));
    scene.says(&leg, "180 Ringing");
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.says(&leg, "487 Request Terminated");
    scene.gets(&leg, "ACK");
    let voicemail = scene.next_leg();
    assert_eq!(voicemail.member, 1);
    scene.says(&voicemail, "200 OK");
    scene.hears_in_the_end(200);
    for name in [
        "failure-rules-applied",
        "attempts-cancelled",
        "accounting-written",
    ] {
        scene.assert_counter(name, 1);
    }
}

/// ACK and CANCEL never are, and nothing is that would go to ourselves.
#[test]
fn what_nobody_is_answered_counts_as_what_it_is() {
    let mut scene = Scene::new(1, &[]);
    let of_another = |request: Request| {
        let cseq = format!("CSeq: 1 {}", request.method);
        request.text().replace(&cseq, "CSeq: 1 INVITE")
    };
    scene.send(of_another(scene.request("CANCEL")));
    let itself = format!("SIP/2.0/UDP {};x;branch=z9hG4bKself", scene.front());
    scene.send(of_another(scene.request("NEWS").via(itself)));
    scene.assert_nothing_left();
    scene.assert_counter("drop-cseq-method", 1);
    scene.assert_counter("drop-unknown-method", 1);
}

#[test]
fn a_destination_is_seen_when_anything_comes_from_it() {
    let mut scene = Scene::new(1, &[]);
    let name = format!("last-seen-default-{}", scene.farm[0].address());
    let (_, got) = scene.pass(scene.request("INVITE").text());
    assert!(!scene.viaduct.counters().has(&name), "it has said nothing");
    scene.farm[0].send(scene.front(), response(&got, "180 Ringing", "t"));
    scene.caller.receive();
    wait_until("its age", || scene.viaduct.counter(&name) > 0);
}

#[test]
fn what_the_kernel_drops_is_shown_for_its_worker() {
    const SENT: u64 = 400;
    let mut scene = Scene::new(1, &["--receive-buffer", "16KiB"]);
    scene.fence();
    assert_eq!(counted(&mut scene, &["overflow-"]), map(&[]));
    scene.viaduct.halt();
    for _ in 0..SENT {
        scene.send(scene.request("MESSAGE").text());
    }
    scene.viaduct.signal(Signal::CONT);
    let counters = wait_for("the last of them", || {
        let counters = scene.viaduct.counters();
        let overflow = counters.get("overflow-worker-0");
        // The fence is one more.
        (counters.get("received") + overflow > SENT).then_some(counters)
    });
    let overflow = counters.get("overflow-worker-0");
    assert_eq!(counters.get("received") + overflow, SENT + 1);
    assert!(overflow > 0);
}
