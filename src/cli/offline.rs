//! What deciding needs where nothing runs.

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;

use crate::config::{Config, Listener, Set, differing_keys};
use crate::control::explain;
use crate::proxy::{Proxy, Secret};
use crate::supervisor::{self, SecretFileError};

/// The secret of a configuration's file, and whether there is one; none is
/// made.
pub(super) fn secret(config: &Config) -> io::Result<(Secret, bool)> {
    let none = (Secret::from_octets([0; Secret::OCTETS]), false);
    let Some(path) = &config.secret_file else {
        return Ok(none);
    };
    match supervisor::read_secret(path) {
        Ok((secret, _)) => Ok((secret, true)),
        Err(SecretFileError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {
            Ok(none)
        }
        Err(error) => Err(io::Error::other(error)),
    }
}

/// The secret of a configuration that is compared with one that has `other`:
/// its own, or else the same.
pub(super) fn own_secret(config: &Config, other: &Secret) -> io::Result<Secret> {
    let (own, is_there) = secret(config)?;
    Ok(if is_there { own } else { other.clone() })
}

/// What decides by `after` once it has come into force, as `run` has it: by a
/// reload, where `former`, of `before`, goes on; else by a start, for these keys.
pub(super) fn successor(
    former: &Proxy,
    before: &Config,
    after: &Config,
    secret: &Secret,
) -> io::Result<(Proxy, Vec<&'static str>)> {
    let needs_restart = differing_keys(before, after).at_start;
    let next = match needs_restart.is_empty() {
        false => Proxy::new(after, own_secret(after, secret)?),
        true if after.second_chance.is_zero() => {
            former.successor(after).without_formers_before(u64::MAX)
        }
        true => former.successor(after),
    };
    Ok((next, needs_restart))
}

/// The names of destinations, whose addresses nobody is asked for.
pub(super) fn unresolved<'a>(sets: impl IntoIterator<Item = &'a Set>) -> Vec<String> {
    let names = sets.into_iter().flat_map(Set::unresolved);
    let names: BTreeSet<_> = names.map(ToString::to_string).collect();
    names.into_iter().collect()
}

/// The listener that a datagram to `address` comes in on.
pub(super) fn listener_at(config: &Config, address: SocketAddr) -> Option<usize> {
    let mut listeners = config.listeners.iter();
    listeners.position(|listener| listener.receives(address))
}

/// The listener of `after` that takes the place of `before`: of the same name,
/// or else the same address.
pub(super) fn listener_instead(after: &Config, before: &Listener) -> Option<usize> {
    let named = explain::listener_named(after, &before.name).ok();
    let is_v4 = before.address.is_ipv4();
    named
        .filter(|index| after.listeners[*index].address.is_ipv4() == is_v4)
        .or_else(|| listener_at(after, before.address))
}

/// The listener that `--listener` names.
pub(super) fn listener(config: &Config, name: &str) -> io::Result<usize> {
    let found = explain::listener_named(config, name);
    found.map_err(|error| io::Error::other(format!("--listener: {error}")))
}
