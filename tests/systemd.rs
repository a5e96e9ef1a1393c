//! The systemd unit, judged by systemd itself: it loads without a complaint,
//! and it is as closed as we claim. `systemd_boot` starts the service.

use std::fs;
use std::process::{Command, Output};

use support::farm::{Farm, text};

/// `systemd-analyze security` rates exposure from 0 (none) to 100 (UNSAFE).
const HIGHEST_EXPOSURE: &str = "14";

fn unit() -> String {
    let path = support::repository().join("config/viaduct.service");
    fs::read_to_string(path).expect("the unit")
}

fn systemd_analyze(args: &[&str]) -> Output {
    let output = Command::new("systemd-analyze")
        .args(args)
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output();
    output.expect("systemd-analyze runs (scripts/install-tools installs it)")
}

/// Verifies a unit's text under the name `viaduct.service`.
fn verify(unit: &str) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("viaduct.service");
    fs::write(&path, unit).expect("the copy of the unit");
    systemd_analyze(&[
        "verify",
        "--man=no",
        "--recursive-errors=no",
        &path.to_string_lossy(),
    ])
}

/// The unit with the program that exists here in the place of the installed one.
fn with_our_program(unit: &str) -> String {
    assert!(
        unit.contains("/usr/local/bin/viaduct "),
        "the unit runs the installed program"
    );
    unit.replace(
        "/usr/local/bin/viaduct ",
        &format!("{} ", support::program().display()),
    )
}

#[test]
fn the_unit_loads_without_a_complaint() {
    let output = verify(&with_our_program(&unit()));
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    assert_eq!(complaints, "", "systemd-analyze verify");
}

#[test]
fn a_fault_in_the_unit_would_be_seen() {
    let faulty = with_our_program(&unit()).replace("Type=notify", "Type=notifies");
    let output = verify(&faulty);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(
        complaints.contains("notifies"),
        "systemd-analyze verify: {complaints}"
    );
}

/// The values of a key, in the order of the unit.
fn values<'u>(unit: &'u str, key: &str) -> Vec<&'u str> {
    let rows = unit.lines().filter_map(|row| row.split_once('='));
    let rows = rows.filter(|(name, _)| *name == key);
    rows.map(|(_, value)| value).collect()
}

/// `systemctl reload` tells what these commands do.
#[test]
fn a_reload_by_the_unit_fails_where_it_is_refused_and_says_why() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let unit = with_our_program(&unit());
    let pid = farm.scene.viaduct.id().to_string();
    let config = farm.path().display().to_string();
    let reload = || {
        let outputs = values(&unit, "ExecReload").into_iter().map(|command| {
            let command = command.replace("$MAINPID", &pid);
            let command = command.replace("/etc/viaduct/viaduct.toml", &config);
            let (program, args) = command.split_once(' ').expect("arguments");
            let mut command = Command::new(program);
            command.args(args.split(' '));
            command.env("VIADUCT_ADMIN", admin.path());
            command.output().expect("a command that runs")
        });
        outputs.collect::<Vec<_>>()
    };
    let done = |outputs: &[Output]| outputs.iter().all(|output| output.status.success());
    let good = text(&farm.scene.farm, &["", "-"], "");
    fs::write(farm.path(), &good).expect("the file");
    let outputs = reload();
    assert!(done(&outputs), "{outputs:?}");
    fs::write(farm.path(), format!("batch = 7\n{good}")).expect("the file");
    let outputs = reload();
    assert!(!done(&outputs), "{outputs:?}");
    let said = String::from_utf8_lossy(&outputs.last().expect("an output").stderr);
    assert!(said.contains("`batch`"), "{said}");
}

/// The reload of the unit asks where an instance is unless that is said.
#[test]
fn the_shipped_configuration_has_its_admin_socket_where_the_unit_asks() {
    let unit = unit();
    assert_eq!(values(&unit, "RuntimeDirectory"), ["viaduct"]);
    let path = support::repository().join("config/viaduct.toml");
    let config = fs::read_to_string(path).expect("the configuration");
    assert!(config.contains("\nsocket = \"/run/viaduct/admin.sock\"\n"));
    let help = Command::new(support::program())
        .args(["ctl", "--help"])
        .output();
    let help = String::from_utf8(help.expect("help").stdout).expect("text");
    assert!(
        help.contains("[default: /run/viaduct/admin.sock]"),
        "{help}"
    );
}

/// With users of its own everybody else's is 65534 (SO_PEERCRED).
#[test]
fn the_unit_lets_the_log_name_who_makes_a_change() {
    assert_eq!(values(&unit(), "PrivateUsers"), [""; 0]);
}

/// An upgrade executes the new program in the same process.
#[test]
fn the_unit_lets_the_program_execute_itself_anew() {
    let unit = unit();
    assert!(values(&unit, "NoExecPaths").is_empty());
    assert!(values(&unit, "InaccessiblePaths").is_empty());
    let calls = |group: &str| {
        let output = systemd_analyze(&["syscall-filter", "--no-pager", group]);
        String::from_utf8(output.stdout).expect("text")
    };
    let filters = values(&unit, "SystemCallFilter");
    assert_eq!(filters, ["@system-service", "~@privileged"]);
    // What may always be called, unless it is taken away.
    assert!(
        calls("@default")
            .lines()
            .any(|call| call.trim() == "execve")
    );
    assert!(!calls("@privileged").contains("execve"));
}

/// Timer B is 32 s (RFC 3261 §17.1.1.2); and operators reach the admin socket.
#[test]
fn the_unit_waits_for_transactions_and_has_a_place_for_the_admin_socket() {
    let unit = unit();
    for row in [
        "TimeoutStopSec=40",
        "KillMode=mixed",
        "WatchdogSec=10",
        "RuntimeDirectory=viaduct",
        "RuntimeDirectoryMode=0750",
    ] {
        assert!(unit.lines().any(|line| line == row), "no {row}");
    }
}

#[test]
fn the_unit_is_closed() {
    let path = support::repository().join("config/viaduct.service");
    let threshold = format!("--threshold={HIGHEST_EXPOSURE}");
    let output = systemd_analyze(&[
        "security",
        "--offline=true",
        "--no-pager",
        &threshold,
        &path.to_string_lossy(),
    ]);
    let report = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{report}{errors}");
}
