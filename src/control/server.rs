//! The control thread: accepts, bounds, and serves what [`api`] answers.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio_io_timeout::TimeoutStream;

use super::files::{is_open, open_warning};
use super::guard::{self, Asker, TOKEN_HELP};
use super::order::Order;
use super::socket::{self, SocketFile};
use super::view::View;
use super::{App, api, lock};
use crate::config::Admin;
use crate::config::text::joined;

/// Connections served at a time, by listener; for a further one, the one that has
/// rested longest is closed, once there is one that has for [`REST`].
const CONNECTIONS: usize = 64;
/// How long a connection may rest, even where others wait.
const REST: Duration = Duration::from_millis(250);
/// How often room is looked for while there is none.
const LOOK: Duration = Duration::from_millis(10);

/// How long a connection may take to send a whole head, or rest between two.
const HEAD: Duration = Duration::from_secs(15);

/// Longest head of a request, in octets.
const HEAD_MAX: usize = 16 * 1024;

/// How long a connection may take none of what it is answered.
const WRITE: Duration = Duration::from_secs(15);

/// How long to wait where a connection cannot be accepted: mostly the
/// descriptors are used up.
const BREATH: Duration = Duration::from_millis(100);

/// The control thread; it ends when this is dropped, and so does its socket.
#[derive(Debug)]
pub struct Control {
    file: Option<SocketFile>,
    addresses: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Serves the admin API where `admin` says; `None`: nowhere. Changes are asked
/// for by `orders`.
///
/// # Errors
/// What keeps it from listening, with what can be done about it.
pub fn start(admin: &Admin, view: Arc<View>, orders: Sender<Order>) -> io::Result<Option<Control>> {
    if admin.socket.is_none() && admin.listen.is_empty() {
        return Ok(None);
    }
    check_token(admin)?;
    if let Some(path) = admin.token_file.as_ref().filter(|path| is_open(path)) {
        tracing::warn!("token file {}", open_warning(path));
    }
    let app = App {
        view,
        orders,
        token_file: admin.token_file.clone(),
    };
    let router = api::router(Arc::new(app));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Whatever registers with the runtime does so within it.
    let entered = runtime.enter();
    let (mut listeners, mut file) = (Vec::new(), None);
    if let Some(path) = &admin.socket {
        let (listener, made) = socket::listen(path)?;
        listeners.push(Listener::Unix(UnixListener::from_std(listener)?));
        file = Some(made);
    }
    let mut addresses = Vec::new();
    for address in &admin.listen {
        let listener = listen(*address)?;
        addresses.push(listener.local_addr()?);
        listeners.push(Listener::Tcp(listener));
    }
    for listener in listeners {
        runtime.spawn(listener.serve(router.clone()));
    }
    drop(entered);
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("control".to_owned());
    let thread = thread.spawn(move || run(&runtime, stopped))?;
    Ok(Some(Control {
        file,
        addresses,
        stop: Some(stop),
        thread: Some(thread),
    }))
}

fn run(runtime: &Runtime, stopped: oneshot::Receiver<()>) {
    // An error says the same: whoever could stop it has gone.
    let _ = runtime.block_on(stopped);
}

/// Whether the API could be served where `admin` says, beside the instance that
/// has started this process and listens on `held` itself.
///
/// # Errors
/// As of [`start`].
pub fn rehearse(admin: &Admin, held: &[SocketAddr]) -> io::Result<()> {
    check_token(admin)?;
    if let Some(path) = &admin.socket {
        match socket::is_of_parent(path) {
            true => socket::may_listen(path)?,
            false => drop(socket::listen(path)?),
        }
    }
    for address in &admin.listen {
        let mut tried = *address;
        if held.iter().any(|held| overlap(*held, tried)) {
            // What that instance holds ends with it; what has to be so still is
            // that an interface has the address.
            tried.set_port(0);
        }
        std::net::TcpListener::bind(tried).map_err(|error| failed(*address, error))?;
    }
    Ok(())
}

/// Whether one of these keeps the other from being listened on, as far as that
/// can be told: the wildcard of IPv6 takes in IPv4.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes_in = |wildcard: SocketAddr, other: SocketAddr| {
        wildcard.ip().is_unspecified() && (wildcard.is_ipv6() || other.is_ipv4())
    };
    one.port() == other.port()
        && (one.ip() == other.ip() || takes_in(one, other) || takes_in(other, one))
}

