//! Asks the admin API of a running instance.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use super::report;
use crate::config::text::printable;
use crate::config::{HostPort, text};
use crate::control::{self, Problem};

/// Where an instance is asked unless that is said.
pub(super) const SOCKET: &str = "/run/viaduct/admin.sock";

/// Longest answer, in octets.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Where an instance is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Admin {
    /// Over its Unix socket.
    Socket(PathBuf),
    /// Over TCP, at this host and port.
    Http(String),
}

impl FromStr for Admin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // As the log of an instance and `check` name its socket.
        let text = text.strip_prefix("unix:").unwrap_or(text);
        match text.split_once("://") {
            Some(("http", host)) => {
                let place = text::advertise(host.trim_end_matches('/'));
                let place = place.map_err(|fault| fault.help("give http://ADDR:PORT").to_string());
                let HostPort { host, port } = place?;
                let port = port.unwrap_or(text::ADMIN_PORT);
                Ok(Self::Http(format!("{host}:{port}")))
            }
            Some((scheme, _)) => {
                let scheme = scheme.to_uppercase();
                Err(format!("{scheme} is not supported: give http://ADDR:PORT"))
            }
            None if text.is_empty() => Err("give the path of a socket, or http://ADDR:PORT".into()),
            None => Ok(Self::Socket(text.into())),
        }
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Http(host) => write!(f, "http://{host}"),
        }
    }
}

/// Why there is no answer, or not the one that was hoped for.
#[derive(Debug)]
pub(super) enum ClientError {
    /// Nobody answers.
    Unreachable(Admin, io::Error),
    /// Somebody answers, and not as the API does.
    Stranger(Admin),
    /// It says no.
    Refused(Box<Problem>),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (admin, error) = match self {
            Self::Refused(problem) => return write_problem(f, problem),
            Self::Stranger(admin) => {
                return write!(
                    f,
                    "{admin}: what answers is no Viaduct, or of another version than this program \
                     ({})\n  help: use the program of its version, or ask elsewhere: --admin PATH \
                     or http://ADDR:PORT",
                    env!("CARGO_PKG_VERSION")
                );
            }
            Self::Unreachable(admin, error) => (admin, error),
        };
        write!(f, "{admin}: {error}")?;
        match error.kind() {
            io::ErrorKind::PermissionDenied => write!(
                f,
                "\n  help: its owner and its group may (`ls -l {admin}`): join the group, or use \
                 sudo"
            ),
            _ => write!(
                f,
                "\n  help: is it running, and is its admin API there? its line `admin:` says \
                 where; --admin PATH or http://ADDR:PORT asks elsewhere"
            ),
        }
    }
}

/// What is wrong, where, and how to mend it.
fn write_problem(f: &mut fmt::Formatter<'_>, problem: &Problem) -> fmt::Result {
    let detail: Vec<_> = problem.detail.lines().map(printable).collect();
    f.write_str(&detail.join("\n"))?;
    for diagnostic in &problem.diagnostics {
        write!(f, "\n{}", report::plain(diagnostic).trim_end())?;
    }
    match &problem.help {
        Some(help) => write!(f, "\n  help: {}", printable(help)),
        None => Ok(()),
    }
}

impl std::error::Error for ClientError {}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        Self::other(error)
    }
}

/// One who asks an instance.
pub(super) struct Client {
    admin: Admin,
    token: Option<String>,
    /// How long an answer may take.
    patience: Duration,
    runtime: Runtime,
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) path: &'a str,
    /// The media type of the answer that is wanted.
    pub(super) accept: &'a str,
    /// What is sent by POST, and its media type; without it GET asks.
    pub(super) body: Option<(&'a str, Vec<u8>)>,
}

