//! What does not fit into the table, what a restart has forgotten and what
//! comes to another worker is relayed all the same, and never confused.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use support::dialog::{Peer, Request, Scene, assert_octets, branch, response, values};
use support::net::V4;
use support::stateful::{Leg, STILL, ack, method, only};
use support::viaduct::Viaduct;
use support::wait_for;
use viaduct::transaction::owner::owner;

/// Viaduct that can be started again with the same address, farm and secret.
struct Lasting {
    scene: Scene,
    args: Vec<String>,
    _folder: tempfile::TempDir,
}

fn start(farm: &[Peer], listen: &str, secret: &Path, more: &[&str]) -> (Viaduct, Vec<String>) {
    let secret = secret.to_str().expect("text");
    let mut args = vec![
        "--listen",
        listen,
        "--secret-file",
        secret,
        "--workers",
        "1",
    ];
    args.extend(more);
    let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    for member in farm {
        args.extend(["--to".to_owned(), member.address().to_string()]);
    }
    (Viaduct::start(&args), args)
}

impl Lasting {
    fn new(members: usize, more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let farm: Vec<Peer> = (0..members).map(|_| Peer::new(V4)).collect();
        let secret = folder.path().join("secret");
        let all = [&["--stateful", "INVITE"], &STILL[..], more].concat();
        let (viaduct, mut args) = start(&farm, "127.0.0.1:0", &secret, &all);
        args[1] = viaduct.address(0).to_string();
        let caller = Peer::new(V4);
        Self {
            scene: Scene {
                viaduct,
                caller,
                farm,
            },
            args,
            _folder: folder,
        }
    }

    fn restart(mut self) -> Self {
        let Scene {
            viaduct,
            caller,
            farm,
        } = self.scene;
        viaduct.stop();
        let viaduct = Viaduct::start(&self.args);
        self.scene = Scene {
            viaduct,
            caller,
            farm,
        };
        self
    }

    /// A request as an instance without transactions forwards it.
    fn stateless(&self, request: &Request) -> (usize, Vec<u8>) {
        let farm = &self.scene.farm;
        let secret = self.args.iter().position(|arg| arg == "--secret-file");
        let secret = &self.args[secret.expect("a secret") + 1];
        let (beside, _) = start(farm, "127.0.0.1:0", Path::new(secret), &[]);
        self.scene.caller.send(beside.address(0), request.text());
        let front = beside.address(0);
        let (number, (octets, source)) = wait_for("the request to the farm", || {
            let mut members = farm.iter().enumerate();
            members.find_map(|(number, member)| Some((number, member.poll()?)))
        });
        assert_eq!(source, front);
        (number, octets)
    }
}

/// T1 is soon over, but nothing ends by itself.
const IMPATIENT: [&str; 4] = ["--timer", "T1=50ms,B=60s", "--failover-after", "60s"];

#[test]
fn with_a_full_table_a_call_is_forwarded_as_a_stateless_instance_would() {
    let lasting = Lasting::new(3, &["--transactions", "2"]);
    let scene = &lasting.scene;
    let ringing: Vec<_> = (0..2)
        .map(|_| {
            let call = scene.request("INVITE");
            let leg = scene.begin(&call);
            scene.says(&leg, "180 Ringing");
            scene.hears(180);
            (call, leg)
        })
        .collect();

    // No 100; but all that belongs to the call passes and matches.
    let call = scene.request("INVITE");
    let (member, invite) = scene.pass(call.text());
    scene.assert_quiet();
    let (owner, beside) = lasting.stateless(&call);
    assert_eq!((member, branch(&invite)), (owner, branch(beside)));
    let (again, octets) = scene.pass(call.text());
    assert_eq!(again, member);
    assert_octets(octets, &invite);
    let leg = Leg {
        member,
        request: invite,
    };
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    scene.send(call.method("CANCEL").text());
    let cancel = scene.gets(&leg, "CANCEL");
    assert_eq!(branch(&cancel.request), branch(&leg.request));
    scene.says(&cancel, "200 OK");
    assert_eq!(only(&scene.hears(200), "cseq"), "1 CANCEL");
    scene.says(&leg, "487 Request Terminated");
    let failure = scene.hears(487);
    scene.acknowledge(&call, &failure);
    let ack = scene.gets(&leg, "ACK");
    assert_eq!(branch(&ack.request), branch(&leg.request));
    scene.assert_quiet();

    // Those in the table are as they were; when one has ended there is room.
    let (call, leg) = &ringing[0];
    scene.fails_at(call, leg, "486 Busy Here", 486);
    let call = scene.request("INVITE");
    scene.begin(&call);
    let (call, leg) = &ringing[1];
    scene.fails_at(call, leg, "486 Busy Here", 486);
    scene.assert_quiet();
}

