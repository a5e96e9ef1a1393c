//! Keeping the secret: a file that nobody may read but its owner, and its group
//! where an operator says so.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::control::{is_open, open_warning};
use crate::proxy::{Secret, SecretError};

/// Where the secret comes from, and what an operator should know of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    /// Read from a file; whether others than its owner and its group may read
    /// or write it too.
    Read(PathBuf, bool),
    /// Made and written to a file.
    Made(PathBuf),
    /// Made, and gone with the process.
    Nowhere,
    /// Made by the program that this process executed before, and gone with it.
    Inherited,
}

/// A secret file that cannot be used.
#[derive(Debug)]
pub enum SecretFileError {
    /// It could be neither read nor made.
    Io(PathBuf, io::Error),
    /// It holds something else.
    Content(PathBuf, SecretError),
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(path, open) => {
                write!(f, "secret: read from {}", path.display())?;
                if *open {
                    write!(f, "\n  warning: {}", open_warning(path))?;
                }
                Ok(())
            }
            Self::Made(path) => write!(f, "secret: made and kept in {}", path.display()),
            Self::Nowhere | Self::Inherited => {
                let how = match self {
                    Self::Inherited => "taken over",
                    _ => "made for this run",
                };
                write!(
                    f,
                    "secret: {how}\n  warning: calls in set-up break at a restart, and \
                     instances side by side disagree; mend: --secret-file PATH"
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
            Self::Content(path, error) => write!(
                f,
                "{}:1:1: {error}\n  help: remove the file to have a new one made, or copy it from \
                 the instance beside this one",
                path.display()
            ),
        }
    }
}

impl std::error::Error for SecretFileError {}

/// Loads the secret from `path`, or from systemd's state directory where none
/// is given; makes it where the file does not exist.
///
/// # Errors
/// [`SecretFileError`]. Without a path and a state directory there is none:
/// the secret then lasts as long as the process.
pub fn load(path: Option<&Path>) -> Result<(Secret, Kept), SecretFileError> {
    let Some(path) = place(path) else {
        let octets = random().map_err(|error| SecretFileError::Io(PathBuf::new(), error))?;
        return Ok((Secret::from_octets(octets), Kept::Nowhere));
    };
    let made = match fs::exists(&path) {
        Ok(true) => false,
        _ => make(&path).map_err(|error| SecretFileError::Io(path.clone(), error))?,
    };
    let (text, open) = read(&path).map_err(|error| SecretFileError::Io(path.clone(), error))?;
    match Secret::from_text(&text) {
        Ok(secret) if made => Ok((secret, Kept::Made(path))),
        Ok(secret) => Ok((secret, Kept::Read(path, open))),
        Err(error) => Err(SecretFileError::Content(path, error)),
    }
}

/// Where the secret is kept: at `path`, or else in systemd's state directory.
#[must_use]
pub fn place(path: Option<&Path>) -> Option<PathBuf> {
    if let Some(path) = path {
        return Some(path.to_owned());
    }
    // systemd separates several directories by colons.
    let list = std::env::var("STATE_DIRECTORY").ok()?;
    let first = list.split(':').next().filter(|first| !first.is_empty())?;
    Some(Path::new(first).join("secret"))
}

fn read(path: &Path) -> io::Result<(String, bool)> {
    Ok((fs::read_to_string(path)?, is_open(path)))
}

/// Makes the file; false where another instance was faster. It appears whole
/// or not at all: written under another name, then linked.
fn make(path: &Path) -> io::Result<bool> {
    let mut text = Secret::from_octets(random()?).to_text();
    text.push('\n');
    let draft = path.with_extension(format!("new-{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)?;
    let linked = file
        .write_all(text.as_bytes())
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
