//! Servers that a test lets live, die and come back: each answers what comes
//! to it by itself, and counts.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::dialog::response;
use super::net::V4;

/// One server; it ends when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    silent: AtomicBool,
    ended: AtomicBool,
    /// What it says to OPTIONS; 0: 200.
    status: AtomicU16,
    probes: AtomicUsize,
    calls: AtomicUsize,
}

impl Server {
    /// On a free port of 127.0.0.1.
    pub fn start() -> Self {
        let socket = UdpSocket::bind((V4, 0)).expect("a socket");
        let address = socket.local_addr().expect("its address");
        let patience = Some(Duration::from_millis(20));
        socket.set_read_timeout(patience).expect("a timeout");
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&socket, &own));
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers nothing from now on, as one that hangs.
    pub fn silence(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// Answers again.
    pub fn revive(&self) {
        self.shared.silent.store(false, Ordering::SeqCst);
    }

    /// Says this to OPTIONS.
    pub fn answer_probes(&self, status: u16) {
        self.shared.status.store(status, Ordering::SeqCst);
    }

    /// OPTIONS that came so far.
    pub fn probes(&self) -> usize {
        self.shared.probes.load(Ordering::SeqCst)
    }

    /// Other requests that came since the last time this was asked, ACK left out.
    pub fn take_calls(&self) -> usize {
        self.shared.calls.swap(0, Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("a server without a fault");
        }
    }
}

fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = vec![0; 65_536];
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((length, source)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let got = &buffer[..length];
        let probe = got.starts_with(b"OPTIONS ");
        if probe {
            shared.probes.fetch_add(1, Ordering::SeqCst);
        } else if !got.starts_with(b"ACK ") {
            shared.calls.fetch_add(1, Ordering::SeqCst);
        }
        if shared.silent.load(Ordering::SeqCst) || got.starts_with(b"ACK ") {
            continue;
        }
        let line = match shared.status.load(Ordering::SeqCst) {
            0 => "200 OK".to_owned(),
            status if probe => format!("{status} As Told"),
            _ => "200 OK".to_owned(),
        };
        // Whoever asked may be gone.
        let _ = socket.send_to(response(got, &line, "s1").as_bytes(), source);
    }
}