#[test]
fn a_full_table_forgets_what_nobody_has_answered_first() {
    let scene = Scene::stateful(1, "INVITE", &IMPATIENT, &["--transactions", "2"]);
    let answered = scene.request("INVITE");
    let leg = scene.begin(&answered);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let silent = scene.request("INVITE");
    scene.send(silent.text());
    scene.hears(100);
    // The first one may have come again before its 180.
    let unheard = scene.other_than(&leg);
    scene.gets(&unheard, "INVITE");
    scene.gets(&unheard, "INVITE");
    let third = scene.request("INVITE");
    scene.send(third.text());
    scene.hears(100);
    // The first one is still there: its CANCEL is answered by us.
    scene.send(answered.method("CANCEL").text());
    let answer = scene.hears(200);
    assert_eq!(only(&answer, "call-id"), answered.call_id);
}

/// It only lingers, like any other.
#[test]
fn what_was_answered_makes_room_although_a_destination_was_out_of_reach() {
    for method in ["INVITE", "REGISTER"] {
        let mut scene = Scene::stateful(2, method, &STILL, &["--transactions", "1"]);
        scene.answered_by_another(method);
        scene.assert_counter("failed-over", 1);
        scene.pass(scene.request(method).text());
        scene.assert_counter("transactions-begun", 2);
        scene.assert_counter("transactions-full", 0);
    }
}

/// There are two attempts for each transaction, and some take eight: for the
/// first one of a call, or a further one, what has ended makes room.
#[test]
fn calls_that_have_failed_everywhere_make_room_for_attempts() {
    for transactions in ["8", "9"] {
        let mut scene = Scene::still(8, &["--transactions", transactions]);
        for _ in 0..3 {
            let call = scene.request("INVITE");
            let mut leg = scene.begin(&call);
            for _ in 0..7 {
                leg = scene.passes_on(&leg);
            }
            scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
        }
        scene.assert_quiet();
        scene.assert_counter("transactions-evicted", 1);
        scene.assert_counter("transactions-full", 0);
    }
}

#[test]
fn long_requests_that_nobody_answers_make_room_too() {
    let mut scene = Scene::stateful(1, "INVITE", &IMPATIENT, &["--transactions", "64"]);
    let padding = format!("X-Long: {}", "x".repeat(20_000));
    let long = || scene.request("INVITE").row(&padding);
    // A quarter of a megabyte is there for all requests.
    for _ in 0..11 {
        scene.begin(&long());
    }
    std::thread::sleep(Duration::from_millis(100));
    scene.send(long().text());
    scene.hears(100);
    scene.assert_counter("transactions-full", 0);
    assert!(scene.viaduct.counter("transactions-evicted") > 0);
}

/// A failure with 20,000 octets more.
fn long_failure(leg: &Leg) -> String {
    let row = format!("X-Long: {}\r\n\r\n", "x".repeat(20_000));
    response(&leg.request, "486 Busy Here", "t").replacen("\r\n\r\n", &format!("\r\n{row}"), 1)
}

/// Nobody acknowledges a failure behind a forged address.
#[test]
fn long_failures_that_nobody_acknowledges_make_room_for_requests() {
    let mut scene = Scene::still(1, &["--transactions", "64"]);
    for _ in 0..11 {
        let leg = scene.begin(&scene.request("INVITE"));
        scene.says_all(&leg, &long_failure(&leg));
        scene.hears(486);
        scene.gets(&leg, "ACK");
    }
    let padding = format!("X-Long: {}", "x".repeat(20_000));
    scene.begin(&scene.request("INVITE").row(&padding));
    scene.assert_counter("transactions-full", 0);
    assert!(scene.viaduct.counter("transactions-evicted") > 0);
}

