//! What the next program checks before an upgrade: it takes over, or it is
//! refused and all stays as it is.

use std::cell::RefCell;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use serde_json::json;

use support::admin::Admin;
use support::dialog::{Peer, Request};
use support::net::{V4, free_addresses};
use support::process::{Process, Signal, in_a_network_of_its_own};
use support::servers::Server;
use support::upgrading::{
    File, config, lines, no_upgrade, put_ours, put_script, start_copy, upgrade,
};
use support::viaduct::Viaduct;
use support::{LONG, program, wait_until};

/// What an upgrade says that does not take place.
const REFUSED: &str = "upgrade refused, all stays as it is";

#[test]
fn what_would_not_start_is_refused_beforehand() {
    let [front, taken] = free_addresses(V4);
    let peer = Peer::new(V4);
    let good = config(&[front], 1, &[peer.address()]);
    let file = File::new(&good);
    let mut viaduct = Viaduct::start(&file.args());
    let _other = Viaduct::start(&File::new(&config(&[taken], 1, &[peer.address()])).args());
    let elsewhere = "192.0.2.1:5060".parse().expect("an address");
    let unwritable = format!("stateful = ['INVITE']\n{good}[accounting]\nto = '/nowhere/at/all'\n");
    let nowhere = format!("{good}[admin]\nsocket = '/nowhere/at/all.sock'\n");
    // Its own address, but for calls and not for operators.
    let _tcp = TcpListener::bind(front).expect("a free port");
    let not_ours = format!("{good}[admin]\nlisten = ['{front}']\n");
    for (text, wanted) in [
        (
            config(&[front, elsewhere], 1, &[peer.address()]),
            "no interface has this address",
        ),
        (
            config(&[front, taken], 1, &[peer.address()]),
            "another program holds it",
        ),
        (unwritable, "cannot write accounting"),
        (nowhere, "admin socket /nowhere/at/all.sock"),
        (not_ours, "cannot listen on http://"),
    ] {
        file.write(&text);
        no_upgrade(&mut viaduct, REFUSED, wanted);
        let caller = Peer::new(V4);
        caller.send(front, Request::new("OPTIONS", caller.address()).text());
        peer.receive();
    }
    file.write(&good);
    upgrade(&mut viaduct);
    viaduct.stop();
}

#[test]
fn a_listener_may_become_wider_where_nobody_else_has_its_port() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4).address();
    let at = |ip: &str| {
        let listener = format!(
            "[[listener]]\naddress = '{ip}:{}'\nadvertise = '127.0.0.1'\n",
            front.port()
        );
        config(&[], 1, &[peer]).replace("listen = []\n", "") + &listener
    };
    let file = File::new(&at("127.0.0.1"));
    let mut viaduct = Viaduct::start(&file.args());
    let other = UdpSocket::bind(("127.0.0.2", front.port())).expect("a free port");
    file.write(&at("0.0.0.0"));
    no_upgrade(&mut viaduct, REFUSED, "another program holds it");
    drop(other);
    upgrade(&mut viaduct);
    viaduct.stop();
}

#[test]
fn the_admin_address_may_become_narrower_or_wider() {
    let [front, admin] = free_addresses(V4);
    let good = config(&[front], 1, &[Peer::new(V4).address()]);
    let port = admin.port();
    let at = |ip: &str| format!("{good}[admin]\nlisten = ['{ip}:{port}']\n");
    let file = File::new(&at("0.0.0.0"));
    let mut viaduct = Viaduct::start(&file.args());
    file.write(&at("192.0.2.1"));
    let why = format!("cannot listen on http://192.0.2.1:{port}: ");
    no_upgrade(&mut viaduct, REFUSED, &why);
    for ip in ["127.0.0.1", "0.0.0.0", "[::]", "127.0.0.1"] {
        file.write(&at(ip));
        upgrade(&mut viaduct);
        let output = viaduct.output();
        let line = format!("admin: http://{ip}:{port}");
        assert_eq!(lines(&output, "admin: ").pop(), Some(&*line), "{output}");
    }
    viaduct.stop();
}

