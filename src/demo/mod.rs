//! A farm, a caller and a load balancer in one process, on loopback.
//!
//! The load balancer is a whole [`Instance`] with the default configuration;
//! the servers and the caller speak to it through real sockets. In the middle
//! one server is stopped, and at the end every call is accounted for. The
//! servers and the caller are for showing: they are no SIP stack, and follow
//! RFC 3261 as far as their own calls need.

mod caller;
mod checks;
mod display;
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
use crate::proxy::Secret;
use crate::supervisor::Instance;
use display::{Display, Scene};
use server::Server;
use tally::{Shared, Window};

pub use checks::Check;
pub use display::View;
pub(crate) use frame::share_bar;
pub use summary::Summary;

/// How many servers there are.
const SERVERS: usize = 3;
/// Their weights.
const WEIGHTS: [u32; SERVERS] = [2, 1, 1];
/// The one that is stopped.
const STOPPED: usize = 2;
/// Enough to share the port between two threads.
const WORKERS: usize = 2;

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
        self.calling() / 2
    }

    /// When the last call has ended at the latest, but for its last moments.
    fn end(self) -> Duration {
        self.calling() + wire::GIVE_UP
    }
}

/// Runs the demo; `None` where SIGINT, SIGTERM or Ctrl-C ended it early: what
/// still runs then ends with the process.
///
/// # Errors
/// What kept a part of it from starting, or ended it: sockets, threads, the
/// terminal.
pub fn run(plan: Plan, view: View) -> io::Result<Option<Summary>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut display = Display::open(view);
    let mut stage = Stage::set(plan)?;
    let mut window = Window::default();
    loop {
        let finished = stage.calls.is_finished();
        stage.stop_server_in_time()?;
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
    stopped: bool,
    instance: Instance,
    caller: Arc<message::Caller>,
    calls: caller::Running,
    tally: Arc<Shared>,
}

impl Stage {
    /// Starts it all.
    fn set(plan: Plan) -> io::Result<Self> {
        let servers = [Server::start()?, Server::start()?, Server::start()?];
        let addresses = servers.each_ref().map(|server| server.address);
        let instance = start_instance(addresses)?;
        let (socket, address) = wire::bind()?;
        let caller = Arc::new(message::Caller {
            address,
            proxy: instance.address(0),
            run: getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?,
        });
        let tally = Arc::new(Shared::new());
        let (who, counts) = (Arc::clone(&caller), Arc::clone(&tally));
        Ok(Self {
            plan,
            start: Instant::now(),
            servers,
            stopped: false,
            instance,
            caller,
            calls: caller::start(socket, who, addresses, plan, counts)?,
            tally,
        })
    }

    fn addresses(&self) -> [SocketAddr; SERVERS] {
        self.servers.each_ref().map(|server| server.address)
    }

    fn stop_server_in_time(&mut self) -> io::Result<()> {
        if !self.stopped && self.start.elapsed() >= self.plan.stop_at() {
            self.servers[STOPPED].stop()?;
            self.stopped = true;
        }
        Ok(())
    }

    /// Takes stock when all calls have ended.
    fn end(self) -> io::Result<Summary> {
        let addresses = self.addresses();
        let ended = self.calls.join()?;
        let owners = checks::owners(self.instance.proxy(), &self.caller, ended.len());
        let totals = self.instance.stop()?;
        let tally = self.tally.lock();
        Ok(Summary::new(
            self.plan, addresses, &ended, &owners, &tally, totals,
        ))
    }
}

/// The default configuration, but for its addresses, with few threads that
/// are pinned nowhere: the demo is a guest on its machine.
fn start_instance(servers: [SocketAddr; SERVERS]) -> io::Result<Instance> {
    let destination = |(address, weight): (&SocketAddr, u32)| {
        text::member(&format!("sip:{address};weight={weight}"))
            .expect("invariant: an address is a destination")
    };
    let overrides = Overrides {
        listen: vec![(Ipv4Addr::LOCALHOST, 0).into()],
        to: servers.iter().zip(WEIGHTS).map(destination).collect(),
        settings: Settings {
            workers: Some(WORKERS),
            pin: Some(false),
            ..Settings::default()
        },
        ..Overrides::default()
    };
    let loaded = config::load(None, &overrides);
    let refused = || {
        let reasons: Vec<_> = loaded.diagnostics.iter().map(ToString::to_string).collect();
        io::Error::other(reasons.join("; "))
    };
    let config: Config = loaded.config.ok_or_else(refused)?;
    let mut octets = [0; Secret::OCTETS];
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
    Instance::start(config, Secret::from_octets(octets)).map_err(io::Error::other)
}
