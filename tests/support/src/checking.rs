//! Configurations, and what `viaduct check` says of them.

use std::path::Path;
use std::process::Output;

use viaduct::config::{Config, Overrides, load_with};

use crate::folder::{Folder, said, stderr, stdout};

pub const LISTEN: &str = "listen = ['192.0.2.10:5060']\n";
pub const SET: &str = "[[set]]\nname = 'a'\ndestinations = ['10.0.0.1']\n";

/// A good file followed by `more`.
pub fn good_and(more: &str) -> String {
    format!("{LISTEN}{SET}{more}")
}

/// A good file with `top` as its first line and `tables` as its last ones.
pub fn file(top: &str, tables: &str) -> String {
    format!("{top}\n{LISTEN}{SET}{tables}")
}

/// A folder with files to check.
pub fn folder(files: &[(&str, &str)]) -> Folder {
    Folder::with(&["check"], files)
}

/// What comes of a check of the file `v.toml`, and flags.
pub fn checked(toml: &str, args: &[&str]) -> Output {
    folder(&[("v.toml", toml)]).run(&[&["--config", "v.toml"], args].concat())
}

#[track_caller]
pub fn check(toml: &str, args: &[&str], code: i32, wanted: &[&str]) {
    let output = checked(toml, args);
    said(&output, code, wanted);
    if wanted.is_empty() {
        assert_eq!(stderr(&output), "");
    }
    if code != 0 {
        assert_eq!(stdout(&output), "");
    }
}

#[track_caller]
pub fn good(toml: &str) {
    check(toml, &[], 0, &[]);
}

#[track_caller]
pub fn warned(toml: &str, wanted: &[&str]) {
    check(toml, &[], 0, wanted);
}

#[track_caller]
pub fn refused(toml: &str, wanted: &[&str]) {
    check(toml, &[], 1, wanted);
}

/// What the file `/etc/v.toml` and flags come to.
#[track_caller]
pub fn load_over(toml: &str, overrides: &Overrides) -> Config {
    let reader = |_: &Path| Ok(toml.as_bytes().to_vec());
    let loaded = load_with(Some(Path::new("/etc/v.toml")), overrides, 1, &reader);
    loaded
        .config
        .unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}

#[track_caller]
pub fn load(toml: &str) -> Config {
    load_over(toml, &Overrides::default())
}
