//! What is told of a transaction whose final response is known.

use std::net::SocketAddr;

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
