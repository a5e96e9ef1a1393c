//! The smuggling matrix: what we hash is what the destination reads, or the
//! message is refused.

use std::collections::BTreeSet;

use support::fixture::{Bench, caller};
use support::smuggling::cases;
use support::twin::{read, read_but_lists};
use viaduct::proxy::{Datagram, Decision, Reason, Way};

#[test]
fn the_twin_reads_each_in_one_way() {
    let wrong: Vec<String> = cases()
        .iter()
        .filter_map(|case| {
            let found = read(&case.octets).map(|twin| twin.call_id);
            let fits = match (&found, case.call_id) {
                (Ok(found), Some(wanted)) => found == wanted.as_bytes(),
                (Err(_), None) => true,
                _ => false,
            };
            (!fits).then(|| format!("{}: {found:?}", case.name))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_case_is_there_twice() {
    let cases = cases();
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
}

/// What is hashed is what the next element reads, or nothing is forwarded.
#[test]
fn the_call_id_that_is_hashed_is_the_call_id_that_is_sent() {
    let mut bench = Bench::default();
    let mut wrong = Vec::new();
    for case in cases() {
        let (decision, after) = bench.decide(&case.octets, caller());
        let Decision::Forward(forward) = decision else {
            // A reply names what it refuses, and that is read in one way too.
            let by_proxy_require = matches!(
                decision,
                Decision::Reply(reply) if reply.reason == Reason::ProxyRequire
            );
            if case.call_id.is_some() && !by_proxy_require {
                wrong.push(format!("{}: refused: {decision:?}", case.name));
            }
            continue;
        };
        let emitted = read_but_lists(after).map(|(twin, _)| twin.call_id);
        let Way::Selected(selection) = forward.way else {
            wrong.push(format!("{}: not dispatched: {forward:?}", case.name));
            continue;
        };
        let datagram = Datagram {
            bytes: &case.octets,
            source: caller(),
            listener: 0,
        };
        let hashed = bench
            .proxy
            .key(&datagram, selection.set)
            .map(|(key, _)| key);
        let wanted = case.call_id.map(Vec::from).or_else(|| hashed.clone());
        if emitted.as_ref().ok() != hashed.as_ref() || wanted != hashed {
            wrong.push(format!(
                "{}: hashed {hashed:?}, sent {emitted:?}",
                case.name
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
