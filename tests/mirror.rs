//! The mirror: what passes is copied to a collector, each message once, whole
//! calls or none of their messages; and no call pays for it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use viaduct::config::{self, Config, Timers};
use viaduct::mirror;
use viaduct::supervisor::Instance;

use support::capture;
use support::dialog::{Peer, Request, Scene, response, status, values};
use support::fixture;
use support::hep::{self, Hep};
use support::net::{V4, free_addresses, wait_until_bound};
use support::process::{self, Process, Signal, in_a_network_of_its_own};
use support::{LONG, wait_until};

/// One mirror at a time: its thread is found by its name.
static ONE: Mutex<()> = Mutex::new(());

/// Viaduct with one destination and a collector.
struct Run {
    instance: Instance,
    caller: Peer,
    server: Peer,
    collector: Peer,
    _one: MutexGuard<'static, ()>,
}

/// What passed on the wire: who sent it, who got it, and what it was.
type Passed = (SocketAddr, SocketAddr, Vec<u8>);

fn to_collector(to: SocketAddr, sample: u32) -> config::Mirror {
    config::Mirror {
        to,
        sample,
        id: 2001,
        key: Some("a key".to_owned()),
    }
}

impl Run {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        Self::with(Peer::new(V4), change)
    }

    fn with(collector: Peer, change: impl FnOnce(&mut Config)) -> Self {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, server) = (Peer::new(V4), Peer::new(V4));
        let mut config = fixture::config();
        config.listeners[0].address = SocketAddr::new(V4, 0);
        config.sets[0].destinations.truncate(1);
        config.sets[0].destinations[0].address = server.address();
        config.mirror = Some(to_collector(collector.address(), 1000));
        change(&mut config);
        Self {
            instance: Instance::start(config, fixture::secret()).expect("an instance"),
            caller,
            server,
            collector,
            _one: one,
        }
    }

    fn front(&self) -> SocketAddr {
        self.instance.address(0)
    }

    /// A request and its response, and what of them was on the wire.
    fn exchange(&self, request: &Request) -> [Passed; 4] {
        let (caller, server, front) = (self.caller.address(), self.server.address(), self.front());
        let sent = request.text().into_bytes();
        self.caller.send(front, &sent);
        let came = self.server.receive();
        let answer = response(&came, "200 OK", "there").into_bytes();
        self.server.send(front, &answer);
        let mut answered = self.caller.receive();
        while status(&answered) == 100 {
            answered = self.caller.receive();
        }
        [
            (caller, front, sent),
            (front, server, came),
            (server, front, answer),
            (front, caller, answered),
        ]
    }

    /// The next `count` copies.
    fn copies(&self, count: usize) -> Vec<Hep> {
        (0..count)
            .map(|_| hep::read(&self.collector.receive()))
            .collect()
    }

    fn counts(&self) -> mirror::Counts {
        self.instance.totals().mirror.expect("a mirror")
    }

    /// Ends it; the collector has all that was copied then.
    fn stop(self) -> (Peer, mirror::Counts) {
        let totals = self.instance.stop().expect("a clean end");
        (self.collector, totals.mirror.expect("a mirror"))
    }
}

fn passed(copy: &Hep) -> Passed {
    (copy.from, copy.to, copy.payload.clone())
}

