//! Starts and pins the workers, tells the operator what is so, reloads the
//! configuration and ends it all on a signal.

mod reload;
mod secret_file;

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mio::Waker;
use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::accounting::Ledger;
use crate::config::text::policy_name;
use crate::config::{AccountingTarget, Config, Listener, Steer};
use crate::mirror::Mirror;
use crate::net::{Granted, Socket, steer};
use crate::proxy::{Proxy, ReplyLimiter, Secret};
use crate::resolver::{self, Questions};
use crate::worker::{self, Counters, Handovers, Shared, Snapshot, Totals, Worker};

pub use reload::{NeedsRestart, Reloaded};
pub use secret_file::{Kept, SecretFileError, load, place};

/// A running load balancer.
pub struct Instance {
    /// As loaded.
    asked: Config,
    /// The same with the addresses that are bound.
    config: Config,
    snapshot: Arc<Snapshot>,
    /// The number of each generation that took the place of another within
    /// the time of second chances, and since when.
    retired: VecDeque<(u64, Instant)>,
    granted: Vec<Granted>,
    steering: Steering,
    cores: Vec<Option<usize>>,
    counters: Vec<Arc<Counters>>,
    shared: Arc<Shared>,
    threads: Vec<(JoinHandle<io::Result<()>>, Arc<Waker>)>,
    /// The writer of accounting.
    ledger: Option<Ledger>,
    /// The sender of copies.
    mirror: Option<Mirror>,
}

