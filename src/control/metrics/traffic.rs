//! What passes, what does not, and what it costs.

use super::page::Page;
use super::{Input, errno};
use crate::config::Config;
use crate::worker::{Totals, TransactionTotals, WorkerTotals};

pub(super) fn add(page: &mut Page, input: &Input<'_>) {
    let totals = input.totals;
    add_workers(page, &totals.workers, &input.facts.config);
    add_messages(page, totals);
    add_losses(page, totals);
    add_paths(page, totals);
    add_transactions(page, &totals.transactions, totals);
    add_records(page, input);
}

fn add_workers(page: &mut Page, workers: &[WorkerTotals], config: &Config) {
    let numbered = || {
        let workers = workers.iter().enumerate();
        workers.map(|(number, worker)| (number.to_string(), worker))
    };
    page.counters(
        "viaduct_datagrams_received",
        "Datagrams received.",
        ["worker"],
        numbered().map(|(number, worker)| ([number], worker.received)),
    );
    page.counters(
        "viaduct_worker_busy_seconds",
        "Time that a worker was on a processor; one that looks at its sockets without pause \
         (spin) always is.",
        ["worker"],
        numbered().map(|(number, worker)| ([number], worker.busy)),
    );
    page.counters(
        "viaduct_worker_runnable_wait_seconds",
        "Time that a worker had something to do and waited for a processor: after it was woken \
         up, or when another thread had taken its place.",
        ["worker"],
        numbered().map(|(number, worker)| ([number], worker.waiting)),
    );
    let overflow = numbered().flat_map(|(number, worker)| {
        let sockets = config.listeners.iter().zip(&worker.overflow);
        sockets.map(move |(listener, n)| ([listener.name.clone(), number.clone()], *n))
    });
    page.counters(
        "viaduct_socket_overflow",
        "Datagrams that the kernel dropped before a worker could take them: the receive buffer \
         was full.",
        ["listener", "worker"],
        overflow,
    );
}

fn add_messages(page: &mut Page, totals: &Totals) {
    let requests = totals.requests.iter();
    page.counters(
        "viaduct_requests",
        "Requests sent on, by method; `other` for all that no RFC defines.",
        ["method"],
        requests.map(|(method, n)| ([(*method).to_owned()], *n)),
    );
    let responses = totals.responses.iter();
    page.counters(
        "viaduct_responses",
        "Responses sent on, and those that transactions took in, by class.",
        ["class"],
        responses.map(|(class, n)| ([(*class).to_owned()], *n)),
    );
    let replies = totals.replies.iter();
    page.counters(
        "viaduct_replies",
        "Replies of our own, by status.",
        ["status"],
        replies.map(|(status, n)| ([status.to_string()], *n)),
    );
    page.histogram(
        "viaduct_time_in_balancer_seconds",
        "The longest that a datagram of each batch can have been here: from when its socket was \
         last empty, or its worker woke up, until all of the batch was sent.",
        &totals.time_in_balancer,
    );
    page.histogram(
        "viaduct_batch_datagrams",
        "Datagrams that were received together.",
        &totals.batches,
    );
    page.histogram(
        "viaduct_run_datagrams",
        "Datagrams that left together in one run (UDP GSO).",
        &totals.runs,
    );
}

fn add_losses(page: &mut Page, totals: &Totals) {
    let dropped = totals.dropped.iter();
    page.counters(
        "viaduct_dropped",
        "Datagrams dropped, by reason; docs/metrics.md explains each.",
        ["reason"],
        dropped.map(|(reason, n)| ([(*reason).to_owned()], *n)),
    );
    let usual = errno::KNOWN.map(|(errno, _)| errno.raw_os_error());
    let others = totals.send_errors.keys().copied();
    let others = others.filter(|number| !usual.contains(number));
    let count = |number: &i32| totals.send_errors.get(number).copied().unwrap_or(0);
    page.counters(
        "viaduct_send_errors",
        "Datagrams that the kernel did not take, by its error.",
        ["errno"],
        usual
            .into_iter()
            .chain(others)
            .map(|number| ([errno::name(number)], count(&number))),
    );
    page.counter(
        "viaduct_receive_errors",
        "Receives that failed.",
        totals.receive_errors,
    );
    page.counter(
        "viaduct_runs_refused",
        "Runs that the kernel did not take as such; their datagrams went one by one.",
        totals.runs_refused,
    );
    page.counter(
        "viaduct_undelivered",
        "Datagrams of ours that ICMP brought back; it is listened to for stateful relay alone.",
        totals.came_back,
    );
}

