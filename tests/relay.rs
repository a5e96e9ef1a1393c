//! Nobody outside can have a datagram sent to a stranger or have one multiplied,
//! whatever is written into requests and responses.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use support::dialog::{Peer, Request, Scene, branch, response, status};
use support::net::{V4, V6};
use support::stateful::only;

/// Hosts that nobody may have a datagram sent to, and Viaduct with one member.
struct Ambush {
    scene: Scene,
    victims: [Peer; 2],
    /// Asked for names of members' next hops, and for nothing from outside.
    name_server: Peer,
}

impl Ambush {
    fn new(args: &[&str]) -> Self {
        let farm = vec![Peer::new(V4)];
        let first = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--to"];
        let mut first: Vec<String> = first.iter().map(|&arg| arg.to_owned()).collect();
        first.push(farm[0].address().to_string());
        let name_server = Peer::new(V4);
        let names = ["--resolve", "on", "--resolver"].map(str::to_owned);
        first.extend(names);
        first.push(name_server.address().to_string());
        Self {
            name_server,
            scene: Scene::with(farm, &first, args),
            victims: [
                Peer::at(SocketAddr::from(([127, 0, 0, 77], 0))),
                Peer::new(V6),
            ],
        }
    }

    /// `form` with the addresses of this scene.
    fn fill(&self, form: &str) -> String {
        let [victim, victim6] = self.victims.each_ref().map(Peer::address);
        let hex = format!("{:04x}", victim.port());
        [
            ("VICTIM6", victim6.to_string()),
            ("PORT6", victim6.port().to_string()),
            ("VICTIM", victim.to_string()),
            ("HEX", hex),
            ("HOST", victim.ip().to_string()),
            ("PORT", victim.port().to_string()),
            ("MEMBER", self.scene.farm[0].address().to_string()),
            ("OWN6", self.scene.viaduct.address(1).to_string()),
            ("OWN", self.scene.front().to_string()),
        ]
        .into_iter()
        .fold(form.to_owned(), |text, (name, value)| {
            text.replace(name, &value)
        })
    }

    /// Sends from the caller, has the member answer all that it gets, and
    /// returns how many requests those were.
    fn play(&self, request: &Request) -> usize {
        self.scene.send(request.text());
        let got = self.settle();
        for octets in &got {
            self.scene.farm[0].send(self.scene.front(), answer(octets, "200 OK"));
        }
        assert!(self.settle().is_empty(), "answers went to the farm");
        while let Some((_, source)) = self.scene.caller.poll() {
            assert_eq!(source, self.scene.front());
        }
        got.len()
    }

    /// Waits until all that was sent is done with, and returns what came to
    /// the member of it. Twice, for what is decided together may leave in
    /// another order.
    fn settle(&self) -> Vec<Vec<u8>> {
        let mut came = Vec::new();
        for _ in 0..2 {
            let probe = Peer::new(V4);
            let request = Request::new("OPTIONS", probe.address());
            probe.send(self.scene.front(), request.text());
            loop {
                let octets = self.scene.farm[0].receive();
                if String::from_utf8_lossy(&octets).contains(&request.call_id) {
                    break;
                }
                came.push(octets);
            }
        }
        came
    }

    #[track_caller]
    fn assert_silence(&self) {
        self.victims.iter().for_each(Peer::assert_silent);
        self.name_server.assert_silent();
    }
}

/// What a server answers that reads no more than it must.
fn answer(request: &[u8], status: &str) -> String {
    let text = String::from_utf8_lossy(request);
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let rows = text.split_inclusive("\r\n");
    let rows: String = rows
        .filter(|row| copied.iter().any(|name| row.starts_with(name)))
        .collect();
    format!("SIP/2.0 {status}\r\n{rows}Content-Length: 0\r\n\r\n")
}

