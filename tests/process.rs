//! `viaduct run` as a process: how it starts or refuses to, where it keeps
//! its secret, what it tells, how it ends; and workers side by side.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use support::LONG;
use support::dialog::{Peer, Request, Scene, assert_octets, read, response};
use support::net::{V4, V6, free_addresses};
use support::process::{Process, Signal};
use support::viaduct::Viaduct;
use support::wait_until;

const TO: [&str; 2] = ["--to", "127.0.0.1:9"];
const LISTEN: [&str; 2] = ["--listen", "127.0.0.1:0"];

/// `viaduct run` with just these arguments and variables.
fn run(args: &[&str], variables: &[(&str, &str)]) -> Process {
    let mut command = Command::new(support::program());
    command.arg("run").args(args).env_remove("STATE_DIRECTORY");
    command.env("VIADUCT_HEALTH", "off");
    command.envs(variables.iter().copied());
    Process::start(command, tempfile::tempdir().expect("a folder"))
}

/// The same, once it is ready; and the facts of its start.
fn ready(args: &[&str], variables: &[(&str, &str)]) -> (Process, String) {
    let mut process = run(args, variables);
    let facts = process.wait_for("line `ready:`", LONG, |output| {
        let end = output.find("ready:")?;
        output[end..]
            .contains('\n')
            .then(|| output[..end].to_owned())
    });
    (process, facts)
}

/// What it says when it refuses to start.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let mut process = run(args, &[]);
    let status = process.wait(LONG);
    assert_eq!(status.code(), Some(1), "{}", process.output());
    process.output()
}

#[track_caller]
fn assert_says(output: &str, wanted: &[&str]) {
    for text in wanted {
        assert!(output.contains(text), "no `{text}` in:\n{output}");
    }
}

