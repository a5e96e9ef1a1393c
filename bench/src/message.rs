//! The SIP messages of the load: templates for the caller, responses built
//! from what the farm received, and the few fields read back.
//!
//! Every message carries the number of its call in twelve digits; a template
//! is a finished message in which only those digits are written anew. It is
//! no SIP parser: it reads the spelling that it writes itself, which a
//! balancer must hand on as it came.

use std::net::SocketAddr;

use memchr::memchr;
use memchr::memmem;

/// Digits of a call's number wherever it stands in a message.
pub(crate) const DIGITS: usize = 12;

/// Sizes that a template comes in.
pub(crate) const VARIANTS: usize = 16;

/// The Max-Forwards that callers write.
pub(crate) const MAX_FORWARDS: u32 = 70;

const MARK: &str = "############";

/// A passage of one message through the balancer, in the order of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    Invite,
    Ringing,
    Answer,
    Ack,
    Bye,
    ByeAnswer,
}

impl Pass {
    /// Passages that a call can have.
    pub(crate) const COUNT: usize = 6;

    /// Whether it goes from the caller to the farm.
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Self::Invite | Self::Ack | Self::Bye)
    }

    /// Reads which one `message` is; `None` if it is none of a call.
    pub(crate) fn of(message: &[u8]) -> Option<Self> {
        match message.get(..12)? {
            [b'I', b'N', b'V', ..] => Some(Self::Invite),
            [b'A', b'C', b'K', ..] => Some(Self::Ack),
            [b'B', b'Y', b'E', ..] => Some(Self::Bye),
            b"SIP/2.0 180 " => Some(Self::Ringing),
            b"SIP/2.0 200 " => {
                let cseq = headers(message).find_map(|line| line.strip_prefix(b"CSeq: "))?;
                Some(if cseq.ends_with(b"BYE") {
                    Self::ByeAnswer
                } else {
                    Self::Answer
                })
            }
            _ => None,
        }
    }
}

/// A finished request with gaps for the call's number.
pub(crate) struct Template {
    octets: Vec<u8>,
    gaps: Vec<usize>,
}

