//! The thread that probes: its sockets, its clock, its chance.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Registry, Token, Waker};

use super::field::{Chance, Field, Unsent};
use super::{Probed, Report, Target, probe};
use crate::sip::MAX_DATAGRAM;

/// Datagrams taken from one socket before something else is done: what a
/// thousand destinations answer while the thread is kept from running. More
/// must not keep probes from being sent and from timing out.
const DATAGRAMS: usize = 1024;

/// Destinations polled before something else is done.
const POLLED: usize = 256;

/// Octets of each buffer of a socket: for the same thousand answers, and for
/// probes that wait until a neighbour tells its link address, for seconds where
/// it is dead.
const BUFFER: usize = 1 << 20;

/// Any port: nothing is sent there.
const DISCARD: u16 = 9;

/// The token that wakes the thread; that of all sockets, each of which is
/// looked at whenever it wakes.
const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);

/// Probes destinations in a thread of its own, which ends when this is
/// dropped.
pub struct Prober {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    field: Mutex<Field>,
    /// Where the times of the field count from.
    start: Instant,
    waker: Waker,
    stop: AtomicBool,
}

impl Prober {
    /// Starts the thread, which calls `report` with what has changed. That may
    /// neither wait nor ask the prober anything.
    ///
    /// # Errors
    /// The system has no descriptor, no random number or no thread to give.
    pub fn start(report: impl Fn(Vec<Report>) + Send + 'static) -> io::Result<Self> {
        let mut key = [0; 16];
        getrandom::fill(&mut key)?;
        let poll = Poll::new()?;
        let shared = Arc::new(Shared {
            field: Mutex::new(Field::new(Chance::new(&key))),
            start: Instant::now(),
            waker: Waker::new(poll.registry(), WAKE)?,
            stop: AtomicBool::new(false),
        });
        let sockets = Sockets {
            registry: poll.registry().try_clone()?,
            open: BTreeMap::new(),
            here: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || own.run(poll, sockets, report))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Replaces what is probed. Whatever stays, by set and address, keeps its
    /// state. Nothing is reported of what is left out.
    pub fn watch(&self, targets: Vec<Target>) {
        let now = self.shared.now();
        self.shared.lock().watch(targets, now);
        self.wake();
    }

    /// Has a destination probed at once, where that was not done just now.
    pub fn suspect(&self, set: &str, address: SocketAddr, cause: &'static str) {
        let now = self.shared.now();
        self.shared.lock().suspect(set, address, cause, now);
        self.wake();
    }

    /// What is known of each destination, in the order of the targets.
    #[must_use]
    pub fn states(&self) -> Vec<Probed> {
        self.shared.lock().states()
    }

    fn wake(&self) {
        // It fails only where the thread is gone.
        let _ = self.shared.waker.wake();
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Field> {
        self.field.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, mut poll: Poll, mut sockets: Sockets, report: impl Fn(Vec<Report>)) {
        let mut events = Events::with_capacity(64);
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut is_drained = true;
        while !self.stop.load(Ordering::Acquire) {
            let wait = match self.lock().next() {
                _ if !is_drained => Some(Duration::ZERO),
                next => next.map(|next| next.saturating_sub(self.now())),
            };
            // Interrupted, it looks around once more.
            let _ = poll.poll(&mut events, wait);
            // Locked anew for each: operators wait for one at a time, not for
            // all that is due.
            {
                let field = self.lock();
                sockets.begin_round(|from| field.uses(from));
            }
            // Answers first: one that waits is no silence.
            is_drained = sockets.receive(&mut buffer, |datagram, source| {
                self.lock().receive(datagram, source, self.now());
            });
            let mut poll_one = || {
                let mut field = self.lock();
                field.poll(self.now(), |target, token| sockets.send(target, token))
            };
            let _ = (0..POLLED).all(|_| poll_one());
            // Reported while nobody can leave a destination out, or put another
            // in its place.
            let mut field = self.lock();
            let reports = field.reports();
            if !reports.is_empty() {
                report(reports);
            }
        }
    }
}

/// The sockets that probes leave from, by the local address that was asked
/// for. ICMP errors never reach them, for they are not connected: whoever
/// forged one would take a destination down.
struct Sockets {
    registry: Registry,
    open: BTreeMap<IpAddr, mio::net::UdpSocket>,
    /// Whether an address is on this machine, of those asked about in this
    /// round of the loop.
    here: BTreeMap<IpAddr, bool>,
    /// The addresses from which nothing can be sent.
    closed: BTreeSet<IpAddr>,
}

impl Sockets {
    /// Closes those that are not used any more, and asks anew what is here.
    fn begin_round(&mut self, uses: impl Fn(IpAddr) -> bool) {
        self.open.retain(|from, _| uses(*from));
        self.closed.retain(|from| uses(*from));
        self.here.clear();
    }

    /// Takes what has come in. Returns whether that was all.
    fn receive(&self, buffer: &mut [u8], mut take: impl FnMut(&[u8], SocketAddr)) -> bool {
        let mut is_all = true;
        for socket in self.open.values() {
            let mut left = DATAGRAMS;
            while left > 0
                && let Ok((length, source)) = socket.recv_from(buffer)
            {
                take(&buffer[..length], source);
                left -= 1;
            }
            is_all &= left > 0;
        }
        is_all
    }

    /// Sends a probe.
    ///
    /// # Errors
    /// Ours: the address to send from is not on this machine (as on a stand-by
    /// without the virtual address), or no descriptor or room is left. Any other
    /// is the destination's, whose work meets the same.
    fn send(&mut self, target: &Target, token: u64) -> Result<(), Unsent> {
        let from = target.from;
        let local = match self.local(target) {
            Ok(local) => local,
            Err(error) => {
                if self.closed.insert(from) {
                    tracing::warn!(
                        "no probe can be sent from {from}: {error}; the health of its destinations \
                         stays as it was last known"
                    );
                }
                return Err(Unsent::Ours(error));
            }
        };
        if self.closed.remove(&from) {
            tracing::info!("probes are sent from {from} again");
        }
        let request = probe::request(target, local, token);
        match self.socket(from)?.send_to(&request, target.address) {
            Ok(_) => Ok(()),
            Err(error) if is_lack_of_room(&error) => Err(Unsent::Ours(error)),
            Err(error) => Err(Unsent::Refused(error)),
        }
    }

    /// Where a probe of `target` leaves from, for its Via. A socket that was
    /// bound while the address was here would send on in silence, so that is
    /// asked in each round.
    fn local(&mut self, target: &Target) -> io::Result<SocketAddr> {
        let from = target.from;
        let source = match from.is_unspecified() {
            true => chosen(from, target.address).unwrap_or(from),
            false if *self.here.entry(from).or_insert_with(|| is_here(from)) => from,
            false => return Err(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)),
        };
        let port = self.socket(from)?.local_addr()?.port();
        Ok(SocketAddr::new(source, port))
    }

    fn socket(&mut self, from: IpAddr) -> io::Result<&mio::net::UdpSocket> {
        match self.open.entry(from) {
            Entry::Occupied(open) => Ok(open.into_mut()),
            Entry::Vacant(place) => {
                let socket = UdpSocket::bind((from, 0))?;
                socket.set_nonblocking(true)?;
                let buffers = socket2::SockRef::from(&socket);
                buffers.set_recv_buffer_size(BUFFER)?;
                buffers.set_send_buffer_size(BUFFER)?;
                let mut socket = mio::net::UdpSocket::from_std(socket);
                self.registry
                    .register(&mut socket, SOCKET, Interest::READABLE)?;
                Ok(place.insert(socket))
            }
        }
    }
}

/// Whether a buffer, a queue, or the ports or descriptors of our own are used
/// up: others than this destination may have taken them.
fn is_lack_of_room(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EAGAIN
                | libc::ENOBUFS
                | libc::ENOMEM
                | libc::EADDRINUSE
                | libc::EMFILE
                | libc::ENFILE
        )
    )
}

/// The address that the kernel chooses by now for what goes to `to` from a
/// socket that is bound to `bound`. Sends nothing, but looks up the route.
fn chosen(bound: IpAddr, to: SocketAddr) -> io::Result<IpAddr> {
    let socket = UdpSocket::bind((bound, 0))?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

/// Whether this machine has `from`, as far as that can be asked: with
/// `ip_nonlocal_bind` a stand-by binds what it does not have. What lacks the
/// room to ask does not tell that it has gone.
fn is_here(from: IpAddr) -> bool {
    let itself = SocketAddr::new(from, DISCARD);
    let bound = match from {
        // From an address that is not here there is no route, not even to it.
        IpAddr::V4(_) => from,
        // IPv6 does not look at the source. But what goes to an address that is
        // here leaves from that very one.
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    match chosen(bound, itself) {
        Ok(chosen) => chosen == from,
        Err(error) => is_lack_of_room(&error),
    }
}
