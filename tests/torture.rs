//! Our own torture messages, one or more for each section of RFC 4475 and
//! RFC 5118: each reads or is refused as its row in `expect.toml` says.

use std::collections::BTreeSet;

use support::fixture::{Decider, caller};
use support::torture::{Expect, Message, messages};
use support::twin::{Refusal, StartLine, read, read_but_lists};
use viaduct::proxy::Decision;

/// What the reading alone must say, before anything is decided.
fn check_reading(message: &Message) -> Result<(), String> {
    let reading = read(&message.octets);
    let fits = match (&message.expect, &reading) {
        (Expect::Forward | Expect::Reply(416 | 420 | 483), Ok(twin)) => {
            matches!(twin.start, StartLine::Request { .. })
        }
        (Expect::Reads, Ok(twin)) => matches!(twin.start, StartLine::Response { .. }),
        (Expect::Reply(505), Err(refusal)) => *refusal == Refusal::Version,
        (Expect::Reply(400 | 501) | Expect::Drop(_) | Expect::Refused, Err(refusal)) => {
            matches!(refusal, Refusal::Malformed(_))
        }
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "{} ({}): expected {:?}, read {reading:?}",
        message.file, message.idea, message.expect
    ))
}

#[test]
fn each_message_reads_or_is_refused_as_its_row_says() {
    let wrong: Vec<String> = messages()
        .iter()
        .filter_map(|message| check_reading(message).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_section_has_a_message() {
    let wanted: BTreeSet<String> = (1..=13)
        .map(|n| format!("RFC 4475 3.1.1.{n}"))
        .chain((1..=19).map(|n| format!("RFC 4475 3.1.2.{n}")))
        .chain(["RFC 4475 3.2.1".to_owned(), "RFC 4475 3.4.1".to_owned()])
        .chain((1..=15).map(|n| format!("RFC 4475 3.3.{n}")))
        .chain((1..=10).map(|n| format!("RFC 5118 4.{n}")))
        .collect();
    let present: BTreeSet<String> = messages()
        .into_iter()
        .map(|message| {
            let number = message.section.rsplit(' ').next().unwrap_or("");
            assert!(
                message.file.contains(&format!("-{number}-")),
                "{}",
                message.file
            );
            message.section
        })
        .collect();
    assert_eq!(present, wanted);
}

#[test]
fn every_message_cut_short_is_refused_in_its_header_section() {
    for message in messages() {
        let octets = &message.octets;
        let headers = octets.windows(4).position(|four| four == b"\r\n\r\n");
        let headers = headers.expect("an empty line") + 4;
        for end in 0..headers {
            let cut = read(&octets[..end]);
            assert!(cut.is_err(), "{} cut at {end}: {cut:?}", message.file);
        }
    }
}

#[test]
fn no_message_changed_by_an_octet_is_trouble() {
    let mut decider = Decider::default();
    for message in messages() {
        let mut octets = message.octets.clone();
        // Long ones only in steps: each change costs a whole decision.
        let step = octets.len() / 1_000 + 1;
        for at in (0..octets.len()).step_by(step) {
            let old = octets[at];
            for new in [
                0,
                b'\r',
                b'\n',
                b' ',
                b',',
                b'"',
                b'<',
                b';',
                old ^ 0x20,
                old ^ 0x80,
            ] {
                octets[at] = new;
                let (decision, after) = decider.decide(&octets, caller());
                if matches!(decision, Decision::Forward(_)) {
                    let after = read_but_lists(after);
                    assert!(
                        after.is_ok(),
                        "{} with {new} at {at}: {after:?}",
                        message.file
                    );
                }
            }
            octets[at] = old;
        }
    }
}