/// Arguments for a plain start with the secret in `path`.
fn with_secret(path: &Path) -> Vec<&str> {
    let path = path.to_str().expect("text");
    [&LISTEN[..], &TO, &["--secret-file", path]].concat()
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_secret_file_is_made_for_its_owner_alone_and_read_again() {
    let folder = folder();
    let path = folder.path().join("secret");
    let (process, facts) = ready(&with_secret(&path), &[]);
    assert_says(
        &facts,
        &[&format!("secret: made and kept in {}", path.display())],
    );
    assert!(!facts.contains("warning: others"));
    let text = fs::read_to_string(&path).expect("the secret");
    assert_eq!(text.len(), 65);
    assert!(text.trim_end().bytes().all(|b| b.is_ascii_hexdigit()));
    let mode = fs::metadata(&path)
        .expect("the secret")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(process);
    let (_process, facts) = ready(&with_secret(&path), &[]);
    assert_says(&facts, &[&format!("secret: read from {}", path.display())]);
    assert_eq!(fs::read_to_string(&path).expect("the secret"), text);
    assert_eq!(
        fs::read_dir(folder.path()).expect("the folder").count(),
        1,
        "a draft is left"
    );
    // It is never shown.
    assert!(!facts.contains(text.trim_end()));
}

#[test]
fn two_secrets_are_never_alike() {
    let folder = folder();
    let made = ["one", "two"].map(|name| {
        let path = folder.path().join(name);
        drop(ready(&with_secret(&path), &[]));
        fs::read_to_string(path).expect("the secret")
    });
    assert_ne!(made[0], made[1]);
}

#[test]
fn instances_that_start_at_once_share_one_secret() {
    let folder = folder();
    let path = folder.path().join("secret");
    let mut instances: Vec<Process> = (0..4).map(|_| run(&with_secret(&path), &[])).collect();
    let made = instances
        .iter_mut()
        .map(|process| {
            process.wait_for("line `ready:`", LONG, |output| {
                output.contains("ready:").then(|| output.to_owned())
            })
        })
        .filter(|output| output.contains("secret: made"))
        .count();
    assert_eq!(made, 1);
}

#[test]
fn a_secret_that_others_may_read_is_warned_of() {
    let folder = folder();
    let path = folder.path().join("secret");
    let file = path.display();
    let warning =
        format!("\nwarning: secret file {file}: others may read it; mend: chmod o= {file}\n");
    fs::write(&path, "5".repeat(64)).expect("a file");
    for (mode, warned_of) in [(0o644, true), (0o602, true), (0o440, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let (_process, facts) = ready(&with_secret(&path), &[]);
        assert_eq!(facts.contains(&warning), warned_of, "{mode:o}: {facts}");
    }
}

#[test]
fn a_token_that_others_may_read_is_warned_of() {
    let folder = folder();
    let path = folder.path().join("token");
    fs::write(&path, "open sesame, please\n").expect("a file");
    let token = path.to_str().expect("text");
    let admin = ["--admin-listen", "127.0.0.1:0", "--admin-token-file", token];
    let args: Vec<_> = [LISTEN, TO].concat().into_iter().chain(admin).collect();
    let wanted = format!("warning: token file {token}: others may read it; mend: chmod o= {token}");
    for (mode, warned_of) in [(0o644, true), (0o640, false)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("a mode");
        let (_process, facts) = ready(&args, &[]);
        assert_eq!(facts.contains(&wanted), warned_of, "{mode:o}: {facts}");
    }
}

#[test]
fn without_a_place_for_the_secret_there_is_a_warning() {
    let (_process, facts) = ready(&[LISTEN, TO].concat(), &[]);
    assert_says(
        &facts,
        &[
            "secret: made for this run\n",
            "\nwarning: without a secret file calls in set-up break at a restart",
            "mend: --secret-file PATH",
        ],
    );
}

#[test]
fn systemd_says_where_the_secret_is_kept() {
    let folder = folder();
    let state = folder.path().to_str().expect("text");
    for list in [state.to_owned(), format!("{state}:/nonexistent")] {
        let (_process, facts) = ready(&[LISTEN, TO].concat(), &[("STATE_DIRECTORY", &list)]);
        assert_says(&facts, &[&format!("{state}/secret")]);
    }
    assert!(folder.path().join("secret").exists());
}

#[test]
fn a_secret_file_with_something_else_in_it_is_an_error() {
    let folder = folder();
    let path = folder.path().join("secret");
    let refused = |line, octets: &[u8]| {
        fs::write(&path, octets).expect("a file");
        let said = refusal(&with_secret(&path));
        let file = path.display();
        let what = format!("{file}:{line}:1: a secret is 64 hexadecimal digits");
        assert_says(&said, &[&what, "help: "]);
        let kept = fs::read(&path).expect("the file");
        assert_eq!(kept, octets, "never overwritten");
    };
    let sound = "0".repeat(64);
    for (line, text) in [
        (1, ""),
        (1, "\n"),
        (1, "00"),
        (1, &"0".repeat(63)),
        (1, &"0".repeat(65)),
        (1, &"g".repeat(64)),
        (1, &format!("{}\n{}", "0".repeat(32), "0".repeat(32))),
        (1, "\u{e9}"),
        (2, &format!("{sound}\n{}", "0".repeat(63))),
        (2, &format!("{sound}\n\n{sound}")),
        (3, &[&sound[..]; 3].join("\n")),
    ] {
        refused(line, text.as_bytes());
    }
    refused(1, &[0xe9; 32]);
}

#[test]
fn a_secret_that_cannot_be_kept_is_an_error() {
    let folder = folder();
    let path = folder.path().join("nowhere/secret");
    assert_says(
        &refusal(&with_secret(&path)),
        &[&path.display().to_string(), "help: the folder must exist"],
    );
}

#[test]
fn a_wildcard_listener_serves_by_what_it_advertises() {
    let scene = {
        let farm = Peer::new(V4);
        let args = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1", "--to"].map(str::to_owned);
        let args = [&args[..], &[farm.address().to_string()]].concat();
        Scene::with(vec![farm], &args, &[])
    };
    let port = scene.viaduct.address(0).port();
    for ip in [[127, 0, 0, 1], [127, 0, 0, 17]] {
        let request = scene.request("INVITE").text();
        scene.caller.send(SocketAddr::from((ip, port)), &request);
        let got = scene.farm[0].receive();
        let via = String::from_utf8(read(&got).vias[0].clone()).expect("text");
        assert!(
            via.starts_with(&format!("SIP/2.0/UDP 127.0.0.1:{port};")),
            "{via}"
        );
        let answer = response(&got, "200 OK", "t");
        scene.farm[0].send(SocketAddr::from(([127, 0, 0, 1], port)), &answer);
        assert_eq!(read(scene.caller.receive()).call_id, read(&request).call_id);
    }
}

/// It cannot know the addresses of the machine, and sends itself what is allowed
/// to go to one of them; but that comes back once, and not for each hop.
#[test]
fn what_a_wildcard_listener_sends_itself_ends_there() {
    let farm = Peer::new(V4);
    let member = farm.address().to_string();
    let args = ["--listen", "0.0.0.0:0", "--advertise", "127.0.0.1", "--to"];
    let allow = ["--allow-next-hop", "127.0.0.17"];
    let args = [&args[..], &[&member], &allow].concat();
    let args: Vec<_> = args.into_iter().map(str::to_owned).collect();
    let mut scene = Scene::with(vec![farm], &args, &[]);
    let uri = format!("sip:a@127.0.0.17:{}", scene.viaduct.address(0).port());
    scene.send(scene.request("OPTIONS").uri(uri).text());
    scene.assert_counter("drop-bad-source", 1);
    scene.assert_counter("requests-forwarded", 1);
    scene.caller.assert_silent();
}

#[test]
fn an_address_that_another_program_holds_is_an_error() {
    for (ip, to) in [(V4, "127.0.0.1:9"), (V6, "[::1]:9")] {
        let held = UdpSocket::bind((ip, 0)).expect("a socket");
        let address = held.local_addr().expect("its address").to_string();
        let said = refusal(&["--listen", &address, "--to", to]);
        assert_says(
            &said,
            &[
                &format!("cannot listen on udp:{address}: "),
                "help: another program holds it",
            ],
        );
        assert!(!said.contains("ready:"));
    }
}

#[test]
fn two_instances_do_not_share_an_address() {
    let first = Viaduct::start(&[&LISTEN[..], &TO, &["--workers", "2"]].concat());
    let address = first.address(0).to_string();
    let said = refusal(&[&["--listen", &address][..], &TO].concat());
    assert_says(&said, &[&format!("cannot listen on udp:{address}: ")]);
    first.stop();
}

/// The kernel takes its time to bind the second socket of one of them.
#[test]
fn nor_do_two_that_start_at_once() {
    let [address] = free_addresses(V4);
    let listen = ["--listen", &address.to_string(), "--workers", "2"].map(str::to_owned);
    let mut command = Command::new("strace");
    // The child is the program, and not who traces it, or it would be left behind.
    command.args(["-D", "-e", "trace=bind", "-e"]);
    command.arg("inject=bind:delay_enter=2s:when=2");
    command
        .arg(support::program())
        .arg("run")
        .args(&listen)
        .args(TO);
    command.env("VIADUCT_HEALTH", "off");
    let mut slow = Process::start(command, folder());
    slow.wait_for("its first socket", LONG, |output| {
        output.contains("= 0\n").then_some(())
    });
    let other = run(
        &[&listen.each_ref().map(String::as_str)[..], &TO].concat(),
        &[],
    );
    let mut are_ready = [&other, &slow].map(|process| {
        let said = |text| process.output().contains(text);
        wait_until("an outcome", || said("ready:") || said("cannot listen on"));
        said("ready:")
    });
    are_ready.sort_unstable();
    assert_eq!(are_ready, [false, true], "{}", slow.output());
}

#[test]
fn an_address_that_the_machine_has_not_is_an_error() {
    for (address, to, family) in [
        ("203.0.113.77:5060", "127.0.0.1:9", "ipv4"),
        ("[2001:db8::77]:5060", "[::1]:9", "ipv6"),
    ] {
        let said = refusal(&["--listen", address, "--to", to]);
        assert_says(
            &said,
            &[
                &format!("cannot listen on udp:{address}"),
                "help: no interface has this address",
                &format!("sysctl net.{family}.ip_nonlocal_bind=1"),
            ],
        );
    }
}

#[test]
fn it_ends_cleanly_on_sigterm_and_sigint() {
    for signal in [Signal::TERM, Signal::INT] {
        let (mut process, _) = ready(&[&LISTEN[..], &TO, &["--workers", "2"]].concat(), &[]);
        process.signal(signal);
        assert_eq!(process.wait(LONG).code(), Some(0));
        assert_says(
            &process.output(),
            &[
                "\ncounter received 0\n",
                "\ncounter to-default-127.0.0.1:9 0\n",
            ],
        );
    }
}

#[test]
fn sigusr1_prints_counters_and_nothing_stops() {
    let mut scene = Scene::new(2, &[]);
    for count in 1..=3 {
        let (_, got) = scene.pass(scene.request("INVITE").text());
        assert_eq!(scene.viaduct.counter("requests-forwarded"), count);
        drop(got);
    }
    scene.send("\r\n\r\n");
    scene.fence();
    scene.assert_counter("drop-keep-alive", 1);
    let counters = scene.viaduct.stop();
    assert_eq!(counters.get("received"), 5);
    assert_eq!(counters.get("requests-forwarded"), 4);
    assert_eq!(counters.get("responses-forwarded"), 0);
    let members = scene
        .farm
        .iter()
        .map(|member| counters.get(&format!("to-default-{}", member.address())));
    assert_eq!(members.sum::<u64>(), 4);
}

#[test]
fn the_facts_of_the_start() {
    let limit: usize = fs::read_to_string("/proc/sys/net/core/rmem_max")
        .expect("the limit")
        .trim()
        .parse()
        .expect("a number");
    let (_process, facts) = ready(
        &[
            "--listen",
            "127.0.0.1:0",
            "--listen",
            "[::1]:0",
            "--to",
            "127.0.0.1:9",
            "--to",
            "127.0.0.1:10",
            "--workers",
            "2",
            "--pin",
            "off",
            "--batch",
            "8",
            "--receive-buffer",
            "1GiB",
            "--send-buffer",
            "64KiB",
            "--stateful",
            "INVITE,BYE",
            "--transactions",
            "1000",
            "--accounting",
            "stdout",
            "--accounting-method",
            "BYE",
            "--mirror",
            "127.0.0.1",
            "--mirror-sample",
            "12.5%",
        ],
        &[],
    );
    assert!(
        limit < 1 << 30,
        "the test wants to ask for more than the kernel grants"
    );
    assert_says(
        &facts,
        &[
            "listening on udp:127.0.0.1:",
            "listening on udp:[::1]:",
            &format!("receive buffer: {limit} octets"),
            &format!(
                "\nwarning: receive buffer: {limit} octets granted of 1073741824; mend: sysctl -w \
                 net.core.rmem_max=1073741824\n"
            ),
            "send buffer: 65536 octets",
            "workers: 2, not pinned, batches of 8",
            "stateful: INVITE, BYE, at most 1000 transactions",
            "accounting: BYE to stdout",
            "mirror: 12.5% of calls to 127.0.0.1:9060 by HEP",
            "set default: 2 destinations, policy hash",
        ],
    );
    assert!(!facts.contains(":0\n"), "the real port is told:\n{facts}");
}

#[test]
fn a_listener_of_ipv6_alone() {
    let farm = Peer::new(V6);
    let args = [
        "--listen".to_owned(),
        "[::1]:0".into(),
        "--to".into(),
        farm.address().to_string(),
    ];
    let viaduct = Viaduct::start(&args);
    let caller = Peer::new(V6);
    let request = Request::new("INVITE", caller.address()).text();
    caller.send(viaduct.address(0), &request);
    let (got, source) = farm.receive_from();
    assert_eq!(source, viaduct.address(0));
    farm.send(source, response(&got, "200 OK", "t"));
    assert_eq!(read(caller.receive()).call_id, read(&request).call_id);
}

/// Calls by 200 callers at a time, each at an address of its own.
#[test]
fn two_thousand_sources_all_get_their_responses() {
    let scene = Scene::new(4, &["--workers", "2"]);
    for network in 0..10 {
        let callers: Vec<(Peer, Request)> = (1..=200)
            .map(|host| {
                let caller = Peer::at(([127, 20, network, host], 0).into());
                let request = Request::new("INVITE", caller.address());
                (caller, request)
            })
            .collect();
        for (caller, request) in &callers {
            caller.send(scene.front(), request.text());
        }
        for _ in &callers {
            let (member, got) = scene.at_farm();
            scene.farm[member].send(scene.front(), response(got, "200 OK", "t"));
        }
        for (caller, request) in &callers {
            let got = read(caller.receive());
            assert_eq!(got.call_id, request.call_id.as_bytes());
            assert_eq!(got.vias.len(), 1);
            caller.assert_silent();
        }
    }
    let counters = scene.viaduct.stop();
    assert_eq!(counters.get("requests-forwarded"), 2_000);
    assert_eq!(counters.get("responses-forwarded"), 2_000);
}

#[test]
fn a_destination_that_is_not_there_holds_up_nothing() {
    let farm = Peer::new(V4);
    let gone = Peer::new(V4).address();
    let args = [
        "--listen".to_owned(),
        "127.0.0.1:0".into(),
        "--to".into(),
        farm.address().to_string(),
        "--to".into(),
        gone.to_string(),
    ];
    let scene = Scene::with(vec![farm], &args, &[]);
    let member = scene.farm[0].address();
    for _ in 0..50 {
        scene.send(
            scene
                .request("INVITE")
                .row(format!("Route: <sip:{gone};lr>"))
                .text(),
        );
        let alive = scene
            .request("INVITE")
            .row(format!("Route: <sip:{member};lr>"))
            .text();
        let (_, got) = scene.pass(&alive);
        assert_octets(read(got).call_id, read(&alive).call_id);
    }
}
