//! Responses come home along the Vias, and only those to requests that we
//! sent: our Via is taken off, the next one names the way, and the branch
//! vouches for it (RFC 3261 §16.11, §18.1.2, §18.2.2, RFC 3581 §4).

use std::net::SocketAddr;

use support::dialog::{Peer, Request, Scene, assert_octets, branch, read, response, with_own_via};
use support::net::{V4, V6};

/// What member `number` sends; it must come to the caller as `wanted`.
#[track_caller]
fn assert_comes_home(scene: &Scene, number: usize, sent: &str, wanted: &str) {
    scene.farm[number].send(scene.front(), sent);
    let (got, source) = scene.caller.receive_from();
    assert_eq!(source, scene.front());
    assert_octets(got, wanted);
}

/// The response without its first Via row, which is ours.
fn without_own_via(response: &str) -> String {
    let start = response.find("via: ").expect("our Via");
    let end = start + response[start..].find("\r\n").expect("its end") + 2;
    response[..start].to_owned() + &response[end..]
}

/// A response whose Vias stand as `rows` do.
fn with_vias(response: &str, rows: &str) -> String {
    let start = response.find("via: ").expect("a Via");
    let end = response.rfind("via: ").expect("a Via");
    let end = end + response[end..].find("\r\n").expect("its end") + 2;
    response[..start].to_owned() + rows + &response[end..]
}

fn vias(message: impl AsRef<[u8]>) -> Vec<String> {
    let vias = read(message).vias;
    vias.into_iter()
        .map(|via| String::from_utf8(via).expect("text"))
        .collect()
}

#[test]
fn every_response_comes_home_again_and_again() {
    let scene = Scene::new(1, &[]);
    let (_, got) = scene.pass(scene.request("INVITE").text());
    for status in [
        "100 Trying",
        "180 Ringing",
        "183 ",
        "200 OK",
        "200 OK",
        "200 OK",
        "302 Moved",
        "486 Busy Here",
        "503 x",
        "600 caf\u{e9}",
        "699 z",
    ] {
        let sent = response(&got, status, "t1");
        assert_comes_home(&scene, 0, &sent, &without_own_via(&sent));
    }
}

#[test]
fn our_via_is_taken_off_however_it_is_written() {
    let scene = Scene::new(1, &[]);
    let via = format!(
        "SIP/2.0/UDP {};rport;branch=z9hG4bKmine, SIP/2.0/TCP a.example , SIP/2.0/TLS b.example",
        scene.caller.address()
    );
    let request = scene.request("INVITE").via(via);
    let (_, got) = scene.pass(request.text());
    let plain = response(&got, "200 OK", "t1");
    let [own, next, a, b] = &vias(&got)[..] else {
        panic!("four Vias")
    };
    let rest = format!("Via: {a}\r\nVIA: {b}\r\n");
    let folded = own
        .replace("UDP ", "UDP\r\n\t")
        .replace(";branch", "\r\n ;branch");
    for (sent, wanted) in [
        (
            format!("Via: {own}\r\nVia: {next}\r\n"),
            format!("Via: {next}\r\n"),
        ),
        (
            format!("v:{own}\r\nVia:{next}\r\n"),
            format!("Via:{next}\r\n"),
        ),
        (
            format!("via \t: {own}, {next}\r\n"),
            format!("via \t: {next}\r\n"),
        ),
        (
            format!("V: {own},{next} , {next}\r\n"),
            format!("V: {next} , {next}\r\n"),
        ),
        (
            format!("Via: {own} ,\r\n {next}\r\n"),
            format!("Via: {next}\r\n"),
        ),
        (
            format!("Via:\r\n {folded}\r\n\r\n")
                .replace("\r\n\r\n", &format!("\r\nVia: {next}\r\n")),
            format!("Via: {next}\r\n"),
        ),
        (
            format!("Via: {folded}\r\n ,{next}\r\n"),
            format!("Via: {next}\r\n"),
        ),
        (
            format!("Via: {}\r\nX: y\r\nVia: {next}\r\n", own.to_uppercase()),
            format!("X: y\r\nVia: {next}\r\n"),
        ),
        (
            format!("Via: {own};ttl=1;x=\",\"\r\nVia: {next}\r\n"),
            format!("Via: {next}\r\n"),
        ),
    ] {
        let sent = with_vias(&plain, &(sent + &rest));
        let wanted = with_vias(&plain, &(wanted + &rest));
        assert_comes_home(&scene, 0, &sent, &wanted);
    }
}

