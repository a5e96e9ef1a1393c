//! As much SIP as two user agents need for a call: rows read by name, and
//! the few requests and responses they write. Text throughout.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddrV4;

/// A second, in the nanoseconds that all times here are.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// The estimate of a round trip, and the longest interval between
/// retransmissions of all but INVITE (RFC 3261 §17.1.1.1).
const T1: u64 = SECOND / 2;
const T2: u64 = 4 * SECOND;

/// How long a transaction waits for its end: Timers B, F and H.
pub(crate) const TRANSACTION: u64 = 64 * T1;

/// A message that is sent again until something answers it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// The method, or the status.
    pub(crate) what: &'static str,
    pub(crate) octets: String,
    /// The URI or sent-by that it goes to.
    pub(crate) hop: String,
    /// When to send it next.
    pub(crate) at: u64,
    interval: u64,
    until: u64,
}

impl Pending {
    /// One that is sent `now`.
    pub(crate) fn new(what: &'static str, octets: String, hop: String, now: u64) -> Self {
        Self {
            what,
            octets,
            hop,
            at: now + T1,
            interval: T1,
            until: now + TRANSACTION,
        }
    }

    /// Whether to send it again now that it is time to; else it is given up.
    pub(crate) fn again(&mut self, now: u64) -> bool {
        self.interval *= 2;
        if self.what != "INVITE" {
            self.interval = self.interval.min(T2);
        }
        self.at = now + self.interval;
        now < self.until
    }
}

/// What is to be done when.
pub(crate) struct Timers<E>(BinaryHeap<Reverse<(u64, E)>>);

impl<E: Ord> Timers<E> {
    pub(crate) fn new() -> Self {
        Self(BinaryHeap::new())
    }

    pub(crate) fn set(&mut self, at: u64, event: E) {
        self.0.push(Reverse((at, event)));
    }

    /// Takes the next of what is due.
    pub(crate) fn due(&mut self, now: u64) -> Option<E> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, event))| event)
    }
}

/// A message that came, read no further than it is asked for.
pub(crate) struct Message<'a> {
    pub(crate) start: Start<'a>,
    rows: Vec<(&'a str, &'a str)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start<'a> {
    Request(&'a str),
    Response(u16),
}

impl<'a> Message<'a> {
    /// `None` if it is no SIP message.
    pub(crate) fn read(octets: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let (head, _) = text.split_once("\r\n\r\n")?;
        let mut lines = head.split("\r\n");
        let first = lines.next()?;
        let start = match first.strip_prefix("SIP/2.0 ") {
            Some(rest) => Start::Response(rest.get(..3)?.parse().ok()?),
            None => Start::Request(first.split_once(' ')?.0),
        };
        let rows = lines
            .map(|line| {
                let (name, value) = line.split_once(':')?;
                Some((name.trim_end(), value.trim()))
            })
            .collect::<Option<_>>()?;
        Some(Self { start, rows })
    }

    /// The value of the first row `name`; nothing where there is none.
    pub(crate) fn row(&self, name: &'static str) -> &'a str {
        self.rows(name).next().unwrap_or_default()
    }

    fn rows(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        let rows = self.rows.iter();
        rows.filter(move |(row, _)| row.eq_ignore_ascii_case(name))
            .map(|(_, value)| *value)
    }

    /// All values of the rows `name`, in order.
    pub(crate) fn values(&self, name: &'static str) -> Vec<&'a str> {
        self.rows(name).flat_map(split).collect()
    }

    /// The number of the call of this run that it belongs to.
    pub(crate) fn number(&self, run: u32) -> Option<usize> {
        let (number, rest) = self.row("Call-ID").split_once('-')?;
        let its_run = u32::from_str_radix(rest.split('@').next()?, 16).ok()?;
        (its_run == run).then(|| number.parse().ok())?
    }

    /// The method that CSeq names.
    pub(crate) fn cseq_method(&self) -> &'a str {
        self.row("CSeq").split(' ').next_back().unwrap_or_default()
    }

    /// The response with `status` to this request (RFC 3261 §8.2.6); `tag` is
    /// ours, for a To that has none.
    pub(crate) fn answer(&self, status: &str, tag: &str, contact: &str) -> String {
        let mut text = format!("SIP/2.0 {status}\r\n");
        for via in self.rows("Via") {
            text += &format!("Via: {via}\r\n");
        }
        if !contact.is_empty() {
            for route in self.rows("Record-Route") {
                text += &format!("Record-Route: {route}\r\n");
            }
            text += &format!("Contact: <{contact}>\r\n");
        }
        let to = self.row("To");
        let tag = match parameter(to, "tag") {
            Some(_) => String::new(),
            None => format!(";tag={tag}"),
        };
        text + &format!(
            "From: {}\r\nTo: {to}{tag}\r\nCall-ID: {}\r\nCSeq: {}\r\nContent-Length: 0\r\n\r\n",
            self.row("From"),
            self.row("Call-ID"),
            self.row("CSeq"),
        )
    }
}

/// Splits at the commas that stand outside of angle brackets.
fn split(value: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    value
        .split(move |character| {
            match character {
                '<' => inside = true,
                '>' => inside = false,
                _ => {}
            }
            character == ',' && !inside
        })
        .map(str::trim)
}

/// The URI of a header value, without the brackets.
pub(crate) fn uri(value: &str) -> &str {
    let inside = value.split_once('<').map(|(_, rest)| rest);
    match inside.and_then(|rest| rest.split_once('>')) {
        Some((uri, _)) => uri,
        None => value.split(';').next().unwrap_or_default(),
    }
}

/// The value of a parameter behind the brackets of a header value.
pub(crate) fn parameter<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let behind = value.rsplit('>').next().unwrap_or_default();
    behind
        .split(';')
        .find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='))
}

