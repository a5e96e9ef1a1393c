//! What `--json` prints, and what `docs/json.md` says of it.

use std::net::SocketAddr;

use serde_json::Value;

use support::dialog::{Request, response};
use support::folder::Folder;
use support::json_keys::assert_documented;
use support::packets::{Sent, Writer};

const FRONT: &str = "192.0.2.10:5060";

const FARM: &str = "listen = ['192.0.2.10']
secret-file = 'secret'
record-route = true
stateful = ['INVITE']
[[set]]
name = 'farm'
destinations = ['10.0.0.1', '10.0.0.2', 'farm.invalid']
[[set]]
name = 'spare'
destinations = ['10.0.0.9']
[[on-failure]]
from-set = ['farm']
status = [486]
set = 'spare'
request-uri = 'sip:desk@10.0.0.9'
";

/// A folder with a configuration, another one, and a secret.
fn folder() -> Folder {
    let folder = Folder::with(&[], &[]);
    folder.write("secret", format!("{}\n", "5c".repeat(32)));
    folder.write("v.toml", FARM);
    folder.write("other.toml", FARM.replace("'10.0.0.2'", "'10.0.0.3'"));
    folder
}

/// Holds what a command prints with each of these arguments and `--json` to
/// its section.
#[track_caller]
fn assert_described(folder: &Folder, command: &str, args: &[&str]) {
    let outputs = args.iter().map(|args| {
        let args: Vec<_> = command.split(' ').chain(args.split(' ')).collect();
        let output = folder.run(&[&args[..], &["--json"]].concat());
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args:?}: {error}; {output:?}"))
    });
    let outputs: Vec<Value> = outputs.collect();
    assert_documented(&format!("viaduct {command}"), &outputs);
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn explain() {
    let folder = folder();
    let caller = address("192.0.2.7:5060");
    // A cookie whose MAC is wrong is told of as one that is right.
    let cookie = "Route: <sip:d000100112233445566778899aabbccddeeff@192.0.2.10;lr>\r\n";
    let text = Request::new("INVITE", caller).text();
    let text = text.replacen("From:", &format!("{cookie}From:"), 1);
    folder.write("routed", &text);
    folder.write(
        "busy",
        text.replacen("Max-Forwards: 70", "Max-Forwards: 0", 1),
    );
    folder.write("response", response(text.as_bytes(), "200 OK", "t"));
    assert_described(
        &folder,
        "explain",
        &[
            "--config v.toml --call-id a@b",
            "--config v.toml --message routed",
            "--config v.toml --message busy",
            "--config v.toml --message response",
        ],
    );
}

#[test]
fn check() {
    let folder = folder();
    folder.write("wrong.toml", FARM.replace("status", "statuses"));
    assert_described(
        &folder,
        "check",
        &["--config v.toml", "--config wrong.toml"],
    );
}

#[test]
fn check_of_the_system() {
    let folder = folder();
    let lost = FARM.replace("'secret'", "'/nowhere/to/be/found'");
    folder.write("lost.toml", lost);
    assert_described(&folder, "check --system", &["--config lost.toml"]);
}

#[test]
fn simulate() {
    let folder = folder();
    let keyed = FARM.replace("[[set]]\n", "[[set]]\nhash-key = 'request-uri'\n");
    let route = "[[route]]\nset = 'spare'\nuser-prefix = ['mail']\n";
    folder.write("keyed.toml", keyed + route);
    folder.write("keys", "sip:ann@farm.example\nsip:mail@farm.example\n");
    assert_described(
        &folder,
        "simulate",
        &[
            "--config v.toml --drain 10.0.0.1 --calls 50",
            "--config v.toml --before other.toml --calls 50",
            "--config keyed.toml --drain 10.0.0.1 --calls keys",
        ],
    );
}

#[test]
fn replay() {
    let folder = folder();
    let caller = address("198.51.100.7:5070");
    let sent = (0..8).map(|at| Sent {
        at,
        source: caller,
        destination: address(FRONT),
        payload: Request::new("INVITE", caller).text().into_bytes(),
    });
    let sent: Vec<_> = sent.collect();
    Writer::of(&sent).save(&folder.path("calls.pcap"));
    // An empty packet of a link that nobody reads.
    let words: [u32; 10] = [0xA1B2_C3D4, 0x0004_0002, 0, 0, 65_535, 147, 1, 0, 0, 0];
    folder.write("user0.pcap", words.map(u32::to_le_bytes).concat());
    assert_described(
        &folder,
        "replay",
        &[
            "calls.pcap --config v.toml",
            "calls.pcap --config v.toml --against other.toml",
            "user0.pcap --config v.toml",
        ],
    );
}
