//! SIGUSR2 and `viaduct ctl upgrade`: the program is executed anew, in the
//! same process and with the same sockets, and no datagram notices.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};
use tempfile::TempDir;

use support::dialog::{Peer, Request, Scene, response, status};
use support::net::{V4, free_addresses};
use support::process::{Process, Signal};
use support::servers::Server;
use support::stateful::{STILL, only};
use support::steady::{self, Steady};
use support::viaduct::Viaduct;

const PATIENCE: Duration = Duration::from_secs(15);
const PROGRAM: &str = env!("CARGO_BIN_EXE_viaduct");
/// What an upgrade says that does not take place.
const REFUSED: &str = "upgrade refused, all stays as it is";

/// A configuration in a file.
struct File {
    folder: TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self {
            folder: tempfile::tempdir().expect("a folder"),
        };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("v.toml")
    }

    fn write(&self, text: &str) {
        fs::write(self.path(), text).expect("the file");
    }

    fn args(&self) -> [String; 2] {
        ["--config".to_owned(), self.path().display().to_string()]
    }
}

fn config(listen: &[SocketAddr], workers: usize, to: &[SocketAddr]) -> String {
    let list = |all: &[SocketAddr], start: &str| {
        let each = all.iter().map(|each| format!("'{start}{each}'"));
        each.collect::<Vec<_>>().join(", ")
    };
    format!(
        "listen = [{}]\nworkers = {workers}\n[[set]]\nname = 'farm'\ndestinations = [{}]\n",
        list(listen, ""),
        list(to, "sip:")
    )
}

fn addresses(farm: &[std::net::UdpSocket]) -> Vec<SocketAddr> {
    let address = |socket: &std::net::UdpSocket| socket.local_addr().expect("an address");
    farm.iter().map(address).collect()
}

/// The lines that begin so, of all that it wrote.
fn lines<'o>(output: &'o str, start: &str) -> Vec<&'o str> {
    let lines = output.split_inclusive('\n');
    lines
        .filter(|line| line.starts_with(start) && line.ends_with('\n'))
        .map(str::trim_end)
        .collect()
}

/// Waits for one more such line.
fn next_line(viaduct: &mut Viaduct, start: &str, act: impl FnOnce(&Viaduct)) -> String {
    let before = lines(&viaduct.output(), start).len();
    act(viaduct);
    viaduct.wait_for(start, |output| {
        lines(output, start)
            .get(before)
            .map(|line| (*line).to_owned())
    })
}

/// Upgrades by SIGUSR2, and waits until it is ready again; what is said of it.
fn upgrade(viaduct: &mut Viaduct) -> String {
    next_line(viaduct, "ready:", |viaduct| viaduct.signal(Signal::USR2));
    let output = viaduct.output();
    lines(&output, "upgraded:")
        .pop()
        .expect("it says so")
        .to_owned()
}

/// Has an upgrade refused or fail, for a reason that it gives.
#[track_caller]
fn no_upgrade(viaduct: &mut Viaduct, start: &str, reason: &str) {
    let before = viaduct.output().len();
    viaduct.signal(Signal::USR2);
    let said = viaduct.wait_for(reason, |output| {
        let said = &output[before..];
        let whole = said.contains(start) && said.contains(reason);
        whole.then(|| said.to_owned())
    });
    assert!(!said.contains("upgraded:"), "{said}");
}

/// The sockets of the process that are bound to UDP ports.
fn udp_sockets(viaduct: &Viaduct) -> BTreeSet<String> {
    let folder = format!("/proc/{}", viaduct.id());
    let table = fs::read_to_string(format!("{folder}/net/udp")).expect("the kernel's table");
    let inodes: BTreeSet<_> = table
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(9))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    let fds = fs::read_dir(format!("{folder}/fd")).expect("its descriptors");
    fds.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .map(|link| link.display().to_string())
        .filter(|link| inodes.contains(link))
        .collect()
}

/// Puts a copy of `from` in the place of a program. Another process writes it:
/// what this one has open for writing, a child that is being started has too,
/// and nobody can execute it meanwhile.
fn put(from: &Path, program: &Path) {
    let draft = program.with_extension("draft");
    let mut command = Command::new("install");
    let status = command.args(["-m", "755"]).arg(from).arg(&draft).status();
    assert!(status.expect("install").success());
    fs::rename(&draft, program).expect("another file in its place");
}