#[test]
fn a_branch_in_upper_case_is_ours_all_the_same() {
    let scene = Scene::new(1, &[]);
    for via in ["branch=z9hG4bKx", "no-branch"] {
        let via = format!("SIP/2.0/UDP {};{via}", scene.caller.address());
        let (_, got) = scene.pass(scene.request("INVITE").via(via).text());
        let plain = response(&got, "200 OK", "t1");
        let ours = branch(&got);
        let sent = plain.replace(&ours, &ours.to_uppercase());
        assert_comes_home(&scene, 0, &sent, &without_own_via(&plain));
    }
}

#[test]
fn nothing_but_our_via_changes() {
    let scene = Scene::new(1, &[]);
    let (_, got) = scene.pass(scene.request("INVITE").text());
    let plain = response(&got, "200 OK", "t1");
    let sent = plain.replace(
        "Content-Length: 0\r\n\r\n",
        "X-Odd :  \u{e9}\"\r\nRecord-Route: <sip:127.0.0.1;lr>\r\nMax-Forwards: 300\r\nMax-Forwards: 3\r\nRoute: junk\r\nl: 4\r\n\r\n\0\r\n\u{1}",
    );
    assert_comes_home(&scene, 0, &sent, &without_own_via(&sent));
    // What stands behind Content-Length is not of the message (§18.3).
    assert_comes_home(&scene, 0, &(sent.clone() + &sent), &without_own_via(&sent));
    assert_comes_home(&scene, 0, &format!("\r\n{sent}"), &without_own_via(&sent));
}

#[test]
fn the_port_asked_for_goes_before_the_port_of_sent_by() {
    let scene = Scene::new(1, &[]);
    let other = Peer::new(V4);
    for (host, param, home) in [
        (other.address().to_string(), "", &other),
        (other.address().to_string(), ";rport", &scene.caller),
        (
            format!("phone.example:{}", other.address().port()),
            "",
            &other,
        ),
        ("phone.example".to_owned(), ";rport", &scene.caller),
        (
            format!("192.0.2.1:{}", other.address().port()),
            ";received=192.0.2.1",
            &other,
        ),
        (
            "192.0.2.1".to_owned(),
            ";rport=9;received=192.0.2.1",
            &scene.caller,
        ),
    ] {
        let via = format!("SIP/2.0/UDP {host}{param};branch=z9hG4bKport");
        let (_, got) = scene.pass(scene.request("INVITE").via(via).text());
        let sent = response(&got, "200 OK", "t1");
        scene.farm[0].send(scene.front(), &sent);
        assert_octets(home.receive(), without_own_via(&sent));
    }
    other.assert_silent();
    scene.assert_nothing_left();
}

#[test]
fn without_a_port_in_sent_by_it_is_5060() {
    let scene = Scene::new(1, &[]);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let caller = Peer::at(SocketAddr::from(([127, 99, high, low.max(1)], 5060)));
    let via = "SIP/2.0/UDP phone.example;branch=z9hG4bKdefault";
    let from = Peer::at(SocketAddr::new(caller.address().ip(), 0));
    from.send(scene.front(), scene.request("INVITE").via(via).text());
    let sent = response(scene.at_farm().1, "200 OK", "t1");
    scene.farm[0].send(scene.front(), &sent);
    assert_octets(caller.receive(), without_own_via(&sent));
}

