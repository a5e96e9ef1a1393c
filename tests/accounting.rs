//! Accounting: what a line says, and that lines outlive their target.
#![allow(missing_docs, reason = "a test binary has no readers of its API")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boon::{Compiler, Schemas};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;
use viaduct::accounting::{Counts, Ledger};
use viaduct::config::{Accounting, AccountingTarget};
use viaduct::transaction::{Finished, Outcome, Tried};

/// No wait of a test is longer.
const LONG: Duration = Duration::from_secs(20);

/// Milliseconds of the worker's clock at which all requests come.
const RECEIVED: u64 = 5_000;

fn ledger(target: AccountingTarget, methods: &[&str]) -> Ledger {
    let methods = methods.iter().map(ToString::to_string).collect();
    let accounting = Accounting { target, methods };
    Ledger::start(&accounting, || RECEIVED).expect("a ledger")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The final response to a request of `method` in the call `call_id`.
fn response(method: &str, call_id: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: \"Ann\" <sip:ann@example.com;x=y>;q=1;tag=from-1\r\nTo: sip:bob@example.com;tag=to-1\r\n\
         Call-ID: {call_id}\r\nCSeq: 7 {method}\r\nContent-Length: 3\r\n\r\nSDP"
    )
}

/// A transaction with `response` that tried nobody.
fn finished(response: &[u8]) -> Finished<'_> {
    Finished {
        response,
        request_uri: b"sip:bob@farm.example",
        source: address("192.0.2.1:5060"),
        status: 200,
        local: false,
        cancelled: false,
        received: RECEIVED,
        rang: None,
        ended: RECEIVED + 1,
        tried: &[],
    }
}

/// Records a call of this number.
fn record(ledger: &Ledger, number: usize) -> bool {
    let response = response("INVITE", &number.to_string());
    ledger.handle().record(&finished(response.as_bytes()))
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// The numbers of the calls that these lines are of.
fn numbers(text: &str) -> Vec<usize> {
    let line = |line| parsed(line)["call_id"].as_str().expect("text").parse();
    text.lines()
        .map(|text| line(text).expect("a number"))
        .collect()
}

fn in_file(path: &Path) -> Vec<usize> {
    numbers(&fs::read_to_string(path).unwrap_or_default())
}

#[track_caller]
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is_so() {
        assert!(Instant::now() < end, "{what} does not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calls.json");
    (folder, path)
}

/// What is written of `finished` with `methods`.
fn written(finished: &[Finished<'_>], methods: &[&str]) -> String {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), methods);
    let handle = ledger.handle();
    for finished in finished {
        assert!(handle.record(finished));
    }
    let counts = ledger.stop();
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

#[test]
fn a_file_is_made_for_owner_and_group_and_added_to() {
    let (_folder, path) = folder();
    for number in 0..3 {
        let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
        assert!(record(&ledger, number));
        assert_eq!(
            ledger.stop(),
            Counts {
                written: 1,
                dropped: 0
            }
        );
    }
    assert_eq!(in_file(&path), [0, 1, 2]);
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let (folder, _) = folder();
    let target = AccountingTarget::File(folder.path().to_owned());
    let accounting = Accounting {
        target,
        methods: Vec::new(),
    };
    assert!(Ledger::start(&accounting, || 0).is_err());
}

#[test]
fn lines_come_soon_without_anything_behind_them() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    for number in 0..3 {
        assert!(record(&ledger, number));
        wait_until("a line", || in_file(&path).len() == number + 1);
    }
}

/// Records calls from `first` on until one of them comes to `path`; returns
/// the number of the next one.
fn record_until_written(ledger: &Ledger, first: usize, path: &Path) -> usize {
    let mut number = first;
    wait_until("a line in the new file", || {
        assert!(record(ledger, number));
        number += 1;
        std::thread::sleep(Duration::from_millis(50));
        !in_file(path).is_empty()
    });
    number
}

#[test]
fn a_file_that_was_renamed_is_made_anew_and_no_line_is_lost() {
    let (folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    assert!(record(&ledger, 0));
    wait_until("a line", || in_file(&path) == [0]);
    let old = folder.path().join("calls.json.1");
    fs::rename(&path, &old).expect("renamed");
    let end = record_until_written(&ledger, 1, &path);
    drop(ledger);
    let all = [in_file(&old), in_file(&path)].concat();
    assert!(all.into_iter().eq(0..end));
}

#[test]
fn a_file_that_was_deleted_is_made_anew() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    fs::remove_file(&path).expect("deleted");
    let end = record_until_written(&ledger, 0, &path);
    let counts = ledger.stop();
    assert_eq!(
        counts,
        Counts {
            written: end as u64,
            dropped: 0
        }
    );
    assert_eq!(in_file(&path).last(), Some(&(end - 1)));
}

#[test]
fn a_file_that_was_cut_is_begun_anew() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    assert!(record(&ledger, 0));
    wait_until("a line", || in_file(&path) == [0]);
    fs::File::create(&path).expect("cut");
    assert!(record(&ledger, 1));
    drop(ledger);
    // No hole is left where the first line was.
    assert_eq!(in_file(&path), [1]);
}

/// What a reader gets of lines.
fn next(reader: &mut impl BufRead) -> usize {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    numbers(&line)[0]
}

fn accepted(listener: &UnixListener) -> BufReader<UnixStream> {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time limit");
    BufReader::new(stream)
}

#[test]
fn a_stream_socket_may_come_late_and_go_and_come() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    for round in 0..2 {
        // Nobody listens; the line waits.
        assert!(record(&ledger, 2 * round));
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut reader = accepted(&listener);
        assert_eq!(next(&mut reader), 2 * round);
        assert!(record(&ledger, 2 * round + 1));
        assert_eq!(next(&mut reader), 2 * round + 1);
        drop((reader, listener));
        fs::remove_file(&path).expect("deleted");
    }
    assert_eq!(
        ledger.stop(),
        Counts {
            written: 4,
            dropped: 0
        }
    );
}

