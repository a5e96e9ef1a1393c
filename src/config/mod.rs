//! The validated configuration: what every other room reads.
//!
//! A [`Config`] is complete and consistent by construction: defaults are
//! filled in, names are unique, every rule names a set that exists. Whatever
//! can be wrong is found while it is built, with file, line and column.

mod diagnostic;
mod differing;
mod dispatcher_list;
mod effective;
mod file;
mod load;
mod member;
mod merge;
mod methods;
mod names;
mod operation;
mod stateful;
mod table;
pub mod text;
mod validate;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use diagnostic::{Diagnostic, Fault, HELP, Location, Severity, closest};
pub use differing::{DifferingKeys, differing_keys};
pub use effective::to_toml;
pub use load::{Loaded, LoadedList, load, load_list, load_with};
pub use member::Member;
pub use merge::{Overrides, Settings};
pub use operation::{
    Accept, Admin, Health, HealthSettings, Log, LogFormat, LogLevel, Mirror, OperationDraft,
    PROBES_IN_A_ROW, Probe, SOCKET_PATH_MAX, WhenAllDown,
};
pub use stateful::{
    Accounting, AccountingTarget, OnFailure, Stateful, StatefulDraft, TRANSACTIONS, Timers,
};
pub use table::Placed;
pub use validate::MAX_DESTINATIONS;

/// Bounds of [`Config::workers`].
pub const WORKERS: RangeInclusive<usize> = 1..=1024;
/// Bounds of [`Config::batch`].
pub const BATCHES: RangeInclusive<usize> = 1..=256;
/// Bounds of [`Config::coalesce`] and [`Config::spin`], in microseconds.
pub const WAITS: RangeInclusive<u64> = 0..=10_000;
/// Bounds of [`Config::reply_rate`].
pub const RATES: RangeInclusive<u32> = 1..=1_000_000;
/// Bounds of [`Config::second_chance`], in seconds.
pub const SECOND_CHANCES: RangeInclusive<u64> = 0..=3600;

/// A whole configuration: the file, the environment and the flags, merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Sockets that requests and responses arrive on; at least one.
    pub listeners: Vec<Listener>,
    /// Dispatcher sets; at least one. The first takes what no rule claims.
    pub sets: Vec<Set>,
    /// `[[route]]` rules in order; the first that matches names the set.
    pub routes: Vec<Route>,
    /// Hosts beside the members that requests from outside may name.
    pub allowed_next_hops: Vec<IpNet>,
    /// Worker threads, each with a socket of its own for each listener.
    pub workers: usize,
    /// What decides which worker a datagram goes to.
    pub steer: Steer,
    /// Whether each worker is pinned to a core.
    pub pin: bool,
    /// Datagrams taken from a socket by one system call (1 to 256).
    pub batch: usize,
    /// Which datagrams for one destination leave by one segmented send.
    pub gso: Gso,
    /// How long datagrams may gather under load; 0: not at all.
    pub coalesce: Duration,
    /// How long to ask the sockets again and again before sleeping.
    pub spin: Duration,
    /// `SO_RCVBUF` to ask for on each socket, in octets.
    pub receive_buffer: usize,
    /// `SO_SNDBUF` to ask for on each socket, in octets.
    pub send_buffer: usize,
    /// Where the secret key is kept; `None`: a new one each start.
    pub secret_file: Option<PathBuf>,
    /// Local replies a second to one source prefix (IPv4 /24, IPv6 /48), in equal
    /// parts for each worker, rounded up.
    pub reply_rate: u32,
    /// Whether next hops that members name by a host name are resolved.
    pub resolve: bool,
    /// The name servers to ask; where there are none, those of
    /// `/etc/resolv.conf`.
    pub resolvers: Vec<SocketAddr>,
    /// How long after a change of sets, destinations or routes a CANCEL or ACK also
    /// goes where it went before; 0: not at all.
    pub second_chance: Duration,
    /// What is relayed with a transaction, and how.
    pub stateful: Stateful,
    /// Where the admin API is served.
    pub admin: Admin,
    /// Where copies of messages go, if anywhere.
    pub mirror: Option<Mirror>,
    /// How the log is written.
    pub log: Log,
    /// How long transactions may go on after SIGTERM.
    pub stop_timeout: Duration,
}

/// What decides which worker a datagram goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// Call-ID, so that one trunk is served by all workers.
    CallId,
    /// Source and destination address and port, as the kernel does by itself.
    Source,
}

/// Which datagrams for one destination leave by one segmented send (UDP GSO),
/// for which they must be of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gso {
    /// Those of similar length: the shorter ones are lengthened by spaces
    /// behind the colon of Max-Forwards or, in a response, of the topmost Via
    /// (RFC 3261 §25.1).
    Pad,
    /// Those of equal length.
    Exact,
    /// None.
    Off,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Unique name; rules refer to it. The address as text unless given.
    pub name: String,
    /// Address and port to bind; port 0 takes any free one.
    pub address: SocketAddr,
    /// What our Via says as sent-by (RFC 3261 §18.1.1), where it is not the
    /// bound address; the port is the bound one where none is given.
    pub advertise: Option<HostPort>,
    /// Other names and addresses that stand for us in a Route or a Request-URI;
    /// the port is the bound one where none is given, for a name also 5060.
    pub also_known_as: Vec<HostPort>,
    /// Front balancers, whose datagrams begin with a header of the PROXY
    /// protocol, version 2, that says who sent them.
    pub proxy_protocol: Vec<IpNet>,
    /// Whether requests that come in on it have us stay on the path of their
    /// dialog (RFC 3261 §16.6 item 4).
    pub record_route: bool,
    /// Whether a REGISTER that comes in on it has later requests to its
    /// sender go back through us (RFC 3327).
    pub path: bool,
    /// Networks that requests leave for by this listener, whichever they came
    /// in on.
    pub egress: Vec<IpNet>,
}

