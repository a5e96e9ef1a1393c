//! Dialogs keep their destination by the cookie in our Record-Route, whatever
//! the hash says, in both directions (RFC 3261 §16.4, §16.6 item 4, RFC 5658).

use support::dialog::{Peer, Request, Scene, response, status, two_listeners, values};
use support::net::{V4, V6};
use support::stateful::only;

fn scene(members: usize) -> Scene {
    Scene::new(members, &["--record-route"])
}

/// A request of the dialog that `first` began, back along `route`.
fn within(scene: &Scene, first: &Request, method: &str, route: &str) -> Request {
    Request {
        cseq: first.cseq + 1,
        ..scene.request(method)
    }
    .call_id(&first.call_id)
    .from(&first.from)
    .to("<sip:desk@farm.example>;tag=t")
    .row(format!("Route: {route}"))
}

#[test]
fn our_record_route_names_us_with_lr_and_stands_above_all_others() {
    let scene = scene(2);
    for method in ["INVITE", "SUBSCRIBE", "REFER", "NOTIFY"] {
        let invite = scene
            .request(method)
            .row("Record-Route: <sip:p@edge.example;lr>");
        let (_, octets) = scene.pass(invite.text());
        let found = values(&octets, "record-route");
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].ends_with(&format!("@{};lr>", scene.front())),
            "{found:?}"
        );
        assert_eq!(found[1], "<sip:p@edge.example;lr>");
        // A retransmission gets the same octets.
        assert_eq!(scene.pass(invite.text()).1, octets);
    }
    for method in ["ACK", "BYE", "REGISTER", "MESSAGE", "OPTIONS", "CANCEL"] {
        let (_, octets) = scene.pass(scene.request(method).text());
        assert_eq!(values(&octets, "record-route"), Vec::<String>::new());
    }
}

