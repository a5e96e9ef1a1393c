//! What an operator's day needs: probes, the admin API, the mirror, logs.

mod file;
mod merge;
pub(super) mod text;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use merge::{HealthSettings, OperationDraft};

/// Bounds of [`Probe::down_after`] and [`Probe::up_after`].
pub const PROBES_IN_A_ROW: RangeInclusive<u32> = 1..=100;

/// How a destination is probed by OPTIONS (RFC 3261 §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// From one probe to the next, give or take a tenth.
    pub interval: Duration,
    /// How long a probe waits for its response.
    pub timeout: Duration,
    /// Probes in a row that must fail for the destination to count as down.
    pub down_after: u32,
    /// Probes in a row that must be answered for it to come back.
    pub up_after: u32,
    /// Final responses that count as an answer.
    pub accept: Vec<Accept>,
    /// The URI of From; one of our own where it is `None`.
    pub from: Option<String>,
    /// The Request-URI; the destination's own where it is `None`.
    pub request_uri: Option<String>,
    /// How long the share of a destination that comes back grows to its full
    /// weight; 0: at once.
    pub slow_start: Duration,
}

impl Default for Probe {
    /// A destination that is dead is down within 3 s: one interval with its
    /// jitter, and three timeouts.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            down_after: 3,
            up_after: 2,
            accept: vec![
                Accept::Class(2),
                Accept::Class(3),
                Accept::Class(4),
                Accept::Class(6),
                Accept::Status(501),
            ],
            from: None,
            request_uri: None,
            slow_start: Duration::from_secs(10),
        }
    }
}

/// Final responses to a probe that show a destination alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// All of a class, by its first digit: 2 to 6.
    Class(u8),
    /// One status: 200 to 699.
    Status(u16),
}

impl Accept {
    /// Whether it holds `status`.
    #[must_use]
    pub fn holds(self, status: u16) -> bool {
        match self {
            Self::Class(class) => status / 100 == u16::from(class),
            Self::Status(one) => status == one,
        }
    }
}

/// What health checks have found of a destination. Not in any file: the
/// supervisor fills it in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Health {
    /// It answers, or nobody has looked.
    #[default]
    Up,
    /// It came back; this share of its weight counts, in percent (1 to 99).
    Warming(u8),
    /// It does not answer: it takes no new work.
    Down,
}

impl Health {
    /// The share of its weight that counts, in percent.
    #[must_use]
    pub fn percent(self) -> u8 {
        match self {
            Self::Up => 100,
            Self::Warming(percent) => percent,
            Self::Down => 0,
        }
    }
}

/// What becomes of new work when every active destination of a set is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenAllDown {
    /// It is forwarded as if all were up: the checks may be what is wrong.
    #[default]
    Forward,
    /// It is answered 503.
    Reply,
}

/// Where the admin API is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Admin {
    /// A Unix socket, made with mode 0660.
    pub socket: Option<PathBuf>,
    /// TCP addresses.
    pub listen: Vec<SocketAddr>,
    /// The file with the bearer token for what changes something over TCP;
    /// without one, TCP only reads.
    pub token_file: Option<PathBuf>,
}

/// Where copies of messages go, as HEP version 3 over UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The collector.
    pub to: SocketAddr,
    /// Share of calls that are copied, in thousandths (1 to 1000): whole
    /// calls, chosen by Call-ID.
    pub sample: u32,
    /// The capture agent's number (HEP chunk 12).
    pub id: u32,
    /// The collector's key (HEP chunk 14), if it wants one.
    pub key: Option<String>,
}

/// The longest path of a Unix socket, in octets (unix(7)).
pub const SOCKET_PATH_MAX: usize = 107;

/// How the log is written, and what of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Text or JSON.
    pub format: LogFormat,
    /// The least important lines that are written.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

/// The form of a line of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people; with priorities for the journal where systemd reads it.
    Text,
    /// One JSON object a line.
    Json,
}

/// The importance of a line of the log, from the greatest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something does not work.
    Error,
    /// Something needs an operator's eye.
    Warn,
    /// What an operator did, and what came of it.
    Info,
    /// Why.
    Debug,
}
