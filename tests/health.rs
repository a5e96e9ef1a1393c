//! What becomes of calls when destinations die and come back: found out by
//! probes, confirmed where the traffic makes suspicious, by the running program.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use support::admin::Admin;
use support::dialog::{Peer, Request, status};
use support::dns::NameServer;
use support::net::V4;
use support::process::in_a_network_of_its_own;
use support::servers::Server;
use support::upgrading::File;
use support::viaduct::Viaduct;
use support::{LONG, wait_until};

struct Stage {
    servers: Vec<Server>,
    viaduct: Viaduct,
    caller: Peer,
}

impl Stage {
    /// As many servers, probed, and further arguments.
    fn new(servers: usize, args: &[&str]) -> Self {
        let servers: Vec<_> = (0..servers).map(|_| Server::start()).collect();
        let mut all = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        all.extend(["--workers", "1"].map(str::to_owned));
        if !args.contains(&"--health") {
            all.extend(["--health", "on"].map(str::to_owned));
        }
        for server in &servers {
            all.extend(["--to".to_owned(), server.address().to_string()]);
        }
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        Self {
            servers,
            viaduct: Viaduct::start(&all),
            caller: Peer::new(V4),
        }
    }

    /// Waits for a line of the log with all of `parts`, after `offset`.
    fn until(&mut self, offset: usize, parts: &[&str]) {
        self.viaduct.wait_for(&parts.join(" … "), |output| {
            let mut lines = output[offset..].lines();
            let all = |line: &str| parts.iter().all(|part| line.contains(part));
            lines.any(all).then_some(())
        });
    }

    fn said(&self) -> usize {
        self.viaduct.output().len()
    }

    fn request(&self, method: &str) -> Request {
        Request::new(method, self.caller.address())
    }

