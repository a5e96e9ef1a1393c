//! The sockets of an instance: bound, or inherited, and how the kernel chooses
//! among them.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use super::StartError;
use super::inheritance::Inherited;
use crate::config::{Config, Listener, Steer};
use crate::net::{ReceiveBatch, Socket, steer};
use crate::proxy::KeptDatagram;
use crate::resolver;

/// Datagrams taken at once from a socket that is to be closed.
const BATCH: usize = 64;

/// Files beside those of workers that a start takes.
const AT_START: u64 = 32;
/// Files beside sockets: the log, accounting, the admin API's connections.
const BESIDE: u64 = 256;

/// Files that an instance has open from its start on, and at most.
#[must_use]
pub fn open_files(config: &Config) -> RangeInclusive<u64> {
    // A worker has a socket for each listener, which is open once more for its
    // gauges, and two to wait for them.
    let of_workers = config.workers as u64 * (2 * config.listeners.len() as u64 + 2);
    of_workers + AT_START..=of_workers + resolver::sockets(config) as u64 + BESIDE
}

/// Whether the process may have as many files open as a start takes. `raise` says
/// how it may have that many.
///
/// # Errors
/// It may not, and what mends that.
pub(super) fn may_open_files(
    config: &Config,
    raise: impl FnOnce(u64) -> String,
) -> Result<(), String> {
    let files = open_files(config);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    if limit >= *files.start() {
        return Ok(());
    }
    let (start, most) = files.into_inner();
    Err(format!(
        "a start takes {start} open files, and the process may have {limit} files open\n  help: {} \
         (in the unit: LimitNOFILE={most}), or fewer --workers",
        raise(most)
    ))
}

/// What decides which worker a datagram goes to.
#[derive(Debug)]
pub(super) enum Steering {
    /// There is one worker.
    One,
    /// The kernel, by addresses and ports.
    Source,
    /// Call-ID, where it begins within so many octets.
    CallId(usize),
    /// The kernel, for it refused to have it done by Call-ID.
    Refused(io::Error),
}

/// How long datagrams may be on their way to a socket that they are no longer
/// steered to. The kernel takes microseconds, unless a core stands still in
/// between; the others wait meanwhile, for less than it takes a client to send
/// again.
const ON_THE_WAY: Duration = Duration::from_millis(100);

/// The sockets of an instance.
#[derive(Default)]
pub(super) struct Bound {
    /// By worker and listener.
    pub(super) sockets: Vec<Vec<Socket>>,
    /// What waited in sockets that no worker has any more.
    pub(super) waiting: Vec<KeptDatagram>,
    /// Where they come from.
    pub(super) origins: Origins,
}

/// Where the sockets of an instance come from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origins {
    /// How many are inherited.
    pub(super) kept: usize,
    /// How many are bound anew.
    pub(super) new: usize,
    /// How many were inherited in vain.
    pub(super) closed: usize,
}

/// One socket for each listener for each worker, inherited where there is one.
/// A port 0 in `config` becomes the real one.
pub(super) fn bind(
    config: &mut Config,
    mut inherited: Vec<Inherited>,
) -> Result<Bound, StartError> {
    let mut bound = Bound {
        sockets: (0..config.workers).map(|_| Vec::new()).collect(),
        ..Bound::default()
    };
    let sizes = (config.receive_buffer, config.send_buffer);
    let mut first = first(config, &inherited)?;
    let mut surplus = Vec::new();
    for (number, listener) in config.listeners.iter_mut().enumerate() {
        let mut own = belonging_to(listener, &mut inherited);
        for (worker, sockets) in bound.sockets.iter_mut().enumerate() {
            let socket = match own.iter().position(|each| each.worker == worker) {
                Some(at) => {
                    bound.origins.kept += 1;
                    tuned(own.swap_remove(at), listener, sizes)?
                }
                None => {
                    bound.origins.new += 1;
                    newly_bound(listener, first[number].take(), sizes)?
                }
            };
            sockets.push(socket);
        }
        if let (false, Some(first)) = (own.is_empty(), bound.sockets[0].last()) {
            // Where the kernel takes no program, a datagram may come too late.
            let _ = steer::to_first(first);
            surplus.extend(own.into_iter().map(|each| (number, each.socket)));
        }
    }
    bound.origins.closed = surplus.len() + inherited.len();
    if !surplus.is_empty() {
        std::thread::sleep(ON_THE_WAY);
        bound.waiting = emptied(&surplus);
    }
    Ok(bound)
}

