//! One pass over a datagram: where the headers stand that routing reads.
//!
//! Rules (RFC 3261 §7, §25.1; stricter where two readers could disagree):
//! - rows end in CRLF; a CR or LF by itself anywhere before the body is a
//!   fault, for the next element might read it as a line end;
//! - only SP and HTAB continue a row, never the start line;
//! - a name is a token, white space may stand before its colon;
//! - a header of which there may be one stands once; §16.3 item 1 asks for
//!   no more than what routing uses, so all other values pass unread;
//! - the body is never read, only cut to Content-Length (§18.3).

use super::Span;
use super::lanes::{Lanes, LineEnds, padded};
use super::rows::{Row, value_span};
use super::text::{Text, decimal};

/// A datagram as far as routing reads it. Spans count from [`Message::bytes`].
#[derive(Clone, Debug)]
pub struct Message<'a> {
    /// The datagram without CRLFs before its start line.
    pub bytes: &'a [u8],
    /// The start line.
    pub start: StartLine,
    /// The first row behind the start line.
    pub headers_start: u32,
    /// Behind the last sound row: the empty line, or where a fault stopped us.
    pub headers_end: u32,
    /// Behind the last octet that belongs to the message.
    pub end: u32,
    /// The first row with Via.
    pub via: Option<Row>,
    /// The second row with Via.
    pub next_via: Option<Row>,
    /// The first row with Route.
    pub route: Option<Row>,
    /// Call-ID.
    pub call_id: Row,
    /// From.
    pub from: Row,
    /// To.
    pub to: Row,
    /// CSeq.
    pub cseq: CSeq,
    /// Max-Forwards of a request: its digits and their value.
    pub max_forwards: Option<(Span, u8)>,
    /// The first thing wrong with it.
    pub fault: Option<Fault>,
    /// The offset of the row with it, 0 for the start line; the greatest number
    /// where there is none.
    fault_at: u32,
    /// The first row with Max-Forwards, in a request.
    max_forwards_row: Row,
    /// The first row with Content-Length.
    content_length: Row,
    seen: u16,
}

/// The first line (RFC 3261 §7.1, §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// `Method SP Request-URI SP SIP-Version`.
    Request {
        /// The method, case-sensitive.
        method: Span,
        /// The Request-URI.
        uri: Span,
    },
    /// `SIP-Version SP Status-Code SP Reason-Phrase`.
    Response {
        /// 100 to 699.
        status: u16,
    },
}

/// CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CSeq {
    /// The whole row, for local replies.
    pub row: Row,
    /// The sequence number.
    pub number: u32,
    /// The method, case-sensitive.
    pub method: Span,
}

/// The headers that routing and replies read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the headers'")]
pub enum Header {
    Via,
    CallId,
    From,
    To,
    CSeq,
    MaxForwards,
    ContentLength,
    Route,
    ProxyRequire,
    Timestamp,
}

/// What keeps a SIP message from being forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The Request-Line or Status-Line does not follow §7.1 or §7.2.
    StartLine,
    /// A SIP version other than 2.0.
    Version,
    /// A CR or LF by itself, or no empty line behind the headers.
    LineEnd,
    /// A row without a token and a colon at its start.
    HeaderName,
    /// A mandatory header is missing (§8.1.1).
    Missing,
    /// A header stands twice of which there may be one.
    Duplicate,
    /// A value that routing reads breaks its grammar.
    Value,
    /// Content-Length promises more octets than there are (§18.3).
    TooShort,
}

/// What is no SIP message at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSip {
    /// Nothing but line ends or NULs: somebody keeps a NAT binding open.
    KeepAlive,
    /// The first line is not SIP's: STUN, DTLS, HTTP, noise.
    Garbage,
}