/// What decides which worker a datagram goes to.
#[derive(Debug)]
enum Steering {
    /// There is one worker.
    One,
    /// The kernel, by addresses and ports.
    Source,
    /// Call-ID, where it begins within so many octets.
    CallId(usize),
    /// The kernel, for it refused to have it done by Call-ID.
    Refused(io::Error),
}

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
                        write!(
                            f,
                            "\n  help: no interface has this address; `ip address` lists them"
                        )
                    }
                    _ => Ok(()),
                }
            }
            Self::Resolver(error) => {
                write!(f, "names cannot be resolved: {error}")?;
                write!(f, "\n  help: give --resolver ADDR[:PORT], or --resolve off")
            }
            Self::Accounting(target, error) => {
                write!(f, "cannot write accounting to {target}: {error}")?;
                write!(
                    f,
                    "\n  help: have its folder exist and be writable, or give another --accounting"
                )
            }
            Self::System(what, error) => write!(f, "{what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

impl Instance {
    /// Binds all sockets and starts the workers.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub fn start(asked: Config, secret: Secret) -> Result<Self, StartError> {
        let mut config = asked.clone();
        let mut sockets: Vec<Vec<Socket>> = (0..config.workers).map(|_| Vec::new()).collect();
        let (receive, send) = (config.receive_buffer, config.send_buffer);
        let mut granted = Vec::new();
        let mut taken = Vec::new();
        for listener in &mut config.listeners {
            for worker in &mut sockets {
                let bind = || {
                    let failed = |error| StartError::Bind(listener.address, error);
                    let socket = Socket::bind(listener.address, receive, send).map_err(failed)?;
                    let failed = |error| StartError::System("getsockname", error);
                    let bound = socket.address().map_err(failed)?;
                    Ok((socket, bound))
                };
                let (mut socket, mut bound) = bind()?;
                // For port 0, a socket that shares its port may be given that of
                // another listener.
                while listener.address.port() == 0 && taken.contains(&bound) {
                    (socket, bound) = bind()?;
                }
                settle(listener, bound);
                worker.push(socket);
            }
            taken.push(listener.address);
            let failed = |error| StartError::System("getsockopt", error);
            let last = sockets.last().and_then(|worker| worker.last());
            granted.extend(last.map(Socket::granted).transpose().map_err(failed)?);
        }
        let steering = steering(&config, &sockets);
        let questions = config.resolve.then(|| resolver::start(&config)).transpose();
        let questions = questions.map_err(StartError::Resolver)?;
        let limiter_key =
            secret_file::random().map_err(|error| StartError::System("getrandom", error))?;
        let snapshot = Snapshot::new(Proxy::new(&config, secret), config.workers);
        let snapshot = Arc::new(snapshot);
        let started = Instant::now();
        let accounting = config.stateful.accounting.as_ref();
        let ledger = accounting.map(|accounting| {
            Ledger::start(accounting, move || worker::now(started))
                .map_err(|error| StartError::Accounting(accounting.target.clone(), error))
        });
        let ledger = ledger.transpose()?;
        let mirror = config.mirror.as_ref().map(Mirror::start).transpose();
        let mirror =
            mirror.map_err(|error| StartError::System("cannot start the mirror", error))?;
        let shared = Shared {
            latest: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
            stop: AtomicBool::new(false),
            started,
            handovers: Handovers::new(config.workers),
            accounting: ledger.as_ref().map(Ledger::handle),
            mirror: mirror.as_ref().map(Mirror::handle),
        };
        let mut instance = Self {
            cores: cores(&config),
            snapshot,
            retired: VecDeque::new(),
            granted,
            steering,
            counters: Vec::new(),
            shared: Arc::new(shared),
            threads: Vec::new(),
            ledger,
            mirror,
            asked,
            config,
        };
        for sockets in sockets {
            if let Err(error) = instance.spawn(sockets, limiter_key, questions.clone()) {
                // The first error is the one to tell.
                let _ = instance.stop();
                return Err(error);
            }
        }
        Ok(instance)
    }

    fn spawn(
        &mut self,
        sockets: Vec<Socket>,
        limiter_key: [u8; 16],
        questions: Option<Questions>,
    ) -> Result<(), StartError> {
        let counters = Arc::new(Counters::default());
        let number = self.threads.len();
        // Each worker gives out its share of the allowance.
        let rate = self.config.reply_rate.div_ceil(self.config.workers as u32);
        let (worker, waker) = Worker::new(
            number,
            sockets,
            Arc::clone(&self.shared),
            Arc::clone(&counters),
            ReplyLimiter::new(rate, limiter_key),
            questions,
            &self.config,
        )
        .map_err(|error| StartError::System("epoll", error))?;
        let core = self.cores[number];
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                if let Some(id) = core {
                    core_affinity::set_for_current(core_affinity::CoreId { id });
                }
                worker.run()
            })
            .map_err(|error| StartError::System("cannot start a thread", error))?;
        self.threads.push((thread, waker));
        self.counters.push(counters);
        Ok(())
    }

    /// Where listener `index` is bound, with its real port.
    #[must_use]
    pub fn address(&self, index: usize) -> SocketAddr {
        self.config.listeners[index].address
    }

    /// What decides.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        self.snapshot.proxy()
    }

    /// What all workers have counted so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals::of(&self.counters, &self.shared)
    }

    /// Stops the workers, and returns what they have counted.
    ///
    /// # Errors
    /// What ended a worker before its time.
    pub fn stop(mut self) -> io::Result<Totals> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for (thread, waker) in self.threads.drain(..) {
            waker.wake()?;
            thread
                .join()
                .map_err(|_| io::Error::other("a worker panicked"))??;
        }
        // What the workers have told is written before the end, and what they
        // have copied is sent.
        drop(self.ledger.take());
        drop(self.mirror.take());
        Ok(self.totals())
    }

    /// Writes the facts of the start, one a line.
    ///
    /// # Errors
    /// As of writing.
    pub fn write_facts(&self, out: &mut dyn Write) -> io::Result<()> {
        let config = &self.config;
        for (listener, granted) in config.listeners.iter().zip(&self.granted) {
            write!(out, "listening on udp:{}", listener.address)?;
            if let Some(advertise) = &listener.advertise {
                write!(out, ", advertised as {advertise}")?;
            }
            writeln!(out)?;
            write_buffer(
                out,
                "receive",
                "rmem_max",
                config.receive_buffer,
                granted.receive,
            )?;
            write_buffer(out, "send", "wmem_max", config.send_buffer, granted.send)?;
        }
        let cores: Vec<_> = self
            .cores
            .iter()
            .flatten()
            .map(ToString::to_string)
            .collect();
        let pinned = match cores.is_empty() {
            true => "not pinned".to_owned(),
            false => format!("pinned to cores {}", cores.join(", ")),
        };
        writeln!(
            out,
            "workers: {}, {pinned}, batches of {}",
            config.workers, config.batch
        )?;
        write_steering(out, &self.steering)?;
        if config.resolve {
            let servers: Vec<_> = config.resolvers.iter().map(ToString::to_string).collect();
            let servers = match servers.is_empty() {
                true => "the name servers of /etc/resolv.conf".to_owned(),
                false => servers.join(", "),
            };
            writeln!(out, "names: resolved by {servers}, for members")?;
        }
        for fact in config.stateful.facts() {
            writeln!(out, "{fact}")?;
        }
        for set in &config.sets {
            let n = set.destinations.len();
            let plural = if n == 1 { "" } else { "s" };
            writeln!(
                out,
                "set {}: {n} destination{plural}, policy {}",
                set.name,
                policy_name(set.policy)
            )?;
        }
        Ok(())
    }
}

/// A socket that was bound to port 0 has a real one, and so have those of
/// the other workers.
fn settle(listener: &mut Listener, bound: SocketAddr) {
    if listener.name == listener.address.to_string() {
        listener.name = bound.to_string();
    }
    listener.address = bound;
}

