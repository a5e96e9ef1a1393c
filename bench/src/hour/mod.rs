//! An operator's hour in three minutes: destinations are drained, killed,
//! added and removed, Viaduct is reloaded and upgraded, and calls go on. What
//! came of it is held against limits, and the metrics against the calls.

mod bad;
mod ctl;
mod findings;
mod operator;
mod timeline;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Args;

use crate::balancer::{Program, machine};
use crate::document::{aligned, write};
use crate::farm::caller::Callers;
use crate::farm::{Player, play};
use crate::ports::free_ports;
use crate::running::fresh;
use crate::sip::SECOND;
use findings::{Document, Found};
use operator::{Operator, Told};

/// How much of it.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Calls a second; by default 500, or 200 if it is to be quick
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// One second of rest behind each step, not eight: less than a minute in all
    #[arg(long)]
    quick: bool,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Write the page hour.md and its drawing to this folder
    #[arg(long, value_name = "DIR", conflicts_with = "quick")]
    publish: Option<PathBuf>,
    /// Folder for configurations and logs
    #[arg(long, default_value = "target/hour", value_name = "DIR")]
    out: PathBuf,
}

/// Plays the hour, prints the table.
///
/// # Errors
/// A program that is missing or does not start; a step that does not come to
/// its end; a figure that falls short.
pub(crate) fn run(options: &Options) -> Result<()> {
    let (rate, rest) = match options.quick {
        true => (200, Duration::from_secs(1)),
        false => (500, Duration::from_secs(8)),
    };
    let rate = options.rate.unwrap_or(rate);
    let machine = machine(&[Program::Viaduct { settings: "" }])?;
    let folder = &options.out;
    fresh(folder)?;
    let found = hour(options, rate, rest)?;
    let document = Document::new(&machine, rate, &found);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&document)?);
    } else {
        println!("{}", aligned(&document.table()));
    }
    if let Some(folder) = &options.publish {
        write(folder, "hour.svg", &timeline::svg(&found)?)?;
        write(folder, "hour.md", &document.page())?;
    }
    let short = document.short();
    ensure!(short.is_empty(), "short of the limit: {}", short.join("; "));
    Ok(())
}

/// Plays calls in this thread, and the operator in another one.
fn hour(options: &Options, rate: u32, rest: Duration) -> Result<Found> {
    let [port] = free_ports(Ipv4Addr::UNSPECIFIED.into());
    let listen = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut callers = Callers::new(listen, |branch| branch.starts_with("z9hG4bKs"))?;
    let (tell, told) = mpsc::channel();
    let mut operator = Operator::new(listen, &options.out, rest, tell)?;
    let begin = operator.begin;
    let before = operator.usage()?;
    let worker = thread::spawn(move || {
        let done = operator.work();
        (operator, done)
    });
    play(&mut callers, rate, begin, |now, callers| {
        hear(&told, now, callers);
        Ok(!worker.is_finished())
    })?;
    let (mut operator, done) = worker.join().map_err(|_| anyhow!("the operator is gone"))?;
    done.with_context(|| format!("an odd hour{}", operator.last_words()))?;
    let time = begin.elapsed();
    let after = operator.usage()?;
    operator.look_back()?;
    Ok(Found {
        cpu_percent: 100.0 * (after.cpu - before.cpu) as f64 / time.as_nanos() as f64,
        figures: callers.figures(),
        records: callers.records(),
        story: operator.story,
    })
}

/// Takes in what the operator tells, and tells it on.
fn hear(told: &Receiver<Told>, now: u64, callers: &mut Callers) {
    for what in told.try_iter() {
        match what {
            Told::Killed(address) => callers.killed(address),
            Told::Back => callers.back(),
            Told::Step(what) => {
                let figures = callers.figures();
                eprintln!(
                    "{:>5.1} s  {what:<40} calls {:>6}  going on {:>5}  failed {}  cut {}",
                    now as f64 / SECOND as f64,
                    figures.calls,
                    callers.going_on(),
                    figures.failures(),
                    figures.cut(),
                );
            }
        }
    }
}
