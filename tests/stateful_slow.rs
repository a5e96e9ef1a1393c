//! Destinations that are slow, silent or out of reach, by a virtual clock: where
//! a request goes then, and what that teaches (RFC 3261 §16.7 items 5 and 6,
//! RFC 4320 §4.2).

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use support::fixture;
use support::transactions::scripted::World;
use viaduct::config::{Config, OnFailure, Set};
use viaduct::transaction::Lesson;

const NOTHING: [&str; 0] = [];
const NO_LESSON: [Lesson; 0] = [];

/// Makes a set of each of these destinations.
fn divide(config: &mut Config, parts: &[Range<usize>]) {
    let farm = config.sets[0].clone();
    let sets = parts.iter().map(|part| Set {
        name: format!("{part:?}"),
        destinations: farm.destinations[part.clone()].to_vec(),
        ..farm.clone()
    });
    config.sets = sets.collect();
}

fn rule(status: u16, set: usize, from_sets: &[usize]) -> OnFailure {
    OnFailure {
        statuses: vec![status],
        set,
        request_uri: None,
        from_sets: from_sets.to_vec(),
    }
}

/// A REGISTER whose first destination is slow, and then the second one fails: by
/// this status, or out of reach where that is 0.
fn slow_register(failure: u16, says_100: bool) -> (World, SocketAddr) {
    let mut world = World::new(2, |config| {
        config.stateful.methods.push("REGISTER".to_owned());
    });
    let first = world.calls("REGISTER");
    world.wait(1_000);
    let second = world.requests[0].0;
    assert_ne!(first, second);
    if says_100 {
        world.says_to("REGISTER", first, 100, &[]);
    }
    match failure {
        0 => world.is_out_of_reach(second),
        status => world.says_to("REGISTER", second, status, &[]),
    }
    (world, first)
}

#[test]
fn what_is_no_invite_may_still_be_answered_by_a_slow_destination_too() {
    for failure in [0, 408, 503] {
        for says_100 in [false, true] {
            let (mut world, first) = slow_register(failure, says_100);
            world.wait(1_000);
            assert_eq!(world.caller_hears(), NOTHING);
            assert_eq!(world.came(first), ["REGISTER"; 3]);
            world.says_to("REGISTER", first, 200, &[]);
            assert_eq!(world.caller_hears(), ["200"]);
            world.wait(40_000);
            assert_eq!(world.came(first), NOTHING);
        }
    }
}

#[test]
fn what_is_no_invite_waits_for_a_slow_destination_until_timer_f() {
    for (failure, heard) in [(0, &["500"][..]), (408, &[]), (503, &["500"])] {
        let (mut world, _) = slow_register(failure, false);
        world.wait(30_900);
        assert_eq!(world.caller_hears(), NOTHING);
        assert_eq!(world.told.len(), 0);
        world.wait(200);
        assert_eq!(world.caller_hears(), heard);
        assert_eq!(world.told.len(), 1);
    }
}

#[test]
fn a_late_408_to_what_is_no_invite_keeps_it_from_no_destination() {
    let mut world = World::new(3, |config| {
        config.stateful.methods.push("REGISTER".to_owned());
    });
    let first = world.calls("REGISTER");
    world.wait(1_000);
    let second = world.requests[0].0;
    world.wait(100);
    world.says_to("REGISTER", first, 408, &[]);
    world.wait(900);
    let third = world.requests[0].0;
    assert!(![first, second].contains(&third), "{third}");
    world.says_to("REGISTER", third, 200, &[]);
    assert_eq!(world.caller_hears(), ["200"]);
}

/// Its sender, who is told nothing, repeats it until its own timer F (RFC 3261
/// §17.1.2.2).
#[test]
fn what_is_no_invite_and_has_failed_by_408_is_not_begun_again_by_its_copies() {
    for (says_408, came) in [(true, &["MESSAGE"][..]), (false, &["MESSAGE"; 3])] {
        let mut world = World::new(1, |config| {
            config.stateful.timers.f = Duration::from_secs(2);
        });
        let leg = world.calls("MESSAGE");
        if says_408 {
            world.says_to("MESSAGE", leg, 408, &[]);
        }
        for seconds in [0.5, 1., 2., 4., 4., 4., 4., 4., 4., 4.] {
            world.wait((seconds * 1_000.) as u64);
            world.receive(world.request("MESSAGE").as_bytes(), fixture::caller());
        }
        assert_eq!(world.came(leg), came);
        assert_eq!(world.caller_hears(), NOTHING);
        assert_eq!((world.told.len(), world.told[0].status), (1, 408));
    }
}

