//! Batched datagram calls: `recvmmsg`, and `sendmmsg` with UDP segmentation
//! and a source address for each send; and the clock of another process's time.
//!
//! The only `unsafe` of the package. Offered as two buffers, a [`Receiver`]
//! and a [`Sender`], that any IPv4 socket may be used with. It neither retries
//! nor counts: errors go to the caller as they come.
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::SockRef;

/// Octets kept of a datagram; longer ones are cut.
const SLOT: usize = 4096;

/// Octets from one slot to the next: a cache line more, for heads of slots at
/// equal places would fall into one cache set.
const STRIDE: usize = SLOT + 64;

/// Sends that one system call may carry.
const SENDS: usize = 256;

/// Room for the control messages of a datagram: `UDP_SEGMENT` and
/// `IP_PKTINFO`.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; 64]);

/// Octets before the value of a control message.
const CONTROL_HEADER: usize = 16;
const _: () = assert!(mem::size_of::<libc::cmsghdr>() == CONTROL_HEADER);

/// Buffers for a batch of received datagrams.
pub(crate) struct Receiver {
    slots: Vec<u8>,
    sources: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    // Points into `slots`; held so that `headers` stays valid.
    _vectors: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    taken: usize,
}

impl Receiver {
    /// Room for `batch` datagrams.
    pub(crate) fn new(batch: usize) -> Self {
        let mut slots = vec![0u8; batch * STRIDE];
        let mut sources = vec![to_kernel(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)); batch];
        let mut controls = vec![Control([0; 64]); batch];
        let mut vectors: Vec<libc::iovec> = slots
            .chunks_exact_mut(STRIDE)
            .map(|slot| libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: SLOT,
            })
            .collect();
        let headers = sources
            .iter_mut()
            .zip(&mut vectors)
            .zip(&mut controls)
            .map(|((source, vector), control)| {
                let mut header = empty_header();
                header.msg_hdr.msg_name = ptr::from_mut(source).cast();
                header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = mem::size_of::<Control>();
                header
            })
            .collect();
        Self {
            slots,
            sources,
            controls,
            _vectors: vectors,
            headers,
            taken: 0,
        }
    }

    /// Takes what has arrived, at most a batch; with `wait` set, sleeps until
    /// there is at least one datagram. Returns how many were taken.
    ///
    /// # Errors
    /// What `recvmmsg` reports.
    pub(crate) fn receive(&mut self, socket: &UdpSocket, wait: bool) -> io::Result<usize> {
        for header in &mut self.headers[..self.taken] {
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
            header.msg_hdr.msg_controllen = mem::size_of::<Control>();
        }
        self.taken = 0;
        let flags = if wait {
            libc::MSG_WAITFORONE
        } else {
            libc::MSG_DONTWAIT
        };
        // SAFETY: the headers point to slots, vectors, sources and controls
        // that `self` owns and never moves or resizes; the count is that of
        // the headers.
        let taken = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                flags,
                ptr::null_mut(),
            )
        };
        if let Ok(taken) = usize::try_from(taken) {
            self.taken = taken;
            return Ok(taken);
        }
        match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        }
    }

    /// The octets of datagram `index` of the last batch.
    pub(crate) fn datagram(&self, index: usize) -> &[u8] {
        let length = self.headers[index].msg_len as usize;
        &self.slots[index * STRIDE..][..length.min(SLOT)]
    }

    /// Where datagram `index` of the last batch came from.
    pub(crate) fn source(&self, index: usize) -> SocketAddrV4 {
        let source = &self.sources[index];
        let ip = Ipv4Addr::from(u32::from_be(source.sin_addr.s_addr));
        SocketAddrV4::new(ip, u16::from_be(source.sin_port))
    }

    /// Which of our addresses datagram `index` of the last batch was sent to;
    /// `None` unless the socket [tells](tell_destinations).
    pub(crate) fn destination(&self, index: usize) -> Option<Ipv4Addr> {
        let length = self.headers[index].msg_hdr.msg_controllen;
        // One control message is asked for, so it is the first: the address
        // is the last of the three words of `in_pktinfo`.
        let value = self.controls[index].0[..length].get(CONTROL_HEADER..)?;
        let octets: [u8; 4] = value.get(8..12)?.try_into().ok()?;
        Some(octets.into())
    }
}

/// Octets that the buffers of a socket are to hold; the kernel grants up to
/// `net.core.rmem_max` and `wmem_max`.
pub(crate) const BUFFER: usize = 4 << 20;

/// A socket at `address` with large buffers.
///
/// # Errors
/// The address is not to be had.
pub(crate) fn bound(address: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    SockRef::from(&socket).set_recv_buffer_size(BUFFER)?;
    SockRef::from(&socket).set_send_buffer_size(BUFFER)?;
    Ok(socket)
}

