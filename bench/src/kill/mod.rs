//! A destination that is killed, one that stalls and one that answers 503,
//! one after the other at full load, before Viaduct and before Kamailio with
//! stateful INVITE: what do callers notice?

mod table;

use std::io::{IsTerminal, stderr};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, ensure};
use rustix::process::Signal;

use crate::balancer::{self, Balancer, Program};
use crate::document::{self, Options};
use crate::farm::caller::Callers;
use crate::farm::destination::{BUSY, NORMAL};
use crate::farm::{self, Farm, Player};
use crate::ports::free_ports;
use crate::sip::SECOND;
use table::Row;

/// One column of the table.
struct Contender {
    name: &'static str,
    program: Program,
    /// Whether a branch that it wrote is that of a first attempt.
    is_first: fn(&str) -> bool,
    /// Whether figures that fall short fail the run.
    must_hold: bool,
}

impl document::Contender for Contender {
    fn name(&self) -> &'static str {
        self.name
    }

    fn program(&self) -> Program {
        self.program
    }
}

const CONTENDERS: [Contender; 2] = [
    Contender {
        name: "viaduct",
        program: Program::Viaduct {
            settings: "health = \"off\"\nrecord-route = \"on\"\nstateful = [\"INVITE\"]\nfailover-after = \"1s\"\n",
        },
        is_first: |branch| branch.starts_with("z9hG4bKs"),
        must_hold: true,
    },
    Contender {
        name: "kamailio",
        program: Program::Kamailio {
            script: include_str!("../../kamailio/failover.cfg"),
            define: None,
        },
        // The number of the attempt stands last.
        is_first: |branch| branch.ends_with(".0"),
        must_hold: false,
    },
];

/// Destinations.
const FARM: usize = 4;

/// What happens to the farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    /// SIGKILL to the first.
    Kill,
    /// SIGSTOP to the second.
    Stall,
    /// The third answers 503.
    Busy,
    /// All are as at the start.
    BringBack,
}

impl Blow {
    fn strike(self, farm: &mut Farm) -> Result<()> {
        match self {
            Self::Kill => farm.kill(0),
            Self::Stall => farm.signal(1, Signal::STOP),
            Self::Busy => farm.tell(2, BUSY),
            Self::BringBack => {
                farm.bring_back(0)?;
                farm.signal(1, Signal::CONT)?;
                farm.tell(2, NORMAL)
            }
        }
    }
}

/// What happens, and when: of sixty seconds.
const BLOWS: [(u64, Blow); 4] = [
    (15, Blow::Kill),
    (25, Blow::Stall),
    (35, Blow::Busy),
    (45, Blow::BringBack),
];

/// Runs every contender, prints the table.
///
/// # Errors
/// A time that is too short; a program that is missing or does not start; a
/// figure that falls short.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { rate, seconds, .. } = options;
    ensure!(
        *seconds >= 10,
        "--seconds {seconds} leaves the farm no time between what happens to it; give 10 or more"
    );
    let head = format!(
        "# Destinations that die, stall and refuse under load\n\n\
         Written by `scripts/kill --publish docs`: {rate} calls a second for {seconds} seconds.\n\
         [bench/README.md](../bench/README.md) says how it is done and what the figures are.\n"
    );
    let play = |one: &Contender, folder: &Path| play(one, options, folder);
    document::run(CONTENDERS, options, ("kill", &head), play)
}

/// Plays the calls around one contender while its farm takes its blows.
fn play(contender: &Contender, options: &Options, folder: &Path) -> Result<Row> {
    let [port, farm] = free_ports(Ipv4Addr::UNSPECIFIED.into());
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut farm = Farm::start(FARM, farm, folder)?;
    let destinations = farm.addresses();
    let set: Vec<_> = destinations
        .iter()
        .map(|&address| balancer::Destination::new(address))
        .collect();
    let mut balancer = Balancer::start(contender.program, listen, &[listen], &set, folder)?;
    let mut callers = Callers::new(listen, contender.is_first)?;

    let until = options.seconds * SECOND;
    let mut blows = BLOWS
        .into_iter()
        .map(|(at, blow)| (until / 60 * at, blow))
        .peekable();
    let before = balancer.usage()?;
    let (mut after, mut read) = (before, 0);
    let mut second = 0;
    farm::play(
        &mut callers,
        options.rate,
        Instant::now(),
        |now, callers| {
            if let Some((_, blow)) = blows.next_if(|(at, _)| now >= *at) {
                blow.strike(&mut farm)?;
                match blow {
                    Blow::Kill => callers.killed(destinations[0]),
                    Blow::BringBack => callers.back(),
                    Blow::Stall | Blow::Busy => {}
                }
            }
            if now >= second * SECOND {
                if now < until {
                    (after, read) = (balancer.usage()?, now);
                }
                farm.check()?;
                progress(contender, second, callers);
                second += 1;
            }
            Ok(now < until)
        },
    )?;
    balancer.check()?;
    let percent = |ns: u64| 100.0 * ns as f64 / read as f64;
    Ok(Row {
        name: contender.name,
        must_hold: contender.must_hold,
        figures: callers.figures(),
        cpu_percent: percent(after.cpu - before.cpu),
        waited_percent: percent(after.waited - before.waited),
    })
}

/// One line a second for whoever looks on.
fn progress(contender: &Contender, second: u64, callers: &Callers) {
    if !stderr().is_terminal() {
        return;
    }
    let figures = callers.figures();
    eprintln!(
        "{second:>4} s  {:<10} calls {:>6}  going on {:>5}  failed {}  moved {}  sent again {}  slowest {:.0} ms",
        contender.name,
        figures.calls,
        callers.going_on(),
        figures.failures(),
        figures.moved,
        figures.retransmissions,
        figures.setup_max_ms,
    );
}
