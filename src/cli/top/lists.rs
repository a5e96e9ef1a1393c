//! The lists: destinations by set, workers, and what was dropped.

use ratatui::style::{Color, Stylize};
use ratatui::text::{Line, Span};

use super::rates::{DestinationRates, Rates, SetRates};
use super::screen::Sort;
use crate::cli::words::{age, count, milliseconds, percent, rate};
use crate::config::State;
use crate::control::Status;
use crate::control::status::{DestinationStatus, HealthStatus, SetStatus};
use crate::demo::share_bar;

/// Columns of an address, at least, and of the words that say how it is.
const ADDRESS: usize = 22;
const WORDS: usize = 19;
/// Columns of a bar, at least and at most.
const BAR: (usize, usize) = (6, 40);
/// Columns of the bar of a worker.
const BUSY: usize = 20;
/// Columns of the name of a reason.
const REASON: usize = 30;

/// What is told of a destination in figures.
struct Column {
    title: &'static str,
    width: usize,
    /// From so many columns beside the address on: all that are there then have
    /// room, with the words and the bar.
    from: usize,
    cell: fn(&DestinationStatus, &DestinationRates) -> String,
}

/// Responses of a class.
macro_rules! class {
    ($name:literal, $from:literal) => {
        Column {
            title: $name,
            width: 7,
            from: $from,
            cell: |_, of| rate(of.responses_per_second.get($name).copied().unwrap_or(0.0)),
        }
    };
}

const COLUMNS: [Column; 14] = [
    Column {
        title: "share",
        width: 7,
        from: 0,
        cell: |_, of| percent(of.share),
    },
    Column {
        title: "due",
        width: 6,
        from: 68,
        cell: |_, of| percent(Some(of.due)),
    },
    Column {
        title: "req/s",
        width: 8,
        from: 40,
        cell: |_, of| rate(of.requests_per_second),
    },
    class!("1xx", 133),
    class!("2xx", 88),
    class!("3xx", 133),
    class!("4xx", 113),
    class!("5xx", 113),
    class!("6xx", 133),
    Column {
        title: "fail/s",
        width: 7,
        from: 47,
        cell: |_, of| rate(of.failures_per_second()),
    },
    Column {
        title: "resent",
        width: 7,
        from: 54,
        cell: |_, of| percent(of.retransmitted),
    },
    Column {
        title: "probe",
        width: 10,
        from: 78,
        cell: |of, _| milliseconds(of.round_trip_ms),
    },
    Column {
        title: "seen",
        width: 8,
        from: 98,
        cell: |of, _| age(of.last_seen_seconds),
    },
    Column {
        title: "dialog",
        width: 8,
        from: 98,
        cell: |of, _| age(of.last_in_dialog_seconds),
    },
];

pub(super) fn lines(status: &Status, rates: &Rates, sort: Sort, width: u16) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let all = status.sets.iter().flat_map(|set| &set.destinations);
    let longest = all.map(|of| of.address.to_string().len()).max();
    // With a blank behind it.
    let address = longest.map_or(ADDRESS, |longest| ADDRESS.max(longest + 1));
    let rest = usize::from(width).saturating_sub(address);
    for (set, rates) in status.sets.iter().zip(&rates.sets) {
        push_set(&mut lines, set, rates, sort, (address, rest));
    }
    push_workers(&mut lines, status, rates);
    push_drops(&mut lines, rates);
    lines
}

