//! How long it holds what the name of a next hop stands for.

use support::dialog::{Peer, Request, Scene};
use support::dns::NameServer;
use support::{wait_for, wait_until};

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
    let address = server.address().to_string();
    let args = ["--resolve", "--resolver", &address];
    let scene = Scene::new(1, &[&args[..], &["--reply-rate", "1000000"]].concat());
    let member = &scene.farm[0];
    // A stalled machine has one answered 503.
    let ends = [(&hosts[0], 0), (&hosts[1], 1), (member, 2)];
    let ended = || ends.iter().find_map(|(at, end)| at.poll().and(Some(*end)));
    let reach = |wanted: usize| {
        wait_until("a call for the other", || {
            let invite = Request::new("INVITE", member.address()).uri("sip:ann@pbx.test");
            member.send(scene.front(), invite.text());
            wait_for("what comes of it", ended) == wanted
        });
    };
    reach(0);
    server.change(&format!("{zone}\nlate.test 3600 A 127.0.0.62"));
    reach(1);
}
