//! Free loopback addresses, and whether a port is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use super::ports::free_ports;

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// `COUNT` different addresses of `ip` that are free for UDP and TCP, and that
/// nobody else gets while this test program runs.
pub fn free_addresses<const COUNT: usize>(ip: IpAddr) -> [SocketAddr; COUNT] {
    free_ports(ip).map(|port| SocketAddr::new(ip, port))
}

/// Waits until some process has a UDP socket on this port; false after `limit`.
///
/// Reads the kernel's table: a trial bind would take the port away from the
/// process that is about to bind it.
pub fn wait_until_bound(address: SocketAddr, limit: Duration) -> bool {
    let table = if address.is_ipv4() {
        "/proc/net/udp"
    } else {
        "/proc/net/udp6"
    };
    let suffix = format!(":{:04X}", address.port());
    let end = Instant::now() + limit;
    loop {
        let sockets = std::fs::read_to_string(table).expect("the kernel's table of UDP sockets");
        let local_addresses = sockets
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1));
        if local_addresses
            .into_iter()
            .any(|local| local.ends_with(&suffix))
        {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
