//! The repair of the top Via: `received` and `rport` as the packet says,
//! whatever the sender wrote there (RFC 3261 §18.2.1, RFC 3581 §4).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::host::literal;
use crate::sip::{Rewrite, Row, Span, TooManyEdits, Via, digits};

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
    /// The repairs of `via` for a packet from `source`. Where it came by a
    /// front balancer, that is where the packet came from and answers go, and
    /// at this very port, whether or not the sender asked for `rport`.
    #[inline]
    pub(super) fn new(
        bytes: &[u8],
        via: &Via,
        source: SocketAddr,
        front: Option<SocketAddr>,
    ) -> Self {
        let source = front.unwrap_or(source);
        let with_port = via.rport.is_some() || front.is_some();
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
        let host = via.host.of(bytes);
        let is_source = literal(host) == Some(source.ip());
        if with_port || !is_source {
            repairs.put(b";received=");
            match source.ip() {
                // An IPv4 address can be written in one way only, but for that
                // which makes it one of IPv6.
                IpAddr::V4(_) if is_source && !host.starts_with(b"[") => repairs.put(host),
                ip => repairs.put_address(ip),
            }
        }
        if with_port {
            repairs.put(b";rport=");
            repairs.put_number(source.port());
        }
        repairs
    }

    /// Cannot overrun: `MAX_TEXT` holds the longest.
    fn put(&mut self, text: &[u8]) {
        self.text[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// As `Display` writes it; the formatting machinery takes ten times as
    /// long for IPv4.
    fn put_address(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, d] = ip.octets();
                self.put_number(a.into());
                for octet in [b, c, d] {
                    self.put(b".");
                    self.put_number(octet.into());
                }
            }
            IpAddr::V6(ip) => {
                let mut rest = &mut self.text[self.length..];
                let room = rest.len();
                // Cannot fail, as above.
                let _ = write!(rest, "{ip}");
                self.length += room - rest.len();
            }
        }
    }

    fn put_number(&mut self, number: u16) {
        self.put(digits(number.into(), &mut [0; 10]));
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
        let kept = |start, end| Span { start, end }.of(bytes);
        [
            kept(row.line.start, first.start),
            kept(first.end, second.start),
            kept(second.end, self.at),
            self.text(),
            kept(self.at, row.line.end),
        ]
    }
}
