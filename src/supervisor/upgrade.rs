//! Another binary, or the same one with what only a start can change: the
//! process executes it in its own place, and it inherits the sockets, in which
//! the kernel keeps what comes meanwhile.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::MemfdFlags;
use rustix::process::{Pid, Signal, getpid, getppid, kill_process, kill_process_group};
use sd_notify::NotifyState;
use serde::Deserialize;
use signal_hook::consts::{SIGINT, SIGPIPE, SIGTERM};
use tracing::{error, info};

use super::ending::HEARD_AFTER;
use super::inheritance::{FORMAT, Inheritance, Inherited, VARIABLE, now};
use super::notify::notify;
use super::run::{Failure, Supervisor};
use super::signals::Ear;
use super::{Instance, StartError, secret_file, sockets};
use crate::config::{Config, Diagnostic};
use crate::control::{self, Answer, Done, Order, Refusal};
use crate::net::Socket;
use crate::resolver::{self, Followed};
use crate::transaction::Relay;

/// How long the check by the next binary may take.
const CHECK: Duration = Duration::from_secs(10);
/// How long transactions that nobody has answered are waited for, and requests
/// whose next hop is being resolved.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the control thread has to send the answer to an order.
const ANSWERED_AFTER: Duration = Duration::from_millis(100);
/// How long the end of a child or of a wait may go unnoticed.
const POLL: Duration = Duration::from_millis(5);
/// How long lines of accounting may keep calls waiting.
const LEDGER: Duration = Duration::from_millis(100);
/// Octets of what a check says that are repeated: the last ones, for what is wrong
/// comes behind warnings.
const SAID: usize = 16 << 10;

/// What `viaduct check` of a binary says that can take over from this one.
fn consent() -> String {
    format!("takes over: format {FORMAT}")
}

/// Whether this binary could take over, by this configuration, from the
/// instance that says on stdin what it would hand over; what it says to that.
///
/// # Errors
/// What would keep it from starting.
pub fn rehearse(config: &Config) -> Result<String, Failure> {
    let announced = Inheritance::announced().map_err(|error| {
        format!(
            "what the running instance hands over cannot be read: {error}\n  help: restart it \
             instead"
        )
    })?;
    // Once it runs it ends where it cannot open what it needs.
    let pid = Pid::as_raw(getppid());
    sockets::may_open_files(config, |most| {
        format!("prlimit --pid {pid} --nofile={most}")
    })?;
    let secret = announced.secret()?;
    secret_file::rehearse(config.secret_file.as_deref(), secret.as_ref())?;
    // Sockets that are there stay whatever has become of their address.
    let has_more_workers = config.workers > announced.workers;
    for listener in &config.listeners {
        let address = listener.address;
        let failed = |error| StartError::Bind(address, error);
        if announced.held.contains(&address) && !has_more_workers {
            continue;
        }
        let mut tried = address;
        let mut bind: fn(_, _, _) -> _ = Socket::bind;
        if (announced.held.iter()).any(|held| sockets::overlap(*held, address)) {
            // Beside a live socket another one would take datagrams from it, but
            // not a wildcard from a socket with one of its addresses.
            if address.ip().is_unspecified() && !announced.held.contains(&address) {
                bind = Socket::bind_beside;
            } else {
                tried.set_port(0);
            }
        }
        bind(tried, config.receive_buffer, config.send_buffer).map_err(failed)?;
    }
    // All threads there would be last until this process ends.
    let start = || resolver::start(config).map_err(StartError::resolver);
    let _resolver = config.resolve.then(start).transpose()?;
    let start = || Followed::start(config, Vec::new(), drop).map_err(StartError::resolver);
    let follows = config.sets.iter().any(|set| !set.named.is_empty());
    let _followed = follows.then(start).transpose()?;
    // Nothing of it is written to but the index, four octets a transaction.
    if !config.stateful.methods.is_empty() {
        let relay = |number| Relay::new(&config.stateful, number, config.workers);
        let relays: Result<Vec<_>, _> = (0..config.workers).map(relay).collect();
        relays.map_err(|_| StartError::Transactions(config.stateful.transactions))?;
    }
    let _ledger = super::start_ledger(config, Instant::now())?;
    let _mirror = super::start_mirror(config)?;
    control::rehearse(&config.admin, &announced.held_admin)?;
    // The workers of before still have theirs.
    for _ in announced.workers..config.workers {
        let thread = std::thread::Builder::new().spawn(std::thread::park);
        thread.map_err(StartError::Thread)?;
    }
    Ok(consent())
}

/// What `viaduct check --json` says of a configuration that it cannot use.
#[derive(Deserialize)]
struct Verdict {
    diagnostics: Vec<Diagnostic>,
}

/// The program that this process was started by, as it is found now.
struct Successor {
    program: OsString,
    /// Those behind `run`.
    args: Vec<OsString>,
}

