//! What Viaduct answers itself, and what it never answers: replies as a
//! stateless UAS makes them, small, to the sender alone, and limited in rate
//! (RFC 3261 §8.2.6, §8.2.7, §16.3, §21, §26.1.5).

use std::net::SocketAddr;
use std::time::Instant;

use support::dialog::{Peer, Request, Scene, assert_octets, read, status};
use support::fixture;
use viaduct::config::State;
use viaduct::proxy::{Datagram, Part, Proxy, ReplyLimiter};
use viaduct::sip::MAX_DATAGRAM;

/// Octets that a reply may have above its request: the status line for a
/// request line (25), our To tag (21), `received` and `rport` (55 with the
/// longest IPv6 address), Content-Length (19) and an empty line (2).
const MOST_GROWTH: usize = 122;

/// A request that is answered, the status, and the rows beside the copied.
fn refused(scene: &Scene) -> Vec<(String, &'static str)> {
    let plain = || scene.request("INVITE");
    let text = || plain().text();
    vec![
        (text().replace("Length: 0", "Length: 9"), "400 Bad Request"),
        (text().replace("Length: 0", "Length: -1"), "400 Bad Request"),
        (
            text().replace("Length: 0", "Length: 4294967296"),
            "400 Bad Request",
        ),
        (
            text().replace("Length: 0", "Length: 18446744073709551616"),
            "400 Bad Request",
        ),
        (plain().row("l: 0").text(), "400 Bad Request"),
        (plain().row("Call-ID: other").text(), "400 Bad Request"),
        (
            plain().row("f: <sip:other@a.example>").text(),
            "400 Bad Request",
        ),
        (plain().row("Max-Forwards: 70").text(), "400 Bad Request"),
        (
            plain().max_forwards("Max-Forwards: 256").text(),
            "400 Bad Request",
        ),
        (plain().row("no colon").text(), "400 Bad Request"),
        (plain().row(": no name before it").text(), "400 Bad Request"),
        (plain().row("control\u{1}: x").text(), "400 Bad Request"),
        (plain().row("bare: \n").text(), "400 Bad Request"),
        (plain().row("bare: \rx").text(), "400 Bad Request"),
        (text().replace(": 0\r\n\r\n", ": 0\r\n"), "400 Bad Request"),
        (plain().uri("<sip:a@b.example>").text(), "400 Bad Request"),
        (
            plain().uri("sip:a@b.example?subject=x").text(),
            "400 Bad Request",
        ),
        (plain().uri("sip:a b@c.example").text(), "400 Bad Request"),
        (plain().uri(" sip:a@c.example").text(), "400 Bad Request"),
        (plain().uri("desk").text(), "400 Bad Request"),
        (text().replace("1 INVITE", "1 OPTIONS"), "400 Bad Request"),
        (plain().row("Route: <sip:>").text(), "400 Bad Request"),
        (
            plain().uri("mailto:a@b.example").text(),
            "416 Unsupported URI Scheme",
        ),
        (
            plain().max_forwards("Max-Forwards: 0").text(),
            "483 Too Many Hops",
        ),
        (
            scene
                .request("OPTIONS")
                .max_forwards("Max-Forwards: 00")
                .text(),
            "483 Too Many Hops",
        ),
        (
            scene.request("WINK").text().replace("1 WINK", "1 NOD"),
            "501 Not Implemented",
        ),
        (
            text().replacen("SIP/2.0", "SIP/3.0", 1),
            "505 Version Not Supported",
        ),
    ]
}

/// The value of the only tag that `reply` has and its request has not.
fn own_tag(reply: &[u8]) -> String {
    let tag = read(reply).to.tag.expect("a To tag");
    String::from_utf8(tag).expect("a token")
}

