//! What configures stateful relay, as `viaduct check` sees it: what is accepted,
//! what is refused, and what is told to have no effect.

use std::path::Path;

use viaduct::config::{Overrides, differing_keys, load_with};

use support::checking::{checked, file, folder, good, good_and, refused, warned};
use support::folder::{said, stderr, stdout};

const VOICEMAIL: &str = "[[set]]\nname = 'voicemail'\ndestinations = ['10.0.0.9']\n";

/// The effective configuration of `toml` with `args`.
#[track_caller]
fn effective(toml: &str, args: &[&str]) -> String {
    let output = checked(toml, &[&["--print-effective"], args].concat());
    said(&output, 0, &[]);
    stdout(&output)
}

#[test]
fn what_is_stateful_is_summed_up() {
    let rule = "[[on-failure]]\nstatus = [480, 486]\nset = 'voicemail'\n\
                request-uri = 'sip:box@10.0.0.9'\nfrom-set = 'a'\n\
                [accounting]\nto = 'unix:/run/calls'\n";
    let toml = file(
        "stateful = ['INVITE', 'BYE']\ntransactions = 1000",
        &format!("{VOICEMAIL}{rule}"),
    );
    let output = checked(&toml, &[]);
    assert_eq!(stderr(&output), "");
    for line in [
        "stateful: INVITE, BYE, at most 1000 transactions",
        "accounting: INVITE, BYE to unix:/run/calls",
        "on failure: 480, 486 of set a to set voicemail as sip:box@10.0.0.9",
    ] {
        let said = stdout(&output);
        assert!(said.lines().any(|each| each == line), "{said}");
    }
    let output = checked(&good_and(""), &[]);
    assert!(!stdout(&output).contains("stateful"));
}

#[test]
fn stateful_methods_are_checked() {
    refused(
        &file("stateful = ['INVITE', 'IN VITE']", ""),
        &["v.toml:1:23: error: `IN VITE` is not a method"],
    );
    for attached in ["ACK", "CANCEL", "cancel"] {
        refused(
            &file(&format!("stateful = ['{attached}']"), ""),
            &[
                &format!(
                    "v.toml:1:13: error: {} has no choice of its own",
                    attached.to_uppercase()
                ),
                "why: it goes with the transaction of its request",
                "help: name the method of the request, INVITE",
            ],
        );
        let output = folder(&[]).run(&["--stateful", attached]);
        said(&output, 2, &["has no choice of its own"]);
    }
    warned(
        &file("stateful = ['Register']", ""),
        &[
            "v.toml:1:13: warning: no request has the method `Register`",
            "help: write `REGISTER`",
        ],
    );
    let output = checked(&good_and(""), &["--stateful", "INVITE,bye"]);
    said(
        &output,
        0,
        &["--stateful: warning: no request has the method `bye`"],
    );
    good(&file("stateful = []", ""));
    good(&file("stateful = ['x-own']", ""));
    for number in ["0", "16777217"] {
        refused(
            &file(&format!("transactions = {number}"), ""),
            &["v.toml:1:16: error: ", "help: give 1 to 16777216"],
        );
    }
}

#[test]
fn times_have_a_unit_and_bounds() {
    for key in ["failover-after", "retry-after-cap", "ring-timeout"] {
        let column = key.len() + 4;
        for text in ["'5'", "'1.5s'", "'2h'", "'-1s'", "'1 s'", "''"] {
            refused(
                &file(&format!("{key} = {text}"), ""),
                &[
                    &format!(
                        "v.toml:1:{column}: error: {} is not a time",
                        text.replace('\'', "`")
                    ),
                    "1ms to 1h: an integer with ms, s, m or h",
                ],
            );
        }
        refused(
            &file(&format!("{key} = 5"), ""),
            &["expected a string, found integer"],
        );
    }
    refused(
        &file("failover-after = '0s'", ""),
        &["error: `0s` is not a time", "help: give 1ms to 1h"],
    );
    good(&file("ring-timeout = '0s'\nretry-after-cap = '0s'", ""));
}

