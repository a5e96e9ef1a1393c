//! The operator, who does in a row all that is done to a farm that carries
//! calls. What it comes to is told by times, which the calls are held against.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::process::Signal;
use serde::Serialize;

use super::bad;
use super::ctl::{Ctl, Metrics};
use crate::balancer::{Balancer, Destination, Program, State};
use crate::farm::Farm;
use crate::ports::free_ports;
use crate::process::Usage;

/// Destinations at the start, and with the two that join later.
const FIRST: usize = 4;
const ALL: usize = FIRST + 2;

/// What happens to which.
const DRAINED: usize = 0;
const REWEIGHTED: usize = 2;
const KILLED: usize = 3;
const IN_FILE: usize = 4;
const ADDED: usize = 5;

/// Reloads one after the other.
const BURST: u32 = 20;

/// How long a destination has to have heard nothing before it is taken away:
/// for longer than a call is held.
const QUIET: &str = "3s";

/// Bad packets that are looked at.
pub(super) const SHOWN: usize = 10;

/// How long whatever is waited for may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// The shortest time in which shares of calls are counted.
const COUNTED: Duration = Duration::from_secs(5);

const PROGRAM: Program = Program::Viaduct {
    settings: "record-route = \"on\"\nstateful = [\"INVITE\"]\nfailover-after = \"1s\"\n\
               [admin]\nsocket = \"admin.sock\"\n",
};

/// What the callers have to know at once.
#[derive(Debug)]
pub(super) enum Told {
    Step(String),
    /// This destination is dead, and its calls with it.
    Killed(SocketAddrV4),
    Back,
}

/// Something that the operator does.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    /// In ns since the beginning, as all times.
    pub(super) at: u64,
    pub(super) what: String,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Story {
    pub(super) steps: Vec<Step>,
    pub(super) farm: Vec<SocketAddrV4>,
    /// From when on which destination was to have no new call, and until when.
    pub(super) closed: Vec<(SocketAddrV4, Range<u64>)>,
    pub(super) killed: Option<SocketAddrV4>,
    /// From its death until it was started again.
    pub(super) dead: Range<u64>,
    /// When the probes had found it dead.
    pub(super) noticed: u64,
    /// While it took a growing share, and behind that, up to the next change.
    pub(super) warming: Range<u64>,
    pub(super) settled: Range<u64>,
    /// The weights meanwhile.
    pub(super) weights: Vec<u32>,
    pub(super) upgrades: u32,
    /// Those after which it was another process.
    pub(super) other_process: u32,
    /// What was said to the file with an error.
    pub(super) refusal: String,
    /// Whether that file changed nothing, nor the dry run.
    pub(super) unchanged: bool,
    pub(super) reloads_in_burst: u32,
    pub(super) bad: BadPackets,
    pub(super) before: Metrics,
    pub(super) after: Metrics,
    /// What was said at the end of the programs before the last.
    #[serde(skip)]
    pub(super) log: String,
}

/// What came of packets that go no further.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct BadPackets {
    pub(super) sent: u64,
    /// Those that `ctl bad-packets` showed.
    pub(super) shown: usize,
    /// By reason, how many more or fewer were counted than sent.
    pub(super) miscounted: Vec<(&'static str, f64)>,
    /// Lines of the log that came meanwhile.
    pub(super) lines: usize,
}

pub(super) struct Operator {
    /// What all times count from.
    pub(super) begin: Instant,
    listen: SocketAddrV4,
    rest: Duration,
    tell: Sender<Told>,
    farm: Farm,
    set: Vec<Destination>,
    balancer: Balancer,
    ctl: Ctl,
    pub(super) story: Story,
}

impl Operator {
    /// Starts the farm and Viaduct, on `listen`.
    ///
    /// # Errors
    /// Something does not start.
    pub(super) fn new(
        listen: SocketAddrV4,
        folder: &Path,
        rest: Duration,
        tell: Sender<Told>,
    ) -> Result<Self> {
        let [port] = free_ports(Ipv4Addr::UNSPECIFIED.into());
        let farm = Farm::start(ALL, port, folder)?;
        let mut set: Vec<_> = farm.addresses().into_iter().map(Destination::new).collect();
        for one in &mut set[FIRST..] {
            one.state = State::Out;
        }
        let balancer = Balancer::start(PROGRAM, listen, &[listen], &set, folder)?;
        let ctl = Ctl::new(&balancer.folder().join("admin.sock"))?;
        let story = Story {
            farm: farm.addresses(),
            before: ctl.metrics()?,
            ..Story::default()
        };
        Ok(Self {
            begin: Instant::now(),
            listen,
            rest,
            tell,
            farm,
            set,
            balancer,
            ctl,
            story,
        })
    }

