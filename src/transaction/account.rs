//! What is told of a transaction at its end.

use std::net::SocketAddr;

use super::table::MOST_ATTEMPTS;
use super::{Around, Client, Finished, NEVER, Outbox, Outcome, Relay, Since, Tried};
use crate::sip::{StartLine, scan};

impl Relay {
    /// Tells of the end, where accounting is configured: with the final
    /// response, or with the request where there is none.
    pub(super) fn account<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        response: &[u8],
        status: u16,
        local: bool,
    ) {
        if around.proxy.stateful().accounting.is_none() {
            return;
        }
        let record = &self.table.records[at];
        let time = |since: Since| record.received + u64::from(since);
        let nobody = Tried {
            destination: SocketAddr::from(([0, 0, 0, 0], 0)),
            outcome: Outcome::NoAnswer,
            status: 0,
            start: 0,
            end: 0,
        };
        let mut tried = [nobody; MOST_ATTEMPTS];
        let mut count = 0;
        for (place, attempt) in tried.iter_mut().zip(self.table.attempts(at)) {
            let attempt = &self.table.attempts[attempt];
            *place = Tried {
                destination: attempt.to.into(),
                outcome: match attempt.client {
                    Client::Answered => Outcome::Answered,
                    Client::Unreachable => Outcome::Unreachable,
                    _ if attempt.cancel.is_sent() => Outcome::Cancelled,
                    Client::Failed => Outcome::Failed,
                    Client::Cancelled => Outcome::Cancelled,
                    Client::NoAnswer | Client::Calling | Client::Proceeding => Outcome::NoAnswer,
                },
                status: attempt.status,
                start: time(attempt.start),
                end: if attempt.end == NEVER {
                    around.now
                } else {
                    time(attempt.end)
                },
            };
            count += 1;
        }
        let datagram = self.table.stored(record, &mut self.head);
        let (source, request) = match around.proxy.unwrap_remembered(&datagram) {
            Ok((unwrapped, _)) => (unwrapped.source, unwrapped.bytes),
            Err(_) => (datagram.source, datagram.bytes),
        };
        let line = scan(request).ok().and_then(|message| match message.start {
            StartLine::Request { method, uri } => {
                let parts = [method, uri, message.from.value, message.to.value];
                Some(parts.map(|part| part.of(message.bytes)))
            }
            StartLine::Response { .. } => None,
        });
        let [method, request_uri, from, to] = line.unwrap_or_default();
        around.out.finished(&Finished {
            response,
            method,
            request_uri,
            from,
            to,
            source,
            status,
            local,
            cancelled: record.facts.cancelled,
            received: record.received,
            rang: (record.rang != NEVER).then(|| time(record.rang)),
            ended: around.now,
            tried: &tried[..count],
        });
    }

    /// The same with the message that the working memory holds.
    pub(super) fn account_message<O: Outbox>(
        &mut self,
        around: &mut Around<'_, O>,
        at: u32,
        status: u16,
        local: bool,
    ) {
        let message = std::mem::take(&mut self.message);
        self.account(around, at, &message, status, local);
        self.message = message;
    }
}
