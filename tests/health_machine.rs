//! What probes make of a destination, without sockets and with a clock of the
//! test's own: when it is down and up again, and that nothing makes it stick.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use viaduct::config::{Accept, Health, Probe};
use viaduct::health::Machine;

use support::transactions::chance::Chance;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// What is between a machine and its destination.
struct Lab {
    machine: Machine,
    probe: Probe,
    now: Duration,
    /// When probes were sent.
    sent: Vec<Duration>,
    /// What was published, and when.
    published: Vec<(Duration, Health)>,
}

/// How a destination takes a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    Answers(u16),
    Silent,
}

const ALIVE: Manner = Manner::Answers(200);

impl Lab {
    fn new(probe: Probe, known: Health) -> Self {
        Self {
            machine: Machine::new(Arc::new(probe.clone()), known, Duration::ZERO, 0.5),
            probe,
            now: Duration::ZERO,
            sent: Vec::new(),
            published: vec![(Duration::ZERO, known)],
        }
    }

    fn health(&self) -> Health {
        self.machine.health()
    }

    fn publish(&mut self) {
        let health = self.machine.health();
        if self
            .published
            .last()
            .is_none_or(|(_, last)| *last != health)
        {
            self.published.push((self.now, health));
        }
    }

    fn is_waiting(&self) -> bool {
        let counts = self.machine.counts();
        self.sent.len() as u64 > counts.answered + counts.failed
    }

    /// Goes on to what happens next: a probe that is under way is answered
    /// after 1 ms, or never.
    fn step(&mut self, manner: Manner, chance: f64) {
        match (manner, self.sent.last()) {
            (Manner::Answers(status), Some(sent)) if self.is_waiting() => {
                self.now = self.now.max(*sent + ms(1));
                let round_trip = self.machine.answered(status, self.now, chance);
                assert_eq!(round_trip, Some(self.now - *sent));
            }
            _ => {
                self.now = self.now.max(self.machine.next());
                if self.machine.poll(self.now, chance) {
                    self.machine.sent(self.now);
                    self.sent.push(self.now);
                }
            }
        }
        self.publish();
    }

    /// Goes on until `probes` more have had their outcome.
    fn probes(&mut self, probes: usize, manner: Manner) {
        let counts = |lab: &Self| {
            let counts = lab.machine.counts();
            (counts.answered + counts.failed) as usize
        };
        let end = counts(self) + probes;
        while counts(self) < end {
            self.step(manner, 0.5);
        }
    }

    fn until(&mut self, end: Duration, manner: Manner) {
        while self.machine.next() < end {
            self.step(manner, 0.999);
        }
    }
}

fn defaults() -> Lab {
    Lab::new(Probe::default(), Health::Up)
}

#[test]
fn one_that_dies_is_down_within_three_seconds() {
    for (died_after, chance) in [(0, 0.0), (1, 0.999), (7, 0.999), (40, 0.3)] {
        let mut lab = defaults();
        for _ in 0..died_after {
            lab.step(ALIVE, chance);
        }
        let died = lab.now;
        while lab.health() != Health::Down {
            lab.step(Manner::Silent, chance);
        }
        let took = lab.now - died;
        assert!(took <= ms(2_600), "{took:?}");
        let cause = lab.machine.cause();
        assert_eq!(cause, "the last 3 probes failed: no answer in 500ms");
    }
}

#[test]
fn while_it_is_probing_it_takes_work_and_probes_follow_each_other() {
    let mut lab = defaults();
    lab.probes(5, ALIVE);
    assert!(!lab.machine.probing());
    lab.probes(2, Manner::Silent);
    assert!(lab.machine.probing());
    assert_eq!(lab.health(), Health::Up);
    let cause = lab.machine.cause();
    assert_eq!(cause, "the last 2 probes failed: no answer in 500ms");
    lab.probes(1, ALIVE);
    assert!(!lab.machine.probing());
    let pauses: Vec<_> = lab.sent.windows(2).map(|two| two[1] - two[0]).collect();
    assert_eq!(pauses[5..], [ms(500), ms(500)]);
    assert_eq!(lab.published, [(Duration::ZERO, Health::Up)]);
}

