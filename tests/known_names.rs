//! What is known of names, and what waits for them, as far as a decision goes.

use std::net::SocketAddr;

use support::dialog::Request;
use support::fixture;
use viaduct::config::HostPort;
use viaduct::proxy::{Datagram, Decision, MAX_NAMES, Proxy, Reason, Scratch, Server};
use viaduct::sip::MAX_DATAGRAM;

/// What the proxy of the fixture decides on a request of a member that names
/// `host`.
fn decide(proxy: &Proxy, scratch: &mut Scratch, host: &str) -> Decision {
    let source = fixture::destination(0);
    let text = Request::new("BYE", source)
        .uri(format!("sip:{host}:5070"))
        .text();
    let datagram = Datagram {
        bytes: text.as_bytes(),
        source,
        listener: 0,
    };
    proxy.decide(&datagram, scratch, &mut vec![0; MAX_DATAGRAM])
}

fn host(number: usize) -> HostPort {
    HostPort {
        host: format!("n{number}.test"),
        port: Some(5070),
    }
}

fn somewhere() -> Vec<Server> {
    vec![Server {
        weight: 0,
        addresses: vec![SocketAddr::from(([192, 0, 2, 77], 5070))],
    }]
}

#[test]
fn what_is_known_of_names_is_bounded_and_expires() {
    let proxy = Proxy::new(&fixture::config(), fixture::secret());
    let mut scratch = proxy.scratch();
    let known = |scratch: &mut Scratch, number| {
        let decision = decide(&proxy, scratch, &host(number).host);
        let asks = matches!(decision, Decision::Resolve);
        assert!(
            asks || matches!(decision, Decision::Forward(_)),
            "{decision:?}"
        );
        !asks
    };
    // The first ones expire last.
    for number in 0..MAX_NAMES + 100 {
        let until = 10_000 - number as u64;
        scratch.names_mut().learn(host(number), somewhere(), until);
    }
    let kept = |scratch: &mut Scratch| (0..MAX_NAMES + 100).filter(|&n| known(scratch, n)).count();
    assert_eq!(kept(&mut scratch), MAX_NAMES);
    assert!(known(&mut scratch, 0) && known(&mut scratch, MAX_NAMES + 99));
    assert!(!known(&mut scratch, MAX_NAMES));
    scratch.names_mut().forget(9_500);
    assert!(known(&mut scratch, 499) && !known(&mut scratch, 500));
    scratch.names_mut().forget(10_000);
    assert_eq!(kept(&mut scratch), 0);
}

#[test]
fn no_more_requests_than_256_wait_for_a_name() {
    let proxy = Proxy::new(&fixture::config(), fixture::secret());
    let mut scratch = proxy.scratch();
    for number in 0..256 {
        let decision = decide(&proxy, &mut scratch, &host(number).host);
        assert!(matches!(decision, Decision::Resolve), "{decision:?}");
        assert_eq!(scratch.names_mut().hold().host, host(number).host);
    }
    let Decision::Reply(reply) = decide(&proxy, &mut scratch, "one-more.test") else {
        panic!("it waits, too");
    };
    assert_eq!(reply.reason, Reason::TooManyNames);
    assert_eq!(reply.status.code(), 503);
    // What is known is asked for by nobody.
    scratch.names_mut().learn(host(0), somewhere(), 1);
    let decision = decide(&proxy, &mut scratch, &host(0).host);
    assert!(matches!(decision, Decision::Forward(_)), "{decision:?}");
    let decision = decide(&proxy, &mut scratch, "one-more.test");
    assert!(matches!(decision, Decision::Resolve), "{decision:?}");
}
