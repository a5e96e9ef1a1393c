//! What a seed stands for: a configuration, a network, callers with their
//! errands, destinations with their tempers and troubles.

use std::time::Duration;

use viaduct::config::{
    Accounting, AccountingTarget, Config, Destination, Health, OnFailure, Policy, Set, State,
    Stateful, Timers,
};

use super::caller::Errand;
use super::chance::Chance;
use super::destination::{Condition, Temper};
use super::network::Network;
use crate::fixture;

/// Everything that a world starts with.
pub struct Plan {
    /// Nothing is lost: callers may demand that their calls succeed.
    pub calm: bool,
    /// The clock when the world begins.
    pub epoch: u64,
    pub config: Config,
    pub network: Network,
    pub errands: Vec<Errand>,
    /// One for each destination of all sets.
    pub tempers: Vec<Temper>,
    pub troubles: Vec<Trouble>,
    /// When the balancer finds datagrams lost that were for it.
    pub losses: Vec<u64>,
    pub restarts: Vec<u64>,
    /// Percentage of datagrams to those who refuse them that ICMP tells of.
    pub icmp: u64,
    pub chance: Chance,
}

/// What happens to a destination.
#[derive(Clone, Copy, Debug)]
pub struct Trouble {
    pub at: u64,
    pub destination: usize,
    pub what: Happening,
}

#[derive(Clone, Copy, Debug)]
pub enum Happening {
    Becomes(Condition),
    Crashes,
}

/// The destinations of the second set.
const VOICEMAIL: usize = 2;
pub const VOICEMAIL_URI: &str = "sip:voicemail@farm.example";

/// Errands begin within this time.
const BUSY_TIME: u64 = 40_000;

impl Plan {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let calm = chance.percent(35);
        let config = config(&mut chance);
        let main = config.sets[0].destinations.len();
        let network = if calm {
            Network::CALM
        } else {
            Network {
                loss: chance.pick(&[0, 20, 100, 300]),
                duplication: chance.pick(&[0, 20, 200]),
                delay: chance.pick(&[5, 50, 400]),
                stragglers: chance.pick(&[0, 10, 100]),
            }
        };
        let all = main + VOICEMAIL;
        let tempers: Vec<_> = (0..all).map(|n| temper(&mut chance, n >= main)).collect();
        let troubles = troubles(&mut chance, main);
        let restarts = if chance.percent(12) {
            vec![chance.between(1000..=60_000)]
        } else {
            Vec::new()
        };
        let losses = if !calm && chance.percent(40) {
            let count = chance.between(1..=20);
            (0..count).map(|_| chance.between(0..=60_000)).collect()
        } else {
            Vec::new()
        };
        let count = chance.between(6..=20);
        let errands = (0..count).map(|_| errand(&mut chance)).collect();
        // A clock of 32 bits would go round in some of these, and one that
        // counts in eights.
        let epoch = chance.pick(&[0, 1 << 20, (1 << 32) - 60_000, (1 << 35) - 60_000]);
        Self {
            calm,
            epoch,
            config,
            network,
            errands,
            tempers,
            troubles,
            losses,
            restarts,
            icmp: chance.pick(&[50, 100]),
            chance: chance.fork(),
        }
    }
}

fn config(chance: &mut Chance) -> Config {
    let mut config = fixture::config();
    let main = chance.pick(&[4, 4, 4, 3, 2, 1]);
    config.sets[0].destinations.truncate(main);
    if main > 2 && chance.percent(20) {
        config.sets[0].destinations[main - 1].priority = -1;
    }
    config.sets[0].policy = chance.pick(&[Policy::Hash, Policy::Kamailio]);
    config.sets.push(Set {
        name: "voicemail".to_owned(),
        destinations: (main..main + VOICEMAIL)
            .map(|n| Destination {
                uri: format!("sip:{}", fixture::destination(n)),
                address: fixture::destination(n),
                weight: 1,
                priority: 0,
                state: State::Active,
                probe: None,
                health: Health::Up,
            })
            .collect(),
        ..config.sets[0].clone()
    });
    config.listeners[0].record_route = chance.percent(50);
    config.workers = chance.pick(&[1, 1, 2, 3]);
    let mut methods = vec!["INVITE".to_owned()];
    for method in ["REGISTER", "OPTIONS", "MESSAGE", "BYE"] {
        if chance.percent(75) {
            methods.push(method.to_owned());
        }
    }
    let on_failure = if chance.percent(40) {
        on_failure(chance)
    } else {
        Vec::new()
    };
    let transactions = if chance.percent(20) {
        config.workers * chance.between(1..=6) as usize
    } else {
        1000
    };
    config.stateful = Stateful {
        methods,
        transactions,
        timers: timers(chance),
        failover_after: Duration::from_millis(chance.pick(&[1000, 1000, 600, 2000])),
        failover_status: chance.pick(&[&[503][..], &[503], &[503, 480]]).to_vec(),
        retry_after_cap: Duration::from_secs(chance.pick(&[30, 3])),
        ring_timeout: Duration::from_secs(chance.pick(&[0, 0, 0, 5])),
        on_failure,
        accounting: Some(Accounting {
            target: AccountingTarget::Stdout,
            methods: Vec::new(),
        }),
    };
    config
}

