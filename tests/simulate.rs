//! `viaduct simulate` says of a change what a running Viaduct then does.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;

use serde_json::Value;

use support::dialog::{Peer, Scene, read};
use support::folder::Folder;
use support::net::V4;
use support::process::Signal;

/// Enough to tell one share from another; a test build decides slowly.
const CALLS: &str = "400";

fn bench() -> Folder {
    Folder::with(&["simulate"], &[])
}

/// Writes a configuration with one set of these lines.
fn write_config(bench: &Folder, name: &str, set: &str) {
    let listen = "listen = ['192.0.2.10']\nrecord-route = true\n";
    bench.write(name, format!("{listen}[[set]]\nname = 'farm'\n{set}\n"));
}

/// What a simulation of few calls says of its only set.
#[track_caller]
fn only_set(bench: &Folder, args: &[&str]) -> Value {
    let told = bench.json(&[args, &["--calls", CALLS]].concat());
    assert_eq!(told["sets"].as_array().expect("sets").len(), 1);
    told["sets"][0].clone()
}

const FARM: &str = "destinations = ['10.0.0.1', { uri = '10.0.0.2', weight = 2 }, '10.0.0.3']";

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value}"))
}

/// Loads by destination: of before and after, and what the weights say.
fn loads(set: &Value) -> BTreeMap<String, [Option<[f64; 2]>; 2]> {
    let share = |value: &Value| {
        let there = !value.is_null();
        there.then(|| [number(&value["share"]), number(&value["ideal"])])
    };
    let rows = set["destinations"].as_array().expect("destinations");
    let row = |row: &Value| {
        let name = row["destination"].as_str().expect("an address").to_owned();
        (name, [share(&row["before"]), share(&row["after"])])
    };
    rows.iter().map(row).collect()
}

/// What a class of messages meets: right, second chance, other, refused.
#[track_caller]
fn meets(set: &Value, class: &str) -> [f64; 4] {
    let mut classes = set["survey"]["classes"].as_array().expect("classes").iter();
    let found = classes.find(|each| each["class"] == class);
    let found = found.unwrap_or_else(|| panic!("no {class} in {set}"));
    ["right", "second_chance", "other", "refused"].map(|key| number(&found[key]))
}

#[test]
fn keys_move_only_from_what_goes_and_to_what_comes() {
    let bench = bench();
    write_config(&bench, "v.toml", FARM);
    let set = only_set(&bench, &["--config", "v.toml", "--remove", "10.0.0.1"]);
    assert_eq!(
        (&set["keys"], &set["keys_are"]),
        (&65536.into(), &"slots".into())
    );
    let moved = number(&set["moved_share"]);
    let loads_of_removal = loads(&set);
    let [before, after] = loads_of_removal["10.0.0.1:5060"];
    assert_eq!(before.expect("a load")[0], moved, "its own and no other");
    assert!(after.is_none() && (0.23..0.27).contains(&moved), "{moved}");
    for [before, after] in loads_of_removal.values() {
        for [share, ideal] in [before, after].into_iter().flatten() {
            assert!((share - ideal).abs() < 0.02, "{share} is not {ideal}");
        }
    }
    let [_, after] = loads_of_removal["10.0.0.2:5060"];
    assert!((after.expect("a load")[1] - 2.0 / 3.0).abs() < 1e-9);

    let set = only_set(
        &bench,
        &["--config", "v.toml", "--add", "sip:10.0.0.4;weight=4"],
    );
    let [before, after] = loads(&set)["10.0.0.4:5060"];
    assert!(before.is_none());
    assert_eq!(after.expect("a load")[0], number(&set["moved_share"]));
    assert_eq!(after.expect("a load")[1], 0.5);

    let set = only_set(&bench, &["--config", "v.toml", "--weight", "10.0.0.2=4"]);
    let [before, after] = loads(&set)["10.0.0.2:5060"].map(|load| load.expect("a load"));
    let moved = number(&set["moved_share"]);
    assert!(
        (after[0] - before[0] - moved).abs() < 1e-9,
        "only towards it"
    );

    let set = only_set(&bench, &["--config", "v.toml"]);
    assert_eq!(set["moved"], 0);
    assert_eq!(meets(&set, "new"), [1.0, 0.0, 0.0, 0.0]);
}

