//! The flags that `run`, `check`, `explain`, `simulate` and `replay` share.
//!
//! Each has an environment variable; a flag goes before it, and it goes
//! before the file.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;

use super::operation::OperationFlags;
use super::stateful::StatefulFlags;
use super::{environment, report};
use crate::config::text::{self, Choice};
use crate::config::{
    BATCHES, Config, Fault, Gso, HashKey, HostPort, Loaded, Member, Overrides, Placed, Policy,
    RATES, SECOND_CHANCES, Settings, Steer, WAITS, WORKERS,
};

/// Everything that can be tuned.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct Tunables {
    /// TOML file with listeners, sets and routes [default: none, flags alone]
    #[arg(short, long, value_name = "FILE", env = "VIADUCT_CONFIG")]
    pub(super) config: Option<PathBuf>,

    /// Address to listen on over UDP, instead of those of the file; can be repeated. Port 0 takes any free one [default port: 5060]
    #[arg(short, long, value_name = "ADDR[:PORT]", env = "VIADUCT_LISTEN", value_delimiter = ',', value_parser = trimmed(text::listen_address))]
    pub(super) listen: Vec<SocketAddr>,

    /// Destination, instead of the sets of the file; can be repeated. Either host:port or "sip:host:port;weight=2;priority=1;state=draining" (or disabled); each address of a host name is one, and without a port its SRV records are asked first [default weight: 1, priority: 0, port: 5060]
    #[arg(short, long, value_name = "DESTINATION", env = "VIADUCT_TO", value_delimiter = ',', value_parser = trimmed(text::member))]
    to: Vec<Member>,

    /// Kamailio's dispatcher.list to take the destinations from, instead of the sets of the file [default: none]
    #[arg(
        long,
        value_name = "FILE",
        env = "VIADUCT_DISPATCHER_LIST",
        conflicts_with = "to"
    )]
    pub(super) dispatcher_list: Option<PathBuf>,

    /// Set id within --dispatcher-list [default: the lowest there is]
    #[arg(long, value_name = "ID", env = "VIADUCT_SET", value_parser = within(0..=u32::MAX))]
    pub(super) set: Option<u32>,

    /// What our Via says as sent-by, where that is not the address listened on; for one listener [default: the listener's address and port]
    #[arg(long, value_name = "HOST[:PORT]", env = "VIADUCT_ADVERTISE", value_parser = text::advertise)]
    advertise: Option<HostPort>,

    /// Worker threads, 1 to 1024 [default: one for each usable core]
    #[arg(short, long, value_name = "THREADS", env = "VIADUCT_WORKERS", value_parser = within(WORKERS))]
    workers: Option<usize>,

    /// What decides which worker a datagram goes to: call-id has all workers serve one trunk, source leaves it to the kernel's hash of addresses and ports [default: call-id]
    #[arg(long, value_name = "KEY", env = "VIADUCT_STEER", value_parser = choice::<Steer>())]
    steer: Option<Steer>,

    /// Whether each worker is pinned to a core [default: on]
    #[arg(long, value_name = "ON|OFF", env = "VIADUCT_PIN", num_args = 0..=1, default_missing_value = "on", value_parser = on_off())]
    pin: Option<bool>,

    /// Datagrams taken by one system call, 1 to 256; more save time under load; each takes 64 KiB of address space, of memory what its longest datagram needed [default: 256]
    #[arg(long, value_name = "DATAGRAMS", env = "VIADUCT_BATCH", value_parser = within(BATCHES))]
    batch: Option<usize>,

    /// Which datagrams for one destination leave by one segmented send (UDP GSO): those of similar length, the shorter ones padded by spaces behind the colon of Max-Forwards (in responses, of the topmost Via); those of exactly equal length; or none [default: pad]
    #[arg(long, value_name = "HOW", env = "VIADUCT_GSO", value_parser = choice::<Gso>())]
    gso: Option<Gso>,

    /// How long datagrams may gather while 10,000 a second or more arrive at a worker, in microseconds from 0 to 10000 [default: 600]
    #[arg(long, value_name = "MICROSECONDS", env = "VIADUCT_COALESCE_US", value_parser = time(WAITS, Duration::from_micros))]
    coalesce_us: Option<Duration>,

    /// How long to ask the sockets again and again before sleeping, in microseconds from 0 to 10000; takes the core for a shorter latency [default: 0]
    #[arg(long, value_name = "MICROSECONDS", env = "VIADUCT_SPIN_US", value_parser = time(WAITS, Duration::from_micros))]
    spin_us: Option<Duration>,

    /// Receive buffer of each socket in octets, or with KiB, MiB or GiB; raise it where datagrams are lost in bursts [default: 4MiB]
    #[arg(long, value_name = "OCTETS", env = "VIADUCT_RECEIVE_BUFFER", value_parser = text::octets)]
    receive_buffer: Option<usize>,

    /// Send buffer of each socket in octets, or with KiB, MiB or GiB [default: 4MiB]
    #[arg(long, value_name = "OCTETS", env = "VIADUCT_SEND_BUFFER", value_parser = text::octets)]
    send_buffer: Option<usize>,

    /// How a destination is chosen, in sets that name no policy [default: hash]
    #[arg(long, value_name = "POLICY", env = "VIADUCT_POLICY", value_parser = choice::<Policy>())]
    policy: Option<Policy>,

    /// What is hashed, in sets that name no hash key: call-id, from-uri, to-uri, request-uri, from-user, to-user, request-user, source or header:NAME [default: call-id]
    #[arg(long, alias = "hash", value_name = "KEY", env = "VIADUCT_HASH_KEY", value_parser = text::hash_key)]
    hash_key: Option<HashKey>,

    /// File with the secret key, made where there is none; instances side by side share it [default: secret in the state directory under systemd, else none: a new key at each start]
    #[arg(long, value_name = "FILE", env = "VIADUCT_SECRET_FILE")]
    secret_file: Option<PathBuf>,

    /// Replies of our own to one source prefix (IPv4 /24, IPv6 /48), a second, in equal parts for each worker, rounded up [default: 100]
    #[arg(long, value_name = "REPLIES", env = "VIADUCT_REPLY_RATE", value_parser = within(RATES))]
    reply_rate: Option<u32>,

    /// Whether a next hop that a member names by a host name is resolved (RFC 3263), and its request held for at most 2 seconds meanwhile; it is answered 503 where this is off [default: off]
    #[arg(long, value_name = "ON|OFF", env = "VIADUCT_RESOLVE", num_args = 0..=1, default_missing_value = "on", value_parser = on_off())]
    resolve: Option<bool>,

    /// Name server to ask, with port 53 unless given; can be repeated [default: those of /etc/resolv.conf]
    #[arg(long, value_name = "ADDR[:PORT]", env = "VIADUCT_RESOLVER", value_delimiter = ',', value_parser = trimmed(text::resolver))]
    resolver: Vec<SocketAddr>,

    /// How long after a change of the farm, be it by the file, ctl, health or names, a CANCEL or ACK also goes where it went before, in seconds from 0 to 3600 [default: 180]
    #[arg(long, value_name = "SECONDS", env = "VIADUCT_SECOND_CHANCE_S", value_parser = time(SECOND_CHANCES, Duration::from_secs))]
    second_chance_s: Option<Duration>,

    /// Network or address that requests may name as next hop although it is no destination; can be repeated [default: none]
    #[arg(long, value_name = "NETWORK", env = "VIADUCT_ALLOW_NEXT_HOP", value_delimiter = ',', value_parser = trimmed(text::network))]
    allow_next_hop: Vec<IpNet>,

    /// Whether we stay on the path of dialogs (Record-Route) for listeners and routes that do not say, so that their requests find the destination that has them whatever becomes of the set [default: off]
    #[arg(long, value_name = "ON|OFF", env = "VIADUCT_RECORD_ROUTE", num_args = 0..=1, default_missing_value = "on", value_parser = on_off())]
    record_route: Option<bool>,

    /// Whether REGISTER gets a Path on listeners that do not say, so that requests to the phone come back through us and the way it registered by [default: off]
    #[arg(long, value_name = "ON|OFF", env = "VIADUCT_PATH", num_args = 0..=1, default_missing_value = "on", value_parser = on_off())]
    path: Option<bool>,

    /// What is relayed with a transaction, and how.
    #[command(flatten)]
    stateful: StatefulFlags,

    /// Probes, the admin API, the mirror, logs.
    #[command(flatten)]
    operation: OperationFlags,
}

