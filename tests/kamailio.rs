//! Kamailio, the peer that most installations have: as the measure of the
//! `kamailio` policy, as a destination behind Viaduct, and as the element in
//! front of it.

use std::net::SocketAddr;

use support::dialog::Peer;
use support::kamailio::{CANCEL_AND_ACK, Kamailio};
use support::net::{V4, free_addresses};
use support::sipp::{self, Load, Scenario, Sipp};
use support::viaduct::Viaduct;
use support::{light_load, wait_until};

/// Where `front` sends an OPTIONS for `sip:SET@farm.invalid` with each of
/// these Call-IDs: the index of the destination in `farm`, or `None` where
/// `front` answers itself that there is none.
fn choices(
    farm: &[Peer],
    front: SocketAddr,
    set: usize,
    call_ids: &[Vec<u8>],
) -> Vec<Option<usize>> {
    let caller = Peer::new(V4);
    let mut choices = vec![None; call_ids.len()];
    let numbered: Vec<_> = call_ids.iter().enumerate().collect();
    // A few at a time, so that no socket overflows.
    for window in numbered.chunks(32) {
        for (number, call_id) in window {
            caller.send(front, options(set, *number, call_id, caller.address()));
        }
        let mut arrived = 0;
        wait_until("an answer to each request", || {
            let mut note = |datagram: &[u8], choice| {
                let slot = &mut choices[number(datagram)];
                assert_eq!(slot.replace(choice), None, "a request arrived twice");
                arrived += 1;
            };
            for (index, peer) in farm.iter().enumerate() {
                while let Some((request, _)) = peer.poll() {
                    note(&request, Some(index));
                }
            }
            while let Some((reply, _)) = caller.poll() {
                assert!(
                    reply.starts_with(b"SIP/2.0 503 "),
                    "{}",
                    reply.escape_ascii()
                );
                note(&reply, None);
            }
            arrived == window.len()
        });
    }
    let choices = choices.into_iter();
    choices.map(|choice| choice.expect("a choice")).collect()
}

fn options(set: usize, number: usize, call_id: &[u8], source: SocketAddr) -> Vec<u8> {
    let head = format!(
        "OPTIONS sip:{set}@farm.invalid SIP/2.0\r\n\
         Via: SIP/2.0/UDP {source};branch=z9hG4bKnumber-{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:asker@farm.invalid>;tag=t{number}\r\n\
         To: <sip:{set}@farm.invalid>\r\n\
         CSeq: 1 OPTIONS\r\n\
         Call-ID: "
    );
    [head.as_bytes(), call_id, b"\r\nContent-Length: 0\r\n\r\n"].concat()
}

/// The number in the branch that [`options`] wrote.
fn number(datagram: &[u8]) -> usize {
    let text = String::from_utf8_lossy(datagram);
    let (_, rest) = text.split_once("z9hG4bKnumber-").expect("our own branch");
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .expect("an end of the branch");
    rest[..digits].parse().expect("the number of a request")
}

/// Call-IDs of every length up to 200 octets, of the letters that are usual,
/// of all that RFC 3261 §25.1 allows in a word, and of octets that it does not.
fn call_ids() -> Vec<Vec<u8>> {
    let usual = b"0123456789abcdef-@.".as_slice();
    let word = b"azAZ09-.!%*_+`'~()<>:\\\"/[]?{}@".as_slice();
    let high: Vec<u8> = (0x80..=0xff).chain(*b"az09").collect();
    let mut state = 1_u64;
    let mut draw = |alphabet: &[u8], length: usize| -> Vec<u8> {
        let letter = |_| {
            // Knuth's linear congruential generator: the same each time.
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            alphabet[(state >> 33) as usize % alphabet.len()]
        };
        (0..length).map(letter).collect()
    };
    let alphabets = [usual, word, &high];
    (1..=200)
        .flat_map(|length| alphabets.map(|alphabet| draw(alphabet, length)))
        .collect()
}

/// Sets by flags and priorities of their destinations, in the order of the
/// list. Flags: 1 inactive, 2 trying, 4 disabled, 8 probing.
const SETS: [&[(u8, i32)]; 11] = [
    &[(0, 0)],
    &[(0, 0); 2],
    &[(0, 0); 3],
    &[(0, 0); 5],
    &[(0, 0); 16],
    // Priorities, with ties.
    &[(0, 1), (0, 3), (0, 2)],
    &[(0, 10), (0, 0), (0, 10), (0, 5), (0, 0)],
    // Some that take no work, neighbours and the last among them.
    &[(0, 0), (1, 0), (0, 0)],
    &[(0, 0), (1, 2), (4, 2), (0, 7), (5, 7), (0, 0), (1, 1)],
    &[(8, 0), (2, 0), (9, 0), (0, 0), (12, 0)],
    // None that does.
    &[(1, 0), (4, 0)],
];

