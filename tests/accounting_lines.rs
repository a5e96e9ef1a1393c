//! Accounting: what a line says.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use boon::{Compiler, Schemas};
use proptest::prelude::*;
use serde_json::{Value, json};
use viaduct::config::AccountingTarget;
use viaduct::transaction::{Finished, Outcome, Tried};

use support::LONG;
use support::ledger::{RECEIVED, address, end, finished, folder, ledger, parsed, response};

/// What is written of `finished` with `methods`.
fn written(finished: &[Finished<'_>], methods: &[&str]) -> String {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), methods);
    let handle = ledger.handle();
    for finished in finished {
        assert!(handle.record(finished));
    }
    let counts = end(ledger);
    let text = fs::read_to_string(path).expect("a file");
    let lines = text.lines().count() as u64;
    assert_eq!((counts.written, counts.dropped), (lines, 0));
    text
}

/// Demands that `line` is what the schema describes.
#[track_caller]
fn assert_valid(line: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/accounting.schema.json");
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    let schema = compiler
        .compile(path.to_str().expect("text"), &mut schemas)
        .expect("a schema");
    schemas
        .validate(line, schema)
        .unwrap_or_else(|error| panic!("{error:#}\n{line:#}"));
}

fn call_that_fails_over() -> [Tried; 3] {
    let tried = |host: u8, outcome, status, start, end| Tried {
        destination: SocketAddr::from(([192, 0, 2, host], 5060)),
        outcome,
        status,
        start: RECEIVED + start,
        end: RECEIVED + end,
    };
    [
        tried(7, Outcome::NoAnswer, 0, 0, 1000),
        tried(8, Outcome::Failed, 503, 1000, 1020),
        tried(9, Outcome::Answered, 200, 1020, 4200),
    ]
}

#[test]
fn a_line_says_all_of_a_call() {
    let response = response("INVITE", "a84b4c76e66710@pc33");
    let tried = call_that_fails_over();
    let call = Finished {
        rang: Some(RECEIVED + 1100),
        ended: RECEIVED + 4200,
        tried: &tried,
        ..finished(response.as_bytes())
    };
    let text = written(&[call], &[]);
    assert!(text.ends_with('\n'));
    let mut line = parsed(&text);
    assert_valid(&line);
    let time = line["time"].take();
    assert_eq!(
        line,
        json!({
            "time": null,
            "method": "INVITE",
            "call_id": "a84b4c76e66710@pc33",
            "from": "sip:ann@example.com;x=y",
            "from_tag": "from-1",
            "to": "sip:bob@example.com",
            "to_tag": "to-1",
            "cseq": 7,
            "request_uri": "sip:bob@farm.example",
            "source": "192.0.2.1:5060",
            "status": 200,
            "local": false,
            "cancelled": false,
            "attempts": [
                { "destination": "192.0.2.7:5060", "outcome": "no-answer", "status": null,
                  "start_ms": 0, "end_ms": 1000 },
                { "destination": "192.0.2.8:5060", "outcome": "failed", "status": 503,
                  "start_ms": 1000, "end_ms": 1020 },
                { "destination": "192.0.2.9:5060", "outcome": "answered", "status": 200,
                  "start_ms": 1020, "end_ms": 4200 },
            ],
            "ring_ms": 1100,
            "setup_ms": 4200,
        })
    );
    // The clock of the test stands at the request's time.
    let time = humantime::parse_rfc3339(time.as_str().expect("text")).expect("a time");
    let age = time.elapsed().expect("a time of the past");
    assert!(age < LONG, "{age:?}");
}

/// RFC 3261 §7.5: they may stand before any start line.
#[test]
fn line_ends_before_a_response_cost_no_line() {
    let response = format!("\r\n\r\n{}", response("INVITE", "1"));
    let line = parsed(&written(&[finished(response.as_bytes())], &[]));
    assert_eq!(
        (&line["call_id"], &line["to_tag"]),
        (&"1".into(), &"to-1".into())
    );
}

/// Nothing binds what who answers writes there.
#[test]
fn who_called_whom_is_what_the_request_said() {
    let response = response("INVITE", "1");
    let call = Finished {
        from: b"<sip:carl@example.com>;tag=from-1",
        to: b"Dora <sip:dora@example.com>",
        ..finished(response.as_bytes())
    };
    let line = parsed(&written(&[call], &[]));
    for (field, wanted) in [
        ("from", "sip:carl@example.com"),
        ("from_tag", "from-1"),
        ("to", "sip:dora@example.com"),
        ("to_tag", "to-1"),
    ] {
        assert_eq!(line[field], wanted, "{field}");
    }
}

#[test]
fn the_document_shows_a_valid_line_and_names_each_field() {
    let document = include_str!("../docs/accounting.md");
    let (_, rest) = document.split_once("```json\n").expect("an example");
    let (example, _) = rest.split_once("```").expect("its end");
    let line = parsed(example);
    assert_valid(&line);
    let attempt = line["attempts"][0].as_object().expect("an attempt");
    for field in line
        .as_object()
        .expect("fields")
        .keys()
        .chain(attempt.keys())
    {
        assert!(document.contains(&format!("`{field}`")), "{field}");
    }
}

/// The called party hangs up ten seconds after its answer.
#[test]
fn the_program_of_the_document_makes_calls_of_lines() {
    let document = include_str!("../docs/accounting.md");
    let (_, rest) = document.split_once("```sh\njq").expect("a program");
    let (program, _) = rest.split_once("```").expect("its end");
    let line = |method, time, setup, from: [&str; 2], to: [&str; 2]| {
        json!({
            "method": method, "time": time, "setup_ms": setup, "status": 200, "call_id": "1",
            "from": from[0], "from_tag": from[1], "to": to[0], "to_tag": to[1],
        })
    };
    let [ann, bob] = [["sip:ann@a.example", "a"], ["sip:bob@b.example", "b"]];
    let invite = line("INVITE", "2026-03-02T09:41:07.318Z", 1_200, ann, bob).to_string();
    let bye = line("BYE", "2026-03-02T09:41:18.518Z", 3, bob, ann);
    let torn = &invite[..invite.len() / 2];
    let folder = tempfile::tempdir().expect("a folder");
    let lines = format!("{invite}\n{torn}\n{bye}\n");
    fs::write(folder.path().join("calls.jsonl"), lines).expect("a file");
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("jq{program}")]);
    let output = shell.current_dir(folder.path()).output().expect("a shell");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let calls = String::from_utf8_lossy(&output.stdout);
    assert_eq!(calls, "sip:ann@a.example\tsip:bob@b.example\t10000\n");
}

