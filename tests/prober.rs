//! The prober over real sockets: what it sends, what it takes for an answer,
//! and what it reports.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use viaduct::config::{Accept, Health, Probe};
use viaduct::health::{Probed, Prober, Report, RoundTrips, Target};

use support::kamailio::Kamailio;
use support::neighbour::{Manner, Neighbour, value};
use support::net::{V4, V6, free_addresses};
use support::process::in_a_network_of_its_own;
use support::{LONG, wait_for, wait_until};

const OK: Manner = Manner::Answers("200 OK");

/// Probes in quick succession, with more time to answer than a busy machine
/// takes.
fn quick() -> Probe {
    Probe {
        interval: Duration::from_millis(20),
        timeout: Duration::from_secs(5),
        slow_start: Duration::ZERO,
        ..Probe::default()
    }
}

/// The same for those who do not answer.
fn impatient() -> Probe {
    Probe {
        timeout: Duration::from_millis(50),
        ..quick()
    }
}

fn target(set: &str, address: SocketAddr, probe: Probe) -> Target {
    Target {
        set: set.to_owned(),
        address,
        uri: format!("sip:{address}"),
        probe: Arc::new(probe),
        from: address.ip(),
        health: Health::Up,
    }
}

/// A prober, and what it reports.
struct Watch {
    prober: Prober,
    reports: mpsc::Receiver<Vec<Report>>,
}

impl Watch {
    fn start(targets: Vec<Target>) -> Self {
        let (sender, reports) = mpsc::channel();
        let report = move |news| {
            let _ = sender.send(news);
        };
        let prober = Prober::start(report).expect("a prober");
        prober.watch(targets);
        Self { prober, reports }
    }

    /// The next report, which must be the only one of its time.
    #[track_caller]
    fn report(&self) -> Report {
        let mut reports = self.reports.recv_timeout(LONG).expect("a report");
        assert_eq!(reports.len(), 1, "{reports:?}");
        reports.remove(0)
    }

    #[track_caller]
    fn reports(&self, health: Health) -> String {
        let report = self.report();
        assert_eq!(report.health, health, "{}", report.cause);
        report.cause
    }

    /// Waits until the only destination is as `is` has it.
    #[track_caller]
    fn wait(&self, what: &str, is: impl Fn(&Probed) -> bool) -> Probed {
        wait_for(what, || Some(self.prober.states().remove(0)).filter(&is))
    }

    /// Demands that it stays up while `probes` more are answered.
    #[track_caller]
    fn stays_up(&self, probes: u64) {
        let before = self.prober.states()[0].counts.answered;
        let state = self.wait("answered", |it| it.counts.answered >= before + probes);
        assert_eq!((state.health, state.counts.failed), (Health::Up, 0));
        assert!(self.reports.try_recv().is_err());
    }
}

/// A destination of this manner, and who watches it.
fn scene(manner: Manner, probe: Probe) -> (Neighbour, Watch) {
    let neighbour = Neighbour::start(V4, manner);
    let watch = Watch::start(vec![target("farm", neighbour.address, probe)]);
    (neighbour, watch)
}

/// Where a probe says that it comes from.
fn source(probe: &str) -> SocketAddr {
    let via = value(probe, "Via").strip_prefix("SIP/2.0/UDP ");
    let sent_by = via.and_then(|via| via.split(';').next());
    sent_by.expect("a Via").parse().expect("an address")
}

#[test]
fn a_probe_is_a_whole_request() {
    let (neighbour, watch) = scene(OK, quick());
    watch.stays_up(2);
    let (probes, address) = (neighbour.probes(), neighbour.address);
    let via = value(&probes[0], "Via");
    let (_, token) = via.split_once(";rport;branch=z9hG4bK").expect("a branch");
    let port = source(&probes[0]).port();
    assert_eq!(
        probes[0],
        format!(
            "OPTIONS sip:{address} SIP/2.0\r\n\
             Via: SIP/2.0/UDP 127.0.0.1:{port};rport;branch=z9hG4bK{token}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:viaduct@127.0.0.1>;tag={token}\r\n\
             To: <sip:{address}>\r\n\
             Call-ID: {token}@127.0.0.1\r\n\
             CSeq: 1 OPTIONS\r\n\
             Accept: application/sdp\r\n\
             Content-Length: 0\r\n\r\n"
        )
    );
    let vias: BTreeSet<_> = probes.iter().map(|probe| value(probe, "Via")).collect();
    assert_eq!(vias.len(), probes.len(), "a branch was used twice");
}

