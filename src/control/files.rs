//! What is asked of files before they are used.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Whether others than its owner and its group may read or write a file.
#[must_use]
pub fn is_open(path: &Path) -> bool {
    let metadata = fs::metadata(path);
    metadata.is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0)
}

/// What an operator is told of a file that [is open](is_open).
#[must_use]
pub fn open_warning(path: &Path) -> String {
    format!("others may read it; mend: chmod o= {}", path.display())
}