/// The reply that `request` of [`Request::text`] must get.
fn wanted(request: &str, status: &str, tag: &str) -> String {
    let row = |name: &str| {
        let start = request.find(&format!("\r\n{name}: ")).expect(name) + 2;
        let end = start + request[start..].find("\r\n").expect("its end") + 2;
        &request[start..end]
    };
    let to = row("To").trim_end();
    format!(
        "SIP/2.0 {status}\r\n{}{}{to};tag={tag}\r\n{}{}Content-Length: 0\r\n\r\n",
        row("Via"),
        row("From"),
        row("Call-ID"),
        row("CSeq")
    )
}

#[test]
fn each_fault_has_its_reply() {
    let scene = Scene::new(1, &["--reply-rate", "1000"]);
    for (request, status) in refused(&scene) {
        let answer = scene.answer(&request);
        assert_octets(&answer, wanted(&request, status, &own_tag(&answer)));
        assert!(answer.len() <= request.len() + MOST_GROWTH);
        // The same again is answered the same, octet for octet (§8.2.7).
        assert_octets(scene.answer(&request), &answer);
    }
    scene.assert_nothing_left();
}

#[test]
fn a_reply_copies_what_it_must_in_its_order_and_nothing_else() {
    let scene = Scene::new(1, &[]);
    let SocketAddr::V4(source) = scene.caller.address() else {
        panic!("an IPv4 caller")
    };
    let port = source.port();
    let sent = "INVITE sip:a@b.example SIP/2.0\r\n\
         CSeq:  7\r\n INVITE\r\n\
         X-Any: not copied\r\n\
         t : \"B; \u{e9}\" <sip:b@b.example>;tag=kept\r\n\
         v: SIP/2.0/UDP phone.example ;rport\r\n ;branch=z9hG4bKr , SIP/2.0/TCP below.example\r\n\
         Proxy-Require: tides , foam\r\n\
         i:abc\r\n\
         Via: SIP/2.0/WS lower.invalid\r\n\
         proxy-require:moon\r\n\
         FROM: <sip:a@a.example>\r\n\
         VIA: SIP/2.0/TLS lowest.example;x=\",\"\r\n\
         Max-Forwards: 9\r\n\
         Content-Length: 4\r\n\r\nbody";
    let wanted = format!(
        "SIP/2.0 420 Bad Extension\r\n\
         v: SIP/2.0/UDP phone.example;received=127.0.0.1;rport={port}\r\n ;branch=z9hG4bKr , SIP/2.0/TCP below.example\r\n\
         Via: SIP/2.0/WS lower.invalid\r\n\
         VIA: SIP/2.0/TLS lowest.example;x=\",\"\r\n\
         FROM: <sip:a@a.example>\r\n\
         t : \"B; \u{e9}\" <sip:b@b.example>;tag=kept\r\n\
         i:abc\r\n\
         CSeq:  7\r\n INVITE\r\n\
         Unsupported: tides , foam\r\n\
         Unsupported: moon\r\n\
         Content-Length: 0\r\n\r\n"
    );
    assert_octets(scene.answer(sent), wanted);
}

/// Two tags, or one within its URI, would be read by some as another dialog's.
#[test]
fn a_to_that_cannot_be_read_comes_back_as_it_came() {
    let scene = Scene::new(1, &[]);
    for to in ["<sip:bob@b.example>;tag=", "<sip:bob@b.example"] {
        let answer = scene.answer(scene.request("OPTIONS").to(to).text());
        let text = String::from_utf8(answer).expect("text");
        assert!(text.starts_with("SIP/2.0 400 "), "{text}");
        assert!(text.contains(&format!("\r\nTo: {to}\r\n")), "{text}");
    }
}

#[test]
fn replies_are_told_apart_by_their_tags() {
    let scene = Scene::new(1, &[]);
    let plain = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    let mut other_number = plain.clone();
    other_number.cseq = 2;
    let mut tags: Vec<String> = [
        plain.clone(),
        plain.clone().call_id("another"),
        plain.clone().from("<sip:ann@phones.example>;tag=another"),
        plain
            .clone()
            .via(plain.via.replace("z9hG4bK", "z9hG4bKanother")),
        other_number,
    ]
    .iter()
    .map(|request| own_tag(&scene.answer(request.text())))
    .collect();
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 5, "{tags:?}");
}

