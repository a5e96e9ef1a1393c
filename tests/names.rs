//! Next hops that members name by host names (RFC 3263): looked up off the
//! data path, remembered, bounded; and never on behalf of anybody else.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use viaduct::proxy::MAX_HELD;

use support::dialog::{Peer, Request, Scene, branch, read, response, status};
use support::dns::NameServer;
use support::net::{V4, V6};
use support::process::Signal;
use support::stateful::only;
use support::{wait_for, wait_until};

/// How often one query is sent at most, where its answer is late.
const TRIES: usize = 4;

/// A farm of two behind listeners of both families, which asks `server`.
fn scene(server: SocketAddr, args: &[&str]) -> Scene {
    let server = server.to_string();
    let resolve = ["--listen", "[::1]:0", "--resolve", "--resolver", &server];
    Scene::new(2, &[&resolve[..], args].concat())
}

/// What the first member sends to `uri`.
fn outbound(scene: &Scene, uri: impl Into<String>) -> Request {
    let request = Request::new("INVITE", scene.farm[0].address()).uri(uri);
    scene.farm[0].send(scene.front(), request.text());
    request
}

/// The first of `peers` that something has come to, and what it is.
#[track_caller]
fn at(peers: &[Peer]) -> (&Peer, Vec<u8>) {
    let (number, octets, _) = Peer::first_of(peers);
    (&peers[number], octets)
}

/// Sends requests to `uri` until one comes to one of `peers`: what a stalled machine
/// makes late is asked for again.
#[track_caller]
fn reach(scene: &Scene, uri: &str, peers: &[Peer]) {
    wait_until(uri, || is_reached(scene, uri, peers));
}

/// Whether a request to `uri` comes to one of `peers`, or is answered.
#[track_caller]
fn is_reached(scene: &Scene, uri: &str, peers: &[Peer]) -> bool {
    let sent = outbound(scene, uri).call_id.into_bytes();
    wait_for("what comes of it", || {
        if peers.iter().any(|peer| peer.poll().is_some()) {
            return Some(true);
        }
        let (answer, _) = scene.farm[0].poll()?;
        (read(answer).call_id == sent).then_some(false)
    })
}

#[test]
fn a_host_with_a_port_is_looked_up_and_its_call_comes_and_goes() {
    let phone = Peer::new(V4);
    let port = phone.address().port();
    let server = NameServer::start("Pbx.test 3600 A 127.0.0.1\nalias.test 3600 CNAME pbx.test");
    let scene = scene(server.address(), &[]);
    let own = scene.front();
    let named = [
        format!("sip:ann@pbx.test:{port}"),
        format!("sip:ann@PBX.TEST.:{port};transport=udp"),
        format!("sip:ann@far.test:{port};maddr=pbx.test"),
        format!("sip:ann@alias.test:{port}"),
    ];
    let route = format!("Route: <sip:{own};lr>, <sip:pbx.test:{port};lr>");
    // All of them before the first answer.
    scene.viaduct.halt();
    let mut requests: Vec<_> = named.iter().map(|uri| outbound(&scene, uri)).collect();
    let request = Request::new("INVITE", scene.farm[0].address()).row(route);
    scene.farm[0].send(own, request.text());
    requests.push(request);
    scene.viaduct.signal(Signal::CONT);
    let by_call = |it: &Request| (it.call_id.clone().into_bytes(), it.clone());
    let mut calls: BTreeMap<_, _> = requests.iter().map(by_call).collect();
    wait_until("the answers to all", || {
        if let Some((got, source)) = phone.poll() {
            assert_eq!(source, own);
            phone.send(own, response(&got, "200 OK", "t"));
        }
        if let Some((home, _)) = scene.farm[0].poll() {
            let call = calls.remove(&read(&home).call_id).expect("one of them");
            // A stalled machine has had it wait in vain.
            if status(&home) == 503 {
                scene.farm[0].send(own, call.text());
                calls.insert(call.call_id.clone().into_bytes(), call);
            }
        }
        calls.is_empty()
    });
    let fact = format!("names: resolved by {}, for members", server.address());
    assert!(scene.viaduct.output().contains(&fact));
    // With a port, SRV is not asked for (RFC 3263 §4.2).
    assert!(server.asked().iter().all(|query| !query.ends_with("SRV")));
    scene.assert_nothing_left();
    let counters = scene.viaduct.stop();
    assert!(counters.get("requests-held") >= requests.len() as u64);
    // Each once, however many wait.
    assert!((2..requests.len() as u64).contains(&counters.get("names-resolved")));
}

