//! The scanner and the parsers against the plain twin: on any datagram both
//! refuse or both accept, and then agree on every field that routing reads.
//! What the proxy makes of it is for `rewriting.rs`.

use proptest::prelude::*;

use support::reading::{self, ours};
use support::{generate, smuggling, torture, walk};
use viaduct::sip::{Fault, scan};

fn agree(octets: &[u8]) -> Result<(), String> {
    reading::agree(octets)?;
    walk::agree(octets)
}

fn all_agree<'a>(datagrams: impl IntoIterator<Item = (&'a str, &'a [u8])>) {
    for (name, octets) in datagrams {
        agree(octets).unwrap_or_else(|difference| panic!("{name}\n{difference}"));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn valid_messages_read_alike(sample in generate::message()) {
        prop_assert!(ours(&sample.octets).is_some());
        agree(&sample.octets).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn damaged_messages_read_alike_or_are_refused_by_both(octets in generate::damaged()) {
        agree(&octets).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn noise_reads_alike(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        agree(&octets).map_err(TestCaseError::fail)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_message_cut_anywhere_reads_alike(sample in generate::message()) {
        for end in 0..sample.octets.len() {
            agree(&sample.octets[..end]).map_err(TestCaseError::fail)?;
        }
    }
}

#[test]
fn torture_messages_read_alike_whole_and_cut_anywhere() {
    for message in torture::messages() {
        for end in 0..=message.octets.len() {
            all_agree([(message.file.as_str(), &message.octets[..end])]);
        }
    }
}

#[test]
fn the_smuggling_matrix_reads_alike() {
    for case in smuggling::cases() {
        all_agree([(case.name.as_str(), case.octets.as_slice())]);
    }
}

const PLAIN: &str = "INVITE sip:desk@farm.test SIP/2.0\r\n\
    Via: SIP/2.0/UDP phone.test;branch=z9hG4bKa1\r\n\
    Route: <sip:one.test;lr>\r\n\
    From: <sip:ann@phone.test>;tag=f1\r\n\
    To: <sip:desk@farm.test>\r\n\
    Call-ID: c1@phone.test\r\n\
    CSeq: 7 INVITE\r\n\r\n";

/// Octets are looked at sixty-four at a time, and letters by one bit less.
#[test]
fn neither_the_place_of_a_fold_nor_a_bit_of_a_name_matters() {
    for length in 0..64 {
        let fold = format!("X: {}\r\n y\r\nTo:", "x".repeat(length));
        let folded = PLAIN.replace("To:", &fold);
        assert!(ours(folded.as_bytes()).is_some(), "{folded}");
        all_agree([("fold", folded.as_bytes())]);
    }
    for odd in ["Call\rID", "Call\nID", "\x03all-ID", "Call-I\x04"] {
        let named = PLAIN.replace("Call-ID", odd);
        assert!(ours(named.as_bytes()).is_none(), "{odd:?}");
        all_agree([(odd, named.as_bytes())]);
    }
}

/// Of two faults the one that stands first is told, whatever is looked at last.
#[test]
fn the_first_fault_is_told() {
    let sound = [
        "Via: SIP/2.0/UDP phone.test;branch=z9hG4bKa1",
        "From: <sip:ann@phone.test>;tag=f1",
        "To: <sip:desk@farm.test>",
        "Call-ID: c1@phone.test",
        "CSeq: 7 INVITE",
        "Max-Forwards: 70",
        "Content-Length: 0",
    ];
    let faulty = [
        ("Call-ID: a b", Fault::Value),
        ("CSeq: seven INVITE", Fault::Value),
        ("Max-Forwards: 256", Fault::Value),
        ("Content-Length: none", Fault::Value),
        ("To: <sip:again@farm.test>", Fault::Duplicate),
        ("No colon", Fault::HeaderName),
        ("X: a\rb", Fault::LineEnd),
    ];
    for (first, fault) in faulty {
        for (second, _) in faulty.into_iter().filter(|(other, _)| *other != first) {
            // Instead of the sound ones, but To, which is there twice.
            let stays = |row: &&str| {
                let name = row.split(':').next();
                let is_of = |other: &str| other.split(':').next() == name;
                row.starts_with("To") || !(is_of(first) || is_of(second))
            };
            let rows: Vec<&str> = sound.into_iter().filter(stays).collect();
            let rows = rows.join("\r\n");
            let text = format!(
                "INVITE sip:desk@farm.test SIP/2.0\r\n{rows}\r\n{first}\r\n{second}\r\n\r\n"
            );
            let found = scan(text.as_bytes()).expect("SIP");
            assert_eq!(found.fault, Some(fault), "{text}");
        }
    }
    // Behind all rows: first what the length promises, then what is missing.
    let short = PLAIN.replace("To: <sip:desk@farm.test>", "Content-Length: 5");
    let found = scan(short.as_bytes()).expect("SIP");
    assert_eq!(found.fault, Some(Fault::TooShort));
}

/// What the two once disagreed about, and the verdict.
#[test]
fn settled_disagreements() {
    let plain = PLAIN;
    let cases = [
        // RFC 3261 §7.5 knows CRLF before a start line, and no half of it.
        ("INVITE", "\nINVITE", false),
        ("INVITE", "\r\n\rINVITE", false),
        // A quoted string holds control characters behind a backslash only.
        ("phone.test;b", "phone.test;x=\"\\\x01\";b", true),
        ("phone.test;b", "phone.test;x=\"\x01\";b", false),
        ("To: <", "To: \"\\\0\" <", true),
        ("To: <", "To: \"\0\" <", false),
        ("To: <", "To: \0 <", false),
        // branch and tag are tokens, never empty.
        ("branch=z9hG4bKa1", "branch", false),
        ("branch=z9hG4bKa1", "branch=\"z9hG4bKa1\"", false),
        ("branch=z9hG4bKa1", "branch=[z9hG4bKa1]", false),
        ("tag=f1", "tag", false),
        ("tag=f1", "tag;tag=f1", false),
        // An address in brackets is one (RFC 5954).
        ("UDP phone.test", "UDP [2001:db8::1]", true),
        ("UDP phone.test", "UDP [2001:db8:::1]", false),
        ("@farm.test SIP", "@[2001:db8:::1] SIP", false),
        // A display name is not read, but for its quotes.
        ("From: <", "From: Doe, J. <", true),
        ("From: <", "From: a@b \"x;y\" c <", true),
        ("From: <", "From: \"open <", false),
        // A parameter that nobody knows may hold what a URI may.
        ("farm.test SIP", "farm.test;x={|}^;; SIP", true),
        ("farm.test SIP", "farm.test;x=a?b SIP", false),
        ("farm.test SIP", "farm.test;x=a@b SIP", false),
        ("farm.test SIP", "farm.test;maddr=a;maddr=a SIP", false),
        ("sip:desk@farm.test SIP", "tel: SIP", false),
    ];
    for (old, new, reads) in cases {
        assert!(plain.contains(old), "{old}");
        let octets = plain.replace(old, new).into_bytes();
        all_agree([(new, octets.as_slice())]);
        assert_eq!(ours(&octets).is_some(), reads, "{new:?}");
    }
    // A tag is From's and To's; in Route nobody reads it.
    let tagged = plain.replace(";lr>", ";lr>;tag=[a];tag");
    let routes = ours(tagged.as_bytes()).expect("the rest").routes;
    assert_eq!(routes.map(|routes| routes.len()), Some(1));
    all_agree([("tags in Route", tagged.as_bytes())]);
    // A Route without brackets would leave its parameters to the header.
    let bare = plain.replace("<sip:one.test;lr>", "sip:one.test;lr");
    assert_eq!(ours(bare.as_bytes()).expect("the rest").routes, None);
    all_agree([("bare Route", bare.as_bytes())]);
}