#[test]
fn a_configuration_with_errors_is_refused_with_its_places() {
    let [front] = free_addresses(V4);
    let good = config(&[front], 1, &[Peer::new(V4).address()]);
    let file = File::new(&good);
    let mut command = Command::new(program());
    command.arg("run").args(file.args());
    command.args(["--admin", "admin.sock", "--log-format", "json"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut viaduct = Process::start(command, folder);
    viaduct.wait_for("line `ready:`", LONG, |output| {
        output.contains("ready:").then_some(())
    });
    let admin = Admin::Socket(viaduct.file("admin.sock"));
    file.write(&format!("wokers = 'many'\nbatch = 'all'\n{good}"));
    let answer = admin.post("/api/v1/upgrade", &json!({}));
    answer.assert_problem(422, "upgrade refused, the configuration of before stays");
    let wrong = &answer.json()["diagnostics"];
    assert_eq!(wrong[0]["help"], "did you mean `workers`?", "{wrong}");
    assert_eq!(wrong[1]["line"], 2, "{wrong}");
    let output = viaduct.output();
    let records = output
        .lines()
        .filter(|line| line.contains(r#""level":"error""#));
    let [key, value, refusal] = records.collect::<Vec<_>>()[..] else {
        panic!("a record for each: {output}");
    };
    assert!(key.contains("wokers"), "{key}");
    assert!(value.contains("v.toml:2:9"), "{value}");
    assert!(refusal.contains("upgrade refused"), "{refusal}");
    // A warning has a help too, and is no part of the error's.
    let open = "allow-next-hop = ['0.0.0.0/0']\n";
    file.write(&format!("{open}{good}[admin]\nlisten = ['192.0.2.1:1']\n"));
    let answer = admin.post("/api/v1/upgrade", &json!({}));
    answer.assert_problem(409, "cannot listen on http://");
    let told = answer.json();
    let detail = told["detail"].as_str().expect("what is wrong");
    assert!(detail.contains("help: give the networks"), "{detail}");
    let help = told["help"].as_str().expect("how to mend it");
    assert!(help.starts_with("give another address"), "{help}");
}

#[test]
fn what_cannot_be_read_is_refused_beforehand() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let said = |handed_over: &str| {
        let path = file.folder().join("handed over");
        fs::write(&path, handed_over).expect("a file");
        let mut command = Command::new(program());
        command.arg("check").args(file.args());
        command.arg("--inherits");
        command.stdin(fs::File::open(path).expect("the file"));
        let output = command.output().expect("a check");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    for (text, why) in [
        ("", "EOF"),
        ("{", "EOF"),
        (
            r#"{"format":2}"#,
            "format 2 was handed over, and 3 can be read",
        ),
        (r#"{"format":3}"#, "missing field"),
    ] {
        let (is_good, said) = said(text);
        let why = format!("cannot be read: {why}");
        assert!(!is_good && said.contains(&why), "{text}: {said}");
        assert!(said.contains("help: restart it instead"), "{said}");
    }
}

/// `viaduct run` with these files within a limit of the shell.
fn limited(limit: &str, file: &File) -> Process {
    let mut command = Command::new("sh");
    let script = format!("ulimit {limit}; exec \"$0\" run --health off \"$@\"");
    command
        .args(["-c", &script])
        .arg(program())
        .args(file.args());
    command.env_remove("STATE_DIRECTORY");
    Process::start(command, tempfile::tempdir().expect("a folder"))
}

/// Finds its first line that begins so.
fn said(what: &'static str) -> impl Fn(&str) -> Option<()> {
    move |output| (lines(output, what).len() == 1).then_some(())
}

#[test]
fn more_sockets_than_it_may_open_are_refused_beforehand() {
    let [front] = free_addresses(V4);
    let (peer, caller) = (Peer::new(V4), Peer::new(V4));
    let file = File::new(&config(&[front], 2, &[peer.address()]));
    let mut process = limited("-n 100", &file);
    process.wait_for("line `ready:`", LONG, said("ready:"));
    file.write(&config(&[front], 40, &[peer.address()]));
    process.signal(Signal::USR2);
    process.wait_for(REFUSED, LONG, |output| {
        output.contains("may have 100 files open").then_some(())
    });
    // And what it says mends it.
    let mend = format!("prlimit --pid {} --nofile=", process.id());
    assert!(process.output().contains(&mend), "{}", process.output());
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    peer.receive();
    file.write(&config(&[front], 4, &[peer.address()]));
    process.signal(Signal::USR2);
    process.wait_for("the upgrade", LONG, said("upgraded:"));
}

/// Whatever the machine has: no more than 8 GiB.
#[test]
fn transactions_that_there_is_no_memory_for_are_refused() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4);
    let text = |transactions| {
        let farm = config(&[front], 1, &[peer.address()]);
        format!("stateful = ['INVITE']\ntransactions = {transactions}\n{farm}")
    };
    let too_many = "no memory for 16777216 transactions\n  help: lower --transactions";
    let file = File::new(&text(16_777_216));
    let mut process = limited("-v 8388608", &file);
    let status = process.wait(LONG);
    let output = process.output();
    assert!(
        status.code() == Some(1) && output.contains(too_many),
        "{output}"
    );
    file.write(&text(65_536));
    let mut process = limited("-v 8388608", &file);
    process.wait_for("line `ready:`", LONG, said("ready:"));
    file.write(&text(16_777_216));
    process.signal(Signal::USR2);
    process.wait_for(REFUSED, LONG, |output| {
        output.contains(too_many).then_some(())
    });
    file.write(&text(32_768));
    process.signal(Signal::USR2);
    process.wait_for("the upgrade", LONG, said("upgraded:"));
}

/// systemd ends a service that is silent for `WatchdogSec`. A table, a check and
/// a start may take longer.
#[test]
fn while_it_is_at_work_the_watchdog_bears_its_silence() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let notified = file.folder().join("notified");
    let ear = UnixDatagram::bind(&notified).expect("a socket");
    ear.set_nonblocking(true).expect("a socket");
    let mut command = Command::new(program());
    command.arg("run").args(file.args());
    command.args(["--health", "off"]);
    command.env("NOTIFY_SOCKET", &notified);
    command.env("WATCHDOG_USEC", "10000000");
    command.env_remove("WATCHDOG_PID");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    let hears = |process: &mut Process, wanted: &[&str]| {
        let heard = RefCell::new(String::new());
        process.wait_for(&wanted.join(", "), LONG, |_| {
            let mut octets = [0; 256];
            let mut heard = heard.borrow_mut();
            while let Ok(length) = ear.recv(&mut octets) {
                *heard += &String::from_utf8_lossy(&octets[..length]);
            }
            let is_other = |line: &&str| *line != "WATCHDOG=1" && !line.starts_with("MONOTONIC");
            let lines: Vec<_> = heard.lines().filter(is_other).collect();
            lines.ends_with(wanted).then_some(())
        });
    };
    let (long, usual) = ("WATCHDOG_USEC=300000000", "WATCHDOG_USEC=10000000");
    hears(&mut process, &["READY=1", usual]);
    for signal in [Signal::HUP, Signal::USR2] {
        process.signal(signal);
        hears(&mut process, &[long, "RELOADING=1", "READY=1", usual]);
    }
}

#[test]
fn while_a_check_takes_its_time_the_dead_are_found() {
    let _lock = support::load_lock();
    let servers = [Server::start(), Server::start()];
    let to = servers.each_ref().map(Server::address);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &to));
    let (mut viaduct, program) = start_copy(&file, &["--health", "on"]);
    put_script(&program, "touch \"$0.begun\"; sleep 60; exit 1");
    viaduct.signal(Signal::USR2);
    let begun = file.folder().join("viaduct.begun");
    viaduct.wait_for("a check", |_| begun.exists().then_some(()));
    servers[0].silence();
    let down = format!("{} is down", to[0]);
    let output = viaduct.wait_for(&down, |output| {
        output.contains(&down).then(|| output.to_owned())
    });
    assert!(!output.contains(REFUSED), "only then: {output}");
    viaduct.stop();
}

