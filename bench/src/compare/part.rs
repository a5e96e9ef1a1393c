//! What is compared: the headline and the axes, each a grid of contenders,
//! setups and loads.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use super::contender::{
    DIRECT, EXACT, GSO, GSO_EQUAL, KAMAILIO, KAMAILIO_TM, MIRRORED, MMSG, OFF, SINGLE, STATEFUL,
    STATELESS, STATELESS_EQUAL, TWO_WORKERS, WATCHED,
};
use super::network::Path;
use super::summary::{Columns, MEMORY, MESSAGES, OBSERVED, SUSTAINED, TRANSACTIONS};
use crate::offer::Mix;

/// One way to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Load {
    /// As many messages as come through: a closed loop. The generator sends
    /// runs of equal length, else it would be the limit.
    Saturated,
    /// Every message is there before the contender takes the first, all kinds
    /// and lengths shuffled: what a message costs at most speed, whatever the
    /// generator can do.
    Full,
    /// This share of what came through at saturation, just before.
    Share(f64),
    /// So many messages a second.
    Rate(f64),
    /// So many calls a second for as long as this takes: what happens in the
    /// warm-up costs and is lost, but does not count as growth.
    Sustained {
        calls: f64,
        warm_up: f64,
        seconds: f64,
    },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saturated => f.write_str("saturated"),
            Self::Full => f.write_str("full queue"),
            Self::Share(share) => write!(f, "{:.0} % load", share * 100.0),
            Self::Rate(rate) => write!(f, "{rate:.0} messages/s"),
            Self::Sustained {
                calls,
                warm_up,
                seconds,
            } => write!(f, "{calls:.0} calls/s for {:.0} s", warm_up + seconds),
        }
    }
}

/// One way in which callers and farm are laid out.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) label: String,
    pub(crate) destinations: u16,
    pub(crate) peers: u16,
    pub(crate) mix: Mix,
    /// Octets of a message where all are equal.
    pub(crate) length: u16,
    pub(crate) path: Path,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            label: "4 destinations, 1 peer, calls".to_owned(),
            destinations: 4,
            peers: 1,
            mix: Mix::Calls,
            length: 600,
            path: Path::Loopback,
        }
    }
}

/// A grid of measurements.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) contenders: &'static [&'static str],
    pub(crate) setups: Vec<Setup>,
    pub(crate) loads: Vec<Load>,
    /// As many as are usual.
    pub(crate) rounds: u16,
    pub(crate) columns: Columns,
}

/// What one axis varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Axis {
    /// Destinations, 1 to 256
    Destinations,
    /// Upstream addresses, 1 to 10,000
    Peers,
    /// Kinds and lengths of messages
    Mix,
    /// Octets of a message
    Size,
    /// Offered load, 1 % to 200 % of saturation
    Load,
    /// Loopback, and veth between network namespaces (needs root)
    Path,
    /// INVITE relayed statelessly and statefully
    Stateful,
    /// 60,000 INVITE transactions a second for a minute
    Sustained,
    /// Probes, metrics and status asked for each second; and copies of all messages
    Watched,
    /// What a transaction takes that has been answered, and one that rings
    Memory,
}

/// The share of the saturating load that is twice as much as comes through.
pub(crate) const TWICE: Load = Load::Share(2.0);

/// Half of what comes through at saturation.
pub(crate) const HALF: Load = Load::Share(0.5);

/// A usual rate for a large site, in messages a second.
pub(crate) const FIXED: Load = Load::Rate(50_000.0);

/// One minute at a rate that the transactions of a core shall stand. The
/// warm-up is longer than an answered one is remembered (Timer L, 32 s), so
/// that from then on as many go as come.
pub(crate) const MINUTE: Load = Load::Sustained {
    calls: 60_000.0,
    warm_up: 35.0,
    seconds: 25.0,
};

/// 40,000 transactions, in less time than Kamailio remembers one (5 s).
pub(crate) const FILLING: Load = Load::Sustained {
    calls: 10_000.0,
    warm_up: 0.5,
    seconds: 4.0,
};

/// Setups of [`Axis::Memory`].
pub(crate) const LINGERING: &str = "answered";
pub(crate) const IN_PROGRESS: &str = "ringing";

/// A full queue, saturation, half of it, and a usual rate.
const LOADS: [Load; 4] = [Load::Full, Load::Saturated, HALF, FIXED];

/// The comparison that everything else varies.
pub(crate) fn headline() -> Part {
    Part {
        name: "headline",
        title: "One worker, four destinations, one upstream peer, whole calls",
        contenders: &[
            DIRECT,
            SINGLE,
            MMSG,
            GSO_EQUAL,
            KAMAILIO,
            OFF,
            EXACT,
            STATELESS,
            STATELESS_EQUAL,
            TWO_WORKERS,
        ],
        setups: vec![Setup::default()],
        loads: LOADS.into(),
        rounds: 7,
        columns: MESSAGES,
    }
}