#[test]
fn timers_that_are_not_given_follow_those_that_are() {
    let timer = |effective: &str, name: &str| {
        let line = effective
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} = ")));
        line.expect("the timer").to_owned()
    };
    let said = effective(
        &file("", "[timers]\nT1 = '1s'\nT4 = '2500ms'\nF = '3s'\n"),
        &[],
    );
    for (name, wanted) in [
        ("T1", "1s"),
        ("T2", "4s"),
        ("T4", "2500ms"),
        ("B", "64s"),
        ("C", "181s"),
        ("D", "64s"),
        ("F", "3s"),
        ("H", "64s"),
        ("I", "2500ms"),
        ("J", "64s"),
        ("K", "2500ms"),
        ("L", "64s"),
        ("M", "64s"),
    ] {
        assert_eq!(timer(&said, name), format!("\"{wanted}\""), "{name}");
    }
    let said = effective(&file("", "[timers]\nT1 = '100ms'\n"), &[]);
    assert_eq!(timer(&said, "D"), "\"32s\"", "the least of RFC 3261");
    let said = effective(&file("", "[timers]\nT1 = '57s'\nT2 = '60s'\n"), &[]);
    assert_eq!(timer(&said, "B"), "\"3600s\"", "the longest time");
    // A flag goes before the file for the timers that it names.
    let toml = file("", "[timers]\nT2 = '2s'\nC = '4m'\n");
    let said = effective(&toml, &["--timer", "C=5m,I=1s", "--timer", "K=2s"]);
    for (name, wanted) in [("T2", "2s"), ("C", "300s"), ("I", "1s"), ("K", "2s")] {
        assert_eq!(timer(&said, name), format!("\"{wanted}\""), "{name}");
    }
}

#[test]
fn timers_are_checked() {
    let timers = |text: &str| file("", &format!("[timers]\n{text}\n"));
    refused(
        &timers("A = '1s'"),
        &[
            "v.toml:7:1: error: unknown key `A` in [timers]",
            "known keys are T1, T2, T4, B, C, D, F, H, I, J, K, L, M",
        ],
    );
    refused(&timers("T1 = '0s'"), &["v.toml:7:6: error: `0s` is not"]);
    refused(
        &file("timers = 5", ""),
        &["v.toml:1:10: error: expected a table, found integer"],
    );
    warned(
        &timers("C = '3m'"),
        &[
            "v.toml:7:5: warning: timer C is not longer than 3 minutes",
            "RFC 3261 §16.6 item 11",
        ],
    );
    warned(
        &timers("D = '31999ms'"),
        &["v.toml:7:5: warning: timer D is shorter than 32 seconds"],
    );
    good(&timers("C = '180001ms'\nD = '32s'"));
    warned(
        &timers("B = '900ms'"),
        &[
            "v.toml:7:5: warning: `failover-after` has no effect",
            "help: give timer B 64 times T1",
        ],
    );
    warned(
        &timers("T1 = '10ms'"),
        &[
            "v.toml:7:6: warning: `failover-after` has no effect",
            "why: timer B (640ms) ends before it (1s)",
        ],
    );
    good(&file("failover-after = '30ms'", "[timers]\nT1 = '10ms'\n"));
    warned(
        &file("failover-after = '500ms'", ""),
        &[
            "v.toml:1:18: warning: `failover-after` is not longer than T1",
            "why: what is lost is sent again after T1 (500ms)",
        ],
    );
    warned(
        &timers("T1 = '800ms'\nT2 = '700ms'"),
        &[
            "v.toml:7:6: warning: timer T1 is longer than T2",
            "why: T2 (700ms) is the longest interval",
        ],
    );
    let check = |timer| checked(&good_and(""), &["--timer", timer]);
    said(&check("t1=1s"), 2, &["there is no timer `t1`"]);
    said(&check("T1"), 2, &["names no timer and its time"]);
    said(&check("T1=1d"), 2, &["`1d` is not a time"]);
    said(&check("C=1m"), 0, &["--timer: warning: timer C"]);
}

#[test]
fn failures_are_checked() {
    let wrong = [
        ("401", "a challenge is for the caller to answer"),
        ("407", "a challenge is for the caller to answer"),
        ("603", "a 6xx speaks for every place"),
        ("200", "`200` is not the status of a failure"),
        ("99999", "`99999` is not the status of a failure"),
    ];
    for (status, why) in wrong {
        refused(
            &file(&format!("failover-status = [503, {status}]"), ""),
            &["v.toml:1:25: error: ", why],
        );
        refused(
            &file(
                "stateful = ['INVITE']",
                &format!("[[on-failure]]\nset = 'a'\nstatus = [480, {status}]\n"),
            ),
            &["v.toml:8:16: error: ", why],
        );
        let output = folder(&[]).run(&["--failover-status", status]);
        said(&output, 2, &[why]);
    }
    good(&file("failover-status = []", ""));
}

