//! What was decided, counted.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::outcome::Outcome;
use crate::cli::capture::Leavings;
use crate::cli::offline;
use crate::cli::table::Table;
use crate::config::text::joined;
use crate::config::{Config, Set};

/// The counts of a replay; in pairs: of `--config`, and of `--against`.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) leavings: Leavings,
    pub(super) secret_known: bool,
    /// Datagrams that a listener sent.
    pub(super) sent: u64,
    /// Datagrams between others.
    pub(super) elsewhere: u64,
    /// Messages printed.
    pub(super) listed: u64,
    /// Datagrams that go on behind their message.
    pub(super) longer: u64,
    messages: u64,
    /// Messages that both send the same way, but with other octets.
    other_octets: u64,
    /// By class of message: all, and those decided otherwise.
    classes: BTreeMap<&'static str, [u64; 2]>,
    decisions: BTreeMap<String, [u64; 2]>,
    /// Forwarded, by the set that was chosen, if one was, and where to.
    forwarded: BTreeMap<(Option<String>, SocketAddr), [u64; 2]>,
}

impl Tally {
    /// Counts a message; `after` is what --against makes of it, and whether
    /// the octets are the same.
    pub(super) fn count(
        &mut self,
        class: &'static str,
        outcome: &Outcome,
        after: Option<&(Outcome, bool)>,
    ) {
        self.messages += 1;
        self.count_outcome(0, outcome);
        let class = self.classes.entry(class).or_default();
        class[0] += 1;
        if let Some((after, same_octets)) = after {
            let same = after.is_same_as(outcome);
            class[1] += u64::from(!same);
            self.other_octets += u64::from(same && !same_octets);
            self.count_outcome(1, after);
        }
    }

    fn count_outcome(&mut self, world: usize, outcome: &Outcome) {
        self.decisions.entry(outcome.label()).or_default()[world] += 1;
        if let Some(to) = outcome.to.filter(|_| outcome.action == "forward") {
            let place = (outcome.set.clone(), to);
            self.forwarded.entry(place).or_default()[world] += 1;
        }
    }

    fn differing(&self) -> u64 {
        self.classes.values().map(|[_, differing]| differing).sum()
    }

    /// The members of both configurations by their names, and everybody else.
    fn destinations(&self, config: &Config, other: Option<&Config>) -> Vec<(String, [u64; 2])> {
        let mut rest = self.forwarded.clone();
        let mut rows = Vec::new();
        for set in sets(config, other) {
            for destination in &set.destinations {
                let address = destination.address;
                let name = format!("{address} in set {}", set.name);
                if !rows.iter().any(|(known, _)| *known == name) {
                    let chosen = rest.remove(&(Some(set.name.clone()), address));
                    // What no set was chosen for counts in the first that has it.
                    let other = rest.remove(&(None, address)).unwrap_or_default();
                    let [before, after] = chosen.unwrap_or_default();
                    rows.push((name, [before + other[0], after + other[1]]));
                }
            }
        }
        let sum = |world: usize| rest.values().map(|counts| counts[world]).sum();
        rows.push(("elsewhere".to_owned(), [sum(0), sum(1)]));
        rows
    }

    pub(super) fn json(&self, config: &Config, other: Option<&Config>) -> Value {
        let worlds = if other.is_some() { 2 } else { 1 };
        let pairs = |rows: Vec<(String, [u64; 2])>| {
            let row = |(name, counts): (String, [u64; 2])| match worlds {
                1 => (name, json!(counts[0])),
                _ => (name, json!({ "config": counts[0], "against": counts[1] })),
            };
            Value::Object(rows.into_iter().map(row).collect())
        };
        let classes = self.classes.iter().map(|(name, [all, differing])| {
            let value = match worlds {
                1 => json!(all),
                _ => json!({ "messages": all, "differing": differing }),
            };
            ((*name).to_owned(), value)
        });
        let decisions = self.decisions.clone().into_iter().collect();
        let mut value = json!({
            "messages": self.messages,
            "longer_than_message": self.longer,
            "secret_known": self.secret_known,
            "unresolved": offline::unresolved(sets(config, other)),
            "classes": Value::Object(classes.collect()),
            "decisions": pairs(decisions),
            "destinations": pairs(self.destinations(config, other)),
            "capture": self.leavings,
        });
        value["capture"]["sent_by_listeners"] = json!(self.sent);
        value["capture"]["to_others"] = json!(self.elsewhere);
        if worlds == 2 {
            value["differing"] = json!(self.differing());
            value["other_octets"] = json!(self.other_octets);
        }
        value
    }

    pub(super) fn write(
        &self,
        out: &mut dyn Write,
        config: &Config,
        other: Option<&Config>,
    ) -> io::Result<()> {
        if self.listed > 0 {
            writeln!(out)?;
        }
        self.write_capture(out)?;
        if self.messages == 0 {
            return self.write_nothing(out, config);
        }
        if !self.secret_known {
            writeln!(
                out,
                "without the secret file of the instance responses cannot be verified, and the \
                 hash chooses others\n  help: copy it here, and give it with --secret-file"
            )?;
        }
        let names = offline::unresolved(sets(config, other)).join(", ");
        if !names.is_empty() {
            writeln!(
                out,
                "by name {names}: not resolved here, so nothing is sent there, and what comes \
                 from there is taken for an outsider's"
            )?;
        }
        match other {
            None => self.write_one(out, config),
            Some(other) => self.write_both(out, config, other),
        }
    }

