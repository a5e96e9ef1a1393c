//! An INVITE that is relayed with a transaction (RFC 3261 §16, §17.1.1,
//! §17.2.1, RFC 6026): what each side sees of it, message by message.

use std::time::Duration;

use support::dialog::{Scene, assert_octets, branch, read, response, status, values};
use support::stateful::{ack, method, only, request_uri, with_row};

#[test]
fn an_invite_is_answered_100_at_once_with_its_timestamp_and_without_a_to_tag() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE").row("Timestamp: 54.21 0.5");
    scene.send(call.text());
    let trying = scene.hears(100);
    assert_eq!(only(&trying, "via"), call.via);
    assert_eq!(only(&trying, "from"), call.from);
    assert_eq!(only(&trying, "to"), call.to);
    assert_eq!(only(&trying, "call-id"), call.call_id);
    assert_eq!(only(&trying, "cseq"), "1 INVITE");
    let timestamp = only(&trying, "timestamp");
    assert_eq!(timestamp.split(' ').next(), Some("54.21"));
    let leg = scene.next_leg();
    assert_eq!(only(&leg.request, "timestamp"), "54.21 0.5");
    assert_eq!(values(&leg.request, "via").len(), 2);
    assert_eq!(only(&leg.request, "max-forwards"), "69");
    scene.assert_quiet();
}

#[test]
fn without_a_timestamp_the_100_has_none() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    scene.send(call.text());
    assert!(values(&scene.hears(100), "timestamp").is_empty());
}

/// `received` and `rport` (RFC 3581) hold for the replies of a transaction.
#[test]
fn the_100_goes_where_the_request_came_from_and_says_so() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let call = call.via("SIP/2.0/UDP 192.0.2.7:4;rport;branch=z9hG4bKelsewhere");
    scene.send(call.text());
    let via = only(&scene.hears(100), "via");
    let port = scene.caller.address().port();
    assert!(via.contains(";received=127.0.0.1"), "{via}");
    assert!(via.contains(&format!(";rport={port}")), "{via}");
}

#[test]
fn a_method_that_is_not_named_is_relayed_without_a_transaction() {
    let scene = Scene::still(1, &[]);
    let request = scene.request("MESSAGE");
    let (_, first) = scene.pass(request.text());
    let (_, second) = scene.pass(request.text());
    assert_octets(first, second);
    scene.assert_quiet();
}

/// A quoted string may hold what no reply of ours does (§25.1).
#[test]
fn an_invite_that_could_not_be_answered_is_relayed_without_a_transaction() {
    let scene = Scene::still(1, &[]);
    let call = || scene.request("INVITE");
    let name = "\"A\\\u{7f}\"";
    for call in [
        call().from(format!("{name} <sip:a@a.example>;tag=1")),
        call().to(format!("{name} <sip:b@b.example>")),
    ] {
        scene.send(call.text());
        let leg = scene.next_leg();
        scene.says(&leg, "503 Service Unavailable");
        scene.hears(503);
    }
    scene.assert_quiet();
}

#[test]
fn a_retransmitted_invite_is_absorbed_and_answered_with_the_last_response() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.send(call.text());
    scene.hears(100);
    scene.says(&leg, "183 Session Progress");
    let progress = scene.hears(183);
    scene.send(call.text());
    assert_octets(scene.hears(183), progress);
    scene.says(&leg, "180 Ringing");
    let ringing = scene.hears(180);
    scene.send(call.text());
    assert_octets(scene.hears(180), ringing);
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let busy = scene.hears(486);
    scene.send(call.text());
    assert_octets(scene.hears(486), busy);
    scene.assert_quiet();
}

/// RFC 3261 §17.2.1: whichever destination it came from, and whatever has
/// failed before or since.
#[test]
fn a_retransmission_gets_the_last_provisional_response_after_a_failover_too() {
    let args = ["--failover-status", "480,503"];
    for (failure, heard) in [
        ("503 Service Unavailable", 500),
        ("480 Temporarily Unavailable", 480),
    ] {
        let scene = Scene::still(3, &args);
        let call = scene.request("INVITE");
        let first = scene.begin(&call);
        scene.says(&first, failure);
        scene.gets(&first, "ACK");
        let second = scene.next_leg();
        scene.send(call.text());
        scene.hears(100);
        scene.says(&second, "180 Ringing");
        let ringing = scene.hears(180);
        scene.send(call.text());
        assert_octets(scene.hears(180), &ringing);
        scene.says(&second, failure);
        scene.gets(&second, "ACK");
        let third = scene.next_leg();
        scene.send(call.text());
        assert_octets(scene.hears(180), &ringing);
        scene.says(&third, "183 Session Progress");
        let progress = scene.hears(183);
        scene.send(call.text());
        assert_octets(scene.hears(183), &progress);
        // What is told in the end is the failure, as often as it is asked for.
        scene.says(&third, failure);
        scene.gets(&third, "ACK");
        let told = scene.hears(heard);
        scene.send(call.text());
        assert_octets(scene.hears(heard), told);
    }
}

