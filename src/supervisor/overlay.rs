//! What lies over the configuration as loaded: what operators have changed
//! since, what health checks have found, and what names stand for.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::entry::{Changes, Entry};
use crate::config::{
    Config, Destination, Health, HostPort, LogLevel, MAX_DESTINATIONS, Probe, Set,
};
use crate::control::{Change, Place};
use crate::health::Report;
use crate::resolver::{Resolved, Target};

/// Addresses that are away, and no operator has changed, that are remembered at most.
const MAX_AWAY: usize = 1024;

/// All of it. Written down and read again where the binary is started anew.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Overlay {
    entries: Vec<Entry>,
    names: Vec<Resolved>,
    /// The level of the log that an operator has set. Another program begins with
    /// that of the file.
    #[serde(skip)]
    pub(super) log_level: Option<LogLevel>,
}

impl Overlay {
    /// What `config` becomes under it.
    pub(super) fn over(&self, config: &Config) -> Config {
        let mut config = self.with_names(config);
        config.log.level = self.log_level.unwrap_or(config.log.level);
        let mut entries: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in &self.entries {
            entries.entry(&entry.set).or_default().push(entry);
        }
        for set in &mut config.sets {
            let probe = probe_of(set).cloned();
            let addresses = set.destinations.iter().map(|each| each.address);
            let mut places = addresses.zip(0..).collect();
            for entry in entries.remove(set.name.as_str()).unwrap_or_default() {
                entry.apply(set, &mut places, probe.as_ref());
            }
            set.destinations
                .retain(|each| places.contains_key(&each.address));
        }
        config
    }

    /// What `config` becomes by names alone.
    fn with_names(&self, config: &Config) -> Config {
        let mut config = config.clone();
        for set in &mut config.sets {
            self.add_named(set);
        }
        config
    }

    fn add_named(&self, set: &mut Set) {
        let known = set.destinations.iter().map(|each| each.address);
        let mut known: HashSet<_> = known.collect();
        for named in &mut set.named {
            let targets = self.targets(&named.name).unwrap_or_default();
            named.resolved = !targets.is_empty();
            for target in targets {
                if set.destinations.len() < MAX_DESTINATIONS && known.insert(target.address) {
                    set.destinations.push(Destination {
                        uri: named.uri.clone(),
                        address: target.address,
                        weight: named.weight.unwrap_or(target.weight),
                        priority: named.priority.saturating_sub(target.rank),
                        state: named.state,
                        probe: named.probe.clone(),
                        health: Health::Up,
                    });
                }
            }
        }
    }

    /// What a name stands for; `None`: nobody has said yet.
    pub(super) fn targets(&self, name: &HostPort) -> Option<&[Target]> {
        Some(&self.known(name)?.targets)
    }

    fn known(&self, name: &HostPort) -> Option<&Resolved> {
        self.names.iter().find(|known| known.name == *name)
    }

    /// The names of `config`, with what they stand for as far as that is known.
    pub(super) fn names_of(&self, config: &Config) -> Vec<Resolved> {
        let names = named(config).map(|(_, name)| Resolved {
            name: name.clone(),
            targets: self.targets(name).unwrap_or_default().to_vec(),
            whole: self.known(name).is_some_and(|known| known.whole),
        });
        names.collect()
    }

    /// Notes a change to `set`, which has been found to be possible.
    pub(super) fn note(&mut self, set: &str, address: SocketAddr, change: &Change) {
        let entry = self.entry(set, address);
        let changes = &mut entry.changes;
        match change {
            Change::State(_, state) => changes.state = Some(*state),
            Change::Weight(_, weight) => changes.weight = Some(*weight),
            Change::Add(_, destination) => {
                // All of it, also where the file has it and says something else.
                *changes = Changes {
                    state: Some(destination.state),
                    weight: Some(destination.weight),
                    priority: Some(destination.priority),
                    added: Some(destination.to_string()),
                    removed: false,
                };
                entry.health = Health::Up;
            }
            Change::Remove(_) => {
                *changes = Changes {
                    removed: true,
                    // Until it is settled whether the file has it as well.
                    added: changes.added.take(),
                    ..Changes::default()
                };
                entry.health = Health::Up;
            }
        }
    }

