//! What is asked of files before they are used.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{Access, access};

/// Whether others than its owner and its group may read or write a file.
#[must_use]
pub fn is_open(path: &Path) -> bool {
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// What an operator is told of a file that [is open](is_open), from its path on.
#[must_use]
pub fn open_warning(path: &Path) -> String {
    let path = path.display();
    format!("{path}: others may read it; mend: chmod o= {path}")
}

/// Whether a file could be made at `path`; none is.
///
/// # Errors
/// Its folder is not there, or not to be written by this user.
pub fn may_make(path: &Path) -> io::Result<()> {
    // The dot is in nothing but a folder.
    let folder = path.parent().unwrap_or(path).join(".");
    Ok(access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
}
