//! What configures an operator's day, as `viaduct check` and a reload see it:
//! the admin API, the mirror, the log, destinations by name, networks to leave
//! by; and slips that have a help of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use viaduct::config::{
    HostPort, LogLevel, Named, Overrides, Placed, Probe, State, WhenAllDown, differing_keys, text,
};

use support::checking::{
    LISTEN, check, checked, file, folder, good, good_and, load, load_over, refused, warned,
};
use support::folder::{Folder, said, stderr, stdout};

#[test]
fn what_becomes_of_a_set_that_is_down_is_its_own_choice_or_that_of_all() {
    let second = "when-all-down = 'forward'\n[[set]]\nname = 'b'\ndestinations = '10.0.0.2'\n";
    let choices = |top: &str, overrides: &Overrides| {
        let config = load_over(&file(top, second), overrides);
        config
            .sets
            .iter()
            .map(|set| set.when_all_down)
            .collect::<Vec<_>>()
    };
    let flags = &mut Overrides::default();
    assert_eq!(choices("", flags), [WhenAllDown::Forward; 2]);
    let mixed = [WhenAllDown::Forward, WhenAllDown::Reply];
    assert_eq!(choices("when-all-down = 'reply'", flags), mixed);
    flags.operation.when_all_down = Some(WhenAllDown::Reply);
    assert_eq!(choices("when-all-down = 'forward'", flags), mixed);
}

#[test]
fn the_admin_api_is_served_where_the_file_or_the_flags_say() {
    let toml = file(
        "",
        "[admin]\nsocket = 'run/admin.sock'\nlisten = ['127.0.0.1', '[::1]:9000']\n\
         token-file = '/run/token'\n",
    );
    let admin = load(&toml).admin;
    assert_eq!(
        admin.socket.as_deref(),
        Some(Path::new("/etc/run/admin.sock"))
    );
    for (socket, path) in [
        ("unix:/run/x.sock", "/run/x.sock"),
        ("unix:x.sock", "/etc/x.sock"),
    ] {
        let admin = load(&file("", &format!("[admin]\nsocket = '{socket}'\n"))).admin;
        assert_eq!(admin.socket.as_deref(), Some(Path::new(path)));
    }
    let listen = ["127.0.0.1:8060", "[::1]:9000"].map(|text| text.parse().expect("an address"));
    assert_eq!(admin.listen, listen);
    assert_eq!(admin.token_file.as_deref(), Some(Path::new("/run/token")));
    let one = good_and("[admin]\nlisten = '127.0.0.1:9001'\ntoken-file = 'token'\n");
    let listen: [SocketAddr; 1] = ["127.0.0.1:9001".parse().expect("an address")];
    assert_eq!(load(&one).admin.listen, listen);
    assert_eq!(load(&good_and("")).admin, viaduct::config::Admin::default());

    let folder = folder(&[("v.toml", &toml)]);
    let args = [
        "--config",
        "v.toml",
        "--print-effective",
        "--admin",
        "own.sock",
        "--admin-listen",
        "127.0.0.2:1",
        "--admin-listen",
        "127.0.0.3",
        "--admin-token-file",
        "own",
    ];
    let output = folder.run(&args);
    said(&output, 0, &[]);
    let here = folder.path("").canonicalize().expect("a path");
    for line in [
        format!("socket = \"{}/own.sock\"", here.display()),
        "listen = [\"127.0.0.2:1\", \"127.0.0.3:8060\"]".to_owned(),
        format!("token-file = \"{}/own\"", here.display()),
    ] {
        let said = stdout(&output);
        assert!(said.lines().any(|each| each == line), "no {line} in {said}");
    }
}

