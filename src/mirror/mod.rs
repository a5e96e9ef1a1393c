//! Copies of messages for a capture server such as Homer, by HEP.
//!
//! A worker copies a message into a bounded queue and goes on; a thread of its
//! own makes packets of the copies and sends them. What finds the queue full is
//! dropped and counted: a call never waits for its mirror.

mod hep;

use std::hash::Hasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::queue::{self, Queue};
use crate::{config, sip};

pub use hep::Packet;

/// How often the thread looks for copies. To wake it would cost a worker a
/// system call for each; half of the queue holds what comes in this time at
/// 400,000 a second.
const LOOK: Duration = Duration::from_millis(20);
/// The least time between two sockets, so that not each copy that fails makes
/// one.
const RENEWAL: Duration = Duration::from_secs(1);
/// How long the end waits for the last copies to be sent: a send waits for
/// seconds where the link is slow, or nobody has the collector's address.
const FAREWELL: Duration = Duration::from_secs(1);
/// What [`config::Mirror::sample`] counts in.
const WHOLE: u64 = 1000;

/// The sender of copies. Dropped, it sends what waits, and ends; what cannot be
/// within a second is lost.
pub struct Mirror {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// A worker's way to the sender.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

/// What has become of copies so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = MirrorCounts)]
pub struct Counts {
    /// Packets that have left.
    pub sent: u64,
    /// Copies that are lost: the queue was full, or the end came first.
    pub dropped: u64,
    /// Packets that could not be sent: the kernel refused them, the collector
    /// was not there (as ICMP said), or they were too long for HEP.
    pub failed: u64,
}

struct Shared {
    /// Calls that are copied, of each [`WHOLE`].
    sample: u64,
    queue: Queue<Copied>,
    sent: AtomicU64,
    dropped: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

/// A message on its way.
struct Copied {
    octets: Box<[u8]>,
    call_id: sip::Span,
    from: SocketAddr,
    to: SocketAddr,
    time: SystemTime,
}

impl Mirror {
    /// Starts the sender.
    ///
    /// # Errors
    /// No socket can be made, or no thread started. A collector that cannot
    /// be reached is none.
    pub fn start(mirror: &config::Mirror) -> io::Result<Self> {
        let socket = socket(mirror.to)?;
        let shared = Arc::new(Shared {
            sample: mirror.sample.into(),
            queue: Queue::default(),
            sent: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let sender = Sender {
            shared: Arc::clone(&shared),
            socket,
            renewed: Instant::now(),
            mirror: mirror.clone(),
            packet: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("mirror".to_owned())
            .spawn(move || sender.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// The way to the sender, for a worker.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take()
            && !queue::end(thread, FAREWELL)
        {
            let rest = self.shared.queue.waiting() as u64;
            self.shared.dropped.fetch_add(rest, Ordering::Relaxed);
        }
    }
}

impl Handle {
    /// What has become of copies so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            sent: self.0.sent.load(Ordering::Relaxed),
            dropped: self.0.dropped.load(Ordering::Relaxed),
            failed: self.0.failed.load(Ordering::Relaxed),
        }
    }

    /// Whether the messages of a call are copied. The same on all instances
    /// of one sample, so that each sees whole calls.
    #[must_use]
    pub fn wants(&self, call_id: &[u8]) -> bool {
        if self.0.sample >= WHOLE {
            return true;
        }
        let mut hasher = SipHasher13::new();
        hasher.write(call_id);
        hasher.finish() % WHOLE < self.0.sample
    }

    /// Has a SIP message copied to the collector where its call is wanted;
    /// whatever else `bytes` are is not. Never waits; what is lost is counted.
    #[cold]
    pub fn copy(&self, bytes: &[u8], from: SocketAddr, to: SocketAddr) {
        let Ok(message) = sip::scan(bytes) else {
            return;
        };
        let call_id = message.call_id.value;
        if !self.wants(call_id.of(message.bytes)) {
            return;
        }
        let shared = &*self.0;
        let copied = || Copied {
            octets: message.bytes.into(),
            call_id,
            from,
            to,
            time: SystemTime::now(),
        };
        if !shared.queue.push(message.bytes.len(), copied) {
            shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// What the thread works with.
struct Sender {
    shared: Arc<Shared>,
    socket: UdpSocket,
    /// When a socket was last asked for.
    renewed: Instant,
    mirror: config::Mirror,
    packet: Vec<u8>,
}

impl Sender {
    fn run(mut self) {
        loop {
            // Read first, for what was copied before a stop is sent.
            let is_last = self.shared.stop.load(Ordering::Acquire);
            while let Some(copied) = self.shared.queue.pop() {
                self.send(&copied);
            }
            if is_last {
                return;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    fn send(&mut self, copied: &Copied) {
        let packet = Packet {
            from: copied.from,
            to: copied.to,
            time: copied.time.duration_since(UNIX_EPOCH).unwrap_or_default(),
            agent: self.mirror.id,
            key: self.mirror.key.as_deref(),
            correlation: copied.call_id.of(&copied.octets),
            payload: &copied.octets,
        };
        let counter = if !packet.write(&mut self.packet) {
            &self.shared.failed
        } else if let Err(error) = self.socket.send(&self.packet) {
            // The first `connect` fixes the address that a socket sends from,
            // for good: where that has left this machine, only another helps.
            if error.kind() != io::ErrorKind::ConnectionRefused && self.renewed.elapsed() >= RENEWAL
            {
                self.renewed = Instant::now();
                if let Ok(socket) = socket(self.mirror.to) {
                    self.socket = socket;
                }
            }
            &self.shared.failed
        } else {
            &self.shared.sent
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// A socket that is connected, and so hears that the collector is not there.
///
/// # Errors
/// The system has none to give.
fn socket(to: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    // Where there is no way yet, a send fails, and the next socket may have one.
    let _ = socket.connect(to);
    Ok(socket)
}
