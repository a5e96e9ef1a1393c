//! Signals that a thread does not want.

use std::io;
use std::mem::MaybeUninit;

/// Keeps these signals from the calling thread, and from those that it starts
/// from now on. One that no thread takes waits, also while another program is
/// executed.
///
/// # Errors
/// As of `sigaddset`: there is no such signal.
pub fn block_signals(signals: &[i32]) -> io::Result<()> {
    mask(libc::SIG_BLOCK, signals)
}

/// Has the calling thread take these signals again.
///
/// # Errors
/// As of `sigaddset`: there is no such signal.
pub fn unblock_signals(signals: &[i32]) -> io::Result<()> {
    mask(libc::SIG_UNBLOCK, signals)
}

fn mask(how: libc::c_int, signals: &[i32]) -> io::Result<()> {
    let mut set = MaybeUninit::uninit();
    // SAFETY: sigemptyset writes the whole of the set that it is given.
    let mut set = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        set.assume_init()
    };
    for signal in signals {
        // SAFETY: the set is a valid one.
        if unsafe { libc::sigaddset(&raw mut set, *signal) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: the set is a valid one, and where to write the former one to may
    // be null.
    match unsafe { libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
