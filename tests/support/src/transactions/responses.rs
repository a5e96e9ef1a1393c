//! What must hold of a response that leaves in a transaction.

use super::balancer::Sent;
use super::message::Message;
use super::monitor::{Cause, Check, Monitor, Scene, Upstream, ensure};

impl Monitor {
    pub(super) fn response_sent(
        &mut self,
        scene: &Scene<'_>,
        sent: &Sent,
        message: &Message,
    ) -> Check {
        let (call, status) = (message.call_id(), message.status());
        let Some(upstream) = self.upstreams.get_mut(message.branch(0)) else {
            ensure!(false, call, "{:?} to no request", message.start);
            return Ok(());
        };
        let source = upstream.source;
        ensure!(sent.to == source, call, "{status} to {}", sent.to);
        let is_reply_to_cancel = message.method() == "CANCEL";
        if is_reply_to_cancel && upstream.is_invite() {
            upstream.cancel_replies += 1;
            let known = upstream.cancel_replies <= upstream.cancels;
            ensure!(known, call, "more replies to CANCEL than CANCELs");
            ensure!(status == 200, call, "CANCEL answered with {status}");
            return Ok(());
        }
        let (is, was) = (message.method(), upstream.request.method());
        ensure!(is == was, call, "a response to {is}, not {was}");
        match status {
            100 => check_own_hundred(upstream, message),
            101..200 => {
                upstream.provisionals_passed += 1;
                upstream.rang.get_or_insert(scene.time);
                let over = upstream.final_at.is_some() && upstream.is_strong();
                ensure!(!over, call, "{status} after a final response");
                let most = upstream.provisionals_heard + upstream.copies;
                let count = upstream.provisionals_passed;
                ensure!(count <= most, call, "{count} provisional responses");
                Ok(())
            }
            200..300 if upstream.is_invite() => self.answer_sent(scene, message),
            _ => self.failure_sent(scene, sent, message),
        }
    }

    fn answer_sent(&mut self, scene: &Scene<'_>, message: &Message) -> Check {
        let call = message.call_id();
        let upstream = self.upstreams.get_mut(message.branch(0));
        let upstream = upstream.expect("the one of the response");
        let Cause::Datagram { message: cause, .. } = scene.cause else {
            ensure!(false, call, "a 2xx at a time of its own");
            return Ok(());
        };
        let same = cause.status() == message.status() && cause.header("To") == message.header("To");
        ensure!(same, call, "a 2xx that has not come now");
        upstream.answers_passed += 1;
        if upstream.answers_passed > 1 {
            self.tally.add("2xx passed again");
        }
        if upstream.failure.is_some() {
            self.tally.add("2xx passed after a failure");
        }
        let latest = upstream.attempts.last().map(String::as_str);
        if latest != Some(cause.branch(0)) {
            self.tally.add("2xx passed from an earlier attempt");
        }
        upstream.final_at.get_or_insert(scene.time);
        Ok(())
    }

    fn failure_sent(&mut self, scene: &Scene<'_>, sent: &Sent, message: &Message) -> Check {
        let (call, status) = (message.call_id(), message.status());
        let most = self.promises.failures();
        let attempts = &self.attempts;
        let upstream = self.upstreams.get_mut(message.branch(0));
        let upstream = upstream.expect("the one of the response");
        let by_itself = matches!(scene.cause, Cause::Due);
        if let Some(before) = &upstream.failure {
            if upstream.weak {
                return Ok(());
            }
            let same = before[..] == sent.bytes[..];
            let was = upstream.failure_status;
            ensure!(same, call, "{status} after another final response, {was}");
            if by_itself {
                upstream.failure_repeats += 1;
                let count = upstream.failure_repeats;
                ensure!(
                    upstream.acknowledged.is_none(),
                    call,
                    "{status} again after its ACK"
                );
                ensure!(upstream.is_invite(), call, "{status} again by itself");
                ensure!(count < most, call, "{status} more than {most} times");
                self.tally.add("failure again by Timer G");
            } else {
                self.tally.add("final again for a retransmission");
            }
            return Ok(());
        }
        upstream.failure = Some(sent.bytes.to_vec());
        upstream.failure_status = status;
        upstream.final_at.get_or_insert(scene.time);
        if upstream.weak {
            return Ok(());
        }
        let accepted = upstream.answers_passed > 0;
        ensure!(!accepted, call, "{status} after a 2xx");
        ensure!(status != 503, call, "503 passed on");
        let own = upstream.attempts.iter().map(|b| &attempts[b]);
        let ringing = own.clone().find(|each| each.rings());
        let ringing = ringing.map(|each| each.to);
        ensure!(ringing.is_none(), call, "{status} though {ringing:?} rings");
        let heard = &upstream.failures_heard;
        let declined = heard.iter().copied().find(|s| *s >= 600);
        if let Some(declined) = declined {
            ensure!(status == declined, call, "{status}, though {declined} came");
            self.tally.add("6xx passed");
        }
        let unreachable = own.clone().any(|each| each.undeliverable);
        let is_known = match status {
            _ if heard.contains(&status) => true,
            408 => upstream.is_invite(),
            487 => upstream.cancels > 0,
            500 => heard.contains(&503) || unreachable,
            _ => false,
        };
        ensure!(is_known, call, "{status} that nobody sent");
        self.tally.add(match status {
            408 => "408 of our own",
            487 if !heard.contains(&487) => "487 of our own",
            487 => "487 passed",
            500 => "500 for a 503",
            200..300 => "2xx passed, not to INVITE",
            _ => "failure passed",
        });
        Ok(())
    }
}

fn check_own_hundred(upstream: &mut Upstream, message: &Message) -> Check {
    let call = message.call_id();
    let is_own = message.header("To") == upstream.request.header("To");
    ensure!(is_own, call, "100 of a destination passed on");
    ensure!(upstream.is_invite(), call, "100 to {}", message.method());
    upstream.own_hundreds += 1;
    let (count, most) = (upstream.own_hundreds, upstream.copies);
    ensure!(count <= most, call, "{count} times 100 for {most} INVITEs");
    let (told, asked) = (
        message.header("Timestamp"),
        upstream.request.header("Timestamp"),
    );
    let copied = told == asked || told.starts_with(&format!("{asked} "));
    ensure!(copied, call, "Timestamp {told}, not {asked}");
    ensure!(
        upstream.final_at.is_none() || !upstream.is_strong(),
        call,
        "100 after the end"
    );
    Ok(())
}
