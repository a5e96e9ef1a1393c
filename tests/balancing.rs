//! Which member takes a call: what is hashed, how weights and priorities
//! count, and that all messages of a transaction go one way (RFC 3261 §16.11).

use std::collections::{BTreeMap, BTreeSet};

use support::dialog::{Peer, Request, Scene, response, status};
use support::net::V4;

/// Viaduct before members with these URI parameters.
fn farm(parameters: &[&str], args: &[&str]) -> Scene {
    let farm: Vec<Peer> = parameters.iter().map(|_| Peer::new(V4)).collect();
    let mut first = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
    for (member, parameters) in farm.iter().zip(parameters) {
        first.extend([
            "--to".to_owned(),
            format!("sip:{}{parameters}", member.address()),
        ]);
    }
    Scene::with(farm, &first, args)
}

/// Demands that the counts are `weights` of their sum, within five standard
/// deviations of a fair choice.
#[track_caller]
fn assert_shares(counts: &[usize], weights: &[usize]) {
    let (calls, sum) = (
        counts.iter().sum::<usize>() as f64,
        weights.iter().sum::<usize>() as f64,
    );
    for (count, weight) in counts.iter().zip(weights) {
        let p = *weight as f64 / sum;
        let slack = 5.0 * (calls * p * (1.0 - p)).sqrt();
        let distance = (*count as f64 - calls * p).abs();
        assert!(distance <= slack, "{counts:?} for the weights {weights:?}");
    }
}

/// The members that requests, each given by its number, go to.
fn members(scene: &Scene, requests: impl Fn(usize) -> Request) -> BTreeSet<usize> {
    (0..60)
        .map(|number| scene.pass(requests(number).text()).0)
        .collect()
}

/// Demands that an equal key leads to one member, whatever else differs, and
/// different keys lead to all four.
#[track_caller]
fn assert_key(key: &str, with: impl Fn(Request, usize) -> Request) {
    let scene = Scene::new(4, &["--hash-key", key]);
    let one = members(&scene, |_| with(scene.request("INVITE"), 1));
    assert_eq!(one.len(), 1, "an equal {key}");
    let all = members(&scene, |number| with(scene.request("INVITE"), number));
    assert_eq!(all.len(), 4, "each its {key}");
}

#[test]
fn the_call_id_is_the_key_unless_set_otherwise() {
    assert_key("call-id", |request, n| request.call_id(format!("id-{n}@a")));
    let scene = Scene::new(4, &[]);
    let one = members(&scene, |n| {
        let request = scene.request(["INVITE", "BYE", "INFO"][n % 3]);
        request
            .call_id("one@a.example")
            .uri(format!("sip:{n}@b.example"))
            .to(format!("<sip:{n}@b>;tag=t"))
    });
    assert_eq!(one.len(), 1);
    // White space round it and the name's form are not of it; its case is.
    let spaced = |text: &str| members(&scene, |_| scene.request("INVITE").call_id(text));
    assert_eq!(spaced("  one@a.example \t"), one);
    assert_eq!(spaced("\r\n one@a.example"), one);
    let all = members(&scene, |n| {
        scene
            .request("INVITE")
            .call_id(format!("one{}@a.example", "x".repeat(n)))
    });
    assert_eq!(all.len(), 4);
}

#[test]
fn the_from_uri_as_key() {
    assert_key("from-uri", |request, n| {
        let tag = request.call_id.len();
        request.from(format!("\"n{tag}\" <sip:u{n}@A.example;x={tag}>;tag={tag}"))
    });
}

#[test]
fn the_to_uri_as_key() {
    assert_key("to-uri", |request, n| {
        request.to(format!("<sip:u{n}@a.example:5060>;tag=t"))
    });
}

#[test]
fn the_request_uri_as_key() {
    assert_key("request-uri", |request, n| {
        request.uri(format!("sip:u{n}@a.example;p=q"))
    });
}

/// Ann registers at her domain, and is called at an alias of it or by an address.
#[test]
fn the_user_alone_as_key() {
    assert_key("from-user", |request, n| {
        request.from(format!("<sip:u{n}@a.example>;tag=f"))
    });
    assert_key("to-user", |request, n| {
        request.to(format!("<sip:u{n}@a.example>"))
    });
    assert_key("request-user", |request, n| {
        request.uri(format!("sip:u{n}@a.example"))
    });
    let scene = Scene::new(4, &["--hash-key", "to-user"]);
    for n in 0..20 {
        let ways = [
            format!("<sip:u{n}@a.example>"),
            format!("sip:%75{n}@alias.example:5070;tag=9"),
            format!("<sip:u{n}:secret@192.0.2.10;user=phone>"),
            format!("<sip:u{n}@[2001:db8::5]>"),
        ];
        let chosen: BTreeSet<usize> = ways
            .iter()
            .map(|to| scene.pass(scene.request("INVITE").to(to).text()).0)
            .collect();
        assert_eq!(chosen.len(), 1, "{ways:?}");
    }
}

