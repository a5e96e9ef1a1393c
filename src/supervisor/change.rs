//! Changes to a running instance: each whole, or not at all.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use super::Instance;
use super::health::idle_sets;
use super::names::NOBODY;
use super::overlay::{Overlay, destinations, sets_with};
use crate::config::text;
use crate::config::{
    Config, Destination, Diagnostic, HostPort, Listener, MAX_DESTINATIONS, Policy, Route, Set,
    Severity, differing_keys,
};
use crate::control::{Change, Difference, Done, Facts, Moved, Place, Refusal};
use crate::dispatcher::{Dispatcher, SLOTS};
use crate::health::Report;
use crate::proxy::Proxy;

/// A configuration to decide by, and what does.
struct Next {
    config: Config,
    proxy: Proxy,
}

impl Instance {
    /// Decides by `asked` from the next batch of each worker on. What was
    /// decided before is remembered for its second chance; what operators have
    /// changed stays unless `forget_changes`.
    ///
    /// # Errors
    /// [`Refusal::NeedsUpgrade`], and nothing has changed then.
    pub fn reload(&mut self, asked: Config, forget_changes: bool) -> Result<Done, Refusal> {
        let (overlay, next, done) = self.prepare(&asked, forget_changes)?;
        let unresolved = overlay.unknown_names(&asked).map(unresolved).collect();
        self.asked = asked;
        self.overlay = overlay;
        self.enact(next);
        Ok(Done {
            warnings: unresolved,
            ..done
        })
    }

    /// What [`Instance::reload`] would do.
    ///
    /// # Errors
    /// As of it.
    pub fn preview(&self, asked: &Config, forget_changes: bool) -> Result<Done, Refusal> {
        let (overlay, _, done) = self.prepare(asked, forget_changes)?;
        let mut said = vec![format!("would be {}", done.said)];
        // To look them up may take seconds.
        said.extend(overlay.unknown_names(asked).map(|(set, name)| {
            format!("set {set}: the addresses of {name} are not known yet and not counted")
        }));
        Ok(Done {
            said: said.join("; "),
            ..done
        })
    }

    /// Refuses what only a start can bring into effect.
    pub(super) fn takes(&self, asked: &Config) -> Result<(), Refusal> {
        let keys = differing_keys(&self.asked, asked).at_start;
        match keys.is_empty() {
            true => Ok(()),
            false => Err(Refusal::NeedsUpgrade(keys)),
        }
    }

    fn prepare(&self, asked: &Config, forget: bool) -> Result<(Overlay, Next, Done), Refusal> {
        self.takes(asked)?;
        let mut overlay = match forget {
            true => self.overlay.without_changes(),
            false => self.overlay.clone(),
        };
        overlay.settle(&self.asked, asked);
        let next = self.next(asked, &overlay);
        let done = self.outcome(&next);
        let count = |of: fn(&Difference) -> bool| done.differences.iter().filter(|d| of(d)).count();
        let added = count(|each| each.before.is_none());
        let removed = count(|each| each.after.is_none());
        let changed = done.differences.len() - added - removed;
        let mut said = vec![format!(
            "reloaded: generation {}, destinations: {added} added, {removed} removed, \
             {changed} changed",
            done.generation
        )];
        said.extend_from_slice(&done.rules);
        let keys = differing_keys(&self.asked, asked).at_reload.into_iter();
        let settings: Vec<_> = keys.map(str::to_owned).collect();
        if !settings.is_empty() {
            said.push(format!("also changed: {}", settings.join(", ")));
        }
        let idle = idle_sets(&next.config).into_iter();
        said.extend(idle.map(|(set, idle)| format!("set {set}: {idle}")));
        let done = Done {
            said: said.join("; "),
            settings,
            ..done
        };
        Ok((overlay, next, done))
    }

    /// What differs once `next` decides.
    fn outcome(&self, next: &Next) -> Done {
        Done {
            generation: next.proxy.generation(),
            differences: differences(&self.config, &next.config),
            rules: rules(&self.config, &next.config),
            moved: moved(self.proxy().dispatcher(), next.proxy.dispatcher()),
            ..Done::default()
        }
    }

