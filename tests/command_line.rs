//! The command line from outside: flags and variables against the file, exit
//! codes, JSON, completions and manual pages.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::admin;
use support::checking::{LISTEN, folder, good_and};
use support::farm::Farm;
use support::folder::{Folder, said, stderr, stdout};

/// The line of the effective configuration that sets `key`.
fn effective(command: &mut Command, key: &str) -> String {
    let output = command.arg("--print-effective").output().expect("an end");
    said(&output, 0, &[]);
    let said = stdout(&output);
    let line = said
        .lines()
        .find(|line| line.starts_with(&format!("{key} =")));
    line.unwrap_or_else(|| panic!("no {key} in {said}"))
        .to_owned()
}

/// A setting as written in the file, in its variable and in its flag, and as
/// the effective configuration then prints it; first the default.
const PRECEDENCE: [(&str, [&str; 3], [&str; 4]); 25] = [
    ("workers", ["5", "6", "7"], ["", "5", "6", "7"]),
    ("batch", ["10", "20", "30"], ["256", "10", "20", "30"]),
    (
        "gso",
        ["'exact'", "off", "pad"],
        ["\"pad\"", "\"exact\"", "\"off\"", "\"pad\""],
    ),
    (
        "coalesce-us",
        ["50", "0", "auto"],
        ["600", "50", "0", "600"],
    ),
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
];

