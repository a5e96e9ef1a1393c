//! A datagram decided once more, in other surroundings: nothing but its own
//! octets may count, and none of them for where it stands.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(unreachable_pub, reason = "included as a module by many crates")]

use std::net::SocketAddr;

use viaduct::proxy::{Decision, Forward};
use viaduct::sip::{MAX_DATAGRAM, scan};

use super::fixture::Decider;

/// More than a proxy puts in.
const GROWTH: usize = 4096;

/// Checks that `datagram` is decided as it was: from other memory, with octets
/// behind it that do not belong to it, and with a row in front that nobody reads.
///
/// # Errors
/// The difference.
pub fn check(decider: &mut Decider, datagram: &[u8], source: SocketAddr) -> Result<(), String> {
    let (decision, output) = decider.decide(datagram, source);
    let output = output.to_vec();
    let mut alike = |what: &str, datagram: &[u8], row: &[u8]| {
        let (found, octets) = decider.decide(datagram, source);
        let mut expected = decision;
        if let Decision::Forward(Forward {
            length, padding_at, ..
        }) = &mut expected
        {
            *length += row.len();
            *padding_at += row.len();
        }
        let octets = without(octets, row);
        if found == expected && octets == output {
            return Ok(());
        }
        let [datagram, octets, output] =
            [datagram, &octets, &output].map(|octets| octets.escape_ascii());
        Err(format!(
            "{what}: {found:?}\nnot: {expected:?}\nin:  {datagram}\nout: {octets}\nnot: {output}"
        ))
    };
    let surrounded = [b"\nvia:", datagram, b"\r\nCall-ID: no\r\n\r\n: \"<"].concat();
    alike("from other memory", &surrounded[5..][..datagram.len()], b"")?;

    let Ok(message) = scan(datagram) else {
        return Ok(());
    };
    if datagram.len() + GROWTH > MAX_DATAGRAM {
        return Ok(());
    }
    if (message.end as usize) < message.bytes.len() {
        let longer = [datagram, b"\r\n\r\nVia: x\n\0\r\""].concat();
        alike("with more behind it", &longer, b"")?;
    }
    // A line that does not end as it should is judged alone, and a fold behind it
    // would become the row's.
    let start = datagram.len() - message.bytes.len();
    let (line, rows) = datagram.split_at(start + message.headers_start as usize);
    if line.ends_with(b"\r\n") && !matches!(rows.first(), Some(b' ' | b'\t')) {
        let filling = vec![b'y'; datagram.len() % 131];
        let row = [b"x: ", &filling[..], b"\r\n"].concat();
        alike("behind a row", &[line, &row, rows].concat(), &row)?;
    }
    Ok(())
}

/// `octets` without their first `row`.
fn without(octets: &[u8], row: &[u8]) -> Vec<u8> {
    let before = [b"\r\n", row].concat();
    let mut places = octets.windows(before.len());
    match places.position(|place| place == before) {
        Some(at) => [&octets[..at + 2], &octets[at + before.len()..]].concat(),
        None => octets.to_vec(),
    }
}