#[test]
fn a_change_goes_before_what_the_uri_says() {
    let bench = bench();
    let uris = "['sip:10.0.0.1;weight=2;priority=1', 'sip:a@10.0.0.2;state=active;priority=1']";
    write_config(&bench, "v.toml", &format!("destinations = {uris}"));
    let set = only_set(&bench, &["--config", "v.toml", "--weight", "10.0.0.1=50"]);
    let [before, after] = loads(&set)["10.0.0.1:5060"].map(|load| load.expect("a load"));
    assert_eq!(before[1], 2.0 / 3.0);
    assert!((after[1] - 50.0 / 51.0).abs() < 1e-9, "{after:?}");
    let set = only_set(&bench, &["--config", "v.toml", "--drain", "10.0.0.2"]);
    let [before, after] = loads(&set)["10.0.0.1:5060"].map(|load| load.expect("a load"));
    assert_eq!((before[1], after[1]), (2.0 / 3.0, 1.0));
}

#[test]
fn what_is_warned_of_already_is_not_said_again() {
    let bench = bench();
    write_config(&bench, "v.toml", &format!("policy = 'kamailio'\n{FARM}"));
    let told = |more: &[&str]| {
        let args = [&["--config", "v.toml", "--calls", "20"], more].concat();
        String::from_utf8(bench.run(&args).stderr).expect("text")
    };
    let of_the_file = told(&[]);
    assert_eq!(of_the_file.matches("warning: ").count(), 1, "{of_the_file}");
    assert_eq!(told(&["--add", "10.0.0.4"]), of_the_file);
    let weight = told(&["--weight", "10.0.0.1=3"]);
    assert_eq!(weight.matches("warning: the weight").count(), 2, "{weight}");
}

#[test]
fn whatever_configuration_is_good_can_be_changed() {
    let bench = bench();
    // The path of the secret from the root is one that no file could say.
    fs::create_dir(bench.path("a\tb")).expect("a folder");
    let text = "listen = ['192.0.2.10']\nsecret-file = 'secret'\n[[set]]\nname = 'farm'\n";
    bench.write("a\tb/v.toml", format!("{text}{FARM}\n"));
    for change in [
        ["--drain", "10.0.0.1"],
        ["--remove", "10.0.0.1"],
        ["--add", "10.0.0.4"],
        ["--weight", "10.0.0.1=2"],
    ] {
        let set = only_set(
            &bench,
            &[&["--config", "a\tb/v.toml"][..], &change].concat(),
        );
        assert!(number(&set["moved_share"]) > 0.0, "{set}");
    }
}

#[test]
fn dialogs_stay_where_a_destination_drains_and_break_where_it_goes() {
    let bench = bench();
    write_config(&bench, "v.toml", FARM);
    let set = only_set(&bench, &["--config", "v.toml", "--drain", "10.0.0.2"]);
    let [right, _, other, refused] = meets(&set, "new");
    assert!((0.4..0.6).contains(&right) && refused == 0.0, "{right}");
    for class in ["cookie", "named", "outward"] {
        assert_eq!(meets(&set, class), [1.0, 0.0, 0.0, 0.0], "{class}");
    }
    assert_eq!(meets(&set, "hashed"), [right, 0.0, other, 0.0]);
    assert_eq!(meets(&set, "cancel"), [right, other, 0.0, 0.0]);

    let set = only_set(&bench, &["--config", "v.toml", "--remove", "10.0.0.2"]);
    for class in ["cookie", "named", "hashed"] {
        assert_eq!(meets(&set, class), [right, 0.0, other, 0.0], "{class}");
    }
    assert_eq!(meets(&set, "cancel"), [right, other, 0.0, 0.0]);
    let none = ["--second-chance-s", "0", "--remove", "10.0.0.2"];
    let set = only_set(&bench, &[&["--config", "v.toml"][..], &none].concat());
    assert_eq!(meets(&set, "cancel"), [right, 0.0, other, 0.0]);

    let all_gone = [
        "--drain", "10.0.0.1", "--drain", "10.0.0.2", "--drain", "10.0.0.3",
    ];
    let set = only_set(&bench, &[&["--config", "v.toml"][..], &all_gone].concat());
    assert_eq!(meets(&set, "new"), [0.0, 0.0, 0.0, 1.0]);
    assert_eq!(meets(&set, "cookie"), [1.0, 0.0, 0.0, 0.0]);

    let text = bench.text(&["-c", "v.toml", "--record-route", "off", "--calls", "20"]);
    assert!(text.contains("record-route is off"), "{text}");
}