/// Copies of the request may be forged.
#[test]
fn copies_of_a_request_fetch_a_longer_response_as_often_as_replies_may_leave() {
    const COPIES: usize = 100;
    let scene = Scene::still(1, &["--reply-rate", "40"]);
    let small = scene.request("INVITE");
    let leg = scene.begin(&small);
    scene.says_all(&leg, &long_failure(&leg));
    let began = Instant::now();
    scene.hears(486);
    scene.gets(&leg, "ACK");
    for _ in 0..COPIES {
        scene.send(small.text());
    }
    // What is decided together may leave in another order.
    for _ in 0..2 {
        scene.owner(&small);
    }
    let mut fetched = 0;
    while scene.caller.poll().is_some() {
        fetched += 1;
    }
    // Two of 20 KiB at once, and two each second.
    let most = 2 * (2 + began.elapsed().as_secs() as usize);
    assert!(fetched <= most, "{fetched} of {most}");

    // Who brings as much gets it each time.
    let padding = format!("X-Long: {}", "x".repeat(21_000));
    let long = small.row(&padding);
    for _ in 0..4 {
        scene.send(long.text());
        scene.hears(486);
    }
}

/// A response whose transaction is gone, but whose branch is ours.
#[test]
fn after_a_restart_responses_find_the_caller() {
    let lasting = Lasting::new(3, &[]);
    let scene = &lasting.scene;
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let second = scene.request("INVITE");
    let refused = scene.begin(&second);
    let next = scene.passes_on(&refused);
    let lasting = lasting.restart();
    let scene = &lasting.scene;
    for (call, leg) in [(&call, &first), (&second, &next)] {
        for status in ["180 Ringing", "200 OK"] {
            scene.says(leg, status);
            let heard = scene.hears(status[..3].parse().expect("a status"));
            assert_eq!(only(&heard, "via"), call.via);
        }
    }
    scene.assert_quiet();
}

#[test]
fn after_a_restart_a_retransmission_has_the_same_branch_and_destination() {
    let lasting = Lasting::new(4, &[]);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let call = lasting.scene.request("INVITE");
            let leg = lasting.scene.begin(&call);
            (call, leg)
        })
        .collect();
    let lasting = lasting.restart();
    for (call, leg) in calls {
        let again = lasting.scene.begin(&call);
        assert_eq!(again.member, leg.member);
        assert_octets(again.request, &leg.request);
        // It is a transaction again.
        lasting.scene.fails_at(&call, &leg, "486 Busy Here", 486);
        lasting.scene.assert_quiet();
    }
}

#[test]
fn after_a_restart_cancel_and_ack_match_their_invite() {
    let lasting = Lasting::new(4, &[]);
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let call = lasting.scene.request("INVITE");
            let leg = lasting.scene.begin(&call);
            lasting.scene.says(&leg, "180 Ringing");
            lasting.scene.hears(180);
            (call, leg)
        })
        .collect();
    let lasting = lasting.restart();
    let scene = &lasting.scene;
    for (call, leg) in calls {
        scene.send(call.method("CANCEL").text());
        let cancel = scene.gets(&leg, "CANCEL");
        assert_eq!(branch(&cancel.request), branch(&leg.request));
        scene.says(&cancel, "200 OK");
        scene.hears(200);
        scene.says(&leg, "487 Request Terminated");
        let failure = scene.hears(487);
        scene.acknowledge(&call, &failure);
        let ack = scene.gets(&leg, "ACK");
        assert_eq!(branch(&ack.request), branch(&leg.request));
    }
    scene.assert_quiet();
}

/// An ACK to the failure of a call that was forgotten in between.
#[test]
fn a_stray_ack_of_a_failed_call_goes_where_the_call_went() {
    let lasting = Lasting::new(2, &[]);
    let call = lasting.scene.request("INVITE");
    let leg = lasting.scene.begin(&call);
    lasting.scene.says(&leg, "486 Busy Here");
    lasting.scene.gets(&leg, "ACK");
    let failure = lasting.scene.hears(486);
    let lasting = lasting.restart();
    lasting.scene.acknowledge(&call, &failure);
    let ack = lasting.scene.gets(&leg, "ACK");
    assert_eq!(branch(&ack.request), branch(&leg.request));
    lasting.scene.assert_quiet();
}

