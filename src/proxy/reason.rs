//! Why a datagram is not forwarded: one list for counters, replies and docs.

use strum::{IntoStaticStr, VariantArray};

/// Why a datagram was dropped or answered by ourselves.
/// [`Reason::explanation`] says what each means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[repr(u8)]
#[allow(missing_docs, reason = "the explanations are the documentation")]
pub enum Reason {
    KeepAlive,
    NotSip,
    BadSource,
    ProxyHeader,
    StartLine,
    Version,
    LineEnd,
    HeaderName,
    MissingHeader,
    DuplicateHeader,
    HeaderValue,
    TooShort,
    TopVia,
    RequestUri,
    UriScheme,
    TooManyHops,
    ProxyRequire,
    #[strum(serialize = "cseq-method")]
    CSeqMethod,
    UnknownMethod,
    Route,
    NoDestination,
    NextHop,
    Unresolved,
    TooManyNames,
    ForbiddenNextHop,
    ForgedFlow,
    Loop,
    TooLarge,
    ReplyAck,
    ReplyLimit,
    Overload,
    NotOurVia,
    ForgedResponse,
    NoNextVia,
    StrangersAnswer,
}

/// What a local reply says (§21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, VariantArray)]
#[repr(u16)]
#[allow(missing_docs, reason = "the names are the reason phrases")]
pub enum Status {
    Trying = 100,
    Ok = 200,
    BadRequest = 400,
    Forbidden = 403,
    RequestTimeout = 408,
    UnsupportedUriScheme = 416,
    BadExtension = 420,
    LoopDetected = 482,
    TooManyHops = 483,
    RequestTerminated = 487,
    ServerInternalError = 500,
    NotImplemented = 501,
    ServiceUnavailable = 503,
    VersionNotSupported = 505,
    MessageTooLarge = 513,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The name in counters and in `explain`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// One sentence for people: the rule behind it.
    #[must_use]
    pub const fn explanation(self) -> &'static str {
        match self {
            Self::KeepAlive => "Line ends or NULs that keep a NAT binding open (RFC 5626 §3.5)",
            Self::NotSip => "No SIP: STUN, DTLS, HTTP, noise",
            Self::BadSource => {
                "From port 0, or from ourselves, as its source or its topmost Via says"
            }
            Self::ProxyHeader => {
                "From a front balancer, without a PROXY protocol header that says who sent it"
            }
            Self::StartLine => "The start line breaks the grammar (RFC 3261 §7.1, §7.2)",
            Self::Version => "A version other than SIP/2.0 (§21.5.6)",
            Self::LineEnd => "A CR or LF by itself, or no end of the headers",
            Self::HeaderName => "A header row without a name (§7.3.1)",
            Self::MissingHeader => "A mandatory header is missing (§8.1.1)",
            Self::DuplicateHeader => "A header that may stand once stands twice",
            Self::HeaderValue => "A header that routing reads breaks its grammar",
            Self::TooShort => "The datagram ends before Content-Length does (§18.3)",
            Self::TopVia => "The top Via cannot be read, so nothing can be answered either",
            Self::RequestUri => "The Request-URI breaks the grammar",
            Self::UriScheme => {
                "A Request-URI that is neither sip, sips, tel nor urn (§16.3 item 2)"
            }
            Self::TooManyHops => "Max-Forwards has run out (§16.3 item 3)",
            Self::ProxyRequire => "Proxy-Require wants what we do not do (§16.3 item 5)",
            Self::CSeqMethod => "CSeq names another method than the Request-Line (§8.1.1.5)",
            Self::UnknownMethod => "The same, and the method is none that any RFC defines",
            Self::Route => "A Route value that cannot be read, or too many of our own",
            Self::NoDestination => "No destination of the set can take new work",
            Self::NextHop => {
                "A member names a next hop that UDP cannot reach: another transport, an address family without a listener, a host name where names are not resolved, or a Route whose name leads to us"
            }
            Self::Unresolved => "A member names a host that DNS does not know, or not in time",
            Self::TooManyNames => {
                "A member names a host, and too many requests wait for DNS already"
            }
            Self::ForbiddenNextHop => {
                "The next hop is a multicast, broadcast, link-local or unspecified address, a loopback address that a member elsewhere names, or us"
            }
            Self::ForgedFlow => {
                "A member's Route has a Path of ours that does not verify (RFC 5626 §5.3)"
            }
            Self::Loop => {
                "What a member sends has passed us four times, and names nobody but us (RFC 5393)"
            }
            Self::TooLarge => "With our Via it would not fit a datagram (§21.5.7)",
            Self::ReplyAck => "The ACK for a reply of our own: absorbed (§17.1.1.3)",
            Self::ReplyLimit => "A local reply that its source prefix had no allowance left for",
            Self::Overload => {
                "What would begin a transaction, while more comes than can be done: its sender sends it again"
            }
            Self::NotOurVia => "A response whose top Via is not ours (§16.11, §18.1.2)",
            Self::ForgedResponse => {
                "A response to no request that we sent: its branch does not verify"
            }
            Self::NoNextVia => {
                "A response with our Via and none below: there is nobody to send it to"
            }
            Self::StrangersAnswer => {
                "A 481 to a CANCEL that had a second chance: another destination has the call"
            }
        }
    }

    /// Whether such datagrams are there where all is well.
    #[must_use]
    pub const fn is_usual(self) -> bool {
        matches!(
            self,
            Self::KeepAlive | Self::ReplyAck | Self::StrangersAnswer
        )
    }

    /// What a request is answered with; `None`: it is dropped in silence.
    #[must_use]
    pub const fn status(self) -> Option<Status> {
        Some(match self {
            Self::StartLine
            | Self::LineEnd
            | Self::HeaderName
            | Self::MissingHeader
            | Self::DuplicateHeader
            | Self::HeaderValue
            | Self::TooShort
            | Self::RequestUri
            | Self::CSeqMethod
            | Self::Route => Status::BadRequest,
            Self::ForgedFlow => Status::Forbidden,
            Self::UriScheme => Status::UnsupportedUriScheme,
            Self::ProxyRequire => Status::BadExtension,
            Self::Loop => Status::LoopDetected,
            Self::TooManyHops => Status::TooManyHops,
            Self::UnknownMethod => Status::NotImplemented,
            Self::NoDestination | Self::NextHop | Self::Unresolved | Self::TooManyNames => {
                Status::ServiceUnavailable
            }
            Self::Version => Status::VersionNotSupported,
            Self::TooLarge => Status::MessageTooLarge,
            Self::KeepAlive
            | Self::NotSip
            | Self::BadSource
            | Self::ProxyHeader
            | Self::TopVia
            | Self::ForbiddenNextHop
            | Self::ReplyAck
            | Self::ReplyLimit
            | Self::Overload
            | Self::NotOurVia
            | Self::ForgedResponse
            | Self::NoNextVia
            | Self::StrangersAnswer => return None,
        })
    }
}

impl Status {
    /// All of them, by number.
    pub const ALL: &[Self] = Self::VARIANTS;

    /// The number.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// Number and reason phrase.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Trying => "100 Trying",
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Forbidden => "403 Forbidden",
            Self::RequestTimeout => "408 Request Timeout",
            Self::UnsupportedUriScheme => "416 Unsupported URI Scheme",
            Self::BadExtension => "420 Bad Extension",
            Self::LoopDetected => "482 Loop Detected",
            Self::TooManyHops => "483 Too Many Hops",
            Self::RequestTerminated => "487 Request Terminated",
            Self::ServerInternalError => "500 Server Internal Error",
            Self::NotImplemented => "501 Not Implemented",
            Self::ServiceUnavailable => "503 Service Unavailable",
            Self::VersionNotSupported => "505 Version Not Supported",
            Self::MessageTooLarge => "513 Message Too Large",
        }
    }
}
