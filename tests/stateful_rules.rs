//! Failed calls that go on to another set, calls that ring too long, and what
//! the accounting says of each.

use std::fs;
use std::path::{Path, PathBuf};

use support::dialog::{Peer, Request, Scene, branch, response};
use support::net::V4;
use support::stateful::{Leg, method, only, request_uri};
use support::wait_until;

/// The members of the sets of [`House`], by their number in the farm.
const PHONES: [usize; 2] = [0, 1];
const VOICEMAIL: usize = 2;
const OVERFLOW: usize = 3;

/// Phones, a voicemail server and one for what overflows, with these rules,
/// and a file for the accounting. More phones have the numbers from 4 on.
struct House {
    scene: Scene,
    folder: tempfile::TempDir,
}

const TO_VOICEMAIL: &str = "[[on-failure]]\nstatus = [408, 480, 486]\nset = \"voicemail\"\n";
const RINGS_SHORTLY: &str = "failover-after = \"60s\"\nring-timeout = \"300ms\"\n";
const STILL: &str = "T1 = \"30s\"\nT2 = \"30s\"\n";

impl House {
    fn new(rules: &str) -> Self {
        Self::with("failover-after = \"60s\"\n", STILL, rules)
    }

    /// With these top-level keys and timers.
    fn with(keys: &str, timers: &str, rules: &str) -> Self {
        Self::large(0, keys, timers, rules)
    }

    /// With so many more phones.
    fn large(more: usize, keys: &str, timers: &str, rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let farm: Vec<Peer> = (0..4 + more).map(|_| Peer::new(V4)).collect();
        let address = |number: usize| farm[number].address();
        let phones = PHONES.into_iter().chain(4..4 + more);
        let phones: Vec<_> = phones
            .map(|phone| format!("\"{}\"", address(phone)))
            .collect();
        let text = format!(
            "listen = [\"127.0.0.1:0\"]\nstateful = [\"INVITE\", \"BYE\"]\n\
             {keys}\
             [timers]\n{timers}\
             [accounting]\nto = \"{}\"\n\
             [[set]]\nname = \"phones\"\ndestinations = [{}]\n\
             [[set]]\nname = \"voicemail\"\ndestinations = [\"{}\"]\n\
             [[set]]\nname = \"overflow\"\ndestinations = [\"{}\"]\n{rules}",
            folder.path().join("calls").display(),
            phones.join(", "),
            address(VOICEMAIL),
            address(OVERFLOW),
        );
        let file = folder.path().join("viaduct.toml");
        fs::write(&file, text).expect("the file");
        let args = ["--config", file.to_str().expect("text")];
        Self {
            scene: Scene::with(farm, &[], &args),
            folder,
        }
    }

    fn calls(&self) -> PathBuf {
        self.folder.path().join("calls")
    }

    /// Ends Viaduct, and returns what it has written of calls.
    fn accounts(self) -> Vec<serde_json::Value> {
        let path = self.calls();
        self.scene.viaduct.stop();
        let text = fs::read_to_string(path).expect("a file of calls");
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }
}

/// What became of the attempts of a line.
fn outcomes(account: &serde_json::Value) -> String {
    let attempts = account["attempts"].as_array().expect("a list");
    let names = attempts
        .iter()
        .map(|one| one["outcome"].as_str().expect("text"));
    names.collect::<Vec<_>>().join(" ")
}

/// An INVITE at a phone.
#[track_caller]
fn rings(house: &House, call: &Request) -> Leg {
    let leg = house.scene.begin(call);
    assert!(PHONES.contains(&leg.member));
    house.scene.says(&leg, "180 Ringing");
    house.scene.hears(180);
    leg
}

/// What the next INVITE at a member is.
#[track_caller]
fn goes_on(house: &House, member: usize) -> Leg {
    let leg = house.scene.next_leg();
    assert_eq!(leg.member, member);
    assert_eq!(method(&leg.request), "INVITE");
    leg
}

