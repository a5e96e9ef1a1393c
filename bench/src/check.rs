//! What is looked at in full, on a sample of the calls: does the balancer do
//! what RFC 3261 §16 asks of it? It counts, and keeps the first complaint.

use std::net::SocketAddrV4;

use memchr::memmem;
use serde::Serialize;

use crate::message::{MAX_FORWARDS, headers};

/// One call in so many is checked: a prime, so that no kind of call, which come by
/// turns, is left out.
pub(crate) const SAMPLE: u64 = 61;

/// What the checks of a load found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Checks {
    /// Messages checked.
    pub(crate) checked: u64,
    /// Messages with something wrong.
    pub(crate) failed: u64,
    /// What was wrong first, with the message.
    pub(crate) first_failure: Option<String>,
}

impl Checks {
    /// Counts one message and the result of its check.
    pub(crate) fn note(&mut self, result: Result<(), String>, message: &[u8]) {
        self.checked += 1;
        if let Err(reason) = result {
            self.failed += 1;
            self.first_failure
                .get_or_insert_with(|| format!("{reason}\n{}", String::from_utf8_lossy(message)));
        }
    }
}

/// What lies between caller and farm.
#[derive(Clone, Copy)]
pub(crate) enum Between {
    /// A SIP proxy with this sent-by.
    Proxy(SocketAddrV4),
    /// A forwarder that changes nothing, or nothing at all.
    Bare,
}

/// Checks a request at the farm against `written`, as the caller wrote it:
/// a proxy puts its Via on top, completes the caller's and takes one from
/// Max-Forwards, and changes nothing else.
pub(crate) fn request(message: &[u8], written: &[u8], between: Between) -> Result<(), String> {
    let proxy = match between {
        Between::Bare => {
            return expect(message == written, "the request changed");
        }
        Between::Proxy(proxy) => proxy,
    };
    let mut came = headers(message);
    let top = came.next().and_then(via).unwrap_or_default();
    let own = top.strip_prefix("SIP/2.0/UDP ").unwrap_or_default();
    let sent_by = own.split(';').next().unwrap_or_default();
    expect(names(sent_by, proxy), "the top Via is not the balancer's")?;
    expect(own.contains(";branch=z9hG4bK"), "no z9hG4bK branch on top")?;
    let mut left = headers(written);
    loop {
        let (came, left) = match (came.next(), left.next()) {
            (None, None) => break,
            (came, left) => (came.unwrap_or_default(), left.unwrap_or_default()),
        };
        if left.starts_with(b"Via:") {
            let same = came.starts_with(b"Via: SIP/2.0/UDP ") && same_via(came, left);
            expect(same, "the caller's Via changed")?;
        } else if left.starts_with(b"Max-Forwards:") {
            let less = (MAX_FORWARDS - 1).to_string();
            let came = padded(came, b"Max-Forwards:");
            expect(came == Some(less.as_str()), "Max-Forwards is not one less")?;
        } else {
            expect(came == left, "a header changed")?;
        }
    }
    expect(
        start_line(message) == start_line(written),
        "the start line changed",
    )?;
    expect(body(message) == body(written), "the body changed")
}

/// Checks a response at the caller, whose own Via is that of `written`.
pub(crate) fn response(message: &[u8], written: &[u8]) -> Result<(), String> {
    let vias = |message| headers(message).filter(|line: &&[u8]| line.starts_with(b"Via:"));
    expect(vias(message).count() == 1, "there is not one Via")?;
    expect(
        vias(message)
            .zip(vias(written))
            .all(|(came, left)| same_via(came, left)),
        "the caller's Via changed",
    )?;
    for name in ["Call-ID", "CSeq", "From"] {
        expect(
            value(message, name).is_some() && value(message, name) == value(written, name),
            "Call-ID, CSeq or From changed",
        )?;
    }
    let length = value(message, "Content-Length").and_then(|digits| digits.parse().ok());
    expect(
        length == Some(body(message).len()),
        "Content-Length is not that of the body",
    )
}

