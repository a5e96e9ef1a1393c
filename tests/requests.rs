//! What a request looks like when it leaves: our Via on top, the sender's
//! repaired, Max-Forwards, our own Route, the body's end; and that all other
//! octets are those that came (RFC 3261 §16.4, §16.6, §18.2.1, §18.3,
//! RFC 3581 §4).

use std::net::SocketAddr;

use support::dialog::{
    Peer, Request, Scene, assert_octets, branch, read, status, values, with_own_via,
};

/// Sends `sent`; what comes to the farm must be `wanted` with our Via on top.
#[track_caller]
fn assert_passes_as(scene: &Scene, sent: &str, wanted: &str) {
    let (_, got) = scene.pass(sent);
    assert_octets(&got, with_own_via(wanted, &got, scene.front()));
}

/// Demands the same of a request that has our Via added and nothing else.
#[track_caller]
fn assert_passes(scene: &Scene, sent: &str) {
    assert_passes_as(scene, sent, &sent.replace("Forwards: 70", "Forwards: 69"));
}

#[test]
fn our_via_on_top_and_all_else_as_it_came() {
    let scene = Scene::new(1, &[]);
    let request = scene
        .request("INVITE")
        .row("Max-Breadth: 7")
        .row("Record-Route: <sip:127.0.0.1;lr>, <sip:far.example;lr>")
        .row("X-Odd :   spaces kept\t ")
        .row("Subject: caf\u{e9} \u{2603}")
        .row("contact: <sip:ann@127.0.0.1>;q=0.7 , <sip:b@c>")
        .row("Via: SIP/2.0/TCP lower.example;branch=old, SIP/2.0/WS x.invalid")
        .row("Authorization: Digest username=\"a,b\", nc=00000001");
    let request = Request {
        body: "v=0\r\n\r\nnot: a header\r\n\0\u{1}".to_owned(),
        ..request
    };
    assert_passes(&scene, &request.text());
}

#[test]
fn every_octet_passes_in_a_body_and_in_a_header_that_nobody_reads() {
    let scene = Scene::new(1, &[]);
    let octets: Vec<u8> = (0..=255).collect();
    let text = scene.request("MESSAGE").row("X-Any: @").text();
    let mut sent = text
        .replace("Content-Length: 0", "Content-Length: 256")
        .into_bytes();
    sent.extend(&octets);
    let any: Vec<u8> = octets
        .iter()
        .copied()
        .filter(|b| !b"\r\n".contains(b))
        .collect();
    let at = sent.windows(3).position(|w| w == b": @").expect("the row") + 2;
    sent.splice(at..=at, any.iter().copied());
    let (_, got) = scene.pass(&sent);
    let tail = sent
        .windows(6)
        .position(|w| w == b"\r\nFrom")
        .expect("From");
    assert!(got.ends_with(&octets));
    let forwards = sent
        .windows(4)
        .position(|w| w == b": 70")
        .expect("Max-Forwards")
        + 2;
    let mut wanted = sent[tail..].to_vec();
    wanted[forwards - tail..forwards - tail + 2].copy_from_slice(b"69");
    assert!(got.ends_with(&wanted), "{}", got.escape_ascii());
}

#[test]
fn max_forwards_counts_down() {
    let scene = Scene::new(1, &[]);
    for (sent, wanted) in [
        ("Max-Forwards: 70", "Max-Forwards: 69"),
        ("Max-Forwards: 255", "Max-Forwards: 254"),
        ("Max-Forwards: 100", "Max-Forwards: 99"),
        ("Max-Forwards: 10", "Max-Forwards: 9"),
        ("Max-Forwards: 1", "Max-Forwards: 0"),
        ("max-forwards\t:  20  ", "max-forwards\t:  19  "),
        ("Max-Forwards:\r\n\t 30\r\n ", "Max-Forwards:\r\n\t 29\r\n "),
        ("MAX-FORWARDS:0040", "MAX-FORWARDS:39"),
    ] {
        let request = scene.request("OPTIONS").max_forwards(sent).row("X: y");
        let sent_text = request.text();
        assert_passes_as(&scene, &sent_text, &sent_text.replace(sent, wanted));
    }
}

