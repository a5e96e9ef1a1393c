//! What servers do with what comes to them: to the one that has the call, and
//! to one that has not.

use anyhow::Result;

use super::call::{End, Event, HELD, Plan, RINGS};
use super::operator;
use super::play::{Play, contact};
use crate::balancer::State;
use crate::sip::{Dialog, Message, Pending, SECOND, Start, parameter, uri};

/// How long after it was told to drain a destination may still get new calls.
const GRACE: u64 = SECOND;

impl Play {
    /// A request, or the response to a BYE.
    pub(super) fn at_server(&mut self, octets: &[u8], here: usize, now: u64) -> Result<()> {
        let Some((message, number)) = self.read(octets) else {
            return Ok(());
        };
        let home = self.calls[number].home;
        let method = match message.start {
            Start::Request(method) => method,
            Start::Response(_) if home != Some(here) => {
                self.figures.foreign += 1;
                return Ok(());
            }
            Start::Response(status) => {
                self.answer_to_server(number, status);
                return Ok(());
            }
        };
        if method == "INVITE" && home.is_none() {
            let destination = &self.operator.farm[here];
            let gone = destination.state != State::Active;
            self.figures.late += u64::from(gone && now > destination.since + GRACE);
            return self.ring(octets, &message, number, here, now);
        }
        if home != Some(here) {
            return self.stranger(&message, method, number, here);
        }
        let call = &mut self.calls[number];
        let tag = format!("s{number}");
        let via = message.row("Via");
        match method {
            "INVITE" => {
                if call.server.pending.is_none() && !call.acknowledged && !call.over {
                    let contact = contact(self.contact, self.advertised, &call.server.dialog.own);
                    let ringing = message.answer("180 Ringing", &tag, &contact);
                    self.send(number, End::Server, &ringing, via)?;
                }
            }
            "ACK" => {
                if !call.acknowledged {
                    call.server.pending = None;
                    call.acknowledged = true;
                    match call.plan {
                        Plan::EndedBy(End::Server) => {
                            self.timers.set(now + HELD, (number, Event::HangUp));
                        }
                        Plan::EndedBy(End::Caller) => {}
                        Plan::Cancelled(_) => call.server.done = true,
                    }
                }
            }
            "BYE" => {
                call.server.done = true;
                self.send(
                    number,
                    End::Server,
                    &message.answer("200 OK", &tag, ""),
                    via,
                )?;
            }
            "CANCEL" => {
                // It belongs to the INVITE whose branch it has (RFC 3261 §9.2).
                let invite = Message::read(&call.invite);
                let invited = invite.as_ref().map_or("", |invite| invite.row("Via"));
                if call.over || parameter(invited, "branch") != parameter(via, "branch") {
                    let unknown = message.answer("481 No Such Transaction", &tag, "");
                    return self.send(number, End::Server, &unknown, via);
                }
                let first = !call.cancelled;
                call.cancelled = true;
                let terminated =
                    invite.map(|invite| invite.answer("487 Request Terminated", &tag, ""));
                let way = invited.to_owned();
                self.send(
                    number,
                    End::Server,
                    &message.answer("200 OK", &tag, ""),
                    via,
                )?;
                if let Some(terminated) = terminated.filter(|_| first) {
                    let pending = Pending::new("487", terminated, way, now);
                    self.repeat(number, End::Server, pending)?;
                }
            }
            _ => self.figures.foreign += 1,
        }
        self.settle(number);
        Ok(())
    }

    /// A new call at destination `here`.
    fn ring(
        &mut self,
        octets: &[u8],
        invite: &Message<'_>,
        number: usize,
        here: usize,
        now: u64,
    ) -> Result<()> {
        let call = &mut self.calls[number];
        if call.over {
            return Ok(());
        }
        let tag = format!("s{number}");
        call.home = Some(here);
        call.invite = octets.to_vec();
        let routes = invite.values("Record-Route");
        call.server.dialog = Dialog {
            from: format!("{};tag={tag}", invite.row("To")),
            to: invite.row("From").to_owned(),
            call_id: invite.row("Call-ID").to_owned(),
            target: uri(invite.row("Contact")).to_owned(),
            routes: routes.into_iter().map(str::to_owned).collect(),
            own: self.operator.farm[here].address.to_string(),
        };
        let contact = contact(self.contact, self.advertised, &call.server.dialog.own);
        if matches!(call.plan, Plan::EndedBy(_)) {
            self.timers.set(now + RINGS, (number, Event::PickUp));
        }
        self.open[here] += 1;
        let ringing = invite.answer("180 Ringing", &tag, &contact);
        self.send(number, End::Server, &ringing, invite.row("Via"))
    }

    /// A request at a destination that does not have the call.
    fn stranger(
        &mut self,
        message: &Message<'_>,
        method: &str,
        number: usize,
        here: usize,
    ) -> Result<()> {
        let call = &mut self.calls[number];
        let known = ["ACK", "BYE", "INVITE"]
            .into_iter()
            .find(|one| *one == method);
        let to_cancel = matches!(call.plan, Plan::Cancelled(_));
        match known {
            Some("ACK") if to_cancel => self.figures.copies += 1,
            Some("INVITE") => self.fail(number, "rang at two destinations"),
            Some(known) => {
                if !call.astray.contains(&known) {
                    call.astray.push(known);
                    self.figures.misrouted += 1;
                }
            }
            None => self.figures.copies += 1,
        }
        if matches!(method, "ACK" | "INVITE") {
            return Ok(());
        }
        let answer = message.answer("481 No Such Call", &format!("x{here}x{number}"), "");
        self.send_from(Some(operator::ip(here)), &answer, message.row("Via"))
    }

    fn answer_to_server(&mut self, number: usize, status: u16) {
        let call = &mut self.calls[number];
        match status {
            ..200 => {}
            200..300 => {
                call.server.pending = None;
                call.server.done = true;
            }
            _ => self.fail(number, &format!("a server's BYE answered {status}")),
        }
        self.settle(number);
    }
}