fn on_failure(chance: &mut Chance) -> Vec<OnFailure> {
    let mut rules = vec![OnFailure {
        statuses: vec![408, 480, 486],
        set: 1,
        request_uri: chance.percent(60).then(|| VOICEMAIL_URI.to_owned()),
        from_sets: if chance.percent(50) {
            vec![0]
        } else {
            Vec::new()
        },
    }];
    if chance.percent(30) {
        rules.push(OnFailure {
            statuses: vec![302, 500, 503],
            set: 1,
            request_uri: None,
            from_sets: Vec::new(),
        });
    }
    rules
}

/// What endpoints count by stays as in the RFC: who remembers for less would
/// meet their retransmissions anew.
fn timers(chance: &mut Chance) -> Timers {
    let usual = Timers::default();
    if chance.percent(60) {
        return usual;
    }
    let t1 = Duration::from_millis(chance.pick(&[200, 500, 1000]));
    Timers {
        t1,
        t2: Duration::from_millis(chance.pick(&[2000, 4000])),
        b: 64 * t1,
        f: usual.f.max(64 * t1),
        c: Duration::from_secs(chance.pick(&[15, 181])),
        ..usual
    }
}

fn temper(chance: &mut Chance, is_voicemail: bool) -> Temper {
    let conduct = if is_voicemail {
        [8, 0, 1, 0, 0, 0, 0]
    } else {
        chance.pick(&[
            [10, 0, 0, 0, 0, 0, 0],
            [10, 0, 0, 0, 0, 0, 1],
            [5, 2, 1, 1, 1, 1, 1],
            [2, 0, 6, 1, 0, 1, 0],
            [1, 0, 1, 1, 1, 1, 5],
        ])
    };
    Temper {
        conduct,
        twice: chance.percent(15),
        late: chance.pick(&[0, 0, 0, 20, 70]),
    }
}

/// Any of the first set's destinations may be in trouble, on some seeds all.
fn troubles(chance: &mut Chance, main: usize) -> Vec<Trouble> {
    let mut troubles = Vec::new();
    let chance_of_trouble = chance.pick(&[0, 30, 50, 80]);
    for destination in 0..main {
        if !chance.percent(chance_of_trouble) {
            continue;
        }
        let mut at = chance.pick(&[0, 0, 5_000, 15_000]) + chance.between(0..=5000);
        for _ in 0..chance.between(1..=3) {
            let retry_after = chance.pick(&[None, None, Some(2), Some(600)]);
            let condition = chance.pick(&[
                Condition::Stalled,
                Condition::Silent,
                Condition::Refused,
                Condition::Overloaded(retry_after),
            ]);
            let crashes =
                matches!(condition, Condition::Silent | Condition::Refused) && chance.percent(60);
            let mut happens = |at, what| {
                troubles.push(Trouble {
                    at,
                    destination,
                    what,
                });
            };
            if crashes {
                happens(at, Happening::Crashes);
            }
            happens(at, Happening::Becomes(condition));
            // Some stay so for good, but none that holds datagrams back.
            if condition != Condition::Stalled && chance.percent(30) {
                break;
            }
            at += chance.pick(&[300, 3000, 20_000, 50_000]) + chance.between(0..=2000);
            happens(at, Happening::Becomes(Condition::Up));
            at += chance.between(0..=20_000);
        }
    }
    troubles
}

fn errand(chance: &mut Chance) -> Errand {
    let method = chance.weighted(&[
        (12, "INVITE"),
        (1, "REGISTER"),
        (1, "OPTIONS"),
        (1, "MESSAGE"),
    ]);
    // Whoever is not in a hurry hangs up in the end.
    let patience = chance.between(200_000..=260_000);
    let cancels_after = match chance.between(0..=9) {
        0 => chance.between(0..=300),
        1 => chance.between(300..=2500),
        2 => chance.between(2000..=20_000),
        _ => patience,
    };
    Errand {
        at: chance.between(0..=BUSY_TIME),
        method,
        cancels_after: (method == "INVITE").then_some(cancels_after),
        dies_after: chance.percent(6).then(|| chance.between(0..=15_000)),
        talks: chance.between(500..=20_000),
        changes_after: chance.percent(15).then(|| chance.between(100..=10_000)),
        timestamp: chance.percent(30),
        old: chance.percent(6),
        // Some fill all the memory that there is for several transactions.
        body: chance.weighted(&[(10, 0), (5, 400), (2, 3000), (1, 12_000)]),
    }
}
