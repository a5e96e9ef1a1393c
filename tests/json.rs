//! What `--json` prints, and what `docs/json.md` says of it.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use support::dialog::{Request, response};
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
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().expect("a folder"));
        folder.write("secret", format!("{}\n", "5c".repeat(32)));
        folder.write("v.toml", FARM);
        folder.write("other.toml", FARM.replace("'10.0.0.2'", "'10.0.0.3'"));
        folder
    }

    fn write(&self, name: &str, octets: impl AsRef<[u8]>) {
        fs::write(self.0.path().join(name), octets).expect("a file");
    }

    /// What a command prints, that these arguments make, and `--json`.
    #[track_caller]
    fn run(&self, args: &str) -> Value {
        let output = Command::new(env!("CARGO_BIN_EXE_viaduct"))
            .env_clear()
            .current_dir(self.0.path())
            .args(args.split(' '))
            .arg("--json")
            .output()
            .expect("an end");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{args}: {error}; {output:?}"))
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

#[test]
fn explain() {
    let folder = Folder::new();
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
    assert_documented(
        "viaduct explain",
        &[
            folder.run("explain --config v.toml --call-id a@b"),
            folder.run("explain --config v.toml --message routed"),
            folder.run("explain --config v.toml --message busy"),
            folder.run("explain --config v.toml --message response"),
        ],
    );
}

#[test]
fn check() {
    let folder = Folder::new();
    folder.write("wrong.toml", FARM.replace("status", "statuses"));
    assert_documented(
        "viaduct check",
        &[
            folder.run("check --config v.toml"),
            folder.run("check --config wrong.toml"),
        ],
    );
}

#[test]
fn check_of_the_system() {
    let folder = Folder::new();
    let lost = FARM.replace("'secret'", "'/nowhere/to/be/found'");
    folder.write("lost.toml", lost);
    assert_documented(
        "viaduct check --system",
        &[folder.run("check --system --config lost.toml")],
    );
}

#[test]
fn simulate() {
    let folder = Folder::new();
    let keyed = FARM.replace("[[set]]\n", "[[set]]\nhash-key = 'request-uri'\n");
    let route = "[[route]]\nset = 'spare'\nuser-prefix = ['mail']\n";
    folder.write("keyed.toml", keyed + route);
    folder.write("keys", "sip:ann@farm.example\nsip:mail@farm.example\n");
    assert_documented(
        "viaduct simulate",
        &[
            folder.run("simulate --config v.toml --drain 10.0.0.1 --calls 50"),
            folder.run("simulate --config v.toml --before other.toml --calls 50"),
            folder.run("simulate --config keyed.toml --drain 10.0.0.1 --calls keys"),
        ],
    );
}

#[test]
fn replay() {
    let folder = Folder::new();
    let caller = address("198.51.100.7:5070");
    let sent = (0..8).map(|at| Sent {
        at,
        source: caller,
        destination: address(FRONT),
        payload: Request::new("INVITE", caller).text().into_bytes(),
    });
    let sent: Vec<_> = sent.collect();
    Writer::of(&sent).save(&folder.0.path().join("calls.pcap"));
    // An empty packet of a link that nobody reads.
    let words: [u32; 10] = [0xA1B2_C3D4, 0x0004_0002, 0, 0, 65_535, 147, 1, 0, 0, 0];
    folder.write("user0.pcap", words.map(u32::to_le_bytes).concat());
    assert_documented(
        "viaduct replay",
        &[
            folder.run("replay calls.pcap --config v.toml"),
            folder.run("replay calls.pcap --config v.toml --against other.toml"),
            folder.run("replay user0.pcap --config v.toml"),
        ],
    );
}
