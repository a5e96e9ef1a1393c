//! SIGHUP or the API: a running Viaduct takes another configuration, whole or
//! not at all, and no datagram notices but by where it goes.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use serde_json::json;

use support::dialog::{Peer, Request, Scene, read, response, status};
use support::farm::{Farm, LISTEN, text};
use support::net::V4;
use support::process::Signal;
use support::wait_until;

#[test]
fn a_member_comes_drains_and_goes() {
    let mut farm = Farm::new(&["", "-"], "", &[]);
    assert_eq!(farm.shares(20), [20, 0]);
    let said = farm.change(&["", ""]);
    assert_eq!(
        said,
        "reloaded: generation 2, destinations: 1 added, 0 removed, 0 changed\n"
    );
    let shares = farm.shares(100);
    assert!(shares.iter().all(|share| *share > 20), "{shares:?}");
    let said = farm.change(&[";state=draining", ";weight=3"]);
    assert_eq!(
        said,
        "reloaded: generation 3, destinations: 0 added, 0 removed, 2 changed\n"
    );
    assert_eq!(farm.shares(50), [0, 50]);
    let named = |farm: &Farm| {
        let uri = format!("sip:desk@{}", farm.scene.farm[0].address());
        farm.scene.pass(farm.scene.request("BYE").uri(uri).text()).0
    };
    assert_eq!(named(&farm), 0, "a draining member is there by its name");
    let said = farm.change(&["-", ""]);
    assert_eq!(
        said,
        "reloaded: generation 4, destinations: 0 added, 1 removed, 1 changed\n"
    );
    assert_eq!(farm.shares(50), [0, 50]);
    assert_eq!(named(&farm), 1, "one that is gone is not");
}

#[test]
fn nothing_is_lost_or_sent_astray_while_the_farm_changes() {
    let farm = Farm::new(&["", "", "", ""], "", &["--workers", "2"]);
    let steps: [&[&str]; 8] = [
        &["", "", "", ";state=draining"],
        &["", "", "", "-"],
        &["", ";weight=4", "", "-"],
        &["", "", "", ""],
        &[";state=draining", "", "", ";weight=2"],
        &["-", "", "", ""],
        &["", "-", ";state=disabled", ""],
        &["", "", "", ""],
    ];
    let mut expected = 0;
    for states in steps {
        fs::write(farm.path(), text(&farm.scene.farm, states, "")).expect("the file");
        let before = farm.scene.viaduct.output().len();
        farm.scene.viaduct.signal(Signal::HUP);
        // Calls go on before, while and after it reloads.
        loop {
            let requests: BTreeMap<_, _> = (0..40)
                .map(|_| farm.scene.request("INVITE"))
                .map(|request| (request.call_id.clone().into_bytes(), request))
                .collect();
            let said = farm.scene.viaduct.output()[before..].to_owned();
            for request in requests.values() {
                farm.scene.send(request.text());
            }
            for _ in 0..requests.len() {
                let (member, got) = farm.scene.at_farm();
                assert!(requests.contains_key(&read(&got).call_id));
                if said.contains("reloaded") {
                    assert!(
                        !["-", ";state=draining", ";state=disabled"].contains(&states[member]),
                        "member {member} in {states:?}"
                    );
                }
                let answer = response(&got, "486 Busy Here", "t");
                farm.scene.farm[member].send(farm.scene.front(), answer);
            }
            for _ in 0..requests.len() {
                let got = farm.scene.caller.receive();
                assert_eq!(status(&got), 486);
                assert!(requests.contains_key(&read(&got).call_id));
            }
            expected += requests.len() as u64;
            if said.contains("reloaded") {
                break;
            }
        }
    }
    let counters = farm.scene.viaduct.stop();
    assert_eq!(counters.get("requests-forwarded"), expected);
    assert_eq!(counters.get("responses-forwarded"), expected);
    counters.assert_all_forwarded();
}

#[test]
fn counters_stay_with_set_and_address() {
    let mut farm = Farm::new(&["", "", "-"], "", &[]);
    let before = farm.shares(60);
    let members = farm.scene.farm.iter();
    let names: Vec<_> = members
        .map(|member| format!("to-farm-{}", member.address()))
        .collect();
    // The first leaves, so that the second has another place.
    farm.change(&["-", "", ""]);
    let after = farm.shares(60);
    let counters = farm.scene.viaduct.counters();
    assert_eq!(counters.get("requests-forwarded"), 120);
    assert_eq!(counters.get(&names[1]), (before[1] + after[1]) as u64);
    assert_eq!(counters.get(&names[2]), after[2] as u64);
    assert_eq!(counters.get(&names[0]), 0);
}

