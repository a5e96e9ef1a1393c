//! The flags of an operator's day, among those that [`Tunables`] shares.
//!
//! [`Tunables`]: super::Tunables

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::tunables::{choice, given, on_off, trimmed, within};
use crate::config::text;
use crate::config::{
    HealthSettings, LogFormat, LogLevel, OperationDraft, PROBES_IN_A_ROW, Placed, WhenAllDown,
};

/// Probes, the admin API, the mirror, logs.
#[derive(Clone, Debug, Args)]
#[group(skip)]
pub(super) struct OperationFlags {
    /// Whether destinations are probed by OPTIONS, where neither their set nor they themselves say; off turns all probes off, whatever the file says [default: on]
    #[arg(long, value_name = "ON|OFF", env = "VIADUCT_HEALTH", value_parser = on_off())]
    health: Option<bool>,

    /// From one probe of a destination to the next, 100ms to 1h, give or take a tenth; sets and destinations that say otherwise keep theirs [default: 1s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_HEALTH_INTERVAL", value_parser = text::interval)]
    health_interval: Option<Duration>,

    /// How long a probe waits for its response, 10ms to 1m; sets and destinations that say otherwise keep theirs [default: 500ms]
    #[arg(long, value_name = "TIME", env = "VIADUCT_HEALTH_TIMEOUT", value_parser = text::timeout)]
    health_timeout: Option<Duration>,

    /// Probes in a row that must fail for a destination to count as down, 1 to 100; sets and destinations that say otherwise keep theirs [default: 3]
    #[arg(long, value_name = "PROBES", env = "VIADUCT_DOWN_AFTER", value_parser = within(PROBES_IN_A_ROW))]
    down_after: Option<u32>,

    /// Probes in a row that must be answered for a destination to come back, 1 to 100; sets and destinations that say otherwise keep theirs [default: 2]
    #[arg(long, value_name = "PROBES", env = "VIADUCT_UP_AFTER", value_parser = within(PROBES_IN_A_ROW))]
    up_after: Option<u32>,

    /// How long the share of a destination that comes back grows to its full weight, 1ms to 1h, or 0s for at once; sets and destinations that say otherwise keep theirs [default: 10s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_SLOW_START", value_parser = text::time_or_none)]
    slow_start: Option<Duration>,

    /// What becomes of new work when every active destination of a set is down, in sets that do not say: it is forwarded as if all were up, or answered 503 unless a failure rule takes it [default: forward]
    #[arg(long, value_name = "WHAT", env = "VIADUCT_WHEN_ALL_DOWN", value_parser = choice::<WhenAllDown>())]
    when_all_down: Option<WhenAllDown>,

    /// Unix socket that the admin API is served on, made with mode 0660 [default: admin.sock in systemd's runtime directory, without systemd none]
    #[arg(long, value_name = "PATH", env = "VIADUCT_ADMIN")]
    admin: Option<PathBuf>,

    /// TCP address that the admin API is served on; can be repeated. Without a token file it only reads. Port 0 takes any free one [default: none, default port: 8060]
    #[arg(long, value_name = "ADDR[:PORT]", env = "VIADUCT_ADMIN_LISTEN", value_delimiter = ',', value_parser = trimmed(text::admin_listen))]
    admin_listen: Vec<SocketAddr>,

    /// File with the token (16 octets or more) that a TCP client must send for changes, `explain` and `bad-packets` [default: none, and none of them over TCP]
    #[arg(long, value_name = "FILE", env = "VIADUCT_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,

    /// Collector that copies of messages are sent to, as HEP version 3 over UDP [default: none, default port: 9060]
    #[arg(long, value_name = "ADDR[:PORT]", env = "VIADUCT_MIRROR", value_parser = text::collector)]
    mirror: Option<SocketAddr>,

    /// Share of calls that are copied, 0.1% to 100%: whole calls, chosen by Call-ID [default: 100%]
    #[arg(long, value_name = "PERCENT", env = "VIADUCT_MIRROR_SAMPLE", value_parser = text::sample)]
    mirror_sample: Option<u32>,

    /// The form of the log, which goes to stderr: text for people, or one JSON object a line [default: text]
    #[arg(long, value_name = "FORMAT", env = "VIADUCT_LOG_FORMAT", value_parser = choice::<LogFormat>())]
    log_format: Option<LogFormat>,

    /// The least important lines that are logged [default: info]
    #[arg(long, value_name = "LEVEL", env = "VIADUCT_LOG_LEVEL", value_parser = choice::<LogLevel>())]
    log_level: Option<LogLevel>,

    /// How long transactions may go on after SIGTERM, 1ms to 1h, or 0s for not at all [default: 32s]
    #[arg(long, value_name = "TIME", env = "VIADUCT_STOP_TIMEOUT", value_parser = text::time_or_none)]
    stop_timeout: Option<Duration>,
}

impl OperationFlags {
    pub(super) fn draft(&self) -> OperationDraft {
        let times = match self.health_interval {
            Some(_) => "--health-interval",
            None => "--health-timeout",
        };
        let health = HealthSettings {
            probe: self.health,
            interval: self.health_interval,
            timeout: self.health_timeout,
            down_after: self.down_after,
            up_after: self.up_after,
            slow_start: self.slow_start,
            ..HealthSettings::default()
        };
        let token_file = self.admin_token_file.clone();
        OperationDraft {
            health: Placed::by_flag(times)(health),
            probes_off: self.health == Some(false),
            when_all_down: self.when_all_down,
            stop_timeout: self.stop_timeout,
            admin_socket: self.admin.clone().map(Placed::by_flag("--admin")),
            admin_listen: given(&self.admin_listen, Placed::by_flag("--admin-listen")),
            admin_token_file: token_file.map(Placed::by_flag("--admin-token-file")),
            mirror: self.mirror.map(Placed::by_flag("--mirror")),
            mirror_sample: self.mirror_sample.map(Placed::by_flag("--mirror-sample")),
            log_format: self.log_format,
            log_level: self.log_level,
            ..OperationDraft::default()
        }
    }
}
