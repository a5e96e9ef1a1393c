//! The plain twin on small examples, rule by rule. It judges the scanner in
//! other tests, so here every verdict is written out by hand.

use proptest::prelude::*;

use support::generate;
use support::twin::{Refusal, StartLine, Twin, read};

const START: &str = "INVITE sip:desk@farm.test SIP/2.0";
const VIA: &str = "Via: SIP/2.0/UDP phone.test;branch=z9hG4bKa1";
const FROM: &str = "From: <sip:ann@phone.test>;tag=f1";
const TO: &str = "To: <sip:desk@farm.test>";
const CALL_ID: &str = "Call-ID: c1@phone.test";
const CSEQ: &str = "CSeq: 7 INVITE";

fn message(lines: &[&str]) -> Vec<u8> {
    (lines.join("\r\n") + "\r\n\r\n").into_bytes()
}

/// A plain INVITE with further rows at its end.
fn with(rows: &[&str]) -> Vec<u8> {
    message(&[&[START, VIA, FROM, TO, CALL_ID, CSEQ], rows].concat())
}

/// A plain INVITE in which `row` stands for the row of the same name.
fn instead(row: &str) -> Vec<u8> {
    let name = |row: &str| row.split(':').next().unwrap_or("").to_owned();
    let rows = [VIA, FROM, TO, CALL_ID, CSEQ];
    let mut lines = vec![START];
    lines.extend(
        rows.iter()
            .map(|old| if name(old) == name(row) { row } else { old }),
    );
    message(&lines)
}

fn start(line: &str) -> Vec<u8> {
    message(&[line, VIA, FROM, TO, CALL_ID, CSEQ])
}

#[track_caller]
fn reads(datagram: impl AsRef<[u8]>) -> Twin {
    read(datagram.as_ref()).expect("a message that reads")
}

#[track_caller]
fn refused(datagram: impl AsRef<[u8]>) {
    match read(datagram.as_ref()) {
        Err(Refusal::Malformed(_)) => {}
        other => panic!("expected Malformed, got {other:?}"),
    }
}

#[test]
fn a_plain_request_reads_whole() {
    let mut datagram = with(&["Max-Forwards: 70", "l: 3", "X-Any:  some thing "]);
    datagram.extend_from_slice(b"abcdef");
    let twin = reads(datagram);
    assert_eq!(
        twin.start,
        StartLine::Request {
            method: "INVITE".into(),
            uri: b"sip:desk@farm.test".into(),
            version: "SIP/2.0".into()
        }
    );
    assert_eq!(twin.target.expect("a SIP URI").host, b"farm.test");
    assert_eq!(twin.top_via.branch.as_deref(), Some(&b"z9hG4bKa1"[..]));
    assert_eq!(twin.call_id, b"c1@phone.test");
    assert_eq!(twin.from.uri, b"sip:ann@phone.test");
    assert_eq!(twin.from.tag.as_deref(), Some(&b"f1"[..]));
    assert_eq!(twin.to.tag, None);
    assert_eq!((twin.cseq.number, twin.cseq.method.as_str()), (7, "INVITE"));
    assert_eq!(twin.max_forwards, Some(70));
    assert_eq!(twin.content_length, Some(3));
    assert_eq!(twin.body, b"abc");
    assert_eq!(
        twin.headers.last(),
        Some(&("x-any".into(), b"some thing".into()))
    );
}

#[test]
fn datagrams_that_are_no_message() {
    assert_eq!(read(b""), Err(Refusal::KeepAlive));
    assert_eq!(read(b"\r\n\r\n"), Err(Refusal::KeepAlive));
    assert_eq!(read(b"\0\0\0\0"), Err(Refusal::NotSip));
    assert_eq!(read(b"\x01\x01\0\0\x21\x12\xa4\x42"), Err(Refusal::NotSip));
    refused(b"\r");
    refused(b"\n\r\n");
    refused(b"\r\n\0");
    refused(b"GET / HTTP/1.1\r\n\r\n");
    reads([b"\r\n\r\n".to_vec(), with(&[])].concat());
}

