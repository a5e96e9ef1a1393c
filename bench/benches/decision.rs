//! What Viaduct itself does with a datagram, without the kernel: the scan, the
//! rewriting, and the whole decision, for a request with a body, one without,
//! and a response.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use viaduct::config::{Config, Overrides, load};
use viaduct::proxy::{Datagram, Decision, Proxy, Secret};
use viaduct::sip::{MAX_DATAGRAM, Rewrite, Span, scan};

const INVITE: &str = "\
INVITE sip:+493012345678@farm.example;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.20:5060;rport;branch=z9hG4bK7c1d09ab34ef\r\n\
Max-Forwards: 70\r\n\
From: \"Wilhelmina\" <sip:+49891234567@access.example>;tag=c7f31a\r\n\
To: <sip:+493012345678@farm.example;user=phone>\r\n\
Call-ID: 3b1c9f20a7de4455-000042@access.example\r\n\
CSeq: 1 INVITE\r\n\
Contact: <sip:+49891234567@192.0.2.20:5060;transport=udp>\r\n\
User-Agent: Softphone 4.2\r\n\
Allow: INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, PRACK\r\n\
Supported: replaces, timer, 100rel\r\n\
Session-Expires: 1800\r\n\
Min-SE: 90\r\n\
Content-Type: application/sdp\r\n\
Content-Length: 219\r\n\r\n\
v=0\r\n\
o=- 3905417600 3905417600 IN IP4 192.0.2.20\r\n\
s=call\r\n\
c=IN IP4 192.0.2.20\r\n\
t=0 0\r\n\
m=audio 40000 RTP/AVP 8 0 101\r\n\
a=rtpmap:8 PCMA/8000\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=rtpmap:101 telephone-event/8000\r\n\
a=ptime:20\r\n\
a=sendrecv\r\n";

const BYE: &str = "\
BYE sip:+493012345678@farm.example;user=phone SIP/2.0\r\n\
Via: SIP/2.0/UDP 192.0.2.20:5060;rport;branch=z9hG4bK7c1d09ab34f0\r\n\
Max-Forwards: 70\r\n\
From: \"Wilhelmina\" <sip:+49891234567@access.example>;tag=c7f31a\r\n\
To: <sip:+493012345678@farm.example;user=phone>;tag=f90e2b\r\n\
Call-ID: 3b1c9f20a7de4455-000042@access.example\r\n\
CSeq: 2 BYE\r\n\
User-Agent: Softphone 4.2\r\n\
Content-Length: 0\r\n\r\n";

fn config() -> Config {
    let to = (1..=4).map(|host| format!("192.0.2.{}:5060", 100 + host));
    let overrides = Overrides {
        listen: vec![address("198.51.100.1:5060")],
        to: to
            .map(|to| viaduct::config::text::member(&to).expect("a destination"))
            .collect(),
        ..Overrides::default()
    };
    let loaded = load(None, &overrides);
    loaded.config.expect("a configuration")
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// What the proxy makes of `bytes` from `source`; it must be sent on.
fn forward(proxy: &Proxy, bytes: &[u8], source: SocketAddr) -> (Vec<u8>, SocketAddr) {
    let datagram = Datagram {
        bytes,
        source,
        listener: 0,
    };
    let mut out = vec![0; MAX_DATAGRAM];
    match proxy.decide(&datagram, &mut proxy.scratch(), &mut out) {
        Decision::Forward(forward) => (out[..forward.length].to_vec(), forward.to),
        other => panic!("not sent on, but {other:?}"),
    }
}

/// The messages by name, each with the address it comes from.
fn messages(proxy: &Proxy) -> [(&'static str, Vec<u8>, SocketAddr); 3] {
    let caller = address("192.0.2.20:5060");
    let (forwarded, farm) = forward(proxy, INVITE.as_bytes(), caller);
    let forwarded = String::from_utf8(forwarded).expect("text");
    let (_, headers) = forwarded.split_once("\r\n").expect("a start line");
    let response = format!("SIP/2.0 200 OK\r\n{headers}").into_bytes();
    let (_, home) = forward(proxy, &response, farm);
    assert_eq!(home, caller);
    [
        ("invite", INVITE.into(), caller),
        ("bye", BYE.into(), caller),
        ("response", response, farm),
    ]
}

fn decision(criterion: &mut Criterion) {
    let proxy = Proxy::new(&config(), Secret::from_octets([7; Secret::OCTETS]));
    let mut scratch = proxy.scratch();
    let mut out = vec![0; MAX_DATAGRAM];
    for (name, bytes, source) in messages(&proxy) {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("scan", |bencher| {
            bencher.iter(|| scan(black_box(&bytes)).is_ok());
        });
        group.bench_function("decide", |bencher| {
            let datagram = Datagram {
                bytes: &bytes,
                source,
                listener: 0,
            };
            bencher.iter(|| proxy.decide(black_box(&datagram), &mut scratch, &mut out));
        });
        group.finish();
    }
}

/// The edits of a usual request: a Via put in, one parameter, Max-Forwards.
fn rewrite(criterion: &mut Criterion) {
    let at = |text: &str| INVITE.find(text).expect("in the message");
    let via = at("Via:");
    let rport = at(";rport");
    let max_forwards = at("70\r\n");
    let own = [
        b"Via: SIP/2.0/UDP 198.51.100.1:5060;branch=" as &[u8],
        &[b'a'; 42],
        b"\r\n",
    ];
    let mut rewrite = Rewrite::default();
    let mut out = vec![0; MAX_DATAGRAM];
    criterion.bench_function("invite/rewrite", |bencher| {
        bencher.iter(|| {
            rewrite.clear();
            rewrite.replace(Span::new(via, via), &own)?;
            rewrite.replace(Span::new(rport, rport + 6), &[b";rport=5060"])?;
            rewrite.replace(Span::new(max_forwards, max_forwards + 2), &[b"69"])?;
            Ok::<_, viaduct::sip::TooManyEdits>(
                rewrite.write(black_box(INVITE.as_bytes()), &mut out),
            )
        });
    });
}

criterion_group!(benches, decision, rewrite);
criterion_main!(benches);