#[test]
fn two_ways_to_write_one_uri_are_one_key() {
    let scene = Scene::new(4, &["--hash-key", "to-uri"]);
    let uris = (0..20).flat_map(|n| {
        [
            [
                format!("<sip:u{n}@a.example>"),
                format!("sip:u{n}@A.Example:5060;tag=9"),
                format!("\"<x>\"  <sip:u{n}@a.EXAMPLE.;lr>;tag=8"),
            ],
            [
                format!("<sip:u{n}@[2001:db8::5]>"),
                format!("<sip:u{n}@[2001:DB8:0::0:5]>"),
                format!("<sip:u{n}@[2001:0db8::5]:5060>"),
            ],
        ]
    });
    for to in uris {
        let chosen: BTreeSet<usize> = to
            .iter()
            .map(|to| scene.pass(scene.request("INVITE").to(to).text()).0)
            .collect();
        assert_eq!(chosen.len(), 1, "{to:?}");
    }
}

#[test]
fn a_named_header_as_key() {
    assert_key("header:X-Tenant", |request, n| {
        request
            .row(format!("x-tenant : t{n}"))
            .row("X-Tenant: other")
    });
    // Call-ID where a request has none.
    assert_key("header:X-Tenant", |request, n| {
        request.call_id(format!("id-{n}@a"))
    });
    // The compact form is the same header (RFC 3261, 3841, 4474).
    for (name, compact) in [
        ("Subject", "s"),
        ("Request-Disposition", "d"),
        ("Reject-Contact", "j"),
        ("Identity-Info", "n"),
    ] {
        let scene = Scene::new(4, &["--hash-key", &format!("header:{name}")]);
        let rows = [format!("{name}: tide"), format!("{compact}:tide")];
        let one = members(&scene, |n| scene.request("INVITE").row(&rows[n % 2]));
        assert_eq!(one.len(), 1, "{name}");
    }
    // A compact name stands for both, and an empty value for none.
    let scene = Scene::new(4, &["--hash-key", "header:s"]);
    let with = |row: &str| scene.request("INVITE").row(row);
    let both = ["Subject: lunch", "s: lunch"];
    assert_eq!(members(&scene, |n| with(both[n % 2])).len(), 1);
    assert!(members(&scene, |_| with("Subject:")).len() > 1);
}

#[test]
fn the_source_as_key() {
    let scene = Scene::new(4, &["--hash-key", "source"]);
    assert_eq!(members(&scene, |_| scene.request("INVITE")).len(), 1);
    let mut chosen = BTreeSet::new();
    for n in 1..=100 {
        let pair: BTreeSet<usize> = (0..2)
            .map(|_| {
                // Another port of the same address is the same source.
                let caller = Peer::at(([127, 0, 3, n], 0).into());
                caller.send(
                    scene.front(),
                    Request::new("INVITE", caller.address()).text(),
                );
                scene.at_farm().0
            })
            .collect();
        assert_eq!(pair.len(), 1);
        chosen.extend(pair);
    }
    assert_eq!(chosen.len(), 4);
}

#[test]
fn hash_gives_each_member_its_weight() {
    let scene = farm(&[";weight=1", ";weight=2", ";weight=5", ""], &[]);
    assert_shares(&scene.shares(4_000), &[1, 2, 5, 1]);
}

#[test]
fn random_gives_each_member_its_weight() {
    let scene = farm(&["", ";weight=3"], &["--policy", "random"]);
    assert_shares(&scene.shares(2_000), &[1, 3]);
}

/// The top level says what the sets hash that do so.
#[test]
fn a_hash_key_has_no_effect_where_nothing_is_hashed_by_it() {
    for policy in ["random", "round-robin"] {
        let scene = farm(
            &["", "", "", ""],
            &["--policy", policy, "--hash-key", "source"],
        );
        assert_shares(&scene.shares(400), &[1, 1, 1, 1]);
    }
}

#[test]
fn only_the_highest_priority_that_can_take_work_does() {
    for policy in ["hash", "random", "round-robin"] {
        let scene = farm(
            &[
                ";priority=1",
                ";priority=5",
                ";priority=5",
                ";priority=9;state=disabled",
            ],
            &["--policy", policy],
        );
        let shares = scene.shares(100);
        assert_eq!((shares[0], shares[3]), (0, 0), "{policy}: {shares:?}");
        assert!(shares[1] > 10 && shares[2] > 10, "{policy}: {shares:?}");
    }
}