#[test]
fn without_a_port_and_without_srv_it_is_5060() {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let address = SocketAddr::from(([127, 98, high, low.max(1)], 5060));
    let server = NameServer::start(&format!("pbx.test 60 A {}", address.ip()));
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    reach(&scene, "sip:ann@pbx.test", &[Peer::at(address)]);
    assert_eq!(server.asked()[0], "_sip._udp.pbx.test SRV");
}

#[test]
fn srv_says_where_by_priority_and_weight() {
    let (hosts, port) = Peer::neighbours::<4>(61);
    let server = NameServer::start(&format!(
        "_sip._udp.pbx.test 3600 SRV 20 9 {port} last.test
         _sip._udp.pbx.test 3600 SRV 10 0 {port} never.test
         _sip._udp.pbx.test 3600 SRV 10 1 {port} little.test
         _sip._udp.pbx.test 3600 SRV 10 3 {port} much.test
         _sip._udp.pbx.test 3600 SRV 5 1 {port} nowhere.test
         last.test   3600 A 127.0.0.61
         never.test  3600 A 127.0.0.62
         little.test 3600 A 127.0.0.63
         much.test   3600 A 127.0.0.64"
    ));
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    reach(&scene, "sip:ann@pbx.test", &hosts);
    let mut counts = BTreeMap::new();
    let calls = 400;
    for _ in 0..calls {
        let invite = outbound(&scene, "sip:ann@pbx.test");
        let (first, got) = at(&hosts);
        *counts.entry(first.address().ip().to_string()).or_insert(0) += 1;
        // CANCEL and ACK meet their INVITE (RFC 3263 §4.4).
        for method in ["CANCEL", "ACK", "INVITE"] {
            scene.farm[0].send(scene.front(), invite.method(method).text());
            let (again, other) = at(&hosts);
            assert_eq!(again.address(), first.address(), "{method}");
            assert_eq!(branch(&other), branch(&got));
        }
    }
    assert_eq!(
        counts.keys().collect::<Vec<_>>(),
        ["127.0.0.63", "127.0.0.64"]
    );
    // 100 expected, with a standard deviation of 9.
    let little = counts["127.0.0.63"];
    assert!((50..150).contains(&little), "{little} of {calls}");
    assert!(
        !server
            .asked()
            .iter()
            .any(|query| query.contains("last.test"))
    );
}

#[test]
fn a_host_with_several_addresses_is_met_at_one_of_them_by_a_whole_call() {
    let (hosts, port) = Peer::neighbours::<3>(61);
    let server = NameServer::start(
        "pbx.test 3600 A 127.0.0.63\npbx.test 3600 A 127.0.0.61\npbx.test 3600 A 127.0.0.62",
    );
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    let uri = format!("sip:pbx.test:{port}");
    reach(&scene, &uri, &hosts);
    let mut met = BTreeSet::new();
    for _ in 0..60 {
        let invite = outbound(&scene, &uri);
        let (first, _) = at(&hosts);
        met.insert(first.address());
        scene.farm[0].send(scene.front(), invite.method("CANCEL").text());
        assert_eq!(at(&hosts).0.address(), first.address());
    }
    assert_eq!(met.len(), 3);
}

