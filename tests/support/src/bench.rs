//! The benchmark's program, which plays long loads.

use std::path::PathBuf;
use std::process::Command;

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