/// Has the kernel give each call to one worker.
///
/// The sockets of a listener are a group of their own, in which the program's
/// result is a socket's number in the order of binding: the worker's, for the
/// workers' are bound one after another. So a call has the same worker on all
/// listeners. Beside an older instance, whose sockets come first, and after
/// its end, the numbers mean others, but still one for each call.
fn steering(config: &Config, sockets: &[Vec<Socket>]) -> Steering {
    if config.workers == 1 {
        return Steering::One;
    }
    if config.steer == Steer::Source {
        return Steering::Source;
    }
    let mut searched = usize::MAX;
    // One socket attaches the program for its whole group.
    for socket in sockets.iter().take(1).flatten() {
        match steer::by_call_id(socket, config.workers) {
            Ok(octets) => searched = searched.min(octets),
            Err(error) => return Steering::Refused(error),
        }
    }
    Steering::CallId(searched)
}

fn write_steering(out: &mut dyn Write, steering: &Steering) -> io::Result<()> {
    match steering {
        Steering::One => Ok(()),
        Steering::Source => writeln!(out, "steering: by addresses and ports"),
        Steering::CallId(searched) => {
            writeln!(
                out,
                "steering: by Call-ID, where it begins within {searched} octets"
            )?;
            if *searched < steer::SEARCH_MAX {
                writeln!(
                    out,
                    "  warning: the kernel takes no longer program, and steers other messages by addresses and ports; mend: sysctl -w net.core.optmem_max=131072"
                )?;
            }
            Ok(())
        }
        Steering::Refused(error) => {
            writeln!(out, "steering: by addresses and ports")?;
            writeln!(
                out,
                "  warning: the kernel refused to do it by Call-ID: {error}; mend: sysctl -w net.core.optmem_max=131072, or accept it with --steer source"
            )
        }
    }
}

fn write_buffer(
    out: &mut dyn Write,
    what: &str,
    sysctl: &str,
    asked: usize,
    granted: usize,
) -> io::Result<()> {
    writeln!(out, "  {what} buffer: {granted} octets")?;
    if granted < asked {
        writeln!(
            out,
            "  warning: {asked} octets were asked for; mend: sysctl -w net.core.{sysctl}={asked}"
        )?;
    }
    Ok(())
}

/// The core of each worker: those this process may use, in turn.
fn cores(config: &Config) -> Vec<Option<usize>> {
    let usable = match config.pin {
        true => core_affinity::get_core_ids().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut cores = usable.iter().map(|core| core.id).cycle();
    (0..config.workers).map(|_| cores.next()).collect()
}

/// Runs until SIGTERM or SIGINT. SIGUSR1 prints the counters, SIGHUP takes the
/// configuration that `load` gives, unless there is none.
///
/// # Errors
/// What kept it from starting, or ended a worker.
pub fn run(
    config: Config,
    load_again: &dyn Fn() -> io::Result<Option<Config>>,
    err: &mut dyn Write,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    // Before anything else, so that no signal finds its default action.
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
    let (secret, kept) = load(config.secret_file.as_deref()).map_err(StartError::Secret)?;
    let mut instance = Instance::start(config, secret)?;
    instance.write_facts(err)?;
    writeln!(err, "{kept}")?;
    writeln!(
        err,
        "ready: SIGTERM ends, SIGHUP reloads, SIGUSR1 prints counters"
    )?;
    notify(&[NotifyState::Ready]);
    // A thread waits for signals, for only a channel can be waited for in time.
    let handle = signals.handle();
    let (sender, received) = mpsc::channel();
    let listener =
        std::thread::spawn(move || signals.forever().try_for_each(|signal| sender.send(signal)));
    loop {
        let patience = instance.next_to_forget();
        match received.recv_timeout(patience.unwrap_or(Duration::MAX)) {
            Ok(SIGUSR1) => write_counters(err, &instance.totals())?,
            Ok(SIGHUP) => reload(&mut instance, load_again, err)?,
            Err(RecvTimeoutError::Timeout) => instance.forget_former(),
            Ok(_) | Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    notify(&[NotifyState::Stopping]);
    handle.close();
    // It has ended, or is about to; nothing it could say matters now.
    let _ = listener.join();
    let totals = instance.stop()?;
    write_counters(err, &totals)?;
    Ok(())
}

/// Reloads, and tells what came of it.
fn reload(
    instance: &mut Instance,
    load_again: &dyn Fn() -> io::Result<Option<Config>>,
    err: &mut dyn Write,
) -> io::Result<()> {
    let now = NotifyState::monotonic_usec_now()?;
    notify(&[NotifyState::Reloading, now]);
    match load_again()? {
        None => writeln!(err, "reload refused, the configuration of before stays")?,
        Some(config) => match instance.reload(config) {
            Ok(reloaded) => writeln!(err, "{reloaded}")?,
            Err(refusal) => writeln!(err, "{refusal}")?,
        },
    }
    notify(&[NotifyState::Ready]);
    Ok(())
}

/// Tells systemd; where there is none, there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

fn write_counters(err: &mut dyn Write, totals: &Totals) -> io::Result<()> {
    for (name, value) in &totals.values {
        writeln!(err, "counter {name} {value}")?;
    }
    Ok(())
}