#[test]
fn it_comes_back_after_answers_in_a_row_and_warms_up() {
    let mut lab = Lab::new(Probe::default(), Health::Down);
    lab.probes(1, ALIVE);
    lab.probes(1, Manner::Silent);
    lab.probes(1, ALIVE);
    assert_eq!(lab.health(), Health::Down);
    lab.probes(1, ALIVE);
    assert_eq!(lab.health(), Health::Warming(20));
    assert_eq!(lab.machine.cause(), "the last 2 probes were answered");
    let back = lab.now;
    lab.until(back + ms(10_001), ALIVE);
    let steps: Vec<_> = lab.published[1..]
        .iter()
        .map(|(at, health)| (*at - back, *health))
        .collect();
    let warming = |step: u64| (ms(2_500 * step), Health::Warming(20 + 20 * step as u8));
    assert_eq!(steps[..4], [0, 1, 2, 3].map(warming));
    assert_eq!(steps[4..], [(ms(10_000), Health::Up)]);
}

#[test]
fn without_a_slow_start_it_is_up_at_once() {
    let probe = Probe {
        slow_start: Duration::ZERO,
        ..Probe::default()
    };
    let mut lab = Lab::new(probe, Health::Down);
    lab.probes(2, ALIVE);
    assert_eq!(lab.health(), Health::Up);
    let healths: Vec<_> = lab.published.iter().map(|(_, health)| *health).collect();
    assert_eq!(healths, [Health::Down, Health::Up]);
}

#[test]
fn one_that_dies_while_it_warms_up_is_down_again() {
    let mut lab = Lab::new(Probe::default(), Health::Warming(60));
    lab.probes(2, Manner::Silent);
    assert_eq!(lab.health(), Health::Warming(60));
    assert!(lab.machine.probing());
    lab.probes(1, Manner::Silent);
    assert_eq!(lab.health(), Health::Down);
}

#[test]
fn what_was_warming_before_an_upgrade_goes_on_from_there() {
    let mut lab = Lab::new(Probe::default(), Health::Warming(60));
    lab.until(ms(5_001), ALIVE);
    assert_eq!(
        lab.published[1..],
        [(ms(2_500), Health::Warming(80)), (ms(5_000), Health::Up)]
    );
}

#[test]
fn a_status_that_is_not_accepted_is_a_failure_but_no_hurry() {
    let mut lab = defaults();
    lab.probes(3, Manner::Answers(503));
    assert_eq!(lab.health(), Health::Down);
    assert_eq!(
        lab.machine.cause(),
        "the last 3 probes failed: answered 503"
    );
    assert!(lab.sent[2] - lab.sent[0] >= ms(1_000));
    for status in [200, 302, 404, 483, 501, 603] {
        let mut lab = defaults();
        lab.probes(4, Manner::Answers(status));
        assert_eq!(lab.machine.counts().failed, 0, "{status}");
    }
}

#[test]
fn only_what_is_waited_for_is_an_answer() {
    let mut lab = defaults();
    assert_eq!(lab.machine.answered(200, lab.now, 0.5), None);
    lab.probes(3, Manner::Silent);
    for _ in 0..5 {
        assert_eq!(lab.machine.answered(200, lab.now, 0.5), None);
    }
    assert_eq!(lab.health(), Health::Down);
    assert_eq!(lab.machine.counts().answered, 0);
}

#[test]
fn a_suspicion_has_it_probed_at_once_but_never_twice_within_the_timeout() {
    let mut lab = defaults();
    lab.probes(3, ALIVE);
    let last = lab.sent[2];
    lab.machine.suspected("a sign", last + ms(700));
    assert_eq!(lab.machine.next(), last + ms(700));
    lab.probes(1, ALIVE);
    lab.machine.suspected("a sign", lab.now);
    assert_eq!(lab.machine.next(), last + ms(1_200));
    lab.probes(1, Manner::Silent);
    assert_eq!(
        lab.machine.cause(),
        "the last probe failed: no answer in 500ms; the first sign: a sign"
    );
    lab.probes(1, ALIVE);
    lab.probes(1, Manner::Silent);
    assert!(!lab.machine.cause().contains("sign"));
}