impl Template {
    /// The request `pass` of a caller at `caller`, in size `variant`, of the
    /// load `run` (eight hex digits that no other load shares).
    pub(crate) fn request(pass: Pass, variant: usize, caller: SocketAddr, run: u32) -> Self {
        let variant = variant % VARIANTS;
        let (method, cseq, to_tag, body) = match pass {
            Pass::Invite => ("INVITE", 1, "", offer(variant, caller)),
            Pass::Ack => ("ACK", 1, FARM_TAG, String::new()),
            _ => ("BYE", 2, FARM_TAG, String::new()),
        };
        let content_type = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        let name = &"Wilhelmina Featherstonehaugh"[..6 + variant];
        Self::new(format!(
            "{method} sip:+4930{variant:06}@farm.example;user=phone SIP/2.0\r\n\
             Via: SIP/2.0/UDP {caller};rport;branch=z9hG4bK{run:08x}{method}{MARK}\r\n\
             Max-Forwards: {MAX_FORWARDS}\r\n\
             From: \"{name}\" <sip:caller@access.example>;tag=c{MARK}\r\n\
             To: <sip:+4930{variant:06}@farm.example;user=phone>{to_tag}\r\n\
             Call-ID: {MARK}-{run:08x}@access.example\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:caller@{caller};transport=udp>\r\n\
             User-Agent: Viaduct bench\r\n\
             Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\n\
             Supported: replaces, timer\r\n\
             {content_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn new(text: String) -> Self {
        let gaps = memmem::find_iter(text.as_bytes(), MARK).collect();
        Self {
            octets: text.into_bytes(),
            gaps,
        }
    }

    /// Appends the message of call `number` to `out`.
    pub(crate) fn write(&self, number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&self.octets);
        let digits = digits(number);
        for gap in &self.gaps {
            out[start + gap..][..DIGITS].copy_from_slice(&digits);
        }
    }
}

const FARM_TAG: &str = ";tag=f############";

/// What the farm appends to the headers that it echoes.
pub(crate) struct Tail {
    pass: Pass,
    octets: Vec<u8>,
}

impl Tail {
    /// The end of response `pass` from the destination at `farm`.
    pub(crate) fn new(pass: Pass, farm: SocketAddr) -> Self {
        let text = match pass {
            Pass::Ringing => {
                format!("Contact: <sip:farm@{farm}>\r\nContent-Length: 0\r\n\r\n")
            }
            Pass::Answer => {
                let body = offer(3, farm);
                format!(
                    "Contact: <sip:farm@{farm}>\r\nAllow: INVITE, ACK, CANCEL, BYE\r\n\
                     Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
            _ => "Content-Length: 0\r\n\r\n".to_owned(),
        };
        Self {
            pass,
            octets: text.into_bytes(),
        }
    }

    /// Appends the response to `request` of call `number` to `out`: every
    /// Via, From, To, Call-ID and CSeq as they came, and a To tag where there
    /// is none (RFC 3261 §8.2.6.2).
    pub(crate) fn write(&self, request: &[u8], number: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.pass {
            Pass::Ringing => b"SIP/2.0 180 Ringing\r\n",
            _ => b"SIP/2.0 200 OK\r\n",
        });
        for line in headers(request) {
            match line {
                [b'V', b'i', b'a', b':', ..]
                | [b'F', b'r', b'o', b'm', b':', ..]
                | [b'C', b'a', b'l', b'l', b'-', ..]
                | [b'C', b'S', b'e', b'q', b':', ..] => out.extend_from_slice(line),
                [b'T', b'o', b':', ..] => {
                    out.extend_from_slice(line);
                    if memmem::find(line, b";tag=").is_none() {
                        out.extend_from_slice(b";tag=f");
                        out.extend_from_slice(&digits(number));
                    }
                }
                _ => continue,
            }
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(&self.octets);
    }
}

/// The header lines of `message` without their CR LF, up to the blank line.
pub(crate) fn headers(message: &[u8]) -> impl Iterator<Item = &[u8]> {
    let first = memchr(b'\n', message).map_or(message.len(), |end| end + 1);
    let mut rest = &message[first..];
    std::iter::from_fn(move || {
        let end = memchr(b'\n', rest)?;
        let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
        rest = &rest[end + 1..];
        (!line.is_empty()).then_some(line)
    })
}

/// The number of the call that `message` belongs to; `None` if the message is
/// not of the load `run`.
pub(crate) fn call_number(message: &[u8], run: u32) -> Option<u64> {
    let call_id = headers(message).find_map(|line| line.strip_prefix(b"Call-ID: "))?;
    let number = std::str::from_utf8(call_id.get(..DIGITS)?).ok()?;
    let load = std::str::from_utf8(call_id.get(DIGITS + 1..DIGITS + 9)?).ok()?;
    (u32::from_str_radix(load, 16) == Ok(run)).then_some(())?;
    number.parse().ok()
}

fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// A session description (RFC 4566) whose length grows with `variant`.
fn offer(variant: usize, host: SocketAddr) -> String {
    const CODECS: [(u8, &str); 6] = [
        (8, "PCMA/8000"),
        (0, "PCMU/8000"),
        (9, "G722/8000"),
        (3, "GSM/8000"),
        (101, "telephone-event/8000"),
        (96, "opus/48000/2"),
    ];
    let codecs = &CODECS[..2 + variant % 5];
    let formats: String = codecs.iter().map(|(id, _)| format!(" {id}")).collect();
    let maps: String = codecs
        .iter()
        .map(|(id, name)| format!("a=rtpmap:{id} {name}\r\n"))
        .collect();
    let ip = host.ip();
    let family = if ip.is_ipv4() { "IP4" } else { "IP6" };
    format!(
        "v=0\r\no=- 3905417600 3905417600 IN {family} {ip}\r\ns=call\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP{formats}\r\n{maps}a=ptime:20\r\na=sendrecv\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 40001);
    const RUN: u32 = 0xfeed_beef;

    fn request(pass: Pass, variant: usize, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Template::request(pass, variant, CALLER, RUN).write(number, &mut out);
        out
    }

    fn response(pass: Pass, request: &[u8], number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Tail::new(pass, "127.0.0.1:5071".parse().expect("an address"))
            .write(request, number, &mut out);
        out
    }

    fn assert_content_length(message: &[u8]) {
        let text = std::str::from_utf8(message).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a blank line");
        let stated = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "))
            .expect("a Content-Length");
        assert_eq!(stated.parse(), Ok(body.len()), "{text}");
    }

    #[test]
    fn every_message_states_the_length_of_its_body() {
        for variant in 0..VARIANTS {
            let invite = request(Pass::Invite, variant, 7);
            let bye = request(Pass::Bye, variant, 7);
            for message in [
                response(Pass::Ringing, &invite, 7),
                response(Pass::Answer, &invite, 7),
                response(Pass::ByeAnswer, &bye, 7),
                request(Pass::Ack, variant, 7),
                invite,
                bye,
            ] {
                assert_content_length(&message);
            }
        }
    }

    #[test]
    fn an_invite_is_of_a_usual_size_and_sizes_vary() {
        let mut sizes: Vec<usize> = (0..VARIANTS)
            .map(|variant| request(Pass::Invite, variant, 1).len())
            .collect();
        assert!(
            sizes.iter().all(|size| (700..=900).contains(size)),
            "{sizes:?}"
        );
        sizes.sort_unstable();
        sizes.dedup();
        assert!(sizes.len() > VARIANTS / 2, "{sizes:?}");
    }

    #[test]
    fn the_number_of_a_call_is_read_back_from_every_message() {
        let number = 123_456_789_012;
        for (pass, answers) in [
            (Pass::Invite, &[Pass::Ringing, Pass::Answer][..]),
            (Pass::Ack, &[]),
            (Pass::Bye, &[Pass::ByeAnswer]),
        ] {
            let request = request(pass, 2, number);
            assert_eq!(Pass::of(&request), Some(pass));
            assert_eq!(call_number(&request, RUN), Some(number));
            assert_eq!(call_number(&request, RUN + 1), None);
            for &answer in answers {
                let response = response(answer, &request, number);
                assert_eq!(Pass::of(&response), Some(answer));
                assert_eq!(call_number(&response, RUN), Some(number));
            }
        }
    }

    #[test]
    fn branches_differ_between_calls_and_between_methods() {
        let branch = |message: Vec<u8>| {
            let via = headers(&message).next().expect("a Via").to_vec();
            via[memmem::find(&via, b"z9hG4bK").expect("a branch")..].to_vec()
        };
        let branches = [
            branch(request(Pass::Invite, 0, 1)),
            branch(request(Pass::Invite, 0, 2)),
            branch(request(Pass::Ack, 0, 1)),
            branch(request(Pass::Bye, 0, 1)),
        ];
        for (index, one) in branches.iter().enumerate() {
            assert!(!branches[index + 1..].contains(one));
        }
    }

    #[test]
    fn a_response_has_every_via_in_order_and_a_to_tag() {
        let invite = request(Pass::Invite, 0, 5);
        let text = String::from_utf8(invite).expect("text");
        let passed = text.replacen(
            "Via: ",
            "Via: SIP/2.0/UDP lb.example;branch=z9hG4bKx\r\nVia: ",
            1,
        );
        let response = response(Pass::Answer, passed.as_bytes(), 5);
        let vias: Vec<_> = headers(&response)
            .filter(|line| line.starts_with(b"Via:"))
            .collect();
        assert_eq!(vias.len(), 2);
        assert!(vias[0].ends_with(b"lb.example;branch=z9hG4bKx"));
        let to = headers(&response)
            .find(|line| line.starts_with(b"To:"))
            .expect("a To");
        assert!(to.ends_with(b";tag=f000000000005"));
    }
}
