//! Where a request goes: whom Route and Request-URI may name, what a member
//! may ask for, and what the `[[route]]` rules choose (RFC 3261 §16.4 to
//! §16.6).

use std::collections::BTreeSet;
use std::net::SocketAddr;

use support::dialog::{Peer, Request, Scene, read, response, status, values};
use support::fixture::{self, Decider};
use support::net::{V4, V6, free_addresses};
use support::viaduct::Viaduct;
use viaduct::config::Config;
use viaduct::proxy::{Decision, Reason};

const CALLS: usize = 40;

/// A peer that no request may ever reach.
fn trap() -> Peer {
    Peer::new(V4)
}

#[test]
fn a_member_named_by_route_or_request_uri_takes_the_request() {
    let scene = Scene::new(4, &[]);
    let own = scene.front();
    for (number, member) in scene.farm.iter().enumerate() {
        let address = member.address();
        for _ in 0..CALLS / 4 {
            let plain = scene.request("BYE");
            for named in [
                plain.clone().row(format!("Route: <sip:{address};lr>")),
                plain
                    .clone()
                    .row(format!("Route: <sip:{own};lr>, <sip:{address};lr>")),
                plain
                    .clone()
                    .row(format!("Route: <sip:{own};lr>"))
                    .row(format!("Route: <sip:x@{address};lr>")),
                plain.clone().uri(format!("sip:desk@{address};ob")),
                plain
                    .clone()
                    .uri(format!("sip:desk@{own}"))
                    .row(format!("Route: <sip:{address}>")),
                plain.clone().uri(format!(
                    "sip:desk@far.example:{};maddr=127.0.0.1;x={own}",
                    address.port()
                )),
            ] {
                assert_eq!(scene.pass(named.text()).0, number, "{}", named.text());
            }
        }
    }
}

#[test]
fn route_goes_before_the_request_uri() {
    let scene = Scene::new(2, &[]);
    let [first, second] = &scene.farm[..] else {
        panic!("two members")
    };
    let request = scene
        .request("BYE")
        .uri(format!("sip:a@{}", first.address()));
    let request = request.row(format!("Route: <sip:{};lr>", second.address()));
    assert_eq!(scene.pass(request.text()).0, 1);
}

#[test]
fn a_disabled_member_is_not_reached_by_its_name() {
    let (on, off) = (Peer::new(V4), Peer::new(V4));
    let args = [
        "--listen".to_owned(),
        "127.0.0.1:0".into(),
        "--to".into(),
        on.address().to_string(),
        "--to".into(),
        format!("sip:{};state=disabled", off.address()),
    ];
    let address = off.address();
    let scene = Scene::with(vec![on, off], &args, &[]);
    let named = scene
        .request("BYE")
        .row(format!("Route: <sip:{address};lr>"));
    assert_eq!(scene.pass(named.text()).0, 0);
    assert_eq!(
        scene
            .pass(scene.request("BYE").uri(format!("sip:{address}")).text())
            .0,
        0
    );
}

#[test]
fn a_draining_member_is_reached_by_its_name() {
    let (on, draining) = (Peer::new(V4), Peer::new(V4));
    let address = draining.address();
    let args = [
        "--listen".to_owned(),
        "127.0.0.1:0".into(),
        "--to".into(),
        on.address().to_string(),
        "--to".into(),
        format!("sip:{address};state=draining"),
    ];
    let scene = Scene::with(vec![on, draining], &args, &[]);
    for _ in 0..CALLS {
        let routed = scene
            .request("BYE")
            .row(format!("Route: <sip:{address};lr>"));
        assert_eq!(scene.pass(routed.text()).0, 1);
        let named = scene.request("BYE").uri(format!("sip:desk@{address}"));
        assert_eq!(scene.pass(named.text()).0, 1);
    }
}

