//! Destinations by name: what their names stand for goes into the overlay, and
//! changes are told.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use tracing::{Level, info, warn};

use super::StartError;
use super::overlay::{Overlay, named};
use crate::config::text::joined;
use crate::config::{Config, HostPort};
use crate::control::{Order, Unresolved, lock};
use crate::resolver::{Followed, Looked, Target};

/// How long a start or a reload waits for names at most.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long it does nothing else meanwhile.
const MOMENT: Duration = Duration::from_millis(20);

/// What follows the names of the configuration.
pub(super) struct Names {
    orders: Sender<Order>,
    /// What nobody has taken yet, and the way there. All that has come is taken
    /// together, for each time the tables are worked out anew: one by one,
    /// hundreds of names that change at once would take many seconds.
    looked: Receiver<Looked>,
    tell: Sender<Looked>,
    /// Not before there is a name.
    followed: Option<Followed>,
    /// Those of which nothing is known, and until when they are waited for.
    awaited: BTreeSet<HostPort>,
    until: Instant,
    /// Those that are not resolved now.
    pub(super) unresolved: Arc<Unresolved>,
}

impl Names {
    /// Follows nothing yet; news will come as orders.
    pub(super) fn new(orders: Sender<Order>) -> Self {
        let (tell, looked) = mpsc::channel();
        Self {
            orders,
            looked,
            tell,
            followed: None,
            awaited: BTreeSet::new(),
            until: Instant::now(),
            unresolved: Arc::default(),
        }
    }

    /// Follows the names of `config`. For those of which `overlay` knows nothing
    /// one may [wait](Self::wait).
    ///
    /// # Errors
    /// [`StartError::Resolver`].
    pub(super) fn follow(&mut self, config: &Config, overlay: &Overlay) -> Result<(), StartError> {
        self.start(config, overlay)?;
        let names = named(config).map(|(_, name)| name.clone());
        let mut unknown: BTreeSet<_> = names.collect();
        self.unresolved().retain(|name| unknown.contains(name));
        // Of those in trouble nothing new will come so soon.
        unknown.retain(|name| !self.unresolved().contains(name));
        unknown.retain(|name| overlay.targets(name).is_none());
        self.awaited = unknown;
        self.until = Instant::now() + PATIENCE;
        Ok(())
    }

    /// Takes what comes within a moment; `None` where there is nothing to wait
    /// for any more.
    pub(super) fn wait(&mut self, config: &Config, overlay: &mut Overlay) -> Option<News> {
        let left = self.until.saturating_duration_since(Instant::now());
        if !self.awaited.is_empty() && !left.is_zero() {
            let mut news = News::default();
            if let Ok(looked) = self.looked.recv_timeout(left.min(MOMENT)) {
                self.awaited.remove(&looked.resolved.name);
                self.note(looked, config, overlay, &mut news);
                news.say();
            }
            return Some(news);
        }
        for name in std::mem::take(&mut self.awaited) {
            for (set, name) in named(config).filter(|(_, each)| **each == name) {
                warn!("set {set}: {name} is not resolved yet: no answer so far; {NOBODY}");
            }
            self.unresolved().insert(name);
        }
        None
    }

    fn unresolved(&self) -> MutexGuard<'_, BTreeSet<HostPort>> {
        lock(&self.unresolved)
    }

    fn start(&mut self, config: &Config, overlay: &Overlay) -> Result<(), StartError> {
        let names = overlay.names_of(config);
        match &self.followed {
            Some(followed) => followed.follow(names),
            None if names.is_empty() => {}
            None => {
                let (orders, tell) = (self.orders.clone(), self.tell.clone());
                // Where nobody receives, it is about to end.
                let report = move |looked| drop((tell.send(looked), orders.send(Order::Names)));
                let followed = Followed::start(config, names, report);
                self.followed = Some(followed.map_err(StartError::resolver)?);
            }
        }
        Ok(())
    }

    /// Takes all that came of looking names up.
    pub(super) fn take(&mut self, config: &Config, overlay: &mut Overlay) -> News {
        let mut news = News::default();
        for looked in self.looked.try_iter() {
            self.note(looked, config, overlay, &mut news);
        }
        news
    }

    fn note(&self, looked: Looked, config: &Config, overlay: &mut Overlay, news: &mut News) {
        let Looked {
            resolved: mut found,
            mut trouble,
            missing,
        } = looked;
        let name = found.name.clone();
        let sets = named(config).filter(|(_, each)| **each == name);
        let sets: Vec<_> = sets.map(|(set, _)| set).collect();
        if sets.is_empty() {
            // The configuration has changed since.
            return;
        }
        let own = |to: &Target| config.listeners.iter().any(|own| own.receives(to.address));
        let ours: Vec<_> = found.targets.extract_if(.., |to| own(to)).collect();
        match (joined(&ours), found.targets.is_empty()) {
            _ if ours.is_empty() => {}
            (ours, true) => trouble = Some(format!("{ours} is a listener of ours")),
            (ours, false) => news.bad(format!(
                "{0} is {ours} among others, a listener of ours, which is left out",
                name.host
            )),
        }
        let (before, now) = (overlay.targets(&name).map(joined), joined(&found.targets));
        let changed = !found.targets.is_empty() && overlay.resolved(found);
        news.changed |= changed;
        let was_troubled = match trouble {
            Some(_) => !self.unresolved().insert(name.clone()),
            None => self.unresolved().remove(&name),
        };
        for set in sets {
            match &before {
                _ if !changed => {}
                None => news.good(format!("set {set}: {name} is {now}")),
                Some(before) => {
                    news.good(format!("set {set}: {name} is now {now} (was {before})"));
                }
            }
            if !missing.is_empty() {
                let missing = missing.join(", ");
                news.bad(format!(
                    "set {set}: {name}: SRV names hosts that have no address: {missing}"
                ));
            }
            match &trouble {
                None if was_troubled && !changed => {
                    news.good(format!("set {set}: {name} is resolved again"));
                }
                Some(why) if !was_troubled => {
                    // Of one that is ours alone now, nothing is taken over.
                    let now = Some(&now).filter(|now| !now.is_empty());
                    let stays = match now.or(before.as_ref()) {
                        None => NOBODY.to_owned(),
                        Some(now) => format!("it stays {now}"),
                    };
                    news.bad(format!(
                        "set {set}: {name} cannot be resolved: {why}; {stays}"
                    ));
                }
                _ => {}
            }
        }
    }
}