#[test]
fn the_admin_api_is_checked() {
    let admin = |text: &str| file("", &format!("[admin]\n{text}\n"));
    refused(
        &admin("socket = ''"),
        &["v.toml:7:10: error: the text is empty"],
    );
    refused(
        &admin("socket = 'http://127.0.0.1:8060'"),
        &[
            "v.toml:7:10: error: `http://127.0.0.1:8060` is no path",
            "--admin-listen",
        ],
    );
    good(&admin(&format!("socket = '/{}'", "s".repeat(106))));
    refused(
        &admin(&format!("socket = '/{}'", "s".repeat(107))),
        &[
            "v.toml:7:10: error: the path of the admin socket has 108 octets",
            "why: a Unix socket's has 107 at most",
        ],
    );
    refused(
        &admin("listen = ['localhost']"),
        &["v.toml:7:11: error: `localhost` is a name, not an address"],
    );
    refused(
        &admin("listen = ['224.0.0.1']"),
        &["v.toml:7:11: error: `224.0.0.1` is a multicast address"],
    );
    refused(
        &admin("listen = ['127.0.0.1', '127.0.0.1:8060']"),
        &["v.toml:7:24: error: `127.0.0.1:8060` is listened on twice"],
    );
    refused(
        &admin("sokcet = 'a'"),
        &[
            "v.toml:7:1: error: unknown key `sokcet` in [admin]",
            "did you mean `socket`?",
        ],
    );
    for everywhere in ["0.0.0.0", "[::]"] {
        warned(
            &admin(&format!("listen = ['{everywhere}']")),
            &[
                "v.toml:7:11: warning: `",
                "serves the admin API on every address",
                "help: listen on 127.0.0.1",
            ],
        );
    }
    warned(
        &admin("token-file = 'token'"),
        &["v.toml:7:14: warning: the token file has no effect"],
    );
    good(&admin(
        "listen = ['127.0.0.1:0', '127.0.0.1:0']\ntoken-file = 'token'",
    ));
    good(&admin("listen = []"));
}

/// `run` makes it absolute.
#[test]
fn the_path_of_a_socket_is_measured_from_the_root() {
    let folder = support::checking::folder(&[]);
    let path = "s".repeat(107);
    let accounted = format!("unix:{path}");
    for (more, what) in [
        (["--admin", &path], "the admin socket"),
        (["--accounting", &accounted], "the accounting socket"),
    ] {
        let given = ["-l", "192.0.2.10", "-t", "10.0.0.1", "--stateful", "INVITE"];
        let what = format!("{}: error: the path of {what} has ", more[0]);
        folder.refused(&[&given[..], &more].concat(), 1, &[&what, "107 at most"]);
    }
}

#[test]
fn the_mirror_is_checked() {
    let mirror = |text: &str| file("", &format!("[mirror]\n{text}\n"));
    let all = load(&mirror("to = '10.0.0.9'")).mirror.expect("a mirror");
    assert_eq!(all.to, "10.0.0.9:9060".parse().expect("an address"));
    assert_eq!((all.sample, all.id, all.key), (1000, 1, None));
    let some = mirror("to = '10.0.0.9:1'\nsample = '2.5%'\nid = 4294967295\nkey = 'k'");
    let some = load(&some).mirror.expect("a mirror");
    assert_eq!(
        (some.sample, some.id, some.key.as_deref()),
        (25, u32::MAX, Some("k"))
    );
    let mut overrides = Overrides::default();
    overrides.operation.mirror_sample = Some(Placed::by_flag("--mirror-sample")(1));
    let flagged = load_over(&mirror("to = '10.0.0.9'"), &overrides).mirror;
    assert_eq!(flagged.map(|mirror| mirror.sample), Some(1));

    refused(
        &mirror("id = 1"),
        &["v.toml:6:1: error: [mirror] has no `to`"],
    );
    let folder = folder(&[("v.toml", &mirror("id = 7"))]);
    let mut command = folder.command();
    command.args(["-c", "v.toml", "--print-effective"]);
    let output = command.env("VIADUCT_MIRROR", "10.0.0.9").output();
    let output = output.expect("an end");
    said(&output, 0, &[]);
    assert!(stdout(&output).contains("id = 7\n"), "{output:?}");
    for nobody in ["0.0.0.0", "224.0.0.1", "10.0.0.9:0"] {
        let what = format!("v.toml:7:6: error: `{nobody}` cannot be a collector");
        refused(&mirror(&format!("to = '{nobody}'")), &[&what]);
    }
    refused(
        &mirror("to = '192.0.2.10:5060'"),
        &["v.toml:7:6: error: `192.0.2.10:5060` is our own listener"],
    );
    for sample in ["0%", "100.1%", "50", "1.25%"] {
        refused(
            &mirror(&format!("to = '10.0.0.9'\nsample = '{sample}'")),
            &[
                "v.toml:8:10: error: ",
                "is not a share of calls",
                "give 0.1% to 100%",
            ],
        );
    }
    refused(
        &mirror("to = '10.0.0.9'\nid = -1"),
        &["v.toml:8:6: error: -1 is out of range"],
    );
    refused(
        &mirror("to = '10.0.0.9'\nkey = ''"),
        &["v.toml:8:7: error: the key is 0 octets long"],
    );
    check(
        &good_and(""),
        &["--mirror-sample", "1%"],
        0,
        &[
            "--mirror-sample: warning: nothing is mirrored",
            "help: add --mirror ADDR[:PORT]",
        ],
    );
}

