//! SIP messages as the endpoints read and write them: by a plain reader that
//! shares nothing with the product's.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A message in parts. Every header has a row of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub start: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Message {
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut rows = head.split("\r\n");
        let start = rows.next()?.to_owned();
        let header = |row: &str| {
            let (name, value) = row.split_once(':')?;
            Some((name.to_owned(), value.trim().to_owned()))
        };
        Some(Self {
            start,
            headers: rows.map(header).collect::<Option<_>>()?,
            body: body.to_owned(),
        })
    }

    pub fn write(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let _ = write!(text, "\r\n{}", self.body);
        text.into_bytes()
    }

    /// A request; `headers` are those behind the mandatory ones.
    pub fn request(
        method: &str,
        uri: &str,
        common: &Common<'_>,
        headers: &[(&str, String)],
    ) -> Self {
        let Common {
            via,
            from,
            to,
            call_id,
            cseq,
        } = common;
        let mut all = vec![
            ("Via".to_owned(), (*via).to_owned()),
            ("Max-Forwards".to_owned(), "70".to_owned()),
            ("From".to_owned(), (*from).to_owned()),
            ("To".to_owned(), (*to).to_owned()),
            ("Call-ID".to_owned(), (*call_id).to_owned()),
            ("CSeq".to_owned(), format!("{cseq} {method}")),
        ];
        let more = headers.iter();
        all.extend(more.map(|(name, value)| ((*name).to_owned(), value.clone())));
        Self {
            start: format!("{method} {uri} SIP/2.0"),
            headers: all,
            body: String::new(),
        }
        .with_length()
    }

    /// The same with so many octets of body.
    pub fn with_body(mut self, octets: usize) -> Self {
        self.body = "v".repeat(octets);
        self.headers.pop();
        self.with_length()
    }

    /// A response to this request. `tag` is put on To where it has none.
    pub fn response(&self, status: u16, tag: Option<&str>, headers: &[(&str, String)]) -> Self {
        let mut all: Vec<(String, String)> = Vec::new();
        for name in ["Via", "Record-Route", "From", "To", "Call-ID", "CSeq"] {
            all.extend(self.values(name).map(|value| {
                let value = match tag {
                    Some(tag) if name == "To" && self.to_tag().is_empty() => {
                        format!("{value};tag={tag}")
                    }
                    _ => value.to_owned(),
                };
                (name.to_owned(), value)
            }));
        }
        let more = headers.iter();
        all.extend(more.map(|(name, value)| ((*name).to_owned(), value.clone())));
        Self {
            start: format!("SIP/2.0 {status} {}", phrase(status)),
            headers: all,
            body: String::new(),
        }
        .with_length()
    }

    fn with_length(mut self) -> Self {
        let length = self.body.len().to_string();
        self.headers.push(("Content-Length".to_owned(), length));
        self
    }

    pub fn is_request(&self) -> bool {
        !self.start.starts_with("SIP/2.0 ")
    }

    /// The status of a response; 0 of a request.
    pub fn status(&self) -> u16 {
        let mut words = self.start.split(' ');
        match words.next() {
            Some("SIP/2.0") => words.next().and_then(|word| word.parse().ok()).unwrap_or(0),
            _ => 0,
        }
    }

    /// The method that CSeq names.
    pub fn method(&self) -> &str {
        self.header("CSeq").split(' ').nth(1).unwrap_or("")
    }

    pub fn cseq(&self) -> u32 {
        let number = self.header("CSeq").split(' ').next();
        number.and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    pub fn request_uri(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or("")
    }

    /// The first value; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        let mut rows = self.headers.iter();
        let row = rows.find(|(each, _)| each.eq_ignore_ascii_case(name));
        row.map_or("", |(_, value)| value)
    }

    pub fn values<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        let rows = self.headers.iter();
        rows.filter(move |(each, _)| each.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    pub fn call_id(&self) -> &str {
        self.header("Call-ID")
    }

    /// The branch of the `nth` Via from the top.
    pub fn branch(&self, nth: usize) -> &str {
        let via = self.values("Via").nth(nth).unwrap_or("");
        parameter(via, "branch")
    }

    pub fn to_tag(&self) -> &str {
        parameter(self.header("To"), "tag")
    }

    pub fn sender_tag(&self) -> &str {
        parameter(self.header("From"), "tag")
    }
}

/// What the mandatory headers say.
pub struct Common<'a> {
    pub via: &'a str,
    pub from: &'a str,
    pub to: &'a str,
    pub call_id: &'a str,
    pub cseq: u32,
}

fn parameter<'a>(value: &'a str, name: &str) -> &'a str {
    let mut parameters = value.split(';').skip(1);
    parameters
        .find_map(|each| each.strip_prefix(name)?.strip_prefix('='))
        .unwrap_or("")
}

/// The address in a URI, with or without `<>` around it.
pub fn address(uri: &str) -> Option<SocketAddr> {
    let uri = uri.trim_start_matches('<');
    let uri = uri.split(['>', ';']).next()?.strip_prefix("sip:")?;
    uri.rsplit('@').next()?.parse().ok()
}

pub fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        182 => "Queued",
        183 => "Session Progress",
        200 => "OK",
        302 => "Moved Temporarily",
        404 => "Not Found",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        503 => "Service Unavailable",
        603 => "Decline",
        _ => "Other",
    }
}
