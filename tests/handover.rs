//! What one worker posts to another arrives, in order, and wakes it.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mio::{Events, Poll, Token, Waker};
use support::{LONG, fixture};
use viaduct::net::Socket;
use viaduct::proxy::{Datagram, KeptDatagram, Proxy, ReplyLimiter};
use viaduct::worker::{Handed, Handovers, Samples, Shared, Snapshot, Worker};

/// Number `number` of what `sender` posts.
fn handed(sender: usize, number: u32) -> Handed {
    Handed::Datagram(KeptDatagram {
        bytes: number.to_be_bytes().into(),
        source: SocketAddr::from(([192, 0, 2, 1], 5060)),
        listener: sender,
    })
}

/// Whose it is, and which one.
fn read(handed: Handed) -> (usize, u32) {
    let Handed::Datagram(kept) = handed else {
        panic!("{handed:?}");
    };
    let bytes = kept.bytes[..].try_into().expect("four octets");
    (kept.listener, u32::from_be_bytes(bytes))
}

/// What wakes worker `number`, from now on.
fn poll(handovers: &Handovers, number: usize) -> Poll {
    let poll = Poll::new().expect("epoll");
    let waker = Waker::new(poll.registry(), Token(0)).expect("a waker");
    handovers
        .woken_by(number, Arc::new(waker))
        .expect("a wake-up");
    poll
}

fn is_woken(poll: &mut Poll, patience: Duration) -> bool {
    let mut events = Events::with_capacity(1);
    poll.poll(&mut events, Some(patience)).expect("no error");
    !events.is_empty()
}

#[test]
fn each_worker_takes_its_own() {
    let handovers = Handovers::new(3);
    assert!(handovers.post(1, handed(0, 1)));
    assert!(handovers.post(2, handed(0, 2)));
    assert_eq!(handovers.take(0), None);
    assert_eq!(handovers.take(1), Some(handed(0, 1)));
    assert_eq!(handovers.take(1), None);
    assert_eq!(handovers.take(2), Some(handed(0, 2)));
}

#[test]
fn a_worker_is_woken_once_for_all_that_it_has_not_taken() {
    let handovers = Handovers::new(2);
    let mut poll = poll(&handovers, 1);
    assert!(is_woken(&mut poll, LONG), "for what was posted before");
    assert_eq!(handovers.take(1), None);
    for round in 0..3 {
        assert!(!is_woken(&mut poll, Duration::ZERO));
        assert!(handovers.post(1, handed(0, round)));
        assert!(is_woken(&mut poll, LONG));
        // It is awake, and need not be told again.
        assert!(handovers.post(1, handed(0, round)));
        assert!(!is_woken(&mut poll, Duration::ZERO));
        assert_eq!(handovers.take(1), Some(handed(0, round)));
        assert_eq!(handovers.take(1), Some(handed(0, round)));
        assert_eq!(handovers.take(1), None);
    }
}

#[test]
fn a_full_inbox_refuses_and_takes_again() {
    let handovers = Handovers::new(2);
    let room = (0..).take_while(|number| handovers.post(1, handed(0, *number)));
    let room = room.count() as u32;
    assert!(room >= 256, "{room} are less than a batch");
    assert_eq!(handovers.take(1), Some(handed(0, 0)));
    assert!(handovers.post(1, handed(0, room)));
    assert!(!handovers.post(1, handed(0, room + 1)));
    for number in 1..=room {
        assert_eq!(handovers.take(1), Some(handed(0, number)));
    }
    assert_eq!(handovers.take(1), None);
}

/// The taker sleeps whenever there is nothing; one wake-up that is missing and
/// it would sleep for ever.
#[test]
fn nothing_is_lost_or_overtaken_while_the_taker_falls_asleep() {
    const SENDERS: usize = 3;
    const EACH: u32 = 20_000;
    let handovers = Handovers::new(SENDERS + 1);
    let mut poll = poll(&handovers, SENDERS);
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let handovers = handovers.clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    while !handovers.post(SENDERS, handed(sender, number)) {
                        std::thread::yield_now();
                    }
                    // Now and then, so that the taker runs dry.
                    if number % 7 == 0 {
                        std::thread::yield_now();
                    }
                }
            })
        })
        .collect();
    let mut next = [0; SENDERS];
    while next != [EACH; SENDERS] {
        assert!(is_woken(&mut poll, LONG), "asleep at {next:?}");
        while let Some(handed) = handovers.take(SENDERS) {
            let (sender, number) = read(handed);
            assert_eq!(number, next[sender]);
            next[sender] += 1;
        }
    }
    for sender in senders {
        sender.join().expect("no panic");
    }
}

