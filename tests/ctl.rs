//! `viaduct ctl` against a running instance: what it prints, what it does, and
//! how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use support::admin::{self, Admin};
use support::farm::{Farm, text};
use support::process::Signal;
use support::viaduct::Viaduct;
use support::{LONG, wait_until};

/// `viaduct ctl ARGS…` for the instance at `admin`.
fn ctl(admin: &str, args: &[&str]) -> Output {
    let output = admin::ctl(admin, args).output();
    output.expect("viaduct ctl")
}

struct Operator {
    farm: Farm,
    admin: String,
}

impl Operator {
    fn new(states: &[&str], args: &[&str]) -> Self {
        let (farm, admin) = Farm::with_admin(states, "", args);
        let admin = admin.path().display().to_string();
        Self { farm, admin }
    }

    /// What it prints when it is done.
    #[track_caller]
    fn does(&self, args: &[&str]) -> String {
        let output = ctl(&self.admin, args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let printed = self.does(&[args, &["--json"]].concat());
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
    }

    /// What it says when it cannot.
    #[track_caller]
    fn fails(&self, args: &[&str], code: i32) -> String {
        let output = ctl(&self.admin, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }
}

#[test]
fn the_list_shows_states_in_words_and_letters_and_share_against_weight() {
    let operator = Operator::new(
        &["", ";weight=3", ";state=draining", ";state=disabled"],
        &[],
    );
    operator.farm.shares(8);
    let list = operator.does(&["list"]);
    assert!(
        list.starts_with("viaduct ") && list.contains(", ready, generation 1, table "),
        "{list}"
    );
    assert!(
        list.contains("\nset farm: policy hash, hash key call-id\n"),
        "{list}"
    );
    assert!(!list.contains('\u{1b}'), "no colour but on a terminal");
    assert!(
        list.lines().all(|line| line.chars().count() <= 80),
        "{list}"
    );
    let row = |member: usize| {
        let address = operator.farm.member(member);
        let mut lines = list.lines().map(str::split_whitespace);
        let found = lines
            .find_map(|mut words| (words.next()? == address).then(|| words.collect::<Vec<_>>()));
        found
            .unwrap_or_else(|| panic!("no {address} in {list}"))
            .join(" ")
    };
    assert!(
        row(0).starts_with("AX active up 1 (17 %) 25 % "),
        "{}",
        row(0)
    );
    assert!(
        row(1).starts_with("AX active up 3 (50 %) 75 % "),
        "{}",
        row(1)
    );
    assert_eq!(row(2), "IX draining up 1 (17 %) 0 % 0 - -");
    assert_eq!(row(3), "DX disabled up 1 (17 %) 0 % 0 - -");
    let sets = Admin::Socket(operator.admin.clone().into())
        .get("/api/v1/sets")
        .json();
    assert_eq!(
        operator.json(&["list"])[0]["destinations"][2],
        sets[0]["destinations"][2]
    );
}

#[test]
fn what_is_changed_is_so_for_calls() {
    let operator = Operator::new(&["", "", "-"], &[]);
    let [first, second, third] = [0, 1, 2].map(|n| operator.farm.member(n));
    let said = operator.does(&["state", &first, "draining"]);
    assert!(
        said.starts_with(&format!("set farm: {first} changed: draining")),
        "{said}"
    );
    assert!(
        said.contains(" % of new calls go elsewhere than before\n"),
        "{said}"
    );
    assert_eq!(operator.farm.shares(20), [0, 20, 0]);
    operator.does(&["add", "farm", &format!("sip:{third};weight=2")]);
    operator.does(&["weight", &second, "18", "--set", "farm"]);
    let shares = operator.farm.shares(100);
    assert!(
        shares[0] == 0 && shares[1] > 70 && shares[2] > 0,
        "{shares:?}"
    );
    operator.does(&["remove", &second]);
    assert_eq!(operator.farm.shares(20), [0, 0, 20]);
    operator.does(&["drain", &third]);
    operator.does(&["weight", &third, "5"]);
    // The URI says nothing else than the weight beside it.
    let list = operator.json(&["list"]);
    let added = list[0]["destinations"]
        .as_array()
        .and_then(|all| all.last());
    let added = added.expect("a destination");
    assert_eq!(added["weight"], 5, "{list}");
    assert_eq!(added["uri"], format!("sip:{third}"), "{list}");
    let done = operator.json(&["state", &first, "active"]);
    assert_eq!(
        done["differences"][0]["after"],
        "active, weight 1, priority 0"
    );
    assert_eq!(operator.farm.shares(20), [20, 0, 0]);
    let counters = operator.does(&["stats"]);
    let invites = counters
        .lines()
        .find_map(|line| line.trim().strip_prefix("method-INVITE"));
    assert_eq!(invites.map(str::trim), Some("160"), "{counters}");
    assert_eq!(
        operator.json(&["stats"])["totals"]["requests"]["INVITE"],
        160
    );
}

#[test]
fn a_reload_tells_what_it_does_and_where_it_cannot() {
    let operator = Operator::new(&["", ""], &[]);
    let file = operator.farm.path();
    let write = |text: String| fs::write(&file, text).expect("the file");
    let members = &operator.farm.scene.farm;
    write(text(members, &[";weight=4", ";state=draining"], ""));
    let told = operator.does(&["reload", "--dry-run"]);
    assert!(
        told.starts_with("would be reloaded: generation 2"),
        "{told}"
    );
    let line = format!(
        "  set farm: {} changed: active, weight 4",
        operator.farm.member(0)
    );
    assert!(told.contains(&line), "{told}");
    assert!(
        operator.farm.shares(40).iter().all(|share| *share > 5),
        "only told"
    );
    assert!(
        operator
            .does(&["reload"])
            .starts_with("reloaded: generation 2")
    );
    assert_eq!(operator.farm.shares(20), [20, 0]);
    write(text(members, &[";weight=4", ""], ""));
    for args in [&["reload", "--dry-run"][..], &["reload"]] {
        let told = operator.does(args);
        let line = format!("\n  set farm: {} changed: active", operator.farm.member(1));
        assert!(told.contains(&line), "the only one that changes: {told}");
    }
    write(text(members, &["", ""], "").replace("farm'", "farm'\npolice = 'hash'"));
    let said = operator.fails(&["reload"], 1);
    let place = format!("{}:4:1: error: unknown key `police`", file.display());
    assert!(
        said.contains(&place) && said.contains("help: did you mean `policy`?"),
        "{said}"
    );
    write(text(members, &["", ""], "").replace("farm'", "farm'\n\"\\u001b[2J\" = 1"));
    let said = operator.fails(&["reload"], 1);
    assert!(said.contains("unknown key `\u{fffd}[2J`"), "{said}");
    let output = ctl(&operator.admin, &["reload", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let problem: Value = serde_json::from_slice(&output.stdout).expect("a problem");
    assert_eq!(problem["diagnostics"][0]["line"], 4);
    write(text(members, &["", ""], "batch = 7\n"));
    let said = operator.fails(&["reload"], 1);
    assert!(
        said.contains("help: upgrade (`viaduct ctl upgrade`"),
        "{said}"
    );
    write(text(members, &["", ""], ""));
    operator.does(&["state", &operator.farm.member(0), "disabled"]);
    operator.does(&["reload", "--forget-changes"]);
    assert!(operator.farm.shares(40).iter().all(|share| *share > 5));
}

#[test]
fn a_reload_names_what_else_moves_calls() {
    let operator = Operator::new(&["", ""], &[]);
    let file = operator.farm.path();
    let plain = text(&operator.farm.scene.farm, &["", ""], "");
    let routed = format!("{plain}[[route]]\nset = 'farm'\nmethod = ['BYE']\n");
    let keyed = routed.replace("farm'\nd", "farm'\nhash-key = 'from-uri'\nd");
    let turned = routed.replace("farm'\nd", "farm'\npolicy = 'round-robin'\nd");
    for (text, names) in [
        (&routed, "the routes differ from number 1 on"),
        (&keyed, "set farm: hash key from-uri (was call-id)"),
        (&routed, "set farm: hash key call-id (was from-uri)"),
        (&turned, "set farm: policy round-robin (was hash)"),
    ] {
        fs::write(&file, text).expect("the file");
        for args in [&["reload", "--dry-run"][..], &["reload"]] {
            let told = operator.does(args);
            assert!(told.contains(names), "{told}");
            assert!(told.contains("viaduct simulate --before"), "{told}");
        }
        let again = operator.does(&["reload"]);
        assert!(
            !again.contains(names) && !again.contains("simulate"),
            "{again}"
        );
        let said = operator.farm.scene.viaduct.output();
        assert!(said.contains(&format!("0 changed; {names}\n")), "{said}");
    }
    fs::write(&file, plain).expect("the file");
    let told = operator.json(&["reload", "--dry-run"]);
    assert_eq!(told["rules"].as_array().map(Vec::len), Some(2), "{told}");
    // By tables of different policies nobody can tell it.
    assert_eq!(told["moved"], serde_json::json!([]));
}

#[test]
fn a_set_that_takes_nothing_stands_out() {
    let mut operator = Operator::new(&["", ""], &[]);
    let [first, second] = [0, 1].map(|number| operator.farm.member(number));
    operator.does(&["drain", &first]);
    let trouble =
        "  all are down, draining or disabled: new work gets 503 unless a rule takes it\n";
    assert!(!operator.does(&["list"]).contains(trouble));
    operator.does(&["state", &second, "disabled"]);
    let list = operator.does(&["list"]);
    assert!(list.contains(trouble) && list.contains(&first), "{list}");
    let warning = "warning: set farm: no destination is active; calls are answered 503 unless a \
                   failure rule takes them\n";
    let viaduct = &mut operator.farm.scene.viaduct;
    viaduct.wait_for("a warning", |log| log.contains(warning).then_some(()));
    operator.does(&["state", &second, "active"]);
    assert!(!operator.does(&["list"]).contains(trouble));
}

#[test]
fn a_reload_that_leaves_a_set_idle_says_so() {
    let operator = Operator::new(&["", ""], &[]);
    let members = &operator.farm.scene.farm;
    let text = text(members, &[";state=draining", ";state=draining"], "");
    fs::write(operator.farm.path(), text).expect("the file");
    let warning = "warning: no destination of set";
    for args in [&["reload", "--dry-run"][..], &["reload"]] {
        let output = ctl(&operator.admin, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(warning), "{said}");
        // It has no excerpt here.
        assert!(!said.contains('|') && !said.contains('^'), "{said}");
        let told = String::from_utf8_lossy(&output.stdout);
        let idle = "set farm: no destination is active; calls are answered 503 unless a failure \
                    rule takes them\n";
        assert!(told.contains(idle), "{told}");
        assert!(!told.contains("elsewhere"), "{told}");
        // What is only told does not happen, and is not in the log.
        let log = operator.farm.scene.viaduct.output();
        assert_eq!(
            log.contains(warning.trim_start_matches("warning: ")),
            args.len() == 1,
            "{log}"
        );
    }
}

#[test]
fn shares_are_real_where_weights_have_no_effect() {
    let spare = ";weight=5;priority=-1";
    let operator = Operator::new(&["", spare], &["--policy", "kamailio"]);
    let list = operator.does(&["list"]);
    assert!(list.contains(" 1 (50 %)   50 % "), "{list}");
    assert!(list.contains(" 5 (50 %)   50 % "), "{list}");
    let said = operator.does(&["weight", &operator.farm.member(0), "3"]);
    assert!(
        said.contains("set farm: the weight has no effect with policy `kamailio`"),
        "{said}"
    );
}

#[test]
fn a_message_is_explained_by_what_runs() {
    let operator = Operator::new(&["", ""], &[]);
    operator.does(&["state", &operator.farm.member(0), "draining"]);
    let told = operator.does(&["explain", "--call-id", "a+b&c@d", "--from", "192.0.2.9"]);
    assert!(
        told.contains("from 192.0.2.9:5060") && told.contains("call-id a+b&c@d\n"),
        "{told}"
    );
    assert!(
        told.contains(&format!(
            "decision   forward to {}",
            operator.farm.member(1)
        )),
        "{told}"
    );
    let file = operator.farm.path().with_file_name("m.sip");
    fs::write(&file, operator.farm.scene.request("OPTIONS").text()).expect("a file");
    let told = operator.json(&["explain", "--message", file.to_str().expect("text")]);
    assert_eq!(told["to"], operator.farm.member(1));
    let said = operator.fails(&["explain", "--call-id", "a", "--listener", "nix"], 1);
    assert!(said.contains("help: there are 127.0.0.1:"), "{said}");
}

#[test]
fn a_drain_waits_until_nothing_of_a_dialog_was_seen_for_so_long() {
    let operator = Operator::new(&["", ""], &[]);
    let member = operator.farm.member(0);
    let quiet = Duration::from_secs(6);
    let (done, end) = mpsc::channel();
    let drain = {
        let (admin, member) = (operator.admin.clone(), member.clone());
        thread::spawn(move || {
            let output = ctl(&admin, &["drain", &member, "--wait", "6s"]);
            done.send(Instant::now()).expect("who waits");
            output
        })
    };
    let admin = Admin::Socket(operator.admin.clone().into());
    admin.wait_for("/api/v1/sets", |sets| {
        (sets[0]["destinations"][0]["state"] == "draining").then_some(())
    });
    // A call is still there, and shows itself for longer than the wait.
    let until = Instant::now() + quiet + Duration::from_secs(1);
    let mut last = Instant::now();
    while Instant::now() < until {
        let info = operator
            .farm
            .scene
            .request("INFO")
            .to("<sip:desk@farm.example>;tag=t");
        last = Instant::now();
        let (at, _) = operator
            .farm
            .scene
            .pass(info.uri(format!("sip:desk@{member}")).text());
        assert_eq!(at, 0);
        assert!(
            end.recv_timeout(Duration::from_millis(300)).is_err(),
            "it did not wait"
        );
    }
    let ended = end.recv_timeout(LONG).expect("an end");
    // Ages are told in whole seconds.
    assert!(ended - last >= quiet - Duration::from_secs(1));
    let output = drain.join().expect("the drain");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("no request within a dialog for 6s; a call may go on without one"),
        "{said}"
    );
    assert_eq!(operator.farm.shares(20), [0, 20]);
}

#[test]
fn a_drain_waits_on_while_nobody_answers_and_not_for_long() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let admin = socket.display().to_string();
    let run = |to: &str| {
        let args = ["--listen", "127.0.0.1:0", "--to", to, "--admin", &admin];
        Viaduct::start(&args)
    };
    let quiet = Duration::from_secs(6);
    // It waits from when it says that the destination drains.
    let drain = || {
        let mut command = admin::ctl(&admin, &["drain", "10.0.0.1", "--wait", "6s"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("viaduct ctl");
        let mut said = String::new();
        let printed = child.stdout.as_mut().expect("a pipe");
        BufReader::new(printed)
            .read_line(&mut said)
            .expect("a line");
        assert!(said.contains("changed: draining"), "{said}");
        child
    };
    let viaduct = run("10.0.0.1");
    let drained = drain();
    viaduct.stop();
    // It asks, and nobody answers.
    let deaf = UnixListener::bind(&socket).expect("a socket");
    deaf.set_nonblocking(true)
        .expect("a socket that does not block");
    wait_until("its question", || deaf.accept().is_ok());
    fs::remove_file(&socket).expect("the socket");
    let began = Instant::now();
    let viaduct = run("sip:10.0.0.1;state=draining");
    let output = drained.wait_with_output().expect("the drain");
    assert!(output.status.success(), "{output:?}");
    assert!(began.elapsed() >= quiet, "the one of before was counted");
    viaduct.stop();

    let viaduct = run("10.0.0.1");
    let drained = drain();
    viaduct.stop();
    let viaduct = run("10.0.0.1");
    let output = drained.wait_with_output().expect("the drain");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let wanted = "10.0.0.1:5060 takes new calls again: ";
    assert!(said.contains(wanted), "{said}");

    let drained = drain();
    viaduct.stop();
    let output = drained.wait_with_output().expect("the drain");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let wanted = "nobody has answered for 10s, so 10.0.0.1:5060 may have calls: ";
    assert!(said.contains(wanted), "{said}");

    // What is there now comes to nothing however often it is asked.
    let viaduct = run("10.0.0.1");
    let drained = drain();
    viaduct.stop();
    answer_all(&socket, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let output = drained.wait_with_output().expect("the drain");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(STRANGER), "{said}");
}

const STRANGER: &str = "what answers is no Viaduct, or of another version than this program (";

/// Has a program at `socket` that answers so whatever it is asked.
fn answer_all(socket: &Path, answer: &'static str) {
    let listener = UnixListener::bind(socket).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let head = BufReader::new(&stream).lines();
            head.map_while(Result::ok).find(String::is_empty);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
}

#[test]
fn what_answers_and_is_no_viaduct_is_called_so() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, answer) in [
        ("a", "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n<html/>"),
        ("b", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
        ("c", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"),
        ("d", "-ERR unknown command\r\n"),
    ] {
        let socket = folder.path().join(name);
        answer_all(&socket, answer);
        let output = ctl(socket.to_str().expect("text"), &["list"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{answer}: {said}");
        assert!(said.contains(STRANGER), "{answer}: {said}");
        assert!(said.contains("\n  help: "), "{answer}: {said}");
    }
}

#[test]
fn a_drain_waits_for_a_hung_instance_no_longer_than_for_one_that_is_gone() {
    let operator = Operator::new(&["", ""], &[]);
    let member = operator.farm.member(0);
    let mut drain = admin::ctl(&operator.admin, &["drain", &member, "--wait", "1m"]);
    drain.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut drain = drain.spawn().expect("viaduct ctl");
    let mut said = String::new();
    let printed = drain.stdout.as_mut().expect("a pipe");
    let read = BufReader::new(printed).read_line(&mut said);
    read.expect("a line");
    operator.farm.scene.viaduct.signal(Signal::STOP);
    // One request alone may take a minute.
    let end = Instant::now() + Duration::from_secs(40);
    while drain.try_wait().expect("its state").is_none() {
        assert!(Instant::now() < end, "it waits for a hung instance");
        thread::sleep(Duration::from_millis(50));
    }
    let output = drain.wait_with_output().expect("the drain");
    operator.farm.scene.viaduct.signal(Signal::CONT);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    let wanted = format!("nobody has answered for 10s, so {member} may have calls: ");
    assert!(said.contains(&wanted), "{said}");
}

#[test]
fn over_tcp_it_bears_the_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    fs::write(&token, "open sesame, please\n").expect("the file");
    let token = token.to_str().expect("text");
    let tcp = ["--admin-listen", "127.0.0.1:0", "--admin-token-file", token];
    let operator = Operator::new(&["", ""], &tcp);
    let Admin::Tcp(address) = Admin::all(&operator.farm.scene.viaduct).swap_remove(1) else {
        panic!("no address");
    };
    let operator = Operator {
        admin: format!("http://{address}"),
        ..operator
    };
    assert!(operator.does(&["list"]).contains("set farm"));
    let member = operator.farm.member(0);
    let said = operator.fails(&["drain", &member], 1);
    assert!(said.contains("needs the token\n  help: "), "{said}");
    assert!(said.contains("--token-file FILE"), "{said}");
    let explain = ["explain", "--call-id", "a"];
    let said = operator.fails(&explain, 1);
    assert!(said.contains("needs the token\n  help: "), "{said}");
    let told = operator.does(&[&["--token-file", token][..], &explain].concat());
    assert!(told.contains("decision   forward to "), "{told}");
    operator.does(&["--token-file", token, "drain", &member]);
    assert_eq!(operator.farm.shares(20), [0, 20]);
}

/// The log and `check` write it so.
#[test]
fn the_address_that_the_log_prints_can_be_given() {
    let operator = Operator::new(&["", ""], &[]);
    let output = operator.farm.scene.viaduct.output();
    let printed = output.lines().find_map(|line| line.strip_prefix("admin: "));
    let admin = printed.expect("its address").to_owned();
    assert_eq!(admin, format!("unix:{}", operator.admin));
    let operator = Operator { admin, ..operator };
    assert!(operator.does(&["list"]).contains("set farm"));
}

#[test]
fn who_cannot_is_told_what_to_do() {
    let operator = Operator::new(&["", ""], &[]);
    let nobody = Operator {
        admin: "/nix/admin.sock".to_owned(),
        ..operator
    };
    let said = nobody.fails(&["list"], 1);
    assert!(
        said.contains("/nix/admin.sock: ") && said.contains("help: is it running"),
        "{said}"
    );
    let secure = Operator {
        admin: "https://127.0.0.1:1".to_owned(),
        ..nobody
    };
    assert!(secure.fails(&["list"], 2).contains("give http://ADDR:PORT"));
    for (admin, code, part) in [
        ("http://127.0.0.1:1/status", 2, "`1/status` is not a port"),
        ("http://[::1", 2, "give http://ADDR:PORT"),
        ("http://[::1]:70000", 2, "`70000` is not a port"),
        ("unix:", 2, "give the path of a socket, or http://ADDR:PORT"),
        // The default port.
        ("http://127.0.71.1", 1, "http://127.0.71.1:8060: "),
        ("http://[::1]:1", 1, "http://[::1]:1: "),
    ] {
        let output = ctl(admin, &["list"]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{admin}: {said}");
        assert!(said.contains(part), "{admin}: {said}");
    }
    let admin = "http://127.0.0.1:1";
    let said = ctl(admin, &["--token-file", "nope", "list"]).stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("token file nope: "), "{said}");
    let said = secure.fails(&["state", "192.0.2.1", "asleep"], 2);
    assert!(said.contains("active, draining, disabled"), "{said}");
    assert!(secure.fails(&["explain"], 2).contains("--call-id"));
}
