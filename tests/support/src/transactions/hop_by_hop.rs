//! What must hold of an ACK or CANCEL of the balancer's own (RFC 3261 §9.1,
//! §17.1.1.3).

use super::balancer::Sent;
use super::message::Message;
use super::monitor::{Attempt, Cause, Check, Monitor, Scene, Violation, ensure};

impl Monitor {
    pub(super) fn ack_sent(&mut self, scene: &Scene<'_>, sent: &Sent, ack: &Message) -> Check {
        let call = ack.call_id();
        let attempt = self.attempt_of(ack)?;
        check_hop_by_hop(attempt, sent, ack)?;
        attempt.acks += 1;
        let (acks, heard) = (attempt.acks, attempt.finals_heard);
        ensure!(acks <= heard, call, "{acks} ACKs for {heard} failures");
        let Cause::Datagram { message, .. } = scene.cause else {
            ensure!(false, call, "an ACK at a time of its own");
            return Ok(());
        };
        let (told, said) = (message.header("To"), ack.header("To"));
        ensure!(told == said, call, "ACK to {said}, not {told}");
        if attempt.acks > 1 {
            self.tally.add("failure acknowledged again");
        }
        Ok(())
    }

    pub(super) fn cancel_sent(
        &mut self,
        scene: &Scene<'_>,
        sent: &Sent,
        cancel: &Message,
    ) -> Check {
        let call = cancel.call_id();
        let (most, c, ring) = {
            let promises = &self.promises;
            let most = promises.sends("CANCEL");
            (most, promises.c, promises.ring_timeout)
        };
        let attempt = self.attempt_of(cancel)?;
        check_hop_by_hop(attempt, sent, cancel)?;
        let to = cancel.header("To");
        let asked = attempt.request.header("To");
        ensure!(to == asked, call, "CANCEL to {to}, not {asked}");
        let heard = attempt.provisional.is_some();
        ensure!(heard, call, "CANCEL before a provisional response");
        let is_first = attempt.cancels.is_empty();
        if is_first {
            let over = attempt.failure.is_some() || attempt.answered;
            ensure!(!over, call, "CANCEL after a final response");
        } else {
            ensure!(!attempt.cancel_answered, call, "CANCEL again, answered");
        }
        attempt.cancels.push(scene.time);
        let count = attempt.cancels.len() as u64;
        ensure!(count <= most, call, "CANCEL sent more than {most} times");
        if !is_first {
            self.tally.add("CANCEL again");
            return Ok(());
        }
        let (started, ringing) = (attempt.sends[0], attempt.ringing);
        let last_ringing = attempt.last_ringing;
        let key = attempt.upstream.clone();
        let upstream = &self.upstreams[&key];
        let is_latest = upstream
            .attempts
            .last()
            .is_some_and(|b| b == cancel.branch(0));
        let quiet_since = last_ringing.unwrap_or(started);
        let declined = upstream.failures_heard.iter().any(|s| *s >= 600);
        let rang_for = scene.time - ringing.unwrap_or(scene.time);
        let mut others = upstream.attempts.iter().filter(|b| *b != cancel.branch(0));
        let other_spoke = others.any(|b| self.attempts[b].provisional.is_some());
        let reason = if !is_latest {
            "late ringing cancelled"
        } else if upstream.cancels > 0 {
            "cancelled for the caller"
        } else if upstream.final_at.is_some() || upstream.answers_heard > 0 {
            "ringing cancelled, for another has answered"
        } else if declined {
            "ringing cancelled, for another has declined"
        } else if ring > 0 && rang_for >= ring {
            "ring timeout"
        } else if scene.time - quiet_since >= c {
            "Timer C"
        } else if other_spoke {
            "ringing cancelled, for an earlier one spoke first"
        } else {
            ensure!(upstream.weak, call, "CANCEL without a reason");
            "CANCEL of a weak transaction"
        };
        self.tally.add(reason);
        Ok(())
    }

    fn attempt_of(&mut self, request: &Message) -> Result<&mut Attempt, Violation> {
        let (call, method) = (request.call_id(), request.method());
        let attempt = self.attempts.get_mut(request.branch(0));
        ensure!(attempt.is_some(), call, "{method} for no attempt");
        Ok(attempt.expect("one, as just seen"))
    }
}

/// §9.1, §17.1.1.3, except for To.
fn check_hop_by_hop(attempt: &Attempt, sent: &Sent, message: &Message) -> Check {
    let (call, method) = (message.call_id(), message.method());
    let invite = &attempt.request;
    ensure!(sent.to == attempt.to, call, "{method} to {}", sent.to);
    let is_invite = invite.method() == "INVITE";
    ensure!(is_invite, call, "{method} for {}", invite.method());
    let (uri, asked) = (message.request_uri(), invite.request_uri());
    ensure!(uri == asked, call, "{method} {uri}, not {asked}");
    for header in ["Call-ID", "From"] {
        let (is, was) = (message.header(header), invite.header(header));
        ensure!(is == was, call, "{method} with {header} {is}, not {was}");
    }
    let (is, was) = (message.cseq(), invite.cseq());
    ensure!(is == was, call, "{method} with CSeq {is}, not {was}");
    let vias: Vec<_> = message.values("Via").collect();
    let via = invite.header("Via");
    ensure!(vias == [via], call, "{method} with {vias:?}, not {via}");
    let is: Vec<_> = message.values("Route").collect();
    let was: Vec<_> = invite.values("Route").collect();
    ensure!(is == was, call, "{method} with Route {is:?}, not {was:?}");
    let hops = message.values("Max-Forwards").count();
    ensure!(hops == 1, call, "{method} with {hops} Max-Forwards");
    let lengths: Vec<_> = message.values("Content-Length").collect();
    let bare = lengths == ["0"] && message.body.is_empty();
    ensure!(bare, call, "{method} with a body, or {lengths:?}");
    Ok(())
}
