//! What came out of the proxy against what went in, both read by the plain
//! twin: nothing has changed but what RFC 3261 §16.6 and §18.2 ask for.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use std::net::{IpAddr, SocketAddr};

use viaduct::proxy::{Decision, Reply, Way};

use super::{fixture, twin};

/// Host and port of our Via in [`fixture::LISTEN`].
const OWN: (&[u8], Option<u16>) = (b"192.0.2.10", Some(5060));

/// What a local reply may have that its request has not: a longer start line,
/// `received`, `rport`, a To tag, Content-Length, and for each Proxy-Require a
/// longer name.
const REPLY_GROWTH: usize = 160;

macro_rules! ensure {
    ($holds:expr, $($what:tt)+) => {
        if !$holds {
            return Err(format!($($what)+));
        }
    };
}

/// Checks one decision of a [`fixture::Decider`] with the plain configuration.
///
/// # Errors
/// What does not hold.
pub fn check(
    input: &[u8],
    source: SocketAddr,
    decision: Decision,
    output: &[u8],
) -> Result<(), String> {
    let checked = match decision {
        Decision::Drop(_) => Ok(()),
        Decision::Resolve if is_member(source) => Ok(()),
        Decision::Resolve => Err("a name is asked for from outside".to_owned()),
        Decision::Reply(reply) => replied(input, source, reply, output),
        Decision::Forward(forward) => {
            let member = is_member(forward.to);
            match forward.way {
                Way::Response => response(input, forward.to, output),
                Way::Selected(_) if member => request(input, source, output, false),
                Way::Named(_) if member => request(input, source, output, true),
                Way::Outbound(_) if is_member(source) => request(input, source, output, true),
                way => Err(format!("{way:?} to {}", forward.to)),
            }
            .and_then(|()| padding(output, forward.padding_at))
        }
    };
    checked.map_err(|what| {
        let (input, output) = (input.escape_ascii(), output.escape_ascii());
        format!("{what}\n{decision:?}\nin:  {input}\nout: {output}")
    })
}

fn is_member(address: SocketAddr) -> bool {
    (0..fixture::DESTINATIONS).any(|n| fixture::destination(n) == address)
}

/// A request that was sent on; where its Route was `followed`, a strict router
/// may have been served.
fn request(input: &[u8], source: SocketAddr, output: &[u8], followed: bool) -> Result<(), String> {
    let (before, lists) = read(input)?;
    let (after, _) = read(output)?;
    let strict = after.start != before.start;
    ensure!(
        // The twin reads no Route that is another URI than sip or sips.
        !strict
            || followed && (lists.is_some() || before.target.is_none() || served(&before, &after)),
        "the start line has changed"
    );
    ensure!(after.call_id == before.call_id, "the Call-ID has changed");
    ensure!(after.body == before.body, "the body has changed");

    let top = &after.top_via;
    ensure!((&top.host[..], top.port) == OWN, "the top Via is not ours");
    let branch = top.branch.as_deref().unwrap_or_default();
    ensure!(
        branch.starts_with(b"z9hG4bK"),
        "our branch lacks the cookie"
    );
    ensure!(
        after.vias.len() == before.vias.len() + 1,
        "the number of Vias"
    );
    ensure!(
        after.vias[2..] == before.vias[1..],
        "a lower Via has changed"
    );
    repaired(&before.top_via, source, &after.vias[1])?;

    let at = position(&before, "via").ok_or("no Via")?;
    // A strict router's Route has rows of its own for each value.
    let own = position(&after, "via").ok_or("no Via")?;
    let theirs = own + 1 + usize::from(before.max_forwards.is_none());
    let mut expected = before.headers.clone();
    expected[at].1.clone_from(&after.headers[theirs].1);
    match position(&before, "max-forwards") {
        Some(row) => {
            let hops = before.max_forwards.unwrap_or(0);
            ensure!(hops > 0, "sent on with Max-Forwards 0");
            expected[row].1 = (hops - 1).to_string().into_bytes();
        }
        None => expected.insert(at, ("max-forwards".to_owned(), b"70".to_vec())),
    }
    expected.insert(at, after.headers[own].clone());
    let names_us = before.routes.iter().any(|route| route.host == OWN.0)
        || before.routes.iter().any(|route| {
            route
                .params
                .iter()
                .any(|(_, value)| value.as_deref() == Some(OWN.0))
        });
    let but_own_routes = |headers: &[(String, Vec<u8>)]| {
        let all = headers.iter().cloned();
        let judged = !(names_us || strict || lists == Some(twin::ROUTE));
        all.filter(|(name, _)| judged || name != "route")
            .collect::<Vec<_>>()
    };
    let (expected, found) = (but_own_routes(&expected), but_own_routes(&after.headers));
    ensure!(
        found == expected,
        "headers: {found:?}\nexpected: {expected:?}"
    );
    untouched(input, output)
}

