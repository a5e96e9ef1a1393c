//! Directions and cookies, as people are told of them.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::Config;
use crate::proxy::{Claim, Cookie, Datagram, Proxy, Purpose};
use crate::sip::{self, Message, Span, StartLine};

/// Where a request comes from; `None` for a response.
pub(super) fn direction(proxy: &Proxy, config: &Config, datagram: &Datagram<'_>) -> Option<String> {
    let message = sip::scan(datagram.bytes).ok()?;
    let StartLine::Request { .. } = message.start else {
        return None;
    };
    let (dispatcher, source) = (proxy.dispatcher(), datagram.source);
    Some(
        match (dispatcher.member(source), dispatcher.sender(source)) {
            (Some((set, _)), _) => {
                format!(
                    "outward, from member {source} of set {}",
                    config.sets[set].name
                )
            }
            (None, Some(_)) => format!("outward, for member-sources hold {}", source.ip()),
            (None, None) => "inward, from outside".to_owned(),
        },
    )
}

/// A cookie of ours in a message.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Found {
    /// Where it stands.
    place: &'static str,
    purpose: &'static str,
    /// Whether its MAC does; else nothing it says is believed.
    verified: bool,
    outer: Option<String>,
    inner: Option<String>,
    /// The address and the set of the destination that it names.
    destination: Option<SocketAddr>,
    set: Option<String>,
    /// Whether it names none that is there now: one that is gone or disabled, or a
    /// host of `member-sources`, which is no destination.
    gone: bool,
    flow: Option<SocketAddr>,
}

/// The cookies that came in Route or, from a strict router, as Request-URI.
pub(super) fn came(proxy: &Proxy, config: &Config, bytes: &[u8]) -> Vec<Found> {
    let Ok(message) = sip::scan(bytes) else {
        return Vec::new();
    };
    let reader = Reader {
        proxy,
        config,
        message: &message,
    };
    let uri = match message.start {
        StartLine::Request { uri, .. } => Some(("Request-URI", uri)),
        StartLine::Response { .. } => None,
    };
    let values = sip::route_values(&message).map_while(|value| value);
    let routes = values.map(|(value, _)| ("Route", value.uri));
    let places = uri.into_iter().chain(routes);
    once(places.filter_map(|(place, uri)| reader.read(place, uri)))
}

/// The cookies in those rows of Record-Route and Path of `after` that
/// `before` has not.
pub(super) fn added(proxy: &Proxy, config: &Config, before: &[u8], after: &[u8]) -> Vec<Found> {
    let Ok(message) = sip::scan(after) else {
        return Vec::new();
    };
    let reader = Reader {
        proxy,
        config,
        message: &message,
    };
    let bytes = message.bytes;
    let mut found = Vec::new();
    for (name, row) in message.rows() {
        let mut names = ["Record-Route", "Path"].into_iter();
        let place = names.find(|known| known.as_bytes().eq_ignore_ascii_case(name));
        let value = row.value.of(bytes);
        let is_new = || !before.windows(value.len()).any(|part| part == value);
        let (Some(place), Some(address)) = (place, sip::address(bytes, row.value)) else {
            continue;
        };
        found.extend(reader.read(place, address.uri).filter(|_| is_new()));
    }
    once(found)
}

/// Where a message leaves by another listener than it came in on, both have a
/// value with the same cookie (RFC 5658): it is told once.
fn once(found: impl IntoIterator<Item = Found>) -> Vec<Found> {
    let mut found: Vec<_> = found.into_iter().collect();
    found.dedup();
    found
}

struct Reader<'a> {
    proxy: &'a Proxy,
    config: &'a Config,
    message: &'a Message<'a>,
}

impl Reader<'_> {
    fn read(&self, place: &'static str, uri: Span) -> Option<Found> {
        let bytes = self.message.bytes;
        let user = sip::uri(bytes, uri)?.user.of(bytes);
        let call_id = self.message.call_id.value.of(bytes);
        let (purpose, cookie) = match self.proxy.claim(user, call_id) {
            Claim::None => return None,
            Claim::Forged(purpose) => (purpose, None),
            Claim::Verified(cookie) => (cookie.purpose, Some(cookie)),
        };
        let mut found = Found {
            place,
            purpose: match purpose {
                Purpose::Dialog => "dialog",
                Purpose::Path => "path",
            },
            verified: cookie.is_some(),
            outer: None,
            inner: None,
            destination: None,
            set: None,
            gone: false,
            flow: None,
        };
        if let Some(cookie) = cookie {
            self.fill(&mut found, &cookie);
        }
        Some(found)
    }

    fn fill(&self, found: &mut Found, cookie: &Cookie) {
        let name = |listener: usize| {
            let listener = self.config.listeners.get(listener);
            listener.map(|listener| listener.name.clone())
        };
        found.outer = name(cookie.outer);
        found.inner = name(cookie.inner);
        found.flow = cookie.flow;
        if let Some((set, index)) = self.proxy.dispatcher().with_id(cookie.destination) {
            let set = &self.config.sets[set];
            found.destination = Some(set.destinations[index].address);
            found.set = Some(set.name.clone());
        } else {
            found.gone = cookie.destination != 0;
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cookie", self.place, self.purpose)?;
        if !self.verified {
            return write!(
                f,
                " that does not verify: forged, another call's, or made with another secret"
            );
        }
        if let (Some(destination), Some(set)) = (&self.destination, &self.set) {
            write!(f, ": {destination} in set {set} has the dialog")?;
        } else if self.gone {
            write!(
                f,
                ": a host of member-sources has the dialog, or a destination that is gone or disabled"
            )?;
        } else {
            write!(f, ": no destination")?;
        }
        let unknown = || "that is not there".to_owned();
        let outer = self.outer.clone().unwrap_or_else(unknown);
        let inner = self.inner.clone().unwrap_or_else(unknown);
        write!(
            f,
            "; callers by listener {outer}, servers by listener {inner}"
        )?;
        match self.flow {
            Some(flow) => write!(f, "; the phone is at {flow}"),
            None => Ok(()),
        }
    }
}