/// Real calls through a real reload, and the simulation of both.
#[test]
fn simulate_says_what_a_reload_does() {
    let bench = bench();
    let farm: Vec<Peer> = (0..4).map(|_| Peer::new(V4)).collect();
    let members: Vec<_> = farm.iter().map(|each| each.address().to_string()).collect();
    let set = |members: &[String]| format!("[[set]]\nname = 'farm'\ndestinations = {members:?}\n");
    bench.write("v.toml", set(&members[..3]));
    let config = bench.path("v.toml").display().to_string();
    let secret = bench.path("secret").display().to_string();
    let mut args = vec!["--config", &config, "--secret-file", &secret];
    let listen = ["--listen", "127.0.0.1:0"];
    let all: Vec<_> = args
        .iter()
        .chain(&listen)
        .map(ToString::to_string)
        .collect();
    let mut scene = Scene::with(farm, &all, &[]);

    let requests: Vec<_> = (0..60).map(|_| scene.request("INVITE")).collect();
    let pass = |scene: &Scene| -> Vec<SocketAddr> {
        let passed = requests.iter().map(|each| scene.pass(each.text()).0);
        passed.map(|member| scene.farm[member].address()).collect()
    };
    let before = pass(&scene);
    let changed = [&members[..2], &members[3..]].concat();
    bench.write("v.toml", set(&changed));
    scene.viaduct.signal(Signal::HUP);
    scene.viaduct.wait_for("line `reloaded`", |output| {
        output.contains("\nreloaded").then_some(())
    });
    let after = pass(&scene);

    bench.write("old.toml", set(&members[..3]));
    let call_ids: Vec<_> = requests.iter().map(|each| each.call_id.clone()).collect();
    bench.write("calls", call_ids.join("\n"));
    let front = scene.front().to_string();
    args.extend([
        "--listen", &front, "--before", "old.toml", "--calls", "calls",
    ]);
    let told = bench.json(&args);
    assert_eq!(told["secret_known"], true);
    let set = &told["sets"][0];
    let kept = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before == after);
    let kept = kept.count();
    assert!((5..55).contains(&kept), "{kept}");
    let [kept, moved] = [kept, 60 - kept].map(|number| number as f64 / 60.0);
    assert_eq!(meets(set, "new"), [kept, 0.0, moved, 0.0]);
    assert_eq!(meets(set, "hashed"), [kept, 0.0, moved, 0.0]);
    assert_eq!(meets(set, "cancel"), [kept, moved, 0.0, 0.0]);
    for (request, server) in requests.iter().zip(&before) {
        scene.send(request.method("CANCEL").text());
        let mut farm = scene.farm.iter();
        let server = farm
            .find(|each| each.address() == *server)
            .expect("a server");
        // Copies for it as the new owner of other calls come before.
        while read(server.receive()).call_id != request.call_id.as_bytes() {}
    }
}