/// Reads `datagram`. The time it takes grows with the length of the header
/// section and with nothing else; nothing is allocated.
///
/// # Errors
/// [`NotSip`] where there is no SIP start line. A start line with something
/// wrong behind it comes back as a [`Message`] with its [`Fault`], holding
/// what was read up to there, so that it can be answered.
#[inline]
pub fn scan(datagram: &[u8]) -> Result<Message<'_>, NotSip> {
    let mut bytes = datagram;
    while let Some(behind) = bytes.strip_prefix(b"\r\n") {
        bytes = behind;
    }
    if bytes.iter().all(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(NotSip::KeepAlive);
    }
    let mut ends = LineEnds::new(bytes);
    let (line, headers, fault) = match ends.crlf(bytes) {
        Some((headers, _)) => (headers - 2, headers, None),
        None => {
            let line_end = memchr::memchr(b'\n', bytes).ok_or(NotSip::Garbage)?;
            let line = &bytes[..line_end];
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            (line.len(), line_end + 1, Some(Fault::LineEnd))
        }
    };
    let (start, line_fault) = start_line(bytes, line)?;
    let fault = fault.or(line_fault);
    let headers = headers as u32;
    let mut message = Message {
        bytes,
        start,
        headers_start: headers,
        headers_end: headers,
        end: bytes.len() as u32,
        via: None,
        next_via: None,
        route: None,
        call_id: Row::default(),
        from: Row::default(),
        to: Row::default(),
        cseq: CSeq::default(),
        max_forwards: None,
        fault,
        fault_at: if fault.is_some() { 0 } else { u32::MAX },
        max_forwards_row: Row::default(),
        content_length: Row::default(),
        seen: 0,
    };
    if message.fault != Some(Fault::LineEnd) {
        message.headers(ends);
    }
    message.check_complete();
    Ok(message)
}

/// Reads the start line up to `end`; an error where it has nothing of SIP.
#[inline]
fn start_line(bytes: &[u8], end: usize) -> Result<(StartLine, Option<Fault>), NotSip> {
    let line = &bytes[..end];
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        return Ok(status_line(line));
    }
    let text = Text::new(bytes, end);
    let method_end = text.skip_token(0);
    if method_end == 0 || text.get(method_end) != Some(b' ') {
        return Err(NotSip::Garbage);
    }
    let uri_start = method_end + 1;
    let request = |uri_end: usize| StartLine::Request {
        method: Span::new(0, method_end),
        uri: Span::new(uri_start, uri_end),
    };
    let is_uri = |end: usize| text.upto(end).find(uri_start, Lanes::not_uri) == end;
    if let Some(before) = line.strip_suffix(b" SIP/2.0")
        && before.len() > uri_start
        && is_uri(before.len())
    {
        return Ok((request(before.len()), None));
    }
    // SIP's name stands somewhere behind the last space, or it is not SIP.
    let (line, trailing) = line.split_at(line.trim_ascii_end().len());
    let version_start = memchr::memrchr(b' ', line).ok_or(NotSip::Garbage)? + 1;
    let version = &line[version_start..];
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return Err(NotSip::Garbage);
    }
    let uri_end = (version_start - 1).max(uri_start);
    let fault = if !is_uri(uri_end) || uri_start == uri_end || !trailing.is_empty() {
        Some(Fault::StartLine)
    } else if version[4..] != *b"2.0" {
        Some(Fault::Version)
    } else {
        None
    };
    Ok((request(uri_end), fault))
}

#[inline]
fn status_line(line: &[u8]) -> (StartLine, Option<Fault>) {
    // `SIP/2.0 SP 3DIGIT SP`, then anything: nearly all are sound.
    if let Some((b"SIP/2.0 ", rest)) = line.split_first_chunk()
        && let [digits @ .., b' '] = rest.first_chunk::<4>().unwrap_or(&[0; 4])
        && let Some(status @ 100..) = decimal(digits, 699)
    {
        let status = status as u16;
        return (StartLine::Response { status }, None);
    }
    odd_status_line(line)
}

#[cold]
fn odd_status_line(line: &[u8]) -> (StartLine, Option<Fault>) {
    let status = line
        .get(8..11)
        .and_then(|digits| decimal(digits, 699))
        .unwrap_or(0) as u16;
    let version_end = memchr::memchr(b' ', line).unwrap_or(line.len());
    let fault = if line[4..version_end] != *b"2.0" {
        Some(Fault::Version)
    } else if status < 100 || line.get(11) != Some(&b' ') {
        Some(Fault::StartLine)
    } else {
        None
    };
    (StartLine::Response { status }, fault)
}

