//! What the shipped alerts and dashboard ask Prometheus.

use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use viaduct::config::Health;
use viaduct::health::{Counts, Probed, RoundTrips};

use super::repository;

/// A destination that has answered three probes, two of them within 1 ms, and
/// missed one.
pub fn probed(set: &str, address: SocketAddr) -> Probed {
    let mut round_trips = RoundTrips {
        sum: Duration::from_micros(12_500),
        ..RoundTrips::default()
    };
    for (bound, n) in [
        (Duration::from_millis(1), 2),
        (Duration::from_millis(25), 1),
    ] {
        let bucket = RoundTrips::BOUNDS.iter().position(|each| *each == bound);
        round_trips.buckets[bucket.expect("a bound")] = n;
    }
    Probed {
        set: set.to_owned(),
        address,
        health: Health::Up,
        probing: true,
        counts: Counts {
            answered: 3,
            failed: 1,
        },
        round_trip: None,
        round_trips,
        cause: String::new(),
    }
}

/// The queries of the alerts and of the dashboard, with where they stand.
pub fn queries() -> Vec<(String, String)> {
    let rules = repository().join("config/prometheus/viaduct.rules.yml");
    let rules = fs::read_to_string(rules).expect("the alerts");
    let lines = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("expr: "));
    let mut queries: Vec<_> = lines
        .map(|query| ("an alert".to_owned(), query.to_owned()))
        .collect();
    let dashboard = dashboard();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().expect("a query");
            queries.push((title.to_owned(), query.to_owned()));
        }
    }
    queries
}

pub fn dashboard() -> Value {
    let path = repository().join("config/grafana/viaduct.json");
    let text = fs::read_to_string(path).expect("the dashboard");
    serde_json::from_str(&text).expect("JSON")
}
