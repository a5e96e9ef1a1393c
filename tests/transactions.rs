//! Stateful relay in worlds of chance with a virtual clock: whatever the
//! network loses, delays, doubles and reorders, and whatever becomes of the
//! destinations, each transaction ends as it must.
//!
//! ```text
//! cargo test --test transactions                     some hundred seeds
//! VIADUCT_SEED=7 cargo test --test transactions      this one alone
//! scripts/simulate-transactions 5000                 many, in a release build
//! ```
#![allow(missing_docs, reason = "a test binary has no readers of its API")]

#[path = "support/fixture.rs"]
mod fixture;
#[path = "support/transactions/mod.rs"]
mod simulation;

use std::env;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use simulation::tally::Tally;
use simulation::{run, run_at_every_tick};

/// Seeds of the usual run.
const SEEDS: u64 = 300;

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
                eprintln!("{seed} seeds of {count}");
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
    if std::env::var("DBG").is_ok() {
        for f in &run.failures {
            println!("FAIL {}", f.lines().next().unwrap_or(""));
        }
    }
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

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in [1, 2, 3, 5, 8, 13] {
        assert_eq!(run(seed).trace, run(seed).trace, "seed {seed}");
    }
}

#[test]
fn it_does_not_matter_how_often_a_relay_is_woken() {
    for seed in [4, 6, 7] {
        let (asked, ticked) = (run(seed), run_at_every_tick(seed));
        assert_eq!(asked.trace, ticked.trace, "seed {seed}");
    }
}