    /// Does what an operator asks of one destination.
    ///
    /// # Errors
    /// [`Refusal`], and nothing has changed then.
    pub fn change(&mut self, change: &Change) -> Result<Done, Refusal> {
        let (sets, address) = self.concerned(change)?;
        for set in &sets {
            self.overlay.note(set, address, change);
        }
        // The file never had what operators have added and now removed, and
        // nothing of it is to be in the way once it has it.
        self.overlay.settle(&self.asked, &self.asked);
        let next = self.next(&self.asked, &self.overlay);
        let done = self.outcome(&next);
        self.enact(next);
        let mut said: Vec<_> = done.differences.iter().map(ToString::to_string).collect();
        if said.is_empty() {
            said.push("nothing to change".to_owned());
        }
        let alike = |each: &&Set| sets.contains(&each.name) && each.policy == Policy::Kamailio;
        if let (Change::Weight(..), Some(set)) = (change, self.config.sets.iter().find(alike)) {
            let name = &set.name;
            said.push(format!(
                "set {name}: the weight has no effect with policy `kamailio`"
            ));
        }
        let idle = idle_sets(&self.config).into_iter();
        let idle = idle.filter(|(set, _)| sets.contains(set));
        said.extend(idle.map(|(set, idle)| format!("set {set}: {idle}")));
        Ok(Done {
            said: said.join("; "),
            ..done
        })
    }

    /// The sets that a change is for, and the address.
    fn concerned(&self, change: &Change) -> Result<(Vec<String>, SocketAddr), Refusal> {
        match change {
            Change::State(place, _) | Change::Weight(place, _) | Change::Remove(place) => {
                if let Some(name) = &place.set {
                    self.has_set(name)?;
                }
                let sets = sets_with(&self.config, place);
                match sets.is_empty() {
                    true => Err(self.not_there(place)),
                    false => Ok((sets, place.address)),
                }
            }
            Change::Add(name, destination) => {
                self.may_join(name, destination.address)?;
                Ok((vec![name.clone()], destination.address))
            }
        }
    }

    fn has_set(&self, name: &str) -> Result<(), Refusal> {
        let names = self.config.sets.iter().map(|set| set.name.as_str());
        match names.clone().any(|each| each == name) {
            true => Ok(()),
            false => Err(Refusal::NotFound(format!(
                "there is no set `{name}`; there are: {}",
                text::first_few(names)
            ))),
        }
    }

    fn not_there(&self, place: &Place) -> Refusal {
        let Place { set, address } = place;
        let which = set.as_ref().map(|name| format!(" in set `{name}`"));
        let asked = |each: &&Set| set.as_ref().is_none_or(|name| *name == each.name);
        let sets = self.config.sets.iter().filter(asked);
        let there = sets.flat_map(|set| &set.destinations);
        Refusal::NotFound(format!(
            "there is no destination {address}{}; there are: {}",
            which.unwrap_or_default(),
            text::first_few(there.map(|each| each.address))
        ))
    }

    /// Whether a destination may be added to the set `name`.
    fn may_join(&self, name: &str, address: SocketAddr) -> Result<(), Refusal> {
        self.has_set(name)?;
        let listeners = &self.config.listeners;
        if listeners.iter().any(|each| each.receives(address)) {
            return Err(Refusal::Conflict(format!(
                "{address} is a listener of ours: calls would go in a circle"
            )));
        }
        let fits = |each: &Listener| each.address.is_ipv4() == address.is_ipv4();
        if !listeners.iter().any(fits) {
            return Err(Refusal::Conflict(format!(
                "no listener can send to {address}: none is of its address family"
            )));
        }
        if full_sets(&self.config).any(|full| full == name) {
            return Err(Refusal::Conflict(format!(
                "set `{name}` has {MAX_DESTINATIONS} destinations already, which is the most"
            )));
        }
        let place = Place {
            set: Some(name.to_owned()),
            address,
        };
        match sets_with(&self.config, &place).is_empty() {
            true => Ok(()),
            false => Err(Refusal::Conflict(format!(
                "set `{name}` has {address} already\n  help: `viaduct ctl state` and `viaduct ctl \
                 weight` change it"
            ))),
        }
    }

    /// Takes in what health checks have found, and returns what of it is new and
    /// of destinations that are still probed.
    pub fn learn(&mut self, mut found: Vec<Report>) -> Vec<Report> {
        let probed = self.config.sets.iter().flat_map(|set| {
            let all = set.destinations.iter();
            let each = all.filter(|each| each.probe.is_some());
            each.map(|each| (set.name.as_str(), each.address))
        });
        let probed: HashSet<_> = probed.collect();
        found.retain(|each| probed.contains(&(each.set.as_str(), each.address)));
        self.overlay.found(&mut found);
        if !found.is_empty() {
            self.adopt();
        }
        found
    }

    /// Decides by what is so now.
    pub(super) fn adopt(&mut self) {
        self.enact(self.next(&self.asked, &self.overlay));
    }

