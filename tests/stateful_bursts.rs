//! Many transactions at once: what waits together is read before timers go
//! off, and what leaves together for a dead destination goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use support::dialog::{Request, Scene, read, response};
use support::process::Signal;
use support::stateful::Leg;
use support::wait_until;

/// The destinations are not to blame for a stall of Viaduct itself.
#[test]
fn answers_that_came_during_a_stall_are_read_before_timers_go_off() {
    /// Two batches: timers have been put off as soon as the first is read, and are
    /// looked at behind the second at the earliest, however slow the machine is.
    const BATCH: usize = 8;
    const SILENCE: Duration = Duration::from_secs(10);
    let timers = ["--timer", "T1=60s", "--failover-after", "9s"];
    let mut scene = Scene::stateful(2, "INVITE", &timers, &["--batch", "8"]);
    let calls: Vec<_> = (0..2 * BATCH).map(|_| scene.request("INVITE")).collect();
    let legs: Vec<Leg> = calls.iter().map(|call| scene.begin(call)).collect();
    let begun = Instant::now();
    scene.viaduct.halt();
    for leg in &legs {
        scene.says(leg, "180 Ringing");
    }
    std::thread::sleep((begun + SILENCE).saturating_duration_since(Instant::now()));
    scene.viaduct.signal(Signal::CONT);
    scene.sync();
    assert_eq!(scene.viaduct.counter("failed-over"), 0);
}

/// Nor for what found no room here.
#[test]
fn answers_that_found_no_room_make_no_failover() {
    let timers = ["--timer", "T1=5s", "--failover-after", "3s"];
    wait_until("a copy before another destination", || {
        let scene = Scene::stateful(2, "INVITE", &timers, &["--receive-buffer", "16KiB"]);
        let call = scene.request("INVITE");
        let leg = scene.begin(&call);
        scene.viaduct.halt();
        // Until there is no room for the smallest.
        (0..200).for_each(|_| scene.send("x"));
        scene.says(&leg, "180 Ringing");
        scene.viaduct.signal(Signal::CONT);
        // Nothing is lost any more.
        wait_until("another destination", || {
            scene.farm[1 - leg.member].poll().is_some()
        });
        scene.sync();
        // It had as long once more from the next copy on, of which there is none before;
        // unless the machine stood still from before that copy until behind that time.
        scene.farm[leg.member].poll().is_some()
    });
}

/// A worker that slept through a loss of another one is told of it late.
#[test]
fn what_was_lost_before_a_call_keeps_it_nowhere() {
    const CALLS: usize = 6;
    let timers = ["--timer", "T1=300ms", "--failover-after", "1s"];
    let args = ["--workers", "2", "--receive-buffer", "16KiB"];
    let mut scene = Scene::stateful(2, "INVITE", &timers, &args);
    scene.viaduct.halt();
    (0..200).for_each(|_| scene.send("x"));
    scene.viaduct.signal(Signal::CONT);
    wait_until("what found room", || {
        scene.viaduct.counter("drop-not-sip") > 0
    });
    // What was lost just before may count.
    std::thread::sleep(Duration::from_millis(100));
    let calls: Vec<Request> = (0..CALLS).map(|_| scene.request("INVITE")).collect();
    calls.iter().for_each(|call| scene.send(call.text()));
    let mut came = BTreeMap::new();
    let mut moved = BTreeSet::new();
    wait_until("another destination for each", || {
        for (number, member) in scene.farm.iter().enumerate() {
            while let Some((octets, _)) = member.poll() {
                let call = read(&octets).call_id;
                let (first, copies) = came.entry(call.clone()).or_insert((number, 0));
                if *first == number {
                    *copies += 1;
                } else {
                    moved.insert(call);
                }
            }
        }
        moved.len() == CALLS
    });
    // The fourth leaves after 2.1 s.
    let most = came.values().map(|(_, copies)| *copies).max();
    assert!(most < Some(4), "{came:?}");
}

/// Over loopback one error comes for the first of them.
#[test]
fn what_left_together_for_a_dead_destination_goes_on_after_one_retransmission() {
    const CALLS: usize = 60;
    let timers = ["--timer", "T1=500ms,B=5m", "--failover-after", "4m"];
    let mut scene = Scene::stateful(2, "INVITE", &timers, &["--gso", "pad"]);
    scene.close(0);
    let calls: Vec<Request> = (0..CALLS).map(|_| scene.request("INVITE")).collect();
    scene.viaduct.halt();
    calls.iter().for_each(|call| scene.send(call.text()));
    scene.viaduct.signal(Signal::CONT);
    let mut answered = BTreeSet::new();
    wait_until("all calls from the dead one", || {
        while let Some((octets, _)) = scene.farm[1].poll() {
            if answered.insert(read(&octets).call_id) {
                let ringing = response(&octets, "180 Ringing", "t");
                scene.farm[1].send(scene.front(), ringing);
            }
        }
        answered.len() == CALLS
    });
    let counters = scene.viaduct.counters();
    assert!(counters.get("runs-sent") > 0, "{counters:?}");
    assert!(counters.get("failed-over") > 1, "{counters:?}");
}
