//! What the file, or the flags, say of an operator's day; each value that
//! `merge` has more to say of with its place.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{HealthSettings, LogFormat, LogLevel, OperationSettings, WhenAllDown, text};
use crate::config::diagnostic::{Fault, Origin, Report};
use crate::config::file::{TOP_LEVEL, boolean, list, parse};
use crate::config::table::{Placed, Section};
use crate::config::text::{log_format, log_level, time_or_none, when_all_down};

/// As read; what is not written is `None`.
#[derive(Debug, Default)]
pub(in crate::config) struct OperationDraft {
    /// For sets and destinations that do not say; its place is that of the
    /// times.
    pub(super) health: Option<Placed<HealthSettings>>,
    /// Whether a flag turns all probes off.
    pub(super) off: bool,
    pub(super) when_all_down: Option<WhenAllDown>,
    pub(super) stop_timeout: Option<Duration>,
    pub(super) admin_socket: Option<Placed<PathBuf>>,
    pub(super) admin_listen: Option<Vec<Placed<SocketAddr>>>,
    pub(super) admin_token_file: Option<Placed<PathBuf>>,
    pub(super) mirror: Option<Placed<SocketAddr>>,
    pub(super) mirror_sample: Option<Placed<u32>>,
    pub(super) mirror_id: Option<u32>,
    pub(super) mirror_key: Option<String>,
    pub(super) log_format: Option<LogFormat>,
    pub(super) log_level: Option<LogLevel>,
}

impl OperationDraft {
    /// Takes its keys from the top level of the file.
    pub(in crate::config) fn take(top: &mut Section<'_>, report: &mut Report) -> Self {
        let mut draft = Self {
            health: HealthSettings::take(top, report),
            when_all_down: value(top, "when-all-down", when_all_down, report),
            stop_timeout: value(top, "stop-timeout", time_or_none, report),
            ..Self::default()
        };
        let mut table = |key, kind, report: &mut Report| top.take(key)?.section(kind, report);
        if let Some(section) = table("admin", "[admin]", report) {
            draft.take_admin(section, report);
        }
        if let Some(section) = table("mirror", "[mirror]", report) {
            draft.take_mirror(section, report);
        }
        if let Some(section) = table("log", "[log]", report) {
            draft.take_log(section, report);
        }
        draft
    }

    fn take_admin(&mut self, mut section: Section<'_>, report: &mut Report) {
        self.admin_socket = path(&mut section, "socket", report);
        self.admin_listen = section
            .take("listen")
            .map(|item| list(item, text::admin_listen, report));
        self.admin_token_file = path(&mut section, "token-file", report);
        section.finish(&TOP_LEVEL, report);
    }

    fn take_mirror(&mut self, mut section: Section<'_>, report: &mut Report) {
        self.mirror = section
            .require("to", report)
            .and_then(|item| item.parse(text::collector, report));
        self.mirror_sample = parse(&mut section, "sample", text::sample, report);
        self.mirror_id = section
            .take("id")
            .and_then(|item| item.integer(0..=u32::MAX, report));
        self.mirror_key = value(&mut section, "key", text::mirror_key, report);
        section.finish(&TOP_LEVEL, report);
    }

    fn take_log(&mut self, mut section: Section<'_>, report: &mut Report) {
        self.log_format = value(&mut section, "format", log_format, report);
        self.log_level = value(&mut section, "level", log_level, report);
        section.finish(&TOP_LEVEL, report);
    }

