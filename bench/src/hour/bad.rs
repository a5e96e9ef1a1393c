//! Datagrams that go no further, from where the callers are.

use std::net::{SocketAddrV4, UdpSocket};
use std::process::Child;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::farm::caller::CALLER;

/// Each with the reason that counts it. None is answered, and each would clear
/// the terminal of whoever saw it as it is.
const PACKETS: [(&str, &[u8]); 3] = [
    ("not-sip", b"\x1b[2J no SIP \"\\\xff\0"),
    (
        "top-via",
        b"INVITE sip:a@b SIP/2.0\r\nVia: \x1b[2J\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>\r\n\
          Call-ID: 1\r\nCSeq: 1 INVITE\r\nMax-Forwards: 70\r\n\r\n",
    ),
    (
        "not-our-via",
        b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n\
          From: <sip:a@b>;tag=1\r\nTo: <sip:b@b>;tag=\x1b[2J\r\nCall-ID: 1\r\n\
          CSeq: 1 INVITE\r\n\r\n",
    ),
];

/// Rounds at least: many more packets than lines that may tell of them.
const ROUNDS: u64 = 100;

/// Between two of them.
const PAUSE: Duration = Duration::from_millis(5);

/// The reasons, each of which counts a packet of each round.
pub(super) fn reasons() -> [&'static str; 3] {
    PACKETS.map(|(reason, _)| reason)
}

/// Sends rounds until `asking` has all that it asked for, or gives up. Returns
/// how many, and what it printed.
///
/// # Errors
/// It fails, or nothing can be sent.
pub(super) fn send(to: SocketAddrV4, mut asking: Child) -> Result<(u64, String)> {
    let socket = UdpSocket::bind((CALLER, 0)).context("no socket where callers are")?;
    let mut rounds = 0;
    while rounds < ROUNDS || asking.try_wait()?.is_none() {
        for (_, octets) in PACKETS {
            socket.send_to(octets, to)?;
        }
        rounds += 1;
        sleep(PAUSE);
    }
    let printed = asking.wait_with_output()?.stdout;
    Ok((rounds, String::from_utf8_lossy(&printed).into_owned()))
}

/// How many packets `printed` shows; none where it is not safe to be seen.
pub(super) fn shown(printed: &str) -> usize {
    match printed.contains(|letter: char| letter != '\n' && letter.is_control()) {
        true => 0,
        false => printed.matches(r"\x1b[2J").count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_shown_where_nothing_of_it_is_left_unescaped() {
        assert_eq!(shown("1\n  \\x1b[2J \\xff\n2\n  \\x1b[2J\n"), 2);
        assert_eq!(shown("1\n  \\x1b[2J\n2\n  \x1b[2J\n"), 0);
    }
}
