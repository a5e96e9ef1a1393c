//! What instances are told by to decide alike.

use super::Proxy;
use crate::config::Stateful;

impl Proxy {
    /// A digest of everything that decides where a request goes, keyed by the
    /// secret: equal on instances that send each call the same way.
    #[must_use]
    pub fn table_id(&self) -> u64 {
        // Whole, so that a new setting cannot be forgotten here.
        let Self {
            locals,
            allowed,
            resolve,
            secret: _,
            stateful,
            current,
            former: _,
        } = self;
        let Stateful {
            methods,
            transactions: _,
            timers,
            failover_after,
            failover_status,
            retry_after_cap,
            ring_timeout,
            on_failure,
            accounting: _,
        } = &**stateful;
        let sets = current.dispatcher.sets().iter();
        let sets: Vec<_> = sets.map(|set| set.outline()).collect();
        let (locals, rules) = (locals.outline(), &current.rules);
        let text = format!(
            "{sets:?} {locals} {rules:?} {allowed:?} {resolve} {methods:?} {timers:?} \
             {failover_after:?} {failover_status:?} {retry_after_cap:?} {ring_timeout:?} \
             {on_failure:?}"
        );
        current.dispatcher.hash(text.as_bytes())
    }
}
