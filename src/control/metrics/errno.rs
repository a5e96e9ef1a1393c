//! Error numbers by name.

use rustix::io::Errno;

/// What sends fail with, as far as it is known; other numbers go without names.
pub(super) const KNOWN: [(Errno, &str); 13] = [
    (Errno::PERM, "EPERM"),
    (Errno::AGAIN, "EAGAIN"),
    (Errno::NOMEM, "ENOMEM"),
    (Errno::ACCESS, "EACCES"),
    (Errno::INVAL, "EINVAL"),
    (Errno::MSGSIZE, "EMSGSIZE"),
    (Errno::AFNOSUPPORT, "EAFNOSUPPORT"),
    (Errno::ADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (Errno::NETDOWN, "ENETDOWN"),
    (Errno::NETUNREACH, "ENETUNREACH"),
    (Errno::NOBUFS, "ENOBUFS"),
    (Errno::CONNREFUSED, "ECONNREFUSED"),
    (Errno::HOSTUNREACH, "EHOSTUNREACH"),
];

/// The name of an error number, or else its digits.
pub fn name(number: i32) -> String {
    let known = KNOWN
        .iter()
        .find(|(errno, _)| errno.raw_os_error() == number);
    known.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
