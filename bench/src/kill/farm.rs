//! The four destinations, and what happens to them.

use std::env;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::destination::{BUSY, NORMAL, READY};
use crate::running::Running;
use crate::sys::{self, Signal};

/// How long a destination may take to start.
const PATIENCE: Duration = Duration::from_secs(5);

/// What happens to the farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blow {
    /// SIGKILL to the first.
    Kill,
    /// SIGSTOP to the second.
    Stall,
    /// The third answers 503.
    Busy,
    /// All are as at the start.
    BringBack,
}

pub(super) struct Farm {
    port: u16,
    folder: PathBuf,
    /// `None`: it was killed.
    processes: Vec<Option<Running>>,
}

impl Farm {
    /// `count` destinations on `port` of addresses in a row.
    ///
    /// # Errors
    /// One does not start.
    pub(super) fn start(count: usize, port: u16, folder: &Path) -> Result<Self> {
        let mut farm = Self {
            port,
            folder: folder.to_owned(),
            processes: Vec::new(),
        };
        for number in 0..count {
            let process = farm.destination(number)?;
            farm.processes.push(Some(process));
        }
        Ok(farm)
    }

    /// The address of destination `number`.
    pub(super) fn address(&self, number: usize) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 1 + number as u8), self.port)
    }

    pub(super) fn addresses(&self) -> Vec<SocketAddrV4> {
        let numbers = 0..self.processes.len();
        numbers.map(|number| self.address(number)).collect()
    }

    fn destination(&self, number: usize) -> Result<Running> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["destination", "--listen", &self.address(number).to_string()]);
        let name = format!("destination-{}", number + 1);
        let mut running = Running::start(&name, command, &self.folder)?;
        let begin = Instant::now();
        while running.said(READY) == 0 {
            running.check()?;
            ensure!(begin.elapsed() < PATIENCE, "{name} is not ready");
            sleep(Duration::from_millis(5));
        }
        Ok(running)
    }

    /// # Errors
    /// A destination has ended by itself, or does not start again.
    pub(super) fn strike(&mut self, blow: Blow) -> Result<()> {
        match blow {
            Blow::Kill => {
                let victim = self.processes[0].take().context("it is dead already")?;
                sys::signal(victim.id(), Signal::Kill)?;
            }
            Blow::Stall => sys::signal(self.running(1)?.id(), Signal::Stop)?,
            Blow::Busy => self.running(2)?.tell(BUSY)?,
            Blow::BringBack => {
                self.processes[0] = Some(self.destination(0)?);
                sys::signal(self.running(1)?.id(), Signal::GoOn)?;
                self.running(2)?.tell(NORMAL)?;
            }
        }
        Ok(())
    }

    fn running(&mut self, number: usize) -> Result<&mut Running> {
        self.processes[number].as_mut().context("it is dead")
    }

    /// Fails unless all are there.
    ///
    /// # Errors
    /// One has ended.
    pub(super) fn check(&mut self) -> Result<()> {
        let mut all = self.processes.iter_mut().flatten();
        all.try_for_each(Running::check)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // One that is stopped would not end when asked to.
        for running in self.processes.iter().flatten() {
            let _ = sys::signal(running.id(), Signal::GoOn);
        }
    }
}
