//! What the machine itself says of names: `/etc/resolv.conf` and `/etc/hosts`.

use std::fs;
use std::process::Command;

use support::dns::NameServer;
use support::process::{Process, Signal, in_a_network_of_its_own};
use support::viaduct::Viaduct;

#[test]
fn without_a_name_server_there_is_no_destination_by_name() {
    in_a_network_of_its_own(
        "ip link set lo up && : >none && mount --bind none /etc/resolv.conf",
        "where_no_name_server_is_known",
    );
}

#[test]
#[ignore = "runs with mounts of its own, started by the test above"]
fn where_no_name_server_is_known() {
    const REFUSED: &str = "names cannot be resolved: /etc/resolv.conf: ";
    let mut command = Command::new(support::program());
    command
        .args(["run", "--listen", "127.0.0.1:0", "--to", "farm.test"])
        .env_remove("JOURNAL_STREAM");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    assert_eq!(process.wait(support::LONG).code(), Some(1));
    let said = process.output();
    assert!(said.contains(&format!("error: {REFUSED}")), "{said}");
    assert!(said.contains("\n  help: give --resolver"), "{said}");
    // What runs goes on.
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("v.toml");
    let text = |to: &str| format!("[[set]]\nname = 'farm'\ndestinations = ['{to}']\n");
    fs::write(&file, text("127.0.0.1:9")).expect("a file");
    let file_name = file.to_str().expect("text");
    let mut viaduct = Viaduct::start(&["--listen", "127.0.0.1:0", "--config", file_name]);
    fs::write(&file, text("farm.test")).expect("a file");
    viaduct.signal(Signal::HUP);
    let refused = format!("\nerror: reload refused: {REFUSED}");
    viaduct.wait_for("the refusal", |said| said.contains(&refused).then_some(()));
    viaduct.signal(Signal::USR2);
    let refused = format!("check` says:\nviaduct: error: {REFUSED}");
    viaduct.wait_for("another", |said| said.contains(&refused).then_some(()));
    viaduct.stop();
}

#[test]
fn a_name_server_that_cannot_be_reached_is_named() {
    in_a_network_of_its_own("ip link set lo up", "where_no_name_server_can_be_reached");
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_no_name_server_can_be_reached() {
    let args = "--listen 127.0.0.1:0 --to farm.test --resolver 192.0.2.53";
    let mut viaduct = Viaduct::start(&args.split(' ').collect::<Vec<_>>());
    let said = viaduct.wait_for("why", |said| {
        said.contains("farm.test cannot be resolved")
            .then(|| said.to_owned())
    });
    let why =
        "resolved: name server 192.0.2.53:53 cannot be reached; this name adds no destination";
    assert!(said.contains(why), "{said}");
    viaduct.stop();
}

#[test]
fn an_octet_that_is_not_utf_8_hides_no_host() {
    in_a_network_of_its_own(
        "ip link set lo up && printf '# M\\374ller\\n127.0.0.1 farm.test\\n' >hosts && \
         mount --bind hosts /etc/hosts",
        "where_the_hosts_are_latin_1",
    );
}

#[test]
#[ignore = "runs with mounts of its own, started by the test above"]
fn where_the_hosts_are_latin_1() {
    let server = NameServer::start("");
    let resolver = server.address().to_string();
    let args = ["--listen", "127.0.0.1:0", "--to", "farm.test:9"];
    let viaduct = Viaduct::start(&[&args[..], &["--resolver", &resolver]].concat());
    let said = viaduct.output();
    assert!(said.contains(": farm.test:9 is 127.0.0.1:9\n"), "{said}");
    viaduct.stop();
}