/// Kamailio's `ds_select_dst` with algorithm 0 and our `kamailio` policy
/// choose the same destination, whatever the Call-ID and the set.
#[test]
fn policy_chooses_as_ds_select_dst() {
    let _load = light_load();
    let farm: Vec<_> = (0..16).map(|_| Peer::new(V4)).collect();
    let list: String = SETS
        .iter()
        .enumerate()
        .flat_map(|(set, members)| {
            members
                .iter()
                .enumerate()
                .map(move |member| (set + 1, member))
        })
        .map(|(set, (index, (flags, priority)))| {
            format!("{set} sip:{} {flags} {priority}\n", farm[index].address())
        })
        .collect();
    let [front] = free_addresses(V4);
    let configuration = "modparam(\"dispatcher\", \"list_file\", \"dispatcher.list\")\n\
        request_route {\n\
            if (ds_select_dst(\"$rU\", \"0\")) { forward(); } else { sl_send_reply(\"503\", \"None\"); }\n\
        }\n";
    let modules = ["sl", "pv", "dispatcher"];
    let kamailio = Kamailio::start(
        front,
        &modules,
        configuration,
        &[("dispatcher.list", &list)],
    );

    let folder = tempfile::tempdir().expect("a temporary folder");
    let list_file = folder.path().join("dispatcher.list");
    std::fs::write(&list_file, &list).expect("the dispatcher list");
    let call_ids = call_ids();
    for (index, members) in SETS.iter().enumerate() {
        let set = index + 1;
        let theirs = choices(&farm, kamailio.address, set, &call_ids);
        let viaduct = Viaduct::start(&[
            "--listen",
            "127.0.0.1:0",
            "--policy",
            "kamailio",
            "--dispatcher-list",
            &list_file.to_string_lossy(),
            "--set",
            &set.to_string(),
            // Its own replies count as answers here: none may be held back.
            "--reply-rate",
            "100000",
        ]);
        let ours = choices(&farm, viaduct.address(0), set, &call_ids);
        for (call_id, (theirs, ours)) in call_ids.iter().zip(theirs.iter().zip(&ours)) {
            let call_id = call_id.escape_ascii();
            assert_eq!(
                theirs, ours,
                "Kamailio's choice, ours; Call-ID {call_id} in {members:?}"
            );
        }
    }
}

/// A proxy that keeps transactions and sends everything on to `next`.
fn kamailio_in_front(address: SocketAddr, next: SocketAddr) -> Kamailio {
    let configuration =
        format!("request_route {{\n{CANCEL_AND_ACK}$du = \"sip:{next}\";\nt_relay();\n}}\n");
    Kamailio::start(address, &["tm", "sl", "pv", "textops"], &configuration, &[])
}

#[test]
fn kamailio_serves_as_a_destination() {
    let _load = light_load();
    let [kamailio, server, caller] = free_addresses(V4);
    let _kamailio = Kamailio::on_path(kamailio, server);
    let viaduct = Viaduct::start(&["--listen", "127.0.0.1:0", "--to", &kamailio.to_string()]);
    let load = Load::new(500, 100);
    let call = |uac| Sipp::caller(Scenario::Ours(uac), caller, viaduct.address(0), load);

    call("outside_call_uac.xml")
        .finish()
        .assert_clean("phones", 500);
    for (uac, uas) in [
        ("routed_uac.xml", "routed_uas.xml"),
        ("cancel_uac.xml", "cancel_uas.xml"),
    ] {
        let farm = Sipp::server(Scenario::Ours(uas), server);
        call(uac).finish().assert_clean(uac, 500);
        farm.stop().assert_clean(uas, 500);
    }
    viaduct.stop().assert_all_forwarded();
}

#[test]
fn kamailio_stands_in_front() {
    let _load = light_load();
    let [kamailio, caller, first, second] = free_addresses(V4);
    let viaduct = Viaduct::start(&[
        "--listen",
        "127.0.0.1:0",
        "--to",
        &first.to_string(),
        "--to",
        &second.to_string(),
    ]);
    let _kamailio = kamailio_in_front(kamailio, viaduct.address(0));
    let load = Load::new(500, 100);
    let ours = Scenario::Ours;
    let builtin = Scenario::BuiltIn;
    for (uac, uas) in [
        (builtin("uac"), builtin("uas")),
        (ours("cancel_uac.xml"), ours("cancel_uas.xml")),
    ] {
        let farm = [first, second].map(|address| Sipp::server(uas, address));
        Sipp::caller(uac, caller, kamailio, load)
            .finish()
            .assert_clean("caller", 500);
        let taken = sipp::shares(farm);
        assert!(
            taken.iter().all(|calls| *calls > 0),
            "calls of each server: {taken:?}"
        );
        assert_eq!(
            taken.iter().sum::<u64>(),
            500,
            "calls of each server: {taken:?}"
        );
    }
}
