//! What is kept of a request, and how it is found again: for retransmissions
//! and CANCELs the whole, for ACKs to failures the head of each attempt.

use super::{Around, Client, Outbox, Relay};
use crate::proxy::{Forward, Proxy};

impl Relay {
    /// Finds Request-URI and Route rows of an attempt, and keeps them where
    /// there is room. False where nobody knows them any more.
    pub(super) fn find_head<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        place: u32,
    ) -> bool {
        let head = self.table.attempts[place].head;
        if !head.is_empty() {
            self.table.cells.load(head, &mut self.head);
            return true;
        }
        let Some(forward) = self.decide_attempt(around, at, place) else {
            return false;
        };
        self.keep_head(around, place, &forward);
        true
    }

    /// Keeps, where there is room, Request-URI and Route rows of the request
    /// that the space holds.
    pub(super) fn keep_head<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        place: u32,
        forward: &Forward,
    ) {
        self.head.clear();
        for part in Proxy::head(&around.out.space()[..forward.length]) {
            self.head.extend_from_slice(part);
        }
        self.table.attempts[place].head = self.table.cells.keep(&self.head).unwrap_or_default();
    }

    /// Fills the working memory with the request, without what a front balancer
    /// has put before it.
    pub(super) fn recall<O: Outbox>(&mut self, around: &Around<'_, O>, at: u32) {
        let stored = (self.table).stored(&self.table.records[at], &mut self.message);
        let whole = stored.bytes.len();
        let unwrapped = around.proxy.unwrap_remembered(&stored);
        let length = unwrapped.map_or(whole, |(request, _)| request.bytes.len());
        self.message.drain(..whole - length);
    }

    /// Drops the request; of an INVITE only the heads of attempts that may
    /// still fail are left.
    pub(super) fn drop_request<O: Outbox>(&mut self, around: &mut Around<'_, O>, at: u32) {
        let mut unkept = None;
        let invite = self.table.records[at].facts.invite;
        for place in self.table.places(at).filter(|_| invite) {
            let attempt = &self.table.attempts[place];
            let wanted = attempt.client != Client::Answered && attempt.head.is_empty();
            if wanted && self.find_head(around, at, place) {
                let kept = !self.table.attempts[place].head.is_empty();
                unkept = (!kept).then_some(place);
            }
        }
        self.table.cells.free(&mut self.table.records[at].request);
        // The last one has room now.
        if let Some(place) = unkept {
            self.table.attempts[place].head = self.table.cells.keep(&self.head).unwrap_or_default();
        }
    }
}
