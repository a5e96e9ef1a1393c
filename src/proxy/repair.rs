//! The repair of the top Via: `received` and `rport` as the packet says,
//! whatever the sender wrote there (RFC 3261 §18.2.1, RFC 3581 §4).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::host::literal;
use crate::sip::{Param, Rewrite, Row, Span, TooManyEdits, Via, digits, dotted};

/// `;received=`, an IPv6 address, `;rport=`, a port: at most 61 octets.
const MAX_TEXT: usize = 64;

/// What to change in a Via value.
pub(super) struct Repairs {
    /// What the new parameters stand in the place of: the first of the old ones,
    /// or nothing behind the last parameter.
    first: Span,
    /// The other old one, to be left out; it may be none.
    second: Span,
    received: Option<IpAddr>,
    rport: Option<u16>,
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
        let whole = |param: Option<Param>| param.map_or(none, |param| param.whole);
        let (received, rport) = (whole(via.received), whole(via.rport));
        let (first, second) = match received.start < rport.start {
            true => (received, rport),
            false => (rport, received),
        };
        let ip = source.ip();
        let is_told = with_port || literal(via.host.of(bytes)) != Some(ip);
        Self {
            first,
            second,
            received: is_told.then_some(ip),
            rport: with_port.then_some(source.port()),
        }
    }

    /// Writes the new parameters and returns how many octets they have.
    #[inline]
    fn write(&self, room: &mut [u8; MAX_TEXT]) -> usize {
        let mut text = Text { room, length: 0 };
        if let Some(ip) = self.received {
            text.put(b";received=");
            text.put_address(ip);
        }
        if let Some(port) = self.rport {
            text.put(b";rport=");
            text.put(digits(port.into(), &mut [0; 10]));
        }
        text.length
    }

    /// Adds the repairs to the edits of a message.
    #[inline]
    pub(super) fn apply(&self, rewrite: &mut Rewrite) -> Result<(), TooManyEdits> {
        if self.received.is_some() || !self.first.is_empty() {
            rewrite.replace_with(self.first, |room| self.write(room))?;
        }
        if !self.second.is_empty() {
            rewrite.cut(self.second)?;
        }
        Ok(())
    }

    /// Hands over the row that holds the value, repaired, as pieces in order.
    pub(super) fn row<T>(&self, bytes: &[u8], row: Row, put: impl FnOnce([&[u8]; 4]) -> T) -> T {
        let mut room = [0; MAX_TEXT];
        let length = self.write(&mut room);
        let kept = |start, end| Span { start, end }.of(bytes);
        put([
            kept(row.line.start, self.first.start),
            &room[..length],
            kept(self.first.end, self.second.start),
            kept(self.second.end, row.line.end),
        ])
    }
}

/// Text in the making. Cannot overrun: `MAX_TEXT` holds the longest.
struct Text<'a> {
    room: &'a mut [u8; MAX_TEXT],
    length: usize,
}

impl Text<'_> {
    fn put(&mut self, text: &[u8]) {
        self.room[self.length..self.length + text.len()].copy_from_slice(text);
        self.length += text.len();
    }

    /// As `Display` writes it; the formatting machinery takes twenty times as
    /// long for IPv4.
    fn put_address(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                for octet in ip.octets() {
                    let (digits, length) = dotted(octet);
                    self.room[self.length..][..digits.len()].copy_from_slice(digits);
                    self.length += length + 1;
                }
                // The dot behind the last one.
                self.length -= 1;
            }
            IpAddr::V6(ip) => {
                let mut rest = &mut self.room[self.length..];
                let room = rest.len();
                // Cannot fail, as above.
                let _ = write!(rest, "{ip}");
                self.length += room - rest.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_written_as_the_standard_library_writes_it(ip: IpAddr) {
            let mut room = [0; MAX_TEXT];
            let mut text = Text { room: &mut room, length: 0 };
            text.put_address(ip);
            let (length, plain) = (text.length, ip.to_string());
            prop_assert_eq!(&room[..length], plain.as_bytes());
        }
    }
}
