//! How a set chooses: shares by weight, what moves when a set changes and what
//! does not, priorities, states, turns, and Kamailio's hash.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use support::fixture::{self, caller};
use viaduct::config::{self, Destination, HashKey, Health, Policy, State, WhenAllDown};
use viaduct::dispatcher::{Dispatcher, SLOTS, Turns, kamailio_hash};
use viaduct::proxy::{Datagram, Proxy};

const KEY: [u8; 16] = *b"a selection key.";

/// An active destination at 198.51.100.`host`.
fn destination(host: u8, weight: u32) -> Destination {
    let address = SocketAddr::from(([198, 51, 100, host], 5060));
    Destination {
        uri: format!("sip:{address}"),
        address,
        weight,
        priority: 0,
        state: State::Active,
        probe: None,
        health: Health::Up,
    }
}

fn dispatcher(policy: Policy, destinations: &[Destination]) -> Dispatcher {
    Dispatcher::new(&[set(policy, destinations)], KEY)
}

fn set(policy: Policy, destinations: &[Destination]) -> config::Set {
    config::Set {
        name: "farm".to_owned(),
        policy,
        hash_key: HashKey::CallId,
        destinations: destinations.to_vec(),
        member_sources: Vec::new(),
        named: Vec::new(),
        when_all_down: WhenAllDown::Forward,
    }
}

/// A hash that falls into `slot`.
fn hash_in(slot: usize) -> u64 {
    (slot as u64) << 48 | 0xabcd
}

/// The owner of each slot, by its address.
fn owners(destinations: &[Destination]) -> Vec<Option<SocketAddr>> {
    owners_of(&dispatcher(Policy::Hash, destinations))
}

fn owners_of(dispatcher: &Dispatcher) -> Vec<Option<SocketAddr>> {
    let set = &dispatcher.sets()[0];
    let destinations = &set.definition().destinations;
    let mut turns = Turns::new(dispatcher);
    let owner = |slot| {
        let chosen = set.choose(0, hash_in(slot), b"", &mut turns, || true)?;
        Some(destinations[chosen].address)
    };
    (0..SLOTS).map(owner).collect()
}

/// Whether `count` of `all` slots is as likely as not for this share: within
/// five standard deviations, which one in two million would not be.
#[track_caller]
fn assert_share(count: usize, all: usize, share: f64) {
    let expected = all as f64 * share;
    let deviation = (expected * (1.0 - share)).sqrt();
    let off = (count as f64 - expected).abs();
    assert!(
        off <= 5.0 * deviation + 1.0,
        "{count} of {all}, not {expected:.0}"
    );
}

/// Shares of `slots` by weight among `destinations`.
#[track_caller]
fn assert_shares(slots: &[SocketAddr], destinations: &[Destination]) {
    let sum: u32 = destinations.iter().map(|each| each.weight).sum();
    for each in destinations {
        let count = slots.iter().filter(|owner| **owner == each.address).count();
        assert_share(count, slots.len(), f64::from(each.weight) / f64::from(sum));
    }
}

fn all_owned(owners: Vec<Option<SocketAddr>>) -> Vec<SocketAddr> {
    owners
        .into_iter()
        .map(|owner| owner.expect("an owner"))
        .collect()
}

/// Some destinations of different weights.
fn farm() -> impl Strategy<Value = Vec<Destination>> {
    vec(1..10_u32, 2..9).prop_map(|weights| {
        let numbered = weights.into_iter().zip(1..);
        numbered
            .map(|(weight, host)| destination(host, weight))
            .collect()
    })
}

/// What a destination may become: in most cases another of the same priority.
fn change() -> impl Strategy<Value = Destination> {
    let states = vec![State::Active, State::Active, State::Draining];
    let healths = vec![Health::Up, Health::Up, Health::Warming(50), Health::Down];
    let states = prop::sample::select(states);
    let healths = prop::sample::select(healths);
    let priority = prop_oneof![9 => Just(0), 1 => Just(1)];
    let parts = (1..8_u8, 1..4_u32, priority, states, healths);
    parts.prop_map(|(host, weight, priority, state, health)| Destination {
        priority,
        state,
        health,
        ..destination(host, weight)
    })
}

