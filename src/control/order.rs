//! What is asked of the supervisor, the one who changes anything.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::config::text::joined;
use crate::config::{Destination, Diagnostic, LogLevel, Severity, State};

/// Something to do, on the one queue that the supervisor works through.
pub enum Order {
    /// A signal came in.
    Signal(i32),
    /// An operator wants something.
    Command {
        /// What is to be done.
        command: Command,
        /// Who asks, in words, for the log.
        by: String,
        /// What came of it goes back.
        answer: Answer,
    },
    /// What health checks have found is another than before. It lies with
    /// them: one look takes all that has come until then.
    Health,
    /// What a name of destinations stands for has changed, or cannot be found
    /// out. It is taken in the same way.
    Names,
}

/// The way back to who asked.
pub type Answer = oneshot::Sender<Result<Done, Refusal>>;

/// What an operator can have done while it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A destination is changed.
    Change(Change),
    /// The configuration is read again. What operators have changed stays,
    /// unless it is to be forgotten.
    Reload {
        /// Only tell what it would do.
        dry_run: bool,
        /// The file alone counts from now on.
        forget_changes: bool,
    },
    /// The least important lines of the log that are written.
    LogLevel(LogLevel),
    /// The binary is started again with the sockets it has.
    Upgrade,
}

/// What an operator can change of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Its administrative state.
    State(Place, State),
    /// Its weight.
    Weight(Place, u32),
    /// It joins the set of this name.
    Add(String, Destination),
    /// It leaves.
    Remove(Place),
}

/// One destination: in the set of this name, or in every set that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The name of the set; `None`: any.
    pub set: Option<String>,
    /// The address of the destination.
    pub address: SocketAddr,
}

/// What a change has done, or would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Done {
    /// In words, as in the log.
    pub said: String,
    /// The number of the generation that decides once it is done.
    pub generation: u64,
    /// Destinations that differ.
    pub differences: Vec<Difference>,
    /// What else differs of what decides where calls go, in words: routes, and
    /// policies and hash keys of sets. `viaduct simulate --before` tells
    /// which share of calls that moves.
    pub rules: Vec<String>,
    /// The keys of all else that differs in the configuration, as files name
    /// them.
    pub settings: Vec<String>,
    /// Share of new calls that go to another destination than before, by set
    /// (0 to 1); of a set with policy `round-robin`, or with another policy or
    /// hash key than before, nobody can tell it.
    pub moved: Vec<Moved>,
    /// What there is to say of the configuration beside errors.
    pub warnings: Vec<Diagnostic>,
}

/// A destination that comes, goes, or gets something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Difference {
    /// The name of its set.
    pub set: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// What it was; `None`: not there.
    pub before: Option<String>,
    /// What it is; `None`: not there.
    pub after: Option<String>,
}

/// How many new calls of a set go elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Moved {
    /// The name of the set.
    pub set: String,
    /// 0 to 1.
    pub share: f64,
}

/// Why nothing has changed.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// There is no such set or destination.
    NotFound(String),
    /// It would not make sense.
    Conflict(String),
    /// The configuration has errors; what was refused for it.
    Configuration(&'static str, Vec<Diagnostic>),
    /// Keys that only an upgrade or a start can bring into effect.
    NeedsUpgrade(Vec<&'static str>),
}

impl Refusal {
    /// The cause in one line, for who knows what was refused.
    #[must_use]
    pub fn cause(&self) -> String {
        match self {
            Self::NotFound(said) | Self::Conflict(said) => said.clone(),
            Self::Configuration(_, diagnostics) => {
                let mut all = diagnostics.iter();
                let error = all.find(|each| each.severity == Severity::Error);
                error.map_or_else(|| self.to_string(), ToString::to_string)
            }
            Self::NeedsUpgrade(keys) => needs_upgrade(keys),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { set, address, .. } = self;
        match (&self.before, &self.after) {
            (None, Some(after)) => write!(f, "set {set}: {address} added: {after}"),
            (Some(_), None) => write!(f, "set {set}: {address} removed"),
            (Some(before), Some(after)) => {
                write!(f, "set {set}: {address} changed: {after} (was {before})")
            }
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound(said) | Self::Conflict(said) => f.write_str(said),
            Self::Configuration(what, _) => {
                write!(f, "{what} refused, the configuration of before stays")
            }
            Self::NeedsUpgrade(keys) => {
                let needed = needs_upgrade(keys);
                let them = if keys.len() == 1 { "it" } else { "them" };
                write!(
                    f,
                    "reload refused, the configuration of before stays: {needed}\n  help: upgrade \
                     (`viaduct ctl upgrade`, or SIGUSR2), which starts it anew without loss, or \
                     take {them} back and reload again"
                )
            }
        }
    }
}

/// What it takes to change these keys.
#[must_use]
pub fn needs_upgrade(keys: &[&str]) -> String {
    let keys = joined(keys.iter().map(|key| format!("`{key}`")));
    format!("only an upgrade or a restart can change {keys}")
}
