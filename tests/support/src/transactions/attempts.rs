//! What must hold of a request that leaves in a transaction: another attempt,
//! or one once more.

use viaduct::transaction::Event;

use super::balancer::{Act, Output, Sent};
use super::message::Message;
use super::monitor::{
    Attempt, Cause, Check, Monitor, Promises, Scene, Upstream, Violation, ensure,
};
use super::plan::VOICEMAIL_URI;

/// Attempts of one transaction at most.
const MOST_ATTEMPTS: usize = 8;

impl Monitor {
    /// A new attempt, or one that is sent again.
    pub(super) fn request_sent(
        &mut self,
        scene: &Scene<'_>,
        output: &Output,
        sent: &Sent,
        message: &Message,
    ) -> Check {
        let (call, method) = (message.call_id(), message.method());
        let (branch, key) = (message.branch(0), message.branch(1));
        let promises = &self.promises;
        let Some(upstream) = self.upstreams.get_mut(key) else {
            ensure!(false, call, "a request that nobody sent: {}", message.start);
            return Ok(());
        };
        if let Some(attempt) = self.attempts.get_mut(branch) {
            if upstream.is_strong() {
                check_repetition(upstream, attempt, sent, message)?;
                let most = promises.sends(method);
                let count = attempt.sends.len() as u64;
                ensure!(count < most, call, "{method} sent more than {most} times");
                let gap = scene.time - attempt.sends.last().copied().unwrap_or(0);
                ensure!(gap >= promises.t1, call, "{method} again after {gap} ms");
            }
            // Begun anew, it may have another destination.
            attempt.to = sent.to;
            attempt.sends.push(scene.time);
            if sent.attempt.is_some() {
                attempt.id = sent.attempt;
            }
            self.tally.add("request again");
            return Ok(());
        }
        let to_rule_set = promises.sets[1].contains(&sent.to);
        let selected = upstream.request.to_tag().is_empty();
        if upstream.is_strong() {
            let reason = {
                let earlier = |branch: &String| &self.attempts[branch];
                let earlier: Vec<_> = upstream.attempts.iter().map(earlier).collect();
                check_new_attempt(scene, promises, upstream, &earlier, sent, output)?
            };
            self.tally.add(reason);
            let is_first = upstream.attempts.is_empty();
            if is_first && branch.starts_with("z9hG4bKa") {
                self.tally.add("suspect avoided");
            }
            let uri = message.request_uri();
            let asked = upstream.request.request_uri();
            let fits = uri == asked || to_rule_set && uri == VOICEMAIL_URI;
            ensure!(fits, call, "Request-URI {uri} for {asked}");
            if to_rule_set && upstream.rules == 0 {
                upstream.rules += 1;
            }
            let known = promises.sets.iter().any(|set| set.contains(&sent.to));
            ensure!(known || !selected, call, "to {}, in no set", sent.to);
            let begun = upstream.begun == Some(scene.time);
            ensure!(
                !upstream.attempts.is_empty() || begun,
                call,
                "no attempt at once"
            );
        }
        upstream.attempts.push(branch.to_owned());
        let attempt = Attempt::new(scene, sent, message);
        self.attempts.insert(branch.to_owned(), attempt);
        Ok(())
    }
}

/// An attempt is sent again as it was, and only to one that says nothing.
fn check_repetition(
    upstream: &Upstream,
    attempt: &Attempt,
    sent: &Sent,
    message: &Message,
) -> Check {
    let (call, method) = (message.call_id(), message.method());
    ensure!(sent.to == attempt.to, call, "{method} again to another");
    let same = attempt.bytes[..] == sent.bytes[..];
    ensure!(same, call, "{method} again with other octets");
    let over = attempt.failure.is_some() || attempt.answered;
    ensure!(!over, call, "{method} again after a final response");
    let invited = upstream.is_invite() && attempt.provisional.is_some();
    ensure!(!invited, call, "INVITE again after a provisional response");
    let lost = attempt.undeliverable && attempt.provisional.is_none();
    ensure!(!lost, call, "{method} again, undeliverable");
    let over = match upstream.is_invite() {
        // It must be heard of before it can be cancelled.
        true => upstream.answers_passed > 0,
        false => upstream.final_at.is_some(),
    };
    ensure!(!over, call, "{method} again after the end");
    Ok(())
}

