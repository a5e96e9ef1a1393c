//! All destinations that are probed, and what is due of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::probe::final_response;
use super::{Machine, Probed, Report, RoundTrips, Target};

/// The destinations in the order that they were given in; each is known by
/// its place there.
pub(super) struct Field {
    destinations: Vec<Destination>,
    /// When each is to be polled.
    agenda: BTreeSet<(Duration, usize)>,
    /// Whose latest probe has this token.
    tokens: BTreeMap<u64, usize>,
    chance: Chance,
    /// What the supervisor has not heard yet.
    reports: Vec<Report>,
}

/// Why a probe was not sent.
pub(super) enum Unsent {
    /// The obstacle is ours.
    Ours(io::Error),
    /// The system refuses to send to this destination.
    Refused(io::Error),
}

impl From<io::Error> for Unsent {
    fn from(error: io::Error) -> Self {
        Self::Ours(error)
    }
}

struct Destination {
    target: Target,
    machine: Machine,
    /// Where it stands in the agenda.
    noted: Duration,
    /// The token of its latest probe.
    token: Option<u64>,
    /// What kept the latest probe from being sent.
    obstacle: Option<String>,
    /// How long its latest probe took, where that was answered.
    round_trip: Option<Duration>,
    round_trips: RoundTrips,
}

impl Field {
    pub(super) fn new(chance: Chance) -> Self {
        Self {
            destinations: Vec::new(),
            agenda: BTreeSet::new(),
            tokens: BTreeMap::new(),
            chance,
            reports: Vec::new(),
        }
    }

    /// Replaces the destinations; those that stay keep what is known of them.
    pub(super) fn watch(&mut self, targets: Vec<Target>, now: Duration) {
        let mut before: BTreeMap<_, _> = std::mem::take(&mut self.destinations)
            .into_iter()
            .map(|old| ((old.target.set.clone(), old.target.address), old))
            .collect();
        for target in targets {
            let chance = self.chance.fraction();
            let destination = match before.remove(&(target.set.clone(), target.address)) {
                Some(old) => old.retargeted(target, now, chance),
                None => Destination::new(target, now, chance),
            };
            self.destinations.push(destination);
        }
        let is_left_out = |it: &Report| before.contains_key(&(it.set.clone(), it.address));
        self.reports.retain(|report| !is_left_out(report));
        let placed = || self.destinations.iter().enumerate();
        self.agenda = placed().map(|(place, it)| (it.noted, place)).collect();
        self.tokens = placed()
            .filter_map(|(place, it)| Some((it.token?, place)))
            .collect();
    }

    /// Something makes a destination look dead.
    pub(super) fn suspect(
        &mut self,
        set: &str,
        address: SocketAddr,
        cause: &'static str,
        now: Duration,
    ) {
        let is_meant = |it: &Destination| it.target.address == address && it.target.set == set;
        if let Some(place) = self.destinations.iter().position(is_meant) {
            self.step(place, |it, _| it.machine.suspected(cause, now));
        }
    }

    /// When [`Self::poll`] is to be called, if ever.
    pub(super) fn next(&self) -> Option<Duration> {
        self.agenda.first().map(|(next, _)| *next)
    }

    /// Does what is due of one destination, and sends the probe with `send`.
    /// Returns whether there was anything due.
    pub(super) fn poll(
        &mut self,
        now: Duration,
        send: impl FnOnce(&Target, u64) -> Result<(), Unsent>,
    ) -> bool {
        let Some(&(_, place)) = self.agenda.first().filter(|(next, _)| *next <= now) else {
            return false;
        };
        let token = self.chance.token();
        self.step(place, |it, chance| it.poll(token, now, chance, send));
        true
    }

    /// Takes a datagram that came to one of the sockets. All but the response
    /// to the latest probe of a destination, from its own address, is ignored.
    pub(super) fn receive(&mut self, datagram: &[u8], source: SocketAddr, now: Duration) {
        let Some((token, status)) = final_response(datagram) else {
            return;
        };
        let Some(&place) = self.tokens.get(&token) else {
            return;
        };
        if self.destinations[place].target.address == source {
            self.step(place, |it, chance| it.answered(status, now, chance));
        }
    }

    /// The reports since this was called last.
    pub(super) fn reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Whether probes leave from a local address.
    pub(super) fn uses(&self, from: IpAddr) -> bool {
        self.destinations.iter().any(|it| it.target.from == from)
    }

    /// What is known of each.
    pub(super) fn states(&self) -> Vec<Probed> {
        self.destinations.iter().map(Destination::state).collect()
    }