    /// What Viaduct took until now.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn usage(&mut self) -> Result<Usage> {
        self.balancer.usage()
    }

    /// What Viaduct said last.
    pub(super) fn last_words(&mut self) -> String {
        self.balancer.first().last_words()
    }

    /// Does it all.
    ///
    /// # Errors
    /// A command fails that must not, or does not what it should in time.
    pub(super) fn work(&mut self) -> Result<()> {
        self.step("calls begin")?;
        self.rest();
        self.drain()?;
        self.upgrade("ctl upgrade", |operator| {
            operator.ctl.run(&["upgrade"]).map(drop)
        })?;
        self.upgrade("SIGUSR2", |operator| {
            Ok(operator.balancer.first().signal(Signal::USR2)?)
        })?;
        self.reload()?;
        self.bad_packets()?;
        self.kill()?;
        self.add()?;
        self.burst()?;
        self.step("log level debug, and back")?;
        self.ctl.run(&["log-level", "debug"])?;
        self.ctl.run(&["log-level", "info"])?;
        self.rest();
        self.step("no new calls")
    }

    /// The end, when no call is left.
    ///
    /// # Errors
    /// The metrics are not to be had.
    pub(super) fn look_back(&mut self) -> Result<()> {
        self.farm.check()?;
        self.story.after = self.ctl.metrics()?;
        self.story.log = self.balancer.first().log();
        Ok(())
    }

    fn drain(&mut self) -> Result<()> {
        let (address, name) = self.destination(DRAINED);
        self.step("drain .1, until no call is left")?;
        self.ctl.run(&["drain", &name])?;
        let from = self.now();
        self.ctl.run(&["drain", &name, "--wait", QUIET])?;
        self.step("take .1 away")?;
        self.farm.end(DRAINED);
        self.until("it is down", |metrics| {
            metrics.value(&up(&name)) == Some(0.0)
        })?;
        self.rest();
        self.step("bring .1 back")?;
        self.farm.bring_back(DRAINED)?;
        self.until("it is up", |metrics| metrics.value(&up(&name)) == Some(1.0))?;
        self.story.closed.push((address, from..self.now()));
        self.ctl.run(&["state", &name, "active"])?;
        self.rest();
        Ok(())
    }

    fn upgrade(&mut self, name: &str, ask: impl Fn(&mut Self) -> Result<()>) -> Result<()> {
        self.step(&format!("upgrade by {name}"))?;
        let started = |metrics: &Metrics| metrics.value("viaduct_start_time_seconds");
        let before = started(&self.ctl.metrics()?);
        ask(self)?;
        self.until("another program is ready", |metrics| {
            started(metrics) != before && metrics.value("viaduct_ready") == Some(1.0)
        })?;
        self.story.upgrades += 1;
        let process = self.balancer.first().id();
        let status = self.ctl.run(&["stats", "--json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let same = status["pid"].as_u64() == Some(process.into());
        self.story.other_process += u32::from(!same);
        self.rest();
        Ok(())
    }

    fn reload(&mut self) -> Result<()> {
        self.step("reload with an error")?;
        let newcomer = up(&self.destination(IN_FILE).1);
        let is_new = |metrics: &Metrics| metrics.value(&newcomer).is_some();
        self.set[IN_FILE].state = State::Active;
        self.set[REWEIGHTED].weight = 0;
        self.balancer.write(&self.set)?;
        self.story.refusal = self.ctl.refused(&["reload"])?;
        let after_refusal = is_new(&self.ctl.metrics()?);
        self.rest();
        self.step("reload, a dry run")?;
        self.set[REWEIGHTED].weight = 2;
        self.balancer.write(&self.set)?;
        self.ctl.run(&["reload", "--dry-run"])?;
        self.story.unchanged = !after_refusal && !is_new(&self.ctl.metrics()?);
        self.rest();
        self.step("reload: .3 with weight 2, .5 is new")?;
        self.ctl.run(&["reload"])?;
        self.until("the new destination is there", is_new)?;
        self.rest();
        Ok(())
    }

    fn bad_packets(&mut self) -> Result<()> {
        self.step("bad packets")?;
        let (before, said) = (self.ctl.metrics()?, self.balancer.first().said(""));
        let words = ["bad-packets", "--count", &SHOWN.to_string()];
        let (rounds, printed) = bad::send(self.listen, self.ctl.start(&words)?)?;
        self.rest();
        let after = self.ctl.metrics()?;
        let reasons = bad::reasons();
        let miscounted = reasons.map(|reason| {
            let sample = format!("viaduct_dropped_total{{reason=\"{reason}\"}}");
            let counted = |metrics: &Metrics| metrics.value(&sample).unwrap_or(0.0);
            (reason, counted(&after) - counted(&before) - rounds as f64)
        });
        self.story.bad = BadPackets {
            sent: rounds * reasons.len() as u64,
            shown: bad::shown(&printed),
            miscounted: miscounted.into(),
            lines: self.balancer.first().said("") - said,
        };
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let (address, name) = self.destination(KILLED);
        self.step("kill -9 .4")?;
        self.story.killed = Some(address);
        self.story.dead.start = self.now();
        self.farm.kill(KILLED)?;
        self.tell(Told::Killed(address))?;
        self.until("it is down", |metrics| {
            metrics.value(&up(&name)) == Some(0.0)
        })?;
        self.story.noticed = self.now();
        self.rest();
        self.step("start .4 again")?;
        self.story.dead.end = self.now();
        self.tell(Told::Back)?;
        self.farm.bring_back(KILLED)?;
        self.until("it is up", |metrics| metrics.value(&up(&name)) == Some(1.0))?;
        self.story.warming.start = self.now();
        let weight = sample("weight", &name);
        let whole = f64::from(self.set[KILLED].weight);
        self.until("it has its whole weight", |metrics| {
            metrics.value(&weight) == Some(whole)
        })?;
        self.story.warming.end = self.now();
        sleep(self.rest.max(COUNTED));
        self.story.settled = self.story.warming.end..self.now();
        let active = self.set.iter().filter(|one| one.state == State::Active);
        self.story.weights = active.map(|one| one.weight).collect();
        Ok(())
    }

    fn add(&mut self) -> Result<()> {
        let (address, name) = self.destination(ADDED);
        self.step("add .6")?;
        self.ctl.run(&["add", "farm", &format!("sip:{name}")])?;
        self.rest();
        self.step(".6 with weight 3")?;
        self.ctl.run(&["weight", &name, "3"])?;
        self.rest();
        self.step("drain .6")?;
        self.ctl.run(&["drain", &name])?;
        let from = self.now();
        self.ctl.run(&["drain", &name, "--wait", QUIET])?;
        self.step("remove .6")?;
        self.ctl.run(&["remove", &name])?;
        self.story.closed.push((address, from..u64::MAX));
        self.rest();
        Ok(())
    }

    fn burst(&mut self) -> Result<()> {
        self.step(&format!("{BURST} reloads in a row"))?;
        for number in 0..BURST {
            self.set[REWEIGHTED].weight = 1 + number % 2;
            self.balancer.write(&self.set)?;
            self.ctl.run(&["reload"])?;
            self.story.reloads_in_burst += 1;
        }
        self.rest();
        Ok(())
    }

    /// The address of destination `number`, and its name in commands.
    fn destination(&self, number: usize) -> (SocketAddrV4, String) {
        let address = self.set[number].address;
        (address, address.to_string())
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_nanos() as u64
    }

    fn step(&mut self, what: &str) -> Result<()> {
        let what = what.to_owned();
        self.story.steps.push(Step {
            at: self.now(),
            what: what.clone(),
        });
        self.tell(Told::Step(what))
    }

    fn tell(&self, what: Told) -> Result<()> {
        self.tell
            .send(what)
            .map_err(|_| anyhow!("the calls have ended"))
    }

    fn rest(&self) {
        sleep(self.rest);
    }

    /// Waits until the metrics show it.
    fn until(&mut self, what: &str, holds: impl Fn(&Metrics) -> bool) -> Result<()> {
        let begin = Instant::now();
        loop {
            let metrics = self.ctl.metrics();
            if metrics.as_ref().is_ok_and(&holds) {
                return Ok(());
            }
            self.farm.check()?;
            self.balancer.first().check()?;
            if begin.elapsed() > PATIENCE {
                // Nobody answers for the moment that an upgrade takes.
                metrics.with_context(|| format!("no metrics, so not to be seen: {what}"))?;
                ensure!(false, "{what}: not so after {PATIENCE:?}");
            }
            sleep(LOOK);
        }
    }
}

fn up(name: &str) -> String {
    sample("up", name)
}

/// What the metrics call this of a destination.
fn sample(what: &str, name: &str) -> String {
    format!("viaduct_destination_{what}{{set=\"farm\",destination=\"{name}\"}}")
}