#[test]
fn every_message_is_copied_as_it_passes() {
    let run = Run::new(|_| {});
    let before = SystemTime::now();
    for method in ["INVITE", "ACK", "BYE", "REGISTER"] {
        let request = Request::new(method, run.caller.address());
        let wanted: Vec<_> = if method == "ACK" {
            let sent = request.text().into_bytes();
            run.caller.send(run.front(), &sent);
            let came = run.server.receive();
            let caller = (run.caller.address(), run.front(), sent);
            vec![caller, (run.front(), run.server.address(), came)]
        } else {
            run.exchange(&request).to_vec()
        };
        let copies = run.copies(wanted.len());
        assert_eq!(copies.iter().map(passed).collect::<Vec<_>>(), wanted);
        for copy in &copies {
            let call_id = request.call_id.as_bytes().to_vec();
            assert_eq!(copy.correlation, Some(call_id));
            assert_eq!((copy.protocol, copy.kind, copy.agent), (17, 1, 2001));
            assert_eq!(copy.key.as_deref(), Some(&b"a key"[..]));
        }
        let time = |copy: &Hep| {
            let time = Duration::new(copy.seconds.into(), copy.microseconds * 1000);
            UNIX_EPOCH + time
        };
        assert!(copies.is_sorted_by_key(time), "in the order of passing");
        assert!(time(&copies[0]) + Duration::from_micros(1) > before);
        assert!(time(&copies[copies.len() - 1]) <= SystemTime::now());
    }
    let (_, counts) = run.stop();
    assert_eq!(counts.sent, 14);
    assert_eq!(counts.dropped, 0);
    assert_eq!(counts.failed, 0);
}

#[test]
fn what_is_answered_or_dropped_here_is_copied_and_what_is_no_sip_is_not() {
    let run = Run::new(|_| {});
    run.caller.send(run.front(), b"\r\n\r\n");
    run.caller.send(run.front(), b"GET / HTTP/1.1\r\n\r\n");
    let lost = Request::new("OPTIONS", run.caller.address()).max_forwards("Max-Forwards: 0");
    run.caller.send(run.front(), lost.text());
    let reply = run.caller.receive();
    assert_eq!(status(&reply), 483);
    let forged = response(lost.text(), "200 OK", "x");
    run.caller.send(run.front(), &forged);
    let (caller, front) = (run.caller.address(), run.front());
    let wanted = [
        (caller, front, lost.text().into_bytes()),
        (front, caller, reply),
        (caller, front, forged.into_bytes()),
    ];
    assert_eq!(run.copies(3).iter().map(passed).collect::<Vec<_>>(), wanted);
    let (collector, counts) = run.stop();
    collector.assert_silent();
    assert_eq!(counts.sent, 3);
}

#[test]
fn what_a_transaction_sends_is_copied_too() {
    let run = Run::new(|config| {
        config.stateful.methods = vec!["INVITE".to_owned()];
        // Nothing is to be sent again.
        let long = Duration::from_secs(30);
        config.stateful.timers = Timers::of(long, long, long);
    });
    let call = Request::new("INVITE", run.caller.address());
    let passed_by = run.exchange(&call);
    let copies = run.copies(5);
    let (trying, others): (Vec<_>, Vec<_>) = copies
        .iter()
        .map(passed)
        .partition(|(_, _, payload)| payload.starts_with(b"SIP/2.0 100 "));
    assert_eq!(others, passed_by);
    let [(from, to, _)] = trying[..] else {
        panic!("{trying:?}");
    };
    assert_eq!((from, to), (run.front(), run.caller.address()));
}

/// The message is what the client sent, and from it.
#[test]
fn behind_a_front_balancer_the_client_is_copied() {
    let run = Run::new(|config| {
        config.listeners[0].proxy_protocol = vec!["127.0.0.1/32".parse().expect("a network")];
    });
    let client = SocketAddr::from(([203, 0, 113, 9], 5070));
    let request = Request::new("OPTIONS", client).text();
    let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xcb\0\x71\x09\x7f\0\0\x01\x13\xce\x13\xc4";
    let datagram = [&header[..], request.as_bytes()].concat();
    run.caller.send(run.front(), &datagram);
    let came = run.server.receive();
    let wanted = [
        (client, run.front(), request.into_bytes()),
        (run.front(), run.server.address(), came),
    ];
    assert_eq!(run.copies(2).iter().map(passed).collect::<Vec<_>>(), wanted);
}