#[test]
fn of_one_name_16_hosts_and_16_addresses_of_each_are_used() {
    let (hosts, port) = Peer::neighbours::<32>(61);
    let addresses = hosts.iter().map(|host| host.address().ip());
    let addresses = addresses.map(|ip| format!("many.test 3600 A {ip}\n"));
    let without_one =
        (10..42).map(|n| format!("_sip._udp.pbx.test 3600 SRV 0 1 {port} h{n}.test\n"));
    let server = NameServer::start(&addresses.chain(without_one).collect::<String>());
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    let uri = format!("sip:many.test:{port}");
    reach(&scene, &uri, &hosts);
    let mut met = BTreeSet::new();
    while met.len() < 16 {
        outbound(&scene, &uri);
        met.insert(at(&hosts).0.address());
    }
    let first = hosts[..16].iter().map(Peer::address);
    assert_eq!(met, first.collect());
    let asked_for = wait_for("the hosts", || {
        assert!(!is_reached(&scene, "sip:pbx.test", &hosts));
        let asked = server.asked().into_iter();
        let asked: BTreeSet<_> = asked.filter(|asked| asked.starts_with('h')).collect();
        (!asked.is_empty()).then_some(asked)
    });
    let first = (10..26).flat_map(|n| ["A", "AAAA"].map(|kind| format!("h{n}.test {kind}")));
    assert_eq!(asked_for, first.collect());
}

#[test]
fn an_address_of_the_family_that_the_request_came_by_is_preferred() {
    let (four, six) = ([Peer::new(V4)], [Peer::new(V6)]);
    let zone = "four.test 60 A 127.0.0.1\nboth.test 60 A 127.0.0.1\nboth.test 60 AAAA ::1\nsix.test 60 AAAA ::1";
    let server = NameServer::start(zone);
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    let ports = [&four, &six].map(|[phone]| phone.address().port());
    for (name, port, phone) in [
        ("both.test", ports[0], &four),
        ("six.test", ports[1], &six),
        ("four.test", ports[0], &four),
    ] {
        reach(&scene, &format!("sip:{name}:{port}"), phone);
    }
    // A family that no listener has is not even asked for.
    let server = NameServer::start(zone);
    let server_text = server.address().to_string();
    let scene = Scene::new(1, &["--resolve", "--resolver", &server_text]);
    reach(&scene, &format!("sip:both.test:{}", ports[0]), &four);
    outbound(&scene, format!("sip:six.test:{}", ports[1]));
    assert_eq!(status(scene.farm[0].receive()), 503);
    assert!(server.asked().iter().all(|query| !query.ends_with("AAAA")));
}

#[test]
fn a_name_that_stands_for_nothing_is_answered_503() {
    let server = NameServer::start(
        "_sip._udp.refused.test 60 SRV 0 0 0 .\n_sip._udp.lost.test 60 SRV 0 0 5060 gone.test",
    );
    let scene = scene(server.address(), &[]);
    let long = format!("sip:{}.test", "a".repeat(64));
    for uri in [
        "sip:gone.test",
        "sip:gone.test:5062",
        "sip:refused.test",
        "sip:lost.test",
        &long,
    ] {
        let request = outbound(&scene, uri);
        let got = scene.farm[0].receive();
        assert_eq!(status(&got), 503, "{uri}");
        assert_eq!(read(got).call_id, request.call_id.into_bytes());
    }
    // An ACK is not answered.
    let ack = Request::new("ACK", scene.farm[0].address()).uri("sip:gone.test");
    scene.farm[0].send(scene.front(), ack.text());
    scene.assert_nothing_left();
    let counters = scene.viaduct.stop();
    assert_eq!(counters.get("drop-unresolved"), 1);
    assert!(counters.get("names-failed") >= 5);
}

#[test]
fn what_is_no_name_of_a_host_for_udp_is_answered_503_and_not_asked_for() {
    let server = NameServer::start("pbx.test 60 A 127.0.0.1");
    let scene = scene(server.address(), &[]);
    for uri in [
        "sip:pbx.test;transport=tcp",
        "sips:pbx.test",
        "sips:127.0.0.1:9",
        "tel:+39012",
        "sip:1.2.3",
        "sip:pbx.test;maddr=a:b",
        &format!("sip:{}test", "a.".repeat(130)),
    ] {
        outbound(&scene, uri);
        assert_eq!(status(scene.farm[0].receive()), 503, "{uri}");
    }
    assert!(server.asked().is_empty(), "{:?}", server.asked());
}

