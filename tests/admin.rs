//! The admin API over real sockets: who gets in, what is told, and that what
//! is changed is so for real calls.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Command;

use serde_json::{Value, json};

use support::admin::Admin;
use support::farm::Farm;
use support::process::{Process, Signal};
use support::viaduct::Viaduct;
use support::{LONG, wait_until};

/// What `viaduct run ARGS…` says that does not start.
fn refusal(args: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(support::program());
    let always = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"];
    command.arg("run").args(always).args(args);
    let mut process = Process::start(command, folder);
    assert_eq!(process.wait(LONG).code(), Some(1));
    process.output()
}

#[test]
fn the_socket_is_for_its_owner_and_group_and_goes_at_the_end() {
    let (farm, admin) = Farm::with_admin(&[""], "", &[]);
    let path = admin.path().to_owned();
    let mode = fs::metadata(&path).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(admin.get("/livez").status, 200);
    farm.scene.viaduct.stop();
    assert!(!path.exists());
}

#[test]
fn under_systemd_the_socket_is_in_the_runtime_directory() {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = folder.path().join("run");
    fs::create_dir(&runtime).expect("a folder");
    let mut command = Command::new(support::program());
    command.args(["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]);
    command.env("RUNTIME_DIRECTORY", format!("{}:/nix", runtime.display()));
    let mut process = Process::start(command, folder);
    process.wait_for("line `ready:`", LONG, |output| {
        output.contains("\nready:").then_some(())
    });
    let admin = Admin::Socket(runtime.join("admin.sock"));
    assert_eq!(admin.get("/readyz").status, 200);
    let config = admin.get("/api/v1/config").body;
    let socket = format!("socket = \"{}/admin.sock\"", runtime.display());
    assert!(config.contains(&socket), "{config}");
}

#[test]
fn what_a_dead_process_left_is_replaced_and_anything_else_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.sock");
    let path = path.to_str().expect("text");
    drop(UnixListener::bind(path).expect("a socket"));
    let args = ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"];
    let first = Viaduct::start(&[&args[..], &["--admin", path]].concat());
    assert_eq!(Admin::of(&first).get("/livez").status, 200);
    let said = refusal(&["--admin", path]);
    let remedy = "help: stop it, or give this instance another path";
    assert!(
        said.contains("another process listens there") && said.contains(remedy),
        "{said}"
    );
    assert_eq!(Admin::of(&first).get("/livez").status, 200);
    first.stop();
    fs::write(path, "precious").expect("a file");
    let said = refusal(&["--admin", path]);
    assert!(
        said.contains("there is something else at this path"),
        "{said}"
    );
    assert_eq!(fs::read_to_string(path).expect("the file"), "precious");
}

#[test]
fn what_cannot_be_listened_on_says_why() {
    let long = format!("/tmp/{}", "l".repeat(103));
    let said = refusal(&["--admin", &long]);
    assert!(
        said.contains("has 108 octets") && said.contains("107 at most"),
        "{said}"
    );
    let said = refusal(&["--admin", "/nix/admin.sock"]);
    assert!(said.contains("help: its folder must exist"), "{said}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listener.local_addr().expect("its address").to_string();
    let said = refusal(&["--admin-listen", &taken]);
    assert!(
        said.contains(&format!("http://{taken}")) && said.contains("help:"),
        "{said}"
    );
    let said = refusal(&[
        "--admin-listen",
        "127.0.0.1:0",
        "--admin-token-file",
        "/nix",
    ]);
    assert!(
        said.contains("token file /nix") && said.contains("help:"),
        "{said}"
    );
}

#[test]
fn every_described_path_answers_as_described() {
    let (_farm, admin) = Farm::with_admin(&["", ";weight=3"], "", &[]);
    let document = admin.get("/api/v1/openapi.json").assert_done();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let paths = document["paths"].as_object().expect("paths");
    let mut methods = BTreeSet::new();
    for (path, does) in paths {
        for method in does.as_object().expect("methods").keys() {
            methods.insert(method.clone());
            let query = if path.ends_with("explain") {
                "?call_id=a"
            } else {
                ""
            };
            let asked = path.replace("{set}", "farm") + query;
            if method == "get" {
                let answer = admin.get(&asked);
                assert_eq!(answer.status, 200, "{path}: {answer:?}");
                let described = &does["get"]["responses"]["200"]["content"];
                let media_type = answer.header("content-type").expect("a media type");
                let plain = media_type.split(';').next().expect("its beginning");
                assert!(
                    described.get(plain).is_some(),
                    "{path}: {plain}, {described}"
                );
            }
            // A method that nobody described.
            let other = admin.ask("PATCH", &asked, &[], b"");
            other.assert_problem(405, "method");
            let allowed = other.header("allow").expect("Allow").to_lowercase();
            assert!(allowed.contains(method.as_str()), "{path}: {allowed}");
        }
    }
    assert_eq!(methods.len(), 2, "GET reads, POST changes: {methods:?}");
    assert!(paths.len() >= 17, "{}", paths.len());
}

#[test]
fn the_status_tells_what_passed() {
    let (farm, admin) =
        Farm::with_admin(&["", ";weight=3;state=draining"], "", &["--workers", "2"]);
    farm.shares(20);
    // A worker counts what it has received behind what it has sent.
    let status = admin.wait_for("/api/v1/status", |status| {
        let workers = status["workers"].as_array()?.iter();
        let received = workers.map(|worker| worker["received"].as_u64());
        (received.sum::<Option<u64>>()? >= 20).then(|| status.clone())
    });
    assert_eq!(status["ready"], true);
    assert_eq!(status["generation"], 1);
    assert_eq!(status["table_id"].as_str().map(str::len), Some(16));
    assert_eq!(status["totals"]["requests"]["INVITE"], 20);
    let workers = status["workers"].as_array().expect("workers");
    let received = workers.iter().map(|worker| worker["received"].as_u64());
    assert_eq!(received.sum::<Option<u64>>(), Some(20));
    assert_eq!(
        status["listeners"][0]["address"],
        farm.scene.front().to_string()
    );
    let set = &admin.get("/api/v1/sets/farm").assert_done();
    assert_eq!(*set, status["sets"][0]);
    assert_eq!(
        (&set["policy"], &set["hash_key"]),
        (&json!("hash"), &json!("call-id"))
    );
    let [first, second] = [0, 1].map(|n: usize| &set["destinations"][n]);
    assert_eq!(first["address"], farm.member(0));
    assert_eq!(
        (&first["requests"], &first["share"]),
        (&json!(20), &json!(1.0))
    );
    assert_eq!(
        (&first["state"], &first["letters"]),
        (&json!("active"), &json!("AX"))
    );
    assert_eq!(
        (&second["requests"], &second["share"]),
        (&json!(0), &json!(0.0))
    );
    assert_eq!(
        (&second["state"], &second["letters"]),
        (&json!("draining"), &json!("IX"))
    );
    admin
        .get("/api/v1/sets/nix")
        .assert_problem(404, "there are: farm");
}

#[test]
fn of_many_sets_the_first_few_are_told() {
    let set = |n| format!("[[set]]\nname = 's{n}'\ndestinations = ['127.0.0.{n}:9']\n");
    let sets: String = (1..=10).map(set).collect();
    let (_farm, admin) = Farm::with_admin(&[""], &sets, &[]);
    let told = "there are: s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, …";
    let answer = admin.get("/api/v1/sets/nix");
    answer.assert_problem(404, told);
}

#[test]
fn a_change_is_answered_with_what_moved_and_logged_with_who_asked() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let first = farm.member(0);
    let body = json!({"destination": first, "state": "draining"});
    let done = admin
        .post("/api/v1/destinations/state", &body)
        .assert_done();
    assert_eq!(done["generation"], 2);
    let share = done["moved"][0]["share"].as_f64().expect("a share");
    assert!((0.4..0.6).contains(&share), "{share}");
    let uid = fs::metadata(admin.path()).map(|socket| std::os::unix::fs::MetadataExt::uid(&socket));
    let wanted = format!(
        "asked by uid {}, pid {}: set farm: {first} changed: draining",
        { uid.expect("the socket") },
        std::process::id()
    );
    let said = farm.scene.viaduct.output();
    assert!(said.contains(&wanted), "{wanted}? {said}");
    // By turns nobody can tell it.
    let (farm, admin) = Farm::with_admin(&["", ""], "", &["--policy", "round-robin"]);
    let body = json!({"destination": farm.member(0), "state": "draining"});
    let done = admin.post("/api/v1/destinations/state", &body);
    assert_eq!(done.assert_done()["moved"], json!([]));
}

#[test]
fn what_makes_no_sense_changes_nothing() {
    let args = ["--advertise", "198.51.100.7:5070"];
    let (farm, admin) = Farm::with_admin(&["", ""], "", &args);
    let before = admin.get("/api/v1/sets").body;
    let change =
        |what: &str, body: Value| admin.post(&format!("/api/v1/destinations/{what}"), &body);
    let member = farm.member(0);
    let state = |destination: &str| json!({"destination": destination, "state": "draining"});
    let there = format!("no destination 192.0.2.77:5060; there are: {member}, ");
    change("state", state("192.0.2.77")).assert_problem(404, &there);
    let named = change("state", state("host.example"));
    named.assert_problem(400, "`host.example` is a name, not an address");
    let help = "give that address (`viaduct ctl list` shows them)";
    assert_eq!(named.json()["help"], help);
    let there = json!({"set": "nix", "destination": member, "weight": 2});
    change("weight", there).assert_problem(404, "there is no set `nix`; there are: farm");
    let heavy = json!({"destination": member, "weight": 1_000_001});
    change("weight", heavy).assert_problem(400, "give 1 to 1000000; for no new calls, set the");
    let twice = json!({"set": "farm", "destination": member});
    let twice = change("add", twice);
    twice.assert_problem(409, "already");
    let help = "`viaduct ctl state` and `viaduct ctl weight` change it";
    assert_eq!(twice.json()["help"], help);
    let own = json!({"set": "farm", "destination": farm.scene.front().to_string()});
    change("add", own).assert_problem(409, "in a circle");
    let advertised = json!({"set": "farm", "destination": "198.51.100.7:5070"});
    change("add", advertised).assert_problem(409, "in a circle");
    let unreachable = json!({"set": "farm", "destination": "[2001:db8::1]"});
    change("add", unreachable).assert_problem(409, "address family");
    let unknown = json!({"destination": member, "state": "idle"});
    change("state", unknown).assert_problem(400, "`draining`");
    let more = json!({"destination": member, "state": "active", "why": "so"});
    change("state", more).assert_problem(400, "`why`");
    change("state", json!([])).assert_problem(400, "application/json");
    let json = [("Content-Type", "application/json")];
    let twice = format!(r#"{{"destination":"{member}","state":"draining","state":"active"}}"#);
    admin
        .ask(
            "POST",
            "/api/v1/destinations/state",
            &json,
            twice.as_bytes(),
        )
        .assert_problem(400, "duplicate field `state`");
    let as_text = [("Content-Type", "text/plain")];
    let path = "/api/v1/destinations/state";
    admin
        .ask("POST", path, &as_text, b"{}")
        .assert_problem(415, "application/json");
    let long = vec![b' '; 65 * 1024];
    admin
        .ask("POST", path, &json, &long)
        .assert_problem(413, "length limit");
    admin.get("/nix").assert_problem(404, "openapi.json");
    admin.get("/api/v1/sets/%ff").assert_problem(400, "UTF-8");
    assert_eq!(admin.get("/api/v1/sets").body, before);
}

#[test]
fn what_was_said_of_a_destination_goes_with_it() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let change = |what: &str, body: Value| {
        let done = admin.post(&format!("/api/v1/destinations/{what}"), &body);
        done.assert_done()["said"].to_string()
    };
    let member = farm.member(0);
    change("state", json!({"destination": member, "state": "draining"}));
    change("weight", json!({"destination": member, "weight": 7}));
    let said = change("remove", json!({"destination": member}));
    assert!(!said.contains("answered 503"), "{said}");
    let other = json!({"destination": farm.member(1), "state": "draining"});
    let said = change("state", other);
    assert!(
        said.contains("set farm: no destination is active; calls are answered 503"),
        "{said}"
    );
    let uri = format!("sip:{member};weight=2");
    let said = change("add", json!({"set": "farm", "destination": uri}));
    assert!(said.contains("active, weight 2"), "{said}");
}

#[test]
fn over_tcp_anybody_reads_and_the_token_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "the first of tokens\n").expect("the file");
    let token_file = token.to_str().expect("text");
    let tcp = [
        "--admin-listen",
        "127.0.0.1:0",
        "--admin-token-file",
        token_file,
    ];
    let (farm, _) = Farm::with_admin(&["", ""], "", &tcp);
    let admin = Admin::all(&farm.scene.viaduct).swap_remove(1);
    assert_eq!(admin.get("/api/v1/status").status, 200);
    let body = json!({"destination": farm.member(0), "state": "draining"}).to_string();
    let change = |credentials: Option<&str>| {
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(credentials.map(|given| ("Authorization", given)));
        admin.ask(
            "POST",
            "/api/v1/destinations/state",
            &headers,
            body.as_bytes(),
        )
    };
    for wrong in [
        None,
        Some("Bearer the second of tokens"),
        Some("Bearer "),
        Some("the first of tokens"),
        Some("B"),
    ] {
        let answer = change(wrong);
        answer.assert_problem(401, "token-file");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let explain = "/api/v1/explain?call_id=a";
    admin.get(explain).assert_problem(401, "token-file");
    let bearing = [("Authorization", "Bearer the first of tokens")];
    let told = admin.ask("GET", explain, &bearing, b"").assert_done();
    assert_eq!(told["action"], "forward");
    assert_eq!(admin.get("/api/v1/status").json()["generation"], 1);
    change(Some("Bearer the first of tokens")).assert_done();
    assert_eq!(farm.shares(20), [0, 20]);
    let log = farm.scene.viaduct.output();
    assert!(log.contains("asked by 127.0.0.1:"), "{log}");
    let denied = "\nwarning: admin: refused a request from 127.0.0.1:";
    assert_eq!(log.matches(denied).count(), 1, "of six: {log}");
    let metrics = admin.get("/metrics").body;
    assert!(
        metrics.contains("\nviaduct_admin_denied_total 6\n"),
        "{metrics}"
    );
    // The token can be changed at any time.
    fs::write(&token, "the second of tokens").expect("the file");
    change(Some("Bearer the first of tokens")).assert_problem(401, "not the token");
    change(Some("bearer the second of tokens")).assert_done();
    fs::write(&token, "\n").expect("the file");
    change(Some("Bearer ")).assert_problem(403, "empty");
    fs::write(&token, "the first of tokens\nthe second of tokens\n").expect("the file");
    change(Some("Bearer the first of tokens")).assert_problem(403, "more than one line");
    fs::write(&token, "fifteen octets.\n").expect("the file");
    change(Some("Bearer fifteen octets.")).assert_problem(403, "16 octets or more");
}