/// Whether `after` is `before` as a strict router wants it: the first Route,
/// which has no `lr`, has changed places with the Request-URI, which has become
/// the last (RFC 3261 §16.6 item 6).
fn served(before: &twin::Twin, after: &twin::Twin) -> bool {
    let uri = |message: &twin::Twin| match &message.start {
        twin::StartLine::Request { uri, .. } => uri.clone(),
        twin::StartLine::Response { .. } => Vec::new(),
    };
    let texts = |routes: &[twin::Uri]| routes.iter().map(|each| each.text.clone()).collect();
    let is_strict = |route: &twin::Uri| {
        let mut names = route.params.iter().map(|(name, _)| name);
        route.text == uri(after) && !names.any(|name| name.eq_ignore_ascii_case("lr"))
    };
    let Some(first) = before.routes.iter().position(is_strict) else {
        return false;
    };
    let mut expected: Vec<Vec<u8>> = texts(&before.routes[first + 1..]);
    expected.push(uri(before));
    expected == texts(&after.routes)
}

/// White space at `at` stands before the value of Max-Forwards or, in a
/// response, of the topmost Via, and changes nothing.
fn padding(output: &[u8], at: usize) -> Result<(), String> {
    let Ok((plain, _)) = twin::read_but_lists(output) else {
        return Ok(());
    };
    let name = match plain.start {
        twin::StartLine::Request { .. } => "max-forwards",
        twin::StartLine::Response { .. } => "via",
    };
    let value = position(&plain, name).map(|row| &plain.headers[row].1);
    let start = value.map(|value| &value[..value.len().min(2)]);
    let starts = start.is_some_and(|start| output[at..].starts_with(start));
    ensure!(starts, "padding at {at}: not at the start of {name}");
    let padded = [&output[..at], &b"    "[..], &output[at..]].concat();
    ensure!(read(&padded)?.0 == plain, "padding at {at} is not ignored");
    Ok(())
}

/// RFC 3261 §18.2.1, RFC 3581 §4. What is told stands where the sender's first
/// word of it stood, or behind all else.
fn repaired(before: &twin::Via, source: SocketAddr, after: &[u8]) -> Result<(), String> {
    let after = twin::via(after).map_err(|refusal| format!("the second Via: {refusal:?}"))?;
    let is_old = |(name, _): &(String, _)| name == "received" || name == "rport";
    let mut expected = before.params.clone();
    let place = expected.iter().position(is_old);
    expected.retain(|param| !is_old(param));
    let mut told = Vec::new();
    if before.rport.is_some() || address(&before.host) != Some(source.ip()) {
        told.push(("received", source.ip().to_string()));
    }
    if before.rport.is_some() {
        told.push(("rport", source.port().to_string()));
    }
    let told = told.into_iter();
    let told = told.map(|(name, value)| (name.to_owned(), Some(value.into_bytes())));
    let place = place.unwrap_or(expected.len());
    expected.splice(place..place, told);
    ensure!(after.params == expected, "the sender's Via: {after:?}");
    let same = (&after.transport, &after.host, after.port)
        == (&before.transport, &before.host, before.port);
    ensure!(same, "the sender's Via: {after:?}");
    Ok(())
}

fn address(host: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(host).ok()?;
    let ip: IpAddr = text.trim_matches(['[', ']']).parse().ok()?;
    Some(ip.to_canonical())
}