#[test]
fn what_cannot_be_sent_shows_nothing() {
    let mut lab = defaults();
    lab.probes(2, Manner::Answers(503));
    for _ in 0..20 {
        lab.now = lab.machine.next();
        assert!(lab.machine.poll(lab.now, 0.5));
        lab.machine.unsent(lab.now);
        assert_eq!(lab.machine.next(), lab.now + ms(500));
    }
    assert_eq!(lab.health(), Health::Up);
    let cause = lab.machine.cause();
    assert_eq!(cause, "the last 2 probes failed: answered 503");
    lab.probes(1, Manner::Silent);
    assert_eq!(lab.health(), Health::Down);
}

#[test]
fn a_shorter_interval_holds_at_once() {
    let hourly = Probe {
        interval: ms(3_600_000),
        ..Probe::default()
    };
    let mut lab = Lab::new(hourly, Health::Down);
    lab.probes(1, ALIVE);
    let probe = Arc::new(Probe::default());
    lab.machine.reconfigured(probe, lab.now, 0.5);
    assert_eq!(lab.machine.next(), lab.now + ms(1_000));
    // The answer of before counts.
    lab.probes(1, ALIVE);
    assert_eq!(lab.health(), Health::Warming(20));
}

#[test]
fn probes_keep_the_interval_give_or_take_a_tenth() {
    for (known, manner) in [(Health::Up, ALIVE), (Health::Down, Manner::Silent)] {
        for (chance, pause) in [(0.0, 900), (0.5, 1_000), (0.999, 1_100)] {
            let mut lab = Lab::new(Probe::default(), known);
            while lab.sent.len() < 10 {
                lab.step(manner, chance);
            }
            for two in lab.sent.windows(2) {
                let off = (two[1] - two[0]).abs_diff(ms(pause));
                assert!(off < ms(1), "{known:?} {two:?}");
            }
        }
    }
}

#[test]
fn a_thousand_new_ones_are_not_probed_at_once() {
    let first = |n: u32| {
        let chance = f64::from(n) / 1000.0;
        Machine::new(Arc::default(), Health::Up, ms(5_000), chance).next()
    };
    let times: BTreeSet<_> = (0..1000).map(first).collect();
    assert_eq!(times.len(), 1000);
    assert!(
        times
            .iter()
            .all(|time| (ms(5_000)..ms(6_000)).contains(time))
    );
}

/// Anything that can become of a machine.
#[derive(Clone, Debug)]
enum Input {
    Step(Manner),
    Late(u64),
    Unsent,
    Stray(u16),
    Suspected,
    Reconfigured(Probe),
}

fn probes() -> impl Strategy<Value = Probe> {
    let times = (1_u64..=5_000, 1_u64..=5_000, 0_u64..=60_000);
    let refuses = prop::bool::ANY;
    (times, 1_u32..=5, 1_u32..=5, refuses).prop_map(
        |((interval, timeout, slow_start), down_after, up_after, strict)| Probe {
            interval: ms(interval),
            timeout: ms(timeout),
            slow_start: ms(slow_start),
            down_after,
            up_after,
            accept: match strict {
                true => vec![Accept::Status(200)],
                false => Probe::default().accept,
            },
            ..Probe::default()
        },
    )
}

fn manners() -> impl Strategy<Value = Manner> {
    prop_oneof![
        4 => Just(ALIVE),
        4 => Just(Manner::Silent),
        1 => (200_u16..700).prop_map(Manner::Answers),
    ]
}

fn inputs() -> impl Strategy<Value = Vec<(Input, f64)>> {
    let input = prop_oneof![
        8 => manners().prop_map(Input::Step),
        1 => (0_u64..100_000).prop_map(Input::Late),
        1 => Just(Input::Unsent),
        1 => (200_u16..700).prop_map(Input::Stray),
        2 => Just(Input::Suspected),
        1 => probes().prop_map(Input::Reconfigured),
    ];
    prop::collection::vec((input, 0.0..1.0), 0..60)
}