impl Successor {
    fn find() -> Result<Self, Refusal> {
        let mut args = std::env::args_os();
        match (args.next(), args.next()) {
            (Some(program), Some(run)) if run == "run" => Ok(Self {
                program,
                args: args.collect(),
            }),
            _ => Err(Refusal::Conflict(
                "upgrade refused: this process was not started by `viaduct run`".to_owned(),
            )),
        }
    }

    /// Has it check whether it could take over from an instance that hands over
    /// `inheritance`, and does `meanwhile` again and again, until that says that
    /// there is no more time.
    fn check(
        &self,
        inheritance: &Inheritance,
        meanwhile: impl FnMut() -> bool,
    ) -> Result<(), Refusal> {
        let refused = |why: &str| {
            let program = self.program.display();
            Refusal::Conflict(format!(
                "upgrade refused, all stays as it is: `{program} check` {why}"
            ))
        };
        let says = |said: &str| {
            let from = said.ceil_char_boundary(said.len().saturating_sub(SAID));
            refused(&format!("says:\n{}", said[from..].trim_end()))
        };
        let (status, said) = self.run_check(inheritance, meanwhile).map_err(|error| {
            refused(&format!(
                "could not be run: {error}\n  help: put a program there that the user of viaduct \
                 may execute"
            ))
        })?;
        let Some(status) = status else {
            return Err(says(&said));
        };
        if !status.success() {
            // As JSON it says what is wrong with the configuration, and nothing else.
            return Err(match serde_json::from_str(&said) {
                Ok(Verdict { diagnostics }) => Refusal::Configuration("upgrade", diagnostics),
                Err(_) if said.trim().is_empty() => says(&format!("nothing ({status})")),
                Err(_) => says(&said),
            });
        }
        match said.lines().any(|line| line == consent()) {
            true => Ok(()),
            false => Err(refused(
                "does not say that it can take over from this version: is it Viaduct, and new \
                 enough?",
            )),
        }
    }

    /// How the check ends, and what it says; `None` where it was ended here, and why.
    fn run_check(
        &self,
        inheritance: &Inheritance,
        mut meanwhile: impl FnMut() -> bool,
    ) -> io::Result<(Option<ExitStatus>, String)> {
        // No pipe: one that nobody empties would keep it from ending.
        let mut said = File::from(rustix::fs::memfd_create("said", MemfdFlags::CLOEXEC)?);
        let mut child = Command::new(&self.program)
            .arg("check")
            .args(&self.args)
            .args(["--json", "--inherits"])
            .env_remove(VARIABLE)
            .stdin(inheritance.written()?)
            .stdout(said.try_clone()?)
            .stderr(said.try_clone()?)
            .process_group(0)
            .spawn()?;
        let end = Instant::now() + CHECK;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            let why = match meanwhile() {
                true if Instant::now() <= end => {
                    std::thread::sleep(POLL);
                    continue;
                }
                true => format!("nothing within {CHECK:?}"),
                false => "nothing before the signal to end".to_owned(),
            };
            // With all that it has started.
            kill_process_group(Pid::from_child(&child), Signal::KILL)?;
            child.wait()?;
            return Ok((None, why));
        };
        said.rewind()?;
        let mut octets = Vec::new();
        said.read_to_end(&mut octets)?;
        Ok((Some(status), String::from_utf8_lossy(&octets).into_owned()))
    }

    /// Executes it in the place of this program; returns only where that
    /// failed.
    fn execute(&self, inheritance: &Inheritance) -> io::Error {
        let bequeathed = match inheritance.bequeath() {
            Ok(bequeathed) => bequeathed,
            Err(error) => return error,
        };
        let error = Command::new(&self.program)
            .arg("run")
            .args(&self.args)
            .env(VARIABLE, bequeathed.value())
            .exec();
        // It has restored the default action, by which a reader that goes away
        // would end the process.
        match signal_hook::flag::register(SIGPIPE, Arc::new(AtomicBool::new(false))) {
            Ok(_) => error,
            Err(worse) => worse,
        }
    }
}