#[test]
fn a_busy_phone_leads_to_voicemail_and_the_record_says_so() {
    let house = House::new(TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let box_leg = goes_on(&house, VOICEMAIL);
    assert_ne!(branch(&box_leg.request), branch(&leg.request));
    assert_eq!(request_uri(&box_leg.request), call.uri);
    scene.answered_at(&call, &box_leg);
    scene.assert_quiet();

    let addresses = [leg.member, VOICEMAIL].map(|at| scene.farm[at].address().to_string());
    let source = scene.caller.address().to_string();
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(account["method"], "INVITE");
    assert_eq!(account["call_id"], call.call_id.as_str());
    assert_eq!(account["from"], "sip:ann@phones.example");
    assert_eq!(account["to"], "sip:desk@farm.example");
    assert_eq!(
        account["from_tag"],
        only(call.text().as_bytes(), "from")
            .split("tag=")
            .nth(1)
            .expect("a tag")
    );
    assert_eq!(account["to_tag"], format!("t{VOICEMAIL}"));
    assert_eq!(account["cseq"], 1);
    assert_eq!(account["request_uri"], call.uri.as_str());
    assert_eq!(account["source"], source.as_str());
    assert_eq!(account["status"], 200);
    assert_eq!(account["local"], false);
    assert_eq!(account["cancelled"], false);
    let attempts = account["attempts"].as_array().expect("a list");
    let told: Vec<_> = attempts
        .iter()
        .map(|one| {
            (
                one["destination"].as_str(),
                one["outcome"].as_str(),
                one["status"].as_u64(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (Some(addresses[0].as_str()), Some("failed"), Some(486)),
            (Some(addresses[1].as_str()), Some("answered"), Some(200)),
        ]
    );
    let number = |value: &serde_json::Value| value.as_u64().expect("milliseconds");
    assert!(number(&attempts[0]["end_ms"]) <= number(&attempts[1]["start_ms"]));
    assert!(number(&account["ring_ms"]) <= number(&account["setup_ms"]));
    let time = account["time"].as_str().expect("a time");
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
}

#[test]
fn a_rule_can_give_another_request_uri() {
    let rule = format!("{TO_VOICEMAIL}request-uri = \"sip:box@voicemail.example\"\n");
    let house = House::new(&rule);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    scene.says(&leg, "480 Temporarily Unavailable");
    scene.gets(&leg, "ACK");
    let box_leg = goes_on(&house, VOICEMAIL);
    assert_eq!(request_uri(&box_leg.request), "sip:box@voicemail.example");
    assert_eq!(only(&box_leg.request, "to"), call.to);
    // Its failure is acknowledged with the URI that it got.
    scene.says(&box_leg, "404 Not Found");
    let ack = scene.gets(&box_leg, "ACK");
    assert_eq!(request_uri(&ack.request), "sip:box@voicemail.example");
    // Of two that say as much, the phone's is the one that is told.
    let failure = scene.hears(480);
    scene.acknowledge(&call, &failure);
    scene.assert_quiet();
}

#[test]
fn a_rule_holds_for_its_statuses_and_sets_alone_and_once() {
    let rules = "[[on-failure]]\nstatus = [486]\nset = \"voicemail\"\nfrom-set = [\"phones\"]\n\
        [[on-failure]]\nstatus = [486, 500]\nset = \"overflow\"\nfrom-set = [\"voicemail\"]\n";
    let house = House::new(rules);
    let scene = &house.scene;
    // Not its status.
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "404 Not Found", 404);
    scene.assert_quiet();
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "500 Oh", 500);
    scene.assert_quiet();
    // One after the other, and then the end.
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let leg = goes_on(&house, VOICEMAIL);
    scene.says(&leg, "486 Busy Here");
    scene.gets(&leg, "ACK");
    let leg = goes_on(&house, OVERFLOW);
    scene.fails_at(&call, &leg, "486 Busy Here", 486);
    scene.assert_quiet();
}

#[test]
fn a_6xx_and_a_cancelled_call_go_nowhere() {
    let rules = "[[on-failure]]\nstatus = [487, 503]\nset = \"voicemail\"\n";
    let house = House::new(rules);
    let scene = &house.scene;
    // The 503 before it would lead there.
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.passes_on(&first);
    scene.fails_at(&call, &second, "603 Decline", 603);
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.fails_at(&call, &leg, "487 Request Terminated", 487);
    scene.assert_quiet();
}

#[test]
fn when_all_phones_are_out_the_call_goes_to_the_overflow() {
    let rules = "[[on-failure]]\nstatus = [503]\nset = \"overflow\"\n";
    let house = House::new(rules);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "503 Service Unavailable");
    scene.gets(&leg, "ACK");
    let second = goes_on(&house, 1 - leg.member);
    scene.says(&second, "503 Service Unavailable");
    scene.gets(&second, "ACK");
    let third = goes_on(&house, OVERFLOW);
    scene.answered_at(&call, &third);
    scene.assert_quiet();
}

