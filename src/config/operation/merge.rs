//! Flags and file become what the operator's day needs; what its values say
//! of each other and of the listeners is checked.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Accept, Admin, Log, LogFormat, LogLevel, Mirror, Probe, WhenAllDown};
use crate::config::Listener;
use crate::config::diagnostic::{Fault, Report};
use crate::config::member::Member;
use crate::config::table::Placed;
use crate::config::text::time_name;
use crate::config::validate::socket_path;

/// As long as a transaction may take that nobody answers: Timer B (RFC 3261
/// §17.1.1.2).
const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(32);
/// All calls.
const DEFAULT_SAMPLE: u32 = 1000;
const DEFAULT_MIRROR_ID: u32 = 1;

/// What flags and file say; what neither does is `None`.
#[derive(Clone, Debug, Default)]
pub struct OperationDraft {
    /// Probes of sets and destinations that do not say otherwise; its place is
    /// that of the times.
    pub health: Placed<HealthSettings>,
    /// Whether a flag turns all probes off, whatever sets and destinations say.
    pub probes_off: bool,
    /// For sets that do not say; the default is [`WhenAllDown::Forward`].
    pub when_all_down: Option<WhenAllDown>,
    /// See [`Config::stop_timeout`](crate::config::Config::stop_timeout); the
    /// default is 32 seconds.
    pub stop_timeout: Option<Duration>,
    /// See [`Admin::socket`]; the default is none.
    pub admin_socket: Option<Placed<PathBuf>>,
    /// See [`Admin::listen`]; the default is none.
    pub admin_listen: Option<Vec<Placed<SocketAddr>>>,
    /// See [`Admin::token_file`]; the default is none.
    pub admin_token_file: Option<Placed<PathBuf>>,
    /// See [`Mirror::to`]; the default is none.
    pub mirror: Option<Placed<SocketAddr>>,
    /// See [`Mirror::sample`]; the default is all.
    pub mirror_sample: Option<Placed<u32>>,
    /// See [`Mirror::id`]; the default is 1.
    pub mirror_id: Option<u32>,
    /// See [`Mirror::key`]; the default is none.
    pub mirror_key: Option<String>,
    /// See [`Log::format`]; the default is [`LogFormat::Text`].
    pub log_format: Option<LogFormat>,
    /// See [`Log::level`]; the default is [`LogLevel::Info`].
    pub log_level: Option<LogLevel>,
}

/// What is said of probes in one place; see [`Probe`], whose default counts
/// for what is said nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthSettings {
    /// Whether there are any; the default is true.
    pub probe: Option<bool>,
    /// See [`Probe::interval`].
    pub interval: Option<Duration>,
    /// See [`Probe::timeout`].
    pub timeout: Option<Duration>,
    /// See [`Probe::down_after`].
    pub down_after: Option<u32>,
    /// See [`Probe::up_after`].
    pub up_after: Option<u32>,
    /// See [`Probe::accept`].
    pub accept: Option<Vec<Accept>>,
    /// See [`Probe::from`].
    pub from: Option<String>,
    /// See [`Probe::request_uri`].
    pub request_uri: Option<String>,
    /// See [`Probe::slow_start`].
    pub slow_start: Option<Duration>,
}

impl HealthSettings {
    /// Both, where this one goes before `general`.
    fn over(&self, general: &Self) -> Self {
        fn first<T: Clone>(own: Option<&T>, general: Option<&T>) -> Option<T> {
            own.or(general).cloned()
        }
        Self {
            probe: self.probe.or(general.probe),
            interval: self.interval.or(general.interval),
            timeout: self.timeout.or(general.timeout),
            down_after: self.down_after.or(general.down_after),
            up_after: self.up_after.or(general.up_after),
            accept: first(self.accept.as_ref(), general.accept.as_ref()),
            from: first(self.from.as_ref(), general.from.as_ref()),
            request_uri: first(self.request_uri.as_ref(), general.request_uri.as_ref()),
            slow_start: self.slow_start.or(general.slow_start),
        }
    }

    fn has_times(&self) -> bool {
        self.interval.is_some() || self.timeout.is_some()
    }

    fn probe(self) -> Option<Probe> {
        let default = Probe::default();
        self.probe.unwrap_or(true).then(|| Probe {
            interval: self.interval.unwrap_or(default.interval),
            timeout: self.timeout.unwrap_or(default.timeout),
            down_after: self.down_after.unwrap_or(default.down_after),
            up_after: self.up_after.unwrap_or(default.up_after),
            accept: self.accept.unwrap_or(default.accept),
            from: self.from,
            request_uri: self.request_uri,
            slow_start: self.slow_start.unwrap_or(default.slow_start),
        })
    }
}

impl Placed<HealthSettings> {
    /// Both, where this one goes before `general`, at the place of the times.
    pub(super) fn over(self, general: Self) -> Self {
        let origin = match self.value.has_times() {
            true => self.origin,
            false => general.origin,
        };
        Self::new(self.value.over(&general.value), origin)
    }

    /// The probe that comes of it. That times fit is looked at where they are
    /// written: `has_times`.
    fn probe(self, has_times: bool, report: &mut Report) -> Option<Arc<Probe>> {
        let probe = self.value.probe()?;
        if has_times && probe.timeout >= probe.interval {
            let fault = Fault::new("a probe may take longer than the next one is away")
                .why(format!(
                    "`timeout` is {}, `interval` {}",
                    time_name(probe.timeout),
                    time_name(probe.interval)
                ))
                .help("give a `timeout` shorter than `interval`");
            report.warning(&self.origin, fault);
        }
        Some(Arc::new(probe))
    }
}

