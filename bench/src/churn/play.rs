//! Callers and servers around a balancer, as RFC 3261 has user agents be:
//! they retransmit, keep their dialogs, and send everything where Via, Route
//! and Contact say.
//!
//! Both ends are here, so that one list knows of each call which destination
//! answered it; yet each end acts on nothing but what came to it. Where the
//! balancer's address stands for several instances, each single message goes
//! to one of them at random: the play is also the router before them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use anyhow::{Context, Result};
use serde::Serialize;

use super::call::{Call, End, Event, HELD, Plan};
use super::operator::{self, Operator};
use crate::balancer::Destination;
use crate::farm::Player;
use crate::sip::{Dialog, Message, Pending, SECOND, TRANSACTION, Timers, address, branch};
use crate::sys::{Receiver, Route, Run, Sender, bound, tell_destinations};

/// Datagrams taken at once.
const BATCH: usize = 256;

/// When a call should long be over.
const EXPIRES: u64 = HELD + 3 * SECOND + TRANSACTION;

/// Whose address servers give as Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contact {
    /// Each its own: a request that names it shows the way.
    Own,
    /// The balancer's, as servers do that nobody shall see: only the
    /// balancer's Route knows the server.
    Balancer,
}

/// What was counted.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    pub(crate) calls: u64,
    pub(crate) completed: u64,
    /// By reason.
    pub(crate) failed: BTreeMap<String, u64>,
    /// ACK and BYE that came to a destination that never had their call.
    pub(crate) misrouted: u64,
    /// Calls to be cancelled, and those whose CANCEL did not reach the
    /// destination where it rang.
    pub(crate) to_cancel: u64,
    pub(crate) uncancelled: u64,
    /// CANCEL, and ACK to a failure, at a destination where it does not ring,
    /// beside the one where it does.
    pub(crate) copies: u64,
    /// New calls at a destination that has drained for a second or is gone.
    pub(crate) late: u64,
    /// Messages sent again because nothing answered them in time.
    pub(crate) retransmissions: u64,
    /// The longest time in which callers and servers did nothing, for
    /// something else had the cores.
    pub(crate) held_up_ms: u64,
    /// Messages that no call waits for.
    pub(crate) foreign: u64,
}

impl Figures {
    pub(crate) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

pub(super) struct Play {
    callers: UdpSocket,
    farm: UdpSocket,
    receiver: Receiver,
    sender: Sender,
    caller: SocketAddrV4,
    /// What the balancer calls itself, and where its instances are.
    pub(super) advertised: SocketAddrV4,
    pub(super) instances: Vec<SocketAddrV4>,
    pub(super) contact: Contact,
    pub(super) operator: Operator,
    pub(super) run: u32,
    dice: u64,
    pub(super) calls: Vec<Call>,
    pub(super) timers: Timers<(usize, Event)>,
    /// Calls that are not over, of each destination and in all.
    pub(super) open: Vec<u32>,
    going_on: u64,
    pub(super) figures: Figures,
}

/// Where the callers are.
const CALLER: Ipv4Addr = Ipv4Addr::new(127, 2, 0, 1);

impl Play {
    /// Around the balancer that is `advertised`.
    ///
    /// # Errors
    /// No socket.
    pub(super) fn new(
        advertised: SocketAddrV4,
        instances: Vec<SocketAddrV4>,
        contact: Contact,
    ) -> Result<Self> {
        let callers = bound(SocketAddrV4::new(CALLER, 0))?;
        let farm = bound(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))?;
        tell_destinations(&farm)?;
        let run = crate::load::run_id();
        Ok(Self {
            caller: SocketAddrV4::new(CALLER, callers.local_addr()?.port()),
            operator: Operator::new(farm.local_addr()?.port()),
            callers,
            farm,
            receiver: Receiver::new(BATCH),
            sender: Sender::new(),
            advertised,
            instances,
            contact,
            run,
            dice: u64::from(run),
            calls: Vec::new(),
            timers: Timers::new(),
            open: vec![0; operator::ALL],
            going_on: 0,
            figures: Figures::default(),
        })
    }

