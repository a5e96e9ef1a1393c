//! What must hold while nothing happens, and when all has come to rest.

use super::caller::Caller;
use super::destination::{Call, Condition, Destination, State};
use super::monitor::{Attempt, Check, Monitor, Upstream, ensure};

impl Monitor {
    /// Whether a worker remembers no more than it can have reason to.
    pub fn remembers(&self, worker: usize, count: usize, time: u64) -> Check {
        let share = self.promises.share;
        ensure!(count <= share, "", "{count} transactions, not {share}");
        let alive = self.upstreams.values().filter(|each| {
            each.worker == worker && each.begun.is_some() && time <= self.end_of(each)
        });
        let alive = alive.count();
        ensure!(
            count <= alive,
            "",
            "worker {worker} remembers {count} transactions, of which {alive} can be alive"
        );
        Ok(())
    }

    /// When a transaction is certainly forgotten if nothing more comes.
    fn end_of(&self, upstream: &Upstream) -> u64 {
        let promises = &self.promises;
        let begun = upstream.begun.unwrap_or(0);
        let attempts = upstream.attempts.iter().map(|b| &self.attempts[b]);
        let last_sent = attempts.filter_map(|each| each.sends.first()).max();
        let quiet = upstream
            .last_heard
            .max(begun)
            .max(last_sent.copied().unwrap_or(0));
        let lingering = promises.linger.max(promises.b).max(promises.f);
        // Attempts still wait for their own end, or for that of a CANCEL.
        let rest = 2 * lingering;
        let unanswered = match upstream.is_invite() {
            true => quiet + promises.c,
            false => quiet,
        };
        match upstream.final_at {
            Some(at) if upstream.is_strong() => at.max(quiet) + rest,
            // It was forgotten, and may have begun anew by a copy that came late.
            Some(at) => at.max(unanswered) + rest,
            None => unanswered + rest,
        }
    }

    /// Nothing will ever happen any more.
    pub fn at_rest(
        &mut self,
        callers: &[Caller],
        destinations: &[Destination],
        calm: bool,
    ) -> Check {
        for upstream in self.upstreams.values() {
            self.transaction_ended(upstream, callers)?;
        }
        for destination in destinations {
            if let Some((call, said)) = &destination.complaint {
                // What is forgotten passes statelessly, and its ACK follows the
                // first attempt.
                let its = |each: &&Upstream| each.request.call_id() == call;
                let late = |b: &String| self.attempts[b].heard_too_late;
                let mut known = self.upstreams.values().filter(its);
                let weak = known.any(|u| !u.is_strong() || u.attempts.iter().any(late));
                ensure!(weak, call, "{} got {said}", destination.name);
            }
            for call in &destination.calls {
                if let Some(excuse) = self.ringing_ended(destination, call)? {
                    self.tally.add(excuse);
                }
                if calm && destination.crashes == 0 {
                    self.acknowledged_in_calm(destination, call, callers)?;
                }
            }
        }
        if calm {
            for caller in callers {
                self.served_in_calm(caller, destinations)?;
            }
        }
        Ok(())
    }

    fn transaction_ended(&self, upstream: &Upstream, callers: &[Caller]) -> Check {
        if !upstream.is_strong() {
            return Ok(());
        }
        let call = upstream.request.call_id();
        let ended = upstream.final_at.is_some();
        let must = upstream.is_invite();
        ensure!(ended || !must, call, "an INVITE without a final response");
        let (finished, due) = (upstream.finished, u64::from(ended));
        ensure!(
            finished == due,
            call,
            "finished {finished} times, not {due}"
        );
        let failed = upstream.is_invite() && upstream.failure.is_some();
        let caller = callers.iter().find(|each| each.call_id == call);
        let is_dead = caller.is_some_and(|each| each.dead);
        // What there is no room for leaves once.
        let kept = !self.promises.is_scarce();
        if failed && is_dead && kept && upstream.acknowledged.is_none() {
            let (count, due) = (1 + upstream.failure_repeats, self.promises.failures());
            ensure!(
                count == due,
                call,
                "a failure sent {count} times, not {due}"
            );
        }
        let Some(last) = upstream.attempts.last().map(|b| &self.attempts[b]) else {
            ensure!(false, call, "no attempt");
            return Ok(());
        };
        let (silent, waited) = (self.is_silent(last), self.waited_out(upstream, last));
        let mut attempts = upstream.attempts.iter().map(|b| &self.attempts[b]);
        let other_spoke = attempts.any(|each| each.provisional.is_some());
        if silent && waited && !other_spoke {
            let method = upstream.request.method();
            let (count, due) = (last.sends.len() as u64, self.promises.sends(method));
            ensure!(count == due, call, "{method} sent {count} times, not {due}");
        }
        Ok(())
    }

    fn is_silent(&self, attempt: &Attempt) -> bool {
        let heard = attempt.provisional.is_some() || attempt.finals_heard > 0;
        !heard && !attempt.undeliverable
    }

    /// Whether the transaction went on until an attempt's time was over.
    fn waited_out(&self, upstream: &Upstream, attempt: &Attempt) -> bool {
        let time = match upstream.is_invite() {
            true => self.promises.b,
            false => self.promises.f,
        };
        let end = upstream.final_at.unwrap_or(u64::MAX);
        end >= attempt.sends[0] + time
    }

