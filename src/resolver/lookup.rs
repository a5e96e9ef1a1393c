//! From a name to addresses (RFC 3263 §4.2, as far as UDP goes).

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{TokioResolver, system_conf};

use super::TIME_LIMIT;
use crate::config::Config;
use crate::proxy::{HostPort, MAX_NAMES, Server};
use crate::sip::DEFAULT_PORT;

/// Bounds of how long an answer holds, whatever its TTL says.
const TTL_MIN: Duration = Duration::from_secs(5);
const TTL_MAX: Duration = Duration::from_secs(3600);
/// How long it holds that there is no answer.
pub(super) const FAILURE_TTL: Duration = Duration::from_secs(5);
/// Hosts of one service, and addresses of one host, that are used at most.
const MAX_RECORDS: usize = 16;

/// Asks name servers, and keeps what they say.
pub(super) struct Lookup(TokioResolver);

impl Lookup {
    pub(super) fn new(config: &Config) -> io::Result<Self> {
        let servers = match config.resolvers.as_slice() {
            [] => {
                let named = |error| io::Error::other(format!("/etc/resolv.conf: {error}"));
                let (system, _) = system_conf::read_system_conf().map_err(named)?;
                system.name_servers
            }
            given => given.iter().copied().map(name_server).collect(),
        };
        // Neither a domain nor a search list: what SIP names is whole.
        let servers = ResolverConfig::from_name_servers(servers);
        let provider = TokioRuntimeProvider::default();
        let mut builder = TokioResolver::builder_with_config(servers, provider);
        let options = builder.options_mut();
        // A query is sent again within that time, when its answer seems lost.
        options.timeout = TIME_LIMIT;
        options.attempts = 0;
        options.cache_size = MAX_NAMES as u64;
        options.positive_min_ttl = Some(TTL_MIN);
        options.positive_max_ttl = Some(TTL_MAX);
        options.negative_max_ttl = Some(FAILURE_TTL);
        let ours = |v4| {
            config
                .listeners
                .iter()
                .any(|own| own.address.is_ipv4() == v4)
        };
        options.ip_strategy = match (ours(true), ours(false)) {
            (true, false) => LookupIpStrategy::Ipv4Only,
            (false, true) => LookupIpStrategy::Ipv6Only,
            _ => LookupIpStrategy::Ipv4AndIpv6,
        };
        builder.build().map(Self).map_err(io::Error::other)
    }

    /// What `name` stands for, and how long that holds; `None`: nothing.
    pub(super) async fn servers(&self, name: &HostPort) -> Option<(Vec<Server>, Duration)> {
        let host = whole_name(&name.host)?;
        if let Some(port) = name.port {
            return self.host(host, port).await;
        }
        let service = whole_name(&format!("_sip._udp.{}", name.host));
        let found = match service {
            Some(service) => self.0.lookup(service, RecordType::SRV).await,
            // Too long for a name.
            None => return self.host(host, DEFAULT_PORT).await,
        };
        match found {
            Ok(found) => {
                let records = found.answers().iter();
                let hosts = records.filter_map(|record| match &record.data {
                    RData::SRV(srv) => Some(srv.clone()),
                    _ => None,
                });
                let (servers, ttl) = self.service(hosts.collect()).await?;
                Some((servers, ttl.min(left(found.valid_until()))))
            }
            Err(error) if error.is_no_records_found() => self.host(host, DEFAULT_PORT).await,
            Err(_) => None,
        }
    }

    /// The hosts of the lowest priority of which one has an address. Those
    /// behind them would take over where one does not answer, which nobody
    /// knows who remembers nothing.
    async fn service(&self, mut hosts: Vec<SRV>) -> Option<(Vec<Server>, Duration)> {
        // In one order, so that always the same are left out.
        hosts.sort_by(|a, b| (a.priority, &a.target, a.port).cmp(&(b.priority, &b.target, b.port)));
        hosts.truncate(MAX_RECORDS);
        for equals in hosts.chunk_by(|a, b| a.priority == b.priority) {
            let mut servers = Vec::new();
            let mut ttl = TTL_MAX;
            for srv in equals {
                if let Some((found, for_so_long)) = self.host(srv.target.clone(), srv.port).await {
                    ttl = ttl.min(for_so_long);
                    servers.extend(found.into_iter().map(|server| Server {
                        weight: srv.weight,
                        ..server
                    }));
                }
            }
            if !servers.is_empty() {
                return Some((servers, ttl));
            }
        }
        None
    }

    /// The addresses of one host.
    async fn host(&self, host: Name, port: u16) -> Option<(Vec<Server>, Duration)> {
        // "." is no host: the service is not offered (RFC 2782).
        if host.is_root() {
            return None;
        }
        let found = self.0.lookup_ip(host).await.ok()?;
        let mut addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        addresses.sort_unstable();
        addresses.truncate(MAX_RECORDS);
        let server = Server {
            weight: 0,
            addresses,
        };
        let ttl = left(found.valid_until());
        (!server.addresses.is_empty()).then(|| (vec![server], ttl))
    }
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

fn left(valid_until: Instant) -> Duration {
    valid_until.saturating_duration_since(Instant::now())
}
