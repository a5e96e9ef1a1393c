//! What flags and file say of an operator's day; each value that `merge` has
//! more to say of with its place.

use super::{HealthSettings, OperationDraft, PROBES_IN_A_ROW, text};
use crate::config::diagnostic::Report;
use crate::config::file::{boolean, integer, list, parse, value};
use crate::config::table::{Placed, Section};
use crate::config::text::{choice, time_or_none};

impl OperationDraft {
    /// What is said in `self`, or else at the top level of the file.
    pub(in crate::config) fn or_file(self, top: &mut Section<'_>, report: &mut Report) -> Self {
        let health = HealthSettings::take(top, report).unwrap_or_default();
        let when_all_down = value(top, "when-all-down", choice, report);
        let stop_timeout = value(top, "stop-timeout", time_or_none, report);
        let mut draft = Self {
            health: self.health.over(health),
            when_all_down: self.when_all_down.or(when_all_down),
            stop_timeout: self.stop_timeout.or(stop_timeout),
            ..self
        };
        let mut table = |key, kind, report: &mut Report| top.take(key)?.section(kind, report);
        if let Some(section) = table("admin", "[admin]", report) {
            draft = draft.or_admin(section, report);
        }
        if let Some(section) = table("mirror", "[mirror]", report) {
            draft = draft.or_mirror(section, report);
        }
        if let Some(section) = table("log", "[log]", report) {
            draft = draft.or_log(section, report);
        }
        draft
    }

    fn or_admin(self, mut section: Section<'_>, report: &mut Report) -> Self {
        let socket = section.take("socket").and_then(|item| item.path(report));
        let listen = list(&mut section, "listen", text::admin_listen, report);
        let token_file = section
            .take("token-file")
            .and_then(|item| item.path(report));
        section.finish(report);
        Self {
            admin_socket: self.admin_socket.or(socket),
            admin_listen: self.admin_listen.or(listen),
            admin_token_file: self.admin_token_file.or(token_file),
            ..self
        }
    }

    fn or_mirror(self, mut section: Section<'_>, report: &mut Report) -> Self {
        let to = section.take_or_require("to", self.mirror.is_some(), report);
        let to = to.and_then(|item| item.parse(text::collector, report));
        let sample = parse(&mut section, "sample", text::sample, report);
        let id = integer(&mut section, "id", 0..=u32::MAX, report);
        let key = value(&mut section, "key", text::mirror_key, report);
        section.finish(report);
        Self {
            mirror: self.mirror.or(to),
            mirror_sample: self.mirror_sample.or(sample),
            mirror_id: self.mirror_id.or(id),
            mirror_key: self.mirror_key.or(key),
            ..self
        }
    }

    fn or_log(self, mut section: Section<'_>, report: &mut Report) -> Self {
        let format = value(&mut section, "format", choice, report);
        let level = value(&mut section, "level", choice, report);
        section.finish(report);
        Self {
            log_format: self.log_format.or(format),
            log_level: self.log_level.or(level),
            ..self
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
        let accept = section.take("accept").map(|item| {
            let items = item.one_or_many(report).into_iter();
            let accept = items.filter_map(|item| item.parse_number_or_string(text::accept, report));
            accept.map(|accept| accept.value).collect()
        });
        let settings = Self {
            probe: boolean(&mut section, "probe", report),
            interval: value(&mut section, "interval", text::interval, report),
            timeout: value(&mut section, "timeout", text::timeout, report),
            down_after: integer(&mut section, "down-after", PROBES_IN_A_ROW, report),
            up_after: integer(&mut section, "up-after", PROBES_IN_A_ROW, report),
            accept,
            from: value(&mut section, "from", text::sip_uri, report),
            request_uri: value(&mut section, "request-uri", text::sip_uri, report),
            slow_start: value(&mut section, "slow-start", time_or_none, report),
        };
        section.finish(report);
        settings
    }
}