#[test]
fn a_sample_has_whole_calls_and_the_same_on_each_instance() {
    const CALLS: usize = 200;
    let run = Run::new(|config| {
        config.mirror.as_mut().expect("a mirror").sample = 300;
        config.workers = 2;
    });
    let mut copied = BTreeMap::new();
    // In between, for its buffer does not hold all.
    let mut take = |collector: &Peer| {
        while let Some((packet, _)) = collector.poll() {
            let id = hep::read(&packet).correlation.expect("a Call-ID");
            let id = String::from_utf8(id).expect("text");
            *copied.entry(id).or_insert(0) += 1;
        }
    };
    let mut calls = BTreeSet::new();
    for _ in 0..CALLS {
        let invite = Request::new("INVITE", run.caller.address());
        run.exchange(&invite);
        run.exchange(&invite.method("BYE"));
        calls.insert(invite.call_id);
        take(&run.collector);
    }
    let (collector, counts) = run.stop();
    take(&collector);
    assert!(copied.values().all(|copies| *copies == 8), "{copied:?}");
    // 60 of 200, give or take more than five deviations.
    assert!((25..=95).contains(&copied.len()), "{} calls", copied.len());
    assert_eq!(counts.sent, 8 * copied.len() as u64);

    let beside = mirror::Mirror::start(&to_collector(collector.address(), 300));
    let beside = beside.expect("a mirror").handle();
    for call_id in calls {
        let wanted = beside.wants(call_id.as_bytes());
        assert_eq!(wanted, copied.contains_key(&call_id), "{call_id}");
    }
}

#[test]
fn a_collector_that_is_not_there_costs_no_call() {
    let collector = Peer::new(V4);
    let gone = collector.address();
    drop(collector);
    let run = Run::new(|config| config.mirror = Some(to_collector(gone, 1000)));
    wait_until("a refusal", || {
        run.exchange(&Request::new("INVITE", run.caller.address()));
        run.counts().failed > 0
    });
    // One that comes later gets what passes from then on.
    let collector = Peer::at(gone);
    wait_until("a copy", || {
        run.exchange(&Request::new("INVITE", run.caller.address()));
        collector.poll().is_some()
    });
}

#[test]
fn an_address_that_leaves_the_machine_takes_no_copies_with_it() {
    in_a_network_of_its_own(
        "ip link set lo up && ip address add 198.51.100.1 dev lo && \
         ip address add 192.0.2.1 dev lo && \
         ip route replace table local local 198.51.100.1 dev lo src 192.0.2.1",
        "where_another_address_takes_its_place",
    );
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_another_address_takes_its_place() {
    let ip = |args: &str| {
        let status = Command::new("ip").args(args.split(' ')).status();
        assert!(status.expect("ip runs").success(), "{args}");
    };
    let collector = Peer::new(IpAddr::from([198, 51, 100, 1]));
    let mirror = mirror::Mirror::start(&to_collector(collector.address(), 1000));
    let mirror = mirror.expect("a mirror");
    let request = Request::new("OPTIONS", collector.address()).text();
    let await_copy_from = |own: [u8; 4]| {
        wait_until("a copy", || {
            let (from, to) = (collector.address(), collector.address());
            mirror.handle().copy(request.as_bytes(), from, to);
            let copy = collector.poll();
            copy.is_some_and(|(_, source)| source.ip() == IpAddr::from(own))
        });
    };
    await_copy_from([192, 0, 2, 1]);
    ip("address delete 192.0.2.1/32 dev lo");
    ip("address add 192.0.2.2 dev lo");
    ip("route replace table local local 198.51.100.1 dev lo src 192.0.2.2");
    await_copy_from([192, 0, 2, 2]);
}

#[test]
fn a_neighbour_that_is_not_there_does_not_keep_it_from_ending() {
    in_a_network_of_its_own(
        "ip link set lo up && ip link add near type veth peer name far && \
         ip link set near up && ip link set far up && \
         ip address add 198.51.100.1/24 dev near && \
         echo 10000000 > /proc/sys/net/ipv4/neigh/near/unres_qlen_bytes",
        "where_the_collector_has_no_link_address",
    );
}

/// Copies wait for the link address, for three seconds, and fill the send buffer.
#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_the_collector_has_no_link_address() {
    let collector = SocketAddr::from(([198, 51, 100, 2], 9060));
    let mirror = mirror::Mirror::start(&to_collector(collector, 1000)).expect("a mirror");
    let handle = mirror.handle();
    let request = Request::new("OPTIONS", collector).text();
    wait_until("a full queue", || {
        for _ in 0..1000 {
            handle.copy(request.as_bytes(), collector, collector);
        }
        handle.counts().dropped > 0
    });
    let ending = std::thread::spawn(move || drop(mirror));
    wait_until("its end", || ending.is_finished());
    assert!(handle.counts().dropped > 10_000, "{:?}", handle.counts());
}

