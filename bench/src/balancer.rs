//! The balancers that calls are played through, and how an operator changes
//! their farm: the configuration is written anew and the process is told.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::document::Machine;
use crate::kamailio;
use crate::process::{self, Usage};
use crate::running::{Running, viaduct_beside, viaduct_version};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// With these lines at the top of its file.
    Viaduct { settings: &'static str },
    /// With this script, of which `define` chooses a part.
    Kamailio {
        script: &'static str,
        define: Option<&'static str>,
    },
}

/// How a destination stands in the balancer's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    Draining,
    /// Not named there.
    Out,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Destination {
    pub(crate) address: SocketAddrV4,
    pub(crate) state: State,
    pub(crate) weight: u32,
    /// Since when the state is so.
    pub(crate) since: u64,
}

impl Destination {
    /// One that is active from the beginning.
    pub(crate) fn new(address: SocketAddrV4) -> Self {
        Self {
            address,
            state: State::Active,
            weight: 1,
            since: 0,
        }
    }
}

/// This machine, and what each program says of its version: a missing one is
/// noticed before anything is run.
///
/// # Errors
/// One cannot be run.
pub(crate) fn machine(programs: &[Program]) -> Result<Machine> {
    let mut versions = Vec::new();
    let is_viaduct = |one: &Program| matches!(one, Program::Viaduct { .. });
    if programs.iter().any(is_viaduct) {
        let said = viaduct_version(&viaduct_beside()?)?;
        versions.push(("viaduct".to_owned(), said));
    }
    if !programs.iter().all(is_viaduct) {
        versions.push(("kamailio".to_owned(), kamailio::version()?));
    }
    Ok(Machine::new(versions))
}

/// One or more instances under way, each with the same configuration.
pub(crate) struct Balancer {
    program: Program,
    instances: Vec<Running>,
    folder: PathBuf,
    /// How often they were told of another farm.
    changes: usize,
    /// What those took that were killed.
    spent: Usage,
}

impl Balancer {
    /// Starts an instance on each of `listen`; `folder` gets configuration
    /// and logs.
    ///
    /// # Errors
    /// One does not start, or the folder cannot be written.
    pub(crate) fn start(
        program: Program,
        advertised: SocketAddrV4,
        listen: &[SocketAddrV4],
        farm: &[Destination],
        folder: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let mut balancer = Self {
            program,
            instances: Vec::new(),
            folder: fs::canonicalize(folder)?,
            changes: 0,
            spent: Usage::default(),
        };
        balancer.write(farm)?;
        for (number, listen) in listen.iter().enumerate() {
            let command = balancer.command(*listen, advertised)?;
            let name = format!("instance-{}", number + 1);
            let mut running = Running::start(&name, command, folder)?;
            running.wait(|running| balancer.is_ready(running))?;
            balancer.instances.push(running);
        }
        Ok(balancer)
    }

    fn command(&self, listen: SocketAddrV4, advertised: SocketAddrV4) -> Result<Command> {
        let folder = &self.folder;
        let mut command;
        match self.program {
            Program::Viaduct { .. } => {
                command = Command::new(viaduct_beside()?);
                command
                    .arg("run")
                    .arg("--config")
                    .arg(self.configuration())
                    .arg("--secret-file")
                    .arg(folder.join("secret"))
                    .args(["--listen", &listen.to_string()])
                    .args(["--advertise", &advertised.to_string()])
                    .args(["--workers", "2"]);
            }
            Program::Kamailio { script, define } => {
                command = kamailio::command(listen, script, folder)?;
                command.args(["-m", "256", "-M", "16"]);
                if let Some(define) = define {
                    command.args(["-A", define]);
                }
            }
        }
        Ok(command)
    }

    /// The file that names the destinations.
    fn configuration(&self) -> PathBuf {
        self.folder.join(match self.program {
            Program::Viaduct { .. } => "viaduct.toml",
            Program::Kamailio { .. } => kamailio::LIST,
        })
    }

    fn is_ready(&self, running: &Running) -> bool {
        match self.program {
            Program::Viaduct { .. } => running.said("ready:") > 0,
            Program::Kamailio { .. } => kamailio::tell(&self.folder, "core.uptime").is_ok(),
        }
    }

    /// Has every instance use this farm from now on.
    ///
    /// # Errors
    /// An instance has ended, or refuses.
    pub(crate) fn apply(&mut self, farm: &[Destination]) -> Result<()> {
        self.write(farm)?;
        for running in &mut self.instances {
            running.check()?;
        }
        self.changes += 1;
        match self.program {
            Program::Viaduct { .. } => {
                for running in &self.instances {
                    running.signal(Signal::HUP)?;
                }
                Ok(())
            }
            Program::Kamailio { .. } => kamailio::tell(&self.folder, "dispatcher.reload"),
        }
    }

    /// Writes the configuration beside and moves it there, whole; nobody is
    /// told.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, farm: &[Destination]) -> Result<()> {
        let text = match self.program {
            Program::Viaduct { settings } => settings.to_owned() + &viaduct_toml(farm),
            Program::Kamailio { .. } => dispatcher_list(farm),
        };
        let path = self.configuration();
        let beside = path.with_extension("new");
        fs::write(&beside, text)
            .and_then(|()| fs::rename(&beside, &path))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The first instance.
    pub(crate) fn first(&mut self) -> &mut Running {
        &mut self.instances[0]
    }

    /// Where it keeps its files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Kills the last instance.
    ///
    /// # Errors
    /// It has ended already.
    pub(crate) fn kill_one(&mut self) -> Result<()> {
        let victim = self.instances.pop().context("no instance is left")?;
        self.spent += process::usage(victim.id())?;
        victim.signal(Signal::KILL)?;
        Ok(())
    }

    /// Fails unless every instance says that it took every farm; Kamailio has
    /// answered each time already.
    ///
    /// # Errors
    /// One has not.
    pub(crate) fn check(&self) -> Result<()> {
        if matches!(self.program, Program::Viaduct { .. }) {
            for running in &self.instances {
                let took = running.said("reloaded:");
                let words = || {
                    let (changes, last) = (self.changes, running.last_words());
                    format!("it took {took} of {changes} new farms{last}")
                };
                ensure!(took == self.changes, words());
            }
        }
        Ok(())
    }

    /// What all instances took.
    ///
    /// # Errors
    /// One has ended.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        let mut sum = self.spent;
        for running in &mut self.instances {
            running.check()?;
            sum += process::usage(running.id())?;
        }
        Ok(sum)
    }
}

fn viaduct_toml(farm: &[Destination]) -> String {
    let mut text = "[[set]]\nname = \"farm\"\ndestinations = [\n".to_owned();
    for one in farm {
        let state = match one.state {
            State::Active => "active",
            State::Draining => "draining",
            State::Out => continue,
        };
        let Destination {
            address, weight, ..
        } = one;
        let _ = writeln!(
            text,
            "  {{ uri = \"sip:{address}\", weight = {weight}, state = \"{state}\" }},"
        );
    }
    text + "]\n"
}

/// The destinations as Kamailio wants them.
pub(crate) fn dispatcher_list(farm: &[Destination]) -> String {
    let mut text = String::new();
    for one in farm {
        // 4: disabled, for Kamailio knows no draining.
        let flags = match one.state {
            State::Active => 0,
            State::Draining => 4,
            State::Out => continue,
        };
        let _ = writeln!(
            text,
            "1 sip:{} {flags} 0 weight={}",
            one.address, one.weight
        );
    }
    text
}
