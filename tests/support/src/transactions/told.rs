//! What must hold of what a relay tells.

use std::net::SocketAddr;

use viaduct::transaction::{Lesson, Outcome};

use super::balancer::Told;
use super::message::Message;
use super::monitor::{Cause, Check, Monitor, Scene, ensure};

impl Monitor {
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
            let unheard = upstream.failures_heard.is_empty() || upstream.weak;
            let silent = !upstream.is_invite() && unheard && told.local;
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
        // Answered behind its failure, it is told of once more.
        let failed = upstream.is_invite() && upstream.failure.is_some();
        let behind = failed && (200..300).contains(&status);
        let count = match behind {
            true => &mut upstream.answered,
            false => &mut upstream.finished,
        };
        *count += 1;
        let count = *count;
        if upstream.weak {
            return Ok(());
        }
        ensure!(count == 1, call, "finished {count} times");
        ensure!(told.source == upstream.source, call, "finished: source");
        let (received, ended) = (told.received - self.epoch, told.ended - self.epoch);
        let begun = upstream.begun.unwrap_or(0);
        ensure!(received == begun, call, "received at {received}: {begun}");
        ensure!(ended == scene.time, call, "finished at {ended}");
        let cancelled = upstream.cancels > 0;
        let said = told.cancelled;
        // What came behind the failure has cancelled nothing.
        let fits = cancelled == said || behind;
        ensure!(fits, call, "finished: cancelled is {said}");
        let rang = told.rang.map(|at| at - self.epoch);
        ensure!(rang == upstream.rang, call, "finished: rang at {rang:?}");
        let passed = upstream.failures_heard.contains(&status) || upstream.answers_heard > 0;
        ensure!(
            !told.local || !passed || status == 500 || status == 408 || status == 487,
            call,
            "finished: {status} is not our own"
        );
        let accepted = (200..300).contains(&status);
        let heard =
            upstream.failures_heard.contains(&status) || accepted && upstream.answers_heard > 0;
        ensure!(told.local || heard, call, "finished: {status} is our own");
        let tried: Vec<_> = told.tried.iter().map(|each| each.destination).collect();
        let to = |branch: &String| self.attempts[branch].to;
        let sent: Vec<_> = upstream.attempts.iter().map(to).collect();
        ensure!(
            tried == sent,
            call,
            "finished: tried {tried:?}, not {sent:?}"
        );
        let answered = told.tried.iter().any(|t| t.outcome == Outcome::Answered);
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
                Outcome::Cancelled => each.status == 0 || each.status >= 300,
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
        }
        Ok(())
    }
}
