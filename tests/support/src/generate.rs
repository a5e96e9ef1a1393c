//! Messages for property tests: valid ones with every oddity that the grammar
//! of RFC 3261 §25.1 allows, and damaged ones. Each valid one comes with what
//! was written into it, so that no reader has to be trusted.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::damage::{Damage, damage};

/// A valid message and what it says.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The datagram.
    pub octets: Vec<u8>,
    /// The method, or that of CSeq in a response.
    pub method: String,
    /// The status of a response.
    pub status: Option<u16>,
    /// Number of Via values over all rows.
    pub vias: usize,
    /// branch of the top Via.
    pub branch: Option<String>,
    /// Call-ID.
    pub call_id: String,
    /// Tag of From.
    pub from_tag: Option<String>,
    /// Tag of To.
    pub to_tag: Option<String>,
    /// Number of CSeq.
    pub cseq: u32,
    /// Max-Forwards.
    pub max_forwards: Option<u8>,
    /// Hosts of the Route values over all rows.
    pub route_hosts: Vec<String>,
    /// Option tags of Proxy-Require over all rows.
    pub proxy_require: Vec<String>,
    /// The body within Content-Length.
    pub body: Vec<u8>,
}

/// Any valid message, request or response.
pub fn message() -> impl Strategy<Value = Sample> {
    prop_oneof![3 => request(), 1 => response()]
}

/// A valid request.
pub fn request() -> impl Strategy<Value = Sample> {
    (method(), request_uri(), version()).prop_flat_map(|(method, uri, version)| {
        let start = format!("{method} {uri} {version}").into_bytes();
        rest(start, method, None)
    })
}

/// A valid response; nothing in it was made by us.
pub fn response() -> impl Strategy<Value = Sample> {
    (version(), 100..=699_u16, free_text(), method()).prop_flat_map(
        |(version, status, reason, method)| {
            let start = [format!("{version} {status} ").into_bytes(), reason].concat();
            rest(start, method, Some(status))
        },
    )
}

/// A valid message, then damaged once or a few times.
pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    (message(), vec(damage(), 1..4)).prop_map(|(sample, damages)| {
        let apply = |octets, damage: Damage| damage.apply(octets);
        damages.into_iter().fold(sample.octets, apply)
    })
}

/// Every row but Via, and what they say.
#[derive(Clone, Debug)]
struct Rows {
    rows: Vec<Vec<u8>>,
    call_id: String,
    from_tag: Option<String>,
    to_tag: Option<String>,
    cseq: u32,
    max_forwards: Option<u8>,
    route_hosts: Vec<String>,
    proxy_require: Vec<String>,
}

/// The start line is given; all that follows is drawn.
fn rest(start: Vec<u8>, method: String, status: Option<u16>) -> BoxedStrategy<Sample> {
    let order = vec(any::<Index>(), 40);
    (0..3_usize, vias(), rows(method.clone()), order, body())
        .prop_map(move |(blank, vias, mut rows, order, body)| {
            if let Some(row) = body.row {
                rows.rows.push(row);
            }
            let lines = interleave(rows.rows, vias.rows, &order);
            let mut octets = b"\r\n".repeat(blank);
            octets.extend_from_slice(&start);
            for line in lines {
                octets.extend_from_slice(b"\r\n");
                octets.extend_from_slice(&line);
            }
            octets.extend_from_slice(b"\r\n\r\n");
            octets.extend_from_slice(&body.content);
            octets.extend_from_slice(&body.beyond);
            Sample {
                octets,
                method: method.clone(),
                status,
                vias: vias.count,
                branch: vias.branch,
                call_id: rows.call_id,
                from_tag: rows.from_tag,
                to_tag: rows.to_tag,
                cseq: rows.cseq,
                max_forwards: rows.max_forwards.filter(|_| status.is_none()),
                route_hosts: rows.route_hosts,
                proxy_require: rows.proxy_require,
                body: body.content,
            }
        })
        .boxed()
}

/// Shuffles the rows, and puts the Via rows between them in their own order.
fn interleave(rows: Vec<Vec<u8>>, vias: Vec<Vec<u8>>, order: &[Index]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut draws = order.iter().cycle();
    let mut draw = |size| draws.next().map_or(0, |index| index.index(size));
    for row in rows {
        lines.insert(draw(lines.len() + 1), row);
    }
    let mut from = 0;
    for via in vias {
        let at = from + draw(lines.len() - from + 1);
        lines.insert(at, via);
        from = at + 1;
    }
    lines
}

// ── Rows ───────────────────────────────────────────────────────────────────

