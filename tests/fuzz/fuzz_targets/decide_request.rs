//! The whole decision on any datagram, from outside, from a member of the set
//! and over IPv6: what leaves is what came, but for the edits of a proxy, and the
//! same each time.
#![no_main]

#[path = "../../support/src/again.rs"]
mod again;
#[path = "../../support/src/fixture.rs"]
mod fixture;
#[path = "../../support/src/passage.rs"]
mod passage;
#[path = "../../support/src/twin.rs"]
mod twin;

use std::cell::RefCell;
use std::net::SocketAddr;

thread_local! {
    static DECIDER: RefCell<fixture::Decider> = RefCell::default();
    static ON_PATH: RefCell<fixture::Decider> = RefCell::new(fixture::Decider::new(&fixture::on_path()));
}

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| {
    let sources = [
        fixture::caller(),
        fixture::destination(0),
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 4999)),
    ];
    DECIDER.with_borrow_mut(|decider| {
        for source in sources {
            let (decision, output) = decider.decide(datagram, source);
            passage::check(datagram, source, decision, output)
                .unwrap_or_else(|what| panic!("{what}"));
        }
        again::check(decider, datagram, sources[datagram.len() % sources.len()])
            .unwrap_or_else(|what| panic!("{what}"));
    });
    ON_PATH.with_borrow_mut(|decider| {
        for source in sources {
            let (decision, output) = decider.decide(datagram, source);
            passage::check_on_path(datagram, decision, output)
                .unwrap_or_else(|what| panic!("{what}"));
        }
    });
});
