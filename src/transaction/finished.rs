//! What is told of a transaction whose final response is known.

use std::net::SocketAddr;

use super::table::MOST_ATTEMPTS;
use super::{Client, NEVER, Outbox, Since, Work};
use crate::sip::{StartLine, scan};

/// A transaction that has its final response. Times are those of
/// [`Around::now`](super::Around::now).
#[derive(Clone, Copy, Debug)]
pub struct Finished<'a> {
    /// The final response, as it came or as we wrote it; the request where its
    /// sender gets none.
    pub response: &'a [u8],
    /// The method of the request.
    pub method: &'a [u8],
    /// The Request-URI that the request came with.
    pub request_uri: &'a [u8],
    /// The value of its From.
    pub from: &'a [u8],
    /// That of its To.
    pub to: &'a [u8],
    /// Who sent the request.
    pub source: SocketAddr,
    /// The status of the response.
    pub status: u16,
    /// Whether the response is our own.
    pub local: bool,
    /// Whether the sender has cancelled it.
    pub cancelled: bool,
    /// When the request came.
    pub received: u64,
    /// When the first response from 101 to 199 came.
    pub rang: Option<u64>,
    /// When the final response came.
    pub ended: u64,
    /// The destinations in the order in which they were tried.
    pub tried: &'a [Tried],
}

/// What became of the request at one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Where it is.
    pub destination: SocketAddr,
    /// What became of it.
    pub outcome: Outcome,
    /// The status of its final response; 0: there was none.
    pub status: u16,
    /// When the request was first sent to it.
    pub start: u64,
    /// When that was known, or another destination took its place.
    pub end: u64,
}

/// What became of a request at a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A 2xx.
    Answered,
    /// Another final response.
    Failed,
    /// No response at all, or no final one, within the time.
    NoAnswer,
    /// An ICMP error, or the kernel refused to send.
    Unreachable,
    /// Cancelled by us, whether or not it has told so by 487.
    Cancelled,
}

impl Outcome {
    /// The name in accounting.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Failed => "failed",
            Self::NoAnswer => "no-answer",
            Self::Unreachable => "unreachable",
            Self::Cancelled => "cancelled",
        }
    }
}

impl<O: Outbox> Work<'_, O> {
    /// Tells of the end, where accounting is configured: with the final
    /// response, or with the request where there is none.
    pub(super) fn account(&mut self, at: u32, response: &[u8], status: u16, local: bool) {
        if self.proxy.stateful().accounting.is_none() {
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
        for (tried, attempt) in tried.iter_mut().zip(self.table.attempts_of(at)) {
            *tried = Tried {
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
                    self.now
                } else {
                    time(attempt.end)
                },
            };
        }
        let datagram = self.table.stored(record, self.head);
        let (source, request) = match self.proxy.unwrap_remembered(&datagram) {
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
        self.out.finished(&Finished {
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
            ended: self.now,
            tried: &tried[..self.table.attempts_of(at).count()],
        });
    }

    /// The same with the message that the working memory holds.
    pub(super) fn account_message(&mut self, at: u32, status: u16, local: bool) {
        let message = std::mem::take(self.message);
        self.account(at, &message, status, local);
        *self.message = message;
    }
}
