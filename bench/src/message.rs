//! The SIP messages of the load: templates for the caller, responses built
//! from what the farm received, and the few fields read back.
//!
//! Every message carries the number of its call in twelve digits; a template
//! is a finished message in which only those digits are written anew. It is
//! no SIP parser: it reads the spelling that it writes itself, which a
//! balancer must hand on as it came.

use std::net::SocketAddrV4;

use memchr::memchr;
use memchr::memmem;

/// Digits of a call's number wherever it stands in a message.
pub(crate) const DIGITS: usize = 12;

/// Lengths that each message comes in.
pub(crate) const VARIANTS: usize = 32;

/// The Max-Forwards that callers write.
pub(crate) const MAX_FORWARDS: u32 = 70;

const MARK: &str = "############";

/// What begins with a request of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// INVITE, 100, 180, 200, ACK, BYE, 200.
    Call,
    /// REGISTER, 200.
    Register,
    /// OPTIONS, 200.
    Options,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Call, Self::Register, Self::Options];

    fn method(self) -> &'static str {
        match self {
            Self::Call => "INVITE",
            Self::Register => "REGISTER",
            Self::Options => "OPTIONS",
        }
    }
}

/// What the messages of a load are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// As phones and servers write them; lengths differ.
    Usual,
    /// A body fills each to this many octets where it comes to the balancer.
    Filled(usize),
}

/// A passage of one message through the balancer, in the order of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// The first request: INVITE, REGISTER or OPTIONS.
    Request,
    Trying,
    Ringing,
    /// 200 to the first request.
    Answer,
    Ack,
    Bye,
    ByeAnswer,
}

impl Pass {
    /// Passages that a call can have.
    pub(crate) const COUNT: usize = 7;

    /// Whether it goes from the caller to the farm.
    pub(crate) fn is_request(self) -> bool {
        matches!(self, Self::Request | Self::Ack | Self::Bye)
    }
}

/// Reads the number of the call that `message` belongs to, and which passage
/// it is; `None` if it is none of the load `run`.
pub(crate) fn read(message: &[u8], run: u32) -> Option<(u64, Pass)> {
    let mut call_id = None;
    let mut cseq = None;
    for line in headers(message) {
        if let Some(value) = line.strip_prefix(b"Call-ID: ") {
            call_id = Some(value);
        } else if let Some(value) = line.strip_prefix(b"CSeq: ") {
            cseq = Some(value);
        }
        if call_id.is_some() && cseq.is_some() {
            break;
        }
    }
    let pass = match message.get(..12)? {
        [b'A', b'C', b'K', ..] => Pass::Ack,
        [b'B', b'Y', b'E', ..] => Pass::Bye,
        b"SIP/2.0 100 " => Pass::Trying,
        b"SIP/2.0 180 " => Pass::Ringing,
        b"SIP/2.0 200 " if cseq?.ends_with(b"BYE") => Pass::ByeAnswer,
        b"SIP/2.0 200 " => Pass::Answer,
        [b'I' | b'R' | b'O', ..] => Pass::Request,
        _ => return None,
    };
    let call_id = call_id?;
    let load = std::str::from_utf8(call_id.get(DIGITS + 1..DIGITS + 9)?).ok()?;
    (u32::from_str_radix(load, 16) == Ok(run)).then_some(())?;
    let number = std::str::from_utf8(call_id.get(..DIGITS)?).ok()?;
    Some((number.parse().ok()?, pass))
}

/// A finished request with gaps for the call's number.
pub(crate) struct Template {
    octets: Vec<u8>,
    gaps: Vec<usize>,
}

