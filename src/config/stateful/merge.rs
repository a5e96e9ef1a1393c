//! Flags and file become one [`Stateful`]; what its values say of each other
//! and of the rest is checked.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::file::OnFailureDraft;
use super::{Accounting, AccountingTarget, MOST_RULES, OnFailure, Stateful, TIMERS, Timers, text};
use crate::config::Set;
use crate::config::diagnostic::{Fault, Origin, Report};
use crate::config::file::values;
use crate::config::methods::notice_slips;
use crate::config::table::Placed;
use crate::config::validate::{position, socket_path};

/// What flags and file say; what neither does is `None`.
#[derive(Clone, Debug, Default)]
pub struct StatefulDraft {
    /// See [`Stateful::methods`]; the default is none.
    pub methods: Option<Vec<Placed<String>>>,
    /// See [`Stateful::transactions`]; the default is 131072.
    pub transactions: Option<usize>,
    /// Timers by the names of RFC 3261 and RFC 6026, whose values are the
    /// default.
    pub timers: BTreeMap<&'static str, Placed<Duration>>,
    /// See [`Stateful::failover_after`]; the default is 1 second.
    pub failover_after: Option<Placed<Duration>>,
    /// See [`Stateful::failover_status`]; the default is 503.
    pub failover_status: Option<Vec<u16>>,
    /// See [`Stateful::retry_after_cap`]; the default is 30 seconds.
    pub retry_after_cap: Option<Duration>,
    /// See [`Stateful::ring_timeout`]; the default is 0.
    pub ring_timeout: Option<Placed<Duration>>,
    /// See [`Accounting::target`]; the default is none.
    pub accounting: Option<Placed<AccountingTarget>>,
    /// See [`Accounting::methods`]; the default is all stateful ones.
    pub accounting_methods: Option<Vec<Placed<String>>>,
}

/// "MUST be larger than 3 minutes" (RFC 3261 §16.6 item 11).
const C_ABOVE: Duration = Duration::from_secs(180);
/// "at least 32 seconds for unreliable transports" (RFC 3261 §17.1.1.2).
const D_FROM: Duration = Duration::from_secs(32);

impl StatefulDraft {
    /// Takes the defaults for what is not said. A path in the file is relative
    /// to `base`.
    pub(in crate::config) fn finish(
        self,
        on_failure: Vec<OnFailureDraft>,
        base: &Path,
        sets: &[Placed<Set>],
        report: &mut Report,
    ) -> Stateful {
        let default = Stateful::default();
        let timers = self.timers(report);
        let failover_after = self.failover_after.as_ref();
        let failover_after = failover_after.map_or(default.failover_after, |time| time.value);
        self.check_failover(failover_after, &timers, report);
        self.check_effects(&on_failure, report);
        if let Some(excess) = on_failure.get(MOST_RULES) {
            let fault = Fault::new(format!("there are {} failure rules", on_failure.len()));
            report.error(
                &excess.origin,
                fault.why(format!("{MOST_RULES} is the most")),
            );
        }
        let on_failure = on_failure.into_iter();
        let on_failure = on_failure.map(|draft| rule(draft, sets, report)).collect();
        let accounting_methods = values(self.accounting_methods.unwrap_or_default());
        let accounting = self.accounting.map(|target| Accounting {
            target: rebase(target, base, report),
            methods: accounting_methods,
        });
        Stateful {
            methods: values(self.methods.unwrap_or_default()),
            transactions: self.transactions.unwrap_or(default.transactions),
            timers,
            failover_after,
            failover_status: self.failover_status.unwrap_or(default.failover_status),
            retry_after_cap: self.retry_after_cap.unwrap_or(default.retry_after_cap),
            ring_timeout: self
                .ring_timeout
                .map_or(default.ring_timeout, |time| time.value),
            on_failure,
            accounting,
        }
    }

    /// Those that are given, the others after T1, T2 and T4.
    fn timers(&self, report: &mut Report) -> Timers {
        let given = |name, default| self.timers.get(name).map_or(default, |time| time.value);
        let Timers { t1, t2, t4, .. } = Timers::default();
        let mut timers = Timers::of(given("T1", t1), given("T2", t2), given("T4", t4));
        for (name, field) in TIMERS {
            let field = field(&mut timers);
            *field = given(name, *field);
        }
        if let Some(c) = self.timers.get("C").filter(|c| c.value <= C_ABOVE) {
            let fault = Fault::new("timer C is not longer than 3 minutes")
                .why("calls that ring for longer are given up (RFC 3261 §16.6 item 11)")
                .help("give 181s, and end calls that ring for too long by `ring-timeout`");
            report.warning(&c.origin, fault);
        }
        if let Some(d) = self.timers.get("D").filter(|d| d.value < D_FROM) {
            let fault = Fault::new("timer D is shorter than 32 seconds")
                .why("a failure that comes again later is not acknowledged (RFC 3261 §17.1.1.2)")
                .help("give 32s");
            report.warning(&d.origin, fault);
        }
        let given = self.timers.get("T1").or_else(|| self.timers.get("T2"));
        if let Some(given) = given.filter(|_| timers.t1 > timers.t2) {
            let fault = Fault::new("timer T1 is longer than T2")
                .why(format!(
                    "T2 ({}) is the longest interval of retransmissions, T1 ({}) the first",
                    text::time_name(timers.t2),
                    text::time_name(timers.t1)
                ))
                .help("give both, T2 as eight times T1");
            report.warning(&given.origin, fault);
        }
        timers
    }

