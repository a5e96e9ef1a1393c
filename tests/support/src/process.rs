//! A child process: its output in a file, every wait bounded, and never left
//! behind.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use super::wait_until;

pub use rustix::process::Signal;

const POLL: Duration = Duration::from_millis(5);
const LAST_CHANCE: Duration = Duration::from_secs(5);
/// How long a test in a network of its own may take.
const IN_A_NETWORK: Duration = Duration::from_secs(300);

/// A running (or ended) program with a folder of its own.
pub struct Process {
    name: String,
    child: Child,
    folder: TempDir,
}

impl Process {
    /// Starts `command` with `folder` as its working directory; standard
    /// output and standard error go to one file in it.
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let name = command.get_program().to_string_lossy().into_owned();
        let output = File::create(folder.path().join("output")).expect("an output file");
        let errors = output
            .try_clone()
            .expect("a second handle to the output file");
        let child = command
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {name}: {error} (scripts/install-tools installs the peers)")
            });
        Self {
            name,
            child,
            folder,
        }
    }

    /// A file in the folder of this process.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Everything written so far to standard output and standard error.
    pub fn output(&self) -> String {
        let bytes = std::fs::read(self.file("output")).expect("the output file");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until `find` finds what it wants in the output; panics when the
    /// process ends before, or after `limit`.
    pub fn wait_for<T>(
        &mut self,
        what: &str,
        limit: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        let end = Instant::now() + limit;
        loop {
            // The state first: whatever an ended process wrote is then there.
            let ended = self.child.try_wait().expect("the state of a child");
            if let Some(found) = find(&self.output()) {
                return found;
            }
            if let Some(status) = ended {
                panic!("{} ended with {status} before {what}", self.name);
            }
            assert!(
                Instant::now() < end,
                "{}: no {what} after {limit:?}",
                self.name
            );
            std::thread::sleep(POLL);
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a signal to a child");
    }

    /// Waits for the end; panics after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        self.wait_at_most(limit)
            .unwrap_or_else(|| panic!("{} still runs after {limit:?}", self.name))
    }

    fn wait_at_most(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("the state of a child") {
                return Some(status);
            }
            if Instant::now() > end {
                return None;
            }
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            if self.wait_at_most(LAST_CHANCE).is_none() {
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        if std::thread::panicking() {
            let output = self.output();
            let tail: Vec<_> = output.lines().rev().take(60).collect();
            eprintln!("--- the last lines of {}:", self.name);
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Follows the system calls of one thread by strace, which can make them fail or
/// last, once it does.
#[track_caller]
pub fn trace(thread: &str, expressions: &[&str]) -> Process {
    let mut command = Command::new("strace");
    command.args(["-qq", "-p", thread]);
    command.args(expressions.iter().flat_map(|each| ["-e", *each]));
    let process = Process::start(command, tempfile::tempdir().expect("a folder"));
    let state = format!("/proc/{thread}/status");
    wait_until("the trace", || {
        let state = std::fs::read_to_string(&state).expect("the state of a thread");
        !state.lines().any(|line| line == "TracerPid:\t0")
    });
    process
}

/// Runs an ignored test of this program in a network namespace and with mounts of
/// its own, which the shell has prepared as `setup` says.
#[track_caller]
pub fn in_a_network_of_its_own(setup: &str, test: &str) {
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "--mount", "sh", "-c"]);
    command.arg(format!(
        "PATH=$PATH:/usr/sbin:/sbin; {setup} && exec \"$@\""
    ));
    command.arg("sh");
    command.arg(std::env::current_exe().expect("this program"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    let mut inner = Process::start(command, tempfile::tempdir().expect("a folder"));
    let status = inner.wait(IN_A_NETWORK);
    let output = inner.output();
    assert!(status.success() && output.contains("1 passed"), "{output}");
}
