//! Any text as the configuration file: it becomes a configuration that can be
//! written out and read back alike, or at least one error.
#![no_main]

use std::path::Path;

use viaduct::config::{Loaded, Overrides, Severity, load_with, to_toml};

fn load(text: &[u8]) -> Loaded {
    let reader = |path: &Path| match path.to_str() {
        Some("/viaduct.toml") => Ok(text.to_vec()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    load_with(
        Some(Path::new("/viaduct.toml")),
        &Overrides::default(),
        2,
        &reader,
    )
}

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let loaded = load(text);
    let errors = loaded.diagnostics.iter();
    let errors = errors
        .filter(|each| each.severity == Severity::Error)
        .count();
    assert_eq!(loaded.config.is_none(), errors > 0);
    for diagnostic in &loaded.diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
    if let Some(config) = loaded.config {
        let written = to_toml(&config);
        let again = load(written.as_bytes());
        assert_eq!(again.config.as_ref(), Some(&config), "{written}");
    }
});
