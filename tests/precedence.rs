//! What goes before what: flags, variables, the file, the defaults.

use std::fs;
use std::process::Command;

use toml::Value;

use support::checking::{LISTEN, folder, good_and};
use support::folder::{said, stdout};

/// What the effective configuration has for `key`, by itself or in its first set
/// or listener.
#[track_caller]
fn effective(command: &mut Command, key: &str) -> String {
    let output = command.arg("--print-effective").output().expect("an end");
    said(&output, 0, &[]);
    let text = stdout(&output);
    let root = Value::Table(text.parse().expect("TOML"));
    let places = [Some(&root), root["set"].get(0), root["listener"].get(0)];
    let of = |place| {
        key.split('.')
            .try_fold(place, |value: &Value, key| value.get(key))
    };
    let mut found = places.into_iter().flatten().filter_map(of);
    let found = found.next().unwrap_or_else(|| panic!("no {key} in {text}"));
    found.to_string()
}

/// The settings whose flags are not called as they are.
const OTHERWISE: [(&str, &str); 7] = [
    ("accounting.to", "accounting"),
    ("admin.socket", "admin"),
    ("health.down-after", "down-after"),
    ("health.slow-start", "slow-start"),
    ("health.up-after", "up-after"),
    ("mirror.to", "mirror"),
    ("timers.T2", "timer"),
];

const PROBED: &str = "{ accept = [\"2xx\", \"3xx\", \"4xx\", \"6xx\", \"501\"], down-after = 3, \
                      interval = \"1s\", slow-start = \"10s\", timeout = \"500ms\", up-after = 2 }";

