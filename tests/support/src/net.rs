//! Free loopback ports, and whether a port is taken.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

pub const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Ports that the kernel gives to nobody who lets it choose.
const PORTS: Range<u32> = 10_000..32_000;

/// `COUNT` different UDP addresses of `ip` that were free a moment ago, and
/// that no other test gets.
pub fn free_addresses<const COUNT: usize>(ip: IpAddr) -> [SocketAddr; COUNT] {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin apart from each other.
    let first = std::process::id().wrapping_mul(64);
    std::array::from_fn(|_| {
        for _ in PORTS {
            let next = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed));
            let port = PORTS.start + next % PORTS.len() as u32;
            let address = SocketAddr::new(ip, port as u16);
            if UdpSocket::bind(address).is_ok() {
                return address;
            }
        }
        panic!("no port of {PORTS:?} is free");
    })
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