#[test]
fn failure_rules_are_checked() {
    let rule = |text: &str| {
        file(
            "stateful = ['INVITE']",
            &format!("{VOICEMAIL}[[on-failure]]\n{text}\n"),
        )
    };
    good(&rule("status = [408]\nset = 'voicemail'"));
    // One status needs no list, and no route needs to lead to the set.
    good(&rule("status = 486\nset = 'voicemail'\nfrom-set = ['a']"));
    refused(
        &rule("set = 'voicemail'"),
        &["v.toml:9:1: error: [[on-failure]] has no `status`"],
    );
    refused(
        &rule("status = 486"),
        &["v.toml:9:1: error: [[on-failure]] has no `set`"],
    );
    refused(
        &rule("status = []\nset = 'voicemail'"),
        &["v.toml:10:10: error: the list is empty"],
    );
    refused(
        &rule("status = 486\nset = 'voicemial'"),
        &[
            "v.toml:11:7: error: there is no set `voicemial`",
            "help: did you mean `voicemail`?",
        ],
    );
    refused(
        &rule("status = 486\nset = 'voicemail'\nfrom-set = ['a', 'b']"),
        &["v.toml:12:18: error: there is no set `b`"],
    );
    refused(
        &rule("status = 486\nset = 'voicemail'\nuri = 'sip:box@10.0.0.9'"),
        &[
            "v.toml:12:1: error: unknown key `uri` in [[on-failure]]",
            "known keys are status, set, request-uri, from-set",
        ],
    );
    for uri in [
        "voicemail",
        "http://10.0.0.9",
        "sip:a b@10.0.0.9",
        "sip:box@10.0.0.9?Subject=x",
        "sip:box@10.0.0.9\\r\\nX: y",
    ] {
        refused(
            &rule(&format!(
                "status = 486\nset = 'voicemail'\nrequest-uri = \"{uri}\""
            )),
            &["v.toml:12:15: error: ", "is not a SIP or tel URI"],
        );
    }
    refused(
        &rule("status = 486\nset = 'voicemail'\nrequest-uri = 'sips:box@10.0.0.9'"),
        &["v.toml:12:15: error: ", "`sips:` demands TLS"],
    );
    let rules = |n| "[[on-failure]]\nstatus = 486\nset = 'a'\n".repeat(n);
    good(&file("stateful = ['INVITE']", &rules(16)));
    refused(
        &file("stateful = ['INVITE']", &rules(17)),
        &[
            "v.toml:54:1: error: there are 17 failure rules",
            "why: 16 is the most",
        ],
    );
    let same = "status = 486\nset = 'a'\nfrom-set = 'a'\n";
    warned(
        &file("stateful = ['INVITE']", &format!("[[on-failure]]\n{same}")),
        &[
            "v.toml:8:7: warning: what fails in set `a` goes to set `a`",
            "help: name another set",
        ],
    );
    good(&file(
        "stateful = ['INVITE']",
        &format!("[[on-failure]]\n{same}request-uri = 'tel:+4930123456'\n"),
    ));
}

