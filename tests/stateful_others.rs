//! Requests other than INVITE that are relayed with a transaction (RFC 3261
//! §17.1.2, §17.2.2, RFC 4320).

use std::collections::BTreeSet;
use std::time::Duration;

use support::dialog::{Peer, Request, Scene, assert_octets, response, status};
use support::net::V4;
use support::stateful::{Leg, STILL, method, only, with_row};

fn still(members: usize) -> Scene {
    Scene::stateful(members, "REGISTER,MESSAGE,BYE", &STILL, &[])
}

#[track_caller]
fn sent(scene: &Scene, request: &support::dialog::Request) -> Leg {
    scene.send(request.text());
    scene.next_leg()
}

#[test]
fn there_is_no_100_and_provisional_responses_pass() {
    let scene = still(1);
    let request = scene.request("MESSAGE");
    let leg = sent(&scene, &request);
    scene.sync();
    scene.caller.assert_silent();
    // RFC 4320 §4.1 knows a late 100 of the destination; it is not for us to pass.
    scene.says(&leg, "100 Trying");
    scene.sync();
    scene.caller.assert_silent();
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.assert_quiet();
}

#[test]
fn a_retransmission_is_absorbed_and_the_final_response_repeated_to_it() {
    let scene = still(1);
    for status in ["200 OK", "404 Not Found"] {
        let request = scene.request("REGISTER");
        let leg = sent(&scene, &request);
        scene.send(request.text());
        scene.assert_quiet();
        let answer = with_row(
            &response(&leg.request, status, "t"),
            "Contact: <sip:ann@192.0.2.1>;expires=60",
        );
        scene.says_all(&leg, &answer);
        let code = status[..3].parse().expect("a status");
        let heard = scene.hears(code);
        assert_eq!(only(&heard, "contact"), "<sip:ann@192.0.2.1>;expires=60");
        for _ in 0..2 {
            scene.send(request.text());
            assert_octets(scene.hears(code), &heard);
        }
        // What the destination sends again stays here.
        scene.says_all(&leg, &answer);
        scene.assert_quiet();
    }
}

#[test]
fn a_request_without_a_response_is_sent_again_until_one_comes() {
    let timers = ["--timer", "T1=20ms,T2=40ms,F=60s"];
    let scene = Scene::stateful(1, "MESSAGE", &timers, &[]);
    let request = scene.request("MESSAGE");
    let leg = sent(&scene, &request);
    for _ in 0..5 {
        assert_octets(scene.gets(&leg, "MESSAGE").request, &leg.request);
    }
    // A provisional response does not end it; a final one does.
    scene.says(&leg, "100 Trying");
    scene.gets(&leg, "MESSAGE");
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.assert_still_for(Duration::from_millis(300));
}

/// RFC 4320 §4.2: a 408 would come too late to be of use.
#[test]
fn a_request_that_nobody_answers_gets_no_408() {
    let timers = ["--timer", "T1=5ms,T2=20ms,F=2s"];
    let scene = Scene::stateful(1, "MESSAGE", &timers, &[]);
    let request = scene.request("MESSAGE");
    let leg = sent(&scene, &request);
    scene.gets(&leg, "MESSAGE");
    std::thread::sleep(Duration::from_millis(2_300));
    scene.sync();
    scene.caller.assert_silent();
    scene.assert_still_for(Duration::from_millis(200));
}

#[test]
fn a_503_of_the_only_destination_becomes_500() {
    let scene = still(1);
    let request = scene.request("MESSAGE");
    let leg = sent(&scene, &request);
    scene.says(&leg, "503 Service Unavailable");
    let failure = scene.hears(500);
    scene.send(request.text());
    assert_octets(scene.hears(500), failure);
    scene.assert_quiet();
}

#[test]
fn a_request_of_a_dialog_goes_to_its_destination_alone() {
    let scene = still(2);
    let request = scene.request("BYE");
    let member = format!("sip:desk@{}", scene.farm[1].address());
    let to = format!("{};tag=t", request.to);
    let request = request.uri(member).to(to);
    let leg = sent(&scene, &request);
    assert_eq!(leg.member, 1);
    scene.says(&leg, "503 Service Unavailable");
    scene.hears(500);
    scene.assert_quiet();
    scene.close(1);
    let mut again = request.clone();
    again.cseq = 2;
    again.via = format!("{}x", request.via);
    scene.send(again.text());
    scene.hears(500);
    scene.assert_quiet();
}

#[test]
fn a_cancel_of_another_request_is_answered_and_not_sent_on() {
    let scene = still(1);
    let request = scene.request("MESSAGE");
    let leg = sent(&scene, &request);
    scene.send(request.method("CANCEL").text());
    // RFC 3261 §9.1: none but INVITE can be cancelled.
    scene.hears(200);
    scene.assert_quiet();
    scene.says(&leg, "200 OK");
    scene.hears(200);
}

