//! Kamailio's `dispatcher.list` as `viaduct check` reads it.

use std::cell::Cell;
use std::path::Path;
use std::process::Output;

use support::checking::{LISTEN, folder};
use support::folder::{Folder, stderr, stdout};
use viaduct::config::{Overrides, load_with};

fn check(list: &str, args: &[&str]) -> Output {
    folder(&[("d.list", list)]).run(args)
}

/// Checks a list alone, wants `code` and all of `wanted` on stderr.
#[track_caller]
fn list_says(list: &str, code: i32, wanted: &[&str]) {
    let output = check(list, &["--dispatcher-list", "d.list"]);
    let said = stderr(&output);
    for text in wanted {
        assert!(said.contains(text), "no {text:?} in:\n{said}");
    }
    let lines = said.lines().filter(|line| line.starts_with("d.list:"));
    assert_eq!(lines.count(), wanted.len(), "{said}");
    assert_eq!(output.status.code(), Some(code), "{said}");
}

/// The destinations of one set of the list, as the effective configuration.
#[track_caller]
fn destinations(list: &str, args: &[&str]) -> Vec<String> {
    let common = [
        "-l",
        "127.0.0.1",
        "--dispatcher-list",
        "d.list",
        "--print-effective",
    ];
    let said = folder(&[("d.list", list)]).text(&[&common, args].concat());
    let lines = said
        .lines()
        .skip_while(|line| !line.starts_with("destinations"));
    let lines = lines.skip(1).take_while(|line| !line.starts_with(']'));
    lines
        .map(|line| line.trim().trim_end_matches(',').to_owned())
        .collect()
}

#[test]
fn its_sets_are_told() {
    let list = "# farm\n\n 1 sip:10.0.0.1\n2 SIP:10.0.0.2 4\n";
    let said = stdout(&check(list, &["--dispatcher-list", "d.list"]));
    assert_eq!(
        said,
        "set 1: 1 destination\nset 2: 1 destination, disabled\n"
    );
}

#[test]
fn alone_it_is_checked_with_what_flags_and_variables_say() {
    let folder = Folder::with(&["check"], &[("d.list", "1 sip:10.0.0.1 0 0 weight=3\n")]);
    let mut command = folder.command();
    command.args(["--dispatcher-list", "d.list", "--policy", "kamailio"]);
    let output = command.env("VIADUCT_POLCY", "hash").output();
    let said = stderr(&output.expect("an end"));
    for text in [
        "d.list:1:3: warning: the weight has no effect with policy `kamailio`",
        "VIADUCT_POLCY: warning: there is no such variable",
    ] {
        assert!(said.contains(text), "{said}");
    }
}

#[test]
fn beside_another_configuration_it_is_to_be_named_in_one() {
    let list = [("d.list", "1 sip:10.0.0.1\n")];
    let folder = Folder::with(&["explain", "--before", "d.list"], &list);
    let wanted = [
        "--before: error: `d.list` is a dispatcher.list",
        "help: name it in a file of TOML: `dispatcher-list = \"d.list\"`",
    ];
    folder.refused(&["-l", "192.0.2.10", "-t", "10.0.0.1"], 1, &wanted);
}

