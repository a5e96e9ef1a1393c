//! What `viaduct check` advises: of what is allowed and hardly meant, and how
//! the usual slips of values are mended.

use support::checking::{LISTEN, SET, checked, file, folder, good, good_and, refused, warned};
use support::folder::{said, stderr, stdout};

#[test]
fn an_open_relay_is_warned_of() {
    for (everybody, column) in [("'0.0.0.0/0'", 19), ("'10.0.0.0/8', '::/0'", 33)] {
        let what = everybody.rsplit('\'').nth(1).expect("a network");
        warned(
            &format!("allow-next-hop = [{everybody}]\n{LISTEN}{SET}"),
            &[
                &format!("v.toml:1:{column}: warning: `{what}` allows every next hop"),
                "an open relay",
                "help: give the networks",
            ],
        );
        let what = format!(
            "v.toml:5:{}: warning: `{what}` takes everybody for a member",
            column
        );
        warned(
            &good_and(&format!("member-sources = [{everybody}]\n")),
            &[&what, "an open relay"],
        );
    }
    let output = checked(&good_and(""), &["--allow-next-hop", "::/0"]);
    said(
        &output,
        0,
        &["--allow-next-hop: warning: `::/0` allows every next hop"],
    );
    let output = checked(&good_and(""), &["--allow-next-hop", "2000::/3"]);
    assert_eq!(stderr(&output), "");
}

#[test]
fn what_has_no_effect_with_the_policy_of_kamailio_is_warned_of() {
    let set = |parameter: &str| {
        format!(
            "policy = 'kamailio'\n{LISTEN}[[set]]\nname = 'a'\n\
             destinations = ['10.0.0.1', 'sip:10.0.0.2;{parameter}']\n"
        )
    };
    let of = |what| format!("v.toml:5:29: warning: the {what} with policy `kamailio`");
    warned(&set("weight=2"), &[&of("weight has no effect")]);
    warned(
        &set("priority=-1"),
        &[&of("priority gives no precedence"), "policy = \"hash\""],
    );
    let alike = set("priority=3").replace("10.0.0.1'", "10.0.0.1;priority=3'");
    warned(&alike, &[]);
    // Where it stands is where it can be changed.
    let by_flag = ["-l", "192.0.2.10", "--policy", "kamailio"];
    for destinations in ["10.0.0.1,10.0.0.2;weight=2", "10.0.0.1,10.0.0.2;priority=1"] {
        let output = folder(&[]).run(&[&by_flag[..], &["--to", destinations]].concat());
        said(&output, 0, &["help: use `--policy hash`\n"]);
    }
    let keyed = [&by_flag[..], &["--to", "10.0.0.1", "--hash-key", "source"]].concat();
    let help = "help: use `--hash-key call-id`, or `--policy hash`\n";
    said(&folder(&[]).run(&keyed), 1, &[help]);
    let output = checked(&set("lr"), &["--hash-key", "source"]);
    let help = "help: use `--hash-key call-id`, or `policy = \"hash\"`\n";
    said(&output, 1, &[help]);
}

#[test]
fn slips_of_values_are_mended_by_what_is_good() {
    for (top, help) in [
        (
            "stop-timeout = 32",
            "write it with its unit and in quotes: \"32ms\" or \"32s\"",
        ),
        // Whichever of the two is allowed.
        (
            "ring-timeout = 4000",
            "write it with its unit and in quotes: \"4000ms\"",
        ),
        (
            "hash-key = 'header:'",
            "write its name behind `header:`, as `header:X-Account`",
        ),
    ] {
        refused(&file(top, ""), &[&format!("help: {help}\n")]);
    }
    let timer = format!("{LISTEN}{SET}[timers]\nT1 = 500\n");
    refused(&timer, &["in quotes: \"500ms\" or \"500s\"\n"]);
    for key in ["5", "'callid'"] {
        let what = "request-user, source and header:NAME\n";
        refused(&file(&format!("hash-key = {key}"), ""), &[what]);
    }
    // What would be refused in quotes too.
    refused(&file("advertise = 32", ""), &["error: `32` is neither"]);
    let nobody = good_and("[[route]]\nset = 'a'\nhost = '0.0.0.0'\n");
    refused(
        &nobody,
        &["v.toml:7:8: error: `0.0.0.0` is no host of a Request-URI"],
    );
    let name = format!("{LISTEN}{}", SET.replace("'a'", "32"));
    refused(&name, &["help: write it in quotes: \"32\"\n"]);
    for (host, help) in [
        ("a_b.example", "the name of a host has no underscore"),
        ("münchen.de", "as `xn--mnchen-3ya.de` for `münchen.de`"),
        ("1.2.3", "give an IPv4 address"),
    ] {
        let set = SET.replace("10.0.0.1", host);
        refused(&format!("{LISTEN}{set}"), &[help]);
    }
}