/// RFC 6026 §7.1: in Accepted it is absorbed, and it is the destination that
/// sends its 2xx again.
#[test]
fn an_invite_that_comes_again_behind_its_2xx_is_absorbed() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.send(call.text());
    scene.sync();
    scene.farm[0].assert_silent();
}

#[test]
fn an_invite_without_a_response_is_sent_again_until_one_comes() {
    let scene = Scene::quick(1, &["--timer", "B=60s"]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    for _ in 0..4 {
        assert_octets(scene.gets(&leg, "INVITE").request, &leg.request);
    }
    scene.says(&leg, "100 Trying");
    scene.assert_still_for(Duration::from_millis(1200));
}

#[test]
fn an_invite_that_nobody_answers_is_answered_408() {
    let scene = Scene::quick(1, &[]);
    let call = scene.request("INVITE");
    scene.begin(&call);
    let timeout = scene.hears(408);
    assert_eq!(only(&timeout, "via"), call.via);
    assert!(only(&timeout, "to").contains(";tag="));
    scene.acknowledge(&call, &timeout);
    scene.assert_still_for(Duration::from_millis(500));
}

#[test]
fn provisional_responses_pass_at_once_but_100_never() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "100 Trying");
    for code in ["180 Ringing", "199 Early Dialog Terminated", "183 Progress"] {
        scene.says(&leg, code);
        let heard = scene.hears(code[..3].parse().expect("a status"));
        assert_octets(
            String::from_utf8_lossy(&heard).to_lowercase(),
            without_first_via(&response(&leg.request, code, "t0")).to_lowercase(),
        );
    }
    // The same once more: another party may ring, or the caller lost it.
    scene.says(&leg, "183 Progress");
    scene.hears(183);
    scene.assert_quiet();
}

/// A message without the first of its Via rows.
fn without_first_via(text: &str) -> String {
    let mut first = true;
    let rows = text.split_inclusive("\r\n");
    rows.filter(|row| !row.starts_with("via:") || !std::mem::take(&mut first))
        .collect()
}

#[test]
fn every_2xx_passes_and_its_ack_goes_from_end_to_end() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let there = scene.answered_at(&call, &leg);
    assert_ne!(branch(&there.request), branch(&leg.request));
    // Its retransmissions, and that of another party behind a proxy.
    for tag in ["t0", "t0", "other"] {
        scene.says_all(&leg, &response(&leg.request, "200 OK", tag));
        let to = only(&scene.hears(200), "to");
        assert!(to.ends_with(&format!(";tag={tag}")), "{to}");
    }
    scene.assert_quiet();
}

#[test]
fn after_a_2xx_no_failure_passes() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.answered_at(&call, &leg);
    scene.says(&leg, "180 Ringing");
    scene.says(&leg, "486 Busy Here");
    scene.sync();
    scene.caller.assert_silent();
}

/// RFC 3261 §17.1.1.3.
#[test]
fn a_failure_is_acknowledged_to_the_destination_and_the_callers_ack_goes_no_further() {
    let scene = Scene::still(1, &[]);
    // A call of the outside whose next Route names the member.
    let (front, member) = (scene.front(), scene.farm[0].address());
    let call = scene
        .request("INVITE")
        .row(format!("Route: <sip:{front};lr>"))
        .row(format!(
            "Route: <sip:{member};lr>, <sip:far.example;lr>, <sip:farther.example;lr>"
        ));
    let leg = scene.begin(&call);
    scene.says(&leg, "404 Not Found");
    let ack_there = scene.gets(&leg, "ACK").request;
    assert_eq!(request_uri(&ack_there), request_uri(&leg.request));
    assert_eq!(branch(&ack_there), branch(&leg.request));
    assert_eq!(
        only(&ack_there, "via"),
        values(&leg.request, "via")[0],
        "the INVITE's top Via alone"
    );
    assert_eq!(only(&ack_there, "from"), call.from);
    assert_eq!(only(&ack_there, "to"), format!("{};tag=t0", call.to));
    assert_eq!(only(&ack_there, "call-id"), call.call_id);
    assert_eq!(only(&ack_there, "cseq"), "1 ACK");
    assert_eq!(values(&ack_there, "route"), values(&leg.request, "route"));
    assert!(read(&ack_there).max_forwards.is_some());
    assert!(read(&ack_there).body.is_empty());

    let failure = scene.hears(404);
    scene.acknowledge(&call, &failure);
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();

    // It comes again: it is acknowledged again, and not passed.
    scene.says(&leg, "404 Not Found");
    assert_octets(scene.gets(&leg, "ACK").request, ack_there);
    scene.assert_quiet();
}

