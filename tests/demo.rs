//! `viaduct demo`, as a program and as a person without a terminal sees it.

use std::process::{Command, Output};

use serde_json::Value;

/// So that a machine that stands still for a second shows all scenes.
const SECONDS: u64 = 15;

/// Runs the demo.
fn demo(args: &[&str]) -> Output {
    let _load = support::light_load();
    Command::new(support::program())
        .args(["demo", "--seconds", &SECONDS.to_string()])
        .args(args)
        .output()
        .expect("viaduct runs")
}

fn text(octets: &[u8]) -> &str {
    std::str::from_utf8(octets).expect("UTF-8")
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn the_json_summary_accounts_for_every_call() {
    let output = demo(&["--json"]);
    let errors = text(&output.stderr);
    let summary: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error} in {}", text(&output.stdout)));
    assert!(output.status.success(), "{summary:#}\n{errors}");
    assert_eq!(errors, "");
    assert_eq!(summary["ok"], true);
    support::json_keys::assert_documented("viaduct demo", std::slice::from_ref(&summary));

    let calls = &summary["calls"];
    let (completed, lost) = (number(&calls["completed"]), number(&calls["lost"]));
    assert_eq!(calls["made"], SECONDS * 200, "{calls}");
    assert_eq!(completed + lost, SECONDS * 200, "{calls}");
    assert_eq!(calls["refused"], 0);
    assert_eq!(calls["lost_that_belong_to_the_stopped_server"], lost);
    assert_eq!(calls["answered_by_another_server_than_theirs"], 0);
    assert!(lost > 0, "a stopped server loses calls: {calls}");
    assert!(number(&calls["begun_while_it_was_out"]) > 0, "{calls}");
    assert_eq!(calls["lost_of_those"], 0);

    let servers = summary["servers_before_the_stop"].as_array();
    let servers = servers.expect("servers");
    let of_all = |field: &str| {
        servers
            .iter()
            .map(|server| number(&server[field]))
            .sum::<u64>()
    };
    assert_eq!(servers.len(), 3);
    let before_the_stop = 200.0 * SECONDS as f64 / 3.0;
    assert_eq!(of_all("calls"), before_the_stop.ceil() as u64);
    let stopped = &summary["stopped"];
    assert_eq!(stopped["server"], 3);
    assert_eq!(stopped["address"], servers[2]["address"]);
    let moments = ["after", "out_after", "started_after", "back_after"];
    let moments = moments.map(|name| stopped[format!("{name}_seconds")].as_f64());
    assert!(
        moments[0].is_some() && moments.is_sorted(),
        "not one after the other: {stopped}"
    );

    // Each completed call has had a 180 and two times 200, and the load
    // balancer has forwarded them all.
    let responses = &summary["responses"];
    assert!(number(&responses["1xx"]) >= completed, "{responses}");
    assert!(number(&responses["2xx"]) >= 2 * completed, "{responses}");
    assert_eq!(responses["5xx"], 0, "{responses}");
    let forwarded = number(&summary["counters"]["responses-forwarded"]);
    assert!(forwarded >= 3 * completed, "{summary:#}");
    assert!(
        summary["latency_ms"]["p50"].as_f64() > Some(0.0),
        "{summary:#}"
    );

    let checks = summary["checks"].as_array().expect("checks");
    assert!(checks.len() >= 10, "{checks:?}");
    assert!(checks.iter().all(|check| check["ok"] == true), "{checks:?}");
}

#[test]
fn without_a_terminal_it_writes_a_plain_line_each_second() {
    let output = demo(&["--rate", "60"]);
    let (out, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{out}{errors}");
    assert!(!out.contains('\x1b'), "no control sequences: {out}");

    let (live, summary) = out.split_once("\n\n").expect("an empty line between them");
    let live = live
        .split("\ntime to first response")
        .next()
        .unwrap_or(live);
    assert!(live.lines().count() as u64 >= SECONDS, "{live}");
    assert!(
        live.lines().all(|line| line.contains(" calls/s, ")),
        "{live}"
    );
    let scenes = ["stops in ", "stopped", "is out", "runs again", "is back"];
    let at = scenes.map(|scene| live.find(&format!("server 3 {scene}")));
    assert!(at[0].is_some() && at.is_sorted(), "{at:?} in {live}");

    assert!(
        summary.contains("ok      all 900 calls accounted for"),
        "{out}"
    );
    assert!(!summary.contains("FAILED"), "{out}");
    assert!(summary.contains("Server 3 was stopped:"), "{out}");
    assert!(summary.contains(" run --listen 127.0.0.1:5060"), "{out}");
    assert!(
        summary.contains(" explain --listen 127.0.0.1:5060"),
        "{out}"
    );
}

#[test]
fn a_rate_out_of_bounds_is_refused() {
    let output = demo(&["--rate", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
}