    /// Notes what health checks have found, and leaves what of it is new.
    pub(super) fn found(&mut self, found: &mut Vec<Report>) {
        let entries = &mut self.entries;
        let known = entries.iter().map(|of| (of.set.clone(), of.address));
        let mut places: HashMap<_, _> = known.zip(0..).collect();
        found.retain(|each| {
            let place = places.entry((each.set.clone(), each.address));
            let at = *place.or_insert_with(|| {
                entries.push(Entry::new(&each.set, each.address));
                entries.len() - 1
            });
            std::mem::replace(&mut entries[at].health, each.health) != each.health
        });
    }

    /// Notes what a name stands for; whether that is new.
    pub(super) fn resolved(&mut self, new: Resolved) -> bool {
        let mut known = self.names.iter_mut();
        match known.find(|known| known.name == new.name) {
            Some(known) => std::mem::replace(known, new.clone()).targets != new.targets,
            None => {
                self.names.push(new);
                true
            }
        }
    }

    /// Takes another file in: where it says something else of a destination, or
    /// of the log's level, than the one before, the operator's change of that has
    /// had its time.
    pub(super) fn settle(&mut self, before: &Config, now: &Config) {
        if before.log.level != now.log.level {
            self.log_level = None;
        }
        let listed = destinations(now);
        let (before, now) = (&self.with_names(before), &self.with_names(now));
        let awaited: Vec<_> = self.unknown_names(now).map(|(set, _)| set).collect();
        let (was, is) = (destinations(before), destinations(now));
        self.entries.retain_mut(|entry| {
            let Some(set) = now.sets.iter().find(|set| set.name == entry.set) else {
                return false;
            };
            let place = (entry.set.as_str(), entry.address);
            let (was, is) = (was.get(&place).copied(), is.get(&place).copied());
            let changes = &mut entry.changes;
            // What was only added, and is removed again, never was there.
            if changes.removed && changes.added.take().is_some() && is.is_none() {
                changes.removed = false;
            }
            // What is nowhere now may come back by a name of its set, and then
            // what operators have changed of it holds on.
            let may_come = match (was, is) {
                (_, Some(_)) => false,
                // It stood in the file of before, or in an answer to it: a new
                // name, of which nobody has said anything yet, may stand for it.
                (Some(_), None) => awaited.contains(&set.name.as_str()),
                // It was away before: any name may stand for it again.
                (None, None) => !set.named.is_empty(),
            };
            if !may_come {
                changes.drop_superseded(was, is);
            }
            // What was found may be long past once it is there or probed again.
            let probe = is.map_or_else(|| probe_of(set), |is| is.probe.as_ref());
            let is_new = was.is_none() && is.is_some() && changes.added.is_none();
            if probe.is_none() || is_new {
                entry.health = Health::Up;
            }
            // A name may let go of it again.
            if listed.contains_key(&place) {
                changes.added = None;
            }
            // Without names, nothing comes back as what it was.
            let is_found = entry.health != Health::Up && !set.named.is_empty();
            let has_say = entry.changes.added.is_some() || is_found;
            is.is_some() || has_say || may_come && entry.changes != Changes::default()
        });
        self.names
            .retain(|known| named(now).any(|(_, name)| *name == known.name));
        self.forget_away(now);
    }

    /// Of what is away from `config`, and no operator has changed, forgets the
    /// oldest where it is too much: names may stand for others each minute.
    pub(super) fn forget_away(&mut self, config: &Config) {
        let config = self.with_names(config);
        let there = destinations(&config);
        let is_away = |entry: &Entry| {
            let is_there = there.contains_key(&(entry.set.as_str(), entry.address));
            entry.changes == Changes::default() && !is_there
        };
        let away = self.entries.iter().filter(|entry| is_away(entry));
        let surplus = away.count().saturating_sub(MAX_AWAY);
        let away = self.entries.extract_if(.., |entry| is_away(entry));
        away.take(surplus).for_each(drop);
    }

