//! What routing reads of a datagram, by the product's parsers and by the plain
//! twin, and whether the two agree. Both refuse, or both read the same.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use viaduct::sip::{
    self, Address, Header, Message, Param, Scheme, Span, StartLine, address, route_values, scan,
};

use super::twin;

/// What routing reads of a message.
#[derive(Debug, PartialEq, Eq)]
pub struct Reading {
    pub start: Start,
    pub call_id: String,
    pub cseq: (u32, String),
    pub from_tag: String,
    pub to_tag: String,
    pub max_forwards: Option<u8>,
    pub top: Via,
    /// `None`: there is none, or it cannot be read.
    pub next: Option<Via>,
    /// `None`: a value cannot be read.
    pub routes: Option<Vec<Uri>>,
    pub proxy_require: bool,
    pub body: String,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Start {
    /// Method, Request-URI, and its parts where it is sip or sips.
    Request(String, String, Option<Uri>),
    Response(u16),
}

/// A Via value; of a parameter, whether it is there, and its value.
#[derive(Debug, PartialEq, Eq)]
pub struct Via {
    host: String,
    port: Option<u16>,
    branch: Option<String>,
    received: Option<String>,
    rport: Option<String>,
    maddr: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Uri {
    user: String,
    host: String,
    port: Option<u16>,
    maddr: String,
    transport: String,
}

/// Octets, to be compared and shown.
fn text(octets: &[u8]) -> String {
    octets.escape_ascii().to_string()
}

// ── The product's reading ──────────────────────────────────────────────────

/// Puts the parsers together as the proxy does; `None`: refused.
pub fn ours(datagram: &[u8]) -> Option<Reading> {
    let message = scan(datagram).ok()?;
    if message.fault.is_some() {
        return None;
    }
    let bytes = message.bytes;
    let owned = |span: Span| text(span.of(bytes));
    let row = message.via?;
    let top = sip::via(bytes, row.value)?;
    let below = match (top.next, message.next_via) {
        (Some(start), _) => Some(Span {
            start,
            end: row.value.end,
        }),
        (None, row) => row.map(|row| row.value),
    };
    let start = match message.start {
        StartLine::Request { method, uri } => {
            if method.of(bytes) != message.cseq.method.of(bytes) {
                return None;
            }
            let parts = sip::uri(bytes, uri)?;
            let is_sip = matches!(parts.scheme, Scheme::Sip | Scheme::Sips);
            Start::Request(
                owned(method),
                owned(uri),
                is_sip.then(|| our_uri(bytes, &parts)),
            )
        }
        StartLine::Response { status } => Start::Response(status),
    };
    Some(Reading {
        start,
        call_id: owned(message.call_id.value),
        cseq: (message.cseq.number, owned(message.cseq.method)),
        from_tag: owned(address(bytes, message.from.value)?.tag),
        to_tag: owned(address(bytes, message.to.value)?.tag),
        max_forwards: message.max_forwards.map(|(_, hops)| hops),
        top: our_via(bytes, &top),
        next: below
            .and_then(|span| sip::via(bytes, span))
            .map(|via| our_via(bytes, &via)),
        routes: our_routes(&message),
        proxy_require: message.has(Header::ProxyRequire),
        body: text(&bytes[body_start(&message)..message.end as usize]),
    })
}

/// Behind the empty line.
fn body_start(message: &Message<'_>) -> usize {
    message.headers_end as usize + 2
}

fn our_via(bytes: &[u8], via: &sip::Via) -> Via {
    let value = |param: Option<Param>| param.map(|param| text(param.value.of(bytes)));
    Via {
        host: text(via.host.of(bytes)),
        port: via.port,
        branch: value(via.branch),
        received: value(via.received),
        rport: value(via.rport),
        maddr: value(via.maddr),
    }
}

fn our_uri(bytes: &[u8], uri: &sip::Uri) -> Uri {
    let owned = |span: Span| text(span.of(bytes));
    Uri {
        user: owned(uri.user),
        host: owned(uri.host),
        port: uri.port,
        maddr: owned(uri.maddr),
        transport: owned(uri.transport),
    }
}

fn our_routes(message: &Message<'_>) -> Option<Vec<Uri>> {
    let read = |value: Address| {
        let uri = sip::uri(message.bytes, value.uri)?;
        let is_sip = matches!(uri.scheme, Scheme::Sip | Scheme::Sips);
        is_sip.then(|| our_uri(message.bytes, &uri))
    };
    route_values(message).map(|value| read(value?.0)).collect()
}

// ── The twin's reading ─────────────────────────────────────────────────────

fn twins(datagram: &[u8]) -> Option<Reading> {
    let (read, lists) = twin::read_but_lists(datagram).ok()?;
    let tag = |party: &twin::Party| party.tag.as_deref().map(text).unwrap_or_default();
    let next = read.vias.get(1).and_then(|value| twin::via(value).ok());
    let routes = || read.routes.iter().map(twins_uri).collect();
    Some(Reading {
        start: match &read.start {
            twin::StartLine::Request { method, uri, .. } => Start::Request(
                text(method.as_bytes()),
                text(uri),
                read.target.as_ref().map(twins_uri),
            ),
            twin::StartLine::Response { status, .. } => Start::Response(*status),
        },
        call_id: text(&read.call_id),
        cseq: (read.cseq.number, text(read.cseq.method.as_bytes())),
        from_tag: tag(&read.from),
        to_tag: tag(&read.to),
        max_forwards: read.max_forwards,
        top: twins_via(&read.top_via),
        next: next.as_ref().map(twins_via),
        routes: (lists != Some(twin::ROUTE)).then(routes),
        proxy_require: read.headers.iter().any(|(name, _)| name == "proxy-require"),
        body: text(&read.body),
    })
}

fn twins_via(via: &twin::Via) -> Via {
    Via {
        host: text(&via.host),
        port: via.port,
        branch: via.branch.as_deref().map(text),
        received: via.received.as_ref().map(valued),
        rport: via.rport.as_ref().map(valued),
        maddr: twins_param(&via.params, "maddr"),
    }
}

fn twins_uri(uri: &twin::Uri) -> Uri {
    let value = |name| twins_param(&uri.params, name).unwrap_or_default();
    Uri {
        user: uri.userinfo.as_deref().map(text).unwrap_or_default(),
        host: text(&uri.host),
        port: uri.port,
        maddr: value("maddr"),
        transport: value("transport"),
    }
}

fn twins_param(params: &twin::Params, name: &str) -> Option<String> {
    let found = params.iter().find(|(each, _)| each == name);
    found.map(|(_, value)| valued(value))
}

/// The value of a parameter that is there.
fn valued(value: &Option<Vec<u8>>) -> String {
    value.as_deref().map(text).unwrap_or_default()
}

// ── Both ───────────────────────────────────────────────────────────────────

/// Checks that both refuse or both read the same.
///
/// # Errors
/// The difference.
pub fn agree(datagram: &[u8]) -> Result<(), String> {
    let (ours, twins) = (ours(datagram), twins(datagram));
    if ours == twins {
        return Ok(());
    }
    let text = datagram.escape_ascii();
    Err(format!("ours: {ours:#?}\ntwin's: {twins:#?}\n{text}"))
}
