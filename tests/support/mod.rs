//! What the tests over real sockets share: Viaduct and its peers as child
//! processes, each bounded in time and ended by its process id.
//!
//! A test that loads the machine takes [`load_lock`] first. It refuses to
//! skip: a program that is not installed, or one that does not come up, is
//! a panic with that program's own output.
// Each test binary uses its own part of this module.
#![allow(dead_code, unreachable_pub)]
// The harness shows what a child said when a test fails.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod bench;
pub mod capture;
pub mod dialog;
pub mod dns;
pub mod exposition;
pub mod farm;
pub mod hep;
pub mod kamailio;
pub mod neighbour;
pub mod net;
pub mod packets;
pub mod process;
pub mod servers;
pub mod sipp;
pub mod stateful;
pub mod steady;
pub mod twin;
pub mod viaduct;

use std::fs::File;
use std::path::Path;

/// Holds the machine for one load test, until dropped.
///
/// The test harness runs the tests of a binary in parallel, and two loads at
/// once on a small machine measure each other. A lock on a file, and not a
/// mutex, so that it also holds between the test binaries of this checkout,
/// whoever runs them; the kernel drops it when the process ends.
#[must_use]
pub fn load_lock() -> File {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("load.lock");
    let file = File::create(path).expect("a lock file in cargo's folder for tests");
    file.lock().expect("the lock on the machine's load");
    file
}

/// The folder of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