#[test]
fn a_reader_that_pauses_gets_each_line_once_and_whole() {
    const LINES: usize = 3_000;
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).expect("a socket");
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    (0..LINES).for_each(|number| assert!(record(&ledger, number)));
    let mut reader = accepted(&listener);
    // Longer than a write waits, with more lines than a socket holds.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(ledger.counts().written < LINES as u64);
    for number in 0..LINES {
        assert_eq!(next(&mut reader), number);
    }
    wait_until("the count", || ledger.counts().written == LINES as u64);
}

#[test]
fn a_datagram_socket_gets_a_line_in_each_and_may_go_and_come() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    for round in 0..2 {
        assert!(record(&ledger, 2 * round));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(LONG)).expect("a time limit");
        assert!(record(&ledger, 2 * round + 1));
        for number in [2 * round, 2 * round + 1] {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).expect("a datagram");
            let text = std::str::from_utf8(&buffer[..length]).expect("text");
            assert_eq!(numbers(text), [number]);
        }
        drop(socket);
        fs::remove_file(&path).expect("deleted");
    }
}

#[test]
fn a_line_that_no_datagram_holds_is_dropped_and_the_next_one_comes() {
    let (_folder, path) = folder();
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LONG)).expect("a time limit");
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    let response = response("INVITE", "0");
    // Each octet takes six in JSON.
    let request_uri = [1; 65_000];
    let long = Finished {
        request_uri: &request_uri,
        ..finished(response.as_bytes())
    };
    assert!(ledger.handle().record(&long));
    assert!(record(&ledger, 1));
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert_eq!(
        numbers(std::str::from_utf8(&buffer[..length]).expect("text")),
        [1]
    );
    wait_until("the count", || {
        ledger.counts()
            == Counts {
                written: 1,
                dropped: 1,
            }
    });
}

