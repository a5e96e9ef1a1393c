//! The admin API of a Viaduct, asked by its Unix socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often Prometheus and `viaduct top` ask.
const INTERVAL: Duration = Duration::from_secs(1);

/// What is answered to GET of `path`.
///
/// # Errors
/// Nobody answers, or not with 200.
pub(crate) fn get(socket: &Path, path: &str) -> Result<String> {
    let mut stream = UnixStream::connect(socket)
        .with_context(|| format!("nobody answers at {}", socket.display()))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer of HTTP")?;
    let first = head.lines().next().unwrap_or_default();
    ensure!(first.contains(" 200 "), "GET {path} is answered {first}");
    Ok(body.to_owned())
}

/// Asks for metrics and status, as Prometheus and `viaduct top` do together.
pub(crate) struct Watcher {
    end: Sender<()>,
    thread: JoinHandle<Result<()>>,
}

impl Watcher {
    pub(crate) fn start(socket: PathBuf) -> Self {
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            loop {
                get(&socket, "/metrics")?;
                get(&socket, "/api/v1/status")?;
                if ended.recv_timeout(INTERVAL) != Err(RecvTimeoutError::Timeout) {
                    return Ok(());
                }
            }
        });
        Self { end, thread }
    }

    /// # Errors
    /// It was not answered once.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.end);
        let watched = self.thread.join();
        watched.map_err(|_| anyhow!("the watcher is gone"))?
    }
}
