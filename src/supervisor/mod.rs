//! Starts and pins the workers, tells the operator what is so, reloads the
//! configuration and ends it all on a signal.

mod change;
mod facts;
mod overlay;
mod run;
mod secret_file;
mod sockets;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use mio::Waker;

use crate::accounting::Ledger;
use crate::config::{AccountingTarget, Config};
use crate::control::{Facts, View};
use crate::net::{Granted, Socket};
use crate::proxy::{Proxy, ReplyLimiter, Secret};
use crate::resolver::{self, Questions};
use crate::worker::{self, Counters, Handovers, Shared, Snapshot, Totals, Worker};
use overlay::Overlay;
use sockets::Steering;

pub use run::run;
pub use secret_file::{Kept, SecretFileError, load, place};

/// A running load balancer.
pub struct Instance {
    /// As loaded.
    asked: Config,
    /// What lies over it.
    overlay: Overlay,
    /// The same with both, and with the addresses that are bound.
    config: Config,
    /// What others may know of it.
    facts: Arc<ArcSwap<Facts>>,
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
        let sockets = sockets::bind(&mut config)?;
        let of_last = sockets.iter().last().into_iter().flatten();
        let granted: Result<_, _> = of_last.map(Socket::granted).collect();
        let granted = granted.map_err(|error| StartError::System("getsockopt", error))?;
        let steering = sockets::steering(&config, &sockets);
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
        let shared = Shared {
            latest: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
            stop: AtomicBool::new(false),
            started,
            handovers: Handovers::new(config.workers),
            accounting: ledger.as_ref().map(Ledger::handle),
        };
        let facts = Facts::of(&config, snapshot.proxy());
        let mut instance = Self {
            cores: sockets::cores(&config),
            snapshot,
            retired: VecDeque::new(),
            granted,
            steering,
            counters: Vec::new(),
            shared: Arc::new(shared),
            threads: Vec::new(),
            ledger,
            facts: Arc::new(ArcSwap::from_pointee(facts)),
            asked,
            overlay: Overlay::default(),
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

    /// What the control thread sees of it.
    #[must_use]
    pub fn view(&self) -> View {
        View {
            facts: Arc::clone(&self.facts),
            shared: Arc::clone(&self.shared),
            counters: self.counters.clone().into(),
            cores: self.cores.clone().into(),
            started: SystemTime::now(),
            ready: Arc::new(AtomicBool::new(false)),
            reload: Arc::new(ArcSwapOption::empty()),
            probed: Arc::new(Vec::new),
        }
    }

    /// Whether a worker has ended, which none does by itself.
    fn has_lost_a_worker(&self) -> bool {
        self.threads.iter().any(|(thread, _)| thread.is_finished())
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
        // What the workers have told is written before the end.
        drop(self.ledger.take());
        Ok(self.totals())
    }
}
