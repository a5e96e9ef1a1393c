//! One Via value, on top and as the next below our own.
#![no_main]

#[path = "../../support/src/reading.rs"]
mod reading;
#[path = "../../support/src/twin.rs"]
mod twin;

const REST: &[u8] =
    b"\r\nFrom: <sip:a>;tag=1\r\nTo: <sip:b>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n\r\n";

libfuzzer_sys::fuzz_target!(|value: &[u8]| {
    let first = [&b"SIP/2.0 200 OK\r\nVia: "[..], value, REST].concat();
    let second = [&b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a, "[..], value, REST].concat();
    for datagram in [first, second] {
        reading::agree(&datagram).unwrap_or_else(|difference| panic!("{difference}"));
    }
});
