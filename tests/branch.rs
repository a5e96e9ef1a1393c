//! The MAC in our branch, seen from outside: what shares it, what changes it,
//! and that a response without it goes nowhere (RFC 3261 §16.11), nor one with
//! it to what is no host.

use std::net::SocketAddr;

use support::fixture::{self, Decider, answer, caller, destination};
use support::twin;
use viaduct::config::Listener;
use viaduct::proxy::{Datagram, Decision, Proxy, Reason};
use viaduct::sip::MAX_DATAGRAM;

/// A request without a To tag, and the stretches of it that the MAC covers.
const PLAIN: &str = "INVITE sip:desk@farm.test SIP/2.0\r\n\
    Via: SIP/2.0/UDP phone.test:5070;maddr=phone.test;branch=z9hG4bKa1b2\r\n\
    Max-Forwards: 70\r\n\
    From: Ann <sip:ann@phone.test>;tag=f1\r\n\
    To: <sip:desk@farm.test>\r\n\
    Call-ID: c1@phone.test\r\n\
    CSeq: 7 INVITE\r\n\
    Subject: hello\r\n\r\n";
const COVERED: [&str; 7] = [
    "phone.test:",
    "5070",
    "maddr=phone.test",
    "a1b2",
    "f1",
    "c1@phone.test",
    "7 ",
];

/// The branch that a request is sent on with, and where to.
fn branch(decider: &mut Decider, request: &str, source: SocketAddr) -> (Vec<u8>, SocketAddr) {
    let (decision, output) = decider.decide(request.as_bytes(), source);
    let Decision::Forward(forward) = decision else {
        panic!("{decision:?}: {request}");
    };
    let twin = twin::read(output).expect("a request");
    (twin.top_via.branch.expect("a branch"), forward.to)
}

#[test]
fn each_octet_that_is_covered_counts() {
    let mut decider = Decider::default();
    let invite = branch(&mut decider, PLAIN, caller()).0;
    let mut seen = vec![invite];
    for part in COVERED {
        let start = PLAIN.find(part).expect("a part of the request");
        let name = part.find('=').map_or(0, |equals| equals + 1);
        for at in start + name..start + part.trim_end_matches([':', ' ']).len() {
            for new in ["1", "2"] {
                let mut changed = PLAIN.to_owned();
                if PLAIN[at..].starts_with(new) {
                    continue;
                }
                changed.replace_range(at..=at, new);
                let changed = branch(&mut decider, &changed, caller()).0;
                assert!(!seen.contains(&changed), "{part}, {at}");
                seen.push(changed);
            }
        }
    }
}

/// Whoever changes a mark has to change the format of what an upgrade hands over:
/// what is on its way would be refused by the program that follows.
#[test]
fn the_marks_stay_what_they_are() {
    let mut config = fixture::config();
    config.listeners[0].record_route = true;
    let mut decider = Decider::new(&config);
    let (_, forwarded) = decider.decide(PLAIN.as_bytes(), caller());
    let forwarded = String::from_utf8_lossy(forwarded).into_owned();
    let (_, bare) = decider.decide(PLAIN.replace("z9hG4bK", "").as_bytes(), caller());
    let bare = String::from_utf8_lossy(bare).into_owned();
    let last = PLAIN.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let (_, reply) = decider.decide(last.as_bytes(), caller());
    let reply = String::from_utf8_lossy(reply).into_owned();
    for (text, mark) in [
        (&forwarded, "branch=z9hG4bKs00c746af07fdde9657\r"),
        (
            &forwarded,
            "Record-Route: <sip:d00001cb9fdabdd35973aac2fd3c8cc789b5a@",
        ),
        (&bare, "branch=z9hG4bKo008d11522eb8c506f4b07f7ba6e9a06dc1\r"),
        (&reply, "<sip:desk@farm.test>;tag=3b7a4dd5671154e1\r"),
    ] {
        assert!(text.contains(mark), "{mark} in\n{text}");
    }
}

#[test]
fn the_way_home_counts() {
    let mut decider = Decider::default();
    let rport = PLAIN.replace(";branch", ";rport;branch");
    let elsewhere = SocketAddr::from(([203, 0, 113, 8], caller().port()));
    let other_port = SocketAddr::new(caller().ip(), caller().port() + 1);
    let one = branch(&mut decider, PLAIN, caller());
    assert_ne!(branch(&mut decider, PLAIN, elsewhere).0, one.0);
    // Without rport the port of the source says nothing (RFC 3581 §4).
    assert_eq!(branch(&mut decider, PLAIN, other_port), one);
    let home = branch(&mut decider, &rport, caller());
    assert_ne!(branch(&mut decider, &rport, other_port).0, home.0);
}

#[test]
fn without_a_cookie_the_request_uri_counts_too() {
    let mut decider = Decider::default();
    let other = |plain: &str| plain.replace("INVITE sip:desk", "INVITE sip:door");
    let one = branch(&mut decider, PLAIN, caller());
    assert_eq!(branch(&mut decider, &other(PLAIN), caller()), one);
    for plain in [
        PLAIN.replace("z9hG4bKa1b2", "a1b2"),
        PLAIN.replace(";branch=z9hG4bKa1b2", ""),
    ] {
        let one = branch(&mut decider, &plain, caller()).0;
        assert_ne!(branch(&mut decider, &other(&plain), caller()).0, one);
    }
}