/// Warnings are no reason to refuse, however many there are.
#[test]
fn a_check_may_have_much_to_say() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4);
    let file = File::new(&config(&[front], 1, &[peer.address()]));
    let mut viaduct = Viaduct::start(&file.args());
    // By a policy that has no slots to give away, which takes longer.
    let sets = (0..200).map(|n| {
        let to = format!("destinations = ['sip:{}']\n", peer.address());
        format!("[[set]]\nname = 'unused-{n}'\npolicy = 'round-robin'\n{to}")
    });
    let sets: String = sets.collect();
    file.write(&(config(&[front], 1, &[peer.address()]) + &sets));
    let mut command = Command::new(program());
    let check = command.arg("check").args(file.args()).output();
    let said = check.expect("an end").stderr.len();
    assert!(said > 16 << 10, "only {said} octets");
    upgrade(&mut viaduct);
    // What is wrong is said at last.
    file.write(
        &(config(
            &[front, "192.0.2.1:5060".parse().expect("an address")],
            1,
            &[peer.address()],
        ) + &sets),
    );
    no_upgrade(&mut viaduct, REFUSED, "no interface has this address");
    viaduct.stop();
}

#[test]
fn of_a_check_that_says_nothing_it_is_told_how_it_ended() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let (mut viaduct, program) = start_copy(&file, &[]);
    put_script(&program, "kill -s KILL $$");
    no_upgrade(&mut viaduct, REFUSED, "nothing (signal: 9 (SIGKILL))");
    put_script(&program, "exit 3");
    no_upgrade(&mut viaduct, REFUSED, "nothing (exit status: 3)");
    put_ours(&program);
    upgrade(&mut viaduct);
    viaduct.stop();
}

