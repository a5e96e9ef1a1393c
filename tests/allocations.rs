//! No allocation for a datagram after warm-up: in the decision alone, and in a
//! running instance; and none of tables and memory of calls for a change that moves
//! nobody. One test, for the counts are those of the whole process.

use std::alloc::System;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use support::LONG;
use support::fixture::{self, Decider, caller, destination};
use support::relaying::{self, Relaying};
use viaduct::config::{Config, Health, Policy, State, Timers};
use viaduct::proxy::Decision;
use viaduct::supervisor::Instance;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls after the first few.
const CALLS: usize = 10_000;
const WARM_UP: usize = 500;
/// Remembered at most: fewer than the first few calls make, so that later ones
/// take the place of others.
const TRANSACTIONS: usize = 200;
/// Requests on their way at a time: a socket's buffer holds them.
const WINDOW: usize = 50;

#[test]
fn a_datagram_costs_no_allocation() {
    // Nothing is proved by an allocator that does not count.
    let region = Region::new(ALLOCATOR);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(region.change().allocations, 1);

    decisions();
    changes();
    transactions();
    running_instance(fixture::config());
    let mut stateful = relaying::config(TRANSACTIONS);
    // Nothing is due where the machine stands still for a while.
    let long = Duration::from_secs(30);
    stateful.stateful.timers = Timers::of(long, long, long);
    running_instance(stateful);
}

/// Runs `call` to warm up, then counts.
fn count(call: impl FnMut(usize), calls: usize) {
    count_after(WARM_UP, call, calls);
}

fn count_after(warm_up: usize, mut call: impl FnMut(usize), calls: usize) {
    (0..warm_up).for_each(&mut call);
    let region = Region::new(ALLOCATOR);
    (warm_up..warm_up + calls).for_each(&mut call);
    let change = region.change();
    let allocations = change.allocations + change.reallocations;
    assert_eq!(allocations, 0, "{change:?}");
}

/// A request that can be given another Call-ID without a longer buffer.
struct Request {
    octets: Vec<u8>,
    call_id: usize,
}

impl Request {
    fn new() -> Self {
        let octets = fixture::invite();
        let call_id = position(&octets, b"Call-ID: ").expect("a Call-ID") + 9;
        Self { octets, call_id }
    }

    fn numbered(&mut self, mut number: usize) -> &[u8] {
        for digit in self.octets[self.call_id..self.call_id + 8].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.octets
    }
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

const OK: &[u8] = b"SIP/2.0 200 OK";

/// Writes the response to `request` into `out`.
fn answer<'a>(status: &[u8], request: &[u8], out: &'a mut [u8]) -> &'a [u8] {
    let rest = &request[position(request, b"\r\n").expect("a start line")..];
    out[..status.len()].copy_from_slice(status);
    out[status.len()..status.len() + rest.len()].copy_from_slice(rest);
    &out[..status.len() + rest.len()]
}

fn decisions() {
    let mut decider = Decider::default();
    let mut request = Request::new();
    let mut response = vec![0; 4096];
    let call = |number| {
        let (decision, forwarded) = decider.decide(request.numbered(number), caller());
        assert!(matches!(decision, Decision::Forward(_)), "{decision:?}");
        let response = answer(OK, forwarded, &mut response);
        let (decision, _) = decider.decide(response, destination(0));
        assert!(matches!(decision, Decision::Forward(_)), "{decision:?}");
        // A reply and a drop are no steady state, and cost none either.
        let (decision, _) = decider.decide(
            b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/UDP b\r\n\r\n",
            caller(),
        );
        assert!(matches!(decision, Decision::Drop(_)), "{decision:?}");
    };
    count(call, CALLS);
}

