//! Where lines go: opened anew whenever it is lost or has been moved away.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use libc::PIPE_BUF;
use rustix::fs::OFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::AccountingTarget;

/// How often a file is looked for at its path, at most.
const LOOK: Duration = Duration::from_secs(1);
/// How long a socket may take nothing, or not answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who may read a file that is made: its owner, and the group.
const MODE: u32 = 0o640;

/// What takes lines.
pub(super) struct Target {
    /// Which one.
    pub(super) target: AccountingTarget,
    sink: Option<Sink>,
    /// Octets that the sink has taken of a line's beginning.
    begun: usize,
}

enum Sink {
    File {
        file: File,
        /// When it was looked for at its path.
        looked: Instant,
        /// Whether it ends within a line, which nothing is to be added to.
        torn: bool,
    },
    Stream(UnixStream),
    Datagram(UnixDatagram),
}

/// What became of lines.
#[derive(Default)]
pub(super) struct Taken {
    /// Lines that are written.
    pub(super) written: usize,
    /// Lines that the target will never take.
    pub(super) refused: usize,
}

impl Target {
    /// Opens it; a socket with the first line, for it may come later, and who
    /// listens on it may keep whoever connects waiting. So may who reads a named
    /// pipe.
    pub(super) fn open(target: AccountingTarget) -> io::Result<Self> {
        let sink = match &target {
            AccountingTarget::Socket(_) => None,
            target => match open(target) {
                Ok(sink) => Some(sink),
                Err(error) if awaits_reader(&error, target) => None,
                Err(error) => return Err(error),
            },
        };
        Ok(Self {
            target,
            sink,
            begun: 0,
        })
    }

    /// Has the target take what it takes at once from the front of `lines`.
    pub(super) fn write(&mut self, lines: &mut Vec<u8>) -> io::Result<Taken> {
        if self.is_moved() {
            self.close();
        }
        let sink = match &mut self.sink {
            Some(sink) => sink,
            None => self.sink.insert(open(&self.target)?),
        };
        // Who emptied a file took the beginning of the line, too.
        if self.begun > 0 && sink.is_empty_file() {
            self.begun = 0;
        }
        match sink.write(&lines[self.begun..]) {
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                let end = self.begun + n;
                // What is behind the last line end is a line that has begun.
                let whole = memchr::memrchr(b'\n', &lines[..end]).map_or(0, |at| at + 1);
                self.begun = end - whole;
                let written = memchr::memchr_iter(b'\n', &lines[..whole]).count();
                lines.drain(..whole);
                let refused = 0;
                Ok(Taken { written, refused })
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Taken::default()),
            Err(error) if matches!(sink, Sink::Datagram(_)) && is_too_long(&error) => {
                lines.drain(..first_line(lines).len());
                let (written, refused) = (0, 1);
                Ok(Taken { written, refused })
            }
            Err(error) => {
                // A file goes on in the line where it stopped; a new
                // connection begins with a new line.
                if matches!(sink, Sink::Stream(_) | Sink::Datagram(_)) && !is_busy(&error) {
                    self.close();
                }
                Err(error)
            }
        }
    }

    /// What the operator can do about an error.
    pub(super) fn help(&self) -> &'static str {
        match self.target {
            AccountingTarget::File(_) => {
                "see to room and rights at this path, and that a pipe is read"
            }
            AccountingTarget::Stdout => "have the standard output read",
            AccountingTarget::Socket(_) => "start what listens on this path, or have it read",
        }
    }

    fn close(&mut self) {
        self.sink = None;
        self.begun = 0;
    }

    /// Whether another file, or none, is where ours was; looks once a second.
    fn is_moved(&mut self) -> bool {
        let (AccountingTarget::File(path), Some(Sink::File { file, looked, .. })) =
            (&self.target, &mut self.sink)
        else {
            return false;
        };
        if looked.elapsed() < LOOK {
            return false;
        }
        *looked = Instant::now();
        let identity = |found: std::fs::Metadata| (found.dev(), found.ino());
        let there = path.metadata().map(identity);
        let ours = file.metadata().map(identity);
        !matches!((there, ours), (Ok(there), Ok(ours)) if there == ours)
    }
}

