//! Real calls by sipp through Viaduct to a farm of sipps: at the rate of a
//! busy system, cancelled, challenged, over IPv4 and IPv6. Not a call may
//! fail, not a message come twice or unexpectedly.

use std::net::{IpAddr, SocketAddr};

use support::load_lock;
use support::net::{V4, V6, free_addresses};
use support::sipp::{self, Load, Scenario, Sipp};
use support::viaduct::{Counters, Viaduct};

/// Viaduct before a farm of `FARM` sipps, and a caller's address.
struct Setting<const FARM: usize> {
    viaduct: Viaduct,
    servers: [Sipp; FARM],
    caller: SocketAddr,
}

/// What a load left behind.
struct Outcome {
    /// Calls of each server.
    shares: Vec<u64>,
    counters: Counters,
}

impl<const FARM: usize> Setting<FARM> {
    fn start(ip: IpAddr, uas: Scenario) -> Self {
        let farm = free_addresses::<FARM>(ip);
        let [caller] = free_addresses(ip);
        let listener = SocketAddr::from((ip, 0)).to_string();
        let mut args = vec![
            "--listen".to_owned(),
            listener,
            "--workers".into(),
            "2".into(),
        ];
        for server in &farm {
            args.extend(["--to".to_owned(), server.to_string()]);
        }
        let servers = farm.map(|address| Sipp::server(uas, address));
        Self {
            viaduct: Viaduct::start(&args),
            servers,
            caller,
        }
    }

    /// Makes the calls; demands that callers and servers saw nothing amiss,
    /// and that Viaduct dropped nothing.
    fn play(self, uac: Scenario, load: Load) -> Outcome {
        let caller = Sipp::caller(uac, self.caller, self.viaduct.address(0), load);
        caller.finish().assert_clean("caller", load.calls.into());
        let shares = sipp::shares(self.servers);
        assert_eq!(
            shares.iter().sum::<u64>(),
            u64::from(load.calls),
            "calls of each: {shares:?}"
        );
        let counters = self.viaduct.stop();
        counters.assert_all_forwarded();
        Outcome { shares, counters }
    }
}

/// Each server's calls lie within `percent` of an even share.
fn assert_even(shares: &[u64], percent: u64) {
    let even = shares.iter().sum::<u64>() / shares.len() as u64;
    let apart = even * percent / 100;
    let good = |share: &u64| share.abs_diff(even) <= apart;
    assert!(
        shares.iter().all(good),
        "{shares:?} are not {even} each, give or take {apart}"
    );
}

#[test]
fn two_thousand_calls_a_second_through_four_servers() {
    let _load = load_lock();
    let setting = Setting::<4>::start(V4, Scenario::BuiltIn("uas"));
    let outcome = setting.play(Scenario::BuiltIn("uac"), Load::new(40_000, 2_000));
    // The spread of 40,000 draws among four: 87 calls. 5 % is nearly six times that.
    assert_even(&outcome.shares, 5);
    println!(
        "calls of each server: {:?}; {:?}",
        outcome.shares, outcome.counters
    );
}

#[test]
fn calls_over_ipv6() {
    let _load = load_lock();
    let setting = Setting::<2>::start(V6, Scenario::BuiltIn("uas"));
    let outcome = setting.play(Scenario::BuiltIn("uac"), Load::new(2_000, 400));
    assert_even(&outcome.shares, 15);
}

#[test]
fn cancelled_calls() {
    let _load = load_lock();
    let setting = Setting::<4>::start(V4, Scenario::Ours("cancel_uas.xml"));
    setting.play(Scenario::Ours("cancel_uac.xml"), Load::new(40_000, 2_000));
}

/// The second INVITE must reach the server that challenged the first.
#[test]
fn challenged_calls() {
    let _load = load_lock();
    let setting = Setting::<4>::start(V4, Scenario::Ours("challenge_uas.xml"));
    setting.play(
        Scenario::Ours("challenge_uac.xml"),
        Load::new(40_000, 2_000),
    );
}
