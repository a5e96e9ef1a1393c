//! What `run` would not find in the file system, found out without a run.

use std::path::Path;

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::run::Failure;
use super::{StartError, secret_file};
use crate::config::{AccountingTarget, Config};
use crate::control::{self, may_make};

/// The secret, the token, the admin socket and the file of accounting, where
/// they cannot be read or made: in the words with which `run` would end.
/// Nothing is made.
#[must_use]
pub fn missing(config: &Config) -> Vec<Failure> {
    let mut missing: Vec<Failure> = Vec::new();
    let secret = secret_file::rehearse(config.secret_file.as_deref(), None);
    missing.extend(secret.err().map(Failure::from));
    missing.extend(accounting(config).err().map(Failure::from));
    missing.extend(
        control::missing(&config.admin)
            .into_iter()
            .map(Failure::from),
    );
    missing
}

fn accounting(config: &Config) -> Result<(), StartError> {
    let target = config.stateful.accounting.as_ref().map(|each| &each.target);
    let Some(target @ AccountingTarget::File(path)) = target else {
        // What listens on a socket may come later.
        return Ok(());
    };
    let may_write = |path: &Path| match path.exists() {
        // A folder may be written to, too, but not as a file.
        true if path.is_dir() => Err(Errno::ISDIR.into()),
        true => Ok(access(path, Access::WRITE_OK)?),
        false => may_make(path),
    };
    may_write(path).map_err(|error| StartError::Accounting(target.clone(), error))
}