#[test]
fn in_turn_what_is_remembered_stays() {
    let more = "policy = 'round-robin'\n";
    let mut farm = Farm::new(&["", "", "-"], more, &[]);
    let calls: Vec<_> = (0..40).map(|_| farm.scene.request("INVITE")).collect();
    let place = |farm: &Farm| -> Vec<usize> {
        let pass = |call: &support::dialog::Request| farm.scene.pass(call.text()).0;
        calls.iter().map(pass).collect()
    };
    let first = place(&farm);
    // Another place in the file, a draining one, and a new one.
    let farm_text = text(&farm.scene.farm, &["-", ";state=draining", ""], more);
    let back = format!("destinations = ['sip:{}', ", farm.scene.farm[2].address());
    let added = farm_text.replace("destinations = [", &back);
    let swapped = added.replace(
        &format!(", 'sip:{}']", farm.scene.farm[2].address()),
        &format!(", 'sip:{}']", farm.scene.farm[0].address()),
    );
    farm.reload(&swapped);
    assert_eq!(place(&farm), first);
    // The draining one has no turn.
    let new = farm.shares(30);
    assert_eq!(new[1], 0, "{new:?}");
    assert!(new[0] > 0 && new[2] > 0, "{new:?}");
}

#[test]
fn a_broken_file_leaves_what_was() {
    let mut farm = Farm::new(&["", ""], "", &[]);
    let good = text(&farm.scene.farm, &["", ""], "");
    for (broken, place) in [
        ("[[set]\n".to_owned(), ":1:"),
        (
            good.replace("farm'", "farm'\npolice = 'hash'"),
            ":4:1: error: ",
        ),
        (
            good.replace("sip:127", "sip:host.example"),
            ":4:17: error: ",
        ),
        (format!("{LISTEN}\n"), "there is no destination"),
        (format!("{LISTEN}\nset = []\n"), ":3:7: error: "),
    ] {
        let said = farm.reload(&broken);
        let file = farm.path().display().to_string();
        assert!(said.contains("error: ") && said.contains(place), "{said}");
        assert!(
            place.starts_with("there") || said.contains(&format!("{file}{place}")),
            "{said}"
        );
        assert!(
            said.ends_with("reload refused, the configuration of before stays\n"),
            "{said}"
        );
        let shares = farm.shares(40);
        assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
    }
    fs::remove_file(farm.path()).expect("the file");
    let before = farm.scene.viaduct.output().len();
    farm.scene.viaduct.signal(Signal::HUP);
    farm.scene.viaduct.wait_for("a refusal", |output| {
        output[before..].contains("reload refused").then_some(())
    });
    let said = farm.change(&["", "-"]);
    assert!(said.starts_with("reloaded: generation 2"), "{said}");
    assert_eq!(farm.shares(20), [20, 0]);
}

#[test]
fn what_a_listener_is_also_known_as_changes() {
    let mut farm = Farm::new(&[""], "", &[]);
    let request = farm.scene.request("INVITE");
    let request = request.row("Route: <sip:lb.example.com:5080;lr>").text();
    let routes = |farm: &Farm| read(farm.scene.pass(&request).1).routes.len();
    assert_eq!(routes(&farm), 1);
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n\
                    also-known-as = ['lb.example.com:5080']\n";
    let text = text(&farm.scene.farm, &[""], "").replace(LISTEN, listener);
    let said = farm.reload(&text);
    assert!(said.starts_with("reloaded"), "{said}");
    assert_eq!(routes(&farm), 0);
}

