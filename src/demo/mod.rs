//! A farm, a caller and a load balancer in one process, on loopback.
//!
//! The load balancer is a whole [`Instance`] with the default configuration;
//! the servers and the caller speak to it through real sockets, and probes find
//! out which servers are alive. After a third of the time one is stopped, and
//! after another third started again; at the end every call is accounted for.
//! The servers and the caller are for showing: they are no SIP stack, and
//! follow RFC 3261 as far as their own calls need.

mod caller;
mod checks;
mod display;
mod fate;
mod frame;
mod message;
mod server;
mod summary;
mod tally;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::config::{self, Config, Overrides, Settings, text};
use crate::proxy::Proxy;
use crate::supervisor::{self, Instance, Watch};
use display::{Display, Scene};
use fate::Fate;
use server::Server;
use tally::{Shared, Window};

pub use checks::Check;
pub(crate) use frame::{fitting, share_bar};
pub use summary::Summary;

/// How many servers there are.
const SERVERS: usize = 3;
/// Their weights.
const WEIGHTS: [u32; SERVERS] = [2, 1, 1];
/// The one that is stopped and started again.
const STOPPED: usize = 2;
/// Enough to share the port between two threads.
const WORKERS: usize = 2;
/// Short enough to be seen to the end.
const SLOW_START: Duration = Duration::from_secs(1);

/// The share of the calls that a server's weight gives it.
fn due(server: usize) -> f64 {
    f64::from(WEIGHTS[server]) / f64::from(WEIGHTS.iter().sum::<u32>())
}

/// How much is to be shown.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// How long new calls are made, in seconds.
    pub seconds: u64,
    /// New calls a second.
    pub rate: u32,
}

impl Plan {
    fn calls(self) -> usize {
        self.seconds as usize * self.rate as usize
    }

    fn calling(self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// When the server is stopped.
    fn stop_at(self) -> Duration {
        self.calling() / 3
    }

    /// When it is started again.
    fn start_at(self) -> Duration {
        2 * self.stop_at()
    }

    /// How many calls have been begun by then.
    fn begun_by(self, at: Duration) -> usize {
        let begun = (at.as_secs_f64() * f64::from(self.rate)).ceil() as usize;
        begun.min(self.calls())
    }

    /// When the last call has ended at the latest, but for its last moments.
    fn end(self) -> Duration {
        self.calling() + wire::GIVE_UP
    }
}

/// Runs the demo, and shows it meanwhile unless `silent`; `None` where SIGINT,
/// SIGTERM or Ctrl-C ended it early: what still runs then ends with the process.
///
/// # Errors
/// What kept a part of it from starting, or ended it: sockets, threads, the
/// terminal.
pub fn run(plan: Plan, silent: bool) -> io::Result<Option<Summary>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut display = Display::open(silent);
    let mut stage = Stage::set(plan)?;
    let mut window = Window::default();
    loop {
        let finished = stage.calls.is_finished();
        stage.play()?;
        stage.note_health();
        display.show(&Scene::of(&stage, &mut window), finished)?;
        if finished {
            break;
        }
        if display.wait()? || interrupted.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    drop(display);
    stage.end().map(Some)
}

/// Everything that runs.
struct Stage {
    plan: Plan,
    start: Instant,
    servers: [Server; SERVERS],
    fate: Fate,
    instance: Instance,
    watch: Watch,
    /// What decided, one after the other.
    tables: Vec<Proxy>,
    caller: Arc<message::Caller>,
    calls: caller::Running,
    tally: Arc<Shared>,
}

impl Stage {
    /// Starts it all.
    fn set(plan: Plan) -> io::Result<Self> {
        let start = || Server::start(wire::bind()?);
        let servers = [start()?, start()?, start()?];
        let addresses = servers.each_ref().map(|server| server.address);
        let instance = start_instance(addresses)?;
        // It is asked at each frame.
        let watch = Watch::start(|| ())?;
        watch.follow(&instance);
        let (socket, address) = wire::bind()?;
        let caller = Arc::new(message::Caller {
            address,
            proxy: instance.address(0),
            run: getrandom::u64()?,
        });
        let tally = Arc::new(Shared::new());
        let (who, counts) = (Arc::clone(&caller), Arc::clone(&tally));
        Ok(Self {
            plan,
            start: Instant::now(),
            servers,
            fate: Fate::default(),
            tables: vec![instance.proxy().clone()],
            instance,
            watch,
            caller,
            calls: caller::start(socket, who, addresses, plan, counts)?,
            tally,
        })
    }

    fn addresses(&self) -> [SocketAddr; SERVERS] {
        self.servers.each_ref().map(|server| server.address)
    }

    /// Stops the server, and starts it again, when it is time to.
    fn play(&mut self) -> io::Result<()> {
        let (now, server) = (self.start.elapsed(), &mut self.servers[STOPPED]);
        if self.fate.stopped.is_none() && now >= self.plan.stop_at() {
            server.stop()?;
            self.fate.stopped = Some(now);
        }
        if self.fate.started.is_none() && now >= self.plan.start_at() {
            *server = Server::start(wire::bind_to(server.address)?)?;
            self.fate.started = Some(now);
        }
        Ok(())
    }

    /// Takes in what probes have found, as the supervisor does.
    fn note_health(&mut self) {
        let news = self.instance.learn(self.watch.found());
        if !news.is_empty() {
            self.tables.push(self.instance.proxy().clone());
        }
        let (now, server) = (self.start.elapsed(), self.servers[STOPPED].address);
        for report in news.iter().filter(|each| each.address == server) {
            self.fate.note(report.health, now);
        }
        self.watch.look(&self.instance.totals().destinations);
    }

    /// Takes stock when all calls have ended.
    fn end(self) -> io::Result<Summary> {
        let addresses = self.addresses();
        let ended = self.calls.join()?;
        let owners = |table| checks::owners(table, &self.caller, ended.len());
        let owners: Vec<_> = self.tables.iter().map(owners).collect();
        let totals = self.instance.stop()?;
        let tally = self.tally.lock();
        Ok(Summary::new(
            self.plan, self.fate, addresses, &ended, &owners, &tally, totals,
        ))
    }
}

/// The default configuration, but for its addresses and a short slow start,
/// with few threads that are pinned nowhere: the demo is a guest on its machine.
fn start_instance(servers: [SocketAddr; SERVERS]) -> io::Result<Instance> {
    let destination = |(address, weight): (&SocketAddr, u32)| {
        text::member(&format!("sip:{address};weight={weight}"))
            .expect("invariant: an address is a destination")
    };
    let mut overrides = Overrides {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        to: servers.iter().zip(WEIGHTS).map(destination).collect(),
        settings: Settings {
            workers: Some(WORKERS),
            pin: Some(false),
            ..Settings::default()
        },
        ..Overrides::default()
    };
    overrides.operation.health.value.slow_start = Some(SLOW_START);
    let loaded = config::load(None, &overrides);
    let refused = || {
        let reasons: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        io::Error::other(reasons.join("; "))
    };
    let config: Config = loaded.config.ok_or_else(refused)?;
    let (secret, _) = supervisor::load_secret(None, None).map_err(io::Error::other)?;
    Instance::start(config, secret).map_err(io::Error::other)
}
