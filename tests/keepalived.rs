//! The configuration of keepalived that is shipped is one.

use std::fs;
use std::process::{Command, Output};

use support::repository;

fn shipped() -> String {
    fs::read_to_string(repository().join("config/keepalived.conf")).expect("the file")
}

/// What keepalived says of `text` on a machine with its interfaces.
fn check(text: &str) -> Output {
    const CHECK: &str = "PATH=$PATH:/usr/sbin:/sbin; \
        ip link add eth0 type veth peer name eth1 && \
        exec keepalived --config-test --use-file=\"$1\"";
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("keepalived.conf");
    fs::write(&file, text).expect("a file");
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--net", "sh", "-c", CHECK, "sh"]);
    command.arg(&file).output().expect("an end")
}

#[test]
fn keepalived_takes_the_configuration_without_a_complaint() {
    let output = check(&shipped());
    assert!(output.status.success(), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_fault_in_it_would_be_seen() {
    let output = check(&shipped().replace("notify_fault", "notify_faults"));
    assert!(!output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("notify_faults"), "{said}");
}

/// What keepalived knows of losing the addresses, in each of its ways.
#[test]
fn whoever_loses_the_addresses_is_started_anew() {
    let text = shipped();
    for way in ["notify_backup", "notify_fault", "notify_stop"] {
        let row = format!("    {way} \"/usr/bin/systemctl --no-block try-restart viaduct\"\n");
        assert!(text.contains(&row), "{way}");
    }
}
