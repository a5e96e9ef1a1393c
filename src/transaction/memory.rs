//! What is kept of a request, and how it is found again: for retransmissions
//! and CANCELs the whole, for ACKs to failures the head of each attempt.

use super::slab::NONE;
use super::table::MOST_ATTEMPTS;
use super::{Client, Outbox, Table, Work};
use crate::proxy::{Datagram, Forward, Proxy};
use crate::sip::MAX_DATAGRAM;

impl<O: Outbox> Work<'_, O> {
    /// Finds Request-URI and Route rows of an attempt, and keeps them where
    /// there is room. False where nobody knows them any more.
    pub(super) fn find_head(&mut self, at: u32, place: u32) -> bool {
        let head = self.table.attempts[place].head;
        if !head.is_empty() {
            self.table.cells.load(head, self.head);
            return true;
        }
        let Some(forward) = self.decide_attempt(at, place) else {
            return false;
        };
        self.keep_head(place, &forward);
        true
    }

    /// Keeps, where there is room, Request-URI and Route rows of the request
    /// that the space holds.
    pub(super) fn keep_head(&mut self, place: u32, forward: &Forward) {
        self.head.clear();
        for part in Proxy::head(&self.out.space()[..forward.length]) {
            self.head.extend_from_slice(part);
        }
        self.table.attempts[place].head = self.table.cells.keep(self.head).unwrap_or_default();
    }

    /// Fills the working memory with the request, without what a front balancer
    /// has put before it.
    pub(super) fn recall(&mut self, at: u32) {
        let stored = self.table.stored(&self.table.records[at], self.message);
        let whole = stored.bytes.len();
        let unwrapped = self.proxy.unwrap_remembered(&stored);
        let length = unwrapped.map_or(whole, |(request, _)| request.bytes.len());
        self.message.drain(..whole - length);
    }

    /// Keeps why the sender has cancelled its request (RFC 3326), where it says
    /// so in few words and there is room.
    pub(super) fn keep_reason(&mut self, at: u32, cancel: &Datagram<'_>) {
        let Ok((cancel, _)) = self.proxy.unwrap_remembered(cancel) else {
            return;
        };
        let reasons = || Proxy::rows_of(cancel.bytes, b"Reason");
        let length: usize = reasons().map(<[u8]>::len).sum();
        let Ok(length @ 1..) = u8::try_from(length) else {
            return;
        };
        let Table { records, cells, .. } = self.table;
        let record = &mut records[at];
        if record.request.is_empty() || record.reason_length > 0 {
            return;
        }
        cells.load(record.request, self.message);
        if self.message.len() + usize::from(length) > MAX_DATAGRAM {
            return;
        }
        reasons().for_each(|row| self.message.extend_from_slice(row));
        if let Some(kept) = cells.keep(self.message) {
            cells.free(&mut record.request);
            record.request = kept;
            record.reason_length = length;
        }
    }

    /// Puts why it was cancelled behind the head that was found.
    pub(super) fn add_reason(&mut self, at: u32) {
        let record = &self.table.records[at];
        self.table.cells.load(record.request, self.message);
        let from = self.message.len() - usize::from(record.reason_length);
        self.head.extend_from_slice(&self.message[from..]);
    }

    /// Drops the request; of an INVITE only the heads of attempts that may
    /// still fail are left.
    pub(super) fn drop_request(&mut self, at: u32) {
        let (mut unkept, mut count) = ([(NONE, 0); MOST_ATTEMPTS], 0);
        self.heads.clear();
        let invite = self.table.records[at].facts.invite;
        for place in self.table.places(at) {
            let attempt = &self.table.attempts[place];
            let wanted = invite && attempt.client != Client::Answered && attempt.head.is_empty();
            if wanted
                && self.find_head(at, place)
                && self.table.attempts[place].head.is_empty()
                && self.heads.len() + self.head.len() <= MAX_DATAGRAM
            {
                self.heads.extend_from_slice(self.head);
                unkept[count] = (place, self.heads.len());
                count += 1;
            }
        }
        let record = &mut self.table.records[at];
        record.reason_length = 0;
        self.table.cells.free(&mut record.request);
        // They have room now.
        let mut start = 0;
        for &(place, end) in &unkept[..count] {
            let kept = self.table.cells.keep(&self.heads[start..end]);
            start = end;
            self.table.attempts[place].head = kept.unwrap_or_default();
        }
    }
}
