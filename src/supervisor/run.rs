//! The supervisor's own loop: one order after another, until the end.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use tracing::{error, info, warn};

use super::ending::Ending;
use super::health::{Idle, Watch};
use super::inheritance::Inheritance;
use super::losses::Losses;
use super::names::Names;
use super::notify::notify;
use super::signals::Ear;
use super::{Instance, StartError, load_secret, sockets};
use crate::config::text::printable;
use crate::config::{Config, Diagnostic, Health, Loaded, LogLevel};
use crate::control::{self, Answer, Change, Command, Done, Order, Refusal, Reload, View};
use crate::health::Report;

/// How often it looks at what nobody tells it.
const TICK: Duration = Duration::from_millis(200);
/// How long systemd's watchdog bears that an order takes, or a start after an
/// upgrade. Who gets which slot of a set of thousands takes many seconds to work
/// out.
const SILENCE: Duration = Duration::from_secs(300);

/// Something that ends the run.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What the program around it does for it.
pub struct Surroundings<'a> {
    /// Loads the configuration anew.
    pub load_again: &'a dyn Fn() -> Loaded,
    /// Logs what there is to say of a configuration.
    pub say: &'a dyn Fn(&[Diagnostic]),
    /// Has the log say more or less.
    pub set_level: &'a dyn Fn(LogLevel),
    /// Waits until all of the log has been read, but not for long.
    pub flush_log: &'a dyn Fn(),
}

/// Runs by `config`, of which there are these `warnings`, until SIGTERM or SIGINT.
/// SIGUSR1 prints the counters, SIGHUP takes the configuration as it is loaded
/// again, unless that has errors, SIGUSR2 executes the program anew. Signals are
/// [held](super::hold_signals).
///
/// # Errors
/// What kept it from starting, or ended a worker.
pub fn run(
    config: Config,
    warnings: &[Diagnostic],
    around: Surroundings<'_>,
) -> Result<(), Failure> {
    let mut inheritance = Inheritance::take();
    (around.say)(warnings);
    // While calls wait in inherited sockets, nothing waits for names.
    let is_start = inheritance.upgrades == 0;
    if is_start {
        sockets::may_open_files(&config, |most| format!("ulimit -n {most}"))?;
    }
    let secret_file = config.secret_file.as_deref();
    let secret = load_secret(secret_file, inheritance.secret()?);
    let (secret, kept) = secret.map_err(StartError::Secret)?;
    let (orders, received) = mpsc::channel();
    let ear = Ear::start(orders.clone()).map_err(StartError::or_thread(Failure::from))?;
    let mut names = Names::new(orders.clone());
    if is_start {
        let overlay = &mut inheritance.overlay;
        names.follow(&config, overlay)?;
        while names.wait(&config, overlay).is_some() {}
    }
    let counted = std::mem::take(&mut inheritance.counters);
    let instance = Instance::take_over(config, secret, inheritance);
    say_counters(&counted);
    let mut instance = instance?;
    if !is_start {
        if let Err(error) = names.follow(&instance.asked, &instance.overlay) {
            // Calls go on already.
            error!("{error}");
        }
        let mut has_changed = false;
        while let Some(news) = names.wait(&instance.asked, &mut instance.overlay) {
            has_changed |= news.changed;
        }
        if has_changed {
            instance.adopt();
        }
    }
    instance.tell_full_sets(&[]);
    say_lines(&instance.start_facts().join("\n"));
    say_lines(&kept);
    let found = orders.clone();
    // Nobody works through them any more at the end.
    let watch = Watch::start(move || drop(found.send(Order::Health)));
    let watch = watch.map_err(StartError::or_thread(Failure::from))?;
    watch.follow(&instance);
    let view = Arc::new(instance.view(watch.prober(), Arc::clone(&names.unresolved)));
    let control = match control::start(&instance.config.admin, Arc::clone(&view), orders.clone()) {
        Err(error) if is_start => return Err(StartError::or_thread(Failure::from)(error)),
        Err(error) => {
            // Calls go on already.
            error!("there is no admin API until the next upgrade (SIGUSR2): {error}");
            None
        }
        Ok(control) => control,
    };
    if let Some(control) = &control {
        info!("admin: {control}");
    }
    let losses = Losses::after(&instance.totals());
    let mut supervisor = Supervisor {
        has_admin: control.is_some(),
        idle: Vec::new(),
        view,
        instance,
        received,
        waiting: VecDeque::new(),
        names,
        watch,
        losses,
        around,
        orders,
        ear: Some(ear),
        ending: None,
    };
    supervisor.tell_idle_sets();
    supervisor.view.ready.store(true, Ordering::Relaxed);
    info!("ready: SIGTERM ends, SIGHUP reloads, SIGUSR1 prints counters, SIGUSR2 upgrades");
    notify(&[NotifyState::Ready]);
    bear_silence(Duration::ZERO);
    supervisor.work()?;
    say_counters(&supervisor.instance.stop()?.lines());
    Ok(())
}