/// Checks that a response at the caller is `left`, which the farm would have sent
/// to the caller itself, but for its Vias. A body that is `filling` is as much
/// shorter as they were longer at the farm.
pub(crate) fn unchanged(message: &[u8], left: &[u8], filling: bool) -> Result<(), String> {
    let apart = |line: &&[u8]| !line.starts_with(b"Via:") && !line.starts_with(b"Content-Length:");
    let rows = |message| headers(message).filter(apart);
    expect(
        start_line(message) == start_line(left),
        "the start line changed",
    )?;
    expect(rows(message).eq(rows(left)), "a header changed")?;
    let (came, left) = (body(message), body(left));
    let same = came == left || filling && left.starts_with(came);
    expect(same, "the body changed")
}

/// Whether a sent-by names `address`; 5060 may go without saying.
fn names(sent_by: &str, address: SocketAddrV4) -> bool {
    sent_by == address.to_string()
        || (address.port() == 5060 && sent_by == address.ip().to_string())
}

/// The value of a line that begins with `name`, without the white space that
/// may stand before it (Viaduct pads there).
fn padded<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let value = std::str::from_utf8(line.strip_prefix(name)?).ok()?;
    Some(value.trim_start_matches([' ', '\t']))
}

fn via(line: &[u8]) -> Option<&str> {
    padded(line, b"Via:")
}

/// Whether both lines have the same Via, but for `rport` and `received`.
fn same_via(one: &[u8], other: &[u8]) -> bool {
    let bare = |line| {
        let parts = via(line)?.split(';');
        let own = parts.filter(|part| !part.starts_with("rport") && !part.starts_with("received="));
        Some(own.collect::<Vec<_>>())
    };
    bare(one).is_some() && bare(one) == bare(other)
}

/// The value of the first header `name`, as text.
fn value<'a>(message: &'a [u8], name: &str) -> Option<&'a str> {
    headers(message).find_map(|line| {
        std::str::from_utf8(line)
            .ok()?
            .strip_prefix(name)?
            .strip_prefix(": ")
    })
}

fn start_line(message: &[u8]) -> &[u8] {
    memmem::find(message, b"\r\n").map_or(message, |end| &message[..end])
}

fn body(message: &[u8]) -> &[u8] {
    memmem::find(message, b"\r\n\r\n").map_or(&[], |end| &message[end + 4..])
}

