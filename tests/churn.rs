//! Calls of real user agents through a farm that changes every second. What
//! `scripts/churn` shows at length and with all that can go wrong counted
//! apart, shown here by sipp, which takes no account from us.

use std::fs;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::Duration;

use support::net::{V4, free_addresses};
use support::process::Signal;
use support::sipp::{self, Load, Scenario, Sipp};
use support::viaduct::Viaduct;
use support::{bench, load_lock};

/// The farm second by second: each server's weight, "d" where it drains, "-"
/// where it is not there. None goes while it may have calls.
const SECONDS: [&str; 8] = [
    "1 1 1 1 - -",
    "1 1 1 1 - -",
    "d 1 1 1 1 -",
    "d 3 1 1 1 -",
    "d d 1 1 1 1",
    "1 d 5 1 1 1",
    "1 1 d 1 2 1",
    "2 1 d d 1 1",
];

fn configuration(farm: &[SocketAddr], states: &str) -> String {
    let destinations: String = farm
        .iter()
        .zip(states.split(' '))
        .filter_map(|(address, state)| match state {
            "-" => None,
            "d" => Some(format!("'sip:{address};state=draining', ")),
            weight => Some(format!("'sip:{address};weight={weight}', ")),
        })
        .collect();
    format!(
        "listen = ['127.0.0.1:0']\nworkers = 2\nrecord-route = \"on\"\n\
         [[set]]\nname = 'farm'\ndestinations = [{destinations}]\n"
    )
}

#[test]
fn no_call_notices_that_servers_are_added_drained_and_weighted_anew() {
    let _load = load_lock();
    let farm = free_addresses::<6>(V4);
    let [caller] = free_addresses(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("viaduct.toml");
    fs::write(&file, configuration(&farm, SECONDS[0])).expect("the file");
    let mut viaduct = Viaduct::start(&["--config", file.to_str().expect("text")]);
    let servers = farm.map(|address| Sipp::server(Scenario::Ours("hidden_uas.xml"), address));

    let load = Load::new(200 * SECONDS.len() as u32, 200).lasting(2);
    let uac = Scenario::Ours("routed_uac.xml");
    let caller = Sipp::holding(uac, caller, viaduct.address(0), load, 2);
    for (number, states) in SECONDS.iter().enumerate().skip(1) {
        sleep(Duration::from_secs(1));
        fs::write(&file, configuration(&farm, states)).expect("the file");
        viaduct.signal(Signal::HUP);
        viaduct.wait_for("an answer to SIGHUP", |output| {
            let reloads = output.lines().filter(|line| line.starts_with("reloaded:"));
            (reloads.count() == number).then_some(())
        });
    }

    caller.finish().assert_clean("caller", load.calls.into());
    let shares = sipp::shares(servers);
    assert_eq!(
        shares.iter().sum::<u64>(),
        u64::from(load.calls),
        "{shares:?}"
    );
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");
    // ACK and BYE of each call.
    let counters = viaduct.stop();
    assert_eq!(counters.get("cookies-followed"), 2 * u64::from(load.calls));
}

/// A request to change within a dialog, a call that rings and is cancelled: what
/// sipp could not tell apart.
#[test]
fn no_call_of_the_program_notices_either() {
    let _load = load_lock();
    let load = ["churn", "--seconds", "10", "--rate", "200"];
    bench::run(&[&load[..], &["--only", "viaduct,pair"]].concat());
}
