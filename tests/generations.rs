//! Any sequence of changes of a set: keys move only as weighted rendezvous
//! allows, a call in set-up is found again, and so is a dialog.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use support::fixture::{self, Decider, caller, destination, invite};
use viaduct::config::{Config, Destination, HashKey, Health, Policy, State};
use viaduct::proxy::{CookieUse, Datagram, Decision, Forward, MOST_COPIES, Proxy, Reason, Way};
use viaduct::sip::MAX_DATAGRAM;

/// Calls followed through the changes.
const CALLS: usize = 60;

/// How many hosts may be destinations.
const HOSTS: usize = 6;

/// What each host is: its weight and its state, or no destination.
type Farm = [Option<(u32, State)>; HOSTS];

/// Farms, one after the other, each with a few changes to the one before.
fn history() -> impl Strategy<Value = Vec<Farm>> {
    let states = [
        State::Active,
        State::Active,
        State::Draining,
        State::Disabled,
    ];
    let place = (1..6_u32, prop::sample::select(states.to_vec()));
    let change = (0..HOSTS, prop::option::weighted(0.7, place));
    vec(vec(change, 1..4), 1..7).prop_map(|steps| {
        let mut farm = [None; HOSTS];
        farm[..3].fill(Some((2, State::Active)));
        let mut history = vec![farm];
        for step in steps {
            for (host, place) in step {
                farm[host] = place;
            }
            history.push(farm);
        }
        history
    })
}

fn config(farm: &Farm) -> Config {
    let mut config = fixture::config();
    config.listeners[0].record_route = true;
    let places = farm.iter().enumerate();
    let destinations = places.filter_map(|(host, place)| {
        let (weight, state) = (*place)?;
        Some(Destination {
            uri: format!("sip:{}", destination(host)),
            address: destination(host),
            weight,
            priority: 0,
            state,
            probe: None,
            health: Health::Up,
        })
    });
    config.sets[0].destinations = destinations.collect();
    config
}

/// The proxy at each point of a history, with what came before.
fn proxies(history: &[Farm]) -> Vec<Proxy> {
    let mut proxies = vec![Proxy::new(&config(&history[0]), fixture::secret())];
    for farm in &history[1..] {
        let next = proxies[proxies.len() - 1].successor(&config(farm));
        proxies.push(next);
    }
    proxies
}

/// A request of call `call`, with one more row.
fn request(method: &str, call: usize, row: &str) -> String {
    format!(
        "{method} sip:desk@farm.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.7:5062;branch=z9hG4bK{call}\r\n\
         From: <sip:ann@phone.example>;tag=f\r\nTo: <sip:desk@farm.example>\r\n\
         Call-ID: {call}@phone.example\r\nCSeq: 1 {method}\r\n{row}\r\n"
    )
}

/// The decision, what is sent, and where else.
fn decide(proxy: &Proxy, text: &str) -> (Decision, String, Vec<SocketAddr>) {
    let mut out = vec![0; MAX_DATAGRAM];
    let datagram = Datagram {
        bytes: text.as_bytes(),
        source: caller(),
        listener: 0,
    };
    let mut scratch = proxy.scratch();
    let decision = proxy.decide(&datagram, &mut scratch, &mut out);
    if let Decision::Forward(forward) = decision {
        out.truncate(forward.length);
    }
    let text = String::from_utf8_lossy(&out).into_owned();
    (decision, text, scratch.also().to_vec())
}

/// Where a new call goes; `None` where nobody takes new work.
fn owner(proxy: &Proxy, call: usize) -> Option<SocketAddr> {
    let (decision, _, also) = decide(proxy, &request("INVITE", call, ""));
    match decision {
        Decision::Forward(Forward { to, .. }) => {
            assert!(also.is_empty(), "an INVITE is never sent twice");
            Some(to)
        }
        Decision::Reply(reply) if reply.reason == Reason::NoDestination => None,
        other => panic!("{other:?}"),
    }
}

