//! A destination that is not there, says nothing or has too much to do costs
//! no call: the next in rank gets it (RFC 3263 §4.3, RFC 3261 §16.7, §16.9),
//! and what the first one says later does no harm.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use support::dialog::{Peer, Request, Scene, assert_octets, branch, response, values};
use support::net::V4;
use support::stateful::{Leg, QUICK, STILL, method, only, request_uri, with_row};

/// A scene where silence leads on after a short time, and nothing else
/// happens by itself: one retransmission at T1, then the next destination.
const SILENCE: [&str; 4] = ["--timer", "T1=100ms,B=60s", "--failover-after", "150ms"];

/// The same for tests that have to say something before silence leads on: a
/// machine may stand still for two seconds meanwhile.
const LONG_SILENCE: [&str; 4] = ["--timer", "T1=3s,B=60s", "--failover-after", "4s"];

/// A farm where silence leads on.
fn silent(members: usize) -> Scene {
    Scene::stateful(members, "INVITE", &SILENCE, &[])
}

/// A call whose first member has said nothing: that attempt and the next one.
#[track_caller]
fn abandoned(scene: &Scene) -> (Request, Leg, Leg) {
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.other_than(&first);
    (call, first, second)
}

/// What a new attempt shares with the one before, and what not.
#[track_caller]
fn assert_next(first: &Leg, second: &Leg) {
    assert_ne!(first.member, second.member);
    assert_ne!(branch(&first.request), branch(&second.request));
    let text = |leg: &Leg| String::from_utf8(leg.request.clone()).expect("text");
    let branches = (branch(&first.request), branch(&second.request));
    assert_octets(
        text(first).replace(&branches.0, "BRANCH"),
        text(second).replace(&branches.1, "BRANCH"),
    );
}

#[test]
fn what_is_refused_goes_to_the_next_at_once() {
    let scene = Scene::still(3, &[]);
    let call = scene.request("INVITE");
    let owner = scene.owner(&call);
    scene.close(owner);
    let leg = scene.begin(&call);
    assert_ne!(leg.member, owner);
    scene.answered_at(&call, &leg);
    scene.assert_quiet();
}