/// A setting as written in the file, in its variable and in its flag, and as
/// the effective configuration then has it; first the default.
const PRECEDENCE: [(&str, [&str; 3], [&str; 4]); 41] = [
    ("workers", ["5", "6", "7"], ["", "5", "6", "7"]),
    ("batch", ["10", "20", "30"], ["256", "10", "20", "30"]),
    (
        "gso",
        ["'exact'", "off", "pad"],
        ["\"pad\"", "\"exact\"", "\"off\"", "\"pad\""],
    ),
    ("coalesce-us", ["50", "0", "60"], ["600", "50", "0", "60"]),
    ("spin-us", ["10", "20", "30"], ["0", "10", "20", "30"]),
    (
        "pin",
        ["false", "on", "off"],
        ["true", "false", "true", "false"],
    ),
    (
        "steer",
        ["'source'", "call-id", "source"],
        ["\"call-id\"", "\"source\"", "\"call-id\"", "\"source\""],
    ),
    (
        "receive-buffer",
        ["'1MiB'", "65536", "64k"],
        ["4194304", "1048576", "65536", "65536"],
    ),
    (
        "send-buffer",
        ["65536", "1MiB", "2MiB"],
        ["4194304", "65536", "1048576", "2097152"],
    ),
    ("reply-rate", ["1", "2", "3"], ["100", "1", "2", "3"]),
    (
        "resolve",
        ["true", "off", "on"],
        ["false", "true", "false", "true"],
    ),
    (
        "resolver",
        ["['[::1]']", "192.0.2.53,192.0.2.54:5353", "192.0.2.55"],
        [
            "[]",
            "[\"[::1]:53\"]",
            "[\"192.0.2.53:53\", \"192.0.2.54:5353\"]",
            "[\"192.0.2.55:53\"]",
        ],
    ),
    (
        "second-chance-s",
        ["0", "60", "3600"],
        ["180", "0", "60", "3600"],
    ),
    (
        "secret-file",
        ["'/a'", "/b", "/c"],
        ["", "\"/a\"", "\"/b\"", "\"/c\""],
    ),
    (
        "policy",
        ["'random'", "hash", "round-robin"],
        ["\"hash\"", "\"random\"", "\"hash\"", "\"round-robin\""],
    ),
    (
        "hash-key",
        ["'source'", "to-uri", "header:X-A"],
        ["\"call-id\"", "\"source\"", "\"to-uri\"", "\"header:x-a\""],
    ),
    (
        "allow-next-hop",
        ["['::1']", "10.0.0.0/8,::2", "::3"],
        [
            "[]",
            "[\"::1/128\"]",
            "[\"10.0.0.0/8\", \"::2/128\"]",
            "[\"::3/128\"]",
        ],
    ),
    (
        "record-route",
        ["true", "off", "on"],
        ["false", "true", "false", "true"],
    ),
    (
        "path",
        ["'on'", "off", "on"],
        ["false", "true", "false", "true"],
    ),
    (
        "stateful",
        ["['BYE']", "INVITE,REGISTER", "INVITE"],
        [
            "[]",
            "[\"BYE\"]",
            "[\"INVITE\", \"REGISTER\"]",
            "[\"INVITE\"]",
        ],
    ),
    ("transactions", ["1", "2", "3"], ["131072", "1", "2", "3"]),
    (
        "failover-after",
        ["'2s'", "500ms", "3s"],
        ["\"1s\"", "\"2s\"", "\"500ms\"", "\"3s\""],
    ),
    (
        "failover-status",
        ["[]", "500,503", "599"],
        ["[503]", "[]", "[500, 503]", "[599]"],
    ),
    (
        "retry-after-cap",
        ["'0s'", "1m", "1ms"],
        ["\"30s\"", "\"0s\"", "\"60s\"", "\"1ms\""],
    ),
    (
        "ring-timeout",
        ["'30s'", "1m", "0s"],
        ["\"0s\"", "\"30s\"", "\"60s\"", "\"0s\""],
    ),
    (
        "stop-timeout",
        ["'3s'", "1s", "2s"],
        ["\"32s\"", "\"3s\"", "\"1s\"", "\"2s\""],
    ),
    (
        "timers.T2",
        ["'1s'", "T2=2s", "T2=3s"],
        ["\"4s\"", "\"1s\"", "\"2s\"", "\"3s\""],
    ),
    (
        "accounting.to",
        ["'/a'", "unix:/b", "-"],
        ["", "\"/a\"", "\"unix:/b\"", "\"stdout\""],
    ),
    (
        "mirror.to",
        ["'10.0.0.9'", "10.0.0.8", "10.0.0.7:1"],
        [
            "",
            "\"10.0.0.9:9060\"",
            "\"10.0.0.8:9060\"",
            "\"10.0.0.7:1\"",
        ],
    ),
    (
        "mirror.sample",
        ["'10%'\nmirror.to = '10.0.0.9'", "20%", "0.5%"],
        ["", "\"10%\"", "\"20%\"", "\"0.5%\""],
    ),
    (
        "log.format",
        ["'json'", "text", "json"],
        ["\"text\"", "\"json\"", "\"text\"", "\"json\""],
    ),
    (
        "log.level",
        ["'error'", "warn", "debug"],
        ["\"info\"", "\"error\"", "\"warn\"", "\"debug\""],
    ),
    (
        "admin.socket",
        ["'/a'", "/b", "/c"],
        ["", "\"/a\"", "\"/b\"", "\"/c\""],
    ),
    (
        "admin.listen",
        ["'127.0.0.1:1'", "127.0.0.1,127.0.0.2:1", "[::1]"],
        [
            "",
            "[\"127.0.0.1:1\"]",
            "[\"127.0.0.1:8060\", \"127.0.0.2:1\"]",
            "[\"[::1]:8060\"]",
        ],
    ),
    (
        "when-all-down",
        ["'reply'", "forward", "reply"],
        ["\"forward\"", "\"reply\"", "\"forward\"", "\"reply\""],
    ),
    (
        "health",
        ["'off'", "on", "off"],
        [PROBED, "\"off\"", PROBED, "\"off\""],
    ),
    (
        "health.interval",
        ["'5s'", "2s", "3s"],
        ["\"1s\"", "\"5s\"", "\"2s\"", "\"3s\""],
    ),
    (
        "health.timeout",
        ["'10ms'", "20ms", "30ms"],
        ["\"500ms\"", "\"10ms\"", "\"20ms\"", "\"30ms\""],
    ),
    ("health.down-after", ["6", "4", "5"], ["3", "6", "4", "5"]),
    ("health.up-after", ["6", "4", "5"], ["2", "6", "4", "5"]),
    (
        "health.slow-start",
        ["'1s'", "0s", "1m"],
        ["\"10s\"", "\"1s\"", "\"0s\"", "\"60s\""],
    ),
];

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    for (key, [file, variable, flag], printed) in PRECEDENCE {
        let written = format!("{key} = {file}\n{}", good_and(""));
        let folder = folder(&[("bare.toml", &good_and("")), ("v.toml", &written)]);
        let otherwise = OTHERWISE.iter().find(|(setting, _)| *setting == key);
        let name = otherwise.map_or_else(|| key.replace('.', "-"), |(_, name)| (*name).to_owned());
        let of_environment = format!("VIADUCT_{}", name.replace('-', "_").to_uppercase());
        let flags = [format!("--{name}"), flag.to_owned()];
        // The default, then the file, the variable and the flag, one upon the other.
        for (layer, wanted) in printed.into_iter().enumerate() {
            let mut command = folder.command();
            let config = if layer == 0 { "bare.toml" } else { "v.toml" };
            command.args(["--config", config]);
            if layer >= 2 {
                command.env(&of_environment, variable);
            }
            if layer == 3 {
                command.args(&flags);
            }
            // Empty: a default that depends on the machine, or nothing at all.
            if !wanted.is_empty() {
                assert_eq!(effective(&mut command, key), wanted, "{key}");
            }
        }
    }
}