#[test]
fn maddr_is_never_followed() {
    let scene = Scene::new(1, &[]);
    let port = scene.caller.address().port();
    let victim = Peer::at(SocketAddr::from(([127, 0, 0, 8], port)));
    for param in [
        "maddr=127.0.0.8",
        "maddr=127.0.0.8;rport",
        "maddr=127.0.0.8;received=127.0.0.8;rport=9",
    ] {
        let via = format!(
            "SIP/2.0/UDP {};{param};branch=z9hG4bKm",
            scene.caller.address()
        );
        let (_, got) = scene.pass(scene.request("INVITE").via(via).text());
        let sent = response(&got, "200 OK", "t1");
        assert_comes_home(&scene, 0, &sent, &without_own_via(&sent));
    }
    scene.fence();
    victim.assert_silent();
}

/// Viaduct with these listeners and farm; the listeners' addresses.
fn listening(listeners: [&str; 2], farm: Peer) -> (Scene, [SocketAddr; 2]) {
    let mut args = vec!["--to".to_owned(), farm.address().to_string()];
    for listener in listeners {
        args.extend(["--listen".to_owned(), listener.to_owned()]);
    }
    let scene = Scene::with(vec![farm], &args, &[]);
    let fronts = [scene.viaduct.address(0), scene.viaduct.address(1)];
    (scene, fronts)
}

#[test]
fn the_response_leaves_where_the_request_came_in() {
    let (scene, fronts) = listening(["127.0.0.1:0", "127.0.0.2:0"], Peer::new(V4));
    for front in fronts {
        let request = scene.request("INVITE").text();
        scene.caller.send(front, &request);
        let (got, source) = scene.farm[0].receive_from();
        assert_eq!(source, front);
        assert_octets(
            &got,
            with_own_via(&request.replace("s: 70", "s: 69"), &got, front),
        );
        let sent = response(&got, "200 OK", "t1");
        // The way back is the branch's, whichever socket the response meets.
        for entry in fronts {
            scene.farm[0].send(entry, &sent);
            let (got, source) = scene.caller.receive_from();
            assert_eq!(source, front);
            assert_octets(got, without_own_via(&sent));
        }
    }
}

#[test]
fn from_ipv4_to_members_of_ipv6_and_back() {
    for (caller, member) in [(V4, V6), (V6, V4), (V6, V6)] {
        let (scene, fronts) = listening(["127.0.0.1:0", "[::1]:0"], Peer::new(member));
        let front = |ip: std::net::IpAddr| fronts[usize::from(ip.is_ipv6())];
        let caller = Peer::new(caller);
        let entry = front(caller.address().ip());
        let request = Request::new("INVITE", caller.address()).text();
        caller.send(entry, &request);
        let (got, source) = scene.farm[0].receive_from();
        assert_eq!(source, front(member));
        assert_octets(
            &got,
            with_own_via(&request.replace("s: 70", "s: 69"), &got, front(member)),
        );
        let sent = response(&got, "200 OK", "t1");
        scene.farm[0].send(source, &sent);
        let (got, source) = caller.receive_from();
        assert_eq!(source, entry);
        assert_octets(got, without_own_via(&sent));
    }
}

#[test]
fn ipv6_is_repaired_and_comes_home_by_it() {
    let (scene, [_, front]) = listening(["127.0.0.1:0", "[::1]:0"], Peer::new(V6));
    let caller = Peer::new(V6);
    let port = caller.address().port();
    for (sent, wanted) in [
        (format!("[::1]:{port}"), format!("[::1]:{port}")),
        (format!("[0:0::0:1]:{port}"), format!("[0:0::0:1]:{port}")),
        (
            format!("[2001:db8::1]:{port}"),
            format!("[2001:db8::1]:{port};received=::1"),
        ),
        (
            "phone.example;rport".into(),
            format!("phone.example;received=::1;rport={port}"),
        ),
        (
            "[::1];received=[::2];rport=1".into(),
            format!("[::1];received=::1;rport={port}"),
        ),
    ] {
        let request = Request::new("INVITE", caller.address()).via(format!("SIP/2.0/UDP {sent}"));
        caller.send(front, request.text());
        let got = scene.farm[0].receive();
        assert_eq!(vias(&got)[1], format!("SIP/2.0/UDP {wanted}"));
        let sent = response(&got, "200 OK", "t1");
        scene.farm[0].send(front, &sent);
        assert_octets(caller.receive(), without_own_via(&sent));
    }
}