/// However many of them there are: the last destination that is tried is the
/// rule's.
#[test]
fn when_more_phones_are_out_than_are_tried_the_call_goes_to_the_overflow() {
    let rules = "[[on-failure]]\nstatus = [503]\nset = \"overflow\"\n";
    let house = House::large(8, "failover-after = \"60s\"\n", STILL, rules);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let mut leg = scene.begin(&call);
    for _ in 0..7 {
        assert_ne!(leg.member, OVERFLOW);
        leg = scene.passes_on(&leg);
    }
    assert_eq!(leg.member, OVERFLOW);
    scene.answered_at(&call, &leg);
    scene.assert_quiet();
}

/// Silence leads to the seventh at most, and from there to the rule's set.
#[test]
fn a_call_to_which_more_phones_than_are_tried_say_nothing_goes_to_voicemail() {
    // Voicemail has to answer within B.
    let timers = "T1 = \"20ms\"\nB = \"4s\"\n";
    let house = House::large(8, "failover-after = \"50ms\"\n", timers, TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let mut leg = scene.begin(&call);
    while leg.member != VOICEMAIL {
        leg = scene.other_than(&leg);
    }
    scene.answered_at(&call, &leg);
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    let tried = outcomes(&account);
    assert_eq!(tried, format!("{}answered", "no-answer ".repeat(7)));
}

/// A rule whose set has nobody leaves the last destination to the set at hand.
#[test]
fn the_last_destination_is_a_phone_where_no_rule_can_go() {
    let rules = "[[on-failure]]\nstatus = [486]\nset = \"overflow\"\n\
        [[on-failure]]\nstatus = [503]\nset = \"nobody\"\n\
        [[set]]\nname = \"nobody\"\ndestinations = [\"sip:192.0.2.1;state=disabled\"]\n";
    let house = House::large(8, "failover-after = \"60s\"\n", STILL, rules);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let mut leg = scene.begin(&call);
    for _ in 0..7 {
        leg = scene.passes_on(&leg);
    }
    assert!(![VOICEMAIL, OVERFLOW].contains(&leg.member));
    scene.answered_at(&call, &leg);
    scene.assert_quiet();
}

#[test]
fn a_call_that_all_phones_refuse_goes_to_the_overflow() {
    let rules = "[[on-failure]]\nstatus = [503]\nset = \"overflow\"\n";
    let house = House::new(rules);
    PHONES.iter().for_each(|&phone| house.scene.close(phone));
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    assert_eq!(leg.member, OVERFLOW);
    scene.answered_at(&call, &leg);
    scene.assert_quiet();
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "unreachable unreachable answered");
}

#[test]
fn a_call_to_which_no_phone_says_anything_goes_to_voicemail() {
    // Voicemail has to answer within B.
    let timers = "T1 = \"20ms\"\nB = \"4s\"\n";
    let house = House::with("failover-after = \"50ms\"\n", timers, TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    let leg = loop {
        let next = scene.other_than(&leg);
        if next.member == VOICEMAIL {
            break next;
        }
    };
    scene.answered_at(&call, &leg);
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "no-answer no-answer answered");
}