    /// Where there was no message: why, and what would change that.
    fn write_nothing(&self, out: &mut dyn Write, config: &Config) -> io::Result<()> {
        if self.elsewhere > 0 {
            let listeners = joined(config.listeners.iter().map(|each| &each.name));
            let advertises = config.listeners.iter().any(|each| each.advertise.is_some());
            // The flag for the address leaves nothing of a listener of the file.
            let flags = match advertises {
                true => "--listen ADDR --advertise HOST",
                false => "--listen ADDR",
            };
            return writeln!(
                out,
                "nothing was sent to a listener ({listeners})\n  help: {flags} gives a listener the \
                 address that it had there, --listener NAME takes all that the capture holds"
            );
        }
        let rest = self.rest().into_iter();
        match rest.max_by_key(|(number, ..)| *number) {
            Some((number, what, help)) if number > 0 => {
                write!(out, "no message could be read: {number} packets are {what}")?;
                match help {
                    "" => writeln!(out),
                    help => writeln!(out, "\n  help: {help}"),
                }
            }
            _ => writeln!(out, "the capture holds no packet"),
        }
    }

    /// The packets that are no messages for a listener: how many, what they are,
    /// and what mends that, if something does.
    fn rest(&self) -> Vec<(u64, String, &'static str)> {
        let left = &self.leavings;
        let mut rest = vec![
            (
                self.sent,
                "sent by a listener",
                "capture what comes in, too",
            ),
            (self.elsewhere, "between others", ""),
            (left.not_udp, "not UDP", ""),
            (
                left.cut_short,
                "cut short by the capture (its snap length)",
                "capture again with -s 0",
            ),
            (left.malformed, "malformed", ""),
            (
                left.obsolete_blocks,
                "in obsolete Packet Blocks, which are not read",
                "`editcap OLD NEW` of Wireshark writes them anew",
            ),
            (
                left.fragments_missing,
                "without some of their fragments",
                "capture again without ports in the filter: only first fragments have them",
            ),
        ]
        .into_iter()
        .map(|(number, what, help)| (number, what.to_owned(), help))
        .collect::<Vec<_>>();
        rest.extend(left.other_link_types.iter().map(|(link, number)| {
            let what = format!("of link type {link}, which is not read");
            (*number, what, "capture again with `-i any`")
        }));
        rest
    }

    fn write_capture(&self, out: &mut dyn Write) -> io::Result<()> {
        let left = &self.leavings;
        write!(out, "{} packets: ", left.packets)?;
        write!(out, "{} messages for a listener", self.messages)?;
        for (number, what, _) in self.rest().iter().filter(|(number, ..)| *number > 0) {
            write!(out, ", {number} {what}")?;
        }
        if left.fragments > 0 {
            let (fragments, whole) = (left.fragments, left.rejoined);
            write!(out, "; {fragments} fragments made {whole} datagrams")?;
        }
        writeln!(out)?;
        if left.ends_early {
            writeln!(out, "the capture ends in the middle of a packet")?;
        }
        if self.longer > 0 {
            writeln!(
                out,
                "{} datagrams go on behind their message: perhaps several that were captured as \
                 one (segmentation offload), of which the first was decided",
                self.longer
            )?;
        }
        Ok(())
    }

    fn write_one(&self, out: &mut dyn Write, config: &Config) -> io::Result<()> {
        let all = self.messages;
        let mut table = Table::new(&[false, true, true]);
        table.row([&"messages by class", &"", &""]);
        for (name, [number, _]) in &self.classes {
            table.row([&format!("  {name}"), number, &share(*number, all)]);
        }
        table.row([&"by decision", &"", &""]);
        for (name, [number, _]) in &self.decisions {
            table.row([&format!("  {name}"), number, &share(*number, all)]);
        }
        table.row([&"forwarded to", &"", &""]);
        for (name, [number, _]) in self.destinations(config, None) {
            table.row([&format!("  {name}"), &number, &share(number, all)]);
        }
        table.write(out)
    }

    fn write_both(&self, out: &mut dyn Write, config: &Config, other: &Config) -> io::Result<()> {
        let (all, differing) = (self.messages, self.differing());
        let share = share(differing, all);
        writeln!(
            out,
            "{differing} of {all} messages ({share}) are decided otherwise"
        )?;
        if self.other_octets > 0 {
            writeln!(
                out,
                "{} more go the same way with other octets",
                self.other_octets
            )?;
        }
        let mut table = Table::new(&[false, true, true]);
        table.row([&"messages by class", &"all", &"otherwise"]);
        for (name, [number, differing]) in &self.classes {
            table.row([&format!("  {name}"), number, differing]);
        }
        table.row([&"by decision", &"--config", &"--against"]);
        for (name, [before, after]) in &self.decisions {
            table.row([&format!("  {name}"), before, after]);
        }
        table.row([&"forwarded to", &"--config", &"--against"]);
        for (name, [before, after]) in self.destinations(config, Some(other)) {
            table.row([&format!("  {name}"), &before, &after]);
        }
        table.write(out)
    }
}

/// The sets of both configurations.
fn sets<'a>(config: &'a Config, other: Option<&'a Config>) -> impl Iterator<Item = &'a Set> {
    let configs = [Some(config), other].into_iter().flatten();
    configs.flat_map(|config| &config.sets)
}

/// A part of a whole in percent.
fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", part as f64 * 100.0 / whole.max(1) as f64)
}
