//! Starts and pins the workers, tells the operator what is so, reloads the
//! configuration, gives way to another binary and ends it all on a signal.

mod change;
mod ending;
mod entry;
mod facts;
mod health;
mod inheritance;
mod losses;
mod missing;
mod names;
mod notify;
mod overlay;
mod run;
mod secret_file;
mod signals;
mod sockets;
mod start_error;
mod upgrade;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use mio::Waker;
use tracing::warn;

use crate::accounting::Ledger;
use crate::config::Config;
use crate::control::{Denials, Facts, Unresolved, View};
use crate::health::Prober;
use crate::mirror::Mirror;
use crate::net::{Granted, Socket};
use crate::proxy::{KeptDatagram, Proxy, ReplyLimiter, Secret};
use crate::resolver::{self, Questions};
use crate::worker::{
    self, Counters, Handovers, Pending, Samples, Shared, Snapshot, Totals, Worker,
};
use inheritance::Inheritance;
use overlay::Overlay;
use sockets::{Origins, Steering};

pub use health::Watch;
pub use inheritance::is_heir;
pub use missing::missing;
pub use run::{Failure, Surroundings, run};
pub use secret_file::{SecretFileError, load as load_secret, read as read_secret};
pub use signals::hold_signals;
pub use sockets::open_files;
pub use start_error::StartError;
pub use upgrade::rehearse;

/// Looks without a turn after which a worker is woken: it may just sleep.
const ASLEEP: u32 = 5;
/// Looks without a turn after which it hangs: ten seconds.
const HANGS: u32 = 50;

/// A running worker.
struct Running {
    /// Gives its sockets back at its end.
    thread: JoinHandle<io::Result<Vec<Socket>>>,
    waker: Arc<Waker>,
    /// Its turns at the last look, and the looks that found no other number.
    turns: u64,
    still: u32,
}

/// A running load balancer.
pub struct Instance {
    /// As loaded.
    asked: Config,
    /// What lies over it.
    overlay: Overlay,
    /// The same with both, and with the addresses that are bound.
    config: Arc<Config>,
    /// What others may know of it.
    facts: Arc<ArcSwap<Facts>>,
    snapshot: Arc<Snapshot>,
    /// The number of each generation that took the place of another within
    /// the time of second chances, and since when.
    retired: VecDeque<(u64, Instant)>,
    granted: Vec<Granted>,
    /// Whether the kernel cuts one send into datagrams.
    segments: bool,
    origins: Origins,
    /// Times that this process has executed a new program.
    upgrades: u64,
    /// How long the kernel kept what came, at the last one.
    waited: Duration,
    steering: Steering,
    cores: Vec<Option<usize>>,
    counters: Vec<Arc<Counters>>,
    shared: Arc<Shared>,
    threads: Vec<Running>,
    /// The writer of accounting.
    ledger: Option<Ledger>,
    /// The sender of copies.
    mirror: Option<Mirror>,
}

/// Starts the writer of accounting, where there is to be one.
fn start_ledger(config: &Config, started: Instant) -> Result<Option<Ledger>, StartError> {
    let accounting = config.stateful.accounting.as_ref();
    let ledger = accounting.map(|accounting| {
        let failed = |error| StartError::Accounting(accounting.target.clone(), error);
        Ledger::start(accounting, move || worker::now(started))
            .map_err(StartError::or_thread(failed))
    });
    ledger.transpose()
}

/// The same for the sender of copies.
fn start_mirror(config: &Config) -> Result<Option<Mirror>, StartError> {
    let mirror = config.mirror.as_ref().map(Mirror::start).transpose();
    let failed = |error| StartError::System("cannot start the mirror", error);
    mirror.map_err(StartError::or_thread(failed))
}

impl Instance {
    /// Binds all sockets and starts the workers.
    ///
    /// # Errors
    /// [`StartError`]; nothing keeps running then.
    pub fn start(asked: Config, secret: Secret) -> Result<Self, StartError> {
        Self::take_over(asked, secret, Inheritance::default())
    }

