//! Reading and editing SIP datagrams (RFC 3261 §7, §25.1).
//!
//! [`scan`] walks a datagram once and notes where the few headers stand that
//! routing reads; [`Rewrite`] collects edits and writes the result. Nothing
//! here copies a message, allocates, or knows where it goes. Octets that no
//! rule needs are not looked at, so they leave as they came (§16.3 item 1).

mod address;
mod chars;
mod lanes;
mod method;
mod param;
mod rewrite;
mod rows;
mod scan;
mod text;
mod uri;
mod via;

pub use address::{Address, address, route_values};
pub use chars::{digits, dotted, hex8, hex64, is_same_name, parse_hex64};
pub use method::Method;
pub use param::Param;
pub use rewrite::{Rewrite, TooManyEdits};
pub use rows::{Row, long_name};
pub use scan::{CSeq, Fault, Header, Message, NotSip, StartLine, scan};
pub use uri::{Scheme, Uri, uri};
pub use via::{Via, port, via, vias};

/// Default port of SIP over UDP (RFC 3261 §19.1.2).
pub const DEFAULT_PORT: u16 = 5060;

/// The largest UDP payload over IPv4: 65,535 less IP and UDP headers.
pub const MAX_DATAGRAM: usize = 65_507;

/// A stretch of a datagram, as offsets from its first octet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first octet.
    pub start: u32,
    /// Offset behind the last octet.
    pub end: u32,
}

impl Span {
    /// The stretch from `start` up to, not including, `end`.
    ///
    /// Offsets fit 32 bits: a datagram has at most 65,535 octets.
    #[inline]
    #[must_use]
    pub const fn new(start: usize, end: usize) -> Self {
        Self {
            start: start as u32,
            end: end as u32,
        }
    }

    /// The octets it stands for.
    #[inline]
    #[must_use]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// Whether it holds no octet.
    #[inline]
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// How many octets it holds.
    #[inline]
    #[must_use]
    pub const fn len(self) -> usize {
        (self.end - self.start) as usize
    }
}