#[test]
fn start_lines() {
    assert_eq!(
        read(&start("INVITE sip:a@b SIP/7.0")),
        Err(Refusal::Version)
    );
    assert_eq!(read(b"sip/2.10 200 OK\r\n"), Err(Refusal::Version));
    reads(start("INVITE sip:a@b sIp/2.0"));
    reads(start("INVITE tel:+390123 SIP/2.0"));
    reads(start("INVITE sips:a@b:1;;x=y SIP/2.0"));
    reads(start("INVITE sip:b:65535 SIP/2.0"));
    for line in [
        "INVITE  sip:a@b SIP/2.0",
        "INVITE sip:a@b  SIP/2.0",
        "INVITE sip:a@b SIP/2.0 ",
        " INVITE sip:a@b SIP/2.0",
        "INVITE\tsip:a@b SIP/2.0",
        "INVITE <sip:a@b> SIP/2.0",
        "INVITE sip:a@b;x=\"y\" SIP/2.0",
        "INVITE sip:a@b?Subject=x SIP/2.0",
        "INVITE sip:a@b@c SIP/2.0",
        "INVITE sip:@b SIP/2.0",
        "INVITE sip:a@ SIP/2.0",
        "INVITE sip:a@b:0 SIP/2.0",
        "INVITE sip:a@b:65536 SIP/2.0",
        "INVITE sip:a@[::1 SIP/2.0",
        "INVITE desk SIP/2.0",
        "INVITE tel: SIP/2.0",
        "INVITE sip:a@b;maddr SIP/2.0",
        "INVITE sip:a@b;maddr=c;maddr=c SIP/2.0",
        "INVITE sip:a@b;transport= SIP/2.0",
        "INVITE sip:a@b SIP/2",
        "INVITE sip:a@b SIP/2.0.0",
        "INVITE sip:a@b",
        "IN/ITE sip:a@b SIP/2.0",
    ] {
        refused(start(line));
    }
}

#[test]
fn status_lines() {
    for (line, status) in [
        ("SIP/2.0 200 OK", 200),
        ("SIP/2.0 100 ", 100),
        ("sip/2.0 699 two  words", 699),
    ] {
        match reads(start(line)).start {
            StartLine::Response { status: read, .. } => assert_eq!(read, status),
            other => panic!("{other:?}"),
        }
    }
    for line in [
        "SIP/2.0 200",
        "SIP/2.0 099 Low",
        "SIP/2.0 700 High",
        "SIP/2.0 0200 Long",
        "SIP/2.0  200 OK",
    ] {
        refused(start(line));
    }
}