    /// Checks that a lost datagram is sent again before the next destination is
    /// tried, and that one is tried before the transaction ends.
    fn check_failover(&self, after: Duration, timers: &Timers, report: &mut Report) {
        let name = text::time_name;
        let (fault, timers, help): (_, &[_], _) = if after >= timers.b {
            let why = format!(
                "timer B ({}) ends before it ({})",
                name(timers.b),
                name(after)
            );
            let fault = Fault::new("`failover-after` has no effect").why(why);
            let help = match timers.b > 3 * timers.t1 {
                true => "give it two or three times T1",
                false => "give timer B 64 times T1, as it has by itself",
            };
            (fault, &["B", "T1"], help)
        } else if after <= timers.t1 {
            let why = format!(
                "what is lost is sent again after T1 ({}): one lost datagram moves a call",
                name(timers.t1)
            );
            let fault = Fault::new("`failover-after` is not longer than T1").why(why);
            (fault, &["T1"], "give it two or three times T1")
        } else {
            return;
        };
        let fault = fault.help(help);
        let given = self.failover_after.as_ref();
        let given = given.or_else(|| timers.iter().find_map(|name| self.timers.get(*name)));
        let origin = given.map_or(Origin::Nowhere, |time| time.origin.clone());
        report.warning(&origin, fault);
    }

    /// Warns of what has no effect with these methods.
    fn check_effects(&self, on_failure: &[OnFailureDraft], report: &mut Report) {
        let methods = self.methods.as_deref().unwrap_or_default();
        notice_slips(methods, "name each, as INVITE and REGISTER", report);
        let is_stateful = |name: &str| methods.iter().any(|method| method.value == name);
        let add = "add `stateful = [\"INVITE\"]`, or --stateful INVITE";
        if !is_stateful("INVITE") {
            let why = "INVITE is not relayed statefully";
            let rings = self.ring_timeout.as_ref();
            if let Some(time) = rings.filter(|time| !time.value.is_zero()) {
                let fault = Fault::new("`ring-timeout` has no effect").why(why);
                report.warning(&time.origin, fault.help(add));
            }
            for rule in on_failure {
                let fault = Fault::new("the failure rule has no effect").why(why);
                report.warning(&rule.origin, fault.help(add));
            }
        }
        let accounted = self.accounting_methods.as_deref().unwrap_or_default();
        match &self.accounting {
            Some(target) if methods.is_empty() => {
                let fault = Fault::new("nothing is accounted")
                    .why("no method is relayed statefully")
                    .help(add);
                report.warning(&target.origin, fault);
            }
            Some(_) => {
                let all = "leave it out, and all that `stateful` names are accounted";
                notice_slips(accounted, all, report);
                for method in accounted.iter().filter(|each| !is_stateful(&each.value)) {
                    let fault = Fault::new(format!("`{}` is not accounted", method.value))
                        .why("it is not relayed statefully")
                        .help("add it to `stateful`, or leave it out here");
                    report.warning(&method.origin, fault);
                }
            }
            None => {
                if let Some(method) = accounted.first() {
                    let fault = Fault::new("nothing is accounted").why("no target is given");
                    report.warning(&method.origin, fault.help("add --accounting TARGET"));
                }
            }
        }
    }
}

/// Turns the names in a rule into indices.
fn rule(draft: OnFailureDraft, sets: &[Placed<Set>], report: &mut Report) -> OnFailure {
    let names: Vec<&str> = sets.iter().map(|set| set.value.name.as_str()).collect();
    let origin = sets.first().map(|set| &set.origin);
    let mut find = |name: &Placed<String>| {
        let found = position("set", &name.value, &names, origin);
        report.check_name("set", &name.origin, found)
    };
    let set = find(&draft.set);
    let from_sets: Vec<_> = draft.from_sets.iter().filter_map(find).collect();
    if let (Some(set), [from], None) = (set, &*from_sets, &draft.request_uri)
        && set == *from
    {
        let fault = Fault::new(format!(
            "what fails in set `{0}` goes to set `{0}`",
            names[set]
        ))
        .why("the set that has failed is asked the same again")
        .help(
            "name another set; for another destination of this one there is `failover-status`, \
                 or give the rule a `request-uri`",
        );
        report.warning(&draft.set.origin, fault);
    }
    OnFailure {
        statuses: draft.statuses,
        set: set.unwrap_or_default(),
        request_uri: draft.request_uri,
        from_sets,
    }
}

fn rebase(target: Placed<AccountingTarget>, base: &Path, report: &mut Report) -> AccountingTarget {
    let Placed { value, origin } = target;
    let within = |path| Placed::new(path, origin.clone()).within(base);
    match value {
        AccountingTarget::File(path) => AccountingTarget::File(within(path)),
        AccountingTarget::Socket(path) => {
            let path = within(path);
            socket_path(&path, "the accounting socket", &origin, report);
            AccountingTarget::Socket(path)
        }
        AccountingTarget::Stdout => AccountingTarget::Stdout,
    }
}