/// The same with a script of these lines.
fn put_script(program: &Path, lines: &str) {
    let text = program.with_extension("text");
    fs::write(&text, format!("#!/bin/sh\n{lines}\n")).expect("a script");
    put(&text, program);
}

#[test]
fn twenty_upgrades_and_a_hundred_reloads_lose_nothing() {
    let _lock = support::load_lock();
    let farm = steady::farm(1);
    let listen = "127.0.0.1:0".parse().expect("an address");
    let file = File::new(&config(&[listen], 2, &addresses(&farm)));
    let mut viaduct = Viaduct::start(&file.args());
    let (id, sockets) = (viaduct.id(), udp_sockets(&viaduct));
    assert_eq!(sockets.len(), 2, "{sockets:?}");
    let load = Steady::start(farm, vec![viaduct.address(0)]);
    for number in 1..=20 {
        // The reload waits for the upgrade, wherever that is.
        next_line(&mut viaduct, "reloaded:", |viaduct| {
            viaduct.signal(Signal::USR2);
            viaduct.signal(Signal::HUP);
        });
        for _ in 1..5 {
            next_line(&mut viaduct, "reloaded:", |viaduct| {
                viaduct.signal(Signal::HUP)
            });
        }
        let said = viaduct.wait_for("the upgrade", |output| {
            let said = lines(output, "upgraded:");
            (said.len() == number).then(|| said.last().map(ToString::to_string))
        });
        let wanted = format!("upgrade {number} of this process; sockets: 2 kept, 0 new, 0 closed;");
        assert!(said.is_some_and(|said| said.contains(&wanted)));
        // So that the load is there before, while and after each.
        load.wait_for(number * 400);
    }
    load.assert_nothing_lost();
    assert_eq!(viaduct.id(), id);
    assert_eq!(udp_sockets(&viaduct), sockets, "the very same sockets");
    let output = viaduct.output();
    assert_eq!(lines(&output, "reloaded:").len(), 100);
    let listening: BTreeSet<_> = lines(&output, "listening on").into_iter().collect();
    assert_eq!(listening.len(), 1, "{listening:?}");
    viaduct.stop();
}

/// Two workers, and what a call has comes to either: half of it is handed
/// over, and has a transaction that is lost.
#[test]
fn what_workers_hand_over_and_what_is_stateful_is_not_lost_either() {
    let _lock = support::load_lock();
    let farm = steady::farm(2);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 2, &addresses(&farm)));
    let [flag, path] = file.args();
    let stateful = ["--stateful", "OPTIONS", "--steer", "source"];
    let args = [&[flag.as_str(), &path], &stateful[..], &STILL].concat();
    let mut viaduct = Viaduct::start(&args);
    let load = Steady::start(farm, vec![front]);
    for _ in 0..8 {
        upgrade(&mut viaduct);
    }
    load.assert_nothing_lost();
    let counters = viaduct.counters();
    assert!(counters.get("handed-over") > 0, "{counters:?}");
    assert!(counters.get("transactions-begun") > 0, "{counters:?}");
    viaduct.stop();
}

#[test]
fn workers_and_listeners_come_and_go_without_loss() {
    let _lock = support::load_lock();
    let farm = steady::farm(1);
    let to = addresses(&farm);
    let [front, second] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &to));
    let mut viaduct = Viaduct::start(&file.args());
    let load = Steady::start(farm, vec![front]);
    let steps: [(usize, &[SocketAddr], &str); 5] = [
        (2, &[front], "1 kept, 1 new, 0 closed"),
        (3, &[front, second], "2 kept, 4 new, 0 closed"),
        (2, &[front, second], "4 kept, 0 new, 2 closed"),
        (1, &[front], "1 kept, 0 new, 3 closed"),
        (2, &[front], "1 kept, 1 new, 0 closed"),
    ];
    for (workers, listen, wanted) in steps {
        file.write(&config(listen, workers, &to));
        let refused = next_line(&mut viaduct, "error: reload refused", |viaduct| {
            viaduct.signal(Signal::HUP);
        });
        assert!(
            refused.contains("only an upgrade or a restart can change"),
            "{refused}"
        );
        let said = upgrade(&mut viaduct);
        assert!(said.contains(wanted), "{said}, not {wanted}");
        if listen.contains(&second) {
            let caller = Peer::new(V4);
            let request = Request::new("OPTIONS", caller.address());
            // It does not go anywhere, which it is told.
            caller.send(second, request.max_forwards("Max-Forwards: 0").text());
            assert_eq!(status(caller.receive()), 483);
        }
    }
    load.assert_nothing_lost();
    viaduct.stop();
}

