//! sipp as caller (UAC) and server (UAS), with its own statistics.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use super::net::wait_until_bound;
use super::process::{Process, Signal};
use super::{LONG, repository};

/// For all calls of a caller: many times what they take, for a busy machine.
const CALLS: Duration = Duration::from_secs(300);

/// T1, in milliseconds, of sipps and of those that send again on their behalf.
/// A message that is lost still shows, and a machine that stands still for a
/// second, as one that others share may, does not.
pub const PATIENCE: u32 = 4000;

/// What a sipp plays.
#[derive(Clone, Copy)]
pub enum Scenario {
    /// One of sipp's own (`-sn`).
    BuiltIn(&'static str),
    /// A file in `tests/sipp`.
    Ours(&'static str),
}

impl Scenario {
    /// The scenario with [`PATIENCE`].
    fn text(self) -> String {
        let text = match self {
            Self::BuiltIn(name) => {
                let output = Command::new("sipp").args(["-sd", name]).output();
                let output = output.expect("sipp: scripts/install-tools installs it");
                String::from_utf8(output.stdout).expect("a scenario in UTF-8")
            }
            Self::Ours(file) => {
                let path = repository().join("tests/sipp").join(file);
                fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            }
        };
        let hasty = "retrans=\"500\"";
        assert!(text.contains("<scenario"), "no scenario: {text}");
        text.replace(hasty, &format!("retrans=\"{PATIENCE}\""))
    }
}

/// How many calls a caller makes, and how fast.
#[derive(Clone, Copy)]
pub struct Load {
    pub calls: u32,
    /// Calls started in a second.
    pub rate: u32,
    /// Calls under way at once, at most.
    pub open: u32,
}

impl Load {
    /// Calls of no length. A machine that cannot carry the rate makes the next
    /// calls wait, and not those under way until they are sent again.
    pub const fn new(calls: u32, rate: u32) -> Self {
        let open = rate / 10;
        Self { calls, rate, open }
    }

    /// Of which each takes up to so many seconds.
    pub const fn lasting(self, seconds: u32) -> Self {
        let open = self.open + self.rate * seconds;
        Self { open, ..self }
    }
}

/// A running sipp.
pub struct Sipp(Process);

/// The last line of sipp's statistics (`sipp -h stat` names the columns).
pub struct Stats(HashMap<String, String>);

impl Stats {
    /// A count by the column's name; `(C)` marks the cumulative ones.
    pub fn count(&self, column: &str) -> u64 {
        let value = self.0.get(column);
        let value = value.unwrap_or_else(|| panic!("no column {column} in sipp's statistics"));
        value
            .parse()
            .unwrap_or_else(|_| panic!("not a count: {column} {value}"))
    }

    /// Calls made or taken.
    pub fn calls(&self) -> u64 {
        self.count("TotalCallCreated")
    }

    /// Demands `calls` calls, all successful at the first attempt: no call
    /// failed, nothing unexpected came, nothing was sent twice.
    pub fn assert_clean(&self, who: &str, calls: u64) {
        assert_eq!(self.calls(), calls, "{who}: calls");
        let faults = [
            "FailedCall(C)", // the sum of all ways to fail
            "FailedUnexpectedMessage(C)",
            "OutOfCallMsgs(C)",
            "DeadCallMsgs(C)",
            "Retransmissions(C)",
            "FatalErrors(C)",
        ];
        for fault in faults {
            assert_eq!(self.count(fault), 0, "{who}: {fault}");
        }
        assert_eq!(
            self.count("SuccessfulCall(C)"),
            calls,
            "{who}: successful calls"
        );
    }
}

/// Ends these servers, whose calls must all have ended well; how many each had.
#[track_caller]
pub fn shares(servers: impl IntoIterator<Item = Sipp>) -> Vec<u64> {
    let ended = servers.into_iter().map(|server| {
        let stats = server.stop();
        stats.assert_clean("server", stats.calls());
        stats.calls()
    });
    ended.collect()
}

impl Sipp {
    /// A server on `address`, until [`Sipp::stop`].
    pub fn server(scenario: Scenario, address: SocketAddr) -> Self {
        let mut sipp = Self::start(scenario, address, |_| {});
        sipp.wait_until_up(address);
        sipp
    }

    /// A caller on `address` that sends everything to `target`.
    pub fn caller(scenario: Scenario, address: SocketAddr, target: SocketAddr, load: Load) -> Self {
        Self::holding(scenario, address, target, load, 0)
    }

    /// A caller that holds each call for so many seconds, where the scenario
    /// has a pause.
    pub fn holding(
        scenario: Scenario,
        address: SocketAddr,
        target: SocketAddr,
        load: Load,
        held: u32,
    ) -> Self {
        Self::start(scenario, address, |command| {
            command
                .args(["-m", &load.calls.to_string()])
                .args(["-r", &load.rate.to_string()])
                .args(["-l", &load.open.to_string()])
                .args(["-d", &(held * 1000).to_string()])
                .arg(target.to_string());
        })
    }

    fn start(scenario: Scenario, address: SocketAddr, extend: impl Fn(&mut Command)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("scenario.xml"), scenario.text()).expect("a scenario");
        let mut command = Command::new("sipp");
        command.args(["-sf", "scenario.xml"]);
        command.args([
            "-i",
            &address.ip().to_string(),
            "-p",
            &address.port().to_string(),
        ]);
        command.args(["-buff_size", "4194304", "-timer_resol", "1", "-nostdin"]);
        command.args(["-trace_stat", "-stf", "stats.csv", "-fd", "1"]);
        command.args(["-trace_err", "-error_file", "errors.log"]);
        extend(&mut command);
        Self(Process::start(command, folder))
    }

    fn wait_until_up(&mut self, address: SocketAddr) {
        assert!(
            wait_until_bound(address, LONG),
            "sipp does not listen on {address}"
        );
    }

    /// Waits until a caller has made all its calls.
    pub fn finish(mut self) -> Stats {
        self.0.wait(CALLS);
        self.stats()
    }

    /// Lets a server end the calls that it has, and ends it.
    pub fn stop(mut self) -> Stats {
        self.0.signal(Signal::USR1);
        self.0.wait(LONG);
        self.stats()
    }

    /// Kills it (SIGKILL): whatever it has is gone.
    pub fn kill(self) {
        self.0.signal(Signal::KILL);
    }

    fn stats(&self) -> Stats {
        if let Ok(errors) = std::fs::read_to_string(self.0.file("errors.log")) {
            // Shown by the harness when the test fails.
            println!(
                "sipp's errors: {}",
                errors.chars().take(4000).collect::<String>()
            );
        }
        let csv = std::fs::read_to_string(self.0.file("stats.csv"))
            .unwrap_or_else(|error| panic!("no statistics: {error}\n{}", self.0.output()));
        let mut lines = csv.lines();
        let columns = lines.next().expect("a line of column names").split(';');
        let values = lines.last().expect("a line of statistics").split(';');
        Stats(
            columns
                .map(str::to_owned)
                .zip(values.map(str::to_owned))
                .collect(),
        )
    }
}