#[test]
fn a_line_tells_when_the_request_came_not_when_it_was_written() {
    let response = response("INVITE", "1");
    let early = Finished {
        received: RECEIVED - 4_000,
        ..finished(response.as_bytes())
    };
    let text = written(&[early, finished(response.as_bytes())], &[]);
    let mut times = text.lines().map(|line| {
        let time = parsed(line)["time"].as_str().expect("text").to_owned();
        humantime::parse_rfc3339(&time).expect("a time")
    });
    let (early, late) = (times.next().expect("one"), times.next().expect("two"));
    // The lines may be made one after the other.
    let between = late.duration_since(early).expect("in order");
    assert!((Duration::from_secs(4)..LONG).contains(&between));
}

#[test]
fn what_breaks_the_grammar_or_utf8_is_written_as_far_as_it_goes() {
    let odd = b"SIP/2.0 404 Not Found\r\nv: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
        f: <<\"\r\nt: <sip:b\xffb@example.com>\r\n\
        i: \"\\\x01\xc3\x28\r\nCSeq: 1 OPTIONS\r\nl: 0\r\n\r\n";
    let call = Finished {
        request_uri: b"sip:\xf0\x9f",
        source: address("[2001:db8::7]:65535"),
        local: true,
        ..finished(odd)
    };
    let line = parsed(&written(&[call], &[]));
    assert_valid(&line);
    for (field, wanted) in [
        ("from", json!("<<\"")),
        ("from_tag", json!(null)),
        ("to", json!("sip:b\u{fffd}b@example.com")),
        ("to_tag", json!(null)),
        ("call_id", json!("\"\\\u{1}\u{fffd}(")),
        ("request_uri", json!("sip:\u{fffd}")),
        ("source", json!("[2001:db8::7]:65535")),
        ("method", json!("OPTIONS")),
    ] {
        assert_eq!(line[field], wanted, "{field}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn each_line_is_one_and_valid_whatever_the_values_are(
        values in prop::collection::vec(
            prop::collection::vec(any::<u8>().prop_filter("line end", |b| !b"\r\n".contains(b)), 1..40),
            4,
        ),
        outcome in prop::sample::select(vec![
            Outcome::Answered, Outcome::Failed, Outcome::NoAnswer, Outcome::Unreachable,
            Outcome::Cancelled,
        ]),
        rang in prop::option::of(0..9_000_u64),
        flags in any::<[bool; 2]>(),
    ) {
        let mut odd = b"SIP/2.0 486 Busy\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n".to_vec();
        for (name, value) in [&b"From: "[..], b"To: ", b"Call-ID: "].iter().zip(&values) {
            odd.extend([name, &value[..], b"\r\n"].concat());
        }
        odd.extend(b"CSeq: 1 INVITE\r\n\r\n");
        let tried = [Tried { outcome, ..call_that_fails_over()[1] }];
        let [local, cancelled] = flags;
        let call = Finished {
            request_uri: &values[3], tried: &tried, rang, local, cancelled, status: 486,
            ..finished(&odd)
        };
        let text = written(&[call], &[]);
        prop_assert_eq!(text.lines().count(), 1);
        // The scanner stops at some values; then the method is not known.
        let mut line = parsed(&text);
        if line["method"] == "" {
            line["method"] = "INVITE".into();
        }
        assert_valid(&line);
    }
}

#[test]
fn only_the_chosen_methods_are_written() {
    let responses = ["INVITE", "BYE", "OPTIONS", "invite"].map(|method| response(method, method));
    let all = responses.each_ref().map(|text| finished(text.as_bytes()));
    let methods = |text: String| -> Vec<String> {
        let method = |line| parsed(line)["method"].as_str().expect("text").to_owned();
        text.lines().map(method).collect()
    };
    assert_eq!(
        methods(written(&all, &["INVITE", "BYE"])),
        ["INVITE", "BYE"]
    );
    assert_eq!(methods(written(&all, &[])).len(), 4);
}