#[test]
fn what_a_start_alone_can_change_is_refused_by_name() {
    let mut farm = Farm::new(&["", ""], "", &["--secret-file", "secret"]);
    for (lines, keys) in [
        ("batch = 7\n", "`batch`"),
        ("spin-us = 1\ngso = 'off'\n", "`gso`, `spin-us`"),
        ("advertise = 'sip.example.com'\n", "`listener`"),
        (
            "reply-rate = 1\nsteer = 'source'\n",
            "`steer`, `reply-rate`",
        ),
        ("pin = false\ncoalesce-us = 1\n", "`pin`, `coalesce-us`"),
        (
            "resolve = 'on'\nresolver = ['192.0.2.53']\n",
            "`resolve`, `resolver`",
        ),
        (
            "receive-buffer = 4096\nsend-buffer = 4096\n",
            "`receive-buffer`, `send-buffer`",
        ),
    ] {
        let text = text(&farm.scene.farm, &["-", ""], lines);
        let said = farm.reload(&text);
        let wanted = format!(
            "reload refused, the configuration of before stays: only an upgrade or a restart can change {keys}\n"
        );
        assert!(said.contains(&wanted), "{said}");
        farm.scene.viaduct.wait_for("a help", |output| {
            output.contains("help: upgrade (").then_some(())
        });
        let shares = farm.shares(40);
        assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
    }
    let another = text(&farm.scene.farm, &["-", ""], "").replace("127.0.0.1:0", "127.0.0.1:1");
    assert!(farm.reload(&another).contains("`listener`"));
    let said = farm.change(&["-", ""]);
    assert!(said.starts_with("reloaded: "), "{said}");
}

#[test]
fn routes_and_allowed_hosts_change_too() {
    let mut farm = Farm::new(&["", "-"], "", &[]);
    let [first, second] = [0, 1].map(|n: usize| farm.scene.farm[n].address());
    let named = |farm: &Farm| {
        let route = format!("Route: <sip:{second};lr>");
        farm.scene
            .pass(farm.scene.request("INVITE").row(route).text())
            .0
    };
    assert_eq!(named(&farm), 0);
    let one = format!("[[set]]\nname = 'a'\ndestinations = ['{first}']\n");
    let said = farm.reload(&format!("{LISTEN}allow-next-hop = ['127.0.0.1']\n{one}"));
    assert!(said.contains("1 added, 1 removed"), "another set: {said}");
    assert_eq!(named(&farm), 1);
    let said = farm.reload(&format!(
        "{LISTEN}{one}[[set]]\nname = 'b'\ndestinations = ['{second}']\n\
         [[route]]\nset = 'b'\nmethod = 'OPTIONS'\n"
    ));
    assert!(said.contains("1 added, 0 removed"), "{said}");
    let pass = |method| farm.scene.pass(farm.scene.request(method).text()).0;
    assert_eq!([pass("INVITE"), pass("OPTIONS")], [0, 1]);
}

#[test]
fn a_dispatcher_list_is_read_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("d.list");
    let farm: Vec<Peer> = (0..2).map(|_| Peer::new(V4)).collect();
    let line = |n: usize, flags| format!("1 sip:{} {flags}\n", farm[n].address());
    fs::write(&list, line(0, 0)).expect("the list");
    let both = line(0, 1) + &line(1, 0);
    let args = ["--listen", "127.0.0.1:0", "--dispatcher-list"].map(str::to_owned);
    let args = [&args[..], &[list.display().to_string()]].concat();
    let mut scene = Scene::with(farm, &args, &[]);
    assert_eq!(scene.pass(scene.request("INVITE").text()).0, 0);
    fs::write(&list, both).expect("the list");
    let before = scene.viaduct.output().len();
    scene.viaduct.signal(Signal::HUP);
    scene.viaduct.wait_for("a reload", |output| {
        output[before..]
            .contains("1 added, 0 removed, 1 changed\n")
            .then_some(())
    });
    for _ in 0..20 {
        assert_eq!(scene.pass(scene.request("INVITE").text()).0, 1);
    }
}

