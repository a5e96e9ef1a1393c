//! Path: requests to a registered phone come back through us, and leave from
//! the socket and to the port that it registered by (RFC 3327, RFC 5626 §5.3).

use std::net::SocketAddr;

use support::dialog::{Peer, Request, Scene, response, status, values};
use support::net::V4;

/// A Contact that nobody but its own NAT can reach.
const PRIVATE: &str = "sip:ann@192.168.1.7:5062";

/// Phones come to the first listener, the farm is reached by the second.
struct Edge {
    scene: Scene,
    /// It holds the secret.
    folder: tempfile::TempDir,
}

impl Edge {
    fn new() -> Self {
        Self::with(
            vec![Peer::new(V4), Peer::new(V4)],
            tempfile::tempdir().expect("a folder"),
        )
    }

    /// Another instance with the same secret in front of the same farm.
    fn with(farm: Vec<Peer>, folder: tempfile::TempDir) -> Self {
        let addresses: Vec<_> = farm.iter().map(|each| each.address().to_string()).collect();
        let text = format!(
            "record-route = 'on'\n\
             [[listener]]\nname = 'outside'\naddress = '127.0.0.1:0'\npath = 'on'\n\
             [[listener]]\nname = 'inside'\naddress = '127.0.0.9:0'\negress = ['127.0.0.1']\n\
             [[set]]\nname = 'farm'\ndestinations = {addresses:?}\n"
        );
        let secret = folder.path().join("secret").display().to_string();
        let scene = Scene::with_file(farm, &text, &["--secret-file", &secret]);
        Self { scene, folder }
    }

    fn outside(&self) -> SocketAddr {
        self.scene.viaduct.address(0)
    }

    fn inside(&self) -> SocketAddr {
        self.scene.viaduct.address(1)
    }

    /// The request that came to the farm, and to which member.
    #[track_caller]
    fn at_farm(&self) -> (usize, Vec<u8>) {
        self.scene.at_farm_from(self.inside())
    }

    /// Registers `phone`, and returns our Path.
    #[track_caller]
    fn register(&self, phone: &Peer) -> String {
        let register = Request::new("REGISTER", phone.address())
            .via(format!(
                "SIP/2.0/UDP 192.168.1.7:5062;rport;branch=z9hG4bKr{}",
                phone.address().port()
            ))
            .row(format!("Contact: <{PRIVATE}>"))
            .row("Path: <sip:p@edge.example;lr>");
        phone.send(self.outside(), register.text());
        let (_, octets) = self.at_farm();
        let found = values(&octets, "path");
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], "<sip:p@edge.example;lr>");
        assert!(
            found[0].ends_with(&format!("@{};lr>", self.inside())),
            "{found:?}"
        );
        found[0].clone()
    }

    /// What the registrar sends to a phone that registered by `path`.
    fn call(&self, method: &str, path: &str) -> Request {
        Request::new(method, self.scene.farm[0].address())
            .uri(PRIVATE)
            .row(format!("Route: {path}"))
    }

    fn send_from_farm(&self, request: &Request) {
        self.scene.farm[0].send(self.inside(), request.text());
    }
}

#[test]
fn the_registrar_reaches_a_phone_by_the_way_it_registered() {
    let edge = Edge::new();
    let (ann, bob) = (Peer::new(V4), Peer::new(V4));
    let paths = [edge.register(&ann), edge.register(&bob)];
    for (phone, path) in [(&ann, &paths[0]), (&bob, &paths[1])] {
        for method in ["INVITE", "OPTIONS", "CANCEL", "ACK"] {
            edge.send_from_farm(&edge.call(method, path));
            let (octets, source) = phone.receive_from();
            assert_eq!(source, edge.outside(), "the socket that it knows");
            assert_eq!(values(&octets, "route"), Vec::<String>::new());
            assert!(octets.starts_with(format!("{method} {PRIVATE} SIP/2.0\r\n").as_bytes()));
            phone.send(source, response(octets, "200 OK", "t"));
            assert_eq!(status(edge.scene.farm[0].receive()), 200);
        }
    }
}

