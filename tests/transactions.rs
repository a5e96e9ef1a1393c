//! Stateful relay in worlds of chance with a virtual clock: whatever the
//! network loses, delays, doubles and reorders, and whatever becomes of the
//! destinations, each transaction ends as it must.
//!
//! ```text
//! cargo test --test transactions                     some hundred seeds
//! VIADUCT_SEED=7 cargo test --test transactions      this one alone
//! scripts/simulate-transactions 5000                 many, in a release build
//! ```
#![allow(clippy::print_stdout, reason = "a long run shows how far it is")]

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use support::fixture;
use support::relaying::Relaying;
use support::transactions::tally::Tally;
use support::transactions::{run, run_at_every_tick};
use viaduct::proxy::Decision;

/// Seeds of the usual run.
const SEEDS: u64 = 600;

/// Failures that are shown at most.
const SHOWN: usize = 3;

struct Run {
    tally: Tally,
    failures: Vec<String>,
    seeds: u64,
}

static RUN: LazyLock<Run> = LazyLock::new(run_all);

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
    )
}

fn run_all() -> Run {
    let (first, count) = match number("VIADUCT_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("VIADUCT_SEEDS").unwrap_or(SEEDS)),
    };
    let next = AtomicU64::new(first);
    let one_thread = || {
        let (mut tally, mut failures) = (Tally::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return (tally, failures);
            }
            if seed > first && seed.is_multiple_of(500) {
                println!("{seed} seeds of {count}");
            }
            let outcome = run(seed);
            tally.merge(&outcome.tally);
            failures.extend(outcome.failure.map(|failure| (seed, failure)));
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut tally = Tally::default();
    let mut failures = Vec::new();
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        for thread in started {
            let (its, failed) = thread.join().expect("a thread that catches panics");
            tally.merge(&its);
            failures.extend(failed);
        }
    });
    failures.sort();
    Run {
        tally,
        failures: failures.into_iter().map(|(_, failure)| failure).collect(),
        seeds: count,
    }
}

#[test]
fn every_transaction_ends_as_it_must_whatever_the_network_does() {
    let run = &*RUN;
    println!("{} seeds:\n{}", run.seeds, run.tally);
    let count = run.failures.len();
    let shown = run.failures.iter().take(SHOWN).map(String::as_str);
    let shown: Vec<_> = shown.collect();
    assert!(
        run.failures.is_empty(),
        "{count} of {} seeds failed\n\n{}",
        run.seeds,
        shown.join("\n\n")
    );
}

/// What the seeds are for; all as the monitor names it.
const EVENTFUL: [&str; 45] = [
    "2xx passed after a failure",
    "2xx passed again",
    "2xx passed from an earlier attempt",
    "2xx passed, not to INVITE",
    "408 of our own",
    "487 of our own",
    "487 passed",
    "500 for a 503",
    "6xx passed",
    "CANCEL absorbed",
    "CANCEL again",
    "ICMP",
    "Timer C",
    "absorbed",
    "attempt by a rule",
    "begun",
    "cancelled for the caller",
    "evicted",
    "failover: silence",
    "failover: status",
    "failover: unreachable",
    "failure acknowledged again",
    "failure again by Timer G",
    "failure passed",
    "final again for a retransmission",
    "finished",
    "hand-over",
    "late failure acknowledged",
    "late ringing cancelled",
    "learnt: busy",
    "learnt: silent",
    "learnt: unreachable",
    "request again",
    "response after the end",
    "restart",
    "ring timeout",
    "ringing cancelled, for an earlier one spoke first",
    "ringing cancelled, for another has answered",
    "rings for ever, never heard",
    "rings for ever, statelessly",
    "rule applied",
    "served in spite of all",
    "stateless ACK or CANCEL",
    "suspect avoided",
    "table full",
];

#[test]
fn the_usual_seeds_meet_everything_that_can_happen() {
    let run = &*RUN;
    if run.seeds < SEEDS {
        return;
    }
    let missed = EVENTFUL.iter().filter(|what| run.tally.of(what) == 0);
    let missed: Vec<_> = missed.collect();
    assert!(missed.is_empty(), "never: {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..20 {
        assert_eq!(run(seed).trace, run(seed).trace, "seed {seed}");
    }
}

#[test]
fn it_does_not_matter_how_often_a_relay_is_woken() {
    for seed in 0..6 {
        let (asked, ticked) = (run(seed), run_at_every_tick(seed));
        assert_eq!((asked.failure, ticked.failure), (None, None));
        assert_eq!(asked.trace, ticked.trace, "seed {seed}");
    }
}

/// After a stall, what is forgotten for an attempt may be due itself.
#[test]
fn what_makes_room_for_an_attempt_is_not_seen_to_any_more() {
    let invite = |number: u32| {
        let text = String::from_utf8(fixture::invite()).expect("text");
        let text = text.replace("nashds8.1", &format!("nashds8.{number}"));
        text.replace("3848276298", &number.to_string()).into_bytes()
    };
    // Three transactions, and six attempts.
    let mut relaying = Relaying::new(3);
    let start = relaying.now;
    let mut stateless = fixture::Decider::default();
    let (Decision::Forward(forward), octets) = stateless.decide(&invite(1), fixture::caller())
    else {
        panic!("not forwarded");
    };
    let answer = fixture::answer(octets, "SIP/2.0 200 OK");
    relaying.receive(&invite(1), fixture::caller());
    relaying.receive(&answer, forward.to);
    let until = |relaying: &mut Relaying, time: u64| {
        while relaying.now < start + time {
            relaying.now += 100;
            relaying.expire();
        }
    };
    // The second is tried everywhere, the third is about to be tried again.
    until(&mut relaying, 20_000);
    relaying.receive(&invite(2), fixture::caller());
    until(&mut relaying, 31_200);
    relaying.receive(&invite(3), fixture::caller());
    assert_eq!(relaying.remembered(), 3);
    relaying.now = start + 33_000;
    relaying.expire();
    assert_eq!(relaying.remembered(), 2);
    until(&mut relaying, 300_000);
    assert_eq!(relaying.remembered(), 0);
}