#[test]
fn a_collector_that_is_not_there_is_told() {
    let gone = Peer::new(V4).address().to_string();
    let scene = Scene::new(1, &["--mirror", &gone]);
    wait_until("the warning", || {
        scene.pass(scene.request("OPTIONS").text());
        let output = scene.viaduct.output();
        output.contains("warning: could not send ")
            && output.contains("the collector of the mirror")
    });
}

/// From the command line to the dump of the counters.
#[test]
fn a_flag_has_a_process_copy_what_passes() {
    let collector = Peer::new(V4);
    let address = collector.address().to_string();
    let mut scene = Scene::new(1, &["--mirror", &address]);
    let request = scene.request("OPTIONS");
    let (_, came) = scene.pass(request.text());
    let copies = [collector.receive(), collector.receive()].map(|packet| hep::read(&packet));
    let wanted = [
        (scene.caller.address(), scene.front(), request.text().into()),
        (scene.front(), scene.farm[0].address(), came),
    ];
    assert_eq!(copies.each_ref().map(passed), wanted);
    scene.assert_counter("mirror-sent", 2);
}

/// Spaces that only the lengths in a run call for.
#[test]
fn what_leaves_is_copied_before_it_is_padded() {
    const MESSAGES: usize = 10;
    let collector = Peer::new(V4);
    let address = collector.address().to_string();
    let scene = Scene::new(1, &["--gso", "pad", "--mirror", &address]);
    // What waits together leaves together.
    scene.viaduct.halt();
    for number in 0..MESSAGES {
        let filling = format!("X-Filling: {}", "x".repeat(3 * number));
        scene.send(scene.request("MESSAGE").row(filling).text());
    }
    scene.viaduct.signal(Signal::CONT);
    let is_padded = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets);
        text.contains("\r\nMax-Forwards:  ")
    };
    let came: Vec<_> = (0..MESSAGES).map(|_| scene.at_farm().1).collect();
    assert!(came.iter().any(|octets| is_padded(octets)));
    let front = scene.front();
    let copies = (0..2 * MESSAGES).map(|_| hep::read(&collector.receive()));
    let left: Vec<_> = copies.filter(|copy| copy.from == front).collect();
    assert_eq!(left.len(), MESSAGES);
    assert!(!left.iter().any(|copy| is_padded(&copy.payload)));
}

/// The thread of the mirror that runs, once it has its name.
fn mirror_thread() -> Option<String> {
    let threads = fs::read_dir("/proc/self/task").expect("our threads");
    let mut named = threads.filter_map(|thread| {
        let path = thread.expect("a thread").path();
        let name = fs::read_to_string(path.join("comm")).ok()?;
        (name.trim() == "mirror").then(|| path.file_name()?.to_str().map(str::to_owned))?
    });
    named.next()
}

/// Follows the system calls of the mirror's thread.
fn trace(expressions: &[&str]) -> Process {
    let mut thread = None;
    wait_until("its thread", || {
        thread = mirror_thread();
        thread.is_some()
    });
    process::trace(&thread.expect("a thread"), expressions)
}

