//! The smuggling matrix: what we hash is what the destination reads, or the
//! message is refused.
#![allow(missing_docs, reason = "a test binary has no readers of its API")]

#[path = "support/smuggling.rs"]
pub mod smuggling;
#[path = "support/twin.rs"]
pub mod twin;

use std::collections::BTreeSet;

use smuggling::cases;
use twin::read;

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