/// A response that was sent on. The farm's grammar is not judged, so that
/// the twin may refuse it; our Via is then all the same the only thing gone.
fn response(input: &[u8], to: SocketAddr, output: &[u8]) -> Result<(), String> {
    let Ok((before, _)) = twin::read_but_lists(input) else {
        let start = input.iter().position(|octet| !b"\r\n".contains(octet));
        let input = &input[start.unwrap_or(0)..];
        let kept = input.iter().zip(output).take_while(|(a, b)| a == b).count();
        ensure!(output.len() < input.len(), "nothing was taken away");
        let tail = &output[kept..];
        let found = tail.is_empty() || input.windows(tail.len()).any(|part| part == tail);
        ensure!(found, "more than one stretch has changed");
        return Ok(());
    };
    let (after, _) = read(output)?;
    ensure!(after.start == before.start, "the start line has changed");
    ensure!(after.body == before.body, "the body has changed");
    ensure!(
        after.vias == before.vias[1..],
        "not the top Via alone is gone"
    );
    let others = |message: &twin::Twin| {
        let rows = message.headers.iter().filter(|(name, _)| name != "via");
        rows.cloned().collect::<Vec<_>>()
    };
    ensure!(others(&after) == others(&before), "a header has changed");
    let all = |octets| rows_of(octets, |name| name != "via");
    ensure!(all(output) == all(input), "the octets of a row");
    ensure!(home(&after.top_via) == Some(to), "not to {to}");
    Ok(())
}

/// Checks where something goes that the twin can read: a response where its
/// topmost Via leads, a request to a member, and under our own Via.
///
/// # Errors
/// What does not hold.
pub fn check_way(octets: &[u8], to: SocketAddr) -> Result<(), String> {
    let Ok((plain, _)) = twin::read_but_lists(octets) else {
        return Ok(());
    };
    let top = &plain.top_via;
    let goes_well = match plain.start {
        twin::StartLine::Request { .. } => is_member(to) && (&top.host[..], top.port) == OWN,
        twin::StartLine::Response { .. } => home(top) == Some(to),
    };
    ensure!(goes_well, "to {to}: {}", octets.escape_ascii());
    Ok(())
}

/// Where the responses to a request with this Via go (RFC 3261 §18.2.2, RFC 3581
/// §4); `maddr` is not followed.
fn home(via: &twin::Via) -> Option<SocketAddr> {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let ip = match &via.received {
        Some(received) => address(received.as_deref()?),
        None => address(&via.host),
    };
    let port = match &via.rport {
        Some(rport) => text(rport.as_deref()?).parse().ok()?,
        None => via.port.unwrap_or(5060),
    };
    Some(SocketAddr::new(ip?, port))
}

/// The rows as they stand, folds and all, whose long names are wanted. The twin
/// has read the message.
fn rows_of(octets: &[u8], wanted: impl Fn(&str) -> bool) -> Vec<&[u8]> {
    let start = octets.iter().position(|octet| !b"\r\n".contains(octet));
    let mut rest = &octets[start.unwrap_or(0)..];
    let mut rows = Vec::new();
    while !rest.starts_with(b"\r\n") {
        let ends = (2..=rest.len()).filter(|end| rest[..*end].ends_with(b"\r\n"));
        let mut ends = ends.filter(|end| !matches!(rest.get(*end), Some(b' ' | b'\t')));
        let (row, behind) = rest.split_at(ends.next().unwrap_or(rest.len()));
        rows.push(row);
        rest = behind;
    }
    rows.remove(0);
    rows.retain(|row| {
        let name = row.split(|octet| b" \t:".contains(octet)).next();
        let name = String::from_utf8_lossy(name.unwrap_or_default()).to_ascii_lowercase();
        wanted(if name == "v" { "via" } else { &name })
    });
    rows
}