fn rows(method: String) -> BoxedStrategy<Rows> {
    let mandatory = (
        header(&["Call-ID", "i"], call_id()),
        header(&["From", "f"], party()),
        header(&["To", "t"], party()),
        header(&["CSeq"], cseq(method)),
    );
    let further = (
        option::of(header(
            &["Max-Forwards"],
            any::<u8>().prop_map(|hops| (format!("{hops:03}"), hops)),
        )),
        option::of(header(&["Route"], listed(route(), 1..4))),
        option::of(header(&["Proxy-Require"], listed(option_tag(), 1..3))),
        vec(unknown_row(), 0..5),
    );
    (mandatory, further)
        .prop_map(
            |((call_id, from, to, cseq), (hops, routes, options, unknown))| {
                let mut rows = vec![call_id.0, from.0, to.0, cseq.0];
                let max_forwards = hops.map(|(row, hops)| {
                    rows.push(row);
                    hops
                });
                let route_hosts = routes.map_or_else(Vec::new, |(row, hosts)| {
                    rows.push(row);
                    hosts
                });
                let proxy_require = options.map_or_else(Vec::new, |(row, tags)| {
                    rows.push(row);
                    tags
                });
                rows.extend(unknown);
                Rows {
                    rows,
                    call_id: call_id.1,
                    from_tag: from.1,
                    to_tag: to.1,
                    cseq: cseq.1,
                    max_forwards,
                    route_hosts,
                    proxy_require,
                }
            },
        )
        .boxed()
}

/// A row: one of the names in any case, HCOLON, the value; and what it says.
fn header<T: std::fmt::Debug + 'static>(
    names: &'static [&'static str],
    value: impl Strategy<Value = (String, T)> + 'static,
) -> BoxedStrategy<(Vec<u8>, T)> {
    let before = select(&["", "", " ", "\t", " \t "][..]);
    (select(names), any::<u32>(), before, sws(), value, sws())
        .prop_map(|(name, case, before, after, (value, said), end)| {
            let name = in_case(name, case);
            (
                format!("{name}{before}:{after}{value}{end}").into_bytes(),
                said,
            )
        })
        .boxed()
}

/// Values joined by COMMA, and what they say.
fn listed<T: std::fmt::Debug + 'static>(
    value: impl Strategy<Value = (String, T)> + 'static,
    count: std::ops::Range<usize>,
) -> BoxedStrategy<(String, Vec<T>)> {
    vec((value, sws(), sws()), count)
        .prop_map(|values| {
            let mut text = String::new();
            let mut said = Vec::new();
            for ((value, one), before, after) in values {
                if !said.is_empty() {
                    text.push_str(&format!("{before},{after}"));
                }
                text.push_str(&value);
                said.push(one);
            }
            (text, said)
        })
        .boxed()
}

fn unknown_row() -> impl Strategy<Value = Vec<u8>> {
    let known = select(&["Subject", "s", "m", "k", "c", "e", "From-Person", "Vial"][..]);
    let name = prop_oneof![known.prop_map(str::to_owned), "X-[!%*_+`'~.a-z0-9-]{0,9}"];
    (name, sws(), vec((free_text(), sws()), 0..4)).prop_map(|(name, space, parts)| {
        let mut row = format!("{name}:{space}").into_bytes();
        for (text, space) in parts {
            row.extend_from_slice(&text);
            row.extend_from_slice(space.as_bytes());
        }
        row
    })
}

struct Vias {
    rows: Vec<Vec<u8>>,
    count: usize,
    branch: Option<String>,
}

impl std::fmt::Debug for Vias {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} Via values in {} rows", self.count, self.rows.len())
    }
}

fn vias() -> BoxedStrategy<Vias> {
    let rows = prop_oneof![8 => 1..4_usize, 1 => Just(40)];
    rows.prop_flat_map(|rows| vec(header(&["Via", "v"], listed(via(), 1..4)), rows))
        .prop_map(|rows| Vias {
            count: rows.iter().map(|(_, branches)| branches.len()).sum(),
            branch: rows[0].1[0].clone(),
            rows: rows.into_iter().map(|(row, _)| row).collect(),
        })
        .boxed()
}

struct Body {
    row: Option<Vec<u8>>,
    content: Vec<u8>,
    beyond: Vec<u8>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} octets and {}", self.content.len(), self.beyond.len())
    }
}

fn body() -> BoxedStrategy<Body> {
    let octets = || vec(any::<u8>(), 0..60);
    let with = (octets(), octets(), 0..30_usize).prop_flat_map(|(content, beyond, zeros)| {
        let length = format!("{}{}", "0".repeat(zeros), content.len());
        header(&["Content-Length", "l"], Just((length, ()))).prop_map(move |(row, ())| Body {
            row: Some(row),
            content: content.clone(),
            beyond: beyond.clone(),
        })
    });
    let without = octets().prop_map(|content| Body {
        row: None,
        content,
        beyond: Vec::new(),
    });
    prop_oneof![with, without].boxed()
}

