//! The smuggling matrix: what we hash is what the destination reads, or the
//! message is refused.

use std::collections::BTreeSet;

use support::fixture::{Decider, caller};
use support::passage;
use support::smuggling::{Case, cases};
use support::twin::{read, read_but_lists};
use viaduct::proxy::{Datagram, Decision, Way};

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
    let mut decider = Decider::default();
    let mut wrong = Vec::new();
    for case in cases() {
        if let Err(what) = check(&mut decider, &case) {
            wrong.push(format!("{}: {what}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn check(decider: &mut Decider, case: &Case) -> Result<(), String> {
    // As a CANCEL, for which Proxy-Require does not count.
    let octets = replace_all(&case.octets, b"INVITE", b"CANCEL");
    let octets = replace_all(&octets, b"invite", b"cancel");
    let (decision, after) = decider.decide(&octets, caller());
    passage::check(&octets, caller(), decision, after)?;
    let Decision::Forward(forward) = decision else {
        return match case.call_id {
            Some(_) => Err(format!("refused: {decision:?}")),
            None => Ok(()),
        };
    };
    let Way::Selected(selection) = forward.way else {
        return Err(format!("not dispatched: {forward:?}"));
    };
    let (twin, lists) = read_but_lists(after).map_err(|refusal| format!("sent {refusal:?}"))?;
    let datagram = Datagram {
        bytes: &octets,
        source: caller(),
        listener: 0,
    };
    let hashed = decider.proxy.key(&datagram, selection.set);
    let hashed = hashed.map(|(key, _)| key).unwrap_or_default();
    // Route below the first, and Proxy-Require, do not matter here.
    let fits = match case.call_id {
        Some(wanted) => hashed == wanted.as_bytes(),
        None => lists.is_some(),
    };
    if fits && twin.call_id == hashed {
        return Ok(());
    }
    Err(format!("hashed {hashed:?}, sent {:?}", twin.call_id))
}

fn replace_all(octets: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut octets = octets.to_vec();
    for at in 0..octets.len().saturating_sub(old.len() - 1) {
        if octets[at..].starts_with(old) {
            octets[at..at + old.len()].copy_from_slice(new);
        }
    }
    octets
}
