//! The log: its forms, its levels, and that all that is said goes through it.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use serde_json::Value;

use support::LONG;
use support::admin::{self, Admin};
use support::dialog::{Peer, Scene};
use support::net::{V4, free_addresses, wait_until_bound};
use support::process::{Process, Signal};

/// `viaduct run` with these arguments, which logs to the file `output` of its
/// folder.
struct Run {
    process: Process,
    address: SocketAddr,
}

impl Run {
    fn new(args: &[&str]) -> Self {
        Self::with(args, |_, _| {})
    }

    /// The same; `prepare` is told of the file.
    fn with(args: &[&str], prepare: impl FnOnce(&mut Command, &File)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let output = File::create(folder.path().join("output")).expect("a file");
        let [address] = free_addresses(V4);
        let mut command = Command::new(support::program());
        command
            .args(["run", "--to", "127.0.0.1:9", "--workers", "1"])
            .args(["--health", "off", "--listen", &address.to_string()])
            .args(args)
            .env_remove("JOURNAL_STREAM");
        prepare(&mut command, &output);
        let process = Process::start(command, folder);
        assert!(wait_until_bound(address, LONG));
        Self { process, address }
    }

    /// Ends it; all that it has logged.
    fn stop(mut self) -> String {
        self.process.signal(Signal::TERM);
        assert!(self.process.wait(LONG).success());
        self.process.output()
    }

    fn send(&self, octets: &[u8]) {
        Peer::new(V4).send(self.address, octets);
    }

    fn wait_for(&mut self, part: &str) {
        let found = |output: &str| output.contains(part).then_some(());
        self.process.wait_for(part, LONG, found);
    }
}

/// What there is to warn of at a start.
const WARNED_OF: [&str; 4] = ["--policy", "kamailio", "--to", "127.0.0.1:19;weight=2"];
const WARNING: &str = "warning: the weight has no effect with policy `kamailio`";

fn with_warning<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&WARNED_OF[..], more].concat()
}

#[test]
fn text_is_for_people_and_marks_what_is_bad() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.toml");
    fs::write(&path, "").expect("the file");
    let config = path.display().to_string();
    let mut run = Run::new(&with_warning(&["--config", &config]));
    run.wait_for("ready:");
    run.send(b"GET /");
    run.wait_for("dropped 1 datagram: not-sip (");
    let said = run.process.output();
    assert_eq!(said.matches(WARNING).count(), 1, "{said}");
    fs::write(&path, "batch = 7\n").expect("the file");
    run.process.signal(Signal::HUP);
    run.wait_for("\nerror: reload refused");
    run.wait_for("\n  help: upgrade");
    fs::write(&path, "nonsense = 1\n").expect("the file");
    run.process.signal(Signal::HUP);
    run.wait_for("v.toml:1:1: error: unknown key");
    let nonsense = |n| format!("nonsense{n} = 1\n");
    let many: String = (1..=30).map(nonsense).collect();
    fs::write(&path, many).expect("the file");
    run.process.signal(Signal::HUP);
    run.wait_for("\nerror: 10 more: see `viaduct check`\n");
    let said = run.stop();
    assert_eq!(said.matches("unknown key `nonsense").count(), 21, "{said}");
    assert!(said.starts_with(&format!("--to: {WARNING}\n  ")), "{said}");
    assert!(said.contains("\nlistening on udp:127.0.0.1:"), "{said}");
    assert!(said.contains("\ncounter drop-not-sip 1\n"), "{said}");
    assert!(!said.contains(['\x1b', '{']), "{said}");
    assert!(!said.contains("error:   "), "{said}");
    assert!(!said.contains("error: /"), "{said}");
}

#[test]
fn with_json_each_line_is_an_object_with_time_level_and_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.toml");
    fs::write(&path, "log = { format = 'json' }\n").expect("the file");
    let path = path.to_str().expect("text");
    let mut run = Run::new(&with_warning(&["--config", path, "--log-level", "debug"]));
    run.wait_for("ready:");
    run.send(b"GET /");
    run.send(b"\r\n\r\n");
    run.wait_for("dropped 1 datagram: not-sip (");
    run.wait_for("dropped 1 datagram: keep-alive (");
    fs::write(path, "nonsense = \"\u{1b}[2J\"\n").expect("the file");
    run.process.signal(Signal::HUP);
    run.wait_for("reload refused");
    let said = run.stop();
    let mut levels = Vec::new();
    for line in said.lines() {
        let read: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
        let fields = read.as_object().expect("an object");
        assert_eq!(
            fields.keys().collect::<Vec<_>>(),
            ["level", "message", "time"]
        );
        let time = read["time"].as_str().expect("a time");
        assert!(humantime::parse_rfc3339(time).is_ok(), "{time}");
        let message = read["message"].as_str().expect("text");
        assert!(!message.is_empty() && !message.starts_with(' '), "{line}");
        levels.push((
            read["level"].as_str().expect("a level").to_owned(),
            message.to_owned(),
        ));
    }
    let of = |part: &str| -> Vec<_> {
        let found = levels.iter().filter(|(_, message)| message.contains(part));
        found.map(|(level, _)| level.as_str()).collect()
    };
    assert_eq!(of("the weight has no effect"), ["warning"]);
    assert_eq!(of("listening on udp:"), ["info"]);
    assert_eq!(of("ready: "), ["info"]);
    assert_eq!(of("not-sip ("), ["info"]);
    assert_eq!(of("keep-alive ("), ["debug"]);
    assert_eq!(of("v.toml:1:"), ["error"]);
    assert_eq!(of("reload refused"), ["error"]);
    assert_eq!(of("counter received 2"), ["info"]);
}

