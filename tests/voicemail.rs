//! `scripts/voicemail`: what the README shows of failure rules and accounting.
//! The script checks itself; this runs it.

#[test]
fn a_busy_phone_goes_to_voicemail_as_the_readme_shows() {
    support::assert_script("scripts/voicemail", &[], "the record says so\n");
}