#[test]
fn from_and_request_uri_are_as_configured() {
    let probe = Probe {
        from: Some("sip:monitor@example.com".to_owned()),
        request_uri: Some("sip:health@example.com;x=y".to_owned()),
        ..quick()
    };
    let (neighbour, watch) = scene(OK, probe);
    watch.stays_up(1);
    let probe = &neighbour.probes()[0];
    assert!(probe.starts_with("OPTIONS sip:health@example.com;x=y SIP/2.0\r\n"));
    assert_eq!(value(probe, "To"), "<sip:health@example.com;x=y>");
    assert!(value(probe, "From").starts_with("<sip:monitor@example.com>;tag="));
}

#[test]
fn the_destination_is_asked_by_the_name_it_was_given() {
    let neighbour = Neighbour::start(V4, OK);
    let port = neighbour.address.port();
    let cases = [
        ("sip:pbx.example.com;transport=udp", "pbx.example.com"),
        ("sip:ann@pbx.example.com:5999", "pbx.example.com"),
        ("127.0.0.1", "127.0.0.1"),
        ("", "127.0.0.1"),
    ];
    let target = |(index, (uri, _)): (usize, &(&str, &str))| Target {
        uri: (*uri).to_owned(),
        ..target(&index.to_string(), neighbour.address, quick())
    };
    let watch = Watch::start(cases.iter().enumerate().map(target).collect());
    wait_until("an answer of each", || {
        let states = watch.prober.states();
        states.iter().all(|it| it.counts.answered > 0)
    });
    let probes = neighbour.probes();
    for (uri, host) in cases {
        let line = format!("OPTIONS sip:{host}:{port} SIP/2.0\r\n");
        let asked = probes.iter().any(|probe| probe.starts_with(&line));
        assert!(asked, "no {line} for {uri}");
    }
}

#[test]
fn ipv6_is_probed_too_from_whichever_address_the_kernel_takes() {
    let neighbour = Neighbour::start(V6, OK);
    let target = Target {
        from: "::".parse().expect("an address"),
        ..target("farm", neighbour.address, quick())
    };
    let watch = Watch::start(vec![target]);
    watch.stays_up(3);
    let probe = &neighbour.probes()[0];
    assert!(value(probe, "Via").starts_with("SIP/2.0/UDP [::1]:"));
    assert!(value(probe, "From").starts_with("<sip:viaduct@[::1]>;tag="));
    assert!(value(probe, "Call-ID").ends_with("@[::1]"));
}

#[test]
fn one_that_falls_silent_is_down_and_comes_back() {
    let probe = Probe {
        timeout: Duration::from_millis(500),
        slow_start: Duration::from_millis(400),
        ..quick()
    };
    let (neighbour, watch) = scene(OK, probe);
    watch.wait("answered", |it| it.counts.answered > 2);
    neighbour.behave(Manner::Silent);
    let cause = watch.reports(Health::Down);
    assert_eq!(cause, "the last 3 probes failed: no answer in 500ms");
    let state = &watch.prober.states()[0];
    assert_eq!((state.health, state.probing), (Health::Down, false));
    neighbour.behave(OK);
    // A prober that was late takes several steps at once.
    let mut share = 0;
    loop {
        match watch.report().health {
            Health::Warming(more) if more > share => share = more,
            Health::Up => break,
            other => panic!("{other:?} behind {share} %"),
        }
    }
    assert!(share >= 20, "it came back at once");
}

#[test]
fn what_is_no_answer_keeps_nothing_up() {
    for manner in [
        Manner::Answers("100 Trying"),
        Manner::OtherBranch,
        Manner::Altered("\r\nFrom:", "\r\nVia: SIP/2.0/UDP 192.0.2.1\r\nFrom:"),
        Manner::Altered("\r\nFrom:", ", SIP/2.0/UDP 192.0.2.1\r\nFrom:"),
        Manner::Altered("\r\nTo:", "\r\nSubject:"),
        Manner::Altered("1 OPTIONS", "1 INVITE"),
        Manner::Represented,
    ] {
        let (_neighbour, watch) = scene(manner, impatient());
        let cause = watch.reports(Health::Down);
        assert!(cause.ends_with("no answer in 50ms"), "{manner:?}: {cause}");
        assert_eq!(watch.prober.states()[0].counts.answered, 0);
    }
}

#[test]
fn what_others_say_or_what_comes_too_late_takes_nothing_down() {
    for manner in [
        Manner::Forestalled("503 Forged"),
        Manner::Repents("503 Too Late"),
    ] {
        let (_neighbour, watch) = scene(manner, quick());
        watch.stays_up(10);
    }
}

