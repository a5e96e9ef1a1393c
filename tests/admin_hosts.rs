//! By which hosts the admin API is asked over TCP: no web page has a browser ask
//! by a name of its own.

use support::admin::{Admin, Answer};
use support::farm::Farm;

fn farm() -> (Farm, Admin) {
    let (farm, _) = Farm::with_admin(&[""], "", &["--admin-listen", "127.0.0.1:0"]);
    let admin = Admin::all(&farm.scene.viaduct).swap_remove(1);
    (farm, admin)
}

/// Asks for `path` with a `Host` of each of these.
fn ask(admin: &Admin, path: &str, hosts: &[&str]) -> Answer {
    let headers: Vec<_> = hosts.iter().map(|host| ("Host", *host)).collect();
    admin.ask("GET", path, &headers, b"")
}

#[test]
fn only_an_address_or_localhost_is_asked() {
    let (_farm, admin) = farm();
    for host in [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost:evil.example",
        "evil.example@localhost",
        "",
    ] {
        let answer = ask(&admin, "/api/v1/status", &[host]);
        answer.assert_problem(421, "ask by the address");
        // Probes and scrapes are sent by names.
        assert_eq!(ask(&admin, "/livez", &[host]).status, 200, "{host}");
    }
    for host in [
        "localhost:8060",
        "LOCALHOST",
        "127.0.0.1",
        "192.0.2.1:80",
        "[::1]:8060",
        "[::1]",
    ] {
        let answer = ask(&admin, "/api/v1/status", &[host]);
        assert_eq!(answer.status, 200, "{host}");
    }
}

#[test]
fn several_hosts_are_none() {
    let (_farm, admin) = farm();
    for second in ["evil.example", "127.0.0.1"] {
        let answer = ask(&admin, "/api/v1/status", &["127.0.0.1", second]);
        answer.assert_problem(421, "ask by the address");
    }
}

#[test]
fn the_host_of_an_absolute_uri_counts_in_the_place_of_host() {
    let (_farm, admin) = farm();
    let evil = "http://evil.example/api/v1/status";
    ask(&admin, evil, &["127.0.0.1"]).assert_problem(421, "ask by the address");
    let good = "http://127.0.0.1:8060/api/v1/status";
    assert_eq!(ask(&admin, good, &["evil.example"]).status, 200);
}
