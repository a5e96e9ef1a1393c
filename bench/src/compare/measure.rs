//! One contender in one setup: started, loaded in each way asked for, ended.

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::contender::{COLLECTOR, Contender, Cores, Observed};
use super::network::Network;
use super::part::{Load, Setup};
use crate::admin::Watcher;
use crate::document::cores;
use crate::load;
use crate::offer::{Mix, Options};
use crate::process;
use crate::report::Percentiles;
use crate::running::Running;
use crate::sys::bound;

/// Calls whose messages are of one length and follow each other where the
/// generator is in a hurry: what it needs so as not to be the limit.
const RUN: u16 = 32;

/// Messages in flight at saturation.
const WINDOW: u64 = 512;

/// Time after which a message counts as lost, in s.
const PATIENCE: f64 = 0.5;

/// Loads of a twentieth of a second that a contender may take to answer.
const ATTEMPTS: usize = 100;

/// Below this rate the generator has the time to send each message by itself,
/// with lengths that change from call to call, as they come in life.
const UNHURRIED: f64 = 100_000.0;

/// Above these per cent of a core, others make a measurement worth little.
pub(crate) const DISTURBING: f64 = 1.0;

/// How often a load is repeated from which other guests took more than that.
const REPETITIONS: usize = 2;

/// Ticks of `/proc/stat` in a second.
const TICKS: f64 = 100.0;

/// What one load found.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    /// CPU time of the contender for each message that arrived; 0 where there
    /// is none.
    pub(crate) cpu_us: f64,
    /// Messages a second that came through; with a full queue, what a core
    /// can do at that CPU time a message.
    pub(crate) rate: f64,
    /// Messages a second offered; `None` in a closed loop.
    pub(crate) offered: Option<f64>,
    pub(crate) loss_percent: f64,
    /// Of one core; two workers may have up to 200.
    pub(crate) busy_percent: f64,
    /// Of that CPU time, what the contender's other threads took than those
    /// that carry datagrams; 0 where they cannot be told apart.
    pub(crate) beside_percent: f64,
    pub(crate) generator_busy_percent: f64,
    /// `None` in a closed loop.
    pub(crate) latency_us: Option<Percentiles>,
    pub(crate) memory_mib: f64,
    pub(crate) resident_mib: f64,
    /// Time that contender and generator waited for a core that something else
    /// had; `None` where threads of their own are what they wait for.
    pub(crate) waited_percent: Option<f64>,
    /// Time that the host gave to other guests, of all cores.
    pub(crate) steal_percent: f64,
    /// Messages looked at in full; a wrong one ends the comparison.
    pub(crate) checked: u64,
    /// Messages that came twice or that nobody waited for, warm-up included.
    pub(crate) unexpected: u64,
    /// Calls that began within the measured time.
    pub(crate) transactions: u64,
    pub(crate) transactions_a_second: f64,
    /// CPU time of the contender for each of them.
    pub(crate) transaction_us: f64,
    /// CPU time of the contender for each message in or out at its socket.
    pub(crate) wire_us: f64,
    /// What it remembers took so much more at the end of the measured time
    /// than at its beginning.
    pub(crate) growth_mib: f64,
}

impl Sample {
    /// Whether it tells anything: a machine that stands still loses what is in flight.
    fn is_carried(&self) -> bool {
        self.rate > 0.0 && (self.offered.is_some() || self.loss_percent < 50.0)
    }

    /// Whether the host gave so much to others that it is worth little.
    pub(crate) fn is_stolen_from(&self) -> bool {
        self.steal_percent > DISTURBING
    }
}

/// What holds for every measurement of a run.
pub(crate) struct Bench<'a> {
    pub(crate) cores: Cores,
    pub(crate) seconds: f64,
    pub(crate) warm_up: f64,
    /// Whether every load is as short as that, whatever it asks for.
    pub(crate) quick: bool,
    pub(crate) out: &'a std::path::Path,
}

