//! `sendmmsg`: many sends by one system call, each of one datagram or of a
//! run.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Socket;
use super::errors::is_lack_of_room;
use super::name::Name;
use super::{no_control, no_message};

/// How long a full send buffer is waited for before the rest of a turn is
/// given up: 5 ms.
const PATIENCE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 5_000_000,
};

/// How often a piece is tried that the kernel refuses. A refusal may be the
/// ICMP error of an earlier datagram ([`Socket::hear_errors`]), which the
/// kernel forgets by it; another one may arrive in between.
const TRIES: usize = 3;

/// What is remembered from one send to the next.
pub(super) struct Turn {
    /// Whether a full send buffer is still waited for: once in a turn.
    patient: Cell<bool>,
    /// Whether a send ended with less than it had, as by an ICMP error.
    disturbed: Cell<bool>,
}

impl Turn {
    pub(super) const fn new() -> Self {
        Self {
            patient: Cell::new(true),
            disturbed: Cell::new(false),
        }
    }

    /// Begins a turn.
    pub(super) fn begin(&self) {
        self.patient.set(true);
    }

    pub(super) fn take_disturbed(&self) -> bool {
        self.disturbed.take()
    }

    /// Waits, where it was only that; else says whether to try once more.
    #[cold]
    fn is_worth_another(&self, socket: &Socket, error: &io::Error, tries: &mut usize) -> bool {
        match error.kind() {
            io::ErrorKind::Interrupted => true,
            io::ErrorKind::WouldBlock if self.patient.take() => {
                wait_writable(socket);
                true
            }
            _ if is_lack_of_room(error) => false,
            _ => {
                self.disturbed.set(true);
                *tries += 1;
                *tries < TRIES
            }
        }
    }
}

/// One datagram, or several for the same address that lie one behind the
/// other.
pub(super) struct Piece<'a> {
    pub(super) to: SocketAddr,
    pub(super) octets: &'a [u8],
    /// Octets of each datagram but the last, which has what remains.
    pub(super) segment: usize,
}

/// Working memory for the kernel's view of a list of pieces.
pub(super) struct Outgoing {
    names: Vec<Name>,
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

/// The control message that has the kernel cut at `segment` octets.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    /// Where to cut, and zeros: the kernel copies what would be padding, too.
    segment: [u16; 4],
}

impl Control {
    fn new(segment: usize) -> Self {
        let mut header = no_control();
        header.cmsg_len = (std::mem::offset_of!(Self, segment) + size_of::<u16>()) as _;
        header.cmsg_level = libc::SOL_UDP;
        header.cmsg_type = libc::UDP_SEGMENT;
        Self {
            header,
            segment: [segment as u16, 0, 0, 0],
        }
    }
}

impl Outgoing {
    /// Room for `size` pieces.
    pub(super) fn new(size: usize) -> Self {
        Self {
            names: Vec::with_capacity(size),
            vectors: Vec::with_capacity(size),
            controls: Vec::with_capacity(size),
            headers: Vec::with_capacity(size),
        }
    }

    /// Sends the pieces in order. Calls `done` for each of them, in order,
    /// with what became of it; behind one that failed nothing has left then.
    #[inline]
    pub(super) fn send<'a>(
        &mut self,
        socket: &Socket,
        pieces: impl Iterator<Item = Piece<'a>>,
        turn: &Turn,
        mut done: impl FnMut(io::Result<()>),
    ) {
        self.fill(pieces);
        let (mut sent, mut tries) = (0, 0);
        while sent < self.headers.len() {
            let rest = &mut self.headers[sent..];
            // SAFETY: each header points to a name, a control message and an
            // iovec of this struct, which `fill` has put there and nothing
            // has moved since; each iovec covers octets of a piece, borrowed
            // for the whole of this call, which the kernel only reads.
            let n = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if n > 0 {
                (0..n).for_each(|_| done(Ok(())));
                sent += n as usize;
                tries = 0;
                // Why it went no farther is not told.
                if sent < self.headers.len() {
                    turn.disturbed.set(true);
                }
                continue;
            }
            // The error is that of the first piece of the rest.
            let error = io::Error::last_os_error();
            if !turn.is_worth_another(socket, &error, &mut tries) {
                done(Err(error));
                sent += 1;
                tries = 0;
            }
        }
    }

    #[inline]
    fn fill<'a>(&mut self, pieces: impl Iterator<Item = Piece<'a>>) {
        self.names.clear();
        self.vectors.clear();
        self.controls.clear();
        self.headers.clear();
        for piece in pieces {
            let (name, name_length) = Name::new(piece.to);
            let is_run = piece.octets.len() > piece.segment;
            self.names.push(name);
            self.vectors.push(libc::iovec {
                iov_base: piece.octets.as_ptr().cast_mut().cast(),
                iov_len: piece.octets.len(),
            });
            self.controls.push(Control::new(piece.segment));
            let mut msg_hdr = no_message();
            msg_hdr.msg_namelen = name_length;
            msg_hdr.msg_iovlen = 1;
            msg_hdr.msg_controllen = if is_run { size_of::<Control>() as _ } else { 0 };
            self.headers.push(libc::mmsghdr {
                msg_hdr,
                msg_len: 0,
            });
        }
        // Only now do the others stay where they are.
        let targets = self.names.iter_mut().zip(&mut self.vectors);
        let targets = targets.zip(&mut self.controls);
        for (header, ((name, vector), control)) in self.headers.iter_mut().zip(targets) {
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_control = std::ptr::from_mut(control).cast();
        }
    }
}

/// Sends one datagram, as one of a batch.
///
/// # Errors
/// As of `sendto`.
#[cold]
pub(super) fn send_one(
    socket: &Socket,
    to: SocketAddr,
    octets: &[u8],
    turn: &Turn,
) -> io::Result<()> {
    let mut tries = 0;
    loop {
        let Err(error) = socket.send_to(octets, to) else {
            return Ok(());
        };
        if !turn.is_worth_another(socket, &error, &mut tries) {
            return Err(error);
        }
    }
}

/// Waits until the socket takes datagrams again, but not for long. What comes
/// of it shows when it is tried.
fn wait_writable(socket: &Socket) {
    let mut writable = [PollFd::new(socket, PollFlags::OUT)];
    let _ = poll(&mut writable, Some(&PATIENCE));
}