/// Checks that the rows of a request stand in what was sent on as they came, but
/// for those that a proxy adds or cuts and the topmost Via.
fn untouched(input: &[u8], output: &[u8]) -> Result<(), String> {
    const CHANGED: [&str; 5] = ["via", "max-forwards", "route", "record-route", "path"];
    let all = |octets| rows_of(octets, |name| !CHANGED.contains(&name));
    ensure!(all(input) == all(output), "the octets of a row");
    let vias = |octets| rows_of(octets, |name| name == "via");
    ensure!(
        vias(input)[1..] == vias(output)[2..],
        "those of a lower Via"
    );
    for name in ["record-route", "path"] {
        let own = |octets| rows_of(octets, |each| each == name);
        ensure!(own(output).ends_with(&own(input)), "those of {name}");
    }
    let (before, after) = (hops(input), hops(output));
    ensure!(
        before.is_empty() || before == after,
        "those of Max-Forwards"
    );
    Ok(())
}

/// The row of Max-Forwards without its digits.
fn hops(octets: &[u8]) -> Vec<u8> {
    let rows = rows_of(octets, |name| name == "max-forwards").concat();
    rows.into_iter()
        .filter(|octet| !octet.is_ascii_digit())
        .collect()
}

/// Checks that a request sent on by a [`fixture::Decider`] which stays on the
/// path holds all rows that it came with, as they stood, and can be read.
///
/// # Errors
/// What does not hold.
pub fn check_on_path(input: &[u8], decision: Decision, output: &[u8]) -> Result<(), String> {
    let Decision::Forward(forward) = decision else {
        return Ok(());
    };
    if twin::read_but_lists(input).is_err() {
        return Ok(());
    }
    read(output)
        .and_then(|_| padding(output, forward.padding_at))
        .and_then(|()| untouched(input, output))
        .map_err(|what| {
            let (input, output) = (input.escape_ascii(), output.escape_ascii());
            format!("{what}\n{decision:?}\nin:  {input}\nout: {output}")
        })
}

/// A reply of our own.
fn replied(input: &[u8], source: SocketAddr, reply: Reply, output: &[u8]) -> Result<(), String> {
    ensure!(reply.to.ip() == source.ip(), "a reply to somebody else");
    ensure!(
        output.len() <= input.len() + REPLY_GROWTH + 12 * rows(input),
        "a long reply"
    );
    let status_line = format!("SIP/2.0 {} ", reply.status.code());
    ensure!(output.starts_with(status_line.as_bytes()), "the status");
    ensure!(
        output.ends_with(b"\r\nContent-Length: 0\r\n\r\n"),
        "the end"
    );
    let empty_lines = output.windows(4).filter(|four| four == b"\r\n\r\n");
    ensure!(empty_lines.count() == 1, "more than one empty line");
    let line_ends = output.windows(2).filter(|two| two == b"\r\n").count();
    let alone = output
        .iter()
        .filter(|octet| b"\r\n".contains(octet))
        .count();
    ensure!(alone == 2 * line_ends, "a CR or LF by itself");
    let Ok((before, _)) = twin::read_but_lists(input) else {
        return Ok(());
    };
    let (after, _) = read(output)?;
    ensure!(
        after.vias[1..] == before.vias[1..],
        "a lower Via has changed"
    );
    repaired(&before.top_via, source, &after.vias[0])?;
    ensure!(home(&after.top_via) == Some(reply.to), "to another port");
    ensure!(after.call_id == before.call_id, "the Call-ID");
    ensure!(after.cseq == before.cseq, "CSeq");
    ensure!(after.from == before.from, "From");
    ensure!(after.to.uri == before.to.uri, "To");
    ensure!(after.to.tag.is_some(), "no To tag");
    let kept = before.to.tag.is_none() || after.to.tag == before.to.tag;
    ensure!(kept, "another To tag");
    Ok(())
}

/// Rows of Proxy-Require, which come back as `Unsupported`: one per 13 octets
/// at most, so that rows of any kind bound them.
fn rows(input: &[u8]) -> usize {
    let lower = input.to_ascii_lowercase();
    lower
        .windows(13)
        .filter(|name| name == b"proxy-require")
        .count()
}

fn position(message: &twin::Twin, name: &str) -> Option<usize> {
    message.headers.iter().position(|(each, _)| each == name)
}

fn read(octets: &[u8]) -> Result<(twin::Twin, Option<twin::Refusal>), String> {
    twin::read_but_lists(octets).map_err(|refusal| format!("the twin refuses: {refusal:?}"))
}