/// URIs that mean a victim to somebody, and whether they name it to Viaduct,
/// so that it would be reached if that were allowed.
const URIS: [(&str, bool); 48] = [
    ("sip:VICTIM", true),
    ("sip:a@VICTIM", true),
    ("sips:a@VICTIM", true),
    ("SiP:a@VICTIM", true),
    ("sip:a:secret@VICTIM", true),
    ("sip:a%40MEMBER@VICTIM", true),
    ("sip:MEMBER;x@VICTIM", true),
    ("sip:OWN@VICTIM", true),
    ("sip:+391234;phone-context=x@VICTIM;user=phone", true),
    ("sip:a?b@VICTIM", true),
    ("sip:a@VICTIM;lr", true),
    ("sip:a@VICTIM;transport=udp", true),
    ("sip:a@VICTIM;transport=TCP", true),
    ("sip:a@VICTIM;transport=ws;lr", true),
    ("sip:a@VICTIM;ttl=255;method=ACK", true),
    ("sip:a@VICTIM;received=HOST;rport=PORT", true),
    ("sip:a@VICTIM;maddr=HOST", true),
    ("sip:a@x.example:PORT;maddr=HOST", true),
    ("sip:a@192.0.2.1:PORT;maddr=HOST;lr", true),
    ("sip:a@x.example:PORT;MADDR=HOST;transport=tls", true),
    ("sip:a@[2001:db8::1]:PORT;maddr=HOST", true),
    ("sip:a@[::ffff:HOST]:PORT", true),
    ("sip:a@[::FFFF:7f00:4d]:PORT", true),
    ("sip:a@[0:0:0:0:0:ffff:7f00:004d]:PORT;lr", true),
    ("sip:a@VICTIM6", true),
    ("sips:VICTIM6", true),
    ("sip:a@[0:0:0:0:0:0:0:1]:PORT6", true),
    ("sip:a@x.example:PORT6;maddr=[::1]", true),
    // What names it to another reader alone.
    ("sip:a@localhost:PORT", false),
    ("sip:a@HOST.:PORT", false),
    ("sip:a@0177.0.0.77:PORT", false),
    ("sip:a@127.0.77:PORT", false),
    ("sip:a@0x7f00004d:PORT", false),
    ("sip:a@2130706509:PORT", false),
    ("sip:a@127.0.0.077:PORT", false),
    ("sip:a@MEMBER@VICTIM", false),
    ("sip:a@MEMBER;x@VICTIM", false),
    ("sip:a@[::1%25lo]:PORT6", false),
    ("sip:a@[64:ff9b::HOST]:PORT", false),
    ("sip:a@VICTIM?Route=%3Csip:VICTIM%3E", false),
    ("sip:a@HOST", false),
    ("sip:a@MEMBER;maddr=HOST;x=PORT", false),
    ("sip:a@x.example:PORT;maddr=localhost", false),
    ("sip:VICTIM@OWN", false),
    ("sip:%40VICTIM@OWN;x=VICTIM", false),
    (
        "sip:d0000ffffffffffffffff7f00004dHEXffffffffffffffff@OWN;lr",
        false,
    ),
    (
        "sip:p0000ffffffffffffffff7f00004dHEXffffffffffffffff@OWN;lr",
        false,
    ),
    ("tel:+39012;phone-context=VICTIM", false),
];

/// Where in a request a URI can stand that somebody may follow. The first few
/// are where Viaduct looks.
const PLACES: [&str; 12] = [
    "Request-URI",
    "Route: <URI>",
    "Route: <sip:OWN;lr>, \"Ann\" <URI> ;x=y",
    "Route: <sip:OWN;lr>\r\nRoute: <sip:OWN>\r\nRoute: <URI>,<sip:MEMBER;lr>",
    "Route: <sip:OWN6;lr>,<URI>",
    "Route: <sip:x.example;lr>,<URI>",
    "Route: <sip:MEMBER;lr>,<URI>",
    "Record-Route: <URI>",
    "Path: <URI>",
    "Service-Route: <URI>\r\nContact: <URI>",
    "Contact: <URI>\r\nReply-To: <URI>\r\nRefer-To: <URI>\r\nP-Asserted-Identity: <URI>",
    "X-Forwarded-For: VICTIM\r\nForwarded: for=VICTIM",
];

const METHODS: [&str; 10] = [
    "INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS", "NOTIFY", "REFER", "PRACK", "WINK",
];