/// INVITEs that never finish cost a fixed amount of memory, and nothing that
/// is stateless waits for them.
#[test]
fn a_flood_of_calls_that_never_finish_is_bounded() {
    // Few enough for their retransmissions to fit into a socket's buffer.
    const TABLE: u64 = 100;
    const ROUND: usize = 5_000;
    let table = TABLE.to_string();
    let args = ["--transactions", &table, "--timer", "T1=50ms,B=60s"];
    let scene = Scene::stateful(1, "INVITE", &[], &args);
    let flood = || {
        for number in 0..ROUND {
            scene.send(scene.request("INVITE").text());
            if number % 20 == 0 {
                drain(&scene);
            }
        }
        scene.viaduct.resident()
    };
    let before = scene.viaduct.resident();
    let once = flood();
    let twice = flood();
    let thrice = flood();
    // What is in progress may take 4 KiB; the rest is for the process. All of
    // a round would take 3 MiB.
    let grown = once.saturating_sub(before);
    assert!(grown < TABLE * 4 + 4096, "{before} KiB became {once} KiB");
    let more = thrice.saturating_sub(once);
    assert!(more < 1024, "{once}, {twice}, {thrice} KiB");
}

/// Takes what has come to caller and farm, and demands that a stateless
/// request and its response pass meanwhile.
#[track_caller]
fn drain(scene: &Scene) {
    let probe = Peer::new(V4);
    let request = Request::new("OPTIONS", probe.address()).text();
    let mut answers = 0;
    for _ in 0..5 {
        probe.send(scene.front(), &request);
        let end = Instant::now() + Duration::from_secs(1);
        while answers == 0 && Instant::now() < end {
            while let Some((octets, _)) = scene.farm[0].poll() {
                if method(&octets) == "OPTIONS" {
                    scene.farm[0].send(scene.front(), response(&octets, "200 OK", "t"));
                }
            }
            answers += usize::from(probe.poll().is_some());
        }
        if answers > 0 {
            break;
        }
    }
    assert_eq!(answers, 1, "nothing stateless passes");
    while scene.caller.poll().is_some() {}
}

/// One caller's datagrams all come to one worker, and so do one member's;
/// calls belong to the worker that their Call-ID names.
#[test]
fn with_several_workers_each_call_is_whole_whoever_gets_its_messages() {
    let args = ["--workers", "3", "--steer", "source"];
    let scene = Scene::still(2, &args);
    for number in 0..60 {
        let call = scene.request("INVITE");
        // Nothing overtakes: the CANCEL finds its call.
        scene.send(call.text());
        scene.send(call.text());
        if number % 2 == 0 {
            scene.hears(100);
            scene.hears(100);
            let leg = of(&scene, &call);
            scene.says(&leg, "180 Ringing");
            scene.hears(180);
            scene.send(call.method("CANCEL").text());
            scene.hears(200);
            let cancel = scene.gets(&leg, "CANCEL");
            scene.says(&cancel, "200 OK");
            scene.fails_at(&call, &leg, "487 Request Terminated", 487);
        } else {
            scene.send(call.method("CANCEL").text());
            scene.hears(100);
            scene.hears(100);
            assert_eq!(only(&scene.hears(200), "cseq"), "1 CANCEL");
            let leg = of(&scene, &call);
            scene.says(&leg, "503 Service Unavailable");
            scene.gets(&leg, "ACK");
            let failure = scene.hears(487);
            scene.acknowledge(&call, &failure);
        }
        // Failed over, and answered.
        let call = scene.request("INVITE");
        scene.send(call.text());
        scene.hears(100);
        let first = of(&scene, &call);
        let second = scene.passes_on(&first);
        assert_ne!(first.member, second.member);
        scene.answered_at(&call, &second);
    }
    scene.caller.assert_silent();
}

