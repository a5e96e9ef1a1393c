//! Messages that two readers might read differently, and so a way past a load
//! balancer: the Call-ID that it hashes would not be the one that the
//! destination reads. Each must be refused, or read in one way.

/// One message of the matrix.
pub struct Case {
    /// What is odd in it, and where.
    pub name: String,
    /// The datagram.
    pub octets: Vec<u8>,
    /// The Call-ID that every reader must find; `None`: it must be refused.
    pub call_id: Option<&'static str>,
}

const START: &str = "INVITE sip:desk@farm.example SIP/2.0";
const REAL: &str = "real@quay.example";
const BODY: &str = "five!";

/// A row of each header that routing reads.
const ROWS: [(&str, &str); 9] = [
    ("Via", "SIP/2.0/UDP quay.example;branch=z9hG4bKq1"),
    ("Call-ID", REAL),
    ("From", "<sip:olga@quay.example>;tag=o1"),
    ("To", "<sip:desk@farm.example>"),
    ("CSeq", "3 INVITE"),
    ("Max-Forwards", "70"),
    ("Content-Length", "5"),
    ("Route", "<sip:farm.example;lr>"),
    ("Proxy-Require", "tides"),
];

/// So many of them make a plain request, which is forwarded; the others stand in
/// it only where they are what is tried.
const PLAIN: usize = 7;

/// Another value for each of them, which must never be the one that is read.
const DECOYS: [&str; 9] = [
    "SIP/2.0/UDP decoy.example;branch=z9hG4bKd1",
    "decoy@evil.example",
    "<sip:decoy@evil.example>;tag=d1",
    "<sip:decoy@evil.example>;tag=d2",
    "4 INVITE",
    "0",
    "0",
    "<sip:evil.example;lr>",
    "decoy",
];

/// Every message of the matrix.
pub fn cases() -> Vec<Case> {
    let mut cases = spelling();
    cases.extend(repetition());
    cases.extend(hidden_call_ids());
    cases.extend(call_id_values());
    cases.extend(quoting());
    cases.extend(lengths());
    cases.extend(framing());
    cases
}

fn case(name: impl Into<String>, octets: impl Into<Vec<u8>>, reads: bool) -> Case {
    Case {
        name: name.into(),
        octets: octets.into(),
        call_id: reads.then_some(REAL),
    }
}

/// The plain request, with `row` in the place of the row at `at`.
fn replaced(at: usize, row: &str) -> String {
    let tried = |index| index == at;
    let rows: Vec<String> = ROWS
        .iter()
        .enumerate()
        .filter(|(index, _)| *index < PLAIN || tried(*index))
        .map(|(index, (name, value))| match tried(index) {
            true => row.to_owned(),
            false => format!("{name}: {value}"),
        })
        .collect();
    format!("{START}\r\n{}\r\n\r\n{BODY}", rows.join("\r\n"))
}

/// The plain request, with `row` in the place of the row called `name`.
fn with(name: &str, row: &str) -> String {
    let at = ROWS.iter().position(|(each, _)| *each == name);
    replaced(at.expect("a row of the plain request"), row)
}

/// Each header spelled in odd ways.
fn spelling() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, (name, value)) in ROWS.iter().enumerate() {
        let (upper, lower) = (name.to_uppercase(), name.to_lowercase());
        let (first, second) = value.split_at(value.len() / 2);
        let ways = [
            ("space before the colon", format!("{name} : {value}"), true),
            ("tab before the colon", format!("{name}\t: {value}"), true),
            ("no space after the colon", format!("{name}:{value}"), true),
            ("upper case", format!("{upper}: {value}"), true),
            ("lower case", format!("{lower}: {value}"), true),
            ("fold after the colon", format!("{name}:\r\n {value}"), true),
            ("fold at the end", format!("{name}: {value}\r\n\t"), true),
            (
                "fold before the colon",
                format!("{name}\r\n : {value}"),
                false,
            ),
            ("space before the name", format!(" {name}: {value}"), false),
            (
                "control before the colon",
                format!("{name}\x01: {value}"),
                false,
            ),
            ("NUL before the colon", format!("{name}\0: {value}"), false),
            (
                "vertical tab before the colon",
                format!("{name}\x0b: {value}"),
                false,
            ),
            (
                "no-break space before the name",
                format!("\u{a0}{name}: {value}"),
                false,
            ),
            ("no colon", format!("{name} {value}"), false),
            (
                "NUL in the value",
                format!("{name}: {first}\0{second}"),
                false,
            ),
            ("NUL after the value", format!("{name}: {value}\0"), false),
            (
                "LF in the value",
                format!("{name}: {first}\n{second}"),
                false,
            ),
            (
                "CR in the value",
                format!("{name}: {first}\r{second}"),
                false,
            ),
            (
                "LF and SP in the value",
                format!("{name}: {first}\n {second}"),
                false,
            ),
            ("CR before CRLF", format!("{name}: {value}\r"), false),
            ("LF before CRLF", format!("{name}: {value}\n"), false),
            (
                "form feed in the value",
                format!("{name}: {first}\x0c{second}"),
                false,
            ),
        ];
        for (what, row, reads) in ways {
            cases.push(case(format!("{name}: {what}"), replaced(at, &row), reads));
        }
    }
    cases
}

