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
    /// One in which `viaduct COMMAND…` runs.
    pub fn with(command: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { folder, command }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.path(name), octets).expect("a file");
    }

    /// What comes of the command with these arguments. It sees no variables of
    /// the tests' own environment.
    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(program())
            .env_clear()
            .current_dir(self.folder.path())
            .args(self.command)
            .args(args)
            .output()
            .expect("an end")
    }

    /// What it prints when it is done.
    #[track_caller]
    pub fn text(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).expect("text")
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
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{errors}");
        for text in wanted {
            assert!(errors.contains(text), "no {text:?} in {errors}");
        }
    }
}
