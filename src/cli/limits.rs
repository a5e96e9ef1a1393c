//! Which limits of a machine are too small: facts in, findings out.

use serde::Serialize;

use crate::config::{Config, Gso, Steer};
use crate::supervisor;

/// What the machine says of itself. `None`: it does not say, as in a
/// container that does not see its host's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `net.core.rmem_max`, in octets.
    pub rmem_max: Option<u64>,
    /// `net.core.wmem_max`, in octets.
    pub wmem_max: Option<u64>,
    /// `net.core.netdev_max_backlog`, in packets.
    pub netdev_max_backlog: Option<u64>,
    /// `net.core.optmem_max`, in octets.
    pub optmem_max: Option<u64>,
    /// Files that a process may have open.
    pub files: Option<u64>,
    /// Cores that this process may use.
    pub cores: Option<u64>,
    /// Whether the kernel cuts one send into datagrams.
    pub segments: Option<bool>,
    /// Entries of the connection tracking, and how many there may be; `None`
    /// where it is not loaded.
    pub tracked: Option<(u64, u64)>,
}

/// One limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Its name.
    pub what: &'static str,
    /// What it is; `None` where nobody says.
    pub value: Option<u64>,
    /// What it should be at least.
    pub wanted: u64,
    /// What both count.
    pub unit: &'static str,
    /// Whether it is enough, as far as one knows.
    pub good: bool,
    /// What it is good for.
    pub why: String,
    /// The command, or setting, that mends it; `None` where it is good.
    pub mend: Option<String>,
}

/// Octets of buffer that a message of 1,000 octets takes: the kernel accounts
/// it with its own memory for it. Measured: 212,992 hold 184.
const OCTETS_A_MESSAGE: u64 = 1158;
/// How long a worker may be kept from running without a loss: a scheduler's
/// slices of some neighbours on the same core.
const PAUSE_MS: u64 = 50;
/// How long packets may wait for a core before any socket sees them.
const BACKLOG_MS: u64 = 20;
/// The kernel's own default, below which nobody need go.
const BACKLOG: u64 = 1000;
/// Room for the whole program that finds the Call-ID.
const PROGRAM: u64 = 131_072;
/// Messages a second that a core carries with room to spare, with
/// transactions as well.
const A_WORKER: u64 = 50_000;

/// What of `facts` is too small, or is not, for `config` and `rate` messages a
/// second.
#[must_use]
pub fn find(facts: &Facts, config: &Config, rate: u64) -> Vec<Finding> {
    let workers = config.workers as u64;
    // By addresses, one trunk may bring all to one worker.
    let share = match config.steer {
        Steer::CallId => rate.div_ceil(workers),
        Steer::Source => rate,
    };
    let (receive, send) = (config.receive_buffer as u64, config.send_buffer as u64);
    let granted = facts.rmem_max.map_or(receive, |most| receive.min(most));
    let needed = (share * PAUSE_MS).div_ceil(1000) * OCTETS_A_MESSAGE;
    let mut findings = vec![
        sysctl(
            "net.core.rmem_max",
            (facts.rmem_max, receive.max(needed), "octets"),
            "the kernel cuts the receive buffer of a socket down to it".to_owned(),
        ),
        sysctl(
            "net.core.wmem_max",
            (facts.wmem_max, send, "octets"),
            "the kernel cuts the send buffer of a socket down to it".to_owned(),
        ),
        finding(
            "receive-buffer",
            (Some(receive), needed, "octets"),
            format!(
                "a worker that gets {share} messages a second may be kept from running for {} ms before one is lost, and {PAUSE_MS} ms happen",
                granted / OCTETS_A_MESSAGE * 1000 / share
            ),
            format!("--receive-buffer {}", receive.max(needed)),
        ),
        sysctl(
            "net.core.netdev_max_backlog",
            (
                facts.netdev_max_backlog,
                BACKLOG.max(rate * BACKLOG_MS / 1000),
                "packets",
            ),
            format!(
                "packets that wait for a core are dropped beyond it; at this rate they wait for up to {BACKLOG_MS} ms"
            ),
        ),
    ];
    if config.steer == Steer::CallId && workers > 1 {
        findings.push(sysctl(
            "net.core.optmem_max",
            (facts.optmem_max, PROGRAM, "octets"),
            "the program that has all workers serve one trunk finds room in it".to_owned(),
        ));
    }
    let files = *supervisor::open_files(config).end();
    findings.extend([
        finding(
            "open files",
            (facts.files, files, "files"),
            "each worker has a socket for each listener, open twice, and each question for a name some"
                .to_owned(),
            format!("ulimit -n {files} (in the unit: LimitNOFILE={files})"),
        ),
        finding(
            "cores",
            (facts.cores, workers, "cores"),
            "workers that share a core wait for one another".to_owned(),
            format!("--workers {}", facts.cores.unwrap_or(workers)),
        ),
        finding(
            "workers",
            (Some(workers), rate.div_ceil(A_WORKER), "workers"),
            format!("one carries {A_WORKER} messages a second with room to spare"),
            format!("--workers {0}, on {0} cores", rate.div_ceil(A_WORKER)),
        ),
    ]);
    if config.gso != Gso::Off {
        findings.push(finding(
            "UDP GSO",
            (facts.segments.map(u64::from), 1, "(1: it is there)"),
            "datagrams for one destination leave by one send".to_owned(),
            "Linux 4.18 or newer, or --gso off to do without".to_owned(),
        ));
    }
    findings.extend(facts.tracked.map(|(entries, most)| {
        sysctl(
            "net.netfilter.nf_conntrack_max",
            (Some(most), entries * 2, "entries"),
            format!("connection tracking is on and has {entries}; when it is full, datagrams of new sources are dropped"),
        )
    }));
    findings
}

/// What is, what should be at least, and of what.
type Measure = (Option<u64>, u64, &'static str);

fn sysctl(what: &'static str, measure: Measure, why: String) -> Finding {
    let (_, wanted, _) = measure;
    finding(what, measure, why, format!("sysctl -w {what}={wanted}"))
}

fn finding(what: &'static str, measure: Measure, why: String, mend: String) -> Finding {
    let (value, wanted, unit) = measure;
    let good = value.is_none_or(|value| value >= wanted);
    Finding {
        what,
        value,
        wanted,
        unit,
        good,
        why,
        mend: Some(mend).filter(|_| !good),
    }
}