#[test]
fn policies_without_slots_are_counted_by_calls() {
    let bench = bench();
    write_config(&bench, "k.toml", &format!("policy = 'kamailio'\n{FARM}"));
    let set = only_set(&bench, &["--config", "k.toml", "--remove", "10.0.0.1"]);
    assert_eq!(
        (&set["keys"], &set["keys_are"]),
        (&400.into(), &"calls".into())
    );
    let moved = number(&set["moved_share"]);
    // One of three goes, and modulo lets few of the others stay.
    assert!((0.55..0.8).contains(&moved), "{moved}");
    assert_eq!(meets(&set, "new")[2], moved);
    // Whatever the weight and the priority.
    let ideal = |load: Option<[f64; 2]>| load.map(|[_, ideal]| ideal);
    for (address, [before, after]) in loads(&set) {
        assert_eq!(ideal(before), Some(1.0 / 3.0));
        assert_eq!(ideal(after), (address != "10.0.0.1:5060").then_some(0.5));
    }
    let ranked = "destinations = ['10.0.0.1', 'sip:10.0.0.2;priority=1']";
    write_config(&bench, "p.toml", &format!("policy = 'kamailio'\n{ranked}"));
    for load in loads(&only_set(&bench, &["--config", "p.toml"])).values() {
        assert_eq!(load.map(ideal), [Some(0.5); 2]);
    }

    write_config(&bench, "r.toml", &format!("policy = 'round-robin'\n{FARM}"));
    let set = only_set(&bench, &["--config", "r.toml", "--remove", "10.0.0.1"]);
    // What a worker remembers stays, where it can.
    let moved = number(&set["moved_share"]);
    assert!((0.24..0.27).contains(&moved), "{moved}");
    let after: Vec<_> = loads(&set).values().filter_map(|load| load[1]).collect();
    assert!(
        after
            .iter()
            .all(|[share, ideal]| (share - ideal).abs() < 0.01)
    );

    write_config(&bench, "h.toml", FARM);
    let set = only_set(&bench, &["--config", "h.toml", "--before", "k.toml"]);
    assert_eq!(set["keys_are"], "calls");
    assert!(number(&set["moved_share"]) > 0.3);
}

#[test]
fn every_key_finds_its_calls_and_every_route_its_set() {
    let bench = bench();
    for key in [
        "from-uri",
        "to-uri",
        "request-uri",
        "from-user",
        "to-user",
        "source",
        "header:x-account",
    ] {
        write_config(&bench, "v.toml", &format!("hash-key = '{key}'\n{FARM}"));
        let set = only_set(&bench, &["--config", "v.toml", "--remove", "10.0.0.1"]);
        let [right, _, other, _] = meets(&set, "new");
        assert!(
            (0.1..0.4).contains(&other) && right + other > 0.999,
            "{key}: {other}"
        );
    }
    // A user is a key by itself, and within a URI.
    write_config(&bench, "v.toml", &format!("hash-key = 'to-user'\n{FARM}"));
    let told = ["", "@x.org"].map(|host| {
        let keys: Vec<_> = (0..50).map(|n| format!("u{n}{host}")).collect();
        bench.write("keys", keys.join("\n"));
        bench.json(&["-c", "v.toml", "--remove", "10.0.0.1", "--calls", "keys"])
    });
    assert_eq!(told[0], told[1]);
    bench.write(
        "v.toml",
        "listen = ['192.0.2.10', '[2001:db8::10]']\n\
         [[set]]\nname = 'a'\ndestinations = ['10.0.0.1', '10.0.0.2']\n\
         [[set]]\nname = 'b'\nhash-key = 'to-uri'\ndestinations = ['10.0.1.1', '10.0.1.2']\n\
         [[set]]\nname = 'c'\ndestinations = ['10.0.2.1', '10.0.2.2']\n\
         [[set]]\nname = 'd'\ndestinations = ['10.0.3.1', '10.0.3.2']\n\
         [[route]]\nmethod = 'REGISTER'\nset = 'b'\n\
         [[route]]\nhost = 'two.example'\nuser-prefix = '39'\nsource = '2001:db8:5::/48'\nset = 'c'\n",
    );
    let told = bench.json(&["-c", "v.toml", "--calls", "50"]);
    let sets = told["sets"].as_array().expect("sets");
    let calls: Vec<_> = sets.iter().map(|set| &set["survey"]["calls"]).collect();
    assert_eq!(calls, [&50.into(), &50.into(), &50.into(), &Value::Null]);
    let classes = |set: &Value| set["survey"]["classes"].as_array().map(Vec::len);
    assert_eq!(classes(&sets[1]), Some(1), "REGISTER has no dialog");
    assert_eq!(told["unchanged"], Value::Array(Vec::new()));
    let change = ["-c", "v.toml", "--remove", "10.0.1.2", "--calls", "50"];
    let told = bench.json(&change);
    let sets = told["sets"].as_array().expect("sets");
    assert_eq!((sets.len(), &sets[0]["set"]), (1, &"b".into()));
    assert!(meets(&sets[0], "new")[2] > 0.2);
    assert_eq!(told["unchanged"], serde_json::json!(["a", "c", "d"]));
    let text = bench.text(&change);
    assert!(text.contains("\n3 sets do not change\n"), "{text}");
    let text = bench.text(&["-c", "v.toml", "--calls", "5"]);
    assert!(
        text.contains("no call that the routes describe meets it"),
        "{text}"
    );
}

