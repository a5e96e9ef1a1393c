//! What `viaduct explain` says of a request that is relayed with a transaction.

use serde_json::Value;

use support::dialog::Request;
use support::folder::Folder;

/// `text` explained with the configuration `config`: as JSON and as text.
fn explain_with(config: &str, message: &str) -> (Value, String) {
    let folder = Folder::with(
        &["explain", "--config", "v.toml", "--message", "message"],
        &[("v.toml", config), ("message", message)],
    );
    (folder.json(&[]), folder.text(&[]))
}

const STATEFUL: &str = "stateful = ['INVITE', 'MESSAGE', 'BYE']
failover-after = '2s'
failover-status = [500, 503]
listen = '192.0.2.10'
[[set]]
name = 'farm'
destinations = ['10.0.0.1', '10.0.0.2', '10.0.0.3', 'sip:10.0.0.4;state=draining']
[[set]]
name = 'voicemail'
destinations = ['10.0.0.9']
[[set]]
name = 'sorry'
destinations = ['10.0.0.8']
[[on-failure]]
status = [408, 486]
set = 'voicemail'
request-uri = 'sip:box@10.0.0.9'
from-set = 'farm'
[[on-failure]]
status = 500
set = 'farm'
from-set = 'sorry'
[[on-failure]]
status = 480
set = 'sorry'
from-set = 'voicemail'
";

#[test]
fn explain_tells_in_which_order_other_destinations_are_tried() {
    let caller = "192.0.2.7:5060".parse().expect("an address");
    for policy in ["hash", "random", "round-robin", "kamailio"] {
        let config = format!("policy = '{policy}'\n{STATEFUL}");
        for number in 0..4 {
            let mut request = Request::new("INVITE", caller);
            request.call_id = format!("{policy}-{number}");
            let (told, text) = explain_with(&config, &request.text());
            let relayed = &told["relayed"];
            assert_eq!(relayed["relay"], "stateful");
            let failover = &relayed["failover"];
            assert_eq!(failover["silent_ms"], 2000);
            assert_eq!(failover["status"], serde_json::json!([500, 503]));
            let uri = |value: &Value| value.as_str().expect("a URI").to_owned();
            let then = failover["then"].as_array().expect("destinations");
            let then: Vec<_> = then.iter().map(uri).collect();
            let ranked = told["selection"]["ranked"].as_array().expect("a ranking");
            let chosen = ranked.iter().find(|each| each["chosen"] == true);
            let chosen = uri(&chosen.expect("one")["destination"]);
            let mut all = [&then[..], std::slice::from_ref(&chosen)].concat();
            match policy {
                "hash" | "random" => {
                    let rest = ranked[1..].iter().map(|each| uri(&each["destination"]));
                    assert_eq!(then, rest.collect::<Vec<_>>());
                }
                // Kamailio counts backwards, and round again.
                "kamailio" => {
                    let place = |uri: &String| uri.as_bytes()[uri.len() - 1] - b'1';
                    let steps = [&chosen, &then[0], &then[1]].map(place);
                    let backwards = |n| (n + 2) % 3;
                    assert_eq!(steps[1..], [backwards(steps[0]), backwards(steps[1])]);
                }
                _ => {}
            }
            // What is draining takes no new work.
            all.sort();
            assert_eq!(all, ["10.0.0.1", "10.0.0.2", "10.0.0.3"], "{policy}");
            let line = format!(
                "relay      stateful\nnext       {} (when it is unreachable, \
                 silent for 2000 ms, answers 500, answers 503)\n",
                then.join(", then ")
            );
            assert!(text.contains(&line), "{text}");
        }
    }
}

#[test]
fn explain_tells_the_failure_rules_that_a_request_can_come_to() {
    let caller = "192.0.2.7:5060".parse().expect("an address");
    let invite = Request::new("INVITE", caller);
    // Those of the sets that the first one leads to are among them.
    let rules = serde_json::json!([
        { "status": [408, 486], "set": "voicemail", "request_uri": "sip:box@10.0.0.9" },
        { "status": [500], "set": "farm", "request_uri": null },
        { "status": [480], "set": "sorry", "request_uri": null },
    ]);
    let (told, text) = explain_with(STATEFUL, &invite.text());
    assert_eq!(told["relayed"]["rules"], rules);
    let line = "\non failure 408, 486 of set farm to set voicemail as sip:box@10.0.0.9\n";
    assert!(text.contains(line), "{text}");
    // None is for the set that takes this one.
    let other = format!("{STATEFUL}[[route]]\nset = 'voicemail'\n").replace(
        "status = 480\nset = 'sorry'\nfrom-set = 'voicemail'",
        "status = 480\nset = 'sorry'\nfrom-set = 'farm'",
    );
    let (told, text) = explain_with(&other, &invite.text());
    assert_eq!(told["selection"]["set"], "voicemail");
    assert_eq!(told["relayed"]["rules"], serde_json::json!([]));
    assert_eq!(told["relayed"]["failover"]["then"], serde_json::json!([]));
    assert!(text.contains("\nnext       no other destination: the set has none\n"));
}