#[test]
fn what_has_no_effect_is_told() {
    let rule = "[[on-failure]]\nstatus = 486\nset = 'voicemail'\n";
    for methods in ["", "'BYE'"] {
        let top = format!("stateful = [{methods}]\nring-timeout = '45s'");
        warned(
            &file(&top, &format!("{VOICEMAIL}{rule}")),
            &[
                "v.toml:2:16: warning: `ring-timeout` has no effect",
                "v.toml:10:1: warning: the failure rule has no effect",
                "why: INVITE is not relayed statefully",
                "help: add `stateful = [\"INVITE\"]`, or --stateful INVITE",
            ],
        );
    }
    warned(
        &file("", "[accounting]\nto = 'calls.json'\n"),
        &["v.toml:7:6: warning: nothing is accounted"],
    );
    warned(
        &file(
            "stateful = ['INVITE']",
            "[accounting]\nto = '-'\nmethods = ['INVITE', 'BYE']\n",
        ),
        &[
            "v.toml:8:22: warning: `BYE` is not accounted",
            "why: it is not relayed statefully",
        ],
    );
    let output = checked(&good_and(""), &["--accounting-method", "INVITE"]);
    said(
        &output,
        0,
        &[
            "--accounting-method: warning: nothing is accounted",
            "help: add --accounting TARGET",
        ],
    );
    let more = ["--stateful", "INVITE", "--ring-timeout", "45s"];
    let output = checked(&good_and(""), &[&["--accounting", "-"], &more[..]].concat());
    said(&output, 0, &[]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn accounting_goes_where_the_file_or_the_flag_says() {
    let toml = file(
        "stateful = ['INVITE', 'BYE']",
        "[accounting]\nto = 'log/calls'\nmethods = 'BYE'\n",
    );
    let folder = folder(&[]);
    std::fs::create_dir(folder.path("etc")).expect("a folder");
    let lines = |toml: &str, args: &[&str]| {
        folder.write("etc/v.toml", toml);
        let told = folder.text(&[&["--config", "etc/v.toml", "--print-effective"], args].concat());
        let section = told.split("[accounting]\n").nth(1);
        let section = section.expect("the section");
        section.split("\n\n").next().expect("lines").to_owned()
    };
    let here = folder.path("").canonicalize().expect("a path");
    let here = here.display();
    // A path in the file is relative to the file, one in a flag to the process.
    assert_eq!(
        lines(&toml, &[]),
        format!("methods = [\"BYE\"]\nto = \"{here}/etc/log/calls\"")
    );
    assert_eq!(
        lines(&toml, &["--accounting", "unix:calls"]),
        format!("methods = [\"BYE\"]\nto = \"unix:{here}/calls\"")
    );
    assert_eq!(
        lines(&toml.replace("log/", "unix:run/"), &[]),
        format!("methods = [\"BYE\"]\nto = \"unix:{here}/etc/run/calls\"")
    );
    for stdout in ["-", "stdout"] {
        assert_eq!(
            lines(
                &toml,
                &["--accounting", stdout, "--accounting-method", "INVITE"]
            ),
            "methods = [\"INVITE\"]\nto = \"stdout\""
        );
    }
    let wrong = file("stateful = ['BYE']", "[accounting]\nto = 'unix:'\n");
    refused(&wrong, &["v.toml:7:6: error: there is no path"]);
    let wrong = file("stateful = ['BYE']", "[accounting]\nmethods = ['BYE']\n");
    refused(&wrong, &["v.toml:6:1: error: [accounting] has no `to`"]);
    assert_eq!(
        lines(&wrong, &["--accounting", "-"]),
        "methods = [\"BYE\"]\nto = \"stdout\""
    );
}

#[test]
fn methods_room_and_accounting_need_a_restart_and_nothing_else() {
    let load = |top: &str, tables: &str| {
        let text = file(top, &format!("{VOICEMAIL}{tables}"));
        let reader = |_: &Path| Ok(text.clone().into_bytes());
        let loaded = load_with(
            Some(Path::new("/v.toml")),
            &Overrides::default(),
            1,
            &reader,
        );
        loaded.config.expect("a configuration")
    };
    let running = load("stateful = ['INVITE']", "[accounting]\nto = '/a'\n");
    let asked = load(
        "stateful = ['INVITE']\nfailover-after = '2s'\nfailover-status = [500]\n\
         retry-after-cap = '1m'\nring-timeout = '30s'",
        "[accounting]\nto = '/a'\n[timers]\nT1 = '200ms'\nK = '1s'\n\
         [[on-failure]]\nstatus = 486\nset = 'voicemail'\n",
    );
    assert_ne!(running, asked);
    assert_eq!(differing_keys(&running, &asked).at_start, [""; 0]);
    let asked = load(
        "stateful = ['INVITE', 'BYE']\ntransactions = 1",
        "[accounting]\nto = '/a'\nmethods = 'BYE'\n",
    );
    assert_eq!(
        differing_keys(&running, &asked).at_start,
        ["stateful", "transactions", "accounting"]
    );
    let asked = load("stateful = ['INVITE']", "[accounting]\nto = '/b'\n");
    assert_eq!(differing_keys(&running, &asked).at_start, ["accounting"]);
}