/// The port in its Via is one behind its NAT: only its answers go there, where
/// it does not ask for `rport`.
#[test]
fn a_phone_that_does_not_ask_for_rport_is_reached_where_its_packets_come_from() {
    let edge = Edge::new();
    let (ann, behind) = (Peer::new(V4), Peer::new(V4));
    let via = |request: Request| {
        let port = behind.address().port();
        request.via(format!("SIP/2.0/UDP 192.168.1.7:{port};branch=z9hG4bKn"))
    };
    let register = via(Request::new("REGISTER", ann.address()));
    ann.send(edge.outside(), register.text());
    let path = values(&edge.at_farm().1, "path").remove(0);
    edge.send_from_farm(&edge.call("INVITE", &path));
    assert_eq!(ann.receive_from().1, edge.outside());
    let invite = via(Request::new("INVITE", ann.address()));
    ann.send(edge.outside(), invite.text());
    let (member, octets) = edge.at_farm();
    let routes = values(&octets, "record-route").join(", ");
    let bye = Request::new("BYE", edge.scene.farm[member].address())
        .call_id(&invite.call_id)
        .uri(PRIVATE)
        .row(format!("Route: {routes}"));
    edge.scene.farm[member].send(edge.inside(), bye.text());
    assert_eq!(ann.receive_from().1, edge.outside());
    edge.scene.farm[member].send(edge.inside(), response(&octets, "200 OK", "t"));
    assert_eq!(status(behind.receive()), 200);
    behind.assert_silent();
}

#[test]
fn a_phone_behind_no_nat_is_reached_at_the_port_in_its_via() {
    let edge = Edge::new();
    let (sends, listens) = (Peer::new(V4), Peer::new(V4));
    let via = format!("SIP/2.0/UDP {};branch=z9hG4bKn", listens.address());
    let register = Request::new("REGISTER", sends.address()).via(via);
    sends.send(edge.outside(), register.text());
    let path = values(&edge.at_farm().1, "path").remove(0);
    edge.send_from_farm(&edge.call("INVITE", &path));
    assert_eq!(listens.receive_from().1, edge.outside());
}

#[test]
fn only_registrations_from_outside_get_a_path_and_only_where_asked() {
    let edge = Edge::new();
    let phone = Peer::new(V4);
    for method in ["INVITE", "SUBSCRIBE", "OPTIONS", "PUBLISH"] {
        phone.send(edge.outside(), Request::new(method, phone.address()).text());
        assert_eq!(values(&edge.at_farm().1, "path"), Vec::<String>::new());
    }
    // The inner listener does not.
    phone.send(
        edge.inside(),
        Request::new("REGISTER", phone.address()).text(),
    );
    assert_eq!(values(&edge.at_farm().1, "path"), Vec::<String>::new());
}

/// Its requests would not be believed.
#[test]
fn a_registrar_that_is_no_member_gets_no_path() {
    let [stranger, source] =
        ["127.0.0.8", "127.0.0.9"].map(|ip| Peer::new(ip.parse().expect("an address")));
    let member = Peer::new(V4);
    let text = format!(
        "allow-next-hop = ['127.0.0.8/31']\n\
         [[listener]]\naddress = '127.0.0.1:0'\npath = 'on'\n\
         [[set]]\nname = 'farm'\ndestinations = ['{}']\nmember-sources = ['127.0.0.9']\n",
        member.address()
    );
    let scene = Scene::with_file(vec![member], &text, &[]);
    for (registrar, paths) in [(&scene.farm[0], 1), (&source, 1), (&stranger, 0)] {
        let there = format!("Route: <sip:{};lr>", registrar.address());
        scene.send(scene.request("REGISTER").row(there).text());
        assert_eq!(values(&registrar.receive(), "path").len(), paths);
    }
}

#[test]
fn a_retransmitted_registration_has_the_same_path() {
    let edge = Edge::new();
    let phone = Peer::new(V4);
    assert_eq!(edge.register(&phone), edge.register(&phone));
}

#[test]
fn another_instance_with_the_secret_and_one_after_a_restart_honour_the_path() {
    let edge = Edge::new();
    let phone = Peer::new(V4);
    let path = edge.register(&phone);
    let Edge { scene, folder } = edge;
    let Scene { viaduct, farm, .. } = scene;
    drop(viaduct);
    let second = Edge::with(farm, folder);
    let token = path.split_once('@').expect("a token").0;
    let path = format!("{token}@{};lr>", second.inside());
    second.send_from_farm(&second.call("INVITE", &path));
    assert_eq!(phone.receive_from().1, second.outside());
}

