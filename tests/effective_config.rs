//! The effective configuration, loaded again, is the same configuration; and
//! no text, however broken, is worse than refused.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use proptest::prelude::*;
use viaduct::config::{
    Accept, Accounting, AccountingTarget, Admin, Config, Destination, Gso, HashKey, Health,
    HostPort, Listener, Loaded, Log, LogFormat, LogLevel, Mirror, Named, OnFailure, Overrides,
    Policy, Probe, Route, Set, State, Stateful, Steer, Timers, WhenAllDown, load_with, to_toml,
};

/// Loads `text` as if it were the file `/v.toml`; there is no other file.
fn load(text: &str) -> Loaded {
    let reader = |path: &Path| match path == Path::new("/v.toml") {
        true => Ok(text.as_bytes().to_vec()),
        false => Err(io::ErrorKind::NotFound.into()),
    };
    load_with(
        Some(Path::new("/v.toml")),
        &Overrides::default(),
        3,
        &reader,
    )
}

fn listener() -> impl Strategy<Value = Listener> {
    let hosts = ["sip.example.com", "192.0.2.1", "[2001:db8::1]"];
    let advertise = (
        prop::sample::select(hosts.to_vec()),
        prop::option::of(1..u16::MAX),
    );
    let advertise = advertise.prop_map(|(host, port)| HostPort {
        host: host.to_owned(),
        port,
    });
    let address = prop_oneof![Just("127.0.0.1"), Just("[::1]")];
    (
        "[ -~äß]{1,12}",
        address,
        any::<u16>(),
        (
            prop::option::of(advertise.clone()),
            prop::collection::vec(advertise, 0..3),
        ),
        networks(),
        any::<[bool; 2]>(),
        networks(),
    )
        .prop_map(
            |(
                name,
                host,
                port,
                (advertise, also_known_as),
                proxy_protocol,
                [record_route, path],
                egress,
            )| {
                Listener {
                    name,
                    address: format!("{host}:{port}").parse().expect("an address"),
                    advertise,
                    also_known_as,
                    proxy_protocol,
                    record_route,
                    path,
                    egress,
                }
            },
        )
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let networks = ["10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"];
    let networks = networks.map(|text| text.parse().expect("a network"));
    prop::sample::subsequence(networks.to_vec(), 0..4)
}

/// From `least` to `most` milliseconds.
fn milliseconds(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    (least..=most).prop_map(Duration::from_millis)
}

fn sip_uri() -> impl Strategy<Value = Option<String>> {
    let uris = ["sip:viaduct@example.com", "sip:10.0.0.1;x='"].map(str::to_owned);
    prop::option::of(prop::sample::select(uris.to_vec()))
}

/// `None` in every second case: not probed at all.
fn probe() -> impl Strategy<Value = Option<Arc<Probe>>> {
    let accept = prop_oneof![
        (2..=6_u8).prop_map(Accept::Class),
        (200..=699_u16).prop_map(Accept::Status),
    ];
    let times = (
        milliseconds(100, 3_600_000),
        milliseconds(10, 60_000),
        milliseconds(0, 3_600_000),
    );
    let other = (
        [1..=100_u32, 1..=100],
        prop::collection::vec(accept, 1..4),
        [sip_uri().boxed(), sip_uri().boxed()],
    );
    let probe = (times, other).prop_map(
        |(
            (interval, timeout, slow_start),
            ([down_after, up_after], accept, [from, request_uri]),
        )| Probe {
            interval,
            timeout,
            down_after,
            up_after,
            accept,
            from,
            request_uri,
            slow_start,
        },
    );
    // The default as often as any other, so that members of a set agree too.
    let probe = prop_oneof![Just(Probe::default()), probe];
    prop::option::of(probe.prop_map(Arc::new))
}