/// Each header twice, in every order and spelling of its name.
fn repetition() -> Vec<Case> {
    let mut cases = Vec::new();
    for (at, ((name, value), decoy)) in ROWS.iter().zip(DECOYS).enumerate() {
        let listed = matches!(*name, "Via" | "Route" | "Proxy-Require");
        let mut names = vec![(*name).to_owned(), format!("{name} "), name.to_uppercase()];
        match *name {
            "Via" | "From" | "To" => names.push(name[..1].to_owned()),
            "Call-ID" => names.push("i".to_owned()),
            "Content-Length" => names.push("l".to_owned()),
            _ => {}
        }
        for other in names {
            let ways = [
                (
                    "and the same",
                    format!("{name}: {value}\r\n{other}: {value}"),
                ),
                (
                    "and a decoy",
                    format!("{name}: {value}\r\n{other}: {decoy}"),
                ),
                (
                    "after a decoy",
                    format!("{other}: {decoy}\r\n{name}: {value}"),
                ),
                (
                    "and a folded decoy",
                    format!("{name}: {value}\r\n{other}:\r\n {decoy}"),
                ),
            ];
            for (what, row) in ways {
                let name = format!("{name} {what} as {other:?}");
                cases.push(case(name, replaced(at, &row), listed));
            }
        }
        if !listed {
            let row = format!("{name}: {value}, {decoy}");
            cases.push(case(
                format!("{name}: two in one row"),
                replaced(at, &row),
                false,
            ));
        }
    }
    cases
}

/// A second Call-ID hidden where a careless reader finds it.
fn hidden_call_ids() -> Vec<Case> {
    const DECOY: &str = "Call-ID: decoy@evil.example";
    let rows = [
        (
            "in a folded Subject",
            format!("Subject: x\r\n {DECOY}"),
            true,
        ),
        (
            "in a Subject folded with a tab",
            format!("Subject:\r\n\t{DECOY}"),
            true,
        ),
        ("after NUL in Subject", format!("Subject: x\0{DECOY}"), true),
        (
            "after U+2028 in Subject",
            format!("Subject: x\u{2028}{DECOY}"),
            true,
        ),
        (
            "after U+0085 in Subject",
            format!("Subject: x\u{85}{DECOY}"),
            true,
        ),
        (
            "after a vertical tab in Subject",
            format!("Subject: x\x0b{DECOY}"),
            true,
        ),
        ("after LF in Subject", format!("Subject: x\n{DECOY}"), false),
        ("after CR in Subject", format!("Subject: x\r{DECOY}"), false),
        (
            "after LFCR in Subject",
            format!("Subject: x\n\r{DECOY}"),
            false,
        ),
        (
            "after an escaped CRLF",
            format!("Subject: \"x\\\r\n{DECOY}\""),
            false,
        ),
        (
            "in a quoted string",
            format!("Subject: \"x\r\n{DECOY}\r\ny: \""),
            false,
        ),
        (
            "in a quoted string, folded",
            format!("Subject: \"x\r\n {DECOY}\r\n \""),
            true,
        ),
        (
            "after a line of white space",
            format!("Subject: x\r\n \t\r\n{DECOY}"),
            false,
        ),
        ("after LFLF", format!("Subject: x\n\n{DECOY}"), false),
        ("after CRLF LF", format!("Subject: x\r\n\n{DECOY}"), false),
        (
            "as the beginning of a name",
            "Call-ID-Old: decoy".to_owned(),
            true,
        ),
        ("as the end of a name", "X-Call-ID: decoy".to_owned(), true),
        ("with a low line", "Call_ID: decoy".to_owned(), true),
        ("with a space inside", "Call -ID: decoy".to_owned(), false),
        ("with NUL inside", "Call\0-ID: decoy".to_owned(), false),
        ("by an unknown one-letter name", "j: decoy".to_owned(), true),
        (
            "by the dotless compact name",
            "\u{131}: decoy".to_owned(),
            false,
        ),
        ("after a colon alone", ": Call-ID: decoy".to_owned(), false),
        (
            "behind a header without a value",
            format!("Subject:\r\n{DECOY}"),
            false,
        ),
    ];
    let place = |row: &str| with("CSeq", &format!("{row}\r\nCSeq: 3 INVITE"));
    rows.map(|(what, row, reads)| case(format!("decoy {what}"), place(&row), reads))
        .into()
}