/// The comparison along `axis`.
pub(crate) fn axis(axis: Axis) -> Part {
    let long = headline();
    let short = Part {
        loads: vec![Load::Full],
        rounds: 3,
        ..headline()
    };
    match axis {
        Axis::Destinations => Part {
            name: "destinations",
            title: "Destinations",
            contenders: &[MMSG, GSO_EQUAL, KAMAILIO, STATELESS],
            setups: setups(&[1, 4, 16, 64, 256], |setup, &count| {
                setup.destinations = count;
            }),
            ..short
        },
        Axis::Peers => Part {
            name: "peers",
            title: "Upstream peers",
            contenders: &[MMSG, KAMAILIO, OFF, STATELESS],
            setups: setups(&[1, 10, 10_000], |setup, &count| setup.peers = count),
            ..short
        },
        Axis::Mix => Part {
            name: "mix",
            title: "Kinds and lengths of messages",
            contenders: &[MMSG, GSO, EXACT, STATELESS],
            setups: mixes([
                ("calls", Mix::Calls),
                ("invite", Mix::Invite),
                ("equal", Mix::Equal),
            ]),
            ..short
        },
        Axis::Size => Part {
            name: "size",
            title: "Octets of a message, all equal",
            contenders: &[MMSG, GSO, STATELESS],
            setups: setups(&[550, 700, 1000, 1400, 2500, 3900], |setup, &length| {
                setup.mix = Mix::Equal;
                setup.length = length;
            }),
            ..short
        },
        Axis::Load => Part {
            name: "load",
            title: "Offered load, in per cent of each contender's own saturation",
            contenders: &[DIRECT, MMSG, KAMAILIO, OFF, STATELESS],
            loads: vec![
                Load::Saturated,
                Load::Share(0.01),
                Load::Share(0.05),
                Load::Share(0.1),
                Load::Share(0.25),
                HALF,
                Load::Share(0.75),
                Load::Share(0.9),
                Load::Share(1.0),
                Load::Share(1.5),
                TWICE,
            ],
            ..short
        },
        Axis::Path => Part {
            name: "path",
            title: "Loopback, and veth between network namespaces",
            contenders: &[MMSG, GSO_EQUAL, KAMAILIO, STATELESS],
            setups: [("loopback", Path::Loopback), ("veth", Path::Veth)]
                .map(|(label, path)| Setup {
                    label: label.to_owned(),
                    path,
                    ..Setup::default()
                })
                .into(),
            ..short
        },
        Axis::Stateful => Part {
            name: "stateful",
            title: "INVITE transactions, stateless and stateful",
            contenders: &[KAMAILIO_TM, STATELESS, STATEFUL],
            setups: transactions(),
            columns: TRANSACTIONS,
            ..long
        },
        Axis::Watched => Part {
            name: "watched",
            title: "Observed by its operators, and not",
            contenders: &[STATELESS, WATCHED, MIRRORED],
            columns: OBSERVED,
            ..long
        },
        Axis::Sustained => Part {
            name: "sustained",
            title: "60,000 INVITE transactions a second for a minute",
            contenders: &[STATELESS, STATEFUL],
            setups: transactions(),
            loads: vec![MINUTE],
            rounds: 1,
            columns: SUSTAINED,
        },
        Axis::Memory => Part {
            name: "memory",
            title: "Memory of a transaction",
            contenders: &[KAMAILIO_TM, STATEFUL],
            setups: mixes([(LINGERING, Mix::Transactions), (IN_PROGRESS, Mix::Ringing)]),
            loads: vec![FILLING],
            columns: MEMORY,
            ..short
        },
    }
}

fn transactions() -> Vec<Setup> {
    mixes([(
        "4 destinations, 1 peer, INVITE transactions",
        Mix::Transactions,
    )])
}

/// A setup for each of these.
fn mixes<const N: usize>(mixes: [(&str, Mix); N]) -> Vec<Setup> {
    let setup = |(label, mix): (&str, Mix)| Setup {
        label: label.to_owned(),
        mix,
        ..Setup::default()
    };
    mixes.map(setup).into()
}

/// A setup for each of `values`, labelled by it.
fn setups<T: ToString>(values: &[T], change: impl Fn(&mut Setup, &T)) -> Vec<Setup> {
    let setup = |value: &T| {
        let mut setup = Setup {
            label: value.to_string(),
            ..Setup::default()
        };
        change(&mut setup, value);
        setup
    };
    values.iter().map(setup).collect()
}