pub(super) struct Supervisor<'a> {
    pub(super) instance: Instance,
    pub(super) received: Receiver<Order>,
    /// What has been received and not been obeyed.
    pub(super) waiting: VecDeque<Order>,
    names: Names,
    view: Arc<View>,
    watch: Watch,
    losses: Losses,
    /// Whether it has an admin API.
    pub(super) has_admin: bool,
    /// The sets that are known to be idle.
    idle: Vec<(String, Idle)>,
    pub(super) around: Surroundings<'a>,
    pub(super) orders: Sender<Order>,
    pub(super) ear: Option<Ear>,
    /// Once it is to end.
    pub(super) ending: Option<Ending>,
}

impl Supervisor<'_> {
    /// Does what comes until it is to end.
    fn work(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        let mut looked = started;
        loop {
            let order = self.next_order();
            let is_at_work = order.is_ok();
            if is_at_work {
                bear_silence(SILENCE);
            }
            match order {
                Ok(Order::Signal(SIGUSR1)) => say_counters(&self.instance.totals().lines()),
                Ok(Order::Signal(SIGHUP)) => {
                    let _ = self.reload(false);
                }
                Ok(Order::Signal(SIGUSR2)) => self.upgrade(None)?,
                Ok(Order::Signal(_)) if self.ending.is_none() => self.begin_to_end()?,
                Ok(Order::Signal(_)) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Order::Command {
                    command,
                    by,
                    answer,
                }) => self.obey(command, &by, answer)?,
                Ok(Order::Names) => self.note_names(),
                Ok(Order::Health) => self.note_health(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if is_at_work {
                bear_silence(Duration::ZERO);
            }
            let ending = self.ending.as_ref();
            if ending.is_some_and(|ending| ending.is_over(&self.instance)) {
                return Ok(());
            }
            if looked.elapsed() < TICK {
                continue;
            }
            looked = Instant::now();
            let totals = self.instance.totals();
            self.watch.look(&totals.destinations);
            self.losses.say(started.elapsed(), &totals);
            self.instance.forget_former();
            if self.instance.has_lost_a_worker() {
                error!("a worker has ended");
                return Ok(());
            }
            if let Some(worker) = self.instance.hanging_worker()? {
                error!("worker {worker} hangs: the process aborts, to be started anew");
                (self.around.flush_log)();
                std::process::abort();
            }
            notify(&[NotifyState::Watchdog]);
        }
    }

    /// The next one, if there is one soon.
    fn next_order(&mut self) -> Result<Order, RecvTimeoutError> {
        match self.waiting.pop_front() {
            Some(order) => Ok(order),
            None => self.received.recv_timeout(TICK),
        }
    }

    /// From now on it takes no new work but what comes all the same.
    fn begin_to_end(&mut self) -> io::Result<()> {
        self.view.ready.store(false, Ordering::Relaxed);
        notify(&[NotifyState::Stopping]);
        self.ending = Some(Ending::begin(&self.instance)?);
        Ok(())
    }

    /// Does what `by` asks, tells of it, and answers.
    fn obey(&mut self, command: Command, by: &str, answer: Answer) -> Result<(), Failure> {
        let done = match command {
            Command::Change(change) => self.change(&change, by),
            Command::Reload {
                dry_run: true,
                forget_changes,
            } => self.preview(forget_changes),
            Command::Reload { forget_changes, .. } => {
                info!("asked by {by}: reload");
                self.reload(forget_changes)
            }
            Command::LogLevel(level) => {
                self.instance.overlay.log_level = Some(level);
                self.instance.adopt();
                (self.around.set_level)(level);
                let said = format!("log level {level:?}").to_lowercase();
                info!("asked by {by}: {said}");
                Ok(Done {
                    said,
                    generation: self.instance.proxy().generation(),
                    ..Done::default()
                })
            }
            Command::Upgrade => {
                info!("asked by {by}: upgrade");
                return self.upgrade(Some(answer));
            }
        };
        // Whoever asked may have gone.
        let _ = answer.send(done);
        Ok(())
    }

    fn change(&mut self, change: &Change, by: &str) -> Result<Done, Refusal> {
        let done = self.instance.change(change);
        match &done {
            Ok(done) => info!("asked by {by}: {}", printable(&done.said)),
            // It may hold what was asked: a line end in that is not to begin
            // a line of the log.
            Err(refusal) => {
                let said = printable(&refusal.to_string());
                warn!("asked by {by}: refused: {said}");
            }
        }
        self.tell_idle_sets();
        self.follow();
        done
    }

    /// Probes what there is now. What was found of what has gone is left out at
    /// once: later it would be taken for news of what has come in its place.
    fn follow(&mut self) {
        self.watch.follow(&self.instance);
        self.note_health();
    }

    /// Takes in what health checks have found.
    pub(super) fn note_health(&mut self) {
        let found = self.watch.found();
        if found.is_empty() {
            return;
        }
        for report in self.instance.learn(found) {
            let Report {
                set,
                address,
                health,
                cause,
            } = report;
            match health {
                Health::Down => warn!("set {set}: {address} is down: {cause}"),
                Health::Warming(share) => info!("set {set}: {address} comes back: {share} %"),
                Health::Up => info!("set {set}: {address} is up: {cause}"),
            }
        }
        self.tell_idle_sets();
    }

    /// Takes in what names stand for.
    pub(super) fn note_names(&mut self) {
        let instance = &mut self.instance;
        let news = (self.names).take(&instance.config, &mut instance.overlay);
        if news.changed {
            instance.overlay.forget_away(&instance.asked);
            instance.adopt();
            self.follow();
        }
        news.say();
        self.tell_idle_sets();
    }

    /// The alarm where a set has become idle, and its end.
    fn tell_idle_sets(&mut self) {
        self.idle = self.instance.tell_idle_sets(&self.idle);
    }

    /// What a reload would do.
    fn preview(&self, forget_changes: bool) -> Result<Done, Refusal> {
        let (config, warnings) = without_errors((self.around.load_again)())?;
        let done = self.instance.preview(&config, forget_changes)?;
        Ok(Done { warnings, ..done })
    }

    /// Reloads, and tells what came of it.
    fn reload(&mut self, forget_changes: bool) -> Result<Done, Refusal> {
        if self.ending.is_some() {
            let refusal = Refusal::Conflict("reload refused: it is about to end".to_owned());
            error!("{refusal}");
            return Err(refusal);
        }
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            notify(&[NotifyState::Reloading, now]);
        }
        let loaded = (self.around.load_again)();
        (self.around.say)(&loaded.diagnostics);
        let done = without_errors(loaded).and_then(|(config, warnings)| {
            let mut done = self.take_config(config, forget_changes)?;
            done.warnings.extend(warnings);
            Ok(done)
        });
        self.follow();
        let said = match &done {
            Ok(done) => {
                info!("{}", done.said);
                done.said.clone()
            }
            Err(refusal) => {
                error!("{refusal}");
                refusal.cause()
            }
        };
        self.tell_idle_sets();
        let now = SystemTime::now();
        let before = self.view.reload.load();
        let before = before.as_ref().map_or(self.view.started, |last| last.taken);
        self.view.reload.store(Some(Arc::new(Reload {
            successful: done.is_ok(),
            said,
            at: now,
            taken: if done.is_ok() { now } else { before },
        })));
        notify(&[NotifyState::Ready]);
        done
    }

    /// Takes a configuration, once what is new among its names is resolved.
    fn take_config(&mut self, config: Config, forget_changes: bool) -> Result<Done, Refusal> {
        // What is refused has no names looked up, nor by other name servers.
        self.instance.takes(&config)?;
        let followed = self.names.follow(&config, &self.instance.overlay);
        followed.map_err(|error| Refusal::Conflict(format!("reload refused: {error}")))?;
        loop {
            let overlay = &mut self.instance.overlay;
            if self.names.wait(&config, overlay).is_none() {
                break;
            }
            // Nobody else does, and some names take seconds.
            self.note_health();
        }
        let done = self.instance.reload(config, forget_changes)?;
        (self.around.set_level)(self.instance.config.log.level);
        Ok(done)
    }
}

/// A configuration to take, and what there is to say of it.
fn without_errors(loaded: Loaded) -> Result<(Config, Vec<Diagnostic>), Refusal> {
    let Loaded {
        config,
        diagnostics,
    } = loaded;
    match config {
        Some(config) => Ok((config, diagnostics)),
        None => Err(Refusal::Configuration("reload", diagnostics)),
    }
}

/// Has systemd's watchdog bear a silence of this time, where there is one, and of
/// as long as its unit says in any case.
fn bear_silence(time: Duration) {
    if let Some(usual) = sd_notify::watchdog_enabled()
        && let Ok(time) = u32::try_from(time.max(usual).as_micros())
    {
        notify(&[NotifyState::WatchdogUsec(time)]);
    }
}

/// Each line by itself, those with a warning as such.
fn say_lines(text: &str) {
    for line in text.lines() {
        match line.strip_prefix("warning: ") {
            Some(warning) => warn!("{warning}"),
            None => info!("{line}"),
        }
    }
}

fn say_counters(counters: &[(String, u64)]) {
    for (name, value) in counters {
        info!("counter {name} {value}");
    }
}