#[test]
fn a_failure_is_sent_again_until_it_is_acknowledged() {
    let scene = Scene::quick(1, &["--timer", "B=60s,H=60s"]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "486 Busy Here");
    scene.gets_in_the_end(&leg, "ACK");
    let failure = scene.hears(486);
    for _ in 0..4 {
        assert_octets(scene.hears(486), &failure);
    }
    scene.acknowledge(&call, &failure);
    scene.assert_still_for(Duration::from_millis(500));
}

#[test]
fn a_failure_that_nobody_acknowledges_is_given_up() {
    let scene = Scene::quick(1, &["--timer", "B=60s,H=3s"]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "486 Busy Here");
    for _ in 0..3 {
        scene.hears(486);
    }
    std::thread::sleep(Duration::from_millis(3_300));
    scene.assert_still_for(Duration::from_millis(500));
}

/// RFC 3261 §16.10, §9.1.
#[test]
fn a_cancel_is_answered_at_once_and_sent_once_the_destination_has_said_something() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let cancel = call.method("CANCEL");
    scene.send(cancel.text());
    let answer = scene.hears(200);
    assert_eq!(only(&answer, "cseq"), "1 CANCEL");
    assert_eq!(only(&answer, "via"), call.via);
    assert!(only(&answer, "to").contains(";tag="));
    scene.assert_quiet();

    scene.says(&leg, "100 Trying");
    let there = scene.gets(&leg, "CANCEL");
    assert_eq!(request_uri(&there.request), request_uri(&leg.request));
    assert_eq!(
        only(&there.request, "via"),
        values(&leg.request, "via")[0],
        "the INVITE's top Via alone"
    );
    assert_eq!(only(&there.request, "to"), call.to);
    assert_eq!(only(&there.request, "cseq"), "1 CANCEL");

    // Its answer is for us; the caller hears of the INVITE.
    scene.says(&there, "200 OK");
    scene.says(&leg, "487 Request Terminated");
    scene.gets(&leg, "ACK");
    let failure = scene.hears(487);
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}

#[test]
fn a_ringing_call_is_cancelled_at_once_and_a_retransmitted_cancel_is_answered_again() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let cancel = call.method("CANCEL").text();
    scene.send(&cancel);
    let answer = scene.hears(200);
    let there = scene.gets(&leg, "CANCEL");
    for _ in 0..2 {
        scene.send(&cancel);
        assert_octets(scene.hears(200), &answer);
    }
    scene.assert_quiet();
    scene.says(&there, "200 OK");
    scene.says(&leg, "487 Request Terminated");
    scene.gets(&leg, "ACK");
    scene.hears(487);
    // Behind the end as well.
    scene.send(&cancel);
    assert_octets(scene.hears(200), &answer);
}

/// The 200 to CANCEL and the final response have one To tag (§9.2) where both
/// are ours.
#[test]
fn a_cancelled_call_that_nobody_ends_is_answered_487() {
    let scene = Scene::quick(1, &["--timer", "B=60s,F=4s"]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears_in_the_end(180);
    scene.send(call.method("CANCEL").text());
    let answer = scene.hears(200);
    // Our CANCEL is sent again while nobody answers it.
    let first = scene.gets_in_the_end(&leg, "CANCEL");
    for _ in 0..2 {
        assert_octets(scene.gets(&leg, "CANCEL").request, &first.request);
    }
    scene.says(&first, "200 OK");
    let failure = scene.hears(487);
    assert_eq!(only(&failure, "to"), only(&answer, "to"));
    scene.acknowledge(&call, &failure);
    scene.assert_still_for(Duration::from_millis(500));
}

/// The caller knows better why it has ended.
#[test]
fn a_cancelled_call_whose_destination_says_408_is_answered_487() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.fails_at(&call, &leg, "408 Request Timeout", 487);
}

#[test]
fn a_cancel_that_meets_a_2xx_changes_nothing() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.send(call.method("CANCEL").text());
    let answer = scene.hears(200);
    assert_eq!(only(&answer, "cseq"), "1 CANCEL");
    scene.assert_quiet();
}