#[test]
fn the_program_is_the_one_that_is_there_by_now() {
    let _lock = support::load_lock();
    let farm = steady::farm(1);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &addresses(&farm)));
    let program = file.folder.path().join("viaduct");
    put(Path::new(PROGRAM), &program);
    let mut viaduct = Viaduct::start_program(&program, &file.args());
    let load = Steady::start(farm, vec![front]);
    let running = || fs::read_link(format!("/proc/{}/exe", viaduct.id())).expect("a program");
    assert_eq!(running(), program);
    put(Path::new(PROGRAM), &program);
    assert_ne!(running(), program, "that one has been deleted");
    upgrade(&mut viaduct);
    let running = fs::read_link(format!("/proc/{}/exe", viaduct.id())).expect("a program");
    assert_eq!(running, program);
    // One that cannot even check.
    put_script(&program, "echo 'it is broken' >&2; exit 1");
    no_upgrade(&mut viaduct, REFUSED, "it is broken");
    // One that is no Viaduct, and one that knows no upgrade.
    put_script(&program, "exit 0");
    no_upgrade(&mut viaduct, REFUSED, "not that it can take over");
    put_script(
        &program,
        &format!("shift; exec {PROGRAM} check --inherited \"$@\""),
    );
    no_upgrade(&mut viaduct, REFUSED, "unexpected argument");
    // One that goes away between the check and the start.
    put_script(&program, "rm \"$0\"; echo 'takes over: format 1'");
    no_upgrade(
        &mut viaduct,
        "upgrade failed, all goes on as before",
        "No such file",
    );
    // And all is as it was: counters, the sockets, the way to upgrade.
    put(Path::new(PROGRAM), &program);
    let said = upgrade(&mut viaduct);
    assert!(said.contains("upgrade 2 of this process"), "{said}");
    load.assert_nothing_lost();
    viaduct.stop();
}

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
        ("workers = 'many'".to_owned(), "v.toml:1:"),
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
fn what_cannot_be_read_is_refused_beforehand() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let said = |handed_over: &str| {
        let path = file.folder.path().join("handed over");
        fs::write(&path, handed_over).expect("a file");
        let mut command = Command::new(PROGRAM);
        command.arg("check").args(file.args());
        command.args(["--inherits", "1", "--held", &front.to_string()]);
        command.stdin(fs::File::open(path).expect("the file"));
        let output = command.output().expect("a check");
        let said = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        )
    };
    for text in [
        "{",
        "{\"format\":2}",
        "{\"format\":1,\"upgrades\":\"many\"}",
    ] {
        let (is_good, said) = said(text);
        assert!(
            !is_good && said.contains("cannot be read"),
            "{text}: {said}"
        );
        assert!(said.contains("help: restart it instead"), "{said}");
    }
    // An instance of before does not say.
    let (is_good, said) = said("");
    assert!(is_good && said.contains("takes over: format 1"), "{said}");
}

#[test]
fn more_sockets_than_it_may_open_are_refused_beforehand() {
    let [front] = free_addresses(V4);
    let (peer, caller) = (Peer::new(V4), Peer::new(V4));
    let file = File::new(&config(&[front], 2, &[peer.address()]));
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 100; exec \"$0\" run --health off \"$@\""])
        .arg(PROGRAM)
        .args(file.args())
        .env_remove("STATE_DIRECTORY");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    let said =
        |what: &'static str| move |output: &str| (lines(output, what).len() == 1).then_some(());
    process.wait_for("line `ready:`", PATIENCE, said("ready:"));
    file.write(&config(&[front], 40, &[peer.address()]));
    process.signal(Signal::USR2);
    process.wait_for(REFUSED, PATIENCE, |output| {
        output.contains("may have 100 files open").then_some(())
    });
    // And what it says mends it.
    let mend = format!("prlimit --pid {} --nofile=", process.id());
    assert!(process.output().contains(&mend), "{}", process.output());
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    peer.receive();
    file.write(&config(&[front], 4, &[peer.address()]));
    process.signal(Signal::USR2);
    process.wait_for("the upgrade", PATIENCE, said("upgraded:"));
}