impl Sink {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, torn, .. } => {
                if *torn && !is_empty(file) {
                    file.write_all(b"\n")?;
                }
                *torn = false;
                file.write(at_once(lines))
            }
            Self::Stream(socket) => socket.write(lines),
            Self::Datagram(socket) => socket.send(first_line(lines)),
        }
    }

    fn is_empty_file(&self) -> bool {
        matches!(self, Self::File { file, .. } if is_empty(file))
    }
}

fn is_empty(file: &File) -> bool {
    file.metadata()
        .is_ok_and(|found| found.is_file() && found.len() == 0)
}

/// Lines that a pipe takes whole or not at all, or one that is longer: a full one
/// is not to end within a line when the program is killed or replaced. A file
/// takes them as they come.
fn at_once(lines: &[u8]) -> &[u8] {
    let few = &lines[..lines.len().min(PIPE_BUF)];
    memchr::memrchr(b'\n', few).map_or_else(|| first_line(lines), |at| &few[..=at])
}

/// The first line, with its end.
fn first_line(lines: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'\n', lines).map_or(lines.len(), |at| at + 1);
    &lines[..end]
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EMSGSIZE)
}

/// Whether a socket is whole, but takes nothing now.
fn is_busy(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn open(target: &AccountingTarget) -> io::Result<Sink> {
    match target {
        AccountingTarget::File(path) => {
            let mut options = OpenOptions::new();
            options.append(true).create(true).mode(MODE);
            // Who opens a named pipe waits for a reader otherwise.
            let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
            let flags = rustix::fs::fcntl_getfl(&file)?;
            rustix::fs::fcntl_setfl(&file, flags - OFlags::NONBLOCK)?;
            Ok(goes_on(file, path))
        }
        // Not the library's, which keeps back a part of what it is given.
        AccountingTarget::Stdout => {
            let file = io::stdout().as_fd().try_clone_to_owned()?;
            Ok(goes_on(file.into(), Path::new("/proc/self/fd/1")))
        }
        AccountingTarget::Socket(path) => connect(path),
    }
}

/// Whether a target is a named pipe that nobody reads yet.
fn awaits_reader(error: &io::Error, target: &AccountingTarget) -> bool {
    let AccountingTarget::File(path) = target else {
        return false;
    };
    let is_pipe = || {
        path.metadata()
            .is_ok_and(|found| found.file_type().is_fifo())
    };
    error.raw_os_error() == Some(libc::ENXIO) && is_pipe()
}

/// A file behind what it has; `path` leads to it, to be read.
fn goes_on(file: File, path: &Path) -> Sink {
    Sink::File {
        // One that may not be read is taken for whole.
        torn: is_torn(&file, path).unwrap_or(false),
        looked: Instant::now(),
        file,
    }
}

/// Whether a file ends within a line: the disk was full, or a crash came first.
fn is_torn(file: &File, path: &Path) -> io::Result<bool> {
    let found = file.metadata()?;
    if !found.is_file() || found.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, found.len() - 1)?;
    Ok(last != *b"\n")
}

/// Connects to a socket of streams, or of datagrams where it is one.
fn connect(path: &Path) -> io::Result<Sink> {
    let of = |kind| -> io::Result<Socket> {
        let socket = Socket::new(Domain::UNIX, kind, None)?;
        // It bounds the wait for a listener that accepts nobody, too.
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(socket)
    };
    match of(Type::STREAM) {
        Ok(socket) => Ok(Sink::Stream(socket.into())),
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => {
            Ok(Sink::Datagram(of(Type::DGRAM)?.into()))
        }
        Err(error) => Err(error),
    }
}
