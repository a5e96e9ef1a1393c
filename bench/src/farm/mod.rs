//! A farm that can be killed, and callers that notice.
//!
//! Destinations are processes of their own: [`destination`] is what each of
//! them runs. They are not sipps, for one has to change over to 503 and back
//! while its calls go on, and says with which branch a call came to it.

pub(crate) mod caller;
pub(crate) mod destination;

use std::env;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::Signal;

use crate::running::Running;
use crate::schedule::Schedule;
use destination::READY;

/// How long to sleep when nothing has come.
const NAP: Duration = Duration::from_micros(500);

pub(crate) struct Farm {
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
    pub(crate) fn start(count: usize, port: u16, folder: &Path) -> Result<Self> {
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
    pub(crate) fn address(&self, number: usize) -> SocketAddrV4 {
        SocketAddrV4::new(Ipv4Addr::new(127, 1, 0, 1 + number as u8), self.port)
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddrV4> {
        let numbers = 0..self.processes.len();
        numbers.map(|number| self.address(number)).collect()
    }

    fn destination(&self, number: usize) -> Result<Running> {
        let mut command = Command::new(env::current_exe()?);
        command.args(["destination", "--listen", &self.address(number).to_string()]);
        let name = format!("destination-{}", number + 1);
        let mut running = Running::start(&name, command, &self.folder)?;
        running.wait(|running| running.said(READY) > 0)?;
        Ok(running)
    }

    /// Sends a signal to destination `number`.
    ///
    /// # Errors
    /// It is dead.
    pub(crate) fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        let running = self.processes[number].as_ref().context("it is dead")?;
        Ok(running.signal(signal)?)
    }

    /// Writes a line to the standard input of destination `number`.
    ///
    /// # Errors
    /// It is dead.
    pub(crate) fn tell(&mut self, number: usize, line: &str) -> Result<()> {
        let running = self.processes[number].as_mut();
        running.context("it is dead")?.tell(line)
    }

    /// SIGKILL to destination `number`.
    ///
    /// # Errors
    /// It is dead already.
    pub(crate) fn kill(&mut self, number: usize) -> Result<()> {
        self.signal(number, Signal::KILL)?;
        self.processes[number] = None;
        Ok(())
    }

    /// Ends destination `number`, as an operator does who takes it away.
    pub(crate) fn end(&mut self, number: usize) {
        self.processes[number] = None;
    }

    /// Starts destination `number` anew.
    ///
    /// # Errors
    /// It does not start.
    pub(crate) fn bring_back(&mut self, number: usize) -> Result<()> {
        self.processes[number] = Some(self.destination(number)?);
        Ok(())
    }

    /// Fails unless all are there.
    ///
    /// # Errors
    /// One has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        let mut all = self.processes.iter_mut().flatten();
        all.try_for_each(Running::check)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        // One that is stopped would not end when asked to.
        for running in self.processes.iter().flatten() {
            let _ = running.signal(Signal::CONT);
        }
    }
}

/// Who plays calls. All times are in nanoseconds since the beginning.
pub(crate) trait Player {
    /// A new call.
    ///
    /// # Errors
    /// As of every method here: the socket does not send or receive.
    fn start(&mut self, now: u64) -> Result<()>;

    /// Takes what has come. Returns how many datagrams that was.
    fn receive(&mut self, now: u64) -> Result<usize>;

    /// Does what is due.
    fn timers(&mut self, now: u64) -> Result<()>;

    /// Calls that are not over.
    fn going_on(&self) -> u64;

    /// Notes that nothing was done for so long.
    fn held_up(&mut self, milliseconds: u64);
}

/// Plays calls: `rate` a second begin as long as `meanwhile`, which is given
/// the time since `begin`, says so; then until all have ended.
///
/// # Errors
/// Those of `meanwhile` and of the player's sockets.
pub(crate) fn play<P: Player>(
    player: &mut P,
    rate: u32,
    begin: Instant,
    mut meanwhile: impl FnMut(u64, &mut P) -> Result<bool>,
) -> Result<()> {
    let mut schedule = Schedule::new(f64::from(rate));
    let mut now = 0;
    loop {
        let last = now;
        now = begin.elapsed().as_nanos() as u64;
        player.held_up((now - last) / 1_000_000);
        let more = meanwhile(now, player)?;
        while more && schedule.take(now).is_some() {
            player.start(now)?;
        }
        // What has come goes first: it may be what a timer waits for.
        let moved = player.receive(now)?;
        player.timers(now)?;
        if !more && player.going_on() == 0 {
            return Ok(());
        }
        if moved == 0 {
            sleep(NAP);
        }
    }
}
