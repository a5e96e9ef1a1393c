//! What two looks at the counters say of the time between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use crate::config::State;
use crate::control::Status;
use crate::control::status::{DestinationStatus, HealthStatus, SetStatus, WorkerStatus};
use crate::worker::Distribution;

/// How fast everything went. All `_per_second` are means over `seconds`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// When, in Unix seconds.
    pub(super) time: f64,
    /// Over how many seconds.
    pub(super) seconds: f64,
    /// Whether that is all the time since the start.
    pub(super) since_start: bool,
    /// INVITEs sent on.
    pub(super) calls_per_second: f64,
    /// Datagrams received.
    pub(super) messages_per_second: f64,
    /// Responses sent on, by class.
    pub(super) responses_per_second: BTreeMap<String, f64>,
    /// Replies of our own.
    pub(super) replies_per_second: f64,
    /// Datagrams dropped, for each reason that there has been.
    pub(super) dropped: Vec<Dropped>,
    /// The median of the time in the load balancer, where anything came.
    pub(super) in_balancer_p50_ms: Option<f64>,
    /// Its 99th percentile.
    pub(super) in_balancer_p99_ms: Option<f64>,
    /// Transactions begun.
    pub(super) transactions_per_second: f64,
    /// Times that another destination was tried.
    pub(super) failovers_per_second: f64,
    /// Retransmissions of our own.
    pub(super) retransmissions_per_second: f64,
    /// In the order of the status.
    pub(super) sets: Vec<SetRates>,
    /// In the order of the status.
    pub(super) workers: Vec<WorkerRates>,
}

/// Datagrams dropped for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Dropped {
    pub(super) reason: String,
    pub(super) per_second: f64,
    /// Since the start.
    pub(super) total: u64,
}

/// How fast it went in one set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SetRates {
    pub(super) name: String,
    /// In the order of the status.
    pub(super) destinations: Vec<DestinationRates>,
}

/// How fast it went at one destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct DestinationRates {
    pub(super) address: SocketAddr,
    pub(super) state: State,
    pub(super) health: HealthStatus,
    /// Requests sent to it.
    pub(super) requests_per_second: f64,
    /// Responses from it, by class.
    pub(super) responses_per_second: BTreeMap<String, f64>,
    /// Its part of the requests to its set, where there were any: 0 to 1.
    pub(super) share: Option<f64>,
    /// The part of new work that its weight gives it: 0 to 1.
    pub(super) due: f64,
    /// Retransmissions among its requests, where there were any: 0 to 1.
    pub(super) retransmitted: Option<f64>,
}

/// How busy one worker was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct WorkerRates {
    pub(super) number: usize,
    /// The part of the time that it was on a processor: 0 to 1.
    pub(super) busy: f64,
    /// Datagrams received.
    pub(super) messages_per_second: f64,
    /// Datagrams that the kernel dropped before it.
    pub(super) overflow_per_second: f64,
}

impl Rates {
    /// From `before` to `now`. Without one before, or where the process is
    /// another one, they are those since its start.
    pub(super) fn between(before: Option<&Status>, now: &Status) -> Self {
        let time = Interval::new(before, now);
        let totals = &now.totals;
        let quantile = |q| time.quantile(q, |of| &of.totals.time_in_balancer);
        let dropped = totals.dropped.iter().filter(|(_, total)| **total > 0);
        let sets = now.sets.iter().map(|set| time.set(set));
        let workers = now.workers.iter().map(|worker| time.worker(worker));
        Self {
            time: now.time,
            seconds: time.seconds,
            since_start: time.before.is_none(),
            calls_per_second: time.rate(|of| named(&of.totals.requests, "INVITE")),
            messages_per_second: time.rate(|of| of.totals.received),
            responses_per_second: time.rates(&totals.responses, |of| Some(&of.totals.responses)),
            replies_per_second: time.rate(|of| of.totals.replies.values().sum()),
            dropped: dropped
                .map(|(reason, total)| Dropped {
                    reason: reason.clone(),
                    per_second: time.rate(|of| named(&of.totals.dropped, reason)),
                    total: *total,
                })
                .collect(),
            in_balancer_p50_ms: quantile(0.5).map(|seconds| seconds * 1000.0),
            in_balancer_p99_ms: quantile(0.99).map(|seconds| seconds * 1000.0),
            transactions_per_second: time.rate(|of| of.totals.transactions.begun),
            failovers_per_second: time.rate(|of| of.totals.transactions.failed_over),
            retransmissions_per_second: time.rate(|of| of.totals.transactions.retransmitted),
            sets: sets.collect(),
            workers: workers.collect(),
        }
    }
}