#[test]
fn without_a_token_file_tcp_only_reads() {
    let (farm, _) = Farm::with_admin(&["", ""], "", &["--admin-listen", "127.0.0.1:0"]);
    let admin = Admin::all(&farm.scene.viaduct).swap_remove(1);
    let remove = json!({"destination": farm.member(0)});
    let answer = admin.post("/api/v1/destinations/remove", &remove);
    answer.assert_problem(403, "admin.token-file");
    // To be told what would be sent would be to have it signed.
    let message = farm.scene.request("INVITE").text();
    let answer = admin.ask("POST", "/api/v1/explain", &[], message.as_bytes());
    answer.assert_problem(403, "admin.token-file");
    let answer = admin.get("/api/v1/explain?call_id=a");
    answer.assert_problem(403, "admin.token-file");
}

#[test]
fn instances_that_agree_have_one_table_id() {
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    let secret = secret.to_str().expect("text");
    let instance = |secret: &str, name: &str| {
        let path = folder.path().join(name);
        let args = [
            "--listen",
            "127.0.0.1:0",
            "--secret-file",
            secret,
            "--health",
            "off",
        ];
        let to = [
            "--to",
            "192.0.2.1,192.0.2.2",
            "--admin",
            path.to_str().expect("text"),
        ];
        Viaduct::start(&[&args[..], &to].concat())
    };
    let [a, b] = ["a", "b"].map(|name| instance(secret, name));
    let other = folder.path().join("other");
    let c = instance(other.to_str().expect("text"), "c");
    let [a, b, c] = [&a, &b, &c].map(Admin::of);
    let id = |admin: &Admin| admin.get("/api/v1/status").json()["table_id"].clone();
    let set = |admin: &Admin, state: &str| {
        let body = json!({"destination": "192.0.2.1", "state": state});
        admin
            .post("/api/v1/destinations/state", &body)
            .assert_done();
    };
    assert_eq!(id(&a), id(&b));
    assert_ne!(id(&a), id(&c), "another secret chooses otherwise");
    let before = id(&a);
    set(&a, "draining");
    assert_ne!(id(&a), id(&b));
    set(&b, "draining");
    assert_eq!(id(&a), id(&b));
    set(&a, "active");
    assert_eq!(id(&a), before);
}

