//! What the messages of calls meet that began before the change.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Serialize;

use super::messages::{Call, Line};
use super::moves::Moves;
use crate::cli::offline;
use crate::config::Config;
use crate::control::explain::{self, Decider};
use crate::proxy::{Datagram, Decision, Forward, Proxy, Way};

/// Calls whose first requests are all decided before what follows them: the
/// round-robin policy has to learn what it is to remember.
const BATCH: usize = 4096;

/// A kind of message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Class {
    /// The first request of a new call, with the key of an old one.
    New,
    /// In a dialog, with the cookie of our Record-Route.
    Cookie,
    /// In a dialog, without one; the Request-URI names the server.
    Named,
    /// In a dialog, without one; the Request-URI names us.
    Hashed,
    /// CANCEL of a call that still rings.
    Cancel,
    /// In a dialog, from the server, with the cookie.
    Outward,
}

/// What becomes of a message.
#[derive(Clone, Copy)]
enum Fate {
    Decided(Decision),
    /// A failure rule has it tried in another set, instead of a reply.
    OnFailure,
    /// The listener that it came in on is there no more.
    Gone,
}

/// What messages of a class meet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meets {
    /// The server that has the call, or from there the caller; of a new call
    /// the one that would have had it before.
    pub(super) right: u64,
    /// The same, by a second copy.
    pub(super) second_chance: u64,
    /// Another one.
    pub(super) other: u64,
    /// A local reply, or nothing, be it that its listener is there no more.
    pub(super) refused: u64,
}

/// All classes of the calls of one set.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Calls that met the set before the change.
    pub(super) calls: u64,
    pub(super) classes: BTreeMap<Class, Meets>,
    /// Calls that did not meet it, by what became of them.
    pub(super) others: BTreeMap<String, u64>,
    /// Of calls in progress, whose turn some policies remember.
    pub(super) in_progress: Moves,
    /// Of new ones.
    pub(super) new: Moves,
}

/// The world before the change, and after it.
pub(super) struct Worlds<'a> {
    pub(super) config: &'a Config,
    pub(super) before: Proxy,
    /// The configuration after it.
    pub(super) changed: &'a Config,
    pub(super) after: Proxy,
}

impl Class {
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::New => "a new call",
            Self::Cookie => "in a dialog, with our cookie",
            Self::Named => "in a dialog, no cookie, server named",
            Self::Hashed => "in a dialog, no cookie, hashed",
            Self::Cancel => "CANCEL of a call that rings",
            Self::Outward => "from the server, with our cookie",
        }
    }
}

impl Meets {
    pub(super) fn all(self) -> u64 {
        self.right + self.second_chance + self.other + self.refused
    }

    /// `also` is where else the message goes.
    fn count(&mut self, fate: Fate, also: &[SocketAddr], right: SocketAddr) {
        *match fate {
            Fate::Decided(Decision::Forward(forward)) if forward.to == right => match forward.way {
                Way::Former => &mut self.second_chance,
                _ => &mut self.right,
            },
            Fate::Decided(Decision::Forward(_)) if also.contains(&right) => &mut self.second_chance,
            Fate::Decided(Decision::Forward(_)) | Fate::OnFailure => &mut self.other,
            Fate::Decided(Decision::Reply(_) | Decision::Resolve | Decision::Drop(_))
            | Fate::Gone => &mut self.refused,
        } += 1;
    }
}

/// A call that a member has.
struct Begun<'a> {
    call: Call<'a>,
    server: SocketAddr,
    /// The listener on the server's side.
    inner: usize,
    /// The values of our Record-Route, the topmost first.
    record_route: Vec<String>,
}

impl Survey {
    fn count(&mut self, class: Class, fate: Fate, also: &[SocketAddr], right: SocketAddr) {
        let meets = self.classes.entry(class).or_default();
        meets.count(fate, also, right);
    }
}

