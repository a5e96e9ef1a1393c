//! The programs that are compared, and one of them running.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};

use super::network::Network;
use crate::forward::Engine;
use crate::pin;
use crate::sys::{self, Signal};

const KAMAILIO_CONFIGURATION: &str = include_str!("../../kamailio/stateless.cfg");

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program between callers and farm.
#[derive(Clone, Debug)]
pub(crate) enum Program {
    /// None: callers and farm talk to each other.
    Direct,
    /// A forwarder of this package that does not parse.
    Bare(Engine),
    /// Kamailio, stateless, one process.
    Kamailio,
    /// Viaduct, from this binary.
    Viaduct {
        binary: PathBuf,
        /// `--gso`, where it is not the default.
        gso: Option<&'static str>,
        workers: usize,
    },
}

/// One line of a comparison: a program and what it is given.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) program: Program,
    /// All messages of one length, whatever the others get.
    pub(crate) equal: bool,
}

/// The Viaduct binary that was built beside this one.
fn viaduct_beside() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("viaduct"))
}

/// Every contender, and `others`: further Viaduct binaries.
///
/// # Errors
/// The path of this program is not known.
pub(crate) fn all(others: &[PathBuf]) -> Result<Vec<Contender>> {
    let viaduct = |gso, workers| -> Result<Program> {
        Ok(Program::Viaduct {
            binary: viaduct_beside()?,
            gso,
            workers,
        })
    };
    let rows = [
        ("direct", Program::Direct, false),
        ("bare-single", Program::Bare(Engine::Single), false),
        ("bare-mmsg", Program::Bare(Engine::Mmsg), false),
        ("bare-gso", Program::Bare(Engine::Gso), false),
        ("bare-gso-equal", Program::Bare(Engine::Gso), true),
        ("kamailio", Program::Kamailio, false),
        ("viaduct-off", viaduct(Some("off"), 1)?, false),
        ("viaduct-exact", viaduct(Some("exact"), 1)?, false),
        // Padding is the default.
        ("viaduct-pad", viaduct(None, 1)?, false),
        ("viaduct-pad-equal", viaduct(None, 1)?, true),
        (TWO_WORKERS, viaduct(None, 2)?, false),
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
        },
        equal: false,
    });
    Ok(rows.into_iter().chain(others).collect())
}

/// The contender that has the generator's core as well.
pub(crate) const TWO_WORKERS: &str = "viaduct-pad-2w";

impl Contender {
    /// Whether it hands messages on unchanged.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.program, Program::Bare(_) | Program::Direct)
    }

    /// The first line that the program says of its version.
    ///
    /// # Errors
    /// The program is missing or does not run.
    pub(crate) fn version(&self) -> Result<String> {
        let (program, flag, remedy) = match &self.program {
            Program::Direct | Program::Bare(_) => {
                return Ok(format!("viaduct-bench {}", env!("CARGO_PKG_VERSION")));
            }
            Program::Kamailio => (
                PathBuf::from("kamailio"),
                "-v",
                "install it: apt-get install kamailio",
            ),
            Program::Viaduct { binary, .. } => (
                binary.clone(),
                "--version",
                "build it: cargo build --release",
            ),
        };
        let output = Command::new(&program)
            .arg(flag)
            .output()
            .with_context(|| format!("{} cannot be run; {remedy}", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().next().unwrap_or_default();
        ensure!(
            !line.is_empty(),
            "{} {flag} says nothing",
            program.display()
        );
        Ok(line.to_owned())
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
        let log = out.join(format!("{}.log", self.name));
        let mut command = network.place(command);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("cannot write the log")?);
        // A child inherits the cores of the thread that starts it.
        match self.program {
            Program::Viaduct { workers: 2.., .. } => pin(&[cores.contender, cores.generator])?,
            _ => pin(&[cores.contender])?,
        }
        let child = command.spawn();
        pin(&[cores.generator])?;
        Ok(Some(Running {
            name: self.name.clone(),
            child: child.with_context(|| format!("{} cannot be started", self.name))?,
            log,
        }))
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
            Program::Kamailio => {
                let folder = fs::canonicalize(out)?;
                let configuration = folder.join("kamailio.cfg");
                let list = folder.join("dispatcher.list");
                let lines: String = destinations.map(|to| format!("1 sip:{to}\n")).collect();
                fs::write(&configuration, KAMAILIO_CONFIGURATION)?;
                fs::write(&list, lines)?;
                command = Command::new("kamailio");
                command
                    .args(["-DD", "-E", "-l", &format!("udp:{listen}")])
                    // Its default allocator, made for debugging, costs it 2 us a message.
                    .args(["-m", "64", "-M", "8", "-x", "tlsf", "-X", "tlsf"])
                    .arg("-f")
                    .arg(configuration)
                    .arg(format!("--substdef=!DISPATCHER_LIST!{}!", list.display()))
                    .arg("-w")
                    .arg(&folder)
                    .arg("-Y")
                    .arg(&folder);
            }
            Program::Viaduct {
                binary,
                gso,
                workers,
            } => {
                command = Command::new(binary);
                command.args(["run", "--listen", &listen]);
                command.args(["--workers", &workers.to_string()]);
                if let Some(gso) = gso {
                    command.args(["--gso", gso]);
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

/// A contender under way; ended when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fails with what it last said, if it has ended of its own accord.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!(
                "{} did not start, or ended by itself ({status}){}",
                self.name,
                self.last_words()
            );
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n  ");
        format!("; its last words in {}:\n  {last}", self.log.display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to ask for.
        let _ = sys::signal(self.child.id(), Signal::End);
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begin.elapsed() > PATIENCE {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}
