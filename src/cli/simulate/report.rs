//! What a simulation found, as text and as JSON.

use std::collections::BTreeMap;
use std::io::{self, Write};

use serde::Serialize;

use super::classes::{Class, Meets, Survey, Worlds};
use super::moves::{Load, Moves, Share};
use crate::cli::offline;
use crate::cli::table::Table;
use crate::config::{Set, State, text};
use crate::control::needs_upgrade;
use crate::dispatcher::{self, Dispatcher};

/// Cells of a bar for the whole load.
const BAR: f64 = 16.0;

#[derive(Serialize)]
pub(super) struct Report {
    pub(super) secret_known: bool,
    /// Keys of the configuration that no reload brings into effect.
    pub(super) needs_restart: Vec<&'static str>,
    pub(super) sets: Vec<SetReport>,
    /// The names of those that are left out, for others change.
    pub(super) unchanged: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct SetReport {
    set: String,
    policy: &'static str,
    hash_key: String,
    /// Whether it is there before, and after.
    before: bool,
    after: bool,
    /// Keys in all, and those that move; slots, or calls.
    keys: u64,
    keys_are: &'static str,
    moved: u64,
    moved_share: Option<f64>,
    destinations: Vec<Load>,
    /// `None`: no call that its rules describe meets it, or nobody knows.
    survey: Option<Met>,
    /// The names of destinations, before and after.
    unresolved: Vec<String>,
    /// Whether it has destinations without them.
    #[serde(skip)]
    has_addresses: bool,
}

/// A [`Survey`] in shares.
#[derive(Serialize)]
struct Met {
    calls: u64,
    classes: Vec<ClassMet>,
    not_of_this_set: BTreeMap<String, u64>,
}

/// The shares of its messages that meet what.
#[derive(Serialize)]
struct ClassMet {
    class: Class,
    messages: u64,
    right: f64,
    second_chance: f64,
    other: f64,
    refused: f64,
}

impl ClassMet {
    fn new((class, meets): (Class, Meets)) -> Self {
        let share = |part: u64| part as f64 / meets.all() as f64;
        Self {
            class,
            messages: meets.all(),
            right: share(meets.right),
            second_chance: share(meets.second_chance),
            other: share(meets.other),
            refused: share(meets.refused),
        }
    }
}

/// Whether a set has destinations whose addresses are known, before and after,
/// where it is there.
pub(super) fn have_addresses(before: Option<&Set>, after: Option<&Set>) -> bool {
    let mut sets = before.into_iter().chain(after);
    sets.all(|set| !set.destinations.is_empty())
}

/// The set of that name with its look-up table, where there is one.
fn ready<'d>(dispatcher: &'d Dispatcher, name: &str) -> Option<&'d dispatcher::Set> {
    let mut sets = dispatcher.sets().iter();
    let found = sets.find(|set| set.definition().name == name);
    found.map(|set| &**set)
}

impl SetReport {
    pub(super) fn new(
        worlds: &Worlds<'_>,
        before: Option<&Set>,
        after: Option<&Set>,
        survey: Option<Survey>,
    ) -> Self {
        let set = before
            .or(after)
            .expect("invariant: a set is in one of both");
        let was = ready(worlds.before.dispatcher(), &set.name);
        let is = ready(worlds.after.dispatcher(), &set.name);
        let of_slots = Moves::of_slots(was, is);
        let nothing = Moves::default();
        let has_addresses = have_addresses(before, after);
        let (progress, new) = match (&of_slots, &survey) {
            _ if !has_addresses => (&nothing, &nothing),
            (Some(slots), _) => (slots, slots),
            (None, Some(survey)) => (&survey.in_progress, &survey.new),
            (None, None) => (&nothing, &nothing),
        };
        let (keys, moved) = (progress.all(), progress.moved());
        Self {
            set: set.name.clone(),
            policy: text::name(&set.policy),
            hash_key: text::hash_key_name(&set.hash_key),
            before: before.is_some(),
            after: after.is_some(),
            keys,
            keys_are: if of_slots.is_some() { "slots" } else { "calls" },
            moved,
            moved_share: (keys > 0).then(|| moved as f64 / keys as f64),
            destinations: match has_addresses {
                true => new.loads(was, is),
                false => Vec::new(),
            },
            survey: survey.map(|survey| Met {
                calls: survey.calls,
                classes: survey.classes.into_iter().map(ClassMet::new).collect(),
                not_of_this_set: survey.others,
            }),
            unresolved: offline::unresolved(before.into_iter().chain(after)),
            has_addresses,
        }
    }
}