/// RFC 3261 §16.8; its 487 counts as 408.
#[test]
fn a_phone_that_rings_too_long_is_cancelled_and_the_call_goes_on() {
    let house = House::with(RINGS_SHORTLY, STILL, TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    let cancel = scene.gets(&leg, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&leg.request));
    scene.says(&cancel, "200 OK");
    scene.says(&leg, "487 Request Terminated");
    scene.gets(&leg, "ACK");
    let box_leg = goes_on(&house, VOICEMAIL);
    scene.answered_at(&call, &box_leg);
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "cancelled answered");
    assert_eq!(account["cancelled"], false, "the caller has not");
}

#[test]
fn without_a_rule_a_phone_that_rings_too_long_ends_in_408() {
    let house = House::with(RINGS_SHORTLY, STILL, "");
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.fails_at(&call, &leg, "487 Request Terminated", 408);
    scene.assert_quiet();
}

#[test]
fn where_the_caller_has_cancelled_too_it_ends_in_487() {
    let house = House::with(RINGS_SHORTLY, STILL, TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    scene.says(&cancel, "200 OK");
    scene.fails_at(&call, &leg, "487 Request Terminated", 487);
    scene.assert_quiet();
}

/// A phone that is picked up just then is not hung up upon.
#[test]
fn an_answer_that_meets_the_end_of_ringing_is_passed() {
    let house = House::with(RINGS_SHORTLY, STILL, TO_VOICEMAIL);
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = rings(&house, &call);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.says(&cancel, "200 OK");
    scene.assert_quiet();
}

#[test]
fn each_end_of_a_call_has_its_line() {
    let house = House::new("");
    let scene = &house.scene;
    // Answered, and hung up.
    let answered = scene.request("INVITE");
    let leg = rings(&house, &answered);
    scene.answered_at(&answered, &leg);
    let member = scene.farm[leg.member].address();
    let bye = Request::new("BYE", scene.caller.address())
        .call_id(&answered.call_id)
        .from(&answered.from)
        .to(format!("{};tag=t{}", answered.to, leg.member))
        .uri(format!("sip:desk@{member}"));
    let (at, there) = scene.pass(bye.text());
    scene.farm[at].send(scene.front(), response(&there, "200 OK", ""));
    scene.hears(200);
    // Failed over.
    let second = scene.request("INVITE");
    let first = scene.begin(&second);
    let leg = scene.passes_on(&first);
    scene.answered_at(&second, &leg);
    // Cancelled.
    let cancelled = scene.request("INVITE");
    let leg = rings(&house, &cancelled);
    scene.send(cancelled.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.fails_at(&cancelled, &leg, "487 Request Terminated", 487);
    // Nothing of what is not relayed with a transaction.
    scene.pass(scene.request("OPTIONS").text());
    scene.sync();

    let lines = house.accounts();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let text = |name: &str| line[name].as_str().expect("text").to_owned();
            (
                text("method"),
                text("call_id"),
                line["status"].as_u64().expect("a status"),
                line["cancelled"].as_bool().expect("yes or no"),
                outcomes(line),
            )
        })
        .collect();
    let line = |method: &str, call: &Request, status, cancelled, outcomes: &str| {
        (
            method.to_owned(),
            call.call_id.clone(),
            status,
            cancelled,
            outcomes.to_owned(),
        )
    };
    assert_eq!(
        told,
        [
            line("INVITE", &answered, 200, false, "answered"),
            line("BYE", &answered, 200, false, "answered"),
            line("INVITE", &second, 200, false, "failed answered"),
            line("INVITE", &cancelled, 487, true, "cancelled"),
        ]
    );
    assert!(lines[1]["ring_ms"].is_null());
    // Start and stop have the tags of one dialog.
    for name in ["call_id", "from_tag", "to_tag"] {
        assert_eq!(lines[0][name], lines[1][name], "{name}");
    }
}