#[test]
fn a_flag_goes_before_the_environment_before_the_file_before_the_default() {
    for (key, [file, variable, flag], printed) in PRECEDENCE {
        let written = format!("{key} = {file}\n{}", good_and(""));
        let folder = folder(&[("bare.toml", &good_and("")), ("v.toml", &written)]);
        let name = format!("VIADUCT_{}", key.replace('-', "_").to_uppercase());
        let flags = [format!("--{key}"), flag.to_owned()];
        // The default, then the file, the variable and the flag, one upon the other.
        for (layer, wanted) in printed.into_iter().enumerate() {
            let mut command = folder.command();
            let config = if layer == 0 { "bare.toml" } else { "v.toml" };
            command.args(["--config", config]);
            if layer >= 2 {
                command.env(&name, variable);
            }
            if layer == 3 {
                command.args(&flags);
            }
            // Empty: a default that depends on the machine, or no line at all.
            if !wanted.is_empty() {
                assert_eq!(effective(&mut command, key), format!("{key} = {wanted}"));
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
    assert_eq!(address(&[], &[]), "address = \"127.0.0.1:5060\"");
    assert_eq!(address(&env, &[]), "address = \"127.0.0.2:5060\"");
    assert_eq!(
        address(&env, &["-l", "127.0.0.4"]),
        "address = \"127.0.0.4:5060\""
    );
    let mut command = folder.command();
    let command = command.args(["-c", "v.toml", "--advertise", "sip.example.com"]);
    assert_eq!(
        effective(command, "advertise"),
        "advertise = \"sip.example.com\""
    );
    for (flags, wanted) in [
        (&["--pin"][..], "pin = true"),
        (&["--pin", "off"], "pin = false"),
    ] {
        let mut command = folder.command();
        let command = command
            .args(["-c", "v.toml"])
            .args(flags)
            .env("VIADUCT_PIN", "off");
        assert_eq!(effective(command, "pin"), wanted);
    }
}

#[test]
fn flags_and_variables_replace_what_a_table_says() {
    let toml = good_and("[accounting]\nto = '/a'\n[timers]\nT2 = '1s'\n");
    let folder = folder(&[("v.toml", &toml)]);
    let both = |variables: bool, flags: &[&str]| {
        ["to", "T2"].map(|key| {
            let mut command = folder.command();
            command.args(["-c", "v.toml"]).args(flags);
            if variables {
                command.env("VIADUCT_ACCOUNTING", "unix:/b");
                command.env("VIADUCT_TIMER", "T2=2s");
            }
            effective(&mut command, key)
        })
    };
    assert_eq!(both(false, &[]), ["to = \"/a\"", "T2 = \"1s\""]);
    assert_eq!(both(true, &[]), ["to = \"unix:/b\"", "T2 = \"2s\""]);
    assert_eq!(
        both(true, &["--accounting", "-", "--timer", "T2=3s"]),
        ["to = \"stdout\"", "T2 = \"3s\""]
    );
}

#[test]
fn what_systemd_keeps_files_in_is_in_the_effective_configuration() {
    let folder = folder(&[("v.toml", &good_and(""))]);
    let (secret, socket) = ("secret-file = \"/a/secret\"", "socket = \"/a/admin.sock\"");
    for (variable, wanted) in [("STATE_DIRECTORY", secret), ("RUNTIME_DIRECTORY", socket)] {
        let mut command = folder.command();
        command.args(["-c", "v.toml"]).env(variable, "/a:/b");
        let key = wanted.split_once(' ').expect("a key").0;
        assert_eq!(effective(&mut command, key), wanted);
    }
}

#[test]
fn one_worker_for_each_usable_core_is_the_default() {
    let cores = std::thread::available_parallelism().expect("a number of cores");
    let folder = folder(&[("v.toml", &good_and(""))]);
    let mut command = folder.command();
    let workers = effective(command.args(["-c", "v.toml"]), "workers");
    assert_eq!(workers, format!("workers = {cores}"));
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
    let line = effective(command.args(["--config", "etc/v.toml"]), "secret-file");
    let etc = folder.path("etc").canonicalize().expect("a path");
    let key = etc.join("key");
    assert_eq!(line, format!("secret-file = \"{}\"", key.display()));
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
fn wrong_usage_ends_with_2() {
    let folder = folder(&[]);
    for args in [
        &["--batch", "0"][..],
        &["--second-chance-s", "3601"],
        &["--to", "proxy_1.example.com"],
        &["--to", "10.0.0.1", "--dispatcher-list", "d.list"],
        &["--policy", "best"],
        &["--nonsense"],
    ] {
        folder.refused(args, 2, &["error: "]);
    }
    let named = ["--to", "proxy_1.example.com"];
    folder.refused(
        &named,
        2,
        &["\n  help: give an address: the name of a host"],
    );
    let numbered = ["--dispatcher-list", "d.list", "--set", "x"];
    folder.refused(&numbered, 2, &["--set", "give 0 to 4294967295"]);
}

#[test]
fn a_variable_that_is_wrong_is_named_and_an_empty_one_is_unset() {
    let toml = format!("workers = 3\n{}", good_and(""));
    let folder = Folder::with(&[], &[("v.toml", &toml)]);
    let check = |env: &[(&str, &str)], flags: &[&str]| {
        let mut command = folder.command();
        command.args(["check", "--config", "v.toml"]);
        command.args(flags).envs(env.iter().copied());
        command.output().expect("an end")
    };
    let wrong = ("VIADUCT_WORKERS", "abc");
    let output = check(&[wrong], &[]);
    said(&output, 2, &["invalid value 'abc' for 'VIADUCT_WORKERS'"]);
    let output = check(&[("VIADUCT_TO", "10.0.0.1,a_b.test")], &[]);
    said(&output, 2, &["'VIADUCT_TO'"]);
    // A flag goes before it.
    let output = check(&[wrong], &["--workers", "x"]);
    said(&output, 2, &["invalid value 'x' for '--workers <THREADS>'"]);
    said(&check(&[wrong], &["--workers", "2"]), 0, &[]);
    for name in ["VIADUCT_WORKERS", "VIADUCT_TO", "VIADUCT_SET"] {
        let output = check(&[(name, "")], &[]);
        said(&output, 0, &[]);
        assert!(stdout(&output).contains("workers: 3"), "{output:?}");
    }
    let mut ctl = folder.command();
    ctl.args(["ctl", "list"]).env("VIADUCT_ADMIN", "https://a");
    let output = ctl.output().expect("an end");
    said(&output, 2, &["for 'VIADUCT_ADMIN'"]);
}

#[test]
fn a_variable_that_is_misspelt_is_warned_of() {
    let folder = folder(&[("v.toml", &good_and(""))]);
    let check = |name: &str, value: &str| {
        let mut command = folder.command();
        command.args(["--config", "v.toml"]);
        command.env(name, value).output().expect("an end")
    };
    let output = check("VIADUCT_WORKER", "4");
    said(
        &output,
        0,
        &["VIADUCT_WORKER: warning: ", "`VIADUCT_WORKERS`"],
    );
    let mut system = folder.command();
    system.args(["--system", "--json", "--config", "v.toml"]);
    let output = system.env("VIADUCT_WORKER", "4").output().expect("an end");
    assert_eq!(stderr(&output), "");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let warning = &told["diagnostics"][0];
    assert_eq!(
        (&warning["severity"], &warning["flag"]),
        (&"warning".into(), &"VIADUCT_WORKER".into())
    );
    // What Kubernetes sets for a service that is called viaduct.
    let udp = "udp://10.0.0.1:5060";
    for (name, value) in [
        ("VIADUCT_WORKER", ""),
        ("VIADUCT_SERVICE_HOST", "10.0.0.1"),
        ("VIADUCT_SERVICE_PORT_SIP", "5060"),
        ("VIADUCT_PORT", udp),
        ("VIADUCT_PORT_5060_UDP", udp),
        ("VIADUCT_PORT_5060_UDP_PROTO", "udp"),
    ] {
        let output = check(name, value);
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
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
}

#[test]
fn diagnostics_as_json() {
    let folder = folder(&[("v.toml", "listn = 1\n"), ("good.toml", &good_and(""))]);
    let output = folder.run(&["--config", "v.toml", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["ok"], false);
    let first = &said["diagnostics"][0];
    assert_eq!(first["file"], "v.toml");
    assert_eq!((&first["line"], &first["column"]), (&1.into(), &1.into()));
    assert_eq!(first["severity"], "error");
    assert_eq!(first["help"], "did you mean `listen`?");
    let output = folder.run(&["--config", "v.toml", "--system", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let of_system: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(of_system, said);
    let output = folder.run(&["--config", "good.toml", "--json"]);
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said, serde_json::json!({ "ok": true, "diagnostics": [] }));
}

#[test]
fn styles_are_for_those_who_want_them() {
    let folder = folder(&[("v.toml", "listn = 1\n")]);
    let has_styles = |variables: &[(&str, &str)]| {
        let mut command = folder.command();
        command.args(["--config", "v.toml"]);
        command.envs(variables.iter().copied());
        stderr(&command.output().expect("an end")).contains('\x1b')
    };
    assert!(!has_styles(&[]), "a pipe shows none");
    let forced = ("CLICOLOR_FORCE", "1");
    assert!(has_styles(&[forced]));
    assert!(!has_styles(&[forced, ("NO_COLOR", "1")]));
}

/// One that nobody reads.
fn closed() -> PipeWriter {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer
}

#[test]
fn a_reader_that_goes_is_no_failure_and_changes_no_verdict() {
    let files = [("v.toml", &*good_and("")), ("bad.toml", "listn = 1\n")];
    let folder = Folder::with(&[], &files);
    let command = |args: &[&str]| {
        let mut command = folder.command();
        command.args(args);
        command
    };
    for args in [
        &["man"][..],
        &["completions", "bash"],
        &["check", "--config", "v.toml"],
    ] {
        let output = command(args)
            .stdout(closed())
            .stderr(Stdio::piped())
            .output()
            .expect("an end");
        said(&output, 0, &[]);
        assert_eq!(stderr(&output), "", "{args:?}");
    }
    for args in [&[][..], &["--json"], &["--system"], &["--system", "--json"]] {
        let args = [&["check", "--config", "bad.toml"], args].concat();
        let status = command(&args).stdout(closed()).stderr(closed()).status();
        assert_eq!(status.expect("an end").code(), Some(1), "{args:?}");
    }
}

#[test]
fn a_reader_that_goes_is_no_reason_not_to_wait() {
    let (farm, admin) = Farm::with_admin(&["", ""], "", &[]);
    let ctl = |args: &[&str]| {
        let status = admin::ctl(admin.path(), args).stdout(closed()).status();
        status.expect("an end").code()
    };
    let quiet = Duration::from_secs(2);
    let began = Instant::now();
    let member = farm.member(0);
    assert_eq!(ctl(&["drain", &member, "--wait", "2s"]), Some(0));
    assert!(began.elapsed() >= quiet, "it did not wait");
    assert_eq!(ctl(&["--json", "drain", "192.0.2.1"]), Some(1));
}

/// One with a good configuration in it.
fn piped() -> PipeReader {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    let toml = good_and("");
    writer.write_all(toml.as_bytes()).expect("room in a pipe");
    reader
}

#[test]
fn a_configuration_may_come_from_a_pipe() {
    let folder = folder(&[]);
    for (more, wanted) in [(&[][..], "is good\n"), (&["--print-effective"], "10.0.0.1")] {
        let mut viaduct = folder.command();
        viaduct.args(["--config", "/dev/stdin"]).args(more);
        let output = viaduct.stdin(piped()).output().expect("an end");
        said(&output, 0, &[]);
        assert!(stdout(&output).contains(wanted), "{output:?}");
    }
    let mut viaduct = folder.command();
    viaduct.args(["--system", "--config", "/dev/stdin"]);
    let output = viaduct.stdin(piped()).output().expect("an end");
    assert_eq!(stderr(&output), "");
}

/// As where the folder is one's own no more: what is there nobody can say.
#[test]
fn a_secret_file_that_nobody_can_look_for_is_not_taken_for_none() {
    let toml = format!("secret-file = 'v.toml/secret'\n{}", good_and(""));
    let folder = Folder::with(&[], &[("v.toml", &toml)]);
    for command in [&["explain"][..], &["simulate"], &["replay", "v.toml"]] {
        let args = [command, &["--config", "v.toml"]].concat();
        let wanted = ["v.toml/secret: Not a directory", "\n  help: it must be"];
        folder.refused(&args, 1, &wanted);
    }
}

#[test]
fn completions_man_and_version() {
    let folder = Folder::with(&[], &[]);
    let print = |args: &[&str]| folder.text(args);
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            print(&["completions", shell]).contains("print-effective"),
            "{shell}"
        );
    }
    let page = print(&["man"]);
    assert!(page.contains(".TH viaduct 1"));
    assert!(page.contains("check"));
    let page = print(&["man", "check"]);
    assert!(page.contains("print\\-effective") && page.contains("VIADUCT_LISTEN"));
    assert_eq!(
        print(&["--version"]),
        format!("viaduct {}\n", env!("CARGO_PKG_VERSION"))
    );
    let wanted = ["there is no subcommand `nonsense`"];
    folder.refused(&["man", "nonsense"], 2, &wanted);
}

#[test]
fn each_manual_page_that_another_one_names_can_be_printed() {
    let folder = Folder::with(&["man"], &[]);
    let mut paths = vec![Vec::<String>::new()];
    let mut printed = 0;
    while let Some(path) = paths.pop() {
        let words: Vec<&str> = path.iter().map(String::as_str).collect();
        let page = folder.text(&words).replace("\\-", "-");
        let name = [&["viaduct"], &words[..]].concat().join("-");
        let version = env!("CARGO_PKG_VERSION");
        let title = format!(".TH {name} 1 \"\" \"viaduct {version}\"");
        assert!(page.contains(&title), "{page}");
        let of = |line: &str| {
            let below = line.strip_prefix(&name)?.strip_prefix('-')?;
            Some(below.strip_suffix("(1)")?.to_owned())
        };
        let below = page.lines().filter_map(of);
        paths.extend(below.map(|name| [&path[..], &[name]].concat()));
        printed += 1;
    }
    // viaduct, ten below it, and those of ctl.
    assert!(printed > 20, "{printed} pages");
}

#[test]
fn every_flag_of_check_tells_its_default() {
    let help = folder(&[]).text(&["--help"]);
    let options = help.replace("\n      --", "\n  -");
    let options = options.split("\n  -").skip(1);
    let mut tunables = 0;
    for option in options.filter(|option| option.contains("VIADUCT_")) {
        assert!(option.contains("[default"), "{option}");
        tunables += 1;
    }
    assert_eq!(tunables, 49);
    assert!(help.contains("[possible values: call-id, source]"));
}
