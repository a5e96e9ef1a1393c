//! One URI, as the Request-URI and as a Route.
#![no_main]

#[path = "../../support/src/reading.rs"]
mod reading;
#[path = "../../support/src/twin.rs"]
mod twin;

const REST: &[u8] =
    b"\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";

libfuzzer_sys::fuzz_target!(|value: &[u8]| {
    let first = [
        &b"INVITE "[..],
        value,
        b" SIP/2.0\r\nVia: SIP/2.0/UDP a",
        REST,
    ]
    .concat();
    let second = [
        &b"INVITE sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a\r\nRoute: <"[..],
        value,
        b">",
        REST,
    ]
    .concat();
    for datagram in [first, second] {
        reading::agree(&datagram).unwrap_or_else(|difference| panic!("{difference}"));
    }
});
