//! A small SIP server in a thread: it rings, answers, and takes a BYE; and it
//! answers probes.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::message::{is_method, response};
use super::wire::{self, GIVE_UP, T1, Timers};
use crate::sip::{MAX_DATAGRAM, Message, StartLine, scan};

/// How long it rings before it answers.
const RING: Duration = Duration::from_millis(100);

/// A running server; it stops when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Serves at a socket, whose address is given with it.
    pub(super) fn start((socket, address): (UdpSocket, SocketAddr)) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let mut legs = Legs {
            socket,
            address,
            legs: HashMap::new(),
            timers: Timers::new(),
        };
        let name = format!("server-{}", address.port());
        let thread = thread::Builder::new()
            .name(name)
            .spawn(move || legs.serve(&stopped))?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Stops it at once: its socket is closed, its calls are gone.
    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(Ok(()), |thread| {
            let panicked = |_| io::Error::other("a server panicked");
            thread.join().map_err(panicked)?
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The calls at a server.
struct Legs {
    socket: UdpSocket,
    address: SocketAddr,
    legs: HashMap<Vec<u8>, Leg>,
    timers: Timers<Vec<u8>>,
}

/// One call: its 180 is sent, or its 200 as well.
struct Leg {
    peer: SocketAddr,
    ringing: Vec<u8>,
    answer: Vec<u8>,
    answered: Option<Instant>,
    /// When the 200 is sent; again, while no ACK has come (§13.3.1.4).
    due: Option<Instant>,
    interval: Duration,
}

impl Legs {
    fn serve(&mut self, stop: &AtomicBool) -> io::Result<()> {
        let mut buffer = vec![0; MAX_DATAGRAM];
        while !stop.load(Ordering::Relaxed) {
            let received = wire::receive(&self.socket, &mut buffer, self.timers.next())?;
            if let Some((length, peer)) = received
                && let Ok(message) = scan(&buffer[..length])
            {
                self.request(&message, peer)?;
            }
            let now = Instant::now();
            while let Some((due, call_id)) = self.timers.take(now) {
                self.answer(due, call_id, now)?;
            }
        }
        Ok(())
    }

    fn request(&mut self, message: &Message<'_>, peer: SocketAddr) -> io::Result<()> {
        if message.fault.is_some() || matches!(message.start, StartLine::Response { .. }) {
            return Ok(());
        }
        let call_id = message.call_id.value.of(message.bytes).to_vec();
        if is_method(message, b"INVITE") {
            let (due, timers) = (Instant::now() + RING, &mut self.timers);
            let leg = self.legs.entry(call_id).or_insert_with_key(|call_id| {
                timers.add(due, call_id.clone());
                Leg {
                    peer,
                    ringing: response(message, "180 Ringing", self.address),
                    answer: response(message, "200 OK", self.address),
                    answered: None,
                    due: Some(due),
                    interval: T1,
                }
            });
            // One that was sent again is answered as before (§17.2.1).
            let latest = if leg.answered.is_some() {
                &leg.answer
            } else {
                &leg.ringing
            };
            self.socket.send_to(latest, peer)?;
        } else if is_method(message, b"ACK") {
            if let Some(leg) = self.legs.get_mut(&call_id) {
                leg.due = None;
            }
        } else if is_method(message, b"BYE") || is_method(message, b"OPTIONS") {
            self.legs.remove(&call_id);
            let answer = response(message, "200 OK", self.address);
            self.socket.send_to(&answer, peer)?;
        }
        Ok(())
    }

    /// Sends the 200 if that is what is due.
    fn answer(&mut self, due: Instant, call_id: Vec<u8>, now: Instant) -> io::Result<()> {
        let Some(leg) = self.legs.get_mut(&call_id) else {
            return Ok(());
        };
        if leg.due != Some(due) {
            return Ok(());
        }
        if now >= *leg.answered.get_or_insert(now) + GIVE_UP {
            self.legs.remove(&call_id);
            return Ok(());
        }
        self.socket.send_to(&leg.answer, leg.peer)?;
        let next = now + leg.interval;
        leg.interval *= 2;
        leg.due = Some(next);
        self.timers.add(next, call_id);
        Ok(())
    }
}