#[test]
fn with_all_disabled_a_request_is_answered_503() {
    for policy in ["hash", "kamailio", "random", "round-robin"] {
        let mut scene = farm(
            &[";state=disabled", ";state=disabled"],
            &["--policy", policy],
        );
        let answer = scene.answer(scene.request("INVITE").text());
        assert_eq!(status(answer), 503, "{policy}");
        scene.send(scene.request("ACK").text());
        let again = scene.answer(scene.request("OPTIONS").text());
        assert_eq!(status(again), 503, "{policy}");
        scene.caller.assert_silent();
        scene.assert_counter("drop-no-destination", 1);
        scene.assert_counter("reply-503", 2);
    }
}

#[test]
fn a_draining_member_takes_no_new_calls() {
    for policy in ["hash", "kamailio", "random", "round-robin"] {
        let scene = farm(&["", ";state=draining", ""], &["--policy", policy]);
        let shares = scene.shares(60);
        assert_eq!(shares[1], 0, "{policy}: {shares:?}");
        assert!(shares[0] > 10 && shares[2] > 10, "{policy}: {shares:?}");
    }
    let scene = farm(&[";state=draining", ";state=disabled"], &[]);
    let answer = scene.answer(scene.request("INVITE").text());
    assert_eq!(status(answer), 503);
}

#[test]
fn disabling_a_member_moves_its_calls_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let secret = secret.to_str().expect("text");
    let farm: Vec<Peer> = (0..3).map(|_| Peer::new(V4)).collect();
    let args = |state: &str| {
        let mut args = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        for (number, member) in farm.iter().enumerate() {
            let state = if number == 2 { state } else { "" };
            args.extend([
                "--to".to_owned(),
                format!("sip:{}{state}", member.address()),
            ]);
        }
        args
    };
    let args = [args(""), args(";state=disabled")];
    let calls: Vec<String> = (0..200)
        .map(|n| format!("call-{n}@moved.example"))
        .collect();
    let place = |scene: &Scene| -> Vec<usize> {
        calls
            .iter()
            .map(|call| scene.pass(scene.request("INVITE").call_id(call).text()).0)
            .collect()
    };
    let mut scene = Scene::with(farm, &args[0], &["--secret-file", secret]);
    let before = place(&scene);
    let farm = std::mem::take(&mut scene.farm);
    drop(scene);
    let after = place(&Scene::with(farm, &args[1], &["--secret-file", secret]));
    let mut moved = BTreeMap::new();
    for (before, after) in before.into_iter().zip(after) {
        if before == 2 {
            *moved.entry(after).or_insert(0) += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert_eq!(moved.into_keys().collect::<Vec<_>>(), [0, 1]);
}

/// INVITE, the same again, its CANCEL, the ACK to its final response.
fn transaction(request: &Request) -> [Request; 4] {
    [
        request.clone(),
        request.clone(),
        request.method("CANCEL"),
        request.method("ACK").to("<sip:desk@farm.example>;tag=t1"),
    ]
}

#[test]
fn round_robin_takes_exact_turns_and_keeps_a_transaction_together() {
    let scene = farm(
        &["", ";weight=2", ";weight=3", ";weight=9;state=disabled"],
        &["--policy", "round-robin"],
    );
    let mut turns = [0; 4];
    for round in 1..=20 {
        for _ in 0..6 {
            let chosen: Vec<usize> = transaction(&scene.request("INVITE"))
                .iter()
                .map(|request| scene.pass(request.text()).0)
                .collect();
            turns[chosen[0]] += 1;
            assert_eq!(chosen, [chosen[0]; 4]);
        }
        assert_eq!(turns, [round, 2 * round, 3 * round, 0]);
    }
}

#[test]
fn random_chooses_for_each_transaction_and_keeps_it_together() {
    let scene = farm(&["", "", "", ""], &["--policy", "random"]);
    let mut request = scene.request("INVITE");
    let mut members = BTreeSet::new();
    for cseq in 1..60 {
        request.cseq = cseq;
        let chosen: Vec<usize> = transaction(&request)
            .iter()
            .map(|request| scene.pass(request.text()).0)
            .collect();
        assert_eq!(chosen, [chosen[0]; 4]);
        members.insert(chosen[0]);
    }
    assert_eq!(members.len(), 4, "one Call-ID, many transactions");
}

#[test]
fn calls_go_to_the_member_that_answered_them_whatever_comes_between() {
    let scene = Scene::new(4, &[]);
    let calls: Vec<Request> = (0..40).map(|_| scene.request("INVITE")).collect();
    let first: Vec<usize> = calls.iter().map(|call| scene.pass(call.text()).0).collect();
    for (call, member) in calls.iter().zip(first).rev() {
        let (_, got) = scene.pass(call.text());
        scene.farm[member].send(scene.front(), response(got, "200 OK", "t1"));
        scene.caller.receive();
        for method in ["ACK", "INFO", "BYE"] {
            let mut later = call.method(method).to("<sip:desk@farm.example>;tag=t1");
            later.cseq += 1;
            later.via = later.via.replace("z9hG4bK", "z9hG4bKlater");
            assert_eq!(scene.pass(later.text()).0, member);
        }
    }
}
