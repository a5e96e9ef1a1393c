//! What the file, or the flags, say of stateful relay; each value with its
//! place, for `merge` has more to say of some.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{AccountingTarget, StatefulSettings, TIMERS, TRANSACTIONS, text};
use crate::config::diagnostic::{Origin, Report};
use crate::config::file::{TOP_LEVEL, list, parse, parse_all, values};
use crate::config::methods::{method, stateful_method};
use crate::config::table::{Placed, Section};

/// As read; what is not written is `None` or not there.
#[derive(Debug, Default)]
pub(in crate::config) struct StatefulDraft {
    pub(super) methods: Option<Vec<Placed<String>>>,
    pub(super) transactions: Option<usize>,
    pub(super) timers: BTreeMap<&'static str, Placed<Duration>>,
    pub(super) failover_after: Option<Placed<Duration>>,
    pub(super) failover_status: Option<Vec<u16>>,
    pub(super) retry_after_cap: Option<Duration>,
    pub(super) ring_timeout: Option<Placed<Duration>>,
    pub(super) on_failure: Vec<OnFailureDraft>,
    pub(super) accounting: Option<Placed<AccountingTarget>>,
    pub(super) accounting_methods: Option<Vec<Placed<String>>>,
}

/// An `[[on-failure]]`.
#[derive(Debug)]
pub(super) struct OnFailureDraft {
    pub(super) origin: Origin,
    pub(super) statuses: Vec<u16>,
    pub(super) set: Placed<String>,
    pub(super) request_uri: Option<String>,
    pub(super) from_sets: Vec<Placed<String>>,
}

impl StatefulDraft {
    /// Takes the keys of stateful relay from the top level of the file.
    pub(in crate::config) fn take(top: &mut Section<'_>, report: &mut Report) -> Self {
        let timers = top
            .take("timers")
            .and_then(|item| item.section("[timers]", report));
        let rules = top.sections("on-failure", "[[on-failure]]", report);
        let accounting = top
            .take("accounting")
            .and_then(|item| item.section("[accounting]", report));
        let (accounting, accounting_methods) =
            accounting.map_or((None, None), |section| read_accounting(section, report));
        Self {
            methods: top
                .take("stateful")
                .map(|item| list(item, stateful_method, report)),
            transactions: top
                .take("transactions")
                .and_then(|item| item.integer(TRANSACTIONS, report)),
            timers: timers.map_or_else(BTreeMap::new, |section| read_timers(section, report)),
            failover_after: parse(top, "failover-after", text::time, report),
            failover_status: top
                .take("failover-status")
                .map(|item| values(list(item, text::failure, report))),
            retry_after_cap: parse(top, "retry-after-cap", text::time_or_none, report)
                .map(|cap| cap.value),
            ring_timeout: parse(top, "ring-timeout", text::time_or_none, report),
            on_failure: rules
                .into_iter()
                .filter_map(|section| on_failure(section, report))
                .collect(),
            accounting,
            accounting_methods,
        }
    }

    /// What the flags say, in the same form.
    pub(in crate::config) fn of_flags(flags: &StatefulSettings) -> Self {
        fn place<T: Clone>(flag: &'static str, value: &T) -> Placed<T> {
            Placed::new(value.clone(), Origin::Flag(flag))
        }
        let all = |flag, methods: &Option<Vec<String>>| {
            let methods = methods.as_ref()?.iter();
            Some(methods.map(|method| place(flag, method)).collect())
        };
        let timers = flags.timers.iter();
        Self {
            methods: all("--stateful", &flags.methods),
            transactions: flags.transactions,
            timers: timers
                .map(|(name, time)| (*name, place("--timer", time)))
                .collect(),
            failover_after: flags
                .failover_after
                .map(|time| place("--failover-after", &time)),
            failover_status: flags.failover_status.clone(),
            retry_after_cap: flags.retry_after_cap,
            ring_timeout: flags
                .ring_timeout
                .map(|time| place("--ring-timeout", &time)),
            on_failure: Vec::new(),
            accounting: flags
                .accounting
                .as_ref()
                .map(|target| place("--accounting", target)),
            accounting_methods: all("--accounting-method", &flags.accounting_methods),
        }
    }

    /// Both, where this one goes before `file`; each timer by itself.
    pub(in crate::config) fn over(self, file: Self) -> Self {
        let mut timers = file.timers;
        timers.extend(self.timers);
        Self {
            methods: self.methods.or(file.methods),
            transactions: self.transactions.or(file.transactions),
            timers,
            failover_after: self.failover_after.or(file.failover_after),
            failover_status: self.failover_status.or(file.failover_status),
            retry_after_cap: self.retry_after_cap.or(file.retry_after_cap),
            ring_timeout: self.ring_timeout.or(file.ring_timeout),
            on_failure: file.on_failure,
            accounting: self.accounting.or(file.accounting),
            accounting_methods: self.accounting_methods.or(file.accounting_methods),
        }
    }
}

fn read_timers(
    mut section: Section<'_>,
    report: &mut Report,
) -> BTreeMap<&'static str, Placed<Duration>> {
    let timers = TIMERS.iter().filter_map(|(name, _)| {
        let time = parse(&mut section, name, text::time, report)?;
        Some((*name, time))
    });
    let timers = timers.collect();
    section.finish(&TOP_LEVEL, report);
    timers
}

fn on_failure(mut section: Section<'_>, report: &mut Report) -> Option<OnFailureDraft> {
    let statuses = section.require("status", report);
    let statuses = statuses.map(|item| item.one_or_many(report));
    let statuses = statuses.into_iter().flatten();
    let statuses: Vec<_> = statuses
        .filter_map(|item| item.parse_number_or_string(text::failure, report))
        .collect();
    let set = section
        .require("set", report)
        .and_then(|item| item.text(report));
    let request_uri = parse(&mut section, "request-uri", text::request_uri, report);
    let from_sets = parse_all(&mut section, "from-set", |name| Ok(name.to_owned()), report);
    let origin = section.origin.clone();
    section.finish(&TOP_LEVEL, report);
    Some(OnFailureDraft {
        origin,
        statuses: values(statuses),
        set: set?,
        request_uri: request_uri.map(|uri| uri.value),
        from_sets,
    })
}

fn read_accounting(
    mut section: Section<'_>,
    report: &mut Report,
) -> (
    Option<Placed<AccountingTarget>>,
    Option<Vec<Placed<String>>>,
) {
    let target = section
        .require("to", report)
        .and_then(|item| item.parse(text::accounting_target, report));
    let written = section.has("methods");
    let methods = parse_all(&mut section, "methods", method, report);
    section.finish(&TOP_LEVEL, report);
    (target, written.then_some(methods))
}
