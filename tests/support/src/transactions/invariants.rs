//! What must hold of each step of the balancer: of what it sends, and of what
//! it owes.

use std::net::SocketAddr;

use viaduct::proxy::Decision;
use viaduct::transaction::Received;

use super::balancer::{Act, Output, Sent};
use super::message::Message;
use super::monitor::{Attempt, Cause, Check, Monitor, Promises, Scene, Upstream, ensure};

impl Monitor {
    pub(super) fn sent(&mut self, scene: &Scene<'_>, output: &Output, sent: &Sent) -> Check {
        let Some(message) = Message::read(&sent.bytes) else {
            let text = sent.bytes.escape_ascii();
            ensure!(false, "", "sent what is no message: {text}");
            return Ok(());
        };
        match (sent.by_relay, message.is_request()) {
            (false, true) => self.request_passed(scene, sent, &message),
            (false, false) => self.response_passed(scene, &message),
            (true, true) => match message.method() {
                "ACK" => self.ack_sent(scene, sent, &message),
                "CANCEL" => self.cancel_sent(scene, sent, &message),
                _ => self.request_sent(scene, output, sent, &message),
            },
            (true, false) => self.response_sent(scene, sent, &message),
        }
    }

    /// A request that went statelessly.
    fn request_passed(&mut self, scene: &Scene<'_>, sent: &Sent, message: &Message) -> Check {
        let call = message.call_id();
        let method = message.method();
        let Some(upstream) = self.upstreams.get_mut(message.branch(1)) else {
            return Ok(());
        };
        if upstream.is_strong() && !is_given_up(upstream, &self.promises, scene.time) {
            let until = upstream.kept_until(&self.promises);
            let past = upstream.final_at.is_none() || scene.time < until;
            ensure!(!past, call, "{method} went past its transaction");
        }
        if matches!(method, "ACK" | "CANCEL") {
            self.tally.add("stateless ACK or CANCEL");
            return Ok(());
        }
        let branch = message.branch(0).to_owned();
        let attempt = Attempt::new(scene, sent, message);
        if !self.attempts.contains_key(&branch) {
            upstream.attempts.push(branch.clone());
        }
        self.attempts.entry(branch).or_insert(attempt);
        Ok(())
    }

    /// A response that went statelessly.
    fn response_passed(&mut self, scene: &Scene<'_>, message: &Message) -> Check {
        let Some(upstream) = self.upstreams.get(message.branch(0)) else {
            return Ok(());
        };
        if !upstream.is_strong() || upstream.request.method() != message.method() {
            return Ok(());
        }
        if is_given_up(upstream, &self.promises, scene.time) {
            return Ok(());
        }
        let (call, start) = (message.call_id(), &message.start);
        let early = upstream.final_at.is_none()
            || scene.time < upstream.kept_until(&self.promises)
            || self.is_awaited(scene);
        ensure!(!early, call, "{start:?} went past its transaction");
        self.tally.add("response after the end");
        Ok(())
    }

    /// Whether the response that came is the first one to an INVITE whose
    /// Timer B has not run out: it may ring, and somebody must know. Or behind
    /// its failure before Timer D: it may be the same once more.
    fn is_awaited(&self, scene: &Scene<'_>) -> bool {
        let Cause::Datagram { message, .. } = scene.cause else {
            return false;
        };
        let promises = &self.promises;
        let attempt = self.attempts.get(message.branch(0));
        attempt.is_some_and(|each| {
            let until = match each.failed {
                Some(failed) => failed + promises.d,
                None if each.finals_heard == 0 => each.sends[0] + promises.b,
                None => 0,
            };
            message.method() == "INVITE" && scene.time < until
        })
    }