impl Supervisor<'_> {
    /// Executes the program anew. On success it does not return.
    ///
    /// # Errors
    /// What keeps it from going on after a failure.
    pub(super) fn upgrade(&mut self, answer: Option<Answer>) -> Result<(), Failure> {
        let successor = match self.successor() {
            Ok(successor) => successor,
            Err(refusal) => {
                if let Refusal::Configuration(_, diagnostics) = &refusal {
                    (self.around.say)(diagnostics);
                }
                error!("{refusal}");
                if let Some(answer) = answer {
                    // Whoever asked may have gone.
                    let _ = answer.send(Err(refusal));
                }
                return Ok(());
            }
        };
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        self.instance.wait_for_unanswered()?;
        let said = format!("upgrading: executes {}", successor.program.display());
        info!("{said}");
        if let Some(answer) = answer {
            let _ = answer.send(Ok(Done {
                said,
                generation: self.instance.proxy().generation(),
                ..Done::default()
            }));
            std::thread::sleep(ANSWERED_AFTER);
        }
        self.hear_no_more()?;
        (self.around.flush_log)();
        let error = self.instance.give_way(&successor)?;
        error!("upgrade failed, calls go on without the transactions of before: {error}");
        self.ear = Some(Ear::start(self.orders.clone())?);
        notify(&[NotifyState::Ready]);
        Ok(())
    }

    /// The program to execute, once it has found that it can take over.
    fn successor(&mut self) -> Result<Successor, Refusal> {
        if self.ending.is_some() {
            let said = "upgrade refused: it is about to end".to_owned();
            return Err(Refusal::Conflict(said));
        }
        let successor = Successor::find()?;
        let mut inheritance = self.instance.inheritance(Vec::new(), now());
        if !self.has_admin {
            inheritance.held_admin.clear();
        }
        successor.check(&inheritance, || {
            // Nobody else does, and a check may take its time.
            self.note_health();
            self.note_names();
            self.waiting.extend(self.received.try_iter());
            let is_end = |order: &Order| matches!(order, Order::Signal(SIGTERM | SIGINT));
            !self.waiting.iter().any(is_end)
        })?;
        Ok(successor)
    }

    /// Leaves to the next program what has been heard and not been obeyed, and
    /// takes in what has been found: this one may have to go on.
    fn hear_no_more(&mut self) -> io::Result<()> {
        if let Some(ear) = self.ear.take() {
            ear.close();
        }
        self.waiting.extend(self.received.try_iter());
        while let Some(order) = self.waiting.pop_front() {
            match order {
                Order::Signal(signal) => {
                    let signal = Signal::from_named_raw(signal);
                    let sent = signal.map(|signal| kill_process(getpid(), signal));
                    sent.transpose()?;
                }
                Order::Command { answer, .. } => {
                    let said = "an upgrade is under way: ask again".to_owned();
                    let _ = answer.send(Err(Refusal::Conflict(said)));
                }
                Order::Health => self.note_health(),
                Order::Names => self.note_names(),
            }
        }
        Ok(())
    }
}

impl Instance {
    /// Waits a moment for what would be lost otherwise. No transaction begins
    /// any more.
    fn wait_for_unanswered(&self) -> io::Result<()> {
        if !self.is_stateful() && !self.config.resolve {
            return Ok(());
        }
        self.begin_none()?;
        let since = Instant::now();
        loop {
            std::thread::sleep(POLL);
            let pending = self.pending();
            let settled = pending.unanswered == 0 && pending.held == 0;
            let time = since.elapsed();
            if time >= SETTLE || (settled && time >= HEARD_AFTER) {
                return Ok(());
            }
        }
    }

    /// Stops the workers and has `successor` executed with their sockets. Where
    /// that fails it goes on, and says why.
    fn give_way(&mut self, successor: &Successor) -> Result<io::Error, Failure> {
        let stopped = now();
        let sockets = self.pause()?;
        if let Some(ledger) = &self.ledger {
            ledger.flush(LEDGER);
        }
        let inheritance = self.inheritance(sockets, stopped);
        let error = successor.execute(&inheritance);
        let mut sockets: Vec<_> = self.counters.iter().map(|_| Vec::new()).collect();
        for each in inheritance.sockets {
            sockets[each.worker].push(each.socket);
        }
        self.resume(sockets, Vec::new())?;
        Ok(error)
    }

    /// What the next program inherits.
    fn inheritance(&self, sockets: Vec<Vec<Socket>>, stopped: Duration) -> Inheritance {
        let listeners = self.asked.listeners.iter().zip(&self.config.listeners);
        let listeners: Vec<_> = listeners.map(|(a, b)| (a.address, b.address)).collect();
        let mut inherited = Vec::new();
        for (worker, sockets) in sockets.into_iter().enumerate() {
            for (socket, (asked, bound)) in sockets.into_iter().zip(&listeners) {
                inherited.push(Inherited {
                    asked: *asked,
                    bound: *bound,
                    worker,
                    socket,
                });
            }
        }
        let mut totals = self.totals();
        if let Some(lines) = &mut totals.accounting {
            // They end with this program.
            lines.dropped += totals.accounting_waiting;
        }
        Inheritance {
            upgrades: self.upgrades + 1,
            stopped,
            workers: self.config.workers,
            secret: Some(self.proxy().secret().to_text()),
            overlay: self.overlay.clone(),
            // The next program says them: until they are read takes time, and
            // calls wait now.
            counters: totals.lines(),
            held: listeners.into_iter().map(|(_, bound)| bound).collect(),
            held_admin: self.config.admin.listen.clone(),
            sockets: inherited,
        }
    }
}
