//! Bare forwarders, Kamailio and Viaduct side by side in one run.
//!
//! Each in turn gets a core of its own while the generator has the other, in
//! several rounds with a changing order. A figure comes from the kernel's
//! accounting of the process or from messages counted where they arrived.

mod contender;
mod measure;
mod network;
mod page;
mod part;
mod plot;
mod summary;
mod target;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};

use crate::document::Machine;
use crate::pin;
use crate::running::chosen;
use contender::{Contender, Cores, Program};
use measure::Bench;
use page::Document;
use part::{Axis, Part};
use summary::{CPU, Cell, Disturbed, P99, RATE, Results};

/// What to compare and for how long.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Vary this instead of measuring the headline; may be given again
    #[arg(long, value_enum, value_delimiter = ',', value_name = "AXIS")]
    axis: Vec<Axis>,
    /// Vary everything in turn
    #[arg(long, conflicts_with = "axis")]
    axes: bool,
    /// Measure headline and every axis, write page, data and plots to this folder, and the figures into the README beside it
    #[arg(long, value_name = "DIR", conflicts_with_all = ["axis", "axes", "only"])]
    publish: Option<PathBuf>,
    /// Rounds; each measures every contender once [default: 7 for headline and stateful, 1 for sustained, else 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Time of each load, but for sustained and memory, which have their own
    #[arg(long, default_value_t = 1.0, value_name = "S")]
    seconds: f64,
    /// One round of very short loads: whether everything works
    #[arg(long, conflicts_with_all = ["rounds", "seconds", "publish"])]
    quick: bool,
    /// Contenders, by default all
    #[arg(long, value_delimiter = ',', value_name = "NAME")]
    only: Vec<String>,
    /// Another Viaduct binary to compare; may be given again
    #[arg(long, value_name = "PATH")]
    viaduct: Vec<PathBuf>,
    /// Core of the contender
    #[arg(long, default_value_t = 1, value_name = "N")]
    core: usize,
    /// Core of the generator
    #[arg(long, default_value_t = 0, value_name = "N")]
    generator_core: usize,
    /// Folder for JSON, plots and logs
    #[arg(long, default_value = "target/compare", value_name = "DIR")]
    out: PathBuf,
}

impl Options {
    fn parts(&self) -> Vec<Part> {
        let every = || Axis::value_variants().iter().copied().map(part::axis);
        if self.publish.is_some() {
            std::iter::once(part::headline()).chain(every()).collect()
        } else if self.axes {
            every().collect()
        } else if self.quick && self.axis.is_empty() {
            vec![part::headline(), part::axis(Axis::Stateful)]
        } else if self.axis.is_empty() {
            vec![part::headline()]
        } else {
            self.axis.iter().copied().map(part::axis).collect()
        }
    }

    fn rounds(&self, part: &Part) -> u16 {
        let rounds = self.rounds.unwrap_or(part.rounds);
        if self.quick { 1 } else { rounds }
    }
}

/// Compares, prints the tables and writes data and plots.
///
/// # Errors
/// A program that is missing, does not start or carries no traffic; messages
/// that fail their checks; a folder that cannot be written.
pub(crate) fn run(options: &Options) -> Result<()> {
    ensure!(
        options.core != options.generator_core,
        "the contender and the generator each need a core of their own"
    );
    let cores = Cores {
        contender: options.core,
        generator: options.generator_core,
    };
    pin(&[cores.contender])?;
    pin(&[cores.generator])?;
    fs::create_dir_all(&options.out)
        .with_context(|| format!("cannot make {}", options.out.display()))?;
    let (seconds, warm_up) = if options.quick {
        (0.25, 0.05)
    } else {
        (options.seconds, 0.2)
    };
    let bench = Bench {
        cores,
        seconds,
        warm_up,
        quick: options.quick,
        out: &options.out,
    };
    let contenders = contenders(options)?;
    let mut parts = options.parts();
    parts.retain(|part| contenders.iter().any(|one| takes_part(one, part)));
    ensure!(
        !parts.is_empty(),
        "none of the contenders asked for is measured there"
    );
    let machine = machine(&contenders, &parts)?;
    let mut measured = Vec::new();
    for part in &parts {
        let results = measure(part, &contenders, options, &bench)?;
        println!("\n{}", results.text());
        measured.push(results);
    }
    let targets = target::all(&measured);
    let document = Document {
        machine: &machine,
        targets: &targets,
        parts: &measured,
    };
    for target in targets.iter().filter(|target| target.met.is_some()) {
        let lines = target::table(std::slice::from_ref(target));
        println!("{}", lines[1].join("  "));
    }
    let disturbed = Disturbed::new(&measured);
    if !disturbed.is_silent() {
        eprintln!("warning: {disturbed}; repeat on a quiet machine");
    }
    page::raw(&document, &options.out, "compare")?;
    match &options.publish {
        Some(folder) => page::publish(&document, folder),
        None => Ok(()),
    }
}

