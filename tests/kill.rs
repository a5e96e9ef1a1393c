//! What `scripts/kill` shows at length, shortly: a destination that is killed,
//! one that stalls and one that answers 503 cost no call.

use support::{bench, load_lock};

#[test]
fn destinations_that_die_stall_and_refuse_cost_no_call() {
    let _load = load_lock();
    let load = ["kill", "--seconds", "12", "--rate", "100"];
    let output = bench::run(&[&load[..], &["--only", "viaduct", "--json"]].concat());
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let figures = &told["rows"][0]["figures"];
    let count = |name: &str| figures[name].as_u64().expect("a count");
    assert_eq!(figures["failed"], serde_json::json!({}), "{figures}");
    assert_eq!(figures["not_ended"], serde_json::json!({}), "{figures}");
    assert_eq!(count("calls"), 1_200);
    assert_eq!(count("completed") + count("lost_with_it"), 1_200);
    // The farm did take its blows.
    assert!(count("moved") > 0 && count("lost_with_it") > 0, "{figures}");
}
