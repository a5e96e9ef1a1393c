//! The keys that `docs/json.md` names, held against what is printed.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::repository;

/// The way to a value: keys, and `[]` for an element of an array.
type Way = Vec<String>;

/// Demands that each key of `outputs` stands in this section of
/// `docs/json.md`, and each that stands there is in one of `outputs`.
#[track_caller]
pub fn assert_documented(section: &str, outputs: &[Value]) {
    let documented = documented(section);
    let mut met = Met::default();
    for output in outputs {
        met.look(output, &mut Vec::new());
    }
    let is = |way: &Way, known: &Way| {
        let same = |(each, known): (&String, &String)| each == known || known == "NAME";
        way.len() == known.len() && way.iter().zip(known).all(same)
    };
    for leaf in &met.leaves {
        let named = documented.iter().any(|known| is(leaf, known));
        assert!(named, "docs/json.md has no {leaf:?} under {section}");
    }
    for known in &documented {
        let there = met.all.iter().any(|way| is(way, known));
        assert!(
            there,
            "{section} has no {known:?}, which docs/json.md names"
        );
    }
}

#[derive(Default)]
struct Met {
    /// Ways to every value.
    all: BTreeSet<Way>,
    /// Those at whose end there is nothing further.
    leaves: BTreeSet<Way>,
}

impl Met {
    fn look(&mut self, value: &Value, way: &mut Way) {
        self.all.insert(way.clone());
        let mut further = |key: &str, value: &Value| {
            way.push(key.to_owned());
            self.look(value, way);
            way.pop();
        };
        match value {
            Value::Object(object) => object.iter().for_each(|(key, value)| further(key, value)),
            Value::Array(array) if array.is_empty() => further("[]", &Value::Null),
            Value::Array(array) => array.iter().for_each(|value| further("[]", value)),
            _ => {
                self.leaves.insert(way.clone());
            }
        }
    }
}

/// The ways in the first column of a section's table.
fn documented(section: &str) -> BTreeSet<Way> {
    let text = fs::read_to_string(repository().join("docs/json.md")).expect("docs/json.md");
    let heading = format!("## `{section}`");
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("| `"));
    let keys = rows.flat_map(|row| {
        let (keys, _) = row.split_once("` |").expect("a column of keys");
        keys.split("`, `")
    });
    let ways: BTreeSet<Way> = keys
        .map(|key| {
            let parts = key.split('.').flat_map(|part| {
                let (name, element) = match part.strip_suffix("[]") {
                    Some(name) => (name, Some("[]")),
                    None => (part, None),
                };
                [Some(name), element].into_iter().flatten()
            });
            parts.map(str::to_owned).collect()
        })
        .collect();
    assert!(!ways.is_empty(), "docs/json.md has no keys under {heading}");
    ways
}
