//! Follows what the names of destinations stand for, in a thread of its own:
//! each is looked up again when its TTL is over.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::lookup::{Addresses, Host, Lookup, TTL_MAX, Trouble};
use crate::config::text::is_one_host;
use crate::config::{Config, HostPort};

/// How long a name server has to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// The shortest that an answer holds, and the first pause after a failure.
const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest pause after a failure, and the longest look-up.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Hosts of one service, and addresses of one host, that are used at most.
const MAX_RECORDS: usize = 256;
/// Addresses of one name that are used at most.
const MAX_TARGETS: usize = 1024;

/// What a name of destinations stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// As the configuration has it.
    #[serde(flatten)]
    pub name: HostPort,
    /// In order of rank and address.
    pub targets: Vec<Target>,
    /// Whether they were found without trouble once: then trouble changes
    /// nothing of them.
    pub whole: bool,
}

/// One address that a name stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where datagrams are sent.
    pub address: SocketAddr,
    /// As SRV gives it; at least 1.
    pub weight: u32,
    /// How far its priority ranks below the first: 0, 1, …
    pub rank: i32,
}

/// What came of looking a name up, where that is news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked {
    /// What it stands for; where it could not be looked up, what it stood for.
    pub resolved: Resolved,
    /// Why it could not be looked up, or not whole.
    pub trouble: Option<String>,
    /// Hosts of SRV that have no address, beside others that have, as far as these
    /// are news.
    pub missing: Vec<String>,
}

/// The way to the thread, which ends with it.
pub struct Followed(watch::Sender<Vec<Resolved>>);

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            address,
            weight,
            rank,
        } = self;
        match (weight, rank) {
            (1, 0) => write!(f, "{address}"),
            (_, 0) => write!(f, "{address} (weight {weight})"),
            _ => write!(f, "{address} (weight {weight}, rank {rank})"),
        }
    }
}

impl Followed {
    /// Starts the thread; `report` is told of each of `names`, and then of what
    /// changes. What they stand for is known already, where it is anything.
    ///
    /// # Errors
    /// What is wrong with the name servers of the system, or kept it from starting.
    pub fn start(
        config: &Config,
        names: Vec<Resolved>,
        report: impl Fn(Looked) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let around = Around {
            lookup: Arc::new(Lookup::new(config, ANSWER_LIMIT, TTL_MIN, MAX_RECORDS)?),
            report: Box::new(report),
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_io().enable_time().build()?;
        let (sender, wanted) = watch::channel(names);
        std::thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || runtime.block_on(follow(Arc::new(around), wanted)))?;
        Ok(Self(sender))
    }

    /// Follows `names` from now on. Those that it follows already it knows
    /// better.
    pub fn follow(&self, names: Vec<Resolved>) {
        self.0.send_replace(names);
    }
}

/// What all look-ups share.
struct Around {
    lookup: Arc<Lookup>,
    report: Box<dyn Fn(Looked) + Send + Sync>,
}