    fn due(&mut self, number: usize, event: Event, now: u64) -> Result<()> {
        let call = &mut self.calls[number];
        match (event, call.plan) {
            (Event::Repeat(end), _) => self.again(number, end, now),
            (Event::PickUp, _) => {
                let Some(invite) = Message::read(&call.invite) else {
                    return Ok(());
                };
                let (via, tag) = (invite.row("Via").to_owned(), format!("s{number}"));
                let contact = contact(self.contact, self.advertised, &call.server.dialog.own);
                let answer = invite.answer("200 OK", &tag, &contact);
                self.repeat(number, End::Server, Pending::new("200", answer, via, now))
            }
            (Event::HangUp, Plan::EndedBy(end)) => {
                let dialog = &call.side(end).dialog;
                let bye = dialog.request("BYE", 2, &branch(self.run, number, "b"));
                let hop = dialog.next_hop().to_owned();
                self.repeat(number, end, Pending::new("BYE", bye, hop, now))
            }
            (Event::GiveUp, _) => {
                call.gave_up = true;
                let dialog = &call.caller.dialog;
                let cancel = dialog.request("CANCEL", 1, &branch(self.run, number, "i"));
                let hop = format!("sip:{}", self.advertised);
                self.repeat(
                    number,
                    End::Caller,
                    Pending::new("CANCEL", cancel, hop, now),
                )
            }
            (Event::Expire, _) => {
                self.fail(number, "not over in time");
                Ok(())
            }
            (Event::HangUp, Plan::Cancelled(_)) => Ok(()),
        }
    }

    /// Sends what is pending again, or gives it up.
    fn again(&mut self, number: usize, end: End, now: u64) -> Result<()> {
        let pending = self.calls[number].side(end).pending.as_mut();
        let Some(pending) = pending.filter(|one| one.at <= now) else {
            return Ok(());
        };
        if !pending.again(now) {
            let what = pending.what;
            self.fail(number, &format!("{what} without an answer"));
            return Ok(());
        }
        self.timers.set(pending.at, (number, Event::Repeat(end)));
        let pending = pending.clone();
        self.figures.retransmissions += 1;
        self.send(number, end, &pending.octets, &pending.hop)
    }

    fn take(&mut self, end: End) -> Result<Vec<(Vec<u8>, Option<Ipv4Addr>)>> {
        let socket = match end {
            End::Caller => &self.callers,
            End::Server => &self.farm,
        };
        let taken = self.receiver.receive(socket, false);
        let taken = taken.context("cannot receive")?;
        let datagram = |index| {
            let octets = self.receiver.datagram(index).to_vec();
            (octets, self.receiver.destination(index))
        };
        Ok((0..taken).map(datagram).collect())
    }

    /// The message, and the number of its call; counts what is none of ours.
    pub(super) fn read<'a>(&mut self, octets: &'a [u8]) -> Option<(Message<'a>, usize)> {
        let found = Message::read(octets).and_then(|message| {
            let number = message.number(self.run)?;
            (number < self.calls.len()).then_some((message, number))
        });
        self.figures.foreign += u64::from(found.is_none());
        found
    }

    /// Closes a call of which both ends have seen all they wait for.
    pub(super) fn settle(&mut self, number: usize) {
        let call = &self.calls[number];
        if !call.over && call.caller.done && call.server.done {
            self.figures.completed += 1;
            self.close(number);
        }
    }

    /// Closes a call that did not go as it should; one that rings on although
    /// it was to be cancelled counts as such.
    pub(super) fn fail(&mut self, number: usize, reason: &str) {
        let call = &self.calls[number];
        if call.over {
            return;
        }
        if call.gave_up && !call.cancelled {
            self.figures.uncancelled += 1;
        } else {
            *self.figures.failed.entry(reason.to_owned()).or_default() += 1;
        }
        self.close(number);
    }

    fn close(&mut self, number: usize) {
        let call = &mut self.calls[number];
        call.close();
        if let Some(home) = call.home {
            self.open[home] -= 1;
        }
        self.going_on -= 1;
    }

    /// Sends now, and again until it is answered.
    pub(super) fn repeat(&mut self, number: usize, end: End, pending: Pending) -> Result<()> {
        self.timers.set(pending.at, (number, Event::Repeat(end)));
        self.send(number, end, &pending.octets, &pending.hop)?;
        self.calls[number].side(end).pending = Some(pending);
        Ok(())
    }

    pub(super) fn send(&mut self, number: usize, end: End, octets: &str, hop: &str) -> Result<()> {
        let home = self.calls[number].home.unwrap_or_default();
        let from = match end {
            End::Caller => None,
            End::Server => Some(operator::ip(home)),
        };
        self.send_from(from, octets, hop)
    }

    /// Sends to the address that `hop`, a URI or sent-by, names: from a
    /// destination, or else from the callers.
    pub(super) fn send_from(
        &mut self,
        from: Option<Ipv4Addr>,
        octets: &str,
        hop: &str,
    ) -> Result<()> {
        let Some(named) = address(hop) else {
            self.figures.foreign += 1;
            return Ok(());
        };
        let to = match named == self.advertised {
            true => self.instance(),
            false => named,
        };
        let socket = match from {
            Some(_) => &self.farm,
            None => &self.callers,
        };
        let run = Run {
            octets: octets.as_bytes(),
            segment: octets.len(),
            route: Route { to, from },
        };
        self.sender
            .send_all(socket, &[run])
            .with_context(|| format!("cannot send to {to}"))
    }

    /// One of the instances by the dice (SplitMix64).
    fn instance(&mut self) -> SocketAddrV4 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.dice;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        self.instances[((mixed ^ (mixed >> 31)) % self.instances.len() as u64) as usize]
    }
}