/// The first socket of each listener that none is there of, by listener. Nobody
/// else has its address: two instances on one would take each other's datagrams,
/// and neither would say so.
fn first(config: &Config, inherited: &[Inherited]) -> Result<Vec<Option<Socket>>, StartError> {
    let sizes = (config.receive_buffer, config.send_buffer);
    let addresses = config.listeners.iter().map(|each| each.address);
    let mut ours: Vec<_> = inherited.iter().map(|each| each.bound).collect();
    let mut first: Vec<_> = addresses.clone().map(|_| None).collect();
    // Beside a wildcard of ours nobody else gets one of its addresses.
    let mut order: Vec<_> = addresses.enumerate().collect();
    order.sort_by_key(|(_, address)| !address.ip().is_unspecified());
    for (number, address) in order {
        // A port 0 is never shared.
        if address.port() != 0 && !ours.iter().any(|each| overlap(*each, address)) {
            let failed = |error| StartError::Bind(address, error);
            first[number] = Some(Socket::bind(address, sizes.0, sizes.1).map_err(failed)?);
            ours.push(address);
        }
    }
    Ok(first)
}

/// Whether a socket at one of these takes what comes to the other.
pub(super) fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let wildcard = one.ip().is_unspecified() || other.ip().is_unspecified();
    let family = one.is_ipv4() == other.is_ipv4();
    one == other || (one.port() == other.port() && family && wildcard)
}

/// Takes the sockets of a listener out of those inherited.
fn belonging_to(listener: &Listener, inherited: &mut Vec<Inherited>) -> Vec<Inherited> {
    let asked = listener.address;
    let is_it = |each: &Inherited| match asked.port() {
        0 => each.asked == asked,
        _ => each.bound == asked,
    };
    // Of several that asked for any port, each has its own.
    let bound = inherited.iter().find(|each| is_it(each));
    let bound = bound.map(|each| each.bound);
    inherited
        .extract_if(.., |each| Some(each.bound) == bound)
        .collect()
}

fn tuned(
    inherited: Inherited,
    listener: &mut Listener,
    (receive, send): (usize, usize),
) -> Result<Socket, StartError> {
    let failed = |error| StartError::System("setsockopt", error);
    inherited.socket.tune(receive, send).map_err(failed)?;
    take_port(listener, inherited.bound);
    Ok(inherited.socket)
}

fn newly_bound(
    listener: &mut Listener,
    first: Option<Socket>,
    (receive, send): (usize, usize),
) -> Result<Socket, StartError> {
    let address = listener.address;
    let bind = match address.port() {
        0 => Socket::bind,
        _ => Socket::bind_beside,
    };
    let bound = first.map_or_else(|| bind(address, receive, send), Ok);
    let socket = bound.map_err(|error| StartError::Bind(address, error))?;
    let failed = |error| StartError::System("getsockname", error);
    take_port(listener, socket.address().map_err(failed)?);
    Ok(socket)
}

/// What waits in sockets that are about to be closed.
fn emptied(surplus: &[(usize, Socket)]) -> Vec<KeptDatagram> {
    let mut waiting = Vec::new();
    let mut batch = ReceiveBatch::new(BATCH);
    for (listener, socket) in surplus {
        // An error of an earlier send leaves what is queued there; from here
        // on there is one at most.
        let _ = socket.hear_errors(false);
        while let Ok(1..) = (batch.receive(socket)).or_else(|_| batch.receive(socket)) {
            waiting.extend(batch.datagrams().map(|(bytes, source)| KeptDatagram {
                bytes: bytes.into(),
                source,
                listener: *listener,
            }));
        }
    }
    waiting
}

/// A socket that was bound to port 0 has a real one, and so have those of
/// the other workers.
fn take_port(listener: &mut Listener, bound: SocketAddr) {
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
/// listeners.
///
/// Inherited sockets have the program of before until they get another one.
pub(super) fn steering(config: &Config, bound: &Bound) -> Steering {
    if config.workers == 1 {
        return Steering::One;
    }
    // One socket attaches the program for its whole group.
    let each = || bound.sockets.iter().take(1).flatten();
    let by_addresses = || {
        for socket in each() {
            // A kernel that takes no program has none to replace.
            let _ = steer::by_addresses(socket);
        }
    };
    if config.steer == Steer::Source {
        if bound.origins.kept > 0 {
            by_addresses();
        }
        return Steering::Source;
    }
    let mut searched = usize::MAX;
    for socket in each() {
        match steer::by_call_id(socket, config.workers) {
            Ok(octets) => searched = searched.min(octets),
            Err(error) => {
                by_addresses();
                return Steering::Refused(error);
            }
        }
    }
    Steering::CallId(searched)
}

/// The core of each worker: those this process may use, in turn.
pub(super) fn cores(config: &Config) -> Vec<Option<usize>> {
    let usable = match config.pin {
        true => core_affinity::get_core_ids().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut cores = usable.iter().map(|core| core.id).cycle();
    (0..config.workers).map(|_| cores.next()).collect()
}