fn healths() -> impl Strategy<Value = Health> {
    prop_oneof![
        Just(Health::Up),
        // Nothing less is ever published.
        (20_u8..100).prop_map(Health::Warming),
        Just(Health::Down)
    ]
}

impl Lab {
    fn apply(&mut self, input: Input, chance: f64) {
        match input {
            Input::Step(manner) => self.step(manner, chance),
            // A thread that was kept from running.
            Input::Late(late) => {
                self.now = self.machine.next().max(self.now) + ms(late);
                if self.machine.poll(self.now, chance) {
                    self.machine.sent(self.now);
                    self.sent.push(self.now);
                }
            }
            Input::Unsent => {
                self.now = self.machine.next().max(self.now);
                if self.machine.poll(self.now, chance) {
                    self.machine.unsent(self.now);
                }
            }
            Input::Stray(status) => {
                self.machine.answered(status, self.now, chance);
            }
            Input::Suspected => self.machine.suspected("a sign", self.now),
            Input::Reconfigured(probe) => {
                self.probe = probe.clone();
                let probe = Arc::new(probe);
                self.machine.reconfigured(probe, self.now, chance);
            }
        }
        self.publish();
    }

    /// The longest that nothing may be due.
    fn longest(&self) -> Duration {
        self.probe.interval * 11 / 10 + self.probe.timeout
    }
}

proptest! {
    /// However it came there, its next probe has its time, answers bring it
    /// up and silence brings it down.
    #[test]
    fn it_never_sticks(probe in probes(), known in healths(), inputs in inputs()) {
        let mut lab = Lab::new(probe, known);
        for (input, chance) in inputs {
            lab.apply(input, chance);
            let ahead = lab.machine.next().saturating_sub(lab.now);
            prop_assert!(ahead <= lab.longest(), "{ahead:?}");
        }
        let mut other = Lab {
            machine: lab.machine.clone(),
            probe: lab.probe.clone(),
            sent: lab.sent.clone(),
            published: lab.published.clone(),
            now: lab.now,
        };
        // One may be under way whose outcome is settled already.
        lab.probes(lab.probe.up_after as usize + 1, ALIVE);
        prop_assert_ne!(lab.health(), Health::Down);
        let end = lab.now + lab.probe.slow_start + ms(1);
        lab.until(end, ALIVE);
        prop_assert_eq!(lab.health(), Health::Up);
        other.probes(other.probe.down_after as usize + 1, Manner::Silent);
        prop_assert_eq!(other.health(), Health::Down);
    }

    /// Signs of any number, at any time, change nothing but when it is
    /// probed; and that no more often than its timeout allows.
    #[test]
    fn suspicion_alone_takes_nothing_down(
        probe in probes(),
        known in healths(),
        signs in prop::collection::vec((any::<bool>(), 0.0..1.0), 0..200),
    ) {
        let mut lab = Lab::new(probe, known);
        let mut was_down = known == Health::Down;
        for (is_sign, chance) in signs {
            let input = if is_sign { Input::Suspected } else { Input::Step(ALIVE) };
            lab.apply(input, chance);
            let is_down = lab.health() == Health::Down;
            prop_assert!(was_down || !is_down);
            was_down = is_down;
        }
        let least = lab.probe.timeout.min(lab.probe.interval * 9 / 10);
        for two in lab.sent.windows(2) {
            prop_assert!(two[1] - two[0] >= least);
        }
    }

    /// Lost probes take nothing down as long as fewer in a row are lost than
    /// it takes: not one, where that is more than one.
    #[test]
    fn a_few_lost_probes_take_nothing_down(
        probe in probes().prop_filter("down after more than one", |it| it.down_after > 1),
        lost in prop::collection::vec(0_u32..5, 0..40),
    ) {
        let mut lab = Lab::new(probe, Health::Up);
        for lost in lost {
            lab.probes(lost.min(lab.probe.down_after - 1) as usize, Manner::Silent);
            lab.probes(1, ALIVE);
        }
        prop_assert_eq!(&lab.published, &[(Duration::ZERO, Health::Up)]);
    }
}

