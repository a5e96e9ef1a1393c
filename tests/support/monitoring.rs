//! What the shipped alerts and dashboard ask Prometheus.
#![allow(unreachable_pub, reason = "included as a module by two crates")]
#![allow(dead_code, reason = "each user takes its own part")]

use std::fs;

use serde_json::Value;

use crate::support::repository;

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
