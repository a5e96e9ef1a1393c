//! SIGUSR2 and `viaduct ctl upgrade`: the program is executed anew, in the
//! same process and with the same sockets, and no datagram notices.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use socket2::{Domain, SockAddr, Socket, Type};

use support::admin;
use support::dialog::{Peer, Request, Scene, response, status};
use support::net::{V4, free_addresses};
use support::process::{Process, Signal};
use support::stateful::{STILL, only};
use support::steady::{self, Steady};
use support::upgrading::{
    File, addresses, config, lines, next_line, no_upgrade, put_ours, put_script, start_copy,
    upgrade,
};
use support::viaduct::Viaduct;
use support::{LONG, wait_until};
use viaduct::transaction::owner::owner;

/// What an upgrade says that does not take place.
const REFUSED: &str = "upgrade refused, all stays as it is";

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

/// Nothing else comes that would wake the worker that is left.
#[test]
fn what_waits_for_a_worker_that_goes_is_sent_at_once() {
    let (farm, caller) = (Peer::new(V4), Peer::new(V4));
    let [front] = free_addresses(V4);
    let text = |workers| config(&[front], workers, &[farm.address()]);
    let file = File::new(&text(2));
    let (mut viaduct, program) = start_copy(&file, &[]);
    file.write(&text(1));
    // The next program takes its time.
    let ours = support::program();
    let go = file.folder().join("go");
    let slow = format!(
        "test $1 = check || read _ <{}; exec {} \"$@\"",
        go.display(),
        ours.display()
    );
    let made = Command::new("mkfifo").arg(&go).status();
    assert!(made.expect("mkfifo runs").success());
    put_script(&program, &slow);
    next_line(&mut viaduct, "ready:", |viaduct| {
        viaduct.signal(Signal::USR2);
        let exe = format!("/proc/{}/exe", viaduct.id());
        let is_script = |exe: PathBuf| !exe.starts_with(file.folder());
        wait_until("the next program", || {
            fs::read_link(&exe).is_ok_and(is_script)
        });
        let mut requests = std::iter::repeat_with(|| Request::new("OPTIONS", caller.address()));
        let request = requests.find(|each| owner(each.call_id.as_bytes(), 2) == 1);
        caller.send(front, request.expect("one of half of them").text());
        fs::write(&go, "\n").expect("who reads");
    });
    farm.receive();
    assert_eq!(viaduct.stop().get("received"), 1);
}

#[test]
fn the_program_is_the_one_that_is_there_by_now() {
    let _lock = support::load_lock();
    let farm = steady::farm(1);
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &addresses(&farm)));
    let (mut viaduct, program) = start_copy(&file, &[]);
    let load = Steady::start(farm, vec![front]);
    let running = || fs::read_link(format!("/proc/{}/exe", viaduct.id())).expect("a program");
    assert_eq!(running(), program);
    put_ours(&program);
    assert_ne!(running(), program, "that one has been deleted");
    upgrade(&mut viaduct);
    let running = fs::read_link(format!("/proc/{}/exe", viaduct.id())).expect("a program");
    assert_eq!(running, program);
    // One that is not there, one that is no program, and one that cannot check.
    fs::remove_file(&program).expect("it was there");
    no_upgrade(
        &mut viaduct,
        REFUSED,
        "check` could not be run: No such file",
    );
    fs::write(&program, "no program").expect("a file");
    no_upgrade(
        &mut viaduct,
        REFUSED,
        "check` could not be run: Permission denied",
    );
    put_script(&program, "echo 'it is broken' >&2; exit 1");
    no_upgrade(&mut viaduct, REFUSED, "it is broken");
    // One that is no Viaduct, and one that knows no upgrade.
    put_script(&program, "exit 0");
    let no_consent = "check` does not say that it can take over from this version";
    no_upgrade(&mut viaduct, REFUSED, no_consent);
    let ours = support::program();
    let older = format!("shift; exec {} check --inherited \"$@\"", ours.display());
    put_script(&program, &older);
    no_upgrade(&mut viaduct, REFUSED, "unexpected argument");
    // One that goes away between the check and the start.
    put_script(&program, "rm \"$0\"; echo 'takes over: format 3'");
    no_upgrade(
        &mut viaduct,
        "upgrade failed, calls go on without the transactions of before",
        "No such file",
    );
    // And all is as it was: counters, the sockets, the way to upgrade.
    put_ours(&program);
    let said = upgrade(&mut viaduct);
    assert!(said.contains("upgrade 2 of this process"), "{said}");
    load.assert_nothing_lost();
    viaduct.stop();
}

