//! A status as a running instance would give it.

use serde_json::{Value, json};

use crate::control::Status;

/// Ready for a day, with one set of three destinations: one in its full
/// share, one that its probes found suspect, one that drains.
pub(super) fn status() -> Status {
    let value = json!({
        "version": "1.2.3",
        "pid": 100,
        "started": 1_799_909_939.0,
        "uptime_seconds": 90_061.0,
        "time": 1_800_000_000.0,
        "ready": true,
        "generation": 3,
        "table_id": "00c0ffee00c0ffee",
        "last_reload": {"successful": true, "said": "reloaded", "at": 1_799_999_880.0},
        "workers": [worker(0, 5_000), worker(1, 7_000)],
        "listeners": [{"name": "udp", "address": "127.0.0.1:5060"}],
        "sets": [{
            "name": "default",
            "policy": "hash",
            "hash_key": "call-id",
            "when_all_down": "forward",
            "open": false,
            "destinations": [
                destination(5071, 3, "active", "up", "AP", json!("2 in a row answered")),
                destination(5072, 1, "active", "up", "TP", json!("no answer in 1 s")),
                destination(5073, 0, "draining", "up", "IX", Value::Null),
            ],
            "unresolved": [],
        }],
        "totals": totals(),
    });
    serde_json::from_value(value).expect("a status")
}

fn worker(core: usize, received: u64) -> Value {
    json!({"number": core, "core": core, "received": received, "overflow": [0], "busy_seconds": 9.5})
}

fn destination(
    port: u16,
    share: u32,
    state: &str,
    health: &str,
    letters: &str,
    cause: Value,
) -> Value {
    json!({
        "address": format!("127.0.0.1:{port}"),
        "uri": format!("sip:127.0.0.1:{port}"),
        "weight": share.max(1),
        "share": share,
        "priority": 0,
        "state": state,
        "health": health,
        "letters": letters,
        "cause": cause,
        "round_trip_ms": 0.42,
        "requests": 3_000,
        "retransmitted": 3,
        "responses": {"1xx": 10, "2xx": 20, "3xx": 0, "4xx": 2, "5xx": 1, "6xx": 0},
        "suspected": 0,
        "last_seen_seconds": 3,
        "last_in_dialog_seconds": 75,
    })
}

fn totals() -> Value {
    let distribution =
        |bounds: &[f64]| json!({"bounds": bounds, "counts": vec![0; bounds.len() + 1], "sum": 0.0});
    let mut value = serde_json::to_value(crate::worker::Totals::default()).expect("totals");
    value["received"] = json!(12_000);
    value["requests"] = json!({"INVITE": 1_000, "BYE": 1_000});
    value["responses"] = json!({"1xx": 30, "2xx": 60, "3xx": 0, "4xx": 6, "5xx": 3, "6xx": 0});
    value["time_in_balancer"] = distribution(&[0.000_1, 0.000_5, 0.001, 0.1]);
    value["replies"] = json!({"483": 1});
    value["dropped"] = json!({"forged-response": 2, "not-sip": 0});
    value["transactions"]["held"] = json!(12);
    value["transactions"]["failed_over"] = json!(4);
    value
}
