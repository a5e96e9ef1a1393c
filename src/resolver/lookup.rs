//! From a name to addresses (RFC 3263 §4.2, as far as UDP goes).

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup as Found;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{QUESTIONS, SYSTEM_SERVERS};
use crate::config::text::DNS_PORT;
use crate::config::{Config, HostPort};
use crate::proxy::MAX_NAMES;
use crate::sip::DEFAULT_PORT;

/// The longest that an answer holds, whatever its TTL says.
pub(super) const TTL_MAX: Duration = Duration::from_secs(3600);
/// How long it holds that there is nothing, where no SOA says (RFC 2308).
const TTL_OF_NOTHING: Duration = Duration::from_secs(60);
/// Why a name that is there stands for nothing.
const NO_ADDRESS: &str = "it has no address";
/// How many aliases of a service are followed, one behind the other.
const MAX_ALIASES: usize = 8;

/// Asks name servers, and keeps what they say.
pub(super) struct Lookup {
    /// One for each name server, behind its address.
    resolvers: Vec<(SocketAddr, TokioResolver)>,
    /// For the questions that are open.
    permits: Semaphore,
    /// The families of the listeners.
    kinds: Vec<RecordType>,
    ttl_min: Duration,
    max_records: usize,
}

/// A host that a name stands for (RFC 2782).
#[derive(Clone)]
pub(super) struct Host {
    pub(super) name: Name,
    pub(super) port: u16,
    pub(super) priority: u16,
    pub(super) weight: u16,
}

/// What is known of the addresses of one host.
pub(super) struct Addresses {
    pub(super) all: Vec<SocketAddr>,
    /// How long that holds.
    pub(super) until: Instant,
    /// Why there are none, or perhaps not all.
    pub(super) trouble: Option<Trouble>,
}

/// Why there are no addresses.
pub(super) enum Trouble {
    /// There are none.
    Nothing(&'static str),
    /// Nobody said.
    NoAnswer(String),
    /// There was no time to ask.
    NotAsked,
}

impl From<NetError> for Trouble {
    fn from(error: NetError) -> Self {
        if error.is_nx_domain() {
            Self::Nothing("there is no such name")
        } else if error.is_no_records_found() {
            Self::Nothing(NO_ADDRESS)
        } else {
            Self::NoAnswer(error.to_string())
        }
    }
}

impl Trouble {
    /// Whether the same question may find more in a moment.
    pub(super) fn may_pass(&self) -> bool {
        !matches!(self, Self::Nothing(_))
    }

    /// The one of both that says more.
    pub(super) fn or(self, other: Option<Self>) -> Self {
        let says = |trouble: &Self| match trouble {
            Self::Nothing(_) => 0,
            Self::NoAnswer(_) => 1,
            Self::NotAsked => 2,
        };
        match other {
            Some(other) if says(&other) >= says(&self) => other,
            _ => self,
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(why) => f.write_str(why),
            Self::NoAnswer(why) => f.write_str(why),
            Self::NotAsked => f.write_str("there was no time to ask"),
        }
    }
}

impl Lookup {
    /// For the families of the listeners. A name server has `limit` for an
    /// answer, which holds for `ttl_min` at least; hosts of one service, and
    /// addresses of one host, are `max_records` at most.
    pub(super) fn new(
        config: &Config,
        limit: Duration,
        ttl_min: Duration,
        max_records: usize,
    ) -> io::Result<Self> {
        let servers = match config.resolvers.as_slice() {
            [] => {
                let named = |error| io::Error::other(format!("/etc/resolv.conf: {error}"));
                let (system, _) = system_conf::read_system_conf().map_err(named)?;
                let servers = system.name_servers.into_iter().take(SYSTEM_SERVERS);
                servers.map(|server| (server.ip, DNS_PORT).into()).collect()
            }
            given => given.to_vec(),
        };
        let hosts = Arc::new(hosts());
        let resolver = |server| {
            // Neither a domain nor a search list: what SIP names is whole.
            let servers = ResolverConfig::from_name_servers(vec![name_server(server)]);
            let provider = TokioRuntimeProvider::default();
            let mut builder = TokioResolver::builder_with_config(servers, provider);
            let options = builder.options_mut();
            options.use_hosts_file = ResolveHosts::Never;
            // A query is sent again within that time, when its answer seems lost.
            options.timeout = limit;
            options.attempts = 0;
            options.cache_size = MAX_NAMES as u64;
            options.positive_min_ttl = Some(ttl_min);
            options.positive_max_ttl = Some(TTL_MAX);
            // It loses SRV behind an alias (see `srv`), and would remember also of
            // the name that has it that there is none.
            options.negative_max_ttl = Some(Duration::ZERO);
            let mut resolver = builder.build().map_err(io::Error::other)?;
            resolver.set_hosts(Arc::clone(&hosts));
            Ok::<_, io::Error>((server, resolver))
        };
        let ours = |kind: &RecordType| {
            let mut listeners = config.listeners.iter();
            listeners.any(|own| kind_of(own.address.ip()) == *kind)
        };
        let kinds = [RecordType::A, RecordType::AAAA].into_iter().filter(ours);
        Ok(Self {
            resolvers: servers
                .into_iter()
                .map(resolver)
                .collect::<Result<_, _>>()?,
            permits: Semaphore::new(QUESTIONS),
            kinds: kinds.collect(),
            ttl_min,
            max_records,
        })
    }