#[test]
fn max_forwards_is_added_where_it_is_not() {
    let scene = Scene::new(1, &[]);
    let sent = scene.request("OPTIONS").max_forwards("").text();
    let (_, got) = scene.pass(&sent);
    let own = with_own_via(&sent, &got, scene.front());
    let (top, rest) = own.split_once("\r\nVia").expect("our Via");
    let (via, rest) = rest.split_once("\r\n").expect("its end");
    let wanted = format!("{top}\r\nVia{via}\r\nMax-Forwards: 70\r\n{rest}");
    assert_octets(got, wanted);
}

#[test]
fn received_and_rport_say_where_the_packet_came_from() {
    let scene = Scene::new(1, &[]);
    let SocketAddr::V4(source) = scene.caller.address() else {
        panic!("an IPv4 caller")
    };
    let port = source.port();
    let both = format!("received=127.0.0.1;rport={port}");
    for (sent, wanted) in [
        // The same address, and nothing asked.
        (
            format!("127.0.0.1:{port};branch=B"),
            format!("127.0.0.1:{port};branch=B"),
        ),
        ("127.0.0.1;branch=B".into(), "127.0.0.1;branch=B".into()),
        // A name, or another address.
        (
            "phone.example;branch=B".into(),
            "phone.example;branch=B;received=127.0.0.1".into(),
        ),
        (
            "192.0.2.9:5070;branch=B;x".into(),
            "192.0.2.9:5070;branch=B;x;received=127.0.0.1".into(),
        ),
        (
            "[2001:db8::9];branch=B".into(),
            "[2001:db8::9];branch=B;received=127.0.0.1".into(),
        ),
        // `received` has no brackets (§25.1), whoever writes IPv4 as IPv6.
        (
            "[::ffff:127.0.0.1];rport;branch=B".into(),
            format!("[::ffff:127.0.0.1];{both};branch=B"),
        ),
        // The port is asked for.
        (
            "127.0.0.1;rport;branch=B".into(),
            format!("127.0.0.1;{both};branch=B"),
        ),
        (
            "phone.example;branch=B;RPORT ;x=y".into(),
            format!("phone.example;branch=B;{both} ;x=y"),
        ),
        // What the sender wrote counts for nothing.
        (
            "127.0.0.1;received=203.0.113.9;branch=B".into(),
            "127.0.0.1;branch=B".into(),
        ),
        (
            "phone.example;received=203.0.113.9;branch=B".into(),
            "phone.example;received=127.0.0.1;branch=B".into(),
        ),
        (
            "127.0.0.1;rport=9;branch=B;received=203.0.113.9".into(),
            format!("127.0.0.1;{both};branch=B"),
        ),
        (
            "phone.example;Received = [::1] ; Rport = 9;branch=B".into(),
            format!("phone.example;{both};branch=B"),
        ),
        (
            "127.0.0.1;maddr=203.0.113.9;branch=B".into(),
            "127.0.0.1;maddr=203.0.113.9;branch=B".into(),
        ),
        // Only the topmost is ours to repair.
        (
            "127.0.0.1;rport;branch=B,SIP/2.0/UDP 192.0.2.1;rport".into(),
            format!("127.0.0.1;{both};branch=B,SIP/2.0/UDP 192.0.2.1;rport"),
        ),
        (
            "phone.example ,\r\n SIP/2.0/UDP 192.0.2.1".into(),
            "phone.example;received=127.0.0.1 ,\r\n SIP/2.0/UDP 192.0.2.1".into(),
        ),
        (
            "phone.example\r\n ;rport\r\n ;branch=B".into(),
            format!("phone.example;{both}\r\n ;branch=B"),
        ),
    ] {
        let sent = scene.request("OPTIONS").via(format!("SIP/2.0/UDP {sent}"));
        let wanted = sent
            .clone()
            .via(format!("SIP/2.0/UDP {wanted}"))
            .max_forwards("Max-Forwards: 69");
        assert_passes_as(&scene, &sent.text(), &wanted.text());
    }
}

#[test]
fn received_and_rport_stand_once_behind_every_repair() {
    let scene = Scene::new(1, &[]);
    for params in [
        "",
        ";rport",
        ";rport=1",
        ";received=1.1.1.1",
        ";received=x;rport",
        ";rport=7;received",
    ] {
        let via = format!("SIP/2.0/UDP phone.example{params};branch=z9hG4bKonce");
        let (_, got) = scene.pass(scene.request("INFO").via(via).text());
        let below = read(&got).vias[1].clone();
        let below = String::from_utf8(below).expect("text");
        assert_eq!(below.matches("received=").count(), 1, "{below}");
        assert_eq!(
            below.matches("rport").count(),
            usize::from(params.contains("rport")),
            "{below}"
        );
    }
}

