//! Addresses in the kernel's form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Room for an IPv4 or IPv6 address; `sin_family` tells which it is.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) union Name {
    v4: libc::sockaddr_in,
    v6: libc::sockaddr_in6,
}

/// Octets that a name may take.
pub(super) const NAME_MAX: libc::socklen_t = size_of::<Name>() as libc::socklen_t;

impl Name {
    pub(super) const EMPTY: Self = Self {
        v6: libc::sockaddr_in6 {
            sin6_family: 0,
            sin6_port: 0,
            sin6_flowinfo: 0,
            sin6_addr: libc::in6_addr { s6_addr: [0; 16] },
            sin6_scope_id: 0,
        },
    };

    /// The kernel's form of `address`, and its length.
    #[inline]
    pub(super) fn new(address: SocketAddr) -> (Self, libc::socklen_t) {
        let port = address.port().to_be();
        match address.ip() {
            IpAddr::V4(ip) => {
                let v4 = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: port,
                    sin_addr: libc::in_addr {
                        s_addr: u32::from_ne_bytes(ip.octets()),
                    },
                    sin_zero: [0; 8],
                };
                (
                    Self { v4 },
                    size_of::<libc::sockaddr_in>() as libc::socklen_t,
                )
            }
            IpAddr::V6(ip) => {
                let v6 = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: port,
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr {
                        s6_addr: ip.octets(),
                    },
                    sin6_scope_id: 0,
                };
                (
                    Self { v6 },
                    size_of::<libc::sockaddr_in6>() as libc::socklen_t,
                )
            }
        }
    }

    /// The address that the kernel wrote here.
    #[inline]
    pub(super) fn address(&self) -> SocketAddr {
        // SAFETY: both variants begin with the family, and every bit pattern
        // is a value of each; the whole union is always initialised.
        let family = unsafe { self.v4.sin_family };
        if i32::from(family) == libc::AF_INET {
            // SAFETY: as above.
            let v4 = unsafe { self.v4 };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            SocketAddr::new(ip.into(), u16::from_be(v4.sin_port))
        } else {
            // SAFETY: as above.
            let v6 = unsafe { self.v6 };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            SocketAddr::new(ip.into(), u16::from_be(v6.sin6_port))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in [
            "192.0.2.7:5060",
            "0.0.0.0:1",
            "[2001:db8::7]:65535",
            "[::1]:5060",
        ] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(Name::new(address).0.address(), address);
        }
    }
}
