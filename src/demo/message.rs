//! The SIP messages of the demo, written out as RFC 3261 §8, §12 and §13
//! want them, and the fields that its servers and its caller read.

use std::net::SocketAddr;

use crate::sip::{self, Message, StartLine, address};

/// What all messages of one caller have in common.
pub(super) struct Caller {
    /// Where the caller receives.
    pub(super) address: SocketAddr,
    /// The load balancer: every request is sent to it.
    pub(super) proxy: SocketAddr,
    /// Keeps the Call-IDs, tags and branches of two demos apart.
    pub(super) run: u64,
}

/// What the 200 to an INVITE says of the other side (§12.1.2).
pub(super) struct Dialog {
    /// The URI of its Contact.
    pub(super) target: String,
    /// The value of its To, with the tag.
    pub(super) to: String,
}

impl Caller {
    /// The Call-ID of call `number`.
    pub(super) fn call_id(&self, number: usize) -> String {
        format!("{number}-{:016x}@{}", self.run, self.address.ip())
    }

    /// The number of the call that a Call-ID belongs to.
    pub(super) fn number(&self, call_id: &[u8]) -> Option<usize> {
        let text = std::str::from_utf8(call_id).ok()?;
        let number = text.split_once('-')?.0.parse().ok()?;
        (self.call_id(number) == text).then_some(number)
    }

    /// The INVITE of call `number`, with an offer.
    pub(super) fn invite(&self, number: usize) -> Vec<u8> {
        let target = format!("sip:echo@{}", self.proxy);
        let sdp = sdp(self.address);
        let more = format!(
            "Contact: <sip:caller@{}>\r\nContent-Type: application/sdp\r\n",
            self.address
        );
        self.request(
            "INVITE",
            number,
            &target,
            &format!("<{target}>"),
            &more,
            &sdp,
        )
    }

    /// The ACK to a 200, within its dialog (§13.2.2.4).
    pub(super) fn ack(&self, number: usize, dialog: &Dialog) -> Vec<u8> {
        self.request("ACK", number, &dialog.target, &dialog.to, "", "")
    }

    /// The BYE that ends a call (§15.1.1).
    pub(super) fn bye(&self, number: usize, dialog: &Dialog) -> Vec<u8> {
        self.request("BYE", number, &dialog.target, &dialog.to, "", "")
    }

    fn request(
        &self,
        method: &str,
        number: usize,
        uri: &str,
        to: &str,
        more: &str,
        body: &str,
    ) -> Vec<u8> {
        let Self { address, run, .. } = self;
        let cseq = if method == "BYE" { 2 } else { 1 };
        format!(
            "{method} {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {address};rport;branch=z9hG4bK{run:x}.{number}.{method}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:caller@{address}>;tag={run:x}.{number}\r\n\
             To: {to}\r\n\
             Call-ID: {}\r\n\
             CSeq: {cseq} {method}\r\n\
             {more}Content-Length: {}\r\n\r\n{body}",
            self.call_id(number),
            body.len()
        )
        .into_bytes()
    }
}

/// The response of the server at `server` to `request` (§8.2.6); a 200 to an
/// INVITE answers its offer.
pub(super) fn response(request: &Message<'_>, status: &str, server: SocketAddr) -> Vec<u8> {
    let bytes = request.bytes;
    let mut out = format!("SIP/2.0 {status}\r\n").into_bytes();
    let ways = request.rows_named(b"Via");
    let ways = ways.chain(request.rows_named(b"Record-Route"));
    for row in ways.chain([request.from, request.call_id, request.cseq.row]) {
        out.extend_from_slice(row.line.of(bytes));
    }
    out.extend_from_slice(b"To: ");
    out.extend_from_slice(request.to.value.of(bytes));
    if !request.has_to_tag() {
        out.extend_from_slice(format!(";tag=server-{}", server.port()).as_bytes());
    }
    let answers = status.starts_with('2') && is_method(request, b"INVITE");
    let body = if answers { sdp(server) } else { String::new() };
    let described = if answers {
        "Content-Type: application/sdp\r\n"
    } else {
        ""
    };
    let rest = format!(
        "\r\nContact: <sip:echo@{server}>\r\n{described}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    out.extend_from_slice(rest.as_bytes());
    out
}

/// Whether CSeq names this method.
pub(super) fn is_method(message: &Message<'_>, method: &[u8]) -> bool {
    message.cseq.method.of(message.bytes) == method
}

/// The status code, where it is a response.
pub(super) fn status(message: &Message<'_>) -> Option<u16> {
    match message.start {
        StartLine::Response { status } => Some(status),
        StartLine::Request { .. } => None,
    }
}

/// The dialog that a 200 sets up, and which server sent it.
pub(super) fn dialog(message: &Message<'_>) -> Option<(Dialog, SocketAddr)> {
    let bytes = message.bytes;
    let contact = message.rows_named(b"Contact").next()?;
    let uri = address(bytes, contact.value)?.uri;
    let host = sip::uri(bytes, uri)?;
    let text = |octets| std::str::from_utf8(octets).ok();
    let server = SocketAddr::new(
        text(host.host.of(bytes))?.parse().ok()?,
        host.port_or_default(),
    );
    let dialog = Dialog {
        target: text(uri.of(bytes))?.to_owned(),
        to: text(message.to.value.of(bytes))?.to_owned(),
    };
    Some((dialog, server))
}

/// A session of one audio stream to `address` (RFC 4566, RFC 3264). No media
/// is sent.
fn sdp(address: SocketAddr) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "v=0\r\no=- {port} 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n\
         m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    )
}
