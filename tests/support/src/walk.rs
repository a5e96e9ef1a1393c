//! The rows that the scanner notes and the first fault that it tells, against a
//! plain walk from line to line: what a refused message is answered by.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use viaduct::sip::{Fault, Row, Span, StartLine, scan};

const ONCE: [&str; 6] = [
    "call-id",
    "from",
    "to",
    "cseq",
    "max-forwards",
    "content-length",
];

/// A row, and its name in lower case and long.
type Named = (String, Row);

/// Checks the scanner's walk over the rows of `datagram`.
///
/// # Errors
/// The difference.
pub fn agree(datagram: &[u8]) -> Result<(), String> {
    let Ok(message) = scan(datagram) else {
        return Ok(());
    };
    let mut bytes = datagram;
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    // How a start line is read, the twin says; here, that nothing hides its fault.
    let line = line_end(bytes, 0).map(|end| &bytes[..end]);
    let start = match line {
        None => Some(Fault::LineEnd),
        Some(line) => scan(&[line, b"\r\n"].concat())
            .ok()
            .and_then(|alone| alone.fault)
            .filter(|fault| *fault != Fault::Missing),
    };
    let is_request = matches!(message.start, StartLine::Request { .. });
    let (rows, end, body, stop) = match line {
        None => (Vec::new(), message.headers_start as usize, None, None),
        Some(line) => rows(bytes, line.len()),
    };
    let mut length = bytes.len();
    let mut faults = start.into_iter().collect::<Vec<_>>();
    let mut too_short = None;
    for (at, (name, row)) in rows.iter().enumerate() {
        let name = name.as_str();
        if !ONCE.contains(&name) || name == "max-forwards" && !is_request {
            continue;
        }
        if rows[..at].iter().any(|(before, _)| before == name) {
            faults.push(Fault::Duplicate);
            continue;
        }
        let value = row.value.of(bytes);
        let is_sound = match name {
            "call-id" => !value.is_empty() && !value.iter().any(|b| *b == b' ' || is_control(*b)),
            "cseq" => is_cseq(value),
            "max-forwards" => number(value).is_some_and(|hops| hops < 256),
            "content-length" => match (number(value), body) {
                (Some(octets), _) if octets >= 1 << 32 => false,
                (Some(octets), Some(body)) if body as u64 + octets > bytes.len() as u64 => {
                    too_short = Some(Fault::TooShort);
                    true
                }
                (Some(octets), Some(body)) => {
                    length = body + octets as usize;
                    true
                }
                (octets, _) => octets.is_some(),
            },
            _ => true,
        };
        if !is_sound {
            faults.push(Fault::Value);
        }
    }
    let nth = |name: &str, n| {
        let mut found = rows.iter().filter(|(each, _)| each == name);
        found.nth(n).map(|(_, row)| *row)
    };
    let first = |name| nth(name, 0).unwrap_or_default();
    let mandatory = ["via", "call-id", "from", "to", "cseq"];
    let missing = mandatory.iter().any(|name| nth(name, 0).is_none());
    let fault = faults.into_iter().chain(stop).chain(too_short).next();
    let mut fault = fault.or_else(|| missing.then_some(Fault::Missing));
    // A name that a CR by itself ends has both faults: either may be told.
    if fault == Some(Fault::HeaderName)
        && message.fault == Some(Fault::LineEnd)
        && line_end(bytes, end).is_none()
    {
        fault = message.fault;
    }
    let plain = (
        (fault, end, length),
        [nth("via", 0), nth("via", 1), nth("route", 0)],
        [first("call-id"), first("from"), first("to"), first("cseq")],
    );
    let ours = (
        (
            message.fault,
            message.headers_end as usize,
            message.end as usize,
        ),
        [message.via, message.next_via, message.route],
        [message.call_id, message.from, message.to, message.cseq.row],
    );
    if message.bytes == bytes && ours == plain {
        return Ok(());
    }
    let text = datagram.escape_ascii();
    Err(format!("ours:  {ours:?}\nplain: {plain:?}\n{text}"))
}

/// Behind the CRLF that is the first line end from `at` on.
fn line_end(bytes: &[u8], at: usize) -> Option<usize> {
    let found = (at..bytes.len()).find(|i| b"\r\n".contains(&bytes[*i]))?;
    bytes[found..].starts_with(b"\r\n").then_some(found + 2)
}

type Rows = (Vec<Named>, usize, Option<usize>, Option<Fault>);

/// The rows from `at` on, where they end, where the body starts, and what stopped
/// the walk.
fn rows(bytes: &[u8], mut at: usize) -> Rows {
    let mut rows = Vec::new();
    loop {
        let rest = &bytes[at..];
        if rest.starts_with(b"\r\n") {
            return (rows, at, Some(at + 2), None);
        }
        if rest.is_empty() || b"\r\n".contains(&rest[0]) {
            return (rows, at, None, Some(Fault::LineEnd));
        }
        let name = rest.iter().take_while(|octet| is_token(**octet)).count();
        let blanks = rest[name..].iter().take_while(|b| is_blank(**b)).count();
        if name == 0 || rest.get(name + blanks) != Some(&b':') {
            return (rows, at, None, Some(Fault::HeaderName));
        }
        let mut end = at;
        loop {
            let Some(behind) = line_end(bytes, end) else {
                return (rows, at, None, Some(Fault::LineEnd));
            };
            end = behind;
            if !bytes.get(end).copied().is_some_and(is_blank) {
                break;
            }
        }
        let mut value = at + name + blanks + 1..end - 2;
        let is_space = |at: usize| b" \t\r\n".contains(&bytes[at]);
        while !value.is_empty() && is_space(value.start) {
            value.start += 1;
        }
        while !value.is_empty() && is_space(value.end - 1) {
            value.end -= 1;
        }
        let row = Row {
            line: Span::new(at, end),
            value: Span::new(value.start, value.end),
        };
        rows.push((long(&rest[..name]), row));
        at = end;
    }
}

fn long(name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name).to_ascii_lowercase();
    let long = match name.as_str() {
        "v" => "via",
        "i" => "call-id",
        "f" => "from",
        "t" => "to",
        "l" => "content-length",
        other => other,
    };
    long.to_owned()
}

fn is_cseq(value: &[u8]) -> bool {
    let is_space = |octet: &u8| b" \t\r\n".contains(octet);
    let Some(space) = value.iter().position(is_space) else {
        return false;
    };
    let method = value[space..].iter().skip_while(|octet| is_space(octet));
    number(&value[..space]).is_some_and(|number| number < 1 << 32)
        && method.into_iter().all(|octet| is_token(*octet))
}

/// Digits of any number, as their value or, where that is beyond 64 bits, the
/// greatest of these.
fn number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let value = digits.iter().fold(0u64, |value, digit| {
        let digit = u64::from(digit.wrapping_sub(b'0'));
        value.saturating_mul(10).saturating_add(digit)
    });
    is_number.then_some(value)
}

fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&octet)
}

fn is_control(octet: u8) -> bool {
    octet < 32 || octet == 127
}

fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}