fn named() -> impl Strategy<Value = Named> {
    let state = prop::sample::select(vec![State::Active, State::Draining, State::Disabled]);
    let weight = prop::option::of(1..=1_000_000_u32);
    let port = prop::option::of(1..=u16::MAX);
    ("[a-z]{1,9}", port, weight, any::<i32>(), state, probe()).prop_map(
        |(host, port, weight, priority, state, probe)| {
            let port_text = port.map(|port| format!(":{port}")).unwrap_or_default();
            let uri = format!("sip:{}.Example.com{port_text}", host.to_uppercase());
            let host = format!("{host}.example.com");
            let name = HostPort { host, port };
            Named {
                uri,
                name,
                weight,
                priority,
                state,
                probe,
                resolved: false,
            }
        },
    )
}

fn destination() -> impl Strategy<Value = Destination> {
    let state = prop::sample::select(vec![State::Active, State::Draining, State::Disabled]);
    let form = 0..3_u8;
    (
        any::<u16>(),
        1..=1_000_000_u32,
        any::<i32>(),
        state,
        form,
        probe(),
    )
        .prop_map(|(host, weight, priority, state, form, probe)| {
            let host = format!("10.3.{}.{}", host >> 8, host & 255);
            let (uri, weight) = match form {
                0 => (host.clone(), 1),
                1 => (format!("{host}:5060"), weight),
                _ => (format!("sip:a;b@{host}"), weight),
            };
            let address = SocketAddr::new(host.parse().expect("an address"), 5060);
            Destination {
                uri,
                address,
                weight,
                priority,
                state,
                probe,
                health: Health::Up,
            }
        })
}

fn set() -> impl Strategy<Value = Set> {
    let choice = prop_oneof![
        Just((Policy::Hash, HashKey::Header("x-id".to_owned()))),
        Just((Policy::Hash, HashKey::CallId)),
        Just((Policy::Hash, HashKey::ToUser)),
        Just((Policy::Kamailio, HashKey::CallId)),
        Just((Policy::RoundRobin, HashKey::CallId)),
        Just((Policy::Random, HashKey::CallId)),
    ];
    let when_all_down = prop::sample::select(vec![WhenAllDown::Forward, WhenAllDown::Reply]);
    (
        "[ -~äß]{1,12}",
        choice,
        prop::collection::vec(destination(), 0..6),
        prop::collection::vec(named(), 0..3),
        networks(),
        when_all_down,
    )
        .prop_map(
            |(
                name,
                (policy, hash_key),
                mut destinations,
                mut named,
                member_sources,
                when_all_down,
            )| {
                destinations.sort_by_key(|destination| destination.address);
                destinations.dedup_by_key(|destination| destination.address);
                named.sort_by_key(|named| named.name.clone());
                named.dedup_by_key(|named| named.name.clone());
                if destinations.is_empty() && named.is_empty() {
                    destinations.push(lone());
                }
                Set {
                    name,
                    policy,
                    hash_key,
                    destinations,
                    member_sources,
                    named,
                    when_all_down,
                }
            },
        )
}

/// For a set that would have no member.
fn lone() -> Destination {
    Destination {
        uri: "10.4.0.1".to_owned(),
        address: "10.4.0.1:5060".parse().expect("an address"),
        weight: 1,
        priority: 0,
        state: State::Active,
        probe: None,
        health: Health::Up,
    }
}

/// A route to the set and from the listener of these numbers, modulo what
/// there is.
fn route() -> impl Strategy<Value = Route> {
    (
        any::<usize>(),
        prop::sample::subsequence(vec!["INVITE".to_owned(), "BYE".to_owned()], 0..3),
        prop::sample::subsequence(vec!["example.com".to_owned(), "[::1]".to_owned()], 0..3),
        prop::collection::vec("[ -~]{0,2}[0-~][ -~]{0,2}", 0..3),
        networks(),
        prop::collection::vec(any::<usize>(), 0..3),
        any::<(Option<bool>, bool)>(),
    )
        .prop_map(
            |(
                set,
                methods,
                hosts,
                user_prefixes,
                sources,
                listeners,
                (record_route, follow_replaces),
            )| Route {
                set,
                methods,
                hosts,
                user_prefixes,
                sources,
                listeners,
                record_route,
                follow_replaces,
            },
        )
}