#[test]
fn no_call_waits_for_whoever_takes_lines_of_accounting() {
    let [front] = free_addresses(V4);
    let file = File::new("");
    let path = file.folder.path().join("biller");
    let biller = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    biller
        .bind(&SockAddr::unix(&path).expect("a path"))
        .expect("a place");
    biller.listen(0).expect("a listener");
    // It accepts nobody, and has room for one.
    let _waiting = UnixStream::connect(&path).expect("a connection");
    let good = config(&[front], 1, &[Peer::new(V4).address()]);
    file.write(&format!(
        "stateful = ['INVITE']\n{good}[accounting]\nto = 'unix:{}'\n",
        path.display()
    ));
    let mut viaduct = Viaduct::start(&file.args());
    let said = upgrade(&mut viaduct);
    let waited = said.split_whitespace().rev().nth(3);
    let waited: u64 = waited.and_then(|ms| ms.parse().ok()).expect("a number");
    assert!(waited < 900, "{said}");
    viaduct.stop();
}

/// systemd ends a service that is silent for `WatchdogSec`.
#[test]
fn while_a_check_takes_its_time_the_watchdog_hears_of_it() {
    let peer = Peer::new(V4);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[peer.address()]));
    let program = file.folder.path().join("viaduct");
    put(Path::new(PROGRAM), &program);
    let notified = file.folder.path().join("notified");
    let ear = UnixDatagram::bind(&notified).expect("a socket");
    ear.set_nonblocking(true).expect("a socket");
    // Ten datagrams fill it, and then who tells more waits until it is read.
    let hear = || {
        let mut octets = [0; 64];
        let length = ear.recv(&mut octets).ok()?;
        Some(octets[..length].to_vec())
    };
    let empty = || while hear().is_some() {};
    let mut command = Command::new(&program);
    command.arg("run").args(file.args());
    command.env("NOTIFY_SOCKET", &notified);
    let folder = tempfile::tempdir().expect("a folder");
    let mut process = Process::start(command, folder);
    process.wait_for("line `ready:`", PATIENCE, |output| {
        empty();
        output.contains("ready:").then_some(())
    });
    // It waits for the test, but not for one that has failed.
    put_script(
        &program,
        "touch \"$0.begun\"; n=0\n\
         while [ ! -e \"$0.go\" ] && [ $n -lt 200 ]; do n=$((n+1)); sleep 0.05; done\n\
         exit 1",
    );
    process.signal(Signal::USR2);
    let (begun, go) = ("viaduct.begun", "viaduct.go");
    let end = Instant::now() + PATIENCE;
    while !file.folder.path().join(begun).exists() {
        assert!(Instant::now() < end, "no check");
        empty();
        std::thread::sleep(Duration::from_millis(5));
    }
    // What was told before it began is in the socket still.
    empty();
    let sign = process.wait_for("a sign of life", PATIENCE, |_| hear());
    assert_eq!(sign, b"WATCHDOG=1\n");
    fs::write(file.folder.path().join(go), "").expect("a file");
    process.wait_for(REFUSED, PATIENCE, |output| {
        empty();
        output.contains(REFUSED).then_some(())
    });
}

#[test]
fn while_a_check_takes_its_time_the_dead_are_found() {
    let servers = [Server::start(), Server::start()];
    let to = servers.each_ref().map(Server::address);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &to));
    let program = file.folder.path().join("viaduct");
    put(Path::new(PROGRAM), &program);
    let [flag, path] = file.args();
    let args = [flag.as_str(), &path, "--health", "on"];
    let mut viaduct = Viaduct::start_program(&program, &args);
    put_script(&program, "touch \"$0.begun\"; sleep 8; exit 1");
    viaduct.signal(Signal::USR2);
    let begun = file.folder.path().join("viaduct.begun");
    viaduct.wait_for("a check", |_| begun.exists().then_some(()));
    servers[0].silence();
    let down = format!("{} is down", to[0]);
    let output = viaduct.wait_for(&down, |output| {
        output.contains(&down).then(|| output.to_owned())
    });
    assert!(!output.contains(REFUSED), "only then: {output}");
    viaduct.stop();
}