/// Top Vias that would send what comes back to a victim.
const VIAS: [&str; 10] = [
    "VICTIM",
    "VICTIM;rport",
    "VICTIM;rport=PORT;received=HOST",
    "x.example;maddr=HOST;rport=PORT",
    "VICTIM;maddr=HOST;ttl=1",
    "HOST:PORT;received=HOST;x=VICTIM",
    "[::1]:PORT6;received=::1",
    "VICTIM6;rport;maddr=[::1]",
    "localhost:PORT;received=HOST",
    "CALLER;rport, SIP/2.0/UDP VICTIM;received=HOST;rport=PORT",
];

impl Ambush {
    fn request(&self, method: &str, uri: &str, place: &str) -> Request {
        let request = self.scene.request(method);
        let uri = self.fill(uri);
        match place {
            "Request-URI" => request.uri(uri),
            rows => request.row(self.fill(rows).replace("URI", &uri)),
        }
    }

    fn with_via(&self, request: Request, via: &str) -> Request {
        let caller = self.scene.caller.address().to_string();
        let branch = request.via.split(";branch=").nth(1).expect("a branch");
        let (top, below) = via.split_once(", ").unwrap_or((via, ""));
        let comma = if below.is_empty() { "" } else { ", " };
        let via = format!("SIP/2.0/UDP {top};branch={branch}{comma}{below}");
        let via = self.fill(&via.replace("CALLER", &caller));
        request.via(via)
    }
}

#[test]
fn no_uri_from_outside_reaches_a_stranger_wherever_it_stands() {
    let ambush = Ambush::new(&["--record-route", "on", "--path", "on"]);
    let mut methods = METHODS.iter().cycle();
    let mut delivered = 0;
    for (uri, _) in URIS {
        for place in PLACES {
            let method = methods.next().expect("endless");
            delivered += ambush.play(&ambush.request(method, uri, place));
        }
        ambush.assert_silence();
    }
    // It was not for want of understanding that nothing was sent.
    assert!(delivered > URIS.len() * PLACES.len() / 2, "{delivered}");
}

/// The positive control: all that names a victim reaches it once that is
/// allowed, so silence is no accident of the test.
#[test]
fn each_uri_that_names_a_host_reaches_it_once_that_is_allowed() {
    let ambush = Ambush::new(&["--allow-next-hop", "127.0.0.77,::1"]);
    for (uri, names) in URIS {
        for place in &PLACES[..5] {
            // What is asked for by another transport is named all the same.
            ambush.play(&ambush.request("INVITE", uri, place));
            let heard = ambush.victims.iter().any(|victim| victim.poll().is_some());
            assert_eq!(heard, names, "{uri} as {place}");
        }
    }
}

#[test]
fn a_member_that_is_named_is_reached_where_a_stranger_is_not() {
    let ambush = Ambush::new(&[]);
    let [victim, _] = &ambush.victims;
    let to = victim.address().to_string();
    let member = Scene::with(
        vec![Peer::new(V4)],
        &[
            "--listen".to_owned(),
            "127.0.0.1:0".into(),
            "--to".into(),
            to.clone(),
        ],
        &[],
    );
    let request = |scene: &Scene| scene.request("BYE").row(format!("Route: <sip:{to};lr>"));
    ambush.play(&request(&ambush.scene));
    ambush.assert_silence();
    member.send(request(&member).text());
    assert_eq!(victim.receive_from().1, member.front());
}