#[test]
fn no_call_waits_for_whoever_takes_lines_of_accounting() {
    const UPGRADES: usize = 3;
    let [front] = free_addresses(V4);
    let (caller, member) = (Peer::new(V4), Peer::new(V4));
    let file = File::new("");
    let path = file.folder().join("biller");
    let biller = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    biller
        .bind(&SockAddr::unix(&path).expect("a path"))
        .expect("a place");
    biller.listen(0).expect("a listener");
    // It accepts nobody, and has room for one.
    let _waiting = UnixStream::connect(&path).expect("a connection");
    let good = config(&[front], 1, &[member.address()]);
    file.write(&format!(
        "stateful = ['OPTIONS']\n{good}[accounting]\nto = 'unix:{}'\n",
        path.display()
    ));
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&[&[flag.as_str(), &path], &STILL[..]].concat());
    let waits = [(); UPGRADES].map(|()| {
        caller.send(front, Request::new("OPTIONS", caller.address()).text());
        member.send(front, response(member.receive(), "200 OK", "t"));
        assert_eq!(status(caller.receive()), 200);
        let said = upgrade(&mut viaduct);
        let waited = said.split_whitespace().rev().nth(3);
        let waited: Option<u64> = waited.and_then(|ms| ms.parse().ok());
        waited.expect("a number")
    });
    // To try the connection once takes a second, each time; a machine that
    // stands still does so for some of them.
    assert!(waits.iter().any(|ms| *ms < 900), "{waits:?}");
    let output = viaduct.output();
    let lost = lines(&output, "counter accounting-dropped 1");
    assert_eq!(lost.len(), UPGRADES, "no line was in the way: {output}");
    viaduct.stop();
}

/// What `viaduct ctl ARGS…` says to the instance at `admin`.
fn ctl(admin: &str, args: &[&str]) -> String {
    let output = admin::ctl(admin, args).output().expect("an answer");
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
    let admin = file.folder().join("admin.sock").display().to_string();
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
fn a_set_that_takes_no_calls_is_told_of_again() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4).address();
    let file = File::new(&config(&[front], 1, &[peer]));
    let admin = file.folder().join("admin.sock").display().to_string();
    let [flag, path] = file.args();
    let mut viaduct = Viaduct::start(&[flag.as_str(), &path, "--admin", &admin]);
    let warnings =
        |output: &str| lines(output, "warning: set farm: no destination is active").len();
    ctl(&admin, &["drain", &peer.to_string()]);
    assert_eq!(warnings(&viaduct.output()), 1);
    upgrade(&mut viaduct);
    assert_eq!(warnings(&viaduct.output()), 2);
    viaduct.stop();
}

#[test]
fn what_an_operator_has_added_and_removed_is_there_once_the_file_has_it() {
    let farm = [Peer::new(V4), Peer::new(V4)];
    let [front] = free_addresses(V4);
    let to = farm.each_ref().map(Peer::address);
    let file = File::new(&config(&[front], 1, &to[..1]));
    let admin = file.folder().join("admin.sock").display().to_string();
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
    let mut command = Command::new(support::program());
    command
        .args(["run", "--listen", &front.to_string()])
        .args(["--to", &peer.address().to_string(), "--health", "off"])
        .env_remove("STATE_DIRECTORY");
    let mut process = Process::start(command, folder);
    let ready = |times| move |output: &str| (lines(output, "ready:").len() == times).then_some(());
    process.wait_for("line `ready:`", LONG, ready(1));
    let caller = Peer::new(V4);
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    let request = peer.receive();
    for number in 2..4 {
        process.signal(Signal::USR2);
        process.wait_for("line `ready:`", LONG, ready(number));
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
    let mut command = Command::new(support::program());
    command.arg("run").args(file.args());
    command.args(["--health", "off"]);
    command.env_remove("STATE_DIRECTORY");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    let ready = |times| move |output: &str| (lines(output, "ready:").len() == times).then_some(());
    process.wait_for("line `ready:`", LONG, ready(1));
    caller.send(front, Request::new("OPTIONS", caller.address()).text());
    let request = peer.receive();
    let path = |name: &str| file.folder().join(name);
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
        process.wait_for("line `ready:`", LONG, ready(number + 2));
        let output = process.output();
        assert_eq!(lines(&output, "secret: ").last(), Some(wanted), "{number}");
        peer.send(front, response(&request, "200 OK", "t"));
        assert_eq!(status(caller.receive()), 200);
        assert_eq!(*first.get_or_insert_with(secret), secret());
    }
    // The one that shall take its place may come to know.
    let both = format!("{}{}", secret(), "5".repeat(64));
    fs::write(path("secret"), both).expect("a file");
    file.write(&with("secret"));
    process.signal(Signal::USR2);
    process.wait_for("line `ready:`", LONG, ready(6));
    let output = process.output();
    let wanted = format!("{found}; the signatures of the other one in it are accepted, too");
    assert_eq!(lines(&output, "secret: ").last(), Some(&&*wanted));
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
        process.wait_for(wanted, LONG, |output| output.contains(wanted).then_some(()));
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
    // The wait for the upgrade's check takes as many replies as it takes time.
    let mut scene = Scene::still(1, &["--reply-rate", "1000000"]);
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
        let mut command = Command::new(support::program());
        command
            .args(["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"])
            .args(["--health", "off"])
            .env("VIADUCT_INHERITED", value)
            .env_remove("STATE_DIRECTORY");
        let folder = tempfile::tempdir().expect("a folder");
        let mut process = Process::start(command, folder);
        let warning = format!("warning: VIADUCT_INHERITED={value}: ");
        process.wait_for("line `ready:`", LONG, |output| {
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