impl Message<'_> {
    /// Whether the message holds `header`, any but Route, and in a response but
    /// Max-Forwards.
    #[must_use]
    pub fn has(&self, header: Header) -> bool {
        self.seen & (1 << header as u16) != 0
    }

    /// Reads the rows and the values among them that are read here.
    fn headers(&mut self, ends: LineEnds) {
        let body = self.walk(ends);
        let bytes = self.bytes;
        if self.has(Header::CallId) && !is_call_id(bytes, self.call_id.value) {
            self.fail(self.call_id.line.start, Fault::Value);
        }
        if self.has(Header::CSeq) {
            match cseq(bytes, self.cseq.row) {
                Some(cseq) => self.cseq = cseq,
                None => self.fail(self.cseq.row.line.start, Fault::Value),
            }
        }
        if self.has(Header::MaxForwards) {
            let Row { line, value } = self.max_forwards_row;
            match decimal(value.of(bytes), 255) {
                Some(hops) => self.max_forwards = Some((value, hops as u8)),
                None => self.fail(line.start, Fault::Value),
            }
        }
        if self.has(Header::ContentLength) {
            // Longer than any datagram is as wrong as no number at all.
            let length = decimal(self.content_length.value.of(bytes), u64::from(u32::MAX));
            match (length, body) {
                (None, _) => self.fail(self.content_length.line.start, Fault::Value),
                (Some(length), Some(body)) if length > (bytes.len() - body) as u64 => {
                    self.fail(self.headers_end, Fault::TooShort);
                }
                (Some(length), Some(body)) => self.end = (body + length as usize) as u32,
                _ => {}
            }
        }
    }

    /// Walks the rows. Stops at the empty line, or where no row can be read;
    /// returns where the body starts.
    #[inline]
    fn walk(&mut self, mut ends: LineEnds) -> Option<usize> {
        let bytes = self.bytes;
        let mut start = self.headers_start as usize;
        let mut next = bytes.get(start).copied().unwrap_or(0);
        // One comparison tells a row from all else.
        while next > b' ' {
            let Some((header, colon)) = row_name(bytes, start, next) else {
                break;
            };
            let Some((end, behind)) = row_end(bytes, &mut ends) else {
                self.fail(start as u32, Fault::LineEnd);
                break;
            };
            if let Some(header) = header {
                let value = value_span(bytes, colon + 1, end);
                let line = Span::new(start, end);
                self.note(header, Row { line, value });
            }
            (start, next) = (end, behind);
        }
        self.headers_end = start as u32;
        // What is said of the line end of a row stands already.
        let fault = match bytes[start..] {
            [b'\r', b'\n', ..] => return Some(start + 2),
            [b'\r' | b'\n', ..] | [] => Fault::LineEnd,
            _ => Fault::HeaderName,
        };
        self.fail(self.headers_end, fault);
        None
    }

    /// Takes in a row with a header that is read.
    #[inline]
    fn note(&mut self, header: Header, row: Row) {
        match header {
            Header::Via => {
                if self.via.is_none() {
                    self.via = Some(row);
                    self.seen |= 1 << Header::Via as u16;
                } else if self.next_via.is_none() {
                    self.next_via = Some(row);
                }
            }
            Header::Route => {
                self.route.get_or_insert(row);
            }
            Header::ProxyRequire | Header::Timestamp => self.seen |= 1 << header as u16,
            Header::CallId if self.once(Header::CallId, row) => self.call_id = row,
            Header::From if self.once(Header::From, row) => self.from = row,
            Header::To if self.once(Header::To, row) => self.to = row,
            Header::CSeq if self.once(Header::CSeq, row) => self.cseq.row = row,
            // One that a response echoes says nothing to anybody.
            Header::MaxForwards
                if matches!(self.start, StartLine::Request { .. })
                    && self.once(Header::MaxForwards, row) =>
            {
                self.max_forwards_row = row;
            }
            Header::ContentLength if self.once(Header::ContentLength, row) => {
                self.content_length = row;
            }
            _ => {}
        }
    }

    /// Notes a row with `header`; false where it is not the first. One with
    /// a fault is kept all the same: a reply has to copy it.
    #[inline]
    fn once(&mut self, header: Header, row: Row) -> bool {
        if self.has(header) {
            self.fail(row.line.start, Fault::Duplicate);
            return false;
        }
        self.seen |= 1 << header as u16;
        true
    }

    /// Notes what is wrong at `at`, where nothing there or before it is.
    #[cold]
    fn fail(&mut self, at: u32, fault: Fault) {
        if at < self.fault_at {
            (self.fault, self.fault_at) = (Some(fault), at);
        }
    }

    /// §8.1.1: what each request and response must have.
    fn check_complete(&mut self) {
        use Header::{CSeq, CallId, From, To, Via};
        const MANDATORY: u16 = 1 << Via as u16
            | 1 << CallId as u16
            | 1 << From as u16
            | 1 << To as u16
            | 1 << CSeq as u16;
        if self.seen & MANDATORY != MANDATORY {
            self.fail(self.headers_end, Fault::Missing);
        }
    }
}

/// What the row at `start` holds, and the offset of its colon; `None` where
/// there is no name before a colon.
#[inline]
fn row_name(bytes: &[u8], start: usize, first: u8) -> Option<(Option<Header>, usize)> {
    let Some(lanes) = Lanes::load(bytes, start) else {
        return odd_row_name(bytes, start);
    };
    let colon = lanes.is(b':').bits().trailing_zeros() as usize;
    if let Some(header) = header_of(lanes, first, colon) {
        return Some((Some(header), start + colon));
    }
    let name = (lanes.letters() | lanes.is(b'-')).bits().trailing_ones() as usize;
    // Nearly all names: up to fifteen letters and hyphens, and then a colon.
    if name == colon && name > 0 {
        return Some((None, start + name));
    }
    odd_row_name(bytes, start)
}