#[test]
fn a_forged_path_is_refused() {
    let mut edge = Edge::new();
    let (phone, victim) = (Peer::new(V4), Peer::new(V4));
    let path = edge.register(&phone);
    let port = |peer: &Peer| format!("{:04x}", peer.address().port());
    let stolen = path.replacen(&port(&phone), &port(&victim), 1);
    assert_ne!(stolen, path);
    edge.send_from_farm(&edge.call("INVITE", &stolen));
    assert_eq!(status(edge.scene.farm[0].receive()), 403);
    // None to an ACK.
    edge.send_from_farm(&edge.call("ACK", &stolen));
    edge.scene.assert_counter("drop-forged-flow", 1);
    // Nobody else has it followed, not even a good one.
    let outsider = Request::new("INVITE", victim.address())
        .uri(PRIVATE)
        .row(format!(
            "Route: {}",
            path.replace(&edge.inside().to_string(), &edge.outside().to_string())
        ));
    victim.send(edge.outside(), outsider.text());
    edge.at_farm();
    phone.assert_silent();
    victim.assert_silent();
    // A good one is none that somebody forged.
    edge.scene.assert_counter("cookies-forged", 0);
}

#[test]
fn a_dialog_with_a_phone_behind_nat_stays_on_its_binding() {
    let edge = Edge::new();
    let (ann, bob) = (Peer::new(V4), Peer::new(V4));
    let path = edge.register(&bob);
    // Ann's call to the farm: what the farm sends her takes her binding.
    let invite = Request::new("INVITE", ann.address())
        .via("SIP/2.0/UDP 192.168.1.8;rport;branch=z9hG4bKann")
        .row("Contact: <sip:ann@192.168.1.8>");
    ann.send(edge.outside(), invite.text());
    let (member, octets) = edge.at_farm();
    let routes = values(&octets, "record-route");
    assert_eq!(routes.len(), 2);
    let bye = Request::new("BYE", edge.scene.farm[member].address())
        .call_id(&invite.call_id)
        .uri("sip:ann@192.168.1.8")
        .row(format!("Route: {}, {}", routes[0], routes[1]));
    edge.scene.farm[member].send(edge.inside(), bye.text());
    let (octets, source) = ann.receive_from();
    assert_eq!(
        (source, values(&octets, "route").len()),
        (edge.outside(), 0)
    );
    // The farm's call to Bob: what Bob sends goes to the member that called.
    let invite = edge.call("INVITE", &path);
    edge.send_from_farm(&invite);
    let (octets, _) = bob.receive_from();
    let mut routes = values(&octets, "record-route");
    for cseq in 2..12 {
        let info = Request {
            cseq,
            ..Request::new("INFO", bob.address())
        }
        .call_id(&invite.call_id)
        .uri("sip:farm@10.255.255.1")
        .row(format!("Route: {}, {}", routes[0], routes[1]));
        bob.send(edge.outside(), info.text());
        assert_eq!(edge.at_farm().0, 0);
    }
    // And the other way once more, by his binding.
    routes.reverse();
    let bye = edge
        .call("BYE", &routes.join(", "))
        .call_id(&invite.call_id);
    edge.send_from_farm(&bye);
    assert_eq!(bob.receive_from().1, edge.outside());
}

/// Its packets come from where somebody else stands, who may have gone when the
/// farm calls back.
#[test]
fn a_dialog_with_a_phone_behind_another_proxy_takes_its_contact() {
    let edge = Edge::new();
    let outsiders = [Peer::new(V4), Peer::new(V4)];
    let [ann, proxy] = &outsiders;
    let contact = format!("sip:ann@{}", ann.address());
    let [own, hers] = [proxy, ann].map(|each| {
        let address = each.address();
        format!("SIP/2.0/UDP {address};branch=z9hG4bK{}", address.port())
    });
    let invite = || Request::new("INVITE", proxy.address()).row(format!("Contact: <{contact}>"));
    for invite in [
        invite().via(&own).row(format!("Via: {hers}")),
        invite().via(format!("{own}, {hers}")),
    ] {
        proxy.send(edge.outside(), invite.text());
        let (member, octets) = edge.at_farm();
        let routes = values(&octets, "record-route").join(", ");
        let bye = Request::new("BYE", edge.scene.farm[member].address())
            .call_id(&invite.call_id)
            .uri(&contact)
            .row(format!("Route: {routes}"));
        edge.scene.farm[member].send(edge.inside(), bye.text());
        assert_eq!(Peer::first_of(&outsiders).0, 0);
    }
}

