//! A proxy with plain surroundings, and plain messages for it: what tests,
//! fuzz targets and benches of the decision share.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use std::net::SocketAddr;
use std::time::Duration;

use viaduct::config::{
    Admin, Config, Destination, Gso, HashKey, Health, Listener, Log, Policy, Route, Set, State,
    Steer, WhenAllDown,
};
use viaduct::proxy::{Datagram, Decision, Proxy, Scratch, Secret};
use viaduct::sip::MAX_DATAGRAM;

/// The address of the only listener.
pub const LISTEN: &str = "192.0.2.10:5060";

/// How many destinations the only set has.
pub const DESTINATIONS: usize = 4;

/// A caller from outside.
#[must_use]
pub fn caller() -> SocketAddr {
    SocketAddr::from(([203, 0, 113, 7], 5062))
}

/// Member `n` of the set.
#[must_use]
pub fn destination(n: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 1 + n as u8], 5060))
}

/// One listener, one set of four equal destinations.
#[must_use]
pub fn config() -> Config {
    let destinations = (0..DESTINATIONS).map(|n| Destination {
        uri: format!("sip:{}", destination(n)),
        address: destination(n),
        weight: 1,
        priority: 0,
        state: State::Active,
        probe: None,
        health: Health::Up,
    });
    Config {
        listeners: vec![Listener {
            name: LISTEN.to_owned(),
            address: LISTEN.parse().expect("an address"),
            advertise: None,
            also_known_as: Vec::new(),
            proxy_protocol: Vec::new(),
            record_route: false,
            path: false,
            egress: Vec::new(),
        }],
        sets: vec![Set {
            name: "farm".to_owned(),
            policy: Policy::Hash,
            hash_key: HashKey::CallId,
            destinations: destinations.collect(),
            member_sources: Vec::new(),
            named: Vec::new(),
            when_all_down: WhenAllDown::Forward,
        }],
        routes: Vec::new(),
        allowed_next_hops: Vec::new(),
        workers: 1,
        steer: Steer::CallId,
        pin: false,
        batch: 64,
        gso: Gso::Pad,
        coalesce: Duration::from_micros(600),
        spin: Duration::ZERO,
        receive_buffer: 1 << 20,
        send_buffer: 1 << 20,
        secret_file: None,
        reply_rate: 1000,
        resolve: true,
        resolvers: vec![SocketAddr::from(([192, 0, 2, 53], 53))],
        second_chance: Duration::from_secs(180),
        stateful: viaduct::config::Stateful::default(),
        admin: Admin::default(),
        mirror: None,
        log: Log::default(),
        stop_timeout: Duration::from_secs(32),
    }
}

/// The same, staying on the path of everything.
#[must_use]
pub fn on_path() -> Config {
    let mut config = config();
    config.listeners[0].record_route = true;
    config.listeners[0].path = true;
    config
}

/// A rule that sends all requests to the only set.
#[must_use]
pub fn route(follow_replaces: bool) -> Route {
    Route {
        set: 0,
        methods: Vec::new(),
        hosts: Vec::new(),
        user_prefixes: Vec::new(),
        sources: Vec::new(),
        listeners: Vec::new(),
        record_route: None,
        follow_replaces,
    }
}

/// A secret that everybody knows.
#[must_use]
pub fn secret() -> Secret {
    Secret::from_octets(*b"a secret of thirty-two octets ok")
}

/// One proxy with its working memory and a buffer.
pub struct Decider {
    /// The proxy.
    pub proxy: Proxy,
    scratch: Scratch,
    out: Vec<u8>,
}

impl Decider {
    /// A proxy for `config`.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let proxy = Proxy::new(config, secret());
        Self {
            scratch: proxy.scratch(),
            proxy,
            out: vec![0; MAX_DATAGRAM],
        }
    }

    /// Decides a datagram that came in on the first listener; returns what is
    /// to be sent too, which is empty for a drop.
    pub fn decide(&mut self, bytes: &[u8], source: SocketAddr) -> (Decision, &[u8]) {
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        let decision = self
            .proxy
            .decide(&datagram, &mut self.scratch, &mut self.out);
        let length = match decision {
            Decision::Forward(forward) => forward.length,
            Decision::Reply(reply) => reply.length,
            Decision::Resolve | Decision::Drop(_) => 0,
        };
        (decision, &self.out[..length])
    }
}

impl Default for Decider {
    fn default() -> Self {
        Self::new(&config())
    }
}

/// An INVITE as a telephone sends it, with SDP: about 800 octets.
#[must_use]
pub fn invite() -> Vec<u8> {
    let sdp = "v=0\r\n\
        o=ann 2890844526 2890844526 IN IP4 203.0.113.7\r\n\
        s=-\r\n\
        c=IN IP4 203.0.113.7\r\n\
        t=0 0\r\n\
        m=audio 49172 RTP/AVP 0 8 101\r\n\
        a=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:8 PCMA/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\n\
        a=sendrecv\r\n";
    format!(
        "INVITE sip:desk@farm.example SIP/2.0\r\n\
        Via: SIP/2.0/UDP 203.0.113.7:5062;rport;branch=z9hG4bKnashds8.1\r\n\
        Max-Forwards: 70\r\n\
        From: \"Ann\" <sip:ann@phone.example>;tag=9fxced76sl\r\n\
        To: <sip:desk@farm.example>\r\n\
        Call-ID: 3848276298220188511@phone.example\r\n\
        CSeq: 2 INVITE\r\n\
        Contact: <sip:ann@203.0.113.7:5062;transport=udp>\r\n\
        Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO\r\n\
        Supported: replaces, timer, 100rel\r\n\
        User-Agent: Desk Phone 7.2\r\n\
        Content-Type: application/sdp\r\n\
        Content-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
    .into_bytes()
}

/// A response with the headers of `request` as it reached its destination:
/// a start line in the place of another, all else as it is.
#[must_use]
pub fn answer(request: &[u8], status_line: &str) -> Vec<u8> {
    let end = request.windows(2).position(|two| two == b"\r\n");
    let rest = &request[end.unwrap_or(request.len())..];
    [status_line.as_bytes(), rest].concat()
}