#[test]
fn record_route_stands_first_even_where_via_does_not() {
    let scene = scene(1);
    let text = scene.request("INVITE").text();
    let (start, rest) = text.split_once("\r\n").expect("a start line");
    let moved = format!("{start}\r\nRecord-Route: <sip:p@edge.example;lr>\r\n{rest}");
    let found = values(&scene.pass(moved).1, "record-route");
    assert!(found[0].contains(&scene.front().to_string()), "{found:?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn what_goes_and_what_comes_may_meet_at_one_place() {
    // Our own Route, which goes, stands where our Record-Route comes.
    let scene = scene(2);
    let front = scene.front();
    for route in [
        format!("Route: <sip:{front};lr>\r\n"),
        format!(
            "Route: <sip:{front};lr>, <sip:x@{};lr>\r\n",
            scene.farm[0].address()
        ),
        format!(
            "Route: <sip:{front};lr>\r\nRoute: <sip:x@{}>\r\n",
            scene.farm[0].address()
        ),
        format!("Route: <sip:x@{}>\r\n", scene.farm[0].address()),
    ] {
        let text = scene.request("INVITE").text();
        let (start, rest) = text.split_once("\r\n").expect("a start line");
        let (_, octets) = scene.pass(format!("{start}\r\n{route}{rest}"));
        only(&octets, "record-route");
    }
}

#[test]
fn nothing_is_recorded_unless_asked_for() {
    let scene = Scene::new(1, &[]);
    let (_, octets) = scene.pass(scene.request("INVITE").text());
    assert_eq!(values(&octets, "record-route"), Vec::<String>::new());
}

#[test]
fn requests_of_a_dialog_go_where_it_began_whatever_its_key_hashes_to() {
    // A policy that gives each new request a member of its own.
    let mut scene = Scene::new(4, &["--record-route", "--policy", "random"]);
    for _ in 0..20 {
        let invite = scene.request("INVITE");
        let (member, octets) = scene.pass(invite.text());
        let route = only(&octets, "record-route");
        for (method, cseq) in [("ACK", 1), ("INVITE", 2), ("UPDATE", 3), ("BYE", 4)] {
            let request = Request {
                cseq,
                ..within(&scene, &invite, method, &route)
            };
            let (found, octets) = scene.pass(request.text());
            assert_eq!(found, member, "{method}");
            // Our own Route has done its work.
            assert_eq!(values(&octets, "route"), Vec::<String>::new());
        }
    }
    scene.assert_counter("cookies-followed", 80);
}

#[test]
fn the_farm_reaches_the_phone_through_the_same_record_route() {
    let scene = scene(2);
    let invite = scene.request("INVITE");
    let (member, octets) = scene.pass(invite.text());
    let route = only(&octets, "record-route");
    let phone = Peer::new(V4);
    let bye = Request::new("BYE", scene.farm[member].address())
        .call_id(&invite.call_id)
        .uri(format!("sip:ann@{}", phone.address()))
        .row(format!("Route: {route}"));
    scene.farm[member].send(scene.front(), bye.text());
    let (octets, source) = phone.receive_from();
    assert_eq!(source, scene.front());
    assert_eq!(values(&octets, "route"), Vec::<String>::new());
    phone.send(source, response(octets, "200 OK", ""));
    assert_eq!(status(scene.farm[member].receive()), 200);
}

#[test]
fn a_call_of_the_farm_is_answered_at_the_member_that_made_it() {
    let scene = scene(4);
    let phone = Peer::new(V4);
    for (number, member) in scene.farm.iter().enumerate() {
        let invite =
            Request::new("INVITE", member.address()).uri(format!("sip:ann@{}", phone.address()));
        member.send(scene.front(), invite.text());
        let (octets, front) = phone.receive_from();
        let route = only(&octets, "record-route");
        for _ in 0..5 {
            // Its Contact names nobody that anybody could reach.
            let bye = Request::new("BYE", phone.address())
                .call_id(&invite.call_id)
                .uri("sip:b2bua@10.255.255.1")
                .row(format!("Route: {route}"));
            phone.send(front, bye.text());
            assert_eq!(scene.at_farm().0, number);
        }
    }
}

#[test]
fn a_cookie_is_good_for_its_own_call_only() {
    let mut scene = scene(4);
    let plain: Vec<_> = (0..12)
        .map(|_| {
            let invite = scene.request("INVITE");
            let (member, octets) = scene.pass(invite.text());
            (invite, member, only(&octets, "record-route"))
        })
        .collect();
    for (number, (invite, member, _)) in plain.iter().enumerate() {
        let (.., other) = &plain[(number + 1) % plain.len()];
        let bye = within(&scene, invite, "BYE", other);
        assert_eq!(scene.pass(bye.text()).0, *member, "not by the hash");
    }
    scene.assert_counter("cookies-forged", 12);
    scene.assert_counter("cookies-followed", 0);
}

#[test]
fn a_forged_cookie_falls_back_to_the_hash_and_is_counted() {
    let mut scene = scene(4);
    let invite = scene.request("INVITE");
    let (member, octets) = scene.pass(invite.text());
    let route = only(&octets, "record-route");
    let at = "<sip:".len();
    let cookie = route.find('@').expect("a user part") - at;
    let mut forged = 0;
    for digit in 0..cookie {
        for by in ['0', '7', 'f'] {
            let mut other = route.clone();
            other.replace_range(at + digit..=at + digit, &by.to_string());
            if other == route {
                continue;
            }
            let bye = within(&scene, &invite, "BYE", &other);
            let (found, octets) = scene.pass(bye.text());
            assert_eq!(found, member, "{other}");
            assert_eq!(values(&octets, "route"), Vec::<String>::new());
            // Without its first letter it is no cookie at all.
            forged += u64::from(digit > 0);
        }
    }
    scene.assert_counter("cookies-forged", forged);
}

#[test]
fn a_cookie_is_read_in_either_case() {
    let scene = Scene::new(4, &["--record-route", "--policy", "random"]);
    let invite = scene.request("INVITE");
    let (member, octets) = scene.pass(invite.text());
    let route = only(&octets, "record-route");
    let (cookie, rest) = route.split_once('@').expect("a user part");
    let upper = format!(
        "{}@{rest}",
        cookie.to_ascii_uppercase().replace("SIP:", "sip:")
    );
    for cseq in 2..20 {
        let bye = Request {
            cseq,
            ..within(&scene, &invite, "INFO", &upper)
        };
        assert_eq!(scene.pass(bye.text()).0, member);
    }
}

#[test]
fn a_call_that_left_by_another_listener_has_two_record_routes() {
    let (v4, v6) = (Peer::new(V4), Peer::new(V6));
    let args = ["--listen", "127.0.0.1:0", "--listen", "[::1]:0", "--to"];
    let mut args: Vec<String> = args.map(str::to_owned).to_vec();
    args.push(v6.address().to_string());
    let scene = Scene::with(vec![v6], &args, &["--record-route"]);
    let (outside, inside) = (scene.viaduct.address(0), scene.viaduct.address(1));
    let invite = Request::new("INVITE", v4.address());
    v4.send(outside, invite.text());
    let (octets, source) = scene.farm[0].receive_from();
    assert_eq!(source, inside);
    let routes = values(&octets, "record-route");
    assert_eq!(routes.len(), 2, "{routes:?}");
    assert!(routes[0].ends_with(&format!("@{inside};lr>")), "{routes:?}");
    assert!(
        routes[1].ends_with(&format!("@{outside};lr>")),
        "{routes:?}"
    );
    // Either side comes by its own address, and both values go.
    let bye = |from: &Peer, uri: String, routes: [&String; 2]| {
        Request::new("BYE", from.address())
            .call_id(&invite.call_id)
            .uri(uri)
            .row(format!("Route: {}", routes[0]))
            .row(format!("Route: {}", routes[1]))
    };
    let caller = bye(
        &v4,
        "sip:desk@nowhere.example".into(),
        [&routes[1], &routes[0]],
    );
    v4.send(outside, caller.text());
    let (octets, source) = scene.farm[0].receive_from();
    assert_eq!((source, values(&octets, "route").len()), (inside, 0));
    let contact = format!("sip:ann@{}", v4.address());
    let member = bye(&scene.farm[0], contact, [&routes[0], &routes[1]]);
    scene.farm[0].send(inside, member.text());
    let (octets, source) = v4.receive_from();
    assert_eq!((source, values(&octets, "route").len()), (outside, 0));
    v4.send(source, response(octets, "200 OK", ""));
    assert_eq!(status(scene.farm[0].receive()), 200);
}

#[test]
fn egress_says_by_which_listener_a_request_leaves() {
    let (member, far) = (
        Peer::new("127.0.0.2".parse().expect("an address")),
        Peer::new(V4),
    );
    let text = two_listeners(
        &[&member],
        "egress = ['127.0.0.0/8']\nrecord-route = 'on'",
        "egress = ['127.0.0.2', '127.0.0.9/32']\nrecord-route = 'on'",
        "",
    );
    let scene = Scene::with_file(vec![member], &text, &[]);
    let (outside, inside) = (scene.viaduct.address(0), scene.viaduct.address(1));
    let invite = scene.request("INVITE");
    scene.send(invite.text());
    let (octets, source) = scene.farm[0].receive_from();
    assert_eq!(source, inside, "the longer prefix goes first");
    assert_eq!(values(&octets, "record-route").len(), 2);
    scene.farm[0].send(inside, response(&octets, "200 OK", "t"));
    assert_eq!(scene.caller.receive_from().1, outside);
    let call =
        Request::new("INVITE", scene.farm[0].address()).uri(format!("sip:a@{}", far.address()));
    scene.farm[0].send(inside, call.text());
    let (octets, source) = far.receive_from();
    assert_eq!(source, outside);
    assert_eq!(values(&octets, "record-route").len(), 2);
}

#[test]
fn a_rule_goes_before_the_listener() {
    let member = Peer::new(V4);
    let rules = "[[route]]\nset = 'farm'\nuser-prefix = 'on'\nrecord-route = 'on'\n\
                 [[route]]\nset = 'farm'\nuser-prefix = 'off'\nrecord-route = 'off'";
    let text = two_listeners(&[&member], "record-route = true", "", rules);
    let scene = Scene::with_file(vec![member], &text, &[]);
    let recorded = |listener: usize, user: &str| {
        let invite = scene
            .request("INVITE")
            .uri(format!("sip:{user}@farm.example"));
        scene
            .caller
            .send(scene.viaduct.address(listener), invite.text());
        values(&scene.farm[0].receive(), "record-route").len()
    };
    assert_eq!(recorded(0, "desk"), 1);
    assert_eq!(recorded(0, "off"), 0);
    assert_eq!(recorded(1, "desk"), 0);
    assert_eq!(recorded(1, "on"), 1);
}

#[test]
fn a_member_source_is_a_member_by_network() {
    let member = Peer::new("127.0.0.2".parse().expect("an address"));
    // The same host from another port, as a B2BUA sends.
    let leg = Peer::new("127.0.0.2".parse().expect("an address"));
    let stranger = Peer::new("127.0.0.3".parse().expect("an address"));
    let phone = Peer::new("127.0.0.4".parse().expect("an address"));
    let other = Peer::new(V4);
    let text = two_listeners(
        &[&member, &other],
        "record-route = 'on'",
        "",
        "member-sources = ['127.0.0.2']",
    );
    let scene = Scene::with_file(vec![member, other], &text, &[]);
    let call = |from: &Peer| {
        let uri = format!("sip:a@{}", phone.address());
        let invite = Request::new("INVITE", from.address()).uri(uri);
        from.send(scene.front(), invite.text());
        invite
    };
    for _ in 0..8 {
        let invite = call(&leg);
        let octets = phone.receive();
        // What comes back goes to the member of that host.
        let bye = Request::new("BYE", phone.address()).call_id(&invite.call_id);
        let bye = bye.row(format!("Route: {}", only(&octets, "record-route")));
        phone.send(scene.front(), bye.text());
        assert_eq!(Peer::first_of(&scene.farm).0, 0);
    }
    call(&stranger);
    Peer::first_of(&scene.farm);
    phone.assert_silent();
}

/// Their hosts are no destinations: else anybody could reach any port of them.
#[test]
fn nobody_outside_names_a_member_source_but_in_its_dialog() {
    let member = Peer::new("127.0.0.2".parse().expect("an address"));
    let leg = Peer::new("127.0.0.3".parse().expect("an address"));
    let phone = Peer::new("127.0.0.4".parse().expect("an address"));
    let text = two_listeners(
        &[&member],
        "record-route = 'on'",
        "",
        "member-sources = ['127.0.0.3', '127.0.0.5']",
    );
    let scene = Scene::with_file(vec![member], &text, &[]);
    let to_leg = |method: &str| {
        Request::new(method, phone.address()).uri(format!("sip:leg@{}", leg.address()))
    };
    phone.send(scene.front(), to_leg("INVITE").text());
    scene.farm[0].receive();
    let call = Request::new("INVITE", leg.address()).uri(format!("sip:a@{}", phone.address()));
    leg.send(scene.front(), call.text());
    let route = format!("Route: {}", only(&phone.receive(), "record-route"));
    let bye = to_leg("BYE").call_id(&call.call_id).row(&route);
    phone.send(scene.front(), bye.text());
    leg.receive();
    // It is another call's.
    phone.send(scene.front(), to_leg("BYE").row(&route).text());
    scene.farm[0].receive();
    // The dialog is that of one host, and not of its network.
    let other = Peer::new("127.0.0.5".parse().expect("an address"));
    let uri = format!("sip:leg@{}", other.address());
    phone.send(scene.front(), bye.uri(uri).text());
    scene.farm[0].receive();
    other.assert_silent();
    leg.assert_silent();
}

#[test]
fn a_member_source_is_reached_by_the_listener_of_its_dialog() {
    let member = Peer::new("127.0.0.2".parse().expect("an address"));
    let leg = Peer::new("127.0.0.3".parse().expect("an address"));
    let phone = Peer::new("127.0.0.4".parse().expect("an address"));
    let text = two_listeners(
        &[&member],
        "record-route = 'on'\negress = ['127.0.0.4']",
        "record-route = 'on'",
        "member-sources = ['127.0.0.3']",
    );
    let scene = Scene::with_file(vec![member], &text, &[]);
    let (outside, inside) = (scene.viaduct.address(0), scene.viaduct.address(1));
    let call = Request::new("INVITE", leg.address()).uri(format!("sip:a@{}", phone.address()));
    leg.send(inside, call.text());
    let (octets, source) = phone.receive_from();
    assert_eq!(source, outside);
    let bye = Request::new("BYE", phone.address()).call_id(&call.call_id);
    let bye = bye.uri(format!("sip:leg@{}", leg.address()));
    let bye = values(&octets, "record-route")
        .into_iter()
        .fold(bye, |bye, route| bye.row(format!("Route: {route}")));
    phone.send(outside, bye.text());
    assert_eq!(leg.receive_from().1, inside);
}

/// From another port than its own it could be either of two at one host, and a
/// guess would go before what Request-URI says.
#[test]
fn who_could_be_one_of_two_members_is_none() {
    let ip = "127.0.0.2".parse().expect("an address");
    let members = vec![Peer::new(ip), Peer::new(ip)];
    let leg = Peer::new(ip);
    let phone = Peer::new("127.0.0.4".parse().expect("an address"));
    let text = two_listeners(
        &[&members[0], &members[1]],
        "record-route = 'on'",
        "",
        "member-sources = ['127.0.0.2']",
    );
    let scene = Scene::with_file(members, &text, &[]);
    let call = Request::new("INVITE", leg.address()).uri(format!("sip:a@{}", phone.address()));
    leg.send(scene.front(), call.text());
    let route = format!("Route: {}", only(&phone.receive(), "record-route"));
    for (number, contact) in scene.farm.iter().enumerate() {
        let bye = Request::new("BYE", phone.address()).call_id(&call.call_id);
        let bye = bye.uri(format!("sip:leg@{}", contact.address()));
        phone.send(scene.front(), bye.row(&route).text());
        assert_eq!(scene.at_farm().0, number);
    }
}

#[test]
fn a_strict_router_in_front_of_us_is_understood() {
    // It put our URI into the Request-URI, and the target behind all Routes.
    let scene = Scene::new(4, &["--record-route", "--policy", "random"]);
    for rest in ["", "<sip:in@198.51.100.9;lr>"] {
        let invite = scene.request("INVITE");
        let (member, octets) = scene.pass(invite.text());
        let own = only(&octets, "record-route");
        let target = "<sip:desk@contact.example:5070>";
        for rows in [
            vec![rest.to_owned(), target.to_owned()],
            vec![
                [rest, target]
                    .join(", ")
                    .trim_start_matches(", ")
                    .to_owned(),
            ],
        ] {
            let mut bye = within(&scene, &invite, "BYE", "");
            bye.rows.pop();
            for row in rows.iter().filter(|row| !row.is_empty()) {
                bye.rows.push(format!("Route: {row}"));
            }
            let bye = bye.uri(own.trim_matches(['<', '>']));
            let (found, octets) = scene.pass(bye.text());
            assert_eq!(found, member);
            let text = String::from_utf8(octets.clone()).expect("text");
            assert!(
                text.starts_with("BYE sip:desk@contact.example:5070 SIP/2.0\r\n"),
                "{text}"
            );
            assert_eq!(values(&octets, "route").join(", "), rest);
        }
    }
}

#[test]
fn a_strict_router_behind_us_gets_what_it_expects() {
    let scene = scene(2);
    let member = scene.farm[1].address();
    let bye = scene
        .request("BYE")
        .uri("sip:desk@contact.example")
        .row(format!("Route: <sip:{}>", scene.front()))
        .row(format!(
            "Route: <sip:strict@{member};a=b>, <sip:next.example;lr>"
        ))
        .row("Route: \"x\" <sip:last.example;lr>;p=1");
    let (found, octets) = scene.pass(bye.text());
    assert_eq!(found, 1);
    let text = String::from_utf8(octets.clone()).expect("text");
    assert!(
        text.starts_with(&format!("BYE sip:strict@{member};a=b SIP/2.0\r\n")),
        "{text}"
    );
    assert_eq!(
        values(&octets, "route"),
        [
            "<sip:next.example;lr>",
            "\"x\" <sip:last.example;lr>;p=1",
            "<sip:desk@contact.example>"
        ]
    );
}

#[test]
fn an_maddr_that_names_us_is_taken_off_where_a_route_goes_on() {
    let scene = scene(1);
    let front = scene.front();
    let request = scene
        .request("INFO")
        .uri(format!(
            "sip:desk@farm.example:{};maddr=127.0.0.1",
            front.port()
        ))
        .row(format!("Route: <sip:{};lr>", scene.farm[0].address()));
    let (_, octets) = scene.pass(request.text());
    let text = String::from_utf8(octets).expect("text");
    assert!(
        text.starts_with("INFO sip:desk@farm.example SIP/2.0\r\n"),
        "{text}"
    );
}

#[test]
fn behind_an_maddr_that_names_us_the_host_is_the_next_hop() {
    let scene = scene(2);
    let phone = Peer::at("127.0.0.9:5060".parse().expect("an address"));
    let uri = format!("sip:ann@127.0.0.9:{};maddr=127.0.0.1", scene.front().port());
    let member = &scene.farm[0];
    member.send(scene.front(), scene.request("BYE").uri(uri).text());
    let text = String::from_utf8(phone.receive()).expect("text");
    assert!(
        text.starts_with("BYE sip:ann@127.0.0.9 SIP/2.0\r\n"),
        "{text}"
    );
}

/// As where the callee's Contact names us, and the hash would say otherwise.
#[test]
fn a_member_that_names_us_reaches_the_one_of_its_dialog() {
    let scene = Scene::new(4, &["--record-route", "--policy", "random"]);
    let (front, caller) = (scene.front(), &scene.farm[0]);
    for _ in 0..30 {
        let invite = Request::new("INVITE", caller.address()).uri(format!("sip:desk@{front}"));
        caller.send(front, invite.text());
        let (member, octets) = scene.at_farm();
        // Its own dialog leads outward.
        if member > 0 {
            let bye = invite
                .method("BYE")
                .row(format!("Route: {}", only(&octets, "record-route")));
            caller.send(front, Request { cseq: 2, ..bye }.text());
            assert_eq!(scene.at_farm().0, member);
        }
    }
}

#[test]
fn a_contact_that_names_us_does_not_loop() {
    let mut scene = scene(1);
    let front = scene.front();
    let member = &scene.farm[0];
    // The farm put our address into its Contact: it is hashed once.
    let bye = scene.request("BYE").uri(format!("sip:desk@{front}"));
    let (_, first) = scene.pass(bye.text());
    // The member sends it back: a spiral, hashed again, but not for ever.
    let second = member.spiral(front, &first);
    let third = member.spiral(front, &second);
    let fourth = member.spiral(front, &third);
    assert_eq!(status(member.spiral(front, &fourth)), 482);
    scene.assert_nothing_left();
    scene.assert_counter("drop-loop", 0);
}
