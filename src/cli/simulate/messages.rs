//! The messages of a simulated call.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use crate::config::{Config, HashKey, Route};
use crate::sip::DEFAULT_PORT;

/// Where the callers are that no rule asks for: networks for tests of load
/// (RFC 2544, RFC 5180).
const CALLERS_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
const CALLERS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 2, 0, 0, 0, 0, 0, 0);

/// What calls have in common that are to meet one set.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) method: String,
    host: String,
    user_prefix: String,
    network: Option<IpNet>,
    pub(super) listener: usize,
    v4: bool,
    /// What the set hashes; it differs from call to call.
    hash_key: HashKey,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) line: &'a Line,
    pub(super) source: SocketAddr,
    call_id: String,
    from: String,
    to: String,
    /// An extra row where a header is hashed.
    row: String,
}

impl Line {
    /// Calls that `rule` may claim, or those that none need claim.
    pub(super) fn new(config: &Config, rule: Option<&Route>, hash_key: &HashKey) -> Self {
        let first =
            |list: fn(&Route) -> &Vec<String>| rule.and_then(|rule| list(rule).first().cloned());
        let methods = rule.map(|rule| &*rule.methods).unwrap_or_default();
        let method = match methods.first() {
            Some(first) if !methods.iter().any(|method| method == "INVITE") => first,
            _ => "INVITE",
        };
        let network = rule.and_then(|rule| rule.sources.first().copied());
        let listener = rule.and_then(|rule| rule.listeners.first().copied());
        let fits = |listener: usize| {
            let v4 = config.listeners[listener].address.is_ipv4();
            network.is_none_or(|network| matches!(network, IpNet::V4(_)) == v4)
        };
        let listener = listener.or_else(|| (0..config.listeners.len()).find(|&each| fits(each)));
        let listener = listener.unwrap_or(0);
        Self {
            method: method.to_owned(),
            host: first(|rule| &rule.hosts).unwrap_or_else(|| "calls.example.com".to_owned()),
            user_prefix: first(|rule| &rule.user_prefixes).unwrap_or_default(),
            network,
            listener,
            v4: config.listeners[listener].address.is_ipv4(),
            hash_key: hash_key.clone(),
        }
    }

    /// Whether these calls have dialogs.
    pub(super) fn has_dialogs(&self) -> bool {
        self.method == "INVITE"
    }

    /// Call `number`; what is hashed is `key`, where there is one.
    pub(super) fn call(&self, number: u64, key: Option<&str>) -> Call<'_> {
        let random = splitmix(number);
        let mut call = Call {
            line: self,
            source: SocketAddr::new(self.address(number), DEFAULT_PORT),
            call_id: format!("{random:016x}@calls.example.com"),
            from: format!("{:x}@calls.example.com", splitmix(random)),
            to: format!("{}{:x}@{}", self.user_prefix, random >> 32, self.host),
            row: String::new(),
        };
        let user_at_host = |key: &str| key.strip_prefix("sip:").unwrap_or(key).to_owned();
        let user_at = |host: &str, key: &str| match user_at_host(key) {
            uri if uri.contains('@') => uri,
            user => format!("{user}@{host}"),
        };
        match (&self.hash_key, key) {
            (HashKey::CallId, Some(key)) => call.call_id = key.to_owned(),
            (HashKey::FromUri, Some(key)) => call.from = user_at_host(key),
            (HashKey::ToUri | HashKey::RequestUri, Some(key)) => call.to = user_at_host(key),
            (HashKey::FromUser, Some(key)) => call.from = user_at("calls.example.com", key),
            (HashKey::ToUser | HashKey::RequestUser, Some(key)) => {
                call.to = user_at(&self.host, key);
            }
            (HashKey::Source, Some(key)) => {
                if let Ok(ip) = key.parse() {
                    call.source.set_ip(ip);
                }
            }
            (HashKey::Header(name), key) => {
                let made = format!("{random:016x}");
                call.row = format!("{name}: {}\r\n", key.unwrap_or(&made));
            }
            (_, None) => {}
        }
        call
    }

    fn address(&self, number: u64) -> IpAddr {
        let (base, prefix) = match self.network {
            Some(network) => (network.network(), network.prefix_len()),
            None if self.v4 => (CALLERS_V4.into(), 15),
            None => (CALLERS_V6.into(), 48),
        };
        match base {
            IpAddr::V4(base) => {
                let hosts = 1u64 << (32 - prefix);
                IpAddr::V4((base.to_bits() + (number % hosts) as u32).into())
            }
            IpAddr::V6(base) => {
                let hosts = 1u128 << (128 - prefix).min(64);
                IpAddr::V6((base.to_bits() + u128::from(number) % hosts).into())
            }
        }
    }
}

impl Call<'_> {
    /// The request that begins it.
    pub(super) fn first(&self) -> String {
        let (method, to) = (&*self.line.method, &self.to);
        self.request(method, 1, &format!("sip:{to}"), "", "")
    }

    pub(super) fn cancel(&self) -> String {
        let to = &self.to;
        self.request("CANCEL", 1, &format!("sip:{to}"), "", "")
    }

    /// The caller hangs up; `routes` are whole rows.
    pub(super) fn bye(&self, uri: &str, routes: &str) -> String {
        self.request("BYE", 2, uri, ";tag=callee", routes)
    }

    /// The server hangs up.
    pub(super) fn bye_of_server(&self, server: SocketAddr, routes: &str) -> String {
        let Self {
            source,
            call_id,
            from,
            to,
            row,
            ..
        } = self;
        format!(
            "BYE sip:caller@{source} SIP/2.0\r\nVia: SIP/2.0/UDP {server};branch=z9hG4bKserver\r\n\
             Max-Forwards: 70\r\n{routes}From: <sip:{to}>;tag=callee\r\n\
             To: <sip:{from}>;tag=caller\r\nCall-ID: {call_id}\r\nCSeq: 1 BYE\r\n{row}\
             Content-Length: 0\r\n\r\n"
        )
    }

    fn request(&self, method: &str, cseq: u32, uri: &str, to_tag: &str, routes: &str) -> String {
        let Self {
            source,
            call_id,
            from,
            to,
            row,
            ..
        } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bKcall{cseq}\r\n\
             Max-Forwards: 70\r\n{routes}From: <sip:{from}>;tag=caller\r\nTo: <sip:{to}>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nContact: <sip:caller@{source}>\r\n{row}\
             Content-Length: 0\r\n\r\n"
        )
    }
}

/// Numbers that look random, the same in each run (Steele, Lea, Flood: Fast
/// splittable pseudorandom number generators).
fn splitmix(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}
