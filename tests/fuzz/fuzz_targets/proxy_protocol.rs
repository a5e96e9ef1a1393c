//! What comes from a front balancer: behind a header that says who sent it,
//! it is decided as if that one had sent it; else it is dropped.
#![no_main]

#[path = "../../support/src/fixture.rs"]
mod fixture;

use std::cell::RefCell;
use std::net::SocketAddr;

use viaduct::proxy::{Decision, Reason, Reply};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

thread_local! {
    static DECIDER: RefCell<fixture::Decider> = RefCell::new(decider());
}

fn front() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 99], 40_000))
}

fn decider() -> fixture::Decider {
    let mut config = fixture::config();
    config.listeners[0].proxy_protocol = vec![front().ip().into()];
    fixture::Decider::new(&config)
}

/// The header behind its signature, read once more: the sender and what it
/// sent.
fn plain(rest: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let length = usize::from(*rest.get(2)?) * 256 + usize::from(*rest.get(3)?);
    let fields = rest.get(4..4 + length)?;
    let payload = &rest[4 + length..];
    let (size, at) = match rest[..2] {
        [0x20, _] => return Some((front(), payload)),
        [0x21, 0x11 | 0x12] => (12, 8),
        [0x21, 0x21 | 0x22] => (36, 32),
        _ => return None,
    };
    let fields = fields.get(..size)?;
    let port = u16::from(fields[at]) * 256 + u16::from(fields[at + 1]);
    let sender = if size == 12 {
        SocketAddr::from((<[u8; 4]>::try_from(&fields[..4]).ok()?, port))
    } else {
        let ip = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&fields[..16]).ok()?);
        SocketAddr::new(ip.to_canonical(), port)
    };
    Some((sender, payload))
}

libfuzzer_sys::fuzz_target!(|rest: &[u8]| {
    DECIDER.with_borrow_mut(|decider| {
        let wrapped = decider.decide(&[SIGNATURE, rest].concat(), front()).0;
        let Some((sender, payload)) = plain(rest) else {
            assert_eq!(wrapped, Decision::Drop(Reason::ProxyHeader));
            return;
        };
        if let Decision::Reply(reply) = wrapped {
            assert_eq!((reply.sender, reply.to.ip()), (sender.ip(), front().ip()));
        }
        // By itself the balancer cannot send anything.
        if sender.ip() == front().ip() {
            return;
        }
        if let Decision::Forward(plain) = decider.decide(payload, sender).0 {
            match wrapped {
                Decision::Forward(wrapped) => {
                    assert_eq!((wrapped.to, wrapped.way), (plain.to, plain.way));
                }
                // `rport` was one edit too many.
                Decision::Reply(Reply { reason, .. }) | Decision::Drop(reason) => {
                    assert_eq!(reason, Reason::Route);
                }
                Decision::Resolve => unreachable!("names are not resolved here"),
            }
        }
    });
});