/// Changes after which everybody keeps what they have (another name of a
/// destination, and one that drains where calls are remembered), and one after
/// which everybody gets back what they had.
fn changes() {
    for (policy, state) in [
        (Policy::Hash, State::Active),
        (Policy::RoundRobin, State::Draining),
    ] {
        let mut config = fixture::config();
        config.sets[0].policy = policy;
        let mut decider = Decider::new(&config);
        decider.decide(&fixture::invite(), caller());
        config.sets[0].destinations[3].uri = "sip:other".to_owned();
        config.sets[0].destinations[3].state = state;
        let region = Region::new(ALLOCATOR);
        decider.proxy = decider.proxy.successor(&config);
        decider.decide(&fixture::invite(), caller());
        let taken = region.change().bytes_allocated;
        assert!(taken < 16 << 10, "{policy:?}: {taken} octets");
    }
    let well = fixture::config();
    let mut ill = well.clone();
    ill.sets[0].destinations[3].health = Health::Down;
    let proxy = Decider::new(&well).proxy.successor(&ill);
    let region = Region::new(ALLOCATOR);
    drop(proxy.successor(&well));
    let taken = region.change().bytes_allocated;
    assert!(taken < 16 << 10, "{taken} octets");
}

/// Whole lives of transactions, in a time of their own: each call rings, is
/// sent again, is answered, lingers, and is forgotten while others begin.
fn transactions() {
    const WARM_UP: usize = 4_000;
    let mut stateless = Decider::default();
    let mut relaying = Relaying::new(CALLS);
    let mut request = Request::new();
    let (mut forwarded, mut response) = (vec![0; 4096], vec![0; 4096]);
    let call = |number| {
        let invite = request.numbered(number);
        // The first attempt has the branch that it has without transactions.
        let (decision, octets) = stateless.decide(invite, caller());
        let Decision::Forward(forward) = decision else {
            panic!("{decision:?}");
        };
        let length = octets.len();
        forwarded[..length].copy_from_slice(octets);
        assert_eq!(relaying.receive(invite, caller()), 2, "itself and a 100");
        for status in [b"SIP/2.0 180 OK", b"SIP/2.0 200 OK"] {
            let response = answer(status, &forwarded[..length], &mut response);
            assert_eq!(relaying.receive(response, forward.to), 1, "it passes");
            let ringing = usize::from(status[8] == b'1');
            assert_eq!(relaying.receive(invite, caller()), ringing, "sent again");
        }
        relaying.now += 10;
        relaying.expire();
    };
    count_after(WARM_UP, call, CALLS);
    assert!(
        relaying.remembered() < WARM_UP,
        "{} linger",
        relaying.remembered()
    );
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    let limit = Some(LONG);
    socket.set_read_timeout(limit).expect("a limit");
    socket
}

/// The same over real sockets, receiving and sending included.
fn running_instance(mut config: Config) {
    let (phone, server) = (socket(), socket());
    let stateful = !config.stateful.methods.is_empty();
    config.listeners[0].address = SocketAddr::from(([127, 0, 0, 1], 0));
    config.sets[0].destinations.truncate(1);
    config.sets[0].destinations[0].address = server.local_addr().expect("an address");
    config.workers = 2;
    let instance = Instance::start(config, fixture::secret()).expect("an instance");
    let balancer = instance.address(0);

    let mut request = Request::new();
    let (mut buffer, mut response) = (vec![0; 4096], vec![0; 4096]);
    let calls = |window: usize| {
        for number in window * WINDOW..(window + 1) * WINDOW {
            let octets = request.numbered(number);
            phone.send_to(octets, balancer).expect("sent");
        }
        for _ in 0..WINDOW {
            let length = server.recv(&mut buffer).expect("a request");
            let response = answer(OK, &buffer[..length], &mut response);
            server.send_to(response, balancer).expect("sent");
        }
        let mut answered = 0;
        while answered < WINDOW {
            let length = phone.recv(&mut buffer).expect("a response");
            let is_final = buffer[..length].starts_with(OK);
            assert!(is_final || stateful && buffer[..length].starts_with(b"SIP/2.0 100 "));
            answered += usize::from(is_final);
        }
    };
    count_after(WARM_UP / WINDOW, calls, CALLS / WINDOW);
    instance.stop().expect("a clean end");
}