#[test]
fn what_is_explained_is_what_is_done() {
    let (farm, admin) = Farm::with_admin(&["", "", ""], "", &[]);
    let arrival = format!("/api/v1/explain?from={}", farm.scene.caller.address());
    for _ in 0..20 {
        let invite = farm.scene.request("INVITE").text();
        let told = admin
            .ask("POST", &arrival, &[], invite.as_bytes())
            .assert_done();
        let (member, got) = farm.scene.pass(&invite);
        assert_eq!(told["to"], farm.member(member));
        assert_eq!(told["after"], String::from_utf8_lossy(&got).as_ref());
    }
    let by_id = admin.get("/api/v1/explain?call_id=a%40b").assert_done();
    assert_eq!(by_id["selection"]["key"]["value"], "a@b");
    assert_eq!(by_id["selection"]["secret_known"], true);
    let as_text = [("Accept", "text/plain")];
    let lines = admin
        .ask("GET", "/api/v1/explain?call_id=a", &as_text, b"")
        .body;
    assert!(lines.contains("\nkey        call-id a\n"), "{lines}");
    admin.get("/api/v1/explain").assert_problem(400, "call_id");
    admin
        .get("/api/v1/explain?call_id=a%0Db")
        .assert_problem(400, "control characters");
    admin
        .get("/api/v1/explain?call_id=a&from=nix")
        .assert_problem(400, "nix");
    admin
        .get("/api/v1/explain?call_id=a&listener=nix")
        .assert_problem(400, "there are 127.0.0.1");
    let listener = farm.scene.front();
    admin
        .get(&format!(
            "/api/v1/explain?call_id=a&from=%5B::1%5D&listener={listener}"
        ))
        .assert_problem(400, "other address family");
    let nonsense = admin
        .ask("POST", "/api/v1/explain", &[], b"\0")
        .assert_done();
    assert_eq!(nonsense["action"], "drop");
    assert_eq!(admin.get("/api/v1/status").json()["totals"]["received"], 20);
}