#[test]
fn whatever_a_request_is_made_of_it_reaches_no_stranger() {
    let ambush = Ambush::new(&["--record-route", "on", "--path", "on"]);
    let uri = || prop::sample::select(URIS.map(|(uri, _)| uri).to_vec());
    let place = prop::sample::select(PLACES[1..].to_vec());
    let method = prop::sample::select(METHODS.to_vec());
    let via = prop::option::of(prop::sample::select(VIAS.to_vec()));
    let places = prop::collection::vec((place, uri()), 0..4);
    let tag = any::<bool>();
    let requests = (method, uri(), places, via, tag, 0..3_u8);
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let ran = runner.run(&requests, |(method, uri, places, via, tag, hops)| {
        let mut request = ambush.request(method, uri, "Request-URI");
        for (place, uri) in places {
            let more = ambush.request(method, uri, place);
            request.rows.extend(more.rows.into_iter().skip(1));
        }
        if let Some(via) = via {
            request = ambush.with_via(request, via);
        }
        if tag {
            request = request.to("<sip:desk@farm.example>;tag=t");
        }
        let hops = format!("Max-Forwards: {hops}");
        ambush.play(&request.max_forwards(&hops));
        for victim in ambush.victims.iter().chain([&ambush.name_server]) {
            prop_assert!(victim.poll().is_none());
        }
        Ok(())
    });
    ran.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn whatever_via_says_all_that_comes_of_a_request_comes_to_the_host_it_is_from() {
    let ambush = Ambush::new(&[]);
    let own = ambush.scene.front();
    let [victim, victim6] = ambush.victims.each_ref().map(Peer::address);
    // All ports of this host that the Vias name are listened at.
    let at = |port| Peer::at(SocketAddr::from(([127, 0, 0, 80], port)));
    let named = BTreeSet::from([victim.port(), victim6.port()]);
    let mut doors: Vec<Peer> = named.into_iter().map(at).collect();
    doors.push(at(0));
    let attacker = doors.last().expect("a socket");
    for via in VIAS {
        let answered = |request: &Request| {
            attacker.send(own, request.text());
            let got = ambush.settle();
            for octets in &got {
                for status in ["100 Trying", "200 OK"] {
                    ambush.scene.farm[0].send(own, answer(octets, status));
                }
            }
            assert!(ambush.settle().is_empty());
            let came = doors
                .iter()
                .flat_map(|door| std::iter::from_fn(|| door.poll()));
            came.map(|(octets, source)| {
                assert_eq!(source, own);
                status(octets)
            })
            .collect::<BTreeSet<u16>>()
        };
        let request = Request::new("OPTIONS", attacker.address());
        let request = ambush.with_via(
            request,
            &via.replace("CALLER", &attacker.address().to_string()),
        );
        assert_eq!(answered(&request), [100, 200].into(), "{via}");
        let refused = request.max_forwards("Max-Forwards: 0");
        assert_eq!(answered(&refused), [483].into(), "{via}");
        ambush.assert_silence();
    }
}

#[test]
fn no_cookie_from_outside_reaches_anybody_but_members() {
    let mut ambush = Ambush::new(&["--record-route", "on", "--path", "on"]);
    let own = ambush.scene.front();
    let phone = Peer::at(SocketAddr::from(([127, 0, 0, 79], 0)));
    // True ones, as they come to the farm when a phone registers and calls.
    let register = Request::new("REGISTER", phone.address());
    phone.send(own, register.text());
    let path = only(&ambush.settle()[0], "path");
    let invite = Request::new("INVITE", phone.address());
    phone.send(own, invite.text());
    let dialog = only(&ambush.settle()[0], "record-route");
    let user = |row: &str| {
        let user = row.split('@').next().expect("a user part");
        user.trim_start_matches("<sip:").to_owned()
    };
    let (path, dialog) = (user(&path), user(&dialog));
    let flow = |peer: &Peer| {
        let SocketAddr::V4(address) = peer.address() else {
            panic!("an IPv4 peer")
        };
        format!("{:08x}{:04x}", address.ip().to_bits(), address.port())
    };
    let [stolen, theirs] = [flow(&ambush.victims[0]), flow(&phone)];
    assert!(
        path.contains(&theirs) && dialog.contains(&theirs),
        "{path} {dialog}"
    );
    let without = |cookie: &str| cookie.replace(&theirs, "");
    let mut cookies = BTreeSet::new();
    for cookie in [&path, &dialog] {
        cookies.insert(cookie.clone());
        cookies.insert(cookie.to_ascii_uppercase());
        cookies.insert(cookie.replace(&theirs, &stolen));
        cookies.insert(without(cookie));
        cookies.insert(cookie.replace(&theirs, "0000000000000000000000000000000113c4"));
    }
    // One as the other.
    cookies.insert(path.replacen('p', "d", 1));
    cookies.insert(dialog.replacen('d', "p", 1));
    for cookie in &cookies {
        for (method, call_id) in [("BYE", &invite.call_id), ("INVITE", &register.call_id)] {
            for (uri, route) in [
                ("sip:COOKIE@OWN", ""),
                ("sip:COOKIE@OWN", "Route: <sip:VICTIM>"),
                ("sip:a@VICTIM", "Route: <sip:COOKIE@OWN;lr>"),
                (
                    "sip:a@VICTIM",
                    "Route: <sip:COOKIE@OWN;lr>, <sip:VICTIM;lr>",
                ),
                (
                    "sip:a@x.example",
                    "Route: <sip:OWN;lr>, <sip:COOKIE@OWN;lr>",
                ),
                ("sip:a@x.example", "Route: <sip:COOKIE@VICTIM;lr>"),
                (
                    "sip:a@x.example",
                    "Route: <sip:COOKIE@OWN6;lr>, <sip:COOKIE@OWN;lr>",
                ),
            ] {
                let fill = |text: &str| ambush.fill(text).replace("COOKIE", cookie);
                let mut request = ambush.scene.request(method).uri(fill(uri));
                request.call_id.clone_from(call_id);
                if !route.is_empty() {
                    request = request.row(fill(route));
                }
                ambush.play(&request);
                ambush.assert_silence();
                phone.assert_silent();
            }
        }
    }
    // Planted in the Record-Route or Path of what an outsider sends, it comes
    // back from the member.
    let member = &ambush.scene.farm[0];
    for cookie in &cookies {
        for call_id in [&register.call_id, &invite.call_id] {
            let request = Request::new("NOTIFY", member.address())
                .call_id(call_id)
                .uri(format!("sip:ann@{}", ambush.scene.caller.address()))
                .row(format!("Route: <sip:{cookie}@{own};lr>"));
            member.send(own, request.text());
            // But for what Viaduct answers to it.
            let got = ambush.settle();
            assert!(got.iter().all(|octets| octets.starts_with(b"SIP/2.0 403")));
            ambush.assert_silence();
        }
    }
    while phone.poll().is_some() || ambush.scene.caller.poll().is_some() {}
    // The true ones do their work where they may: from the member.
    for (cookie, call_id) in [(&path, &register.call_id), (&dialog, &invite.call_id)] {
        let request = Request::new("NOTIFY", member.address())
            .call_id(call_id)
            .uri("sip:ann@192.0.2.1")
            .row(format!("Route: <sip:{cookie}@{own};lr>"));
        member.send(own, request.text());
        assert_eq!(phone.receive_from().1, own);
    }
    assert!(ambush.scene.viaduct.counter("cookies-forged") > 0);
}

#[test]
fn responses_of_an_outsider_reach_nobody_but_the_caller_they_were_meant_for() {
    let ambush = Ambush::new(&[]);
    let own = ambush.scene.front();
    let outsider = Peer::at(SocketAddr::from(([127, 0, 0, 78], 0)));
    ambush.scene.send(ambush.scene.request("INVITE").text());
    let got = ambush.settle().remove(0);
    let true_one = response(&got, "200 OK", "t");
    let ours = branch(&got);
    let caller = ambush.scene.caller.address().to_string();
    let mut forged: Vec<String> = Vec::new();
    for via in VIAS {
        let via = ambush.fill(&via.replace("CALLER", &caller));
        for (top, branch) in [
            (own.to_string(), ours.as_str()),
            (own.to_string(), "z9hG4bKs000123456789abcdef"),
            (own.to_string(), "z9hG4bKo0001234567890123456789abcdef01"),
            ("x.example".to_owned(), ours.as_str()),
        ] {
            for separator in ["\r\nVia: ", ", "] {
                let vias = format!(
                    "Via: SIP/2.0/UDP {top};branch={branch}{separator}SIP/2.0/UDP {via};branch=z9hG4bK1"
                );
                forged.push(format!(
                    "SIP/2.0 200 OK\r\n{vias}\r\nFrom: <sip:a@b.example>;tag=1\r\n\
                     To: <sip:b@b.example>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\
                     Content-Length: 0\r\n\r\n"
                ));
            }
        }
        // The true one, but for the Via that it would follow.
        let below = format!("via: SIP/2.0/UDP {caller}");
        assert!(true_one.contains(&below), "{true_one}");
        forged.push(true_one.replace(&below, &format!("via: SIP/2.0/UDP {via}")));
    }
    for forged in forged {
        outsider.send(own, &forged);
        assert!(ambush.settle().is_empty(), "{forged}");
        ambush.assert_silence();
        ambush.scene.caller.assert_silent();
        outsider.assert_silent();
    }
    outsider.send(own, &true_one);
    assert_eq!(status(ambush.scene.caller.receive()), 200);
}

#[test]
fn whoever_names_us_gets_one_request_to_the_farm_for_one_however_often() {
    let ambush = Ambush::new(&["--record-route", "on"]);
    let mapped = format!("[::ffff:127.0.0.1]:{}", ambush.scene.front().port());
    for own in ["OWN", "OWN6", mapped.as_str()] {
        for place in PLACES {
            let request = ambush.request("INVITE", &format!("sip:a@{own};lr"), place);
            assert_eq!(ambush.play(&request), 1, "{own} as {place}");
            let more = ambush.fill("Route: <sip:OWN;lr>, <sip:a@OWN;maddr=127.0.0.1>, <sip:OWN6>");
            assert_eq!(ambush.play(&request.row(more)), 1, "{own} as {place}");
        }
    }
    ambush.assert_silence();
}

/// What tells an attacker whether a guess came closer is a way in: nothing is
/// seen of a false branch that is not seen of a strange Via, nor of a false
/// cookie that is not seen of none. Our own counters tell them apart.
#[test]
fn a_false_mac_is_met_with_the_same_silence_as_none() {
    let mut ambush = Ambush::new(&[]);
    let own = ambush.scene.front();
    let outsider = Peer::at(SocketAddr::from(([127, 0, 0, 78], 0)));
    ambush.scene.send(ambush.scene.request("INVITE").text());
    let got = ambush.settle().remove(0);
    let true_one = response(&got, "200 OK", "t");
    let ours = branch(&got);
    let flipped = |at: usize| {
        let digit = if &ours[at..=at] == "0" { "1" } else { "0" };
        let other = format!("{}{digit}{}", &ours[..at], &ours[at + 1..]);
        true_one.replace(&ours, &other)
    };
    let strange = true_one.replacen(&format!("UDP {own}"), "UDP 192.0.2.7:5060", 1);
    let cases = [
        (flipped(ours.len() - 1), "drop-forged-response"),
        (flipped(ours.len() - 16), "drop-forged-response"),
        (flipped(8), "drop-forged-response"),
        (true_one.replace(&ours, "z9hG4bKx"), "drop-forged-response"),
        (strange, "drop-not-our-via"),
    ];
    for (forged, reason) in cases {
        assert_ne!(forged, true_one);
        let before = ambush.scene.viaduct.counters();
        outsider.send(own, &forged);
        assert!(ambush.settle().is_empty());
        let after = ambush.scene.viaduct.counters();
        let mut changed = after.since(&before);
        // The probes of this test.
        changed.retain(|name, _| name.starts_with("drop-") || name.starts_with("reply-"));
        assert_eq!(changed, [(reason.to_owned(), 1)].into());
        assert_eq!(after.get("responses-forwarded"), 0);
        outsider.assert_silent();
        ambush.scene.caller.assert_silent();
    }
    // A Route with a false cookie leaves the same octets as one with none.
    let request = ambush.scene.request("BYE");
    let through = |user: &str| {
        let route = format!("Route: <sip:{user}{own};lr>");
        ambush.scene.send(request.clone().row(route).text());
        ambush.settle().remove(0)
    };
    let plain = through("");
    for cookie in [
        "d0000ffffffffffffffffffffffffffffffff@",
        "p0000ffffffffffffffffffffffffffffffff@",
        "d0000ffffffffffffffff7f00004d13c4ffffffffffffffff@",
    ] {
        assert_eq!(through(cookie), plain, "{cookie}");
    }
}