/// The same for names of any length and characters, and in the last octets.
#[cold]
fn odd_row_name(bytes: &[u8], start: usize) -> Option<(Option<Header>, usize)> {
    let end = Text::new(bytes, bytes.len()).skip_token(start);
    let mut colon = end;
    while matches!(bytes.get(colon), Some(b' ' | b'\t')) {
        colon += 1;
    }
    if end == start || bytes.get(colon) != Some(&b':') {
        return None;
    }
    let lanes = Lanes::load(bytes, start).unwrap_or_else(|| Lanes::load_end(bytes, start));
    let header = header_of(lanes, bytes[start], end - start);
    Some((header, colon))
}

/// The offset behind the line end of the next row, folds included, and the
/// octet there; `None` where a CR or LF stands by itself.
#[inline]
fn row_end(bytes: &[u8], ends: &mut LineEnds) -> Option<(usize, u8)> {
    loop {
        let (end, next) = ends.crlf(bytes)?;
        // Nearly all rows: one comparison.
        if next > b' ' || !matches!(next, b' ' | b'\t') {
            return Some((end, next));
        }
    }
}

/// Whether `span` holds a Call-ID, as far as that of others goes.
#[inline]
fn is_call_id(bytes: &[u8], span: Span) -> bool {
    let (start, end) = (span.start as usize, span.end as usize);
    let foreign = |lanes: Lanes| lanes.is(b' ') | lanes.controls();
    start < end && Text::new(bytes, end).find(start, foreign) == end
}

/// `1*DIGIT LWS Method`.
fn cseq(bytes: &[u8], row: Row) -> Option<CSeq> {
    let (start, end) = (row.value.start as usize, row.value.end as usize);
    let text = Text::new(bytes, end);
    let (number, digits) = text.number(start, u64::from(u32::MAX))?;
    let method = text.skip_lws(digits);
    if digits == start || method == digits || text.skip_token(method) < end {
        return None;
    }
    let method = Span::new(method, end);
    Some(CSeq {
        row,
        number: number as u32,
        method,
    })
}

/// Which header that is read has a name of `length` octets which are the
/// first of `lanes` (§7.3.1, §7.3.3): a look-up by `first` and `length` finds
/// the only one it could be.
#[inline]
fn header_of(lanes: Lanes, first: u8, length: usize) -> Option<Header> {
    let name = &NAMES[place(first, length)];
    let same = lanes.folded().same(Lanes::from(name.octets)).bits();
    (name.length == length && same.trailing_ones() as usize >= length).then_some(name.header)
}

/// A name of a header, in lower case.
#[derive(Clone, Copy)]
struct Name {
    octets: [u8; 16],
    length: usize,
    header: Header,
}

/// Where a name of `length` octets would stand in [`NAMES`].
#[inline]
const fn place(first: u8, length: usize) -> usize {
    (first as usize * 4).wrapping_sub(length) & 127
}

/// The names that are read, each at its [`place`].
static NAMES: [Name; 128] = names();

const fn names() -> [Name; 128] {
    const ALL: [(&[u8], Header); 15] = [
        (b"via", Header::Via),
        (b"v", Header::Via),
        (b"call-id", Header::CallId),
        (b"i", Header::CallId),
        (b"from", Header::From),
        (b"f", Header::From),
        (b"to", Header::To),
        (b"t", Header::To),
        (b"cseq", Header::CSeq),
        (b"max-forwards", Header::MaxForwards),
        (b"content-length", Header::ContentLength),
        (b"l", Header::ContentLength),
        (b"route", Header::Route),
        (b"proxy-require", Header::ProxyRequire),
        (b"timestamp", Header::Timestamp),
    ];
    // The length of none: what stands before the colon of `: x` has none at all.
    const UNUSED: usize = usize::MAX;
    let none = Name {
        octets: [0; 16],
        length: UNUSED,
        header: Header::Via,
    };
    let mut names = [none; 128];
    let mut i = 0;
    while i < ALL.len() {
        let (name, header) = ALL[i];
        let place = place(name[0], name.len());
        assert!(names[place].length == UNUSED, "two names in one place");
        names[place] = Name {
            octets: padded(name),
            length: name.len(),
            header,
        };
        i += 1;
    }
    names
}