#[test]
fn names_are_told_of_and_nothing_is_said_of_a_set_of_names_alone() {
    let bench = bench();
    write_config(&bench, "name.toml", "destinations = ['farm.example.com']");
    let one_by_name = FARM.replace("'10.0.0.3'", "'farm.example.com'");
    write_config(&bench, "both.toml", &one_by_name);
    write_config(&bench, "addresses.toml", FARM);
    let told_of = "by name farm.example.com: not resolved here";
    for (before, after, known) in [
        ("both.toml", "both.toml", true),
        ("addresses.toml", "both.toml", true),
        ("name.toml", "name.toml", false),
        ("both.toml", "name.toml", false),
        ("name.toml", "addresses.toml", false),
    ] {
        let args = ["--config", after, "--before", before, "--calls", "20"];
        let text = bench.text(&args);
        assert!(text.contains(told_of), "{before}, {after}: {text}");
        let without = text.contains("without it the set has no destination");
        assert_eq!(without, !known, "{before}, {after}: {text}");
        let shares = text.contains('%') || text.contains("the routes describe");
        assert_eq!(shares, known, "{before}, {after}: {text}");
        let set = only_set(&bench, &["--config", after, "--before", before]);
        assert_eq!(set["unresolved"], serde_json::json!(["farm.example.com"]));
        assert_eq!(set["moved_share"].is_null(), !known, "{set}");
        assert_eq!(set["survey"].is_null(), !known, "{set}");
    }
    let text = bench.text(&["--config", "addresses.toml", "--calls", "20"]);
    assert!(!text.contains("by name"), "{text}");
    let drain = ["--config", "name.toml", "--drain", "10.0.0.1"];
    bench.refused(&drain, 1, &["help: there are farm.example.com (a name"]);
}

#[test]
fn of_a_set_without_keys_no_share_is_told() {
    let bench = bench();
    write_config(&bench, "a.toml", FARM);
    let added = "[[set]]\nname = 'new'\npolicy = 'round-robin'\ndestinations = ['10.0.1.1']\n";
    let a = fs::read_to_string(bench.path("a.toml")).expect("a file");
    bench.write("b.toml", format!("{a}{added}"));
    let change = ["-c", "b.toml", "--before", "a.toml", "--calls", "5"];
    let told = bench.json(&change);
    let sets = told["sets"].as_array().expect("sets");
    let set = sets
        .iter()
        .find(|set| set["set"] == "new")
        .expect("the set");
    let after = &set["destinations"][0]["after"];
    assert!(after["share"].is_null(), "{set}");
    assert_eq!(after["ideal"], 1.0);
    let text = bench.text(&change);
    let row = text.lines().find(|line| line.contains("10.0.1.1"));
    let cells: Vec<_> = row.expect("its row").split_whitespace().collect();
    assert_eq!(
        cells,
        ["10.0.1.1:5060", "-", "-", "-", "100.0", "%", "added"]
    );
}