#[test]
fn the_log_and_the_end_are_checked() {
    refused(
        &file("", "[log]\nformat = 'jsn'\n"),
        &[
            "v.toml:7:10: error: `jsn` is not a format of the log",
            "did you mean `json`?",
        ],
    );
    refused(
        &file("", "[log]\nlevel = 'warning'\n"),
        &[
            "v.toml:7:9: error: `warning` is not a level of the log",
            "error, warn, info, debug",
        ],
    );
    refused(
        &file("stop-timeout = '2h'", ""),
        &[
            "v.toml:1:16: error: `2h` is not a time",
            "give 0s or 1ms to 1h",
        ],
    );
    assert_eq!(load(&good_and("")).stop_timeout, Duration::from_secs(32));
    assert_eq!(
        load(&file("stop-timeout = '0s'", "")).stop_timeout,
        Duration::ZERO
    );
    let log = load(&file("", "[log]\nlevel = 'debug'\n")).log;
    assert_eq!(log.level, LogLevel::Debug);
}

#[test]
fn an_operators_day_is_summed_up() {
    let toml = file(
        "",
        "[[set]]\nname = 'b'\ndestinations = ['farm.example.com', '10.0.0.2']\nhealth = 'off'\n\
         [[route]]\nset = 'b'\n\
         [admin]\nsocket = '/run/a.sock'\nlisten = ['127.0.0.1']\n\
         [mirror]\nto = '10.0.0.9'\nsample = '0.1%'\n",
    );
    let output = checked(&toml, &[]);
    said(&output, 0, &[]);
    for line in [
        "set b: hash of call-id, 2 destinations, 1 of them by name",
        "probed: 1 of 3",
        "admin: /run/a.sock",
        "admin: http://127.0.0.1:8060, reads only",
        "mirror: 0.1% of calls to 10.0.0.9:9060",
    ] {
        let said = stdout(&output);
        assert!(said.lines().any(|each| each == line), "no {line} in {said}");
    }
    let output = checked(&toml, &["--admin-token-file", "token"]);
    let line = "admin: http://127.0.0.1:8060, changes by token";
    assert!(stdout(&output).lines().any(|each| each == line));
}

