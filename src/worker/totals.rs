//! What all workers have counted, added up.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Shared;
use super::counters::{CLASSES, Counters, Each};
use super::histogram::Distribution;
use crate::accounting;
use crate::mirror;
use crate::proxy::{Reason, Status};
use crate::sip::Method;

/// What is counted by class of response.
const CLASS_NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx", "6xx"];

/// The counters of all workers, added up. Each counts from the start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Datagrams received.
    pub received: u64,
    /// Requests sent on, by method; all that no RFC defines as `other`.
    pub requests: BTreeMap<String, u64>,
    /// Responses sent on or taken in by transactions, by class: `1xx` to `6xx`.
    pub responses: BTreeMap<String, u64>,
    /// By destination, in the order of the configuration.
    pub destinations: Vec<DestinationTotals>,
    /// By worker.
    pub workers: Vec<WorkerTotals>,
    /// Datagrams in each batch that was received.
    pub batches: Distribution,
    /// Datagrams in each run that was sent.
    pub runs: Distribution,
    /// Runs that the kernel did not take as such.
    pub runs_refused: u64,
    /// Seconds that the datagrams of each batch were in the load balancer at
    /// most, until they were sent. What a worker that slept took to wake up is
    /// not in it.
    pub time_in_balancer: Distribution,
    /// Copies of CANCEL and ACK that were sent beside them.
    pub second_chances: u64,
    /// Requests that a cookie led.
    pub cookies_followed: u64,
    /// Cookies whose destination was no longer there.
    pub cookies_gone: u64,
    /// Cookies that were not ours.
    pub cookies_forged: u64,
    /// Requests that waited for the name of their next hop.
    pub requests_held: u64,
    /// Requests that could not, for too many did.
    pub requests_not_held: u64,
    /// Names that were resolved.
    pub names_resolved: u64,
    /// Names that were not.
    pub names_failed: u64,
    /// What transactions did.
    pub transactions: TransactionTotals,
    /// Datagrams given to another worker.
    pub handed_over: u64,
    /// Datagrams that were to be, but found its queue full.
    pub not_handed_over: u64,
    /// Datagrams that ICMP brought back.
    pub came_back: u64,
    /// Lines of accounting; `None`: there is no accounting.
    pub accounting: Option<accounting::Counts>,
    /// Lines of accounting that wait to be written.
    pub accounting_waiting: u64,
    /// Copies of messages; `None`: there is no mirror.
    pub mirror: Option<mirror::Counts>,
    /// Replies of our own, by status, all that there may be.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub replies: BTreeMap<u16, u64>,
    /// Datagrams dropped, by reason, all that there are.
    pub dropped: BTreeMap<String, u64>,
    /// Datagrams that the kernel did not take, by error number, where there
    /// were any.
    #[schema(value_type = BTreeMap<String, u64>)]
    pub send_errors: BTreeMap<i32, u64>,
    /// Receives that failed.
    pub receive_errors: u64,
}

/// What all workers have counted of one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DestinationTotals {
    /// The name of its set.
    pub set: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Requests sent to it.
    pub requests: u64,
    /// Those among them that had been sent to it before; at least so many, for
    /// what is remembered is bounded.
    pub retransmitted: u64,
    /// Responses from it, by class. Of one that is in several
    /// sets, they count in the first where it takes work.
    pub responses: BTreeMap<String, u64>,
    /// Times that a transaction found it silent, unreachable or busy.
    pub suspected: u64,
    /// Seconds since a datagram came from it that counts, if any did.
    pub last_seen: Option<u64>,
    /// Seconds since a request within a dialog went to it or came from it, if
    /// any did.
    pub last_in_dialog: Option<u64>,
}

/// What one worker has counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct WorkerTotals {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams that the kernel dropped before it, by listener.
    pub overflow: Vec<u64>,
    /// Seconds that it was on a processor.
    pub busy: f64,
    /// Seconds that it had something to do and waited for a processor.
    pub waiting: f64,
}

/// What transactions did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionTotals {
    /// How many there are.
    pub held: u64,
    /// How many began.
    pub begun: u64,
    /// Requests that had none, for the table was full.
    pub full: u64,
    /// Transactions forgotten for new ones.
    pub evicted: u64,
    /// Retransmissions absorbed.
    pub absorbed: u64,
    /// Retransmissions of our own.
    pub retransmitted: u64,
    /// Times that another destination was tried.
    pub failed_over: u64,
    /// Times that a failure rule sent a call on.
    pub failure_rules_applied: u64,
    /// Attempts that we cancelled.
    pub attempts_cancelled: u64,
}