#[test]
fn nothing_from_outside_goes_to_a_stranger() {
    let scene = Scene::new(2, &[]);
    let trap = trap();
    let address = trap.address();
    let own = scene.front();
    for request in [
        scene.request("INVITE").uri(format!("sip:a@{address}")),
        scene.request("INVITE").uri(format!(
            "sip:a@x.example:{};maddr=127.0.0.1",
            address.port()
        )),
        scene
            .request("INVITE")
            .uri(format!("sip:{address};transport=tcp")),
        scene
            .request("INVITE")
            .row(format!("Route: <sip:{address};lr>")),
        scene
            .request("INVITE")
            .row(format!("Route: <sip:{own};lr>,<sip:{address};lr>")),
        scene
            .request("ACK")
            .row(format!("Route: <sip:{own};lr>"))
            .row(format!("Route: <sip:{address}>")),
        scene
            .request("BYE")
            .uri("sip:a@localhost")
            .row("Route: <sip:127.0.0.1:1;lr>"),
        scene.request("BYE").uri("sip:a@255.255.255.255"),
        scene
            .request("BYE")
            .uri(format!("sip:a@[::ffff:127.0.0.1]:{}", address.port())),
        scene
            .request("REGISTER")
            .row(format!("Contact: <sip:{address}>"))
            .to(format!("<sip:{address}>")),
    ] {
        scene.pass(request.text());
    }
    scene.assert_nothing_left();
    trap.assert_silent();
}

#[test]
fn who_claims_to_be_a_member_is_none() {
    let scene = Scene::new(2, &[]);
    let trap = trap();
    let member = scene.farm[0].address();
    let request = Request::new("INVITE", member)
        .uri(format!("sip:a@{}", trap.address()))
        .via(format!(
            "SIP/2.0/UDP {member};received={};branch=z9hG4bKq",
            member.ip()
        ))
        .from(format!("<sip:a@{member}>;tag=1"))
        .row(format!("Contact: <sip:{member}>"))
        .row("User-Agent: member");
    // The same address and another port is not the member either.
    scene.pass(request.text());
    scene.assert_nothing_left();
    trap.assert_silent();
}

/// And is left to itself: we stay in no dialog with it.
#[test]
fn an_allowed_host_may_be_named() {
    let allowed = ["--allow-next-hop", "127.0.0.21,127.0.0.24/31"];
    let scene = Scene::new(2, &[&allowed[..], &["--record-route"]].concat());
    for (ip, allowed) in [
        ([127, 0, 0, 21], true),
        ([127, 0, 0, 25], true),
        ([127, 0, 0, 22], false),
    ] {
        let host = Peer::at(SocketAddr::from((ip, 0)));
        let address = host.address();
        for method in ["BYE", "INVITE"] {
            let plain = scene.request(method);
            for request in [
                plain.clone().uri(format!("sip:a@{address}")),
                plain.clone().row(format!("Route: <sip:{address};lr>")),
            ] {
                scene.send(request.text());
                let got = if allowed {
                    let (got, source) = host.receive_from();
                    assert_eq!(source, scene.front());
                    assert_eq!(read(&got).call_id, request.call_id.into_bytes());
                    got
                } else {
                    scene.at_farm().1
                };
                let stays = values(&got, "record-route").len();
                assert_eq!(stays == 1, method == "INVITE" && !allowed);
            }
        }
        scene.assert_nothing_left();
        host.assert_silent();
    }
}