/// RFC 3261 §16.10: what belongs to no transaction goes where a stateless
/// proxy would have sent it.
#[test]
fn a_cancel_of_an_unknown_call_is_forwarded_with_the_branch_of_its_invite() {
    let scene = Scene::still(3, &[]);
    for _ in 0..8 {
        let call = scene.request("INVITE");
        let owner = scene.owner(&call);
        let (member, cancel) = scene.pass(call.method("CANCEL").text());
        assert_eq!(member, owner);
        let unknown = response(&cancel, "481 No Such Call", "x");
        scene.farm[member].send(scene.front(), unknown);
        let heard = scene.hears(481);
        assert_eq!(only(&heard, "cseq"), "1 CANCEL");
        // The INVITE comes late: it is the same transaction to the member.
        let leg = scene.begin(&call);
        assert_eq!(leg.member, owner);
        assert_eq!(branch(&cancel), branch(&leg.request));
    }
}

#[test]
fn an_ack_of_an_unknown_call_is_forwarded() {
    let scene = Scene::still(3, &[]);
    let call = scene.request("INVITE");
    let owner = scene.owner(&call);
    let ack = call.method("ACK").to(format!("{};tag=x", call.to));
    let (member, octets) = scene.pass(ack.text());
    assert_eq!((member, method(&octets).as_str()), (owner, "ACK"));
}

/// RFC 3261 §16.7 item 6: 503 would have the caller avoid us, not the one
/// destination.
#[test]
fn a_503_of_the_only_destination_becomes_500() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let unavailable = response(&leg.request, "503 Service Unavailable", "t0");
    scene.says_all(&leg, &with_row(&unavailable, "Retry-After: 30"));
    scene.gets(&leg, "ACK");
    let failure = scene.hears(500);
    assert!(only(&failure, "to").contains(";tag="));
    assert!(values(&failure, "retry-after").is_empty());
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}

/// Everything that a response brings is the caller's, challenges above all.
#[test]
fn a_challenge_passes_as_it_came() {
    let scene = Scene::still(2, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let challenge = with_row(
        &response(&leg.request, "407 Proxy Authentication Required", "t"),
        "Proxy-Authenticate: Digest realm=\"a\", nonce=\"1\"\r\nProxy-Authenticate: Digest realm=\"b\", nonce=\"2\"",
    );
    scene.says_all(&leg, &challenge);
    scene.gets(&leg, "ACK");
    let heard = scene.hears(407);
    assert_octets(&heard, without_first_via(&challenge));
    scene.acknowledge(&call, &heard);
    scene.assert_quiet();
}

/// A transaction of an element that knows no RFC 3261 branch (§17.2.3).
#[test]
fn a_call_without_a_branch_is_told_apart_by_what_the_rfc_says() {
    let scene = Scene::still(1, &[]);
    let caller = scene.caller.address();
    let call = scene.request("INVITE").via(format!("SIP/2.0/UDP {caller}"));
    let leg = scene.begin(&call);
    scene.send(call.text());
    scene.hears(100);
    // Another CSeq number: another transaction.
    let mut second = call.clone();
    second.cseq = 2;
    let other = scene.begin(&second);
    assert_ne!(branch(&leg.request), branch(&other.request));
    scene.says(&leg, "480 Temporarily Unavailable");
    scene.gets(&leg, "ACK");
    let failure = scene.hears(480);
    assert_eq!(only(&failure, "cseq"), "1 INVITE");
    scene.acknowledge(&call, &failure);
    scene.send(call.method("CANCEL").text());
    assert_eq!(only(&scene.hears(200), "cseq"), "1 CANCEL");
    scene.assert_quiet();
}

/// The transaction of one sender is not another's, whatever branch it has.
#[test]
fn one_branch_of_two_senders_is_two_transactions() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let stranger = support::dialog::Peer::new(support::net::V4);
    let via = call.via.replace(
        &scene.caller.address().to_string(),
        &stranger.address().to_string(),
    );
    stranger.send(scene.front(), call.clone().via(via).text());
    assert_eq!(status(stranger.receive()), 100);
    let other = scene.next_leg();
    assert_ne!(branch(&leg.request), branch(&other.request));
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    stranger.assert_silent();
}

/// Nobody but the caller can end its call: where responses go is part of what
/// a transaction is known by.
#[test]
fn a_cancel_and_an_ack_from_elsewhere_do_not_match() {
    let scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let stranger = support::dialog::Peer::at(([127, 0, 0, 9], 0).into());
    stranger.send(scene.front(), call.method("CANCEL").text());
    // It is forwarded as that of an unknown call, with a branch of its own.
    let cancel = scene.gets(&leg, "CANCEL");
    assert_ne!(branch(&cancel.request), branch(&leg.request));
    assert_eq!(values(&cancel.request, "via").len(), 2);
    stranger.assert_silent();
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let failure = scene.hears(486);
    stranger.send(scene.front(), ack(&call, &failure).text());
    scene.gets(&leg, "ACK");
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}
