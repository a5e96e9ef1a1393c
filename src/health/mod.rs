//! Finds out which destinations are alive, by OPTIONS requests.
//!
//! ```text
//! prober    the thread: its sockets, its clock, its chance
//! field     all destinations that are probed, and what is due of them
//!   probe     one probe as octets, and its response
//!   machine   what the probes of one destination say of it
//! passive   signs of death in the traffic, which have it probed at once
//! ```
//!
//! docs/health.md says what operators see of it. Nothing here takes part in
//! forwarding: what is found out is reported, and the supervisor publishes it.

mod field;
mod machine;
mod passive;
mod probe;
mod prober;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Health, Probe};

pub use machine::{Counts, Machine};
pub use passive::{Judge, Sample};
pub use prober::Prober;

/// A destination to probe. The same address in several sets is several of
/// them, each with probes of its own.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of its set.
    pub set: String,
    /// Where probes are sent, and responses must come from.
    pub address: SocketAddr,
    /// Its URI as the operator wrote it, without parameters.
    pub uri: String,
    /// How it is probed.
    pub probe: Arc<Probe>,
    /// The local address that probes leave from, of the same family;
    /// unspecified: whichever the kernel takes.
    pub from: IpAddr,
    /// What was learnt of it before; of no account where it is probed already.
    pub health: Health,
}

/// The health of a destination has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name of its set.
    pub set: String,
    /// Its address.
    pub address: SocketAddr,
    /// What it is now.
    pub health: Health,
    /// Why, in words.
    pub cause: String,
}

/// What is known of a destination that is probed.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The name of its set.
    pub set: String,
    /// Its address.
    pub address: SocketAddr,
    /// What was last reported of it.
    pub health: Health,
    /// Whether it takes work although its latest probe failed.
    pub probing: bool,
    /// The outcomes of its probes so far.
    pub counts: Counts,
    /// How long the latest response took.
    pub round_trip: Option<Duration>,
    /// How long all responses took.
    pub round_trips: RoundTrips,
    /// Why it is as it is, in words.
    pub cause: String,
}

/// How long the responses to the probes of one destination took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RoundTrips {
    /// How many took no longer than each of [`Self::BOUNDS`] and longer than
    /// the one before; the last one: how many took longer than all.
    pub buckets: [u64; Self::BOUNDS.len() + 1],
    /// How long all of them took together.
    pub sum: Duration,
}

impl RoundTrips {
    /// The greatest round trip of each bucket but the last.
    pub const BOUNDS: [Duration; 11] = [
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2_500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
    ];

    fn add(&mut self, round_trip: Duration) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < round_trip);
        self.buckets[bucket] += 1;
        self.sum = self.sum.saturating_add(round_trip);
    }
}
