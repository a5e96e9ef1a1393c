//! Keeping the secret: a file that nobody may read but its owner, and its group
//! where an operator says so.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::control::{is_open, may_make, open_warning};
use crate::proxy::{Secret, SecretError};

/// Where the secret comes from, and what an operator should know of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// Read from a file.
    Read {
        /// The file.
        path: PathBuf,
        /// Whether others than its owner and its group may read or write it too.
        open: bool,
        /// Whether it holds another secret, too, whose marks are good.
        other: bool,
    },
    /// Made and written to a file.
    Made(PathBuf),
    /// Made, and gone with the process.
    Nowhere,
    /// Taken over from the program that this process executed before, and
    /// written to a file, or gone with the process.
    Inherited(Option<PathBuf>),
    /// Taken over likewise, beside a file that holds another one.
    Beside(PathBuf),
    /// Taken over likewise, and gone with the process, for this reason.
    Unkept(String),
}

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

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, open, other } => {
                write!(f, "secret: read from {}", path.display())?;
                if *other {
                    write!(f, "; the marks of the other one in it are good, too")?;
                }
                if *open {
                    write!(f, "\nwarning: secret file {}", open_warning(path))?;
                }
                Ok(())
            }
            Self::Made(path) => write!(f, "secret: made and kept in {}", path.display()),
            Self::Inherited(Some(path)) => {
                write!(f, "secret: taken over and kept in {}", path.display())
            }
            Self::Beside(path) => write!(
                f,
                "secret: taken over\nwarning: secret file {}: it holds another one, by which calls in set-up \
                 break at a restart; mend: move it away and upgrade again",
                path.display()
            ),
            Self::Unkept(why) => write!(
                f,
                "secret: taken over\nwarning: the secret is not kept, and calls in set-up break \
                 at a restart: {why}"
            ),
            Self::Nowhere | Self::Inherited(None) => {
                let how = match self {
                    Self::Inherited(_) => "taken over",
                    _ => "made for this run",
                };
                write!(
                    f,
                    "secret: {how}\nwarning: without a secret file calls in set-up break at a \
                     restart, and instances side by side disagree; mend: --secret-file PATH"
                )
            }
        }
    }
}

impl fmt::Display for SecretFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(
                f,
                "secret file {}: {error}\n  help: the folder must exist and be writable for the \
                 first start",
                path.display()
            ),
            Self::Unreadable(path, error) => write!(
                f,
                "secret file {}: {error}\n  help: it must be a file that the user of viaduct may \
                 read",
                path.display()
            ),
            Self::Content(path, error) => write!(
                f,
                "{}:{}:1: {error}\n  help: remove the file to have a new one made, or copy it from \
                 the instance beside this one",
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
///
/// # Errors
/// [`SecretFileError`], where none is inherited. Without a path there is none:
/// the secret then lasts as long as the process.
pub fn load(
    path: Option<&Path>,
    inherited: Option<Secret>,
) -> Result<(Secret, Kept), SecretFileError> {
    let path = path.map(Path::to_owned);
    let is_new = inherited.is_none();
    let ours = match inherited {
        Some(secret) => secret,
        None => Secret::from_octets(random().map_err(|error| {
            let path = path.clone().unwrap_or_default();
            SecretFileError::Io(path, error)
        })?),
    };
    let Some(path) = path else {
        let kept = match is_new {
            true => Kept::Nowhere,
            false => Kept::Inherited(None),
        };
        return Ok((ours, kept));
    };
    Ok(match found_or_made(&path, &ours) {
        Ok(None) if is_new => (ours, Kept::Made(path)),
        Ok(None) => (ours, Kept::Inherited(Some(path))),
        Ok(Some((found, _))) if !is_new && !found.is_like(&ours) => (ours, Kept::Beside(path)),
        Ok(Some((found, open))) => {
            let other = found.has_other();
            (found, Kept::Read { path, open, other })
        }
        Err(error) if is_new => return Err(error),
        Err(error) => {
            let why = error.to_string().replace("\n  help: ", "; mend: ");
            (ours, Kept::Unkept(why))
        }
    })
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
    let text = fs::read_to_string(path);
    let text = text.map_err(|error| SecretFileError::Unreadable(path.to_owned(), error))?;
    let secret = Secret::from_text(&text);
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
    getrandom::fill(&mut octets).map_err(|error| io::Error::other(error.to_string()))?;
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
        let (made, kept) = load(Some(&path), None).expect("a secret");
        assert_eq!(kept, Kept::Made(path.clone()));
        let (read, kept) = load(Some(&path), None).expect("a secret");
        let (open, other) = (false, false);
        assert_eq!(kept, Kept::Read { path, open, other });
        assert!(made == read);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 2);
        // What is there and cannot be read need not be made.
        let failed = load(Some(folder.path()), None).map(|(_, kept)| kept);
        let error = failed.expect_err("a folder").to_string();
        assert!(error.contains("may read"), "{error}");
    }
}