#[test]
fn what_a_reload_would_refuse_is_said() {
    let bench = bench();
    write_config(&bench, "a.toml", FARM);
    let other = fs::read_to_string(bench.path("a.toml")).expect("a file");
    bench.write("b.toml", other.replace("192.0.2.10", "192.0.2.11"));
    let told = bench.json(&["-c", "b.toml", "--before", "a.toml", "--calls", "5"]);
    assert_eq!(told["needs_restart"], serde_json::json!(["listener"]));
    let text = bench.text(&["-c", "b.toml", "--before", "a.toml", "--calls", "5"]);
    let said = "\na reload refuses this: only an upgrade or a restart can change `listener`; ";
    assert!(text.contains(said), "{text}");
}

#[test]
fn a_listener_goes_on_under_its_name_or_else_its_address() {
    let bench = bench();
    let outside = ["name = 'outside'\naddress = '192.0.2.10'"];
    let unnamed = ["address = '192.0.2.10'"];
    let inside = ["name = 'inside'\naddress = '192.0.2.20'\negress = ['10.0.0.0/8']"];
    let write = |name: &str, listeners: &[&str]| {
        let listeners = listeners.iter();
        let listeners: String = listeners
            .map(|each| format!("[[listener]]\n{each}\n"))
            .collect();
        let set = format!("[[set]]\nname = 'farm'\n{FARM}\n");
        bench.write(name, format!("record-route = true\n{listeners}{set}"));
    };
    write("one.toml", &outside);
    write("both.toml", &[outside, inside].concat());
    write("turned.toml", &[inside, unnamed].concat());
    let other = "name = 'other'\naddress = '192.0.2.30'";
    write(
        "v6.toml",
        &["name = 'outside'\naddress = '[2001:db8::10]'", other],
    );
    let classes = ["new", "cookie", "named", "hashed", "cancel", "outward"];
    for (before, after, gone) in [
        ("one.toml", "both.toml", &[][..]),
        ("both.toml", "turned.toml", &[]),
        ("turned.toml", "both.toml", &[]),
        // Servers hang up by the listener on their side.
        ("both.toml", "one.toml", &["outward"]),
        ("one.toml", "v6.toml", &classes),
    ] {
        let set = only_set(&bench, &["--before", before, "--config", after]);
        for class in classes {
            let wanted = match gone.contains(&class) {
                true => [0.0, 0.0, 0.0, 1.0],
                false => [1.0, 0.0, 0.0, 0.0],
            };
            let change = format!("{class} from {before} to {after}");
            assert_eq!(meets(&set, class), wanted, "{change}");
        }
    }
}

#[test]
fn what_a_failure_rule_has_tried_elsewhere_is_not_refused() {
    let bench = bench();
    let spare = "[[set]]\nname = 'spare'\ndestinations = ['10.0.0.9']\n";
    let rule = "[[on-failure]]\nstatus = 503\nset = 'spare'\n";
    let route = "[[route]]\nset = 'mail'\nuser-prefix = ['mail']\n";
    let mail = "[[set]]\nname = 'mail'\ndestinations = ['sip:10.0.0.8;state=draining']\n";
    bench.write(
        "v.toml",
        format!(
            "listen = ['192.0.2.10']\nstateful = ['INVITE']\n[[set]]\nname = 'farm'\n\
             hash-key = 'request-uri'\n{FARM}\n{mail}{spare}{route}{rule}"
        ),
    );
    bench.write("keys", "sip:ann@farm.example\nsip:mail@farm.example\n");
    let all = [
        "--drain", "10.0.0.1", "--drain", "10.0.0.2", "--drain", "10.0.0.3",
    ];
    let told = bench.json(&[&["-c", "v.toml", "--calls", "keys"][..], &all].concat());
    let farm = &told["sets"][0];
    assert_eq!(meets(farm, "new"), [0.0, 0.0, 1.0, 0.0], "{told}");
    let others = &farm["survey"]["not_of_this_set"];
    assert_eq!(others["tried in set spare"], 1, "{told}");
}

