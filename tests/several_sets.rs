//! An address that stands in several sets is one destination in each: what is
//! changed, counted and reached of it.

use std::time::{Duration, Instant};

use support::admin::{self, Admin};
use support::dialog::{Peer, Request, Scene, response, values};
use support::net::V4;

/// INVITE goes to the set `calls`, SUBSCRIBE to `events`. Member 0 stands in
/// both, 1 and 2 in one each.
struct Shared {
    scene: Scene,
    admin: Admin,
    address: String,
}

impl Shared {
    /// Member 0 has these URI parameters in either set.
    fn new(in_calls: &str, in_events: &str) -> Self {
        let farm: Vec<_> = (0..3).map(|_| Peer::new(V4)).collect();
        let [shared, one, other] = [0, 1, 2].map(|member: usize| farm[member].address());
        let text = format!(
            "listen = ['127.0.0.1:0']\nrecord-route = 'on'\n\
             [[set]]\nname = 'calls'\ndestinations = ['sip:{shared}{in_calls}', '{one}']\n\
             [[set]]\nname = 'events'\ndestinations = ['sip:{shared}{in_events}', '{other}']\n\
             [[route]]\nset = 'events'\nmethod = 'SUBSCRIBE'\n"
        );
        let args = ["--admin", "admin.sock", "--health", "off"];
        let scene = Scene::with_file(farm, &text, &args);
        let admin = Admin::of(&scene.viaduct);
        Self {
            scene,
            admin,
            address: shared.to_string(),
        }
    }

    /// Whether it gets new requests of either set.
    fn takes(&self) -> [bool; 2] {
        ["INVITE", "SUBSCRIBE"].map(|method| {
            (0..40).any(|_| self.scene.pass(self.scene.request(method).text()).0 == 0)
        })
    }

    fn drains(&self, more: &[&str]) {
        let args = [&["drain", &self.address], more].concat();
        let output = admin::ctl(self.admin.path(), &args).output();
        let output = output.expect("viaduct ctl");
        assert!(output.status.success(), "{output:?}");
    }

    /// A request of a dialog that names it.
    fn named(&self) -> Request {
        let info = self.scene.request("INFO");
        let to = format!("{};tag=t", info.to);
        info.to(to).uri(format!("sip:desk@{}", self.address))
    }

    /// Of either set, whether it knows of a request of a dialog.
    fn saw_a_dialog(&self) -> [bool; 2] {
        let sets = self.admin.get("/api/v1/sets").json();
        [0, 1].map(|set: usize| {
            let destination = &sets[set]["destinations"][0];
            assert_eq!(destination["address"], self.address);
            !destination["last_in_dialog_seconds"].is_null()
        })
    }
}

#[test]
fn a_drain_takes_it_out_of_all_sets_unless_one_is_named() {
    let shared = Shared::new("", "");
    assert_eq!(shared.takes(), [true, true]);
    shared.drains(&["--set", "events"]);
    assert_eq!(shared.takes(), [true, false]);
    let shared = Shared::new("", "");
    shared.drains(&[]);
    assert_eq!(shared.takes(), [false, false]);
}

#[test]
fn what_it_does_counts_in_the_first_set_in_which_it_is_not_disabled() {
    for (in_calls, in_events, counts) in [
        ("", "", [true, false]),
        (";state=draining", "", [true, false]),
        (";state=disabled", "", [false, true]),
        ("", ";state=disabled", [true, false]),
    ] {
        let shared = Shared::new(in_calls, in_events);
        let (member, octets) = shared.scene.pass(shared.named().text());
        assert_eq!(member, 0);
        shared.scene.farm[0].send(shared.scene.front(), response(octets, "200 OK", ""));
        shared.scene.caller.receive();
        assert_eq!(shared.saw_a_dialog(), counts, "{in_calls} {in_events}");
    }
}

#[test]
fn disabled_in_one_set_alone_it_still_gets_what_names_it() {
    for (in_calls, in_events, method) in [
        (";state=disabled", "", "SUBSCRIBE"),
        ("", ";state=disabled", "INVITE"),
    ] {
        let shared = Shared::new(in_calls, in_events);
        let scene = &shared.scene;
        let own = format!("Route: <sip:{};lr>", shared.address);
        for request in [shared.named(), scene.request("BYE").row(own)] {
            assert_eq!(scene.pass(request.text()).0, 0, "{in_calls} {in_events}");
        }
        // By what it recorded where it takes new requests.
        let (call, recorded) = loop {
            let call = scene.request(method);
            let (member, octets) = scene.pass(call.text());
            if member == 0 {
                break (call, values(&octets, "record-route").remove(0));
            }
        };
        let bye = scene.request("BYE").call_id(&call.call_id);
        let bye = bye.row(format!("Route: {recorded}"));
        assert_eq!(scene.pass(bye.text()).0, 0, "{in_calls} {in_events}");
    }
}

#[test]
fn a_drain_of_one_set_waits_for_what_counts_in_another() {
    let shared = Shared::new("", "");
    let quiet = Duration::from_secs(6);
    let args = ["drain", &shared.address, "--set", "events", "--wait", "6s"];
    let mut drain = admin::ctl(shared.admin.path(), &args)
        .spawn()
        .expect("viaduct ctl");
    shared.admin.wait_for("/api/v1/sets", |sets| {
        (sets[1]["destinations"][0]["state"] == "draining").then_some(())
    });
    let until = Instant::now() + quiet + Duration::from_secs(2);
    while Instant::now() < until {
        assert_eq!(shared.scene.pass(shared.named().text()).0, 0);
        let ended = drain.try_wait().expect("a child");
        assert_eq!(ended, None, "it did not wait");
        std::thread::sleep(Duration::from_millis(300));
    }
    assert_eq!(shared.saw_a_dialog(), [true, false]);
    drain.kill().expect("a child that waits");
    drain.wait().expect("its end");
}