/// The share of new work that `address` has by itself.
fn weight(farm: &Farm, address: SocketAddr) -> u32 {
    let host = (0..HOSTS).find(|host| destination(*host) == address);
    match farm[host.expect("one of the hosts")] {
        Some((weight, State::Active)) => weight,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_key_moves_from_who_has_lost_or_to_who_has_gained(history in history()) {
        let proxies = proxies(&history);
        for (farms, proxies) in history.windows(2).zip(proxies.windows(2)) {
            for call in 0..CALLS {
                let [was, is] = [&proxies[0], &proxies[1]].map(|proxy| owner(proxy, call));
                let grew = |address| weight(&farms[1], address) > weight(&farms[0], address);
                let shrank = |address| weight(&farms[1], address) < weight(&farms[0], address);
                prop_assert!(
                    was == is || was.is_none_or(shrank) || is.is_none_or(grew),
                    "{was:?} to {is:?} by {farms:?}"
                );
                prop_assert!(is.is_none_or(|address| weight(&farms[1], address) > 0));
            }
        }
    }

    #[test]
    fn a_cancel_reaches_the_owner_of_now_and_the_last_three_others(history in history()) {
        let proxies = proxies(&history);
        for call in 0..CALLS {
            let mut owners: Vec<SocketAddr> = Vec::new();
            for proxy in &proxies {
                // The newest stands last, each once.
                if let Some(owner) = owner(proxy, call) {
                    owners.retain(|known| *known != owner);
                    owners.push(owner);
                }
                let (decision, _, also) = decide(proxy, &request("CANCEL", call, ""));
                let Decision::Forward(forward) = decision else {
                    prop_assert!(owners.is_empty(), "{decision:?}");
                    continue;
                };
                let reached: Vec<_> = [forward.to].into_iter().chain(also).collect();
                let newest: Vec<_> = owners.iter().rev().take(1 + MOST_COPIES).copied().collect();
                prop_assert_eq!(reached, newest);
            }
        }
    }

    #[test]
    fn a_cookie_is_honoured_while_its_destination_is_there(history in history()) {
        let proxies = proxies(&history);
        for made in 0..proxies.len() {
            for call in 0..CALLS / 10 {
                let (decision, text, _) = decide(&proxies[made], &request("INVITE", call, ""));
                let Decision::Forward(Forward { to: first, .. }) = decision else {
                    continue;
                };
                let recorded = text.lines().find_map(|line| line.strip_prefix("Record-Route: "));
                let route = format!("Route: {}\r\n", recorded.expect("a Record-Route"));
                for (farm, proxy) in history.iter().zip(&proxies).skip(made) {
                    let host = (0..HOSTS).find(|host| destination(*host) == first);
                    let place = farm[host.expect("one of the hosts")];
                    let is_there = place.is_some_and(|(_, state)| state != State::Disabled);
                    let (decision, ..) = decide(proxy, &request("BYE", call, &route));
                    match decision {
                        Decision::Forward(forward) if is_there => {
                            let is_dialog = matches!(forward.way, Way::Dialog(_));
                            prop_assert!(is_dialog && forward.to == first, "{forward:?}");
                            prop_assert_eq!(forward.cookie, CookieUse::Followed);
                        }
                        Decision::Forward(forward) => {
                            prop_assert_eq!(forward.cookie, CookieUse::Gone);
                            prop_assert!(forward.to != first);
                        }
                        _ => prop_assert!(!is_there, "{decision:?}"),
                    }
                }
            }
        }
    }
}

/// What a set may hash, and whether dialogs are followed, that go with a farm.
fn keyed() -> impl Strategy<Value = Config> {
    let keys = vec![
        HashKey::CallId,
        HashKey::FromUri,
        HashKey::RequestUri,
        HashKey::ToUser,
        HashKey::RequestUser,
        HashKey::Source,
        HashKey::Header("x-key".to_owned()),
        HashKey::Header("x-other".to_owned()),
    ];
    let policies = vec![Policy::Hash, Policy::Random, Policy::Kamailio];
    let keyed = (
        prop::sample::select(policies),
        prop::sample::select(keys),
        prop::option::weighted(0.8, any::<bool>()),
        prop::array::uniform::<_, HOSTS>(1..3_u32),
        prop::bool::weighted(0.9),
    );
    keyed.prop_map(|(policy, hash_key, follow, weights, takes)| {
        let state = if takes {
            State::Active
        } else {
            State::Draining
        };
        let mut config = config(&weights.map(|weight| Some((weight, state))));
        config.sets[0].policy = policy;
        config.sets[0].hash_key = hash_key;
        config.routes = Vec::from_iter(follow.map(fixture::route));
        config
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// Each as if there had never been another.
    #[test]
    fn a_former_generation_chooses_by_its_own_rules_and_keys(history in vec(keyed(), 1..6)) {
        let alone = |config: &Config| Proxy::new(config, fixture::secret());
        let (first, later) = history.split_first().expect("one");
        let mut proxy = alone(first);
        let mut former: Vec<&Config> = Vec::new();
        let mut before = first;
        for config in later {
            proxy = proxy.successor(config);
            if (&config.sets, &config.routes) != (&before.sets, &before.routes) {
                former.retain(|known| (&known.sets, &known.routes) != (&config.sets, &config.routes));
                former.insert(0, before);
                before = config;
            }
        }
        let by_age: Vec<Proxy> = [before].into_iter().chain(former).map(alone).collect();
        for call in 0..CALLS / 4 {
            for rows in [
                "X-Key: k\r\n",
                "X-Other: k\r\nx-key: j\r\n",
                "Replaces: r;a=b\r\n",
                "Target-Dialog: t;a=b\r\nJoin: j\r\nX-Key: k\r\n",
                "Join: j\r\nreplaces : r \r\n ;a=b\r\nReplaces: s\r\n",
            ] {
                let cancel = request("CANCEL", call, rows);
                let mut wanted: Vec<SocketAddr> = Vec::new();
                for proxy in &by_age {
                    if let (Decision::Forward(forward), ..) = decide(proxy, &cancel)
                        && !wanted.contains(&forward.to)
                    {
                        wanted.push(forward.to);
                    }
                }
                wanted.truncate(1 + MOST_COPIES);
                let (decision, _, also) = decide(&proxy, &cancel);
                let to = match decision {
                    Decision::Forward(forward) => Some(forward.to),
                    _ => None,
                };
                let reached: Vec<_> = to.into_iter().chain(also).collect();
                prop_assert_eq!(reached, wanted);
            }
        }
    }
}

/// Farms that differ in whose turn it is to take all calls.
fn turns(order: &[usize]) -> Vec<Proxy> {
    let farm = |host: &usize| {
        let mut farm: Farm = [None; HOSTS];
        farm[*host] = Some((1, State::Active));
        farm
    };
    proxies(&order.iter().map(farm).collect::<Vec<_>>())
}

fn also(proxy: &Proxy) -> Vec<SocketAddr> {
    match decide(proxy, &request("ACK", 1, "")) {
        (Decision::Forward(_), _, also) => also,
        other => panic!("{other:?}"),
    }
}

#[test]
fn former_generations_are_forgotten_from_the_oldest_on() {
    let proxies = turns(&[0, 1, 2, 3]);
    let last = &proxies[3];
    assert_eq!(last.generation(), 4);
    let known = |before| also(&last.without_formers_before(before));
    assert_eq!(known(1), [2, 1, 0].map(destination));
    assert_eq!(known(2), [2, 1].map(destination));
    assert_eq!(known(3), [2].map(destination));
    assert_eq!(known(4), []);
}

#[test]
fn no_more_than_sixteen_are_kept() {
    let mut history = vec![[None; HOSTS]; 18];
    history[0][5] = Some((1, State::Active));
    for (farm, weight) in history[1..].iter_mut().zip(1..) {
        farm[0] = Some((weight, State::Active));
    }
    let proxies = proxies(&history);
    assert_eq!(also(&proxies[16]), [destination(5)], "16 changes later");
    assert_eq!(also(&proxies[17]), []);
}

/// A server that comes back takes its share in steps, and five of them do so
/// at once.
#[test]
fn steps_on_the_way_back_push_nothing_out() {
    let mut health = [Health::Down; HOSTS];
    health[0] = Health::Up;
    let mut proxy = Proxy::new(&with(health), fixture::secret());
    for percent in [10, 30, 50, 70, 100] {
        for host in 1..HOSTS {
            health[host] = match percent {
                100 => Health::Up,
                percent => Health::Warming(percent),
            };
            proxy = proxy.successor(&with(health));
        }
    }
    // Each time that one was there at all again, and the last step is now.
    let kept: Vec<_> = (1..26).filter(|number| proxy.keeps(*number)).collect();
    assert_eq!(kept, [1, 2, 3, 4, 5, 6]);
    (0..CALLS).for_each(|call| assert_cancelled_at(&proxy, call, destination(0)));
    // What falls is a change of its own.
    health[1] = Health::Down;
    let before = proxy.generation();
    assert!(proxy.successor(&with(health)).keeps(before));
}

/// All destinations, as probes have found them.
fn with(health: [Health; HOSTS]) -> Config {
    let mut config = config(&[Some((1, State::Active)); HOSTS]);
    for (each, health) in config.sets[0].destinations.iter_mut().zip(health) {
        each.health = health;
    }
    config
}

/// The CANCEL of this call gets there, wherever else it goes.
#[track_caller]
fn assert_cancelled_at(proxy: &Proxy, call: usize, to: SocketAddr) {
    let (decision, _, also) = decide(proxy, &request("CANCEL", call, ""));
    let Decision::Forward(forward) = decision else {
        panic!("{decision:?}");
    };
    assert!(forward.to == to || also.contains(&to), "{also:?}");
}

#[test]
fn what_began_at_the_first_that_came_back_is_cancelled_there() {
    let mut health = [Health::Down; HOSTS];
    let mut proxy = Proxy::new(&with(health), fixture::secret());
    for host in 0..2 {
        health[host] = Health::Warming(20);
        proxy = proxy.successor(&with(health));
        (0..CALLS).for_each(|call| assert_cancelled_at(&proxy, call, destination(0)));
    }
}

#[test]
fn the_same_configuration_makes_no_generation() {
    let proxies = turns(&[0, 1, 1, 1]);
    assert_eq!(proxies[3].generation(), 2);
    assert_eq!(also(&proxies[3]), [0].map(destination));
}

#[test]
fn a_second_chance_leaves_by_the_same_listener_or_not_at_all() {
    let mut before = fixture::config();
    before.listeners.push(viaduct::config::Listener {
        name: "v6".to_owned(),
        address: "[2001:db8::10]:5060".parse().expect("an address"),
        ..before.listeners[0].clone()
    });
    before.sets[0].destinations.truncate(1);
    let now = before.clone();
    before.sets[0].destinations[0].address = "[2001:db8::1]:5060".parse().expect("an address");
    let proxy = Proxy::new(&before, fixture::secret()).successor(&now);
    assert_eq!(also(&proxy), []);
    // Nor does it go to ourselves.
    before.sets[0].destinations[0].address = before.listeners[0].address;
    let proxy = Proxy::new(&before, fixture::secret()).successor(&now);
    assert_eq!(also(&proxy), []);
}

/// Where a proxy of a round-robin set sends a request; `None`: nowhere.
fn sent_to(decider: &mut Decider, text: &str) -> Option<SocketAddr> {
    match decider.decide(text.as_bytes(), caller()).0 {
        Decision::Forward(forward) => Some(forward.to),
        Decision::Reply(_) => None,
        other => panic!("{other:?}"),
    }
}

/// So many equal destinations, which take new work in turn.
fn in_turn(hosts: usize, weight: u32) -> Config {
    let mut farm = [None; HOSTS];
    farm[..hosts].fill(Some((weight, State::Active)));
    let mut config = config(&farm);
    config.sets[0].policy = Policy::RoundRobin;
    config
}

#[test]
fn in_turn_goes_on_where_a_set_was_empty_for_a_while() {
    let text = String::from_utf8(invite()).expect("text");
    let mut decider = Decider::new(&in_turn(1, 1));
    assert_eq!(sent_to(&mut decider, &text), Some(destination(0)));
    for (hosts, to) in [(0, None), (1, Some(destination(0)))] {
        decider.proxy = decider.proxy.successor(&in_turn(hosts, 1));
        assert_eq!(sent_to(&mut decider, &text), to, "{hosts} destinations");
    }
}

/// A telephone registers anew with the same Call-ID (RFC 3261 §10.2), and must
/// not do so for ever at a destination that is down.
#[test]
fn in_turn_what_begins_anew_leaves_a_destination_that_is_down() {
    let farm = |health| {
        let mut config = in_turn(2, 1);
        config.sets[0].destinations[0].health = health;
        config
    };
    let register = String::from_utf8(invite()).expect("text");
    let register = register.replace("INVITE", "REGISTER");
    let again = register.replace("CSeq: 2", "CSeq: 3");
    let cancel = register
        .replace("REGISTER sip", "CANCEL sip")
        .replace("CSeq: 2 REGISTER", "CSeq: 2 CANCEL");
    let within = again.replace("desk@farm.example>\r", "desk@farm.example>;tag=b\r");
    assert_ne!(within, again);
    let mut decider = Decider::new(&farm(Health::Up));
    assert_eq!(sent_to(&mut decider, &register), Some(destination(0)));
    decider.proxy = decider.proxy.successor(&farm(Health::Down));
    for (text, host) in [(&cancel, 0), (&within, 0), (&again, 1), (&cancel, 1)] {
        assert_eq!(
            sent_to(&mut decider, text),
            Some(destination(host)),
            "{text}"
        );
    }
}

/// As the hash does it: who stands in gives back what begins anew.
#[test]
fn in_turn_what_begins_anew_leaves_who_stood_in_for_another() {
    let farm = |health| {
        let mut config = in_turn(2, 1);
        config.sets[0].destinations[1].priority = -1;
        config.sets[0].destinations[0].health = health;
        config
    };
    let register = String::from_utf8(invite()).expect("text");
    let register = register.replace("INVITE", "REGISTER");
    let again = register.replace("CSeq: 2", "CSeq: 3");
    let mut decider = Decider::new(&farm(Health::Down));
    assert_eq!(sent_to(&mut decider, &register), Some(destination(1)));
    decider.proxy = decider.proxy.successor(&farm(Health::Up));
    let within = again.replace("desk@farm.example>\r", "desk@farm.example>;tag=b\r");
    assert_eq!(sent_to(&mut decider, &within), Some(destination(1)));
    assert_eq!(sent_to(&mut decider, &again), Some(destination(0)));
}

/// What is due was counted in the weights of before.
#[test]
fn in_turn_smaller_weights_let_nobody_wait() {
    let mut decider = Decider::new(&in_turn(2, 1000));
    assert!(sent_to(&mut decider, &request("INVITE", 0, "")).is_some());
    decider.proxy = decider.proxy.successor(&in_turn(2, 1));
    let taken: Vec<_> = (1..5)
        .filter_map(|call| sent_to(&mut decider, &request("INVITE", call, "")))
        .collect();
    let of = |host| taken.iter().filter(|to| **to == destination(host)).count();
    assert_eq!((of(0), of(1)), (2, 2), "{taken:?}");
}
