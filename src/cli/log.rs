//! The log of `viaduct run`, to stderr: text for people, with priorities where
//! the journal reads it, or one JSON object a line.
//!
//! Text carries no time: the journal, a container's runtime and a terminal's
//! user add one, or know it.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde_json::json;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use super::backlog::Backlog;
use super::report;
use crate::config::text::printable;
use crate::config::{Diagnostic, Log, LogFormat, LogLevel, Severity};

/// How many errors of a configuration are said, and how many warnings.
const SAID: usize = 20;

/// Starts the log. The first of what is returned sets its level.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn start(
    log: Log,
) -> io::Result<(impl Fn(LogLevel) + Send + Sync + 'static, Arc<Backlog>)> {
    let backlog = Backlog::start()?;
    let (level, handle) = reload::Layer::new(filter(log.level));
    let form = match log.format {
        LogFormat::Json => Form::Json,
        LogFormat::Text if read_by_journal() => Form::Journal,
        LogFormat::Text => Form::Text,
    };
    let lines = tracing_subscriber::fmt::layer()
        .event_format(form)
        .with_writer(Arc::clone(&backlog));
    // Somebody else's log, as in a test, is left as it is.
    let _ = tracing_subscriber::registry()
        .with(level)
        .with(lines)
        .try_init();
    let set_level = move |level| {
        let _ = handle.reload(filter(level));
    };
    Ok((set_level, backlog))
}

/// Says what there is to say of a configuration, errors first. Of many the first,
/// for each reload of a file that is wrong says them again.
pub(super) fn say(diagnostics: &[Diagnostic]) {
    for severity in [Severity::Error, Severity::Warning] {
        let mut all = diagnostics.iter().filter(|of| of.severity == severity);
        let mut said: Vec<_> = all.by_ref().take(SAID).map(report::plain).collect();
        match all.count() {
            0 => {}
            more => said.push(format!("{more} more: see `viaduct check`")),
        }
        for text in said {
            let text = text.trim_end();
            match severity {
                Severity::Error => tracing::error!("{text}"),
                Severity::Warning => tracing::warn!("{text}"),
            }
        }
    }
}

/// What libraries say is left out.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    Targets::new().with_target(env!("CARGO_PKG_NAME"), level)
}

/// Whether stderr goes to the journal (systemd.exec(5), `JOURNAL_STREAM`).
fn read_by_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let stat = rustix::fs::fstat(io::stderr());
    stat.is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// How a line is written.
enum Form {
    Text,
    /// With a priority in front (sd-daemon(3)).
    Journal,
    Json,
}

impl<S, N> FormatEvent<S, N> for Form
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said(String::new());
        event.record(&mut said);
        // What others wrote is not to steer a terminal; JSON escapes it itself.
        let text = || said.0.split('\n').map(printable).collect::<Vec<_>>();
        let (priority, name) = match *event.metadata().level() {
            Level::ERROR => (3, "error"),
            Level::WARN => (4, "warning"),
            Level::INFO => (6, "info"),
            _ => (7, "debug"),
        };
        match self {
            Self::Json => {
                let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
                // The level says it.
                let message = said.0.trim_start().trim_start_matches("error: ");
                let line = json!({
                    "time": time.to_string(), "level": name, "message": message,
                });
                writeln!(out, "{line}")
            }
            // Each line is an entry of its own.
            Self::Journal => {
                (text().iter()).try_for_each(|line| writeln!(out, "<{priority}>{line}"))
            }
            Self::Text => {
                // Those of a configuration say so themselves, behind their
                // place; a line that goes on has no beginning.
                let first = said.0.split('\n').next().unwrap_or_default();
                let mark = format!("{name}: ");
                let marked = first.starts_with(' ')
                    || first.starts_with(&mark)
                    || first.contains(&format!(": {mark}"));
                if priority <= 4 && !marked {
                    write!(out, "{name}: ")?;
                }
                writeln!(out, "{}", text().join("\n"))
            }
        }
    }
}

/// The message of an event.
struct Said(String);

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}
