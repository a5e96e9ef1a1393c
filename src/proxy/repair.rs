//! The repair of the top Via: `received` and `rport` as the packet says,
//! whatever the sender wrote there (RFC 3261 §18.2.1, RFC 3581 §4).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::host::literal;
use crate::sip::{Param, Rewrite, Row, Span, TooManyEdits, Via, digits};

/// `;received=`, an IPv6 address, `;rport=`, a port: at most 68 octets.
const MAX_TEXT: usize = 72;

/// What to change in a Via value.
pub(super) struct Repairs {
    /// What the new parameters stand in the place of: the first of the old ones,
    /// or nothing behind the last parameter.
    first: Span,
    /// The other old one, to be left out; it may be none.
    second: Span,
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
        let whole = |param: Option<Param>| param.map_or(none, |param| param.whole);
        let (received, rport) = (whole(via.received), whole(via.rport));
        let (first, second) = match received.start < rport.start {
            true => (received, rport),
            false => (rport, received),
        };
        let mut repairs = Self {
            first,
            second,
            text: [0; MAX_TEXT],
            length: 0,
        };
        if with_port || literal(via.host.of(bytes)) != Some(source.ip()) {
            repairs.put(b";received=");
            repairs.put_address(source.ip());
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

    /// As `Display` writes it; the formatting machinery takes twenty times as
    /// long for IPv4.
    fn put_address(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => {
                for octet in ip.octets() {
                    let digits = &DOTTED[usize::from(octet)];
                    self.text[self.length..][..digits.len()].copy_from_slice(digits);
                    self.length += 2 + usize::from(octet > 9) + usize::from(octet > 99);
                }
                // The dot behind the last one.
                self.length -= 1;
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
        if self.length > 0 || !self.first.is_empty() {
            rewrite.replace(self.first, &[self.text()])?;
        }
        if !self.second.is_empty() {
            rewrite.cut(self.second)?;
        }
        Ok(())
    }

    /// The row that holds the value, repaired, as pieces in order.
    pub(super) fn row<'a>(&'a self, bytes: &'a [u8], row: Row) -> [&'a [u8]; 4] {
        let kept = |start, end| Span { start, end }.of(bytes);
        [
            kept(row.line.start, self.first.start),
            self.text(),
            kept(self.first.end, self.second.start),
            kept(self.second.end, row.line.end),
        ]
    }
}

/// Each number that an IPv4 address is made of, with a dot behind it and zeros
/// behind that.
static DOTTED: [[u8; 4]; 256] = dotted();

const fn dotted() -> [[u8; 4]; 256] {
    let mut table = [[0; 4]; 256];
    let mut number = 0;
    while number < table.len() {
        let (hundreds, tens, ones) = (number / 100, number / 10 % 10, number % 10);
        let digits = [
            hundreds as u8 + b'0',
            tens as u8 + b'0',
            ones as u8 + b'0',
            b'.',
        ];
        let mut from = (number < 100) as usize + (number < 10) as usize;
        let mut to = 0;
        while from < digits.len() {
            table[number][to] = digits[from];
            (from, to) = (from + 1, to + 1);
        }
        number += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_address_is_written_as_the_standard_library_writes_it(ip: IpAddr) {
            let mut repairs = Repairs::new(b"", &Via::default(), SocketAddr::new(ip, 1), None);
            repairs.length = 0;
            repairs.put_address(ip);
            prop_assert_eq!(repairs.text(), ip.to_string().as_bytes());
        }
    }
}
