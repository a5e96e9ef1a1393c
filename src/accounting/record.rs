//! What is kept of a transaction until its line is made.

use std::net::SocketAddr;

use crate::transaction::{Finished, Tried};

/// A copy of what [`Finished`] tells, as far as a line has it.
pub(super) struct Record {
    /// The Request-URI, the values of From and To, and the head of the final
    /// response, one behind the other.
    text: Box<[u8]>,
    /// Where the first three end.
    ends: [usize; 3],
    pub(super) source: SocketAddr,
    pub(super) status: u16,
    pub(super) local: bool,
    pub(super) cancelled: bool,
    pub(super) received: u64,
    pub(super) rang: Option<u64>,
    pub(super) ended: u64,
    pub(super) tried: Box<[Tried]>,
}

impl Record {
    /// `head` is that of the [final response](head).
    pub(super) fn new(finished: &Finished<'_>, head: &[u8]) -> Self {
        let Finished {
            request_uri,
            from,
            to,
            ..
        } = *finished;
        let uri = request_uri.len();
        Self {
            text: [request_uri, from, to, head].concat().into(),
            ends: [uri, uri + from.len(), uri + from.len() + to.len()],
            source: finished.source,
            status: finished.status,
            local: finished.local,
            cancelled: finished.cancelled,
            received: finished.received,
            rang: finished.rang,
            ended: finished.ended,
            tried: finished.tried.into(),
        }
    }

    pub(super) fn request_uri(&self) -> &[u8] {
        &self.text[..self.ends[0]]
    }

    /// The value of From in the request.
    pub(super) fn from(&self) -> &[u8] {
        &self.text[self.ends[0]..self.ends[1]]
    }

    /// The value of To in the request.
    pub(super) fn to(&self) -> &[u8] {
        &self.text[self.ends[1]..self.ends[2]]
    }

    /// The final response without its body.
    pub(super) fn head(&self) -> &[u8] {
        &self.text[self.ends[2]..]
    }
}

/// A response without its body.
pub(super) fn head(response: &[u8]) -> &[u8] {
    // Line ends may stand before its start line (RFC 3261 §7.5).
    let response = response.trim_ascii_start();
    let empty_line = memchr::memmem::find(response, b"\r\n\r\n");
    empty_line.map_or(response, |at| &response[..at + 4])
}
