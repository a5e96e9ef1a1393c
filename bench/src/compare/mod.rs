//! Bare forwarders, Kamailio and Viaduct side by side in one run.
//!
//! Each in turn gets a core of its own while the generator has the other, in
//! several rounds with a changing order. A figure comes from the kernel's
//! accounting of the process or from messages counted where they arrived.

mod contender;
mod plot;
mod process;
mod summary;

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::forward::Engine;
use crate::load::{self, Mix};
use crate::pin;
use crate::report::LoadReport;
use contender::{Contender, Network, Running};
use summary::{Figures, Results, Sample};

/// Messages in flight at saturation.
const WINDOW: u64 = 256;

/// Loads of a tenth of a second that a contender may take to answer.
const ATTEMPTS: usize = 50;

/// What to compare and for how long.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Rounds; each measures every contender once
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Time of each of the two loads that a contender gets in a round
    #[arg(long, default_value_t = 4.0, value_name = "S")]
    seconds: f64,
    /// One round of one-second loads: whether everything works
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Contenders, by default all
    #[arg(long, value_enum, value_delimiter = ',', value_name = "NAME")]
    only: Vec<Choice>,
    /// Another Viaduct binary to compare; may be given again
    #[arg(long, value_name = "PATH")]
    viaduct: Vec<PathBuf>,
    /// What a call consists of
    #[arg(long, value_enum, default_value_t = Mix::Requests)]
    mix: Mix,
    /// Destinations in the farm
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    destinations: u16,
    /// Core of the contender
    #[arg(long, default_value_t = 1, value_name = "N")]
    core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 0, value_name = "N")]
    generator_core: usize,
    /// Folder for JSON, plot and logs
    #[arg(long, default_value = "target/compare", value_name = "DIR")]
    out: PathBuf,
}

/// A contender by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Choice {
    /// recvfrom and sendto
    BareSingle,
    /// recvmmsg and sendmmsg
    BareMmsg,
    /// Kamailio, stateless
    Kamailio,
    /// Viaduct, as built beside this program
    Viaduct,
}

/// What is written to `compare.json`.
#[derive(Serialize)]
struct Document<'a> {
    kernel: String,
    processor: String,
    rounds: u16,
    seconds: f64,
    mix: String,
    destinations: u16,
    contenders: Vec<Figures<'a>>,
}