#[test]
fn the_last_request_of_a_dialog_is_shown_for_each_destination() {
    let mut farm = Farm::new(&["", "", "-"], "", &[]);
    let members = farm.scene.farm.iter();
    let names: Vec<_> = members
        .map(|member| format!("last-in-dialog-farm-{}", member.address()))
        .collect();
    let shown = |farm: &mut Farm| {
        let counters = farm.scene.viaduct.counters();
        let shown: Vec<_> = names.iter().map(|name| counters.has(name)).collect();
        shown
    };
    farm.shares(20);
    assert_eq!(shown(&mut farm), [false, false, false], "no dialog yet");
    let front = farm.scene.front();
    let bye = farm
        .scene
        .request("BYE")
        .to("<sip:desk@farm.example>;tag=t");
    let first = farm.scene.farm[0].address();
    farm.scene
        .pass(bye.clone().uri(format!("sip:desk@{first}")).text());
    assert_eq!(shown(&mut farm), [true, false, false], "to a member");
    // It moves to another place, and keeps what was seen of it.
    farm.change(&["", ";state=draining", ""]);
    let phone = format!("sip:ann@{}", farm.scene.caller.address());
    let from = Request::new("BYE", farm.scene.farm[1].address());
    let from = from.to("<sip:ann@phones.example>;tag=t").uri(phone);
    farm.scene.farm[1].send(front, from.text());
    farm.scene.caller.receive();
    assert_eq!(shown(&mut farm), [true, true, false], "from a member");
    wait_until("its age", || farm.scene.viaduct.counter(&names[0]) > 0);
    farm.change(&["-", "", ""]);
    assert_eq!(shown(&mut farm), [false, true, false], "the first is gone");
}

#[test]
fn many_reloads_at_once_are_neither_lost_nor_torn() {
    /// Fewer than are served at a time: none loses its place to another.
    const MANY: usize = 60;
    let (mut farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let texts = [";weight=2", ";weight=7"].map(|both| text(&farm.scene.farm, &[both, both], ""));
    let draft = farm.path().with_extension("draft");
    let reloads: Vec<_> = (0..MANY)
        .map(|n| {
            let admin = admin.clone();
            (
                n,
                thread::spawn(move || {
                    admin
                        .post("/api/v1/reload", &json!({"dry_run": false}))
                        .assert_done()
                }),
            )
        })
        .collect();
    let mut answers = Vec::new();
    for (n, reload) in reloads {
        // The file appears whole, whichever it is.
        fs::write(&draft, &texts[n % 2]).expect("a file");
        fs::rename(&draft, farm.path()).expect("the file");
        let sets = admin.get("/api/v1/sets").json();
        let weight = |n: usize| {
            sets[0]["destinations"][n]["weight"]
                .as_u64()
                .expect("a weight")
        };
        assert_eq!(weight(0), weight(1), "torn: {sets}");
        answers.push(reload.join().expect("an answer"));
    }
    let told = farm.scene.viaduct.wait_for("all reloads", |output| {
        let told = output.matches("\nreloaded: ").count();
        (told >= MANY).then_some(told)
    });
    assert_eq!(told, MANY);
    for answer in &answers {
        let generation = answer["generation"].as_u64().expect("a number");
        let differs = answer["differences"].as_array().expect("a list").len();
        assert!(
            generation <= 1 + MANY as u64 && [0, 2].contains(&differs),
            "{answer}"
        );
    }
    let done = farm.change(&[";weight=5", ";weight=5"]);
    assert!(done.contains("2 changed"), "{done}");
    assert!(farm.shares(40).iter().all(|share| *share > 5));
}

#[test]
fn a_refused_reload_says_where_and_a_dry_run_only_tells() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let reload = |dry_run| admin.post("/api/v1/reload", &json!({"dry_run": dry_run}));
    let good = text(&farm.scene.farm, &["", ";state=draining"], "");
    fs::write(farm.path(), good.replace("farm'", "farm'\npolice = 'hash'")).expect("the file");
    for dry_run in [true, false] {
        let answer = reload(dry_run);
        answer.assert_problem(422, "the configuration of before stays");
        let wrong = &answer.json()["diagnostics"][0];
        assert_eq!(wrong["file"], farm.path().display().to_string());
        assert_eq!((&wrong["line"], &wrong["column"]), (&json!(4), &json!(1)));
        assert_eq!(wrong["help"], "did you mean `policy`?");
    }
    let shares = farm.shares(40);
    assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
    let last = &admin.get("/api/v1/status").json()["last_reload"];
    assert_eq!(last["successful"], false);
    let said = last["said"].as_str().expect("words");
    let place = format!("{}:4:1: error: ", farm.path().display());
    assert!(
        said.starts_with(&place) && said.contains("police"),
        "{said}"
    );
    fs::write(
        farm.path(),
        text(&farm.scene.farm, &["", ""], "batch = 7\n"),
    )
    .expect("the file");
    reload(false).assert_problem(409, "upgrade");
    let last = &admin.get("/api/v1/status").json()["last_reload"];
    assert_eq!(
        last["said"],
        "only an upgrade or a restart can change `batch`"
    );
    fs::write(farm.path(), good).expect("the file");
    let done = reload(true).assert_done();
    assert_eq!(done["differences"][0]["address"], farm.member(1));
    let share = done["moved"][0]["share"].as_f64().expect("a share");
    assert!((0.4..0.6).contains(&share), "{done}");
    assert_eq!(admin.get("/api/v1/status").json()["generation"], 1);
    let shares = farm.shares(40);
    assert!(shares.iter().all(|share| *share > 5), "{shares:?}");
    let done = reload(false).assert_done();
    assert_eq!(done["generation"], 2);
    assert_eq!(farm.shares(20), [20, 0]);
    assert_eq!(
        admin.get("/api/v1/status").json()["last_reload"]["successful"],
        true
    );
}

