//! The scanner and the parsers against the plain twin, and its rows and faults
//! against a plain walk.
#![no_main]

#[path = "../../support/src/reading.rs"]
mod reading;
#[path = "../../support/src/twin.rs"]
mod twin;
#[path = "../../support/src/walk.rs"]
mod walk;

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    reading::agree(datagram)
        .and_then(|()| walk::agree(datagram))
        .unwrap_or_else(|difference| panic!("{difference}"));
});
