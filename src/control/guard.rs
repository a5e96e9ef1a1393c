//! Who asks, and whether they may.
//!
//! On the Unix socket the rights of its file decide. Over TCP everybody reads
//! who gets there; a change, and what not everybody may know, needs the token.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tokio::net::unix::UCred;
use tracing::warn;

use super::problem::Problem;
use super::{App, lock};

/// How long a request may take, its body and the supervisor's answer included.
const LIMIT: Duration = Duration::from_secs(40);

/// Whose host a request may name as it likes: probes and scrapes are sent by
/// names, and tell little.
const OPEN: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// The fewest octets of a token: fewer could be guessed.
const TOKEN_MIN: usize = 16;

/// What to do about a token file that cannot be read, or holds no good one.
pub(super) const TOKEN_HELP: &str = "put a token of 16 octets or more in it, on one line \
     (`openssl rand -hex 32` makes one), and let the user that runs read it";

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asker {
    /// Over the Unix socket, with what the kernel knows of them.
    Local(Option<UCred>),
    /// Over TCP.
    Remote(SocketAddr),
}

/// For the log.
impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(Some(who)) => {
                write!(f, "uid {}", who.uid())?;
                who.pid().map_or(Ok(()), |pid| write!(f, ", pid {pid}"))
            }
            Self::Local(None) => f.write_str("the admin socket"),
            Self::Remote(address) => address.fmt(f),
        }
    }
}

/// How often the log tells of refused requests.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// Requests over TCP that were refused for want of the token.
#[derive(Debug, Default)]
pub struct Denials {
    all: AtomicU64,
    /// How many there were when the log was last told of them, and when.
    told: Mutex<Option<(u64, Instant)>>,
}

impl Denials {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    /// Counts one by `peer`, and tells of it unless that was done of late.
    fn note(&self, peer: SocketAddr, problem: &Problem) {
        let all = self.all.fetch_add(1, Ordering::Relaxed) + 1;
        let mut told = lock(&self.told);
        let since = match *told {
            Some((_, at)) if at.elapsed() < TOLD_EVERY => return,
            Some((before, _)) => all - before,
            None => all,
        };
        *told = Some((all, Instant::now()));
        let detail = &problem.detail;
        match since {
            1 => warn!("admin: refused a request from {peer}: {detail}"),
            _ => warn!("admin: refused {since} requests, the last from {peer}: {detail}"),
        }
    }
}

/// Bounds each request in time, and refuses those that a web page in an
/// operator's browser had sent here by a name of its own.
pub(super) async fn bounded(
    Extension(asker): Extension<Asker>,
    request: Request,
    next: Next,
) -> Response {
    let by_name = matches!(asker, Asker::Remote(_))
        && !OPEN.contains(&request.uri().path())
        && !names_address(&request);
    if by_name {
        return Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "the host that is asked is neither one address nor `localhost`",
        )
        .help("ask by the address, as in http://127.0.0.1:8060")
        .into_response();
    }
    let answer = tokio::time::timeout(LIMIT, next.run(request)).await;
    answer.unwrap_or_else(|_| {
        Problem::new(StatusCode::REQUEST_TIMEOUT, "the request took too long").into_response()
    })
}

/// Whether an address is asked, or `localhost` (RFC 9112 §3.2).
fn names_address(request: &Request) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let Ok(host) = Authority::try_from(host.as_bytes()) else {
        return false;
    };
    // That of a URI in absolute form counts in the place of Host.
    let authority = request.uri().authority().unwrap_or(&host);
    let name = authority.host();
    // With nothing more than a port.
    let whole = match authority.port() {
        Some(port) => format!("{name}:{}", port.as_str()),
        None => name.to_owned(),
    };
    let is_address = name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    authority.as_str() == whole && (is_address || name.eq_ignore_ascii_case("localhost"))
}

/// Lets what needs the token pass to those who may ask it.
pub(super) async fn may_change(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    request: Request,
    next: Next,
) -> Response {
    match asker {
        Asker::Local(_) => next.run(request).await,
        Asker::Remote(peer) => match bears_token(&app, request.headers()) {
            Ok(()) => next.run(request).await,
            Err(problem) => {
                app.view.denials.note(peer, &problem);
                problem.into_response()
            }
        },
    }
}

fn bears_token(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let Some(path) = &app.token_file else {
        let problem = Problem::new(
            StatusCode::FORBIDDEN,
            "over TCP this instance is only read: it has no token file",
        );
        let help = "use the Unix socket, or set admin.token-file and upgrade";
        return Err(problem.help(help));
    };
    // Read each time, so that it can be changed at any time.
    let token = token(path).map_err(|error| {
        let said = format!("token file {}: {error}", path.display());
        Problem::new(StatusCode::FORBIDDEN, &said).help(TOKEN_HELP)
    })?;
    let given = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let given = given.and_then(|given| {
        let (scheme, given) = given.split_at_checked(b"Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then_some(given)
    });
    let said = match given {
        Some(given) if given.ct_eq(token.as_bytes()).into() => return Ok(()),
        Some(_) => "this is not the token",
        None => "over TCP this needs the token",
    };
    Err(Problem::new(StatusCode::UNAUTHORIZED, said).help(
        "give ctl --token-file FILE with what admin.token-file holds, or send it as \
         `Authorization: Bearer TOKEN`",
    ))
}

/// What the file holds, without the white space around it.
///
/// # Errors
/// As of reading; that it is no token, or too short.
pub fn token(path: &Path) -> io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let token = text.trim();
    match token.len() {
        _ if token.contains(char::is_control) => Err(io::Error::other(
            "it holds more than one line, or another control character",
        )),
        TOKEN_MIN.. => Ok(token.to_owned()),
        0 => Err(io::Error::other("it is empty")),
        octets => Err(io::Error::other(format!(
            "the token has {octets} octets, which can be guessed"
        ))),
    }
}
