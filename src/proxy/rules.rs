//! The `[[route]]` rules: which set takes a request. The first rule whose
//! every condition holds decides; where none does, the first set.

use super::Datagram;
use super::target::literal;
use crate::config::{Config, Route};
use crate::sip::{Uri, eq_ignore_case};

/// The rules in order.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rules(Vec<Route>);

impl Rules {
    pub(super) fn new(config: &Config) -> Self {
        Self(config.routes.clone())
    }

    /// The rule for a request; where there is none, the first set takes it.
    #[inline]
    pub(super) fn rule_for(
        &self,
        method: &[u8],
        bytes: &[u8],
        uri: &Uri,
        datagram: &Datagram<'_>,
    ) -> Option<&Route> {
        let (host, user) = (uri.host.of(bytes), uri.user.of(bytes));
        self.0.iter().find(|rule| {
            any(&rule.methods, |wanted| claims(wanted.as_bytes(), method))
                && any(&rule.hosts, |wanted| is_same_host(wanted.as_bytes(), host))
                && any(&rule.user_prefixes, |prefix| {
                    user.starts_with(prefix.as_bytes())
                })
                && any(&rule.sources, |network| {
                    network.contains(&datagram.source.ip())
                })
                && any(&rule.listeners, |listener| *listener == datagram.listener)
        })
    }
}

/// Whether a rule for `wanted` is one for `method`: CANCEL and the ACK to a
/// failure go where their INVITE went (§16.11).
fn claims(wanted: &[u8], method: &[u8]) -> bool {
    wanted == method || (wanted == b"INVITE" && matches!(method, b"CANCEL" | b"ACK"))
}

/// Whether two texts name one host (RFC 3261 §19.1.4); an IPv6 address can be
/// written in many ways (RFC 5954 §4.2).
fn is_same_host(wanted: &[u8], host: &[u8]) -> bool {
    eq_ignore_case(wanted, host) || (host.starts_with(b"[") && literal(wanted) == literal(host))
}

/// Whether a condition holds: one of its values does, or it has none.
fn any<T>(values: &[T], holds: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}