/// `Ok` if `holds`, else the complaint.
pub(crate) fn expect(holds: bool, complaint: &str) -> Result<(), String> {
    if holds {
        Ok(())
    } else {
        Err(complaint.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Form, Kind, Pass, Tail, Template};

    const PROXY: &str = "127.0.0.1:5060";

    fn written() -> String {
        let mut out = Vec::new();
        let caller = "127.0.0.1:40001".parse().expect("an address");
        Template::request(Kind::Call, Pass::Request, 9, Form::Usual, caller, 1).write(1, &mut out);
        String::from_utf8(out).expect("text")
    }

    fn proxied() -> String {
        written()
            .replacen(
                "Via: ",
                &format!("Via: SIP/2.0/UDP {PROXY};branch=z9hG4bKx\r\nVia: "),
                1,
            )
            .replacen(";rport;", ";rport=40001;received=127.0.0.1;", 1)
            .replacen("Max-Forwards: 70", "Max-Forwards: 69", 1)
    }

    fn check(message: &str) -> Result<(), String> {
        let proxy = Between::Proxy(PROXY.parse().expect("an address"));
        request(message.as_bytes(), written().as_bytes(), proxy)
    }

    #[test]
    fn a_rightly_proxied_request_passes() {
        assert_eq!(check(&proxied()), Ok(()));
    }

    #[test]
    fn white_space_before_the_topmost_vias_value_is_no_change() {
        let padded = proxied().replacen("Via: ", "Via:     ", 1);
        assert_eq!(check(&padded), Ok(()));
        let below = padded.replacen(
            "\r\nVia: SIP/2.0/UDP 127.0.0.1:40001",
            "\r\nVia:  SIP/2.0/UDP 127.0.0.1:40001",
            1,
        );
        assert_ne!(below, padded);
        assert!(check(&below).is_err());
    }

    #[test]
    fn the_default_port_may_be_left_out() {
        let short = proxied().replacen(PROXY, "127.0.0.1", 1);
        assert_eq!(check(&short), Ok(()));
        assert!(!names(
            "127.0.0.1",
            "127.0.0.1:5061".parse().expect("an address")
        ));
    }

    #[test]
    fn each_fault_of_a_proxy_is_found() {
        let good = proxied();
        for (from, to) in [
            (PROXY, "127.0.0.1:5061"),
            ("z9hG4bKx", "x"),
            ("Max-Forwards: 69", "Max-Forwards: 70"),
            ("Call-ID: 0", "Call-ID: 1"),
            ("z9hG4bK00000001INVITE", "z9hG4bK00000001invite"),
            ("a=sendrecv", "a=sendonly"),
            ("+4930", "+4931"),
            ("Supported: replaces", "Supported:  replaces"),
            ("User-Agent: Viaduct bench\r\n", ""),
            ("Content-Type", "X-Other: 1\r\nContent-Type"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the message");
            assert!(check(&bad).is_err(), "{from} -> {to} went unnoticed");
        }
        assert!(check(&written()).is_err());
    }

    #[test]
    fn a_bare_forwarder_may_change_nothing() {
        let bare = |message: &str| request(message.as_bytes(), written().as_bytes(), Between::Bare);
        assert_eq!(bare(&written()), Ok(()));
        assert!(bare(&proxied()).is_err());
    }

    #[test]
    fn a_response_must_come_back_with_the_callers_via_alone() {
        let farm = "127.0.0.1:5071".parse().expect("an address");
        let answer = |request: &str| {
            let mut out = Vec::new();
            Tail::new(Kind::Call, Pass::Answer, 0, Form::Usual, farm).write(
                request.as_bytes(),
                1,
                &mut out,
            );
            response(&out, written().as_bytes())
        };
        assert_eq!(answer(&written()), Ok(()));
        let padded = |message: &[u8]| {
            let text = String::from_utf8_lossy(message);
            response(
                text.replacen("Via: ", "Via:    ", 1).as_bytes(),
                written().as_bytes(),
            )
        };
        let mut out = Vec::new();
        Tail::new(Kind::Call, Pass::Answer, 0, Form::Usual, farm).write(
            written().as_bytes(),
            1,
            &mut out,
        );
        assert_eq!(padded(&out), Ok(()));
        assert!(answer(&proxied()).is_err());
    }

    #[test]
    fn each_change_of_a_response_is_found() {
        let farm = "127.0.0.1:5071".parse().expect("an address");
        let answer = |request: &str, form| {
            let mut out = Vec::new();
            let tail = Tail::new(Kind::Call, Pass::Answer, 0, form, farm);
            tail.write(request.as_bytes(), 1, &mut out);
            String::from_utf8(out).expect("text")
        };
        let is_same = |came: &str, left: &str, filling| {
            unchanged(came.as_bytes(), left.as_bytes(), filling).is_ok()
        };
        let left = answer(&written(), Form::Usual);
        let good = answer(&proxied(), Form::Usual);
        assert!(is_same(&good, &left, false));
        for (from, to) in [
            ("200 OK", "200 Ok"),
            ("+4930", "+4931"),
            ("Contact: <sip:farm@farm.example>\r\n", ""),
            ("Allow:", "Allow: PRACK,"),
            ("a=sendrecv", "a=sendonly"),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good, "{from} is not in the message");
            assert!(
                !is_same(&bad, &left, false),
                "{from} -> {to} went unnoticed"
            );
        }
        let filled = |request: &str| answer(request, Form::Filled(900));
        assert!(is_same(&filled(&proxied()), &filled(&written()), true));
    }
}