/// Which files [`start`] could not read or make, with what can be done about
/// it. None is made.
#[must_use]
pub fn missing(admin: &Admin) -> Vec<io::Error> {
    if admin.socket.is_none() && admin.listen.is_empty() {
        return Vec::new();
    }
    let socket = admin.socket.as_deref();
    let socket = socket.and_then(|path| socket::may_listen(path).err());
    check_token(admin).err().into_iter().chain(socket).collect()
}

fn check_token(admin: &Admin) -> io::Result<()> {
    let Some(path) = &admin.token_file else {
        return Ok(());
    };
    let failed = |error| {
        let path = path.display();
        io::Error::other(format!("token file {path}: {error}\n  help: {TOKEN_HELP}"))
    };
    guard::token(path).map(drop).map_err(failed)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address);
    let listener = listener.map_err(|error| failed(address, error))?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn failed(address: SocketAddr, error: io::Error) -> io::Error {
    io::Error::other(format!(
        "cannot listen on http://{address}: {error}\n  help: give another address \
         (--admin-listen); `ss -ltnp` shows who has this one"
    ))
}

/// Where it is to be found.
impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.file.iter();
        let socket = socket.map(|file| format!("unix:{}", file.path().display()));
        let addresses = self.addresses.iter();
        let addresses = addresses.map(|address| format!("http://{address}"));
        f.write_str(&joined(socket.chain(addresses)))
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.file = None;
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Listener {
    async fn serve(self, router: Router) {
        let place = self.place();
        let mut served: Vec<Served> = Vec::new();
        let mut failing = false;
        loop {
            match self.accept().await {
                Ok((stream, asker)) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("admin: {place} accepts connections again");
                    }
                    // Those that have asked meanwhile are read first: this thread
                    // may have stood still for longer than they have rested.
                    tokio::task::yield_now().await;
                    while !make_room(&mut served) {
                        tokio::time::sleep(LOOK).await;
                    }
                    let router = router.clone().layer(Extension(asker));
                    served.push(Served::begin(stream, router));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(
                            "admin: {place} accepts no connections: {error}\n  help: for more open \
                             files, LimitNOFILE in the unit, or ulimit -n"
                        );
                    }
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    /// What it listens on.
    fn place(&self) -> String {
        let place = match self {
            Self::Unix(listener) => listener.local_addr().map(|at| match at.as_pathname() {
                Some(path) => format!("unix:{}", path.display()),
                None => "a Unix socket".to_owned(),
            }),
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
        };
        place.unwrap_or_else(|error| error.to_string())
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Asker)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let asker = Asker::Local(stream.peer_cred().ok());
                Ok((Box::new(stream), asker))
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Box::new(stream), Asker::Remote(address)))
            }
        }
    }
}

/// A connection that is served.
struct Served {
    task: AbortHandle,
    activity: Arc<Mutex<Activity>>,
}

/// What a connection does, and since when.
#[derive(Clone, Copy)]
struct Activity {
    is_answered: bool,
    since: Instant,
}

impl Activity {
    fn new(is_answered: bool) -> Self {
        let since = Instant::now();
        Self { is_answered, since }
    }
}

impl Served {
    fn begin(stream: Box<dyn Stream>, router: Router) -> Self {
        let activity = Arc::new(Mutex::new(Activity::new(false)));
        let noted = Arc::clone(&activity);
        let router = router.layer(from_fn(move |request: Request, next: Next| {
            let noted = Arc::clone(&noted);
            async move {
                *lock(&noted) = Activity::new(true);
                let answer = next.run(request).await;
                *lock(&noted) = Activity::new(false);
                answer
            }
        }));
        let task = tokio::spawn(connection(stream, router)).abort_handle();
        Self { task, activity }
    }
}

/// Leaves room for one more; false where all are being answered, or may be about
/// to ask.
fn make_room(served: &mut Vec<Served>) -> bool {
    served.retain(|each| !each.task.is_finished());
    if served.len() < CONNECTIONS {
        return true;
    }
    let resting = served.iter().enumerate().filter_map(|(at, each)| {
        let Activity { is_answered, since } = *lock(&each.activity);
        (!is_answered && since.elapsed() >= REST).then_some((since, at))
    });
    let longest = resting.min();
    if let Some((_, at)) = longest {
        served.swap_remove(at).task.abort();
    }
    longest.is_some()
}

async fn connection(stream: Box<dyn Stream>, router: Router) {
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(WRITE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_header_size(HEAD_MAX)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    // One that breaks off has nobody to tell.
    let _ = connection.await;
}
