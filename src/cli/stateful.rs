//! The flags of stateful relay, among those that [`Tunables`] shares.
//!
//! [`Tunables`]: super::Tunables

use std::time::Duration;

use clap::Args;

use super::tunables::{given, trimmed, within};
use crate::config::text;
use crate::config::{AccountingTarget, Placed, StatefulDraft, TRANSACTIONS};

/// What is relayed with a transaction, and how.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct StatefulFlags {
    /// Method whose requests are relayed with a transaction, so that another destination is tried where one fails; its ACK and CANCEL go with it; can be repeated [default: none]
    #[arg(long, value_name = "METHOD", env = "VIADUCT_STATEFUL", value_delimiter = ',', value_parser = trimmed(text::stateful_method))]
    stateful: Vec<String>,

    /// Transactions that all workers together remember at most, 1 to 16777216; what is beyond them is relayed statelessly [default: 131072]
    #[arg(long, value_name = "TRANSACTIONS", env = "VIADUCT_TRANSACTIONS", value_parser = within(TRANSACTIONS))]
    transactions: Option<usize>,

    /// Timer of RFC 3261 or RFC 6026 (T1, T2, T4, B, C, D, F, H, I, J, K, L, M) and its time, 1ms to 1h; can be repeated. Those that are not given follow T1 and T4 as the RFCs say [default: T1=500ms, T2=4s, T4=5s, C=181s]
    #[arg(long, value_name = "NAME=TIME", env = "VIADUCT_TIMER", value_delimiter = ',', value_parser = trimmed(text::timer))]
    timer: Vec<(&'static str, Duration)>,

    /// How long a destination may say nothing at all before the next one is tried, 1ms to 1h [default: 1s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_FAILOVER_AFTER", value_parser = text::time)]
    failover_after: Option<Duration>,

    /// Final response after which the next destination is tried, 300 to 599 but for 401 and 407; can be repeated [default: 503]
    #[arg(long, value_name = "STATUS", env = "VIADUCT_FAILOVER_STATUS", value_delimiter = ',', value_parser = trimmed(text::failure))]
    failover_status: Vec<u16>,

    /// The longest time that Retry-After keeps new work from a destination, 0s or 1ms to 1h [default: 30s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_RETRY_AFTER_CAP", value_parser = text::time_or_none)]
    retry_after_cap: Option<Duration>,

    /// How long the called party of a new call may ring before it is cancelled, 1ms to 1h; 0s is for as long as it says so every three minutes (timer C) [default: 0s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_RING_TIMEOUT", value_parser = text::time_or_none)]
    ring_timeout: Option<Duration>,

    /// Where finished transactions are written down: a file, stdout (or -), or unix:PATH for a socket [default: nowhere]
    #[arg(long, value_name = "TARGET", env = "VIADUCT_ACCOUNTING", value_parser = text::accounting_target)]
    accounting: Option<AccountingTarget>,

    /// Method whose transactions are written down; can be repeated [default: all that --stateful names]
    #[arg(long, value_name = "METHOD", env = "VIADUCT_ACCOUNTING_METHOD", value_delimiter = ',', value_parser = trimmed(text::method))]
    accounting_method: Vec<String>,
}

impl StatefulFlags {
    pub(super) fn draft(&self) -> StatefulDraft {
        let timers = self.timer.iter();
        let accounting = self.accounting.clone();
        let accounting_method = Placed::by_flag("--accounting-method");
        StatefulDraft {
            methods: given(&self.stateful, Placed::by_flag("--stateful")),
            transactions: self.transactions,
            timers: timers
                .map(|(name, time)| (*name, Placed::by_flag("--timer")(*time)))
                .collect(),
            failover_after: self.failover_after.map(Placed::by_flag("--failover-after")),
            failover_status: given(&self.failover_status, |status| status),
            retry_after_cap: self.retry_after_cap,
            ring_timeout: self.ring_timeout.map(Placed::by_flag("--ring-timeout")),
            accounting: accounting.map(Placed::by_flag("--accounting")),
            accounting_methods: given(&self.accounting_method, accounting_method),
        }
    }
}