#[test]
fn flags_and_variables_replace_listeners() {
    let folder = folder(&[("v.toml", &good_and(""))]);
    let address = |env: &[(&str, &str)], flags: &[&str]| {
        let mut command = folder.command();
        command
            .args(["--config", "v.toml"])
            .args(flags)
            .envs(env.iter().copied());
        effective(&mut command, "address")
    };
    let env = [("VIADUCT_LISTEN", "127.0.0.2,127.0.0.3:5061")];
    assert_eq!(address(&[], &[]), "\"192.0.2.10:5060\"");
    assert_eq!(address(&env, &[]), "\"127.0.0.2:5060\"");
    assert_eq!(address(&env, &["-l", "127.0.0.4"]), "\"127.0.0.4:5060\"");
    let mut command = folder.command();
    let command = command.args(["-c", "v.toml", "--advertise", "sip.example.com"]);
    assert_eq!(effective(command, "advertise"), "\"sip.example.com\"");
    for (flags, wanted) in [(&["--pin"][..], "true"), (&["--pin", "off"], "false")] {
        let mut command = folder.command();
        let command = command
            .args(["-c", "v.toml"])
            .args(flags)
            .env("VIADUCT_PIN", "off");
        assert_eq!(effective(command, "pin"), wanted);
    }
}

#[test]
fn what_systemd_keeps_files_in_is_in_the_effective_configuration() {
    let folder = folder(&[("v.toml", &good_and(""))]);
    for (variable, key, wanted) in [
        ("STATE_DIRECTORY", "secret-file", "\"/a/secret\""),
        ("RUNTIME_DIRECTORY", "admin.socket", "\"/a/admin.sock\""),
    ] {
        let mut command = folder.command();
        command.args(["-c", "v.toml"]).env(variable, "/a:/b");
        assert_eq!(effective(&mut command, key), wanted);
    }
}

#[test]
fn one_worker_for_each_usable_core_is_the_default() {
    let cores = std::thread::available_parallelism().expect("a number of cores");
    let folder = folder(&[("v.toml", &good_and(""))]);
    let mut command = folder.command();
    let workers = effective(command.args(["-c", "v.toml"]), "workers");
    assert_eq!(workers, cores.to_string());
}

#[test]
fn paths_in_the_file_are_relative_to_the_file() {
    let folder = folder(&[]);
    fs::create_dir(folder.path("etc")).expect("a folder");
    folder.write("etc/d.list", "7 sip:10.0.0.7\n");
    let toml =
        format!("secret-file = 'key'\n{LISTEN}[[set]]\nname = 'a'\ndispatcher-list = 'd.list'\n");
    folder.write("etc/v.toml", toml);
    let mut command = folder.command();
    let found = effective(command.args(["--config", "etc/v.toml"]), "secret-file");
    let etc = folder.path("etc").canonicalize().expect("a path");
    let key = etc.join("key");
    assert_eq!(found, format!("\"{}\"", key.display()));
}

#[test]
fn sets_given_by_flags_replace_those_of_the_file() {
    let folder = folder(&[
        ("v.toml", &good_and("")),
        ("r.toml", &good_and("[[route]]\nset = 'a'\n")),
    ]);
    let output = folder.run(&[
        "-c",
        "v.toml",
        "--to",
        "10.9.9.9",
        "--to",
        "sip:10.9.9.8;weight=2",
    ]);
    said(&output, 0, &[]);
    assert!(stdout(&output).contains("set default: hash of call-id, 2 destinations"));
    let output = folder.run(&["-c", "r.toml", "--to", "10.9.9.9"]);
    said(&output, 1, &["r.toml:6:7: error: there is no set `a`"]);
    let output = folder.run(&["-l", "127.0.0.1", "-t", "127.0.0.1"]);
    said(
        &output,
        1,
        &["--to: error: `127.0.0.1:5060` is our own listener"],
    );
}

#[test]
fn where_destinations_come_from_a_flag_says_before_any_variable() {
    let list = ("d.list", "1 sip:10.7.7.7\n");
    let folder = folder(&[("v.toml", &good_and("")), list]);
    let effective = |variable: (&str, &str), flags: [&str; 2]| {
        let mut command = folder.command();
        command.args(["--print-effective", "--config", "v.toml"]);
        command.args(flags).envs([variable, ("VIADUCT_SET", "1")]);
        let output = command.output().expect("an end");
        said(&output, 0, &[]);
        stdout(&output)
    };
    let list = effective(("VIADUCT_TO", "10.9.9.9"), ["--dispatcher-list", "d.list"]);
    assert!(
        list.contains("10.7.7.7") && !list.contains("10.9.9.9"),
        "{list}"
    );
    let to = effective(("VIADUCT_DISPATCHER_LIST", "d.list"), ["--to", "10.9.9.9"]);
    assert!(to.contains("10.9.9.9") && !to.contains("10.7.7.7"), "{to}");
    // Of two variables neither does, and they are called by their names.
    let mut command = folder.command();
    command.args(["--config", "v.toml"]);
    command.envs([
        ("VIADUCT_TO", "10.9.9.9"),
        ("VIADUCT_DISPATCHER_LIST", "d.list"),
    ]);
    let output = command.output().expect("an end");
    let both = "'VIADUCT_TO' cannot be used with 'VIADUCT_DISPATCHER_LIST'";
    said(&output, 2, &[both]);
}