/// What there is to say of names, to be said when it is so.
#[derive(Default)]
pub(super) struct News {
    /// Whether they stand for something else.
    pub(super) changed: bool,
    /// In the order in which it came, so that what is said last is so.
    lines: Vec<(Level, String)>,
}

impl News {
    fn good(&mut self, line: String) {
        self.lines.push((Level::INFO, line));
    }

    fn bad(&mut self, line: String) {
        self.lines.push((Level::WARN, line));
    }

    pub(super) fn say(&self) {
        for (level, line) in &self.lines {
            match *level {
                Level::WARN => warn!("{line}"),
                _ => info!("{line}"),
            }
        }
    }
}

/// What becomes of a name that stands for nothing.
pub(super) const NOBODY: &str = "this name adds no destination until it is resolved";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolver::Resolved;
    use crate::supervisor::overlay::tests::config;

    /// That `host` stands for this address of port 5070.
    fn looked(host: &str, last: u8, trouble: Option<&str>) -> Looked {
        let target = Target {
            address: ([10, 0, 0, last], 5070).into(),
            weight: 1,
            rank: 0,
        };
        let name = HostPort {
            host: host.to_owned(),
            port: Some(5070),
        };
        let resolved = Resolved {
            name,
            targets: vec![target],
            whole: trouble.is_none(),
        };
        let trouble = trouble.map(str::to_owned);
        Looked {
            resolved,
            trouble,
            missing: Vec::new(),
        }
    }

    /// With this to be taken.
    fn names(looked: impl IntoIterator<Item = Looked>) -> Names {
        let (orders, _) = mpsc::channel();
        let names = Names::new(orders);
        for looked in looked {
            names.tell.send(looked).expect("the receiver is there");
        }
        names
    }

    fn said(news: &News) -> Vec<&str> {
        news.lines.iter().map(|(_, line)| line.as_str()).collect()
    }

    #[test]
    fn what_has_come_of_several_names_is_taken_together_and_once() {
        let both = [(1, "one.test"), (2, "two.test")];
        let mut names = names(both.map(|(last, host)| looked(host, last, None)));
        let config = config("'one.test:5070', 'two.test:5070', 'three.test:5070'");
        let mut overlay = Overlay::default();
        let news = names.take(&config, &mut overlay);
        assert!(news.changed);
        let new = [
            "set farm: one.test:5070 is 10.0.0.1:5070",
            "set farm: two.test:5070 is 10.0.0.2:5070",
        ];
        assert_eq!(said(&news), new);
        assert_eq!(overlay.over(&config).sets[0].destinations.len(), 2);
        let news = names.take(&config, &mut overlay);
        assert!(!news.changed && news.lines.is_empty());
        let mut part = looked("one.test", 1, None);
        part.missing = vec!["a.test".to_owned(), "b.test".to_owned()];
        let news = self::names([part]).take(&config, &mut overlay);
        let gone = "set farm: one.test:5070: SRV names hosts that have no address: a.test, b.test";
        assert_eq!(said(&news), [gone]);
    }

    #[test]
    fn a_name_that_comes_to_stand_for_us_is_told_to_stay_what_it_was() {
        let mut ours = looked("one.test", 1, None);
        ours.resolved.targets[0].address = ([127, 0, 0, 1], 5060).into();
        let mut names = names([looked("one.test", 1, None), ours.clone()]);
        let config = config("'one.test:5070'");
        let mut overlay = Overlay::default();
        let news = names.take(&config, &mut overlay);
        let refused = "set farm: one.test:5070 cannot be resolved: 127.0.0.1:5060 is a listener \
                       of ours";
        let stays = format!("{refused}; it stays 10.0.0.1:5070");
        assert_eq!(said(&news)[1..], [stays.as_str()]);
        assert_eq!(overlay.over(&config).sets[0].destinations.len(), 1);
        // One that never stood for anything else.
        names = self::names([ours]);
        let news = names.take(&config, &mut Overlay::default());
        assert_eq!(said(&news), [format!("{refused}; {NOBODY}")]);
    }

    #[test]
    fn what_has_come_of_one_name_is_told_in_order() {
        let troubles = [None, Some("no answer"), None];
        let mut names = names(troubles.map(|trouble| looked("one.test", 1, trouble)));
        let config = config("'one.test:5070'");
        let mut overlay = Overlay::default();
        let news = names.take(&config, &mut overlay);
        let all = [
            "set farm: one.test:5070 is 10.0.0.1:5070",
            "set farm: one.test:5070 cannot be resolved: no answer; it stays 10.0.0.1:5070",
            "set farm: one.test:5070 is resolved again",
        ];
        assert_eq!(said(&news), all);
        let levels: Vec<_> = news.lines.iter().map(|(level, _)| *level).collect();
        assert_eq!(levels, [Level::INFO, Level::WARN, Level::INFO]);
    }
}