/// Counts by name.
fn named(
    names: impl IntoIterator<Item = &'static str>,
    counts: impl IntoIterator<Item = u64>,
) -> BTreeMap<String, u64> {
    let names = names.into_iter().map(str::to_owned);
    names.zip(counts).collect()
}

pub(super) fn by_class(counts: [u64; CLASSES]) -> BTreeMap<String, u64> {
    named(CLASS_NAMES, counts)
}

impl Totals {
    /// Adds up what the workers have counted so far.
    #[must_use]
    pub fn of(workers: &[Arc<Counters>], shared: &Shared) -> Self {
        let all = || workers.iter().map(|worker| &**worker);
        let sum = |field: fn(&Counters) -> &AtomicU64| {
            all().map(|each| field(each).load(Ordering::Relaxed)).sum()
        };
        let methods = Method::ALL.iter().map(|method| method.name());
        let statuses = Status::ALL.iter().map(|status| status.code());
        let reasons = Reason::ALL.iter().map(|reason| reason.name());
        let snapshot = shared.latest.load();
        let accounting = shared.accounting.as_ref();
        Self {
            received: all().map(|each| each.batches.sum()).sum(),
            requests: named(methods, Each::sums(all().map(|each| &each.requests))),
            responses: by_class(Each::sums(all().map(|each| &each.responses))),
            destinations: snapshot.destinations(super::now(shared.started)),
            workers: all().map(WorkerTotals::of).collect(),
            batches: Distribution::of_sizes(all().map(|each| &each.batches)),
            runs: Distribution::of_sizes(all().map(|each| &each.runs)),
            runs_refused: sum(|each| &each.refused_runs),
            time_in_balancer: Distribution::of_times(all().map(|each| &each.in_balancer)),
            second_chances: sum(|each| &each.second_chances),
            cookies_followed: sum(|each| &each.cookies_followed),
            cookies_gone: sum(|each| &each.cookies_gone),
            cookies_forged: sum(|each| &each.cookies_forged),
            requests_held: sum(|each| &each.held),
            requests_not_held: sum(|each| &each.not_held),
            names_resolved: sum(|each| &each.names_resolved),
            names_failed: sum(|each| &each.names_failed),
            transactions: TransactionTotals {
                held: sum(|each| &each.transactions),
                begun: sum(|each| &each.begun),
                full: sum(|each| &each.full),
                evicted: sum(|each| &each.evicted),
                absorbed: sum(|each| &each.absorbed),
                retransmitted: sum(|each| &each.retransmitted),
                failed_over: sum(|each| &each.failed_over),
                failure_rules_applied: sum(|each| &each.rules_applied),
                attempts_cancelled: sum(|each| &each.cancelled),
            },
            handed_over: sum(|each| &each.handed_over),
            not_handed_over: sum(|each| &each.not_handed_over),
            came_back: sum(|each| &each.came_back),
            accounting: accounting.map(accounting::Handle::counts),
            accounting_waiting: accounting.map_or(0, accounting::Handle::waiting),
            mirror: shared.mirror.as_ref().map(mirror::Handle::counts),
            replies: statuses
                .zip(Each::sums(all().map(|each| &each.replies)))
                .collect(),
            dropped: named(reasons, Each::sums(all().map(|each| &each.dropped))),
            send_errors: (0..)
                .zip(Each::sums(all().map(|each| &each.send_errors)))
                .filter(|(_, count)| *count > 0)
                .collect(),
            receive_errors: sum(|each| &each.receive_errors),
        }
    }

    /// Requests sent on.
    #[must_use]
    pub fn requests_forwarded(&self) -> u64 {
        self.requests.values().sum()
    }

    /// Responses sent on or taken in by transactions.
    #[must_use]
    pub fn responses_forwarded(&self) -> u64 {
        self.responses.values().sum()
    }
}

impl WorkerTotals {
    fn of(counters: &Counters) -> Self {
        let scheduled = counters.gauges.scheduled();
        Self {
            received: counters.batches.sum(),
            overflow: counters.gauges.overflow(),
            busy: scheduled.busy.as_secs_f64(),
            waiting: scheduled.waiting.as_secs_f64(),
        }
    }
}
