//! What flags and file say of stateful relay; each value that `merge` has more
//! to say of with its place.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AccountingTarget, StatefulDraft, TIMERS, TRANSACTIONS, text};
use crate::config::diagnostic::{Origin, Report};
use crate::config::file::{integer, list, parse, parse_all, value, values};
use crate::config::methods::{method, stateful_method};
use crate::config::table::{Placed, Section};

/// An `[[on-failure]]`.
#[derive(Debug)]
pub(in crate::config) struct OnFailureDraft {
    pub(super) origin: Origin,
    pub(super) statuses: Vec<u16>,
    pub(super) set: Placed<String>,
    pub(super) request_uri: Option<String>,
    pub(super) from_sets: Vec<Placed<String>>,
}

impl StatefulDraft {
    /// What is said in `self`, or else at the top level of the file; of timers,
    /// each by itself.
    pub(in crate::config) fn or_file(self, top: &mut Section<'_>, report: &mut Report) -> Self {
        let mut timers = read_timers(top, report);
        timers.extend(self.timers);
        let methods = list(top, "stateful", stateful_method, report);
        let transactions = integer(top, "transactions", TRANSACTIONS, report);
        let failover_after = parse(top, "failover-after", text::time, report);
        let failover_status = list(top, "failover-status", text::failure, report).map(values);
        let retry_after_cap = value(top, "retry-after-cap", text::time_or_none, report);
        let ring_timeout = parse(top, "ring-timeout", text::time_or_none, report);
        let given = self.accounting.is_some();
        let (accounting, accounting_methods) = read_accounting(top, given, report);
        Self {
            methods: self.methods.or(methods),
            transactions: self.transactions.or(transactions),
            timers,
            failover_after: self.failover_after.or(failover_after),
            failover_status: self.failover_status.or(failover_status),
            retry_after_cap: self.retry_after_cap.or(retry_after_cap),
            ring_timeout: self.ring_timeout.or(ring_timeout),
            accounting: self.accounting.or(accounting),
            accounting_methods: self.accounting_methods.or(accounting_methods),
        }
    }
}

fn read_timers(
    top: &mut Section<'_>,
    report: &mut Report,
) -> BTreeMap<&'static str, Placed<Duration>> {
    let section = top.take("timers");
    let Some(mut section) = section.and_then(|item| item.section("[timers]", report)) else {
        return BTreeMap::new();
    };
    let timers = TIMERS.iter().filter_map(|(name, _)| {
        let time = parse(&mut section, name, text::time, report)?;
        Some((*name, time))
    });
    let timers = timers.collect();
    section.finish(report);
    timers
}

/// Takes the failure rules.
pub(in crate::config) fn on_failure(
    top: &mut Section<'_>,
    report: &mut Report,
) -> Vec<OnFailureDraft> {
    let rules = top.sections("on-failure", "[[on-failure]]", report);
    let rules = rules.into_iter();
    rules.filter_map(|section| rule(section, report)).collect()
}

fn rule(mut section: Section<'_>, report: &mut Report) -> Option<OnFailureDraft> {
    let statuses = section.require("status", report);
    let statuses = statuses.map(|item| item.one_or_many(report));
    let statuses = statuses.into_iter().flatten();
    let statuses: Vec<_> = statuses
        .filter_map(|item| item.parse_number_or_string(text::failure, report))
        .collect();
    let set = section
        .require("set", report)
        .and_then(|item| item.text(report));
    let request_uri = value(&mut section, "request-uri", text::request_uri, report);
    let from_sets = parse_all(&mut section, "from-set", |name| Ok(name.to_owned()), report);
    let origin = section.origin.clone();
    section.finish(report);
    Some(OnFailureDraft {
        origin,
        statuses: values(statuses),
        set: set?,
        request_uri,
        from_sets,
    })
}

/// Its target must be there unless it is `given` by a flag.
fn read_accounting(
    top: &mut Section<'_>,
    given: bool,
    report: &mut Report,
) -> (
    Option<Placed<AccountingTarget>>,
    Option<Vec<Placed<String>>>,
) {
    let section = top.take("accounting");
    let Some(mut section) = section.and_then(|item| item.section("[accounting]", report)) else {
        return (None, None);
    };
    let target = section.take_or_require("to", given, report);
    let target = target.and_then(|item| item.parse(text::accounting_target, report));
    let methods = section.take("methods");
    let methods = methods.map(|item| item.parse_all(method, report));
    section.finish(report);
    (target, methods)
}
