//! The programs that are compared, and one of them running.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fmt, thread};

use anyhow::{Context, Result, bail, ensure};

use crate::forward::Engine;
use crate::{pin, sys};

const KAMAILIO_CONFIGURATION: &str = include_str!("../../kamailio/stateless.cfg");

/// How long a program may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(5);

/// A program between callers and farm.
#[derive(Clone, Debug)]
pub(crate) enum Contender {
    /// A forwarder of this package that does not parse.
    Bare(Engine),
    /// Kamailio, stateless, one process.
    Kamailio,
    /// Viaduct, one worker, from this binary.
    Viaduct(PathBuf),
    /// Another build of Viaduct: its number and binary.
    Other(usize, PathBuf),
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bare(Engine::Single) => f.write_str("bare single"),
            Self::Bare(Engine::Mmsg) => f.write_str("bare mmsg"),
            Self::Kamailio => f.write_str("kamailio"),
            Self::Viaduct(_) => f.write_str("viaduct"),
            Self::Other(number, _) => write!(f, "viaduct-{number}"),
        }
    }
}

/// The Viaduct binary that was built beside this one.
pub(crate) fn viaduct_beside() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("viaduct"))
}

impl Contender {
    /// Whether it hands messages on unchanged.
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self, Self::Bare(_))
    }

    /// The first line that the program says of its version.
    ///
    /// # Errors
    /// The program is missing or does not run.
    pub(crate) fn version(&self) -> Result<String> {
        let (program, flag, remedy) = match self {
            Self::Bare(_) => return Ok(format!("viaduct-bench {}", env!("CARGO_PKG_VERSION"))),
            Self::Kamailio => (
                PathBuf::from("kamailio"),
                "-v",
                "install it: apt-get install kamailio",
            ),
            Self::Viaduct(path) | Self::Other(_, path) => {
                (path.clone(), "--version", "build it: cargo build --release")
            }
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

    /// Starts it on `core` between `listen` and the destinations. Its
    /// configuration and log go to the folder `out`.
    ///
    /// # Errors
    /// It cannot be started, or `out` cannot be written.
    pub(crate) fn start(&self, network: &Network, core: usize, out: &Path) -> Result<Running> {
        let log = out.join(format!("{self}.log").replace(' ', "-"));
        let mut command = self.command(network, out)?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).context("cannot write the log")?);
        // A child inherits the cores of the thread that starts it.
        let own = network.generator_core;
        pin(core)?;
        let child = command.spawn();
        pin(own)?;
        Ok(Running {
            name: self.to_string(),
            child: child.with_context(|| format!("{self} cannot be started"))?,
            log,
        })
    }

    fn command(&self, network: &Network, out: &Path) -> Result<Command> {
        let listen = network.listen.to_string();
        let destinations = network.destinations().map(|address| address.to_string());
        let mut command;
        match self {
            Self::Bare(engine) => {
                let engine = match engine {
                    Engine::Single => "single",
                    Engine::Mmsg => "mmsg",
                };
                command = Command::new(env::current_exe()?);
                command.args(["forward", "--engine", engine, "--listen", &listen]);
                destinations.for_each(|to| {
                    command.args(["--to", &to]);
                });
            }
            Self::Kamailio => {
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
            Self::Viaduct(path) | Self::Other(_, path) => {
                command = Command::new(path);
                command.args(["run", "--listen", &listen, "--workers", "1"]);
                destinations.for_each(|to| {
                    command.args(["--to", &to]);
                });
            }
        }
        Ok(command)
    }
}

/// The addresses of one comparison, all on loopback.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    pub(crate) listen: SocketAddr,
    pub(crate) base_port: u16,
    pub(crate) count: u16,
    pub(crate) generator_core: usize,
}

impl Network {
    fn destinations(&self) -> impl Iterator<Item = SocketAddr> {
        let ports = self.base_port..self.base_port + self.count;
        ports.map(|port| (Ipv4Addr::LOCALHOST, port).into())
    }
}

/// A contender under way; ended when dropped.
pub(crate) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

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
                "{} ended by itself ({status}){}",
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
        format!(", and said in {}:\n  {last}", self.log.display())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to ask for.
        let _ = sys::terminate(self.child.id());
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