#[test]
fn ack_and_cancel_are_never_answered() {
    let scene = Scene::new(1, &["--reply-rate", "1000"]);
    for method in ["ACK", "CANCEL"] {
        for (request, _) in refused(&scene) {
            let method_line = request.split(' ').next().expect("a method");
            let request = request.replace(method_line, method);
            scene.send(request);
        }
    }
    scene.assert_nothing_left();
}

#[test]
fn proxy_require_does_not_hold_ack_and_cancel() {
    let scene = Scene::new(1, &[]);
    for method in ["ACK", "CANCEL"] {
        scene.pass(scene.request(method).row("Proxy-Require: tides").text());
    }
    let answer = scene.answer(scene.request("BYE").row("Proxy-Require: tides").text());
    assert_eq!(status(answer), 420);
}

#[test]
fn what_is_no_request_is_never_answered() {
    let mut scene = Scene::new(1, &[]);
    let keep_alives: [&[u8]; 6] = [b"", b"\r\n", b"\r\n\r\n", b"\0", b"\0\0\0\0", b"\r\n\0"];
    let stun = b"\x00\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl";
    let dtls = b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x04\x01\x00\x00\x00";
    let noise: [&[u8]; 16] = [
        stun,
        b"\x01\x01\x00\x00\x21\x12\xa4\x42abcdefghijkl",
        dtls,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x80\x00\x12\x34\x00\x00\x00\xa0\xde\xad\xbe\xefrtprtprtp",
        b"\x00\x01boot\0octet\0",
        b"INVITE",
        b"INVITE sip:a@b.example SIP/2.0",
        b"INVITE sip:a@b.example\r\n\r\n",
        b" INVITE sip:a@b.example SIP/2.0\r\n\r\n",
        b"\xef\xbb\xbfINVITE sip:a@b.example SIP/2.0\r\n\r\n",
        b"\xff\xff\xff\xff",
        b"sip:a@b.example",
        b"SIP",
        b": \r\n\r\n",
        b"M-SEARCH * HTTP/1.1\r\n\r\n",
    ];
    for octets in keep_alives.into_iter().chain(noise) {
        scene.send(octets);
    }
    scene.assert_nothing_left();
    scene.assert_counter("drop-keep-alive", keep_alives.len() as u64);
    scene.assert_counter("drop-not-sip", noise.len() as u64);
}

#[test]
fn a_request_that_lacks_what_a_reply_copies_is_dropped() {
    let mut scene = Scene::new(1, &[]);
    let plain = scene.request("INVITE").text();
    let rows = ["Via", "From", "To", "Call-ID", "CSeq"];
    for name in rows {
        let start = plain.find(&format!("{name}: ")).expect(name);
        let end = start + plain[start..].find("\r\n").expect("its end") + 2;
        scene.send(plain[..start].to_owned() + &plain[end..]);
    }
    scene.send("INVITE sip:a@b.example SIP/2.0\r\n\r\n");
    scene.assert_nothing_left();
    scene.assert_counter("drop-missing-header", rows.len() as u64 + 1);
}

/// Nothing below it is read, so nobody is known to answer.
#[test]
fn a_fault_above_the_first_via_is_told_as_what_it_is() {
    let mut scene = Scene::new(1, &[]);
    let plain = scene.request("INVITE").text();
    let faults = [
        ("Subject lunch\r\n", "header-name"),
        ("Subject: lunch\n", "line-end"),
    ];
    for (rows, _) in faults {
        scene.send(plain.replacen("Via: ", &format!("{rows}Via: "), 1));
    }
    scene.assert_nothing_left();
    for (_, reason) in faults {
        scene.assert_counter(&format!("drop-{reason}"), 1);
    }
}

