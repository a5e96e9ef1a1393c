//! Messages that are costly to read for their size, each for any size: to see
//! that the work grows with the size and no faster.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

/// A name, and a message of about as many octets as asked for.
pub type Case = (&'static str, fn(usize) -> Vec<u8>);

const START: &str = "INVITE sip:desk@farm.test SIP/2.0\r\n";
const VIA: &str = "Via: SIP/2.0/UDP phone.test;branch=z9hG4bKa1\r\n";
const REST: &str = "From: <sip:ann@phone.test>;tag=f1\r\n\
    To: <sip:desk@farm.test>\r\n\
    Call-ID: c1@phone.test\r\n\
    CSeq: 7 INVITE\r\n";

/// A request with `rows` in the place of its Via.
fn instead_of_via(rows: &str) -> Vec<u8> {
    format!("{START}{rows}{REST}\r\n").into_bytes()
}

fn with(rows: &str) -> Vec<u8> {
    format!("{START}{VIA}{rows}{REST}\r\n").into_bytes()
}

/// A plain request in which `old` has become `new`.
fn replaced(old: &str, new: &str) -> Vec<u8> {
    format!("{START}{VIA}{REST}\r\n")
        .replacen(old, new, 1)
        .into_bytes()
}

/// `unit` repeated to about `size` octets.
fn fill(unit: &str, size: usize) -> String {
    unit.repeat(size / unit.len())
}

/// All of them.
pub const CASES: [Case; 34] = [
    ("rows of Via", |n| with(&fill("v:\r\n", n))),
    ("rows of Via, answered", |n| {
        with(&format!("Max-Forwards: 0\r\n{}", fill("v:\r\n", n)))
    }),
    ("commas in a Via", |n| {
        instead_of_via(&VIA.replace("\r\n", &format!("{}\r\n", fill(",", n))))
    }),
    ("semicolons in a Via", |n| {
        instead_of_via(&VIA.replace("\r\n", &format!("{}\r\n", fill(";", n))))
    }),
    ("parameters of a Via", |n| {
        instead_of_via(&VIA.replace("\r\n", &format!("{}\r\n", fill(";a", n))))
    }),
    ("folds in a Via", |n| {
        replaced("UDP ", &format!("UDP{}", fill("\r\n ", n)))
    }),
    ("folds behind a parameter", |n| {
        replaced("test;branch", &format!("test;a{};branch", fill("\r\n ", n)))
    }),
    ("folds in a value that is not read", |n| {
        with(&format!("s:{}x\r\n", fill("\r\n ", n)))
    }),
    ("folds in From", |n| {
        replaced("From: ", &format!("From: {}", fill("\r\n ", n)))
    }),
    ("an open quote in a Via", |n| {
        replaced("test;branch", &format!("test;x=\"{};branch", fill("a", n)))
    }),
    ("backslashes in a Via", |n| {
        replaced(
            "test;branch",
            &format!("test;x=\"{};branch", fill("\\\"", n)),
        )
    }),
    ("an open quote in From", |n| {
        replaced("From: ", &format!("From: \"{}", fill("a", n)))
    }),
    ("quotes in From", |n| {
        replaced("From: ", &format!("From: {}", fill("\"\"", n)))
    }),
    ("brackets in From", |n| {
        replaced("From: ", &format!("From: {}", fill("<", n)))
    }),
    ("parameters of From", |n| {
        replaced("tag=f1", &format!("tag=f1{}", fill(";a=b", n)))
    }),
    ("a display name", |n| {
        replaced("From: ", &format!("From: {}", fill("ab ", n)))
    }),
    ("an endless name", |n| with(&fill("a", n))),
    ("white space before a colon", |n| {
        with(&format!("s{}:\r\n", fill(" ", n)))
    }),
    ("rows that are not read", |n| with(&fill("a:\r\n", n))),
    ("a value that is not read", |n| {
        with(&format!("s:{}\r\n", fill("a", n)))
    }),
    ("Route in one row", |n| {
        with(&format!("Route: {}\r\n", fill("<sip:x>,", n)))
    }),
    ("rows of Route", |n| with(&fill("Route: <sip:x>\r\n", n))),
    ("our own Route in one row", |n| {
        with(&format!(
            "Route: {}<sip:x>\r\n",
            fill("<sip:192.0.2.10>,", n)
        ))
    }),
    ("quotes in Route", |n| {
        with(&format!("Route: {}\r\n", fill("\"<\"", n)))
    }),
    ("parameters of the Request-URI", |n| {
        replaced(
            "farm.test SIP",
            &format!("farm.test{} SIP", fill(";a=b", n)),
        )
    }),
    ("user of the Request-URI", |n| {
        replaced("desk@", &format!("{}@", fill("a:", n)))
    }),
    ("host of the Request-URI", |n| {
        replaced("@farm", &format!("@{}", fill("1.", n)))
    }),
    ("method", |n| replaced("INVITE", &fill("INVITE", n))),
    ("Call-ID", |n| {
        replaced("c1@", &format!("{}@", fill("c", n)))
    }),
    ("branch", |n| {
        replaced("bKa1", &format!("bK{}", fill("a", n)))
    }),
    ("From tag", |n| {
        replaced("tag=f1", &format!("tag={}", fill("f", n)))
    }),
    ("zeros", |n| {
        replaced(
            "CSeq: 7",
            &format!("Content-Length: {0}\r\nCSeq: {0}7", fill("0", n / 2)),
        )
    }),
    ("Proxy-Require, answered", |n| {
        with(&format!("Proxy-Require: {}\r\n", fill("a,", n)))
    }),
    ("line ends", |n| fill("\r\n", n).into_bytes()),
];