/// One at a time, each at another moment of the taker's last look: one wake-up
/// that is missing and both would wait for ever.
#[test]
fn what_comes_while_the_taker_finds_nothing_wakes_it() {
    const ALL: u32 = 50_000;
    let handovers = Handovers::new(2);
    let mut poll = poll(&handovers, 1);
    let taken = Arc::new(AtomicU32::new(0));
    let sender = std::thread::spawn({
        let (handovers, taken) = (handovers.clone(), Arc::clone(&taken));
        move || {
            for number in 0..ALL {
                while taken.load(Ordering::Relaxed) < number {
                    std::hint::spin_loop();
                }
                (0..number % 20).for_each(|_| std::hint::spin_loop());
                assert!(handovers.post(1, handed(0, number)));
            }
        }
    });
    while taken.load(Ordering::Relaxed) < ALL {
        let at = taken.load(Ordering::Relaxed);
        assert!(is_woken(&mut poll, LONG), "asleep at {at}");
        while handovers.take(1).is_some() {
            taken.fetch_add(1, Ordering::Relaxed);
        }
    }
    sender.join().expect("no panic");
}

/// The second one hands over faster than the first one takes it.
#[test]
fn what_is_handed_over_keeps_no_worker_from_its_socket() {
    let socket = Socket::bind(([127, 0, 0, 1], 0).into(), 1 << 20, 1 << 20).expect("a socket");
    let front = socket.address().expect("its address");
    let mut config = fixture::config();
    config.listeners[0].address = front;
    config.resolve = false;
    config.workers = 2;
    config.stateful.methods = vec!["INVITE".to_owned()];
    config.stateful.transactions = 64;
    let snapshot = Snapshot::new(Proxy::new(&config, fixture::secret()), config.workers);
    let shared = Arc::new(Shared {
        latest: Arc::new(ArcSwap::from_pointee(snapshot)),
        stop: AtomicBool::new(false),
        finishing: AtomicBool::new(false),
        receiving: AtomicUsize::new(0),
        started: Instant::now(),
        handovers: Handovers::new(config.workers),
        losses: AtomicU64::new(0),
        accounting: None,
        samples: Samples::default(),
        mirror: None,
    });
    let (worker, waker) = Worker::new(
        0,
        vec![socket],
        Arc::clone(&shared),
        Arc::default(),
        ReplyLimiter::new(1000, [0; 16]),
        None,
        &config,
    )
    .expect("a worker");
    let worker = std::thread::spawn(move || worker.run());
    let flood = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            let rows = "a:b\r\n".repeat(600);
            let noise = format!("INVITE sip:desk@farm.example SIP/2.0\r\n{rows}\r\n");
            while !shared.stop.load(Ordering::Relaxed) {
                let noise = Datagram {
                    bytes: noise.as_bytes(),
                    source: fixture::caller(),
                    listener: 0,
                };
                let handed = Handed::Datagram(noise.kept());
                shared.handovers.post(0, handed);
            }
        }
    });
    let caller = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    caller.set_read_timeout(Some(LONG)).expect("a time limit");
    let own = caller.local_addr().expect("its address");
    let probe = format!(
        "OPTIONS sip:desk@farm.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP {own};branch=z9hG4bKprobe\r\n\
         Max-Forwards: 0\r\n\
         From: <sip:ann@phone.example>;tag=1\r\n\
         To: <sip:desk@farm.example>\r\n\
         Call-ID: probe\r\n\
         CSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    let mut answer = [0; 2048];
    for _ in 0..10 {
        caller.send_to(probe.as_bytes(), front).expect("a send");
        let length = caller.recv(&mut answer).expect("an answer in time");
        assert!(answer[..length].starts_with(b"SIP/2.0 "));
    }
    shared.stop.store(true, Ordering::Relaxed);
    waker.wake().expect("a wake-up");
    flood.join().expect("no panic");
    worker.join().expect("no panic").expect("no error");
}