#[test]
fn while_nobody_takes_lines_a_bounded_number_waits_and_the_rest_is_counted() {
    const ALL: usize = 40_000;
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    let kept = (0..ALL).filter(|number| record(&ledger, *number));
    let kept: Vec<usize> = kept.collect();
    let lost = (ALL - kept.len()) as u64;
    assert!((10_000..20_000).contains(&kept.len()), "{}", kept.len());
    assert_eq!(
        ledger.counts(),
        Counts {
            written: 0,
            dropped: lost
        }
    );
    // All that were kept come, in order.
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut reader = accepted(&listener);
    kept.iter()
        .for_each(|number| assert_eq!(next(&mut reader), *number));
    drop(reader);
    drop(listener);
    assert!(record(&ledger, ALL));
    // And what nobody takes to the end is lost.
    let wanted = Counts {
        written: kept.len() as u64,
        dropped: lost + 1,
    };
    assert_eq!(ledger.stop(), wanted);
}

/// Few long ones fill it as many short ones do.
#[test]
fn what_waits_is_bounded_in_octets_too() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    let response = response("INVITE", "0");
    let request_uri = [b'x'; 65_000];
    let long = Finished {
        request_uri: &request_uri,
        ..finished(response.as_bytes())
    };
    let handle = ledger.handle();
    let taken = (0..2_000).filter(|_| handle.record(&long)).count();
    assert!((100..1_000).contains(&taken), "{taken}");
}

/// What another process of this test says when it runs the test `name` with
/// `path`: on its standard output and error.
fn child(name: &str, path: &Path) -> (String, String) {
    let output = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("VIADUCT_TEST_PATH", path)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let text = |octets| String::from_utf8(octets).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    (out, err)
}

fn path_of_child() -> PathBuf {
    std::env::var_os("VIADUCT_TEST_PATH")
        .expect("a path")
        .into()
}

#[test]
fn the_standard_output_gets_the_lines() {
    let (out, _) = child("writes_to_stdout", Path::new("unused"));
    let lines: String = out
        .lines()
        .filter(|line| line.starts_with("{\"time\""))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(numbers(&lines), [0, 1, 2]);
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn writes_to_stdout() {
    // The harness has written the test's name, without a line end.
    println!();
    let ledger = ledger(AccountingTarget::Stdout, &[]);
    (0..3).for_each(|number| assert!(record(&ledger, number)));
    assert_eq!(
        ledger.stop(),
        Counts {
            written: 3,
            dropped: 0
        }
    );
}

#[test]
fn an_outage_of_the_file_is_told_once_and_costs_no_line() {
    let (_folder, path) = folder();
    let (_, err) = child("has_a_full_disk", &path);
    let told: Vec<&str> = err
        .lines()
        .filter(|line| line.starts_with("accounting: "))
        .collect();
    let path = path.display();
    assert_eq!(told.len(), 2, "{err}");
    let begins = format!("accounting: {path} takes no lines: No space left on device");
    assert!(told[0].starts_with(&begins), "{err}");
    assert_eq!(
        told[1],
        format!("accounting: {path} takes lines again, 0 were lost so far")
    );
    assert!(err.contains("\n  help: "), "{err}");
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn has_a_full_disk() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_level(false)
        .with_target(false)
        .init();
    let path = path_of_child();
    symlink("/dev/full", &path).expect("a link");
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    // Three times it is tried, and only one is told.
    for number in 0..3 {
        assert!(record(&ledger, number));
        std::thread::sleep(Duration::from_millis(1_100));
    }
    assert_eq!(ledger.counts(), Counts::default());
    fs::remove_file(&path).expect("deleted");
    wait_until("the file", || in_file(&path) == [0, 1, 2]);
    assert_eq!(
        ledger.stop(),
        Counts {
            written: 3,
            dropped: 0
        }
    );
}