fn methods() -> impl Strategy<Value = Vec<String>> {
    prop::sample::subsequence(["INVITE", "BYE", "a.b"].map(str::to_owned).to_vec(), 0..4)
}

/// A time from 1 ms to 1 h.
fn time() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1..=3_600_000_u64).prop_map(Duration::from_millis),
        (1..=3600_u64).prop_map(Duration::from_secs),
    ]
}

fn timers() -> impl Strategy<Value = Timers> {
    let all = prop::collection::vec(time(), 13).prop_map(|times| Timers {
        t1: times[0],
        t2: times[1],
        t4: times[2],
        b: times[3],
        c: times[4],
        d: times[5],
        f: times[6],
        h: times[7],
        i: times[8],
        j: times[9],
        k: times[10],
        l: times[11],
        m: times[12],
    });
    let of_three = [time().boxed(), time().boxed(), time().boxed()];
    let of_three = of_three.prop_map(|[t1, t2, t4]| Timers::of(t1, t2, t4));
    prop_oneof![all, of_three]
}

/// A rule among the sets of these numbers, modulo what there is.
fn on_failure() -> impl Strategy<Value = OnFailure> {
    let uris = ["sip:box@voicemail.example;x='", "tel:+49"].map(str::to_owned);
    (
        prop::collection::vec(402..407_u16, 1..4),
        any::<usize>(),
        prop::option::of(prop::sample::select(uris.to_vec())),
        prop::collection::vec(any::<usize>(), 0..3),
    )
        .prop_map(|(statuses, set, request_uri, from_sets)| OnFailure {
            statuses,
            set,
            request_uri,
            from_sets,
        })
}

fn accounting() -> impl Strategy<Value = Accounting> {
    let target = prop_oneof![
        path().prop_map(AccountingTarget::File),
        path().prop_map(AccountingTarget::Socket),
        Just(AccountingTarget::Stdout),
    ];
    (target, methods()).prop_map(|(target, methods)| Accounting { target, methods })
}

prop_compose! {
    fn stateful()(
        methods in methods(),
        transactions in 1..=1_usize << 24,
        timers in timers(),
        failover_after in time(),
        failover_status in prop::collection::vec(500..=599_u16, 0..4),
        [retry_after_cap, ring_timeout] in [0..2_u32, 0..2].prop_flat_map(|or_none| {
            or_none.map(|some| time().prop_map(move |time| time * some))
        }),
        on_failure in prop::collection::vec(on_failure(), 0..4),
        accounting in prop::option::of(accounting()),
    ) -> Stateful {
        Stateful {
            methods,
            transactions,
            timers,
            failover_after,
            failover_status,
            retry_after_cap,
            ring_timeout,
            on_failure,
            accounting,
        }
    }
}

fn path() -> impl Strategy<Value = PathBuf> {
    "/[ -~äß]{1,20}".prop_map(PathBuf::from)
}

prop_compose! {
    fn admin()(
        socket in prop::option::of(path()),
        ports in prop::collection::btree_set(any::<u16>(), 0..3),
        token_file in prop::option::of(path()),
    ) -> Admin {
        let listen = ports.into_iter().map(|port| ([127, 0, 0, 1], port).into());
        Admin { socket, listen: listen.collect(), token_file }
    }
}

prop_compose! {
    fn mirror()(
        port in 1..=u16::MAX,
        sample in 1..=1000_u32,
        id in any::<u32>(),
        key in prop::option::of("[ -~äß]{1,20}"),
    ) -> Mirror {
        Mirror { to: ([10, 0, 0, 9], port).into(), sample, id, key }
    }
}

fn log() -> impl Strategy<Value = Log> {
    let format = prop::sample::select(vec![LogFormat::Text, LogFormat::Json]);
    let levels = [
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
    ];
    let level = prop::sample::select(levels.to_vec());
    (format, level).prop_map(|(format, level)| Log { format, level })
}