impl Report {
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, set) in self.sets.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            write_set(out, set)?;
        }
        match self.unchanged.len() {
            0 => {}
            1 => writeln!(out, "\n1 set does not change")?,
            many => writeln!(out, "\n{many} sets do not change")?,
        }
        if !self.needs_restart.is_empty() {
            let needed = needs_upgrade(&self.needs_restart);
            writeln!(
                out,
                "\na reload refuses this: {needed}; then there is no second chance"
            )?;
        }
        if !self.secret_known {
            writeln!(
                out,
                "\nno secret file: a running instance has a key of its own, so single calls fare \
                 otherwise"
            )?;
        }
        Ok(())
    }
}

fn write_set(out: &mut dyn Write, set: &SetReport) -> io::Result<()> {
    let SetReport {
        set: name,
        policy,
        hash_key,
        keys,
        keys_are,
        moved,
        ..
    } = set;
    let note = match (set.before, set.after) {
        (true, true) => "",
        (false, _) => ", added",
        (true, false) => ", removed",
    };
    writeln!(out, "set {name}: {policy} of {hash_key}{note}")?;
    if let Some(share) = set.moved_share {
        let percent = percent(share);
        writeln!(
            out,
            "  {percent} of the keys move ({moved} of {keys} {keys_are})"
        )?;
    }
    if !set.unresolved.is_empty() {
        let names = set.unresolved.join(", ");
        let so = match set.has_addresses {
            true => "once it is resolved, shares and moves will differ",
            false => "without it the set has no destination, and nothing is known of its calls",
        };
        writeln!(out, "  by name {names}: not resolved here; {so}")?;
    }
    if !set.has_addresses {
        return Ok(());
    }
    writeln!(out)?;
    write_loads(out, &set.destinations)?;
    if let Some(survey) = &set.survey {
        writeln!(out)?;
        write_survey(out, survey)?;
    } else if set.before {
        writeln!(out, "\n  no call that the routes describe meets it")?;
    }
    Ok(())
}

fn write_loads(out: &mut dyn Write, loads: &[Load]) -> io::Result<()> {
    let mut table = Table::new(&[false, true, true, true, true, false]);
    table.row([
        &"destination",
        &"before",
        &"by weight",
        &"after",
        &"by weight",
        &"",
    ]);
    for load in loads {
        let cell = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), percent);
        let has = |load: Option<Share>| load.and_then(|load| load.share);
        let due = |load: Option<Share>| cell(load.map(|load| load.ideal));
        let bar = has(load.after).unwrap_or(0.0) * BAR;
        let bar = "█".repeat(bar.round() as usize);
        let note = match (load.before, load.after) {
            (None, _) => "added",
            (_, None) => "removed",
            (_, Some(after)) if after.state != State::Active => text::name(&after.state),
            _ => "",
        };
        table.row([
            &load.destination,
            &cell(has(load.before)),
            &due(load.before),
            &cell(has(load.after)),
            &due(load.after),
            &format!("{bar} {note}").trim(),
        ]);
    }
    table.write(out)
}

fn write_survey(out: &mut dyn Write, survey: &Met) -> io::Result<()> {
    let calls = survey.calls;
    let mut table = Table::new(&[false, true, true, true, true]);
    table.row([
        &format!("of {calls} calls in progress"),
        &"right",
        &"second chance",
        &"another",
        &"refused",
    ]);
    for met in &survey.classes {
        table.row([
            &met.class.text(),
            &percent(met.right),
            &percent(met.second_chance),
            &percent(met.other),
            &percent(met.refused),
        ]);
    }
    table.write(out)?;
    let has = |class| survey.classes.iter().any(|met| met.class == class);
    if has(Class::Named) && !has(Class::Cookie) {
        writeln!(out, "  no cookies: record-route is off before the change")?;
    }
    for (what, number) in &survey.not_of_this_set {
        writeln!(
            out,
            "  {number} more were no calls of this set before: {what}"
        )?;
    }
    Ok(())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