/// Call-IDs that are legal, and some that are two.
fn call_id_values() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "\"open@quay.example",
        "<angle@quay.example>",
        "a<b\"c\\d/e[f]g{h}i?j:k(l)@m",
        "one;two=three",
        "one,two",
        "\"one,two\"",
        "\\",
        "%00%0d%0a",
        "UPPER@Quay.Example",
        "\u{fc}\u{2028}@quay.example",
    ] {
        cases.push(Case {
            name: format!("Call-ID is {value}"),
            octets: with("Call-ID", &format!("Call-ID: {value}")).into(),
            call_id: Some(value),
        });
        cases.push(Case {
            name: format!("Call-ID is {value} with white space round it"),
            octets: with("Call-ID", &format!("i :\t\r\n {value} \t\r\n ")).into(),
            call_id: Some(value),
        });
    }
    for value in [
        "",
        " ",
        "one two",
        "one\ttwo",
        "one\r\n two",
        "\"one two\"",
        "one\x7f",
    ] {
        let name = format!("Call-ID is {value:?}");
        cases.push(case(
            name,
            with("Call-ID", &format!("Call-ID: {value}")),
            false,
        ));
    }
    cases
}

/// Commas, quotes and angle brackets in Via, From, To and Route.
fn quoting() -> Vec<Case> {
    let via = "SIP/2.0/UDP quay.example;branch=z9hG4bKq1";
    let uri = "<sip:olga@quay.example>";
    let rows = [
        ("Via", format!("{via};x=\"a,b\""), true),
        ("Via", format!("{via};x=\"a\\\",b\""), true),
        ("Via", format!("{via};x=\"a\\\\\",SIP/2.0/UDP b"), true),
        ("Via", format!("{via};x=\"a\r\n ,b\""), true),
        ("Via", format!("{via};x=\"a, SIP/2.0/UDP b"), false),
        ("Via", format!("{via};x=a\"b, c\""), false),
        ("Via", format!("{via};x=<a, SIP/2.0/UDP b>"), false),
        ("Via", format!("{via}, \"open"), true),
        ("Via", format!("{via},"), true),
        ("Via", format!(",{via}"), false),
        ("Via", format!("{via};branch=z9hG4bKother"), false),
        ("Via", format!("{via};BRANCH=z9hG4bKother"), false),
        (
            "Via",
            format!("{via};received=192.0.2.1;received=192.0.2.2"),
            false,
        ),
        ("Via", format!("{via};rport;rport=9"), false),
        (
            "Via",
            format!("{via};maddr=192.0.2.1;maddr=192.0.2.2"),
            false,
        ),
        (
            "Via",
            format!("{via};x=\"\r\nVia: SIP/2.0/UDP decoy.example\r\nX: \""),
            false,
        ),
        ("From", format!("\";tag=decoy\" {uri};tag=o1"), true),
        ("From", format!("\"\\\";tag=decoy\" {uri};tag=o1"), true),
        ("From", format!("\"open {uri};tag=o1"), false),
        ("From", format!("\"end\\\" {uri};tag=o1"), false),
        (
            "From",
            "<sip:olga@quay.example;tag=decoy>;tag=o1".to_owned(),
            true,
        ),
        (
            "From",
            "<sip:\"olga\"@quay.example>;tag=o1".to_owned(),
            false,
        ),
        ("From", format!("{uri};x=\";tag=decoy\";tag=o1"), true),
        ("From", format!("{uri};tag=o1;TAG=decoy"), false),
        ("From", format!("{uri};tag=o1, {uri};tag=decoy"), false),
        (
            "From",
            format!("sip:decoy@evil.example;x={uri};tag=o1"),
            false,
        ),
        ("To", format!("{uri}{uri}"), false),
        ("To", format!("{uri};tag=\"quoted\""), false),
        (
            "Route",
            "\"a, <sip:decoy>\" <sip:farm.example;lr>".to_owned(),
            true,
        ),
        ("Route", "<sip:a,b@farm.example;lr>".to_owned(), true),
        (
            "Route",
            "<sip:farm.example;lr>, <sip:evil.example".to_owned(),
            false,
        ),
        (
            "Route",
            "<sip:farm.example@evil.example@farm.example>".to_owned(),
            false,
        ),
    ];
    rows.map(|(name, value, reads)| {
        case(
            format!("{name}: {value}"),
            with(name, &format!("{name}: {value}")),
            reads,
        )
    })
    .into()
}

