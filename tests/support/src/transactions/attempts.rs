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

/// Why an attempt is made that a failure rule has led to.
const BY_RULE: &str = "attempt by a rule";

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
            if reason == BY_RULE {
                upstream.rules += 1;
                let (rules, most) = (upstream.rules, promises.on_failure.len());
                ensure!(rules <= most, call, "{rules} attempts by {most} rules");
            }
            let is_first = upstream.attempts.is_empty();
            if is_first && branch.starts_with("z9hG4bKa") {
                self.tally.add("suspect avoided");
            }
            let uri = message.request_uri();
            let asked = upstream.request.request_uri();
            let fits = uri == asked || to_rule_set && uri == VOICEMAIL_URI;
            ensure!(fits, call, "Request-URI {uri} for {asked}");
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
    let by_rule = is_by_rule(output, sent);
    let to_rule_set = promises.sets[1].contains(&sent.to);
    let was_there = promises.sets[1].contains(&latest.to);
    ensure!(
        by_rule || !to_rule_set || was_there,
        call,
        "in a rule's set without its rule"
    );
    if to_rule_set && by_rule {
        let mut statuses = promises.on_failure.iter().flat_map(|rule| &rule.statuses);
        let heard = &upstream.failures_heard;
        let silent = |each: &&Attempt| {
            each.provisional.is_none() && scene.time - each.sends[0] >= promises.b
        };
        let nobody_came = earlier
            .iter()
            .any(|each| silent(each) || !each.cancels.is_empty());
        let nobody_there = earlier.iter().any(|each| each.undeliverable);
        let fits = statuses.any(|status| {
            heard.contains(status)
                || *status == 408 && nobody_came
                || *status == 503 && nobody_there
        });
        ensure!(fits, call, "a rule for what was not heard: {heard:?}");
        return Ok(BY_RULE);
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

/// Whether it is a failure rule that has led to what was sent: what is counted
/// next tells why.
fn is_by_rule(output: &Output, sent: &Sent) -> bool {
    let is_it = |act: &Act| matches!(act, Act::Send(each) if std::ptr::eq(each, sent));
    let behind = output.acts.iter().skip_while(|act| !is_it(act));
    let mut reasons = behind.filter_map(|act| match act {
        Act::Count(event @ (Event::RuleApplied | Event::FailedOver)) => Some(*event),
        _ => None,
    });
    reasons.next() == Some(Event::RuleApplied)
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
            failed: None,
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