    /// Does something with one destination, and notes what has become of it:
    /// its health, its latest probe, and when it is to be polled next.
    fn step(&mut self, place: usize, act: impl FnOnce(&mut Destination, f64)) {
        let destination = &mut self.destinations[place];
        let (health, token) = (destination.machine.health(), destination.token);
        act(destination, self.chance.fraction());
        if destination.machine.health() != health {
            self.reports.push(destination.report());
        }
        if destination.token != token {
            token.map(|old| self.tokens.remove(&old));
            destination.token.map(|new| self.tokens.insert(new, place));
        }
        let next = destination.machine.next();
        self.agenda.remove(&(destination.noted, place));
        self.agenda.insert((next, place));
        destination.noted = next;
    }
}

impl Destination {
    fn new(target: Target, now: Duration, chance: f64) -> Self {
        let machine = Machine::new(target.probe.clone(), target.health, now, chance);
        Self {
            target,
            noted: machine.next(),
            machine,
            token: None,
            obstacle: None,
            round_trip: None,
            round_trips: RoundTrips::default(),
        }
    }

    /// The same in a new configuration.
    fn retargeted(mut self, target: Target, now: Duration, chance: f64) -> Self {
        if self.target.probe != target.probe {
            self.machine.reconfigured(target.probe.clone(), now, chance);
            self.noted = self.machine.next();
        }
        self.target = target;
        self
    }

    fn poll(
        &mut self,
        token: u64,
        now: Duration,
        chance: f64,
        send: impl FnOnce(&Target, u64) -> Result<(), Unsent>,
    ) {
        let failed = self.machine.counts().failed;
        let is_due = self.machine.poll(now, chance);
        if self.machine.counts().failed > failed {
            self.round_trip = None;
        }
        if !is_due {
            return;
        }
        match send(&self.target, token) {
            Ok(()) => {
                self.machine.sent(now);
                self.token = Some(token);
                self.obstacle = None;
            }
            Err(unsent) => {
                self.round_trip = None;
                self.obstacle = match unsent {
                    Unsent::Refused(error) => {
                        self.machine.refused(error.to_string(), now, chance);
                        None
                    }
                    Unsent::Ours(error) => {
                        self.machine.unsent(now);
                        Some(format!("no probe can be sent: {error}"))
                    }
                };
            }
        }
    }

    fn answered(&mut self, status: u16, now: Duration, chance: f64) {
        let round_trip = self.machine.answered(status, now, chance);
        if let Some(round_trip) = round_trip {
            self.round_trip = Some(round_trip);
            self.round_trips.add(round_trip);
        }
    }

    fn report(&self) -> Report {
        Report {
            set: self.target.set.clone(),
            address: self.target.address,
            health: self.machine.health(),
            cause: self.machine.cause(),
        }
    }

    fn state(&self) -> Probed {
        let machine = &self.machine;
        let obstacle = self.obstacle.clone();
        Probed {
            set: self.target.set.clone(),
            address: self.target.address,
            health: machine.health(),
            probing: machine.probing(),
            counts: machine.counts(),
            round_trip: self.round_trip,
            round_trips: self.round_trips,
            cause: obstacle.unwrap_or_else(|| machine.cause()),
        }
    }
}

/// Numbers that nobody can foresee without the key.
pub(super) struct Chance {
    key: SipHasher13,
    drawn: u64,
}

impl Chance {
    pub(super) fn new(key: &[u8; 16]) -> Self {
        Self {
            key: SipHasher13::new_with_key(key),
            drawn: 0,
        }
    }

    /// One that no forger guesses.
    fn token(&mut self) -> u64 {
        self.drawn += 1;
        self.key.hash(&self.drawn.to_ne_bytes())
    }

    /// At least 0 and less than 1.
    fn fraction(&mut self) -> f64 {
        f64::from(self.token() as u32) / 2_f64.powi(32)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::{Health, Probe};
    use crate::health::probe;

    #[test]
    fn a_probe_that_the_system_refuses_to_send_has_no_round_trip() {
        let address = SocketAddr::from(([127, 0, 0, 1], 5071));
        let mut field = Field::new(Chance::new(&[0; 16]));
        let target = Target {
            set: "farm".to_owned(),
            address,
            uri: format!("sip:{address}"),
            probe: Arc::new(Probe::default()),
            from: address.ip(),
            health: Health::Up,
        };
        field.watch(vec![target], Duration::ZERO);
        let mut sent = Vec::new();
        while sent.is_empty() {
            let now = field.next().expect("a probe");
            field.poll(now, |target, token| {
                sent = probe::request(target, address, token);
                Ok(())
            });
        }
        let text = String::from_utf8_lossy(&sent);
        let (_, rows) = text.split_once("\r\n").expect("rows");
        let answer = format!("SIP/2.0 200 OK\r\n{rows}");
        let now = field.next().expect("its timeout");
        field.receive(answer.as_bytes(), address, now);
        assert!(field.states()[0].round_trip.is_some());
        let mut refused = false;
        while !refused {
            let now = field.next().expect("a probe");
            field.poll(now, |_, _| {
                refused = true;
                Err(Unsent::Refused(io::Error::from_raw_os_error(22)))
            });
        }
        assert_eq!(field.states()[0].round_trip, None);
    }
}
