//! Decides one canned message some times and ends: to be run under
//! callgrind, which counts the instructions inside [`counted`] and its like.
//!
//! - `MESSAGE TIMES`, with a message of [`messages`]
//! - `transaction TIMES`: INVITE, 180, 200 with transactions, and that
//!   they are forgotten
//! - `retransmission TIMES`: the INVITE of one that rings, once more
//! - `worst SIZE`, with each that is costly for its size
//! - `changed TIMES`: an ACK of many rows, after so many changes of the set
#![allow(missing_docs, reason = "a program has no readers of its API")]

#[path = "../../../tests/support/src/fixture.rs"]
mod fixture;
#[path = "../../../tests/support/src/relaying.rs"]
mod relaying;
#[path = "../../../tests/support/src/worst.rs"]
mod worst;

use std::env::args;
use std::hint::black_box;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use viaduct::config::HashKey;
use viaduct::proxy::Decision;

use fixture::{Decider, answer, caller, destination, invite};
use relaying::Relaying;

/// What is counted: one decision.
#[inline(never)]
fn counted(decider: &mut Decider, bytes: &[u8], source: SocketAddr) {
    black_box(decider.decide(black_box(bytes), source));
}

/// The same with transactions.
#[inline(never)]
fn counted_relay(relaying: &mut Relaying, bytes: &[u8], source: SocketAddr) {
    black_box(relaying.receive(black_box(bytes), source));
}

/// The same for what is due.
#[inline(never)]
fn counted_expiry(relaying: &mut Relaying) {
    black_box(relaying.expire());
}

/// A datagram and where it comes from.
struct Canned {
    /// What it is called in `instructions.toml`.
    name: &'static str,
    /// Its payload.
    octets: Vec<u8>,
    /// Where it comes from.
    source: SocketAddr,
}

/// The messages of a call and what else comes in, as they reach us.
fn messages() -> Vec<Canned> {
    let mut decider = Decider::default();
    let invite = invite();
    let text = String::from_utf8_lossy(&invite);
    let head = text.split("Contact:").next().unwrap_or_default();
    let bye = format!("{head}Content-Length: 0\r\n\r\n").replace("INVITE", "BYE");
    let (_, forwarded) = decider.decide(&invite, caller());
    let ok = answer(forwarded, "SIP/2.0 200 OK");
    let (_, forwarded) = decider.decide(bye.as_bytes(), caller());
    let bye_ok = answer(forwarded, "SIP/2.0 200 OK");
    let last_hop = text.replace("Max-Forwards: 70", "Max-Forwards: 0");
    let forged = String::from_utf8_lossy(&ok).replace("CSeq: 2", "CSeq: 3");
    let canned = |name, octets, source| Canned {
        name,
        octets,
        source,
    };
    vec![
        canned("invite", invite.clone(), caller()),
        canned("invite-200", ok, destination(0)),
        canned("bye", bye.into_bytes(), caller()),
        canned("bye-200", bye_ok, destination(0)),
        canned("reply-483", last_hop.into_bytes(), caller()),
        canned("forged-200", forged.into_bytes(), destination(0)),
    ]
}

/// Call `number`: INVITE, 180 and 200, as they reach us.
fn call(decider: &mut Decider, number: usize) -> [Canned; 3] {
    let text = String::from_utf8_lossy(&invite()).replace("3848276298", &format!("{number:010}"));
    // The first attempt has the branch that it has without transactions.
    let (decision, forwarded) = decider.decide(text.as_bytes(), caller());
    let Decision::Forward(forward) = decision else {
        panic!("an INVITE passes");
    };
    let responses = ["SIP/2.0 180 Ringing", "SIP/2.0 200 OK"];
    let [ringing, ok] = responses.map(|status| answer(forwarded, status));
    let canned = |octets, source| Canned {
        name: "",
        octets,
        source,
    };
    let (invite, to) = (text.into_bytes(), forward.to);
    [
        canned(invite, caller()),
        canned(ringing, to),
        canned(ok, to),
    ]
}

/// Calls one millisecond after the other, and that they are forgotten.
fn transactions(times: usize) {
    let mut relaying = Relaying::new(times);
    let mut decider = Decider::default();
    for number in 0..times {
        for message in &call(&mut decider, number) {
            counted_relay(&mut relaying, &message.octets, message.source);
        }
        relaying.now += 1;
    }
    assert_eq!(relaying.remembered(), times, "all linger");
    relaying.now += 40_000;
    counted_expiry(&mut relaying);
    assert_eq!(relaying.remembered(), 0, "all are forgotten");
}

fn retransmissions(times: usize) {
    let mut relaying = Relaying::new(1);
    let [invite, ringing, _] = call(&mut Decider::default(), 0);
    for message in [&invite, &ringing] {
        relaying.receive(&message.octets, message.source);
    }
    for _ in 0..times {
        counted_relay(&mut relaying, &invite.octets, invite.source);
    }
}

/// An ACK of which the rows are searched for what is hashed, in a set whose
/// former generations are kept.
fn after_changes(times: u32) {
    let mut config = fixture::config();
    config.sets[0].hash_key = HashKey::Header("x-key".to_owned());
    config.routes = vec![fixture::route(true)];
    let mut decider = Decider::new(&config);
    for weight in 2..2 + times {
        config.sets[0].destinations[0].weight = weight;
        decider.proxy = decider.proxy.successor(&config);
    }
    let text = String::from_utf8_lossy(&invite()).replace("INVITE", "ACK");
    let rows = "a:b\r\n".repeat(4_000);
    let ack = text.replacen("Contact:", &format!("{rows}Contact:"), 1);
    counted(&mut decider, ack.as_bytes(), caller());
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut decider = Decider::default();
    match arguments[..] {
        ["worst", size] => {
            let size = size.parse()?;
            for (_, make) in worst::CASES {
                counted(&mut decider, &make(size), caller());
            }
        }
        ["changed", times] => after_changes(times.parse()?),
        ["transaction", times] => transactions(times.parse()?),
        ["retransmission", times] => retransmissions(times.parse()?),
        [name, times] => {
            let messages = messages();
            let found = messages.iter().find(|message| message.name == name);
            let message = found.context("no such message")?;
            for _ in 0..times.parse::<usize>()? {
                counted(&mut decider, &message.octets, message.source);
            }
        }
        _ => bail!("usage: viaduct-instructions MESSAGE TIMES | viaduct-instructions worst SIZE"),
    }
    Ok(())
}