#[test]
fn as_configuration_it_is_recognised_by_its_content_and_refused() {
    let list = "# farm\n\n 1 sip:10.0.0.1\n2 SIP:10.0.0.2 4\n";
    let output = check(list, &["--config", "d.list"]);
    let said = stderr(&output);
    for text in [
        "--config: error: `d.list` is a dispatcher.list",
        "help: give --dispatcher-list d.list",
    ] {
        assert!(said.contains(text), "{said}");
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
}

#[test]
fn the_order_of_the_file_is_kept() {
    let list = "1 sip:10.0.0.3\n2 sip:10.0.0.9\n1 sip:10.0.0.1 0 5\n1 sip:10.0.0.2\n";
    let wanted = [
        "\"sip:10.0.0.3\"",
        "{ priority = 5, uri = \"sip:10.0.0.1\" }",
        "\"sip:10.0.0.2\"",
    ];
    assert_eq!(destinations(list, &[]), wanted);
}

#[test]
fn a_set_is_chosen_by_id_and_the_lowest_is_the_default() {
    let list = "5 sip:10.0.0.5\n2 sip:10.0.0.2\n";
    assert_eq!(destinations(list, &[]), ["\"sip:10.0.0.2\""]);
    assert_eq!(destinations(list, &["--set", "5"]), ["\"sip:10.0.0.5\""]);
    let output = check(
        list,
        &[
            "-l",
            "127.0.0.1",
            "--dispatcher-list",
            "d.list",
            "--set",
            "3",
        ],
    );
    let said = stderr(&output);
    assert!(
        said.contains("--dispatcher-list: error: `d.list` has no set 3"),
        "{said}"
    );
    assert!(said.contains("help: it has 2, 5"), "{said}");
}

#[test]
fn a_set_of_no_list_is_told() {
    let folder = folder(&[]);
    let flag = folder.run(&["-l", "127.0.0.1", "-t", "10.0.0.1", "--set", "1"]);
    let mut variables = folder.command();
    variables.args(["-l", "127.0.0.1"]);
    variables.envs([("VIADUCT_TO", "10.0.0.1"), ("VIADUCT_SET", "1")]);
    for output in [flag, variables.output().expect("an end")] {
        let said = stderr(&output);
        assert!(
            said.contains("--set: error: there is no dispatcher.list")
                && said.contains("leave out --set and VIADUCT_SET"),
            "{said}"
        );
        assert_eq!(output.status.code(), Some(1));
    }
}

#[test]
fn comments_flags_priorities_and_weights() {
    let list = "# 1 sip:10.0.0.1\n\
                1 sip:10.0.0.2#comment\n\
                1\tsip:10.0.0.3:5070 # 4\n\
                1 sip:10.0.0.4 0x1 # inactive\n\
                1 sip:10.0.0.5 8 3 weight=7;\r\n\
                1 sip:10.0.0.6 58 0 rweight=9 # not probed; the other bits change nothing\n\
                1 sip:u@10.0.0.7;lr";
    let wanted = [
        "\"sip:10.0.0.2\"",
        "\"sip:10.0.0.3:5070\"",
        "{ state = \"disabled\", uri = \"sip:10.0.0.4\" }",
        "{ priority = 3, uri = \"sip:10.0.0.5\", weight = 7 }",
        "{ health = \"off\", uri = \"sip:10.0.0.6\", weight = 9 }",
        "\"sip:u@10.0.0.7\"",
    ];
    assert_eq!(destinations(list, &[]), wanted);
}

#[test]
fn what_kamailio_reads_otherwise_is_read_as_it_is_meant() {
    let list = "1 sip:10.0.0.1 0 -1\n1 sip:10.0.0.2 0 0 weight=0\n1 sip:10.0.0.3 1 0 weight=0\n\
                1 sip:10.0.0.4 0 0 rweight=0\n";
    let wanted = [
        "{ priority = -1, uri = \"sip:10.0.0.1\" }",
        "{ state = \"draining\", uri = \"sip:10.0.0.2\" }",
        "{ state = \"disabled\", uri = \"sip:10.0.0.3\" }",
        "{ state = \"draining\", uri = \"sip:10.0.0.4\" }",
    ];
    assert_eq!(destinations(list, &[]), wanted);
    list_says(
        list,
        0,
        &[
            "d.list:1:18: warning: Kamailio takes `-1` for an attribute",
            "d.list:2:20: warning: weight=0 is taken for `state=draining`",
            "d.list:3:16: warning: flag 1 is taken for `state=disabled`",
            "d.list:4:20: warning: rweight=0 is taken for `state=draining`",
        ],
    );
    // Where the flags decide, the weight is taken for nothing.
    for flags in ["4", "5"] {
        list_says(
            &format!("1 sip:10.0.0.1 {flags} 0 weight=0\n1 sip:10.0.0.2\n"),
            0,
            &[],
        );
    }
}

/// Kamailio pings neither what is disabled (4) nor what is not to be pinged (32).
#[test]
fn what_kamailio_brings_in_by_itself_is_told() {
    list_says(
        "1 sip:10.0.0.1 1\n1 sip:10.0.0.2 9\n1 sip:10.0.0.3 4\n1 sip:10.0.0.4 5\n\
         1 sip:10.0.0.5 0x21\n1 sip:10.0.0.6 8\n",
        0,
        &[
            "d.list:1:16: warning: flag 1 is taken for `state=disabled`",
            "d.list:2:16: warning: flag 1 is taken for `state=disabled`",
        ],
    );
    let output = check("1 sip:10.0.0.1 1\n", &["--dispatcher-list", "d.list"]);
    let help = "or set flag 4, so that Kamailio and Viaduct both keep it out";
    assert!(stderr(&output).contains(help), "{output:?}");
}

#[test]
fn names_are_members_too() {
    let list =
        "1 sip:proxy.example.com;lr 1\n1 sip:10.0.0.1\n1 sip:PROXY.example.com:5070 0 2 weight=3\n";
    let wanted = [
        "\"sip:10.0.0.1\"",
        "{ state = \"disabled\", uri = \"sip:proxy.example.com\" }",
        "{ priority = 2, uri = \"sip:PROXY.example.com:5070\", weight = 3 }",
    ];
    assert_eq!(destinations(list, &[]), wanted);
    list_says(
        "1 sip:proxy.example.com\n1 sip:Proxy.Example.Com\n",
        1,
        &["d.list:2:3: error: `proxy.example.com` is in set `1` twice"],
    );
}

#[test]
fn what_a_probe_says_is_kept() {
    let list = "1 sip:10.0.0.1 0 0 ping_from=sip:ping@example.com\n\
                1 sip:10.0.0.2 32 0 ping_from=sip:ping@example.com\n";
    let probed = destinations(list, &[]);
    assert_eq!(probed[0], "\"sip:10.0.0.1\"", "as the set says");
    assert_eq!(probed[1], "{ health = \"off\", uri = \"sip:10.0.0.2\" }");
    let output = check(
        list,
        &[
            "-l",
            "127.0.0.1",
            "--dispatcher-list",
            "d.list",
            "--print-effective",
        ],
    );
    let said = stdout(&output);
    assert!(said.contains("from = \"sip:ping@example.com\""), "{said}");
}

#[test]
fn what_has_no_use_here_is_accepted_with_a_warning() {
    list_says(
        "1 sip:10.0.0.1 0 0 duid=a;weight=2;socket=udp:10.0.0.9:5060 more\n",
        0,
        &[
            "d.list:1:20: warning: the attribute `duid` is ignored",
            "d.list:1:20: warning: the attribute `socket` is ignored",
            "d.list:1:61: warning: `more` is ignored",
        ],
    );
    let output = check(
        "1 sip:10.0.0.1 0 0 sockname=inside;maxload=9\n",
        &["--dispatcher-list", "d.list"],
    );
    let helped = stderr(&output);
    assert_eq!(
        helped.matches("in the `egress` of a [[listener]]").count(),
        1
    );
    list_says(
        "1 sip:10.0.0.1;weight=2\n",
        0,
        &["d.list:1:3: warning: the URI parameter `weight` is ignored"],
    );
    list_says(
        "1 sip:10.0.0.1 0 0 weight=2;rweight=3\n",
        0,
        &["d.list:1:20: warning: weight=2 is used, rweight=3 is not"],
    );
    let long = format!("1 sip:10.0.0.1 # {}\n", "x".repeat(1007));
    list_says(
        &long,
        0,
        &["d.list:1:1: warning: the line is longer than 1023 octets"],
    );
    list_says(&long.replacen('x', "", 1), 0, &[]);
}

#[test]
fn what_cannot_be_done_is_an_error() {
    list_says(
        "1 sip:10.0.0.1;transport=tcp\n",
        1,
        &["d.list:1:3: error: destinations over TCP are not supported"],
    );
    list_says(
        "1 sips:10.0.0.1\n",
        1,
        &["d.list:1:3: error: destinations over TLS are not supported"],
    );
    list_says(
        "1 sip:10.0.0.1;transport=TLS\n",
        1,
        &["d.list:1:3: error: destinations over TLS"],
    );
    list_says(
        "x sip:10.0.0.1\n1\n1 sip:10.0.0.2 64\n1 sip:10.0.0.3 0 high\n1 sip:10.0.0.4 0 0 weight=x\n",
        1,
        &[
            "d.list:1:1: error: `x` is not a set id",
            "d.list:2:1: error: the line has no URI",
            "d.list:3:16: error: `64` are no flags",
            "d.list:4:18: error: `high` is not a priority",
            "d.list:5:20: error: `x` is not a weight",
        ],
    );
    list_says(
        "1 sip:10.0.0.1 0 0 ping_from=ping@example.com\n",
        1,
        &["d.list:1:20: error: `ping@example.com` is not a SIP URI"],
    );
    list_says(
        "1 sip:10.0.0.1\n2 sip:10.0.0.1\n1 sip:10.0.0.1:5060\n",
        1,
        &["d.list:3:3: error: `10.0.0.1:5060` is in set `1` twice"],
    );
    let list = "1 sip:10.0.0.1 0 0 weight=x\n";
    let output = check(list, &["--dispatcher-list", "d.list"]);
    let text = stderr(&output);
    let help = "help: give 1 to 1000000, or 0 for no new calls\n";
    assert!(text.contains(help), "{text}");
}

/// Kamailio may well speak TLS with the destinations of another set.
#[test]
fn of_the_lines_of_other_sets_only_the_set_id_is_read() {
    let list = "1 sip:10.0.0.1\n2 sip:10.0.0.2;transport=tls\n2\n2 sip:10.0.0.3 99 high weight=x\n";
    assert_eq!(destinations(list, &["--set", "1"]), ["\"sip:10.0.0.1\""]);
    assert_eq!(destinations(list, &[]), ["\"sip:10.0.0.1\""]);
    let alone = ["--dispatcher-list", "d.list", "--set", "1"];
    for args in [&alone[..], &[&alone[..], &["-l", "192.0.2.10"]].concat()] {
        let output = check(list, args);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(output.stderr, b"", "{output:?}");
    }
    list_says(
        list,
        1,
        &[
            ":2:3: error: ",
            ":3:1: error: ",
            ":4:16: error: ",
            ":4:19: error: ",
            ":4:24: error: ",
        ],
    );
    // Whose set a line is must be known.
    let output = check(
        &format!("{list}x sip:10.0.0.4\n"),
        &[&alone[..], &["-l", "192.0.2.10"]].concat(),
    );
    let said = stderr(&output);
    assert!(
        said.contains("d.list:5:1: error: `x` is not a set id"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
    // What is wrong with a list is told once, however many sets share it.
    let set = |id| format!("[[set]]\nname = '{id}'\ndispatcher-list = 'd.list'\nid = {id}\n");
    let toml = format!("{LISTEN}{}{}", set(1), set(3));
    let files = [
        ("d.list", "x sip:10.0.0.4\n1 sip:10.0.0.1\n"),
        ("v.toml", &toml),
    ];
    let output = folder(&files).run(&["--config", "v.toml"]);
    let said = stderr(&output);
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
}

#[test]
fn an_empty_list_is_an_error() {
    let output = check("# nothing\n", &["--dispatcher-list", "d.list"]);
    let said = stderr(&output);
    assert!(
        said.contains("--dispatcher-list: error: `d.list` has no destinations"),
        "{said}"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn comments_may_be_in_any_encoding() {
    let folder = folder(&[]);
    folder.write("d.list", b"# f\xfcr alle\n1 sip:10.0.0.1\n");
    folder.text(&["--dispatcher-list", "d.list"]);
}

#[test]
fn sets_that_share_a_list_see_it_in_one_state() {
    let set = |id: u32| format!("[[set]]\nname = '{id}'\ndispatcher-list = 'd.list'\nid = {id}\n");
    let route = "[[route]]\nset = '2'\n";
    let toml = format!("{LISTEN}{}{}{route}", set(1), set(2));
    let read = Cell::new(0);
    let long = "x".repeat(1100);
    let reader = |path: &Path| {
        if path.ends_with("v.toml") {
            return Ok(toml.clone().into_bytes());
        }
        read.set(read.get() + 1);
        let of = |set| format!("{set} sip:10.0.{set}.{}\n", read.get());
        Ok(format!("# {long}\n{}{}", of(1), of(2)).into_bytes())
    };
    let loaded = load_with(Some(Path::new("v.toml")), &Overrides::default(), 1, &reader);
    let told = &loaded.diagnostics;
    assert_eq!(told.len(), 1, "the long line, once: {told:#?}");
    let sets = loaded.config.expect("a configuration").sets.into_iter();
    let sets = sets.map(|set| set.destinations[0].uri.clone());
    let sets: Vec<_> = sets.collect();
    assert_eq!(sets, ["sip:10.0.1.1", "sip:10.0.2.1"]);
}