#[test]
fn explain_tells_the_rule_for_a_set_that_takes_no_new_work() {
    let caller = "192.0.2.7:5060".parse().expect("an address");
    let config = "stateful = ['INVITE']\nlisten = '192.0.2.10'\n[[set]]\nname = 'farm'\n\
        destinations = ['sip:10.0.0.4;state=draining']\n[[set]]\nname = 'overflow'\n\
        destinations = ['10.0.0.8']\n[[on-failure]]\nstatus = 503\nset = 'overflow'\n";
    let lines = "relay      stateful\nnext       no other destination: none takes new work\n\
        on failure 503 to set overflow\n";
    let request = Request::new("INVITE", caller);
    let (told, text) = explain_with(config, &request.text());
    assert!(text.contains(lines), "{text}");
    // It is tried there, and no reply is what happens.
    assert!(
        text.contains("\ndecision   no reply yet: a failure rule has it tried in set overflow\n")
    );
    assert!(!text.contains("before and after"), "{text}");
    assert_eq!(
        (&told["action"], &told["to"]),
        (&"on-failure".into(), &Value::Null)
    );
    assert_eq!(told["after"], "");
    // Without a rule that is for this, or for another request, it is.
    let unruled = config.replace("status = 503", "status = 486");
    let other = request.method("OPTIONS");
    for (config, message) in [(unruled.as_str(), &request), (config, &other)] {
        let (told, text) = explain_with(config, &message.text());
        assert_eq!(told["action"], "reply");
        assert!(
            text.contains("\ndecision   reply 503 Service Unavailable to "),
            "{text}"
        );
    }
}

#[test]
fn explain_tells_whether_a_request_is_relayed_statefully() {
    let caller = "192.0.2.7:5060".parse().expect("an address");
    let relay = |config: &str, request: &Request| {
        let (told, text) = explain_with(config, &request.text());
        let relayed = told["relayed"].clone();
        assert_eq!(text.contains("\nrelay      "), !relayed.is_null(), "{text}");
        relayed
    };
    let new = |method| Request::new(method, caller);
    for (method, wanted) in [
        ("INVITE", "stateful"),
        ("invite", "stateless"),
        ("OPTIONS", "stateless"),
        ("ACK", "with-request"),
        ("CANCEL", "with-request"),
    ] {
        assert_eq!(relay(STATEFUL, &new(method))["relay"], wanted, "{method}");
    }
    let none = STATEFUL.replace("stateful = ['INVITE', 'MESSAGE', 'BYE']", "");
    for method in ["INVITE", "ACK", "CANCEL"] {
        assert_eq!(relay(&none, &new(method))["relay"], "stateless");
    }
    // Twice the same text would be read twice.
    let message = relay(STATEFUL, &new("MESSAGE"));
    assert_eq!(message["failover"]["silent_ms"], Value::Null);
    assert_eq!(message["rules"], serde_json::json!([]), "a call has them");
    // What names its destination has that one only.
    for request in [
        new("BYE").to("<sip:desk@farm.example>;tag=s"),
        new("INVITE").uri("sip:10.0.0.2"),
    ] {
        let told = relay(STATEFUL, &request);
        assert_eq!(told["relay"], "stateful");
        assert!(
            told["failover"].is_null() && told["alone"].is_string(),
            "{told}"
        );
        assert_eq!(told["rules"], serde_json::json!([]));
    }
    let unanswerable = new("INVITE").from("\"A\\\u{7f}\" <sip:ann@a.example>;tag=1");
    assert_eq!(relay(STATEFUL, &unanswerable)["relay"], "stateless");
    let refused = new("INVITE").max_forwards("Max-Forwards: 0");
    assert!(relay(STATEFUL, &refused).is_null());
}
