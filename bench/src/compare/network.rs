//! The addresses of a measurement: all on loopback, or contender and
//! generator in network namespaces of their own with a veth pair between.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::ports::free_ports;

/// Names of the namespaces; `scripts/compare` removes them too, should this
/// program be killed.
const CONTENDER: &str = "viaduct-bench-contender";
const GENERATOR: &str = "viaduct-bench-generator";

/// What carries the datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    Loopback,
    Veth,
}

/// Where everything is in one measurement.
pub(crate) struct Network {
    pub(crate) listen: SocketAddrV4,
    /// Of the first; the others follow.
    pub(crate) destination: SocketAddrV4,
    /// Of the first; the others follow. The same for every load, for a bare
    /// forwarder remembers it from one to the next.
    pub(crate) peer: SocketAddrV4,
    count: u16,
    // In the order in which they must end: back home before they are removed.
    _inside: Option<Inside>,
    namespaces: Option<Namespaces>,
}

impl Network {
    /// Lays out `path` with `count` destinations. With namespaces, this
    /// thread is inside that of the generator as long as the value lives.
    ///
    /// # Errors
    /// No free ports; no rights to make network namespaces.
    pub(crate) fn new(path: Path, count: u16) -> Result<Self> {
        let (namespaces, inside, addresses) = match path {
            Path::Loopback => (None, None, ["127.0.0.1", "127.1.0.1", "127.2.0.1"]),
            Path::Veth => {
                let namespaces = Namespaces::make()?;
                let inside = Inside::enter(GENERATOR)?;
                let addresses = ["10.77.0.2", "10.78.0.1", "10.79.0.1"];
                (Some(namespaces), Some(inside), addresses)
            }
        };
        let [listen, destination, peer] = addresses;
        let [front, farm, callers] = free_ports(Ipv4Addr::UNSPECIFIED.into());
        Ok(Self {
            listen: SocketAddrV4::new(listen.parse()?, front),
            destination: SocketAddrV4::new(destination.parse()?, farm),
            peer: SocketAddrV4::new(peer.parse()?, callers),
            count,
            _inside: inside,
            namespaces,
        })
    }

    pub(crate) fn destinations(&self) -> impl Iterator<Item = SocketAddrV4> {
        let first = u32::from(*self.destination.ip());
        let port = self.destination.port();
        (0..u32::from(self.count)).map(move |n| SocketAddrV4::new((first + n).into(), port))
    }

    /// `command`, to be run where the contender belongs.
    pub(crate) fn place(&self, command: Command) -> Command {
        if self.namespaces.is_none() {
            return command;
        }
        let mut placed = Command::new("ip");
        placed
            .args(["netns", "exec", CONTENDER])
            .arg(command.get_program())
            .args(command.get_args())
            .envs(
                command
                    .get_envs()
                    .filter_map(|(name, value)| Some((name, value?))),
            );
        placed
    }
}

/// Both namespaces; removed when dropped.
struct Namespaces;

impl Namespaces {
    fn make() -> Result<Self> {
        // What a killed run left behind.
        Self::remove();
        ip(&["netns", "add", CONTENDER]).context("network namespaces need root")?;
        let made = Self;
        ip(&["netns", "add", GENERATOR])?;
        ip(&[
            "link", "add", "veth-c", "netns", CONTENDER, "type", "veth", "peer", "name", "veth-g",
            "netns", GENERATOR,
        ])?;
        for (namespace, end, address) in [
            (CONTENDER, "veth-c", "10.77.0.2/30"),
            (GENERATOR, "veth-g", "10.77.0.1/30"),
        ] {
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", namespace, "address", "add", address, "dev", end])?;
            ip(&["-n", namespace, "link", "set", end, "up"])?;
        }
        // Every address of the farm and of the callers is one of the generator's.
        ip(&[
            "-n",
            GENERATOR,
            "route",
            "add",
            "local",
            "10.78.0.0/15",
            "dev",
            "lo",
        ])?;
        ip(&[
            "-n",
            CONTENDER,
            "route",
            "add",
            "10.78.0.0/15",
            "via",
            "10.77.0.1",
        ])?;
        Ok(made)
    }

    fn remove() {
        for namespace in [CONTENDER, GENERATOR] {
            // Usually there is none.
            let _ = Command::new("ip")
                .args(["netns", "delete", namespace])
                .output();
        }
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        Self::remove();
    }
}

fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .context("ip cannot be run; install it: apt-get install iproute2")?;
    ensure!(
        output.status.success(),
        "ip {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// This thread inside another network namespace; back home when dropped.
struct Inside {
    home: File,
}

impl Inside {
    fn enter(namespace: &str) -> Result<Self> {
        let home = File::open("/proc/thread-self/ns/net")?;
        let there = File::open(format!("/run/netns/{namespace}"))?;
        let inside = Self { home };
        move_into_link_name_space(there.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // It was there a moment ago and nothing holds it back.
        let _ = move_into_link_name_space(self.home.as_fd(), Some(LinkNameSpaceType::Network));
    }
}
