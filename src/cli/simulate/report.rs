//! What a simulation found, as text and as JSON.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::classes::{Class, Survey, Worlds};
use super::moves::{Load, Moves, Share};
use crate::cli::offline;
use crate::cli::table::Table;
use crate::config::{Policy, Set, State, text};
use crate::control::needs_upgrade;
use crate::dispatcher::{self, Dispatcher};

/// Cells of a bar for the whole load.
const BAR: f64 = 16.0;

pub(super) struct Report {
    pub(super) secret_known: bool,
    /// Keys of the configuration that no reload brings into effect.
    pub(super) at_start: Vec<&'static str>,
    pub(super) sets: Vec<SetReport>,
}

pub(super) struct SetReport {
    name: String,
    policy: Policy,
    hash_key: String,
    /// Whether it is there before, and after.
    there: [bool; 2],
    /// Keys in all, and those that move; of slots, or of calls.
    keys: u64,
    moved: u64,
    by_slots: bool,
    loads: Vec<Load>,
    /// `None`: no call that its rules describe meets it, or nobody knows.
    survey: Option<Survey>,
    /// The names of destinations, before and after.
    unresolved: Vec<String>,
    /// Whether it has destinations without them.
    has_addresses: bool,
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
        Self {
            name: set.name.clone(),
            policy: set.policy,
            hash_key: text::hash_key_name(&set.hash_key),
            there: [before.is_some(), after.is_some()],
            keys: progress.all(),
            moved: progress.moved(),
            by_slots: of_slots.is_some(),
            loads: match has_addresses {
                true => new.loads(was, is),
                false => Vec::new(),
            },
            survey,
            unresolved: offline::unresolved(before.into_iter().chain(after)),
            has_addresses,
        }
    }

    fn moved_share(&self) -> Option<f64> {
        (self.keys > 0).then(|| self.moved as f64 / self.keys as f64)
    }
}

impl Report {
    pub(super) fn json(&self) -> Value {
        let sets: Vec<_> = self.sets.iter().map(set_json).collect();
        json!({
            "secret_known": self.secret_known,
            "needs_restart": self.at_start,
            "sets": sets,
        })
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, set) in self.sets.iter().enumerate() {
            if number > 0 {
                writeln!(out)?;
            }
            write_set(out, set)?;
        }
        if !self.at_start.is_empty() {
            let needed = needs_upgrade(&self.at_start);
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

fn set_json(set: &SetReport) -> Value {
    let share = |share: Option<Share>| {
        share.map(|share| {
            json!({
                "share": share.share,
                "ideal": share.ideal,
                "state": text::name(&share.state),
            })
        })
    };
    let loads: Vec<_> = set
        .loads
        .iter()
        .map(|load| {
            json!({
                "destination": load.address,
                "before": share(load.before),
                "after": share(load.after),
            })
        })
        .collect();
    let survey = set.survey.as_ref().map(|survey| {
        let classes = survey.classes.iter().map(|(class, meets)| {
            let all = meets.all() as f64;
            json!({
                "class": class,
                "messages": meets.all(),
                "right": meets.right as f64 / all,
                "second_chance": meets.second_chance as f64 / all,
                "other": meets.other as f64 / all,
                "refused": meets.refused as f64 / all,
            })
        });
        json!({
            "calls": survey.calls,
            "classes": classes.collect::<Vec<_>>(),
            "not_of_this_set": survey.others,
        })
    });
    json!({
        "set": set.name,
        "policy": text::name(&set.policy),
        "hash_key": set.hash_key,
        "before": set.there[0],
        "after": set.there[1],
        "keys": set.keys,
        "keys_are": if set.by_slots { "slots" } else { "calls" },
        "moved": set.moved,
        "moved_share": set.moved_share(),
        "destinations": loads,
        "unresolved": set.unresolved,
        "survey": survey,
    })
}

fn write_set(out: &mut dyn Write, set: &SetReport) -> io::Result<()> {
    let SetReport {
        name,
        policy,
        hash_key,
        keys,
        moved,
        ..
    } = set;
    let note = match set.there {
        [true, true] => "",
        [_, true] => ", added",
        [..] => ", removed",
    };
    let policy = text::name(policy);
    writeln!(out, "set {name}: {policy} of {hash_key}{note}")?;
    let unit = if set.by_slots { "slots" } else { "calls" };
    if let Some(share) = set.moved_share() {
        let percent = percent(share);
        writeln!(
            out,
            "  {percent} of the keys move ({moved} of {keys} {unit})"
        )?;
    }
    if !set.unresolved.is_empty() {
        let names = set.unresolved.join(", ");
        let so = match set.has_addresses {
            true => "where it is, shares and moves are others",
            false => "without it the set has no destination, and nothing is known of its calls",
        };
        writeln!(out, "  by name {names}: not resolved here; {so}")?;
    }
    if !set.has_addresses {
        return Ok(());
    }
    writeln!(out)?;
    write_loads(out, &set.loads)?;
    if let Some(survey) = &set.survey {
        writeln!(out)?;
        write_survey(out, survey)?;
    } else if set.there[0] {
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
        let cells = |share: Option<Share>| match share {
            Some(share) => (percent(share.share), percent(share.ideal)),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let ((before, ideal_before), (after, ideal_after)) =
            (cells(load.before), cells(load.after));
        let bar = load.after.map_or(0.0, |share| share.share) * BAR;
        let bar = "█".repeat(bar.round() as usize);
        let note = match (load.before, load.after) {
            (None, _) => "added",
            (_, None) => "removed",
            (_, Some(after)) if after.state != State::Active => text::name(&after.state),
            _ => "",
        };
        table.row([
            &load.address,
            &before,
            &ideal_before,
            &after,
            &ideal_after,
            &format!("{bar} {note}").trim(),
        ]);
    }
    table.write(out)
}

fn write_survey(out: &mut dyn Write, survey: &Survey) -> io::Result<()> {
    let calls = survey.calls;
    let mut table = Table::new(&[false, true, true, true, true]);
    table.row([
        &format!("of {calls} calls in progress"),
        &"right",
        &"second chance",
        &"another",
        &"refused",
    ]);
    for (class, meets) in &survey.classes {
        let share = |part: u64| percent(part as f64 / meets.all() as f64);
        table.row([
            &class.text(),
            &share(meets.right),
            &share(meets.second_chance),
            &share(meets.other),
            &share(meets.refused),
        ]);
    }
    table.write(out)?;
    let has = |class| survey.classes.contains_key(&class);
    if has(Class::Named) && !has(Class::Cookie) {
        writeln!(out, "  no cookies: record-route is off before the change")?;
    }
    for (what, number) in &survey.others {
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