#[test]
fn each_other_setting_that_changes_is_named() {
    let (mut farm, admin) = Farm::with_admin(&[""], "", &[]);
    let plain = text(&farm.scene.farm, &[""], "");
    let dry = |text: &str| {
        fs::write(farm.path(), text).expect("the file");
        let asked = json!({"dry_run": true});
        admin.post("/api/v1/reload", &asked).assert_done()
    };
    let unchanged = dry(&plain);
    assert_eq!(unchanged["settings"], json!([]));
    let said = unchanged["said"].as_str().expect("words");
    assert!(said.ends_with("0 changed"), "{said}");
    let listener = "[[listener]]\naddress = '127.0.0.1:0'\n";
    let keys = [
        ("allow-next-hop", "allow-next-hop = ['192.0.2.0/24']"),
        ("failover-after", "failover-after = '2s'"),
        ("failover-status", "failover-status = [404]"),
        ("retry-after-cap", "retry-after-cap = '5s'"),
        ("ring-timeout", "ring-timeout = '9s'"),
        ("second-chance-s", "second-chance-s = 9"),
        ("record-route", "record-route = 'on'"),
        ("path", "path = 'on'"),
        ("timers", "timers = { T1 = '300ms' }"),
        ("log.level", "log = { level = 'debug' }"),
    ];
    let in_set = [
        ("member-sources", "member-sources = ['192.0.2.0/24']"),
        ("when-all-down", "when-all-down = 'reply'"),
        ("on-failure", "[[on-failure]]\nstatus = [486]\nset = 'farm'"),
        ("set", "[[set]]\nname = 'more'\ndestinations = '192.0.2.1'"),
    ];
    let of_listener = [
        ("proxy-protocol", "proxy-protocol = ['192.0.2.0/24']"),
        ("egress", "egress = ['192.0.2.0/24']"),
    ];
    let keys = keys.map(|(key, line)| (key, format!("{line}\n{plain}")));
    let in_set = in_set.map(|(key, line)| (key, format!("{plain}{line}\n")));
    let of_listener = of_listener.map(|(key, line)| {
        let listener = format!("{listener}{line}\n");
        (key, plain.replace(LISTEN, &listener))
    });
    for (key, text) in keys.into_iter().chain(in_set).chain(of_listener) {
        let done = dry(&text);
        assert_eq!(done["settings"], json!([key]), "{text}");
        let said = done["said"].as_str().expect("words");
        assert!(said.ends_with(&format!("; also changed: {key}")), "{said}");
    }
    let text = format!("ring-timeout = '9s'\npath = 'on'\n{plain}");
    let said = farm.reload(&text);
    assert!(
        said.ends_with("0 changed; also changed: path, ring-timeout\n"),
        "{said}"
    );
}

