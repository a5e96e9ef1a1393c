//! The scanner and the parsers against the plain twin.
#![no_main]

#[path = "../../support/src/reading.rs"]
mod reading;
#[path = "../../support/src/twin.rs"]
mod twin;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    reading::agree(datagram).unwrap_or_else(|difference| panic!("{difference}"));
});
