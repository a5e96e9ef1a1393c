//! Ports that no two programs of the tests and benchmarks have at once. Packages
//! that share nothing else take this file as a module.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{self, UnixDatagram};
use std::sync::Mutex;

/// Below those that the kernel gives to whoever lets it choose
/// (`net.ipv4.ip_local_port_range`), as that is unless somebody has changed it.
const PORTS: Range<u16> = 10_000..32_000;

/// Ports of `ip` that are free for UDP and TCP, and that until this process ends
/// are given to nobody else, here or in another process.
pub(crate) fn free_ports<const COUNT: usize>(ip: IpAddr) -> [u16; COUNT] {
    [(); COUNT].map(|()| free_port(ip))
}

fn free_port(ip: IpAddr) -> u16 {
    /// Where the search goes on, and a name in the kernel for each port given:
    /// nobody else can bind it, and it goes with the process.
    static GIVEN: Mutex<(u32, Vec<UnixDatagram>)> = Mutex::new((0, Vec::new()));
    let mut given = GIVEN.lock().expect("no panic while it was held");
    // Not where others begin, to whom something may still be on its way.
    let first = std::process::id().wrapping_mul(64);
    for _ in PORTS {
        let next = first.wrapping_add(given.0) % PORTS.len() as u32;
        let port = PORTS.start + next as u16;
        given.0 += 1;
        let name = net::SocketAddr::from_abstract_name(format!("viaduct-test-port-{port}"));
        let Ok(name) = name.and_then(|name| UnixDatagram::bind_addr(&name)) else {
            continue;
        };
        let address = SocketAddr::new(ip, port);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            given.1.push(name);
            return port;
        }
    }
    panic!("no port of {PORTS:?} is free");
}
