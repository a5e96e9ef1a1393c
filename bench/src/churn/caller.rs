//! What callers do with what comes to them (RFC 3261 §13.2, §15).

use anyhow::Result;

use super::call::{End, Event, HELD, Plan};
use super::play::Play;
use crate::sip::{Start, branch};

impl Play {
    /// A response, or the BYE of a server.
    pub(super) fn at_caller(&mut self, octets: &[u8], now: u64) -> Result<()> {
        let Some((message, number)) = self.read(octets) else {
            return Ok(());
        };
        let status = match message.start {
            Start::Response(status) => status,
            Start::Request("BYE") => {
                self.calls[number].caller.done = true;
                let answer = message.answer("200 OK", "", "");
                self.send(number, End::Caller, &answer, message.row("Via"))?;
                self.settle(number);
                return Ok(());
            }
            Start::Request(_) => {
                self.figures.foreign += 1;
                return Ok(());
            }
        };
        if message.values("Via").len() != 1 {
            self.figures.foreign += 1;
            return Ok(());
        }
        let call = &mut self.calls[number];
        if call.over {
            return Ok(());
        }
        let method = message.cseq_method();
        let pending = &mut call.caller.pending;
        if pending
            .as_ref()
            .is_some_and(|pending| pending.what == method)
        {
            *pending = None;
        }
        match (method, status, call.plan) {
            ("INVITE", 101..200, Plan::Cancelled(after)) if !call.ringing => {
                call.ringing = true;
                self.timers.set(now + after, (number, Event::GiveUp));
            }
            ("INVITE", 100..200, _) => {}
            ("INVITE", 200..300, Plan::EndedBy(end)) => {
                let first = !call.answered;
                call.answered = true;
                let side = &mut call.caller;
                side.dialog = side.dialog.confirmed(&message);
                let ack = side
                    .dialog
                    .request("ACK", 1, &branch(self.run, number, "a"));
                let hop = side.dialog.next_hop().to_owned();
                if first && end == End::Caller {
                    self.timers.set(now + HELD, (number, Event::HangUp));
                }
                self.send(number, End::Caller, &ack, &hop)?;
            }
            ("INVITE", 300.., plan) => {
                let dialog = call.caller.dialog.refused(&message);
                call.terminated = true;
                let ack = dialog.request("ACK", 1, &branch(self.run, number, "i"));
                let hop = format!("sip:{}", self.advertised);
                self.send(number, End::Caller, &ack, &hop)?;
                if !matches!(plan, Plan::Cancelled(_)) || status != 487 {
                    self.fail(number, &format!("INVITE answered {status}"));
                }
            }
            ("CANCEL", 200..300, _) => call.cancel_answered = true,
            ("BYE", 200..300, _) => call.caller.done = true,
            (_, 200.., _) => self.fail(number, &format!("{method} answered {status}")),
            _ => {}
        }
        let call = &mut self.calls[number];
        call.caller.done |= call.cancel_answered && call.terminated;
        self.settle(number);
        Ok(())
    }
}
