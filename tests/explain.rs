//! `viaduct explain` says of a message what `viaduct run` does with it: the
//! same decision, the same address, the same octets.

use std::fs;
use std::process::Output;

use serde_json::Value;

use support::dialog::{Peer, Request, Scene, assert_octets, response};
use support::folder::{Folder, said, stdout};
use support::net::V4;

/// A running Viaduct and what `explain` needs to know to agree with it.
struct Pair {
    scene: Scene,
    folder: Folder,
    args: Vec<String>,
}

impl Pair {
    fn start(members: usize, args: &[&str]) -> Self {
        let folder = Folder::with(&["explain"], &[]);
        let secret = folder.path("secret").display().to_string();
        let mut shared = vec!["--secret-file".to_owned(), secret];
        shared.extend(args.iter().map(|&arg| arg.to_owned()));
        let farm: Vec<Peer> = (0..members).map(|_| Peer::new(V4)).collect();
        for member in &farm {
            shared.extend(["--to".to_owned(), member.address().to_string()]);
        }
        let listen = ["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        let scene = Scene::with(farm, &[&listen[..], &shared].concat(), &[]);
        let listen = ["--listen".to_owned(), scene.front().to_string()];
        Self {
            folder,
            args: [&listen[..], &shared].concat(),
            scene,
        }
    }

    fn explain(&self, octets: &[u8], from: &Peer, more: &[&str]) -> Output {
        self.folder.write("message", octets);
        let mut command = self.folder.command();
        command
            .args(&self.args)
            .args(["--from", &from.address().to_string()])
            .args(["--message", "message"])
            .args(more);
        let output = command.output().expect("an explanation");
        said(&output, 0, &[]);
        output
    }

    fn json(&self, octets: &[u8], from: &Peer) -> Value {
        let output = self.explain(octets, from, &["--json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Sends `octets` from `from`, and demands that what then happens is what
    /// was told before.
    #[track_caller]
    fn assert_agrees(&self, octets: impl AsRef<[u8]>, from: &Peer) -> Value {
        let octets = octets.as_ref();
        let told = self.json(octets, from);
        let text = self.explain(octets, from, &[]).stdout;
        let text = String::from_utf8(text).expect("text");
        from.send(self.scene.front(), octets);
        let to = &told["to"];
        let decision = told["decision"].as_str().expect("a decision");
        assert!(text.contains(&format!("decision   {decision}\n")), "{text}");
        assert!(
            text.contains(&format!(
                "why        {}\n",
                told["why"].as_str().expect("why")
            )),
            "{text}"
        );
        assert_eq!(told["before"], String::from_utf8_lossy(octets).as_ref());
        match told["action"].as_str().expect("an action") {
            "forward" | "reply" => {
                let everybody = self.scene.farm.iter().chain([&self.scene.caller]);
                let there = everybody
                    .into_iter()
                    .find(|peer| *to == peer.address().to_string());
                let there = there.unwrap_or_else(|| panic!("nobody is at {to}"));
                let after = told["after"].as_str().expect("octets");
                assert_octets(there.receive(), after);
                assert!(
                    decision.contains(to.as_str().expect("an address")),
                    "{decision}"
                );
            }
            "drop" => {
                assert!(to.is_null() && told["after"] == "");
                self.scene.assert_nothing_left();
            }
            other => panic!("{other}"),
        }
        told
    }
}

#[test]
fn explain_says_what_run_does() {
    let pair = Pair::start(4, &["--allow-next-hop", "127.0.0.50"]);
    let scene = &pair.scene;
    let member = scene.farm[1].address();
    let plain = || scene.request("INVITE");
    let mut messages: Vec<String> = (0..12).map(|_| plain().text()).collect();
    messages.extend([
        plain()
            .row(format!(
                "Route: <sip:{};lr>, <sip:far.example;lr>",
                scene.front()
            ))
            .text(),
        plain()
            .via("SIP/2.0/UDP phone.example;rport;received=1.2.3.4")
            .text(),
        plain().max_forwards("").uri("tel:+39").text(),
        plain().row(format!("Route: <sip:{member};lr>")).text(),
        plain().uri("sip:a@127.0.0.51:9").text(),
        plain().max_forwards("Max-Forwards: 0").text(),
        plain().row("Proxy-Require: tides").text(),
        plain().uri("x:y").text(),
        plain().row("no colon").text(),
        plain().method("ACK").max_forwards("Max-Forwards: 0").text(),
        "\r\n\r\n".to_owned(),
        "\0\u{1}\0\0".to_owned(),
        "SIP/2.0 200 OK\r\n\r\n".to_owned(),
    ]);
    let mut actions = std::collections::BTreeMap::new();
    for message in messages {
        let told = pair.assert_agrees(&message, &scene.caller);
        *actions.entry(told["action"].to_string()).or_insert(0) += 1;
    }
    assert_eq!(actions.into_values().collect::<Vec<_>>(), [4, 17, 4]);
}

#[test]
fn explain_follows_a_response_home_and_a_member_out() {
    let pair = Pair::start(2, &[]);
    let scene = &pair.scene;
    let (member, got) = scene.pass(scene.request("INVITE").text());
    let member = &scene.farm[member];
    let answer = response(&got, "200 OK", "t");
    assert_eq!(pair.assert_agrees(&answer, member)["action"], "forward");
    let forged = answer.replace("call-", "cell-");
    assert_eq!(pair.assert_agrees(forged, member)["action"], "drop");
    let out = Request::new("BYE", member.address()).uri(format!("sip:{}", scene.caller.address()));
    assert_eq!(
        pair.assert_agrees(out.text(), member)["to"],
        scene.caller.address().to_string()
    );
}

#[test]
fn explain_agrees_for_every_key_and_policy() {
    for args in [
        ["--policy", "kamailio"],
        ["--policy", "random"],
        ["--policy", "hash"],
        ["--hash-key", "from-uri"],
        ["--hash-key", "source"],
        ["--hash-key", "header:subject"],
    ] {
        let pair = Pair::start(3, &args);
        for number in 0..6 {
            let request = pair.scene.request("INVITE").row(format!("s: {number}"));
            let told = pair.assert_agrees(request.text(), &pair.scene.caller);
            let ranked = told["selection"]["ranked"].as_array().expect("a ranking");
            let chosen: Vec<_> = ranked
                .iter()
                .filter(|each| each["chosen"] == true)
                .collect();
            assert_eq!(chosen.len(), 1);
            assert_eq!(chosen[0]["destination"], told["to"]);
            assert_eq!(told["selection"]["secret_known"], true);
        }
    }
}

#[test]
fn of_many_destinations_the_first_ten_are_shown() {
    let pair = Pair::start(12, &[]);
    let request = pair.scene.request("INVITE").text();
    let (octets, caller) = (request.as_bytes(), &pair.scene.caller);
    let text = pair.explain(octets, caller, &[]).stdout;
    let text = String::from_utf8(text).expect("text");
    let (ranked, rest) = text.split_once("           … 2 more\n").expect(&text);
    assert!(ranked.contains("\n           10. 127"), "{text}");
    assert!(
        !text.contains(" 11. 127") && rest.starts_with("decision "),
        "{text}"
    );
    let told = pair.json(octets, caller);
    let all = told["selection"]["ranked"].as_array().expect("a ranking");
    assert_eq!(all.len(), 12);
}

#[test]
fn without_a_secret_file_explain_says_that_it_cannot_know() {
    let pair = Pair::start(3, &[]);
    let secret = pair.folder.path("secret");
    fs::remove_file(&secret).expect("the secret");
    let request = pair.scene.request("INVITE").text();
    let told = pair.json(request.as_bytes(), &pair.scene.caller);
    assert_eq!(told["selection"]["secret_known"], false);
    let text = pair
        .explain(request.as_bytes(), &pair.scene.caller, &[])
        .stdout;
    assert!(String::from_utf8_lossy(&text).contains("no secret file"));
    assert!(!secret.exists(), "explaining makes none");
}

#[test]
fn explain_says_what_it_would_resolve_and_asks_nobody() {
    let server = Peer::new(V4);
    let address = server.address().to_string();
    let pair = Pair::start(1, &["--resolve", "--resolver", &address]);
    let member = &pair.scene.farm[0];
    for (uri, wanted) in [
        (
            "sip:Pbx.test",
            "SRV of _sip._udp.pbx.test, else A and AAAA with port 5060",
        ),
        ("sip:pbx.test:5070", "A and AAAA, port 5070"),
    ] {
        let bye = Request::new("BYE", member.address()).uri(uri).text();
        let told = stdout(&pair.explain(bye.as_bytes(), member, &[]));
        let wanted = format!("decision   would resolve pbx.test ({wanted})");
        assert!(told.contains(&wanted), "{told}");
    }
    server.assert_silent();
}

#[test]
fn the_second_chance_is_shown_from_the_configuration_of_before() {
    let to =
        |host| format!("listen = ['192.0.2.10']\n[[set]]\nname = 'a'\ndestinations = ['{host}']\n");
    let folder = Folder::with(
        &["explain", "--config", "now.toml", "--message", "message"],
        &[
            ("then.toml", &to("10.0.0.1")),
            ("now.toml", &to("10.0.0.2")),
        ],
    );
    let caller = "192.0.2.7:5060".parse().expect("an address");
    let also = |method: &str, more: &[&str]| {
        folder.write("message", Request::new(method, caller).text());
        let told = folder.json(more);
        assert_eq!(told["to"], "10.0.0.2:5060");
        told["also"].clone()
    };
    let before = ["--before", "then.toml"];
    for method in ["CANCEL", "ACK"] {
        assert_eq!(also(method, &[]), serde_json::json!([]));
        assert_eq!(also(method, &before), serde_json::json!(["10.0.0.1:5060"]));
        let text = folder.text(&before);
        assert!(text.contains("\nalso       to 10.0.0.1:5060: "), "{text}");
    }
    assert_eq!(also("INVITE", &before), serde_json::json!([]));
    // Nor does a program send one that is told not to, or has been started anew.
    let now = to("10.0.0.2");
    for other in [
        format!("second-chance-s = 0\n{now}"),
        now.replace("192.0.2.10", "192.0.2.11"),
    ] {
        folder.write("now.toml", other);
        assert_eq!(also("CANCEL", &before), serde_json::json!([]));
    }
}

#[test]
fn explain_reads_cookies_and_tells_directions() {
    let pair = Pair::start(3, &["--record-route", "--path"]);
    let scene = &pair.scene;
    let front = scene.front().to_string();
    let invite = scene.request("INVITE");
    let told = pair.json(invite.text().as_bytes(), &scene.caller);
    assert_eq!(told["direction"], "inward, from outside");
    assert_eq!(told["cookies"], serde_json::json!([]));
    let added = &told["adds"][0];
    assert_eq!(added["place"], "Record-Route");
    assert_eq!(added["destination"], told["to"]);
    assert_eq!([&added["outer"], &added["inner"]], [&*front, &*front]);

    let (member, got) = scene.pass(invite.text());
    let server = scene.farm[member].address().to_string();
    let got = String::from_utf8(got).expect("text");
    let mut rows = got.lines();
    let route = rows.find_map(|row| row.strip_prefix("Record-Route: "));
    let route = format!("Route: {}", route.expect("a Record-Route"));
    let bye = |route: &str| {
        let bye = invite.method("BYE").to("<sip:desk@farm.example>;tag=s");
        bye.row(route).text()
    };
    let told = pair.assert_agrees(bye(&route), &scene.caller);
    let cookie = &told["cookies"][0];
    assert_eq!(
        (&cookie["place"], &cookie["purpose"]),
        (&"Route".into(), &"dialog".into())
    );
    assert_eq!(
        (&cookie["verified"], &cookie["destination"]),
        (&true.into(), &told["to"])
    );
    assert_eq!(
        (&cookie["gone"], &told["adds"]),
        (&false.into(), &serde_json::json!([]))
    );
    let behind_line_ends = format!("\r\n\r\n{}", bye(&route));
    let told = pair.assert_agrees(behind_line_ends, &scene.caller);
    assert_eq!(&told["cookies"][0], cookie);

    // One digit of the MAC.
    let at = route.find('@').expect("a user part") - 1;
    let digit = if route.as_bytes()[at] == b'0' {
        "1"
    } else {
        "0"
    };
    let forged = format!("{}{digit}{}", &route[..at], &route[at + 1..]);
    let told = pair.assert_agrees(bye(&forged), &scene.caller);
    let cookie = &told["cookies"][0];
    assert_eq!(
        (&cookie["verified"], &cookie["destination"]),
        (&false.into(), &Value::Null)
    );
    let text = pair
        .explain(bye(&forged).as_bytes(), &scene.caller, &[])
        .stdout;
    assert!(String::from_utf8_lossy(&text).contains("does not verify: forged"));

    // A destination that the configuration no longer has.
    let others = scene.farm.iter().map(|each| each.address().to_string());
    let others: Vec<_> = others.filter(|each| *each != server).collect();
    pair.folder.write("message", bye(&route));
    let here = ["--message", "message", "--secret-file", "secret"];
    let there = ["--listen", &front, "--to", &others[0], "--to", &others[1]];
    let told = pair.folder.json(&[&here[..], &there].concat());
    assert_eq!(
        (&told["cookies"][0]["verified"], &told["cookies"][0]["gone"]),
        (&true.into(), &true.into())
    );

    let out = invite
        .method("BYE")
        .uri(format!("sip:{}", scene.caller.address()));
    let told = pair.assert_agrees(out.row(&route).text(), &scene.farm[member]);
    let direction = told["direction"].as_str().expect("a direction");
    assert_eq!(
        direction,
        format!("outward, from member {server} of set default")
    );

    let told = pair.assert_agrees(scene.request("REGISTER").text(), &scene.caller);
    let path = &told["adds"][0];
    assert_eq!(
        (&path["place"], &path["purpose"]),
        (&"Path".into(), &"path".into())
    );
    assert_eq!(path["flow"], scene.caller.address().to_string());
}

#[test]
fn explain_takes_the_listener_that_is_named() {
    let text = "record-route = true\n\
                [[listener]]\nname = 'outside'\naddress = '192.0.2.10'\n\
                [[listener]]\nname = 'inside'\naddress = '10.0.0.99'\negress = ['10.0.0.0/8']\n\
                [[set]]\nname = 'a'\ndestinations = ['10.0.0.1']\n";
    let command = &["explain", "--config", "v.toml", "--listener"];
    let folder = Folder::with(command, &[("v.toml", text)]);
    for (listener, other) in [("outside", 1), ("inside", 0)] {
        let told = folder.json(&[listener]);
        assert_eq!(told["listener"], listener);
        let added = told["adds"].as_array().expect("what is added");
        // Of two values, where it leaves by another listener (RFC 5658), the
        // cookie is the same, and told once.
        let values = told["after"].as_str().expect("octets");
        assert_eq!(values.matches("Record-Route: ").count(), 1 + other);
        assert_eq!(added.len(), 1, "{told}");
        let outer = (&added[0]["outer"], &added[0]["inner"]);
        assert_eq!(outer, (&listener.into(), &"inside".into()));
    }
    let wanted = ["no listener `inner`", "outside, inside"];
    folder.refused(&["inner"], 1, &wanted);

    // From a loopback address nothing leaves for another machine.
    let local = text
        .replace("192.0.2.10", "127.0.0.1")
        .replace("egress", "proxy-protocol");
    let folder = Folder::with(command, &[("v.toml", &local)]);
    let octets = folder.json(&["outside"])["after"].to_string();
    assert!(
        octets.contains("Via: SIP/2.0/UDP 10.0.0.99:5060;"),
        "{octets}"
    );

    // It gets no datagram of the other family, and none is made up for it.
    let with_six = text.replace(
        "name = 'inside'\naddress = '10.0.0.99'",
        "name = 'six'\naddress = '[2001:db8::9]'",
    );
    let folder = Folder::with(command, &[("v.toml", &with_six)]);
    assert_eq!(folder.json(&["six"])["source"], "[2001:db8::1]:5060");
    let wanted = "nothing comes from 192.0.2.7:5060 to six: it is of the other address family";
    folder.refused(&["six", "--from", "192.0.2.7"], 1, &[wanted]);
}

#[test]
fn run_tries_destinations_in_the_order_that_explain_tells() {
    for policy in ["hash", "random", "round-robin", "kamailio"] {
        let args = ["--stateful", "INVITE", "--failover-after", "2s"];
        let pair = Pair::start(3, &[&["--policy", policy], &args[..]].concat());
        let scene = &pair.scene;
        let request = scene.request("INVITE").text();
        let told = pair.json(request.as_bytes(), &scene.caller);
        let mut wanted = vec![told["to"].clone()];
        let then = told["relayed"]["failover"]["then"].as_array();
        wanted.extend(then.expect("the others").iter().cloned());
        scene.send(request);
        // Nobody answers.
        let mut tried: Vec<String> = Vec::new();
        while tried.len() < 3 {
            let (member, _) = scene.at_farm();
            let member = scene.farm[member].address().to_string();
            if !tried.contains(&member) {
                tried.push(member);
            }
        }
        assert_eq!(tried, wanted, "{policy}");
    }
}

#[test]
fn of_kamailios_policy_it_is_told_who_was_passed_over() {
    let folder = Folder::with(&["explain", "--listen", "127.0.0.1:5060"], &[]);
    let rule = "why        the hash modulo the number of destinations";
    // The key of the example leads to one of the two.
    let [first, second] = ["10.0.0.1", "10.0.0.2"].map(|idle| {
        let states = ["10.0.0.1", "10.0.0.2"].map(|ip| match ip == idle {
            true => format!("sip:{ip};state=draining"),
            false => format!("sip:{ip}"),
        });
        let said = folder.text(&[
            "--policy", "kamailio", "--to", &states[0], "--to", &states[1],
        ]);
        let passed =
            format!("{rule} gives sip:{idle}, which takes no new work: it is the next that does\n");
        assert!(
            said.contains(&passed) || said.contains(&format!("{rule}\n")),
            "{said}"
        );
        said.contains(&passed)
    });
    assert_ne!(first, second);
}

#[test]
fn rows_that_end_in_lf_alone_are_told_of() {
    let pair = Pair::start(1, &[]);
    let sound = pair.scene.request("OPTIONS").text();
    let why = "its rows end in LF alone";
    for (message, told) in [(sound.replace("\r\n", "\n"), true), (sound, false)] {
        let output = pair.explain(message.as_bytes(), &pair.scene.caller, &[]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert_eq!(said.contains(why), told, "{said}");
    }
}

#[test]
fn what_a_caller_writes_reorders_no_row() {
    let pair = Pair::start(1, &[]);
    let request = pair
        .scene
        .request("OPTIONS")
        .uri("sip:\u{202e}desk@farm.example");
    let output = pair.explain(request.text().as_bytes(), &pair.scene.caller, &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("OPTIONS sip:\u{fffd}"), "{said}");
    assert!(!said.contains('\u{202e}'), "{said}");
}

#[test]
fn explain_says_which_names_it_does_not_know() {
    let folder = Folder::with(&["explain", "--listen", "127.0.0.1:5060"], &[]);
    let to = [
        "--to",
        "farm.test",
        "--to",
        "10.0.0.1",
        "--to",
        "other.test:5070",
    ];
    let note = "by name    farm.test, other.test:5070: not resolved here; where it is, the \
                decision may be another\n";
    let said = folder.text(&to);
    assert!(said.contains(note), "{said}");
    let said = folder.text(&to[..2]);
    assert!(
        said.contains("503") && said.contains("by name    farm.test: "),
        "{said}"
    );
    assert!(!folder.text(&to[2..4]).contains("by name"));
    let told = folder.json(&to);
    let unknown = serde_json::json!(["farm.test", "other.test:5070"]);
    assert_eq!(told["unresolved"], unknown);
}