    /// The hosts that `name` stands for, those of the lowest priority first,
    /// and until when that holds. Nothing is waited for beyond `end`.
    pub(super) async fn hosts(
        &self,
        name: &HostPort,
        end: Instant,
    ) -> Result<(Vec<Host>, Instant), Trouble> {
        let whole = whole_name(&name.host).ok_or(Trouble::Nothing("it is no name of DNS"))?;
        let alone = |port| Host {
            name: whole.clone(),
            port,
            priority: 0,
            weight: 0,
        };
        let service = match name.port {
            None => whole_name(&format!("_sip._udp.{}", name.host)),
            Some(_) => None,
        };
        let Some(service) = service else {
            // A name that is too long for a service is one of a host still.
            let port = name.port.unwrap_or(DEFAULT_PORT);
            return Ok((vec![alone(port)], Instant::now() + TTL_MAX));
        };
        let (found, until) = self.srv(service, end).await?;
        let hosts = match found {
            Some(found) => self.offered(&found),
            None => vec![alone(DEFAULT_PORT)],
        };
        Ok((hosts, until))
    }

    /// The SRV records of a service, or those of what it is an alias of (RFC 1034
    /// §3.6.2), and until when that holds; `None` where there are none. Behind an
    /// alias the resolver loses them: it goes on to the host that they name, and
    /// finds that to have no SRV.
    async fn srv(
        &self,
        mut service: Name,
        end: Instant,
    ) -> Result<(Option<Found>, Instant), Trouble> {
        let mut until = Instant::now() + TTL_MAX;
        for _ in 0..=MAX_ALIASES {
            let (answer, holds) = self.ask(&service, RecordType::SRV, end).await;
            match answer {
                Ok(found) => return Ok((Some(found), until.min(holds))),
                Err(Trouble::Nothing(_)) => {}
                Err(trouble) => return Err(trouble),
            }
            let (answer, alias_holds) = self.ask(&service, RecordType::CNAME, end).await;
            let alias = match answer {
                Ok(found) => alias(&service, &found),
                Err(Trouble::Nothing(_)) => None,
                Err(trouble) => return Err(trouble),
            };
            until = until.min(alias_holds);
            match alias {
                Some(behind) => service = behind,
                None => return Ok((None, until.min(holds))),
            }
        }
        Err(Trouble::Nothing("its service has too many aliases"))
    }

    /// In one order, so that always the same are left out.
    fn offered(&self, found: &Found) -> Vec<Host> {
        let records = found.answers().iter();
        let hosts = records.filter_map(|record| match &record.data {
            RData::SRV(srv) => Some(Host {
                name: srv.target.clone(),
                port: srv.port,
                priority: srv.priority,
                weight: srv.weight,
            }),
            _ => None,
        });
        let mut hosts: Vec<_> = hosts.collect();
        hosts.sort_by(|a, b| (a.priority, &a.name, a.port).cmp(&(b.priority, &b.name, b.port)));
        hosts.truncate(self.max_records);
        hosts
    }

    /// The addresses of each host; all are asked for together, and nothing is
    /// waited for beyond `end`.
    pub(super) async fn addresses(
        self: &Arc<Self>,
        hosts: &[Host],
        end: Instant,
    ) -> Vec<(Host, Addresses)> {
        let mut lookups = JoinSet::new();
        for host in hosts.iter().cloned() {
            let lookup = Arc::clone(self);
            lookups.spawn(async move {
                let found = lookup.of_host(&host, end).await;
                (host, found)
            });
        }
        lookups.join_all().await
    }