/// A destination of the simulation: when it changes its manner, and from when
/// on its health must show that.
struct Simulated {
    lab: Lab,
    manner: Manner,
    /// Probes of a thousand that are lost although it answers.
    loss: u64,
    changes: Duration,
    settled: Duration,
    /// Whether it had the time to settle since it changed last.
    checked: u64,
}

impl Simulated {
    fn new(chance: &mut Chance) -> Self {
        let probe = Probe {
            interval: ms(chance.between(500..=30_000)),
            timeout: ms(chance.between(100..=2_000)),
            down_after: chance.between(1..=5) as u32,
            up_after: chance.between(1..=5) as u32,
            slow_start: ms(chance.pick(&[0, 1_000, 10_000, 60_000])),
            ..Probe::default()
        };
        let known = chance.pick(&[Health::Up, Health::Down, Health::Warming(40)]);
        Self {
            lab: Lab::new(probe, known),
            manner: ALIVE,
            loss: 0,
            changes: Duration::ZERO,
            settled: Duration::ZERO,
            checked: 0,
        }
    }

    fn change(&mut self, chance: &mut Chance) {
        let dead = [Manner::Silent, Manner::Answers(503)];
        self.manner = chance.pick(&[ALIVE, ALIVE, dead[0], dead[1]]);
        self.loss = chance.pick(&[0, 0, 100]);
        let probe = &self.lab.probe;
        let probes = probe.up_after.max(probe.down_after) + 2;
        let slowest = probe.interval * 11 / 10 + probe.timeout;
        self.settled = self.changes + slowest * probes + probe.slow_start;
        // Some change again before.
        self.changes += ms(chance.between(1_000..=900_000));
    }

    fn step(&mut self, chance: &mut Chance) {
        let fraction = chance.between(0..=999) as f64 / 1000.0;
        if chance.per_mille(20) {
            self.lab.apply(Input::Suspected, fraction);
        }
        let next = self.lab.machine.next();
        while next >= self.changes {
            self.change(chance);
        }
        let is_lost = chance.per_mille(self.loss);
        let manner = if is_lost { Manner::Silent } else { self.manner };
        self.lab.step(manner, fraction);
        if self.lab.now <= self.settled {
            return;
        }
        let health = self.lab.health();
        if self.manner != ALIVE {
            assert_eq!(health, Health::Down, "{:?} at {next:?}", self.manner);
            self.checked += 1;
        } else if self.loss == 0 {
            assert_eq!(
                health,
                Health::Up,
                "at {next:?}: {}",
                self.lab.machine.cause()
            );
            self.checked += 1;
        }
    }
}

#[test]
fn of_500_destinations_none_sticks_in_six_hours() {
    let mut chance = Chance::new(6);
    for number in 0..500 {
        let mut chance = chance.fork();
        let mut one = Simulated::new(&mut chance);
        while one.lab.now < ms(6 * 3_600_000) {
            one.step(&mut chance);
        }
        assert!(one.checked > 100, "{number} hardly ever settled");
    }
}

#[test]
fn one_that_warms_up_gains_nothing_while_its_probes_fail() {
    let probe = Probe {
        down_after: 1_000,
        ..Probe::default()
    };
    let mut lab = Lab::new(probe.clone(), Health::Down);
    lab.probes(probe.up_after as usize, ALIVE);
    assert_eq!(lab.health(), Health::Warming(20));
    lab.until(lab.now + 2 * probe.slow_start, Manner::Silent);
    assert_eq!(lab.health(), Health::Warming(20));
    assert!(lab.machine.probing());
    lab.probes(1, ALIVE);
    assert!(matches!(lab.health(), Health::Warming(20 | 40)));
    lab.until(lab.now + probe.slow_start, ALIVE);
    assert_eq!(lab.health(), Health::Up);
    // One that loses every second probe gets there, too.
    let mut lab = Lab::new(probe.clone(), Health::Down);
    lab.probes(probe.up_after as usize, ALIVE);
    let end = lab.now + 2 * probe.slow_start;
    while lab.now < end {
        lab.probes(1, Manner::Silent);
        lab.probes(1, ALIVE);
    }
    assert_eq!(lab.health(), Health::Up);
}
