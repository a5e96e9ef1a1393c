//! `scripts/farm`: real registrars and phones in networks of their own, with
//! Viaduct between them. The script checks itself; this runs it.

use std::process::Command;

#[test]
fn real_phones_call_each_other_through_nat_viaduct_and_real_registrars() {
    let _load = support::light_load();
    let output = Command::new(support::repository().join("scripts/farm"))
        .arg("--viaduct")
        .arg(support::program())
        .output()
        .expect("scripts/farm runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}{errors}");
    assert!(told.ends_with("farm: all held\n"), "{told}{errors}");
}