    /// In order.
    async fn of_host(&self, host: &Host, end: Instant) -> Addresses {
        let mut found = Addresses {
            all: Vec::new(),
            until: Instant::now() + TTL_MAX,
            trouble: None,
        };
        // "." is no host (RFC 2782).
        if host.name.is_root() {
            found.trouble = Some(Trouble::Nothing("it does not offer SIP over UDP"));
            return found;
        }
        let (four, six) = tokio::join!(
            self.of_kind(host, RecordType::A, end),
            self.of_kind(host, RecordType::AAAA, end)
        );
        for (answer, until) in [four, six].into_iter().flatten() {
            found.until = found.until.min(until);
            match answer {
                Ok(answer) => {
                    let records = answer.answers().iter();
                    let ips = records.filter_map(|each| each.data.ip_addr());
                    // An IPv6 address may stand for one of IPv4.
                    let ips = ips.map(|ip| ip.to_canonical());
                    let ips = ips.filter(|ip| self.kinds.contains(&kind_of(*ip)));
                    found
                        .all
                        .extend(ips.map(|ip| SocketAddr::new(ip, host.port)));
                }
                Err(trouble) => found.trouble = Some(trouble.or(found.trouble.take())),
            }
        }
        if found.all.is_empty() {
            found.trouble = found.trouble.or(Some(Trouble::Nothing(NO_ADDRESS)));
        } else {
            // A host need not have addresses of both families.
            found.trouble = found.trouble.filter(Trouble::may_pass);
        }
        found.all.sort_unstable();
        found.all.truncate(self.max_records);
        found
    }

    /// `None`: no listener could send there.
    async fn of_kind(
        &self,
        host: &Host,
        kind: RecordType,
        end: Instant,
    ) -> Option<(Result<Found, Trouble>, Instant)> {
        if !self.kinds.contains(&kind) {
            return None;
        }
        Some(self.ask(&host.name, kind, end).await)
    }

    /// What the first name server says that knows, and until when that holds.
    /// All are asked together: one that is silent, or in trouble, takes nothing
    /// of the others' time.
    async fn ask(
        &self,
        name: &Name,
        kind: RecordType,
        end: Instant,
    ) -> (Result<Found, Trouble>, Instant) {
        let answer = async {
            // They are never closed.
            let _permit = self.permits.acquire().await;
            let mut answers = JoinSet::new();
            for (server, resolver) in &self.resolvers {
                let (server, resolver, name) = (*server, resolver.clone(), name.clone());
                answers.spawn(async move { (server, resolver.lookup(name, kind).await) });
            }
            let mut troubles = Vec::new();
            while let Some(answer) = answers.join_next().await {
                match answer {
                    Ok((server, Err(NetError::NoConnections))) => {
                        troubles.push(format!("name server {server} cannot be reached"));
                    }
                    Ok((server, Err(error))) if !error.is_no_records_found() => {
                        troubles.push(format!("{server}: {error}"));
                    }
                    Ok((_, answer)) => return answer,
                    Err(_) => {}
                }
            }
            Err(troubles.join(", ").into())
        };
        let answer = tokio::time::timeout_at(end.into(), answer).await;
        let now = Instant::now();
        match answer {
            Ok(Ok(found)) => {
                let until = found.valid_until();
                (Ok(found), until)
            }
            Ok(Err(error)) => {
                let ttl = ttl_of_nothing(&error).clamp(self.ttl_min, TTL_MAX);
                (Err(error.into()), now + ttl)
            }
            Err(_) => (Err(Trouble::NotAsked), now + self.ttl_min),
        }
    }
}

/// The records that hold addresses of this family.
fn kind_of(ip: IpAddr) -> RecordType {
    match ip {
        IpAddr::V4(_) => RecordType::A,
        IpAddr::V6(_) => RecordType::AAAA,
    }
}

/// How long it holds that there is nothing.
fn ttl_of_nothing(error: &NetError) -> Duration {
    let seconds = match error {
        NetError::Dns(DnsError::NoRecordsFound(nothing)) => nothing.negative_ttl,
        _ => None,
    };
    seconds.map_or(TTL_OF_NOTHING, |seconds| {
        Duration::from_secs(seconds.into())
    })
}

/// What `name` is an alias of.
fn alias(name: &Name, found: &Found) -> Option<Name> {
    let mut records = found.answers().iter();
    records.find_map(|record| match &record.data {
        RData::CNAME(to) if record.name == *name => Some(to.0.clone()),
        _ => None,
    })
}

/// What `/etc/hosts` says, where it is there. The resolver's own reader drops all
/// of it for one octet that is not UTF-8, as in a comment.
fn hosts() -> Hosts {
    let mut hosts = Hosts::default();
    let text = std::fs::read("/etc/hosts").unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    hosts
        .read_hosts_conf(text.as_bytes())
        .expect("invariant: memory is readable, and this is UTF-8");
    hosts
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    connections
        .iter_mut()
        .for_each(|to| to.port = address.port());
    NameServerConfig::new(address.ip(), true, connections)
}

fn whole_name(text: &str) -> Option<Name> {
    let mut name = Name::from_ascii(text).ok()?;
    name.set_fqdn(true);
    Some(name)
}
