//! The plain twin of the scanner: reads one SIP datagram straight from the
//! grammar of RFC 3261 §25.1. Slow, copying and obvious on purpose; it shares
//! no code with the product, so that each can be checked against the other.
//! It reads what routing needs and decides nothing. It depends on `std` alone.
//!
//! The rules, where the grammar leaves a choice or we narrow it:
//!
//! Framing
//! 1. A first octet of 0x00 or 0x01 is STUN or the like: `NotSip`.
//! 2. CRLFs before the start line are skipped; nothing left: `KeepAlive`.
//! 3. The start line is judged before the headers, so a well-formed start line
//!    of another version is `Version` whatever follows; all else is `Malformed`.
//! 4. In start line and headers every CR is followed by LF and every LF
//!    preceded by CR, in quoted strings too; an empty line ends the headers.
//! 5. A line that begins with SP or HTAB continues the header before it; the
//!    start line cannot be continued. White space round the line ends becomes
//!    one SP; a continuation may be white space alone.
//!
//! Start line
//! 6. It is a response if it begins with `SIP/` in any case.
//! 7. Elements are separated by one SP. A version is `SIP/` 1*DIGIT `.` 1*DIGIT;
//!    only the text `2.0` is ours.
//! 8. A status is three digits, 100 to 699, and an SP; the reason is free.
//! 9. A URI (here, in Route, From and To) is not empty and has no white space,
//!    CTL, `<`, `>` or `"`; octets from 0x80 pass.
//! 10. A Request-URI begins with a scheme, a colon and something behind it; with
//!     scheme sip or sips it must be a readable SIP URI (rule 22) without
//!     `?headers`. The version is judged first.
//!
//! Headers
//! 11. A name is a token, then SP or HTAB, then the colon, all on one line.
//!     Names compare without case; v i f t l are the compact forms we know.
//! 12. What we read of Via, Call-ID, From, To, CSeq, Max-Forwards,
//!     Content-Length, Route and Proxy-Require has no CTL but HTAB and, in a
//!     quoted string, what a backslash quotes. Other values are free.
//! 13. Via, Call-ID, From, To and CSeq must be there; all but Via, Route and
//!     Proxy-Require of the names in 12 may be there once. Route and
//!     Proxy-Require are judged last: not every message's way depends on them.
//! 14. Requests and responses keep the same rules.
//! 15. Numbers are 1*DIGIT of any length, leading zeros and all, within their
//!     range: CSeq below 2^32, Max-Forwards up to 255, ports 1 to 65535,
//!     Content-Length up to the octets that are there.
//! 16. CSeq is a number, white space, a token; in a request the token is the
//!     method, in the same case.
//! 17. Call-ID is one run of octets other than SP, HTAB and CTL.
//!
//! Lists and parameters
//! 18. Via and Route rows are split at commas outside quoted strings and outside
//!     `<>`. A quote begins a string only outside `<>`; one that is never
//!     closed, or a `<` never closed, takes the rest of its row.
//! 19. Only the top Via value is checked; those below are opaque, even empty.
//! 20. A parameter is `;` token [`=` value] with white space round both signs; a
//!     value is a quoted string or a run of token characters, `[`, `]` and `:`.
//!     Names compare without case. branch and tag have a token for a value.
//! 21. In a Via, branch, received, rport and maddr, and in From and To, tag, may
//!     be there once; other parameters may repeat.
//! 22. A SIP URI is `scheme:[userinfo@]host[:port]`, then the end, `;` or `?`. It
//!     has at most one `@`, with userinfo before it; empty URI parameters are
//!     skipped; maddr and transport may be there once, with a value, and the
//!     others are not checked.
//! 23. A host is a run of letters, digits, `-`, `.` and `_`, or an IPv6 address
//!     in brackets, which must be a valid one (no zone).
//! 24. A top Via is `SIP / token / token`, white space, host [`:` port] with white
//!     space round the colon, parameters.
//! 25. In From, To and Route the first `<` or `;` outside a quoted string decides:
//!     `<` begins the URI, and what stands before is a display name, free but
//!     for closed quotes; `;` or the end means the bare form, whose URI also has
//!     no `,` and no `?`. Parameters follow. Route has no bare form, and each of
//!     its values is a sip or sips URI without `?headers`.
//! 26. Proxy-Require is tokens separated by commas, none of them empty.
#![allow(dead_code, reason = "each test binary uses its own part")]