#[test]
fn the_end_waits_for_no_check() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let (mut viaduct, program) = start_copy(&file, &[]);
    put_script(
        &program,
        "sleep 600 & echo $! > \"$0.draft\"; mv \"$0.draft\" \"$0.child\"; wait",
    );
    viaduct.signal(Signal::USR2);
    let child = file.folder().join("viaduct.child");
    let child = viaduct.wait_for("a check", |_| fs::read_to_string(&child).ok());
    viaduct.signal(Signal::TERM);
    let output = viaduct.ended();
    assert!(!output.contains("nothing within"), "{output}");
    // Nor does what the check has started stay behind. One that has ended and
    // that nobody has asked for has no arguments.
    let arguments = format!("/proc/{}/cmdline", child.trim());
    wait_until("the end of what it started", || {
        !fs::read(&arguments).is_ok_and(|arguments| !arguments.is_empty())
    });
}

#[test]
fn more_workers_for_an_address_that_is_away_are_refused_beforehand() {
    in_a_network_of_its_own(
        "ip link set lo up && ip address add 192.0.2.1/32 dev lo",
        "where_an_address_is_away",
    );
}

#[test]
fn a_folder_that_has_become_read_only_is_seen_beforehand() {
    in_a_network_of_its_own(
        "ip link set lo up && mount -t tmpfs none /mnt",
        "where_a_folder_is_read_only",
    );
}

fn shell(line: &str) {
    let mut command = Command::new("sh");
    let status = command.args(["-c", line]).status();
    assert!(status.expect("a shell").success(), "{line}");
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_an_address_is_away() {
    let front = "192.0.2.1:5060".parse().expect("an address");
    let text = |workers| config(&[front], workers, &[Peer::new(V4).address()]);
    let file = File::new(&text(1));
    let mut viaduct = Viaduct::start(&file.args());
    shell("ip address del 192.0.2.1/32 dev lo");
    upgrade(&mut viaduct);
    file.write(&text(2));
    no_upgrade(&mut viaduct, REFUSED, "no interface has this address");
    shell("ip address add 192.0.2.1/32 dev lo");
    upgrade(&mut viaduct);
    viaduct.stop();
}

#[test]
#[ignore = "runs with mounts of its own, started by the test above"]
fn where_a_folder_is_read_only() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&[&flag, &path, "--admin", "/mnt/admin.sock"]);
    shell("mount -o remount,ro /mnt");
    no_upgrade(&mut viaduct, REFUSED, "Read-only file system");
    shell("mount -o remount,rw /mnt");
    upgrade(&mut viaduct);
    viaduct.stop();
}
