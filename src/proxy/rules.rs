//! The `[[route]]` rules: which set takes a request. The first rule whose
//! every condition holds decides; where none does, the first set.

use super::Datagram;
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
                && any(&rule.hosts, |wanted| {
                    eq_ignore_case(wanted.as_bytes(), host)
                })
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

/// Whether a condition holds: one of its values does, or it has none.
fn any<T>(values: &[T], holds: impl Fn(&T) -> bool) -> bool {
    values.is_empty() || values.iter().any(holds)
}
