//! Real calls by sipp, and through a real Kamailio, with stateful INVITE: at
//! the rate of a busy system, cancelled, challenged, and while a server is
//! killed. Not a call may fail, not a message come twice or unexpectedly.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use support::kamailio::Kamailio;
use support::load_lock;
use support::net::{V4, free_addresses};
use support::sipp::{self, Load, PATIENCE, Scenario, Sipp};
use support::viaduct::Viaduct;

/// 1,000 calls a second.
const LOAD: Load = Load::new(10_000, 1_000);

/// Seconds until a call leaves a destination that is silent.
const FAILOVER: u32 = 2 * PATIENCE / 1000;

/// Viaduct with stateful INVITE in front of these, as patient as they are.
fn viaduct(farm: &[SocketAddr], more: &[&str]) -> Viaduct {
    let first = ["--listen", "127.0.0.1:0", "--stateful", "INVITE"];
    let all = [&first[..], &["--workers", "2"], more].concat();
    let mut all: Vec<String> = all.into_iter().map(str::to_owned).collect();
    all.extend(["--timer".to_owned(), format!("T1={PATIENCE}ms")]);
    all.extend(["--failover-after".to_owned(), format!("{FAILOVER}s")]);
    for server in farm {
        all.extend(["--to".to_owned(), server.to_string()]);
    }
    Viaduct::start(&all)
}

/// Calls of these kinds through a farm of four.
fn play(uac: Scenario, uas: Scenario) {
    let _load = load_lock();
    let farm = free_addresses::<4>(V4);
    let [caller] = free_addresses(V4);
    let viaduct = viaduct(&farm, &[]);
    let servers = farm.map(|address| Sipp::server(uas, address));
    Sipp::caller(uac, caller, viaduct.address(0), LOAD)
        .finish()
        .assert_clean("caller", u64::from(LOAD.calls));
    let shares = sipp::shares(servers);
    assert_eq!(
        shares.iter().sum::<u64>(),
        u64::from(LOAD.calls),
        "{shares:?}"
    );
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    let counters = viaduct.stop();
    let begun = counters.get("transactions-begun");
    assert!(begun >= u64::from(LOAD.calls), "{begun} transactions");
}

#[test]
fn a_thousand_calls_a_second() {
    play(Scenario::BuiltIn("uac"), Scenario::BuiltIn("uas"));
}

/// The server demands that CANCEL and ACK have, octet by octet, the top Via of
/// the INVITE.
#[test]
fn cancelled_calls() {
    play(
        Scenario::Ours("cancel_uac.xml"),
        Scenario::Ours("cancel_uas.xml"),
    );
}

/// The second INVITE must reach the server that challenged the first.
#[test]
fn challenged_calls() {
    play(
        Scenario::Ours("challenge_uac.xml"),
        Scenario::Ours("challenge_uas.xml"),
    );
}

#[test]
fn a_server_that_is_killed_costs_no_call() {
    let _load = load_lock();
    let farm = free_addresses::<4>(V4);
    let [caller] = free_addresses(V4);
    let viaduct = viaduct(&farm, &["--record-route"]);
    let uas = Scenario::Ours("picked_up_uas.xml");
    let mut servers: Vec<_> = farm.map(|address| Sipp::server(uas, address)).into();
    let uac = Scenario::Ours("picked_up_uac.xml");
    let load = LOAD.lasting(FAILOVER);
    let caller = Sipp::caller(uac, caller, viaduct.address(0), load);
    sleep(Duration::from_secs(4));
    servers.remove(0).kill();
    caller
        .finish()
        .assert_clean("caller", u64::from(LOAD.calls));
    let taken: u64 = sipp::shares(servers).iter().sum();
    // A quarter of the calls of 4 s had gone to the other one; with two
    // seconds of leeway, for it may take a while to start.
    assert!(taken < u64::from(LOAD.calls) && taken > 8_000, "{taken}");
    let counters = viaduct.stop();
    assert!(counters.get("failed-over") > 0, "{counters:?}");
}

/// Half of the calls are first sent to a destination that is not there.
#[test]
fn kamailio_takes_the_calls_of_a_destination_that_is_dead() {
    let _load = load_lock();
    let [proxy, dead, server, caller] = free_addresses(V4);
    let _kamailio = Kamailio::on_path(proxy, server);
    let viaduct = viaduct(&[proxy, dead], &[]);
    let load = Load::new(500, 100).lasting(FAILOVER);
    for (uac, uas) in [
        ("routed_uac.xml", "routed_uas.xml"),
        ("cancel_uac.xml", "cancel_uas.xml"),
    ] {
        let farm = Sipp::server(Scenario::Ours(uas), server);
        Sipp::caller(Scenario::Ours(uac), caller, viaduct.address(0), load)
            .finish()
            .assert_clean(uac, 500);
        farm.stop().assert_clean(uas, 500);
    }
    let counters = viaduct.stop();
    assert!(counters.get("failed-over") > 0, "{counters:?}");
}