#[test]
fn a_top_via_that_says_something_twice_is_dropped() {
    let mut scene = Scene::new(1, &[]);
    for params in [
        "rport;rport",
        "received=1.1.1.1;received=2.2.2.2",
        "branch=a;branch=b",
        "maddr=a;maddr=b",
    ] {
        scene.send(
            scene
                .request("INVITE")
                .via(format!("SIP/2.0/UDP a.example;{params}"))
                .text(),
        );
    }
    scene.assert_nothing_left();
    scene.assert_counter("drop-top-via", 4);
}

#[test]
fn our_own_route_values_are_taken_off() {
    let scene = Scene::new(1, &[]);
    let own = format!("<sip:{};lr>", scene.front());
    let far = "<sip:far.example;lr>";
    for (sent, wanted) in [
        (format!("Route: {own}\r\n"), String::new()),
        (format!("route :\r\n {own} \r\n"), String::new()),
        (
            format!("Route: \"our \\\" own\" {own};x=\"a,b\"\r\n"),
            String::new(),
        ),
        (
            format!("Route: {own}, {far}\r\n"),
            format!("Route: {far}\r\n"),
        ),
        (
            format!("Route: {own},{own} ,{far}\r\n"),
            format!("Route: {far}\r\n"),
        ),
        (
            format!("Route: {own},\r\n {far}\r\n"),
            format!("Route: {far}\r\n"),
        ),
        (
            format!("Route: {own}\r\nRoute: {own}\r\nX: y\r\nRoute: {far}\r\n"),
            format!("X: y\r\nRoute: {far}\r\n"),
        ),
        (
            format!("Route: {own}, {own}\r\nRoute: {own}, {far}, {own}\r\n"),
            format!("Route: {far}, {own}\r\n"),
        ),
        // Not on top: not ours to take.
        (
            format!("Route: {far}\r\nRoute: {own}\r\n"),
            format!("Route: {far}\r\nRoute: {own}\r\n"),
        ),
        (
            format!("Route: {far}, {own}\r\n"),
            format!("Route: {far}, {own}\r\n"),
        ),
        (
            "Route: <sip:127.0.0.1:1;lr>\r\n".into(),
            "Route: <sip:127.0.0.1:1;lr>\r\n".into(),
        ),
    ] {
        let request = scene.request("BYE").row("A: b").row("@");
        let text = |route: &str| request.text().replace("@\r\n", route);
        assert_passes_as(
            &scene,
            &text(&sent),
            &text(&wanted).replace("Forwards: 70", "Forwards: 69"),
        );
    }
}

#[test]
fn our_own_route_by_the_advertised_name() {
    let scene = Scene::new(1, &["--advertise", "Edge.example:5060"]);
    for route in [
        "<sip:edge.EXAMPLE;lr>",
        "<sip:edge.example:5060;lr>",
        "<sip:10.0.0.1;maddr=edge.example;lr>",
    ] {
        let plain = scene.request("BYE");
        let sent = plain.clone().row(format!("Route: {route}")).text();
        let (_, got) = scene.pass(&sent);
        let wanted = plain.text().replace("Forwards: 70", "Forwards: 69");
        let top = format!(
            "Via: SIP/2.0/UDP Edge.example:5060;rport;branch={}\r\n",
            branch(&got)
        );
        assert_octets(&got, wanted.replacen("Via:", &format!("{top}Via:"), 1));
    }
    let by_address = format!("Route: <sip:{};lr>", scene.front());
    let (_, got) = scene.pass(scene.request("BYE").row(by_address).text());
    assert!(read(got).routes.is_empty());
}

