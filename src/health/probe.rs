//! A probe as octets: an OPTIONS request (RFC 3261 §11), and its response.

use std::net::SocketAddr;

use super::Target;
use crate::config::text::uri_host;
use crate::sip::{self, Span, StartLine, hex64, parse_hex64};

/// The magic cookie of a branch (RFC 3261 §8.1.1.7).
const COOKIE: &[u8] = b"z9hG4bK";

/// The probe of `target` that leaves from `local`, which must be an address
/// that it can be answered at. `token` is a new random number for each.
///
/// Max-Forwards is 70 (§8.1.1.6), and not less, for `request-uri` may name a
/// server behind the destination. Where a destination takes the request for
/// its own, as it does by default, nothing depends on it.
pub(super) fn request(target: &Target, local: SocketAddr, token: u64) -> Vec<u8> {
    let probe = &*target.probe;
    let uri = match &probe.request_uri {
        Some(uri) => uri.clone(),
        None => plain(&target.uri, target.address),
    };
    let host = uri_host(local.ip());
    let from = match &probe.from {
        Some(from) => from.clone(),
        None => format!("sip:viaduct@{host}"),
    };
    let token = hex64(token);
    let token = token.escape_ascii();
    format!(
        "OPTIONS {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};rport;branch=z9hG4bK{token}\r\n\
         Max-Forwards: 70\r\n\
         From: <{from}>;tag={token}\r\n\
         To: <{uri}>\r\n\
         Call-ID: {token}@{host}\r\n\
         CSeq: 1 OPTIONS\r\n\
         Accept: application/sdp\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// `sip:host:port` of a destination: its host as the operator wrote it, which
/// may be a name that the server knows itself by, and nothing else of it.
fn plain(uri: &str, address: SocketAddr) -> String {
    let text = uri.as_bytes();
    match sip::uri(text, Span::new(0, text.len())) {
        Some(read) if !read.host.is_empty() => {
            let host = read.host.of(text).escape_ascii();
            format!("sip:{host}:{}", address.port())
        }
        _ => format!("sip:{address}"),
    }
}

/// The token of the probe that `datagram` is a final response to, and its
/// status; `None` where it is anything else, or not one that a worker would
/// take. More than one Via makes it somebody else's (§8.1.3.3).
pub(super) fn final_response(datagram: &[u8]) -> Option<(u64, u16)> {
    let message = sip::scan(datagram).ok()?;
    let StartLine::Response {
        status: status @ 200..,
    } = message.start
    else {
        return None;
    };
    let via = sip::via(message.bytes, message.via?.value)?;
    let is_ours = message.fault.is_none()
        && message.next_via.is_none()
        && via.next.is_none()
        && message.cseq.method.of(message.bytes) == b"OPTIONS";
    let branch = via.branch?.value.of(message.bytes);
    let digits = branch.strip_prefix(COOKIE).filter(|rest| rest.len() == 16);
    let token = parse_hex64(digits?)?;
    is_ours.then_some((token, status))
}