#[test]
fn a_name_is_resolved_only_where_that_is_switched_on() {
    let server = NameServer::start("pbx.test 60 A 127.0.0.1");
    let address = server.address().to_string();
    let scene = Scene::new(1, &["--resolver", &address]);
    outbound(&scene, "sip:pbx.test");
    assert_eq!(status(scene.farm[0].receive()), 503);
    assert!(server.asked().is_empty());
}

#[test]
fn a_name_is_asked_for_once_while_its_answer_holds_and_by_all_who_wait() {
    let phone = Peer::new(V4);
    let uri = format!("sip:pbx.test:{}", phone.address().port());
    wait_until("an answer in time", || {
        let server = NameServer::start("pbx.test 3600 A 127.0.0.1");
        let scene = scene(server.address(), &["--workers", "2"]);
        for _ in 0..4 {
            let mut calls: BTreeSet<_> = (0..40)
                .map(|_| outbound(&scene, &uri).call_id.into_bytes())
                .collect();
            while !calls.is_empty() {
                let of_either = || phone.poll().or_else(|| scene.farm[0].poll());
                let (came, _) = wait_for("what comes of it", of_either);
                // A stalled machine has them wait in vain.
                if came.starts_with(b"SIP/2.0 503 ") {
                    return false;
                }
                assert!(calls.remove(&read(came).call_id));
            }
        }
        let asked = server.asked();
        let of = |kind| asked.iter().filter(|query| query.ends_with(kind)).count();
        assert!((1..=TRIES).contains(&of(" A")), "{asked:?}");
        true
    });
}

#[test]
fn a_name_is_asked_for_again_when_its_answer_has_expired() {
    let phone = [Peer::new(V4)];
    let uri = format!("sip:pbx.test:{}", phone[0].address().port());
    wait_until("another question, not for each request", || {
        let server = NameServer::start("pbx.test 4 A 127.0.0.1");
        let scene = scene(server.address(), &["--reply-rate", "1000000"]);
        reach(&scene, &uri, &phone);
        let before = server.asked().len();
        let mut passed = 0;
        wait_until("another question", || {
            reach(&scene, &uri, &phone);
            passed += 1;
            server.asked().len() > before
        });
        // Unless the machine stood still for as long as the answer holds.
        passed > 2
    });
}

#[test]
fn while_nobody_answers_for_names_all_else_goes_on_and_what_is_held_is_bounded() {
    let server = Peer::new(V4);
    let mut scene = scene(server.address(), &["--reply-rate", "1000000"]);
    let flood = 1000;
    for number in 0..flood {
        outbound(&scene, format!("sip:n{number}.silent.test"));
        if number % 20 > 0 {
            continue;
        }
        // Calls from outside go on.
        let invite = scene.request("INVITE");
        scene.send(invite.text());
        let call_id = invite.call_id.into_bytes();
        while read(at(&scene.farm).1).call_id != call_id {}
    }
    // Each is answered, those that were held at their time.
    scene.assert_counter("reply-503", flood);
    let counters = scene.viaduct.stop();
    let held = counters.get("requests-held");
    assert_eq!(held + counters.get("requests-not-held"), flood);
    assert!((MAX_HELD as u64..flood).contains(&held), "{held}");
    assert_eq!(counters.get("names-failed"), held);
}

#[test]
fn one_silent_host_or_family_does_not_hide_what_is_known_of_others() {
    let phone = [Peer::new(V4)];
    let port = phone[0].address().port();
    let silent: Vec<_> = (0..11)
        .map(|n| format!("_sip._udp.equals.test 60 SRV 10 1 {port} n{n}.silent.test"))
        .collect();
    let server = NameServer::start(&format!(
        "{}
         _sip._udp.equals.test 60 SRV 10 1 {port} there.test
         _sip._udp.next.test 60 SRV 10 1 {port} n.silent.test
         _sip._udp.next.test 60 SRV 20 1 {port} there.test
         there.test 60 A 127.0.0.1
         half.test 60 A 127.0.0.1",
        silent.join("\n")
    ));
    server.ignore("half.test AAAA");
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    for uri in [
        "sip:equals.test",
        "sip:next.test",
        &format!("sip:half.test:{port}"),
    ] {
        reach(&scene, uri, &phone);
    }
}

