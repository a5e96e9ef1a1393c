//! A farm that changes every second under calls, before Viaduct and before
//! Kamailio; and two Viaducts as one, of which one is killed.
//!
//! Callers and servers are [played](mod@play) by this program and not by sipp,
//! which many trust more: sipp takes any request with a Call-ID that it does
//! not know for a new call, so that a BYE gone astray, a CANCEL that second
//! chance sent twice, and a call that rings at two places look alike in its
//! statistics. What is wrong with the play itself would show in the row that
//! must not hold: without Record-Route, requests are misrouted.

mod call;
mod caller;
mod operator;
mod play;
mod server;
mod table;

use std::io::{IsTerminal, stderr};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use crate::balancer::{Balancer, Program, State};
use crate::document::{self, Options};
use crate::farm::{self, Player};
use crate::ports::free_ports;
use crate::process::Usage;
use crate::sip::SECOND;
use call::HELD;
use play::{Contact, Play};
use table::{Aim, Row};

/// One column of the table.
struct Contender {
    name: &'static str,
    program: Program,
    contact: Contact,
    /// What happens to it.
    fate: Fate,
    aim: Aim,
}

impl document::Contender for Contender {
    fn name(&self) -> &'static str {
        self.name
    }

    fn program(&self) -> Program {
        self.program
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its farm changes every second.
    Churn,
    /// There are two instances, and one is killed half way.
    Killed,
}

const RECORDING: Program = Program::Viaduct {
    settings: "health = \"off\"\nrecord-route = \"on\"\n",
};
const KAMAILIO: Program = Program::Kamailio {
    script: DISPATCHER,
    define: None,
};
const DISPATCHER: &str = include_str!("../../kamailio/dispatcher.cfg");

const CONTENDERS: [Contender; 5] = [
    Contender {
        name: "viaduct",
        program: RECORDING,
        contact: Contact::Balancer,
        fate: Fate::Churn,
        aim: Aim::Clean,
    },
    Contender {
        name: "no-record-route",
        program: Program::Viaduct {
            settings: "health = \"off\"\n",
        },
        contact: Contact::Balancer,
        fate: Fate::Churn,
        aim: Aim::Misrouted,
    },
    Contender {
        name: "pair",
        program: RECORDING,
        contact: Contact::Balancer,
        fate: Fate::Killed,
        aim: Aim::Clean,
    },
    Contender {
        name: "kamailio",
        program: KAMAILIO,
        contact: Contact::Own,
        fate: Fate::Churn,
        aim: Aim::Record,
    },
    Contender {
        name: "kamailio-stateless",
        program: Program::Kamailio {
            script: DISPATCHER,
            define: Some("STATELESS"),
        },
        contact: Contact::Own,
        fate: Fate::Churn,
        aim: Aim::Record,
    },
];

/// How long calls build up before anything changes.
const BUILD_UP: u64 = HELD + SECOND;

/// How long messages still go to an instance that is dead: what a router
/// takes to notice.
const UNNOTICED: u64 = SECOND / 2;

/// Runs every contender, prints the table.
///
/// # Errors
/// A program that is missing or does not start; a figure that falls short.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { rate, seconds, .. } = options;
    let head = format!(
        "# A farm that changes under calls\n\n\
         Written by `scripts/churn --publish docs`: {rate} calls a second, {seconds} seconds of changes.\n\
         [bench/README.md](../bench/README.md) says how it is done and what the columns are.\n"
    );
    let play = |one: &Contender, folder: &Path| play(one, options, folder);
    document::run(CONTENDERS, options, ("churn", &head), play)
}

/// Plays the calls around one contender while its fate takes its course.
fn play(contender: &Contender, options: &Options, folder: &Path) -> Result<Row> {
    let [one, other] = free_ports(Ipv4Addr::UNSPECIFIED.into())
        .map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port));
    let (advertised, listen) = match contender.fate {
        Fate::Churn => (one, vec![one]),
        // An address of which only the router knows what it stands for.
        Fate::Killed => {
            let name = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 5060);
            (name, vec![one, other])
        }
    };
    let mut play = Play::new(advertised, listen.clone(), contender.contact)?;
    let mut balancer = Balancer::start(
        contender.program,
        advertised,
        &listen,
        &play.operator.farm,
        folder,
    )?;

    let until = BUILD_UP + options.seconds * SECOND;
    let halfway = BUILD_UP.midpoint(until);
    let mut to_kill = contender.fate == Fate::Killed;
    let mut second = 0;
    let mut changed = 0;
    let mut usage = [Usage::default(); 2];
    farm::play(&mut play, options.rate, Instant::now(), |now, play| {
        if now >= second * SECOND {
            let changing = (BUILD_UP..until).contains(&now);
            if changing && contender.fate == Fate::Churn {
                changed += play.operator.change(now, &play.open);
                balancer.apply(&play.operator.farm)?;
            }
            if now < until {
                usage[usize::from(changing)] = balancer.usage()?;
            }
            progress(contender, second, play);
            // One change a second, also where it was held up for more.
            second = now / SECOND + 1;
        }
        if to_kill && now >= halfway {
            balancer.kill_one()?;
            changed += 1;
            to_kill = false;
        }
        if contender.fate == Fate::Killed && now >= halfway + UNNOTICED {
            play.instances.truncate(1);
        }
        Ok(now < until)
    })?;
    balancer.check()?;
    let [before, after] = usage;
    let percent = |ns: u64| 100.0 * ns as f64 / (options.seconds * SECOND) as f64;
    Ok(Row {
        name: contender.name,
        short: contender.aim.short(&play.figures),
        figures: play.figures,
        changed,
        cpu_percent: percent(after.cpu - before.cpu),
        waited_percent: percent(after.waited - before.waited),
    })
}

/// One line a second for whoever looks on.
fn progress(contender: &Contender, second: u64, play: &Play) {
    if !stderr().is_terminal() {
        return;
    }
    let figures = &play.figures;
    eprintln!(
        "{second:>4} s  {:<18} calls {:>6}  going on {:>5}  failed {}  misrouted {}  uncancelled {}  \
         sent again {}  destinations {} active, {} draining",
        contender.name,
        figures.calls,
        play.going_on(),
        figures.failures(),
        figures.misrouted,
        figures.uncancelled,
        figures.retransmissions,
        play.operator.count(State::Active),
        play.operator.count(State::Draining),
    );
}
