//! Many transactions at once: what waits together is read before timers go off.

use std::time::{Duration, Instant};

mod support;
use support::dialog::Scene;
use support::process::Signal;
use support::stateful::Leg;

/// The destinations are not to blame for a stall of Viaduct itself.
#[test]
fn answers_that_came_during_a_stall_are_read_before_timers_go_off() {
    /// Many batches, and fewer than a small receive buffer holds.
    const CALLS: usize = 200;
    const SILENCE: Duration = Duration::from_secs(10);
    let timers = ["--timer", "T1=60s", "--failover-after", "10s"];
    let mut scene = Scene::stateful(2, "INVITE", &timers, &["--batch", "8"]);
    let calls: Vec<_> = (0..CALLS).map(|_| scene.request("INVITE")).collect();
    let legs: Vec<Leg> = calls.iter().map(|call| scene.begin(call)).collect();
    let begun = Instant::now();
    scene.viaduct.signal(Signal::STOP);
    for leg in &legs {
        scene.says(leg, "180 Ringing");
    }
    std::thread::sleep((begun + SILENCE).saturating_duration_since(Instant::now()));
    scene.viaduct.signal(Signal::CONT);
    scene.sync();
    assert_eq!(scene.viaduct.counter("failed-over"), 0);
}