#[test]
fn responses_are_never_answered() {
    let scene = Scene::new(1, &[]);
    let request = scene.request("INVITE").text();
    let (_, rows) = request.split_once("\r\n").expect("a start line");
    for start in [
        "SIP/2.0 200 OK",
        "SIP/2.0 99 x",
        "SIP/9.0 200 OK",
        "SIP/2.0",
        "sip/2.0 abc",
    ] {
        scene.send(format!("{start}\r\n{rows}"));
        scene.send(format!(
            "{start}\r\n{}",
            rows.replace("Length: 0", "Length: 7")
        ));
    }
    scene.assert_nothing_left();
}

#[test]
fn a_reply_goes_to_the_sender_whatever_via_says() {
    let scene = Scene::new(1, &[]);
    let port = scene.caller.address().port();
    let victim = Peer::at(SocketAddr::from(([127, 0, 0, 66], port)));
    for via in [
        format!("127.0.0.66:{port};branch=z9hG4bKa"),
        format!("127.0.0.66:{port};received=127.0.0.66;branch=z9hG4bKa"),
        format!("127.0.0.66:9;received=127.0.0.66;rport={port};branch=z9hG4bKa"),
        format!("127.0.0.66:9;maddr=127.0.0.66;rport={port};branch=z9hG4bKa"),
        format!("127.0.0.1:{port};maddr=127.0.0.66;ttl=1"),
        "127.0.0.66;rport".to_owned(),
    ] {
        let request = scene.request("INVITE").max_forwards("Max-Forwards: 0");
        let request = request.via(format!("SIP/2.0/UDP {via}"));
        assert_eq!(status(scene.answer(request.text())), 483, "{via}");
    }
    scene.fence();
    victim.assert_silent();
}

#[test]
fn a_reply_is_never_sent_to_ourselves() {
    let mut scene = Scene::new(1, &[]);
    let request = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    // As we write it, and not so.
    for parameters in ["branch=z9hG4bKself", "x;branch=z9hG4bKself"] {
        let via = format!("SIP/2.0/UDP {};{parameters}", scene.front());
        scene.send(request.clone().via(via).text());
    }
    scene.assert_nothing_left();
    scene.assert_counter("drop-bad-source", 1);
    scene.assert_counter("drop-too-many-hops", 1);
    // The requests, and that of the fence: nothing came from ourselves.
    scene.assert_counter("received", 3);
}

#[test]
fn a_reply_is_never_much_longer_than_its_request() {
    let scene = Scene::new(1, &["--reply-rate", "1000"]);
    let shortest =
        "A x:y SIP/2.0\r\nv:SIP/2.0/UDP a;rport\r\nf:a:b\r\nt:a:b\r\ni:c\r\nCSeq:1 A\r\n\r\n";
    let many_vias = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    let many_vias = (0..200).fold(many_vias, |request, n| {
        request.row(format!("v: SIP/2.0/UDP h{n}"))
    });
    let tags = scene
        .request("INVITE")
        .row(format!("Proxy-Require:{}a", "a,".repeat(1_000)));
    for request in [shortest.to_owned(), many_vias.text(), tags.text()] {
        let answer = scene.answer(&request);
        assert!(
            answer.len() <= request.len() + MOST_GROWTH,
            "{} for {}",
            answer.len(),
            request.len()
        );
    }
}

#[test]
fn the_longest_requests_are_answered_where_the_reply_fits_a_datagram() {
    let mut scene = Scene::new(1, &[]);
    let longest = |plain: Request| {
        let padding = 65_507 - plain.clone().row("v: ").text().len();
        let request = plain.row(format!("v: {}", "x".repeat(padding))).text();
        assert_eq!(request.len(), 65_507);
        request
    };
    let request = longest(scene.request("INVITE").max_forwards("Max-Forwards: 0"));
    assert_eq!(status(scene.answer(request)), 483);
    let grows = scene.request("INVITE").max_forwards("").uri("x:y");
    scene.send(longest(grows.via("SIP/2.0/UDP phone.example;rport")));
    scene.assert_nothing_left();
    scene.assert_counter("drop-uri-scheme", 1);
}

