//! The `viaduct` program under test.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;
use viaduct::worker::Totals;

use super::process::{Process, Signal};
use super::{LONG, program, wait_for, wait_until};

/// The number of the first worker's thread, by that of its process, once the
/// thread has named itself.
#[track_caller]
pub fn worker_of(process: u32) -> String {
    wait_for("a worker", || {
        let threads = fs::read_dir(format!("/proc/{process}/task")).expect("threads");
        let mut threads = threads.map(|entry| entry.expect("a thread").path());
        let name = |path: &Path| fs::read_to_string(path.join("comm")).unwrap_or_default();
        let worker = threads.find(|path| name(path).trim_end() == "worker-0")?;
        worker.file_name()?.to_str().map(str::to_owned)
    })
}

/// A running `viaduct run`; ended by SIGTERM when dropped.
pub struct Viaduct {
    process: Process,
    addresses: Vec<SocketAddr>,
}

/// The counters that Viaduct printed, by name; it leaves out the rare ones
/// (drops, replies, errors) that are zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Whether the counter was printed.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The counter's value; 0 where it was not printed.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What was counted after `before`.
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let counters = self.0.iter();
        let grown = counters.map(|(name, value)| (name.clone(), value - before.get(name)));
        grown.filter(|(_, more)| *more > 0).collect()
    }

    /// Demands that every datagram was forwarded: none dropped, none answered
    /// by Viaduct itself, no error, and some received at all.
    pub fn assert_all_forwarded(&self) {
        let forwarded = self.get("requests-forwarded") + self.get("responses-forwarded");
        assert!(
            forwarded > 0 && self.get("received") == forwarded,
            "{:?}",
            self.0
        );
        let mut names = self.0.keys();
        assert!(
            names.all(|name| Totals::counts_forwarding(name)),
            "{:?}",
            self.0
        );
    }
}

impl Viaduct {
    /// Runs `viaduct run ARGS…` and waits until it is ready. Its secret and
    /// whatever else it keeps go to a folder of its own, nothing is probed, for
    /// most peers of tests would be surprised, and the end waits for nothing,
    /// unless `args` say otherwise.
    pub fn start<S: AsRef<str>>(args: &[S]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Self::start_program(&program(), folder, args)
    }

    /// The same with a copy of the program, or with files in its folder.
    pub(crate) fn start_program<S: AsRef<str>>(
        program: &Path,
        folder: TempDir,
        args: &[S],
    ) -> Self {
        let mut command = Command::new(program);
        command.arg("run").args(args.iter().map(AsRef::as_ref));
        if !args.iter().any(|arg| arg.as_ref() == "--secret-file") {
            command
                .arg("--secret-file")
                .arg(folder.path().join("secret"));
        }
        command.env("VIADUCT_HEALTH", "off");
        command.env("VIADUCT_STOP_TIMEOUT", "0s");
        let mut process = Process::start(command, folder);
        let addresses = process.wait_for("line `ready:`", LONG, |output| {
            complete_lines(output)
                .any(|line| line.starts_with("ready:"))
                .then(|| listening(output))
        });
        assert!(
            !addresses.is_empty(),
            "no `listening on` in\n{}",
            process.output()
        );
        Self { process, addresses }
    }

    /// The address that listener `index` (in the order of the facts) is bound to.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.addresses[index]
    }

    /// A file in its folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.process.file(name)
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Demands that it ends by itself with exit status 0; all that it wrote.
    pub fn ended(mut self) -> String {
        let status = self.process.wait(LONG);
        assert!(status.success(), "viaduct ended with {status}");
        self.output()
    }

    /// Everything written so far to standard output and standard error.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Resident memory in KiB.
    pub fn resident(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id());
        let text = std::fs::read_to_string(path).expect("the state of a child");
        let mut rows = text.lines().filter_map(|row| row.strip_prefix("VmRSS:"));
        let value = rows.next().and_then(|row| row.trim().strip_suffix(" kB"));
        value.and_then(|text| text.parse().ok()).expect("VmRSS")
    }

    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Stops it until it gets `SIGCONT`, and waits until its first worker stands.
    pub fn halt(&self) {
        let worker = worker_of(self.id());
        self.signal(Signal::STOP);
        wait_for_state(&worker, &["T", "t"]);
    }

    /// Waits until that worker's thread is in one of these states
    /// (proc_pid_stat(5)).
    pub fn wait_for_worker(&self, states: &[&str]) {
        wait_for_state(&worker_of(self.id()), states);
    }

    /// Waits until `find` finds what it wants in the output.
    pub fn wait_for<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        self.process.wait_for(what, LONG, find)
    }

    /// The present value of one counter; 0 where it was not printed.
    pub fn counter(&mut self, name: &str) -> u64 {
        self.counters().get(name)
    }

    /// The present counters, from a dump asked for by SIGUSR1.
    pub fn counters(&mut self) -> Counters {
        // A dump has no last line to wait for: it has ended when the next begins.
        let start = self.dump_after(self.process.output().len());
        let end = self.dump_after(start + 1);
        counters(&self.process.output()[start..end])
    }

    /// Asks for a dump, and returns where in the output after `offset` it begins.
    fn dump_after(&mut self, offset: usize) -> usize {
        self.process.signal(Signal::USR1);
        self.process.wait_for("counters", LONG, |output| {
            output[offset..]
                .find("counter received ")
                .map(|at| offset + at)
        })
    }

    /// Ends it by SIGTERM, demands exit status 0, and returns its counters.
    pub fn stop(mut self) -> Counters {
        let before = self.process.output().len();
        self.process.signal(Signal::TERM);
        let status = self.process.wait(LONG);
        assert!(status.success(), "viaduct ended with {status}");
        counters(&self.process.output()[before..])
    }
}

/// Waits until a thread is in one of these states.
fn wait_for_state(thread: &str, states: &[&str]) {
    let stat = format!("/proc/{thread}/stat");
    wait_until("the thread's state", || {
        let stat = fs::read_to_string(&stat).expect("its state");
        let is_in = |state: &&str| stat.contains(&format!(") {state} "));
        states.iter().any(is_in)
    });
}

/// The last line may be half written yet.
fn complete_lines(output: &str) -> impl Iterator<Item = &str> {
    output
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(str::trim_end)
}

fn listening(output: &str) -> Vec<SocketAddr> {
    complete_lines(output)
        .filter_map(|line| line.split_once("listening on udp:"))
        .map(|(_, rest)| {
            let address = rest.split([',', ' ']).next().unwrap_or_default();
            address
                .parse()
                .unwrap_or_else(|_| panic!("not an address: {address}"))
        })
        .collect()
}

fn counters(output: &str) -> Counters {
    let fields = complete_lines(output).filter_map(|line| line.strip_prefix("counter "));
    let pairs = fields.filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), value.trim().parse().ok()?))
    });
    Counters(pairs.collect())
}