impl Tunables {
    /// What goes before the file.
    pub(super) fn overrides(&self) -> Overrides {
        let secret_file = self.secret_file.clone();
        Overrides {
            file_flag: None,
            listen: self.listen.clone(),
            advertise: self.advertise.clone(),
            to: self.to.clone(),
            dispatcher_list: self.dispatcher_list.clone(),
            set: self.set,
            policy: self.policy,
            hash_key: self.hash_key.clone(),
            stateful: self.stateful.draft(),
            operation: self.operation.draft(),
            settings: Settings {
                workers: self.workers,
                steer: self.steer,
                pin: self.pin,
                batch: self.batch,
                gso: self.gso,
                coalesce: self.coalesce_us,
                spin: self.spin_us,
                receive_buffer: self.receive_buffer,
                send_buffer: self.send_buffer,
                secret_file: secret_file.map(Placed::by_flag("--secret-file")),
                reply_rate: self.reply_rate,
                resolve: self.resolve,
                resolvers: given(&self.resolver, |server| server),
                second_chance: self.second_chance_s,
                allow_next_hop: given(&self.allow_next_hop, Placed::by_flag("--allow-next-hop")),
                record_route: self.record_route,
                path: self.path,
            },
        }
    }

    /// Loads the configuration; prints what there is to say of it to stderr.
    /// `None` where that was an error.
    pub(super) fn load(&self) -> io::Result<Option<Config>> {
        Self::print(self.load_all())
    }