#[test]
fn blanks_may_follow_the_commas_of_a_list() {
    let folder = folder(&[]);
    let mut command = folder.command();
    command.args(["-l", "127.0.0.1, 127.0.0.2"]);
    let output = command.env("VIADUCT_TO", "10.0.0.1, 10.0.0.2").output();
    said(&output.expect("an end"), 0, &[]);
}

#[test]
fn what_flags_and_variables_replace_is_told_of_where_it_is_named() {
    let listener = "[[listener]]\nname = 'out'\naddress = '127.0.0.2'\n";
    let rules = "[[route]]\nset = 'a'\nlistener = 'out'\n\
                 [[on-failure]]\nstatus = 503\nset = 'a'\nfrom-set = 'a'\n";
    let toml = format!("stateful = 'INVITE'\n{listener}{SET}{rules}");
    let folder = folder(&[("v.toml", &toml), ("d.list", "1 sip:10.0.0.9\n")]);
    for (flag, variable, value, what, named) in [
        ("--to", "VIADUCT_TO", "10.0.0.9", "set `a`", 3),
        (
            "--dispatcher-list",
            "VIADUCT_DISPATCHER_LIST",
            "d.list",
            "set `a`",
            3,
        ),
        (
            "--listen",
            "VIADUCT_LISTEN",
            "127.0.0.1",
            "listener `out`",
            1,
        ),
    ] {
        let kind = what.split(' ').next().expect("a kind");
        let missed = format!("error: there is no {what}\n");
        let why =
            format!("  why: {flag} (or {variable}) stands in place of the {kind}s of the file\n");
        let by_flag = folder.run(&["--config", "v.toml", flag, value]);
        let mut command = folder.command();
        command.args(["--config", "v.toml"]);
        let by_variable = command.env(variable, value).output().expect("an end");
        for output in [by_flag, by_variable] {
            said(&output, 1, &[]);
            let text = stderr(&output);
            let times = [&missed, &why].map(|line| text.matches(line).count());
            assert_eq!(times, [named; 2], "{text}");
        }
    }
    // Where the file says which there are, there is nothing to tell.
    let output = checked(&good_and("[[route]]\nset = 'overflow'\n"), &[]);
    said(&output, 1, &["error: there is no set `overflow`"]);
    assert!(!stderr(&output).contains("in place of"), "{output:?}");
}

#[test]
fn what_a_terminal_would_take_for_a_command_is_no_name() {
    let set = SET.replace("'a'", "\"a\\u001b[2J\"");
    refused(
        &format!("{LISTEN}{set}"),
        &["v.toml:3:8: error: the text has control characters in it"],
    );
}

#[test]
fn a_route_that_one_before_it_hides_is_warned_of() {
    let with = |wide: &str, narrow: &str| {
        let routes = [wide, narrow].map(|rule| format!("[[route]]\nset = 'a'\n{rule}\n"));
        let listeners = "[[listener]]\nname = 'in'\naddress = '192.0.2.1'\n\
                         [[listener]]\nname = 'out'\naddress = '192.0.2.2'\n";
        format!("{listeners}{SET}{}", routes.concat())
    };
    let hidden = [
        ("method = 'INVITE'", "method = 'INVITE'"),
        (
            "method = ['INVITE', 'ACK']",
            "method = 'ACK'\nhost = 'x.org'",
        ),
        ("user-prefix = '49'", "user-prefix = ['4930', '491']"),
        ("source = '10.0.0.0/8'", "source = '10.9.0.1'"),
        ("listener = 'in'", "listener = 'in'\nhost = 'x.org'"),
    ];
    for (wide, narrow) in hidden {
        warned(
            &with(wide, narrow),
            &["warning: this route is never reached"],
        );
    }
    let reached = [
        ("method = 'INVITE'", "method = ['INVITE', 'ACK']"),
        ("method = 'INVITE'", "host = 'x.org'"),
        ("user-prefix = '4930'", "user-prefix = '49'"),
        ("source = '10.9.0.1'", "source = '10.0.0.0/8'"),
        ("listener = 'in'", "listener = 'out'"),
    ];
    for (narrow, wide) in reached {
        let output = checked(&with(narrow, wide), &[]);
        said(&output, 0, &[]);
        assert_eq!(stderr(&output), "", "{narrow}");
    }
}

