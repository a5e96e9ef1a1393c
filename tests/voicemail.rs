//! `scripts/voicemail`: what the README shows of failure rules and accounting.
//! The script checks itself; this runs it.

use std::process::Command;

#[test]
fn a_busy_phone_goes_to_voicemail_as_the_readme_shows() {
    let output = Command::new(support::repository().join("scripts/voicemail"))
        .arg(support::program())
        .output()
        .expect("scripts/voicemail runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.ends_with("the record says so\n"), "{told}{errors}");
}
