//! How long it holds what the name of a next hop stands for, and how long a
//! request is held for it.

use support::dialog::{Peer, Request, Scene, status};
use support::dns::NameServer;
use support::upgrading::upgrade;
use support::{wait_for, wait_until};

/// Of its hosts, each asked for after the one before, which takes 0.65 seconds,
/// none is answered for.
fn silent_service() -> NameServer {
    let host = |n| format!("_sip._udp.pbx.test 3600 SRV {n} 1 5060 n{n}.silent.test\n");
    NameServer::start(&(1..=8).map(host).collect::<String>())
}

fn scene(server: &NameServer) -> Scene {
    let address = server.address().to_string();
    let args = ["--resolve", "--resolver", &address];
    Scene::new(1, &[&args[..], &["--reply-rate", "1000000"]].concat())
}

/// A call of a member for somebody at `pbx.test`.
fn call(scene: &Scene) {
    let member = &scene.farm[0];
    let invite = Request::new("INVITE", member.address()).uri("sip:ann@pbx.test");
    member.send(scene.front(), invite.text());
}

#[test]
fn a_request_is_held_for_two_seconds_at_most() {
    let server = silent_service();
    let scene = scene(&server);
    let is_asked_for = |host: u8| server.asked().contains(&format!("n{host}.silent.test A"));
    // On a stalled machine the answer for the service itself may be late.
    wait_until("the first host", || {
        call(&scene);
        assert_eq!(status(scene.farm[0].receive()), 503);
        is_asked_for(1)
    });
    assert!(!is_asked_for(5), "{:?}", server.asked());
}

#[test]
fn an_upgrade_does_not_wait_for_all_that_waits_for_a_name() {
    let server = silent_service();
    let mut scene = scene(&server);
    // On a stalled machine it may be answered before the upgrade begins.
    wait_until("a request that was not waited for", || {
        call(&scene);
        upgrade(&mut scene.viaduct);
        let output = scene.viaduct.output();
        output.contains("\ncounter drop-unresolved 1\n")
    });
}

#[test]
fn a_host_without_an_address_is_asked_for_again_before_the_others() {
    let (hosts, port) = Peer::neighbours::<2>(61);
    let zone = format!(
        "_sip._udp.pbx.test 3600 SRV 10 1 {port} there.test
         _sip._udp.pbx.test 3600 SRV 10 1 {port} late.test
         test 1 SOA
         there.test 3600 A 127.0.0.61"
    );
    let server = NameServer::start(&zone);
    let scene = scene(&server);
    let member = &scene.farm[0];
    // A stalled machine has one answered 503.
    let ends = [(&hosts[0], 0), (&hosts[1], 1), (member, 2)];
    let ended = || ends.iter().find_map(|(at, end)| at.poll().and(Some(*end)));
    let reach = |wanted: usize| {
        wait_until("a call for the other", || {
            call(&scene);
            wait_for("what comes of it", ended) == wanted
        });
    };
    reach(0);
    server.change(&format!("{zone}\nlate.test 3600 A 127.0.0.62"));
    reach(1);
}
