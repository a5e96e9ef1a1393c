//! Descriptors that this process had before it executed this program.
//!
//! Whoever hands one over clears its close-on-exec flag, which everything has
//! that is opened here. So one without it came from outside and has no owner
//! yet; it gets the flag when it is taken, and nobody can take it twice.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::fs::SealFlags;
use rustix::io::FdFlags;
use socket2::{SockRef, Type};

use super::Socket;

/// What nobody can change any more.
const SEALED: SealFlags = SealFlags::SEAL
    .union(SealFlags::SHRINK)
    .union(SealFlags::GROW)
    .union(SealFlags::WRITE);

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
    Ok(rustix::io::fcntl_setfd(fd, flags)?)
}

/// Takes what is handed over as `fd`, where it `is_meant`.
fn take(
    fd: RawFd,
    is_meant: impl FnOnce(BorrowedFd<'_>) -> io::Result<bool>,
) -> io::Result<OwnedFd> {
    let other = || io::Error::other(format!("descriptor {fd} is something else"));
    if fd < 0 {
        return Err(other());
    }
    // SAFETY: it is not -1, and used for calls alone that fail where it is not
    // open; nobody closes it meanwhile, for nobody here owns it.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let is_ours = rustix::io::fcntl_getfd(borrowed)?.contains(FdFlags::CLOEXEC);
    if is_ours || !is_meant(borrowed)? {
        return Err(other());
    }
    hand_over(borrowed, false)?;
    // SAFETY: it is open, and has no owner here, for it was without the flag
    // that everything opened here has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
