//! Destinations by name: what their names stand for goes into the overlay, and
//! changes are told.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::overlay::Overlay;
use crate::config::{Config, Named};
use crate::control::{Order, Unresolved};
use crate::resolver::{Followed, Looked, Target};

/// How long a start or a reload waits for names at most.
const PATIENCE: Duration = Duration::from_secs(3);

/// What follows the names of the configuration.
pub(super) struct Names {
    orders: Sender<Order>,
    /// Not before there is a name.
    followed: Option<Followed>,
    /// Those that are not resolved now.
    pub(super) unresolved: Arc<Unresolved>,
}

impl Names {
    /// Follows nothing yet; news will come as orders.
    pub(super) fn new(orders: Sender<Order>) -> Self {
        Self {
            orders,
            followed: None,
            unresolved: Arc::default(),
        }
    }

    /// Follows the names of `config`, and waits a while for those of which
    /// `overlay` knows nothing, if no signal comes. What else comes by
    /// `received` comes again. Whether anything has changed.
    pub(super) fn follow(
        &mut self,
        config: &Config,
        overlay: &mut Overlay,
        received: &Receiver<Order>,
    ) -> bool {
        self.start(config);
        let names = named(config).map(|(_, named)| (named.host.clone(), named.port));
        let mut unknown: BTreeSet<_> = names.collect();
        self.unresolved().retain(|name| unknown.contains(name));
        // Of those in trouble nothing new will come so soon.
        unknown.retain(|name| !self.unresolved().contains(name));
        unknown.retain(|(host, port)| overlay.targets(host, *port).is_none());
        let mut changed = false;
        let mut later = Vec::new();
        let end = Instant::now() + PATIENCE;
        while !unknown.is_empty() {
            let left = end.saturating_duration_since(Instant::now());
            match received.recv_timeout(left) {
                Ok(Order::Names(looked)) => {
                    unknown.remove(&(looked.name.host.clone(), looked.name.port));
                    let news = self.take(looked, config, overlay);
                    changed |= news.changed;
                    news.say();
                }
                Ok(other) => {
                    let ends = matches!(other, Order::Signal(_));
                    later.push(other);
                    if ends {
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        for order in later {
            // It cannot fail: who receives is here.
            let _ = self.orders.send(order);
        }
        for name in unknown {
            for (set, named) in named(config).filter(|(_, named)| is(named, &name.0, name.1)) {
                warn!("{set}: {named} is not resolved yet: no answer so far; {NOBODY}");
            }
            self.unresolved().insert(name);
        }
        changed
    }

    fn unresolved(&self) -> MutexGuard<'_, BTreeSet<(String, Option<u16>)>> {
        let unresolved = self.unresolved.lock();
        unresolved.unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&mut self, config: &Config) {
        match &self.followed {
            Some(followed) => followed.follow(config),
            None if named(config).next().is_none() => {}
            None => {
                let orders = self.orders.clone();
                // Where nobody receives, it is about to end.
                let report = move |looked| drop(orders.send(Order::Names(looked)));
                match Followed::start(config, report) {
                    Ok(followed) => self.followed = Some(followed),
                    Err(reason) => error!(
                        "destinations by name cannot be resolved: {reason}\n  help: give --resolver ADDR[:PORT]"
                    ),
                }
            }
        }
    }

    /// Takes what came of looking a name up.
    pub(super) fn take(&mut self, looked: Looked, config: &Config, overlay: &mut Overlay) -> News {
        let Looked { mut name, trouble } = looked;
        let (host, port) = (name.host.clone(), name.port);
        let mut news = News::default();
        let sets: Vec<_> = named(config)
            .filter(|(_, named)| is(named, &host, port))
            .collect();
        if sets.is_empty() {
            // The configuration has changed since.
            return news;
        }
        let own = |to: &Target| config.listeners.iter().any(|own| own.receives(to.address));
        for Target { address, .. } in name.targets.extract_if(.., |to| own(to)) {
            news.bad.push(format!(
                "{host} is {address} among others, a listener of ours, which is left out"
            ));
        }
        let (before, now) = (overlay.targets(&host, port).map(list), list(&name.targets));
        news.changed = !name.targets.is_empty() && overlay.resolved(name);
        let key = (host, port);
        let was_troubled = match trouble {
            Some(_) => !self.unresolved().insert(key),
            None => self.unresolved().remove(&key),
        };
        for (set, named) in sets {
            match &before {
                _ if !news.changed => {}
                None => news.good.push(format!("{set}: {named} is {now}")),
                Some(before) => {
                    let said = format!("{set}: {named} is now {now} (was {before})");
                    news.good.push(said);
                }
            }
            match &trouble {
                None if was_troubled && !news.changed => {
                    news.good.push(format!("{set}: {named} is resolved again"));
                }
                Some(why) if !was_troubled => {
                    let stays = match now.is_empty() {
                        true => NOBODY.to_owned(),
                        false => format!("it stays {now}"),
                    };
                    let said = format!("{set}: {named} cannot be resolved: {why}; {stays}");
                    news.bad.push(said);
                }
                _ => {}
            }
        }
        news
    }
}

/// What there is to say of names, to be said when it is so.
#[derive(Default)]
pub(super) struct News {
    /// Whether they stand for something else.
    pub(super) changed: bool,
    good: Vec<String>,
    bad: Vec<String>,
}

impl News {
    pub(super) fn say(&self) {
        self.good.iter().for_each(|line| info!("{line}"));
        self.bad.iter().for_each(|line| warn!("{line}"));
    }
}

/// What becomes of a name that stands for nothing.
const NOBODY: &str = "it has no destination until it is";

/// All names, with their sets as the log has them.
fn named(config: &Config) -> impl Iterator<Item = (String, &Named)> {
    let sets = config.sets.iter();
    sets.flat_map(|set| {
        set.named
            .iter()
            .map(move |named| (format!("set {}", set.name), named))
    })
}

fn is(named: &Named, host: &str, port: Option<u16>) -> bool {
    named.host == host && named.port == port
}

fn list(targets: &[Target]) -> String {
    let each: Vec<_> = targets.iter().map(ToString::to_string).collect();
    each.join(", ")
}
