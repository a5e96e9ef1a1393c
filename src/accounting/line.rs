//! The line of a transaction.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::SystemTime;

use serde::Serialize;

use super::record::Record;
use crate::sip::{self, Address, Span};
use crate::transaction::Tried;

/// The fields, in their order; docs/accounting.md says what they mean.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    method: Cow<'a, str>,
    call_id: Cow<'a, str>,
    from: Cow<'a, str>,
    from_tag: Option<Cow<'a, str>>,
    to: Cow<'a, str>,
    to_tag: Option<Cow<'a, str>>,
    cseq: u32,
    request_uri: Cow<'a, str>,
    source: SocketAddr,
    status: u16,
    local: bool,
    cancelled: bool,
    attempts: Vec<Attempt>,
    ring_ms: Option<u64>,
    setup_ms: u64,
}

#[derive(Serialize)]
struct Attempt {
    destination: SocketAddr,
    outcome: &'static str,
    status: Option<u16>,
    start_ms: u64,
    end_ms: u64,
}

/// Writes the line of `record`, whose request came at `time`, with its line
/// end. False: the response is no SIP, and there is no line.
pub(super) fn write(record: &Record, time: SystemTime, out: &mut Vec<u8>) -> bool {
    // What stands in the head is read whatever else is wrong with it.
    let Ok(message) = sip::scan(record.head()) else {
        return false;
    };
    let bytes = message.bytes;
    // Who answers may have written other URIs.
    let (from, from_tag) = party(record.from());
    let (to, _) = party(record.to());
    let (_, to_tag) = party(message.to.value.of(bytes));
    let since = |at: u64| at.saturating_sub(record.received);
    let attempt = |tried: &Tried| Attempt {
        destination: tried.destination,
        outcome: tried.outcome.name(),
        status: (tried.status != 0).then_some(tried.status),
        start_ms: since(tried.start),
        end_ms: since(tried.end),
    };
    let line = Line {
        time: humantime::format_rfc3339_millis(time).to_string(),
        method: text(message.cseq.method.of(bytes)),
        call_id: text(message.call_id.value.of(bytes)),
        from,
        from_tag,
        to,
        to_tag,
        cseq: message.cseq.number,
        request_uri: text(record.request_uri()),
        source: record.source,
        status: record.status,
        local: record.local,
        cancelled: record.cancelled,
        attempts: record.tried.iter().map(attempt).collect(),
        ring_ms: record.rang.map(since),
        setup_ms: since(record.ended),
    };
    let begun = out.len();
    if serde_json::to_writer(&mut *out, &line).is_err() {
        out.truncate(begun);
        return false;
    }
    out.push(b'\n');
    true
}

/// The URI and the tag in a value of From or To; the whole value where it has none.
fn party(value: &[u8]) -> (Cow<'_, str>, Option<Cow<'_, str>>) {
    let Some(Address { uri, tag, .. }) = sip::address(value, Span::new(0, value.len())) else {
        return (text(value), None);
    };
    let tag = Some(tag).filter(|tag: &Span| !tag.is_empty());
    (text(uri.of(value)), tag.map(|tag| text(tag.of(value))))
}

/// Octets that are not UTF-8 are replaced.
fn text(octets: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(octets)
}