    /// The same, with what the program of before has handed over.
    fn take_over(
        asked: Config,
        secret: Secret,
        inheritance: Inheritance,
    ) -> Result<Self, StartError> {
        let Inheritance {
            upgrades,
            stopped,
            mut overlay,
            sockets,
            ..
        } = inheritance;
        // What is no longer in the file is no longer in its way.
        overlay.settle(&asked, &asked);
        let mut config = overlay.over(&asked);
        let bound = sockets::bind(&mut config, sockets)?;
        let config = Arc::new(config);
        let mut of_last = bound.sockets.iter().last().into_iter().flatten();
        let granted: Result<_, _> = of_last.clone().map(Socket::granted).collect();
        let granted = granted.map_err(|error| StartError::System("getsockopt", error))?;
        let steering = sockets::steering(&config, &bound);
        let snapshot = Snapshot::new(Proxy::new(&config, secret), config.workers);
        let snapshot = Arc::new(snapshot);
        let started = Instant::now();
        let ledger = start_ledger(&config, started)?;
        let mirror = start_mirror(&config)?;
        let shared = Shared {
            latest: Arc::new(ArcSwap::new(Arc::clone(&snapshot))),
            stop: AtomicBool::new(false),
            finishing: AtomicBool::new(false),
            receiving: AtomicUsize::new(0),
            started,
            handovers: Handovers::new(config.workers),
            losses: AtomicU64::new(0),
            accounting: ledger.as_ref().map(Ledger::handle),
            samples: Samples::default(),
            mirror: mirror.as_ref().map(Mirror::handle),
        };
        let facts = Facts::of(Arc::clone(&config), snapshot.proxy());
        let mut instance = Self {
            cores: sockets::cores(&config),
            snapshot,
            retired: VecDeque::new(),
            granted,
            segments: of_last.all(Socket::segments),
            origins: bound.origins,
            upgrades,
            waited: Duration::ZERO,
            steering,
            counters: (0..config.workers).map(|_| Arc::default()).collect(),
            shared: Arc::new(shared),
            threads: Vec::new(),
            ledger,
            mirror,
            facts: Arc::new(ArcSwap::from_pointee(facts)),
            asked,
            overlay,
            config,
        };
        match instance.resume(bound.sockets, bound.waiting) {
            Ok(()) => {
                instance.waited = inheritance::now().saturating_sub(stopped);
                Ok(instance)
            }
            Err(error) => {
                // The first error is the one to tell.
                let _ = instance.stop();
                Err(error)
            }
        }
    }

    /// Starts the workers with these sockets; the first one decides `waiting`
    /// before anything else.
    fn resume(
        &mut self,
        sockets: Vec<Vec<Socket>>,
        mut waiting: Vec<KeptDatagram>,
    ) -> Result<(), StartError> {
        let config = &self.config;
        let questions = config.resolve.then(|| resolver::start(config)).transpose();
        let questions = questions.map_err(StartError::resolver)?;
        let limiter_key =
            secret_file::random().map_err(|error| StartError::System("getrandom", error))?;
        self.shared.stop.store(false, Ordering::Relaxed);
        self.shared.finishing.store(false, Ordering::Relaxed);
        for sockets in sockets {
            let waiting = std::mem::take(&mut waiting);
            self.spawn(sockets, waiting, limiter_key, questions.clone())?;
        }
        Ok(())
    }