impl Player for Play {
    fn start(&mut self, now: u64) -> Result<()> {
        let number = self.calls.len();
        let plan = Plan::of(number);
        let dialog = Dialog::first(self.run, number, self.caller, self.advertised);
        let invite = dialog.request("INVITE", 1, &branch(self.run, number, "i"));
        self.calls.push(Call::new(plan, dialog));
        self.figures.calls += 1;
        self.figures.to_cancel += u64::from(matches!(plan, Plan::Cancelled(_)));
        self.going_on += 1;
        self.timers.set(now + EXPIRES, (number, Event::Expire));
        let hop = format!("sip:{}", self.advertised);
        self.repeat(
            number,
            End::Caller,
            Pending::new("INVITE", invite, hop, now),
        )
    }

    fn receive(&mut self, now: u64) -> Result<usize> {
        let at_callers = self.take(End::Caller)?;
        for (octets, _) in &at_callers {
            self.at_caller(octets, now)?;
        }
        let at_farm = self.take(End::Server)?;
        for (octets, destination) in &at_farm {
            let own = |one: &Destination| Some(*one.address.ip()) == *destination;
            match self.operator.farm.iter().position(own) {
                Some(index) => self.at_server(octets, index, now)?,
                None => self.figures.foreign += 1,
            }
        }
        Ok(at_callers.len() + at_farm.len())
    }

    fn timers(&mut self, now: u64) -> Result<()> {
        while let Some((number, event)) = self.timers.due(now) {
            if !self.calls[number].over {
                self.due(number, event, now)?;
            }
        }
        Ok(())
    }

    fn going_on(&self) -> u64 {
        self.going_on
    }

    fn held_up(&mut self, milliseconds: u64) {
        self.figures.held_up_ms = self.figures.held_up_ms.max(milliseconds);
    }
}

/// The URI that a server at `own` gives as its Contact.
pub(super) fn contact(whose: Contact, balancer: SocketAddrV4, own: &str) -> String {
    match whose {
        Contact::Own => format!("sip:desk@{own}"),
        Contact::Balancer => format!("sip:desk@{balancer}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hundred calls straight to the first `destinations`, each message to
    /// any of them; by a clock that stands while messages are on their way.
    fn straight(destinations: usize) -> Figures {
        let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let mut play = Play::new(nowhere, Vec::new(), Contact::Balancer).expect("sockets");
        let there = play.operator.farm[..destinations].iter();
        let there = there.map(|one| one.address);
        play.instances = there.collect();
        for millisecond in 0..60_000 {
            let now = millisecond * SECOND / 1000;
            if millisecond < 1000 && millisecond % 10 == 0 {
                play.start(now).expect("an INVITE");
            }
            play.timers(now).expect("what is due");
            while play.receive(now).expect("what came") > 0 {}
        }
        assert_eq!(play.going_on(), 0);
        assert_eq!(play.open.iter().sum::<u32>(), 0);
        play.figures
    }

    #[test]
    fn calls_to_one_server_are_all_completed_and_nothing_is_sent_twice() {
        let figures = straight(1);
        assert_eq!(figures.calls, 100);
        assert_eq!(figures.completed, 100, "{figures:?}");
        assert_eq!(figures.to_cancel, 10);
        let amiss = figures.misrouted + figures.uncancelled + figures.copies + figures.late;
        assert_eq!(amiss + figures.retransmissions + figures.foreign, 0);
    }

    #[test]
    fn what_comes_to_the_wrong_server_is_noticed() {
        let figures = straight(2);
        // Of 90 ACKs and at least 45 BYEs a half each, of 10 CANCELs a half.
        assert!(figures.misrouted >= 40, "{figures:?}");
        assert!(figures.uncancelled >= 1, "{figures:?}");
        assert!(figures.failures() >= 10, "{figures:?}");
        let ended = figures.completed + figures.failures() + figures.uncancelled;
        assert_eq!(ended, 100, "{figures:?}");
    }

    #[test]
    fn a_call_that_nobody_takes_fails() {
        let nowhere = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
        let mut play = Play::new(nowhere, vec![nowhere], Contact::Own).expect("sockets");
        for half in 0..100 {
            if half == 0 {
                play.start(0).expect("an INVITE");
            }
            play.timers(half * SECOND / 2).expect("what is due");
        }
        assert_eq!(play.going_on(), 0);
        assert_eq!(play.figures.failures(), 1);
        // RFC 3261 §17.1.1.2: at 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
        assert_eq!(play.figures.retransmissions, 6);
    }
}
