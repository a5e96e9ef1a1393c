//! A cookie that any generation made is honoured by every later one that
//! still has the destination, and by no other way leads anywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use proptest::prelude::*;
use viaduct::config::{Config, Destination, State};
use viaduct::proxy::{CookieUse, Datagram, Decision, Forward, Proxy, Way};
use viaduct::sip::MAX_DATAGRAM;

#[path = "support/fixture.rs"]
mod fixture;

/// What the operator does to one of the first destinations of a pool.
#[derive(Clone, Debug)]
enum Change {
    Put(usize, u32, State),
    Remove(usize),
    /// The order of the file.
    Reverse,
}

const POOL: usize = 6;

fn change() -> impl Strategy<Value = Change> {
    let state = prop::sample::select(vec![State::Active, State::Draining, State::Disabled]);
    prop_oneof![
        4 => (0..POOL, 1..5_u32, state).prop_map(|(n, weight, state)| Change::Put(n, weight, state)),
        2 => (0..POOL).prop_map(Change::Remove),
        1 => Just(Change::Reverse),
    ]
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, 101 + n as u8], 5060))
}

fn apply(config: &mut Config, change: &Change) {
    let destinations = &mut config.sets[0].destinations;
    match change {
        Change::Put(n, weight, state) => {
            destinations.retain(|each| each.address != address(*n));
            destinations.push(Destination {
                uri: format!("sip:{}", address(*n)),
                address: address(*n),
                weight: *weight,
                priority: 0,
                state: *state,
            });
        }
        Change::Remove(n) => destinations.retain(|each| each.address != address(*n)),
        Change::Reverse => destinations.reverse(),
    }
}

fn decide(proxy: &Proxy, text: &str) -> (Forward, String) {
    let datagram = Datagram {
        bytes: text.as_bytes(),
        source: SocketAddr::from(([192, 0, 2, 77], 5060)),
        listener: 0,
    };
    let mut out = vec![0; MAX_DATAGRAM];
    match proxy.decide(&datagram, &mut proxy.scratch(), &mut out) {
        Decision::Forward(forward) => {
            out.truncate(forward.length);
            (forward, String::from_utf8(out).expect("text"))
        }
        other => panic!("{other:?}"),
    }
}

fn request(method: &str, call: usize, route: &str) -> String {
    format!(
        "{method} sip:desk@192.0.2.10 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.77;branch=z9hG4bK{method}{call}\r\n\
         From: <sip:ann@phones.example>;tag=f\r\nTo: <sip:desk@farm.example>\r\n\
         Call-ID: {call}@phones.example\r\nCSeq: 1 {method}\r\n{route}Max-Forwards: 70\r\n\r\n"
    )
}

fn record_route(text: &str) -> &str {
    let row = text
        .lines()
        .find_map(|line| line.strip_prefix("Record-Route: "));
    row.expect("a Record-Route")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_cookie_outlives_every_change_but_the_loss_of_its_destination(
        changes in prop::collection::vec(change(), 1..8),
    ) {
        let mut config = fixture::config();
        config.listeners[0].record_route = true;
        let mut proxy = Proxy::new(&config, fixture::secret());
        let mut dialogs: BTreeMap<String, (usize, SocketAddr)> = BTreeMap::new();
        for (number, change) in changes.iter().enumerate() {
            // Each generation makes some dialogs.
            for call in number * 8..number * 8 + 8 {
                let (forward, text) = decide(&proxy, &request("INVITE", call, ""));
                prop_assert!(matches!(forward.way, Way::Selected(_)));
                dialogs.insert(record_route(&text).to_owned(), (call, forward.to));
            }
            apply(&mut config, change);
            proxy = proxy.successor(&config);
            let members = &config.sets[0].destinations;
            for (route, (call, destination)) in &dialogs {
                let bye = request("BYE", *call, &format!("Route: {route}\r\n"));
                let (forward, text) = decide(&proxy, &bye);
                let there = members.iter().find(|each| each.address == *destination);
                match there {
                    Some(member) if member.state != State::Disabled => {
                        prop_assert_eq!(forward.to, *destination);
                        prop_assert!(matches!(forward.way, Way::Dialog { .. }), "{:?}", forward);
                        prop_assert_eq!(forward.cookie, CookieUse::Followed);
                    }
                    _ => {
                        prop_assert!(matches!(forward.way, Way::Selected(_)), "{:?}", forward);
                        prop_assert_eq!(forward.cookie, CookieUse::Gone);
                        prop_assert!(members.iter().any(|each| each.address == forward.to));
                    }
                }
                prop_assert!(!text.contains("\r\nRoute:"));
            }
        }
    }
}