#[test]
fn a_call_that_comes_round_by_a_member_still_finds_the_binding_of_its_phone() {
    let edge = Edge::new();
    let ann = Peer::new(V4);
    let invite = Request::new("INVITE", ann.address()).row("Contact: <sip:ann@192.168.1.8>");
    ann.send(edge.outside(), invite.text());
    let (member, octets) = edge.at_farm();
    // It calls the farm, and stays on no path.
    let text = String::from_utf8(octets).expect("text");
    let (start, rest) = text.split_once("\r\n").expect("a start line");
    let forwarded = format!(
        "{}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKround\r\n{rest}",
        start.replace("farm.example", &edge.inside().to_string()),
        edge.scene.farm[member].address(),
    );
    edge.scene.farm[member].send(edge.inside(), forwarded);
    let (callee, octets) = edge.at_farm();
    let routes = values(&octets, "record-route");
    assert_eq!(routes.len(), 3);
    let bye = Request::new("BYE", edge.scene.farm[callee].address())
        .call_id(&invite.call_id)
        .uri("sip:ann@192.168.1.8")
        .row(format!("Route: {}", routes.join(", ")));
    edge.scene.farm[callee].send(edge.inside(), bye.text());
    let (octets, source) = ann.receive_from();
    assert_eq!(
        (source, values(&octets, "route").len()),
        (edge.outside(), 0)
    );
}

#[test]
fn a_call_between_two_phones_keeps_both_of_its_passes_apart() {
    // Through a proxy that stays on no path: both our Record-Routes meet.
    let edge = Edge::new();
    let (ann, bob) = (Peer::new(V4), Peer::new(V4));
    let path = edge.register(&bob);
    let invite = Request::new("INVITE", ann.address()).row("Contact: <sip:ann@192.168.1.8>");
    ann.send(edge.outside(), invite.text());
    let (member, octets) = edge.at_farm();
    let first = values(&octets, "record-route");
    let text = String::from_utf8(octets).expect("text");
    let (start, rest) = text.split_once("\r\n").expect("a start line");
    let forwarded = format!(
        "{}\r\nVia: SIP/2.0/UDP {};branch=z9hG4bKproxy\r\nRoute: {path}\r\n{rest}",
        start.replace("sip:desk@farm.example", PRIVATE),
        edge.scene.farm[member].address(),
    );
    edge.scene.farm[member].send(edge.inside(), forwarded);
    let (octets, source) = bob.receive_from();
    assert_eq!(source, edge.outside());
    let routes = values(&octets, "record-route");
    assert_eq!(routes.len(), 4);
    assert_eq!(routes[2..], first);
    // Bob's BYE passes the proxy, which sends it on by what is left of Route.
    let bye = Request::new("BYE", bob.address())
        .call_id(&invite.call_id)
        .uri("sip:ann@192.168.1.8")
        .row(format!("Route: {}", routes.join(", ")));
    bob.send(edge.outside(), bye.text());
    let (found, octets) = edge.at_farm();
    assert_eq!(found, member);
    assert_eq!(values(&octets, "route").join(", "), first.join(", "));
    // The same of a strict router that has kept one of our two for this pass.
    let strict = Request::new("BYE", bob.address())
        .call_id(&invite.call_id)
        .uri(routes[0].trim_matches(['<', '>']))
        .row(format!("Route: {}", routes[2..].join(", ")))
        .row("Route: <sip:ann@192.168.1.8>");
    bob.send(edge.outside(), strict.text());
    let (found, left) = edge.at_farm();
    assert_eq!(found, member);
    assert_eq!(values(&left, "route").join(", "), first.join(", "));
    let text = String::from_utf8(octets).expect("text");
    let (start, rest) = text.split_once("\r\n").expect("a start line");
    let via = format!(
        "Via: SIP/2.0/UDP {};branch=z9hG4bKbye",
        edge.scene.farm[member].address()
    );
    edge.scene.farm[member].send(edge.inside(), format!("{start}\r\n{via}\r\n{rest}"));
    let (octets, source) = ann.receive_from();
    assert_eq!(
        (source, values(&octets, "route").len()),
        (edge.outside(), 0)
    );
}
