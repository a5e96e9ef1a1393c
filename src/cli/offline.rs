//! What deciding needs where nothing runs.

use std::io;
use std::path::Path;

use super::Tunables;
use crate::config::Config;
use crate::proxy::Secret;
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

/// Loads another file under the same flags and variables.
pub(super) fn other(tunables: &Tunables, file: &Path) -> io::Result<Option<Config>> {
    let tunables = Tunables {
        config: Some(file.to_owned()),
        ..tunables.clone()
    };
    tunables.load()
}