#[test]
fn routes_that_split_an_invite_from_its_cancel_and_ack_are_warned_of() {
    for (methods, method) in [("['CANCEL', 'ACK', 'OPTIONS']", "CANCEL"), ("'ACK'", "ACK")] {
        let warning = format!("v.toml:5:1: warning: this route claims {method} without its INVITE");
        let help = format!("help: leave {method} out: a route for INVITE claims it too");
        let route = format!("[[route]]\nset = 'a'\nmethod = {methods}\n");
        warned(&good_and(&route), &[&warning, &help]);
    }
    good(&good_and(
        "[[route]]\nset = 'a'\nmethod = ['INVITE', 'CANCEL']\n",
    ));
}

#[test]
fn a_user_prefix_that_hardly_any_request_has_is_warned_of() {
    let route = |prefix: &str| good_and(&format!("[[route]]\nset = 'a'\nuser-prefix = {prefix}\n"));
    for (prefix, column, what, help) in [
        (
            "'sip:+49'",
            15,
            "`sip:+49` begins with a scheme",
            "leave out `sip:`",
        ),
        (
            "['1', 'TEL:+49']",
            21,
            "`TEL:+49` begins with a scheme",
            "leave out `TEL:`",
        ),
        (
            "'al@home'",
            15,
            "has `@` in it as it is",
            "leave it out, or write `%40`",
        ),
        (
            "'00 49'",
            15,
            "has ` ` in it as it is",
            "leave it out, or write `%20`",
        ),
        (
            "'\"al'",
            15,
            "has `\"` in it as it is",
            "leave it out, or write `%22`",
        ),
        (
            "'<al'",
            15,
            "has `<` in it as it is",
            "leave it out, or write `%3C`",
        ),
    ] {
        let place = format!("v.toml:7:{column}: warning: ");
        warned(&route(prefix), &[&place, what, help]);
    }
    good(&route("['al%40home', 'service:sos', '+49', 'a:b']"));
}

#[test]
fn a_listener_needs_an_address_that_needs_no_interface() {
    refused(
        &format!("listen = ['[fe80::1]']\n{SET}"),
        &["v.toml:1:11: error: `[fe80::1]` is a link-local address"],
    );
    refused(
        &format!("listen = ['[fe80::1%eth0]:5060']\n{SET}"),
        &["v.toml:1:11: error: `[fe80::1%eth0]:5060` names an interface"],
    );
}

#[test]
fn the_mark_that_editors_put_first_is_no_part_of_a_file() {
    let mark = '\u{feff}';
    refused(
        &format!("{mark}listn = 1\n"),
        &["v.toml:1:1: error: unknown key `listn`"],
    );
    let folder = folder(&[("d.list", &format!("{mark}1 sip:10.0.0.1\n"))]);
    let output = folder.run(&["--dispatcher-list", "d.list"]);
    said(&output, 0, &[]);
    assert!(
        stdout(&output).contains("set 1: 1 destination"),
        "{output:?}"
    );
    // Known for a list all the same.
    let output = folder.run(&["--config", "d.list"]);
    said(&output, 1, &["`d.list` is a dispatcher.list"]);
}