#[test]
fn one_name_server_that_answers_is_enough() {
    let phone = [Peer::new(V4)];
    let server = NameServer::start("pbx.test 60 A 127.0.0.1");
    let silent: Vec<_> = (0..7).map(|_| Peer::new(V4)).collect();
    let silent = silent.iter().map(|peer| peer.address().to_string());
    let silent: Vec<_> = silent.collect();
    let others = silent.iter().flat_map(|to| ["--resolver", to]);
    let others: Vec<_> = others.chain(["--reply-rate", "1000000"]).collect();
    let scene = scene(server.address(), &others);
    let uri = format!("sip:pbx.test:{}", phone[0].address().port());
    reach(&scene, &uri, &phone);
}

#[test]
fn what_nobody_had_time_to_ask_is_not_taken_for_nothing() {
    let phone = [Peer::new(V4)];
    let port = phone[0].address().port();
    let zone: Vec<_> = (0..10)
        .map(|n| format!("pbx{n}.test 60 A 127.0.0.1"))
        .collect();
    let server = NameServer::start(&zone.join("\n"));
    let scene = scene(server.address(), &["--reply-rate", "1000000"]);
    let good: Vec<_> = (0..10).map(|n| format!("sip:pbx{n}.test:{port}")).collect();
    // Their answers come at once, and all have room in a socket.
    let silent = (0..140).map(|n| format!("sip:n{n}.silent.test:{port}"));
    let asked: BTreeSet<_> = silent
        .chain(good.iter().cloned())
        .map(|uri| outbound(&scene, uri).call_id.into_bytes())
        .collect();
    let both = [&scene.farm[0], &phone[0]];
    let mut open = asked;
    wait_until("the end of all that is held", || {
        for (octets, _) in both.iter().filter_map(|peer| peer.poll()) {
            open.remove(&read(octets).call_id);
        }
        open.is_empty()
    });
    // Where a stalled machine has one answered late, there are others.
    let mut known = good.iter().map(|uri| is_reached(&scene, uri, &phone));
    assert!(known.any(|reached| reached));
}

#[test]
fn no_packet_from_outside_makes_a_query() {
    let server = Peer::new(V4);
    let scene = scene(server.address(), &["--allow-next-hop", "127.0.0.0/8"]);
    let own = scene.front();
    let port = scene.farm[0].address().port();
    let plain = |method: &str| scene.request(method);
    let member = scene.farm[0].address();
    for method in ["INVITE", "ACK", "CANCEL", "BYE", "REGISTER", "OPTIONS"] {
        for request in [
            plain(method).uri("sip:ann@named.test"),
            plain(method).uri("sip:ann@named.test:5070"),
            plain(method).uri("sip:named.test;transport=udp;lr"),
            plain(method).uri(format!("sip:ann@127.0.0.1:{port};maddr=named.test")),
            plain(method).row("Route: <sip:named.test;lr>"),
            plain(method).row(format!("Route: <sip:{own};lr>, <sip:named.test;lr>")),
            plain(method)
                .row(format!("Route: <sip:{own};lr>"))
                .row("Route: <sip:127.0.0.1;maddr=named.test;lr>"),
            plain(method).via("SIP/2.0/UDP named.test;branch=z9hG4bKnamed;rport"),
            plain(method).via(format!(
                "SIP/2.0/UDP {};maddr=named.test;branch=z9hG4bKnamed;received=named.test",
                scene.caller.address()
            )),
            plain(method)
                .row("Contact: <sip:named.test>")
                .row("Record-Route: <sip:named.test;lr>")
                .to("<sip:named.test>")
                .from("<sip:named.test>;tag=1"),
            // Who claims to be a member is none.
            Request::new(method, member)
                .uri("sip:named.test")
                .via(format!(
                    "SIP/2.0/UDP {member};received={};branch=z9hG4bKq",
                    member.ip()
                )),
        ] {
            scene.pass(request.text());
        }
    }
    // A response, whoever sends it, names nobody to be found either.
    let (at, got) = {
        scene
            .farm
            .iter()
            .for_each(|member| while member.poll().is_some() {});
        scene.pass(
            plain("INVITE")
                .via("SIP/2.0/UDP named.test:5070;branch=z9hG4bKr")
                .text(),
        )
    };
    scene.farm[at].send(own, response(&got, "200 OK", "t"));
    scene.caller.send(own, response(&got, "200 OK", "t"));
    scene.fence();
    server.assert_silent();
    // The same from a member is asked for.
    outbound(&scene, "sip:ann@named.test");
    let query = server.receive();
    assert!(query.windows(6).any(|part| part == b"\x05named"));
}

