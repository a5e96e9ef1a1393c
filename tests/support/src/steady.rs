//! A steady load in which every single datagram counts: a caller that sends
//! new requests at a rate, and a farm that answers each.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{LONG, wait_until};

/// Requests that are sent at once, so often.
const AT_ONCE: usize = 5;
const PACE: Duration = Duration::from_millis(2);
/// How soon a thread hears of the end.
const LOOK: Duration = Duration::from_millis(50);
/// Requests that are on their way at most. Any buffer holds as many, and so does a
/// worker's inbox, so that none is lost where the machine has no time for us.
const ON_THE_WAY: usize = 150;

/// A running load: 2,500 requests and 2,500 responses a second.
pub struct Steady {
    /// The sender is to end.
    enough: Arc<AtomicBool>,
    /// All are to end.
    over: Arc<AtomicBool>,
    sender: JoinHandle<usize>,
    /// How many have come at all.
    answered: Arc<AtomicUsize>,
    caller: JoinHandle<Vec<usize>>,
    farm: Vec<JoinHandle<Vec<usize>>>,
}

/// The sockets of a farm, before there is a load.
pub fn farm(members: usize) -> Vec<UdpSocket> {
    (0..members).map(|_| socket()).collect()
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket of the test");
    socket.set_read_timeout(Some(LOOK)).expect("a time limit");
    socket
}

impl Steady {
    /// Has a caller send to each of `fronts` in turn.
    pub fn start(farm: Vec<UdpSocket>, fronts: Vec<SocketAddr>) -> Self {
        let (enough, over) = (Arc::default(), Arc::default());
        let answered = Arc::new(AtomicUsize::new(0));
        let caller = socket();
        let sending = caller.try_clone().expect("the socket once more");
        let of_farm = |member| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || serve(&member, &over))
        };
        let farm = farm.into_iter().map(of_farm).collect();
        let (is_over, count) = (Arc::clone(&over), Arc::clone(&answered));
        let caller = std::thread::spawn(move || {
            listen(&caller, &is_over, |_, _| {
                count.fetch_add(1, Ordering::Relaxed);
            })
        });
        let (is_enough, count) = (Arc::clone(&enough), Arc::clone(&answered));
        let sender = std::thread::spawn(move || send(&sending, &fronts, &is_enough, &count));
        Self {
            enough,
            over,
            sender,
            answered,
            caller,
            farm,
        }
    }

    /// Waits until so many requests have been answered.
    #[track_caller]
    pub fn wait_for(&self, answered: usize) {
        let what = format!("the answer to {answered} requests");
        wait_until(&what, || self.answered.load(Ordering::Relaxed) >= answered);
    }

    /// Ends it and demands that each request came to the farm once, and its
    /// response to the caller once. Returns how many requests there were.
    #[track_caller]
    pub fn assert_nothing_lost(self) -> usize {
        self.enough.store(true, Ordering::Relaxed);
        let sent = self.sender.join().expect("the sender");
        let end = Instant::now() + LONG;
        while self.answered.load(Ordering::Relaxed) < sent && Instant::now() < end {
            std::thread::sleep(PACE);
        }
        self.over.store(true, Ordering::Relaxed);
        let farm = self.farm.into_iter();
        let at_farm = farm.flat_map(|member| member.join().expect("a member"));
        let at_farm: Vec<_> = at_farm.collect();
        let at_caller = self.caller.join().expect("the caller");
        for (came, what) in [(at_farm, "requests"), (at_caller, "responses")] {
            let mut times = vec![0_usize; sent];
            came.iter().for_each(|number| times[*number] += 1);
            let not_once: Vec<_> = (0..sent).filter(|number| times[*number] != 1).collect();
            assert!(
                not_once.is_empty(),
                "of {sent} {what}, {} did not come once: {:?}…",
                not_once.len(),
                &not_once[..not_once.len().min(10)]
            );
        }
        sent
    }
}

/// Sends until there is enough; how many.
fn send(
    socket: &UdpSocket,
    fronts: &[SocketAddr],
    enough: &AtomicBool,
    answered: &AtomicUsize,
) -> usize {
    let own = socket.local_addr().expect("its address");
    let start = Instant::now();
    let mut sent = 0;
    while !enough.load(Ordering::Relaxed) {
        for _ in 0..AT_ONCE {
            let text = format!(
                "OPTIONS sip:desk@farm.example SIP/2.0\r\n\
                 Via: SIP/2.0/UDP {own};branch=z9hG4bKsteady{sent}\r\n\
                 Max-Forwards: 70\r\n\
                 From: <sip:ann@phones.example>;tag=s{sent}\r\n\
                 To: <sip:desk@farm.example>\r\n\
                 Call-ID: {sent}@steady\r\n\
                 CSeq: 1 OPTIONS\r\n\
                 Content-Length: 0\r\n\r\n"
            );
            let front = fronts[sent % fronts.len()];
            // A refusal of one before, which is counted as lost in the end.
            let again = |_| socket.send_to(text.as_bytes(), front);
            socket
                .send_to(text.as_bytes(), front)
                .or_else(again)
                .expect("a send");
            sent += 1;
        }
        let due = PACE * (sent / AT_ONCE) as u32;
        std::thread::sleep(due.saturating_sub(start.elapsed()));
        while sent - answered.load(Ordering::Relaxed) > ON_THE_WAY
            && !enough.load(Ordering::Relaxed)
        {
            std::thread::sleep(PACE);
        }
    }
    sent
}

/// Answers what comes, until it is over.
fn serve(socket: &UdpSocket, over: &AtomicBool) -> Vec<usize> {
    listen(socket, over, |octets, source| {
        let rest = octets.iter().position(|octet| *octet == b'\n');
        let rest = &octets[rest.expect("a start line") + 1..];
        let response = [&b"SIP/2.0 200 OK\r\n"[..], rest].concat();
        socket.send_to(&response, source).expect("a send");
    })
}

/// The numbers of what comes, until it is over.
fn listen(
    socket: &UdpSocket,
    over: &AtomicBool,
    mut take: impl FnMut(&[u8], SocketAddr),
) -> Vec<usize> {
    let mut buffer = [0; 4096];
    let mut numbers = Vec::new();
    while !over.load(Ordering::Relaxed) {
        // Nothing in time, or a refusal of what was sent.
        let Ok((length, source)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        let octets = &buffer[..length];
        let text = std::str::from_utf8(octets).expect("text");
        let call_id = text.split_once("Call-ID: ").expect("a Call-ID").1;
        let number = call_id.split('@').next().expect("a number");
        numbers.push(number.parse().expect("a number"));
        take(octets, source);
    }
    numbers
}