    /// What the flags say, in the same form.
    pub(in crate::config) fn of_flags(flags: &OperationSettings) -> Self {
        fn place<T: Clone>(flag: &'static str, value: Option<&T>) -> Option<Placed<T>> {
            value.map(|value| Placed::new(value.clone(), Origin::Flag(flag)))
        }
        let times = match flags.health.interval {
            Some(_) => "--health-interval",
            None => "--health-timeout",
        };
        let listen = flags.admin_listen.iter().flatten();
        let listen = listen.filter_map(|address| place("--admin-listen", Some(address)));
        Self {
            health: place(times, Some(&flags.health)),
            off: flags.health.probe == Some(false),
            when_all_down: flags.when_all_down,
            stop_timeout: flags.stop_timeout,
            admin_socket: place("--admin", flags.admin_socket.as_ref()),
            admin_listen: flags.admin_listen.as_ref().map(|_| listen.collect()),
            admin_token_file: place("--admin-token-file", flags.admin_token_file.as_ref()),
            mirror: place("--mirror", flags.mirror.as_ref()),
            mirror_sample: place("--mirror-sample", flags.mirror_sample.as_ref()),
            mirror_id: None,
            mirror_key: None,
            log_format: flags.log_format,
            log_level: flags.log_level,
        }
    }

    /// Both, where this one goes before `file`.
    pub(in crate::config) fn over(self, file: Self) -> Self {
        Self {
            health: match (self.health, file.health) {
                (Some(own), Some(file)) => Some(own.over(file)),
                (own, file) => own.or(file),
            },
            off: self.off,
            when_all_down: self.when_all_down.or(file.when_all_down),
            stop_timeout: self.stop_timeout.or(file.stop_timeout),
            admin_socket: self.admin_socket.or(file.admin_socket),
            admin_listen: self.admin_listen.or(file.admin_listen),
            admin_token_file: self.admin_token_file.or(file.admin_token_file),
            mirror: self.mirror.or(file.mirror),
            mirror_sample: self.mirror_sample.or(file.mirror_sample),
            mirror_id: self.mirror_id.or(file.mirror_id),
            mirror_key: self.mirror_key.or(file.mirror_key),
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
        }
    }
}

impl HealthSettings {
    /// Takes `health`: a table, or whether there are probes at all.
    pub(in crate::config) fn take(
        section: &mut Section<'_>,
        report: &mut Report,
    ) -> Option<Placed<Self>> {
        let item = section.take("health")?;
        let origin = item.origin.clone();
        let settings = if item.is_table() {
            Self::read(item.section("[health]", report)?, report)
        } else {
            Self {
                probe: item.boolean(report),
                ..Self::default()
            }
        };
        Some(Placed::new(settings, origin))
    }

    fn read(mut section: Section<'_>, report: &mut Report) -> Self {
        let mut number = |key, report: &mut Report| {
            let item = section.take(key)?;
            item.integer(super::PROBES_IN_A_ROW, report)
        };
        let down_after = number("down-after", report);
        let up_after = number("up-after", report);
        let accept = section.take("accept").map(|item| {
            let items = item.one_or_many(report).into_iter();
            let accept = items.filter_map(|item| item.parse_number_or_string(text::accept, report));
            accept.map(|accept| accept.value).collect()
        });
        let settings = Self {
            probe: boolean(&mut section, "probe", report),
            interval: value(&mut section, "interval", text::interval, report),
            timeout: value(&mut section, "timeout", text::timeout, report),
            down_after,
            up_after,
            accept,
            from: value(&mut section, "from", text::sip_uri, report),
            request_uri: value(&mut section, "request-uri", text::sip_uri, report),
            slow_start: value(&mut section, "slow-start", time_or_none, report),
        };
        section.finish(&TOP_LEVEL, report);
        settings
    }
}

fn value<T>(
    section: &mut Section<'_>,
    key: &'static str,
    parser: impl Fn(&str) -> Result<T, Fault>,
    report: &mut Report,
) -> Option<T> {
    parse(section, key, parser, report).map(|placed| placed.value)
}

fn path(
    section: &mut Section<'_>,
    key: &'static str,
    report: &mut Report,
) -> Option<Placed<PathBuf>> {
    let path = section.take(key)?.text(report)?;
    Some(Placed::new(path.value.into(), path.origin))
}