#[test]
fn the_listener_counts() {
    let mut config = fixture::config();
    config.listeners.push(Listener {
        name: "second".to_owned(),
        address: SocketAddr::from(([192, 0, 2, 11], 5060)),
        advertise: None,
        also_known_as: Vec::new(),
        proxy_protocol: Vec::new(),
        record_route: false,
        path: false,
        egress: Vec::new(),
    });
    let proxy = Proxy::new(&config, fixture::secret());
    let decide = |listener| {
        let mut out = vec![0; MAX_DATAGRAM];
        let datagram = Datagram {
            bytes: PLAIN.as_bytes(),
            source: caller(),
            listener,
        };
        let Decision::Forward(forward) = proxy.decide(&datagram, &mut proxy.scratch(), &mut out)
        else {
            panic!("not sent on");
        };
        let twin = twin::read(&out[..forward.length]).expect("a request");
        twin.top_via.branch.expect("a branch")
    };
    let mac = |branch: &[u8]| branch[branch.len() - 16..].to_vec();
    assert_ne!(mac(&decide(1)), mac(&decide(0)));
}

#[test]
fn a_response_with_another_octet_in_what_is_covered_is_dropped() {
    let mut decider = Decider::default();
    for plain in [PLAIN.to_owned(), PLAIN.replace("z9hG4bKa1b2", "a1b2")] {
        let (_, forwarded) = decider.decide(plain.as_bytes(), caller());
        let response = answer(forwarded, "SIP/2.0 180 Ringing");
        let text = String::from_utf8(response).expect("text");
        let decide =
            |decider: &mut Decider, text: &str| decider.decide(text.as_bytes(), destination(0)).0;
        assert!(matches!(decide(&mut decider, &text), Decision::Forward(_)));
        // Neither reason phrase, To tag, status nor what nobody reads is.
        for (old, new) in [
            ("180 Ringing", "200 "),
            ("desk@farm.test>", "desk@farm.test>;tag=t1"),
            ("hello", "again"),
            ("Ann", "Bob"),
        ] {
            let changed = text.replacen(old, new, 1);
            assert!(
                matches!(decide(&mut decider, &changed), Decision::Forward(_)),
                "{old}"
            );
        }
        let own = text.find("branch=z9hG4bK").expect("our branch") + "branch=z9hG4bK".len();
        let own_end = own + text[own..].find('\r').expect("its end");
        let below = text.find("phone.test:5070").expect("the sender's Via");
        let below_end = below + text[below..].find('\r').expect("its end");
        let value = |name: &str| {
            let start = text.find(name).expect("a header") + name.len();
            start..start + text[start..].find('\r').expect("its end")
        };
        let tag = text.find("tag=f1").expect("a tag") + 4;
        let number = value("CSeq: ").start;
        for range in [
            own..own_end,
            below..below_end,
            tag..tag + 2,
            value("Call-ID: "),
            number..number + 1,
        ] {
            for at in range {
                let old = text.as_bytes()[at];
                // A delimiter changed is another grammar; a letter is not.
                let new = match old {
                    b'0'..=b'8' => old + 1,
                    b'9' => b'0',
                    b'a'..=b'y' | b'A'..=b'Y' => old + 1,
                    _ => continue,
                };
                let mut changed = text.clone().into_bytes();
                changed[at] = new;
                let changed = String::from_utf8(changed).expect("text");
                let decision = decide(&mut decider, &changed);
                assert!(
                    matches!(decision, Decision::Drop(_)),
                    "{decision:?}: {changed}"
                );
            }
        }
    }
}

/// No socket that tests can have sends from there.
#[test]
fn nothing_goes_back_to_a_source_that_is_no_host() {
    let mut decider = Decider::default();
    let invite = String::from_utf8(fixture::invite()).expect("text");
    let last = invite.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let (decision, _) = decider.decide(last.as_bytes(), caller());
    assert!(matches!(decision, Decision::Reply(_)), "{decision:?}");
    for source in [
        "255.255.255.255:5062",
        "224.0.0.1:5062",
        "0.0.0.0:5062",
        "[ff02::1]:5062",
    ] {
        let source: SocketAddr = source.parse().expect("an address");
        let (decision, there) = decider.decide(invite.as_bytes(), source);
        assert!(
            matches!(decision, Decision::Forward(_)),
            "{source}: {decision:?}"
        );
        let response = answer(there, "SIP/2.0 200 OK");
        let (decision, _) = decider.decide(&response, destination(0));
        assert_eq!(
            decision,
            Decision::Drop(Reason::ForbiddenNextHop),
            "{source}"
        );
        let (decision, _) = decider.decide(last.as_bytes(), source);
        assert!(
            matches!(decision, Decision::Drop(_)),
            "{source}: {decision:?}"
        );
    }
}
