//! The programs that are compared, and one of them running.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::network::Network;
use crate::balancer::{Destination, dispatcher_list};
use crate::forward::Engine;
use crate::kamailio;
use crate::pin;
use crate::running::{Running, viaduct_beside, viaduct_version};

const KAMAILIO_STATELESS: &str = include_str!("../../kamailio/stateless.cfg");
const KAMAILIO_STATEFUL: &str = include_str!("../../kamailio/stateful.cfg");

/// Transactions that stateful Viaduct may remember: 60,000 a second for the
/// 32 s of Timer L, and some more.
const TRANSACTIONS: &str = "2097152";

/// Where copies of messages go.
pub(crate) const COLLECTOR: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 3, 0, 1), 9060);

/// The names of the contenders: nothing between, and forwarders that do not parse.
pub(crate) const DIRECT: &str = "direct";
pub(crate) const SINGLE: &str = "bare-single";
pub(crate) const MMSG: &str = "bare-mmsg";
pub(crate) const GSO: &str = "bare-gso";
pub(crate) const GSO_EQUAL: &str = "bare-gso-equal";

/// Kamailio without and with transactions.
pub(crate) const KAMAILIO: &str = "kamailio";
pub(crate) const KAMAILIO_TM: &str = "kamailio-tm";

/// Viaduct as it comes, which is padding, and by other ways to send.
pub(crate) const STATELESS: &str = "viaduct-pad";
pub(crate) const STATELESS_EQUAL: &str = "viaduct-pad-equal";
pub(crate) const OFF: &str = "viaduct-off";
pub(crate) const EXACT: &str = "viaduct-exact";

/// The contender that has the generator's core as well.
pub(crate) const TWO_WORKERS: &str = "viaduct-pad-2w";

/// With transactions for INVITE.
pub(crate) const STATEFUL: &str = "viaduct-stateful";

/// Observed.
pub(crate) const WATCHED: &str = "viaduct-watched";
pub(crate) const MIRRORED: &str = "viaduct-mirrored";

/// A program between callers and farm.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// None: callers and farm talk to each other.
    Direct,
    /// A forwarder of this package that does not parse.
    Bare(Engine),
    /// Kamailio, one process.
    Kamailio { stateful: bool },
    /// Viaduct, from this binary.
    Viaduct {
        binary: PathBuf,
        /// `--gso`, where it is not the default.
        gso: Option<&'static str>,
        workers: usize,
        /// `--stateful INVITE`.
        stateful: bool,
        observed: Observed,
    },
}

/// How closely operators look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observed {
    /// Nobody looks, nor does it look at its destinations.
    No,
    /// Its destinations are probed, and each second somebody asks for metrics
    /// and status.
    Watched,
    /// Each message is copied to a collector besides.
    Mirrored,
}

/// One line of a comparison: a program and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) program: Program,
    /// All messages of one length, whatever the others get.
    pub(crate) equal: bool,
}

/// Every contender, and `others`: further Viaduct binaries.
///
/// # Errors
/// The path of this program is not known.
pub(crate) fn all(others: &[PathBuf]) -> Result<Vec<Contender>> {
    let binary = viaduct_beside()?;
    let viaduct = |gso, workers, stateful| Program::Viaduct {
        binary: binary.clone(),
        gso,
        workers,
        stateful,
        observed: Observed::No,
    };
    let observed = |observed| Program::Viaduct {
        binary: binary.clone(),
        gso: None,
        workers: 1,
        stateful: false,
        observed,
    };
    let kamailio = |stateful| Program::Kamailio { stateful };
    let rows = [
        (DIRECT, Program::Direct, false),
        (SINGLE, Program::Bare(Engine::Single), false),
        (MMSG, Program::Bare(Engine::Mmsg), false),
        (GSO, Program::Bare(Engine::Gso), false),
        (GSO_EQUAL, Program::Bare(Engine::Gso), true),
        (KAMAILIO, kamailio(false), false),
        (KAMAILIO_TM, kamailio(true), false),
        (OFF, viaduct(Some("off"), 1, false), false),
        (EXACT, viaduct(Some("exact"), 1, false), false),
        (STATELESS, viaduct(None, 1, false), false),
        (STATELESS_EQUAL, viaduct(None, 1, false), true),
        (TWO_WORKERS, viaduct(None, 2, false), false),
        (STATEFUL, viaduct(None, 1, true), false),
        (WATCHED, observed(Observed::Watched), false),
        (MIRRORED, observed(Observed::Mirrored), false),
    ];
    let rows = rows.map(|(name, program, equal)| Contender {
        name: name.to_owned(),
        program,
        equal,
    });
    let others = others.iter().enumerate().map(|(index, path)| Contender {
        name: format!("viaduct-{}", index + 2),
        program: Program::Viaduct {
            binary: path.clone(),
            gso: None,
            workers: 1,
            stateful: false,
            observed: Observed::No,
        },
        equal: false,
    });
    Ok(rows.into_iter().chain(others).collect())
}