// ── Values ─────────────────────────────────────────────────────────────────

fn method() -> impl Strategy<Value = String> {
    let known = select(
        &[
            "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "MESSAGE",
        ][..],
    );
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => token()]
}

fn version() -> impl Strategy<Value = String> {
    any::<u32>().prop_map(|case| in_case("SIP/2.0", case))
}

fn request_uri() -> impl Strategy<Value = String> {
    let other = "(tel:\\+[0-9-]{1,9}|urn:[a-z]{1,5}:[a-z]{1,5}|x[a-z+.-]{0,5}:[a-z/?&=]{1,9})";
    prop_oneof![4 => sip_uri().prop_map(|(uri, _)| uri), 1 => other]
}

/// A SIP URI and its host.
fn sip_uri() -> BoxedStrategy<(String, String)> {
    let scheme = (select(&["sip", "sips"][..]), any::<u32>());
    let user = "[a-zA-Z0-9_.!~*'()&=+$,;?/-]{1,12}(:[a-z&=+$,]{0,5})?(%[0-9A-F]{2})?";
    let params =
        "(;(lr|[a-z]{1,4}=[a-z/:&+$]{1,6})){0,2}(;transport=udp)?(;maddr=[0-9.]{1,9})?(;x)?";
    (scheme, option::of(user), host(), port(""), params)
        .prop_map(|((scheme, case), user, host, port, params)| {
            let user = user.map_or_else(String::new, |user| format!("{user}@"));
            let scheme = in_case(scheme, case);
            (format!("{scheme}:{user}{host}{port}{params}"), host)
        })
        .boxed()
}

fn call_id() -> impl Strategy<Value = (String, String)> {
    r#"[a-zA-Z0-9.!%*_+`'~()<>:\\"/\[\]?{}-]{1,20}(@[a-z0-9.!%*_+`'~()<>:\\"/\[\]?{}-]{1,20})?"#
        .prop_map(|value| (value.clone(), value))
}

fn cseq(method: String) -> impl Strategy<Value = (String, u32)> {
    (any::<u32>(), 0..20_usize, lws()).prop_map(move |(number, zeros, space)| {
        let zeros = "0".repeat(zeros);
        (format!("{zeros}{number}{space}{method}"), number)
    })
}

/// From or To, and its tag.
fn party() -> BoxedStrategy<(String, Option<String>)> {
    let bare = prop_oneof![
        "sips?:[a-z.]{1,8}@[a-z0-9.]{1,8}(:[0-9]{1,4})?",
        "tel:[0-9]{1,9}"
    ];
    let angled = prop_oneof![
        sip_uri().prop_map(|(uri, _)| uri),
        "[a-z]{1,5}:[a-z,;=?/]{0,9}"
    ];
    let address = prop_oneof![
        1 => bare,
        3 => (display_name(), angled).prop_map(|(name, uri)| format!("{name}<{uri}>")),
    ];
    let tag = option::of(token());
    (address, params(0..4), tag, any::<Index>())
        .prop_map(|(address, mut params, tag, at)| {
            if let Some(tag) = &tag {
                params.insert(at.index(params.len() + 1), format!(" ;\r\n Tag\t= {tag}"));
            }
            (format!("{address}{}", params.concat()), tag)
        })
        .boxed()
}

fn route() -> BoxedStrategy<(String, String)> {
    (display_name(), sip_uri(), params(0..2))
        .prop_map(|(name, (uri, host), params)| (format!("{name}<{uri}>{}", params.concat()), host))
        .boxed()
}

fn display_name() -> BoxedStrategy<String> {
    let tokens = vec((token(), lws()), 1..4).prop_map(|parts| {
        let parts = parts.into_iter();
        parts
            .map(|(token, space)| token + space)
            .collect::<String>()
    });
    prop_oneof![
        Just(String::new()),
        tokens,
        (quoted(), sws()).prop_map(|(name, space)| name + space)
    ]
    .boxed()
}

