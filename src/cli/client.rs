//! Asks a running instance by its admin API.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::config::text;

/// Where the service of systemd has its socket.
const SOCKET: &str = "/run/viaduct/admin.sock";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer, in octets.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Which instance is asked.
#[derive(Clone, Debug, Args)]
pub(super) struct AdminArgs {
    /// Unix socket of its admin API, or http://ADDR[:PORT]
    #[arg(long, value_name = "WHERE", env = "VIADUCT_ADMIN", default_value = SOCKET, value_parser = place)]
    admin: Place,
}

/// Where an admin API is served.
#[derive(Clone, Debug)]
enum Place {
    Socket(PathBuf),
    Address(SocketAddr),
}

fn place(text: &str) -> Result<Place, String> {
    match text.strip_prefix("http://") {
        Some(address) => match text::admin_listen(address.trim_end_matches('/')) {
            Ok(address) => Ok(Place::Address(address)),
            Err(fault) => Err(fault.to_string()),
        },
        None => Ok(Place::Socket(PathBuf::from(text))),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Address(address) => write!(f, "http://{address}"),
        }
    }
}

/// Asks one instance; each question has a connection of its own, so that one
/// that has been started anew is found again.
pub(super) struct Client {
    place: Place,
    runtime: tokio::runtime::Runtime,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

impl Client {
    pub(super) fn new(args: &AdminArgs) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self {
            place: args.admin.clone(),
            runtime,
        })
    }

    /// What is at `path`.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> io::Result<T> {
        let answer = async { tokio::time::timeout(PATIENCE, self.ask(path)).await };
        let answer = self.runtime.block_on(answer);
        let answer = answer.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let octets = answer
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.place)))?;
        serde_json::from_slice(&octets).map_err(io::Error::other)
    }

    async fn ask(&self, path: &str) -> io::Result<Bytes> {
        match &self.place {
            Place::Socket(socket) => {
                exchange(UnixStream::connect(socket).await?, "localhost", path).await
            }
            Place::Address(address) => {
                let stream = TcpStream::connect(address).await?;
                exchange(stream, &address.to_string(), path).await
            }
        }
    }
}

async fn exchange<S>(stream: S, host: &str, path: &str) -> io::Result<Bytes>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    tokio::spawn(connection);
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new());
    let request = request.map_err(io::Error::other)?;
    let response = sender
        .send_request(request)
        .await
        .map_err(io::Error::other)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_MAX)
        .collect()
        .await;
    let body = body.map_err(io::Error::other)?.to_bytes();
    match status.is_success() {
        true => Ok(body),
        false => Err(io::Error::other(format!("answered {status}"))),
    }
}