#[test]
fn replies_are_limited_for_each_source_prefix() {
    let mut scene = Scene::new(1, &["--reply-rate", "5"]);
    let start = Instant::now();
    let bad = |caller: &Peer| {
        let request = Request::new("INVITE", caller.address());
        caller.send(
            scene.front(),
            request.max_forwards("Max-Forwards: 0").text(),
        );
    };
    let count = |caller: &Peer| {
        scene.fence();
        std::iter::from_fn(|| caller.poll()).count()
    };
    (0..60).for_each(|_| bad(&scene.caller));
    let answered = count(&scene.caller);
    // The same /24 shares the allowance, another does not.
    let neighbour = Peer::at(([127, 0, 0, 200], 0).into());
    (0..60).for_each(|_| bad(&neighbour));
    let all = answered + count(&neighbour);
    let gained = (start.elapsed().as_secs_f64() * 5.0) as usize + 1;
    assert!((5..=5 + gained).contains(&all), "{all} within {gained}");
    let stranger = Peer::at(([127, 0, 55, 1], 0).into());
    bad(&stranger);
    assert_eq!(status(stranger.receive()), 483);
    scene.assert_counter("drop-reply-limit", 120 - all as u64);
}

#[test]
fn whoever_asks_for_hardly_more_than_the_reply_rate_gets_that_rate() {
    let source = [192, 0, 2, 1].into();
    for rate in [30_u32, 100, 1500] {
        let mut limiter = ReplyLimiter::new(rate, [7; 16]);
        let offered = u64::from(rate) * 11 / 10;
        // What the bucket holds at first is gone half-way.
        let (seconds, mut answered) = (20, 0);
        for n in 0..offered * seconds {
            let now = 10_000 + n * 1000 / offered;
            answered += u64::from(limiter.allow(source, 100, now));
        }
        let most = u64::from(rate) * (seconds + 1);
        assert!(
            (most - 2..=most).contains(&answered),
            "{answered} at {rate}"
        );
    }
}

#[test]
fn control_octets_are_never_copied() {
    let scene = Scene::new(1, &["--reply-rate", "1000"]);
    let plain = scene
        .request("INVITE")
        .max_forwards("Max-Forwards: 0")
        .row("Proxy-Require: x")
        .text();
    let mut sent = 0;
    for name in [
        "Via",
        "From",
        "To",
        "Call-ID",
        "CSeq",
        "Proxy-Require",
        "Subject",
    ] {
        for octet in [
            "\0", "\u{1}", "\u{8}", "\u{b}", "\u{1b}", "\u{7f}", "\"\\\0\"", "\r", "\n",
        ] {
            for at in ["", "x"] {
                let from = format!("{name}: ");
                let text = plain.replace("\r\nCSeq", "\r\nSubject: tide\r\nCSeq");
                scene.send(text.replace(&from, &format!("{from}{at}{octet}")));
                sent += 1;
            }
        }
    }
    scene.fence();
    let answers: Vec<Vec<u8>> = std::iter::from_fn(|| scene.caller.poll())
        .map(|(octets, _)| octets)
        .collect();
    assert!(!answers.is_empty() && answers.len() < sent);
    for answer in answers {
        let text = String::from_utf8(answer).expect("text");
        let ends = text.replace("\r\n", "");
        assert!(
            !ends.chars().any(char::is_control),
            "{}",
            text.escape_debug()
        );
    }
}

/// The ACK that a client sends for `answer` (§17.1.1.3).
fn ack(request: &Request, answer: &[u8]) -> Request {
    let mut ack = request.method("ACK").max_forwards("Max-Forwards: 70");
    ack.rows.clear();
    ack.to(format!("{};tag={}", request.to, own_tag(answer)))
}