impl Listener {
    /// Whether a datagram to `address` would surely arrive here.
    #[must_use]
    pub fn receives(&self, address: SocketAddr) -> bool {
        let bound = self.address;
        let everywhere = bound.ip().is_unspecified() && bound.is_ipv4() == address.is_ipv4();
        let mut names = self.advertise.iter().chain(&self.also_known_as);
        let named = names.any(|name| {
            name.host == text::uri_host(address.ip())
                && name.port.unwrap_or_else(|| bound.port()) == address.port()
        });
        bound == address
            || named
            || (everywhere && address.ip().is_loopback() && bound.port() == address.port())
    }
}

/// A host, and the port where one is given.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    /// A host name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// The port, where one is given.
    pub port: Option<u16>,
}

/// `host` or `host:port`.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.host),
            None => f.write_str(&self.host),
        }
    }
}

/// A dispatcher set: destinations and the way to choose among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Unique name; rules refer to it.
    pub name: String,
    /// How a destination is chosen.
    pub policy: Policy,
    /// What is hashed.
    pub hash_key: HashKey,
    /// The destinations in the order of the file.
    pub destinations: Vec<Destination>,
    /// Those that are given by name, in the order of the file; whoever runs
    /// the configuration adds their addresses behind `destinations`.
    pub named: Vec<Named>,
    /// Sources that count as members beside the destinations' addresses.
    pub member_sources: Vec<IpNet>,
    /// What becomes of new work when every active destination is down.
    pub when_all_down: WhenAllDown,
}

impl Set {
    /// The names whose addresses are not among the destinations.
    pub fn unresolved(&self) -> impl Iterator<Item = &HostPort> {
        let unresolved = self.named.iter().filter(|named| !named.resolved);
        unresolved.map(|named| &named.name)
    }
}

/// How a set chooses a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Weighted rendezvous hashing of the key, filled into a slot table.
    Hash,
    /// Bit-exact with Kamailio's `ds_select_dst` algorithm 0.
    Kamailio,
    /// In turn by weight; recent Call-IDs are remembered so that a
    /// retransmission, CANCEL or ACK follows its request.
    RoundRobin,
    /// By weight at random, each transaction anew.
    Random,
}

/// What a set hashes to choose a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// Call-ID, the whole `local@host`.
    CallId,
    /// user@host:port of the From URI.
    FromUri,
    /// user@host:port of the To URI.
    ToUri,
    /// user@host:port of the Request-URI.
    RequestUri,
    /// The user of the From URI; user@host:port where it names none, as in those
    /// that follow.
    FromUser,
    /// The user of the To URI.
    ToUser,
    /// The user of the Request-URI.
    RequestUser,
    /// The source address, without the port.
    Source,
    /// The value of the first header of this name (in lower case); Call-ID
    /// where a request has none.
    Header(String),
}

/// One member of a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// The URI as the operator wrote it, without its parameters.
    pub uri: String,
    /// Where datagrams are sent.
    pub address: SocketAddr,
    /// Share of new work against the others of its priority; at least 1.
    pub weight: u32,
    /// Higher is used first; lower ones only when none above can take new work.
    pub priority: i32,
    /// Administrative state.
    pub state: State,
    /// How it is probed; `None`: not at all.
    pub probe: Option<Arc<Probe>>,
    /// What health checks have found.
    pub health: Health,
}

/// A name among the members of a set: each address that it stands for is a
/// destination of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The URI as the operator wrote it, without its parameters.
    pub uri: String,
    /// The name, in lower case; without a port, SRV `_sip._udp` is asked first
    /// (RFC 3263 §4.2).
    pub name: HostPort,
    /// The weight of each address; where none is given, that of SRV, or 1.
    pub weight: Option<u32>,
    /// The priority of the addresses; those of SRV rank below it.
    pub priority: i32,
    /// Administrative state of all of them.
    pub state: State,
    /// How each of them is probed; `None`: not at all.
    pub probe: Option<Arc<Probe>>,
    /// Whether its addresses are among the destinations; a file never says so.
    pub resolved: bool,
}

/// Administrative state of a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "program", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Takes work.
    Active,
    /// Takes no new work, but requests that name it, so that the calls it has
    /// come to their end.
    Draining,
    /// Takes none, not even requests that name it.
    Disabled,
}

/// A rule that chooses a set. Every condition given must hold; a condition
/// that is empty holds always.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index into [`Config::sets`].
    pub set: usize,
    /// Methods, in the case of the wire.
    pub methods: Vec<String>,
    /// Request-URI hosts, in lower case; IPv6 addresses in brackets.
    pub hosts: Vec<String>,
    /// Prefixes of the Request-URI's user part.
    pub user_prefixes: Vec<String>,
    /// Networks the request may come from.
    pub sources: Vec<IpNet>,
    /// Listeners it may come in on: indices into [`Config::listeners`].
    pub listeners: Vec<usize>,
    /// Goes before [`Listener::record_route`] for requests it claims.
    pub record_route: Option<bool>,
    /// Whether a new request that is about another dialog, by Replaces, Join
    /// or Target-Dialog, is hashed by the Call-ID of that one.
    pub follow_replaces: bool,
}
