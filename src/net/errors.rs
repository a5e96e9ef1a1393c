//! What ICMP tells of datagrams that did not arrive.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use super::Socket;
use super::name::Name;
use super::{no_control, no_message};

/// Octets of a datagram that an error brings back at most: a host or router
/// returns 576 octets at most with its own headers (RFC 1812 §4.3.2.3), over
/// IPv6 1,280 (RFC 4443 §2.4 (c)).
pub const RETURNED_MAX: usize = 1280;

/// The control message in front of an error's octets. Where it came from
/// follows, which is of no use here: the address of a host or router.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    error: libc::sock_extended_err,
    offender: Name,
}

impl Control {
    const EMPTY: Self = Self {
        header: no_control(),
        error: libc::sock_extended_err {
            ee_errno: 0,
            ee_origin: 0,
            ee_type: 0,
            ee_code: 0,
            ee_pad: 0,
            ee_info: 0,
            ee_data: 0,
        },
        offender: Name::EMPTY,
    };

    /// Whether a datagram is lost for good. One that is too long for its way
    /// is not, which IPv6 has: from then on the kernel cuts what goes there
    /// into fragments.
    fn is_loss(&self) -> bool {
        let kind = (self.header.cmsg_level, self.header.cmsg_type);
        let origin = self.error.ee_origin;
        matches!(
            kind,
            (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
        ) && matches!(origin, libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6)
            && self.error.ee_errno != libc::EMSGSIZE as u32
    }
}

/// Whether a send failed because a buffer or queue of our own is full.
pub(super) fn is_lack_of_room(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// Whether the error of a send says that the datagram cannot get where it was
/// to go. One of the moment does not: a lack of room here, or the ICMP error of
/// an earlier datagram, to whomever that was. Such a datagram is lost like one
/// that is lost on its way.
#[must_use]
pub fn is_of_the_way(error: &io::Error) -> bool {
    // A send alone is never refused: nobody has answered it yet.
    !is_lack_of_room(error) && error.kind() != io::ErrorKind::ConnectionRefused
}

/// Whether the error of a receive is one that ICMP brings of an earlier datagram
/// (what Linux makes of its types is in net/ipv4/icmp.c and net/ipv6/icmp.c).
#[must_use]
pub fn is_brought_by_icmp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENONET
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EACCES
                | libc::EPROTO
                | libc::EMSGSIZE
        )
    )
}

impl Socket {
    /// Has the kernel keep ICMP errors for [`Socket::take_undelivered`], or no
    /// longer, whereupon those that it has are gone.
    ///
    /// From then on an error that arrives also fails the next send or receive,
    /// whatever that is for. [`SendBatch`](super::SendBatch) repeats a send
    /// that failed so. A receive has taken nothing then: repeat it.
    ///
    /// To miss none, take what there is whenever one of these tells of it:
    /// - An event of epoll with `EPOLLERR` (`is_error()` in mio), which comes
    ///   whatever interest was registered; edge-triggered, once for each error
    ///   that arrives, and once when a socket is registered with errors that
    ///   wait. The event may be all there is: a send may have taken the error
    ///   that the next receive would fail with.
    /// - A receive that failed.
    /// - [`Sent::Disturbed`](super::Sent::Disturbed), which is the only sign
    ///   while epoll does not watch the socket.
    ///
    /// What is not taken fills the receive buffer.
    ///
    /// Of sockets that share an address the kernel chooses the one that has
    /// the error by the addresses and ports alone, not by what
    /// [steers](super::steer): it may be another one than that which sent.
    /// For a run that nothing has cut on its way, as over loopback, one error
    /// comes for all: with the first octets of the run, not of each datagram.
    ///
    /// # Errors
    /// As of `setsockopt`.
    pub fn hear_errors(&self, hear: bool) -> io::Result<()> {
        let (level, name) = match self.address()? {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_RECVERR),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_RECVERR),
        };
        let hear = libc::c_int::from(hear);
        // SAFETY: the kernel reads one int, that of `hear`.
        let result = unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                level,
                name,
                (&raw const hear).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Takes the next datagram that came back, the first octets of it into
    /// `buffer` ([`RETURNED_MAX`]), as many as came; some routers return none.
    /// `None`: there is none.
    ///
    /// Anybody may forge one: believe only octets that prove themselves.
    ///
    /// # Errors
    /// As of `recvmsg`.
    pub fn take_undelivered<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            let mut control = Control::EMPTY;
            let mut vector = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            let mut header = no_message();
            header.msg_iov = &raw mut vector;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut control).cast();
            header.msg_controllen = size_of::<Control>() as _;
            // SAFETY: the header points to no name, and to a whole control
            // message and iovec, which covers `buffer`; all live until the call
            // returns. Any octets are a value of each.
            let length = unsafe {
                libc::recvmsg(
                    self.as_raw_fd(),
                    &raw mut header,
                    libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT,
                )
            };
            if length < 0 {
                let error = io::Error::last_os_error();
                match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(None),
                    io::ErrorKind::Interrupted => continue,
                    _ => return Err(error),
                }
            }
            if control.is_loss() {
                return Ok(Some(&buffer[..length as usize]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn control(origin: u8, number: i32) -> Control {
        let mut control = Control::EMPTY;
        control.header.cmsg_level = libc::SOL_IP;
        control.header.cmsg_type = libc::IP_RECVERR;
        control.error.ee_origin = origin;
        control.error.ee_errno = number as u32;
        control
    }

    #[test]
    fn only_what_lasts_is_of_the_way() {
        let is_of_the_way = |number| is_of_the_way(&io::Error::from_raw_os_error(number));
        for number in [
            libc::ENETUNREACH,
            libc::EHOSTUNREACH,
            libc::ENETDOWN,
            libc::EPERM,
            libc::EACCES,
            libc::EINVAL,
            libc::EMSGSIZE,
        ] {
            assert!(is_of_the_way(number), "{number}");
        }
        for number in [
            libc::EAGAIN,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::ECONNREFUSED,
        ] {
            assert!(!is_of_the_way(number), "{number}");
        }
    }

    #[test]
    fn only_what_icmp_says_is_lost_is_lost() {
        assert!(control(libc::SO_EE_ORIGIN_ICMP, libc::EHOSTUNREACH).is_loss());
        assert!(control(libc::SO_EE_ORIGIN_ICMP6, libc::ECONNREFUSED).is_loss());
        assert!(!control(libc::SO_EE_ORIGIN_ICMP, libc::EMSGSIZE).is_loss());
        assert!(!control(libc::SO_EE_ORIGIN_LOCAL, libc::EHOSTUNREACH).is_loss());
        assert!(!Control::EMPTY.is_loss());
    }
}
