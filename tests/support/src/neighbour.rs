//! A destination that is probed: it answers OPTIONS as the test has it.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use socket2::SockRef;

const GLANCE: Duration = Duration::from_millis(10);

/// What it does with a probe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Manner {
    /// Answers with this status.
    Answers(&'static str),
    /// Answers twice, the second time with this status.
    Repents(&'static str),
    /// Says nothing.
    Silent,
    /// Answers 200 with another branch.
    OtherBranch,
    /// Answers 200 with the second in the place of the first.
    Altered(&'static str, &'static str),
    /// Has somebody else answer with this status, and then answers 200.
    Forestalled(&'static str),
    /// Has somebody else answer 200.
    Represented,
}

pub struct Neighbour {
    pub address: SocketAddr,
    manner: Arc<Mutex<Manner>>,
    probes: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    pub fn start(ip: IpAddr, manner: Manner) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket of the neighbour");
        let address = socket.local_addr().expect("the address of a bound socket");
        // A machine that stands still has all that is due come at once.
        SockRef::from(&socket)
            .set_recv_buffer_size(1 << 20)
            .expect("a buffer");
        let other = UdpSocket::bind((ip, 0)).expect("a socket of somebody else");
        socket
            .set_read_timeout(Some(GLANCE))
            .expect("a bound on waiting");
        let manner = Arc::new(Mutex::new(manner));
        let probes = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (manner, probes) = (Arc::clone(&manner), Arc::clone(&probes));
            let stop = Arc::clone(&stop);
            move || {
                let mut buffer = [0; 65_536];
                while !stop.load(Ordering::Relaxed) {
                    let Ok((length, source)) = socket.recv_from(&mut buffer) else {
                        continue;
                    };
                    let probe = String::from_utf8(buffer[..length].to_vec()).expect("text");
                    probes.lock().expect("the probes").push(probe.clone());
                    let manner = *manner.lock().expect("the manner");
                    for (is_own, response) in responses(&probe, manner) {
                        let socket = if is_own { &socket } else { &other };
                        socket
                            .send_to(response.as_bytes(), source)
                            .expect("a response leaves");
                    }
                }
            }
        });
        Self {
            address,
            manner,
            probes,
            stop,
            thread: Some(thread),
        }
    }

    pub fn behave(&self, manner: Manner) {
        *self.manner.lock().expect("the manner") = manner;
    }

    /// The probes that came so far.
    pub fn probes(&self) -> Vec<String> {
        self.probes.lock().expect("the probes").clone()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("a thread").expect("no panic in it");
        }
    }
}

/// The value of the first row with this name.
pub fn value<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .lines()
        .find_map(|row| row.strip_prefix(name)?.strip_prefix(": "))
        .unwrap_or_else(|| panic!("no {name} in {message}"))
}

/// What is said to a probe: whether by itself, and what.
fn responses(probe: &str, manner: Manner) -> Vec<(bool, String)> {
    let ok = response(probe, "200 OK");
    match manner {
        Manner::Answers(status) => vec![(true, response(probe, status))],
        Manner::Repents(status) => vec![(true, ok), (true, response(probe, status))],
        Manner::Silent => Vec::new(),
        Manner::OtherBranch => {
            let (head, digits) = ok.split_once("z9hG4bK").expect("a branch");
            let other = if digits.starts_with('0') { '1' } else { '0' };
            vec![(true, format!("{head}z9hG4bK{other}{}", &digits[1..]))]
        }
        Manner::Altered(from, to) => {
            assert!(ok.contains(from), "no {from:?} in {ok}");
            vec![(true, ok.replacen(from, to, 1))]
        }
        Manner::Forestalled(status) => vec![(false, response(probe, status)), (true, ok)],
        Manner::Represented => vec![(false, ok)],
    }
}

/// A response to `probe` (RFC 3261 §8.2.6).
pub fn response(probe: &str, status: &str) -> String {
    format!(
        "SIP/2.0 {status}\r\nVia: {}\r\nFrom: {}\r\nTo: {};tag=n\r\nCall-ID: {}\r\nCSeq: {}\r\n\
         Content-Length: 0\r\n\r\n",
        value(probe, "Via"),
        value(probe, "From"),
        value(probe, "To"),
        value(probe, "Call-ID"),
        value(probe, "CSeq")
    )
}
