//! A folder with files, in which a command of Viaduct runs that ends by itself.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use crate::program;

pub struct Folder {
    folder: TempDir,
    command: &'static [&'static str],
}

impl Folder {
    /// One with these files, in which `viaduct COMMAND…` runs.
    pub fn with(command: &'static [&'static str], files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = Self { folder, command };
        for (name, text) in files {
            folder.write(name, text);
        }
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.path(name), octets).expect("a file");
    }

    /// The command, which sees no variables of the tests' own environment.
    pub fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.env_clear().current_dir(self.folder.path());
        command.args(self.command);
        command
    }

    /// What comes of the command with these arguments.
    pub fn run(&self, args: &[&str]) -> Output {
        self.command().args(args).output().expect("an end")
    }

    /// What it prints when it is done.
    #[track_caller]
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        said(&output, 0, &[]);
        stdout(&output)
    }

    /// The same as JSON.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let text = self.text(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Demands that it ends with `code`, and says each of `wanted`.
    #[track_caller]
    pub fn refused(&self, args: &[&str], code: i32, wanted: &[&str]) {
        said(&self.run(args), code, wanted);
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

/// Demands that a command has ended with `code`, and said each of `wanted`.
#[track_caller]
pub fn said(output: &Output, code: i32, wanted: &[&str]) {
    let said = stderr(output);
    for text in wanted {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    assert_eq!(output.status.code(), Some(code), "{said}");
}
