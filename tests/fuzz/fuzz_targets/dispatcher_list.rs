//! Any text as a `dispatcher.list`: it becomes a set of destinations, or at
//! least one error.
#![no_main]

use std::path::{Path, PathBuf};

use viaduct::config::{Overrides, Severity, load_with};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let overrides = Overrides {
        listen: vec!["127.0.0.1:5060".parse().expect("an address")],
        dispatcher_list: Some(PathBuf::from("/dispatcher.list")),
        ..Overrides::default()
    };
    let loaded = load_with(None, &overrides, 2, &|_: &Path| Ok(text.to_vec()));
    let errors = loaded.diagnostics.iter();
    let errors = errors
        .filter(|each| each.severity == Severity::Error)
        .count();
    assert_eq!(loaded.config.is_none(), errors > 0);
    if let Some(config) = loaded.config {
        let set = &config.sets[0];
        assert!(!set.destinations.is_empty() || !set.named.is_empty());
        assert!(set.destinations.iter().all(|each| each.weight > 0));
        assert!(set.named.iter().all(|each| each.weight != Some(0)));
    }
});