    /// The names of `config` of which nobody has said what they stand for, each
    /// with its set.
    pub(super) fn unknown_names<'c>(
        &self,
        config: &'c Config,
    ) -> impl Iterator<Item = (&'c str, &'c HostPort)> {
        named(config).filter(|(_, name)| self.targets(name).is_none())
    }

    /// The same without what operators have changed.
    pub(super) fn without_changes(&self) -> Self {
        let learnt = |entry: &Entry| Entry {
            changes: Changes::default(),
            ..entry.clone()
        };
        Self {
            entries: self.entries.iter().map(learnt).collect(),
            names: self.names.clone(),
            log_level: None,
        }
    }

    fn entry(&mut self, set: &str, address: SocketAddr) -> &mut Entry {
        let mut known = self.entries.iter();
        let known = known.position(|each| each.set == set && each.address == address);
        let at = known.unwrap_or_else(|| {
            self.entries.push(Entry::new(set, address));
            self.entries.len() - 1
        });
        &mut self.entries[at]
    }
}

/// How what is added to `set` is probed: like the others, also where these have
/// been removed, or their names stand for nothing yet.
fn probe_of(set: &Set) -> Option<&Arc<Probe>> {
    let all = set.destinations.iter().map(|each| &each.probe);
    let mut all = all.chain(set.named.iter().map(|each| &each.probe));
    all.find_map(Option::as_ref)
}

/// All names, each with its set.
pub(super) fn named(config: &Config) -> impl Iterator<Item = (&str, &HostPort)> {
    config.sets.iter().flat_map(|set| {
        let names = set.named.iter().map(|named| &named.name);
        names.map(|name| (set.name.as_str(), name))
    })
}

/// All destinations, by the name of the set and the address.
pub(super) fn destinations(config: &Config) -> HashMap<(&str, SocketAddr), &Destination> {
    let destinations = config.sets.iter().flat_map(|set| {
        let each = set.destinations.iter();
        each.map(|each| ((set.name.as_str(), each.address), each))
    });
    destinations.collect()
}