impl Bench<'_> {
    /// Seconds of warm-up, and measured, of a load.
    pub(crate) fn span(&self, load: Load) -> (f64, f64) {
        match load {
            Load::Sustained {
                warm_up, seconds, ..
            } if !self.quick => (warm_up, seconds),
            _ => (self.warm_up, self.seconds),
        }
    }

    /// Runs `contender` in `setup` under each of `loads`, in order.
    ///
    /// # Errors
    /// Named by the contender: it does not start, carries no traffic, ends,
    /// or hands on a wrong message.
    pub(crate) fn measure(
        &self,
        contender: &Contender,
        setup: &Setup,
        loads: &[Load],
    ) -> Result<Vec<Sample>> {
        self.try_measure(contender, setup, loads)
            .with_context(|| format!("{} ({})", contender.name, setup.label))
    }

    fn try_measure(
        &self,
        contender: &Contender,
        setup: &Setup,
        loads: &[Load],
    ) -> Result<Vec<Sample>> {
        let network = Network::new(setup.path, setup.destinations)?;
        let mut running = contender.start(&network, setup.peers, self.cores, self.out)?;
        let base = Options {
            balancer: running.is_some().then_some(network.listen),
            direct: running.is_none(),
            peers: setup.peers,
            peer_address: network.peer,
            destinations: setup.destinations,
            destination_address: network.destination,
            mix: if contender.equal {
                Mix::Equal
            } else {
                setup.mix
            },
            length: setup.length,
            rate: None,
            window: WINDOW,
            seconds: self.seconds,
            warm_up: self.warm_up,
            patience: PATIENCE,
            gso_run: RUN,
            hold: Vec::new(),
            bare: contender.is_bare(),
            trying: contender.is_stateful(),
        };
        wait_for_traffic(running.as_mut(), &base)?;
        // A collector that takes nothing: what sending costs is the same.
        let _collector = match contender.observed() {
            Observed::Mirrored => Some(bound(COLLECTOR)?),
            Observed::Watched | Observed::No => None,
        };
        let watcher = match contender.observed() {
            Observed::No => None,
            Observed::Watched | Observed::Mirrored => {
                Some(Watcher::start(contender.admin(self.out)))
            }
        };
        let mut peak = 0.0;
        let mut samples = Vec::new();
        for &load in loads {
            let rate = match load {
                Load::Saturated | Load::Full => None,
                Load::Share(share) => Some(peak * share),
                Load::Rate(rate) => Some(rate),
                Load::Sustained { calls, .. } => Some(calls * base.mix.messages_a_call()),
            };
            let (warm_up, seconds) = self.span(load);
            let options = Options {
                rate,
                warm_up,
                seconds,
                gso_run: match (load, rate) {
                    (Load::Full, _) => 1,
                    (_, Some(rate)) if rate <= UNHURRIED => 1,
                    _ => RUN,
                },
                hold: match (load, &running) {
                    (Load::Full, Some(running)) => process::tree(running.id())?,
                    _ => Vec::new(),
                },
                ..base.clone()
            };
            let mut once = || take(running.as_mut(), &options);
            let mut sample = match load {
                // What it remembers of one would count in the next.
                Load::Sustained { .. } if !self.quick => once(),
                _ => least_disturbed(once),
            }?;
            ensure!(
                sample.is_carried(),
                "the traffic was not carried: {:.0} % of the messages were lost, and {:.0} a second \
                 came through in the {seconds} s that were measured; give it longer (--seconds), or \
                 a machine with nothing else to do{}",
                sample.loss_percent,
                sample.rate,
                running
                    .as_ref()
                    .map_or_else(String::new, Running::last_words)
            );
            match load {
                Load::Saturated => peak = sample.rate,
                // Most of the time it stood still.
                Load::Full if running.is_some() => sample.rate = 1e6 / sample.cpu_us,
                Load::Full | Load::Share(_) | Load::Rate(_) | Load::Sustained { .. } => {}
            }
            if rate.is_none() {
                // In a closed loop the window makes the latency.
                sample.latency_us = None;
            }
            // Whoever goes on after a stop wakes all its threads at once.
            if load == Load::Full || contender.waits_for_its_own() {
                sample.waited_percent = None;
            }
            samples.push(sample);
        }
        watcher.map_or(Ok(()), Watcher::end)?;
        Ok(samples)
    }
}

/// The kernel's accounts at one moment.
struct Account {
    at: Instant,
    contender: process::Usage,
    /// Of this process and the contender, which is its child.
    both: process::Usage,
    stolen: u64,
    data: f64,
}

impl Account {
    fn new(contender: Option<u32>) -> Result<Self> {
        Ok(Self {
            at: Instant::now(),
            contender: contender.map_or(Ok(process::Usage::default()), process::usage)?,
            both: process::usage(std::process::id())?,
            stolen: process::stolen(),
            data: contender.map_or(Ok(0.0), process::data)?,
        })
    }
}

/// A sample that the host left alone, or of some that tell anything the one from which
/// it stole least.
fn least_disturbed(mut take: impl FnMut() -> Result<Sample>) -> Result<Sample> {
    let mut best = take()?;
    for _ in 0..REPETITIONS {
        if best.is_carried() && !best.is_stolen_from() {
            break;
        }
        let next = take()?;
        let is_less = next.is_carried() && next.steal_percent < best.steal_percent;
        if is_less || !best.is_carried() {
            best = next;
        }
    }
    Ok(best)
}