/// With so many columns for an address, and so many beside it.
fn push_set(
    lines: &mut Vec<Line<'static>>,
    set: &SetStatus,
    rates: &SetRates,
    sort: Sort,
    (address, rest): (usize, usize),
) {
    let what = format!(
        "  {} by {}, when all down: {}",
        set.policy, set.hash_key, set.when_all_down
    );
    lines.push(Line::from(vec![
        format!("set {}", set.name).bold(),
        what.dim(),
    ]));
    for alarm in set.alarms() {
        let text = format!("  {alarm}");
        lines.push(Line::from(text.fg(Color::Red).bold()));
    }
    if set.destinations.is_empty() {
        lines.push(Line::default());
        return;
    }
    let columns: Vec<_> = COLUMNS.iter().filter(|of| of.from <= rest).collect();
    let figures: usize = columns.iter().map(|of| of.width).sum();
    let bar = rest.saturating_sub(WORDS + figures);
    let bar = bar.clamp(BAR.0, BAR.1);
    let titles = columns
        .iter()
        .map(|of| format!("{:>1$}", of.title, of.width));
    let titles: String = titles.collect();
    let (destination, state) = ("destination", "state");
    let text = format!("{destination:<address$}{state:<WORDS$}{:<bar$}{titles}", "");
    lines.push(Line::from(text.dim()));

    let parts = rates.destinations.iter();
    let fullest = parts.map(|of| of.due.max(of.share.unwrap_or(0.0)));
    // Above the fullest there is some room, lest its mark stand at the edge.
    let full = fullest.fold(0.01, f64::max) * 1.15;
    for index in sort.order(set, rates) {
        let (status, rates) = (&set.destinations[index], &rates.destinations[index]);
        let colour = colour(status);
        let mut line = Line::from(vec![
            format!("{:<address$}", status.address.to_string()).into(),
            format!("{:<WORDS$}", words(status)).fg(colour),
        ]);
        let share = rates.share.unwrap_or(0.0);
        line.extend(share_bar(bar as u16, share, rates.due, full, colour));
        let cells = columns.iter();
        line.extend(
            cells.map(|of| Span::from(format!("{:>1$}", (of.cell)(status, rates), of.width))),
        );
        lines.push(line);
        if let Some(cause) = status.cause.as_ref().filter(|_| troubled(status)) {
            lines.push(Line::from(format!("{:<address$}{cause}", "").fg(colour)));
        }
    }
    lines.push(Line::default());
}

/// Whether it takes less work than an operator wants.
fn troubled(of: &DestinationStatus) -> bool {
    of.health != HealthStatus::Up || of.letters == "TP"
}

fn words(of: &DestinationStatus) -> String {
    let words = match (of.state, of.health) {
        (State::Disabled, _) => "disabled",
        (State::Draining, HealthStatus::Down) => "draining, down",
        (State::Draining, _) => "draining",
        (State::Active, HealthStatus::Down) => "active, down",
        (State::Active, HealthStatus::Warming) => "active, warming",
        (State::Active, HealthStatus::Up) if troubled(of) => "active, suspect",
        (State::Active, HealthStatus::Up) => "active",
    };
    format!("{} {words}", of.letters)
}

fn colour(of: &DestinationStatus) -> Color {
    match (of.state, of.health) {
        (State::Disabled, _) => Color::DarkGray,
        (_, HealthStatus::Down) => Color::Red,
        (State::Draining, _) => Color::Yellow,
        (State::Active, _) if troubled(of) => Color::Yellow,
        (State::Active, _) => Color::Green,
    }
}

fn push_workers(lines: &mut Vec<Line<'static>>, status: &Status, rates: &Rates) {
    let gap = " ".repeat(BUSY);
    let columns = format!(
        "{:<6}{gap}{:>7}{:>14}{:>18}",
        "core", "busy", "messages/s", "lost/s (all)"
    );
    lines.push(Line::from(vec![
        format!("{:<10}", "workers").bold(),
        columns.dim(),
    ]));
    for (worker, rates) in status.workers.iter().zip(&rates.workers) {
        let core = worker
            .core
            .map_or_else(|| "any".to_owned(), |core| core.to_string());
        let colour = match rates.busy {
            0.9.. => Color::Red,
            0.7.. => Color::Yellow,
            _ => Color::Green,
        };
        let lost = worker.overflow.iter().sum();
        let lost = format!("{} ({})", rate(rates.overflow_per_second), count(lost));
        let mut line = Line::from(format!("{:<10}{core:<6}", worker.number));
        // A mark beyond its end is no mark.
        line.extend(share_bar(BUSY as u16, rates.busy, 2.0, 1.0, colour));
        line.push_span(format!(
            "{:>7}{:>14}{lost:>18}",
            percent(Some(rates.busy)),
            rate(rates.messages_per_second)
        ));
        lines.push(line);
    }
    lines.push(Line::default());
}

fn push_drops(lines: &mut Vec<Line<'static>>, rates: &Rates) {
    let title = format!("{:<REASON$}", "dropped");
    if rates.dropped.is_empty() {
        lines.push(Line::from(vec![title.bold(), "nothing".dim()]));
        return;
    }
    let columns = format!("{:>10}{:>14}", "/s", "in all");
    lines.push(Line::from(vec![title.bold(), columns.dim()]));
    for dropped in &rates.dropped {
        lines.push(Line::from(format!(
            "{:<REASON$}{:>10}{:>14}",
            dropped.reason,
            rate(dropped.per_second),
            count(dropped.total)
        )));
    }
}
