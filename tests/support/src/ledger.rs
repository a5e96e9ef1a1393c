//! Lines of accounting as the workers have them written.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use viaduct::accounting::{Counts, Ledger};
use viaduct::config::{Accounting, AccountingTarget};
use viaduct::transaction::Finished;

/// Milliseconds of the worker's clock at which all requests come.
pub const RECEIVED: u64 = 5_000;

pub fn ledger(target: AccountingTarget, methods: &[&str]) -> Ledger {
    let methods = methods.iter().map(ToString::to_string).collect();
    let accounting = Accounting { target, methods };
    Ledger::start(&accounting, || RECEIVED).expect("a ledger")
}

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The final response to a request of `method` in the call `call_id`.
pub fn response(method: &str, call_id: &str) -> String {
    format!(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
         From: \"Ann\" <sip:ann@example.com;x=y>;q=1;tag=from-1\r\nTo: sip:bob@example.com;tag=to-1\r\n\
         Call-ID: {call_id}\r\nCSeq: 7 {method}\r\nContent-Length: 3\r\n\r\nSDP"
    )
}

/// A transaction with `response` that tried nobody.
pub fn finished(response: &[u8]) -> Finished<'_> {
    let message = viaduct::sip::scan(response).expect("a response");
    Finished {
        response,
        method: message.cseq.method.of(message.bytes),
        request_uri: b"sip:bob@farm.example",
        from: message.from.value.of(message.bytes),
        to: message.to.value.of(message.bytes),
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
pub fn record(ledger: &Ledger, number: usize) -> bool {
    let response = response("INVITE", &number.to_string());
    ledger.handle().record(&finished(response.as_bytes()))
}

/// Ends it; what became of all records.
pub fn end(ledger: Ledger) -> Counts {
    let handle = ledger.handle();
    drop(ledger);
    handle.counts()
}

pub fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

/// The numbers of the calls that these lines are of.
pub fn numbers(text: &str) -> Vec<usize> {
    let line = |line| parsed(line)["call_id"].as_str().expect("text").parse();
    text.lines()
        .map(|text| line(text).expect("a number"))
        .collect()
}

pub fn in_file(path: &Path) -> Vec<usize> {
    numbers(&fs::read_to_string(path).unwrap_or_default())
}

pub fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("calls.json");
    (folder, path)
}