#[test]
fn a_full_queue_drops_and_counts_and_no_call_suffers() {
    const WINDOW: usize = 50;
    let run = Run::new(|_| {});
    // Each send takes a minute.
    let tracer = trace(&["trace=sendto", "inject=sendto:delay_enter=60s"]);
    let mut calls = 0;
    wait_until("a full queue", || {
        for _ in 0..WINDOW {
            run.exchange(&Request::new("INVITE", run.caller.address()));
            calls += 1;
        }
        run.counts().dropped > 0
    });
    assert!(run.counts().sent <= 1, "it does not stall");
    for _ in 0..WINDOW {
        run.exchange(&Request::new("INVITE", run.caller.address()));
        calls += 1;
    }
    // A worker counts what it has received behind what it has sent.
    wait_until("the count", || run.instance.totals().received >= 2 * calls);
    assert_eq!(run.instance.totals().received, 2 * calls);
    tracer.signal(Signal::TERM);
    drop(tracer);
    // The end would wait for a second, and count no copy that leaves just then.
    wait_until("what has become of each copy", || {
        let counts = run.counts();
        counts.sent + counts.dropped == 4 * calls
    });
    let dropped = run.stop().1.dropped;
    assert!(dropped >= 4 * WINDOW as u64, "{dropped} dropped");
}

#[test]
fn copies_that_cannot_be_sent_make_no_socket_each() {
    const COPIES: u64 = 500;
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    // No socket may send there that has not asked for it.
    let broadcast = SocketAddr::from(([255, 255, 255, 255], 9060));
    let mirror = mirror::Mirror::start(&to_collector(broadcast, 1000)).expect("a mirror");
    let mut tracer = trace(&["trace=bind"]);
    let begin = Instant::now();
    let request = Request::new("OPTIONS", broadcast).text();
    let handle = mirror.handle();
    for _ in 0..COPIES {
        handle.copy(request.as_bytes(), broadcast, broadcast);
    }
    wait_until("the last copy", || handle.counts().failed == COPIES);
    let most = begin.elapsed().as_secs() + 1;
    drop(mirror);
    tracer.wait(LONG);
    let output = tracer.output();
    let made = output.matches("bind(").count() as u64;
    assert!(made <= most, "{made} sockets, no more than {most} wanted");
}

/// sngrep takes the mirror in, and what it writes down then is read by tshark.
#[test]
fn sngrep_and_tshark_understand_the_copies() {
    const CALLS: usize = 20;
    let [address] = free_addresses(V4);
    let mut command = Command::new("sngrep");
    command.args(["-F", "-N", "-q", "-O", "calls.pcap", "-L"]);
    command.arg(format!("udp:{address}"));
    let mut sngrep = Process::start(command, tempfile::tempdir().expect("a folder"));
    assert!(wait_until_bound(address, LONG), "sngrep does not listen");
    let run = Run::new(|config| {
        let mirror = to_collector(address, 1000);
        config.mirror = Some(config::Mirror {
            key: None,
            ..mirror
        });
    });
    let mut wanted = Vec::new();
    for _ in 0..CALLS {
        let call = Request::new("INVITE", run.caller.address());
        for (from, to, payload) in run.exchange(&call) {
            let call_id = values(&payload, "call-id").remove(0);
            let [from, to] = [from, to].map(|at| [at.ip().to_string(), at.port().to_string()]);
            // tshark finds no fault with it.
            let malformed = String::new();
            wanted.push([&from[..], &to, &[call_id, malformed]].concat());
        }
    }
    let ports = [run.caller.address(), run.server.address(), run.front()].map(|a| a.port());
    run.stop();
    // It says nothing when it has written a packet, so its file is watched.
    let file = sngrep.file("calls.pcap");
    let mut found = Vec::new();
    let [from, to] = [["ip.src", "udp.srcport"], ["ip.dst", "udp.dstport"]];
    let fields = [&from[..], &to, &["sip.Call-ID", "_ws.malformed"]].concat();
    wait_until("the last copy", || {
        // A packet may be half written yet.
        found = capture::read(&file, &ports, "sip", &fields).unwrap_or_default();
        found.len() >= wanted.len()
    });
    sngrep.signal(Signal::TERM);
    sngrep.wait(LONG);
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
}