/// What `viaduct ctl ARGS…` says to the instance at `admin`.
fn ctl(admin: &str, args: &[&str]) -> String {
    let mut command = Command::new(PROGRAM);
    let output = command.args(["ctl", "--admin", admin]).args(args).output();
    let output = output.expect("an answer");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    said
}

#[test]
fn what_an_operator_has_changed_stays() {
    let farm = [Peer::new(V4), Peer::new(V4)];
    let [front] = free_addresses(V4);
    let to = farm.each_ref().map(Peer::address);
    let file = File::new(&config(&[front], 1, &to));
    let admin = file.folder.path().join("admin.sock").display().to_string();
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&[flag.as_str(), &path, "--admin", &admin]);
    let ctl = |args: &[&str]| ctl(&admin, args);
    ctl(&["drain", &to[0].to_string()]);
    for _ in 0..2 {
        let mut said = String::new();
        next_line(&mut viaduct, "ready:", |_| said = ctl(&["upgrade"]));
        assert!(said.contains("upgrading"), "{said}");
        let caller = Peer::new(V4);
        for _ in 0..20 {
            caller.send(front, Request::new("INVITE", caller.address()).text());
            farm[1].receive();
        }
        farm[0].assert_silent();
    }
    assert!(ctl(&["list"]).contains("draining"));
    viaduct.stop();
}

#[test]
fn what_an_operator_has_added_and_removed_is_there_once_the_file_has_it() {
    let farm = [Peer::new(V4), Peer::new(V4)];
    let [front] = free_addresses(V4);
    let to = farm.each_ref().map(Peer::address);
    let file = File::new(&config(&[front], 1, &to[..1]));
    let admin = file.folder.path().join("admin.sock").display().to_string();
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&[flag.as_str(), &path, "--admin", &admin]);
    let other = to[1].to_string();
    ctl(&admin, &["add", "farm", &other]);
    ctl(&admin, &["remove", &other]);
    file.write(&config(&[front], 1, &to));
    upgrade(&mut viaduct);
    let listed = ctl(&admin, &["list"]);
    assert!(listed.contains(&other), "{listed}");
    viaduct.stop();
}

#[test]
fn a_response_finds_its_way_without_a_secret_file() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", "--listen", &front.to_string()])
        .args(["--to", &peer.address().to_string(), "--health", "off"])
        .env_remove("STATE_DIRECTORY");
    let mut process = Process::start(command, folder);
    let ready = |times| move |output: &str| (lines(output, "ready:").len() == times).then_some(());
    process.wait_for("line `ready:`", PATIENCE, ready(1));
    let caller = Peer::new(V4);
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    let request = peer.receive();
    for number in 2..4 {
        process.signal(Signal::USR2);
        process.wait_for("line `ready:`", PATIENCE, ready(number));
    }
    peer.send(front, response(&request, "200 OK", "t"));
    assert_eq!(status(caller.receive()), 200);
    assert!(process.output().contains("secret: taken over"));
}

