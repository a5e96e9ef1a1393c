//! What becomes of transactions under way when another configuration comes
//! into effect.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use support::dialog::{Peer, Scene, assert_octets, branch, status, values};
use support::net::V4;
use support::process::Signal;
use support::stateful::{method, request_uri};
use support::{wait_for, wait_until};

/// A set: its name, and its members by their numbers, with what stands behind
/// their addresses.
type Set<'a> = (&'a str, &'a [(usize, &'a str)]);

struct Stage {
    scene: Scene,
    times: &'static str,
    folder: tempfile::TempDir,
}

/// Nothing is sent again or ends by itself.
const STILL: &str = "failover-after = \"60s\"\n[timers]\nT1 = \"30s\"\nT2 = \"30s\"\n";

fn text(farm: &[Peer], times: &str, sets: &[Set<'_>], rules: &str) -> String {
    let sets = sets.iter().map(|(name, members)| {
        let members = members.iter().map(|(number, behind)| {
            let address = farm[*number].address();
            format!("\"sip:{address}{behind}\"")
        });
        let members = members.collect::<Vec<_>>().join(", ");
        format!("[[set]]\nname = \"{name}\"\ndestinations = [{members}]\n")
    });
    format!(
        "listen = [\"127.0.0.1:0\"]\nstateful = [\"INVITE\", \"MESSAGE\"]\n{times}{}{rules}",
        sets.collect::<String>()
    )
}

impl Stage {
    fn new(members: usize, sets: &[Set<'_>], rules: &str) -> Self {
        Self::timed(STILL, members, sets, rules)
    }

    fn timed(times: &'static str, members: usize, sets: &[Set<'_>], rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let farm: Vec<Peer> = (0..members).map(|_| Peer::new(V4)).collect();
        let path = folder.path().join("viaduct.toml");
        fs::write(&path, text(&farm, times, sets, rules)).expect("the file");
        let args = ["--config", path.to_str().expect("text")];
        let scene = Scene::with(farm, &[], &args);
        Self {
            scene,
            times,
            folder,
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("viaduct.toml")
    }

    fn reload(&mut self, sets: &[Set<'_>], rules: &str) {
        let text = text(&self.scene.farm, self.times, sets, rules);
        fs::write(self.path(), text).expect("the file");
        let viaduct = &mut self.scene.viaduct;
        let before = viaduct.output().len();
        viaduct.signal(Signal::HUP);
        viaduct.wait_for("line `reloaded:`", |output| {
            output[before..].contains("reloaded:").then_some(())
        });
    }
}

#[test]
fn a_call_that_rings_where_nothing_new_may_go_can_be_cancelled() {
    for state in ["draining", "disabled"] {
        let mut stage = Stage::new(1, &[("main", &[(0, "")])], "");
        let call = stage.scene.request("INVITE");
        let leg = stage.scene.begin(&call);
        stage.scene.says(&leg, "180 Ringing");
        stage.scene.hears(180);
        stage.reload(&[("main", &[(0, &format!(";state={state}"))])], "");
        let scene = &stage.scene;
        scene.send(call.method("CANCEL").text());
        scene.hears(200);
        let cancel = scene.gets(&leg, "CANCEL");
        assert_eq!(branch(&cancel.request), branch(&leg.request));
        scene.says(&cancel, "200 OK");
        scene.fails_at(&call, &leg, "487 Request Terminated", 487);
        scene.assert_quiet();
    }
}

#[test]
fn a_call_goes_on_within_its_set_wherever_that_stands_now() {
    let main: Set<'_> = ("main", &[(0, ""), (1, "")]);
    let mut stage = Stage::new(3, &[main], "");
    let call = stage.scene.request("INVITE");
    let first = stage.scene.begin(&call);
    // What no rule claims goes to the first set, but not this call.
    stage.reload(&[("other", &[(2, "")]), main], "");
    let scene = &stage.scene;
    let second = scene.passes_on(&first);
    assert_eq!(second.member, 1 - first.member);
    scene.answered_at(&call, &second);
}

/// No destination that takes new work is as good as one that answers 503.
#[test]
fn a_call_for_a_drained_set_goes_where_a_rule_has_it() {
    let rule = "[[on-failure]]\nstatus = 503\nset = \"overflow\"\n";
    for state in ["draining", "disabled"] {
        let drained = format!(";state={state}");
        let drained: Set<'_> = ("main", &[(0, &drained)]);
        let overflow: Set<'_> = ("overflow", &[(1, "")]);
        let mut stage = Stage::new(2, &[("main", &[(0, "")]), overflow], rule);
        stage.reload(&[drained, overflow], rule);
        let scene = &stage.scene;
        let call = scene.request("INVITE");
        let leg = scene.begin(&call);
        assert_eq!(leg.member, 1);
        scene.answered_at(&call, &leg);
        // It is a transaction like any other.
        let call = scene.request("INVITE");
        let leg = scene.begin(&call);
        scene.says(&leg, "180 Ringing");
        let ringing = scene.hears(180);
        scene.send(call.text());
        assert_octets(scene.hears(180), ringing);
        scene.send(call.method("CANCEL").text());
        scene.hears(200);
        let cancel = scene.gets(&leg, "CANCEL");
        scene.says(&cancel, "200 OK");
        scene.fails_at(&call, &leg, "487 Request Terminated", 487);
        // Rules are for new calls.
        scene.send(scene.request("MESSAGE").text());
        scene.hears(503);
        let within = scene.request("INVITE");
        let to = format!("{};tag=x", within.to);
        scene.send(within.to(to).text());
        scene.hears(503);
        scene.assert_quiet();
        // Nor has the rule's set anybody, or there is no rule.
        let nobody: Set<'_> = ("overflow", &[(1, ";state=disabled")]);
        for (sets, rule) in [([drained, nobody], rule), ([drained, overflow], "")] {
            stage.reload(&sets, rule);
            let scene = &stage.scene;
            scene.send(scene.request("INVITE").text());
            scene.hears(503);
            scene.assert_quiet();
        }
    }
}

/// Be it that of transactions, or that of attempts.
#[test]
fn a_call_for_a_drained_set_that_finds_the_table_full_is_refused_and_counted() {
    let rule = "[[on-failure]]\nstatus = 503\nset = \"overflow\"\n";
    for (times, attempts) in [
        (
            "workers = 1\ntransactions = 1\nfailover-after = \"60s\"\n",
            2,
        ),
        (
            "workers = 1\ntransactions = 2\nfailover-after = \"60s\"\n",
            4,
        ),
    ] {
        let drained: Set<'_> = ("main", &[(0, ";state=draining")]);
        let members = [(1, ""), (2, ""), (3, ""), (4, "")];
        let overflow: Set<'_> = ("overflow", &members[..attempts]);
        let mut stage = Stage::timed(times, 5, &[drained, overflow], rule);
        let scene = &mut stage.scene;
        let mut leg = scene.begin(&scene.request("INVITE"));
        for _ in 1..attempts {
            scene.says(&leg, "503 Service Unavailable");
            scene.gets(&leg, "ACK");
            leg = scene.next_leg();
        }
        scene.says(&leg, "180 Ringing");
        scene.hears(180);
        scene.send(scene.request("INVITE").text());
        scene.hears(503);
        scene.assert_counter("transactions-full", 1);
    }
}

#[test]
fn a_call_whose_set_has_gone_tries_no_other() {
    let mut stage = Stage::new(3, &[("main", &[(0, ""), (1, "")])], "");
    let call = stage.scene.request("INVITE");
    let first = stage.scene.begin(&call);
    stage.reload(&[("other", &[(2, "")])], "");
    let scene = &stage.scene;
    scene.fails_at(&call, &first, "503 Service Unavailable", 500);
    scene.assert_quiet();
}

/// A busy phone's calls go on to the voicemail set, to this user.
fn busy_goes_to(user: &str) -> String {
    format!(
        "[[on-failure]]\nstatus = 486\nset = \"voicemail\"\n\
         request-uri = \"sip:{user}@box.example\"\n"
    )
}

/// RFC 3261 §9.1: a CANCEL has the Request-URI of what it cancels.
#[test]
fn what_a_rule_has_made_of_a_request_stays() {
    let sets: [Set<'_>; 2] = [("main", &[(0, "")]), ("voicemail", &[(1, "")])];
    let mut stage = Stage::new(2, &sets, &busy_goes_to("mail"));
    let call = stage.scene.request("INVITE");
    let leg = stage.scene.begin(&call);
    stage.scene.says(&leg, "486 Busy Here");
    stage.scene.gets(&leg, "ACK");
    let mail = stage.scene.next_leg();
    assert_eq!(request_uri(&mail.request), "sip:mail@box.example");
    stage.scene.says(&mail, "180 Ringing");
    stage.scene.hears(180);
    stage.reload(&sets, &busy_goes_to("other"));
    let scene = &stage.scene;
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.next_leg();
    assert_eq!(method(&cancel.request), "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&mail.request));
    assert_eq!(request_uri(&cancel.request), "sip:mail@box.example");
}

#[test]
fn what_a_rule_has_made_of_a_request_goes_to_the_next_of_its_set() {
    let sets: [Set<'_>; 2] = [("main", &[(0, "")]), ("voicemail", &[(1, ""), (2, "")])];
    let mut stage = Stage::new(3, &sets, &busy_goes_to("mail"));
    let call = stage.scene.request("INVITE");
    let leg = stage.scene.begin(&call);
    stage.scene.says(&leg, "486 Busy Here");
    stage.scene.gets(&leg, "ACK");
    let first = stage.scene.next_leg();
    stage.reload(&sets, &busy_goes_to("other"));
    let scene = &stage.scene;
    let second = scene.passes_on(&first);
    assert_eq!(request_uri(&second.request), "sip:mail@box.example");
    scene.answered_at(&call, &second);
}

const SHORT: &str = "failover-after = \"2s\"\n[timers]\nT1 = \"500ms\"\nB = \"4s\"\nF = \"4s\"\n";

/// An attempt that was given up stays so.
#[test]
fn longer_timers_do_not_have_a_call_that_rings_tried_elsewhere() {
    let sets: [Set<'_>; 1] = [("main", &[(0, ""), (1, ""), (2, "")])];
    let (mut stage, call, second) = wait_for("a call that rings at the second", || {
        let stage = Stage::timed(SHORT, 3, &sets, "");
        let call = stage.scene.request("INVITE");
        let first = stage.scene.begin(&call);
        let second = stage.scene.other_than(&first);
        stage.scene.says(&second, "180 Ringing");
        stage.scene.hears(180);
        // A machine that stands still has it tried at the third too.
        let third = stage.scene.farm[3 - first.member - second.member].poll();
        third.is_none().then_some((stage, call, second))
    });
    stage.times = STILL;
    stage.reload(&sets, "");
    let scene = &stage.scene;
    scene.assert_still_for(Duration::from_millis(4_200));
    scene.answered_at(&call, &second);
}

#[test]
fn longer_timers_do_not_send_to_a_second_destination_what_might_act_twice() {
    let sets: [Set<'_>; 1] = [("main", &[(0, ""), (1, "")])];
    wait_until("a reload before its time is over", || {
        let mut stage = Stage::timed(SHORT, 2, &sets, "");
        stage.scene.send(stage.scene.request("MESSAGE").text());
        let leg = stage.scene.next_leg();
        stage.times = STILL;
        stage.reload(&sets, "");
        let scene = &stage.scene;
        std::thread::sleep(Duration::from_millis(4_200));
        scene.sync();
        scene.farm[1 - leg.member].assert_silent();
        scene.says(&leg, "200 OK");
        scene.sync();
        // Where the machine stood still, its time was over before, and nobody is told.
        let heard = scene.caller.poll();
        heard.is_some_and(|(octets, _)| status(&octets) == 200)
    });
}

/// RFC 3261 §16.11: a retransmission is what it repeats, Record-Route too.
#[test]
fn what_is_sent_again_where_nothing_new_may_go_is_what_was_sent() {
    let times = "failover-after = \"60s\"\n[timers]\nT1 = \"200ms\"\nB = \"60s\"\n";
    let rule = "[[route]]\nset = \"main\"\nrecord-route = \"on\"\n";
    let mut stage = Stage::timed(times, 1, &[("main", &[(0, "")])], rule);
    let call = stage.scene.request("INVITE");
    let leg = stage.scene.begin(&call);
    assert_eq!(values(&leg.request, "record-route").len(), 1);
    stage.reload(&[("main", &[(0, ";state=draining")])], rule);
    let member = &stage.scene.farm[0];
    while member.poll().is_some() {}
    assert_octets(member.receive(), &leg.request);
}
