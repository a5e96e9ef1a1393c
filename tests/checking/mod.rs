//! Running `viaduct check` in a directory of its own.
#![allow(dead_code, reason = "each user takes its own part")]

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use tempfile::TempDir;
use viaduct::config::{Config, Overrides, load_with};

/// A directory with files, in which commands run.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn with(files: &[(&str, &str)]) -> Self {
        let place = Self(TempDir::new().expect("a temporary directory"));
        for (name, text) in files {
            fs::write(place.0.path().join(name), text).expect("a file");
        }
        place
    }

    /// A command that sees no variables of the tests' own environment.
    pub(crate) fn viaduct(&self) -> Command {
        let mut command = Command::cargo_bin("viaduct").expect("the binary");
        command.env_clear().current_dir(self.0.path());
        command
    }

    pub(crate) fn check(&self, args: &[&str]) -> Output {
        self.viaduct()
            .arg("check")
            .args(args)
            .output()
            .expect("an end")
    }
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

#[track_caller]
pub(crate) fn said(output: &Output, code: i32, wanted: &[&str]) {
    let said = stderr(output);
    for text in wanted {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    assert_eq!(output.status.code(), Some(code), "{said}");
}

pub(crate) const LISTEN: &str = "listen = ['127.0.0.1:5060']\n";
pub(crate) const SET: &str = "[[set]]\nname = 'a'\ndestinations = ['10.0.0.1']\n";

/// A good file followed by `more`.
pub(crate) fn good_and(more: &str) -> String {
    format!("{LISTEN}{SET}{more}")
}

/// A good file with `top` as its first line and `tables` as its last ones.
pub(crate) fn file(top: &str, tables: &str) -> String {
    format!("{top}\n{LISTEN}{SET}{tables}")
}

#[track_caller]
pub(crate) fn check(toml: &str, args: &[&str], code: i32, wanted: &[&str]) {
    let output = Place::with(&[("v.toml", toml)]).check(&[&["--config", "v.toml"], args].concat());
    said(&output, code, wanted);
    if wanted.is_empty() {
        assert_eq!(stderr(&output), "");
    }
    if code != 0 {
        assert_eq!(stdout(&output), "");
    }
}

#[track_caller]
pub(crate) fn good(toml: &str) {
    check(toml, &[], 0, &[]);
}

#[track_caller]
pub(crate) fn warned(toml: &str, wanted: &[&str]) {
    check(toml, &[], 0, wanted);
}

#[track_caller]
pub(crate) fn refused(toml: &str, wanted: &[&str]) {
    check(toml, &[], 1, wanted);
}

/// What the file `/etc/v.toml` and flags come to.
#[track_caller]
pub(crate) fn load_over(toml: &str, overrides: &Overrides) -> Config {
    let reader = |_: &Path| Ok(toml.as_bytes().to_vec());
    let loaded = load_with(Some(Path::new("/etc/v.toml")), overrides, 1, &reader);
    loaded
        .config
        .unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}

#[track_caller]
pub(crate) fn load(toml: &str) -> Config {
    load_over(toml, &Overrides::default())
}