#[test]
fn a_member_is_taken_at_its_word() {
    let scene = Scene::new(3, &[]);
    let phone = Peer::new(V4);
    let address = phone.address();
    let own = scene.front();
    for member in &scene.farm {
        let from = |method: &str| Request::new(method, member.address());
        for request in [
            from("BYE").uri(format!("sip:ann@{address}")),
            from("INVITE").uri(format!("sip:ann@{address};transport=UDP")),
            from("BYE")
                .uri("sip:ann@far.example")
                .row(format!("Route: <sip:{address};lr>")),
            from("BYE")
                .uri(format!("sip:ann@{}", scene.farm[0].address()))
                .row(format!("Route: <sip:{own};lr>, <sip:{address};lr>")),
            from("NOTIFY").uri(format!(
                "sip:ann@far.example:{};maddr=127.0.0.1",
                address.port()
            )),
        ] {
            member.send(own, request.text());
            let (got, source) = phone.receive_from();
            assert_eq!(source, own);
            // And the way back.
            let answer = response(&got, "200 OK", "t");
            phone.send(own, &answer);
            assert_eq!(read(member.receive()).call_id, request.call_id.into_bytes());
        }
    }
    scene.assert_nothing_left();
}

#[test]
fn a_member_may_name_another_member() {
    let scene = Scene::new(2, &[]);
    let [first, second] = &scene.farm[..] else {
        panic!("two members")
    };
    for _ in 0..CALLS {
        let request =
            Request::new("REFER", first.address()).uri(format!("sip:{}", second.address()));
        first.send(scene.front(), request.text());
        assert_eq!(scene.at_farm().0, 1);
    }
}

#[test]
fn a_next_hop_that_udp_cannot_reach_is_answered_503_to_the_member() {
    let scene = Scene::new(1, &[]);
    let member = &scene.farm[0];
    for uri in [
        "sip:ann@far.example",
        "sip:ann@127.0.0.1:9;transport=tcp",
        "tel:+39012",
        "sip:ann@[::1]:9",
    ] {
        member.send(
            scene.front(),
            Request::new("INVITE", member.address()).uri(uri).text(),
        );
        assert_eq!(status(member.receive()), 503, "{uri}");
    }
}

#[test]
fn a_member_cannot_make_us_send_where_nobody_may_be_sent_to() {
    let mut scene = Scene::new(1, &[]);
    let member = &scene.farm[0];
    let own = scene.front();
    let uris = [
        "sip:a@255.255.255.255",
        "sip:a@224.0.0.5:5060",
        "sip:a@0.0.0.0",
        "sip:a@0.1.2.3",
    ];
    for uri in uris {
        member.send(
            own,
            Request::new("INVITE", member.address()).uri(uri).text(),
        );
    }
    scene.assert_nothing_left();
    scene.assert_counter("drop-forbidden-next-hop", uris.len() as u64);
}

/// Who says 127.0.0.1 means itself, as a Contact that a member has from outside may.
#[test]
fn a_member_elsewhere_does_not_lead_us_to_a_loopback_address() {
    let forbidden = |config: &Config, member: SocketAddr, uri: &str| {
        let plain = || Request::new("BYE", member);
        let route = format!("Route: <{uri};lr>");
        let [named, routed] = [plain().uri(uri), plain().row(route)].map(|request| {
            let (decision, _) = Decider::new(config).decide(request.text().as_bytes(), member);
            matches!(decision, Decision::Drop(Reason::ForbiddenNextHop))
        });
        assert_eq!(named, routed, "{uri}");
        named
    };
    let uri = "sip:x@127.0.0.1:5080";
    let elsewhere = fixture::destination(0);
    let mut config = fixture::config();
    assert!(!forbidden(&config, elsewhere, "sip:x@192.0.2.77:5080"));
    for uri in [uri, "sip:x@127.9.8.7", "sip:x@[::ffff:127.0.0.1]:5080"] {
        assert!(forbidden(&config, elsewhere, uri), "{uri}");
    }
    // A member that is there too, which a listener for others does not help.
    let here: SocketAddr = "127.0.0.2:5060".parse().expect("an address");
    config.sets[0].destinations[1].address = here;
    assert!(!forbidden(&config, elsewhere, "sip:x@127.0.0.2"));
    assert!(forbidden(&config, here, uri));
    for listener in ["127.0.0.3:5060", "0.0.0.0:5060"] {
        config.listeners[0].address = listener.parse().expect("an address");
        assert!(!forbidden(&config, here, uri), "{listener}");
        assert!(forbidden(&config, elsewhere, uri), "{listener}");
    }
    config.allowed_next_hops = vec!["127.0.0.0/24".parse().expect("a network")];
    assert!(!forbidden(&config, elsewhere, uri));
}