/// Somebody pays for it (RFC 6026 §7.2: the 2xx passes).
#[test]
fn a_call_that_is_answered_behind_its_failure_has_a_line_for_either() {
    let house = House::with("failover-after = \"3s\"\n", STILL, "");
    let scene = &house.scene;
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let failure = scene.hears(487);
    scene.acknowledge(&call, &failure);
    for _ in 0..2 {
        scene.says(&leg, "200 OK");
        scene.hears(200);
    }
    let lines = house.accounts();
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["status"].as_u64(), outcomes(line)))
        .collect();
    let wanted = [(487, "no-answer"), (200, "answered")];
    assert_eq!(told, wanted.map(|(n, text)| (Some(n), text.to_owned())));
    // The 487 is our own.
    assert_eq!(lines[0]["local"], true);
    assert_eq!(lines[1]["local"], false);
    for name in ["call_id", "from_tag", "from", "request_uri", "cseq"] {
        assert_eq!(lines[0][name], lines[1][name], "{name}");
    }
}

/// A call whose first phone was silent and was given up, and the second one.
fn moved() -> (House, Leg, Leg) {
    let timers = "T1 = \"20ms\"\nB = \"60s\"\n";
    let house = House::with("failover-after = \"50ms\"\n", timers, "");
    let first = house.scene.begin(&house.scene.request("INVITE"));
    let second = house.scene.other_than(&first);
    // Some time goes by.
    house.scene.gets(&second, "INVITE");
    house.scene.says(&second, "180 Ringing");
    house.scene.hears(180);
    (house, first, second)
}

#[test]
fn a_phone_that_was_given_up_has_its_end_then_and_not_with_the_call() {
    let (house, _, second) = moved();
    house.scene.says(&second, "200 OK");
    house.scene.hears(200);
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "no-answer answered");
    let attempts = &account["attempts"];
    assert_eq!(attempts[0]["end_ms"], attempts[1]["start_ms"]);
}

#[test]
fn a_phone_that_we_have_cancelled_is_told_of_as_cancelled() {
    // It was given up, and rang.
    let (house, first, second) = moved();
    house.scene.says(&first, "180 Ringing");
    house.scene.gets_in_the_end(&first, "CANCEL");
    house.scene.says(&second, "200 OK");
    house.scene.hears(200);
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "cancelled answered");
    // It rang, and one that was given up has answered.
    let (house, first, second) = moved();
    house.scene.says(&first, "200 OK");
    house.scene.hears(200);
    house.scene.gets_in_the_end(&second, "CANCEL");
    let [account] = <[_; 1]>::try_from(house.accounts()).expect("one line");
    assert_eq!(outcomes(&account), "answered cancelled");
}

#[test]
fn a_file_that_was_moved_away_is_made_anew() {
    let house = House::new("");
    let scene = &house.scene;
    let moved = house.folder.path().join("calls.1");
    let mut made = 0;
    // A line in the first file, then one in the second.
    for path in [&moved, &house.calls()] {
        wait_until("a line", || {
            let call = scene.request("INVITE");
            let leg = scene.begin(&call);
            scene.answered_at(&call, &leg);
            made += 1;
            fs::read_to_string(house.calls()).is_ok_and(|text| text.contains('\n'))
        });
        if *path == moved {
            fs::rename(house.calls(), &moved).expect("a file moved away");
        }
    }
    house.scene.viaduct.stop();
    let lines = |path: &Path| fs::read_to_string(path).expect("a file").lines().count();
    let second = house.folder.path().join("calls");
    assert_eq!(lines(&moved) + lines(&second), made);
}

/// However long the Request-URI that the caller gave is.
#[test]
fn what_goes_to_another_set_is_sent_again_until_it_is_answered() {
    let house = House::with(
        "failover-after = \"60s\"\n",
        "T1 = \"100ms\"\n",
        TO_VOICEMAIL,
    );
    let scene = &house.scene;
    let uri = format!("sip:{}@farm.example", "desk".repeat(500));
    let call = scene.request("INVITE").uri(uri);
    let leg = scene.begin(&call);
    scene.says(&leg, "486 Busy Here");
    scene.gets_in_the_end(&leg, "ACK");
    let voicemail = scene.other_than(&leg);
    assert_eq!(voicemail.member, VOICEMAIL);
    let again = scene.gets(&voicemail, "INVITE");
    support::dialog::assert_octets(again.request, voicemail.request);
}
