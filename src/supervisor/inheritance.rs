//! What one program hands over to the next one that the process executes: its
//! sockets, what operators have changed, what has been learnt.
//!
//! JSON in sealed memory whose descriptor an environment variable tells. What
//! does not fit the format is not read: `viaduct check` of the next program
//! tries that beforehand, without the sockets.

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::overlay::Overlay;
use crate::net::{self, Socket};
use crate::proxy::{Secret, SecretError};

/// The version of what is handed over, and of our marks in branches, tags and
/// cookies; another one for each change that the program of before would not
/// understand.
pub(super) const FORMAT: u32 = 3;
/// Names the descriptor.
pub(super) const VARIABLE: &str = "VIADUCT_INHERITED";
/// Octets that are read at most.
const LONGEST: u64 = 64 << 20;

/// The time by a clock that all programs of this machine share.
pub(super) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.try_into().unwrap_or_default()
}

/// What was handed over; by default, nothing.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Inheritance {
    /// Times that this process has executed a new program.
    pub(super) upgrades: u64,
    /// When the workers stopped, by [`now`].
    pub(super) stopped: Duration,
    /// How many workers there were.
    pub(super) workers: usize,
    pub(super) secret: Option<String>,
    pub(super) overlay: Overlay,
    /// What the program of before has counted, by name.
    pub(super) counters: Vec<(String, u64)>,
    /// The UDP addresses that the program of before listens on.
    pub(super) held: Vec<SocketAddr>,
    /// The TCP addresses that it listens on for operators.
    pub(super) held_admin: Vec<SocketAddr>,
    /// Written down as descriptors, beside the rest.
    #[serde(skip)]
    pub(super) sockets: Vec<Inherited>,
}

/// A socket that is handed over; written down, `S` is its descriptor.
#[derive(Serialize, Deserialize)]
pub(super) struct Inherited<S = Socket> {
    /// The address that was asked for; its port may be 0.
    pub(super) asked: SocketAddr,
    /// The address that it is bound to.
    pub(super) bound: SocketAddr,
    /// The number of the worker that had it.
    pub(super) worker: usize,
    #[serde(rename = "fd")]
    pub(super) socket: S,
}

impl<S> Inherited<S> {
    fn with<T>(&self, socket: T) -> Inherited<T> {
        Inherited {
            asked: self.asked,
            bound: self.bound,
            worker: self.worker,
            socket,
        }
    }
}

/// What is read of any format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// What is written, of a reference to an [`Inheritance`], and read.
#[derive(Serialize, Deserialize)]
struct Will<I> {
    format: u32,
    inheritance: I,
    sockets: Vec<Inherited<RawFd>>,
}

/// Whether calls may wait in sockets that were handed over to this program.
pub fn is_heir() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

impl Inheritance {
    /// What the program of before has handed over to this one. Nothing, where
    /// there was none, or where the variable lies, which is warned of.
    pub(super) fn take() -> Self {
        let Some(value) = std::env::var_os(VARIABLE) else {
            return Self::default();
        };
        let fd = value.to_str().and_then(|text| text.parse().ok());
        let read = fd.ok_or_else(|| io::Error::other("this is no descriptor"));
        let read = read.and_then(net::inherited_memory).and_then(Self::read);
        read.unwrap_or_else(|error| {
            warn!("{VARIABLE}={}: {error}; all starts anew", value.display());
            Self::default()
        })
    }

    /// What the instance that has started this check would hand over, but for
    /// its sockets.
    pub(super) fn announced() -> io::Result<Self> {
        Self::read(io::stdin())
    }

    fn read(from: impl Read) -> io::Result<Self> {
        let mut text = String::new();
        from.take(LONGEST).read_to_string(&mut text)?;
        let Format { format } = serde_json::from_str(&text)?;
        if format != FORMAT {
            let said = format!("format {format} was handed over, and {FORMAT} can be read");
            return Err(io::Error::other(said));
        }
        let will: Will<Self> = serde_json::from_str(&text)?;
        let mut inheritance = will.inheritance;
        for each in will.sockets {
            match net::inherited_socket(each.socket, each.bound) {
                Ok(socket) => inheritance.sockets.push(each.with(socket)),
                Err(error) => warn!("{VARIABLE}: the socket of udp:{}: {error}", each.bound),
            }
        }
        Ok(inheritance)
    }

    /// The secret, where it is handed over.
    pub(super) fn secret(&self) -> Result<Option<Secret>, SecretError> {
        self.secret.as_deref().map(Secret::from_text).transpose()
    }

    /// Writes it down.
    pub(super) fn written(&self) -> io::Result<File> {
        let sockets = self.sockets.iter();
        let will = Will {
            format: FORMAT,
            inheritance: self,
            sockets: sockets
                .map(|each| each.with(each.socket.as_raw_fd()))
                .collect(),
        };
        net::memory_to_hand_over(&serde_json::to_vec(&will)?)
    }

    /// Writes it down for the program that is executed next, and has its
    /// descriptors survive that, as long as the [`Bequeathed`] lives.
    pub(super) fn bequeath(&self) -> io::Result<Bequeathed<'_>> {
        let bequeathed = Bequeathed {
            memory: self.written()?,
            sockets: &self.sockets,
        };
        bequeathed.hand_over(true)?;
        Ok(bequeathed)
    }
}

/// Descriptors that survive the execution of another program.
pub(super) struct Bequeathed<'a> {
    memory: File,
    sockets: &'a [Inherited],
}

impl Bequeathed<'_> {
    /// The value of [`VARIABLE`].
    pub(super) fn value(&self) -> String {
        self.memory.as_raw_fd().to_string()
    }

    fn hand_over(&self, hand_over: bool) -> io::Result<()> {
        net::hand_over(&self.memory, hand_over)?;
        let mut sockets = self.sockets.iter();
        sockets.try_for_each(|each| net::hand_over(&each.socket, hand_over))
    }
}

impl Drop for Bequeathed<'_> {
    fn drop(&mut self) {
        // It cannot fail for descriptors that are open.
        let _ = self.hand_over(false);
    }
}
