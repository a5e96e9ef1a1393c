//! No allocation for a datagram after warm-up: in the decision alone, and in a
//! running instance. One test, for the counts are those of the whole process.
#![allow(missing_docs, reason = "a test binary has no readers of its API")]

#[path = "support/fixture.rs"]
pub mod fixture;

use std::alloc::System;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use fixture::{Bench, caller, destination};
use viaduct::proxy::Decision;
use viaduct::supervisor::Instance;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Calls after the first few.
const CALLS: usize = 10_000;
const WARM_UP: usize = 500;
/// Requests on their way at a time: a socket's buffer holds them.
const WINDOW: usize = 50;

#[test]
fn a_datagram_costs_no_allocation() {
    // Nothing is proved by an allocator that does not count.
    let region = Region::new(ALLOCATOR);
    drop(std::hint::black_box(vec![1_u8; 100]));
    assert_eq!(region.change().allocations, 1);

    decisions();
    running_instance();
}

/// Runs `call` to warm up, then counts.
fn count(mut call: impl FnMut(usize), calls: usize) {
    (0..WARM_UP).for_each(&mut call);
    let region = Region::new(ALLOCATOR);
    (WARM_UP..WARM_UP + calls).for_each(&mut call);
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

/// Writes the 200 to `request` into `out`.
fn answer<'a>(request: &[u8], out: &'a mut [u8]) -> &'a [u8] {
    const OK: &[u8] = b"SIP/2.0 200 OK";
    let rest = &request[position(request, b"\r\n").expect("a start line")..];
    out[..OK.len()].copy_from_slice(OK);
    out[OK.len()..OK.len() + rest.len()].copy_from_slice(rest);
    &out[..OK.len() + rest.len()]
}

fn decisions() {
    let mut bench = Bench::default();
    let mut request = Request::new();
    let mut response = vec![0; 4096];
    let call = |number| {
        let (decision, forwarded) = bench.decide(request.numbered(number), caller());
        assert!(matches!(decision, Decision::Forward(_)), "{decision:?}");
        let response = answer(forwarded, &mut response);
        let (decision, _) = bench.decide(response, destination(0));
        assert!(matches!(decision, Decision::Forward(_)), "{decision:?}");
        // A reply and a drop are no steady state, and cost none either.
        let (decision, _) = bench.decide(
            b"OPTIONS sip:a SIP/2.0\r\nv: SIP/2.0/UDP b\r\n\r\n",
            caller(),
        );
        assert!(matches!(decision, Decision::Drop(_)), "{decision:?}");
    };
    count(call, CALLS);
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
    let limit = Some(Duration::from_secs(10));
    socket.set_read_timeout(limit).expect("a limit");
    socket
}

/// The same over real sockets, receiving and sending included.
fn running_instance() {
    let (phone, server) = (socket(), socket());
    let mut config = fixture::config();
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
            let response = answer(&buffer[..length], &mut response);
            server.send_to(response, balancer).expect("sent");
        }
        for _ in 0..WINDOW {
            let length = phone.recv(&mut buffer).expect("a response");
            assert!(buffer[..length].starts_with(b"SIP/2.0 200 OK"));
        }
    };
    count(calls, CALLS / WINDOW);
    instance.stop().expect("a clean end");
}
