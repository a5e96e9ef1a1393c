//! Whole decisions on generated, damaged and oversized messages: what leaves is
//! what came, but for the edits of a proxy; and what may leave at all.

use std::cell::RefCell;
use std::net::SocketAddr;

use proptest::prelude::*;
use proptest::sample::Index;

use support::fixture::{self, Decider, answer, caller, destination};
use support::torture::{self, Expect};
use support::{again, generate, passage, twin, worst};
use viaduct::proxy::{Decision, Reason, Way};
use viaduct::sip::MAX_DATAGRAM;

fn source() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        Just(caller()),
        Just(destination(0)),
        Just(SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9], 4999)))
    ]
}

thread_local! {
    /// Filling the slots takes longer than many decisions.
    static DECIDER: RefCell<Decider> = RefCell::default();
    static ON_PATH: RefCell<Decider> = RefCell::new(Decider::new(&fixture::on_path()));
}

fn decide(bytes: &[u8], source: SocketAddr) -> (Decision, Vec<u8>) {
    DECIDER.with_borrow_mut(|decider| {
        let (decision, output) = decider.decide(bytes, source);
        (decision, output.to_vec())
    })
}

/// The same decision in other surroundings.
fn again(bytes: &[u8], source: SocketAddr) -> Result<(), TestCaseError> {
    DECIDER
        .with_borrow_mut(|decider| again::check(decider, bytes, source))
        .map_err(TestCaseError::fail)
}

/// What the rules of RFC 3261 §16.3 make of a valid request from outside.
fn expected_status(sample: &generate::Sample) -> Option<u16> {
    let twin = twin::read(&sample.octets).expect("a valid request");
    let twin::StartLine::Request { uri, .. } = &twin.start else {
        panic!("a request");
    };
    let scheme = twin::scheme(uri).expect("a scheme");
    if !matches!(scheme.as_str(), "sip" | "sips" | "tel" | "urn") {
        Some(416)
    } else if sample.max_forwards == Some(0) {
        Some(483)
    } else if !sample.proxy_require.is_empty() && !is_hop_by_hop(&sample.method) {
        Some(420)
    } else {
        None
    }
}

fn is_hop_by_hop(method: &str) -> bool {
    matches!(method, "ACK" | "CANCEL")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_valid_request_goes_to_a_destination_or_is_answered(
        sample in generate::request(),
    ) {
        let (decision, output) = decide(&sample.octets, caller());
        passage::check(&sample.octets, caller(), decision, &output).map_err(TestCaseError::fail)?;
        match (decision, expected_status(&sample)) {
            (Decision::Forward(forward), None) => {
                prop_assert!(matches!(forward.way, Way::Selected(_)), "{:?}", forward);
            }
            (Decision::Reply(reply), Some(status)) => prop_assert_eq!(reply.status.code(), status),
            (Decision::Drop(_), Some(_)) if is_hop_by_hop(&sample.method) => {}
            other => prop_assert!(false, "{:?}\n{}", other, sample.octets.escape_ascii()),
        }
        again(&sample.octets, caller())?;
        // A retransmission leaves alike, whatever came between.
        decide(&fixture::invite(), destination(0));
        prop_assert_eq!(decide(&sample.octets, caller()), (decision, output));
    }

    #[test]
    fn with_record_route_and_path_what_leaves_can_be_read(
        octets in prop_oneof![generate::damaged(), generate::request().prop_map(|sample| sample.octets)],
        source in source(),
    ) {
        let (decision, output) = ON_PATH.with_borrow_mut(|decider| {
            let (decision, output) = decider.decide(&octets, source);
            (decision, output.to_vec())
        });
        passage::check_on_path(&octets, decision, &output).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_damaged_message_is_sent_on_whole_or_not_at_all(
        octets in generate::damaged(),
        source in source(),
    ) {
        let (decision, output) = decide(&octets, source);
        passage::check(&octets, source, decision, &output).map_err(TestCaseError::fail)?;
        again(&octets, source)?;
    }

    #[test]
    fn a_response_comes_home(sample in generate::request(), source in source()) {
        let (decision, forwarded) = decide(&sample.octets, source);
        prop_assume!(matches!(decision, Decision::Forward(_)));
        let response = answer(&forwarded, "SIP/2.0 200 OK");
        let (decision, output) = decide(&response, destination(1));
        passage::check(&response, destination(1), decision, &output).map_err(TestCaseError::fail)?;
        match decision {
            Decision::Forward(forward) => prop_assert_eq!(forward.to.ip(), source.ip()),
            other => prop_assert!(false, "{:?}\n{}", other, response.escape_ascii()),
        }
    }

    #[test]
    fn a_changed_response_goes_to_the_same_place_or_nowhere(
        sample in generate::request(),
        changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..3),
    ) {
        let (decision, forwarded) = decide(&sample.octets, caller());
        prop_assume!(matches!(decision, Decision::Forward(_)));
        let response = answer(&forwarded, "SIP/2.0 200 OK");
        let home = match decide(&response, destination(1)).0 {
            Decision::Forward(forward) => forward.to,
            other => panic!("{other:?}"),
        };
        let mut changed = response.clone();
        for (at, octet) in changes {
            let at = at.index(changed.len());
            changed[at] = octet;
        }
        let (decision, output) = decide(&changed, destination(1));
        passage::check(&changed, destination(1), decision, &output).map_err(TestCaseError::fail)?;
        if let Decision::Forward(forward) = decision
            && forward.way == Way::Response
        {
            prop_assert_eq!(forward.to, home);
            if let (Ok(before), Ok(after)) = (twin::read(&response), twin::read(&changed)) {
                prop_assert_eq!(covered(&before), covered(&after));
            }
        }
    }
}