#[test]
fn of_many_names_the_first_few_are_told_and_of_many_faults_the_number() {
    let set = |n| format!("[[set]]\nname = 's{n}'\ndestinations = ['10.0.0.{n}']\n");
    let sets: String = (1..=11).map(set).collect();
    let route = "[[route]]\nset = 'elsewhere'\n";
    let output = checked(&format!("{LISTEN}{sets}{route}{route}"), &[]);
    let told = stderr(&output);
    let named = "help: there are: s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, …\n";
    assert_eq!(told.matches(named).count(), 2, "{told}");
    assert!(told.ends_with("\n2 errors, 11 warnings\n"), "{told}");
}

#[test]
fn that_nothing_leaves_a_loopback_address_for_another_machine_is_told() {
    let set = "[[set]]\nname = 'a'\ndestinations = ['127.0.0.2', '10.0.0.1']\n";
    warned(
        &format!("listen = ['127.0.0.1:5060', '[2001:db8::10]']\n{set}"),
        &[
            "v.toml:4:30: warning: no listener can send to `10.0.0.1:5060` on another machine",
            "every IPv4 listener has a loopback address",
            "help: listen on an address that the destinations are reached from",
        ],
    );
    warned(
        &format!("listen = ['127.0.0.1:5060', '192.0.2.10']\n{set}"),
        &[],
    );
}

/// Moved to the top level it would be for all sets.
#[test]
fn a_key_of_another_table_is_sent_where_it_belongs() {
    for line in [
        "policy = 'hash'",
        "hash-key = 'to-uri'",
        "health = 'off'",
        "when-all-down = 'reply'",
    ] {
        let key = line.split(' ').next().expect("a key");
        let help = format!("help: move `{key}` into that [[set]]\n");
        let route = format!("[[route]]\nset = 'a'\n{line}\n");
        refused(&good_and(&route), &["v.toml:7:1: error: ", &help]);
    }
    let listener = "[[listener]]\nlisten = '10.0.0.9'\n";
    refused(
        &format!("{SET}{listener}"),
        &[
            "v.toml:5:1: error: unknown key `listen`",
            "help: did you mean `address`?\n",
        ],
    );
    refused(
        &format!("{LISTEN}{SET}[[route]]\nset = 'a'\nbatch = 7\n"),
        &["help: move `batch` above the first table\n"],
    );
}

/// What names it may be right.
#[test]
fn a_table_with_a_fault_brings_no_fault_of_what_names_it() {
    let listener = "[[listener]]\nname = 'carriers'\naddress = '10.0.0.1:99999'\n";
    let rules = "[[route]]\nset = '7'\nlistener = 'carriers'\n\
                 [[on-failure]]\nstatus = 503\nset = '7'\n";
    let six = "[[set]]\nname = 'six'\ndestinations = ['[2001:db8::1]']\n";
    for toml in [
        format!(
            "stateful = 'INVITE'\n{listener}{}{six}{rules}",
            SET.replace("'a'", "7")
        ),
        format!(
            "stateful = 'INVITE'\nlisten = ['10.0.0.1', '[2001:db8::1']\n{}{six}{}",
            SET.replace("'a'", "7"),
            rules.replace("listener = 'carriers'\n", "")
        ),
    ] {
        let output = checked(&toml, &[]);
        said(&output, 1, &["found integer", "2 errors\n"]);
        assert!(!stderr(&output).contains("there is no"), "{output:?}");
    }
}

#[test]
fn what_should_stand_for_all_methods_is_told_to_stand_for_none() {
    for all in ["*", "all", "ANY"] {
        let what = format!("warning: no request has the method `{all}`\n");
        warned(
            &good_and(&format!("[[route]]\nset = 'a'\nmethod = '{all}'\n")),
            &[&what, "help: leave `method` out"],
        );
        let stateful = ["--stateful", all];
        let output = checked(&good_and(""), &stateful);
        said(&output, 0, &[&what, "help: name each"]);
    }
}

#[test]
fn listeners_of_flags_are_not_sent_to_tables_alone() {
    let twice = ["-l", "127.0.0.1:0", "-l", "127.0.0.1:0", "-t", "127.0.0.1"];
    let wanted = [
        "--listen: error: two listeners are named `127.0.0.1:0`",
        "help: give each a port of its own, or",
    ];
    folder(&[]).refused(&twice, 1, &wanted);
}
