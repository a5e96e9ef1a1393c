//! Our own torture messages, one or more for each section of RFC 4475 and
//! RFC 5118: each reads or is refused as its row in `expect.toml` says.

use std::collections::BTreeSet;

use support::fixture::{Bench, caller};
use support::torture::{Expect, Message, messages};
use support::twin::{Refusal, StartLine, read, read_but_lists};
use viaduct::proxy::{Decision, Reason, Way};

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

/// What the decision must be, and what must then be sent.
fn check_decision(bench: &mut Bench, message: &Message) -> Result<(), String> {
    let (decision, after) = bench.decide(&message.octets, caller());
    let fits = match (&message.expect, decision) {
        (Expect::Forward, Decision::Forward(forward)) => {
            matches!(forward.way, Way::Selected(_)) && is_forwarded(&message.octets, after)
        }
        (Expect::Reply(status), Decision::Reply(reply)) => {
            reply.status.code() == *status && is_reply(*status, after)
        }
        (Expect::Drop(_), Decision::Drop(_)) => true,
        (Expect::Reads, Decision::Drop(reason)) => reason == Reason::NotOurVia,
        (Expect::Refused, Decision::Drop(reason)) => reason != Reason::NotOurVia,
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(format!(
        "{} ({}): expected {:?}, decided {decision:?}:\n{}",
        message.file,
        message.idea,
        message.expect,
        String::from_utf8_lossy(after)
    ))
}

/// Whether `after` is `before` one hop on: one Via more, one hop less, and
/// the same call.
fn is_forwarded(before: &[u8], after: &[u8]) -> bool {
    let (Ok(before), Ok(after)) = (read(before), read(after)) else {
        return false;
    };
    let hops = before.max_forwards.map_or(70, |hops| hops - 1);
    after.start == before.start
        && after.vias.len() == before.vias.len() + 1
        && after.vias[2..] == before.vias[1..]
        && after.max_forwards == Some(hops)
        && after.call_id == before.call_id
        && after.from == before.from
        && after.to == before.to
        && after.cseq == before.cseq
        && after.body == before.body
}

/// Whether `after` is a whole response with this status and a To tag. It may
/// copy what the twin does not read, so it is looked at as text.
fn is_reply(status: u16, after: &[u8]) -> bool {
    let text = String::from_utf8_lossy(after);
    text.starts_with(&format!("SIP/2.0 {status} "))
        && text.contains(";tag=")
        && text.ends_with("\r\nContent-Length: 0\r\n\r\n")
        && text.matches("\r\n\r\n").count() == 1
}

#[test]
fn each_message_is_decided_as_its_row_says() {
    let mut bench = Bench::default();
    let wrong: Vec<String> = messages()
        .iter()
        .filter_map(|message| check_decision(&mut bench, message).err())
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_message_cut_short_or_changed_by_an_octet_is_trouble() {
    let mut bench = Bench::default();
    for message in messages() {
        let mut octets = message.octets.clone();
        // Long ones only in steps: each cut costs a whole decision.
        let step = octets.len() / 1_000 + 1;
        for at in (0..octets.len()).step_by(step) {
            let (decision, _) = bench.decide(&octets[..at], caller());
            let whole = octets[..at].windows(4).any(|four| four == b"\r\n\r\n");
            assert!(
                whole || !matches!(decision, Decision::Forward(_)),
                "{} cut at {at}: {decision:?}",
                message.file
            );
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
                let (decision, after) = bench.decide(&octets, caller());
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