    /// No call rings that nobody will cancel; why one may.
    fn ringing_ended(
        &self,
        destination: &Destination,
        call: &Call,
    ) -> Result<Option<&'static str>, super::monitor::Violation> {
        if call.state != State::Proceeding || !call.provisional_sent {
            return Ok(None);
        }
        let id = call.request.call_id();
        let Some(attempt) = self.attempts.get(call.request.branch(0)) else {
            // Not by the balancer: within a dialog, all is answered at once.
            ensure!(false, id, "{} rings by itself", destination.name);
            return Ok(None);
        };
        let upstream = &self.upstreams[&attempt.upstream];
        if !upstream.is_strong() {
            return Ok(Some("rings for ever, statelessly"));
        }
        if attempt.heard_too_late {
            return Ok(Some("rings for ever, heard when all was over"));
        }
        let Some(heard) = attempt.provisional else {
            return Ok(Some("rings for ever, never heard"));
        };
        if heard >= attempt.sends[0] + self.promises.b {
            return Ok(Some("rings for ever, heard after Timer B"));
        }
        if destination.crashes > 0 && attempt.finals_heard > 0 {
            return Ok(Some("rings for ever, asked by a late copy after a crash"));
        }
        if attempt.cancel_answered {
            let crashed = destination.crashes > 0;
            ensure!(crashed, id, "{} rings in spite of CANCEL", destination.name);
            return Ok(Some("rings for ever, cancelled before a crash"));
        }
        let (count, due) = (attempt.cancels.len() as u64, self.promises.sends("CANCEL"));
        ensure!(
            count == due,
            id,
            "{} rings and nobody will cancel it: CANCEL sent {count} times, not {due}",
            destination.name
        );
        Ok(Some("rings for ever, all CANCELs lost"))
    }

    /// Without losses every response of a server transaction is acknowledged.
    fn acknowledged_in_calm(
        &self,
        destination: &Destination,
        call: &Call,
        callers: &[Caller],
    ) -> Check {
        let id = call.request.call_id();
        let attempt = self.attempts.get(call.request.branch(0));
        let caller = callers.iter().find(|each| each.call_id == id);
        if destination.condition != Condition::Up || caller.is_none_or(|each| each.dead) {
            return Ok(());
        }
        let name = &destination.name;
        if let Some(attempt) = attempt {
            let upstream = &self.upstreams[&attempt.upstream];
            if !upstream.is_strong() || attempt.heard_too_late {
                return Ok(());
            }
        }
        // It may have been away when its ACK came.
        if destination.troubled.is_some() {
            return Ok(());
        }
        let lost = call.state == State::GivenUp;
        ensure!(!lost, id, "{name} got no ACK for its failure");
        let lost = call.answers.iter().any(|answer| answer.given_up);
        ensure!(!lost, id, "{name} got no ACK for its 2xx");
        Ok(())
    }

    /// Without losses a dead destination costs no call.
    fn served_in_calm(&mut self, caller: &Caller, destinations: &[Destination]) -> Check {
        let call = &caller.call_id;
        if caller.dead {
            return Ok(());
        }
        let (branch, finals) = match caller.errand.method {
            "INVITE" => {
                let Some(invite) = caller.invites.first() else {
                    return Ok(());
                };
                (invite.request.branch(0), invite.finals.clone())
            }
            _ => {
                let Some(other) = caller.others.first() else {
                    return Ok(());
                };
                (other.request.branch(0), other.outcome.into_iter().collect())
            }
        };
        let Some(upstream) = self.upstreams.get(branch) else {
            ensure!(false, call, "a request that never came");
            return Ok(());
        };
        if !upstream.is_strong() || self.promises.is_scarce() {
            return Ok(());
        }
        let members = destinations.iter();
        let mut members = members.filter(|each| self.promises.sets[0].contains(&each.address));
        let is_healthy = members.any(|each| each.troubled.is_none() && !each.is_slow());
        let attempts: Vec<_> = upstream
            .attempts
            .iter()
            .map(|b| &self.attempts[b])
            .collect();
        // It had the call, and fell ill with it; or it rang, and nobody came.
        let had_it = |each: &&Attempt| {
            let ended = each.failure.is_some() && each.cancels.is_empty();
            each.provisional.is_some() && !ended
        };
        if !is_healthy || attempts.iter().any(had_it) {
            return Ok(());
        }
        // Nothing but a response moves what is delivered once at most.
        let stays = !matches!(caller.errand.method, "INVITE" | "REGISTER" | "OPTIONS");
        let fit = |each: &&Destination| each.troubled.is_none() && !each.is_slow();
        let has_fit = |attempt: &&Attempt| {
            let mut fit = destinations.iter().filter(fit);
            fit.any(|each| each.address == attempt.to)
        };
        if stays && !attempts.iter().all(has_fit) {
            return Ok(());
        }
        let Some(last) = finals.first() else {
            ensure!(false, call, "a healthy destination, and no final response");
            return Ok(());
        };
        let declined = upstream.failures_heard.contains(last) && *last != 503;
        let cancelled = upstream.cancels > 0 && *last == 487;
        ensure!(
            *last < 300 || declined || cancelled,
            call,
            "a healthy destination, and yet {last}"
        );
        self.tally.add("served in spite of all");
        Ok(())
    }
}