/// A proxy with three sets, which hash `what` of the From URI, the To URI and
/// the Request-URI.
fn proxy_by(what: &str) -> Proxy {
    let mut config = fixture::config();
    config.sets = ["from", "to", "request"]
        .map(|place| {
            let key = format!("{place}-{what}");
            config::Set {
                hash_key: config::text::hash_key(&key).expect("a hash key"),
                name: key,
                ..set(Policy::Hash, &[destination(1, 1)])
            }
        })
        .to_vec();
    Proxy::new(&config, fixture::secret())
}

/// What the sets of [`proxy_by`] make of a request that has `uri` in their
/// place alone.
fn hashed(proxy: &Proxy, uri: &str) -> [String; 3] {
    [0, 1, 2].map(|set| {
        let mut uris = ["sip:desk@farm.example"; 3];
        uris[set] = uri;
        let [from, to, request] = uris;
        let text = format!(
            "INVITE {request} SIP/2.0\r\nVia: SIP/2.0/UDP 203.0.113.7;branch=z9hG4bK1\r\n\
             From: <{from}>;tag=f\r\nTo: <{to}>\r\nCall-ID: a\r\nCSeq: 1 INVITE\r\n\r\n"
        );
        let datagram = Datagram {
            bytes: text.as_bytes(),
            source: caller(),
            listener: 0,
        };
        let (key, _) = proxy.key(&datagram, set).expect("a request");
        String::from_utf8(key).expect("UTF-8")
    })
}

#[test]
fn a_user_is_one_key_whatever_names_its_host() {
    let proxy = proxy_by("user");
    proptest!(|(
        user in "[A-Za-z0-9_.!~*'()&=+$,;?/-]{1,9}",
        escaped in vec(any::<bool>(), 9),
        password in prop_oneof![Just(""), Just(":"), Just(":pw%40")],
        host in prop::sample::select(vec!["x.org", "X.org:5070", "192.0.2.1", "[2001:db8::5]"]),
        more in prop_oneof![Just(""), Just(";user=phone"), Just(";transport=udp;lr")],
    )| {
        let octets = user.bytes().zip(escaped);
        let written: String = octets
            .map(|(octet, escaped)| match escaped {
                true => format!("%{octet:02x}"),
                false => char::from(octet).to_string(),
            })
            .collect();
        let uri = format!("sip:{written}{password}@{host}{more}");
        prop_assert_eq!(hashed(&proxy, &uri), [user.as_str(); 3], "{}", uri);
    });
}

