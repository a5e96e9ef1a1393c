//! Copies of what was dropped or answered by ourselves: only where somebody
//! asks, no more than asked for, and safe for a terminal.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};

use serde_json::{Value, json};

use support::admin::{self, Admin};
use support::dialog::Scene;
use support::wait_until;

/// A farm of one, with an admin socket in a folder that ends with it.
struct House {
    scene: Scene,
    folder: tempfile::TempDir,
}

/// `viaduct ctl bad-packets`, which runs.
struct Asking {
    child: Child,
    printed: Option<JoinHandle<String>>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("admin.sock");
        let socket = socket.to_str().expect("text");
        // So that each reply comes, however many there are.
        let args = ["--admin", socket, "--reply-rate", "1000000"];
        let scene = Scene::new(1, &args);
        Self { scene, folder }
    }

    fn ctl(&self, args: &[&str]) -> Command {
        admin::ctl(self.folder.path().join("admin.sock"), args)
    }

    fn ask(&self, args: &[&str]) -> Asking {
        let mut command = self.ctl(&["bad-packets", "--wait", "30s"]);
        let child = command.args(args).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("viaduct ctl");
        let mut out = child.stdout.take().expect("a pipe");
        let read = move || {
            let mut text = String::new();
            out.read_to_string(&mut text).expect("text");
            text
        };
        Asking {
            child,
            printed: Some(thread::spawn(read)),
        }
    }

    /// Sends each of these again and again, until `asking` has what it wants;
    /// what it prints.
    fn send_until_done(&self, mut asking: Asking, packets: &[&[u8]]) -> String {
        wait_until("the end of what asks", || {
            packets.iter().for_each(|octets| self.scene.send(octets));
            asking.child.try_wait().expect("its state").is_some()
        });
        asking.printed()
    }
}

impl Asking {
    /// All that it printed, once it has ended well.
    fn printed(&mut self) -> String {
        assert!(self.child.wait().expect("its end").success());
        let printed = self.printed.take().map(JoinHandle::join);
        printed.expect("not taken before").expect("text")
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const BROKEN: &[u8] =
    b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:9\r\n\x1b[2Jx: \"\\\xff\x00\r\n\r\n";

#[test]
fn as_many_as_were_asked_for_are_printed_safely() {
    let house = House::new();
    let asking = house.ask(&["--count", "3"]);
    let said = house.send_until_done(asking, &[BROKEN]);
    let heads: Vec<_> = said.lines().filter(|line| line.starts_with("20")).collect();
    assert_eq!(heads.len(), 3, "{said}");
    let caller = house.scene.caller.address();
    let front = house.scene.front();
    for head in heads {
        let (_, rest) = head.split_once(' ').expect("a time");
        let wanted = format!(
            "from {caller} on listener {front}, {} octets: header-name (A header row",
            BROKEN.len()
        );
        assert!(rest.starts_with(&wanted), "{rest}");
    }
    let rows = "  INVITE sip:a@b SIP/2.0\\r\\n\n  Via: SIP/2.0/UDP 127.0.0.1:9\\r\\n\n  \
                \\x1b[2Jx: \\\"\\\\\\xff\\x00\\r\\n\n  \\r\\n\n";
    assert_eq!(said.matches(rows).count(), 3, "{said}");
    assert!(!said.contains(|letter: char| letter != '\n' && letter.is_control()));
}

#[test]
fn no_more_are_copied_where_nobody_reads_on() {
    let house = House::new();
    let mut command = house.ctl(&["bad-packets", "--wait", "30s", "--count", "40"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut child = command.stdout(writer).spawn().expect("viaduct ctl");
    wait_until("the end of what asks", || {
        house.scene.send(BROKEN);
        child.try_wait().expect("its state").is_some()
    });
    house.scene.send(BROKEN);
    house.scene.fence();
    let admin = Admin::Socket(house.folder.path().join("admin.sock"));
    let left = admin.post("/api/v1/bad-packets", &json!({"count": 0}));
    assert_eq!(left.assert_done(), json!({"packets": []}));
}

#[test]
fn a_reason_has_only_its_own_copied_and_json_tells_all_of_them() {
    let house = House::new();
    let asking = house.ask(&["--count", "100", "--reason", "not-sip", "--json"]);
    let long = [b'x'; 3000];
    let said = house.send_until_done(asking, &[BROKEN, &long, b"\r\n\r\n"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    let packets = said["packets"].as_array().expect("a list");
    assert_eq!(packets.len(), 100);
    for packet in packets {
        assert_eq!(packet["reason"], "not-sip");
        assert_eq!(packet["length"], 3000);
        assert_eq!(packet["octets"], "x".repeat(2048));
    }
    // What is there where all is well is copied for whoever names it.
    let asking = house.ask(&["--count", "1", "--reason", "keep-alive"]);
    let said = house.send_until_done(asking, &[b"\r\n\r\n"]);
    assert!(said.contains(", 4 octets: keep-alive ("), "{said}");
}

#[test]
fn what_was_told_is_printed_where_the_instance_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let ctl = admin::ctl(&socket, &["bad-packets", "--wait", "30s", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let packet = json!({
        "at": "2026-01-01T00:00:00Z", "reason": "not-sip", "explanation": "", "source": "10.0.0.1:9",
        "listener": "a", "length": 1, "octets": "x",
    });
    let told = json!({ "packets": [packet] });
    for answer in [&json!({ "packets": [] }), &told] {
        let (mut stream, _) = listener.accept().expect("a question");
        let mut head = BufReader::new(&stream).lines().map_while(Result::ok);
        head.find(String::is_empty);
        let answer = answer.to_string();
        let length = answer.len();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{answer}"
        )
        .expect("an answer");
    }
    drop(listener);
    let output = ctl.expect("viaduct ctl").wait_with_output();
    let output = output.expect("its end");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(!output.stderr.is_empty(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said, told);
}

#[test]
fn nothing_is_copied_that_nobody_asks_for() {
    let house = House::new();
    for _ in 0..10 {
        house.scene.send(BROKEN);
    }
    house.scene.fence();
    let output = house.ctl(&["bad-packets", "--wait", "300ms"]).output();
    let output = output.expect("viaduct ctl");
    assert!(output.status.success());
    assert_eq!(output.stdout, b"no such packet came\n");
    // Whoever asks by an unknown reason is told those that there are.
    let output = house.ctl(&["bad-packets", "--reason", "not-sap"]).output();
    let output = output.expect("viaduct ctl");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not-sip"), "{said}");
}

#[test]
fn what_is_lost_is_logged_by_reason_and_not_by_packet() {
    let mut house = House::new();
    for _ in 0..1000 {
        house.scene.send(b"GET / HTTP/1.0\r\n\r\n");
        house.scene.send(b"\r\n\r\n");
    }
    house.scene.fence();
    let line = house.scene.viaduct.wait_for("a line of it", |output| {
        output
            .lines()
            .find(|line| line.starts_with("dropped"))
            .map(str::to_owned)
    });
    assert!(
        line.ends_with(": not-sip (No SIP: STUN, DTLS, HTTP, noise)"),
        "{line}"
    );
    // Whatever the tick, the second line of the minute is not due.
    let output = house.scene.viaduct.output();
    assert_eq!(output.matches("dropped ").count(), 1, "{output}");
    assert_eq!(house.scene.viaduct.counter("drop-not-sip"), 1000);
}
