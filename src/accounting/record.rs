//! What is kept of a transaction until its line is made.

use std::net::SocketAddr;

use crate::transaction::{Finished, Tried};

/// A copy of what [`Finished`] tells, as far as a line has it.
pub(super) struct Record {
    /// The Request-URI, and behind it the head of the final response.
    text: Box<[u8]>,
    uri_length: usize,
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
        Self {
            text: [finished.request_uri, head].concat().into(),
            uri_length: finished.request_uri.len(),
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
        &self.text[..self.uri_length]
    }

    /// The final response without its body.
    pub(super) fn head(&self) -> &[u8] {
        &self.text[self.uri_length..]
    }

    /// Octets that it holds of messages.
    pub(super) fn octets(&self) -> usize {
        self.text.len()
    }
}

/// A response without its body.
pub(super) fn head(response: &[u8]) -> &[u8] {
    let empty_line = memchr::memmem::find(response, b"\r\n\r\n");
    empty_line.map_or(response, |at| &response[..at + 4])
}
