//! Responses that carry a MAC of ours: a request is sent on, turned into its
//! response, and changed in a few places. Whatever is changed, it goes home
//! or nowhere.
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

use viaduct::proxy::{Decision, Way};

thread_local! {
    static DECIDER: RefCell<fixture::Decider> = RefCell::default();
}

/// Octets at the end of the input that say what to change: a count, and each
/// time an offset (two octets), how (one) and the octet to put there.
const CHANGE: usize = 4;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    DECIDER.with_borrow_mut(|decider| {
        let count = input.last().map_or(0, |octet| usize::from(octet % 4));
        let length = count * CHANGE + 1;
        let (datagram, changes) = input.split_at(input.len().saturating_sub(length));
        let source = fixture::caller();
        // A seed that is not sent on still leaves something to change.
        let mut forwarded = sent_on(decider, datagram);
        if forwarded.is_empty() {
            forwarded = sent_on(decider, &fixture::invite());
        }
        let response = fixture::answer(&forwarded, "SIP/2.0 200 OK");
        let (decision, output) = decider.decide(&response, fixture::destination(0));
        passage::check(&response, source, decision, output).unwrap_or_else(|what| panic!("{what}"));
        let Decision::Forward(home) = decision else {
            panic!("not brought home, but {decision:?}");
        };
        let mut changed = response;
        for change in changes.chunks_exact(CHANGE) {
            let at = usize::from(u16::from_be_bytes([change[0], change[1]])) % changed.len();
            match change[2] % 3 {
                0 => changed[at] = change[3],
                1 => changed.insert(at, change[3]),
                _ if changed.len() > 1 => {
                    changed.remove(at);
                }
                _ => {}
            }
        }
        let (decision, output) = decider.decide(&changed, source);
        passage::check(&changed, source, decision, output)
            .and_then(|()| again::check(decider, &changed, source))
            .unwrap_or_else(|what| panic!("{what}"));
        if let Decision::Forward(forward) = decision
            && forward.way == Way::Response
        {
            assert_eq!((forward.to, forward.listener), (home.to, home.listener));
        }
    });
});

fn sent_on(decider: &mut fixture::Decider, datagram: &[u8]) -> Vec<u8> {
    match decider.decide(datagram, fixture::caller()) {
        (Decision::Forward(forward), output) if forward.way != Way::Response => output.to_vec(),
        _ => Vec::new(),
    }
}
