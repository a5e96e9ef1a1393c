//! The Unix socket of the admin API: nobody but its owner and its group ever
//! gets in.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::net::sockopt::socket_peercred;
use rustix::process::getppid;
use socket2::{Domain, SockAddr, Socket, Type};

use super::files::may_make;
use crate::config::SOCKET_PATH_MAX;

/// Owner and group.
const MODE: Mode = Mode::from_raw_mode(0o660);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// The file of a socket of ours, which goes with it.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

/// Whether the process that has started this one listens at `path`.
pub(super) fn is_of_parent(path: &Path) -> bool {
    let peer = UnixStream::connect(path).and_then(|stream| Ok(socket_peercred(stream)?.pid));
    peer.ok() == getppid()
}

/// Listens at `path`, in the place of a socket that a dead process has left.
///
/// # Errors
/// With what can be done about it.
pub(super) fn listen(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let failed = |said: String| failed(path, &said);
    let octets = path.as_os_str().len();
    if octets > SOCKET_PATH_MAX {
        return Err(failed(format!(
            "the path has {octets} octets, and a Unix socket's has {SOCKET_PATH_MAX} at most\n  help: give \
             a shorter one"
        )));
    }
    make_room(path).map_err(failed)?;
    let bind = || {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Before it has a name, and once more after: a umask takes rights
        // away, but never adds any.
        rustix::fs::fchmod(&socket, MODE)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let made = fs::symlink_metadata(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE.as_raw_mode()))?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: (made.dev(), made.ino()),
        };
        Ok((UnixListener::from(socket), file))
    };
    bind().map_err(|error| no_folder(path, &error))
}

/// Whether the folder of `path` is there, this user may make a socket in it, and
/// nothing else is at `path`.
///
/// # Errors
/// As of [`listen`].
pub(super) fn may_listen(path: &Path) -> io::Result<()> {
    has_socket(path).map_err(|said| failed(path, &said))?;
    may_make(path).map_err(|error| no_folder(path, &error))
}

fn no_folder(path: &Path, error: &io::Error) -> io::Error {
    let said = format!("{error}\n  help: its folder must exist and be writable");
    failed(path, &said)
}

fn failed(path: &Path, said: &str) -> io::Error {
    io::Error::other(format!("admin socket {}: {said}", path.display()))
}

/// Whether a socket is at this path, or nothing; says what else is there.
fn has_socket(path: &Path) -> Result<bool, String> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(false),
        Ok(there) if there.file_type().is_socket() => Ok(true),
        Ok(_) => Err(
            "there is something else at this path\n  help: remove it, or give another path".into(),
        ),
    }
}

/// Removes what a dead process has left; says what else is there.
fn make_room(path: &Path) -> Result<(), String> {
    if !has_socket(path)? {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| error.to_string())
        }
        Err(error) => Err(error.to_string()),
        Ok(_) => Err(
            "another process listens there\n  help: stop it, or give this instance another path \
             (--admin)"
                .into(),
        ),
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Unless another process has put its own there.
        let there = fs::symlink_metadata(&self.path);
        if there.is_ok_and(|there| (there.dev(), there.ino()) == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
