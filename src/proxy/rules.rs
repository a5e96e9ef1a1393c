//! The `[[route]]` rules: which set takes a request. The first rule whose
//! every condition holds decides; where none does, the first set.

use super::generation::Generation;
use super::host::literal;
use super::request::Request;
use super::routes::Target;
use crate::config::Route;
use crate::sip::{Scheme, Uri, is_same_name};

impl Request<'_> {
    /// The rule of `generation` for what goes to `target`; where there is none,
    /// the first set takes it.
    #[inline]
    pub(super) fn rule_in<'g>(
        &self,
        generation: &'g Generation,
        target: &Target,
    ) -> Option<&'g Route> {
        let (bytes, uri) = (self.message.bytes, &target.uri);
        let host = uri.host.of(bytes);
        generation.rules.iter().find(|rule| {
            any(&rule.methods, |wanted| {
                claims(wanted.as_bytes(), self.method)
            }) && any(&rule.hosts, |wanted| is_same_host(wanted.as_bytes(), host))
                && any(&rule.user_prefixes, |prefix| {
                    begins_with(bytes, uri, prefix.as_bytes())
                })
                && any(&rule.sources, |network| {
                    network.contains(&self.datagram.source.ip())
                })
                && any(&rule.listeners, |listener| {
                    *listener == self.datagram.listener
                })
        })
    }
}

/// Whether a rule for `wanted` is one for `method`: CANCEL and the ACK to a
/// failure go where their INVITE went (§16.11).
fn claims(wanted: &[u8], method: &[u8]) -> bool {
    wanted == method || (wanted == b"INVITE" && matches!(method, b"CANCEL" | b"ACK"))
}

/// Whether a user part begins with `prefix`, however either is escaped (RFC 3261
/// §19.1.4): no rule is to be passed by with `%34` for `4`. Nor with separators
/// in a number, which say nothing (RFC 3966 §5), or the case of a URN (RFC 5031).
fn begins_with(bytes: &[u8], uri: &Uri, prefix: &[u8]) -> bool {
    let says_nothing = |octet: u8| uri.phone && b"-.()".contains(&octet);
    let read = |text| {
        let octets = unescaped(text).filter(|octet| !says_nothing(*octet));
        octets.map(|octet| match uri.scheme {
            Scheme::Urn => octet.to_ascii_lowercase(),
            _ => octet,
        })
    };
    let mut user = read(uri.user.of(bytes));
    read(prefix).all(|octet| user.next() == Some(octet))
}

/// The octets that a text with escapes stands for (RFC 3261 §19.1.2).
pub(super) fn unescaped(mut text: &[u8]) -> impl Iterator<Item = u8> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    std::iter::from_fn(move || {
        let (&first, rest) = text.split_first()?;
        if let (b'%', [high, low, rest @ ..]) = (first, rest)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            text = rest;
            return Some((high << 4 | low) as u8);
        }
        text = rest;
        Some(first)
    })
}

/// Whether two texts name one host; an IPv6 address can be written in many
/// ways (RFC 5954 §4.2).
fn is_same_host(wanted: &[u8], host: &[u8]) -> bool {
    is_same_name(wanted, host) || (host.starts_with(b"[") && literal(wanted) == literal(host))
}

/// Whether a condition holds: one of its values does, or it has none.
fn any<T>(values: &[T], holds: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::{self, Span};

    #[test]
    fn a_prefix_is_found_however_it_is_escaped() {
        for (user, prefix, found) in [
            ("+4930", "+49", true),
            ("+4", "+49", false),
            ("%2b4%39", "+49", true),
            ("%73ix", "six", true),
            ("six", "%73", true),
            ("%253", "%25", true),
            ("%6", "%6", true),
            ("%6x", "%6", true),
            ("%6x", "n", false),
            ("%", "%", true),
            ("%2", "%2B", false),
        ] {
            let text = format!("sip:{user}@x");
            let text = text.as_bytes();
            let uri = sip::uri(text, Span::new(0, text.len())).expect("a URI");
            let begins = begins_with(text, &uri, prefix.as_bytes());
            assert_eq!(begins, found, "{user} {prefix}");
        }
    }

    #[test]
    fn a_host_is_the_same_with_the_dot_of_the_root() {
        for (wanted, host, same) in [
            ("x.org", "X.org.", true),
            ("x.org.", "x.org", true),
            ("x.org", "x.org..", false),
            ("[::1]", "[0::1]", true),
        ] {
            let is_same = is_same_host(wanted.as_bytes(), host.as_bytes());
            assert_eq!(is_same, same, "{wanted} {host}");
        }
    }
}
