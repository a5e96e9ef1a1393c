//! The sockets of an instance: bound, or inherited, and how the kernel chooses
//! among them.

use std::io;
use std::net::SocketAddr;

use super::StartError;
use crate::config::{Config, Listener, Steer};
use crate::net::{Socket, steer};

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

/// One socket for each listener for each worker. A port 0 in `config` becomes
/// the real one.
pub(super) fn bind(config: &mut Config) -> Result<Vec<Vec<Socket>>, StartError> {
    let mut sockets: Vec<Vec<Socket>> = (0..config.workers).map(|_| Vec::new()).collect();
    let (receive, send) = (config.receive_buffer, config.send_buffer);
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
    }
    Ok(sockets)
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
pub(super) fn steering(config: &Config, sockets: &[Vec<Socket>]) -> Steering {
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

/// The core of each worker: those this process may use, in turn.
pub(super) fn cores(config: &Config) -> Vec<Option<usize>> {
    let usable = match config.pin {
        true => core_affinity::get_core_ids().unwrap_or_default(),
        false => Vec::new(),
    };
    let mut cores = usable.iter().map(|core| core.id).cycle();
    (0..config.workers).map(|_| cores.next()).collect()
}
