//! What `scripts/hour` shows at length, shortly: whatever operators do to a
//! farm, the calls that it carries notice nothing.

use support::{bench, load_lock};

#[test]
fn an_operators_hour_costs_no_call() {
    let _load = load_lock();
    let output = bench::run(&["hour", "--quick", "--rate", "100", "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let figures = &told["figures"];
    let count = |name: &str| figures[name].as_u64().expect("a count");
    assert_eq!(figures["failed"], serde_json::json!({}), "{figures}");
    assert_eq!(figures["not_ended"], serde_json::json!({}), "{figures}");
    let ended = count("completed") + count("lost_with_it");
    assert_eq!(ended, count("calls"), "{figures}");
    // It did go through all of it, under calls.
    assert!(ended > 2_000 && count("lost_with_it") > 0, "{figures}");
    assert_eq!(told["story"]["upgrades"], 2, "{told}");
    assert_eq!(told["story"]["reloads_in_burst"], 20, "{told}");
}