fn named(counts: &BTreeMap<String, u64>, name: &str) -> u64 {
    counts.get(name).copied().unwrap_or(0)
}

fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

/// Two looks, and the time between them.
struct Interval<'a> {
    before: Option<&'a Status>,
    now: &'a Status,
    seconds: f64,
}

impl<'a> Interval<'a> {
    fn new(before: Option<&'a Status>, now: &'a Status) -> Self {
        // An upgrade keeps the process number, and in a container each has the same.
        let before = before.filter(|before| before.started == now.started);
        Self {
            before,
            now,
            seconds: now.uptime_seconds - before.map_or(0.0, |before| before.uptime_seconds),
        }
    }

    fn rate(&self, count: impl Fn(&Status) -> u64) -> f64 {
        let before = self.before.map_or(0, &count);
        count(self.now).saturating_sub(before) as f64 / self.seconds
    }

    /// By the names of `now`.
    fn rates<'b>(
        &self,
        now: &BTreeMap<String, u64>,
        counts: impl Fn(&'b Status) -> Option<&'b BTreeMap<String, u64>>,
    ) -> BTreeMap<String, f64>
    where
        'a: 'b,
    {
        let before = self.before.and_then(counts);
        let each = now.iter().map(|(name, count)| {
            let before = before.map_or(0, |before| named(before, name));
            let grown = count.saturating_sub(before) as f64;
            (name.clone(), grown / self.seconds)
        });
        each.collect()
    }

    /// The value below which the part `q` of the values in between lie, as
    /// far as their buckets tell; within a bucket they count as spread evenly.
    fn quantile(&self, q: f64, field: impl Fn(&Status) -> &Distribution) -> Option<f64> {
        let now = field(self.now);
        let counts: Vec<_> = (0..now.counts.len())
            .map(|i| {
                let before = self.before.and_then(|of| field(of).counts.get(i).copied());
                now.counts[i].saturating_sub(before.unwrap_or(0)) as f64
            })
            .collect();
        let mut left = q * counts.iter().sum::<f64>();
        let mut low = 0.0;
        for (count, high) in counts.iter().zip(&now.bounds) {
            if *count > 0.0 && left <= *count {
                return Some(low + (high - low) * left / count);
            }
            left -= count;
            low = *high;
        }
        // The last bucket has no bound to interpolate to.
        (counts.iter().sum::<f64>() > 0.0).then_some(low)
    }

    fn set(&self, set: &SetStatus) -> SetRates {
        let requests = |each: &DestinationStatus| {
            let before = self.destination(set, each);
            let before = before.map_or(0, |before| before.requests);
            each.requests.saturating_sub(before) as f64
        };
        let all: f64 = set.destinations.iter().map(requests).sum();
        let weights: f64 = set.destinations.iter().map(|each| each.share).sum();
        let destinations = set.destinations.iter().map(|each| {
            let before = self.destination(set, each);
            let resent = before.map_or(0, |before| before.retransmitted);
            let resent = each.retransmitted.saturating_sub(resent) as f64;
            DestinationRates {
                address: each.address,
                state: each.state,
                health: each.health,
                requests_per_second: requests(each) / self.seconds,
                responses_per_second: self.rates(&each.responses, |of| {
                    find(of, &set.name, each.address).map(|before| &before.responses)
                }),
                share: ratio(requests(each), all),
                due: ratio(each.share, weights).unwrap_or(0.0),
                retransmitted: ratio(resent, requests(each)),
            }
        });
        SetRates {
            name: set.name.clone(),
            destinations: destinations.collect(),
        }
    }

    fn destination(&self, set: &SetStatus, each: &DestinationStatus) -> Option<&DestinationStatus> {
        find(self.before?, &set.name, each.address)
    }

    fn worker(&self, worker: &WorkerStatus) -> WorkerRates {
        let before = self.before.and_then(|of| of.workers.get(worker.number));
        let busy = worker.busy_seconds - before.map_or(0.0, |before| before.busy_seconds);
        let of = |count: fn(&WorkerStatus) -> u64| {
            let grown = count(worker).saturating_sub(before.map_or(0, count));
            grown as f64 / self.seconds
        };
        WorkerRates {
            number: worker.number,
            busy: (busy / self.seconds).clamp(0.0, 1.0),
            messages_per_second: of(|worker| worker.received),
            overflow_per_second: of(|worker| worker.overflow.iter().sum()),
        }
    }
}