#[test]
fn silence_leads_to_the_next_after_one_retransmission() {
    let timers = ["--timer", "T1=2s,B=60s", "--failover-after", "5s"];
    let scene = Scene::stateful(2, "INVITE", &timers, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    assert_octets(scene.gets(&first, "INVITE").request, &first.request);
    let second = scene.next_leg();
    assert_next(&first, &second);
    scene.answered_at(&call, &second);
    // The first one is not asked again.
    scene.assert_still_for(Duration::from_millis(500));
}

#[test]
fn a_503_leads_to_the_next_and_is_acknowledged() {
    let scene = Scene::still(3, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    scene.says(&first, "503 Service Unavailable");
    let ack = scene.gets(&first, "ACK");
    assert_eq!(branch(&ack.request), branch(&first.request));
    let second = scene.next_leg();
    assert_next(&first, &second);
    let third = scene.passes_on(&second);
    assert_next(&second, &third);
    assert_ne!(third.member, first.member);
    scene.answered_at(&call, &third);
    scene.assert_quiet();
}

#[test]
fn with_all_destinations_at_503_the_caller_gets_500() {
    let scene = Scene::still(2, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.passes_on(&first);
    scene.fails_at(&call, &second, "503 Service Unavailable", 500);
    scene.assert_quiet();
}

#[test]
fn with_all_destinations_refused_the_caller_gets_an_error_at_once() {
    let scene = Scene::still(2, &[]);
    scene.close(0);
    scene.close(1);
    let call = scene.request("INVITE");
    scene.send(call.text());
    scene.hears(100);
    let failure = scene.hears(500);
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}

#[test]
fn with_all_destinations_silent_the_caller_gets_408() {
    let scene = Scene::quick(2, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.other_than(&first);
    assert_next(&first, &second);
    let failure = scene.hears(408);
    scene.acknowledge(&call, &failure);
    scene.assert_still_for(Duration::from_millis(500));
}

#[test]
fn the_best_of_the_failures_reaches_the_caller() {
    let args = ["--failover-status", "404,500,503"];
    for (said, heard) in [
        (["503 Service Unavailable", "486 Busy Here"], 486),
        (["404 Not Found", "503 Service Unavailable"], 404),
        (["500 Server Error", "404 Not Found"], 404),
        (["404 Not Found", "500 Server Error"], 404),
        (["404 Not Found", "603 Decline"], 603),
        (["404 Not Found", "302 Moved"], 302),
        (["404 Not Found", "401 Unauthorized"], 401),
        (["404 Not Found", "484 Incomplete"], 484),
    ] {
        let scene = Scene::still(2, &args);
        let call = scene.request("INVITE");
        let first = scene.begin(&call);
        scene.says(&first, said[0]);
        scene.gets(&first, "ACK");
        let second = scene.next_leg();
        scene.fails_at(&call, &second, said[1], heard);
        scene.assert_quiet();
    }
}

#[test]
fn a_6xx_ends_the_search() {
    let scene = Scene::still(3, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "603 Decline", 603);
    scene.assert_quiet();
    // Also behind another failure, which is the worse one to tell.
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.passes_on(&first);
    scene.fails_at(&call, &second, "600 Busy Everywhere", 600);
    scene.assert_quiet();
}

#[test]
fn other_failures_are_the_callers_and_lead_nowhere() {
    let scene = Scene::still(2, &[]);
    for said in [
        "302 Moved",
        "401 Unauthorized",
        "486 Busy Here",
        "500 Oh",
        "504 Late",
    ] {
        let call = scene.request("INVITE");
        let leg = scene.begin(&call);
        let code = said[..3].parse().expect("a status");
        scene.fails_at(&call, &leg, said, code);
        scene.assert_quiet();
    }
}

#[test]
fn a_status_that_is_configured_leads_to_the_next() {
    let scene = Scene::still(2, &["--failover-status", "480"]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    scene.says(&first, "480 Temporarily Unavailable");
    scene.gets(&first, "ACK");
    let second = scene.next_leg();
    assert_next(&first, &second);
    scene.answered_at(&call, &second);
    // 503 no longer does.
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
    scene.assert_quiet();
}

#[test]
fn eight_destinations_are_tried_and_no_more() {
    let scene = Scene::still(10, &[]);
    let call = scene.request("INVITE");
    let mut leg = scene.begin(&call);
    let mut members = BTreeSet::new();
    for attempt in 1..=8 {
        members.insert(leg.member);
        if attempt == 8 {
            scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
        } else {
            leg = scene.passes_on(&leg);
        }
    }
    assert_eq!(members.len(), 8);
    scene.assert_quiet();
}

/// RFC 3263 §4.3: once a destination has said something it has the call.
#[test]
fn after_a_provisional_response_silence_leads_nowhere_but_a_503_does() {
    let scene = Scene::stateful(2, "INVITE", &LONG_SILENCE, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    scene.says(&first, "100 Trying");
    scene.assert_still_for(Duration::from_millis(4_500));
    scene.says(&first, "180 Ringing");
    scene.hears(180);
    let second = scene.passes_on(&first);
    scene.answered_at(&call, &second);
}

#[test]
fn within_a_dialog_nothing_leads_to_another_destination() {
    let scene = Scene::still(3, &[]);
    // By Call-ID, as where there is no Record-Route.
    let call = scene.request("INVITE");
    let to = format!("{};tag=x", call.to);
    let call = call.to(to);
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
    scene.assert_quiet();
    // By name.
    let call = scene.request("INVITE");
    let member = format!("sip:desk@{}", scene.farm[2].address());
    let call = call.uri(member);
    let leg = scene.begin(&call);
    assert_eq!(leg.member, 2);
    scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
    scene.assert_quiet();
    scene.close(2);
    let mut call = call;
    call.cseq = 2;
    scene.send(call.text());
    scene.hears(100);
    let failure = scene.hears(500);
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}

#[test]
fn a_late_ringing_of_an_abandoned_destination_is_cancelled() {
    let scene = silent(2);
    let (_, first, second) = abandoned(&scene);
    scene.says(&second, "180 Ringing");
    scene.hears(180);
    scene.says(&first, "180 Ringing");
    let cancel = scene.gets_in_the_end(&first, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&first.request));
    assert_eq!(request_uri(&cancel.request), request_uri(&first.request));
    scene.says(&cancel, "200 OK");
    scene.says(&first, "487 Request Terminated");
    scene.gets_in_the_end(&first, "ACK");
    // The call goes on at the second.
    scene.says(&second, "200 OK");
    scene.hears(200);
    scene.assert_still_for(Duration::from_millis(300));
}

/// The first copy of an INVITE got there, and the second one did not.
#[test]
fn a_destination_that_seemed_out_of_reach_is_cancelled_when_it_rings_after_the_answer() {
    let timers = ["--timer", "T1=100ms,B=60s", "--failover-after", "60s"];
    let mut scene = Scene::stateful(2, "INVITE", &timers, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let address = scene.farm[first.member].address();
    scene.farm[first.member] = Peer::new(V4);
    let second = scene.next_leg();
    assert_next(&first, &second);
    scene.answered_at(&call, &second);
    scene.farm[first.member] = Peer::at(address);
    scene.says(&first, "180 Ringing");
    let cancel = scene.gets(&first, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&first.request));
    scene.says(&cancel, "200 OK");
    scene.says(&first, "487 Request Terminated");
    scene.gets_in_the_end(&first, "ACK");
    scene.assert_quiet();
}

#[test]
fn a_late_answer_of_an_abandoned_destination_is_passed() {
    let scene = silent(2);
    let (_, first, second) = abandoned(&scene);
    scene.says(&second, "180 Ringing");
    scene.hears(180);
    scene.says(&first, "200 OK");
    let answer = scene.hears(200);
    assert!(only(&answer, "to").ends_with(&format!(";tag=t{}", first.member)));
    // The other one rings in vain.
    let cancel = scene.gets_in_the_end(&second, "CANCEL");
    scene.says(&cancel, "200 OK");
    // Had it been answered meanwhile, the caller has two dialogs to choose from.
    scene.says(&second, "200 OK");
    let answer = scene.hears(200);
    assert!(only(&answer, "to").ends_with(&format!(";tag=t{}", second.member)));
    scene.assert_still_for(Duration::from_millis(300));
}

#[test]
fn a_late_failure_of_an_abandoned_destination_is_acknowledged_and_kept() {
    let scene = silent(2);
    let (_, first, second) = abandoned(&scene);
    scene.says(&second, "180 Ringing");
    scene.hears(180);
    scene.says(&first, "486 Busy Here");
    let ack = scene.gets_in_the_end(&first, "ACK");
    assert_eq!(branch(&ack.request), branch(&first.request));
    scene.sync();
    scene.caller.assert_silent();
    scene.says(&second, "200 OK");
    scene.hears(200);
}

#[test]
fn a_cancel_reaches_each_destination_that_rings_and_stops_the_search() {
    let scene = Scene::stateful(3, "INVITE", &LONG_SILENCE, &[]);
    let (call, first, second) = abandoned(&scene);
    scene.says(&second, "180 Ringing");
    scene.hears(180);
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.gets_in_the_end(&second, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&second.request));
    scene.says(&cancel, "200 OK");
    // Nothing leads on any more.
    scene.says(&second, "503 Service Unavailable");
    scene.gets_in_the_end(&second, "ACK");
    // The first one never said a word: it is cancelled when it does.
    scene.says(&first, "180 Ringing");
    let cancel = scene.gets_in_the_end(&first, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&first.request));
    scene.says(&cancel, "200 OK");
    scene.says(&first, "487 Request Terminated");
    scene.gets_in_the_end(&first, "ACK");
    let third = 3 - first.member - second.member;
    scene.sync();
    scene.farm[third].assert_silent();
}

#[test]
fn a_cancelled_call_goes_to_no_other_destination() {
    let scene = Scene::still(2, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "100 Trying");
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    scene.gets_in_the_end(&leg, "CANCEL");
    // A 503 is not passed on; the caller knows why the call has ended.
    scene.fails_at(&call, &leg, "503 Service Unavailable", 487);
    scene.sync();
    scene.farm[1 - leg.member].assert_silent();
}

/// The dialog belongs to the destination that answered, and its requests must
/// find it whatever the Call-ID says.
#[test]
fn a_dialog_stays_with_the_destination_that_answered() {
    let scene = Scene::still(4, &["--record-route"]);
    for _ in 0..8 {
        let call = scene.request("INVITE");
        let first = scene.begin(&call);
        let second = scene.passes_on(&first);
        let route = only(&second.request, "record-route");
        let answer = with_row(
            &response(&second.request, "200 OK", "x"),
            &format!("Record-Route: {route}"),
        );
        scene.says_all(&second, &answer);
        let to = only(&scene.hears(200), "to");
        for method in ["ACK", "BYE"] {
            let request = Request::new(method, scene.caller.address())
                .call_id(&call.call_id)
                .to(&to)
                .row(format!("Route: {route}"));
            let (member, _) = scene.pass(request.text());
            assert_eq!(member, second.member, "{method}");
        }
    }
}

/// RFC 3261 §21.5.4.
#[test]
fn retry_after_keeps_new_calls_away_but_not_from_the_last() {
    let scene = Scene::still(2, &[]);
    let busy = |leg: &Leg| {
        let unavailable = response(&leg.request, "503 Service Unavailable", "t");
        scene.says_all(leg, &with_row(&unavailable, "Retry-After: 3600"));
        scene.gets(leg, "ACK");
    };
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    busy(&first);
    let second = scene.next_leg();
    scene.answered_at(&call, &second);
    for _ in 0..12 {
        let call = scene.request("INVITE");
        let leg = scene.begin(&call);
        assert_eq!(leg.member, second.member, "the busy one got a call");
        scene.answered_at(&call, &leg);
    }
    // Stateless traffic is not touched.
    let shares: BTreeSet<_> = (0..40)
        .map(|_| scene.pass(scene.request("OPTIONS").text()).0)
        .collect();
    assert_eq!(shares.len(), 2);
    // With all of them busy, calls are made all the same.
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    busy(&leg);
    let last = scene.next_leg();
    assert_eq!(last.member, first.member);
    scene.answered_at(&call, &last);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.answered_at(&call, &leg);
}

#[test]
fn after_the_rest_that_it_asked_for_a_destination_has_its_share_again() {
    for (cap, rest) in [("5m", 1_100), ("0s", 0)] {
        let scene = Scene::still(2, &["--retry-after-cap", cap]);
        let call = scene.request("INVITE");
        let busy = scene.begin(&call);
        let unavailable = response(&busy.request, "503 Service Unavailable", "t");
        scene.says_all(&busy, &with_row(&unavailable, "Retry-After: 1"));
        scene.gets(&busy, "ACK");
        scene.answered_at(&call, &scene.next_leg());
        std::thread::sleep(Duration::from_millis(rest));
        assert_has_its_share(&scene, busy.member);
    }
}

/// New calls go where their hash says, to this member too.
#[track_caller]
fn assert_has_its_share(scene: &Scene, member: usize) {
    let mut own = 0;
    while own < 3 {
        let call = scene.request("INVITE");
        let owner = scene.owner(&call);
        let leg = scene.begin(&call);
        assert_eq!(leg.member, owner, "{own} calls");
        scene.answered_at(&call, &leg);
        own += usize::from(owner == member);
    }
}

/// A proxy shows our branch to all whom it calls.
#[test]
fn who_answers_in_the_place_of_a_destination_keeps_no_calls_from_it() {
    let scene = Scene::still(2, &[]);
    let phone = Peer::new("127.0.0.9".parse().expect("an address"));
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let unavailable = response(&leg.request, "503 Service Unavailable", "t");
    phone.send(scene.front(), with_row(&unavailable, "Retry-After: 3600"));
    scene.gets(&leg, "ACK");
    scene.answered_at(&call, &scene.next_leg());
    assert_has_its_share(&scene, leg.member);
}

#[test]
fn a_destination_that_was_silent_gets_calls_again_once_it_answers() {
    let scene = Scene::stateful(2, "INVITE", &LONG_SILENCE, &[]);
    let (call, first, second) = abandoned(&scene);
    scene.answered_at(&call, &second);
    // It is tried again after a time, and then has its share.
    let mut shares = [0; 2];
    for _ in 0..400 {
        let call = scene.request("INVITE");
        scene.send(call.text());
        // A failure of the call before may have come once more.
        scene.hears_in_the_end(100);
        let leg = loop {
            let leg = scene.next_leg();
            if only(&leg.request, "call-id") == call.call_id {
                break leg;
            }
        };
        scene.says(&leg, "486 Busy Here");
        scene.gets_in_the_end(&leg, "ACK");
        let failure = loop {
            let failure = scene.hears_in_the_end(486);
            if only(&failure, "call-id") == call.call_id {
                break failure;
            }
        };
        scene.acknowledge(&call, &failure);
        shares[leg.member] += 1;
        if shares[first.member] > 20 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("calls of each: {shares:?}");
}

/// REGISTER and OPTIONS may come to two destinations; anything else might act
/// twice.
#[test]
fn of_other_requests_only_register_and_options_leave_a_silent_destination() {
    let methods = "REGISTER,MESSAGE,OPTIONS,SUBSCRIBE";
    let scene = |timers| {
        let timers = ["--timer", timers, "--failover-after", "50ms"];
        Scene::stateful(2, methods, &timers, &[])
    };
    // Nobody waits for Timer F of what is answered.
    let (patient, short) = (
        scene("T1=20ms,T2=40ms,F=60s"),
        scene("T1=20ms,T2=40ms,F=4s"),
    );
    for (name, leads_on) in [
        ("REGISTER", true),
        ("OPTIONS", true),
        ("MESSAGE", false),
        ("SUBSCRIBE", false),
    ] {
        let scene = if leads_on { &patient } else { &short };
        let request = scene.request(name);
        scene.send(request.text());
        let first = scene.next_leg();
        if leads_on {
            let second = scene.other_than(&first);
            assert_next(&first, &second);
            scene.says(&second, "200 OK");
            assert_eq!(only(&scene.hears(200), "cseq"), format!("1 {name}"));
        } else {
            // The same again and again, until Timer F.
            for _ in 0..3 {
                assert_octets(scene.next_leg().request, &first.request);
            }
            std::thread::sleep(Duration::from_millis(4_300));
        }
        scene.assert_still_for(Duration::from_millis(300));
    }
}

#[test]
fn any_request_leaves_a_destination_that_refuses_it_or_answers_503() {
    let scene = Scene::stateful(2, "MESSAGE", &STILL, &[]);
    let request = scene.request("MESSAGE");
    let (member, octets) = scene.pass(request.text());
    let first = Leg {
        member,
        request: octets,
    };
    scene.says(&first, "503 Service Unavailable");
    let second = scene.next_leg();
    assert_next(&first, &second);
    assert_eq!(method(&second.request), "MESSAGE");
    scene.says(&second, "202 Accepted");
    scene.hears(202);
    scene.assert_quiet();

    let request = scene.request("MESSAGE");
    let owner = scene.owner(&request);
    scene.close(owner);
    let (member, octets) = scene.pass(request.text());
    assert_ne!(member, owner);
    assert_eq!(values(&octets, "via").len(), 2);
    scene.assert_quiet();
}

/// Once the choice is made, the transaction keeps to it.
#[test]
fn a_retransmission_during_a_failover_changes_nothing() {
    let scene = Scene::stateful(3, "INVITE", &QUICK, &["--timer", "B=60s"]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let mut members = BTreeMap::from([(branch(&first.request), first.member)]);
    for _ in 0..10 {
        scene.send(call.text());
        scene.hears(100);
        let leg = scene.next_leg();
        let member = *members.entry(branch(&leg.request)).or_insert(leg.member);
        assert_eq!(member, leg.member, "each attempt has its own");
    }
    let different: BTreeSet<_> = members.values().collect();
    assert!(members.len() > 1 && different.len() == members.len());
}