#[test]
fn bad_input_is_refused_with_a_way_to_mend() {
    let bench = bench();
    write_config(&bench, "v.toml", FARM);
    let with = |more: &[&'static str]| [&["--config", "v.toml"][..], more].concat();
    let gone = with(&["--remove", "10.9.9.9"]);
    bench.refused(&gone, 1, &["no set has 10.9.9.9:5060", "10.0.0.1:5060, "]);
    let twice = with(&["--add", "10.0.0.1"]);
    bench.refused(&twice, 1, &["the changed configuration:", "twice"]);
    let empty = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|each| ["--remove", each]);
    bench.refused(
        &with(&empty.concat()),
        1,
        &[
            "--remove: set `farm` would have no destination",
            "help: --drain",
        ],
    );
    bench.refused(&with(&["--add", "x=10.0.0.9"]), 1, &["no set `x`", "farm"]);
    let more = "\n[[set]]\nname = 'more'\ndestinations = ['10.0.1.1']\n";
    write_config(&bench, "two.toml", &format!("{FARM}{more}"));
    let either = ["--config", "two.toml", "--add", "sip:10.0.0.9;weight=4"];
    let quoted = "help: --add 'farm=sip:10.0.0.9;weight=4;";
    bench.refused(&either, 1, &["several sets (farm, more)", quoted]);
    let none = with(&["--weight", "10.0.0.1=0"]);
    bench.refused(
        &none,
        2,
        &["`0` is not a weight", "no new calls, --drain ADDR"],
    );
    for by_name in [
        ["--remove", "proxy.example.com"],
        ["--drain", "proxy.example.com:5060"],
        ["--weight", "proxy.example.com=2"],
    ] {
        let said = [
            "a name stands for is a destination of its own",
            "help: give that address (`viaduct ctl list` shows them)",
        ];
        bench.refused(&with(&by_name), 2, &said);
    }
    bench.refused(&with(&["--weight", "10.0.0.1"]), 2, &["ADDR[:PORT]=WEIGHT"]);
    bench.refused(
        &with(&["--add", "proxy.example.com"]),
        2,
        &["`proxy.example.com` is a name, not an address"],
    );
    let named = with(&["--add", "farm=proxy.example.com"]);
    let said = ["`proxy.example.com` is a name, not an address"];
    bench.refused(&named, 2, &said);
    let weighed = with(&["--add", "sip:10.0.0.300;weight=2"]);
    bench.refused(&weighed, 2, &["`10.0.0.300` is not an address"]);
    for number in ["0", "99999999999"] {
        let said = ["--calls", "give 1 to 100000000"];
        bench.refused(&with(&["--calls", number]), 2, &said);
    }
    bench.refused(
        &with(&["--calls", "none"]),
        1,
        &["none: No such file", "help"],
    );
    bench.write("calls", "");
    bench.refused(
        &with(&["--calls", "calls"]),
        1,
        &["calls: the file is empty"],
    );
    bench.write("calls", "good@example\n\nother@example\n");
    bench.refused(
        &with(&["--calls", "calls"]),
        1,
        &["calls:2:1: ", "one key a line"],
    );
    bench.refused(&["--config", "none.toml"], 1, &["none.toml"]);
    bench.write("list", "10.0.0.1\nten\n");
    write_config(&bench, "s.toml", &format!("hash-key = 'source'\n{FARM}"));
    let source = ["--config", "s.toml", "--calls", "list"];
    bench.refused(&source, 1, &["list:2:1: `ten`"]);
}

#[test]
fn the_documentation_shows_what_is_printed() {
    let block = |file: &str, start: &str| {
        let text = fs::read_to_string(support::repository().join(file)).expect("a file");
        let (_, rest) = text.split_once(start).expect("a block");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    let bench = bench();
    bench.write("viaduct.toml", block("README.md", "```toml\n"));
    let shown = block("docs/changes.md", "```\n$ viaduct simulate ");
    let (command, shown) = shown.split_once('\n').expect("output");
    let mut args: Vec<_> = command.split(' ').collect();
    args.extend(["--secret-file", "none"]);
    assert_eq!(bench.text(&args), shown);
}