prop_compose! {
    fn config()(
        listeners in prop::collection::vec(listener(), 1..4),
        sets in prop::collection::vec(set(), 1..4),
        mut routes in prop::collection::vec(route(), 0..4),
        steer in prop::sample::select(vec![Steer::CallId, Steer::Source]),
        (workers, pin, batch, reply_rate) in (1..1025_usize, any::<bool>(), 1..257_usize, 1..1_000_001_u32),
        second_chance in (0..=3600_u64).prop_map(Duration::from_secs),
        (receive_buffer, send_buffer) in (4096..1_usize << 30, 4096..1_usize << 30),
        gso in prop::sample::select(vec![Gso::Pad, Gso::Exact, Gso::Off]),
        (coalesce, spin) in ((0..=10_000_u64).prop_map(Duration::from_micros), (0..=10_000_u64).prop_map(Duration::from_micros)),
        resolve in any::<bool>(),
        resolvers in prop::collection::vec((any::<u8>(), 1..u16::MAX).prop_map(|(host, port)| SocketAddr::from(([192, 0, 2, host], port))), 0..3),
        secret_file in prop::option::of("[ -~]{1,20}"),
        mut stateful in stateful(),
        (admin, mirror, log) in (admin(), prop::option::of(mirror()), log()),
        stop_timeout in milliseconds(0, 3_600_000),
    ) -> Config {
        let (mut listeners, mut sets) = (listeners, sets);
        listeners[0].address.set_ip([127, 0, 0, 1].into());
        // Names and addresses must differ.
        for (number, listener) in listeners.iter_mut().enumerate() {
            listener.name.push_str(&number.to_string());
            listener.address.set_port(u16::try_from(number).expect("few"));
        }
        for (number, set) in sets.iter_mut().enumerate() {
            set.name.push_str(&number.to_string());
        }
        for route in &mut routes {
            route.set %= sets.len();
            route.listeners.iter_mut().for_each(|index| *index %= listeners.len());
        }
        for rule in &mut stateful.on_failure {
            rule.set %= sets.len();
            rule.from_sets.iter_mut().for_each(|index| *index %= sets.len());
        }
        Config {
            listeners,
            sets,
            routes,
            allowed_next_hops: vec!["198.51.100.0/24".parse().expect("a network")],
            workers,
            steer,
            pin,
            batch,
            gso,
            coalesce,
            spin,
            receive_buffer,
            send_buffer,
            secret_file: secret_file.map(|name| PathBuf::from("/").join(name)),
            reply_rate,
            resolve,
            resolvers,
            second_chance,
            stateful,
            admin,
            mirror,
            log,
            stop_timeout,
        }
    }
}

proptest! {
    #[test]
    fn the_effective_configuration_loads_as_itself(config in config()) {
        let text = to_toml(&config);
        let loaded = load(&text);
        prop_assert!(loaded.config.is_some(), "{:#?}\n{text}", loaded.diagnostics);
        prop_assert_eq!(loaded.config, Some(config));
    }

    #[test]
    fn any_text_is_loaded_or_refused_with_a_reason(text in "[\\[\\]{}=\"'#:;@.,\n\t a-z0-9äß]{0,200}") {
        let loaded = load(&text);
        prop_assert!(loaded.config.is_some() || !loaded.diagnostics.is_empty());
    }

    #[test]
    fn a_broken_example_is_loaded_or_refused_with_a_reason(
        at in any::<prop::sample::Index>(),
        length in 0..40_usize,
        by in "[\\[\\]{}=\"'#:;@.,\n\t a-z0-9äß]{0,4}",
    ) {
        let mut text = include_str!("../config/viaduct.toml").to_owned();
        let start = at.index(text.len());
        let end = (start + length).min(text.len());
        text.replace_range(start..end, &by);
        let loaded = load(&text);
        prop_assert!(loaded.config.is_some() || !loaded.diagnostics.is_empty());
    }
}

#[test]
fn the_example_loads_as_itself_with_its_list_written_out() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/viaduct.toml");
    let config = load_with(Some(&folder), &Overrides::default(), 3, &|path| {
        std::fs::read(path)
    });
    let config = config.config.expect("a good example");
    assert_eq!(load(&to_toml(&config)).config, Some(config));
}