/// With all else that a request can need done: an INVITE that is recorded, two
/// values of ours, and a Via that says what it should not.
#[test]
fn a_strict_router_behind_us_can_have_26_more_routes() {
    let scene = Scene::new(1, &["--record-route"]);
    let (own, member) = (scene.front(), scene.farm[0].address());
    let more = vec!["<sip:next.example;lr>"; 26].join(", ");
    let invite = scene
        .request("INVITE")
        .uri("sip:desk@contact.example")
        .via(format!(
            "SIP/2.0/UDP {};rport=9;branch=z9hG4bKlong;received=192.0.2.1",
            scene.caller.address()
        ))
        .row(format!("Route: <sip:{own};lr>, <sip:{own};lr>"))
        .row(format!("Route: <sip:strict@{member}>, {more}"));
    let (_, octets) = scene.pass(invite.text());
    let routes = values(&octets, "route");
    assert_eq!(routes.len(), 27);
    assert_eq!(routes[26], "<sip:desk@contact.example>");
    assert_eq!(values(&octets, "record-route").len(), 1);
}

#[test]
fn an_maddr_that_names_us_is_taken_off() {
    let scene = Scene::new(1, &[]);
    let front = scene.front();
    for (uri, sent_on) in [
        (
            "sip:desk@farm.example;maddr=127.0.0.1",
            "sip:desk@farm.example",
        ),
        (
            "sip:desk@farm.example:PORT;a=b;transport=udp;maddr=127.0.0.1;c",
            "sip:desk@farm.example;a=b;c",
        ),
        (
            "sip:desk@farm.example:PORT;maddr=127.0.0.1;transport=udp",
            "sip:desk@farm.example",
        ),
        (
            "sip:desk@farm.example:PORT;maddr=127.0.0.3;transport=udp",
            "sip:desk@farm.example:PORT;maddr=127.0.0.3;transport=udp",
        ),
        // It did not come by that one.
        (
            "sip:desk@farm.example:PORT;maddr=127.0.0.1;transport=tcp",
            "sip:desk@farm.example:PORT;maddr=127.0.0.1;transport=tcp",
        ),
    ] {
        // Without a port it names another one than ours.
        let port = front.port().to_string();
        let is_ours = uri.contains("PORT") && uri.contains("127.0.0.1");
        let sent_on = if is_ours { sent_on } else { uri }.replace("PORT", &port);
        let uri = uri.replace("PORT", &port);
        let (_, octets) = scene.pass(scene.request("BYE").uri(&uri).text());
        let text = String::from_utf8(octets).expect("text");
        assert!(
            text.starts_with(&format!("BYE {sent_on} SIP/2.0\r\n")),
            "{text}"
        );
    }
}

#[test]
fn a_route_that_cannot_be_read_is_answered_400() {
    let scene = Scene::new(1, &[]);
    for route in [
        "sip:far.example;lr",
        "<sip:far.example",
        "<sip:>",
        "<sip:far.example>x",
    ] {
        let answer = scene.answer(
            scene
                .request("INVITE")
                .row(format!("Route: {route}"))
                .text(),
        );
        assert_eq!(status(answer), 400, "{route}");
    }
    scene.assert_nothing_left();
}

#[test]
fn nothing_behind_content_length_is_sent_on() {
    let scene = Scene::new(1, &[]);
    let hidden = scene.request("INVITE").text();
    for length in ["Content-Length: 5", "l:0005 ", "content-length\t:\r\n 5"] {
        let first = scene.request("MESSAGE").row("X: y").text();
        let first = first.replace("Content-Length: 0", length) + "body!";
        let (_, got) = scene.pass(format!("{first}{hidden}"));
        assert_octets(
            &got,
            with_own_via(&first.replace("s: 70", "s: 69"), &got, scene.front()),
        );
    }
    scene.assert_nothing_left();
}

#[test]
fn without_content_length_the_body_ends_with_the_datagram() {
    let scene = Scene::new(1, &[]);
    let sent = scene
        .request("MESSAGE")
        .text()
        .replace("Content-Length: 0\r\n", "");
    assert_passes(&scene, &(sent + "all\r\n\r\nof it"));
}

#[test]
fn compact_names_and_odd_cases_read_alike() {
    let scene = Scene::new(1, &[]);
    let sent = scene.request("INVITE").row("k: replaces").text();
    for (long, short) in [
        ("Via:", "v:"),
        ("Call-ID:", "I :"),
        ("From:", "f\t:"),
        ("To:", "T:"),
        ("Content-Length:", "l:"),
        ("CSeq:", "cSEQ:"),
    ] {
        assert!(sent.contains(long));
        let sent = sent.replacen(long, short, 1);
        assert_passes(&scene, &sent);
    }
    let all = sent
        .replace("Via:", "V:")
        .replace("Call-ID:", "i:")
        .replace("From:", "F:");
    assert_passes(
        &scene,
        &all.replace("To:", "t:").replace("Content-Length:", "L:"),
    );
    assert_passes(&scene, &sent.replace("SIP/2.0\r\nVia", "sip/2.0\r\nvIA"));
}

