//! The scanner and the parsers against the plain twin: on any datagram both
//! refuse or both accept, and then agree on every field that routing reads.
//! What the proxy makes of it is for `rewriting.rs`.

use proptest::prelude::*;

use support::reading::{agree, ours};
use support::{generate, smuggling, torture};

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

/// What the two once disagreed about, and the verdict.
#[test]
fn settled_disagreements() {
    let plain = "INVITE sip:desk@farm.test SIP/2.0\r\n\
        Via: SIP/2.0/UDP phone.test;branch=z9hG4bKa1\r\n\
        Route: <sip:one.test;lr>\r\n\
        From: <sip:ann@phone.test>;tag=f1\r\n\
        To: <sip:desk@farm.test>\r\n\
        Call-ID: c1@phone.test\r\n\
        CSeq: 7 INVITE\r\n\r\n";
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
        // A CR is no hyphen, though a bit makes it one.
        ("Call-ID", "Call\rID", false),
    ];
    for (old, new, reads) in cases {
        assert!(plain.contains(old), "{old}");
        let octets = plain.replace(old, new).into_bytes();
        all_agree([(new, octets.as_slice())]);
        assert_eq!(ours(&octets).is_some(), reads, "{new:?}");
    }
    // A fold is one wherever it stands among the octets that are looked at at once.
    for length in 0..64 {
        let fold = format!("X: {}\r\n y\r\nTo:", "x".repeat(length));
        let folded = plain.replace("To:", &fold);
        assert!(ours(folded.as_bytes()).is_some(), "{folded}");
        all_agree([("fold", folded.as_bytes())]);
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