#[test]
fn where_no_user_is_named_the_uri_is_the_key() {
    let (by_user, by_uri) = (proxy_by("user"), proxy_by("uri"));
    for uri in [
        "sip:x.org",
        "sip::pw@x.org",
        "tel:+49-30",
        "urn:service:sos",
    ] {
        assert_eq!(hashed(&by_user, uri), hashed(&by_uri, uri), "{uri}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_table_made_from_a_former_one_is_as_if_made_anew(
        mut farm in farm(),
        changes in vec(vec(change(), 1..3), 1..4),
    ) {
        let mut dispatcher = dispatcher(Policy::Hash, &farm);
        for changes in changes {
            for change in changes {
                farm.retain(|each| each.address != change.address);
                farm.insert(farm.len() / 2, change);
            }
            dispatcher = dispatcher.successor(&[set(Policy::Hash, &farm)]);
            prop_assert!(owners_of(&dispatcher) == owners(&farm));
        }
    }

    #[test]
    fn slots_are_shared_by_weight(farm in farm()) {
        assert_shares(&all_owned(owners(&farm)), &farm);
    }

    #[test]
    fn the_order_of_the_file_does_not_matter(farm in farm(), by in 1..8_usize) {
        let mut turned = farm.clone();
        turned.rotate_left(by % farm.len());
        prop_assert_eq!(owners(&farm), owners(&turned));
    }

    #[test]
    fn who_leaves_takes_nothing_else_along(farm in farm(), leaver in any::<prop::sample::Index>()) {
        let before = all_owned(owners(&farm));
        let mut rest = farm.clone();
        let left = rest.remove(leaver.index(farm.len()));
        let after = all_owned(owners(&rest));
        let mut freed = Vec::new();
        for (was, is) in before.iter().zip(&after) {
            if *was == left.address {
                freed.push(*is);
            } else {
                prop_assert_eq!(was, is);
            }
        }
        // To all others by weight, not to a neighbour.
        assert_shares(&freed, &rest);
        // Disabled is as good as gone; and to come back is to leave backwards.
        let mut disabled = farm;
        disabled[leaver.index(rest.len() + 1)].state = State::Disabled;
        prop_assert_eq!(all_owned(owners(&disabled)), after);
    }

    #[test]
    fn another_weight_moves_slots_to_or_from_its_owner_only(
        farm in farm(),
        changed in any::<prop::sample::Index>(),
        weight in 1..20_u32,
    ) {
        let mut other = farm.clone();
        let changed = changed.index(farm.len());
        let old = std::mem::replace(&mut other[changed].weight, weight);
        let address = farm[changed].address;
        for (was, is) in owners(&farm).into_iter().zip(owners(&other)) {
            if was != is {
                let moved_right = if weight > old { is } else { was };
                prop_assert_eq!(moved_right, Some(address));
            }
        }
    }

    #[test]
    fn the_first_in_rank_owns_the_slot(farm in farm(), slots in vec(0..SLOTS, 200)) {
        let owners = owners(&farm);
        let dispatcher = dispatcher(Policy::Hash, &farm);
        for slot in slots {
            let rank = dispatcher.sets()[0].rank(slot);
            prop_assert_eq!(rank.len(), farm.len());
            prop_assert_eq!(Some(farm[rank[0].destination].address), owners[slot]);
            prop_assert!(rank.is_sorted_by(|a, b| a.score <= b.score));
        }
    }
}

#[test]
fn rank_puts_the_higher_priority_first_and_leaves_out_the_disabled() {
    let mut farm: Vec<_> = (1..=4).map(|host| destination(host, 1)).collect();
    farm[3].priority = 1;
    farm[1].state = State::Disabled;
    let dispatcher = dispatcher(Policy::Hash, &farm);
    for slot in (0..SLOTS).step_by(1000) {
        let rank = dispatcher.sets()[0].rank(slot);
        let mut order: Vec<_> = rank.iter().map(|each| each.destination).collect();
        assert_eq!(order[0], 3);
        order.sort_unstable();
        assert_eq!(order, [0, 2, 3]);
    }
}

/// A call must not lose its CANCEL or ACK just because the hash of another one
/// ends like its own.
#[test]
fn of_calls_with_hashes_alike_the_oldest_is_forgotten() {
    let farm: Vec<_> = (1..=9).map(|host| destination(host, 1)).collect();
    let dispatcher = dispatcher(Policy::RoundRobin, &farm);
    let set = &dispatcher.sets()[0];
    let mut turns = Turns::new(&dispatcher);
    let mut choose = |call: u64| set.choose(0, call << 32 | 0xabcd, b"", &mut turns, || true);
    for round in 0..2 {
        for call in 1..=4 {
            let chosen = choose(call);
            assert_eq!(chosen, Some(call as usize - 1), "round {round}");
        }
    }
    assert_eq!(choose(5), Some(4));
    for call in 2..=5 {
        assert_eq!(choose(call), Some(call as usize - 1));
    }
    assert_eq!(choose(1), Some(5), "a new turn");
}

#[test]
fn what_is_remembered_in_turn_follows_its_destination() {
    let of = |hosts: &[u8]| {
        let farm: Vec<_> = hosts.iter().map(|host| destination(*host, 1)).collect();
        dispatcher(Policy::RoundRobin, &farm)
    };
    let first = of(&[1, 2, 3]);
    let mut turns = Turns::new(&first);
    let choose = |dispatcher: &Dispatcher, turns: &mut Turns, call: u64| {
        let set = &dispatcher.sets()[0];
        let chosen = set.choose(0, call, b"", turns, || true).expect("a choice");
        set.definition().destinations[chosen].address.ip()
    };
    let places = |dispatcher: &Dispatcher, turns: &mut Turns| {
        let all = (1..=300).map(|call| choose(dispatcher, turns, call));
        all.collect::<Vec<_>>()
    };
    let had = places(&first, &mut turns);
    let longer = of(&[1, 2, 3, 4]);
    turns.follow(&first, &longer);
    assert_eq!(places(&longer, &mut turns), had);
    let backwards = of(&[4, 3, 2, 1]);
    turns.follow(&longer, &backwards);
    assert_eq!(places(&backwards, &mut turns), had);
    let shorter = of(&[3, 1]);
    turns.follow(&backwards, &shorter);
    let gone = destination(2, 1).address.ip();
    for (was, is) in had.iter().zip(places(&shorter, &mut turns)) {
        assert_ne!(is, gone);
        assert!(*was == gone || *was == is, "{was} became {is}");
    }
    // What it had was given to others, and stays with them.
    let again = of(&[1, 2, 3]);
    turns.follow(&shorter, &again);
    assert!(!places(&again, &mut turns).contains(&gone));
}

/// Worked out by hand: of each word v of four octets, the last one padded on
/// the left, v ^ v>>3; of their sum h, h + h>>11 + h>>13 + h>>23; 0 becomes 1.
#[test]
fn kamailios_hash() {
    for (call_id, hash) in [
        (&b""[..], 1),
        // v = 0x61, v>>3 = 0x0c; nothing is left of h>>11.
        (b"a", 0x6d),
        // v = 0x6162, v>>3 = 0x0c2c, h = 0x6d4e; h>>11 = 0xd, h>>13 = 3.
        (b"ab", 0x6d5e),
        // v = 0x61626364, v>>3 = 0x0c2c4c6c, h = 0x6d4e2f08;
        // h>>11 = 0xda9c5, h>>13 = 0x36a71, h>>23 = 0xda.
        (b"abcd", 0x6d5f_4418),
        // Two words: h = 0x6d4e2f08 + 0x6d = 0x6d4e2f75; the shifts as above.
        (b"abcda", 0x6d5f_4485),
        // An octet is signed: v = 0xffffffff, v>>3 = 0x1fffffff,
        // h = 0xe0000000; h>>11 = 0x1c0000, h>>13 = 0x70000, h>>23 = 0x1c0.
        (b"\xff", 0xe023_01c0),
    ] {
        assert_eq!(kamailio_hash(call_id), hash, "{}", call_id.escape_ascii());
    }
}

#[test]
fn kamailios_order_is_backwards_and_the_next_stands_in() {
    let mut farm: Vec<_> = (1..=4).map(|host| destination(host, 1)).collect();
    let choose = |farm: &[Destination], call_id: &[u8]| {
        let dispatcher = dispatcher(Policy::Kamailio, farm);
        dispatcher.sets()[0].choose(0, 0, call_id, &mut Turns::new(&dispatcher), || true)
    };
    // 0x6d = 109 = 1 mod 4: the second from the end.
    assert_eq!(choose(&farm, b"a"), Some(2));
    farm[2].state = State::Disabled;
    assert_eq!(choose(&farm, b"a"), Some(1));
    // 1 mod 4 again, with the empty one; a higher priority comes first.
    farm[0].priority = 1;
    assert_eq!(choose(&farm, b""), Some(3));
    for each in &mut farm {
        each.state = State::Disabled;
    }
    assert_eq!(choose(&farm, b"a"), None);
}

/// The share of each destination of a set, by what is found of its health.
fn shares(policy: Policy, healths: &[Health], when_all_down: WhenAllDown) -> Vec<f64> {
    let farm = (1..).zip(healths).map(|(host, health)| Destination {
        health: *health,
        ..destination(host, 4)
    });
    let set = config::Set {
        when_all_down,
        ..set(policy, &farm.collect::<Vec<_>>())
    };
    let dispatcher = Dispatcher::new(&[set], KEY);
    let set = &dispatcher.sets()[0];
    let mut turns = Turns::new(&dispatcher);
    let mut counts = vec![0; healths.len()];
    for call in 0..SLOTS {
        let hash = hash_in(call);
        if let Some(chosen) = set.choose(
            0,
            hash,
            format!("call-{call}").as_bytes(),
            &mut turns,
            || true,
        ) {
            counts[chosen] += 1;
        }
    }
    counts
        .iter()
        .map(|count| f64::from(*count) / SLOTS as f64)
        .collect()
}

const POLICIES: [Policy; 4] = [
    Policy::Hash,
    Policy::Random,
    Policy::RoundRobin,
    Policy::Kamailio,
];

#[test]
fn one_that_is_down_takes_no_new_work() {
    for policy in POLICIES {
        let shares = shares(
            policy,
            &[Health::Up, Health::Down, Health::Up],
            WhenAllDown::Reply,
        );
        assert_eq!(shares[1], 0.0, "{policy:?}");
        assert!(
            (shares[0] + shares[2] - 1.0).abs() < 1e-9,
            "{policy:?}: {shares:?}"
        );
    }
}

#[test]
fn one_that_comes_back_takes_a_part_of_its_weight() {
    let healths = vec![Health::Up, Health::Warming(25)];
    for policy in [Policy::Hash, Policy::Random, Policy::RoundRobin] {
        let shares = shares(policy, &healths, WhenAllDown::Forward);
        assert!((shares[1] - 0.2).abs() < 0.02, "{policy:?}: {shares:?}");
    }
}

#[test]
fn where_all_are_down_work_goes_on_or_is_answered() {
    for policy in POLICIES {
        let open = shares(policy, &[Health::Down; 2], WhenAllDown::Forward);
        assert!(
            open.iter().all(|share| *share > 0.3),
            "{policy:?}: {open:?}"
        );
        assert_eq!(
            shares(policy, &[Health::Down; 2], WhenAllDown::Reply),
            [0.0, 0.0]
        );
    }
}

#[test]
fn a_lower_priority_takes_over_from_those_that_are_down() {
    let mut farm = [destination(1, 1), destination(2, 1)];
    farm[1].priority = -1;
    assert!(
        owners(&farm)
            .iter()
            .all(|owner| *owner == Some(farm[0].address))
    );
    farm[0].health = Health::Down;
    assert!(
        owners(&farm)
            .iter()
            .all(|owner| *owner == Some(farm[1].address))
    );
}

#[test]
fn sets_that_did_not_change_keep_their_tables() {
    let set = |name: &str, health| {
        let mut farm = [destination(1, 1), destination(2, 1)];
        farm[0].health = health;
        config::Set {
            name: name.to_owned(),
            ..set(Policy::Hash, &farm)
        }
    };
    let before = Dispatcher::new(&[set("a", Health::Up), set("b", Health::Up)], KEY);
    let after = before.successor(&[set("b", Health::Up), set("a", Health::Down)]);
    assert!(std::sync::Arc::ptr_eq(&before.sets()[1], &after.sets()[0]));
    assert!(!std::sync::Arc::ptr_eq(&before.sets()[0], &after.sets()[1]));
    assert_ne!(before.sets()[0].outline(), after.sets()[1].outline());
}