/// What was lost here says nothing of a destination, until it has been asked again
/// and nothing was lost since.
#[test]
fn silence_counts_where_nothing_was_lost_here() {
    let mut world = World::new(2, |_| {});
    let first = world.calls("INVITE");
    world.wait(900);
    world.balancer.lost(world.now);
    world.wait(1_550);
    // The third copy left after 1.5 s.
    assert_eq!(world.came(first), ["INVITE"; 3]);
    assert_eq!(world.learnt, NO_LESSON);
    world.wait(100);
    let second = world.requests[0].0;
    assert_ne!(first, second);
    assert_eq!(world.learnt, [Lesson::Silent]);
    world.says(second, 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

#[test]
fn losses_without_end_keep_no_call_at_a_dead_destination() {
    let mut world = World::new(2, |_| {});
    let first = world.calls("INVITE");
    for _ in 0..44 {
        world.wait(100);
        world.balancer.lost(world.now);
    }
    assert_eq!(world.came(first), ["INVITE"; 4]);
    assert_eq!(world.learnt, NO_LESSON);
    world.wait(150);
    assert_ne!(world.requests[0].0, first);
}

#[test]
fn what_was_lost_here_keeps_no_cancelled_call_waiting() {
    let mut world = World::new(2, |_| {});
    let first = world.calls("INVITE");
    world.wait(100);
    world.receive(world.request("CANCEL").as_bytes(), fixture::caller());
    world.wait(800);
    world.balancer.lost(world.now);
    world.wait(200);
    assert_eq!(world.caller_hears(), ["100", "200", "487"]);
    assert_eq!(world.came(first), ["INVITE"; 2]);
    assert_eq!(world.learnt, NO_LESSON);
}

/// Else a destination that is dead has the calls again for what is lost here.
#[test]
fn a_suspect_is_avoided_until_it_is_known_what_became_of_its_trial() {
    let mut world = World::new(2, |_| {});
    let (dead, other) = world.abandoned();
    world.says(other, 200);
    world.wait(1_100);
    let begun = world.now;
    assert_eq!(world.calls("INVITE"), dead);
    while world.learnt.len() < 2 {
        world.wait(100);
        world.balancer.lost(world.now);
        assert_eq!(world.calls("INVITE"), other);
        world.says(other, 200);
        assert!(world.now < begun + 5_000);
    }
}

/// Its rule is for the status that has come, and not for that of another set.
#[test]
fn a_late_failure_leads_to_its_own_rule_behind_one_of_another_set() {
    let mut world = World::new(4, |config| {
        divide(config, &[0..1, 1..3, 3..4]);
        config.stateful.on_failure = vec![rule(404, 1, &[]), rule(486, 2, &[])];
    });
    let pbx = world.calls("INVITE");
    world.says(pbx, 404);
    let first = world.requests[0].0;
    world.wait(1_000);
    let second = world.requests[0].0;
    world.wait(100);
    world.says(first, 486);
    world.wait(1_000);
    let mail = world.requests[0].0;
    assert_eq!(mail, fixture::destination(3));
    assert!(![first, second].contains(&mail));
    world.says(mail, 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

#[test]
fn a_rule_is_for_the_best_of_the_failures_where_that_was_out_of_reach_too() {
    let mut world = World::new(3, |config| {
        divide(config, &[0..1, 1..2, 2..3]);
        config.stateful.on_failure = vec![rule(503, 1, &[0]), rule(503, 2, &[0])];
    });
    let first = world.calls("INVITE");
    world.is_out_of_reach(first);
    world.says(fixture::destination(1), 503);
    world.says(fixture::destination(2), 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

#[test]
fn a_487_to_our_own_cancel_does_not_end_the_search() {
    let mut world = World::new(4, |_| {});
    let (first, second) = world.abandoned();
    world.says(second, 180);
    world.wait(100);
    world.says(first, 180);
    world.says_to("CANCEL", first, 200, &[]);
    world.says(second, 503);
    let third = world
        .requests
        .iter()
        .find(|(_, each)| each.method() == "INVITE");
    let third = third.expect("an INVITE").0;
    world.wait(100);
    world.says(first, 487);
    world.wait(1_000);
    let fourth = world.requests[0].0;
    assert!(![first, second, third].contains(&fourth), "{fourth}");
    world.says(fourth, 200);
    assert_eq!(world.caller_hears(), ["100", "180", "200"]);
}

#[test]
fn a_destination_that_is_waited_for_rings_as_long_as_any() {
    let mut world = World::new(2, |config| {
        config.stateful.ring_timeout = Duration::from_secs(6);
    });
    let (first, second) = world.abandoned();
    world.says(second, 180);
    world.wait(5_000);
    world.says(second, 503);
    world.wait(600);
    assert_eq!(world.came(first), ["INVITE"; 3]);
    world.says(first, 180);
    world.wait(5_900);
    assert_eq!(world.came(first), NOTHING);
    world.wait(200);
    assert_eq!(world.came(first), ["CANCEL"]);
    assert_eq!(world.caller_hears(), ["100", "180", "180"]);
}

/// RFC 3261 §16.7 item 6: that it rang too long says less.
#[test]
fn behind_a_call_that_rang_too_long_another_failure_is_what_its_caller_gets() {
    let mut world = World::new(2, |config| {
        divide(config, &[0..1, 1..2]);
        config.stateful.ring_timeout = Duration::from_secs(6);
        config.stateful.on_failure = vec![rule(408, 1, &[])];
    });
    let phone = world.calls("INVITE");
    world.says(phone, 180);
    world.wait(6_100);
    world.says_to("CANCEL", phone, 200, &[]);
    world.says(phone, 487);
    world.says(fixture::destination(1), 404);
    assert_eq!(world.caller_hears(), ["100", "180", "404"]);
}

/// Whether nobody answered before, it rang too long there or had a 408 from there.
#[test]
fn a_call_that_is_cancelled_where_a_408_has_led_ends_by_487() {
    for before in ["silent", "rings", "says 408"] {
        let mut world = World::new(2, |config| {
            divide(config, &[0..1, 1..2]);
            config.stateful.ring_timeout = Duration::from_secs(6);
            config.stateful.on_failure = vec![rule(408, 1, &[])];
        });
        let phone = world.calls("INVITE");
        match before {
            "silent" => world.wait(33_000),
            "rings" => {
                world.says(phone, 180);
                world.wait(6_100);
                world.says(phone, 487);
            }
            _ => world.says(phone, 408),
        }
        let mail = fixture::destination(1);
        world.says(mail, 180);
        world.receive(world.request("CANCEL").as_bytes(), fixture::caller());
        world.says(mail, 487);
        let heard = world.caller_hears();
        assert_eq!(heard[heard.len() - 2..], ["200", "487"], "{before}");
        assert_eq!(world.told[0].status, 487, "{before}");
    }
}

/// A MESSAGE has nobody else where its destination says nothing.
#[test]
fn what_goes_to_no_other_destination_leaves_a_silent_one_avoided() {
    let mut world = World::new(2, |_| {});
    let (first, second) = world.abandoned();
    world.says(second, 200);
    world.wait(1_100);
    assert_eq!(world.calls("MESSAGE"), first);
    world.wait(2_100);
    assert_eq!(world.calls("MESSAGE"), first);
    // Silent for the second time, it is avoided for two seconds.
    assert_eq!(world.abandoned(), (first, second));
    world.says(second, 200);
    world.wait(1_500);
    assert_eq!(world.calls("INVITE"), second);
}

/// The call knows of its last destination before anybody ends it.
#[test]
fn a_call_that_was_silent_to_the_end_has_tried_its_destination_once() {
    for cancelled in [true, false] {
        let mut world = World::new(2, |_| {});
        let (first, second) = world.abandoned();
        if cancelled {
            world.wait(4_000);
            world.receive(world.request("CANCEL").as_bytes(), fixture::caller());
        } else {
            world.wait(32_000);
        }
        world.wait(100);
        assert_eq!(world.told.len(), 1);
        // Its second lies behind: one call tries either again.
        world.wait(1_000);
        assert_eq!(world.calls("INVITE"), first);
        assert_eq!(world.calls("INVITE"), second);
    }
}

/// RFC 3261 §17.1.1.2: Timer D, for its failure comes again until our ACK is there.
#[test]
fn a_failure_after_a_cancel_that_nobody_answered_is_acknowledged_each_time() {
    let mut world = World::new(1, |_| {});
    let leg = world.calls("INVITE");
    world.says(leg, 180);
    // Timer C, and F for our CANCEL.
    world.wait(213_200);
    assert_eq!(world.caller_hears()[..3], ["100", "180", "408"]);
    world.receive(world.request("ACK").as_bytes(), fixture::caller());
    world.came(leg);
    // Its own side is over after Timer I.
    world.wait(4_800);
    for _ in 0..3 {
        world.says(leg, 487);
        assert_eq!(world.came(leg), ["ACK"]);
        world.wait(4_000);
    }
    assert_eq!(world.caller_hears(), NOTHING);
}

/// A branch names one client transaction (RFC 3261 §17.1.3).
#[test]
fn what_begins_anew_has_no_branch_of_before_with_another_request_uri() {
    const MAILBOX: &str = "sip:box@voicemail.example";
    let mut world = World::new(2, |config| {
        divide(config, &[0..2, 0..1]);
        config.stateful.on_failure = vec![OnFailure {
            request_uri: Some(MAILBOX.to_owned()),
            ..rule(486, 1, &[])
        }];
    });
    let (first, second) = world.abandoned();
    world.balancer.restart();
    world.receive(world.request("INVITE").as_bytes(), fixture::caller());
    world.says(first, 486);
    let by_rule = world.requests.iter().filter(|(to, _)| *to == second);
    let by_rule: Vec<_> = by_rule
        .map(|(_, each)| (each.request_uri(), each.branch(0)))
        .collect();
    let [(uri, branch), (before, branch_before)] = by_rule[..] else {
        panic!("{by_rule:?}");
    };
    assert_eq!(uri, MAILBOX);
    assert_ne!(uri, before);
    assert_ne!(branch, branch_before);
}