/// A task for each name that is wanted.
async fn follow(around: Arc<Around>, mut wanted: watch::Receiver<Vec<Resolved>>) {
    let mut tasks: HashMap<HostPort, AbortHandle> = HashMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        let names = names.into_iter().map(|known| (known.name.clone(), known));
        let names: HashMap<_, _> = names.collect();
        tasks.retain(|name, task| {
            let stays = names.contains_key(name);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, known) in names {
            let around = Arc::clone(&around);
            let start = || tokio::spawn(follow_one(around, Known::new(known))).abort_handle();
            tasks.entry(name).or_insert_with(start);
        }
        if wanted.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_one(around: Arc<Around>, mut known: Known) {
    loop {
        let found = look_up(&around, &known.resolved.name).await;
        let (news, pause) = known.take(found);
        if let Some(news) = news {
            (around.report)(news);
        }
        tokio::time::sleep(pause).await;
    }
}

/// What one look-up has found.
#[derive(Default)]
struct Found {
    targets: Vec<Target>,
    /// How long that holds.
    ttl: Duration,
    /// Why it is nothing, or perhaps not all.
    trouble: Option<String>,
    missing: Vec<String>,
}

async fn look_up(around: &Around, name: &HostPort) -> Found {
    let end = Instant::now() + PAUSE_MAX;
    let (hosts, mut until) = match around.lookup.hosts(name, end).await {
        Ok(found) => found,
        Err(trouble) => {
            return Found {
                trouble: Some(trouble.to_string()),
                ..Found::default()
            };
        }
    };
    let found = around.lookup.addresses(&hosts, end).await;
    until = found
        .iter()
        .map(|(_, of)| of.until)
        .fold(until, Instant::min);
    let targets = targets(&found);
    let nothing = targets.is_empty();
    Found {
        targets,
        ttl: until.saturating_duration_since(Instant::now()),
        missing: missing(&found, nothing),
        trouble: trouble(found, nothing).map(|trouble| trouble.to_string()),
    }
}

/// The addresses of all hosts, each once.
fn targets(hosts: &[(Host, Addresses)]) -> Vec<Target> {
    let priorities: BTreeSet<_> = hosts.iter().map(|(host, _)| host.priority).collect();
    let of_host = |(host, addresses): &(Host, Addresses)| {
        let rank = priorities.range(..host.priority).count() as i32;
        // Where others have more, 0 is next to nothing (RFC 2782).
        let weight = u32::from(host.weight).max(1);
        let target = move |address| Target {
            address,
            weight,
            rank,
        };
        let addresses = addresses.all.clone();
        addresses.into_iter().filter(can_be_sent_to).map(target)
    };
    let mut targets: Vec<_> = hosts.iter().flat_map(of_host).collect();
    targets.sort_unstable_by_key(|to| (to.rank, to.address, Reverse(to.weight)));
    let mut seen = HashSet::new();
    targets.retain(|to| seen.insert(to.address));
    targets.truncate(MAX_TARGETS);
    targets
}

/// Whether an address names one host.
fn can_be_sent_to(address: &SocketAddr) -> bool {
    is_one_host(address.ip()) && address.port() != 0
}

/// What there is to say: that something was not answered, or that there is
/// nothing at all.
fn trouble(hosts: Vec<(Host, Addresses)>, nothing: bool) -> Option<Trouble> {
    let troubles = hosts.into_iter().filter_map(|(_, found)| found.trouble);
    let all = troubles.filter(|trouble| nothing || trouble.may_pass());
    let first = all.fold(None, |first, next| Some(next.or(first)));
    match (nothing, first) {
        (true, None) => Some(Trouble::Nothing("it has no address that can be sent to")),
        (_, first) => first,
    }
}

/// The hosts that are said to have no address, where others have some.
fn missing(hosts: &[(Host, Addresses)], nothing: bool) -> Vec<String> {
    if nothing {
        return Vec::new();
    }
    let gone = |found: &Addresses| matches!(found.trouble, Some(Trouble::Nothing(_)));
    let gone = hosts.iter().filter(|(_, found)| gone(found));
    let names: BTreeSet<_> = gone.map(|(host, _)| host.name.to_string()).collect();
    let whole = |name: String| name.trim_end_matches('.').to_owned();
    names.into_iter().map(whole).collect()
}

/// What is known of one name.
struct Known {
    resolved: Resolved,
    /// How often in a row there was trouble.
    failures: u32,
    /// The hosts without an address that were told of.
    missing: Vec<String>,
    told: bool,
}

impl Known {
    /// What another has found.
    fn new(resolved: Resolved) -> Self {
        Self {
            resolved,
            failures: 0,
            missing: Vec::new(),
            told: false,
        }
    }

    /// Takes what a look-up has found. Returns that, where it is news, and when
    /// to look again.
    fn take(&mut self, found: Found) -> (Option<Looked>, Duration) {
        let was_failing = self.failures > 0;
        let before = self.resolved.targets.clone();
        let were_missing = self.missing.clone();
        let pause = match found.trouble {
            None => {
                self.failures = 0;
                found.ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Some(_) => {
                self.failures += 1;
                let doubled = TTL_MIN * 2_u32.pow(self.failures.min(7) - 1);
                doubled.min(PAUSE_MAX)
            }
        };
        if found.trouble.is_none() || !self.resolved.whole && !found.targets.is_empty() {
            self.resolved.targets = found.targets;
            self.missing = found.missing;
        }
        self.resolved.whole |= found.trouble.is_none();
        let failing = found.trouble.is_some();
        let others_missing = were_missing != self.missing;
        let is_news = !self.told
            || failing != was_failing
            || before != self.resolved.targets
            || others_missing;
        self.told = true;
        let missing = self.missing.iter();
        let missing = missing.filter(|host| !were_missing.contains(host));
        let missing = missing.cloned().collect();
        let news = is_news.then(|| Looked {
            resolved: self.resolved.clone(),
            trouble: found.trouble,
            missing,
        });
        (news, pause)
    }
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::rr;

    use super::*;

    fn host(priority: u16, weight: u16, ips: &[u8]) -> (Host, Addresses) {
        let host = Host {
            name: rr::Name::root(),
            port: 5060,
            priority,
            weight,
        };
        let all = ips.iter().map(|last| address(*last)).collect();
        let until = Instant::now();
        let trouble = None;
        (
            host,
            Addresses {
                all,
                until,
                trouble,
            },
        )
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 5060))
    }

    fn found(ips: &[u8], seconds: u64, trouble: Option<&str>) -> Found {
        Found {
            targets: targets(&[host(0, 0, ips)]),
            ttl: Duration::from_secs(seconds),
            trouble: trouble.map(str::to_owned),
            missing: Vec::new(),
        }
    }

    /// A name of which nobody has said anything.
    fn unknown() -> Known {
        let name = HostPort {
            host: "a.test".to_owned(),
            port: None,
        };
        Known::new(Resolved {
            name,
            targets: Vec::new(),
            whole: false,
        })
    }

    impl Known {
        /// The trouble that there is, where there is news.
        fn trouble_told(&mut self, found: Found) -> Option<Option<String>> {
            self.take(found).0.map(|looked| looked.trouble)
        }
    }

    #[test]
    fn all_priorities_rank_each_address_is_there_once_and_weighs_something() {
        let hosts = [
            host(30, 5, &[3]),
            host(10, 0, &[2, 1]),
            host(20, 7, &[]),
            host(10, 4, &[1, 9]),
            host(30, 1, &[9]),
        ];
        let said: Vec<_> = targets(&hosts).iter().map(ToString::to_string).collect();
        let wanted = [
            "10.0.0.1:5060 (weight 4)",
            "10.0.0.2:5060",
            "10.0.0.9:5060 (weight 4)",
            "10.0.0.3:5060 (weight 5, rank 2)",
        ];
        assert_eq!(said, wanted);
    }

    #[test]
    fn what_names_no_one_host_is_no_target() {
        let mut hosts = [host(0, 0, &[1])];
        for bad in [
            "0.0.0.0:5060",
            "224.0.0.1:5060",
            "255.255.255.255:1",
            "10.0.0.2:0",
            "[ff02::1]:5060",
        ] {
            hosts[0].1.all.push(bad.parse().expect("an address"));
        }
        assert_eq!(targets(&hosts).len(), 1);
    }

    #[test]
    fn of_more_than_1024_addresses_the_first_ones_are_used() {
        let of = |third| {
            let (named, mut found) = host(u16::from(third), 0, &[]);
            let all = (0..=255).map(|last| SocketAddr::from(([10, 0, third, last], 5060)));
            found.all = all.collect();
            (named, found)
        };
        let hosts: Vec<_> = (0..=4).rev().map(of).collect();
        let targets = targets(&hosts);
        assert_eq!(targets.len(), 1024);
        let last = SocketAddr::from(([10, 0, 3, 255], 5060));
        assert_eq!(targets[1023].address, last);
    }

    #[test]
    fn trouble_with_one_host_counts_only_where_it_may_pass_or_nothing_is_left() {
        let with = |ips: &[u8], trouble| {
            let mut other = host(0, 0, ips);
            other.1.trouble = Some(trouble);
            vec![other]
        };
        let none = || Trouble::Nothing("there is no such name");
        let late = || Trouble::NoAnswer("timed out".to_owned());
        let said = |hosts: Vec<Vec<_>>| {
            let hosts: Vec<_> = hosts.into_iter().flatten().collect();
            let nothing = targets(&hosts).is_empty();
            trouble(hosts, nothing).map(|trouble| trouble.to_string())
        };
        let there = || vec![host(0, 0, &[1])];
        assert_eq!(said(vec![there()]), None);
        assert_eq!(said(vec![there(), with(&[], none())]), None);
        let both = said(vec![there(), with(&[], late())]);
        assert_eq!(both.as_deref(), Some("timed out"));
        let both = said(vec![with(&[], late()), with(&[], none())]);
        assert_eq!(both.as_deref(), Some("timed out"));
        let one = said(vec![with(&[], none())]);
        assert_eq!(one.as_deref(), Some("there is no such name"));
        assert!(said(vec![vec![host(0, 0, &[])]]).is_some());
        // Those that are gone are named.
        let named = |name: &str| {
            let mut gone = with(&[], none());
            gone[0].0.name = rr::Name::from_ascii(name).expect("a name");
            gone
        };
        let hosts = [
            named("b.test."),
            there(),
            named("a.test."),
            named("b.test."),
        ];
        let hosts: Vec<_> = hosts.into_iter().flatten().collect();
        assert_eq!(missing(&hosts, false), ["a.test", "b.test"]);
        assert!(missing(&named("a.test."), true).is_empty());
        assert!(missing(&there(), false).is_empty());
    }

    #[test]
    fn a_host_that_is_gone_is_news_once() {
        let gone = |ips: &[u8], missing: &[&str]| Found {
            missing: missing.iter().map(ToString::to_string).collect(),
            ..found(ips, 60, None)
        };
        let mut known = unknown();
        let mut told = |found| known.take(found).0.map(|looked| looked.missing);
        let named = Some(vec!["a.test".to_owned()]);
        let nobody = Some(Vec::<String>::new());
        assert_eq!(told(gone(&[1], &[])), nobody);
        assert_eq!(told(gone(&[1], &["a.test"])), named);
        assert_eq!(told(gone(&[1], &["a.test"])), None);
        // Nor again with another change, or when nothing was known for a while.
        assert_eq!(told(gone(&[2], &["a.test"])), nobody);
        assert_eq!(told(found(&[], 60, Some("none"))), nobody);
        assert_eq!(told(gone(&[2], &["a.test"])), nobody);
        assert_eq!(told(gone(&[2], &[])), nobody);
        assert_eq!(told(gone(&[2], &["a.test"])), named);
    }

    #[test]
    fn only_news_is_told_and_trouble_changes_nothing_of_what_was_whole() {
        let mut known = unknown();
        // Not whole yet: half is better than nothing.
        let news = known.trouble_told(found(&[1], 60, Some("half")));
        assert_eq!(
            (news, known.resolved.targets.len()),
            (Some(Some("half".to_owned())), 1)
        );
        assert_eq!(known.trouble_told(found(&[], 60, Some("none"))), None);
        assert_eq!(known.resolved.targets.len(), 1);
        assert_eq!(known.trouble_told(found(&[1, 2], 60, None)), Some(None));
        assert_eq!(known.trouble_told(found(&[1, 2], 60, None)), None);
        assert!(known.take(found(&[1], 60, Some("half"))).0.is_some());
        assert_eq!(known.resolved.targets.len(), 2);
        assert_eq!(known.trouble_told(found(&[], 60, Some("none"))), None);
        assert_eq!(known.trouble_told(found(&[1, 2], 60, None)), Some(None));
        assert_eq!(known.trouble_told(found(&[3], 60, None)), Some(None));
        assert_eq!(known.resolved.targets, targets(&[host(0, 0, &[3])]));
        // Nor of what another has found, as the program before an upgrade.
        let mut half = unknown().resolved;
        half.targets = targets(&[host(0, 0, &[1, 2])]);
        let whole = true;
        let mut known = Known::new(Resolved {
            whole,
            ..half.clone()
        });
        assert!(known.take(found(&[1], 60, Some("half"))).0.is_some());
        assert_eq!(known.resolved.targets.len(), 2);
        assert_eq!(known.trouble_told(found(&[3], 60, None)), Some(None));
        assert_eq!(known.resolved.targets, targets(&[host(0, 0, &[3])]));
        // What never was whole changes by halves after that, too.
        let mut known = Known::new(half);
        known.take(found(&[], 60, Some("none")));
        assert_eq!(known.resolved.targets.len(), 2);
        known.take(found(&[3], 60, Some("half")));
        assert_eq!(known.resolved.targets, targets(&[host(0, 0, &[3])]));
        // The first word comes even where there is nothing to say but that.
        let news = unknown().trouble_told(found(&[], 0, Some("none")));
        assert_eq!(news, Some(Some("none".to_owned())));
    }

    #[test]
    fn it_looks_again_by_the_ttl_within_bounds_and_more_slowly_after_failures() {
        let mut known = unknown();
        let mut pause = |seconds, trouble| known.take(found(&[1], seconds, trouble)).1.as_secs();
        assert_eq!(pause(0, None), 1);
        assert_eq!(pause(30, None), 30);
        assert_eq!(pause(1_000_000, None), 3600);
        let pauses: Vec<_> = (0..9).map(|_| pause(30, Some("none"))).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(pause(30, None), 30);
        assert_eq!(pause(30, Some("none")), 1);
    }
}
