//! Batched datagram calls: `recvmmsg`, and `sendmmsg` with UDP segmentation.
//!
//! The only `unsafe` of the package. Offered as two buffers, a [`Receiver`]
//! and a [`Sender`], that any socket may be used with. It neither retries nor
//! counts: errors go to the caller as they come.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage};

/// Datagrams taken or given by one system call.
pub(crate) const BATCH: usize = 64;

/// Octets kept of a datagram; longer ones are cut.
const SLOT: usize = 4096;

/// Room for one `UDP_SEGMENT` control message.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 24]);

/// Buffers for up to [`BATCH`] received datagrams.
pub(crate) struct Receiver {
    slots: Vec<u8>,
    sources: Vec<libc::sockaddr_storage>,
    // Points into `slots`; held so that `headers` stays valid.
    _vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    taken: usize,
}

impl Receiver {
    pub(crate) fn new() -> Self {
        let mut slots = vec![0u8; BATCH * SLOT];
        // SAFETY: `sockaddr_storage` is plain data; all zeroes is a value of it.
        let mut sources: Vec<libc::sockaddr_storage> = vec![unsafe { mem::zeroed() }; BATCH];
        let mut vectors: Vec<libc::iovec> = slots
            .chunks_exact_mut(SLOT)
            .map(|slot| libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: SLOT,
            })
            .collect();
        let headers = sources
            .iter_mut()
            .zip(&mut vectors)
            .map(|(source, vector)| {
                let mut header = empty_header();
                header.msg_hdr.msg_name = ptr::from_mut(source).cast();
                header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header
            })
            .collect();
        Self {
            slots,
            sources,
            _vectors: vectors,
            headers,
            taken: 0,
        }
    }

    /// Takes what has arrived, at most [`BATCH`] datagrams; with `wait` set,
    /// sleeps until there is at least one. Returns how many were taken.
    ///
    /// # Errors
    /// What `recvmmsg` reports; `WouldBlock` where nothing has arrived.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        for header in &mut self.headers[..self.taken] {
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
        }
        self.taken = 0;
        let flags = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        // SAFETY: the headers point to slots, vectors and sources that `self`
        // owns and never moves or resizes; the count is that of the headers.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        self.taken = usize::try_from(taken).map_err(|_| io::Error::last_os_error())?;
        Ok(self.taken)
    }

    /// The octets of datagram `index` of the last batch.
    pub(crate) fn datagram(&self, index: usize) -> &[u8] {
        let length = self.headers[index].msg_len as usize;
        &self.slots[index * SLOT..][..length.min(SLOT)]
    }

    /// Where datagram `index` of the last batch came from.
    pub(crate) fn source(&self, index: usize) -> SockAddr {
        let header = &self.headers[index].msg_hdr;
        // SAFETY: the kernel filled in the address and its length.
        unsafe { SockAddr::new(as_socket2(self.sources[index]), header.msg_namelen) }
    }
}

/// One or more datagrams of `segment` octets each (the last may be shorter)
/// that lie one behind the other and leave for the same address.
pub(crate) struct Run<'a> {
    pub(crate) octets: &'a [u8],
    pub(crate) segment: usize,
    /// `None` on a connected socket.
    pub(crate) to: Option<&'a SockAddr>,
}

/// Headers for a batched send; remembers nothing between calls.
pub(crate) struct Sender {
    vectors: Vec<libc::iovec>,
    controls: Vec<Control>,
    headers: Vec<libc::mmsghdr>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self {
            vectors: Vec::with_capacity(BATCH),
            controls: Vec::with_capacity(BATCH),
            headers: Vec::with_capacity(BATCH),
        }
    }

    /// Sends the first [`BATCH`] of `runs` by one system call. Returns how
    /// many runs left.
    ///
    /// # Errors
    /// What `sendmmsg` reports for the first run that could not leave, where
    /// none left before it.
    pub(crate) fn send(&mut self, socket: &UdpSocket, runs: &[Run<'_>]) -> io::Result<usize> {
        let runs = &runs[..runs.len().min(BATCH)];
        self.vectors.clear();
        self.controls.clear();
        self.headers.clear();
        for run in runs {
            self.vectors.push(libc::iovec {
                iov_base: run.octets.as_ptr().cast_mut().cast(),
                iov_len: run.octets.len(),
            });
            self.controls.push(segment_control(run.segment));
        }
        for (index, run) in runs.iter().enumerate() {
            let mut header = empty_header();
            header.msg_hdr.msg_iov = &raw mut self.vectors[index];
            header.msg_hdr.msg_iovlen = 1;
            if let Some(to) = run.to {
                header.msg_hdr.msg_name = to.as_ptr().cast_mut().cast();
                header.msg_hdr.msg_namelen = to.len();
            }
            if run.octets.len() > run.segment {
                header.msg_hdr.msg_control = self.controls[index].0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = mem::size_of::<Control>();
            }
            self.headers.push(header);
        }
        // SAFETY: every pointer of the headers is into `self` or into `runs`,
        // both alive and unmoved during the call; `sendmmsg` writes only to
        // the lengths in the headers.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                0,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

const ADDRESS_LENGTH: libc::socklen_t = mem::size_of::<libc::sockaddr_storage>() as _;

/// Asks process `id` to end (SIGTERM).
///
/// # Errors
/// What `kill` reports, for example that there is no such process.
pub(crate) fn terminate(id: u32) -> io::Result<()> {
    let id = libc::pid_t::try_from(id).map_err(io::Error::other)?;
    // SAFETY: `kill` takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(id, libc::SIGTERM) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn empty_header() -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid, empty header.
    unsafe { mem::zeroed() }
}

fn as_socket2(address: libc::sockaddr_storage) -> SockAddrStorage {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: the type wraps `sockaddr_storage`, which this is a view of.
    *unsafe { storage.view_as::<libc::sockaddr_storage>() } = address;
    storage
}

/// The control message that tells the kernel to cut at `segment` octets.
fn segment_control(segment: usize) -> Control {
    let mut control = Control([0; 24]);
    let header = libc::cmsghdr {
        // SAFETY: `CMSG_LEN` is arithmetic on its argument.
        cmsg_len: unsafe { libc::CMSG_LEN(2) } as _,
        cmsg_level: libc::SOL_UDP,
        cmsg_type: libc::UDP_SEGMENT,
    };
    // SAFETY: `Control` is aligned for a `cmsghdr` and has room for it and for
    // the two octets of the segment length behind it.
    unsafe {
        let start: *mut u8 = control.0.as_mut_ptr();
        start.cast::<libc::cmsghdr>().write(header);
        libc::CMSG_DATA(start.cast())
            .cast::<u16>()
            .write_unaligned(segment as u16);
    }
    control
}