    /// The same, with everything that there is to say.
    pub(super) fn load_all(&self) -> Loaded {
        let mut loaded = environment::load(self.config.as_deref(), &self.overrides());
        loaded.diagnostics.extend(environment::slips());
        loaded
    }

    /// As [`Tunables::load`], with the `file` that `flag` names in the place of
    /// [`Tunables::config`].
    pub(super) fn load_from(&self, flag: &'static str, file: &Path) -> io::Result<Option<Config>> {
        let overrides = Overrides {
            file_flag: Some(flag),
            ..self.overrides()
        };
        Self::print(environment::load(Some(file), &overrides))
    }

    fn print(loaded: Loaded) -> io::Result<Option<Config>> {
        report::print(&loaded.diagnostics)?;
        Ok(loaded.config)
    }
}

/// What a flag says that can be repeated, each value made what `each` makes of
/// it; `None` where the flag is not there.
pub(super) fn given<T: Clone, U>(values: &[T], each: impl FnMut(T) -> U) -> Option<Vec<U>> {
    (!values.is_empty()).then(|| values.iter().cloned().map(each).collect())
}

/// Reads one value of a list, in which blanks may follow commas.
pub(super) fn trimmed<T>(
    read: impl Fn(&str) -> Result<T, Fault> + Clone,
) -> impl Fn(&str) -> Result<T, Fault> + Clone {
    move |text| read(text.trim())
}

pub(super) fn within<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let value = text.parse().ok().filter(|value| range.contains(value));
        value.ok_or_else(|| format!("give {} to {}", range.start(), range.end()))
    }
}

pub(super) fn on_off() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["on", "off"]).map(|text| text == "on")
}

/// Reads the name of a value; help shows all of them.
pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(text::names::<T>()).try_map(|name| text::choice(&name))
}

fn time(
    range: RangeInclusive<u64>,
    of: fn(u64) -> Duration,
) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    let number = within(range);
    move |text| number(text).map(of)
}