/// Content-Length, Max-Forwards and CSeq at and beyond their bounds.
fn lengths() -> Vec<Case> {
    let values = [
        ("Content-Length", "2", true),
        ("Content-Length", "0", true),
        ("Content-Length", "0000000000000000000000005", true),
        ("Content-Length", "6", false),
        ("Content-Length", "-1", false),
        ("Content-Length", "+5", false),
        ("Content-Length", "0x5", false),
        ("Content-Length", "5.0", false),
        ("Content-Length", "5;x", false),
        ("Content-Length", "5 5", false),
        ("Content-Length", "", false),
        ("Content-Length", "\u{665}", false),
        ("Content-Length", "4294967295", false),
        ("Content-Length", "4294967296", false),
        ("Content-Length", "4294967301", false),
        ("Content-Length", "18446744073709551615", false),
        ("Content-Length", "18446744073709551616", false),
        ("Content-Length", "18446744073709551621", false),
        ("Max-Forwards", "0000255", true),
        ("Max-Forwards", "256", false),
        ("Max-Forwards", "4294967297", false),
        ("Max-Forwards", "18446744073709551617", false),
        ("Max-Forwards", "-1", false),
        ("Max-Forwards", "7 0", false),
        ("CSeq", "4294967295 INVITE", true),
        ("CSeq", "0003 \t INVITE", true),
        ("CSeq", "4294967296 INVITE", false),
        ("CSeq", "18446744073709551619 INVITE", false),
        ("CSeq", "3 invite", false),
        ("CSeq", "3 BYE", false),
        ("CSeq", "3INVITE", false),
        ("CSeq", "3 INVITE BYE", false),
    ];
    values
        .map(|(name, value, reads)| {
            case(
                format!("{name}: {value}"),
                with(name, &format!("{name}: {value}")),
                reads,
            )
        })
        .into()
}

/// What stands before, between and behind messages, and start lines.
fn framing() -> Vec<Case> {
    let plain = with("CSeq", "CSeq: 3 INVITE");
    let second = plain.replace(REAL, "decoy@evil.example");
    let start = |line: &str| plain.replacen(START, line, 1);
    let unsized_body = with("Content-Length", "Subject: x").replace(BODY, &second);
    vec![
        case("plain", plain.clone(), true),
        case(
            "a second message beyond the body",
            format!("{plain}{second}"),
            true,
        ),
        case("a second message as the body", unsized_body, true),
        case("CRLF before", format!("\r\n{plain}"), true),
        case(
            "many CRLF before",
            format!("{}{plain}", "\r\n".repeat(50)),
            true,
        ),
        case("LF before", format!("\n{plain}"), false),
        case("CR before", format!("\r{plain}"), false),
        case("SP before", format!(" {plain}"), false),
        case("NUL before", format!("\0{plain}"), false),
        case("byte order mark before", format!("\u{feff}{plain}"), false),
        case("LF for every CRLF", plain.replace("\r\n", "\n"), false),
        case("CR for every CRLF", plain.replace("\r\n", "\r"), false),
        case(
            "LFLF for the empty line",
            plain.replace("\r\n\r\n", "\n\n"),
            false,
        ),
        case(
            "CRLF LF for the empty line",
            plain.replace("\r\n\r\n", "\r\n\n"),
            false,
        ),
        case(
            "white space in the empty line",
            plain.replace("\r\n\r\n", "\r\n \r\n"),
            false,
        ),
        case("no empty line", plain.replace("\r\n\r\n", "\r\n"), false),
        case("two start lines", format!("{START}\r\n{plain}"), false),
        case(
            "two SP after the method",
            start("INVITE  sip:desk@farm.example SIP/2.0"),
            false,
        ),
        case(
            "tab after the method",
            start("INVITE\tsip:desk@farm.example SIP/2.0"),
            false,
        ),
        case(
            "SP after the version",
            start("INVITE sip:desk@farm.example SIP/2.0 "),
            false,
        ),
        case(
            "a folded start line",
            start("INVITE sip:desk@farm.example\r\n SIP/2.0"),
            false,
        ),
        case(
            "two URIs",
            start("INVITE sip:a@b.example sip:c@d.example SIP/2.0"),
            false,
        ),
        case(
            "version in lower case",
            start("INVITE sip:desk@farm.example sip/2.0"),
            true,
        ),
        case(
            "NUL in the URI",
            start("INVITE sip:desk\0@farm.example SIP/2.0"),
            false,
        ),
        case(
            "two @ in the URI",
            start("INVITE sip:a@b.example@farm.example SIP/2.0"),
            false,
        ),
        case(
            "method in lower case",
            start("invite sip:desk@farm.example SIP/2.0"),
            false,
        ),
        case(
            "LF after the start line",
            start(&format!("{START}\nX: y")),
            false,
        ),
    ]
}