/// Whether another destination may be tried, and why.
fn check_new_attempt(
    scene: &Scene<'_>,
    promises: &Promises,
    upstream: &Upstream,
    earlier: &[&Attempt],
    sent: &Sent,
    output: &Output,
) -> Result<&'static str, Violation> {
    let (call, method) = (upstream.request.call_id(), upstream.request.method());
    // The one that has failed now, for an earlier one may have the call again.
    let failed = earlier.iter().find(|each| match scene.cause {
        Cause::Datagram { message, .. } => each.request.branch(0) == message.branch(0),
        Cause::Undeliverable(id) => each.id == Some(id),
        Cause::Due => false,
    });
    let Some(latest) = failed.or_else(|| earlier.last()) else {
        return Ok("first attempt");
    };
    let ringing = earlier.iter().find(|each| each.rings());
    let ringing = ringing.map(|each| each.to);
    ensure!(ringing.is_none(), call, "another though {ringing:?} rings");
    let count = earlier.len();
    ensure!(count < MOST_ATTEMPTS, call, "more than {count} attempts");
    ensure!(
        upstream.final_at.is_none(),
        call,
        "an attempt after the end"
    );
    ensure!(upstream.cancels == 0, call, "an attempt after CANCEL");
    ensure!(upstream.answers_heard == 0, call, "an attempt after a 2xx");
    let declined = upstream.failures_heard.iter().any(|s| *s >= 600);
    ensure!(!declined, call, "an attempt after a 6xx");
    let in_dialog = !upstream.request.to_tag().is_empty();
    ensure!(!in_dialog, call, "another attempt within a dialog");
    let twice = earlier.iter().any(|each| each.to == sent.to);
    ensure!(!twice, call, "{} tried twice", sent.to);
    let age = scene.time - latest.sends[0];
    let by_rule = output
        .acts
        .iter()
        .any(|act| matches!(act, Act::Count(Event::RuleApplied)));
    let to_rule_set = promises.sets[1].contains(&sent.to);
    let was_there = promises.sets[1].contains(&latest.to);
    ensure!(
        by_rule || !to_rule_set || was_there,
        call,
        "in a rule's set without its rule"
    );
    if to_rule_set && by_rule {
        let statuses = promises.on_failure.iter().flat_map(|rule| &rule.statuses);
        let heard = &upstream.failures_heard;
        let fits = statuses.copied().any(|status| match status {
            408 | 500 | 503 => true,
            _ => heard.contains(&status),
        });
        ensure!(fits, call, "a rule for what was not heard: {heard:?}");
        return Ok("attempt by a rule");
    }
    if latest.undeliverable {
        return Ok("failover: unreachable");
    }
    if let Some(status) = latest.failure {
        let fits = promises.failover_status.contains(&status);
        ensure!(fits, call, "another attempt after {status}");
        return Ok("failover: status");
    }
    let heard = latest.provisional.is_some();
    ensure!(!heard, call, "another attempt though this one rings");
    let after = promises.failover_after;
    ensure!(age >= after, call, "given up after {age} ms");
    let missed = scene.lost_at.is_some_and(|lost| scene.time < lost + after);
    ensure!(
        !missed || latest.sends.len() > 3,
        call,
        "given up though it may have answered"
    );
    ensure!(method != "MESSAGE", call, "MESSAGE tried again in silence");
    ensure!(method != "BYE", call, "BYE tried again in silence");
    Ok("failover: silence")
}

impl Attempt {
    pub(super) fn new(scene: &Scene<'_>, sent: &Sent, message: &Message) -> Self {
        Self {
            upstream: message.branch(1).to_owned(),
            to: sent.to,
            request: message.clone(),
            bytes: sent.bytes.to_vec(),
            id: sent.attempt,
            worker: scene.worker,
            sends: vec![scene.time],
            provisional: None,
            ringing: None,
            last_ringing: None,
            failure: None,
            answered: false,
            finals_heard: 0,
            acks: 0,
            undeliverable: false,
            cancels: Vec::new(),
            cancel_answered: false,
            heard_too_late: false,
        }
    }
}