    /// What comes of `asked` under `overlay`.
    fn next(&self, asked: &Config, overlay: &Overlay) -> Next {
        let mut config = overlay.over(asked);
        // A port 0 was bound to a real one.
        for (listener, bound) in config.listeners.iter_mut().zip(&self.config.listeners) {
            listener.name.clone_from(&bound.name);
            listener.address = bound.address;
        }
        let proxy = self.proxy().successor(&config);
        Next { config, proxy }
    }

    fn enact(&mut self, Next { config, proxy }: Next) {
        let before = self.proxy().generation();
        if proxy.generation() != before {
            if !proxy.keeps(before) {
                // What came before that one has its time from now on.
                self.retired.pop_back();
            }
            self.retired.push_back((proxy.generation(), Instant::now()));
        }
        let were_full: Vec<_> = full_sets(&self.config).map(str::to_owned).collect();
        self.config = Arc::new(config);
        self.tell_full_sets(&were_full);
        self.publish(proxy);
    }

    /// Warns of sets that have as many destinations as there can be, and had
    /// fewer `before`.
    pub(super) fn tell_full_sets(&self, before: &[String]) {
        let before = |name: &&str| before.iter().any(|each| each == name);
        for name in full_sets(&self.config).filter(|name| !before(name)) {
            warn!(
                "set {name}: it has {MAX_DESTINATIONS} destinations, which is the most; more that \
                 its names stand for are left out"
            );
        }
    }

    /// Whether the oldest former generation has had its time.
    fn has_due_former(&self) -> bool {
        let oldest = self.retired.front();
        oldest.is_some_and(|(_, since)| since.elapsed() >= self.config.second_chance)
    }

    /// Forgets former generations that have had their time.
    pub(super) fn forget_former(&mut self) {
        if self.has_due_former() {
            self.publish(self.proxy().clone());
        }
    }

    /// Has the workers decide by `proxy`, without what has had its time.
    fn publish(&mut self, mut proxy: Proxy) {
        while self.has_due_former()
            && let Some((successor, _)) = self.retired.pop_front()
        {
            proxy = proxy.without_formers_before(successor);
        }
        self.snapshot = Arc::new(self.snapshot.successor(proxy));
        self.shared.latest.store(Arc::clone(&self.snapshot));
        let facts = Facts::of(Arc::clone(&self.config), self.proxy());
        self.facts.store(Arc::new(facts));
    }
}

fn full_sets(config: &Config) -> impl Iterator<Item = &str> {
    let full = |set: &&Set| set.destinations.len() >= MAX_DESTINATIONS;
    let sets = config.sets.iter().filter(full);
    sets.map(|set| set.name.as_str())
}

/// A name of a set that stands for nothing yet.
fn unresolved((set, name): (&str, &HostPort)) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        location: None,
        flag: None,
        message: format!("set {set}: {name} is not resolved"),
        why: Some(NOBODY.to_owned()),
        help: None,
    }
}

/// Destinations that came, went, and differ in what the file says of them.
fn differences(before: &Config, now: &Config) -> Vec<Difference> {
    let (before, now) = (destinations(before), destinations(now));
    let places: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let each = places.into_iter().filter_map(|place| {
        let text = |of: &HashMap<_, &Destination>| of.get(place).map(|each| outline(each));
        let difference = Difference {
            set: place.0.to_owned(),
            address: place.1,
            before: text(&before),
            after: text(&now),
        };
        (difference.before != difference.after).then_some(difference)
    });
    each.collect()
}

fn outline(destination: &Destination) -> String {
    let state = text::name(&destination.state);
    let (weight, priority) = (destination.weight, destination.priority);
    format!("{state}, weight {weight}, priority {priority}")
}

/// What differs of what decides where calls go, beside destinations.
fn rules(before: &Config, now: &Config) -> Vec<String> {
    let mut rules = Vec::new();
    for set in &now.sets {
        let mut formers = before.sets.iter();
        let Some(former) = formers.find(|each| each.name == set.name) else {
            continue;
        };
        let choice = |of: &Set| {
            let policy = text::name(&of.policy).to_owned();
            [
                ("policy", policy),
                ("hash key", text::hash_key_name(&of.hash_key)),
            ]
        };
        for ((what, was), (_, is)) in choice(former).into_iter().zip(choice(set)) {
            if was != is {
                rules.push(format!("set {}: {what} {is} (was {was})", set.name));
            }
        }
    }
    let (was, is) = (&before.sets[0].name, &now.sets[0].name);
    if was != is {
        rules.push(format!("what no route claims goes to set {is} (was {was})"));
    }
    // By the names of their sets, which may stand elsewhere now.
    let route = |of: &Config, number: usize| {
        let route = of.routes.get(number)?.clone();
        Some((of.sets[route.set].name.clone(), Route { set: 0, ..route }))
    };
    let mut numbers = 0..before.routes.len().max(now.routes.len());
    if let Some(number) = numbers.find(|number| route(before, *number) != route(now, *number)) {
        rules.push(format!("the routes differ from number {} on", number + 1));
    }
    rules
}

