//! What becomes of transactions under way when another configuration comes
//! into effect.
#![allow(missing_docs, reason = "a test binary has no readers of its API")]

use std::fs;
use std::path::PathBuf;

mod support;
use support::dialog::{Peer, Scene, branch};
use support::net::V4;
use support::process::Signal;
use support::stateful::{method, request_uri};

/// A set: its name, and its members by their numbers, with what stands behind
/// their addresses.
type Set<'a> = (&'a str, &'a [(usize, &'a str)]);

struct Stage {
    scene: Scene,
    folder: tempfile::TempDir,
}

/// INVITE is stateful, and nothing is sent again or ends by itself.
fn text(farm: &[Peer], sets: &[Set<'_>], rules: &str) -> String {
    let sets = sets.iter().map(|(name, members)| {
        let members = members.iter().map(|(number, behind)| {
            let address = farm[*number].address();
            format!("\"sip:{address}{behind}\"")
        });
        let members = members.collect::<Vec<_>>().join(", ");
        format!("[[set]]\nname = \"{name}\"\ndestinations = [{members}]\n")
    });
    format!(
        "listen = [\"127.0.0.1:0\"]\nstateful = [\"INVITE\"]\nfailover-after = \"60s\"\n\
         [timers]\nT1 = \"30s\"\nT2 = \"30s\"\n{}{rules}",
        sets.collect::<String>()
    )
}

impl Stage {
    fn new(members: usize, sets: &[Set<'_>], rules: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let farm: Vec<Peer> = (0..members).map(|_| Peer::new(V4)).collect();
        let path = folder.path().join("viaduct.toml");
        fs::write(&path, text(&farm, sets, rules)).expect("the file");
        let args = ["--config", path.to_str().expect("text")];
        let scene = Scene::with(farm, &[], &args);
        Self { scene, folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("viaduct.toml")
    }

    fn reload(&mut self, sets: &[Set<'_>], rules: &str) {
        fs::write(self.path(), text(&self.scene.farm, sets, rules)).expect("the file");
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
    scene.says(&first, "503 Service Unavailable");
    scene.gets(&first, "ACK");
    let second = scene.next_leg();
    assert_eq!(second.member, 1 - first.member);
    scene.answered_at(&call, &second);
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

/// RFC 3261 §9.1: a CANCEL has the Request-URI of what it cancels.
#[test]
fn what_a_rule_has_made_of_a_request_stays() {
    let sets: [Set<'_>; 2] = [("main", &[(0, "")]), ("voicemail", &[(1, "")])];
    let rule = |user: &str| {
        format!(
            "[[on-failure]]\nstatus = 486\nset = \"voicemail\"\n\
             request-uri = \"sip:{user}@box.example\"\n"
        )
    };
    let mut stage = Stage::new(2, &sets, &rule("mail"));
    let call = stage.scene.request("INVITE");
    let leg = stage.scene.begin(&call);
    stage.scene.says(&leg, "486 Busy Here");
    stage.scene.gets(&leg, "ACK");
    let mail = stage.scene.next_leg();
    assert_eq!(request_uri(&mail.request), "sip:mail@box.example");
    stage.scene.says(&mail, "180 Ringing");
    stage.scene.hears(180);
    stage.reload(&sets, &rule("other"));
    let scene = &stage.scene;
    scene.send(call.method("CANCEL").text());
    scene.hears(200);
    let cancel = scene.next_leg();
    assert_eq!(method(&cancel.request), "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&mail.request));
    assert_eq!(request_uri(&cancel.request), "sip:mail@box.example");
}
