//! The repair of the top Via: `received` and `rport` as the packet says,
//! whatever the sender wrote there (RFC 3261 §18.2.1, RFC 3581 §4).

use std::io::Write;
use std::net::SocketAddr;

use super::target::literal;
use crate::sip::{Rewrite, Row, Span, TooManyEdits, Via};

/// `;received=`, an IPv6 address, `;rport=`, a port: at most 68 octets.
const MAX_TEXT: usize = 72;

/// What to change in a Via value.
pub(super) struct Repairs {
    /// Parameters to leave out, in their order.
    cuts: [Span; 2],
    /// Where the new ones go: behind the last parameter.
    at: u32,
    text: [u8; MAX_TEXT],
    length: usize,
}

impl Repairs {
    /// The repairs of `via` for a packet from `source`.
    #[inline]
    pub(super) fn new(bytes: &[u8], via: &Via, source: SocketAddr) -> Self {
        let at = via.value.end;
        let none = Span { start: at, end: at };
        let whole = |param: Option<crate::sip::Param>| param.map_or(none, |param| param.whole);
        let mut cuts = [whole(via.received), whole(via.rport)];
        cuts.sort_unstable_by_key(|cut| cut.start);
        let mut repairs = Self {
            cuts,
            at,
            text: [0; MAX_TEXT],
            length: 0,
        };
        if via.rport.is_some() {
            repairs.put(format_args!(
                ";received={};rport={}",
                source.ip(),
                source.port()
            ));
        } else if literal(via.host.of(bytes)) != Some(source.ip()) {
            repairs.put(format_args!(";received={}", source.ip()));
        }
        repairs
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let mut rest = &mut self.text[..];
        let room = rest.len();
        // Cannot fail: MAX_TEXT holds the longest.
        let _ = rest.write_fmt(text);
        self.length = room - rest.len();
    }

    fn text(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// Adds the repairs to the edits of a message.
    #[inline]
    pub(super) fn apply(&self, rewrite: &mut Rewrite) -> Result<(), TooManyEdits> {
        for cut in self.cuts.into_iter().filter(|cut| !cut.is_empty()) {
            rewrite.cut(cut)?;
        }
        if self.length > 0 {
            rewrite.replace(
                Span {
                    start: self.at,
                    end: self.at,
                },
                &[self.text()],
            )?;
        }
        Ok(())
    }

    /// The row that holds the value, repaired, as pieces in order.
    pub(super) fn row<'a>(&'a self, bytes: &'a [u8], row: Row) -> [&'a [u8]; 5] {
        let [first, second] = self.cuts;
        [
            Span {
                start: row.line.start,
                end: first.start,
            }
            .of(bytes),
            Span {
                start: first.end,
                end: second.start,
            }
            .of(bytes),
            Span {
                start: second.end,
                end: self.at,
            }
            .of(bytes),
            self.text(),
            Span {
                start: self.at,
                end: row.line.end,
            }
            .of(bytes),
        ]
    }
}
