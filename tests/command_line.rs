//! The command line from outside: exit codes, JSON, completions and manual pages.

use std::io::{PipeReader, PipeWriter, Write};
use std::process::Stdio;
use std::time::{Duration, Instant};

use support::admin;
use support::checking::{folder, good_and};
use support::farm::Farm;
use support::folder::{Folder, said, stderr, stdout};

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

#[test]
fn a_file_that_cannot_be_used_is_told_with_what_to_give() {
    let lines = "a token of one line\na token of another\n";
    let folder = Folder::with(&[], &[("two", lines), ("none", "\n"), ("empty.pcap", "")]);
    let farm = ["--listen", "127.0.0.1", "--to", "127.0.0.2"];
    let token = "help: give a file that you may read, with the token of the instance";
    let message = "help: give a file with one SIP message, or `-` for stdin";
    for (command, file, what, help) in [
        (
            "ctl list --token-file",
            "gone",
            "token file gone: No such file",
            token,
        ),
        (
            "ctl list --token-file",
            ".",
            "token file .: Is a directory",
            token,
        ),
        (
            "ctl list --token-file",
            "two",
            "token file two: it holds more than one line",
            token,
        ),
        (
            "ctl list --token-file",
            "none",
            "token file none: it is empty",
            token,
        ),
        (
            "ctl explain --message",
            "gone",
            "gone: No such file",
            message,
        ),
        ("ctl explain --message", ".", ".: Is a directory", message),
        ("explain --message", "gone", "gone: No such file", message),
        (
            "replay",
            "gone",
            "gone: No such file",
            "help: give a capture of UDP, pcap or pcapng",
        ),
        (
            "replay",
            "empty.pcap",
            "empty.pcap: the file is empty",
            "only when they end",
        ),
    ] {
        let mut args: Vec<_> = command.split(' ').chain([file]).collect();
        if args[0] != "ctl" {
            args.extend(farm);
        }
        folder.refused(&args, 1, &[what, help]);
    }
}

#[test]
fn an_instance_that_cannot_be_asked_is_told_with_where_to_ask() {
    let folder = Folder::with(&[], &[]);
    let ctl = |admin: &str, code, wanted: &[&str]| {
        folder.refused(&["ctl", "--admin", admin, "list"], code, wanted);
    };
    ctl(
        "gone.sock",
        1,
        &["gone.sock: No such file", "help: is it running"],
    );
    ctl("http://nosuch.invalid:8060", 1, &["help: is it running"]);
    ctl(
        "https://127.0.0.1",
        2,
        &["HTTPS is not supported: give http://ADDR:PORT"],
    );
}

#[test]
fn the_limits_of_numbers_and_times_are_told() {
    let folder = Folder::with(&[], &[]);
    for (command, flag, wrong, limits) in [
        ("demo", "--seconds", "5", "10 to 600"),
        ("demo", "--rate", "2001", "20 to 2000"),
        ("ctl bad-packets", "--count", "0", "1 to 10000"),
        ("ctl bad-packets", "--wait", "2h", "1ms to 1h"),
        ("ctl drain 192.0.2.1", "--wait", "25h", "1ms to 24h"),
    ] {
        let command: Vec<_> = command.split(' ').collect();
        let told = format!("give {limits}");
        folder.refused(&[&command[..], &[flag, wrong]].concat(), 2, &[flag, &told]);
        let help = folder.text(&[&command[..], &["--help"]].concat());
        let of_flag = help.split(&format!("  {flag} ")).nth(1).expect("the flag");
        let of_flag = of_flag.split("\n      -").next().expect("its help");
        assert!(of_flag.contains(limits), "{flag}: {help}");
    }
    // Dialogs may be silent for longer than an hour.
    let gone = [
        "ctl",
        "--admin",
        "gone.sock",
        "drain",
        "192.0.2.1",
        "--wait",
        "2h",
    ];
    folder.refused(&gone, 1, &["gone.sock: No such file"]);
    let weight = ["ctl", "weight", "192.0.2.1", "0"];
    folder.refused(
        &weight,
        2,
        &["for no new calls, `viaduct ctl drain DESTINATION`"],
    );
}
