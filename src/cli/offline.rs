//! What deciding needs where nothing runs.

use std::io;
use std::net::SocketAddr;

use crate::config::Config;
use crate::proxy::{Datagram, Decision, HostPort, Proxy, Scratch, Secret};
use crate::sip::MAX_DATAGRAM;
use crate::supervisor;

/// What an operator should know of decisions without the secret.
pub(super) const NO_SECRET: &str = "no secret file: a running instance has a key of its own, and \
                                    may choose otherwise";

/// The secret of a configuration's file, and whether there is one; none is
/// made.
pub(super) fn secret(config: &Config) -> io::Result<(Secret, bool)> {
    match supervisor::place(config.secret_file.as_deref()).filter(|path| path.exists()) {
        Some(path) => {
            let (secret, _) = supervisor::load(Some(&path)).map_err(io::Error::other)?;
            Ok((secret, true))
        }
        None => Ok((Secret::from_octets([0; Secret::OCTETS]), false)),
    }
}

/// The secret of a configuration that is compared with one that has `other`:
/// its own, or else the same.
pub(super) fn own_secret(config: &Config, other: &Secret) -> io::Result<Secret> {
    let (own, is_there) = secret(config)?;
    Ok(if is_there { own } else { other.clone() })
}

/// The listener that `--listener` names.
pub(super) fn listener(config: &Config, name: &str) -> io::Result<usize> {
    let names = || config.listeners.iter().map(|each| &*each.name);
    names().position(|each| each == name).ok_or_else(|| {
        let known: Vec<_> = names().collect();
        let known = known.join(", ");
        io::Error::other(format!(
            "--listener: there is no listener `{name}`\n  help: there are {known}"
        ))
    })
}

/// A proxy and what a worker would have beside it.
pub(super) struct Decider {
    pub(super) proxy: Proxy,
    scratch: Scratch,
    out: Vec<u8>,
    length: usize,
}

impl Decider {
    pub(super) fn new(proxy: Proxy) -> Self {
        Self {
            scratch: proxy.scratch(),
            proxy,
            out: vec![0; MAX_DATAGRAM],
            length: 0,
        }
    }

    pub(super) fn decide(&mut self, datagram: &Datagram<'_>) -> Decision {
        let decision = self
            .proxy
            .decide(datagram, &mut self.scratch, &mut self.out);
        self.length = match decision {
            Decision::Forward(forward) => forward.length,
            Decision::Reply(reply) => reply.length,
            Decision::Resolve | Decision::Drop(_) => 0,
        };
        decision
    }

    /// Where else the last decision would send it.
    pub(super) fn also(&self) -> &[SocketAddr] {
        self.scratch.also()
    }

    /// The name that the last decision asks for, if it does.
    pub(super) fn wanted(&self) -> &HostPort {
        self.scratch.names().wanted()
    }

    /// What the last decision would send; empty where that is nothing.
    pub(super) fn octets(&self) -> &[u8] {
        &self.out[..self.length]
    }
}