/// Measures every contender of `part` in every setup under every load, round
/// by round in a changing order.
fn measure(
    part: &Part,
    contenders: &[Contender],
    options: &Options,
    bench: &Bench<'_>,
) -> Result<Results> {
    let begin = Instant::now();
    let rounds = options.rounds(part);
    let taking_part: Vec<&Contender> = contenders
        .iter()
        .filter(|one| takes_part(one, part))
        .collect();
    let mut cells = Vec::new();
    for setup in &part.setups {
        for load in &part.loads {
            for contender in &taking_part {
                cells.push(Cell {
                    contender: contender.name.clone(),
                    setup: setup.label.clone(),
                    load: load.to_string(),
                    rounds: Vec::new(),
                });
            }
        }
    }
    for round in 0..rounds {
        for (setup_index, setup) in part.setups.iter().enumerate() {
            for turn in 0..taking_part.len() {
                let index = (turn + usize::from(round)) % taking_part.len();
                let contender = taking_part[index];
                eprint!(
                    "{:4.0} s  {} {}/{rounds}  {:<32} {:<18}",
                    begin.elapsed().as_secs_f64(),
                    part.name,
                    round + 1,
                    setup.label,
                    contender.name
                );
                let samples = bench.measure(contender, setup, &part.loads)?;
                for (load, sample) in samples.into_iter().enumerate() {
                    let at = (setup_index * part.loads.len() + load) * taking_part.len() + index;
                    if load == 0 {
                        eprintln!(
                            " {:8.0} messages/s  {:5.2} us CPU a message  p99 {:.0} us",
                            (RATE.of)(&sample),
                            (CPU.of)(&sample),
                            (P99.of)(&sample)
                        );
                    }
                    cells[at].rounds.push(sample);
                }
            }
        }
    }
    Ok(Results {
        name: part.name.to_owned(),
        title: part.title.to_owned(),
        rounds,
        seconds: bench.span(part.loads[0]).1,
        cells,
        columns: part.columns,
    })
}

/// The contenders asked for.
fn contenders(options: &Options) -> Result<Vec<Contender>> {
    let all = contender::all(&options.viaduct)?;
    let mut asked = options.only.clone();
    if !asked.is_empty() {
        // Other binaries are there because they were asked for.
        let others = all.iter().filter(|one| is_other(one));
        asked.extend(others.map(|one| one.name.clone()));
    }
    chosen(all, |one| &one.name, &asked)
}

/// Whether it is another Viaduct binary, given by path.
fn is_other(contender: &Contender) -> bool {
    let number = contender.name.strip_prefix("viaduct-");
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

fn takes_part(contender: &Contender, part: &Part) -> bool {
    part.contenders.contains(&contender.name.as_str()) || is_other(contender)
}

/// What the figures hold for; a missing program is noticed here, before
/// anything is measured.
fn machine(contenders: &[Contender], parts: &[Part]) -> Result<Machine> {
    let needed = contenders.iter().filter(|one| {
        !matches!(one.program, Program::Direct) && parts.iter().any(|part| takes_part(one, part))
    });
    let versions = needed.map(|one| Ok((one.name.clone(), one.version()?)));
    Ok(Machine::new(versions.collect::<Result<_>>()?))
}