#[test]
fn line_ends_before_the_start_line_are_left_out() {
    let scene = Scene::new(1, &[]);
    let sent = scene.request("INVITE").text();
    for ends in ["\r\n", "\r\n\r\n\r\n"] {
        let (_, got) = scene.pass(format!("{ends}{sent}"));
        assert_octets(
            &got,
            with_own_via(&sent.replace("s: 70", "s: 69"), &got, scene.front()),
        );
    }
}

#[test]
fn unknown_methods_and_headers_pass() {
    let scene = Scene::new(1, &[]);
    for method in ["WINK", "invite", "!odd%'token", "X", "SIP"] {
        assert_passes(
            &scene,
            &scene
                .request(method)
                .row("Require: moon")
                .row("%: %")
                .text(),
        );
    }
    for uri in [
        "tel:+390123456",
        "urn:service:sos.fire",
        "sips:a@farm.example;x=%41",
        "sip:127.0.0.1;lr;method=BYE",
        "SIP:a;b=c;d@e.example:5070",
    ] {
        assert_passes(&scene, &scene.request("OPTIONS").uri(uri).text());
    }
}

#[test]
fn long_requests_pass_up_to_the_longest_datagram() {
    let scene = Scene::new(1, &[]);
    let sized = |length: usize| {
        let plain = scene.request("MESSAGE");
        let empty = Request {
            body: "y".repeat(10_000),
            ..plain.clone()
        }
        .text()
        .len()
            - 10_000;
        Request {
            body: "x".repeat(length - empty),
            ..plain
        }
        .text()
    };
    let sent = sized(60_000);
    assert_eq!(sent.len(), 60_000);
    assert_passes(&scene, &sent);
    let (_, got) = scene.pass(sized(60_000));
    let growth = got.len() - 60_000;
    let longest = sized(65_507 - growth);
    assert_eq!(scene.pass(&longest).1.len(), 65_507);
    let answer = scene.answer(sized(65_508 - growth));
    assert_eq!(status(&answer), 513);
    assert!(answer.len() < 600);
    scene.assert_nothing_left();
}

#[test]
fn an_ack_that_would_outgrow_a_datagram_is_dropped() {
    let mut scene = Scene::new(1, &[]);
    let request = Request {
        body: "x".repeat(65_000),
        ..scene.request("ACK")
    };
    let long = request.text();
    let padding = "y".repeat(65_500 - long.len());
    scene.send(
        Request {
            body: request.body.clone() + &padding,
            ..request
        }
        .text(),
    );
    scene.assert_nothing_left();
    scene.assert_counter("drop-too-large", 1);
}

#[test]
fn many_header_rows_pass() {
    let scene = Scene::new(1, &[]);
    let mut request = scene.request("INVITE");
    for number in 0..2_000 {
        request = request.row(format!("X-{number}: {number}"));
    }
    for number in 0..100 {
        request = request.row(format!(
            "Via: SIP/2.0/UDP h{number}.example;branch=z9hG4bK{number}"
        ));
    }
    let sent = request.text();
    let (_, got) = scene.pass(&sent);
    assert_octets(
        &got,
        with_own_via(
            &sent.replace("Forwards: 70", "Forwards: 69"),
            &got,
            scene.front(),
        ),
    );
}

#[test]
fn a_caller_at_another_loopback_address_is_told_its_own() {
    let scene = Scene::new(1, &[]);
    let caller = Peer::at("127.0.0.9:0".parse().expect("an address"));
    let via = format!(
        "SIP/2.0/UDP 127.0.0.1:{};rport;branch=z9hG4bKx",
        caller.address().port()
    );
    caller.send(
        scene.front(),
        Request::new("OPTIONS", caller.address()).via(via).text(),
    );
    let (_, got) = scene.at_farm();
    let below = read(got).vias[1].clone();
    let below = String::from_utf8_lossy(&below);
    let wanted = format!(";received=127.0.0.9;rport={};", caller.address().port());
    assert!(below.contains(&wanted), "{below}");
}