fn find<'a>(status: &'a Status, set: &str, address: SocketAddr) -> Option<&'a DestinationStatus> {
    let set = status.sets.iter().find(|each| each.name == set)?;
    let mut destinations = set.destinations.iter();
    destinations.find(|each| each.address == address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::top::sample;

    fn later() -> (Status, Status) {
        let before = sample::status();
        let mut now = before.clone();
        // The clock of the machine can be set.
        now.time -= 3_600.0;
        now.uptime_seconds += 2.0;
        (before, now)
    }

    #[test]
    fn a_rate_is_what_was_counted_since_the_look_before() {
        let (before, mut now) = later();
        now.totals.received += 1200;
        *now.totals.requests.get_mut("INVITE").unwrap() += 100;
        *now.totals.responses.get_mut("2xx").unwrap() += 200;
        *now.totals.dropped.get_mut("forged-response").unwrap() += 4;
        let rates = Rates::between(Some(&before), &now);
        assert_eq!((rates.seconds, rates.since_start), (2.0, false));
        assert_eq!(rates.calls_per_second, 50.0);
        assert_eq!(rates.messages_per_second, 600.0);
        assert_eq!(rates.responses_per_second["2xx"], 100.0);
        assert_eq!(rates.responses_per_second["5xx"], 0.0);
        let [dropped] = &rates.dropped[..] else {
            panic!("{:?}", rates.dropped)
        };
        assert_eq!((dropped.per_second, dropped.total), (2.0, 6));
    }

    #[test]
    fn without_a_look_before_the_rates_are_those_since_the_start() {
        let now = sample::status();
        let rates = Rates::between(None, &now);
        assert!(rates.since_start);
        assert_eq!(rates.seconds, now.uptime_seconds);
        assert_eq!(
            rates.messages_per_second,
            now.totals.received as f64 / now.uptime_seconds
        );
    }

    #[test]
    fn a_program_that_has_been_replaced_is_not_compared_with_the_old_one() {
        let (before, mut now) = later();
        now.started += 1.0;
        now.totals.received = 30;
        // However long each of them has run.
        for uptime in [1.0, 2.0 * before.uptime_seconds] {
            now.uptime_seconds = uptime;
            let rates = Rates::between(Some(&before), &now);
            let rate = rates.messages_per_second;
            assert_eq!((rates.since_start, rate), (true, 30.0 / uptime));
        }
    }

    #[test]
    fn shares_are_those_of_the_set_beside_what_the_weights_give() {
        let (before, mut now) = later();
        now.sets[0].destinations[0].requests += 30;
        now.sets[0].destinations[1].requests += 10;
        now.sets[0].destinations[1].retransmitted += 1;
        let rates = Rates::between(Some(&before), &now);
        let [first, second, drained] = &rates.sets[0].destinations[..] else {
            panic!("{:?}", rates.sets)
        };
        assert_eq!((first.share, second.share), (Some(0.75), Some(0.25)));
        assert_eq!((first.due, second.due, drained.due), (0.75, 0.25, 0.0));
        assert_eq!(first.requests_per_second, 15.0);
        assert_eq!(second.retransmitted, Some(0.1));
        assert_eq!(drained.retransmitted, None);
    }

    #[test]
    fn a_destination_that_has_come_counts_from_nothing() {
        let (mut before, now) = later();
        before.sets[0].destinations.remove(0);
        let rates = Rates::between(Some(&before), &now);
        let requests = now.sets[0].destinations[0].requests as f64;
        let found = rates.sets[0].destinations[0].requests_per_second;
        assert_eq!(found, requests / 2.0);
    }

    #[test]
    fn quantiles_are_of_the_time_in_between_alone() {
        let (before, mut now) = later();
        assert_eq!(Rates::between(Some(&before), &now).in_balancer_p50_ms, None);
        let times = &mut now.totals.time_in_balancer;
        let bucket = times.bounds.iter().position(|bound| *bound == 0.001);
        times.counts[bucket.unwrap()] += 100;
        let rates = Rates::between(Some(&before), &now);
        assert_eq!(rates.in_balancer_p50_ms, Some(0.75));
        assert!((rates.in_balancer_p99_ms.unwrap() - 0.995).abs() < 1e-9);
        *now.totals.time_in_balancer.counts.last_mut().unwrap() += 900;
        let rates = Rates::between(Some(&before), &now);
        assert_eq!(rates.in_balancer_p50_ms, Some(100.0));
    }

    #[test]
    fn a_worker_is_as_busy_as_it_was_on_a_processor() {
        let (before, mut now) = later();
        now.workers[1].busy_seconds += 0.5;
        now.workers[1].received += 10;
        now.workers[1].overflow[0] += 4;
        let worker = &Rates::between(Some(&before), &now).workers[1];
        assert!((worker.busy - 0.25).abs() < 1e-9);
        assert_eq!(worker.messages_per_second, 5.0);
        assert_eq!(worker.overflow_per_second, 2.0);
    }
}