fn add_paths(page: &mut Page, totals: &Totals) {
    page.outcomes(
        "viaduct_cookies",
        "Cookies that requests brought back in a Route, by what came of them.",
        [
            ("followed", totals.cookies_followed),
            ("gone", totals.cookies_gone),
            ("forged", totals.cookies_forged),
        ],
    );
    page.counter(
        "viaduct_second_chances",
        "Copies of CANCEL and ACK sent to who may have had the call before a change.",
        totals.second_chances,
    );
    page.outcomes(
        "viaduct_name_waits",
        "Requests whose next hop is a name that was not known, by whether there was room to wait.",
        [
            ("held", totals.requests_held),
            ("refused", totals.requests_not_held),
        ],
    );
    page.outcomes(
        "viaduct_names",
        "Names of next hops that were asked for, by outcome.",
        [
            ("resolved", totals.names_resolved),
            ("failed", totals.names_failed),
        ],
    );
}

fn add_transactions(page: &mut Page, transactions: &TransactionTotals, totals: &Totals) {
    page.gauge(
        "viaduct_transactions",
        "Transactions that are remembered.",
        transactions.held,
    );
    for (name, help, n) in [
        (
            "viaduct_transactions_begun",
            "Transactions that began.",
            transactions.begun,
        ),
        (
            "viaduct_transactions_full",
            "Requests relayed without a transaction, or answered 503, for the table was full.",
            transactions.full,
        ),
        (
            "viaduct_transactions_evicted",
            "Transactions forgotten early to make room for new ones.",
            transactions.evicted,
        ),
        (
            "viaduct_retransmissions_absorbed",
            "Messages that transactions kept from going further, but for failures that lead on or \
             are held back.",
            transactions.absorbed,
        ),
        (
            "viaduct_retransmissions_sent",
            "Retransmissions of our own.",
            transactions.retransmitted,
        ),
        (
            "viaduct_failovers",
            "Times that a request was tried at another destination.",
            transactions.failed_over,
        ),
        (
            "viaduct_failure_rules_applied",
            "Times that a failure rule sent a call on to another set.",
            transactions.failure_rules_applied,
        ),
        (
            "viaduct_attempts_cancelled",
            "Attempts that we cancelled.",
            transactions.attempts_cancelled,
        ),
    ] {
        page.counter(name, help, n);
    }
    page.outcomes(
        "viaduct_handovers",
        "Datagrams handed to the worker that has their transaction, by whether it had room.",
        [
            ("taken", totals.handed_over),
            ("refused", totals.not_handed_over),
        ],
    );
}

/// What is written down elsewhere; all at zero where it is switched off.
fn add_records(page: &mut Page, input: &Input<'_>) {
    let accounting = input.totals.accounting;
    page.counter(
        "viaduct_accounting_written",
        "Lines of accounting that were written.",
        accounting.map_or(0, |lines| lines.written),
    );
    page.counter(
        "viaduct_accounting_dropped",
        "Lines of accounting that are lost.",
        accounting.map_or(0, |lines| lines.dropped),
    );
    page.gauge(
        "viaduct_accounting_waiting",
        "Lines of accounting that wait to be written.",
        input.totals.accounting_waiting,
    );
    let mirror = input.totals.mirror.unwrap_or_default();
    page.outcomes(
        "viaduct_mirror_copies",
        "Copies of messages for the collector, by outcome.",
        [
            ("sent", mirror.sent),
            ("dropped", mirror.dropped),
            ("failed", mirror.failed),
        ],
    );
}
