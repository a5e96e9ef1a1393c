//! The table of `docs/conformance.md` names tests: each of them must exist,
//! and each test of what leaves and comes home must be in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn table() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conformance.md");
    fs::read_to_string(path).expect("the table")
}

/// Every `file::test` of the table.
fn named() -> BTreeSet<(String, String)> {
    let text = table();
    let is_name = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    text.split('`')
        .filter_map(|code| code.split_once("::"))
        .filter(|(file, test)| is_name(file) && is_name(test))
        .filter(|(file, _)| *file != "file")
        .map(|(file, test)| (file.to_owned(), test.to_owned()))
        .collect()
}

/// The names of the functions in `tests/FILE.rs` that are tests.
fn tests_of(file: &str) -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/{file}.rs"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut tests = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or_default();
            if marked {
                tests.insert(name.to_owned());
            }
            marked = false;
        }
    }
    tests
}

#[test]
fn each_test_that_the_table_names_exists() {
    let named = named();
    assert!(named.len() > 80, "the table is read wrongly: {named:?}");
    let gone: Vec<_> = named
        .iter()
        .filter(|(file, test)| !tests_of(file).contains(test))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");
}

#[test]
fn each_test_of_the_data_path_is_in_the_table() {
    let named = named();
    for file in [
        "requests",
        "responses",
        "forgery",
        "replies",
        "identity",
        "relay",
        "replaces",
        "proxy_protocol",
        "dialogs",
        "dialog_sides",
        "path",
        "routing",
        "second_chance",
        "names",
        "name_expiry",
        "known_names",
        "branch",
        "stateful",
        "stateful_bursts",
        "stateful_failover",
        "stateful_late",
        "stateful_others",
        "stateful_overload",
        "stateful_rules",
        "stateful_slow",
        "stateful_bounds",
        "stateful_reload",
    ] {
        let missing: Vec<_> = tests_of(file)
            .into_iter()
            .filter(|test| !named.contains(&(file.to_owned(), test.clone())))
            .collect();
        assert!(missing.is_empty(), "{file}: {missing:?}");
    }
}

/// By their first two cells: one that got other tests may stand beside the old one.
#[test]
fn no_row_is_there_twice() {
    let text = table();
    let rows = text
        .lines()
        .filter(|row| row.starts_with('|') && row.contains("::"));
    let mut seen = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.split('|').take(3).collect();
        assert!(seen.insert(cells), "{row}");
    }
    assert!(seen.len() > 80, "the table is read wrongly");
}
