//! What Viaduct itself does with a datagram, without the kernel: the scan, the
//! rewriting, and the whole decision, for a request with a body, one without,
//! and a response.

#[path = "../../tests/support/src/fixture.rs"]
mod fixture;

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use viaduct::proxy::Decision;
use viaduct::sip::{MAX_DATAGRAM, Rewrite, Span, scan};

use fixture::{Decider, answer, caller, invite};

/// What the proxy makes of `bytes` from `source`; it must be sent on.
fn forward(decider: &mut Decider, bytes: &[u8], source: SocketAddr) -> (Vec<u8>, SocketAddr) {
    match decider.decide(bytes, source) {
        (Decision::Forward(forward), octets) => (octets.to_vec(), forward.to),
        (other, _) => panic!("not sent on, but {other:?}"),
    }
}

/// The messages by name, each with the address it comes from.
fn messages(decider: &mut Decider) -> [(&'static str, Vec<u8>, SocketAddr); 3] {
    let invite = invite();
    let text = String::from_utf8_lossy(&invite);
    let (head, _) = text.split_once("Contact:").expect("a contact");
    let bye = format!("{head}Content-Length: 0\r\n\r\n").replace("INVITE", "BYE");
    let (forwarded, farm) = forward(decider, &invite, caller());
    let response = answer(&forwarded, "SIP/2.0 200 OK");
    let (_, home) = forward(decider, &response, farm);
    assert_eq!(home, caller());
    [
        ("invite", invite, caller()),
        ("bye", bye.into_bytes(), caller()),
        ("response", response, farm),
    ]
}

fn decision(criterion: &mut Criterion) {
    let mut decider = Decider::default();
    for (name, bytes, source) in messages(&mut decider) {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("scan", |bencher| {
            bencher.iter(|| scan(black_box(&bytes)).is_ok());
        });
        group.bench_function("decide", |bencher| {
            bencher.iter(|| decider.decide(black_box(&bytes), source).0);
        });
        group.finish();
    }
}

/// The edits of a usual request: a Via put in, one parameter, Max-Forwards.
fn rewrite(criterion: &mut Criterion) {
    let invite = invite();
    let text = String::from_utf8_lossy(&invite);
    let at = |part: &str| text.find(part).expect("in the message");
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
            Ok::<_, viaduct::sip::TooManyEdits>(rewrite.write(black_box(&invite), &mut out))
        });
    });
}

criterion_group!(benches, decision, rewrite);
criterion_main!(benches);