/// One load and what it cost.
fn take(mut running: Option<&mut Running>, load: &Options) -> Result<Sample> {
    let id = running.as_ref().map(|running| running.id());
    let mut accounts = Vec::new();
    let loaded = load::run(load, || {
        accounts.push(Account::new(id)?);
        Ok(())
    });
    // Whose end is the reason goes before what followed from it.
    if let Some(running) = &mut running {
        running.check()?;
    }
    let report = loaded?;
    if let Some(failure) = &report.checks.first_failure {
        bail!("a wrong message was handed on: {failure}");
    }
    let [before, after] = &accounts[..] else {
        bail!("the load has no beginning and end");
    };
    let elapsed = (after.at - before.at).as_nanos() as f64;
    let percent = |ns: u64| 100.0 * ns as f64 / elapsed;
    let cpu = after.contender.cpu - before.contender.cpu;
    let workers = after.contender.workers - before.contender.workers;
    let beside = if workers > 0 { cpu - workers } else { 0 };
    let stolen = (after.stolen - before.stolen) as f64 / TICKS;
    let cpu_us = cpu as f64 / 1000.0;
    let through = report.rate * report.seconds;
    let memory = id.map_or(Ok(process::Memory::default()), process::memory)?;
    Ok(Sample {
        cpu_us: cpu_us / through,
        rate: report.rate,
        offered: load.rate,
        loss_percent: report.messages.lost_percent(),
        busy_percent: percent(cpu),
        beside_percent: 100.0 * beside as f64 / cpu as f64,
        generator_busy_percent: report.generator_busy_percent,
        latency_us: Some(report.latency.all),
        memory_mib: memory.proportional,
        resident_mib: memory.resident,
        waited_percent: Some(percent(after.both.waited - before.both.waited)),
        steal_percent: 100.0 * stolen * 1e9 / elapsed / cores() as f64,
        checked: report.checks.checked,
        unexpected: report.messages.unexpected,
        transactions: report.transactions,
        transactions_a_second: report.transactions as f64 / report.seconds,
        transaction_us: cpu_us / report.transactions as f64,
        wire_us: cpu_us / (2.0 * through + report.own as f64),
        growth_mib: after.data - before.data,
    })
}

/// Sends a little until messages come through in both directions.
fn wait_for_traffic(mut running: Option<&mut Running>, load: &Options) -> Result<()> {
    let trial = Options {
        window: 8,
        seconds: 0.05,
        warm_up: 0.0,
        ..load.clone()
    };
    for _ in 0..ATTEMPTS {
        if let Some(running) = &mut running {
            running.check()?;
        }
        if load::run(&trial, || Ok(()))?.messages.received_by_callers > 0 {
            return Ok(());
        }
    }
    let last_words = running.map_or_else(String::new, |one| one.last_words());
    bail!("it carried no traffic{last_words}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of measurements with this steal, and how many were taken.
    fn kept(steal: &[f64]) -> (f64, usize) {
        let with_rate: Vec<_> = steal.iter().map(|&steal| (steal, 5.0)).collect();
        let (sample, taken) = kept_of(&with_rate);
        (sample.steal_percent, taken)
    }

    /// The same of such with this steal and rate, in closed loops where half of what is
    /// sent is lost below a rate of 5.
    fn kept_of(samples: &[(f64, f64)]) -> (Sample, usize) {
        let mut taken = 0;
        let sample = least_disturbed(|| {
            let (steal_percent, rate) = samples[taken];
            taken += 1;
            Ok(Sample {
                steal_percent,
                rate,
                loss_percent: if rate < 5.0 { 50.0 } else { 0.0 },
                ..Sample::default()
            })
        });
        (sample.expect("a sample"), taken)
    }

    #[test]
    fn a_measurement_in_which_nothing_or_little_came_is_repeated() {
        let rate = |samples: &[_]| {
            let (sample, taken) = kept_of(samples);
            (sample.rate, taken)
        };
        assert_eq!(rate(&[(0.0, 0.0), (0.0, 7.0)]), (7.0, 2));
        assert_eq!(rate(&[(0.0, 1.0), (0.0, 7.0)]), (7.0, 2));
        assert_eq!(rate(&[(0.0, 0.0), (9.0, 7.0), (0.0, 0.0)]), (7.0, 3));
        assert_eq!(rate(&[(0.0, 0.0), (0.0, 0.0), (0.0, 0.0)]), (0.0, 3));
    }

    #[test]
    fn a_disturbed_measurement_is_repeated_up_to_twice_and_the_best_kept() {
        assert_eq!(kept(&[1.0]), (1.0, 1));
        assert_eq!(kept(&[22.0, 0.5]), (0.5, 2));
        assert_eq!(kept(&[9.0, 3.0, 5.0]), (3.0, 3));
    }
}