#[test]
fn keys_are_kept_back() {
    let mirror = "[mirror]\nto = '127.0.0.1:9'\nkey = 'geheim'\n";
    let (_farm, admin) = Farm::with_admin(&[""], mirror, &[]);
    let config = admin.get("/api/v1/config").body;
    assert!(
        config.contains("[mirror]") && !config.contains("geheim"),
        "{config}"
    );
    let secret = fs::read_to_string(admin.path().with_file_name("secret")).expect("a secret");
    for path in ["/api/v1/config", "/api/v1/status", "/api/v1/sets"] {
        assert!(!admin.get(path).body.contains(secret.trim()));
    }
}

#[test]
fn the_log_says_more_when_it_is_told_to() {
    let (mut farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let level = |level: &str| {
        let body = json!({"level": level});
        admin.post("/api/v1/log-level", &body).assert_done();
    };
    level("error");
    let quiet = farm.scene.viaduct.output().len();
    admin.post("/api/v1/reload", &json!({})).assert_done();
    assert_eq!(farm.scene.viaduct.output().len(), quiet);
    level("info");
    admin.post("/api/v1/reload", &json!({})).assert_done();
    assert!(farm.scene.viaduct.output()[quiet..].contains("reloaded: "));
    // So it does when the file says something else than before.
    let write = |farm: &Farm, keys: &str| {
        let file = fs::read_to_string(farm.path()).expect("the file");
        let rest = file.split_once("#\n").map_or(&*file, |(_, rest)| rest);
        fs::write(farm.path(), format!("{keys}#\n{rest}")).expect("the file");
    };
    write(&farm, "log.level = 'error'\n");
    admin.post("/api/v1/reload", &json!({})).assert_done();
    let quiet = farm.scene.viaduct.output().len();
    admin.post("/api/v1/reload", &json!({})).assert_done();
    assert_eq!(farm.scene.viaduct.output().len(), quiet);
    write(&farm, "log.format = 'json'\n");
    admin
        .post("/api/v1/reload", &json!({}))
        .assert_problem(409, "log.format");
    write(&farm, "");
    admin.post("/api/v1/reload", &json!({})).assert_done();
    farm.scene.viaduct.signal(Signal::USR1);
    farm.scene.viaduct.wait_for("counters", |output| {
        output.contains("counter received").then_some(())
    });
}

#[test]
fn nobody_writes_lines_of_the_log() {
    let (farm, admin) = Farm::with_admin(&[""], "", &[]);
    let forged = "nix\nasked by uid 0: \u{1b}[31mset farm: removed";
    let place = json!({"set": forged, "destination": farm.member(0)});
    let answer = admin.post("/api/v1/destinations/remove", &place);
    answer.assert_problem(404, "there is no set");
    let said = farm.scene.viaduct.output();
    assert!(said.contains("refused: there is no set `nix"), "{said}");
    assert!(!said.contains(['\u{1b}', '\r']), "{said}");
    assert!(!said.contains("\nasked by uid 0: "), "{said}");
}

#[test]
fn after_sigterm_traffic_is_no_more_wanted_while_calls_go_on() {
    let args = ["--stateful", "INVITE", "--stop-timeout", "1m"];
    let (farm, admin) = Farm::with_admin(&[""], "", &args);
    assert_eq!(admin.get("/readyz").status, 200);
    // It waits for an answer that does not come.
    farm.scene.pass(farm.scene.request("INVITE").text());
    farm.scene.viaduct.signal(Signal::TERM);
    wait_until("its going", || admin.get("/readyz").status != 200);
    let answer = admin.get("/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("SIGTERM"), "{answer:?}");
    assert_eq!(admin.get("/livez").status, 200);
    assert_eq!(admin.get("/api/v1/status").json()["ready"], false);
}