#[path = "grammar.rs"]
mod grammar;

use grammar::{
    host_port, is_control, is_space, is_token, is_uri, number, param, params, quoted_end,
    split_list, text, token_param, trim, trim_end, trim_start,
};
pub use grammar::{scheme, sip_uri};

/// Parameters in order: name in lower case, value as written (quotes kept).
pub type Params = Vec<(String, Option<Vec<u8>>)>;

/// Why a datagram is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Nothing but CRLFs, or nothing at all (RFC 5626 §3.5.1).
    KeepAlive,
    /// STUN by its first octet (RFC 5626 §8).
    NotSip,
    /// A well-formed start line of a version other than 2.0 (RFC 3261 §21.5.6).
    Version,
    /// Against the grammar or the rules above; the text says which.
    Malformed(&'static str),
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartLine {
    /// RFC 3261 §7.1.
    Request {
        /// As written: methods have case.
        method: String,
        /// The Request-URI as written.
        uri: Vec<u8>,
        /// As written, `SIP/2.0` in any case.
        version: String,
    },
    /// RFC 3261 §7.2.
    Response {
        /// 100 to 699.
        status: u16,
        /// As written; may be empty.
        reason: Vec<u8>,
    },
}

/// A sip or sips URI (RFC 3261 §19.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The whole URI as written.
    pub text: Vec<u8>,
    /// `sip` or `sips`.
    pub scheme: String,
    /// What stands before the `@`, password included.
    pub userinfo: Option<Vec<u8>>,
    /// As written, with the brackets of an IPv6 address.
    pub host: Vec<u8>,
    /// 1 to 65535.
    pub port: Option<u16>,
    /// URI parameters.
    pub params: Params,
    /// Whether `?headers` follow.
    pub has_headers: bool,
}

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via {
    /// As written.
    pub transport: String,
    /// sent-by host as written, with the brackets of an IPv6 address.
    pub host: Vec<u8>,
    /// sent-by port, 1 to 65535.
    pub port: Option<u16>,
    /// All parameters, those below included.
    pub params: Params,
    /// A token.
    pub branch: Option<Vec<u8>>,
    /// Outer: there at all; inner: its value.
    pub received: Option<Option<Vec<u8>>>,
    /// Outer: there at all; inner: its value (RFC 3581 §3).
    pub rport: Option<Option<Vec<u8>>>,
}

/// From or To.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The URI as written, without `<>`.
    pub uri: Vec<u8>,
    /// A token; RFC 2543 elements send none.
    pub tag: Option<Vec<u8>>,
}

/// CSeq.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CSeq {
    /// Below 2^32.
    pub number: u32,
    /// As written.
    pub method: String,
}

/// One message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// The first line.
    pub start: StartLine,
    /// The Request-URI taken apart, where it is sip or sips.
    pub target: Option<Uri>,
    /// Every header row in order: long name in lower case, value unfolded and
    /// trimmed.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Via values over all rows, each trimmed; at least one.
    pub vias: Vec<Vec<u8>>,
    /// The first of them taken apart.
    pub top_via: Via,
    /// Call-ID as written.
    pub call_id: Vec<u8>,
    /// From.
    pub from: Party,
    /// To.
    pub to: Party,
    /// CSeq.
    pub cseq: CSeq,
    /// Max-Forwards, where a request has it.
    pub max_forwards: Option<u8>,
    /// Content-Length in octets, where it is there.
    pub content_length: Option<usize>,
    /// Route values over all rows.
    pub routes: Vec<Uri>,
    /// Option tags of Proxy-Require over all rows.
    pub proxy_require: Vec<String>,
    /// The body, cut to Content-Length.
    pub body: Vec<u8>,
}

/// Refusal of a Route value.
pub const ROUTE: Refusal = Refusal::Malformed("Route");

type Read<T> = Result<T, Refusal>;

fn malformed<T>(what: &'static str) -> Read<T> {
    Err(Refusal::Malformed(what))
}