impl Client {
    /// `token_file` holds the token for changes and `explain` over TCP.
    pub(super) fn new(
        admin: Admin,
        token_file: Option<&Path>,
        patience: Duration,
    ) -> io::Result<Self> {
        let token = token_file.map(|path| {
            control::token(path).map_err(|error| {
                io::Error::other(format!(
                    "token file {}: {error}\n  help: give a file that you may read, with the token \
                     of the instance: what its admin.token-file holds",
                    path.display()
                ))
            })
        });
        Ok(Self {
            admin,
            token: token.transpose()?,
            patience,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?,
        })
    }

    /// Reads.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.get_within(self.patience, path)
    }

    /// The same for those who have a patience of their own.
    pub(super) fn get_within<T: DeserializeOwned>(
        &self,
        patience: Duration,
        path: &str,
    ) -> Result<T, ClientError> {
        let question = Question {
            path,
            accept: "application/json",
            body: None,
        };
        self.parse(&self.ask_within(patience, &question)?)
    }

    /// Changes; the answer as it came.
    pub(super) fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, ClientError> {
        let body = serde_json::to_vec(body);
        let body = body.map_err(|error| self.failure(io::Error::other(error)))?;
        self.ask(&Question {
            path,
            accept: "application/json",
            body: Some(("application/json", body)),
        })
    }

    /// An answer of JSON.
    pub(super) fn parse<T: DeserializeOwned>(&self, answer: &[u8]) -> Result<T, ClientError> {
        let strange = |_| ClientError::Stranger(self.admin.clone());
        serde_json::from_slice(answer).map_err(strange)
    }

    /// Asks, and waits for the answer.
    pub(super) fn ask(&self, question: &Question<'_>) -> Result<Vec<u8>, ClientError> {
        self.ask_within(self.patience, question)
    }

    fn ask_within(
        &self,
        patience: Duration,
        question: &Question<'_>,
    ) -> Result<Vec<u8>, ClientError> {
        let answer = self.runtime.block_on(async {
            let answer = tokio::time::timeout(patience, self.converse(question)).await;
            answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
        let (good, body) = answer.map_err(|error| self.failure(error))?;
        match good {
            true => Ok(body),
            false => Err(ClientError::Refused(self.parse(&body)?)),
        }
    }

    fn failure(&self, error: io::Error) -> ClientError {
        let admin = self.admin.clone();
        match error.kind() {
            io::ErrorKind::InvalidData => ClientError::Stranger(admin),
            _ => ClientError::Unreachable(admin, error),
        }
    }

    async fn converse(&self, question: &Question<'_>) -> io::Result<(bool, Vec<u8>)> {
        match &self.admin {
            Admin::Socket(path) => {
                let stream = UnixStream::connect(path).await?;
                self.exchange(stream, "localhost", question).await
            }
            Admin::Http(host) => {
                let stream = TcpStream::connect(host).await?;
                // By its address, for that is what it answers to.
                let host = stream.peer_addr()?.to_string();
                self.exchange(stream, &host, question).await
            }
        }
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        host: &str,
        question: &Question<'_>,
    ) -> io::Result<(bool, Vec<u8>)> {
        let request = self.request(host, question).map_err(io::Error::other)?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(io::Error::other)?;
        let answer = async {
            let response = sender.send_request(request).await;
            let response = response.map_err(|error| match error.is_parse() {
                true => io::Error::new(io::ErrorKind::InvalidData, error),
                false => io::Error::other(error),
            })?;
            let good = response.status().is_success();
            let body = Limited::new(response.into_body(), ANSWER_MAX)
                .collect()
                .await;
            Ok((good, body.map_err(io::Error::other)?.to_bytes().to_vec()))
        };
        tokio::pin!(answer);
        // The answer comes while the connection is driven, and both may end.
        tokio::select! {
            biased;
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    fn request(
        &self,
        host: &str,
        question: &Question<'_>,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let mut request = Request::builder()
            .uri(question.path)
            .header(HOST, host)
            .header(ACCEPT, question.accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let body = match &question.body {
            Some((media_type, body)) => {
                request = request
                    .method(Method::POST)
                    .header(CONTENT_TYPE, *media_type);
                body.clone()
            }
            None => Vec::new(),
        };
        request.body(Full::from(body))
    }
}
