//! SIGTERM: calls in set-up are seen through before the end.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use support::admin;
use support::dialog::Scene;
use support::process::Signal;
use support::stateful::STILL;

/// One call that rings, and SIGTERM; once it waits.
fn ringing_and_ending(args: &[&str]) -> (Scene, support::stateful::Leg) {
    let mut scene = Scene::still(1, args);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    scene.viaduct.signal(Signal::TERM);
    scene.viaduct.wait_for("what it waits for", |output| {
        output
            .contains("ending: unfinished transactions are waited for, 1 now")
            .then_some(())
    });
    (scene, leg)
}

#[test]
fn a_call_that_rings_is_waited_for_and_others_go_on() {
    let (scene, leg) = ringing_and_ending(&["--stop-timeout", "1h"]);
    for _ in 0..3 {
        scene.pass(scene.request("OPTIONS").text());
        let call = scene.request("INVITE");
        scene.send(call.text());
        let other = scene.next_leg();
        // A transaction would have said 100.
        scene.says(&other, "486 Busy Here");
        scene.hears(486);
    }
    scene.says(&leg, "200 OK");
    scene.hears(200);
    let said = scene.viaduct.ended();
    assert!(!said.contains("left unfinished"), "{said}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let (scene, _) = ringing_and_ending(&["--stop-timeout", "1h"]);
        scene.viaduct.signal(signal);
        scene.viaduct.ended();
    }
}

#[test]
fn nothing_is_waited_for_longer_than_configured() {
    let (scene, _) = ringing_and_ending(&["--stop-timeout", "300ms"]);
    let said = scene.viaduct.ended();
    assert!(
        said.contains("ending: transactions left unfinished: 1"),
        "{said}"
    );
}

#[test]
fn where_nothing_is_unfinished_it_ends_at_once() {
    let scene = Scene::new(1, &["--stop-timeout", "1h"]);
    scene.pass(scene.request("INVITE").text());
    scene.viaduct.stop();
    let scene = Scene::still(1, &["--stop-timeout", "1h"]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "486 Busy Here", 486);
    scene.sync();
    scene.viaduct.stop();
}

#[test]
fn what_was_answered_is_not_waited_for_although_a_destination_was_out_of_reach() {
    for method in ["INVITE", "REGISTER"] {
        let scene = Scene::stateful(2, method, &STILL, &["--stop-timeout", "1h"]);
        scene.answered_by_another(method);
        scene.viaduct.stop();
    }
}

#[test]
fn it_is_not_ready_while_it_ends_and_neither_reloads_nor_upgrades() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock").display().to_string();
    let (scene, leg) = ringing_and_ending(&["--stop-timeout", "1h", "--admin", &admin]);
    let mut stream = UnixStream::connect(&admin).expect("the admin API");
    let request = "GET /readyz HTTP/1.1\r\nHost: viaduct\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a request");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    for order in ["upgrade", "reload"] {
        let output = admin::ctl(&admin, &[order]).output().expect("an answer");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("it is about to end"), "{said}");
    }
    scene.says(&leg, "200 OK");
    scene.hears(200);
    scene.viaduct.ended();
}