/// Wherever it is, or is not, by the configuration of the next program.
#[test]
fn the_secret_stays_the_same() {
    let [front] = free_addresses(V4);
    let (peer, caller) = (Peer::new(V4), Peer::new(V4));
    let without = config(&[front], 1, &[peer.address()]);
    let with = |name: &str| format!("secret-file = '{name}'\n{without}");
    let file = File::new(&without);
    let mut command = Command::new(PROGRAM);
    command.arg("run").args(file.args());
    command.args(["--health", "off"]);
    command.env_remove("STATE_DIRECTORY");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    let ready = |times| move |output: &str| (lines(output, "ready:").len() == times).then_some(());
    process.wait_for("line `ready:`", PATIENCE, ready(1));
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    let request = peer.receive();
    let path = |name: &str| file.folder.path().join(name);
    let secret = || fs::read_to_string(path("secret")).expect("the secret");
    let mut first = None;
    let kept = format!(
        "secret: taken over and kept in {}",
        path("secret").display()
    );
    let found = format!("secret: read from {}", path("secret").display());
    for (number, (text, wanted)) in [
        // A place for it is new, has been there, has been emptied, has gone.
        (with("secret"), kept.as_str()),
        (with("secret"), &found),
        (with("secret"), &kept),
        (without.clone(), "secret: taken over"),
    ]
    .iter()
    .enumerate()
    {
        file.write(text);
        if number == 2 {
            fs::remove_file(path("secret")).expect("the secret");
        }
        process.signal(Signal::USR2);
        process.wait_for("line `ready:`", PATIENCE, ready(number + 2));
        let output = process.output();
        assert_eq!(lines(&output, "secret: ").last(), Some(wanted), "{number}");
        peer.send(front, response(&request, "200 OK", "t"));
        assert_eq!(status(caller.receive()), 200);
        assert_eq!(*first.get_or_insert_with(secret), secret());
    }
    // Another one, and none that could be written; a check writes none either.
    fs::write(path("other"), "5".repeat(64)).expect("a file");
    let elsewhere: SocketAddr = "192.0.2.1:5060".parse().expect("an address");
    let unbound = config(&[front, elsewhere], 1, &[peer.address()]);
    for (text, wanted) in [
        (with("other"), "another secret than the running instance"),
        (with("no/where"), "the folder must exist"),
        (
            format!("secret-file = 'new'\n{unbound}"),
            "no interface has",
        ),
    ] {
        file.write(&text);
        process.signal(Signal::USR2);
        process.wait_for(wanted, PATIENCE, |output| {
            output.contains(wanted).then_some(())
        });
    }
    assert!(!path("new").exists(), "made by a check");
    peer.send(front, response(&request, "200 OK", "t"));
    assert_eq!(status(caller.receive()), 200);
}

#[test]
fn a_call_that_rings_is_answered_after_an_upgrade() {
    let mut scene = Scene::still(2, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    upgrade(&mut scene.viaduct);
    scene.says(&leg, "200 OK");
    let answer = scene.hears(200);
    let ack = Request::new("ACK", scene.caller.address())
        .call_id(&call.call_id)
        .from(&call.from)
        .to(only(&answer, "to"))
        .uri(format!("sip:desk@{}", scene.farm[leg.member].address()));
    scene.send(ack.text());
    scene.gets(&leg, "ACK");
    // One that is cancelled reaches the same member.
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    upgrade(&mut scene.viaduct);
    scene.send(call.method("CANCEL").text());
    let cancel = scene.gets(&leg, "CANCEL");
    scene.says(&cancel, "200 OK");
    scene.hears(200);
    scene.says(&leg, "487 Request Terminated");
    let failure = scene.hears(487);
    scene.acknowledge(&call, &failure);
    scene.gets(&leg, "ACK");
}

#[test]
fn a_call_that_nobody_has_answered_is_waited_for() {
    let mut scene = Scene::still(1, &[]);
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.viaduct.signal(Signal::USR2);
    // Until it has been answered, new calls go on without a transaction: no
    // 100 is heard.
    loop {
        let other = scene.request("INVITE");
        scene.send(other.text());
        let at_member = scene.next_leg();
        scene.sync();
        if scene.caller.poll().is_none() {
            break;
        }
        scene.fails_at(&other, &at_member, "486 Busy Here", 486);
    }
    assert!(!scene.viaduct.output().contains("upgrading:"));
    scene.says(&leg, "180 Ringing");
    scene.hears(180);
    let ready = |output: &str| (lines(output, "ready:").len() == 2).then_some(());
    scene.viaduct.wait_for("line `ready:`", ready);
    scene.says(&leg, "200 OK");
    scene.hears(200);
}

#[test]
fn a_variable_that_lies_is_warned_of() {
    for value in [
        "", "nonsense", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "999",
    ] {
        let mut command = Command::new(PROGRAM);
        command
            .args(["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"])
            .args(["--health", "off"])
            .env("VIADUCT_INHERITED", value)
            .env_remove("STATE_DIRECTORY");
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = Process::start(command, folder);
        let warning = format!("warning: VIADUCT_INHERITED={value}: ");
        process.wait_for("line `ready:`", PATIENCE, |output| {
            (lines(output, "ready:").len() == 1).then_some(())
        });
        let output = process.output();
        let said = lines(&output, &warning);
        assert!(
            said.len() == 1 && said[0].ends_with("all starts anew"),
            "{output}"
        );
    }
}
