//! What the tests share: Viaduct and its peers as child processes, each bounded
//! in time and ended by its process id; messages, and plain readers of them.
//! The fuzz targets and the benchmarks take single files of it as modules, to be
//! built without all that the others depend on.
//!
//! A test that loads the machine takes [`load_lock`] first, one that does so a
//! little [`light_load`]. No test is skipped: a program that is not installed, or
//! one that does not come up, is a panic with that program's own output.
#![allow(
    missing_docs,
    reason = "the names in a test's support say what they are"
)]
// The harness shows what a child said when a test fails.
#![allow(clippy::print_stdout, clippy::print_stderr)]

pub mod admin;
pub mod again;
pub mod bench;
pub mod browser;
pub mod capture;
pub mod checking;
mod damage;
pub mod dialog;
pub mod dns;
pub mod exposition;
pub mod farm;
pub mod fixture;
pub mod folder;
pub mod generate;
pub mod hep;
pub mod json_keys;
pub mod kamailio;
pub mod ledger;
pub mod monitoring;
pub mod neighbour;
pub mod net;
pub mod packets;
pub mod passage;
mod ports;
pub mod process;
pub mod reading;
pub mod relaying;
pub mod servers;
pub mod sipp;
pub mod smuggling;
pub mod stateful;
pub mod steady;
pub mod steering;
pub mod torture;
pub mod transactions;
pub mod twin;
pub mod upgrading;
pub mod viaduct;
pub mod walk;
pub mod worst;

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for what has to come: many times what it takes, for a busy
/// machine.
pub const LONG: Duration = Duration::from_secs(180);

/// Waits until something is found, and returns it.
///
/// # Panics
/// It is not found in time.
#[track_caller]
pub fn wait_for<T>(what: &str, find: impl FnMut() -> Option<T>) -> T {
    wait_pausing(Duration::from_millis(5), what, find)
}

/// The same, with such a pause before the next look.
#[track_caller]
fn wait_pausing<T>(pause: Duration, what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        let last = Instant::now() > end;
        if let Some(found) = find() {
            return found;
        }
        assert!(!last, "{what} does not come");
        thread::sleep(pause);
    }
}

/// Waits until something is so.
///
/// # Panics
/// It is not so in time.
#[track_caller]
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    wait_for(what, || is_so().then_some(()));
}

/// Holds the machine for one load test, until dropped.
///
/// The test harness runs the tests of a binary in parallel, and two loads at
/// once on a small machine measure each other. A lock on a file, and not a
/// mutex, so that it also holds between the test binaries of this checkout,
/// whoever runs them; the kernel drops it when the process ends.
#[must_use]
pub fn load_lock() -> File {
    let file = lock_file();
    file.lock().expect("the lock on the machine's load");
    file
}

/// Held by a test that loads the machine so little that some may do it at once,
/// but not beside one that holds the [`load_lock`].
#[must_use]
pub fn light_load() -> File {
    let file = lock_file();
    (file.lock_shared()).expect("a share of the machine's load");
    file
}

fn lock_file() -> File {
    let path = program().with_file_name("load.lock");
    File::create(path).expect("a lock file beside the program")
}

/// The program under test. Cargo says where it is to each test that it runs.
#[must_use]
pub fn program() -> PathBuf {
    let program = env::var_os("CARGO_BIN_EXE_viaduct");
    program.expect("a test of viaduct, run by cargo").into()
}

/// A program of the tests' own Python.
#[must_use]
pub fn python_tool(name: &str) -> Command {
    // Where Cargo builds.
    let program = program();
    let target = program.ancestors().nth(2).expect("a folder");
    let tool = target.join("tools/python/bin").join(name);
    let missing = "is missing: scripts/install-tools installs it";
    assert!(tool.exists(), "{} {missing}", tool.display());
    Command::new(tool)
}

/// Demands that a script of the repository, which checks itself, ends well with
/// these flags and the program, and that it says `last` at its end.
#[track_caller]
pub fn assert_script(path: &str, flags: &[&str], last: &str) {
    let mut script = Command::new(repository().join(path));
    let output = script.args(flags).arg(program()).output();
    let output = output.unwrap_or_else(|error| panic!("{path}: {error}"));
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.ends_with(last), "{told}{errors}");
}

/// The folder of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    tests
        .and_then(Path::parent)
        .expect("the folder above tests")
}