/// Reads one datagram.
///
/// # Errors
/// A [`Refusal`] when the datagram is no message that we may act upon.
pub fn read(datagram: &[u8]) -> Read<Twin> {
    match read_but_lists(datagram)? {
        (twin, None) => Ok(twin),
        (_, Some(refusal)) => Err(refusal),
    }
}

/// Reads one datagram, whatever its Route and Proxy-Require are like: one that
/// cannot be read is left empty, and comes back as the refusal beside it.
///
/// # Errors
/// A [`Refusal`] for any other reason.
pub fn read_but_lists(datagram: &[u8]) -> Read<(Twin, Option<Refusal>)> {
    if matches!(datagram.first(), Some(0x00 | 0x01)) {
        return Err(Refusal::NotSip);
    }
    let mut rest = datagram;
    while let Some(after) = rest.strip_prefix(b"\r\n") {
        rest = after;
    }
    if rest.is_empty() {
        return Err(Refusal::KeepAlive);
    }
    let (first, rest) = line(rest)?;
    let start = start_line(first)?;
    let (headers, rest) = header_section(rest)?;

    let vias: Vec<Vec<u8>> = rows(&headers, "via").flat_map(split_list).collect();
    let Some(top) = vias.first() else {
        return malformed("no Via");
    };
    let top_via = via(top)?;
    let cseq = cseq(required(&headers, "cseq")?)?;
    if let StartLine::Request { method, .. } = &start
        && *method != cseq.method
    {
        return malformed("CSeq method is not that of the start line");
    }
    let content_length = match once(&headers, "content-length")? {
        Some(value) => Some(content_length(value, rest.len())?),
        None => None,
    };
    let max_forwards = match &start {
        StartLine::Request { .. } => once(&headers, "max-forwards")?,
        StartLine::Response { .. } => None,
    };
    let max_forwards = max_forwards.map(self::max_forwards).transpose()?;
    let routes: Read<Vec<Uri>> = rows(&headers, "route")
        .flat_map(split_list)
        .map(|value| route(&value).map_err(|_| ROUTE))
        .collect();
    let proxy_require: Read<Vec<String>> = rows(&headers, "proxy-require")
        .flat_map(|row| row.split(|&octet| octet == b','))
        .map(option_tag)
        .collect();
    let refusal = routes.as_ref().err();
    let refusal = refusal.or_else(|| proxy_require.as_ref().err());
    let refusal = refusal.copied();
    let twin = Twin {
        target: target(&start)?,
        top_via,
        call_id: call_id(required(&headers, "call-id")?)?,
        from: party(required(&headers, "from")?)?,
        to: party(required(&headers, "to")?)?,
        cseq,
        max_forwards,
        content_length,
        routes: routes.unwrap_or_default(),
        proxy_require: proxy_require.unwrap_or_default(),
        body: rest[..content_length.unwrap_or(rest.len())].to_vec(),
        start,
        headers,
        vias,
    };
    Ok((twin, refusal))
}

// ── Framing ────────────────────────────────────────────────────────────────

/// The octets up to the next CRLF, and those after it.
fn line(text: &[u8]) -> Read<(&[u8], &[u8])> {
    for (at, octet) in text.iter().enumerate() {
        match octet {
            b'\r' if text.get(at + 1) == Some(&b'\n') => {
                return Ok((&text[..at], &text[at + 2..]));
            }
            b'\r' => return malformed("CR without LF"),
            b'\n' => return malformed("LF without CR"),
            _ => {}
        }
    }
    malformed("a line without its end")
}

type Headers = Vec<(String, Vec<u8>)>;

/// The header rows, and what stands after the empty line.
fn header_section(mut rest: &[u8]) -> Read<(Headers, &[u8])> {
    let mut headers = Headers::new();
    loop {
        let (row, after) = line(rest)?;
        rest = after;
        match row.first() {
            None => break,
            Some(b' ' | b'\t') => {
                let Some((_, value)) = headers.last_mut() else {
                    return malformed("the start line is folded");
                };
                value.truncate(trim_end(value).len());
                value.push(b' ');
                value.extend_from_slice(trim(row));
            }
            Some(_) => headers.push(header(row)?),
        }
    }
    for (_, value) in &mut headers {
        *value = trim(value).to_vec();
    }
    Ok((headers, rest))
}