/// A Via value, and its branch.
fn via() -> BoxedStrategy<(String, Option<String>)> {
    let protocol = (any::<u32>(), sws(), sws(), sws(), sws(), lws());
    let transport = select(&["UDP", "udp", "TCP", "TLS", "WSS", "PIGEON-1"][..]);
    let branch = option::of(prop_oneof![token(), Just("z9hG4bKx.1".to_owned())]);
    let received = option::of("(192\\.0\\.2\\.[1-9]|2001:db8::[1-9]|\\[::1\\])");
    let rport = option::of(select(&["rport", "RPORT", "rport = 5060", "rport=0"][..]));
    let own = (branch, received, rport, any::<Index>());
    (
        protocol,
        transport,
        host(),
        port(" \r\n "),
        params(0..4),
        own,
    )
        .prop_map(
            |((case, a, b, c, d, space), transport, host, port, mut params, own)| {
                let (branch, received, rport, at) = own;
                let mut insert = |param| params.insert(at.index(params.len() + 1), param);
                if let Some(branch) = &branch {
                    insert(format!("; Branch\r\n ={branch}"));
                }
                if let Some(received) = received {
                    insert(format!(";received={received}"));
                }
                if let Some(rport) = rport {
                    insert(format!(" ;{rport}"));
                }
                let sip = in_case("SIP", case);
                let params = params.concat();
                let value = format!("{sip}{a}/{b}2.0{c}/{d}{transport}{space}{host}{port}{params}");
                (value, branch)
            },
        )
        .boxed()
}

fn option_tag() -> impl Strategy<Value = (String, String)> {
    token().prop_map(|tag| (tag.clone(), tag))
}

// ── Pieces ─────────────────────────────────────────────────────────────────

/// Parameters that nobody knows, each with the `;` before it.
fn params(count: std::ops::Range<usize>) -> BoxedStrategy<Vec<String>> {
    let value = prop_oneof![token(), host(), quoted()];
    let value = option::of((sws(), sws(), value));
    let param = (sws(), sws(), "x[!%*_+`'~.a-z0-9-]{0,6}", value);
    let param = param.prop_map(|(before, after, name, value)| match value {
        None => format!("{before};{after}{name}"),
        Some((left, right, value)) => format!("{before};{after}{name}{left}={right}{value}"),
    });
    vec(param, count).boxed()
}

fn host() -> BoxedStrategy<String> {
    prop_oneof![
        "[a-zA-Z0-9]([a-zA-Z0-9_-]{0,8})(\\.[a-z]{1,5}){0,2}\\.?",
        any::<Ipv4Addr>().prop_map(|address| address.to_string()),
        any::<Ipv6Addr>().prop_map(|address| format!("[{address}]")),
        any::<Ipv4Addr>().prop_map(|address| format!("[::FFFF:{address}]")),
    ]
    .boxed()
}

/// Nothing, or a colon between `space`s and a port.
fn port(space: &'static str) -> impl Strategy<Value = String> {
    option::of((1..=u16::MAX, select(vec!["", space]))).prop_map(|port| match port {
        None => String::new(),
        Some((port, space)) => format!("{space}:{space}{port:05}"),
    })
}

fn token() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9.!%*_+`'~-]{1,12}"
}

fn quoted() -> BoxedStrategy<String> {
    const PARTS: [&str; 14] = [
        "a",
        " ",
        ",",
        ";",
        "<",
        ">",
        "=",
        "\\\"",
        "\\\\",
        "\\<",
        "\r\n ",
        "\u{fc}",
        ";tag=no",
        "<sip:no@no>",
    ];
    vec(select(&PARTS[..]), 0..8)
        .prop_map(|parts| format!("\"{}\"", parts.concat()))
        .boxed()
}

/// What may stand in a value that nobody reads: any octets but CR and LF.
fn free_text() -> impl Strategy<Value = Vec<u8>> {
    let octet = any::<u8>().prop_filter("no CR, no LF", |octet| !b"\r\n".contains(octet));
    let text = "[ -~\u{a0}-\u{2fff}]{0,20}".prop_map(String::into_bytes);
    prop_oneof![text, vec(octet, 0..20)]
}

fn sws() -> impl Strategy<Value = &'static str> {
    select(
        &[
            "",
            "",
            "",
            " ",
            "\t",
            " \t",
            "\r\n ",
            " \r\n\t ",
            "\r\n \r\n ",
        ][..],
    )
}

fn lws() -> impl Strategy<Value = &'static str> {
    select(&[" ", " ", "\t", "  ", "\r\n ", " \r\n\t"][..])
}

/// `text` with the letters at the set bits in the other case.
fn in_case(text: &str, bits: u32) -> String {
    let flip = |(at, letter): (usize, char)| match bits >> (at % 32) & 1 {
        0 => letter,
        _ if letter.is_ascii_uppercase() => letter.to_ascii_lowercase(),
        _ => letter.to_ascii_uppercase(),
    };
    text.chars().enumerate().map(flip).collect()
}