/// Has `socket` tell for each datagram which address it was sent to.
///
/// # Errors
/// What `setsockopt` reports.
pub(crate) fn tell_destinations(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one `c_int`, which lives through the call.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            ptr::from_ref(&on).cast(),
            mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match set {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Time that the threads of `process` had on a CPU, in ns, with those that have ended.
///
/// # Errors
/// The process is gone.
pub(crate) fn cpu_time(process: u32) -> io::Result<u64> {
    let mut clock = 0;
    // SAFETY: the library writes one `clockid_t`, which lives through the call.
    let unknown = unsafe { libc::clock_getcpuclockid(process as libc::pid_t, &raw mut clock) };
    if unknown != 0 {
        return Err(io::Error::from_raw_os_error(unknown));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel writes one `timespec`, which lives through the call.
    match unsafe { libc::clock_gettime(clock, &raw mut time) } {
        0 => Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => Err(io::Error::last_os_error()),
    }
}

/// From and to where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: SocketAddrV4,
    /// The kernel chooses where it is `None`.
    pub(crate) from: Option<Ipv4Addr>,
}

/// One or more datagrams of `segment` octets each (the last may be shorter)
/// that lie one behind the other and go the same way.
pub(crate) struct Run<'a> {
    pub(crate) octets: &'a [u8],
    pub(crate) segment: usize,
    pub(crate) route: Route,
}

/// Headers for a batched send; remembers nothing between calls.
pub(crate) struct Sender {
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<(Control, usize)>,
    headers: Vec<libc::mmsghdr>,
}

impl Sender {
    pub(crate) fn new() -> Self {
        Self {
            vectors: Vec::with_capacity(SENDS),
            names: Vec::with_capacity(SENDS),
            controls: Vec::with_capacity(SENDS),
            headers: Vec::with_capacity(SENDS),
        }
    }

    /// Sends the first [`SENDS`] of `runs` by one system call. Returns how
    /// many runs left.
    ///
    /// # Errors
    /// What `sendmmsg` reports for the first run that could not leave, where
    /// none left before it.
    pub(crate) fn send(&mut self, socket: &UdpSocket, runs: &[Run<'_>]) -> io::Result<usize> {
        let runs = &runs[..runs.len().min(SENDS)];
        self.vectors.clear();
        self.names.clear();
        self.controls.clear();
        self.headers.clear();
        for run in runs {
            self.vectors.push(libc::iovec {
                iov_base: run.octets.as_ptr().cast_mut().cast(),
                iov_len: run.octets.len(),
            });
            self.names.push(to_kernel(run.route.to));
            self.controls.push(control(run));
        }
        for index in 0..runs.len() {
            let mut header = empty_header();
            header.msg_hdr.msg_iov = &raw mut self.vectors[index];
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = ptr::from_mut(&mut self.names[index]).cast();
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH;
            let (control, length) = &mut self.controls[index];
            if *length > 0 {
                header.msg_hdr.msg_control = control.0.as_mut_ptr().cast();
                header.msg_hdr.msg_controllen = *length;
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

    /// Sends all of `runs`, in order.
    ///
    /// # Errors
    /// As [`Sender::send`]; what is behind the run that failed has not left.
    pub(crate) fn send_all(&mut self, socket: &UdpSocket, mut runs: &[Run<'_>]) -> io::Result<()> {
        while !runs.is_empty() {
            let sent = self.send(socket, runs)?;
            runs = &runs[sent..];
        }
        Ok(())
    }
}

const ADDRESS_LENGTH: libc::socklen_t = mem::size_of::<libc::sockaddr_in>() as _;

fn empty_header() -> libc::mmsghdr {
    // SAFETY: null pointers and zero lengths are a valid, empty header.
    unsafe { mem::zeroed() }
}

fn to_kernel(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*address.ip()).to_be(),
        },
        sin_zero: [0; 8],
    }
}

/// The control messages of a run, and how many octets they take.
fn control(run: &Run<'_>) -> (Control, usize) {
    let mut control = Control([0; 64]);
    let mut end = 0;
    if run.octets.len() > run.segment {
        let value = (run.segment as u16).to_ne_bytes();
        end = put(&mut control, end, libc::SOL_UDP, libc::UDP_SEGMENT, &value);
    }
    if let Some(from) = run.route.from {
        // `in_pktinfo`: no interface, the source, nothing.
        let mut value = [0; 12];
        value[4..8].copy_from_slice(&from.octets());
        end = put(
            &mut control,
            end,
            libc::IPPROTO_IP,
            libc::IP_PKTINFO,
            &value,
        );
    }
    (control, end)
}

/// Writes a control message at `start`; returns where the next one begins.
fn put(control: &mut Control, start: usize, level: i32, kind: i32, value: &[u8]) -> usize {
    let length = CONTROL_HEADER + value.len();
    let room = &mut control.0[start..];
    room[..8].copy_from_slice(&length.to_ne_bytes());
    room[8..12].copy_from_slice(&level.to_ne_bytes());
    room[12..16].copy_from_slice(&kind.to_ne_bytes());
    room[16..length].copy_from_slice(value);
    start + length.next_multiple_of(8)
}