#[test]
fn the_ack_to_a_reply_of_ours_is_absorbed() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let args = ["--secret-file", secret.to_str().expect("text")];
    let mut scene = Scene::new(1, &args);
    let requests = [
        scene.request("INVITE").max_forwards("Max-Forwards: 0"),
        scene.request("INVITE").uri("mailto:a@b.example"),
        scene.request("INVITE").row("Proxy-Require: x"),
        scene.request("INVITE").row("Route: <sip:>"),
        scene.request("INVITE").max_forwards("Max-Forwards: 999"),
        scene.request("INVITE").row("Call-ID: a-second-one"),
        scene.request("INVITE").row("A line without a colon"),
        scene
            .request("INVITE")
            .via(format!("SIP/2.0/UDP {}", scene.caller.address()))
            .max_forwards("Max-Forwards: 0"),
    ];
    let acks: Vec<String> = requests
        .iter()
        .map(|request| ack(request, &scene.answer(request.text())).text())
        .collect();
    acks.iter().for_each(|ack| scene.send(ack));
    scene.assert_nothing_left();
    scene.assert_counter("drop-reply-ack", acks.len() as u64);
    // Another instance with the same secret, and one after a restart, knows
    // them too: there is nothing to remember.
    drop(scene);
    let mut scene = Scene::new(1, &args);
    acks.iter().for_each(|ack| scene.send(ack));
    scene.assert_nothing_left();
    scene.assert_counter("drop-reply-ack", acks.len() as u64);
    // With another secret they are anybody's ACKs.
    let scene = Scene::new(1, &[]);
    scene.pass(&acks[0]);
}

#[test]
fn an_ack_with_any_other_tag_is_forwarded() {
    let scene = Scene::new(1, &[]);
    let request = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    let good = ack(&request, &scene.answer(request.text()));
    let (to, tag) = good.to.rsplit_once('=').expect("a tag");
    for forged in [
        "0123456789abcdef".to_owned(),
        format!("{tag}0"),
        tag[1..].to_owned(),
        "x".into(),
    ] {
        scene.pass(good.clone().to(format!("{to}={forged}")).text());
    }
    scene.pass(good.clone().call_id("another").text());
    scene.pass(good.clone().to(&request.to).text());
    // Inside a dialog the tag is that of the dialog.
    let inside = scene.request("INVITE").max_forwards("Max-Forwards: 0");
    let inside = inside.to("<sip:desk@farm.example>;tag=x");
    assert_eq!(status(scene.answer(inside.text())), 483);
    let ack = inside.method("ACK").max_forwards("Max-Forwards: 70");
    scene.pass(ack.text());
    scene.assert_nothing_left();
}

/// Where INVITE is stateful and all destinations drain: the set for which a
/// failure rule may have another one.
fn drained() -> impl FnMut(&[u8], SocketAddr) -> Option<usize> {
    let mut config = fixture::config();
    config.stateful.methods = vec!["INVITE".to_owned()];
    for destination in &mut config.sets[0].destinations {
        destination.state = State::Draining;
    }
    let proxy = Proxy::new(&config, fixture::secret());
    let (mut scratch, mut out) = (proxy.scratch(), vec![0; MAX_DATAGRAM]);
    move |bytes, source| {
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        proxy.decide(&datagram, &mut scratch, &mut out);
        match scratch.part() {
            Some(Part::Unplaced(_, set)) => Some(set),
            _ => None,
        }
    }
}

#[test]
fn an_invite_that_could_not_be_answered_is_not_tried_elsewhere() {
    let mut unplaced = drained();
    let invite = String::from_utf8(fixture::invite()).expect("text");
    let of = |name: &str| invite.replace("From: \"Ann\"", &format!("From: \"{name}\""));
    assert_eq!(unplaced(of("A\\B").as_bytes(), fixture::caller()), Some(0));
    assert_eq!(
        unplaced(of("A\\\u{7f}").as_bytes(), fixture::caller()),
        None
    );
}

/// Whatever it is, it asks for no set.
#[test]
fn what_is_no_message_tells_nothing_of_the_one_before() {
    let mut unplaced = drained();
    let nobody = SocketAddr::from(([203, 0, 113, 7], 0));
    for (noise, source) in [
        (&b"\r\n"[..], fixture::caller()),
        (b"noise", fixture::caller()),
        (b"noise", nobody),
    ] {
        assert_eq!(unplaced(&fixture::invite(), fixture::caller()), Some(0));
        assert_eq!(unplaced(noise, source), None);
    }
}