impl Worlds<'_> {
    /// How calls are to be made that meet a set: claimed by no rule, or by one
    /// that names it; `None` where none does.
    pub(super) fn line_for(&self, set: usize) -> Option<Line> {
        let hash_key = &self.config.sets[set].hash_key;
        let rules = self.config.routes.iter().filter(|rule| rule.set == set);
        let candidates = std::iter::once(None).chain(rules.map(Some));
        let mut lines = candidates.map(|rule| Line::new(self.config, rule, hash_key));
        let mut decider = Decider::new(self.before.clone());
        lines.find(|line| {
            let call = line.call(0, None);
            selected(decider.decide(&call.datagram(&call.first())), set).is_some()
        })
    }

    /// Has all calls go through both worlds.
    ///
    /// # Errors
    /// A key that makes no valid message, by its number.
    pub(super) fn survey<'k>(
        &self,
        set: usize,
        line: &Line,
        mut keys: impl Iterator<Item = Option<&'k str>>,
    ) -> Result<Survey, (u64, String)> {
        let mut survey = Survey::default();
        let mut numbers = 0..;
        // The one goes on where the world before has ended, as a worker does;
        // the other shows the load of calls that nobody has seen yet.
        let mut worker = Decider::new(self.before.clone());
        let mut fresh = Decider::new(self.after.clone());
        loop {
            let batch: Vec<_> = numbers.by_ref().zip(keys.by_ref()).take(BATCH).collect();
            if batch.is_empty() {
                return Ok(survey);
            }
            worker.proxy = self.before.clone();
            let mut begun = Vec::new();
            for (number, key) in batch {
                let call = line.call(number, key);
                let decision = worker.decide(&call.datagram(&call.first()));
                match (selected(decision, set), decision) {
                    (Some(forward), _) => begun.push(Begun {
                        call,
                        server: forward.to,
                        inner: forward.listener,
                        record_route: record_route(worker.octets()),
                    }),
                    (None, Decision::Reply(reply))
                        if key.is_some() && reply.status.code() == 400 =>
                    {
                        return Err((number, reply.reason.name().to_owned()));
                    }
                    _ => {
                        let next = explain::unplaced(self.config, &worker);
                        let name = match next {
                            Some((_, next)) => {
                                format!("tried in set {}", self.config.sets[next].name)
                            }
                            None => self.name(decision),
                        };
                        *survey.others.entry(name).or_default() += 1;
                    }
                }
            }
            worker.proxy = self.after.clone();
            for call in begun {
                self.go_on(&call, line, &mut worker, &mut fresh, &mut survey);
            }
        }
    }

    /// What comes of a call behind the change.
    fn go_on(
        &self,
        begun: &Begun<'_>,
        line: &Line,
        worker: &mut Decider,
        fresh: &mut Decider,
        survey: &mut Survey,
    ) {
        let Begun {
            call,
            server,
            inner,
            record_route,
        } = begun;
        let first = call.first();
        let new = self.decide_after(worker, call.datagram(&first));
        survey.count(Class::New, new, &[], *server);
        survey.calls += 1;
        survey.in_progress.count(Some(*server), owner(new));
        let of_nobody_yet = self.decide_after(fresh, call.datagram(&first));
        survey.new.count(Some(*server), owner(of_nobody_yet));
        if !line.has_dialogs() {
            return;
        }
        let contact = format!("sip:{server}");
        let us = format!("sip:{}", self.us(line.listener));
        let mut messages = vec![
            (Class::Cancel, call.cancel()),
            (Class::Named, call.bye(&contact, "")),
            (Class::Hashed, call.bye(&us, "")),
        ];
        if !record_route.is_empty() {
            // The caller has it in reverse (RFC 3261 §12.1.2).
            let reverse = routes(record_route.iter().rev());
            messages.push((Class::Cookie, call.bye(&contact, &reverse)));
            let bye = call.bye_of_server(*server, &routes(record_route.iter()));
            let bye = Datagram {
                bytes: bye.as_bytes(),
                source: *server,
                listener: *inner,
            };
            let fate = self.decide_after(worker, bye);
            survey.count(Class::Outward, fate, &[], call.source);
        }
        for (class, message) in messages {
            let fate = self.decide_after(worker, call.datagram(&message));
            survey.count(class, fate, worker.also(), *server);
        }
    }

    /// Decides behind the change what came in on a listener of before.
    fn decide_after(&self, decider: &mut Decider, datagram: Datagram<'_>) -> Fate {
        let before = &self.config.listeners[datagram.listener];
        let Some(listener) = offline::listener_instead(self.changed, before) else {
            return Fate::Gone;
        };
        let decision = decider.decide(&Datagram {
            listener,
            ..datagram
        });
        match explain::unplaced(self.changed, decider) {
            Some(_) => Fate::OnFailure,
            None => Fate::Decided(decision),
        }
    }

    /// How a server that keeps its own address back names us in Contact.
    fn us(&self, listener: usize) -> String {
        let listener = &self.config.listeners[listener];
        match &listener.advertise {
            Some(advertise) => advertise.to_string(),
            None => listener.address.to_string(),
        }
    }

    fn name(&self, decision: Decision) -> String {
        match decision {
            Decision::Forward(Forward {
                way: Way::Selected(selection),
                ..
            }) => format!("sent to set {}", self.config.sets[selection.set].name),
            Decision::Forward(_) => "sent without a choice".to_owned(),
            Decision::Reply(reply) => {
                format!("answered {}, {}", reply.status.code(), reply.reason.name())
            }
            Decision::Resolve => "held until a name is resolved".to_owned(),
            Decision::Drop(reason) => format!("dropped, {}", reason.name()),
        }
    }
}

impl Call<'_> {
    fn datagram<'m>(&self, message: &'m str) -> Datagram<'m> {
        Datagram {
            bytes: message.as_bytes(),
            source: self.source,
            listener: self.line.listener,
        }
    }
}

fn owner(fate: Fate) -> Option<SocketAddr> {
    match fate {
        Fate::Decided(Decision::Forward(Forward { to, .. })) => Some(to),
        _ => None,
    }
}

/// The way to a member that the policy of `set` chose.
fn selected(decision: Decision, set: usize) -> Option<Forward> {
    match decision {
        Decision::Forward(forward) => match forward.way {
            Way::Selected(selection) if selection.set == set => Some(forward),
            _ => None,
        },
        _ => None,
    }
}

/// The values of Record-Route in a request of ours, one a row.
fn record_route(request: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(request);
    let rows = text
        .lines()
        .map_while(|line| (!line.is_empty()).then_some(line));
    let values = rows.filter_map(|row| row.strip_prefix("Record-Route: "));
    values.map(str::to_owned).collect()
}

fn routes<'a>(values: impl Iterator<Item = &'a String>) -> String {
    values.map(|value| format!("Route: {value}\r\n")).collect()
}
