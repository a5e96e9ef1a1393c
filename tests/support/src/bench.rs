//! The benchmark's program, which plays long loads.

use std::path::PathBuf;
use std::process::{Command, Output};

use super::{program, repository};

/// viaduct-bench, the program beside the product, built by the same cargo with the same
/// profile, so that it finds the product beside itself. As a test of its own has it built:
/// where that of the whole workspace were built, this builds nothing.
#[must_use]
pub fn build() -> PathBuf {
    let release: &[_] = if cfg!(debug_assertions) {
        &[]
    } else {
        &["--release"]
    };
    let built = Command::new(env!("CARGO"))
        .args(["test", "--no-run", "--locked", "--workspace"])
        .args(["--test", "through_forwarders"])
        .args(release)
        .current_dir(repository())
        .output()
        .expect("cargo");
    let told = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{told}");
    program().with_file_name("viaduct-bench")
}

/// Runs it with these arguments and a folder of its own for what it leaves; it must
/// end well.
#[track_caller]
pub fn run(args: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let output = Command::new(build())
        .args(args)
        .arg("--out")
        .arg(folder.path())
        .output()
        .expect("viaduct-bench runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}\n{errors}");
    output
}