#[test]
fn a_start_that_fails_says_so_in_the_same_form() {
    let taken = Peer::new(V4);
    let output = Command::new(support::program())
        .args(["run", "--to", "127.0.0.1:9", "--log-format", "json"])
        .args(["--listen", &taken.address().to_string()])
        .output();
    let output = output.expect("viaduct");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).expect("text");
    let read: Value = serde_json::from_str(&said).expect("one line of JSON");
    assert_eq!(read["level"], "error");
    let message = read["message"].as_str().expect("text");
    assert!(
        message.starts_with("cannot listen on udp:127.0.0.1:"),
        "{said}"
    );
    assert!(message.contains("\n  help: "), "{said}");
}

#[test]
fn the_journal_gets_priorities_where_it_reads() {
    let stream = |output: &File, other: u64| {
        let stat = output.metadata().expect("its state");
        format!("{}:{}", stat.dev(), stat.ino() + other)
    };
    let mut run = Run::with(&with_warning(&[]), |command, output| {
        command.env("JOURNAL_STREAM", stream(output, 0));
    });
    run.wait_for("<6>ready:");
    let said = run.stop();
    for line in said.lines() {
        assert!(line.starts_with("<6>") || line.starts_with("<4>"), "{line}");
    }
    assert!(
        said.starts_with(&format!("<4>--to: {WARNING}\n<4>  ")),
        "{said}"
    );
    assert!(said.contains("<6>counter received 0\n"), "{said}");
    // A stream that is not stderr is somebody else's.
    let mut run = Run::with(&[], |command, output| {
        command.env("JOURNAL_STREAM", stream(output, 1));
    });
    run.wait_for("\nready:");
    assert!(!run.stop().contains('<'));
}

#[test]
fn the_level_leaves_out_what_is_less_important() {
    let run = Run::new(&with_warning(&["--log-level", "warn"]));
    let said = run.stop();
    let mut lines = said.lines();
    assert!(lines.next().expect("a line").contains(WARNING));
    assert!(
        !said.contains("listening") && !said.contains("counter"),
        "{said}"
    );
    let run = Run::new(&with_warning(&["--log-level", "error"]));
    assert_eq!(run.stop(), "");
    // Not even then do libraries speak.
    let server = support::dns::NameServer::start("a.test 60 A 127.0.0.1");
    let resolver = server.address().to_string();
    let args = [
        "--log-level",
        "debug",
        "--to",
        "a.test:9000",
        "--resolver",
        &resolver,
    ];
    let mut run = Run::new(&args);
    run.wait_for("ready:");
    let said = run.stop();
    let known = [
        "warning: ",
        "set ",
        "listening ",
        "  ",
        "workers: ",
        "names: ",
        "secret: ",
        "ready: ",
        "counter ",
    ];
    for line in said.lines() {
        let is_ours = known.iter().any(|start| line.starts_with(start));
        assert!(is_ours, "{line} in {said}");
    }
}

#[test]
fn the_level_changes_while_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let socket = socket.to_str().expect("text");
    let mut scene = Scene::new(1, &["--admin", socket]);
    let ctl = |args: &[&str]| {
        let status = admin::ctl(socket, args).status();
        assert!(status.expect("viaduct ctl").success());
    };
    let set = |level: &str| ctl(&["log-level", level]);
    let admin = Admin::Socket(socket.into());
    let told_in_force = |level: &str| {
        let config = admin.get("/api/v1/config").body;
        let line = format!("log.level = \"{level}\"\n");
        assert!(config.contains(&line), "{config}");
    };
    told_in_force("info");
    set("debug");
    told_in_force("debug");
    scene.send(b"\r\n\r\n");
    let told = |output: &str| {
        output
            .contains("dropped 1 datagram: keep-alive (")
            .then_some(())
    };
    scene.viaduct.wait_for("what is usual", told);
    set("error");
    let before = scene.viaduct.output().len();
    scene.viaduct.signal(Signal::HUP);
    admin.wait_for("/api/v1/status", |status| {
        (!status["last_reload"].is_null()).then_some(())
    });
    told_in_force("error");
    set("info");
    scene.viaduct.signal(Signal::USR1);
    let said = scene.viaduct.wait_for("counters", |output| {
        let said = &output[before..];
        said.contains("counter received 1").then(|| said.to_owned())
    });
    assert!(!said.contains("reloaded"), "{said}");
    // Until what operators have changed is forgotten.
    set("error");
    ctl(&["reload", "--forget-changes"]);
    let told = |output: &str| output.contains("reloaded: ").then_some(());
    scene.viaduct.wait_for("the reload", told);
    told_in_force("info");
}