/// The sets that `place` is in, by name.
pub(super) fn sets_with(config: &Config, place: &Place) -> Vec<String> {
    let wanted = |set: &&Set| place.set.as_ref().is_none_or(|name| *name == set.name);
    let sets = config.sets.iter().filter(wanted);
    let sets = sets.filter(|set| {
        let mut destinations = set.destinations.iter();
        destinations.any(|each| each.address == place.address)
    });
    sets.map(|set| set.name.clone()).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Overrides, State, load_with, text};

    /// A configuration with one set of these destinations.
    pub(in crate::supervisor) fn config(destinations: &str) -> Config {
        let text = format!(
            "listen = ['127.0.0.1:5060']\n[[set]]\nname = 'farm'\ndestinations = [{destinations}]\n"
        );
        let path = std::path::Path::new("v.toml");
        let loaded = load_with(Some(path), &Overrides::default(), 1, &|_| {
            Ok(text.clone().into())
        });
        loaded.config.expect("a configuration")
    }

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 5060))
    }

    fn host(name: &str) -> HostPort {
        HostPort {
            host: name.to_owned(),
            port: None,
        }
    }

    /// That `farm.test` stands for these.
    fn name(lasts: &[u8]) -> Resolved {
        let target = |last: &u8| Target {
            address: address(*last),
            weight: 1,
            rank: 0,
        };
        Resolved {
            name: host("farm.test"),
            targets: lasts.iter().map(target).collect(),
            whole: true,
        }
    }

    fn place(last: u8) -> Place {
        Place {
            set: None,
            address: address(last),
        }
    }

    fn down(address: SocketAddr) -> Report {
        Report {
            set: "farm".to_owned(),
            address,
            health: Health::Down,
            cause: "silence".to_owned(),
        }
    }

    fn drain(last: u8) -> Change {
        Change::State(place(last), State::Draining)
    }

    /// Each destination, those that are not active with their state.
    fn states(overlay: &Overlay, config: &Config) -> Vec<String> {
        let set = &overlay.over(config).sets[0];
        let each = set.destinations.iter().map(|each| match each.state {
            State::Active => each.address.to_string(),
            state => format!("{} {}", each.address, text::name(&state)),
        });
        each.collect()
    }

    #[test]
    fn what_is_added_is_probed_as_the_others_were() {
        let add = |last| {
            let added = text::destination(&format!("sip:{}", address(last)));
            Change::Add("farm".to_owned(), added.expect("a destination"))
        };
        for file in ["'10.0.0.1'", "'farm.test'"] {
            let file = config(file);
            let mut overlay = Overlay::default();
            overlay.note("farm", address(1), &Change::Remove(place(1)));
            overlay.note("farm", address(2), &add(2));
            let set = &overlay.over(&file).sets[0];
            assert_eq!(set.destinations.len(), 1);
            assert!(set.destinations[0].probe.is_some(), "{set:?}");
        }
    }

    #[test]
    fn a_set_has_no_more_destinations_by_names_than_by_addresses() {
        let address = |n: usize| format!("'11.{}.{}.{}', ", n >> 16, (n >> 8) & 255, n & 255);
        let addresses: String = (1..MAX_DESTINATIONS).map(address).collect();
        let file = config(&format!("{addresses}'farm.test'"));
        let mut overlay = Overlay::default();
        overlay.resolved(name(&[1, 2]));
        let set = &overlay.over(&file).sets[0];
        assert_eq!(set.destinations.len(), MAX_DESTINATIONS);
    }

    #[test]
    fn a_name_that_adds_no_address_is_resolved_all_the_same() {
        let file = config("'10.0.0.1', 'farm.test', 'other.test'");
        let mut overlay = Overlay::default();
        overlay.resolved(name(&[1]));
        let set = &overlay.over(&file).sets[0];
        assert_eq!(set.destinations.len(), 1);
        let unresolved: Vec<_> = set.unresolved().map(ToString::to_string).collect();
        assert_eq!(unresolved, ["other.test"]);
    }

    #[test]
    fn what_is_so_of_an_address_stays_while_its_name_is_followed() {
        let by_name = config("'farm.test', '10.0.0.9'");
        let mut overlay = Overlay::default();
        assert!(overlay.resolved(name(&[1, 2])));
        overlay.note("farm", address(1), &drain(1));
        overlay.found(&mut vec![down(address(2))]);
        let drained = ["10.0.0.9:5060", "10.0.0.1:5060 draining", "10.0.0.2:5060"];
        assert_eq!(states(&overlay, &by_name), drained);
        // It goes and comes again.
        assert!(overlay.resolved(name(&[2])));
        assert!(overlay.resolved(name(&[1, 2])));
        assert!(!overlay.resolved(name(&[1, 2])));
        assert_eq!(states(&overlay, &by_name), drained);
        let health = |overlay: &Overlay, config: &Config| {
            overlay.over(config).sets[0].destinations[2].health
        };
        assert_eq!(health(&overlay, &by_name), Health::Down);
        // A file that says the same of it changes nothing.
        let other = config("'10.0.0.9', 'farm.test', '10.0.0.8'");
        overlay.settle(&by_name, &other);
        let drained = [
            "10.0.0.9:5060",
            "10.0.0.8:5060",
            "10.0.0.1:5060 draining",
            "10.0.0.2:5060",
        ];
        assert_eq!(states(&overlay, &other), drained);
        // One that says something else goes before what an operator said.
        let disabled = config("'10.0.0.9', 'farm.test;state=disabled'");
        overlay.settle(&other, &disabled);
        let all = [
            "10.0.0.9:5060",
            "10.0.0.1:5060 disabled",
            "10.0.0.2:5060 disabled",
        ];
        assert_eq!(states(&overlay, &disabled), all);
        // What is not named any more is forgotten.
        let without = config("'10.0.0.9'");
        overlay.settle(&disabled, &without);
        assert_eq!(overlay.targets(&host("farm.test")), None);
        assert_eq!(states(&overlay, &without), ["10.0.0.9:5060"]);
    }

    #[test]
    fn what_operators_changed_stays_while_an_address_is_away_and_its_name_is_there() {
        let by_name = config("'farm.test', '10.0.0.9'");
        let mut overlay = Overlay::default();
        overlay.resolved(name(&[1, 2, 3]));
        overlay.note("farm", address(1), &drain(1));
        overlay.note("farm", address(2), &Change::Weight(place(2), 7));
        overlay.note("farm", address(3), &Change::Remove(place(3)));
        overlay.resolved(name(&[4]));
        // A reload, and an upgrade.
        overlay.settle(&by_name, &config("'farm.test', '10.0.0.9', '10.0.0.8'"));
        overlay.settle(&by_name, &by_name);
        overlay.resolved(name(&[1, 2, 3]));
        let stays = ["10.0.0.9:5060", "10.0.0.1:5060 draining", "10.0.0.2:5060"];
        assert_eq!(states(&overlay, &by_name), stays);
        assert_eq!(overlay.over(&by_name).sets[0].destinations[2].weight, 7);
        // Nobody knows yet what its new name stands for: it may be the same.
        let renamed = config("'new.test', '10.0.0.9'");
        let renamed_name = |lasts| Resolved {
            name: host("new.test"),
            ..name(lasts)
        };
        for before in [&by_name, &renamed] {
            let mut overlay = overlay.clone();
            overlay.settle(before, &renamed);
            overlay.resolved(renamed_name(&[1, 2, 3]));
            assert_eq!(states(&overlay, &renamed), stays);
        }
        // Where that is known, the file has let it go.
        overlay.resolved(renamed_name(&[4]));
        overlay.settle(&by_name, &renamed);
        overlay.resolved(renamed_name(&[1, 3]));
        let fresh = ["10.0.0.9:5060", "10.0.0.1:5060", "10.0.0.3:5060"];
        assert_eq!(states(&overlay, &renamed), fresh);
    }

    #[test]
    fn what_probes_found_of_addresses_that_are_gone_is_forgotten_in_time() {
        let mut overlay = Overlay::default();
        let added = text::destination("sip:10.0.0.3").expect("a destination");
        overlay.note("farm", address(3), &Change::Add("farm".to_owned(), added));
        for last in [1, 2, 3] {
            overlay.found(&mut vec![down(address(last))]);
        }
        overlay.settle(&config("'10.0.0.1', '10.0.0.2'"), &config("'10.0.0.1'"));
        let known =
            |overlay: &Overlay| -> Vec<_> { overlay.entries.iter().map(|of| of.address).collect() };
        assert_eq!(known(&overlay), [address(3), address(1)]);
        // By name they may come back, as long as they are not too many.
        let mut overlay = Overlay::default();
        overlay.resolved(name(&[1]));
        overlay.found(&mut vec![down(address(1))]);
        overlay.note("farm", address(2), &drain(2));
        let other = |n: usize| SocketAddr::from(([11, 0, (n >> 8) as u8, n as u8], 5060));
        for n in 0..MAX_AWAY + 3 {
            overlay.found(&mut vec![down(other(n))]);
        }
        overlay.forget_away(&config("'farm.test'"));
        assert_eq!(known(&overlay)[..3], [address(1), address(2), other(3)]);
        assert_eq!(known(&overlay).len(), MAX_AWAY + 2);
    }

    #[test]
    fn what_is_added_anew_has_what_was_said_then_until_the_file_says_something_else() {
        let file = config("'10.0.0.1', '10.0.0.2'");
        let mut overlay = Overlay::default();
        let added = text::destination("sip:10.0.0.1;priority=-1;weight=3");
        let add = Change::Add("farm".to_owned(), added.expect("a destination"));
        overlay.note("farm", address(1), &Change::Remove(place(1)));
        overlay.note("farm", address(1), &add);
        let said = |overlay: &Overlay, config: &Config| {
            let set = &overlay.over(config).sets[0];
            let mut destinations = set.destinations.iter();
            let found = destinations.find(|each| each.address == address(1));
            found.map(|each| (each.priority, each.weight))
        };
        assert_eq!(said(&overlay, &file), Some((-1, 3)));
        assert_eq!(said(&overlay.without_changes(), &file), Some((0, 1)));
        overlay.settle(&file, &file);
        assert_eq!(said(&overlay, &file), Some((-1, 3)));
        let other = config("'10.0.0.1;priority=2', '10.0.0.2'");
        overlay.settle(&file, &other);
        assert_eq!(said(&overlay, &other), Some((2, 3)));
    }

    #[test]
    fn what_was_added_and_removed_again_is_there_once_the_file_has_it() {
        let remove = Change::Remove(place(2));
        let added = text::destination("sip:10.0.0.2").expect("a destination");
        let add = Change::Add("farm".to_owned(), added);
        for names in ["", ", 'farm.test'"] {
            let file = config(&format!("'10.0.0.1'{names}"));
            let mut overlay = Overlay::default();
            for change in [&add, &remove] {
                overlay.note("farm", address(2), change);
                overlay.settle(&file, &file);
            }
            assert_eq!(states(&overlay, &file), ["10.0.0.1:5060"]);
            // At an upgrade nobody knows the file of before.
            let now = config(&format!("'10.0.0.1', '10.0.0.2'{names}"));
            overlay.settle(&now, &now);
            let all = ["10.0.0.1:5060", "10.0.0.2:5060"];
            assert_eq!(states(&overlay, &now), all, "{names}");
        }
        // What a name has come to stand for since it was added stays away.
        let file = config("'10.0.0.1', 'farm.test'");
        let mut overlay = Overlay::default();
        overlay.note("farm", address(2), &add);
        overlay.settle(&file, &file);
        overlay.resolved(name(&[2]));
        overlay.note("farm", address(2), &remove);
        overlay.settle(&file, &file);
        overlay.settle(&file, &file);
        assert_eq!(states(&overlay, &file), ["10.0.0.1:5060"]);
    }

    #[test]
    fn what_was_added_stays_when_a_name_has_stood_for_it_meanwhile() {
        let file = config("'10.0.0.1', 'farm.test'");
        let mut overlay = Overlay::default();
        let added = text::destination("sip:10.0.0.2").expect("a destination");
        overlay.note("farm", address(2), &Change::Add("farm".to_owned(), added));
        overlay.resolved(name(&[2]));
        // As at any other change.
        overlay.settle(&file, &file);
        overlay.resolved(name(&[3]));
        let all = ["10.0.0.1:5060", "10.0.0.3:5060", "10.0.0.2:5060"];
        assert_eq!(states(&overlay, &file), all);
        // A new file with that name takes nothing away of what was said of it.
        let mut other = Overlay::default();
        let added = text::destination("sip:10.0.0.2;weight=3").expect("a destination");
        other.note("farm", address(2), &Change::Add("farm".to_owned(), added));
        other.resolved(name(&[2]));
        other.settle(&config("'10.0.0.1'"), &file);
        other.resolved(name(&[3]));
        assert_eq!(states(&other, &file), all);
        assert_eq!(other.over(&file).sets[0].destinations[2].weight, 3);
        // A file that has had it is believed when it has it no more.
        let listed = config("'10.0.0.1', '10.0.0.2', 'farm.test'");
        overlay.settle(&file, &listed);
        overlay.settle(&listed, &file);
        assert_eq!(states(&overlay, &file), all[..2]);
    }
}