    /// What the balancer had to send at once.
    pub(super) fn owed(&mut self, scene: &Scene<'_>, output: &Output) -> Check {
        let Cause::Datagram { from, message } = scene.cause else {
            return Ok(());
        };
        let call = message.call_id();
        let sends = output.acts.iter().filter_map(|act| match act {
            Act::Send(sent) => Message::read(&sent.bytes).map(|message| (sent.to, message)),
            _ => None,
        });
        let sends: Vec<_> = sends.collect();
        if let Some(Received::Decision(Decision::Resolve)) = output.received {
            ensure!(false, call, "a name is to be resolved");
        }
        if message.is_request() {
            return self.owed_to_caller(scene.time, message, &sends);
        }
        let Some(attempt) = self.attempts.get(message.branch(0)) else {
            return Ok(());
        };
        if output.received != Some(Received::Done) || message.method() != "INVITE" {
            return Ok(());
        }
        let upstream = &self.upstreams[&attempt.upstream];
        if upstream.weak {
            return Ok(());
        }
        // Whoever is not wanted any more is told at once; one has the call.
        let others = upstream.attempts.iter().map(|b| &self.attempts[b]);
        let mut ringing = others.filter(|each| {
            // Where nothing is remembered, nothing can be done.
            each.rings() && each.provisional < Some(each.sends[0] + self.promises.b)
        });
        let ringing = ringing.nth(usize::from(upstream.final_at.is_none()));
        let ringing = ringing.map(|each| each.to);
        ensure!(ringing.is_none(), call, "{ringing:?} is left to ring");
        let status = message.status();
        let passed = sends.iter().any(|(to, sent)| {
            *to == upstream.source && sent.status() == status && sent.to_tag() == message.to_tag()
        });
        match status {
            ..=100 => {}
            101..200 => {
                let is_latest = upstream
                    .attempts
                    .last()
                    .is_some_and(|b| b == message.branch(0));
                let open = upstream.final_at.is_none() && upstream.is_strong();
                let cancelled = upstream.cancels > 0 || !attempt.cancels.is_empty();
                let due = is_latest && open && !cancelled;
                let unsure = attempt.failure.is_some() || attempt.undeliverable;
                ensure!(passed || !due || unsure, call, "{status} was not passed on");
            }
            200..300 => ensure!(passed, call, "{status} was not passed on"),
            _ => {
                let acknowledged = sends
                    .iter()
                    .any(|(to, sent)| *to == from && sent.is_request() && sent.method() == "ACK");
                ensure!(acknowledged, call, "{status} was not acknowledged");
                let newest = upstream.attempts.last().map(String::as_str);
                if newest != Some(message.branch(0)) {
                    self.tally.add("late failure acknowledged");
                }
            }
        }
        Ok(())
    }

    fn owed_to_caller(
        &mut self,
        time: u64,
        request: &Message,
        sends: &[(SocketAddr, Message)],
    ) -> Check {
        let call = request.call_id();
        let Some(upstream) = self.upstreams.get(request.branch(0)) else {
            return Ok(());
        };
        if !upstream.is_strong() {
            return Ok(());
        }
        let replied = sends.iter().any(|(to, sent)| {
            *to == upstream.source && sent.status() > 0 && sent.method() == request.method()
        });
        let open = upstream.final_at.is_none_or(|at| at == time);
        match request.method() {
            "INVITE" => {
                let answered = upstream.answers_passed > 0;
                ensure!(replied || answered || !open, call, "INVITE without 100");
            }
            "CANCEL" if upstream.is_invite() => {
                ensure!(replied || !open, call, "CANCEL was not answered");
                let mut own = upstream.attempts.iter().map(|b| &self.attempts[b]);
                let ringing = own.find(|each| each.rings()).map(|each| each.to);
                let over = ringing.is_none() || !open;
                ensure!(over, call, "{ringing:?} rings in spite of CANCEL");
                if upstream.cancels > 1 {
                    self.tally.add("CANCEL absorbed");
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether nobody answered what is no INVITE: then nothing is said (RFC 4320
/// §4.2), and it is forgotten.
fn is_given_up(upstream: &Upstream, promises: &Promises, time: u64) -> bool {
    let age = time - upstream.begun.unwrap_or(time);
    !upstream.is_invite() && upstream.final_at.is_none() && age >= promises.f
}
