//! The systemd unit at work, under a systemd that is process 1
//! (`tests/systemd/boot`). The script checks itself; this runs it.

#[test]
fn a_service_survives_what_operators_and_faults_do_to_it() {
    let _load = support::light_load();
    support::assert_script("tests/systemd/boot", &[], "boot: all held\n");
}
