//! What Prometheus scrapes: all that is counted, by names that follow its
//! rules, in its text format.
//!
//! Every label takes few values: nothing that a caller can choose is one.
//! docs/metrics.md lists the metrics; a test holds it to the same.

mod destinations;
mod errno;
mod page;
mod process;
mod traffic;

use std::collections::BTreeSet;
use std::time::SystemTime;

pub use errno::name as errno_name;

use super::Facts;
use super::status::unix;
use crate::config::HostPort;
use crate::health::Probed;
use crate::worker::Totals;
use page::Page;

/// The media type of [`text`].
pub const CONTENT_TYPE: &str = prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

/// What the metrics are made from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// What the workers have counted.
    pub totals: &'a Totals,
    /// What decides now.
    pub facts: &'a Facts,
    /// What probes have found, of each destination that is probed.
    pub probes: &'a [Probed],
    /// Names of destinations that are not resolved now.
    pub unresolved: &'a BTreeSet<HostPort>,
    /// Whether the last reload was taken; true before the first.
    pub reload_taken: bool,
    /// When a configuration was last taken from the file.
    pub reloaded: SystemTime,
    /// Whether traffic is wanted.
    pub ready: bool,
    /// Requests over TCP that were refused for want of the token.
    pub denied: u64,
    /// When it started.
    pub started: SystemTime,
}

/// All metrics, in the text format of Prometheus (version 0.0.4).
#[must_use]
pub fn text(input: &Input<'_>) -> String {
    let mut page = Page::default();
    add_instance(&mut page, input);
    traffic::add(&mut page, input);
    destinations::add(&mut page, input);
    process::add(&mut page);
    page.write()
}

/// The instance as a whole.
fn add_instance(page: &mut Page, input: &Input<'_>) {
    page.gauges(
        "viaduct_build_info",
        "1, with the version as a label.",
        ["version"],
        [([env!("CARGO_PKG_VERSION").to_owned()], 1_u64)],
    );
    page.gauge(
        "viaduct_start_time_seconds",
        "Unix time of the start.",
        unix(input.started),
    );
    page.gauge(
        "viaduct_ready",
        "1 while traffic is wanted, as /readyz tells.",
        input.ready,
    );
    page.gauge(
        "viaduct_config_generation",
        "Number of the sets and routes in force: 1, and one more for each change by operators, a file, a look-up of names or probes; to compare instances there is `viaduct_table_id`.",
        input.facts.proxy.generation(),
    );
    page.gauge(
        "viaduct_config_last_reload_successful",
        "1 where the last reload was taken, or there was none; 0 where it was refused.",
        input.reload_taken,
    );
    page.gauge(
        "viaduct_config_last_reload_success_timestamp_seconds",
        "Unix time at which a configuration was last taken from the file.",
        unix(input.reloaded),
    );
    page.gauge(
        "viaduct_table_id",
        "A number for all that decides where requests go: the same on all instances that choose \
         alike.",
        input.facts.table_id,
    );
    page.counter(
        "viaduct_admin_denied",
        "Requests over TCP to the admin API that were refused for want of the token.",
        input.denied,
    );
}