/// The kernel has one worker hear all errors of a destination.
#[test]
fn with_several_workers_each_hears_what_came_back_of_its_calls() {
    let mut scene = Scene::still(2, &["--workers", "3"]);
    // One for each worker, which would be member 0's.
    let calls = [0, 1, 2].map(|worker| {
        wait_for("such a call", || {
            let call = scene.request("INVITE");
            let is_its = owner(call.call_id.as_bytes(), 3) == worker;
            (is_its && scene.owner(&call) == 0).then_some(call)
        })
    });
    scene.close(0);
    for call in calls {
        let leg = scene.begin(&call);
        scene.answered_at(&call, &leg);
    }
    let counters = scene.viaduct.counters();
    assert_eq!(counters.get("came-back"), 3, "{counters:?}");
    assert_eq!(counters.get("not-handed-over"), 0);
}

/// The INVITE of this call, which is the next that comes to the farm.
#[track_caller]
fn of(scene: &Scene, call: &Request) -> Leg {
    let leg = scene.next_leg();
    assert_eq!(method(&leg.request), "INVITE");
    assert_eq!(only(&leg.request, "call-id"), call.call_id);
    leg
}

/// A response whose branch nobody gave is nobody's (RFC 6026 §7.3, §10).
#[test]
fn a_forged_response_to_an_attempt_is_dropped() {
    let scene = Scene::still(2, &[]);
    let call = scene.request("INVITE");
    let first = scene.begin(&call);
    let leg = scene.passes_on(&first);
    let right = response(&leg.request, "200 OK", "t");
    let own = branch(&leg.request);
    for at in "z9hG4bK".len()..own.len() {
        let mut forged = own.clone().into_bytes();
        forged[at] = if forged[at] == b'0' { b'1' } else { b'0' };
        let forged = String::from_utf8(forged).expect("text");
        let octets = right.replace(&own, &forged);
        // That of another attempt, and of none.
        scene.says_all(&leg, &octets);
    }
    scene.assert_quiet();
    // The ACK to the failure of somebody else's call.
    let stranger = Peer::new(V4);
    let other = call.clone().via(format!(
        "SIP/2.0/UDP {};branch=z9hG4bKx",
        stranger.address()
    ));
    let unknown = ack(&other, right.as_bytes());
    stranger.send(scene.front(), unknown.text());
    let (_, octets) = scene.at_farm();
    assert_eq!(values(&octets, "via").len(), 2);
    scene.says_all(&leg, &right);
    scene.hears(200);
}

/// The branch of another attempt is two octets longer.
#[test]
fn the_two_longest_lengths_are_for_one_destination_alone() {
    let scene = Scene::still(2, &[]);
    let plain = scene.request("INVITE");
    let leg = scene.begin(&plain);
    scene.answered_at(&plain, &leg);
    let growth = leg.request.len() - plain.text().len();
    for length in 65_504..=65_507 {
        let mut call = scene.request("INVITE").row("X-Filling: ");
        let filling = length - growth - call.text().len();
        call.rows[1] += &"x".repeat(filling);
        let leg = scene.begin(&call);
        assert_eq!(leg.request.len(), length);
        if length > 65_505 {
            scene.fails_at(&call, &leg, "503 Service Unavailable", 500);
        } else {
            let other = scene.passes_on(&leg);
            assert_eq!(other.request.len(), length + 2);
            scene.answered_at(&call, &other);
        }
    }
    scene.assert_quiet();
}

#[test]
fn over_ipv6_a_call_fails_over_too() {
    let farm = vec![Peer::new(support::net::V6), Peer::new(support::net::V6)];
    let first: Vec<String> = ["--listen", "[::1]:0"]
        .into_iter()
        .map(str::to_owned)
        .chain(
            farm.iter()
                .flat_map(|one| ["--to".to_owned(), one.address().to_string()]),
        )
        .collect();
    let args = [&["--stateful", "INVITE"], &STILL[..]].concat();
    let mut scene = Scene::with(farm, &first, &args);
    scene.caller = Peer::new(support::net::V6);
    let call = scene.request("INVITE");
    let owner = scene.owner(&call);
    scene.farm[owner] = Peer::at(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 0)));
    let leg = scene.begin(&call);
    assert_ne!(leg.member, owner);
    scene.answered_at(&call, &leg);
}
