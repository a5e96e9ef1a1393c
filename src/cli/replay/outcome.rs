//! A decision as it is shown and compared.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::{Config, text};
use crate::proxy::{CookieUse, Decision, Forward, Place, Way};

/// What a configuration does with a message.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// `forward`, `reply`, `on-failure`, `resolve`, `drop` or `not ours`.
    pub(super) action: &'static str,
    /// Where something is sent.
    pub(super) to: Option<SocketAddr>,
    /// The set whose destination that is, by what was decided.
    #[serde(skip)]
    pub(super) set: Option<String>,
    /// The listener that a datagram leaves by, where there is more than one.
    listener: Option<String>,
    /// Its address: another configuration may name it otherwise, or not at all.
    #[serde(skip)]
    leaves: Option<SocketAddr>,
    /// The status of a reply.
    status: Option<u16>,
    /// The way that was found, or the reason of a reply or a drop.
    pub(super) why: String,
}

impl Outcome {
    pub(super) fn new(decision: Decision, config: &Config) -> Self {
        let mut outcome = Self::not_ours();
        match decision {
            Decision::Forward(Forward {
                to,
                listener,
                way,
                cookie,
                ..
            }) => {
                outcome.action = "forward";
                outcome.to = Some(to);
                let set = way.destination().map(|(set, _)| &config.sets[set].name);
                outcome.set = set.cloned();
                let leaves = &config.listeners[listener];
                outcome.leaves = Some(leaves.address);
                outcome.listener = (config.listeners.len() > 1).then(|| leaves.name.clone());
                outcome.why = way_name(way, config);
                outcome.why.push_str(match cookie {
                    CookieUse::None | CookieUse::Followed => "",
                    CookieUse::Gone => ", its cookie's destination gone",
                    CookieUse::Forged => ", its cookie forged",
                });
            }
            Decision::Reply(reply) => {
                outcome.action = "reply";
                outcome.to = Some(reply.to);
                outcome.status = Some(reply.status.code());
                outcome.why = reply.reason.name().to_owned();
            }
            Decision::Resolve => {
                outcome.action = "resolve";
                outcome.why = way_name(Way::Outbound(None), config);
            }
            Decision::Drop(reason) => {
                outcome.action = "drop";
                outcome.why = reason.name().to_owned();
            }
        }
        outcome
    }

    /// No reply yet: a failure rule has it tried in another set.
    pub(super) fn on_failure(set: &str) -> Self {
        Self {
            action: "on-failure",
            why: format!("no-destination, tried in set {set}"),
            ..Self::not_ours()
        }
    }

    /// A datagram for no listener.
    pub(super) fn not_ours() -> Self {
        Self {
            action: "not ours",
            to: None,
            set: None,
            listener: None,
            leaves: None,
            status: None,
            why: "no listener has its destination".to_owned(),
        }
    }

    /// The kind of decision, without addresses.
    pub(super) fn label(&self) -> String {
        match self.status {
            Some(status) => format!("{} {status}, {}", self.action, self.why),
            None => format!("{}, {}", self.action, self.why),
        }
    }

    /// Whether the same becomes of the message, however it was found.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        let shown = |outcome: &Self| (outcome.action, outcome.to, outcome.status);
        shown(self) == shown(other)
            && (self.listener == other.listener || self.leaves == other.leaves)
            && (self.action == "forward" || self.why == other.why)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.action)?;
        if let Some(status) = self.status {
            write!(f, " {status}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(listener) = &self.listener {
            write!(f, " from {listener}")?;
        }
        write!(f, " ({})", self.why)
    }
}

fn way_name(way: Way, config: &Config) -> String {
    let set = |place: Place| &config.sets[usize::from(place.set)].name;
    match way {
        Way::Selected(selection) => {
            let set = &config.sets[selection.set];
            format!("{} in set {}", text::name(&set.policy), set.name)
        }
        Way::Dialog(place) => format!("dialog of set {}", set(place)),
        Way::Former => "former owner".to_owned(),
        Way::Named(place) => format!("named member of set {}", set(place)),
        Way::Outbound(_) => "outbound".to_owned(),
        Way::Flow => "flow of a phone".to_owned(),
        Way::Allowed => "allowed next hop".to_owned(),
        Way::Response => "response".to_owned(),
    }
}
