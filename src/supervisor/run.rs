//! The supervisor's own loop: one order after another, until the end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::{Instance, StartError, load};
use crate::config::{Config, Diagnostic, Loaded, LogLevel};
use crate::control::{self, Change, Done, Order, Refusal, Reload, View};
use crate::worker::Totals;

/// How often it looks at what nobody tells it.
const TICK: Duration = Duration::from_millis(200);

/// Something that ends the run.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs until SIGTERM or SIGINT. SIGUSR1 prints the counters, SIGHUP takes the
/// configuration that `load_again` gives, unless that has errors. `set_level`
/// has the log say more or less.
///
/// # Errors
/// What kept it from starting, or ended a worker.
pub fn run(
    config: Config,
    load_again: &dyn Fn() -> Loaded,
    set_level: &dyn Fn(LogLevel),
) -> Result<(), Failure> {
    // Before anything else, so that no signal finds its default action.
    let signals = Signals::new([SIGTERM, SIGINT, SIGUSR1, SIGHUP])?;
    let (secret, kept) = load(config.secret_file.as_deref()).map_err(StartError::Secret)?;
    let instance = Instance::start(config, secret)?;
    let mut facts = Vec::new();
    instance.write_facts(&mut facts)?;
    say_lines(&String::from_utf8_lossy(&facts));
    say_lines(&kept.to_string());
    let (orders, received) = mpsc::channel();
    hear_signals(signals, orders.clone());
    let view = instance.view();
    let control = control::start(&instance.config.admin, view.clone(), orders)?;
    if let Some(control) = &control {
        info!("admin: {control}");
    }
    let mut supervisor = Supervisor {
        view,
        instance,
        load_again,
        set_level,
    };
    supervisor.view.ready.store(true, Ordering::Relaxed);
    info!("ready: SIGTERM ends, SIGHUP reloads, SIGUSR1 prints counters");
    notify(&[NotifyState::Ready]);
    supervisor.work(&received)?;
    supervisor.view.ready.store(false, Ordering::Relaxed);
    notify(&[NotifyState::Stopping]);
    say_counters(&supervisor.instance.stop()?);
    Ok(())
}

/// A thread waits for signals, for only a channel can be waited for in time.
fn hear_signals(mut signals: Signals, orders: Sender<Order>) {
    std::thread::spawn(move || {
        let mut signals = signals.forever().map(Order::Signal);
        signals.try_for_each(|order| orders.send(order))
    });
}

struct Supervisor<'a> {
    instance: Instance,
    view: View,
    load_again: &'a dyn Fn() -> Loaded,
    set_level: &'a dyn Fn(LogLevel),
}

impl Supervisor<'_> {
    /// Does what comes until it is to end.
    fn work(&mut self, orders: &mpsc::Receiver<Order>) -> Result<(), Failure> {
        loop {
            match orders.recv_timeout(TICK) {
                Ok(Order::Signal(SIGUSR1)) => say_counters(&self.instance.totals()),
                Ok(Order::Signal(SIGHUP)) => {
                    let _ = self.reload(false);
                }
                Ok(Order::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Order::Change { change, by, answer }) => {
                    // Whoever asked may have gone.
                    let _ = answer.send(self.change(&change, &by));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.instance.forget_former();
            if self.instance.has_lost_a_worker() {
                error!("a worker has ended");
                return Ok(());
            }
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// Does what `by` asks, and tells of it.
    fn change(&mut self, change: &Change, by: &str) -> Result<Done, Refusal> {
        let done = match *change {
            Change::Reload {
                dry_run: true,
                forget_changes,
            } => return self.preview(forget_changes),
            Change::Reload { forget_changes, .. } => {
                info!("asked by {by}: reload");
                return self.reload(forget_changes);
            }
            Change::LogLevel(level) => {
                (self.set_level)(level);
                Ok(Done {
                    said: format!("log level {level:?}").to_lowercase(),
                    generation: self.instance.proxy().generation(),
                    ..Done::default()
                })
            }
            ref change => self.instance.change(change),
        };
        match &done {
            Ok(done) => info!("asked by {by}: {}", done.said),
            Err(refusal) => warn!("asked by {by}: refused: {refusal}"),
        }
        done
    }

    /// The configuration as it is written now, and what there is to say of it.
    fn read(&self) -> Result<(Config, Vec<Diagnostic>), Refusal> {
        let Loaded {
            config,
            diagnostics,
        } = (self.load_again)();
        match config {
            Some(config) => Ok((config, diagnostics)),
            None => Err(Refusal::Configuration(diagnostics)),
        }
    }

    /// What a reload would do.
    fn preview(&self, forget_changes: bool) -> Result<Done, Refusal> {
        let (config, warnings) = self.read()?;
        let done = self.instance.preview(&config, forget_changes)?;
        Ok(Done { warnings, ..done })
    }

    /// Reloads, and tells what came of it.
    fn reload(&mut self, forget_changes: bool) -> Result<Done, Refusal> {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let done = self.read().and_then(|(config, warnings)| {
            let done = self.instance.reload(config, forget_changes)?;
            Ok(Done { warnings, ..done })
        });
        let said = match &done {
            Ok(done) => {
                info!("{}", done.said);
                done.said.clone()
            }
            Err(refusal) => {
                say_lines_as_errors(&refusal.to_string());
                refusal.to_string()
            }
        };
        self.view.reload.store(Some(Arc::new(Reload {
            successful: done.is_ok(),
            said,
            at: SystemTime::now(),
        })));
        notify(&[NotifyState::Ready]);
        done
    }
}

/// Tells systemd; where there is none, there is nobody to tell.
fn notify(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}

/// Each line by itself, those with a warning as such.
fn say_lines(text: &str) {
    for line in text.lines() {
        match line.trim_start().strip_prefix("warning: ") {
            Some(warning) => warn!("{warning}"),
            None => info!("{line}"),
        }
    }
}

fn say_lines_as_errors(text: &str) {
    for line in text.lines() {
        error!("{line}");
    }
}

fn say_counters(totals: &Totals) {
    for (name, value) in totals.lines() {
        info!("counter {name} {value}");
    }
}
