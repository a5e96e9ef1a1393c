//! What comes late, or from the one that was not expected to: by a virtual
//! clock, for all of it is a matter of seconds.

use std::time::Duration;

use support::fixture;
use support::transactions::scripted::World;
use viaduct::config::{Config, OnFailure, Timers};
use viaduct::transaction::{Lesson, Outcome};

const NOTHING: [&str; 0] = [];
/// When what is sent from 0 on is sent, with intervals from T1, doubled up to T2.
const UP_TO_T2: [u64; 11] = [
    0, 500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500,
];

/// Destinations from the third on are a set for calls that are busy at the others.
fn leads_to_mail(config: &mut Config) {
    let mut mail = config.sets[0].clone();
    mail.destinations = config.sets[0].destinations.split_off(2);
    mail.name = "mail".to_owned();
    config.sets.push(mail);
    config.stateful.on_failure = vec![OnFailure {
        statuses: vec![486],
        set: 1,
        request_uri: None,
        from_sets: vec![0],
    }];
}

/// RFC 3261 §16.7 item 6 is of responses that somebody gave to the call.
#[test]
fn a_487_to_our_own_cancel_is_not_what_the_caller_gets() {
    for (said, heard) in [(500, 500), (503, 500), (504, 504), (408, 408), (0, 408)] {
        let mut world = World::new(2, |_| {});
        let (first, second) = world.abandoned();
        world.says(second, 180);
        world.wait(100);
        world.says(first, 180);
        world.says_to("CANCEL", first, 200, &[]);
        world.says(first, 487);
        assert_eq!(world.came(first), ["INVITE", "INVITE", "CANCEL", "ACK"]);
        assert_eq!(world.caller_hears(), ["100", "180"]);
        match said {
            0 => world.wait(250_000),
            said => world.says(second, said),
        }
        assert_eq!(world.caller_hears()[0], heard.to_string(), "{said}");
        let told = &world.told[0];
        assert_eq!((told.status, told.cancelled), (heard, false));
    }
}

#[test]
fn copies_of_an_invite_end_once_another_destination_has_answered() {
    let mut world = World::new(2, |_| {});
    let (first, second) = world.abandoned();
    world.wait(200);
    world.says(first, 200);
    world.wait(1_000);
    assert_eq!(world.came(second), ["INVITE"]);
    world.wait(40_000);
    assert_eq!(world.came(second), NOTHING);
}

/// What the request leaves is for the heads of all attempts.
#[test]
fn failures_of_all_destinations_are_acknowledged_again_however_little_room_there_was() {
    let mut begun = 0;
    for padding in (0..4_000).step_by(20) {
        let mut world = World::new(2, |config| config.stateful.transactions = 1);
        let row = format!("\r\nX-Long: {}\r\n\r\n", "x".repeat(padding));
        let invite = world.request("INVITE").replacen("\r\n\r\n", &row, 1);
        world.receive(invite.as_bytes(), fixture::caller());
        let first = world.requests[0].0;
        if world.caller_hears() != ["100"] {
            continue;
        }
        begun += 1;
        world.wait(1_000);
        let second = world.requests[0].0;
        for member in [first, second] {
            world.says(member, 486);
        }
        let ack = invite.replace("INVITE sip", "ACK sip");
        let ack = ack.replace("0 INVITE", "0 ACK");
        world.receive(ack.as_bytes(), fixture::caller());
        for member in [first, second] {
            world.came(member);
            world.says(member, 486);
            assert_eq!(world.came(member), ["ACK"], "{padding} octets more");
        }
    }
    assert!(begun > 100, "{begun}");
}