#[test]
fn all_that_decides_where_calls_go_is_in_the_table_id() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let id_of = |text: &str| {
        fs::write(farm.path(), text).expect("the file");
        admin.post("/api/v1/reload", &json!({})).assert_done();
        admin.get("/api/v1/status").json()["table_id"].to_string()
    };
    let members = |states: &[&str]| text(&farm.scene.farm, states, "");
    let plain = members(&["", ""]);
    // From the plain one and from one another.
    let assert_differ = |lines: &[&str], of: &dyn Fn(&str) -> String| {
        let mut ids = BTreeMap::from([(id_of(&plain), "")]);
        for line in lines {
            let alike = ids.insert(id_of(&of(line)), line);
            assert_eq!(alike, None, "{line}");
        }
    };
    let lines = [
        "allow-next-hop = ['192.0.2.0/24']",
        "failover-after = '2s'",
        "failover-status = [404]",
        "retry-after-cap = '5s'",
        "ring-timeout = '9s'",
        "timers = { T1 = '300ms' }",
        "record-route = 'on'",
        "path = 'on'",
        "hash-key = 'from-uri'",
        "policy = 'random'",
    ];
    assert_differ(&lines, &|line| format!("{line}\n{plain}"));
    let lines = [
        "when-all-down = 'reply'",
        "member-sources = ['192.0.2.0/24']",
        "hash-key = 'from-uri'",
        "policy = 'random'",
        "[[set]]\nname = 'more'\ndestinations = '192.0.2.3'",
        "[[on-failure]]\nset = 'farm'\nstatus = [486]",
        "[[on-failure]]\nset = 'farm'\nstatus = [487]",
        "[[on-failure]]\nset = 'farm'\nstatus = [486]\nfrom-set = ['farm']",
        "[[on-failure]]\nset = 'farm'\nstatus = [486]\nrequest-uri = 'sip:a@b'",
    ];
    assert_differ(&lines, &|line| format!("{plain}{line}\n"));
    let lines = [
        "method = 'INVITE'",
        "method = 'BYE'",
        "host = 'a.example'",
        "user-prefix = ['1']",
        "source = '192.0.2.0/24'",
        "listener = '127.0.0.1:0'",
        "follow = 'replaces'",
        "record-route = 'on'",
    ];
    assert_differ(&lines, &|line| {
        format!("{plain}[[route]]\nset = 'farm'\n{line}\n")
    });
    let lines = [
        "proxy-protocol = ['192.0.2.0/24']",
        "egress = ['192.0.2.0/24']",
        "record-route = 'on'",
        "path = 'on'",
        "also-known-as = ['sip.example']",
    ];
    assert_differ(&lines, &|line| {
        let listener = format!("[[listener]]\naddress = '127.0.0.1:0'\n{line}\n");
        plain.replace(LISTEN, &listener)
    });
    let states = ["weight=2", "priority=2", "state=disabled", "state=draining"];
    assert_differ(&states, &|state| members(&["", &format!(";{state}")]));
    let [one, other] = [0, 1].map(|member: usize| format!("'sip:{}'", farm.member(member)));
    assert_differ(&["'sip:192.0.2.9'"], &|to| plain.replace(&other, to));
    let turned = plain.replace(&format!("{one}, {other}"), &format!("{other}, {one}"));
    let debug = format!("log = {{ level = 'debug' }}\n{plain}");
    for same in [turned, debug] {
        assert_ne!(same, plain);
        assert_eq!(id_of(&plain), id_of(&same), "it decides nothing: {same}");
    }
}

#[test]
fn what_operators_changed_outlives_a_reload_until_it_is_forgotten() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let state = json!({"destination": farm.member(1), "state": "draining"});
    admin
        .post("/api/v1/destinations/state", &state)
        .assert_done();
    admin.post("/api/v1/reload", &json!({})).assert_done();
    assert_eq!(farm.shares(20), [20, 0]);
    let config = admin.get("/api/v1/config").body;
    assert!(config.contains("draining"), "{config}");
    admin
        .post("/api/v1/reload", &json!({"forget_changes": true}))
        .assert_done();
    assert!(farm.shares(40).iter().all(|share| *share > 5));
}

#[test]
fn what_was_added_and_removed_takes_calls_once_the_file_has_it() {
    let (farm, admin) = Farm::with_admin(&["", "-"], "", &[]);
    let other = farm.member(1);
    let add = json!({"set": "farm", "destination": other});
    admin.post("/api/v1/destinations/add", &add).assert_done();
    let remove = json!({"destination": other});
    admin
        .post("/api/v1/destinations/remove", &remove)
        .assert_done();
    assert_eq!(farm.shares(20), [20, 0]);
    fs::write(farm.path(), text(&farm.scene.farm, &["", ""], "")).expect("the file");
    admin.post("/api/v1/reload", &json!({})).assert_done();
    assert!(farm.shares(40).iter().all(|share| *share > 5));
}