/// Which share of new calls goes elsewhere, for the sets that both have and
/// that choose by a table of the same kind.
fn moved(before: &Dispatcher, now: &Dispatcher) -> Vec<Moved> {
    let sets = now.sets().iter().filter_map(|set| {
        let name = &set.definition().name;
        let mut former = before.sets().iter();
        let former = former.find(|each| each.definition().name == *name)?;
        let kind = |of: &Set| (of.policy, of.hash_key.clone());
        let by_turns = set.definition().policy == Policy::RoundRobin;
        if by_turns || kind(former.definition()) != kind(set.definition()) {
            return None;
        }
        let owner = |of: &Set, chosen: Option<usize>| chosen.map(|i| of.destinations[i].address);
        let differs = |slot: &usize| {
            // Kamailio's policy goes by the Call-ID, the others by the hash.
            let (hash, call_id) = ((*slot as u64) << 48, slot.to_string());
            let of = |set: &crate::dispatcher::Set| {
                owner(set.definition(), set.owner(hash, call_id.as_bytes()))
            };
            // What nobody takes goes nowhere.
            of(set).is_some() && of(former) != of(set)
        };
        let share = match Arc::ptr_eq(former, set) {
            true => 0.0,
            false => (0..SLOTS).filter(differs).count() as f64 / SLOTS as f64,
        };
        let set = name.clone();
        Some(Moved { set, share })
    });
    sets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Health;
    use crate::proxy::Secret;
    use crate::supervisor::overlay::tests::config;

    fn instance(destinations: &str) -> Instance {
        let mut asked = config(destinations);
        asked.listeners[0].address.set_port(0);
        Instance::start(asked, Secret::from_octets([7; 32])).expect("an instance")
    }

    /// Of the destination whose address ends so.
    fn report(&(last, health): &(u8, Health)) -> Report {
        Report {
            set: "farm".to_owned(),
            address: SocketAddr::from(([10, 0, 0, last], 5060)),
            health,
            cause: last.to_string(),
        }
    }

    #[test]
    fn what_was_before_a_step_has_its_time_from_the_last_one_on() {
        let mut instance = instance("'10.0.0.1', '10.0.0.2'");
        for (health, retired) in [
            (Health::Down, vec![2]),
            (Health::Warming(20), vec![2, 3]),
            (Health::Warming(40), vec![2, 3, 4]),
            (Health::Warming(60), vec![2, 3, 5]),
            (Health::Up, vec![2, 3, 6]),
            (Health::Down, vec![2, 3, 6, 7]),
        ] {
            instance.learn(vec![report(&(1, health))]);
            let generations = instance.retired.iter().map(|(generation, _)| *generation);
            assert_eq!(generations.collect::<Vec<_>>(), retired);
        }
        instance.stop().expect("a clean end");
    }

    #[test]
    fn of_what_is_found_together_all_that_is_new_and_probed_is_told() {
        let not_probed = "{ uri = 'sip:10.0.0.5', health = 'off' }";
        let mut instance = instance(&format!("'10.0.0.1', '10.0.0.2', '10.0.0.3', {not_probed}"));
        let (down, up) = (Health::Down, Health::Up);
        let learn = |instance: &mut Instance, found: &[(u8, Health)]| {
            let told = instance.learn(found.iter().map(report).collect());
            let told = told.into_iter().map(|each| (each.cause, each.health));
            told.collect::<Vec<_>>()
        };
        let told = |last: u8, health| (last.to_string(), health);
        let found = [(1, down), (2, up), (4, down), (1, down), (3, down), (1, up)];
        let new = [told(1, down), told(3, down), told(1, up)];
        assert_eq!(learn(&mut instance, &found), new);
        let found = [(3, down), (1, down), (5, down), (2, down)];
        let new = [told(1, down), told(2, down)];
        assert_eq!(learn(&mut instance, &found), new);
        let destinations = instance.config.sets[0].destinations.iter();
        let all: Vec<_> = destinations.map(|each| each.health).collect();
        assert_eq!(all, [down, down, down, up]);
        instance.stop().expect("a clean end");
    }
}