/// How the members of one set are probed.
pub(in crate::config) struct Probes {
    off: bool,
    settings: HealthSettings,
    probe: Option<Arc<Probe>>,
}

impl Probes {
    /// How this one is.
    pub(in crate::config) fn of(
        &self,
        member: &Placed<Member>,
        report: &mut Report,
    ) -> Option<Arc<Probe>> {
        let own = &member.value.health;
        if self.off || *own == HealthSettings::default() {
            return self.probe.clone();
        }
        let both = Placed::new(own.over(&self.settings), member.origin.clone());
        both.probe(own.has_times(), report)
    }
}

impl OperationDraft {
    /// Checks what is said for all sets.
    pub(in crate::config) fn check_health(&self, report: &mut Report) {
        let health = self.health.clone();
        health.probe(self.health.value.has_times(), report);
    }

    /// How the members of a set are probed that says `own`.
    pub(in crate::config) fn probes(
        &self,
        own: Option<Placed<HealthSettings>>,
        report: &mut Report,
    ) -> Probes {
        let own = own.unwrap_or_default();
        let settings = own.value.over(&self.health.value);
        let both = Placed::new(settings.clone(), own.origin);
        Probes {
            off: self.probes_off,
            settings,
            probe: match self.probes_off {
                true => None,
                false => both.probe(own.value.has_times(), report),
            },
        }
    }

    /// What becomes of new work in a set that says `own`.
    pub(in crate::config) fn when_all_down(&self, own: Option<WhenAllDown>) -> WhenAllDown {
        own.or(self.when_all_down).unwrap_or_default()
    }

    /// Where the admin API is served. A path in the file is relative to `base`.
    pub(in crate::config) fn admin(&self, base: &Path, report: &mut Report) -> Admin {
        let mut listen: Vec<SocketAddr> = Vec::new();
        for Placed { value, origin } in self.admin_listen.iter().flatten() {
            if listen.contains(value) && value.port() != 0 {
                let fault = Fault::new(format!("`{value}` is listened on twice"));
                report.error(origin, fault.help("remove one"));
            } else if value.ip().is_unspecified() {
                let fault = Fault::new(format!("`{value}` serves the admin API on every address"))
                    .why("who reaches any of them may read the farm's state, without a token")
                    .help("listen on 127.0.0.1, or on one address of a management network");
                report.warning(origin, fault);
            }
            listen.push(*value);
        }
        if let Some(token) = self.admin_token_file.as_ref().filter(|_| listen.is_empty()) {
            let fault = Fault::new("the token file has no effect")
                .why("a token is asked for over TCP alone")
                .help("add `listen = [\"127.0.0.1:8060\"]` to [admin], or --admin-listen");
            report.warning(&token.origin, fault);
        }
        Admin {
            socket: self
                .admin_socket
                .as_ref()
                .map(|path| socket(path, base, report)),
            listen,
            token_file: self.admin_token_file.as_ref().map(|path| path.within(base)),
        }
    }

    /// Where copies go, if anywhere.
    pub(in crate::config) fn mirror(
        &self,
        listeners: &[Listener],
        report: &mut Report,
    ) -> Option<Mirror> {
        let Some(to) = &self.mirror else {
            if let Some(sample) = &self.mirror_sample {
                let fault = Fault::new("nothing is mirrored").why("no collector is given");
                report.warning(&sample.origin, fault.help("add --mirror ADDR[:PORT]"));
            }
            return None;
        };
        if let Some(own) = listeners.iter().find(|each| each.receives(to.value)) {
            let fault = Fault::new(format!("`{}` is our own listener `{}`", to.value, own.name))
                .why("copies would come back to us")
                .help("name a collector that reads HEP version 3");
            report.error(&to.origin, fault);
        }
        let sample = self.mirror_sample.as_ref();
        Some(Mirror {
            to: to.value,
            sample: sample.map_or(DEFAULT_SAMPLE, |sample| sample.value),
            id: self.mirror_id.unwrap_or(DEFAULT_MIRROR_ID),
            key: self.mirror_key.clone(),
        })
    }

    /// How the log is written.
    pub(in crate::config) fn log(&self) -> Log {
        let default = Log::default();
        Log {
            format: self.log_format.unwrap_or(default.format),
            level: self.log_level.unwrap_or(default.level),
        }
    }

    /// How long transactions may go on after SIGTERM.
    pub(in crate::config) fn stop_timeout(&self) -> Duration {
        self.stop_timeout.unwrap_or(DEFAULT_STOP_TIMEOUT)
    }
}

/// The path of the admin socket, which the log and `ctl` write behind `unix:`.
fn socket(given: &Placed<PathBuf>, base: &Path, report: &mut Report) -> PathBuf {
    let mut path = given.clone();
    if let Some(bare) = given
        .value
        .to_str()
        .and_then(|path| path.strip_prefix("unix:"))
    {
        path.value = bare.into();
    }
    if path.value.to_string_lossy().contains("://") {
        let fault = Fault::new(format!("`{}` is no path", path.value.display()))
            .why("the admin API gets a Unix socket there")
            .help("give a path, or --admin-listen ADDR:PORT for HTTP");
        report.error(&path.origin, fault);
    }
    let path = path.within(base);
    socket_path(&path, "the admin socket", &given.origin, report);
    path
}
