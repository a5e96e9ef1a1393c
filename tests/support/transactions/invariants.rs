//! What must hold of each datagram that the balancer sends, and of what it
//! tells.

use std::net::SocketAddr;

use viaduct::proxy::Decision;
use viaduct::transaction::{Lesson, Outcome, Received};

use super::balancer::{Act, Output, Sent, Told};
use super::message::Message;
use super::monitor::{
    Attempt, Cause, Check, Monitor, Promises, Scene, Upstream, Violation, ensure,
};
use super::plan::VOICEMAIL_URI;

/// Attempts of one transaction at most.
const MOST_ATTEMPTS: usize = 8;

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

    /// Whether the response that came is one to an attempt whose Timer B or F
    /// has not run out: it may ring, and somebody must know.
    fn is_awaited(&self, scene: &Scene<'_>) -> bool {
        let Cause::Datagram { message, .. } = scene.cause else {
            return false;
        };
        let attempt = self.attempts.get(message.branch(0));
        attempt.is_some_and(|each| scene.time - each.sends[0] < self.promises.b)
    }

    /// A new attempt, or one that is sent again.
    fn request_sent(
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

    fn ack_sent(&mut self, scene: &Scene<'_>, sent: &Sent, ack: &Message) -> Check {
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

    fn cancel_sent(&mut self, scene: &Scene<'_>, sent: &Sent, cancel: &Message) -> Check {
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
        } else {
            ensure!(upstream.weak.is_some(), call, "CANCEL without a reason");
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

    fn response_sent(&mut self, scene: &Scene<'_>, sent: &Sent, message: &Message) -> Check {
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
            if upstream.weak.is_some() {
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
        if upstream.weak.is_some() {
            return Ok(());
        }
        let accepted = upstream.answers_passed > 0;
        ensure!(!accepted, call, "{status} after a 2xx");
        ensure!(status != 503, call, "503 passed on");
        let heard = &upstream.failures_heard;
        let declined = heard.iter().copied().find(|s| *s >= 600);
        if let Some(declined) = declined {
            ensure!(status == declined, call, "{status}, though {declined} came");
            self.tally.add("6xx passed");
        }
        let mut own = upstream.attempts.iter().map(|b| &attempts[b]);
        let unreachable = own.any(|each| each.undeliverable);
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

    pub(super) fn finished(&mut self, scene: &Scene<'_>, told: &Told) -> Check {
        let Some(message) = Message::read(&told.response) else {
            ensure!(false, "", "finished without a message");
            return Ok(());
        };
        let call = message.call_id();
        // As it came, as it leaves, or the request where nobody answered.
        let keys = [message.branch(0), message.branch(1)];
        let known = keys.iter().find(|key| self.upstreams.contains_key(**key));
        let Some(upstream) = known.and_then(|key| self.upstreams.get_mut(*key)) else {
            ensure!(false, call, "something unknown finished");
            return Ok(());
        };
        let status = told.status;
        if message.is_request() {
            let silent = !upstream.is_invite() && upstream.failures_heard.is_empty();
            ensure!(
                silent && status == 408,
                call,
                "finished unanswered: {status}"
            );
            upstream.given_up += 1;
            return Ok(());
        }
        let said = message.status();
        ensure!(said == status, call, "finished with {status}, sent {said}");
        upstream.finished += 1;
        if upstream.weak.is_some() {
            return Ok(());
        }
        let count = upstream.finished;
        ensure!(count == 1, call, "finished {count} times");
        ensure!(told.source == upstream.source, call, "finished: source");
        let (received, ended) = (told.received - self.epoch, told.ended - self.epoch);
        let begun = upstream.begun.unwrap_or(0);
        ensure!(received == begun, call, "received at {received}: {begun}");
        ensure!(ended == scene.time, call, "finished at {ended}");
        let cancelled = upstream.cancels > 0;
        let said = told.cancelled;
        ensure!(cancelled == said, call, "finished: cancelled is {said}");
        let rang = told.rang.map(|at| at - self.epoch);
        ensure!(rang == upstream.rang, call, "finished: rang at {rang:?}");
        let passed = upstream.failures_heard.contains(&status) || upstream.answers_heard > 0;
        ensure!(
            !told.local || !passed || status == 500 || status == 408 || status == 487,
            call,
            "finished: {status} is not our own"
        );
        let tried: Vec<_> = told.tried.iter().map(|each| each.destination).collect();
        let to = |branch: &String| self.attempts[branch].to;
        let sent: Vec<_> = upstream.attempts.iter().map(to).collect();
        ensure!(
            tried == sent,
            call,
            "finished: tried {tried:?}, not {sent:?}"
        );
        let answered = told.tried.iter().any(|t| t.outcome == Outcome::Answered);
        let accepted = (200..300).contains(&status);
        ensure!(
            answered == accepted,
            call,
            "finished: the outcomes of {status}"
        );
        for each in &told.tried {
            let outcome = each.outcome;
            let fits = match outcome {
                Outcome::Answered => (200..300).contains(&each.status),
                Outcome::Failed => each.status >= 300,
                Outcome::NoAnswer | Outcome::Unreachable => each.status == 0,
                Outcome::Cancelled => each.status == 0 || each.status == 487,
            };
            ensure!(fits, call, "finished: {outcome:?} with {}", each.status);
            let ordered = told.received <= each.start && each.start <= each.end;
            ensure!(ordered, call, "finished: the times of an attempt");
        }
        self.tally.add("finished");
        Ok(())
    }

    pub(super) fn learnt(&mut self, scene: &Scene<'_>, of: SocketAddr, lesson: Lesson) -> Check {
        let is_member = self.promises.sets.iter().flatten().any(|each| *each == of);
        ensure!(is_member, "", "learnt of {of}, which is in no set");
        match lesson {
            Lesson::Busy(_) => self.tally.add("learnt: busy"),
            Lesson::Unreachable => {
                let by_icmp = matches!(scene.cause, Cause::Undeliverable(_));
                ensure!(by_icmp, "", "{of} unreachable by itself");
                self.tally.add("learnt: unreachable");
            }
            Lesson::Silent => self.tally.add("learnt: silent"),
            Lesson::Answers => self.tally.add("learnt: answers"),
        }
        Ok(())
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
    ensure!(
        !attempt.undeliverable,
        call,
        "{method} again, undeliverable"
    );
    // An INVITE must be heard of before it can be cancelled.
    let over = upstream.final_at.is_some() && !upstream.is_invite();
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
    let Some(latest) = earlier.last() else {
        return Ok("first attempt");
    };
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
    let was_in_rule_set = promises.sets[1].contains(&latest.to);
    if promises.sets[1].contains(&sent.to) && !was_in_rule_set {
        let told = output
            .acts
            .iter()
            .any(|act| matches!(act, Act::Count(viaduct::transaction::Event::RuleApplied)));
        ensure!(told, call, "in a rule's set without its rule");
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
    ensure!(method != "MESSAGE", call, "MESSAGE tried again in silence");
    ensure!(method != "BYE", call, "BYE tried again in silence");
    Ok("failover: silence")
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

impl Attempt {
    fn new(scene: &Scene<'_>, sent: &Sent, message: &Message) -> Self {
        Self {
            upstream: message.branch(1).to_owned(),
            to: sent.to,
            request: message.clone(),
            bytes: sent.bytes.to_vec(),
            by_relay: sent.by_relay,
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
