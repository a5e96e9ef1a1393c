//! Where more comes than can be done, what has begun is brought to its end, and
//! what would begin is dropped: its sender sends it again (RFC 3261 §17.1.1.2).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use support::dialog::{Peer, Request, Scene, status};
use support::net::V4;
use support::stateful::STILL;
use support::transactions::scripted::World;
use support::{LONG, fixture, load_lock, wait_until};
use viaduct::config::OnFailure;

const NOTHING: [&str; 0] = [];

/// A new call; what its caller hears.
fn calls(world: &mut World) -> Vec<String> {
    world.calls("INVITE");
    world.caller_hears()
}

#[test]
fn what_would_begin_is_dropped_and_what_has_begun_goes_on() {
    let mut world = World::new(2, |_| {});
    let first = world.calls("INVITE");
    let known = world.request("INVITE");
    assert_eq!(world.came(first), ["INVITE"]);
    assert_eq!(world.caller_hears(), ["100"]);

    world.balancer.overload(true);
    // Somebody is let in.
    assert_eq!(calls(&mut world), ["100"]);
    world.requests.remove(0);
    world.sent.clear();
    let dropped = [(); 3].map(|()| {
        assert_eq!(calls(&mut world), NOTHING);
        world.request("INVITE")
    });
    assert_eq!(world.sent.len(), 0, "{:?}", world.sent);
    // The first goes to another destination, is asked for again, and is answered.
    world.says(first, 503);
    let second = world.requests[0].0;
    assert_eq!(world.came(second), ["INVITE"]);
    world.says(second, 180);
    world.receive(known.as_bytes(), fixture::caller());
    world.says(second, 200);
    assert_eq!(world.caller_hears(), ["180", "180", "200"]);

    world.balancer.overload(false);
    for invite in dropped {
        world.receive(invite.as_bytes(), fixture::caller());
        assert_eq!(world.caller_hears(), ["100"]);
    }
}

#[test]
fn what_is_too_much_besides_has_nothing_dropped() {
    for (besides, heard) in [(61, &[][..]), (65, &["100"])] {
        let mut world = World::new(2, |_| {});
        let options = world.request("OPTIONS");
        for _ in 0..besides {
            world.receive(options.as_bytes(), fixture::caller());
        }
        calls(&mut world);
        calls(&mut world);
        world.balancer.overload(true);
        calls(&mut world);
        assert_eq!(calls(&mut world), heard, "{besides}");
    }
}

#[test]
fn what_a_failure_rule_alone_has_a_destination_for_is_dropped_too() {
    let mut world = World::new(2, |config| {
        let mut empty = config.sets[0].clone();
        empty.name = "empty".to_owned();
        empty.destinations.clear();
        config.sets.insert(0, empty);
        config.stateful.on_failure = vec![OnFailure {
            statuses: vec![503],
            set: 1,
            request_uri: None,
            from_sets: vec![0],
        }];
    });
    assert_eq!(calls(&mut world), ["100"]);
    world.balancer.overload(true);
    assert_eq!(calls(&mut world), ["100"]);
    assert_eq!(calls(&mut world), NOTHING);
}

/// Sends new calls as fast as it can.
fn flood(front: SocketAddr, over: &AtomicBool) {
    let sender = Peer::new(V4);
    let call = Request::new("INVITE", sender.address());
    let text = call.text();
    let end = Instant::now() + 3 * LONG;
    for number in 0_u32.. {
        if over.load(Ordering::Relaxed) || Instant::now() > end {
            return;
        }
        let other = text.replace(&call.call_id, &number.to_string());
        let magic = format!("z9hG4bK{number}");
        sender.send(front, other.replace("z9hG4bK", &magic));
    }
}

/// Whether the caller has heard this next.
fn hears(scene: &Scene, expected: u16) -> bool {
    let heard = scene.caller.poll();
    heard.is_some_and(|(octets, _)| status(octets) == expected)
}

#[test]
fn under_a_flood_of_new_calls_one_that_rings_is_answered() {
    let _load = load_lock();
    let bounds = ["--transactions", "100000", "--receive-buffer", "64KiB"];
    let mut scene = Scene::stateful(1, "INVITE", &STILL, &bounds);
    let leg = scene.begin(&scene.request("INVITE"));
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let front = scene.front();
        let over = &over;
        scope.spawn(move || flood(front, over));
        wait_until("an overload", || {
            scene.viaduct.counters().has("drop-overload")
        });
        wait_until("the answer", || {
            scene.says(&leg, "200 OK");
            hears(&scene, 200)
        });
        over.store(true, Ordering::Relaxed);
    });
    let call = scene.request("INVITE").text();
    wait_until("new work to begin again", || {
        scene.send(&call);
        hears(&scene, 100)
    });
}
