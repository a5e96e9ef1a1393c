//! What is looked at in full, on a sample of the calls: does the balancer do
//! what RFC 3261 §16 asks of it? It counts, and keeps the first complaint.

use std::net::{IpAddr, SocketAddr};

use memchr::memmem;
use serde::Serialize;

use crate::message::{MAX_FORWARDS, headers};

/// One call in so many is checked.
pub(crate) const SAMPLE: u64 = 64;

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
    Proxy(SocketAddr),
    /// A forwarder that changes nothing.
    Bare,
}

/// Checks a request at the farm against `written`, as the caller wrote it.
pub(crate) fn request(message: &[u8], written: &[u8], between: Between) -> Result<(), String> {
    let proxy = match between {
        Between::Bare => {
            return expect(message == written, "the request changed");
        }
        Between::Proxy(proxy) => proxy,
    };
    let vias = values(message, "Via");
    let [top, bottom] = vias[..] else {
        return Err(format!("{} Vias where 2 belong", vias.len()));
    };
    let own = top.strip_prefix("SIP/2.0/UDP ").unwrap_or_default();
    let sent_by = own.split(';').next().unwrap_or_default();
    expect(names(sent_by, proxy), "the top Via is not the balancer's")?;
    expect(own.contains(";branch=z9hG4bK"), "no z9hG4bK branch on top")?;
    expect(
        same_via(bottom, &values(written, "Via")),
        "the caller's Via changed",
    )?;
    expect(
        values(message, "Max-Forwards") == [(MAX_FORWARDS - 1).to_string()],
        "Max-Forwards is not one less",
    )?;
    for name in ["Call-ID", "CSeq", "From", "To"] {
        expect(
            values(message, name) == values(written, name),
            "Call-ID, CSeq, From or To changed",
        )?;
    }
    expect(body(message) == body(written), "the body changed")
}

/// Checks a response at the caller, whose own Vias are those of `written`.
pub(crate) fn response(message: &[u8], written: &[u8]) -> Result<(), String> {
    let vias = values(message, "Via");
    let [via] = vias[..] else {
        return Err(format!("{} Vias where 1 belongs", vias.len()));
    };
    expect(
        same_via(via, &values(written, "Via")),
        "the caller's Via changed",
    )?;
    for name in ["Call-ID", "CSeq", "From"] {
        expect(
            values(message, name) == values(written, name),
            "Call-ID, CSeq or From changed",
        )?;
    }
    let length = values(message, "Content-Length");
    expect(
        length == [body(message).len().to_string()],
        "Content-Length is not that of the body",
    )
}

/// Whether a sent-by names `address`; 5060 may go without saying.
fn names(sent_by: &str, address: SocketAddr) -> bool {
    let host = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    sent_by == address.to_string() || (address.port() == 5060 && sent_by == host)
}

/// Whether `via` is the one of `written`, but for `rport` and `received`.
fn same_via(via: &str, written: &[&str]) -> bool {
    let bare = |via: &str| {
        via.split(';')
            .filter(|part| !part.starts_with("rport") && !part.starts_with("received="))
            .collect::<Vec<_>>()
            .join(";")
    };
    matches!(written, [one] if bare(one) == bare(via))
}

/// The values of every header `name`, as text; none that are not UTF-8. A
/// balancer may put white space before them.
fn values<'a>(message: &'a [u8], name: &str) -> Vec<&'a str> {
    headers(message)
        .filter_map(|line| {
            let row = std::str::from_utf8(line).ok()?;
            let value = row.strip_prefix(name)?.strip_prefix(": ")?;
            Some(value.trim_start_matches(' '))
        })
        .collect()
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
    use crate::message::{Pass, Tail, Template};

    const PROXY: &str = "127.0.0.1:5060";

    fn written() -> String {
        let mut out = Vec::new();
        let caller = "127.0.0.1:40001".parse().expect("an address");
        Template::request(Pass::Invite, 0, caller, 1).write(1, &mut out);
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
    fn the_default_port_may_be_left_out() {
        let short = proxied().replacen(PROXY, "127.0.0.1", 1);
        assert_eq!(check(&short), Ok(()));
        assert!(!names(
            "127.0.0.1",
            "127.0.0.1:5061".parse().expect("an address")
        ));
        assert!(names("[::1]", "[::1]:5060".parse().expect("an address")));
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
            Tail::new(Pass::Answer, farm).write(request.as_bytes(), 1, &mut out);
            response(&out, written().as_bytes())
        };
        assert_eq!(answer(&written()), Ok(()));
        assert!(answer(&proxied()).is_err());
    }
}
