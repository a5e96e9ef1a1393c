//! Why there is no start, and what mends that.

use std::io;
use std::net::SocketAddr;

use super::SecretFileError;
use crate::config::AccountingTarget;

/// Why an instance did not start.
#[derive(Debug)]
pub enum StartError {
    /// The secret could not be read or made.
    Secret(SecretFileError),
    /// A listener could not be bound.
    Bind(SocketAddr, io::Error),
    /// Names cannot be resolved.
    Resolver(io::Error),
    /// What takes the lines of accounting cannot be opened.
    Accounting(AccountingTarget, io::Error),
    /// There is no memory for so many transactions.
    Transactions(usize),
    /// There is no thread to be had.
    Thread(io::Error),
    /// A system call of setting up failed.
    System(&'static str, io::Error),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(error) => error.fmt(f),
            Self::Bind(address, error) => {
                write!(f, "cannot listen on udp:{address}: {error}")?;
                match error.kind() {
                    io::ErrorKind::AddrInUse => {
                        write!(
                            f,
                            "\n  help: another program holds it; `ss -lunp` shows which"
                        )
                    }
                    io::ErrorKind::AddrNotAvailable => {
                        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
                        write!(
                            f,
                            "\n  help: no interface has this address, or has it `tentative` for \
                             a second or two (IPv6); `ip address` lists them; on a stand-by \
                             that takes it over later: \
                             sysctl net.{family}.ip_nonlocal_bind=1"
                        )
                    }
                    io::ErrorKind::PermissionDenied => {
                        write!(
                            f,
                            "\n  help: a port below 1024 takes CAP_NET_BIND_SERVICE \
                             (in a unit both AmbientCapabilities= and CapabilityBoundingSet=)"
                        )
                    }
                    _ => Ok(()),
                }
            }
            Self::Resolver(error) => write!(
                f,
                "names cannot be resolved: {error}\n  help: give --resolver ADDR[:PORT]"
            ),
            Self::Accounting(target, error) => write!(
                f,
                "cannot write accounting to {target}: {error}\n  help: have its folder exist and \
                 be writable, or give another --accounting"
            ),
            Self::Transactions(most) => write!(
                f,
                "there is no memory for {most} transactions\n  help: lower --transactions"
            ),
            Self::Thread(error) => write!(
                f,
                "cannot start a thread: {error}\n  help: have the user and the cgroup allow more \
                 (ulimit -u; in the unit: TasksMax=)"
            ),
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl StartError {
    /// Of what starts a thread too: that there is none to be had, or else what
    /// `other` says.
    pub(super) fn or_thread<E: From<Self>>(
        other: impl FnOnce(io::Error) -> E,
    ) -> impl FnOnce(io::Error) -> E {
        |error| match error.kind() {
            io::ErrorKind::WouldBlock => Self::Thread(error).into(),
            _ => other(error),
        }
    }

    /// Of what resolves names.
    pub(super) fn resolver(error: io::Error) -> Self {
        Self::or_thread(Self::Resolver)(error)
    }
}
