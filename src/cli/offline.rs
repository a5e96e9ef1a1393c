//! What deciding needs where nothing runs.

use std::collections::BTreeSet;
use std::io;

use crate::config::{Config, Set};
use crate::control::explain;
use crate::proxy::Secret;
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

/// The names of destinations, whose addresses nobody is asked for.
pub(super) fn unresolved<'a>(sets: impl IntoIterator<Item = &'a Set>) -> Vec<String> {
    let names = sets.into_iter().flat_map(Set::unresolved);
    let names: BTreeSet<_> = names.map(ToString::to_string).collect();
    names.into_iter().collect()
}

/// The listener that `--listener` names.
pub(super) fn listener(config: &Config, name: &str) -> io::Result<usize> {
    let found = explain::listener_named(config, name);
    found.map_err(|error| io::Error::other(format!("--listener: {error}")))
}