/// RFC 5954 §4.2: they are compared as numbers.
#[test]
fn any_way_to_write_an_advertised_ipv6_address_names_us() {
    let farm = Peer::new(V6);
    let advertise = ["--advertise", "[2001:db8::99]:5070"];
    let args = ["--listen", "[::1]:0", "--to", &farm.address().to_string()].map(str::to_owned);
    let scene = Scene::with(vec![farm], &args, &advertise);
    let caller = Peer::new(V6);
    for host in [
        "[2001:db8::99]",
        "[2001:DB8:0:0::99]",
        "[2001:db8::0.0.0.153]",
    ] {
        let request = Request::new("INVITE", caller.address());
        let request = request.row(format!("Route: <sip:{host}:5070;lr>"));
        caller.send(scene.front(), request.text());
        let got = String::from_utf8(scene.farm[0].receive()).expect("text");
        assert!(!got.contains("Route:"), "{got}");
        let answer = response(got.as_bytes(), "200 OK", "t");
        let answer = answer.replacen("[2001:db8::99]", host, 1);
        scene.farm[0].send(scene.front(), answer);
        assert_eq!(status(caller.receive()), 200, "{host}");
    }
}

#[test]
fn a_request_that_names_us_alone_is_dispatched_whoever_sends_it() {
    let scene = Scene::new(1, &[]);
    let own = scene.front();
    let member = &scene.farm[0];
    let desk = format!("sip:desk@{own}");
    for uri in [&*desk, "tel:+39012", "urn:service:sos"] {
        let request = Request::new("INVITE", member.address()).uri(uri);
        let request = request.row(format!("Route: <sip:{own};lr>"));
        member.send(own, request.text());
        let (_, got) = scene.at_farm();
        // It came by us once: no loop, one hop less, one Via more.
        assert_eq!(read(&got).max_forwards, Some(69), "{uri}");
        assert_eq!(read(&got).vias.len(), 2);
        assert!(read(&got).routes.is_empty());
    }
}

#[test]
fn what_a_listener_is_also_known_as_names_us() {
    let names = "also-known-as = ['LB.example.com.', 'sip.example.com:5080', '[2001:db8::99]']\n";
    let text = format!("[[listener]]\naddress = '127.0.0.1:0'\n{names}");
    let scene = with_listeners(1, &text, "");
    let (own, member) = (scene.front(), scene.farm[0].address());
    let port = own.port();
    for name in [
        &format!("lb.example.com:{port}"),
        &format!("Lb.Example.Com.:{port}"),
        // SRV, which is asked where there is no port, may lead to any.
        "lb.example.com",
        "SIP.example.com.:5080",
        &format!("[2001:DB8::0:99]:{port}"),
    ] {
        let route = format!("Route: <sip:{name};lr>");
        let uri = format!("sip:desk@{name}");
        for from in [scene.caller.address(), member] {
            let plain = || Request::new("INVITE", from);
            let by_route = plain().uri(format!("sip:desk@{own}")).row(&route);
            for request in [by_route, plain().uri(&uri)] {
                match from == member {
                    true => scene.farm[0].send(own, request.text()),
                    false => scene.send(request.text()),
                }
                let got = read(scene.at_farm().1);
                assert_eq!(got.call_id, request.call_id.into_bytes());
                assert!(got.routes.is_empty(), "{name}");
                // What our Via says stays as it is.
                let via = String::from_utf8_lossy(&got.vias[0]).into_owned();
                assert!(via.contains(&own.to_string()), "{via}");
            }
        }
    }
    let others = [
        "lb.example.com:1",
        "lb.example.com:5060",
        "sip.example.com",
        "b.example.com:5080",
        "[2001:db8::99]",
    ];
    for name in others {
        let request = Request::new("INVITE", member).uri(format!("sip:desk@{name}"));
        scene.farm[0].send(own, request.text());
        assert_eq!(status(scene.farm[0].receive()), 503, "{name}");
    }
    scene.assert_nothing_left();
}