impl Template {
    /// The request `pass` of a call of `kind`, in length `variant`, of the
    /// load `run` (eight hex digits that no other load shares). `caller` is
    /// what its Via and Contact say; where it really comes from may differ.
    pub(crate) fn request(
        kind: Kind,
        pass: Pass,
        variant: usize,
        form: Form,
        caller: SocketAddrV4,
        run: u32,
    ) -> Self {
        let variant = variant % VARIANTS;
        let (method, cseq, to_tag) = match pass {
            Pass::Ack => ("ACK", 1, FARM_TAG),
            Pass::Bye => ("BYE", 2, FARM_TAG),
            _ => (kind.method(), 1, ""),
        };
        let name = &"Wilhelmina Katharina Featherstonehaugh"[..6 + variant];
        let mut text = format!(
            "{method} sip:+4930{variant:06}@farm.example;user=phone SIP/2.0\r\n\
             Via: SIP/2.0/UDP {caller};rport;branch=z9hG4bK{run:08x}{method}{MARK}\r\n\
             Max-Forwards: {MAX_FORWARDS}\r\n\
             From: \"{name}\" <sip:caller@access.example>;tag=c{MARK}\r\n\
             To: <sip:+4930{variant:06}@farm.example;user=phone>{to_tag}\r\n\
             Call-ID: {MARK}-{run:08x}@access.example\r\n\
             CSeq: {cseq} {method}\r\n"
        );
        if pass == Pass::Request {
            text += &format!("Contact: <sip:caller@{caller};transport=udp>\r\n");
            text += "User-Agent: Viaduct bench\r\n";
        }
        match (form, pass, kind) {
            (Form::Filled(length), ..) => {
                text += FILLED;
                fill(&mut text, length);
            }
            (_, Pass::Request, Kind::Call) => {
                text += "Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE\r\nSupported: replaces, timer\r\n";
                text += &with_offer(variant, caller);
            }
            (_, Pass::Request, Kind::Register) => {
                text += "Expires: 3600\r\n\
                         Authorization: Digest username=\"caller\", realm=\"farm.example\", \
                         nonce=\"5f1d7a84c0e2b396\", uri=\"sip:farm.example\", algorithm=MD5, \
                         response=\"6629fae49393a05397450978507c4ef1\"\r\n\
                         Content-Length: 0\r\n\r\n";
            }
            (_, Pass::Request, Kind::Options) => {
                text += "Accept: application/sdp\r\nContent-Length: 0\r\n\r\n";
            }
            _ => text += "Content-Length: 0\r\n\r\n",
        }
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

/// What stands before the length of a filling body. Four digits, so that the
/// length of the message follows from that of the body.
const FILLED: &str = "Content-Type: text/plain\r\nContent-Length: ";

/// Ends a message that [`FILLED`] was appended to, with a body that makes it
/// `length` octets long, as far as it was shorter.
fn fill(text: &mut String, length: usize) {
    let body = length.saturating_sub(text.len() + "0000\r\n\r\n".len());
    text.push_str(&format!("{body:04}\r\n\r\n{}", "x".repeat(body)));
}

/// What the farm appends to the headers that it echoes.
pub(crate) struct Tail {
    status: &'static [u8],
    /// `None` where the end is computed: a body fills the message.
    octets: Option<Vec<u8>>,
    form: Form,
    to_tag: bool,
}

impl Tail {
    /// The end of response `pass` to a request of `kind`, in length `variant`.
    pub(crate) fn new(
        kind: Kind,
        pass: Pass,
        variant: usize,
        form: Form,
        farm: SocketAddrV4,
    ) -> Self {
        const CONTACT: &str = "Contact: <sip:farm@farm.example>\r\n";
        let text = match (pass, kind) {
            (Pass::Trying | Pass::ByeAnswer, _) => "Content-Length: 0\r\n\r\n".to_owned(),
            (Pass::Ringing, _) => format!("{CONTACT}Content-Length: 0\r\n\r\n"),
            (_, Kind::Call) => format!(
                "{CONTACT}Allow: INVITE, ACK, CANCEL, BYE\r\n{}",
                with_offer(variant / 4, farm)
            ),
            (_, Kind::Register) => "Contact: <sip:caller@access.example>;expires=3600\r\n\
                 Content-Length: 0\r\n\r\n"
                .to_owned(),
            (_, Kind::Options) => format!(
                "{CONTACT}Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\nAccept: application/sdp\r\n\
                 Content-Length: 0\r\n\r\n"
            ),
        };
        Self {
            status: match pass {
                Pass::Trying => b"SIP/2.0 100 Trying\r\n",
                Pass::Ringing => b"SIP/2.0 180 Ringing\r\n",
                _ => b"SIP/2.0 200 OK\r\n",
            },
            octets: (form == Form::Usual).then(|| text.into_bytes()),
            form,
            to_tag: pass != Pass::Trying,
        }
    }

    /// Appends the response to `request` of call `number` to `out`: every
    /// Via, From, To, Call-ID and CSeq as they came, but for white space
    /// before a Via's value, and a To tag where there is none (RFC 3261
    /// §8.2.6.2).
    pub(crate) fn write(&self, request: &[u8], number: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.status);
        for line in headers(request) {
            let starts = |name: &[u8]| line.starts_with(name);
            if let Some(value) = line.strip_prefix(b"Via:") {
                out.extend_from_slice(b"Via: ");
                out.extend_from_slice(value.trim_ascii_start());
            } else if starts(b"From:") || starts(b"Call-ID:") || starts(b"CSeq:") {
                out.extend_from_slice(line);
            } else if starts(b"To:") {
                out.extend_from_slice(line);
                if self.to_tag && memmem::find(line, b";tag=").is_none() {
                    out.extend_from_slice(b";tag=f");
                    out.extend_from_slice(&digits(number));
                }
            } else {
                continue;
            }
            out.extend_from_slice(b"\r\n");
        }
        match (&self.octets, self.form) {
            (Some(octets), _) => out.extend_from_slice(octets),
            (None, Form::Filled(length)) => {
                let mut end = FILLED.to_owned();
                fill(&mut end, (start + length).saturating_sub(out.len()));
                out.extend_from_slice(end.as_bytes());
            }
            (None, Form::Usual) => {}
        }
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

fn digits(number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits
}

/// The end of a message with a session description (RFC 4566) whose length
/// grows with `variant`.
fn with_offer(variant: usize, host: SocketAddrV4) -> String {
    const CODECS: [(u8, &str); 6] = [
        (8, "PCMA/8000"),
        (0, "PCMU/8000"),
        (9, "G722/8000"),
        (3, "GSM/8000"),
        (101, "telephone-event/8000"),
        (96, "opus/48000/2"),
    ];
    let codecs = &CODECS[..1 + variant % 6];
    let formats: String = codecs.iter().map(|(id, _)| format!(" {id}")).collect();
    let maps: String = codecs
        .iter()
        .map(|(id, name)| format!("a=rtpmap:{id} {name}\r\n"))
        .collect();
    let ip = host.ip();
    // A phone that does ICE (RFC 8839) offers a candidate for each way to it.
    let candidates: String = (0..variant / 5)
        .map(|way| format!("a=candidate:{way} 1 UDP 2130706431 {ip} 4000{way} typ host\r\n"))
        .collect();
    let body = format!(
        "v=0\r\no=- 3905417600 3905417600 IN IP4 {ip}\r\ns=call\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio 40000 RTP/AVP{formats}\r\n{maps}{candidates}a=ptime:20\r\na=sendrecv\r\n"
    );
    let length = body.len();
    format!("Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const CALLER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 2, 0, 1), 40001);
    const RUN: u32 = 0xfeed_beef;

    fn request(kind: Kind, pass: Pass, variant: usize, form: Form, number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Template::request(kind, pass, variant, form, CALLER, RUN).write(number, &mut out);
        out
    }

    fn response(kind: Kind, pass: Pass, form: Form, request: &[u8], number: u64) -> Vec<u8> {
        let mut out = Vec::new();
        let farm = "127.1.0.1:5071".parse().expect("an address");
        Tail::new(kind, pass, 9, form, farm).write(request, number, &mut out);
        out
    }

    /// A request as a balancer hands it on.
    fn passed(request: &[u8]) -> Vec<u8> {
        let via = "Via: SIP/2.0/UDP lb.example;branch=z9hG4bKx\r\nVia: ";
        let text = String::from_utf8_lossy(request);
        text.replacen("Via: ", via, 1).into_bytes()
    }

    /// Every message of a mix, with its passage.
    fn messages(form: Form, variant: usize, number: u64) -> Vec<(Kind, Pass, Vec<u8>)> {
        let mut all = Vec::new();
        for kind in Kind::ALL {
            let first = request(kind, Pass::Request, variant, form, number);
            let mut answers = vec![Pass::Answer];
            if kind == Kind::Call {
                answers.extend([Pass::Trying, Pass::Ringing]);
                let bye = request(kind, Pass::Bye, variant, form, number);
                let answer = response(kind, Pass::ByeAnswer, form, &passed(&bye), number);
                all.push((kind, Pass::ByeAnswer, answer));
                all.push((kind, Pass::Bye, bye));
                let ack = request(kind, Pass::Ack, variant, form, number);
                all.push((kind, Pass::Ack, ack));
            }
            for pass in answers {
                let answer = response(kind, pass, form, &passed(&first), number);
                all.push((kind, pass, answer));
            }
            all.push((kind, Pass::Request, first));
        }
        all
    }

    #[test]
    fn every_message_is_well_formed_for_viaduct() {
        for form in [Form::Usual, Form::Filled(700), Form::Filled(4000)] {
            for variant in 0..VARIANTS {
                for (kind, pass, octets) in messages(form, variant, 7) {
                    let text = String::from_utf8_lossy(&octets);
                    let message = viaduct::sip::scan(&octets).expect("SIP");
                    assert_eq!(message.fault, None, "{kind:?} {pass:?}: {text}");
                    // Content-Length is that of the body.
                    assert_eq!(message.end as usize, octets.len(), "{text}");
                    let (_, body) = text.split_once("\r\n\r\n").expect("a blank line");
                    let stated = headers(&octets)
                        .find_map(|line| line.strip_prefix(b"Content-Length: "))
                        .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
                    assert_eq!(stated, Some(body.len()), "{text}");
                }
            }
        }
    }

    #[test]
    fn an_invite_is_of_a_usual_length_and_lengths_vary() {
        let mut lengths: Vec<usize> = (0..VARIANTS)
            .map(|variant| request(Kind::Call, Pass::Request, variant, Form::Usual, 1).len())
            .collect();
        assert!(
            lengths.iter().all(|length| (600..=1400).contains(length)),
            "{lengths:?}"
        );
        lengths.sort_unstable();
        lengths.dedup();
        assert!(lengths.len() > VARIANTS / 2, "{lengths:?}");
        assert!(lengths[lengths.len() - 1] > 1100, "{lengths:?}");
    }

    #[test]
    fn filled_messages_are_all_of_one_length() {
        for length in [600, 1400, 4000] {
            for (kind, pass, octets) in messages(Form::Filled(length), 3, 9) {
                assert_eq!(octets.len(), length, "{kind:?} {pass:?}");
            }
        }
    }

    #[test]
    fn number_and_passage_are_read_back_from_every_message() {
        let number = 123_456_789_012;
        for (_, pass, octets) in messages(Form::Usual, 2, number) {
            assert_eq!(read(&octets, RUN), Some((number, pass)));
            assert_eq!(read(&octets, RUN + 1), None);
        }
    }

    #[test]
    fn branches_differ_between_calls_and_between_methods() {
        let branch = |kind, pass, number| {
            let message = request(kind, pass, 0, Form::Usual, number);
            let via = headers(&message).next().expect("a Via").to_vec();
            via[memmem::find(&via, b"z9hG4bK").expect("a branch")..].to_vec()
        };
        let branches = [
            branch(Kind::Call, Pass::Request, 1),
            branch(Kind::Call, Pass::Request, 2),
            branch(Kind::Call, Pass::Ack, 1),
            branch(Kind::Call, Pass::Bye, 1),
            branch(Kind::Register, Pass::Request, 1),
        ];
        for (index, one) in branches.iter().enumerate() {
            assert!(!branches[index + 1..].contains(one));
        }
    }

    #[test]
    fn a_response_has_every_via_in_order_and_a_to_tag() {
        let invite = request(Kind::Call, Pass::Request, 0, Form::Usual, 5);
        let spaced = String::from_utf8_lossy(&passed(&invite)).replacen("Via: ", "Via:    ", 1);
        let response = response(Kind::Call, Pass::Answer, Form::Usual, spaced.as_bytes(), 5);
        let vias: Vec<_> = headers(&response)
            .filter(|line| line.starts_with(b"Via:"))
            .collect();
        assert_eq!(vias.len(), 2);
        assert_eq!(vias[0], b"Via: SIP/2.0/UDP lb.example;branch=z9hG4bKx");
        let to = headers(&response)
            .find(|line| line.starts_with(b"To:"))
            .expect("a To");
        assert!(to.ends_with(b";tag=f000000000005"));
    }
}