    fn spawn(
        &mut self,
        sockets: Vec<Socket>,
        waiting: Vec<KeptDatagram>,
        limiter_key: [u8; 16],
        questions: Option<Questions>,
    ) -> Result<(), StartError> {
        let number = self.threads.len();
        // Each worker gives out its share of the allowance.
        let rate = self.config.reply_rate.div_ceil(self.config.workers as u32);
        let (worker, waker) = Worker::new(
            number,
            sockets,
            Arc::clone(&self.shared),
            Arc::clone(&self.counters[number]),
            ReplyLimiter::new(rate, limiter_key),
            questions,
            &self.config,
        )
        .map_err(|error| match error.kind() {
            io::ErrorKind::OutOfMemory => {
                StartError::Transactions(self.config.stateful.transactions)
            }
            _ => StartError::System("epoll", error),
        })?;
        let worker = worker.beginning_with(waiting);
        let core = self.cores[number];
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                if let Some(id) = core
                    && !core_affinity::set_for_current(core_affinity::CoreId { id })
                {
                    let error = io::Error::last_os_error();
                    warn!("worker {number} is not pinned to core {id}: {error}; mend: --pin off");
                }
                worker.run()
            })
            .map_err(StartError::Thread)?;
        self.threads.push(Running {
            thread,
            waker,
            turns: 0,
            still: 0,
        });
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

    /// What the control thread sees of it, whose destinations `prober` probes
    /// and of whose names some are `unresolved`.
    #[must_use]
    pub fn view(&self, prober: Arc<Prober>, unresolved: Arc<Unresolved>) -> View {
        View {
            facts: Arc::clone(&self.facts),
            shared: Arc::clone(&self.shared),
            counters: self.counters.clone(),
            cores: self.cores.clone(),
            started: SystemTime::now(),
            ready: AtomicBool::new(false),
            reload: ArcSwapOption::empty(),
            unresolved,
            prober,
            denials: Denials::default(),
        }
    }

    /// Whether a worker has ended, which none does by itself.
    fn has_lost_a_worker(&self) -> bool {
        self.threads.iter().any(|each| each.thread.is_finished())
    }

    /// Looks whether the workers go on, and wakes those that may just sleep; the
    /// number of one that hangs. To be asked at regular times: the looks count, not
    /// the time, in which the whole process may have stood still.
    fn hanging_worker(&mut self) -> io::Result<Option<usize>> {
        let workers = self.threads.iter_mut().zip(&self.counters).enumerate();
        for (number, (worker, counters)) in workers {
            let before = std::mem::replace(&mut worker.turns, counters.turns());
            worker.still = match worker.turns == before {
                true => worker.still + 1,
                false => 0,
            };
            match worker.still {
                ASLEEP => worker.waker.wake()?,
                HANGS.. => return Ok(Some(number)),
                _ => {}
            }
        }
        Ok(None)
    }

    /// Has no transaction begin any more: what would have had one goes on
    /// statelessly.
    fn begin_none(&self) -> io::Result<()> {
        self.shared.finishing.store(true, Ordering::Relaxed);
        self.threads.iter().try_for_each(|each| each.waker.wake())
    }

    /// What has been begun and not brought to an end.
    fn pending(&self) -> Pending {
        self.counters
            .iter()
            .map(|worker| worker.pending())
            .fold(Pending::default(), |sum, each| sum + each)
    }

    /// Stops the workers, and returns their sockets.
    fn pause(&mut self) -> io::Result<Vec<Vec<Socket>>> {
        self.shared.stop.store(true, Ordering::Relaxed);
        // All of them before the first is waited for: they end together.
        self.threads.iter().try_for_each(|each| each.waker.wake())?;
        let ended = self.threads.drain(..).map(|each| {
            let panicked = |_| io::Error::other("a worker panicked");
            each.thread.join().map_err(panicked)?
        });
        ended.collect()
    }

    /// Stops the workers, and returns what they have counted.
    ///
    /// # Errors
    /// What ended a worker before its time.
    pub fn stop(mut self) -> io::Result<Totals> {
        self.pause()?;
        // What the workers have told is written before the end, and what they
        // have copied is sent.
        drop(self.ledger.take());
        drop(self.mirror.take());
        Ok(self.totals())
    }
}
