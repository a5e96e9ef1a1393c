//! Requests that are about another dialog, by Replaces, Join or Target-Dialog,
//! meet it at its destination, where a rule has them follow it (RFC 3891,
//! RFC 3911, RFC 4538).

use support::dialog::{Peer, Request, Scene};
use support::folder::Folder;
use support::net::V4;
use support::stateful::only;

const MEMBERS: usize = 5;
const CALLS: usize = 30;

const FOLLOW: &str = "[[route]]\nset = 'farm'\nfollow = 'replaces'\n";

/// A farm with these keys for its set, and with these rules.
fn scene(set: &str, rules: &str) -> Scene {
    let farm: Vec<Peer> = (0..MEMBERS).map(|_| Peer::new(V4)).collect();
    let list: Vec<String> = farm
        .iter()
        .map(|member| member.address().to_string())
        .collect();
    let text = format!(
        "listen = ['127.0.0.1:0']\n[[set]]\nname = 'farm'\n{set}destinations = {list:?}\n{rules}"
    );
    Scene::with_file(farm, &text, &[])
}

/// How many of some requests go where the dialog is that `about` has them be
/// about; by chance one in five does.
fn met(scene: &Scene, about: impl Fn(&str) -> Request) -> usize {
    let meets = |_: &usize| {
        let first = scene.request("INVITE");
        let (member, _) = scene.pass(first.text());
        scene.pass(about(&first.call_id).text()).0 == member
    };
    (0..CALLS).filter(meets).count()
}

/// Demands that this is what all do, or what no more do than by chance:
/// 22 of 30 would be 7 standard deviations too many.
#[track_caller]
fn assert_met(met: usize, all: bool) {
    assert!(
        if all { met == CALLS } else { met < 22 },
        "{met} of {CALLS}"
    );
}

#[test]
fn a_new_request_meets_the_dialog_that_it_names() {
    for set in ["", "policy = 'kamailio'\n"] {
        let scene = scene(set, FOLLOW);
        for (method, header) in [
            ("INVITE", "Replaces: CALL;to-tag=t;from-tag=f;early-only"),
            ("INVITE", "replaces:\tCALL \r\n\t; from-tag=f ;to-tag=t"),
            ("INVITE", "Join :  CALL;from-tag=f;to-tag=t"),
            ("REFER", "Target-Dialog: CALL;local-tag=l;remote-tag=r"),
            ("SUBSCRIBE", "TARGET-DIALOG: CALL"),
            ("INVITE", "Replaces: CALL;a=b\r\nJoin: other;a=b"),
        ] {
            let about = |call: &str| scene.request(method).row(header.replace("CALL", call));
            assert_met(met(&scene, about), true);
        }
    }
}

#[test]
fn nobody_is_followed_unless_the_rule_that_claims_the_request_says_so() {
    let without = "[[route]]\nset = 'farm'\nmethod = 'INVITE'\n";
    for rules in ["", without, &format!("{without}{FOLLOW}")] {
        let scene = scene("", rules);
        let about = |call: &str| {
            scene
                .request("INVITE")
                .row(format!("Replaces: {call};to-tag=t;from-tag=f"))
        };
        assert_met(met(&scene, about), false);
    }
}

#[test]
fn what_names_no_dialog_goes_by_its_own_call_id() {
    let scene = scene("", FOLLOW);
    for header in [
        "Supported: replaces, join, tdialog",
        "Refer-To: <sip:b@b.example?Replaces=CALL%3Bto-tag%3Dt%3Bfrom-tag%3Df>",
        "X-Replaces: CALL;to-tag=t",
    ] {
        let about = |call: &str| scene.request("REFER").row(header.replace("CALL", call));
        assert_met(met(&scene, about), false);
    }
}

#[test]
fn within_a_dialog_its_own_call_id_counts() {
    let scene = scene("", FOLLOW);
    for _ in 0..CALLS {
        let first = scene.request("INVITE");
        let (member, _) = scene.pass(first.text());
        let later = first
            .method("REFER")
            .to("<sip:desk@farm.example>;tag=t")
            .row("Target-Dialog: another@b.example;local-tag=l;remote-tag=r");
        assert_eq!(scene.pass(later.text()).0, member);
    }
}

#[test]
fn the_dialog_that_replaces_another_stays_with_it_by_record_route() {
    let scene = scene("", &format!("{FOLLOW}record-route = 'on'\n"));
    for _ in 0..CALLS {
        let first = scene.request("INVITE");
        let (member, _) = scene.pass(first.text());
        let second = scene
            .request("INVITE")
            .row(format!("Replaces: {};to-tag=t;from-tag=f", first.call_id));
        let (_, got) = scene.pass(second.text());
        let route = only(&got, "record-route");
        let bye = second
            .method("BYE")
            .to("<sip:desk@farm.example>;tag=t")
            .row(format!("Route: {route}"));
        assert_eq!(scene.pass(bye.text()).0, member);
    }
}

/// What CANCEL and ACK carry does not name the other dialog (RFC 3261 §9.1,
/// §17.1.1.3): the limit that the documentation tells of, and the way round.
#[test]
fn cancel_and_the_ack_to_a_failure_follow_where_the_request_uri_names_the_member_alone() {
    let scene = scene("", FOLLOW);
    for method in ["CANCEL", "ACK"] {
        let meets = |named: bool| {
            let first = scene.request("INVITE");
            let (member, _) = scene.pass(first.text());
            let mut second = scene.request("INVITE");
            if named {
                second = second.uri(format!("sip:desk@{}", scene.farm[member].address()));
            }
            let invite = second
                .clone()
                .row(format!("Replaces: {};to-tag=t;from-tag=f", first.call_id));
            assert_eq!(scene.pass(invite.text()).0, member);
            scene.pass(second.method(method).text()).0 == member
        };
        assert_met((0..CALLS).filter(|_| meets(true)).count(), true);
        assert_met((0..CALLS).filter(|_| meets(false)).count(), false);
    }
}

#[test]
fn explain_shows_the_key_and_where_it_came_from() {
    let set = "[[set]]\nname = 'farm'\ndestinations = ['10.0.0.1', '10.0.0.2', '10.0.0.3']\n";
    let toml = format!("listen = ['127.0.0.1']\n{set}{FOLLOW}");
    let request = Request::new("INVITE", ([192, 0, 2, 1], 5060).into());
    let own = request.call_id.clone();
    let about = request
        .clone()
        .row("Join: that@b.example ;from-tag=f;to-tag=t");
    let that = request.clone().call_id("that@b.example");
    let folder = Folder::with(
        &["explain", "--config", "v.toml", "--message"],
        &[
            ("v.toml", &toml),
            ("about", &about.text()),
            ("that", &that.text()),
            ("own", &request.text()),
        ],
    );
    let explain = |message: &str| {
        let text = folder.text(&[message]);
        let line = |label: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(label));
            found
                .unwrap_or_else(|| panic!("no {label} in {text}"))
                .trim()
                .to_owned()
        };
        (line("key "), line("slot "), line("decision "))
    };
    let (key, slot, decision) = explain("about");
    assert_eq!(key, "call-id in Join that@b.example");
    assert_eq!(
        explain("that"),
        ("call-id that@b.example".to_owned(), slot, decision)
    );
    assert_eq!(explain("own").0, format!("call-id {own}"));
}
