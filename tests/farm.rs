//! `scripts/farm`: real registrars and phones in networks of their own, with
//! Viaduct between them. The script checks itself; this runs it.

#[test]
fn real_phones_call_each_other_through_nat_viaduct_and_real_registrars() {
    let _load = support::light_load();
    support::assert_script("scripts/farm", &["--viaduct"], "farm: all held\n");
}
