//! Descriptors that this process had before it executed this program.
//!
//! Whoever hands one over clears its close-on-exec flag, which everything has
//! that is opened here. So one without it came from outside and has no owner
//! yet; it gets the flag when it is taken, and nobody can take it twice. All
//! that is to be taken is taken before anything is handed over.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::SealFlags;
use rustix::io::FdFlags;
use socket2::{SockRef, Type};

use super::Socket;

/// What nobody can change any more.
const SEALED: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

/// Whether this process has handed anything over: then a descriptor without
/// the flag may have an owner here.
static HANDS_OVER: AtomicBool = AtomicBool::new(false);

/// The socket that was handed over as descriptor `fd`.
///
/// # Errors
/// It is no UDP socket bound to `address` that was handed over.
pub fn inherited_socket(fd: RawFd, address: SocketAddr) -> io::Result<Socket> {
    let fd = take(fd, |fd| {
        let socket = SockRef::from(&fd);
        let bound = socket.local_addr()?.as_socket();
        Ok(socket.r#type()? == Type::DGRAM && bound == Some(address))
    })?;
    Ok(Socket::from(fd))
}

/// The memory that was handed over as descriptor `fd`.
///
/// # Errors
/// It is no memory that [`memory_to_hand_over`] has made.
pub fn inherited_memory(fd: RawFd) -> io::Result<File> {
    let fd = take(fd, |fd| {
        Ok(rustix::fs::fcntl_get_seals(fd)?.contains(SEALED))
    })?;
    Ok(File::from(fd))
}

/// Anonymous memory that holds `octets` for good.
///
/// # Errors
/// As of `memfd_create` and writing.
pub fn memory_to_hand_over(octets: &[u8]) -> io::Result<File> {
    use std::io::{Seek, Write};

    use rustix::fs::MemfdFlags;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut memory = File::from(rustix::fs::memfd_create("viaduct", flags)?);
    memory.write_all(octets)?;
    memory.rewind()?;
    rustix::fs::fcntl_add_seals(&memory, SEALED)?;
    Ok(memory)
}

/// Says whether a descriptor is handed over to the next program.
///
/// # Errors
/// As of `fcntl`.
pub fn hand_over(fd: impl AsFd, hand_over: bool) -> io::Result<()> {
    let flags = match hand_over {
        true => FdFlags::empty(),
        false => FdFlags::CLOEXEC,
    };
    HANDS_OVER.fetch_or(hand_over, Ordering::SeqCst);
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
}

/// Takes what is handed over as `fd`, where it `is_meant`.
fn take(
    fd: RawFd,
    is_meant: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>,
) -> io::Result<OwnedFd> {
    let other = || io::Error::other(format!("descriptor {fd} is something else"));
    // The first three are those of the standard library.
    if fd <= 2 || HANDS_OVER.load(Ordering::SeqCst) {
        return Err(other());
    }
    // SAFETY: it asks for the flags of a number, open or not.
    let flags = match unsafe { libc::fcntl(fd, libc::F_GETFD) } {
        -1 => return Err(io::Error::last_os_error()),
        flags => FdFlags::from_bits_retain(flags as u32),
    };
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(other());
    }
    // SAFETY: it is open, and nobody closes it meanwhile, for it has no owner
    // here: it is without the flag that everything opened here has, and
    // nothing has lost it so far.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    if !is_meant(borrowed)? {
        return Err(other());
    }
    hand_over(borrowed, false)?;
    // SAFETY: as above; from now on it has the flag, and is not taken again.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