/// What the branch of a request vouches for, as its response shows it.
fn covered(response: &twin::Twin) -> impl PartialEq + std::fmt::Debug + use<> {
    let below = twin::via(&response.vias[1]).expect("the sender's Via");
    let maddr = below
        .params
        .iter()
        .find(|(name, _)| name == "maddr")
        .cloned();
    (
        response.call_id.clone(),
        response.from.tag.clone(),
        response.cseq.number,
        (below.host, below.port.unwrap_or(5060)),
        (
            below.branch,
            maddr.map(|(_, value)| value.unwrap_or_default()),
        ),
    )
}

#[test]
fn torture_messages_become_what_their_rows_say() {
    let mut wrong = Vec::new();
    for message in torture::messages() {
        let (decision, output) = decide(&message.octets, caller());
        if let Err(what) = passage::check(&message.octets, caller(), decision, &output) {
            wrong.push(what);
        }
        let fits = match (&message.expect, decision) {
            (Expect::Forward, Decision::Forward(forward)) => {
                matches!(forward.way, Way::Selected(_))
            }
            (Expect::Reply(status), Decision::Reply(reply)) => {
                *status == reply.status.code() && output.windows(5).any(|five| five == b";tag=")
            }
            (Expect::Drop(_), Decision::Drop(_)) => true,
            (Expect::Reads, Decision::Drop(reason)) => reason == Reason::NotOurVia,
            (Expect::Refused, Decision::Drop(reason)) => reason != Reason::NotOurVia,
            _ => false,
        };
        if !fits {
            wrong.push(format!(
                "{}: {:?}, not {decision:?}",
                message.file, message.expect
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_torture_message_cut_anywhere_is_sent_on_whole_or_not_at_all() {
    let mut decider = Decider::default();
    for message in torture::messages() {
        for end in 0..message.octets.len() {
            let cut = &message.octets[..end];
            let (decision, output) = decider.decide(cut, caller());
            passage::check(cut, caller(), decision, output).unwrap_or_else(|what| panic!("{what}"));
        }
    }
}

#[test]
fn the_largest_datagrams_are_decided() {
    let mut decider = Decider::default();
    for (name, make) in worst::CASES {
        let mut octets = make(MAX_DATAGRAM - 400);
        octets.truncate(MAX_DATAGRAM);
        let (decision, output) = decider.decide(&octets, caller());
        assert!(output.len() <= MAX_DATAGRAM, "{name}");
        passage::check(&octets, caller(), decision, output)
            .unwrap_or_else(|what| panic!("{name}: {}", &what[..what.len().min(300)]));
    }
}

/// Lengths at which fixed buffers elsewhere have overflowed.
#[test]
fn call_id_branch_and_tag_of_any_length_pass() {
    let plain = String::from_utf8(fixture::invite()).expect("text");
    let mut decider = Decider::default();
    for length in (1..=8000).chain([60_000]) {
        let long = "x".repeat(length);
        let octets = match length % 3 {
            0 => plain.replace("3848276298220188511", &long),
            1 => plain.replace("nashds8.1", &long),
            _ => plain.replace("9fxced76sl", &long),
        };
        let (decision, output) = decider.decide(octets.as_bytes(), caller());
        assert!(
            matches!(decision, Decision::Forward(_)),
            "{length}: {decision:?}"
        );
        let response = answer(output, "SIP/2.0 200 OK");
        let (decision, output) = decider.decide(&response, destination(0));
        assert!(
            matches!(decision, Decision::Forward(_)),
            "{length}: {decision:?}"
        );
        assert_eq!(twin::read(output).expect("a response").vias.len(), 1);
    }
}

#[test]
fn what_outgrows_a_datagram_is_answered_513() {
    let octets = worst::CASES[19].1(MAX_DATAGRAM - 250);
    assert!(octets.len() <= MAX_DATAGRAM);
    let (decision, _) = decide(&octets, caller());
    assert!(
        matches!(decision, Decision::Reply(reply) if reply.status.code() == 513),
        "{decision:?}"
    );
}
