//! What a load is: which messages, how many, and where to.

use std::net::SocketAddrV4;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// What to send, how much of it and where.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where the balancer listens
    #[arg(
        long,
        value_name = "ADDR",
        required_unless_present = "direct",
        conflicts_with = "direct"
    )]
    pub(crate) balancer: Option<SocketAddrV4>,
    /// No balancer: callers and farm talk to each other
    #[arg(long)]
    pub(crate) direct: bool,
    /// Upstream addresses that calls come from, in turn
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) peers: u16,
    /// Address of the first peer; the others follow, all on one port, a free one where it is 0
    #[arg(long, default_value = "127.2.0.1:0", value_name = "ADDR")]
    pub(crate) peer_address: SocketAddrV4,
    /// Destinations in the farm
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) destinations: u16,
    /// Address of the first destination; the others follow, all on one port
    #[arg(long, default_value = "127.1.0.1:5071", value_name = "ADDR")]
    pub(crate) destination_address: SocketAddrV4,
    /// What the messages are
    #[arg(long, value_enum, default_value_t = Mix::Calls)]
    pub(crate) mix: Mix,
    /// Octets of each message where they are equal
    #[arg(long, default_value_t = 600, value_name = "OCTETS", value_parser = clap::value_parser!(u16).range(550..=4000))]
    pub(crate) length: u16,
    /// Open loop: messages a second to offer, responses counted
    #[arg(long, value_name = "MESSAGES/S", conflicts_with = "window")]
    pub(crate) rate: Option<f64>,
    /// Closed loop: messages in flight, or about as many in the queue of a process that is held
    #[arg(long, default_value_t = 512, value_name = "MESSAGES")]
    pub(crate) window: u64,
    /// Time measured
    #[arg(long, default_value_t = 5.0, value_name = "S")]
    pub(crate) seconds: f64,
    /// Time after which a message that has not come counts as lost
    #[arg(long, default_value_t = 0.5, value_name = "S")]
    pub(crate) patience: f64,
    /// Time before that in which nothing is measured
    #[arg(long, default_value_t = 0.3, value_name = "S")]
    pub(crate) warm_up: f64,
    /// Calls in a row whose messages are of equal length and may leave as one segmented send; 1 for none
    #[arg(long, default_value_t = 32, value_name = "CALLS", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub(crate) gso_run: u16,
    /// Processes that stand still while messages are sent, one by one and shuffled, and then find them all at once: a full queue, however slow this program is
    #[arg(
        long,
        value_name = "PID",
        value_delimiter = ',',
        conflicts_with = "rate"
    )]
    pub(crate) hold: Vec<u32>,
    /// What lies between changes nothing in a message
    #[arg(long)]
    pub(crate) bare: bool,
    /// The balancer answers each INVITE with a 100 of its own, and the farm sends none
    #[arg(long, conflicts_with_all = ["bare", "direct"])]
    pub(crate) trying: bool,
}

/// The messages of a load, each of which passes the balancer once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mix {
    /// Six in eight: INVITE, 100, 180, 200, ACK, BYE, 200; one REGISTER, 200; one OPTIONS, 200; lengths differ
    Calls,
    /// INVITE and 200, all of one length
    Equal,
    /// INVITE and 200, both with a session description; lengths differ
    Invite,
    /// INVITE, 180, 200, ACK; lengths differ
    Transactions,
    /// INVITE and 180: calls that ring on; lengths differ
    Ringing,
}

impl Mix {
    pub(crate) fn messages_a_call(self) -> f64 {
        match self {
            Self::Calls => (6.0 * 7.0 + 2.0 * 2.0) / 8.0,
            Self::Equal | Self::Invite | Self::Ringing => 2.0,
            Self::Transactions => 4.0,
        }
    }
}