#[test]
fn an_answered_call_makes_room_although_a_destination_said_nothing() {
    let mut world = World::new(2, |config| config.stateful.transactions = 1);
    let (_, second) = world.abandoned();
    world.says(second, 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
    world.calls("INVITE");
    assert_eq!(world.caller_hears(), ["100"]);
}

#[test]
fn what_rings_late_is_cancelled_behind_the_answer_too() {
    let mut world = World::new(2, |_| {});
    let (first, second) = world.abandoned();
    world.says(second, 200);
    world.wait(20_000);
    world.came(first);
    world.says(first, 180);
    assert_eq!(world.came(first), ["CANCEL"]);
    world.says_to("CANCEL", first, 200, &[]);
    world.says(first, 487);
    assert_eq!(world.came(first), ["ACK"]);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

#[test]
fn of_silent_destinations_the_first_to_speak_has_the_call() {
    for said in [100, 180] {
        let mut world = World::new(2, |_| {});
        let (first, second) = world.abandoned();
        world.wait(200);
        world.caller_hears();
        world.says(first, said);
        world.wait(2_000);
        assert_eq!(world.came(first), ["INVITE", "INVITE"]);
        // It is not asked any more, and told to stop where it rings.
        assert_eq!(world.came(second), ["INVITE"]);
        world.says(second, 180);
        assert_eq!(world.came(second), ["CANCEL"]);
        world.says_to("CANCEL", second, 200, &[]);
        world.says(second, 487);
        world.caller_hears();
        world.says(first, 183);
        world.says(first, 200);
        assert_eq!(world.caller_hears(), ["183", "200"]);
        let tried = &world.told[0].tried;
        let outcomes = [tried[0].outcome, tried[1].outcome];
        assert_eq!(outcomes, [Outcome::Answered, Outcome::Cancelled]);
        assert_eq!(tried[0].end, world.now);
    }
}

/// Who speaks first has the call: its failure leads on as any.
#[test]
fn the_call_goes_on_from_a_destination_that_spoke_late() {
    let mut world = World::new(3, |_| {});
    let (first, second) = world.abandoned();
    world.says(first, 100);
    world.says(first, 503);
    let third = world.requests[0].0;
    assert!(third != first && third != second);
    world.says(third, 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

/// It is slow and the next one dead.
#[test]
fn a_late_failure_passes_once_the_next_destination_has_been_silent_as_long() {
    for method in ["INVITE", "REGISTER"] {
        let mut world = World::new(2, |config| {
            config.stateful.methods.push("REGISTER".to_owned());
        });
        let first = world.calls(method);
        world.wait(1_200);
        let second = world.requests[0].0;
        assert_ne!(first, second);
        world.caller_hears();
        world.says_to(method, first, 401, &[]);
        world.wait(700);
        assert_eq!(world.caller_hears(), NOTHING);
        world.wait(200);
        assert_eq!(world.caller_hears(), ["401"]);
        // Whatever comes of the other one.
        world.wait(40_000);
        assert_eq!(world.told.len(), 1);
        assert_eq!(world.told[0].status, 401);
    }
}

#[test]
fn a_late_failure_passes_at_once_where_the_next_has_been_silent_for_longer() {
    let mut world = World::new(2, |_| {});
    let (first, _) = world.abandoned();
    world.wait(5_000);
    world.caller_hears();
    world.says(first, 486);
    world.wait(10);
    assert_eq!(world.caller_hears(), ["486"]);
}

/// It was given up, and the call may be answered where it is now.
#[test]
fn a_late_failure_does_not_end_a_call_that_another_destination_may_have() {
    for failure in [500, 486, 401] {
        let mut world = World::new(2, |_| {});
        let (first, second) = world.abandoned();
        world.wait(100);
        world.says(first, failure);
        world.wait(100);
        world.says(second, 200);
        assert_eq!(world.caller_hears(), ["100", "200"]);
    }
}

#[test]
fn a_late_failure_leads_to_its_rule() {
    let mut world = World::new(3, leads_to_mail);
    let (first, second) = world.abandoned();
    world.wait(100);
    world.says(first, 486);
    world.wait(1_000);
    let third = world.requests[0].0;
    assert_eq!(third, fixture::destination(2));
    world.says(third, 180);
    // It rings in vain.
    world.came(second);
    world.says(second, 180);
    assert_eq!(world.came(second), ["CANCEL"]);
    world.says(third, 200);
    assert_eq!(world.caller_hears(), ["100", "180", "200"]);
}

#[test]
fn a_late_failure_leaves_the_set_alone_that_a_rule_has_led_to() {
    let mut world = World::new(4, leads_to_mail);
    let (first, second) = world.abandoned();
    world.says(second, 486);
    let third = world.requests[0].0;
    world.wait(100);
    world.says(first, 480);
    world.wait(1_000);
    let fourth = world.requests[0].0;
    assert!(![first, second, third].contains(&fourth), "{fourth}");
    world.says(fourth, 200);
    assert_eq!(world.caller_hears(), ["100", "200"]);
}

#[test]
fn a_late_ringing_leaves_the_call_to_the_set_that_a_rule_has_led_to() {
    let mut world = World::new(3, leads_to_mail);
    let (first, second) = world.abandoned();
    world.says(second, 486);
    let third = world.requests[0].0;
    assert_eq!(third, fixture::destination(2));
    world.came(first);
    world.says(first, 180);
    assert_eq!(world.came(first), ["CANCEL"]);
    world.says(third, 180);
    world.says(third, 200);
    assert_eq!(world.came(third), ["INVITE"]);
    assert_eq!(world.caller_hears(), ["100", "180", "200"]);
}

#[test]
fn a_late_ringing_leaves_the_call_to_the_mailbox_that_a_rule_has_led_to_in_one_set() {
    for mailbox in [Some("sip:mailbox@farm.example"), None] {
        let mut world = World::new(3, |config| {
            config.stateful.on_failure = vec![OnFailure {
                statuses: vec![486],
                set: 0,
                request_uri: mailbox.map(str::to_owned),
                from_sets: Vec::new(),
            }];
        });
        let (first, second) = world.abandoned();
        world.says(second, 486);
        let third = world.requests[0].0;
        world.came(first);
        world.says(first, 180);
        assert_eq!(world.came(first), ["CANCEL"]);
        world.says(third, 200);
        assert_eq!(world.caller_hears(), ["100", "200"]);
    }
}

/// RFC 3261 §16.7 item 6.
#[test]
fn where_nobody_else_is_left_a_silent_destination_may_still_answer() {
    for refused in [false, true] {
        let mut world = World::new(2, |_| {});
        let (first, second) = world.abandoned();
        match refused {
            true => world.is_out_of_reach(second),
            false => world.says(second, 503),
        }
        world.wait(1_000);
        assert_eq!(world.caller_hears(), ["100"]);
        assert_eq!(world.came(first), ["INVITE"; 3]);
        world.says(first, 180);
        world.says(first, 200);
        assert_eq!(world.caller_hears(), ["180", "200"]);
        assert_eq!(world.came(first), NOTHING);
    }
}

/// ICMP told of the second copy alone.
#[test]
fn a_destination_that_seemed_out_of_reach_may_be_the_first_to_speak() {
    let mut world = World::new(2, |_| {});
    let (_, second) = world.abandoned();
    world.wait(600);
    world.is_out_of_reach(second);
    world.wait(100);
    world.says(second, 180);
    world.says(second, 200);
    assert_eq!(world.caller_hears(), ["100", "180", "200"]);
    assert_eq!(world.came(second), ["INVITE", "INVITE"]);
    let tried = &world.told[0].tried;
    let outcomes = [tried[0].outcome, tried[1].outcome];
    assert_eq!(outcomes, [Outcome::NoAnswer, Outcome::Answered]);
}

#[test]
fn a_silent_destination_is_not_waited_for_longer_than_timer_b_or_the_caller_waits() {
    let mut world = World::new(2, |_| {});
    let (_, second) = world.abandoned();
    world.says(second, 503);
    world.wait(30_000);
    assert_eq!(world.caller_hears(), ["100"]);
    world.wait(1_000);
    assert_eq!(world.caller_hears()[0], "408");

    let mut world = World::new(2, |_| {});
    let (_, second) = world.abandoned();
    world.says(second, 503);
    world.receive(world.request("CANCEL").as_bytes(), fixture::caller());
    world.wait(10);
    assert_eq!(world.caller_hears(), ["100", "200", "487"]);
}

#[test]
fn a_failure_of_the_called_party_does_not_wait_for_a_silent_destination() {
    let mut world = World::new(2, |_| {});
    let (_, second) = world.abandoned();
    world.says(second, 486);
    assert_eq!(world.caller_hears(), ["100", "486"]);
}

#[test]
fn a_rule_is_for_the_best_of_the_failures_too() {
    for said in [[486, 503], [503, 486]] {
        let mut world = World::new(4, |config| {
            leads_to_mail(config);
            config.stateful.failover_status = vec![486, 503];
        });
        let first = world.calls("INVITE");
        world.says(first, said[0]);
        let second = world.requests[0].0;
        world.says(second, said[1]);
        let third = world.requests[0].0;
        let mail = [fixture::destination(2), fixture::destination(3)];
        assert!(mail.contains(&third), "{said:?}: {third}");
        world.says(third, 200);
        assert_eq!(world.caller_hears(), ["100", "200"]);
    }
}

/// RFC 3326 §2.
#[test]
fn the_reason_of_a_cancel_goes_with_it() {
    let long = format!("SIP;text=\"{}\"", "x".repeat(300));
    let usual = "SIP;cause=200;text=\"Call completed elsewhere\"".to_owned();
    for (reason, early) in [(usual.clone(), true), (usual, false), (long, false)] {
        let mut world = World::new(1, |_| {});
        let leg = world.calls("INVITE");
        if !early {
            world.says(leg, 180);
        }
        let row = format!("Max-Forwards: 70\r\nReason: {reason}\r\nreason: Q.850;cause=16");
        let cancel = world.request("CANCEL").replace("Max-Forwards: 70", &row);
        world.receive(cancel.as_bytes(), fixture::caller());
        world.wait(600);
        if early {
            // The INVITE that is sent again knows nothing of it.
            assert_eq!(world.requests[0].1.method(), "INVITE");
            assert_eq!(world.requests[0].1.header("Reason"), "");
            world.says(leg, 180);
        }
        let sent = &world.requests[0].1;
        assert_eq!(sent.method(), "CANCEL");
        let reasons: Vec<_> = sent.values("Reason").collect();
        if reason.len() < 255 {
            assert_eq!(reasons, [reason.as_str(), "Q.850;cause=16"]);
        } else {
            assert_eq!(reasons, NOTHING);
        }
        world.says(leg, 487);
        assert_eq!(world.requests[0].1.method(), "ACK");
        assert_eq!(world.requests[0].1.header("Reason"), "");
        assert_eq!(world.told[0].status, 487);
    }
}

/// Line ends may stand before the start line (RFC 3261 §7.5).
#[test]
fn the_reason_of_a_cancel_behind_line_ends_goes_with_it() {
    let mut world = World::new(1, |_| {});
    let leg = world.calls("INVITE");
    world.says(leg, 180);
    let reason = "\r\nReason: Q.850;cause=16\r\n\r\n";
    let cancel = world.request("CANCEL").replacen("\r\n\r\n", reason, 1);
    world.receive(format!("\r\n\r\n{cancel}").as_bytes(), fixture::caller());
    let sent = &world.requests[0].1;
    assert_eq!(sent.method(), "CANCEL");
    assert_eq!(sent.header("Reason"), "Q.850;cause=16");
}

/// RFC 4320 §4.2.
#[test]
fn a_408_to_another_request_is_not_passed_on() {
    let mut world = World::new(2, |_| {});
    let leg = world.calls("MESSAGE");
    world.says_to("MESSAGE", leg, 408, &[]);
    world.receive(world.request("MESSAGE").as_bytes(), fixture::caller());
    world.wait(100_000);
    assert_eq!(world.caller_hears(), NOTHING);
    assert_eq!(world.came(leg), ["MESSAGE"]);
    assert_eq!((world.told[0].status, world.told.len()), (408, 1));
}

#[test]
fn a_retry_after_without_end_is_the_longest_there_is() {
    let mut world = World::new(2, |_| {});
    let busy = world.calls("INVITE");
    let rows = [("Retry-After", "99999999999999999999999".to_owned())];
    world.says_to("INVITE", busy, 503, &rows);
    world.wait(29_000);
    assert_ne!(world.calls("INVITE"), busy);
    world.wait(2_000);
    assert_eq!(world.calls("INVITE"), busy);
}

#[test]
fn a_503_that_comes_again_does_not_ask_for_more_rest() {
    let mut world = World::new(2, |_| {});
    let busy = world.calls("INVITE");
    let rows = [("Retry-After", "9".to_owned())];
    world.says_to("INVITE", busy, 503, &rows);
    let other = world.requests[0].0;
    world.says(other, 200);
    for _ in 0..3 {
        world.wait(3_000);
        world.says_to("INVITE", busy, 503, &rows);
    }
    assert_eq!(world.learnt, [Lesson::Busy(9_000)]);
    world.wait(100);
    assert_eq!(world.calls("INVITE"), busy);
}

#[test]
fn a_cap_of_0_leaves_nothing_of_retry_after() {
    let mut world = World::new(2, |config| {
        config.stateful.retry_after_cap = Duration::ZERO;
    });
    let busy = world.calls("INVITE");
    world.says_to("INVITE", busy, 503, &[("Retry-After", "9".to_owned())]);
    assert!(world.learnt.is_empty());
    assert_eq!(world.calls("INVITE"), busy);
}

/// RFC 3261 §26.1.5: nobody behind a forged address acknowledges.
#[test]
fn what_is_sent_again_for_want_of_an_ack_is_bounded() {
    let mut world = World::new(1, |config| {
        config.reply_rate = 1;
        config.stateful.failover_after = Duration::from_secs(1);
    });
    for _ in 0..30 {
        let leg = world.calls("INVITE");
        world.is_out_of_reach(leg);
        world.wait(10);
    }
    assert_eq!(world.caller_hears().len(), 60);
    world.wait(60_000);
    let again = world.caller_hears().len();
    assert!((5..=33).contains(&again), "{again}");
}

/// RFC 3261 §16.6 item 11, §16.7 item 2, §16.8.
#[test]
fn timer_c_ends_a_call_that_rings_and_a_provisional_response_begins_it_anew() {
    let mut world = World::new(2, |_| {});
    let leg = world.calls("INVITE");
    world.says(leg, 180);
    for _ in 0..3 {
        world.wait(180_900);
        world.says(leg, 183);
    }
    world.wait(180_900);
    assert_eq!(world.came(leg), ["INVITE"]);
    assert_eq!(world.caller_hears(), ["100", "180", "183", "183", "183"]);
    world.wait(200);
    assert_eq!(world.came(leg), ["CANCEL"]);
    world.says_to("CANCEL", leg, 200, &[]);
    world.says(leg, 487);
    assert_eq!(world.came(leg), ["ACK"]);
    assert_eq!(world.caller_hears(), ["408"]);
}

/// RFC 3261 §17.1.2.2: the interval doubles up to T2, and F ends it.
#[test]
fn timer_e_doubles_up_to_t2_until_timer_f_fires() {
    let mut world = World::new(1, |_| {});
    let start = world.now;
    let leg = world.calls("MESSAGE");
    world.wait(31_900);
    assert_eq!(world.told.len(), 0);
    world.wait(10_000);
    assert_eq!(world.times(start, leg, "MESSAGE", 0), UP_TO_T2);
    assert_eq!(world.told[0].status, 408);
}

/// RFC 3261 §17.1.2.2: in the state Proceeding the interval is T2.
#[test]
fn timer_e_is_t2_once_there_is_a_provisional_response() {
    let mut world = World::new(1, |_| {});
    let start = world.now;
    let leg = world.calls("MESSAGE");
    world.wait(100);
    world.says_to("MESSAGE", leg, 100, &[]);
    world.wait(40_000);
    assert_eq!(
        world.times(start, leg, "MESSAGE", 0),
        [0, 500, 4_500, 8_500, 12_500, 16_500, 20_500, 24_500, 28_500]
    );
    assert_eq!(world.told[0].status, 408);
}

/// RFC 3261 §17.2.1.
#[test]
fn timer_g_doubles_up_to_t2_until_timer_h_fires() {
    let mut world = World::new(1, |_| {});
    let start = world.now;
    let leg = world.calls("INVITE");
    world.says(leg, 486);
    world.wait(60_000);
    assert_eq!(
        world.times(start, fixture::caller(), "INVITE", 486),
        UP_TO_T2
    );
}

/// RFC 3261 §17.1.2, §17.2.2, RFC 6026 §7.1, §7.2.
#[test]
fn a_copy_is_a_new_request_only_when_timers_j_k_l_and_m_have_fired() {
    type Timer = fn(&mut Timers) -> &mut Duration;
    let cases: [(&str, Timer, &[&str]); 4] = [
        ("MESSAGE", |timers| &mut timers.j, &["200", "200"]),
        ("MESSAGE", |timers| &mut timers.k, &["200"]),
        ("INVITE", |timers| &mut timers.l, &["100", "200"]),
        ("INVITE", |timers| &mut timers.m, &["100", "200"]),
    ];
    for (method, timer, heard) in cases {
        let mut world = World::new(1, |config| {
            let timers = &mut config.stateful.timers;
            for (_, other, _) in cases {
                *other(timers) = Duration::from_secs(1);
            }
            *timer(timers) = Duration::from_secs(20);
        });
        let leg = world.calls(method);
        world.says_to(method, leg, 200, &[]);
        world.wait(19_900);
        world.receive(world.request(method).as_bytes(), fixture::caller());
        assert_eq!(world.caller_hears(), heard);
        assert_eq!(world.came(leg), [method]);
        world.wait(200);
        world.receive(world.request(method).as_bytes(), fixture::caller());
        assert_eq!(world.came(leg), [method]);
    }
}

/// RFC 3261 §17.1.1.2.
#[test]
fn a_failure_that_comes_again_is_acknowledged_until_timer_d_fires() {
    let mut world = World::new(1, |config| {
        config.stateful.timers.d = Duration::from_secs(40);
    });
    let leg = world.calls("INVITE");
    world.says(leg, 486);
    world.receive(world.request("ACK").as_bytes(), fixture::caller());
    assert_eq!(world.came(leg), ["INVITE", "ACK"]);
    assert_eq!(world.caller_hears(), ["100", "486"]);
    world.wait(39_900);
    world.says(leg, 486);
    assert_eq!(world.came(leg), ["ACK"]);
    assert_eq!(world.caller_hears(), NOTHING);
    // Then it is forgotten.
    world.wait(200);
    world.says(leg, 486);
    assert_eq!(world.came(leg), NOTHING);
    assert_eq!(world.caller_hears(), ["486"]);
}
