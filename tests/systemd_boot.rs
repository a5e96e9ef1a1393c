//! The systemd unit at work, under a systemd that is process 1
//! (`tests/systemd/boot`). The script checks itself; this runs it.

use std::process::Command;

#[test]
fn a_service_survives_what_operators_and_faults_do_to_it() {
    let _load = support::light_load();
    let output = Command::new(support::repository().join("tests/systemd/boot"))
        .arg(support::program())
        .output()
        .expect("tests/systemd/boot runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.ends_with("boot: all held\n"), "{told}{errors}");
}