#[test]
fn names_are_members_with_what_is_said_of_them() {
    let toml = format!(
        "{LISTEN}[[set]]\nname = 'a'\ndestinations = [\n\
         'Farm.example.com',\n\
         'sip:gw.example.com:5060;weight=2',\n\
         {{ uri = 'gw.example.com', priority = -1, state = 'draining', health = 'off' }},\n]\n"
    );
    let config = load(&toml);
    let name = |host: &str, port| HostPort {
        host: host.to_owned(),
        port,
    };
    let farm = Named {
        uri: "Farm.example.com".to_owned(),
        name: name("farm.example.com", None),
        weight: None,
        priority: 0,
        state: State::Active,
        probe: Some(Probe::default().into()),
        resolved: false,
    };
    let gateway = Named {
        uri: "sip:gw.example.com:5060".to_owned(),
        name: name("gw.example.com", Some(5060)),
        weight: Some(2),
        ..farm.clone()
    };
    let found = Named {
        uri: "gw.example.com".to_owned(),
        name: name("gw.example.com", None),
        weight: None,
        priority: -1,
        state: State::Draining,
        probe: None,
        ..gateway.clone()
    };
    assert_eq!(config.sets[0].named, [farm.clone(), gateway, found]);
    assert_eq!(config.sets[0].destinations, []);

    let overrides = Overrides {
        to: ["Farm.example.com", "10.0.0.1"]
            .map(|to| text::member(to).expect("a member"))
            .to_vec(),
        ..Overrides::default()
    };
    let config = load_over(LISTEN, &overrides);
    assert_eq!(config.sets[0].named, [farm]);
    assert_eq!(config.sets[0].destinations.len(), 1);
}

#[test]
fn names_are_checked() {
    let set = |list: &str| format!("{LISTEN}[[set]]\nname = 'a'\ndestinations = {list}\n");
    refused(
        &set("['gw.example.com', 'sip:GW.example.com']"),
        &["v.toml:4:35: error: `gw.example.com` is in set `a` twice"],
    );
    refused(
        &set("['gw.example.com:0']"),
        &["v.toml:4:17: error: port 0 cannot be a destination"],
    );
    refused(
        &set("['sip:gw.example.com;transport=tcp']"),
        &["v.toml:4:17: error: destinations over TCP are not supported"],
    );
    refused(
        &set("['tel:+4930123']"),
        &["v.toml:4:17: error: `tel:+4930123` is no SIP URI"],
    );
    refused(
        &set("['10.0.0.256']"),
        &["v.toml:4:17: error: `10.0.0.256` is not an address"],
    );
    warned(
        &set("['sip:gw.example.com;state=disabled']"),
        &["v.toml:3:8: warning: no destination of set `a` is active"],
    );
    good(&set("['gw.example.com', 'gw.example.com:5060']"));
}

#[test]
fn a_set_of_names_alone_answers_503_where_nobody_has_resolved_them() {
    let folder = Folder::with(&["explain", "-l", "127.0.0.1"], &[]);
    let told = folder.text(&["--to", "farm.example.com", "--call-id", "a@b"]);
    assert!(told.contains("503"), "{told}");
}

#[test]
fn the_admin_api_the_mirror_and_the_format_of_the_log_need_a_restart() {
    let running = load(&good_and(""));
    let reloaded = load(&file(
        "when-all-down = 'reply'\nstop-timeout = '1s'",
        "health = 'off'\n[log]\nlevel = 'debug'\n[health]\ninterval = '3s'\n",
    ));
    assert_ne!(running, reloaded);
    let keys = differing_keys(&running, &reloaded);
    assert_eq!(keys.at_start, [""; 0]);
    let told = ["health", "log.level", "stop-timeout", "when-all-down"];
    assert_eq!(keys.at_reload, BTreeSet::from(told));
    let restarted = load(&file(
        "",
        "[admin]\nsocket = '/run/a.sock'\n[mirror]\nto = '10.0.0.9'\n[log]\nformat = 'json'\n",
    ));
    let differs = differing_keys(&running, &restarted).at_start;
    assert_eq!(differs, ["log.format", "admin", "mirror"]);
}