impl Contender {
    /// Whether it hands messages on unchanged.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.program, Program::Bare(_) | Program::Direct)
    }

    /// Whether INVITE makes a transaction there, and is answered with 100.
    pub(crate) fn is_stateful(&self) -> bool {
        match self.program {
            Program::Direct | Program::Bare(_) => false,
            Program::Kamailio { stateful } | Program::Viaduct { stateful, .. } => stateful,
        }
    }

    /// Whether processes or threads of its own, or the generator, take turns on a core.
    pub(crate) fn waits_for_its_own(&self) -> bool {
        let several = matches!(
            self.program,
            Program::Kamailio { .. } | Program::Viaduct { workers: 2.., .. }
        );
        several || self.observed() != Observed::No
    }

    /// How closely it is looked at.
    pub(crate) fn observed(&self) -> Observed {
        match self.program {
            Program::Viaduct { observed, .. } => observed,
            _ => Observed::No,
        }
    }

    /// Where its admin API is, with the files of the folder `out`.
    pub(crate) fn admin(&self, out: &Path) -> PathBuf {
        out.join(&self.name).with_extension("sock")
    }

    /// The first line that the program says of its version.
    ///
    /// # Errors
    /// The program is missing or does not run.
    pub(crate) fn version(&self) -> Result<String> {
        match &self.program {
            Program::Direct | Program::Bare(_) => {
                Ok(format!("viaduct-bench {}", env!("CARGO_PKG_VERSION")))
            }
            Program::Kamailio { .. } => kamailio::version(),
            Program::Viaduct { binary, .. } => viaduct_version(binary),
        }
    }

    /// Starts it on core `core` between the listener and the destinations of
    /// `network`, for `peers` callers; `None` where there is nothing between.
    /// Its configuration and log go to the folder `out`.
    ///
    /// # Errors
    /// It cannot be started, or `out` cannot be written.
    pub(crate) fn start(
        &self,
        network: &Network,
        peers: u16,
        cores: Cores,
        out: &Path,
    ) -> Result<Option<Running>> {
        let Some(command) = self.command(network, peers, out)? else {
            return Ok(None);
        };
        // A child inherits the cores of the thread that starts it.
        match self.program {
            Program::Viaduct { workers: 2.., .. } => pin(&[cores.contender, cores.generator])?,
            _ => pin(&[cores.contender])?,
        }
        let running = Running::start(&self.name, network.place(command), out);
        pin(&[cores.generator])?;
        running.map(Some)
    }

    fn command(&self, network: &Network, peers: u16, out: &Path) -> Result<Option<Command>> {
        let listen = network.listen.to_string();
        let destinations = network.destinations().map(|address| address.to_string());
        let mut command;
        match &self.program {
            Program::Direct => return Ok(None),
            Program::Bare(engine) => {
                let engine = match engine {
                    Engine::Single => "single",
                    Engine::Mmsg => "mmsg",
                    Engine::Gso => "gso",
                };
                command = Command::new(env::current_exe()?);
                command.args(["forward", "--engine", engine, "--listen", &listen]);
                command.args(["--peers", &peers.to_string()]);
                destinations.for_each(|to| {
                    command.args(["--to", &to]);
                });
            }
            Program::Kamailio { stateful } => {
                let folder = fs::canonicalize(out)?;
                let farm: Vec<_> = network.destinations().map(Destination::new).collect();
                fs::write(folder.join(kamailio::LIST), dispatcher_list(&farm))?;
                // Shared memory is taken as it is needed, up to these MiB.
                let (script, memory) = if *stateful {
                    (KAMAILIO_STATEFUL, "4096")
                } else {
                    (KAMAILIO_STATELESS, "64")
                };
                command = kamailio::command(network.listen, script, &folder)?;
                command.args(["-m", memory, "-M", "8"]);
            }
            Program::Viaduct {
                binary,
                gso,
                workers,
                stateful,
                observed,
            } => {
                command = Command::new(binary);
                // Binaries of before know no such option.
                let health = if *observed == Observed::No {
                    "off"
                } else {
                    "on"
                };
                command.env("VIADUCT_HEALTH", health);
                command.args(["run", "--listen", &listen]);
                if *observed != Observed::No {
                    command.arg("--admin").arg(self.admin(out));
                    command.args(["--admin-listen", "127.0.0.1:0"]);
                }
                if *observed == Observed::Mirrored {
                    command.args(["--mirror", &COLLECTOR.to_string()]);
                }
                command.args(["--workers", &workers.to_string()]);
                if let Some(gso) = gso {
                    command.args(["--gso", gso]);
                }
                if *stateful {
                    command.args(["--stateful", "INVITE", "--transactions", TRANSACTIONS]);
                }
                destinations.for_each(|to| {
                    command.args(["--to", &to]);
                });
            }
        }
        Ok(Some(command))
    }
}

/// Who runs where.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    pub(crate) contender: usize,
    pub(crate) generator: usize,
}