/// Viaduct with a farm of four sets, one member each, by a file.
fn with_rules(rules: &str) -> Scene {
    let listeners = "[[listener]]\nname = \"inside\"\naddress = \"127.0.0.1:0\"\n\
                     [[listener]]\nname = \"outside\"\naddress = \"127.0.0.2:0\"\n\
                     [[listener]]\nname = \"six\"\naddress = \"[::1]:0\"\n";
    with_listeners(4, listeners, rules)
}

/// Viaduct with a farm of `sets`, one member each, by a file.
fn with_listeners(sets: usize, listeners: &str, rules: &str) -> Scene {
    let farm: Vec<Peer> = (0..sets).map(|_| Peer::new(V4)).collect();
    let mut text = listeners.to_owned();
    for (number, member) in farm.iter().enumerate() {
        text += &format!(
            "[[set]]\nname = \"s{number}\"\ndestinations = [\"{}\"]\n",
            member.address()
        );
    }
    text += rules;
    Scene::with_file(farm, &text, &[])
}

#[test]
fn rules_choose_by_method_host_and_user() {
    let scene = with_rules(
        "[[route]]\nset = \"s1\"\nmethod = [\"REGISTER\", \"PUBLISH\"]\n\
         [[route]]\nset = \"s2\"\nhost = [\"Voice.example\", \"192.0.2.5\", \"[2001:db8::5]\"]\nuser-prefix = \"+39\"\n\
         [[route]]\nset = \"s3\"\nhost = \"voice.example\"\n\
         [[route]]\nset = \"s1\"\nuser-prefix = [\"00\", \"ann\"]\n",
    );
    for (method, uri, set) in [
        ("REGISTER", "sip:far.example", 1),
        ("PUBLISH", "sip:+39@voice.example", 1),
        ("register", "sip:far.example", 0),
        ("INVITE", "sip:+39012@voice.example", 2),
        ("INVITE", "sip:+39012@VOICE.EXAMPLE:5070;x=y", 2),
        ("INVITE", "sip:+39@192.0.2.5", 2),
        ("INVITE", "sip:+39@[2001:DB8::5]", 2),
        ("INVITE", "sip:+39@[2001:db8:0:0::0:5]", 2),
        ("INVITE", "sip:+39@[2001:db8::6]", 0),
        ("INVITE", "sip:+3@192.0.2.5", 0),
        ("INVITE", "sip:voice.example", 3),
        ("INVITE", "sip:39@voice.example", 3),
        ("INVITE", "sip:a@voice.example.org", 0),
        ("INVITE", "sip:annabel@far.example", 1),
        ("INVITE", "sip:Ann@far.example", 0),
        ("INVITE", "tel:0039", 1),
        ("OPTIONS", "sip:00", 0),
    ] {
        assert_eq!(
            scene.pass(scene.request(method).uri(uri).text()).0,
            set,
            "{method} {uri}"
        );
    }
}

