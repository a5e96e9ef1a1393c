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

use crate::config::{self, Config, Destination, Overrides, Settings, State};
use crate::proxy::Secret;
use crate::supervisor::Instance;
use display::{Display, Scene};
use server::Server;
use tally::{Shared, Window};

pub use checks::Check;
pub use display::View;
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

/// Runs the demo; `None` where SIGINT, SIGTERM or Ctrl-C ended it early.
///
/// # Errors
/// What kept a part of it from starting, or ended it: sockets, threads, the
/// terminal.
pub fn run(plan: Plan, view: View) -> io::Result<Option<Summary>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    let mut servers = [Server::start()?, Server::start()?, Server::start()?];
    let addresses: [SocketAddr; SERVERS] = std::array::from_fn(|i| servers[i].address);
    let instance = start_instance(addresses)?;
    let (socket, address) = wire::bind()?;
    let identity = Arc::new(message::Caller {
        address,
        proxy: instance.address(0),
        run: getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?,
    });
    let tally = Arc::new(Shared::new());
    let mut display = Display::open(view);
    let calls = caller::start(
        socket,
        Arc::clone(&identity),
        addresses,
        plan,
        Arc::clone(&tally),
    )?;

    let (start, mut window) = (Instant::now(), Window::default());
    let mut stopped = false;
    loop {
        let finished = calls.is_finished();
        if !stopped && start.elapsed() >= plan.stop_at() {
            servers[STOPPED].stop()?;
            stopped = true;
        }
        let scene = Scene::take(
            plan,
            instance.address(0),
            addresses,
            start,
            stopped,
            &tally,
            &mut window,
        );
        display.show(&scene, finished)?;
        if finished {
            break;
        }
        if display.wait()? || interrupted.load(Ordering::Relaxed) {
            calls.stop.store(true, Ordering::Relaxed);
            calls.join()?;
            return Ok(None);
        }
    }
    drop(display);
    let ended = calls.join()?;
    let owners = checks::owners(instance.proxy(), &identity, ended.len());
    let totals = instance.stop()?;
    Ok(Some(Summary::new(
        plan,
        addresses,
        &ended,
        &owners,
        &tally.lock(),
        totals,
    )))
}

/// The default configuration, but for its addresses, with few threads that
/// are pinned nowhere: the demo is a guest on its machine.
fn start_instance(servers: [SocketAddr; SERVERS]) -> io::Result<Instance> {
    let destination = |(address, weight): (&SocketAddr, u32)| Destination {
        uri: format!("sip:{address};weight={weight}"),
        address: *address,
        weight,
        priority: 0,
        state: State::Active,
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
