//! Keeping the secret: a file that nobody may read but its owner, and its group
//! where an operator says so.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config::HELP;
use crate::control::{is_open, may_make, open_warning};
use crate::proxy::{Secret, SecretError};

/// A secret file that cannot be used.
#[derive(Debug)]
pub enum SecretFileError {
    /// It is not there and cannot be made.
    Io(PathBuf, io::Error),
    /// It is there and cannot be read.
    Unreadable(PathBuf, io::Error),
    /// It holds something else.
    Content(PathBuf, SecretError),
    /// It holds another one than the running instance has.
    Other(PathBuf),
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => {
                let help = match error.raw_os_error() {
                    Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES | libc::EROFS) => {
                        "the folder must exist and be writable for the first start"
                    }
                    Some(libc::ENOSPC | libc::EDQUOT) => "the folder must have room for it",
                    _ => {
                        "it is written, synced and given its name by a hard link: for the first \
                         start its folder must be on a file system that does these"
                    }
                };
                write!(f, "secret file {}: {error}\n  help: {help}", path.display())
            }
            Self::Unreadable(path, error) => write!(
                f,
                "secret file {}: {error}\n  help: it must be a file that the user of viaduct may \
                 read",
                path.display()
            ),
            Self::Content(path, error) => write!(
                f,
                "{}:{}:1: {error}\n  help: name the right file, or restore this one from a copy or \
                 from the instance beside; only where there is neither, move it away: a new one is \
                 made, and dialogs lose their destinations",
                path.display(),
                error.line
            ),
            Self::Other(path) => write!(
                f,
                "secret file {}: it holds another secret than the running instance has: responses \
                 under way would be dropped, and dialogs lose their destinations\n  help: move it \
                 away, and an upgrade writes the running one there; to change the secret, restart with \
                 the running one on the second line",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SecretFileError {}

/// Loads the secret from `path`; makes it where the file does not exist. One
/// that is `inherited` goes on whatever becomes of the file, for calls go by it.
/// With it comes what the log is to say of where it is from.
///
/// # Errors
/// [`SecretFileError`], where none is inherited. Without a path there is none:
/// the secret then lasts as long as the process.
pub fn load(
    path: Option<&Path>,
    inherited: Option<Secret>,
) -> Result<(Secret, String), SecretFileError> {
    let is_new = inherited.is_none();
    let ours = match inherited {
        Some(secret) => secret,
        None => Secret::from_octets(random().map_err(|error| {
            let path = path.map(Path::to_owned).unwrap_or_default();
            SecretFileError::Io(path, error)
        })?),
    };
    if let Some(path) = path {
        return kept(path, ours, is_new);
    }
    let how = match is_new {
        true => "made for this run",
        false => "taken over",
    };
    let said = format!(
        "secret: {how}\nwarning: without a secret file calls in set-up break at a restart, and \
         instances side by side disagree; mend: --secret-file PATH"
    );
    Ok((ours, said))
}

/// The secret that the file holds, or else `ours`, and what the log is to say.
fn kept(path: &Path, ours: Secret, is_new: bool) -> Result<(Secret, String), SecretFileError> {
    let file = path.display();
    let (found, open) = match found_or_made(path, &ours) {
        Ok(Some(found)) => found,
        Ok(None) => {
            let how = if is_new { "made" } else { "taken over" };
            return Ok((ours, format!("secret: {how} and kept in {file}")));
        }
        Err(error) if is_new => return Err(error),
        Err(error) => {
            let why = error.to_string().replace(HELP, "; mend: ");
            let said = format!(
                "secret: taken over\nwarning: the secret is not kept, and calls in set-up break \
                 at a restart: {why}"
            );
            return Ok((ours, said));
        }
    };
    if !is_new && !found.is_like(&ours) {
        let said = format!(
            "secret: taken over\nwarning: secret file {file}: it holds another one, by which \
             calls in set-up break at a restart; mend: move it away and upgrade again"
        );
        return Ok((ours, said));
    }
    let mut said = format!("secret: read from {file}");
    if found.has_other() {
        said += "; the signatures of the other one in it are accepted, too";
    }
    if open {
        said += &format!("\nwarning: secret file {}", open_warning(path));
    }
    Ok((found, said))
}

/// What the file holds; `None`: it has been made, and holds `ours`.
fn found_or_made(path: &Path, ours: &Secret) -> Result<Option<(Secret, bool)>, SecretFileError> {
    let failed = |error| SecretFileError::Io(path.to_owned(), error);
    match !exists(path) && make(path, ours).map_err(failed)? {
        true => Ok(None),
        false => read(path).map(Some),
    }
}

/// Whether [`load`] would go well beside a `running` instance, and the file
/// agree with it. Makes nothing.
///
/// # Errors
/// [`SecretFileError`].
pub(super) fn rehearse(
    path: Option<&Path>,
    running: Option<&Secret>,
) -> Result<(), SecretFileError> {
    let Some(path) = path else {
        return Ok(());
    };
    if !exists(path) {
        return may_make(path).map_err(|error| SecretFileError::Io(path.to_owned(), error));
    }
    let (found, _) = read(path)?;
    match running {
        Some(running) if !running.is_like(&found) => Err(SecretFileError::Other(path.to_owned())),
        _ => Ok(()),
    }
}

/// Where one may not look, trying to make it says why.
fn exists(path: &Path) -> bool {
    fs::exists(path).unwrap_or(false)
}

/// The secret in a file, and whether others may read that.
///
/// # Errors
/// [`SecretFileError::Unreadable`], also where there is none, and
/// [`SecretFileError::Content`].
pub fn read(path: &Path) -> Result<(Secret, bool), SecretFileError> {
    let octets = fs::read(path);
    let octets = octets.map_err(|error| SecretFileError::Unreadable(path.to_owned(), error))?;
    let secret = Secret::from_text(&String::from_utf8_lossy(&octets));
    let secret = secret.map_err(|error| SecretFileError::Content(path.to_owned(), error))?;
    Ok((secret, is_open(path)))
}

/// Makes the file; false where another instance was faster. It appears whole
/// or not at all: written under another name, then linked.
fn make(path: &Path, secret: &Secret) -> io::Result<bool> {
    // In a container each process may have the number of one that crashed here.
    let number = u64::from_ne_bytes(random()?);
    let draft = path.with_extension(format!("new-{number:016x}"));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = writeln!(file, "{}", secret.to_text())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        linked => linked.map(|()| true),
    }
}

/// Octets from the kernel's source of random ones.
pub(super) fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_has_left_is_not_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let left = path.with_extension(format!("new-{}", std::process::id()));
        fs::write(left, "").expect("a file");
        let (made, said) = load(Some(&path), None).expect("a secret");
        let file = path.display();
        assert_eq!(said, format!("secret: made and kept in {file}"));
        let (read, said) = load(Some(&path), None).expect("a secret");
        assert_eq!(said, format!("secret: read from {file}"));
        assert!(made == read);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        // What is there and cannot be read need not be made.
        let failed = load(Some(folder.path()), None).map(|(_, said)| said);
        let error = failed.expect_err("a folder").to_string();
        assert!(error.contains("may read"), "{error}");
    }
}