#[test]
fn a_phone_is_reached_by_its_path_whatever_its_contact_names() {
    let server = Peer::new(V4);
    let scene = scene(server.address(), &["--path"]);
    let register = scene.request("REGISTER");
    let (member, got) = scene.pass(register.text());
    let path = only(&got, "path");
    let member = &scene.farm[member];
    let invite = Request::new("INVITE", member.address())
        .uri("sip:ann@contact.test")
        .row(format!("Route: {path}"));
    member.send(scene.front(), invite.text());
    let got = read(scene.caller.receive());
    assert_eq!(got.call_id, invite.call_id.into_bytes());
    server.assert_silent();
}

#[test]
fn a_name_leads_nowhere_that_an_address_may_not() {
    let server = NameServer::start(
        "all.test 60 A 255.255.255.255\ngroup.test 60 A 224.0.0.5\nno.test 60 A 0.0.0.0",
    );
    let mut scene = scene(server.address(), &[]);
    let hosts = ["all.test", "group.test", "no.test"];
    for (number, host) in hosts.iter().enumerate() {
        // Until it is not answered 503 because a stalled machine was late.
        wait_until(host, || {
            outbound(&scene, format!("sip:{host}:5060"));
            wait_for("what comes of it", || {
                let forbidden = scene.viaduct.counter("drop-forbidden-next-hop");
                let answered = scene.farm[0].poll().is_some();
                let is_next = forbidden > number as u64;
                (is_next || answered).then_some(is_next)
            })
        });
    }
    scene.assert_counter("drop-forbidden-next-hop", hosts.len() as u64);
    scene.assert_nothing_left();
}

#[test]
fn a_name_that_leads_to_us_is_dispatched_as_our_address_is() {
    let server = NameServer::start("us.test 3600 A 127.0.0.1");
    let server = server.address().to_string();
    let mut scene = Scene::new(1, &["--resolve", "--resolver", &server]);
    let (front, member) = (scene.front(), &scene.farm[0]);
    let uri = format!("sip:desk@us.test:{}", front.port());
    let first = wait_for("the request", || {
        outbound(&scene, &uri);
        let (_, came) = scene.at_farm();
        // Not an answer, for a stalled machine has had it wait in vain.
        came.starts_with(b"INVITE ").then_some(came)
    });
    let second = member.spiral(front, &first);
    assert_eq!(read(&second).vias.len(), 4);
    let third = member.spiral(front, &second);
    let fourth = member.spiral(front, &third);
    assert_eq!(status(member.spiral(front, &fourth)), 482);
    // A Route with that name would have the farm send it back.
    let route = format!("Route: <sip:us.test:{};lr>", front.port());
    let request = Request::new("INVITE", member.address()).row(route);
    member.send(front, request.text());
    assert_eq!(status(member.receive()), 503);
    let uri = format!("sip:desk@farm.test:{};maddr=us.test", front.port());
    let request = Request::new("INVITE", member.address()).uri(uri);
    member.send(front, request.text());
    assert_eq!(status(member.receive()), 503);
    scene.assert_nothing_left();
    scene.assert_counter("drop-forbidden-next-hop", 0);
}