#[test]
fn a_flood_of_forgeries_hides_no_silence() {
    let (neighbour, watch) = scene(OK, impatient());
    watch.wait("answered", |it| it.counts.answered > 0);
    let via = value(&neighbour.probes()[0], "Via").to_owned();
    let forged = format!(
        "SIP/2.0 200 OK\r\nVia: {via}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:a@b>;tag=2\r\n\
         Call-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    let prober = source(&neighbour.probes()[0]);
    neighbour.behave(Manner::Silent);
    let forger = UdpSocket::bind((V4, 0)).expect("a socket");
    let end = Instant::now() + LONG;
    let report = loop {
        assert!(Instant::now() < end, "the flood keeps it up");
        for _ in 0..100 {
            forger.send_to(forged.as_bytes(), prober).expect("sent");
        }
        match watch.reports.try_recv() {
            Ok(reports) => break reports,
            Err(_) => continue,
        }
    };
    assert_eq!(report[0].health, Health::Down);
}

#[test]
fn a_status_that_is_not_accepted_takes_it_down() {
    let (neighbour, watch) = scene(Manner::Answers("503 Full"), quick());
    let cause = watch.reports(Health::Down);
    assert_eq!(cause, "the last 3 probes failed: answered 503");
    neighbour.behave(Manner::Answers("404 Nobody"));
    let cause = watch.reports(Health::Up);
    assert_eq!(cause, "the last 2 probes were answered");
}

#[test]
fn the_operator_says_what_is_accepted() {
    let probe = Probe {
        accept: vec![Accept::Status(503), Accept::Class(2)],
        ..quick()
    };
    let (neighbour, watch) = scene(Manner::Answers("503 Fine"), probe);
    watch.stays_up(5);
    neighbour.behave(OK);
    watch.stays_up(5);
    neighbour.behave(Manner::Answers("404 Nobody"));
    let cause = watch.reports(Health::Down);
    assert_eq!(cause, "the last 3 probes failed: answered 404");
}

#[test]
fn what_stays_keeps_its_state_and_what_is_new_begins_as_it_is_known() {
    let (dead, watch) = scene(Manner::Silent, impatient());
    watch.reports(Health::Down);
    let before = watch.prober.states().remove(0);
    let (silent, alive) = (
        Neighbour::start(V4, Manner::Silent),
        Neighbour::start(V4, OK),
    );
    let mut targets = vec![
        target("farm", alive.address, quick()),
        target("farm", silent.address, impatient()),
        target("farm", dead.address, quick()),
    ];
    (targets[0].health, targets[1].health) = (Health::Down, Health::Down);
    watch.prober.watch(targets);
    let states = watch.prober.states();
    let addresses: Vec<_> = states.iter().map(|it| it.address).collect();
    assert_eq!(addresses, [alive.address, silent.address, dead.address]);
    assert_eq!(states[2].health, Health::Down);
    assert!(states[2].counts.failed >= before.counts.failed);
    assert_eq!(states[1].health, Health::Down);
    // The only news is that one of them answers.
    let report = watch.report();
    assert_eq!((report.address, report.health), (alive.address, Health::Up));
    watch.prober.watch(Vec::new());
    assert!(watch.prober.states().is_empty());
}

#[test]
fn a_new_configuration_holds_from_the_next_probe_on() {
    let hourly = Probe {
        interval: Duration::from_secs(3_600),
        ..quick()
    };
    let (neighbour, watch) = scene(OK, hourly);
    watch.wait("answered", |it| it.counts.answered == 1);
    let strict = Probe {
        accept: vec![Accept::Status(486)],
        ..quick()
    };
    let new = target("farm", neighbour.address, strict);
    watch.prober.watch(vec![new]);
    let cause = watch.reports(Health::Down);
    assert_eq!(cause, "the last 3 probes failed: answered 200");
}

#[test]
fn a_suspicion_brings_the_next_probe_and_no_more() {
    let hourly = Probe {
        interval: Duration::from_secs(3_600),
        timeout: Duration::from_secs(1),
        ..quick()
    };
    let (neighbour, watch) = scene(OK, hourly);
    watch.wait("answered", |it| it.counts.answered == 1);
    let suspect = || {
        let address = neighbour.address;
        watch.prober.suspect("farm", address, "an ICMP error");
        watch.prober.suspect("other", address, "another set");
    };
    suspect();
    let state = watch.wait("probed", |it| it.counts.answered == 2);
    assert_eq!((state.health, state.probing), (Health::Up, false));
    neighbour.behave(Manner::Silent);
    suspect();
    let cause = watch.reports(Health::Down);
    assert_eq!(
        cause,
        "the last 3 probes failed: no answer in 1s; the first sign: an ICMP error"
    );
}

#[test]
fn what_the_system_refuses_to_send_takes_it_down_and_is_told_as_the_cause() {
    // From a loopback address nothing leaves for another machine.
    let target = Target {
        from: V4,
        ..target("farm", SocketAddr::from(([198, 51, 100, 1], 5060)), quick())
    };
    let cause = Watch::start(vec![target]).reports(Health::Down);
    let refused = "the last 3 probes failed: nothing can be sent to it: ";
    assert!(cause.starts_with(refused), "{cause}");
    assert!(cause.contains("(os error"), "{cause}");
}

#[test]
fn from_an_address_that_is_not_ours_nothing_is_judged() {
    let neighbour = Neighbour::start(V4, OK);
    let target = Target {
        from: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ..target("farm", neighbour.address, impatient())
    };
    let watch = Watch::start(vec![target]);
    let state = watch.wait("obstructed", |it| it.cause.starts_with("no probe can"));
    assert_eq!((state.health, state.counts.failed), (Health::Up, 0));
    assert!(neighbour.probes().is_empty());
    // As soon as that is mended it is probed.
    let mended = self::target("farm", neighbour.address, quick());
    watch.prober.watch(vec![mended]);
    let state = watch.wait("answered", |it| it.counts.answered > 0);
    assert!(!state.probing);
}

#[test]
fn from_an_address_that_a_stand_by_has_bound_beforehand_nothing_is_judged() {
    in_a_network_of_its_own(
        "ip link set lo up && cd /proc/sys/net && \
         echo 1 > ipv4/ip_nonlocal_bind && echo 1 > ipv6/ip_nonlocal_bind",
        "where_any_address_can_be_bound",
    );
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_any_address_can_be_bound() {
    for (own, near) in [("192.0.2.1", V4), ("2001:db8::1", V6)] {
        let neighbour = Neighbour::start(near, OK);
        let target = Target {
            from: own.parse().expect("an address"),
            ..target("farm", neighbour.address, quick())
        };
        let watch = Watch::start(vec![target]);
        let state = watch.wait("obstructed", |it| it.cause.starts_with("no probe can"));
        assert_eq!(
            (state.health, state.counts.failed),
            (Health::Up, 0),
            "{own}"
        );
        assert!(neighbour.probes().is_empty(), "{own}");
        // It takes the address over.
        let mut ip = Command::new("ip");
        ip.args(["address", "add", own, "dev", "lo"]);
        assert!(ip.status().expect("ip runs").success(), "{own}");
        let state = watch.wait("answered", |it| it.counts.answered > 0);
        assert!(!state.probing, "{own}");
    }
}

#[test]
fn a_machine_without_a_free_port_finds_what_is_dead() {
    in_a_network_of_its_own("ip link set lo up", "where_no_port_is_free");
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_no_port_is_free() {
    let scenes = [V4, V6].map(|ip| {
        let neighbour = Neighbour::start(ip, OK);
        let watch = Watch::start(vec![target("farm", neighbour.address, impatient())]);
        watch.wait("answered", |it| it.counts.answered > 0);
        (neighbour, watch)
    });
    let taken = [20_000, 20_001].map(|port| UdpSocket::bind(("::", port)).expect("a socket"));
    let range = "/proc/sys/net/ipv4/ip_local_port_range";
    fs::write(range, "20000 20001").expect("the ports");
    assert!([V4, V6].iter().all(|ip| UdpSocket::bind((*ip, 0)).is_err()));
    for (neighbour, watch) in scenes {
        neighbour.behave(Manner::Silent);
        watch.reports(Health::Down);
    }
    drop(taken);
}

#[test]
fn a_send_buffer_that_others_fill_is_no_silence() {
    in_a_network_of_its_own(
        "ip link set lo up && ip link add near type veth peer name far && \
         ip link set near up && ip link set far up && \
         ip address add 198.51.100.1/24 dev near",
        "where_neighbours_have_no_link_address",
    );
}

/// Probes to neighbours that are not there wait for their link addresses.
#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_neighbours_have_no_link_address() {
    let alive = Neighbour::start(V4, OK);
    let mut targets = vec![target("farm", alive.address, quick())];
    let dead = (2..102).map(|last| SocketAddr::from(([198, 51, 100, last], 5060)));
    targets.extend(dead.map(|address| target("farm", address, impatient())));
    // All leave from one socket.
    for target in &mut targets {
        target.from = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    }
    let watch = Watch::start(targets);
    let state = watch.wait("obstructed", |it| it.cause.starts_with("no probe can"));
    let before = state.counts.answered;
    let state = watch.wait("answered", |it| it.counts.answered > before);
    assert_eq!((state.health, state.counts.failed), (Health::Up, 0));
}

#[test]
fn an_address_in_many_sets_is_probed_for_each() {
    const SETS: usize = 300;
    let neighbour = Neighbour::start(V4, OK);
    let probe = Probe {
        interval: Duration::from_millis(500),
        ..quick()
    };
    let target = |set: usize| target(&set.to_string(), neighbour.address, probe.clone());
    let watch = Watch::start((0..SETS).map(target).collect());
    wait_until("three answers for each", || {
        let states = watch.prober.states();
        states.iter().all(|it| it.counts.answered > 2)
    });
    assert!(watch.reports.try_recv().is_err());
    let states = watch.prober.states();
    assert_eq!(states.len(), SETS);
    assert!(states.iter().all(|it| it.counts.failed == 0));
    let probes = neighbour.probes().len() as u64;
    let answered: u64 = states.iter().map(|it| it.counts.answered).sum();
    assert!(probes >= answered, "{probes} for {answered} answers");
}

#[test]
fn round_trips_are_counted() {
    let (_neighbour, watch) = scene(OK, quick());
    let state = watch.wait("answered", |it| it.counts.answered > 4);
    let latest = state.round_trip.expect("a round trip");
    let RoundTrips { buckets, sum } = state.round_trips;
    assert_eq!(buckets.iter().sum::<u64>(), state.counts.answered);
    assert!(sum >= latest && latest > Duration::ZERO);
    let bucket = RoundTrips::BOUNDS.partition_point(|bound| *bound < latest);
    assert!(buckets[bucket] > 0);
    assert!(RoundTrips::BOUNDS.is_sorted());
}

#[test]
fn a_round_trip_is_that_of_the_latest_probe() {
    let hasty = Probe {
        timeout: Duration::from_secs(1),
        ..quick()
    };
    let (neighbour, watch) = scene(OK, hasty);
    let has_one = |it: &Probed| it.round_trip.is_some();
    watch.wait("answered", has_one);
    neighbour.behave(Manner::Silent);
    watch.wait("without one, for it is silent", |it| !has_one(it));
    neighbour.behave(OK);
    watch.wait("answered again", has_one);
    let unsent = Target {
        from: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        ..target("farm", neighbour.address, quick())
    };
    watch.prober.watch(vec![unsent]);
    watch.wait("without one, for no probe can be sent", |it| !has_one(it));
}

#[test]
fn a_socket_that_nothing_needs_any_more_is_closed() {
    let (neighbour, watch) = scene(OK, quick());
    watch.stays_up(1);
    let own = source(&neighbour.probes()[0]);
    assert!(UdpSocket::bind(own).is_err());
    watch.prober.watch(Vec::new());
    wait_until("its end", || UdpSocket::bind(own).is_ok());
}

#[test]
fn the_thread_ends_with_its_prober() {
    let (_neighbour, watch) = scene(OK, quick());
    watch.stays_up(1);
    drop(watch.prober);
    let last = watch.reports.recv_timeout(Duration::ZERO);
    assert_eq!(last, Err(RecvTimeoutError::Disconnected));
}

/// A Kamailio that answers what is sane and meant for itself, and only that.
fn kamailio(address: SocketAddr) -> Kamailio {
    let configuration = "request_route {\n\
        if (!sanity_check()) { exit; }\n\
        if (is_method(\"OPTIONS\") && uri == myself) { options_reply(); }\n\
        exit;\n\
    }\n";
    let modules = ["sl", "pv", "siputils", "textops", "sanity"];
    Kamailio::start(address, &modules, configuration, &[])
}

#[test]
fn kamailio_is_found_alive_dead_and_alive_again() {
    let [address] = free_addresses(V4);
    let first = kamailio(address);
    let probe = Probe {
        interval: Duration::from_millis(100),
        slow_start: Duration::ZERO,
        ..Probe::default()
    };
    let watch = Watch::start(vec![target("farm", address, probe)]);
    watch.wait("answered", |it| it.counts.answered > 2);
    drop(first);
    watch.reports(Health::Down);
    let _second = kamailio(address);
    watch.reports(Health::Up);
}
