//! The relay in a world with a virtual clock: callers, destinations and a
//! network between them, all by chance, and all chance by one seed.
//!
//! ```text
//! plan      what a seed stands for: configuration, errands, troubles
//! world     who is there, what is about to happen, one step after the other
//! caller, destination, network    those around the balancer
//! balancer  the product's own Proxy and Relays
//! monitor   what a bystander at the balancer knows
//! invariants              what must hold of each step
//!   attempts, hop_by_hop, responses, told    and of what it sends and tells
//! rest      what must hold at the end
//! ladder    what is shown of a call whose invariant broke
//! ```
//!
//! `scripted` has nothing by chance: it tells a few calls step by step.

pub mod agenda;
pub mod attempts;
pub mod balancer;
pub mod caller;
pub mod chance;
pub mod destination;
pub mod hop_by_hop;
pub mod invariants;
pub mod ladder;
pub mod message;
pub mod monitor;
pub mod network;
pub mod plan;
pub mod responses;
pub mod rest;
pub mod scripted;
pub mod tally;
pub mod told;
pub mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use monitor::Violation;
use tally::Tally;
use world::World;

/// What became of a seed.
pub struct Outcome {
    pub tally: Tally,
    /// A fingerprint of all datagrams, their times and what became of them.
    pub trace: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Runs the world of a seed to its end.
pub fn run(seed: u64) -> Outcome {
    run_in(seed, World::new(seed))
}

/// The same with relays that are woken each millisecond.
pub fn run_at_every_tick(seed: u64) -> Outcome {
    let (world, troubles) = World::new(seed);
    run_in(seed, (world.at_every_tick(), troubles))
}

fn run_in(seed: u64, (mut world, troubles): (World, Vec<plan::Trouble>)) -> Outcome {
    let ended = catch_unwind(AssertUnwindSafe(|| world.run(&troubles)));
    let violation = match ended {
        Ok(Ok(())) => None,
        Ok(Err(violation)) => Some(violation),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Some(Violation {
                call: String::new(),
                reason: format!("panic: {}", text.unwrap_or("without a word")),
            })
        }
    };
    let failure = violation.map(|violation| {
        format!(
            "seed {seed}, {}repeat it with: VIADUCT_SEED={seed} cargo test --test transactions",
            world.explain(&violation)
        )
    });
    let (tally, trace) = world.end();
    Outcome {
        tally,
        trace,
        failure,
    }
}