fn header(row: &[u8]) -> Read<(String, Vec<u8>)> {
    let Some(colon) = row.iter().position(|&octet| octet == b':') else {
        return malformed("a header without a colon");
    };
    let name = trim_end(&row[..colon]);
    if !is_token(name) {
        return malformed("a header name is a token");
    }
    let long = match text(name).to_ascii_lowercase().as_str() {
        "v" => "via".to_owned(),
        "i" => "call-id".to_owned(),
        "f" => "from".to_owned(),
        "t" => "to".to_owned(),
        "l" => "content-length".to_owned(),
        other => other.to_owned(),
    };
    Ok((long, row[colon + 1..].to_vec()))
}

fn rows<'a>(headers: &'a Headers, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    headers
        .iter()
        .filter(move |(each, _)| each == name)
        .map(|(_, value)| value.as_slice())
}

fn once<'a>(headers: &'a Headers, name: &'a str) -> Read<Option<&'a [u8]>> {
    let mut rows = rows(headers, name);
    let first = rows.next();
    if rows.next().is_some() {
        return malformed("a header that may be there once is there twice");
    }
    Ok(first)
}

fn required<'a>(headers: &'a Headers, name: &'a str) -> Read<&'a [u8]> {
    match once(headers, name)? {
        Some(value) => Ok(value),
        None => malformed("a mandatory header is missing"),
    }
}

// ── Start line ─────────────────────────────────────────────────────────────

fn start_line(line: &[u8]) -> Read<StartLine> {
    if line.len() >= 4 && line[..4].eq_ignore_ascii_case(b"SIP/") {
        return status_line(line);
    }
    let parts: Vec<&[u8]> = line.split(|&octet| octet == b' ').collect();
    let [method, uri, version] = parts[..] else {
        return malformed("a request line has three elements");
    };
    if !is_token(method) {
        return malformed("a method is a token");
    }
    if !is_uri(uri) {
        return malformed("Request-URI");
    }
    check_version(version)?;
    Ok(StartLine::Request {
        method: text(method),
        uri: uri.to_vec(),
        version: text(version),
    })
}

fn status_line(line: &[u8]) -> Read<StartLine> {
    let mut parts = line.splitn(3, |&octet| octet == b' ');
    let (Some(version), Some(code), Some(reason)) = (parts.next(), parts.next(), parts.next())
    else {
        return malformed("a status line has three elements");
    };
    match number(code, 699) {
        Some(status @ 100..) if code.len() == 3 => {
            check_version(version)?;
            Ok(StartLine::Response {
                status: status as u16,
                reason: reason.to_vec(),
            })
        }
        _ => malformed("a status is 100 to 699"),
    }
}

fn check_version(version: &[u8]) -> Read<()> {
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    if version.len() < 4 || !version[..4].eq_ignore_ascii_case(b"SIP/") {
        return malformed("SIP-Version");
    }
    let parts: Vec<&[u8]> = version[4..].split(|&octet| octet == b'.').collect();
    match parts[..] {
        [b"2", b"0"] => Ok(()),
        [major, minor] if digits(major) && digits(minor) => Err(Refusal::Version),
        _ => malformed("SIP-Version"),
    }
}

fn target(start: &StartLine) -> Read<Option<Uri>> {
    let StartLine::Request { uri, .. } = start else {
        return Ok(None);
    };
    match scheme(uri).as_deref() {
        None => malformed("the Request-URI has no scheme"),
        Some("sip" | "sips") => match sip_uri(uri) {
            Some(target) if !target.has_headers => Ok(Some(target)),
            _ => malformed("Request-URI"),
        },
        Some(scheme) if uri.len() == scheme.len() + 1 => malformed("nothing behind the scheme"),
        Some(_) => Ok(None),
    }
}

// ── Header values ──────────────────────────────────────────────────────────

fn call_id(value: &[u8]) -> Read<Vec<u8>> {
    let forbidden = |&octet: &u8| is_space(octet) || is_control(octet);
    if value.is_empty() || value.iter().any(forbidden) {
        return malformed("Call-ID is one word");
    }
    Ok(value.to_vec())
}