/// RFC 3966 §5: they say nothing.
#[test]
fn visual_separators_do_not_pass_by_a_rule() {
    let scene = with_rules(
        "[[route]]\nset = \"s1\"\nuser-prefix = [\"+49900\", \"(0)900\"]\n\
         [[route]]\nset = \"s2\"\nuser-prefix = \"service:sos\"\n",
    );
    for (uri, set) in [
        ("tel:+49-900-123", 1),
        ("tel:+49(900)123", 1),
        ("TEL:+49.9.0.0.123;x=y", 1),
        ("tel:0900", 1),
        ("tel:+49-901-123", 0),
        ("sip:+49-900-123@far.example;user=phone", 1),
        ("sip:+49%2D900-123@far.example;x;USER=Phone;y=z", 1),
        ("sip:+49-900-123@far.example", 0),
        ("sip:+49-900-123@far.example;user=ip", 0),
        ("urn:service:sos", 2),
        ("urn:Service:SOS.fire", 2),
        ("sip:service:SOS@far.example", 0),
    ] {
        let (member, _) = scene.pass(scene.request("INVITE").uri(uri).text());
        assert_eq!(member, set, "{uri}");
    }
}

#[test]
fn a_rule_for_invite_claims_its_cancel_and_ack() {
    let scene = with_rules("[[route]]\nset = \"s2\"\nmethod = \"INVITE\"\n");
    let invite = scene.request("INVITE");
    for (method, set) in [("INVITE", 2), ("CANCEL", 2), ("ACK", 2), ("BYE", 0)] {
        assert_eq!(scene.pass(invite.method(method).text()).0, set, "{method}");
    }
}

#[test]
fn rules_choose_by_source_and_listener() {
    let scene = with_rules(
        "[[route]]\nset = \"s1\"\nlistener = \"outside\"\nsource = [\"127.0.0.40/30\", \"::1\"]\n\
         [[route]]\nset = \"s2\"\nlistener = [\"outside\", \"six\"]\n\
         [[route]]\nset = \"s3\"\nsource = \"127.0.0.41\"\n",
    );
    let fronts: Vec<SocketAddr> = (0..3).map(|number| scene.viaduct.address(number)).collect();
    let mut chosen = BTreeSet::new();
    for (source, listener, set) in [
        ("127.0.0.40:0", 1, 1),
        ("127.0.0.43:0", 1, 1),
        ("127.0.0.44:0", 1, 2),
        ("127.0.0.41:0", 0, 3),
        ("127.0.0.42:0", 0, 0),
        ("[::1]:0", 2, 2),
    ] {
        let caller = Peer::at(source.parse().expect("an address"));
        assert_eq!(caller.address().is_ipv6(), listener == 2);
        caller.send(
            fronts[listener],
            Request::new("INVITE", caller.address()).text(),
        );
        let got = scene.farm[set].receive();
        assert!(read(got).vias.len() == 2, "{source}");
        chosen.insert(set);
    }
    assert_eq!(chosen.len(), 4);
}

#[test]
fn a_ring_of_balancers_ends_by_max_forwards_and_multiplies_nothing() {
    const HOPS: u64 = 23;
    let [first, second, third] = free_addresses(V4);
    // To each the next is a member, and the one before nobody.
    let ring = [(first, second), (second, third), (third, first)].map(|(own, next)| {
        let args = ["--listen", "OWN", "--to", "NEXT", "--workers", "1"];
        let args = args.map(|arg| arg.replace("OWN", &own.to_string()));
        Viaduct::start(&args.map(|arg| arg.replace("NEXT", &next.to_string())))
    });
    let caller = Peer::new(V4);
    for uri in [
        "sip:desk@farm.example".to_owned(),
        format!("sip:desk@{first}"),
    ] {
        let request = Request::new("INVITE", caller.address()).uri(uri);
        let hops = format!("Max-Forwards: {HOPS}");
        caller.send(first, request.max_forwards(&hops).text());
        let (answer, source) = caller.receive_from();
        assert_eq!(source, first);
        assert_eq!(status(&answer), 483);
    }
    caller.assert_silent();
    let mut requests = 0;
    for viaduct in ring {
        let counters = viaduct.stop();
        requests += counters.get("requests-forwarded");
        // Each passed on as many responses as requests.
        let responses = counters.get("responses-forwarded");
        assert_eq!(responses, counters.get("requests-forwarded"));
    }
    assert_eq!(requests, 2 * HOPS);
    caller.assert_silent();
}