/// A slip of TOML, and a copy of what `check` and the log print.
#[test]
fn what_is_almost_right_is_named() {
    for (table, text) in [
        ("set", "[set]\nname = 'a'\ndestinations = ['10.0.0.1']\n"),
        (
            "route",
            "[[set]]\nname = 'a'\ndestinations = ['10.0.0.1']\n[route]\nset = 'a'\n",
        ),
        ("listener", "[listener]\naddress = '10.0.0.1'\n"),
        ("on-failure", "[on-failure]\nset = 'a'\n"),
    ] {
        let help = format!("help: write `[[{table}]]` with two brackets");
        refused(&format!("listen = '127.0.0.1'\n{text}"), &[&help]);
    }
    let help = "help: leave out `udp:`: 127.0.0.1:7060";
    refused(
        "listen = ['udp:127.0.0.1:7060']\n",
        &[":1:11: error: `udp:` is no part of an address\n", help],
    );
    for (scheme, address) in [
        ("tcp", "127.0.0.1"),
        ("tls", "127.0.0.1:5061"),
        ("ws", "[::1]"),
        ("WSS", "[::1]:443"),
    ] {
        let what = format!(":1:11: error: `{scheme}:` is not supported\n");
        let help = format!("help: for UDP give {address}\n");
        refused(
            &format!("listen = ['{scheme}:{address}']\n"),
            &[&what, "why: Viaduct speaks SIP over UDP alone\n", &help],
        );
    }
    refused(
        &file("advertise = 'sip:foo.example'", ""),
        &[
            ":1:13: error: `sip:` is no part of an address\n",
            "help: leave out `sip:`: foo.example\n",
        ],
    );
    good(&file("advertise = 'sip:5070'", ""));
    refused(
        "listen = ['foo.example']\n",
        &["why: only an address can stand here\n"],
    );
    let table = "[[listener]]\naddress = 'udp:127.0.0.1:7060'\n";
    refused(table, &[":2:11: error: ", help]);
}

#[test]
fn networks_to_leave_by_are_checked() {
    let with = |second_address: &str, second: &str| {
        format!(
            "[[listener]]\nname = 'in'\naddress = '192.0.2.1'\negress = ['10.0.0.0/8']\n\
             [[listener]]\nname = 'out'\naddress = '{second_address}'\negress = ['{second}']\n\
             [[set]]\nname = 'a'\ndestinations = ['10.0.0.1']\n"
        )
    };
    let listeners = |second: &str| with("192.0.2.2", second);
    warned(
        &listeners("10.0.0.0/8"),
        &["v.toml:8:11: warning: `10.0.0.0/8` leaves by listener `in` already"],
    );
    warned(
        &listeners("2001:db8::/32"),
        &["v.toml:8:11: warning: nothing leaves by `192.0.2.2:5060` to `2001:db8::/32`"],
    );
    warned(&listeners("10.0.0.0/9"), &[]);
    warned(
        &with("127.0.0.2", "10.0.0.0/9"),
        &["v.toml:8:11: warning: nothing leaves by `127.0.0.2:5060` to `10.0.0.0/9`"],
    );
    warned(&with("127.0.0.2", "127.0.0.0/8"), &[]);
}

/// The log keeps what is said of a reload.
#[test]
fn what_is_said_of_a_file_shows_no_key_of_the_mirror() {
    for lines in [
        "[mirror]\nto = '10.0.0.9'\nkey = 'geheim",
        "[mirror] # Homer\nto = '10.0.0.9'\nkey = \"\"\"\ngeheim\\x\"\"\"",
        "[mirror]\nto = '10.0.0.9'\nkeys = 'geheim'",
        "[admin]\nkey = 'geheim'",
        "[mirror]\nto = '10.0.0.9'\nkey = 4711",
        "[admin]\n[mirror]\nto = '10.0.0.9'\nkey = ['geheim']\n[log]\nlevel = 'warn'",
    ] {
        let output = checked(&file("", lines), &[]);
        said(&output, 1, &["v.toml:"]);
        let shown = stderr(&output);
        let shows = |key| shown.contains(key);
        assert!(!shows("geheim") && !shows("4711"), "{shown}");
    }
    let top = "mirror = { to = '10.0.0.9', key = 'geheim' , to = 1 }";
    let output = checked(&file(top, ""), &[]);
    said(&output, 1, &["v.toml:1:"]);
    assert!(!stderr(&output).contains("geheim"), "{}", stderr(&output));
}