fn cseq(value: &[u8]) -> Read<CSeq> {
    let Some(space) = value.iter().position(|&octet| is_space(octet)) else {
        return malformed("CSeq is a number and a method");
    };
    let method = trim(&value[space..]);
    match number(&value[..space], u64::from(u32::MAX)) {
        Some(number) if is_token(method) => Ok(CSeq {
            number: number as u32,
            method: text(method),
        }),
        _ => malformed("CSeq is a number and a method"),
    }
}

fn content_length(value: &[u8], there: usize) -> Read<usize> {
    match number(value, there as u64) {
        Some(length) => Ok(length as usize),
        None => malformed("Content-Length"),
    }
}

fn max_forwards(value: &[u8]) -> Read<u8> {
    match number(value, 255) {
        Some(hops) => Ok(hops as u8),
        None => malformed("Max-Forwards"),
    }
}

fn option_tag(value: &[u8]) -> Read<String> {
    let tag = trim(value);
    if !is_token(tag) {
        return malformed("an option tag is a token");
    }
    Ok(text(tag))
}

fn party(value: &[u8]) -> Read<Party> {
    let (_, uri, params) = address(value)?;
    Ok(Party {
        uri,
        tag: token_param(&params, "tag")?,
    })
}

fn route(value: &[u8]) -> Read<Uri> {
    let (angled, uri, _) = address(value)?;
    if !angled {
        return malformed("a Route is in angle brackets");
    }
    match scheme(&uri).as_deref() {
        Some("sip" | "sips") => match sip_uri(&uri) {
            Some(uri) if !uri.has_headers => Ok(uri),
            _ => malformed("a SIP URI"),
        },
        _ => malformed("a Route is a SIP URI"),
    }
}

/// name-addr or addr-spec with parameters: whether it is in `<>`, the URI, the
/// parameters of the header.
fn address(value: &[u8]) -> Read<(bool, Vec<u8>, Params)> {
    let mut at = 0;
    while at < value.len() && value[at] != b'<' && value[at] != b';' {
        at = match value[at] {
            b'"' => match quoted_end(value, at) {
                Some(end) => end,
                None => return malformed("a quote is not closed"),
            },
            octet if is_control(octet) => return malformed("a control octet"),
            _ => at + 1,
        };
    }
    if value.get(at) == Some(&b'<') {
        let inside = &value[at + 1..];
        let Some(close) = inside.iter().position(|&octet| octet == b'>') else {
            return malformed("an angle bracket is not closed");
        };
        let uri = &inside[..close];
        if !is_uri(uri) {
            return malformed("a URI");
        }
        return Ok((true, uri.to_vec(), params(&inside[close + 1..])?));
    }
    let uri = trim(&value[..at]);
    if !is_uri(uri) || uri.contains(&b',') || uri.contains(&b'?') {
        return malformed("a URI");
    }
    Ok((false, uri.to_vec(), params(&value[at..])?))
}

/// Reads one Via value.
///
/// # Errors
/// [`Refusal::Malformed`] where it breaks rules 20 to 24.
pub fn via(value: &[u8]) -> Read<Via> {
    let Some((transport, rest)) = sent_protocol(value) else {
        return malformed("sent-protocol of the top Via");
    };
    let Some((host, port, rest)) = host_port(trim(rest), true) else {
        return malformed("sent-by of the top Via");
    };
    let params = params(rest)?;
    param(&params, "maddr")?;
    Ok(Via {
        transport,
        host,
        port,
        branch: token_param(&params, "branch")?,
        received: param(&params, "received")?,
        rport: param(&params, "rport")?,
        params,
    })
}

/// `SIP / version / transport` and what follows, which begins with white space.
fn sent_protocol(value: &[u8]) -> Option<(String, &[u8])> {
    let (name, rest) = split_at_slash(value)?;
    let (version, rest) = split_at_slash(rest)?;
    let end = rest.iter().position(|&octet| is_space(octet))?;
    let transport = &rest[..end];
    (name.eq_ignore_ascii_case(b"SIP") && is_token(version) && is_token(transport))
        .then(|| (text(transport), &rest[end..]))
}

fn split_at_slash(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = value.iter().position(|&octet| octet == b'/')?;
    Some((trim(&value[..slash]), trim_start(&value[slash + 1..])))
}