/// Compares, prints the table and writes `compare.json` and `compare.svg`.
///
/// # Errors
/// A program that is missing, does not start or carries no traffic; messages
/// that fail their checks; a folder that cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.core != options.generator_core,
        "the contender and the generator each need a core of their own"
    );
    pin(options.core)?;
    pin(options.generator_core)?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let contenders = contenders(options)?;
    let mut all = contenders
        .iter()
        .map(|contender| {
            Ok(Results {
                name: contender.to_string(),
                version: contender.version()?,
                rounds: Vec::new(),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let (rounds, seconds) = if options.quick {
        (1, 1.0)
    } else {
        (options.rounds, options.seconds)
    };
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let index = (turn + usize::from(round)) % contenders.len();
            let contender = &contenders[index];
            eprint!("round {}/{rounds}  {contender:<12}", round + 1);
            let sample = measure(contender, options, seconds)?;
            eprintln!(
                "{:8.0} messages/s  {:5.2} us CPU a message  p99 {:.0} us at half load",
                sample.saturated_rate, sample.saturated_cpu_us, sample.half_p99_us
            );
            all[index].rounds.push(sample);
        }
    }
    println!("{}", summary::table(&all));
    warn_of_others(&all);
    let document = Document {
        kernel: first_line("/proc/sys/kernel/osrelease", ""),
        processor: first_line("/proc/cpuinfo", "model name"),
        rounds,
        seconds,
        mix: format!("{:?}", options.mix).to_lowercase(),
        destinations: options.destinations,
        contenders: summary::figures(&all),
    };
    write(
        &options.out,
        "compare.json",
        &serde_json::to_string_pretty(&document)?,
    )?;
    write(&options.out, "compare.svg", &plot::svg(&all)?)
}

/// Says so where other processes had one of the two cores: the figures of
/// latency and saturation are then worth little.
fn warn_of_others(all: &[Results]) {
    let samples = all.iter().flat_map(|results| &results.rounds);
    let disturbed = samples
        .filter(|sample| sample.disturbed_percent > 1.0)
        .count();
    if disturbed > 0 {
        eprintln!(
            "warning: in {disturbed} measurements others took more than 1 % of a core; \
             repeat on a quiet machine"
        );
    }
}

fn contenders(options: &Options) -> Result<Vec<Contender>> {
    let beside = contender::viaduct_beside()?;
    let all = [
        (Choice::BareSingle, Contender::Bare(Engine::Single)),
        (Choice::BareMmsg, Contender::Bare(Engine::Mmsg)),
        (Choice::Kamailio, Contender::Kamailio),
        (Choice::Viaduct, Contender::Viaduct(beside)),
    ];
    let chosen = all
        .into_iter()
        .filter(|(choice, _)| options.only.is_empty() || options.only.contains(choice))
        .map(|(_, contender)| contender);
    let others = options.viaduct.iter().cloned().enumerate();
    Ok(chosen
        .chain(others.map(|(index, path)| Contender::Other(index + 2, path)))
        .collect())
}

/// Runs `contender` once, saturated and then at half of that.
fn measure(contender: &Contender, options: &Options, seconds: f64) -> Result<Sample> {
    let network = Network {
        listen: (Ipv4Addr::LOCALHOST, free_ports(1)?).into(),
        base_port: free_ports(options.destinations)?,
        count: options.destinations,
        generator_core: options.generator_core,
    };
    let mut load = load::Options {
        balancer: network.listen,
        peers: 1, // as many as a bare forwarder can serve
        destinations: network.count,
        destination_base_port: network.base_port,
        mix: options.mix,
        rate: None,
        window: WINDOW,
        seconds,
        warm_up: 0.3,
        gso_run: 8,
        bare: contender.is_bare(),
    };
    let mut running = contender.start(&network, options.core, &options.out)?;
    wait_for_traffic(&mut running, &load)?;
    let saturated = Measured::take(&mut running, &load)?;
    load.rate = Some(saturated.report.rate / 2.0);
    let half = Measured::take(&mut running, &load)?;
    let latency = half.report.latency.all;
    Ok(Sample {
        saturated_cpu_us: saturated.cpu_us(),
        saturated_rate: saturated.report.rate,
        saturated_busy_percent: saturated.busy_percent,
        saturated_loss_percent: saturated.report.messages.lost_percent(),
        half_rate: saturated.report.rate / 2.0,
        half_cpu_us: half.cpu_us(),
        half_p50_us: latency.p50,
        half_p99_us: latency.p99,
        half_p999_us: latency.p999,
        half_loss_percent: half.report.messages.lost_percent(),
        memory_mib: process::memory(running.id())?,
        disturbed_percent: saturated.waited_percent.max(half.waited_percent),
    })
}

/// One load and what it cost the contender.
struct Measured {
    report: LoadReport,
    cpu_ns: u64,
    busy_percent: f64,
    /// Time that the contender and the generator waited for their cores.
    waited_percent: f64,
}

impl Measured {
    fn take(running: &mut Running, load: &load::Options) -> Result<Self> {
        // The contender is a child of this process, so that `both` has it too.
        let both = || process::usage(std::process::id());
        let (before, both_before) = (process::usage(running.id())?, both()?);
        let begin = Instant::now();
        let report = load::run(load)?;
        let elapsed = begin.elapsed().as_nanos() as f64;
        running.check()?;
        let (after, both_after) = (process::usage(running.id())?, both()?);
        if let Some(failure) = &report.checks.first_failure {
            bail!("{} handed on a wrong message: {failure}", running.name());
        }
        ensure!(
            report.messages.lost_percent() < 50.0,
            "{} did not carry the traffic: {} of {} messages were lost{}",
            running.name(),
            report.messages.lost,
            report.messages.sent,
            running.last_words()
        );
        let percent = |ns: u64| 100.0 * ns as f64 / elapsed;
        Ok(Self {
            report,
            cpu_ns: after.cpu - before.cpu,
            busy_percent: percent(after.cpu - before.cpu),
            waited_percent: percent(both_after.waited - both_before.waited),
        })
    }

    /// CPU time of the contender for each message that arrived, in us.
    fn cpu_us(&self) -> f64 {
        self.cpu_ns as f64 / 1000.0 / self.report.messages.received() as f64
    }
}

/// Sends a little until messages come through in both directions.
fn wait_for_traffic(running: &mut Running, load: &load::Options) -> Result<()> {
    let trial = load::Options {
        window: 8,
        seconds: 0.1,
        warm_up: 0.0,
        ..load.clone()
    };
    for _ in 0..ATTEMPTS {
        running.check()?;
        if load::run(&trial)?.messages.received_by_callers > 0 {
            return Ok(());
        }
    }
    bail!(
        "{} carried no traffic{}",
        running.name(),
        running.last_words()
    )
}

/// The first of `count` neighbouring UDP ports of loopback that are free.
fn free_ports(count: u16) -> Result<u16> {
    let bind = |port| UdpSocket::bind((Ipv4Addr::LOCALHOST, port));
    for _ in 0..100 {
        let first = bind(0)?.local_addr()?.port();
        let Some(last) = first.checked_add(count - 1) else {
            continue;
        };
        if (first..=last).all(|port| bind(port).is_ok()) {
            return Ok(first);
        }
    }
    bail!("there are no {count} neighbouring free UDP ports")
}

/// The first line of `file` that begins with `key`, without the key.
fn first_line(file: &str, key: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.unwrap_or("unknown");
    value.trim_start_matches([' ', '\t', ':']).to_owned()
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("wrote {}", path.display());
    Ok(())
}