/// The address that a URI, or the sent-by of a Via, names.
pub(crate) fn address(value: &str) -> Option<SocketAddrV4> {
    let value = value
        .strip_prefix("sip:")
        .or_else(|| value.strip_prefix("SIP/2.0/UDP "))?;
    let host = value.split(';').next()?;
    let host = host.rsplit('@').next()?;
    match host.contains(':') {
        true => host.parse().ok(),
        false => Some(SocketAddrV4::new(host.parse().ok()?, 5060)),
    }
}

/// What the requests of one side of a call have in common.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dialog {
    /// The values of From and To as this side writes them.
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) call_id: String,
    /// Where requests go to in the end: the Contact of the other side.
    pub(crate) target: String,
    /// Through whom (RFC 3261 §12.1).
    pub(crate) routes: Vec<String>,
    /// Who writes this: sent-by of Via, host of Contact.
    pub(crate) own: String,
}

impl Dialog {
    /// That of the INVITE of call `number` of a run, from `own` to the
    /// balancer.
    pub(crate) fn first(
        run: u32,
        number: usize,
        own: SocketAddrV4,
        balancer: SocketAddrV4,
    ) -> Self {
        Self {
            from: format!("<sip:caller@access.example>;tag=c{number}"),
            to: format!("<sip:desk@{balancer}>"),
            call_id: format!("{number}-{run:08x}@access.example"),
            target: format!("sip:desk@{balancer}"),
            routes: Vec::new(),
            own: own.to_string(),
        }
    }

    /// What a 2xx makes of that of its INVITE (RFC 3261 §12.1.2).
    pub(crate) fn confirmed(&self, answer: &Message<'_>) -> Self {
        let routes = answer.values("Record-Route");
        Self {
            target: uri(answer.row("Contact")).to_owned(),
            routes: routes.into_iter().rev().map(str::to_owned).collect(),
            ..self.refused(answer)
        }
    }

    /// That of the ACK to a failure (§17.1.1.3).
    pub(crate) fn refused(&self, answer: &Message<'_>) -> Self {
        Self {
            to: answer.row("To").to_owned(),
            ..self.clone()
        }
    }

    /// A request within, or at the start of, the dialog.
    pub(crate) fn request(&self, method: &str, cseq: u32, branch: &str) -> String {
        let Self {
            from,
            to,
            call_id,
            target,
            own,
            ..
        } = self;
        let mut text = format!(
            "{method} {target} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};rport;branch=z9hG4bK{branch}\r\n"
        );
        for route in &self.routes {
            text += &format!("Route: {route}\r\n");
        }
        text += &format!(
            "Max-Forwards: 70\r\nFrom: {from}\r\nTo: {to}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n"
        );
        if method == "INVITE" {
            text += &format!("Contact: <sip:caller@{own}>\r\n");
        }
        text + "Content-Length: 0\r\n\r\n"
    }

    /// The URI of the next hop (RFC 3261 §8.1.2); all routes are loose here.
    pub(crate) fn next_hop(&self) -> &str {
        self.routes.first().map_or(&self.target, |route| uri(route))
    }
}

/// The branch of the requests of call `number` that `which` tells apart.
pub(crate) fn branch(run: u32, number: usize, which: &str) -> String {
    format!("{run:08x}{number}{which}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INVITE: &str = "INVITE sip:desk@192.0.2.1 SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb\r\n\
        Via: SIP/2.0/UDP 127.2.0.1:4000;rport=4000;branch=z9hG4bKa\r\n\
        Record-Route: <sip:a,b@192.0.2.1;lr>, <sip:192.0.2.2:5070;lr>;x=1\r\n\
        From: <sip:caller@access.example>;tag=c1\r\nTo: <sip:desk@192.0.2.1>\r\n\
        Call-ID: 1\r\nCSeq: 1 INVITE\r\nRecord-Route:<sip:192.0.2.3;lr>\r\n\
        Content-Length: 0\r\n\r\n";

    #[test]
    fn values_come_in_order_and_commas_in_brackets_part_none() {
        let message = Message::read(INVITE.as_bytes()).expect("SIP");
        assert_eq!(message.start, Start::Request("INVITE"));
        assert_eq!(message.cseq_method(), "INVITE");
        let routes = message.values("record-route");
        let hops: Vec<_> = routes
            .iter()
            .filter_map(|route| address(uri(route)))
            .map(|address| address.to_string())
            .collect();
        assert_eq!(hops, ["192.0.2.1:5060", "192.0.2.2:5070", "192.0.2.3:5060"]);
        assert_eq!(parameter(message.row("Via"), "branch"), Some("z9hG4bKb"));
        assert_eq!(
            address(message.row("Via")).map(|via| via.port()),
            Some(5060)
        );
        assert_eq!(parameter(message.row("To"), "tag"), None);
    }

    #[test]
    fn an_answer_has_all_vias_and_our_tag_once() {
        let message = Message::read(INVITE.as_bytes()).expect("SIP");
        let text = message.answer("200 OK", "s1", "sip:desk@127.1.0.1");
        let answer = Message::read(text.as_bytes()).expect("SIP");
        assert_eq!(answer.start, Start::Response(200));
        assert_eq!(answer.values("Via"), message.values("Via"));
        assert_eq!(
            answer.values("Record-Route"),
            message.values("Record-Route")
        );
        assert_eq!(answer.row("To"), "<sip:desk@192.0.2.1>;tag=s1");
        let plain = message.answer("100 Trying", "s1", "");
        assert!(!plain.contains("Record-Route"), "{plain}");
    }
}