/// One branch and CSeq number for two methods are forbidden (RFC 3261 §8.1.1.5,
/// §8.1.1.7); the second one is relayed all the same, statelessly.
#[test]
fn another_method_with_the_same_branch_is_not_taken_for_a_retransmission() {
    let scene = still(1);
    let request = scene.request("REGISTER");
    let leg = sent(&scene, &request);
    let other = sent(&scene, &request.method("MESSAGE"));
    assert_eq!(method(&other.request), "MESSAGE");
    scene.says(&other, "404 Not Found");
    let heard = scene.hears(404);
    assert_eq!(only(&heard, "cseq"), "1 MESSAGE");
    scene.says(&leg, "200 OK");
    let heard = scene.hears(200);
    assert_eq!(only(&heard, "cseq"), "1 REGISTER");
}

/// RFC 3261 §16.7 item 5.
#[test]
fn a_2xx_passes_although_a_destination_that_was_given_up_has_declined() {
    let silence = ["--timer", "T1=100ms", "--failover-after", "150ms"];
    let scene = Scene::stateful(2, "REGISTER", &silence, &[]);
    let request = scene.request("REGISTER");
    scene.send(request.text());
    let first = scene.next_leg();
    let second = scene.other_than(&first);
    scene.says(&first, "603 Decline");
    scene.sync();
    scene.caller.assert_silent();
    scene.says(&second, "200 OK");
    scene.hears(200);
}

/// RFC 3261 §12.2.1.2: the dialog would end with a 408.
#[test]
fn ring_timeout_ends_no_request_of_a_dialog() {
    let scene = Scene::still(1, &["--ring-timeout", "300ms"]);
    let again = scene.request("INVITE");
    let to = format!("{};tag=x", again.to);
    let again = again.to(to);
    let asked = scene.begin(&again);
    scene.says(&asked, "180 Ringing");
    scene.hears(180);
    // One that began later is not waited for any more.
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.fails_at(&call, &leg, "487 Request Terminated", 408);
    scene.says(&asked, "200 OK");
    scene.hears(200);
    scene.assert_quiet();
}

/// A phone, and the two servers of a set for mailboxes that a rule leads to where it
/// is busy; with `routes`.
fn with_two_mailboxes(routes: &str) -> Scene {
    let farm: Vec<_> = (0..3).map(|_| Peer::new(V4)).collect();
    let [phone, one, other] = [0, 1, 2].map(|member: usize| farm[member].address());
    let text = format!(
        "listen = ['127.0.0.1:0']\nstateful = ['INVITE']\nfailover-after = '60s'\n\
         [timers]\nT1 = '30s'\nT2 = '30s'\n\
         [[set]]\nname = 'phones'\ndestinations = ['{phone}']\n\
         [[set]]\nname = 'voicemail'\nhash-key = 'to-user'\ndestinations = ['{one}', '{other}']\n\
         {routes}[[on-failure]]\nstatus = [486]\nset = 'voicemail'\n"
    );
    Scene::with_file(farm, &text, &[])
}

/// A mailbox is where it is looked for, by a call about another dialog, too: that
/// one was at the phone.
#[test]
fn the_set_of_a_failure_rule_goes_by_its_own_key() {
    let scene = with_two_mailboxes("[[route]]\nset = 'phones'\nfollow = 'replaces'\n");
    let taken = (0..12).map(|number| {
        let mut call = scene.request("INVITE");
        if number % 2 == 1 {
            call = call.row(format!("Replaces: replaced-{number};to-tag=t;from-tag=f"));
        }
        let leg = scene.begin(&call);
        scene.says(&leg, "486 Busy Here");
        scene.gets(&leg, "ACK");
        let mail = scene.next_leg();
        scene.answered_at(&call, &mail);
        mail.member
    });
    let taken: BTreeSet<_> = taken.collect();
    assert_eq!(taken.len(), 1, "{taken:?}");
}

#[test]
fn a_failure_rule_goes_once_for_a_call_though_its_set_has_more_destinations() {
    let scene = with_two_mailboxes("");
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let mail = scene.next_leg();
    scene.fails_at(&call, &mail, "486 Busy Here", 486);
    scene.assert_quiet();
}

/// Nobody chooses among phones: however many are gone, that a destination rests is
/// remembered.
#[test]
fn phones_that_are_gone_take_no_place_of_a_destination_that_rests() {
    let scene = Scene::still(2, &["--retry-after-cap", "10m"]);
    for phone in 0..1_100 {
        let uri = format!("sip:ann@127.0.0.99:{}", 20_000 + phone);
        let member = &scene.farm[0];
        let call = Request::new("INVITE", member.address()).uri(uri);
        member.send(scene.front(), call.text());
        while status(member.receive()) < 200 {}
    }
    let owned_by_the_other = || loop {
        let call = scene.request("INVITE");
        if scene.owner(&call) == 1 {
            return call;
        }
    };
    let first = owned_by_the_other();
    let leg = scene.begin(&first);
    // As long as it says, whatever the machine makes of a second.
    let refusal = response(&leg.request, "503 Service Unavailable", "t1");
    scene.says_all(&leg, &with_row(&refusal, "Retry-After: 600"));
    scene.gets(&leg, "ACK");
    scene.answered_at(&first, &scene.next_leg());
    let second = owned_by_the_other();
    let leg = scene.begin(&second);
    assert_eq!(leg.member, 0);
    scene.answered_at(&second, &leg);
    assert_eq!(scene.viaduct.stop().get("failed-over"), 1);
}
