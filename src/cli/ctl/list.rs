//! Sets and destinations as a table.

use std::io::{self, Write};

use clap::builder::styling::{AnsiColor, Style};

use crate::cli::table::Table;
use crate::cli::words::age;
use crate::config::{Policy, State, text};
use crate::control::Status;
use crate::control::status::{DestinationStatus, HealthStatus, SetStatus};

/// Columns that are flush right.
const RIGHT: [bool; 8] = [false, false, false, true, true, true, true, true];

pub(super) fn write(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let Status {
        generation,
        table_id,
        ..
    } = status;
    let ready = if status.ready { "ready" } else { "not ready" };
    writeln!(
        out,
        "viaduct {}, {ready}, generation {generation}, table {table_id}",
        status.version
    )?;
    for set in &status.sets {
        writeln!(out)?;
        write_set(out, set)?;
    }
    Ok(())
}

fn write_set(out: &mut dyn Write, set: &SetStatus) -> io::Result<()> {
    let SetStatus {
        name,
        policy,
        hash_key,
        ..
    } = set;
    writeln!(out, "set {name}: policy {policy}, hash key {hash_key}")?;
    let alarm = AnsiColor::Red.on_default().bold();
    for said in set.alarms() {
        writeln!(out, "  {alarm}{said}{alarm:#}")?;
    }
    if set.destinations.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(&RIGHT);
    table.row([
        &"destination",
        &"state",
        &"health",
        &"weight",
        &"share",
        &"requests",
        &"seen",
        &"dialog",
    ]);
    for each in &set.destinations {
        let health = match (each.health, each.round_trip_ms) {
            (HealthStatus::Up, Some(trip)) => format!("{trip:.1} ms"),
            (HealthStatus::Up, None) => "up".to_owned(),
            (HealthStatus::Warming, _) => "warming".to_owned(),
            (HealthStatus::Down, _) => "down".to_owned(),
        };
        let (weight, share) = (weight(set, each), share(set, each));
        table.styled_row(
            style(each),
            [
                &each.address,
                &format!("{} {}", each.letters, text::name(&each.state)),
                &health,
                &format!("{} ({weight:.0} %)", each.weight),
                &format!("{share:.0} %"),
                &each.requests,
                &age(each.last_seen_seconds),
                &age(each.last_in_dialog_seconds),
            ],
        );
    }
    table.write(out)?;
    for each in &set.destinations {
        if let (HealthStatus::Down, Some(cause)) = (each.health, &each.cause) {
            writeln!(out, "  {}: {cause}", each.address)?;
        }
    }
    Ok(())
}

fn style(destination: &DestinationStatus) -> Style {
    match (destination.state, destination.health) {
        (State::Disabled, _) => Style::new().dimmed(),
        (_, HealthStatus::Down) => AnsiColor::Red.on_default(),
        (State::Draining, _) | (_, HealthStatus::Warming) => AnsiColor::Yellow.on_default(),
        (State::Active, HealthStatus::Up) => AnsiColor::Green.on_default(),
    }
}

/// Its part of the weights of its priority, in percent; with Kamailio's policy
/// all have the same part, and priorities are an order alone.
fn weight(set: &SetStatus, destination: &DestinationStatus) -> f64 {
    let all = set.destinations.iter();
    if set.policy == text::name(&Policy::Kamailio) {
        return 100.0 / all.len() as f64;
    }
    let same = all.filter(|each| each.priority == destination.priority);
    let sum: f64 = same.map(|each| f64::from(each.weight)).sum();
    100.0 * f64::from(destination.weight) / sum
}

/// Its part of new work now, in percent.
fn share(set: &SetStatus, destination: &DestinationStatus) -> f64 {
    match set.destinations.iter().map(|each| each.share).sum() {
        0.0 => 0.0,
        all => 100.0 * destination.share / all,
    }
}