    /// Makes `count` new calls, answered or not; how many came to each.
    fn shares(&self, count: usize) -> Vec<usize> {
        let end = Instant::now() + LONG;
        let mut shares = vec![0; self.servers.len()];
        for sent in 1..=count {
            let text = self.request("MESSAGE").text();
            self.caller.send(self.viaduct.address(0), text);
            // No more on their way than the buffers of the servers hold.
            while shares.iter().sum::<usize>() + 20 < sent || sent == count {
                for (share, server) in shares.iter_mut().zip(&self.servers) {
                    *share += server.take_calls();
                }
                if shares.iter().sum::<usize>() == count {
                    break;
                }
                assert!(Instant::now() < end, "{shares:?} of {count}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        shares
    }

    /// Waits until each server has been probed for the first time, which is
    /// within a second, and has answered.
    fn probed(self) -> Self {
        wait_until("a probe for each", || {
            self.servers.iter().all(|server| server.probes() > 0)
        });
        // What comes to a server is answered one after the other.
        self.shares(40);
        self
    }

    fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].address()
    }
}

#[test]
fn a_dead_destination_takes_no_new_call_once_it_is_found_out() {
    let mut stage = Stage::new(3, &[]);
    assert!(stage.shares(90).iter().all(|share| *share > 10));
    stage.servers[1].silence();
    let down = format!("{} is down", stage.address(1));
    stage.until(0, &[&down]);
    let shares = stage.shares(90);
    assert_eq!(shares[1], 0, "{shares:?}");
    assert!(shares[0] > 20 && shares[2] > 20, "{shares:?}");
}

#[test]
fn one_that_was_dead_at_the_start_is_found_out_too() {
    let mut stage = Stage::new(2, &["--to", "127.0.0.1:9"]);
    stage.until(0, &["127.0.0.1:9 is down", "no answer"]);
    stage.shares(60);
}

#[test]
fn an_address_that_nothing_can_be_sent_from_is_told_once_and_once_when_it_is_back() {
    in_a_network_of_its_own(
        "ip link set lo up && echo 1 > /proc/sys/net/ipv4/ip_nonlocal_bind",
        "where_any_address_can_be_bound",
    );
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_any_address_can_be_bound() {
    let args = "--listen 192.0.2.1:5060 --workers 1 --to 192.0.2.2 --to 192.0.2.3 \
                --health on --health-interval 200ms --health-timeout 100ms";
    let mut viaduct = Viaduct::start(&args.split_whitespace().collect::<Vec<_>>());
    let told = |output: &str| output.contains("no probe can be sent").then_some(());
    viaduct.wait_for("an obstacle", told);
    let mut ip = Command::new("ip");
    ip.args(["address", "add", "192.0.2.1/24", "dev", "lo"]);
    assert!(ip.status().expect("ip runs").success());
    // Both have been probed by then.
    let down = |output: &str| (output.matches(" is down: ").count() == 2).then_some(());
    viaduct.wait_for("both down", down);
    let said = viaduct.output();
    let lines = said.lines().filter(|line| line.contains("sent from"));
    let wanted = [
        "warning: no probe can be sent from 192.0.2.1: Cannot assign requested address (os error \
         99); the health of its destinations stays as it was last known",
        "probes are sent from 192.0.2.1 again",
    ];
    assert_eq!(lines.collect::<Vec<_>>(), wanted, "{said}");
    viaduct.stop();
}

/// Each time that news is taken in, the table of the set is filled anew.
#[test]
fn many_that_die_at_once_are_taken_in_together() {
    const MANY: usize = 100;
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let dead = (1..=MANY).flat_map(|number| ["--to".to_owned(), format!("127.1.0.{number}:9")]);
    let dead: Vec<_> = dead.collect();
    let mut args: Vec<_> = dead.iter().map(String::as_str).collect();
    args.extend(["--admin", socket.to_str().expect("a path")]);
    let stage = Stage::new(1, &args);
    let down = |status: &Value| {
        let all = status["sets"][0]["destinations"].as_array()?;
        let down = all.iter().filter(|each| each["health"] == "down").count();
        (down == MANY).then(|| status["generation"].as_u64())?
    };
    let generation = Admin::of(&stage.viaduct).wait_for("/api/v1/status", down);
    assert!(generation < MANY as u64 / 2, "{generation} generations");
}

#[test]
fn one_that_comes_back_takes_its_share_in_steps() {
    let mut stage = Stage::new(2, &["--slow-start", "8s", "--health-interval", "200ms"]);
    stage.servers[0].silence();
    let address = stage.address(0).to_string();
    stage.until(0, &[&address, "is down"]);
    let before = stage.said();
    stage.servers[0].revive();
    stage.until(before, &[&address, "comes back: 20 %"]);
    let shares = stage.shares(300);
    // A sixth; a twelfth by chance is five standard deviations away.
    assert!((10..110).contains(&shares[0]), "{shares:?}");
    stage.until(before, &[&address, "is up"]);
    let output = stage.viaduct.output();
    let told = output[before..].lines().filter_map(|line| {
        let (_, share) = line.split_once("comes back: ")?;
        share.strip_suffix(" %")?.parse::<u8>().ok()
    });
    let told: Vec<_> = told.collect();
    // Whoever is late takes several steps at once.
    assert!(told.len() > 1, "{told:?}");
    assert!(told.is_sorted_by(|less, more| less < more), "{told:?}");
    let shares = stage.shares(200);
    assert!(shares[0] > 60, "{shares:?}");
}

#[test]
fn with_kamailios_policy_it_takes_all_of_it_at_once() {
    let args = ["--policy", "kamailio", "--slow-start", "1h"];
    let mut stage = Stage::new(2, &[&args[..], &["--health-interval", "200ms"]].concat());
    stage.servers[0].silence();
    let address = stage.address(0).to_string();
    stage.until(0, &[&address, "is down"]);
    let before = stage.said();
    stage.servers[0].revive();
    stage.until(before, &[&address, "is up"]);
    let output = stage.viaduct.output();
    assert!(!output[before..].contains("comes back"), "{output}");
}

#[test]
fn where_all_are_down_calls_go_on_and_an_alarm_is_raised() {
    let mut stage = Stage::new(2, &["--health-interval", "200ms"]);
    stage
        .servers
        .iter()
        .for_each(|server| server.answer_probes(503));
    stage.until(0, &["every active destination is down", "forward"]);
    let shares = stage.shares(60);
    assert!(shares.iter().all(|share| *share > 10), "{shares:?}");
    stage.servers[0].answer_probes(200);
    stage.until(0, &["a destination is active and up again"]);
    assert_eq!(stage.shares(30), [30, 0]);
}

#[test]
fn or_they_are_answered_503() {
    let args = ["--health-interval", "200ms", "--when-all-down", "reply"];
    let mut stage = Stage::new(1, &args);
    stage.servers[0].silence();
    stage.until(0, &["every active destination is down", "503"]);
    let text = stage.request("INVITE").text();
    stage.caller.send(stage.viaduct.address(0), text);
    assert_eq!(status(stage.caller.receive()), 503);
}

#[test]
fn the_alarm_is_raised_too_where_an_operator_takes_the_last_one_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let admin = ["--admin", socket.to_str().expect("a path")];
    let mut stage = Stage::new(2, &[&["--health-interval", "200ms"], &admin[..]].concat());
    stage.servers[0].silence();
    let address = stage.address(0).to_string();
    stage.until(0, &[&address, "is down"]);
    let admin = Admin::of(&stage.viaduct);
    let change = |state: &str| {
        let body = json!({"destination": stage.servers[1].address(), "state": state});
        let done = admin.post("/api/v1/destinations/state", &body);
        done.assert_done()["said"].to_string()
    };
    let said = change("draining");
    assert!(said.contains("every active destination is down"), "{said}");
    let said = change("active");
    assert!(!said.contains("down"), "{said}");
    stage.until(0, &["every active destination is down", "forward"]);
    stage.until(0, &["a destination is active and up again"]);
}

#[test]
fn requests_within_a_dialog_still_go_to_one_that_is_down() {
    let mut stage = Stage::new(2, &["--health-interval", "200ms"]);
    stage.servers[0].silence();
    let address = stage.address(0).to_string();
    stage.until(0, &[&address, "is down"]);
    let request = stage.request("BYE").uri(format!("sip:desk@{address}"));
    let text = request.to("<sip:desk@example.com>;tag=theirs").text();
    stage.caller.send(stage.viaduct.address(0), text);
    wait_until("the BYE", || stage.servers[0].take_calls() > 0);
}

#[test]
fn traffic_without_an_answer_has_a_destination_probed_at_once() {
    // From the first ones on, probes alone would take a minute to find out.
    let mut stage = Stage::new(2, &["--health-interval", "1m"]).probed();
    stage.servers[0].silence();
    let down = format!("{} is down", stage.address(0));
    let end = Instant::now() + LONG;
    while !stage.viaduct.output().contains(&down) {
        assert!(Instant::now() < end, "{}", stage.viaduct.output());
        stage.shares(20);
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.until(0, &[&down, "the first sign: hardly a request"]);
    assert_eq!(stage.shares(30)[0], 0);
}

/// Far fewer than say anything by their number.
#[test]
fn a_stateful_request_that_fails_has_its_destination_probed_at_once() {
    let args = ["--health-interval", "1m", "--stateful", "INVITE"];
    let mut stage = Stage::new(2, &args).probed();
    stage.servers[0].silence();
    let suspected = format!("suspected-default-{}", stage.address(0));
    wait_until("a failover", || {
        let caller = Peer::new(V4);
        let invite = Request::new("INVITE", caller.address());
        caller.send(stage.viaduct.address(0), invite.text());
        while status(caller.receive()) != 200 {}
        stage.viaduct.counter(&suspected) == 1
    });
    let down = format!("{} is down", stage.address(0));
    stage.until(0, &[&down, "the first sign: a request failed there"]);
}

#[test]
fn silence_in_the_traffic_alone_takes_nobody_down() {
    let stage = Stage::new(2, &["--health-interval", "1m"]).probed();
    // Requests whose responses nobody can send: they look unanswered.
    let probes = stage.servers[0].probes() + stage.servers[1].probes();
    for _ in 0..30 {
        for _ in 0..10 {
            let text = stage.request("ACK").text();
            stage.caller.send(stage.viaduct.address(0), text);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let now = stage.servers[0].probes() + stage.servers[1].probes();
    assert!(now > probes, "they were made sure of");
    assert!(!stage.viaduct.output().contains("is down"));
}

#[test]
fn nothing_is_probed_where_health_is_off() {
    let stage = Stage::new(1, &["--health", "off"]);
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(stage.servers[0].probes(), 0);
}

#[test]
fn one_that_was_not_probed_for_a_while_is_not_held_down() {
    let server = Server::start();
    server.silence();
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.toml");
    let write = |health: &str| {
        let (gone, alive) = (server.address(), "127.0.0.1:9");
        let text = format!(
            "listen = ['127.0.0.1:0']\n[[set]]\nname = 'farm'\nwhen-all-down = 'reply'\n\
             destinations = [{{ uri = 'sip:{gone}', health = {health} }}, \
             {{ uri = 'sip:{alive}', state = 'disabled' }}]\n"
        );
        std::fs::write(&path, text).expect("the file");
    };
    write("{ interval = '200ms' }");
    let file = path.display().to_string();
    let mut viaduct = Viaduct::start(&["--health", "on", "--config", &file]);
    let found_out = format!("{} is down", server.address());
    viaduct.wait_for("its death", |output| {
        output.contains(&found_out).then_some(())
    });
    // Two answers in a row would take an hour.
    for (reloads, health) in [(1, "'off'"), (2, "{ interval = '1h' }")] {
        write(health);
        viaduct.signal(support::process::Signal::HUP);
        viaduct.wait_for("the reload", |output| {
            (output.matches("reloaded").count() == reloads).then_some(())
        });
        server.revive();
        assert_gets_a_call(&viaduct, &server);
    }
}

/// A new request reaches the only server that there is.
#[track_caller]
fn assert_gets_a_call(viaduct: &Viaduct, server: &Server) {
    let caller = Peer::new(V4);
    let request = Request::new("MESSAGE", caller.address());
    caller.send(viaduct.address(0), request.text());
    wait_until("the request", || server.take_calls() > 0);
}

#[test]
fn one_that_was_down_and_is_removed_and_added_anew_begins_as_up() {
    let server = Server::start();
    server.silence();
    let address = server.address().to_string();
    let file = File::new(&format!(
        "listen = ['127.0.0.1:0']\n[health]\ninterval = '1h'\n[[set]]\nname = 'farm'\n\
         when-all-down = 'reply'\ndestinations = ['sip:{address}', \
         {{ uri = 'sip:127.0.0.1:9', state = 'disabled' }}]\n"
    ));
    let [flag, path] = file.args();
    let socket = file.folder().join("admin.sock").display().to_string();
    let mut viaduct = Viaduct::start(&["--health", "on", "--admin", &socket, &flag, &path]);
    let found_out = format!("{address} is down");
    viaduct.wait_for("its death", |output| {
        output.contains(&found_out).then_some(())
    });
    server.revive();
    let admin = Admin::of(&viaduct);
    let change = |what: &str, body: &Value| {
        let path = format!("/api/v1/destinations/{what}");
        admin.post(&path, body).assert_done();
    };
    change("remove", &json!({"destination": address}));
    change("add", &json!({"set": "farm", "destination": address}));
    assert_gets_a_call(&viaduct, &server);
}

/// The name server says nothing for seconds.
#[test]
fn a_reload_that_waits_for_a_name_holds_up_no_death() {
    let (server, names) = (Server::start(), NameServer::start(""));
    let gone = server.address();
    let text = |more: &str| {
        format!(
            "listen = ['127.0.0.1:0']\nresolver = ['{}']\n[health]\ninterval = '100ms'\n\
             timeout = '100ms'\n[[set]]\nname = 'farm'\ndestinations = ['sip:{gone}'{more}]\n",
            names.address()
        )
    };
    let file = File::new(&text(""));
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&["--health", "on", &flag, &path]);
    wait_until("a probe", || server.probes() > 0);
    file.write(&text(", 'sip:farm.silent.test:5060'"));
    viaduct.signal(support::process::Signal::HUP);
    wait_until("a question", || !names.asked().is_empty());
    server.silence();
    let output = viaduct.wait_for("the reload", |output| {
        output.contains("reloaded").then(|| output.to_owned())
    });
    let (before, _) = output.split_once("reloaded").expect("it says so");
    assert!(before.contains(&format!("{gone} is down")), "{output}");
    let alarms = output.matches("error: set farm: every active destination is down");
    assert_eq!(alarms.count(), 1, "{output}");
}

/// Reloads, for as long as its file says nothing.
#[test]
fn news_of_what_is_removed_is_none_of_what_is_added_in_its_place() {
    let server = Server::start();
    server.silence();
    let address = server.address().to_string();
    let text = format!(
        "listen = ['127.0.0.1:0']\n[health]\ninterval = '1h'\n[[set]]\nname = 'farm'\n\
         when-all-down = 'reply'\ndestinations = ['sip:{address}', \
         {{ uri = 'sip:127.0.0.1:9', state = 'disabled' }}]\n"
    );
    let file = File::new(&text);
    let [flag, path] = file.args();
    let socket = file.folder().join("admin.sock").display().to_string();
    let viaduct = Viaduct::start(&["--health", "on", "--admin", &socket, &flag, &path]);
    fs::remove_file(&path).expect("no file");
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo runs").success());
    viaduct.signal(support::process::Signal::HUP);
    // It opens once somebody reads.
    let mut pipe = fs::OpenOptions::new();
    let mut pipe = pipe.write(true).open(&path).expect("who reads");
    let admin = Admin::of(&viaduct);
    let order = |what: &str, body: &Value| {
        let path = format!("/api/v1/destinations/{what}");
        admin.send_post(&path, body)
    };
    let removed = order("remove", &json!({"destination": address}));
    // What is asked first is answered first.
    admin.get("/api/v1/status");
    let added = order("add", &json!({"set": "farm", "destination": address}));
    admin.wait_for("/api/v1/status", |status| {
        let cause = status["sets"][0]["destinations"][0]["cause"].as_str()?;
        cause.starts_with("the last 3 probes failed").then_some(())
    });
    server.revive();
    pipe.write_all(text.as_bytes()).expect("who reads");
    drop(pipe);
    for order in [removed, added] {
        order.answer().assert_done();
    }
    // Behind whatever waited meanwhile.
    let state = json!({"destination": address, "state": "active"});
    order("state", &state).answer().assert_done();
    assert_gets_a_call(&viaduct, &server);
}
