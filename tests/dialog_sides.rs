//! Dialogs between two members, one on each side of Viaduct: whoever calls, the
//! requests of either leave by the other's side (RFC 3261 §16.4, §18.1.1).

use std::net::SocketAddr;

use support::dialog::{Peer, Request, Scene, response, two_listeners, values};
use support::stateful::only;

/// The members by their places in the farm.
const PBX: usize = 0;
const CARRIER: usize = 1;

/// A PBX inside and a carrier outside; calls of the PBX that name us are for the
/// carrier.
struct Sides(Scene);

impl Sides {
    fn new() -> Self {
        let [pbx, carrier] =
            ["127.0.0.2", "127.0.0.4"].map(|ip| Peer::new(ip.parse().expect("an address")));
        let carriers = format!(
            "[[set]]\nname = 'carriers'\ndestinations = ['{}']\n\
             [[route]]\nsource = ['127.0.0.2']\nset = 'carriers'",
            carrier.address()
        );
        let text = two_listeners(
            &[&pbx],
            "record-route = 'on'\negress = ['127.0.0.4']",
            "record-route = 'on'\negress = ['127.0.0.2']",
            &carriers,
        );
        Self(Scene::with_file(vec![pbx, carrier], &text, &[]))
    }

    /// The address of ours that this member sees.
    fn front_of(&self, member: usize) -> SocketAddr {
        let listener = [1, 0][member];
        self.0.viaduct.address(listener)
    }

    /// Plays a call from one member to the other, and demands that all of it
    /// leaves by the listener of its receiver.
    fn call(&self, caller: usize, called: usize, uri: String) {
        let [from, to] = [caller, called].map(|member| &self.0.farm[member]);
        let [near, far] = [caller, called].map(|member| self.front_of(member));
        let invite = Request::new("INVITE", from.address()).uri(uri);
        from.send(near, invite.text());
        let (octets, source) = to.receive_from();
        assert_eq!(source, far, "INVITE");
        let routes = values(&octets, "record-route");
        assert_eq!(routes.len(), 2, "{routes:?}");
        to.send(far, response(&octets, "200 OK", "t"));
        assert_eq!(from.receive_from().1, near, "200");
        let within = |method: &str, of: &Peer, contact: &Peer| {
            Request::new(method, of.address())
                .call_id(&invite.call_id)
                .uri(format!("sip:member@{}", contact.address()))
        };
        let with_route = |request: Request, value: &String| request.row(format!("Route: {value}"));
        for method in ["ACK", "BYE"] {
            let request = routes
                .iter()
                .rev()
                .fold(within(method, from, to), with_route);
            from.send(near, request.text());
            assert_eq!(to.receive_from().1, far, "{method} of the caller");
        }
        let request = routes.iter().fold(within("BYE", to, from), with_route);
        to.send(far, request.text());
        assert_eq!(from.receive_from().1, near, "BYE of the called");
    }
}

#[test]
fn a_call_that_a_rule_places() {
    let sides = Sides::new();
    let uri = format!("sip:4930@{}", sides.front_of(PBX));
    sides.call(PBX, CARRIER, uri);
}

#[test]
fn a_call_that_names_the_other_member() {
    let sides = Sides::new();
    let uri = format!("sip:4930@{}", sides.0.farm[CARRIER].address());
    sides.call(PBX, CARRIER, uri);
}

#[test]
fn a_call_from_a_destination_outside() {
    let sides = Sides::new();
    let uri = format!("sip:desk@{}", sides.front_of(CARRIER));
    sides.call(CARRIER, PBX, uri);
}

/// Its own dialog leads a member that names us nowhere: the hash does.
#[test]
fn a_cookie_that_leads_back_to_its_sender_is_not_followed() {
    let mut scene = Scene::new(1, &["--record-route"]);
    let invite = scene.request("INVITE");
    let (_, octets) = scene.pass(invite.text());
    let (front, member) = (scene.front(), &scene.farm[0]);
    let bye = Request::new("BYE", member.address())
        .call_id(&invite.call_id)
        .uri(format!("sip:phone@{front}"))
        .row(format!("Route: {}", only(&octets, "record-route")));
    member.send(front, bye.text());
    scene.at_farm();
    scene.assert_counter("cookies-followed", 0);
}