#[test]
fn framing_is_strict() {
    let plain = String::from_utf8(with(&["Subject: s"])).expect("text");
    refused(plain.replace("\r\n", "\n"));
    refused(plain.replace("Subject: s\r\n", "Subject: s\n"));
    refused(plain.replace("Subject: s", "Subject: \rs"));
    refused(plain.replace("Subject: s", "Subject: \"\\\r\""));
    refused(plain.trim_end());
    refused(plain.replace("\r\n\r\n", "\r\n"));
    refused(plain.replacen("\r\n", "\r\n folded\r\n", 1));
    for end in 0..plain.len() {
        assert!(read(&plain.as_bytes()[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn header_names() {
    let twin = reads(message(&[
        START,
        "v\t : SIP/2.0/UDP phone.test",
        "f:<sip:a@b>",
        "T :<sip:c@d>",
        "i:\t c1",
        "cSEQ: 7 INVITE",
        "From-Person: x",
    ]));
    let names: Vec<_> = twin.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["via", "from", "to", "call-id", "cseq", "from-person"]
    );
    refused(with(&["Sub\x01ject: s"]));
    refused(with(&["Subject\x01: s"]));
    refused(with(&["Subject"]));
    refused(with(&[": s"]));
    refused(with(&["Subject\r\n : s"]));
}

#[test]
fn folds_become_one_space() {
    let twin = reads(with(&["Subject:\r\n  one \t\r\n\ttwo\r\n \r\n  three  "]));
    assert_eq!(
        twin.headers.last(),
        Some(&("subject".into(), b"one two three".into()))
    );
    assert_eq!(reads(instead("CSeq: 7\r\n INVITE")).cseq.method, "INVITE");
    assert_eq!(reads(instead("Call-ID:\r\n c1")).call_id, b"c1");
    refused(instead("Call-ID: c1\r\n @host"));
}

#[test]
fn controls_only_where_we_do_not_look_or_quoted() {
    reads(with(&["Subject: a\0b\x7f"]));
    reads(with(&["Via: SIP/2.0/UDP lower\x01"]));
    refused(instead("Call-ID: a\0b"));
    refused(instead("Via: SIP/2.0/UDP a;x=\"\x01\""));
    reads(instead("Via: SIP/2.0/UDP a;x=\"\\\x01\""));
    for name in ["From", "To"] {
        reads(instead(&format!("{name}: \"a\\\0b\" <sip:a@b>;tag=1")));
        refused(instead(&format!("{name}: \"a\0b\" <sip:a@b>;tag=1")));
        refused(instead(&format!("{name}: a\\\0b <sip:a@b>;tag=1")));
    }
}

#[test]
fn what_must_be_there_once() {
    for row in [VIA, FROM, TO, CALL_ID, CSEQ] {
        let text = String::from_utf8(with(&[])).expect("text");
        refused(text.replace(&format!("{row}\r\n"), ""));
    }
    for row in [FROM, TO, CALL_ID, CSEQ, "i: other", "F: <sip:x@y>"] {
        refused(with(&[row]));
    }
    refused(with(&["Content-Length: 0", "l: 0"]));
    refused(with(&["Max-Forwards: 9", "Max-Forwards: 9"]));
}

#[test]
fn numbers() {
    for value in ["0", "000000000000000000000000255"] {
        assert!(
            reads(with(&[&format!("Max-Forwards: {value}")]))
                .max_forwards
                .is_some()
        );
    }
    for value in ["256", "-1", "", "7 0", "0x10", "18446744073709551686"] {
        refused(with(&[&format!("Max-Forwards: {value}")]));
    }
    let status = "SIP/2.0 200 OK";
    let echo = message(&[status, VIA, FROM, TO, CALL_ID, CSEQ, "Max-Forwards: 256"]);
    assert_eq!(reads(echo).max_forwards, None);
    assert_eq!(
        reads(instead("CSeq: 4294967295\tINVITE")).cseq.number,
        u32::MAX
    );
    for value in [
        "4294967296 INVITE",
        "7INVITE",
        "7",
        "INVITE",
        "-7 INVITE",
        "7 INVITE x",
    ] {
        refused(instead(&format!("CSeq: {value}")));
    }
    refused(instead("CSeq: 7 OPTIONS"));
    refused(instead("CSeq: 7 invite"));
    for value in ["1", "-0", "4294967296", "18446744073709551616", "0, 0", ""] {
        refused(with(&[&format!("Content-Length: {value}")]));
    }
}

#[test]
fn via_lists() {
    let twin = reads(message(&[
        START,
        "Via: SIP/2.0/UDP one;x=\"a,\\\",b\" , SIP/2.0/WS x.invalid;y=\",\"",
        FROM,
        "v: junk < , > , ,\"open, quote",
        TO,
        CALL_ID,
        CSEQ,
    ]));
    let vias: Vec<_> = twin
        .vias
        .iter()
        .map(|via| via.escape_ascii().to_string())
        .collect();
    assert_eq!(
        vias,
        [
            r#"SIP/2.0/UDP one;x=\"a,\\\",b\""#,
            r#"SIP/2.0/WS x.invalid;y=\",\""#,
            "junk < , >",
            "",
            r#"\"open, quote"#
        ]
    );
}

#[test]
fn top_via() {
    let via = reads(instead(
        "Via: sip \t/ 2.0 / TLS [2001:db8::7] : 05070 ;RPort; received=::1 ; q = \"x;y\" ;Branch= A.b;q",
    ))
    .top_via;
    assert_eq!(via.transport, "TLS");
    assert_eq!(via.host, b"[2001:db8::7]");
    assert_eq!(via.port, Some(5070));
    assert_eq!(via.rport, Some(None));
    assert_eq!(via.received, Some(Some(b"::1".to_vec())));
    assert_eq!(via.branch.as_deref(), Some(&b"A.b"[..]));
    assert_eq!(via.params[2].1.as_deref(), Some(&b"\"x;y\""[..]));
    assert_eq!(via.params.len(), 5);
    // Whatever version the way to the sender had.
    let via = reads(instead("Via: SIP/3.0/UDP a")).top_via;
    assert_eq!(via.host, b"a");
    for value in [
        "SIP/2.0/UDP",
        "SIP//UDP a",
        "HTTP/2.0/UDP a",
        "SIP/2.0 a",
        "SIP/2.0/UDPa",
        "SIP/2.0/UDP a:0",
        "SIP/2.0/UDP a:65536",
        "SIP/2.0/UDP a:",
        "SIP/2.0/UDP [::1",
        "SIP/2.0/UDP [:::1]",
        "SIP/2.0/UDP 2001:db8::1",
        "SIP/2.0/UDP a b",
        "SIP/2.0/UDP a;",
        "SIP/2.0/UDP a;;b",
        "SIP/2.0/UDP a;x=",
        "SIP/2.0/UDP a;x=<b>",
        "SIP/2.0/UDP a;x=\"b",
        "SIP/2.0/UDP a;branch",
        "SIP/2.0/UDP a;branch=\"b\"",
        "SIP/2.0/UDP a;branch=b;BRANCH=b",
        "SIP/2.0/UDP a;rport;rport=1",
        "SIP/2.0/UDP a;maddr=b;maddr=c",
        "",
        ", SIP/2.0/UDP a",
    ] {
        refused(instead(&format!("Via: {value}")));
    }
}

#[test]
fn parties() {
    for (value, uri, tag) in [
        ("<sip:a@b;tag=no>", "sip:a@b;tag=no", None),
        (
            "\"<sip:x@y>;tag=no\" <sip:a@b>; TAG = yes",
            "sip:a@b",
            Some("yes"),
        ),
        ("sip:a@b ;x=\"<;tag=no>\";tag=yes", "sip:a@b", Some("yes")),
        ("Doe, J. <sip:a@b>", "sip:a@b", None),
        ("tel:+39", "tel:+39", None),
    ] {
        let from = reads(instead(&format!("From: {value}"))).from;
        assert_eq!(from.uri, uri.as_bytes());
        assert_eq!(from.tag.as_deref(), tag.map(str::as_bytes));
    }
    for value in [
        "",
        "<>",
        "<sip:a@b",
        "\"open <sip:a@b>",
        "< sip:a@b>",
        "<sip:a@b> junk",
        "<sip:a@b>;tag",
        "<sip:a@b>;tag=",
        "<sip:a@b>;tag=a/b",
        "<sip:a@b>;tag=1;Tag=1",
        "sip:a@b;x=<sip:c@d>",
        "sip:a@b,c",
        "sip:a@b?x=y",
        "two words",
    ] {
        refused(instead(&format!("From: {value}")));
        refused(instead(&format!("To: {value}")));
    }
}

#[test]
fn call_ids() {
    for value in ["a\"<>()[]{}:\\/?@x", "\"open", "a,b;c", "\u{e9}t\u{e9}"] {
        assert_eq!(
            reads(instead(&format!("Call-ID: {value}"))).call_id,
            value.as_bytes()
        );
    }
    for value in ["", "a b", "a\tb", "a\x7fb"] {
        refused(instead(&format!("Call-ID: {value}")));
    }
}

#[test]
fn routes() {
    let routes = reads(with(&[
        "Route: <sip:one.test;lr>, \"a, b\" <sips:u@[::1]:5070;Transport=udp;;lr>;x=y",
        "route : <sip:c,d@two.test;x={y,z}>",
    ]))
    .routes;
    let hosts: Vec<_> = routes.iter().map(|route| route.host.as_slice()).collect();
    assert_eq!(hosts, [&b"one.test"[..], b"[::1]", b"two.test"]);
    assert_eq!(routes[1].port, Some(5070));
    assert_eq!(routes[1].userinfo.as_deref(), Some(&b"u"[..]));
    assert_eq!(
        routes[1].params,
        [
            ("transport".into(), Some(b"udp".into())),
            ("lr".into(), None)
        ]
    );
    for value in [
        "",
        "sip:a.test;lr",
        "<sip:a.test>,",
        "<tel:+39>",
        "<sip:>",
        "<sip:a.test",
        "<sip:a b>",
        "<sip:a.test?x=y>",
    ] {
        refused(with(&[&format!("Route: {value}")]));
    }
}

#[test]
fn option_tags() {
    let twin = reads(with(&["Proxy-Require: one , two", "proxy-require:three"]));
    assert_eq!(twin.proxy_require, ["one", "two", "three"]);
    for value in ["", "one,", "one two", "\"one\""] {
        refused(with(&[&format!("Proxy-Require: {value}")]));
    }
}

proptest! {
    #[test]
    fn what_was_written_is_what_is_read(sample in generate::message()) {
        let twin = read(&sample.octets).map_err(|refusal| {
            TestCaseError::fail(format!("{refusal:?}: {}", sample.octets.escape_ascii()))
        })?;
        let text = |octets: Option<Vec<u8>>| octets.map(|octets| String::from_utf8(octets).expect("text"));
        match twin.start {
            StartLine::Request { method, .. } => prop_assert_eq!(method, sample.method),
            StartLine::Response { status, .. } => prop_assert_eq!(Some(status), sample.status),
        }
        prop_assert_eq!(twin.vias.len(), sample.vias);
        prop_assert_eq!(text(twin.top_via.branch), sample.branch);
        prop_assert_eq!(text(Some(twin.call_id)), Some(sample.call_id));
        prop_assert_eq!(text(twin.from.tag), sample.from_tag);
        prop_assert_eq!(text(twin.to.tag), sample.to_tag);
        prop_assert_eq!(twin.cseq.number, sample.cseq);
        prop_assert_eq!(twin.max_forwards, sample.max_forwards);
        let hosts: Vec<_> = twin.routes.into_iter().map(|uri| text(Some(uri.host))).collect();
        let written: Vec<_> = sample.route_hosts.into_iter().map(Some).collect();
        prop_assert_eq!(hosts, written);
        prop_assert_eq!(twin.proxy_require, sample.proxy_require);
        prop_assert_eq!(twin.body, sample.body);
    }
}
