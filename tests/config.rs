//! The TOML file as `viaduct check` sees it: what is accepted, what is refused,
//! at which place, and how the operator is told to mend it.

use std::fs;
use std::path::Path;

use support::checking::{LISTEN, SET, checked, folder, good_and, refused, warned};
use support::folder::{said, stderr, stdout};

/// A file with one listener and one set whose destinations are `list`.
fn set_of(list: &str) -> String {
    format!("{LISTEN}[[set]]\nname = 'a'\ndestinations = {list}\n")
}

#[test]
fn every_example_passes() {
    let examples = support::repository().join("config");
    let entries = |path: &Path| fs::read_dir(path).expect("a folder of examples");
    let mut checked = 0;
    for entry in entries(&examples).chain(entries(&examples.join("farm"))) {
        let path = entry.expect("an entry").path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let flag = match extension {
            Some("toml") => "--config",
            Some("list") => "--dispatcher-list",
            _ => continue,
        };
        let output = folder(&[]).run(&[flag, path.to_str().expect("UTF-8")]);
        said(&output, 0, &[]);
        assert_eq!(stderr(&output), "", "{}", path.display());
        checked += 1;
    }
    assert!(
        checked >= 3,
        "two viaduct.toml and dispatcher.list at least"
    );
}

#[test]
fn the_example_shows_every_key() {
    let example = include_str!("../config/viaduct.toml")
        .replace("# secret-file", "secret-file")
        .replace("# request-uri", "request-uri");
    let list = include_str!("../config/dispatcher.list");
    let folder = folder(&[("v.toml", &example), ("dispatcher.list", list)]);
    said(&folder.run(&["--config", "v.toml"]), 0, &[]);
    // An unknown key in each kind of table has the known ones told.
    for (table, at) in [
        ("the top level", 0),
        ("[[listener]]", 1),
        ("[[set]]", 1),
        ("[[route]]", 1),
        ("[timers]", 1),
        ("[accounting]", 1),
        ("[[on-failure]]", 1),
        ("[health]", 1),
        ("[admin]", 1),
        ("[mirror]", 1),
        ("[log]", 1),
    ] {
        let broken = match at {
            0 => format!("zzzzzzzzzz = 1\n{LISTEN}{SET}"),
            _ => format!("{LISTEN}{SET}{table}\nzzzzzzzzzz = 1\n"),
        };
        let output = checked(&broken, &[]);
        let said = stderr(&output);
        let known = said
            .split("known keys are ")
            .nth(1)
            .expect("the known keys");
        let known = known.lines().next().expect("a line").split(", ");
        for key in known {
            let shown = example.lines().any(|line| {
                let forms = [format!("{key} ="), format!("[{key}]"), format!("[[{key}]]")];
                let line = line.trim_start_matches("# ");
                forms.iter().any(|form| line.starts_with(form))
            });
            // With one listener only, and in the long form.
            assert!(
                shown || key == "advertise",
                "{table}: {key} is not in the example"
            );
        }
    }
}

#[test]
fn a_good_file_is_summed_up() {
    let output = checked(&good_and(""), &[]);
    assert_eq!(stderr(&output), "");
    let said = stdout(&output);
    for line in [
        "listener 192.0.2.10:5060: udp:192.0.2.10:5060",
        "set a: hash of call-id, 1 destination",
    ] {
        assert!(said.lines().any(|each| each == line), "{said}");
    }
    assert!(said.ends_with("the configuration is good\n"), "{said}");
}

#[test]
fn unknown_keys_are_refused_with_the_closest() {
    refused(
        "listn = []\n",
        &[
            "v.toml:1:1: error: unknown key `listn` in the top level",
            "help: did you mean `listen`?",
        ],
    );
    refused(
        "receive_buffer = 1\n",
        &[
            "v.toml:1:1: error: unknown key `receive_buffer`",
            "did you mean `receive-buffer`?",
        ],
    );
    refused(
        &good_and("[[route]]\n  methods = 'INVITE'\nset = 'a'\n"),
        &[
            "v.toml:6:3: error: unknown key `methods` in [[route]]",
            "did you mean `method`?",
        ],
    );
    refused(
        &set_of("[{ uri = '10.0.0.1', wieght = 2 }]"),
        &[
            "v.toml:4:37: error: unknown key `wieght` in a destination",
            "did you mean `weight`?",
        ],
    );
    refused(
        &good_and("workers = 2\n"),
        &[
            "v.toml:5:1: error: unknown key `workers` in [[set]]",
            "help: move `workers` above the first table",
        ],
    );
    // No heading slips into a table.
    refused(
        &format!("[[listener]]\naddress = '127.0.0.1'\nset = 'a'\n{SET}"),
        &[
            "v.toml:3:1: error: unknown key `set` in [[listener]]",
            "known keys are name, ",
        ],
    );
    // What is misspelt is not missed too.
    for toml in [
        format!("lisen = '127.0.0.1'\n{SET}"),
        good_and("").replace("set]]", "sets]]"),
    ] {
        let output = checked(&toml, &[]);
        said(&output, 1, &["help: did you mean `"]);
        assert_eq!(stderr(&output).matches("error: ").count(), 1, "{output:?}");
    }
}

#[test]
fn all_errors_are_told_at_once_in_the_order_of_the_text() {
    let toml = "listn = 1\nbatch = 0\nworkers = 'x'\n[[set]]\nname = 'a'\ndestinations = ['sips:10.0.0.1', 'b_']\n";
    let output = checked(toml, &[]);
    let said = stderr(&output);
    let places = said.lines().filter_map(|line| line.strip_prefix("v.toml:"));
    let places: Vec<&str> = places
        .map(|line| line.split(": ").next().expect("a place"))
        .collect();
    assert_eq!(places, ["1:1", "2:9", "3:11", "6:17", "6:34"], "{said}");
}

#[test]
fn values_of_the_wrong_kind_or_out_of_range_are_refused() {
    refused(
        "batch = 257\n",
        &[
            "v.toml:1:9: error: 257 is out of range",
            "help: give 1 to 256",
        ],
    );
    refused("workers = 0\n", &["v.toml:1:11: error: 0 is out of range"]);
    refused(
        "reply-rate = -1\n",
        &["v.toml:1:14: error: -1 is out of range"],
    );
    refused(
        "pin = 'yes'\n",
        &[
            "v.toml:1:7: error: expected true or false, found string",
            "help: give \"on\" or \"off\"",
        ],
    );
    refused(
        "send-buffer = '4MB'\n",
        &["v.toml:1:15: error: `4MB` is not a size", "KiB, MiB or GiB"],
    );
    refused(
        "receive-buffer = 99999999999\n",
        &["v.toml:1:18: error: `99999999999` is not a size"],
    );
    refused(
        "policy = 'rond-robin'\n",
        &[
            "v.toml:1:10: error: `rond-robin` is not a policy",
            "did you mean `round-robin`?",
        ],
    );
    refused(
        "hash-key = 'callid'\n",
        &[
            "v.toml:1:12: error: `callid` is not a hash key",
            "did you mean `call-id`?",
        ],
    );
    refused(
        "hash-key = 'header:a b'\n",
        &["v.toml:1:12: error: `header:a b` names no header"],
    );
    refused(
        "allow-next-hop = ['10.0.0.1/8']\n",
        &[
            "v.toml:1:19: error: `10.0.0.1/8` has bits set outside",
            "write `10.0.0.0/8`",
        ],
    );
    refused(
        "set = 3\n",
        &["v.toml:1:7: error: expected a list, found integer"],
    );
    refused(
        "workers = '2'\n",
        &[
            "v.toml:1:11: error: expected an integer, found string",
            "help: leave out the quotes: 2",
        ],
    );
}

#[test]
fn listeners_are_checked() {
    refused(SET, &["error: there is no listener", "help: add `listen"]);
    refused("listen = []\n", &["v.toml:1:10: error: the list is empty"]);
    refused(
        &format!("listener = []\n{SET}"),
        &[
            "v.toml:1:12: error: the list is empty",
            "help: leave the key out, and write `[[listener]]` above each",
        ],
    );
    for wildcard in ["0.0.0.0:5060", "[::]:5060", "0.0.0.0:0"] {
        let toml = format!("listen = ['{wildcard}']\n");
        let what = format!(
            "v.toml:1:11: error: `{wildcard}` listens on every address and advertises none"
        );
        refused(&toml, &[&what, "help: add `advertise"]);
    }
    warned(
        &format!("listen = '0.0.0.0'\nadvertise = 'sip.example.com'\n{SET}"),
        &[],
    );
    refused(
        "listen = ['sip.example.com']\n",
        &["v.toml:1:11: error: `sip.example.com` is a name, not an address"],
    );
    refused(
        "listen = ['::1']\n",
        &[
            "v.toml:1:11: error: `::1` is an IPv6 address without brackets",
            "write `[::1]`",
        ],
    );
    refused(
        "listen = ['[2001:db8::1']\n",
        &[
            "v.toml:1:11: error: the bracket of `[2001:db8::1` is not closed",
            "write `[address]`",
        ],
    );
    refused(
        "listen = ['10.0.0.1', '10.0.0.1:5060']\n",
        &["v.toml:1:23: error: `10.0.0.1:5060` is listened on twice"],
    );
    refused(
        "[[listener]]\nname = 'a'\naddress = '10.0.0.1'\n[[listener]]\nname = 'a'\naddress = '10.0.0.2'\n",
        &["v.toml:5:8: error: two listeners are named `a`"],
    );
    refused(
        "listen = ['10.0.0.1', '10.0.0.2']\nadvertise = '192.0.2.1'\n",
        &["v.toml:2:13: error: one advertised address for several listeners"],
    );
    refused(
        "advertise = '0.0.0.0'\n",
        &["v.toml:1:13: error: `0.0.0.0` cannot be advertised"],
    );
    refused(
        "[[listener]]\naddress = '10.0.0.1'\nalso-known-as = 'lb.example.com:0'\n",
        &["v.toml:3:17: error: port 0 cannot be advertised"],
    );
    refused(
        "advertise = '300.1.1.1'\n",
        &["v.toml:1:13: error: `300.1.1.1` is neither a host name nor an address"],
    );
    let many: Vec<String> = (0..257)
        .map(|n| format!("'127.0.1.1:{}'", 6000 + n))
        .collect();
    refused(
        &format!("listen = [{}]\n{SET}", many.join(", ")),
        &["v.toml:1:4619: error: there are 257 listeners"],
    );
}

#[test]
fn destinations_are_checked() {
    refused(
        &format!("{LISTEN}set = []\n"),
        &[
            "v.toml:2:7: error: the list is empty",
            "help: leave the key out, and write `[[set]]` above each",
        ],
    );
    refused(
        LISTEN,
        &["error: there is no destination", "help: add a [[set]]"],
    );
    refused(&set_of("[]"), &["v.toml:4:16: error: the list is empty"]);
    refused(
        &format!("{LISTEN}[[set]]\nname = 'a'\n"),
        &["v.toml:2:1: error: the set has no destinations"],
    );
    refused(
        &format!("{LISTEN}[[set]]\ndestinations = ['10.0.0.1']\n"),
        &["v.toml:2:1: error: [[set]] has no `name`"],
    );
    refused(
        &set_of("['proxy_1.example.com']"),
        &["v.toml:4:17: error: `proxy_1.example.com` is not an address"],
    );
    for over_tcp in ["tcp:10.0.0.1", "sip:10.0.0.1;transport=tcp"] {
        refused(
            &set_of(&format!("['{over_tcp}']")),
            &["v.toml:4:17: error: destinations over TCP are not supported"],
        );
    }
    refused(
        &set_of("['sips:10.0.0.1']"),
        &["v.toml:4:17: error: destinations over TLS are not supported"],
    );
    refused(
        &set_of("['10.0.0.1:0']"),
        &["v.toml:4:17: error: port 0 cannot be a destination"],
    );
    for nobody in [
        "0.0.0.0",
        "0.1.2.3",
        "255.255.255.255",
        "224.0.0.5",
        "[fe80::1]",
    ] {
        let said = format!(
            "v.toml:4:17: error: `{}` cannot be a destination",
            nobody.trim_matches(['[', ']'])
        );
        refused(&set_of(&format!("['{nobody}']")), &[&said]);
    }
    let no_calls = "help: give 1 to 1000000; for no new calls, state=draining\n";
    refused(
        &set_of("['sip:10.0.0.1;weight=0']"),
        &["v.toml:4:17: error: `0` is not a weight", no_calls],
    );
    refused(
        &set_of("[{ uri = '10.0.0.1', weight = 0 }]"),
        &["v.toml:4:46: error: 0 is out of range", no_calls],
    );
    refused(
        &set_of("[{ uri = '10.0.0.1', weight = 1000001 }]"),
        &["v.toml:4:46: error: 1000001 is out of range"],
    );
    refused(
        &set_of("['sip:10.0.0.1;wait=2']"),
        &["v.toml:4:17: error: unknown parameter `wait`"],
    );
    refused(
        &set_of("[{ uri = 'sip:10.0.0.1;weight=2', weight = 3 }]"),
        &["v.toml:4:59: error: `weight` is given here and in the URI"],
    );
    refused(
        &set_of("['10.0.0.1', 'sip:10.0.0.1:5060']"),
        &["v.toml:4:29: error: `10.0.0.1:5060` is in set `a` twice"],
    );
    let alike = set_of("['10.0.0.1', '10.0.0.1']\npolicy = 'kamailio'");
    refused(
        &alike,
        &["help: remove one; by policy `kamailio` all have the same share"],
    );
    refused(
        &set_of("['192.0.2.10']"),
        &["v.toml:4:17: error: `192.0.2.10:5060` is our own listener"],
    );
    refused(
        &set_of("['[2001:db8::1]']"),
        &[
            "v.toml:4:17: error: no listener can send to `[2001:db8::1]:5060`",
            "add an IPv6 listener",
        ],
    );
    let mapped = set_of("['10.0.0.1', '[::ffff:10.0.0.1]']");
    refused(
        &mapped,
        &["v.toml:4:29: error: `10.0.0.1:5060` is in set `a` twice"],
    );
    warned(
        &set_of("['sip:10.0.0.1;state=disabled', { uri = 'sip:10.0.0.2', state = 'draining' }]"),
        &["v.toml:3:8: warning: no destination of set `a` is active"],
    );
}

#[test]
fn our_own_address_is_recognised_in_every_guise() {
    let wildcard = "[[listener]]\naddress = '0.0.0.0:5070'\nadvertise = '192.0.2.1'\n\
                    also-known-as = ['192.0.2.2', '192.0.2.3:5080']\n[[set]]\nname = 'a'\n";
    let ours = "127.0.0.9:5070 192.0.2.1:5070 192.0.2.2:5070 192.0.2.3:5080";
    for own in ours.split(' ') {
        let what = format!("v.toml:7:17: error: `{own}` is our own listener");
        refused(&format!("{wildcard}destinations = ['{own}']\n"), &[&what]);
    }
    let others = "'192.0.2.1:5060', '127.0.0.9:5060', '192.0.2.2:5060', '192.0.2.3:5070'";
    warned(&format!("{wildcard}destinations = [{others}]\n"), &[]);
}

#[test]
fn a_set_has_at_most_65535_destinations() {
    let line = |n: u32| format!("1 sip:10.{}.{}.{}\n", n >> 16, (n >> 8) & 255, n & 255);
    let folder = folder(&[]);
    let list: String = (1..=65_536).map(line).collect();
    folder.write("d.list", &list);
    folder.refused(
        &["--dispatcher-list", "d.list"],
        1,
        &["d.list:65536:3: error: set `1` has 65536 destinations"],
    );
    let list: String = (1..=65_535).map(line).collect();
    folder.write("d.list", list);
    said(&folder.run(&["--dispatcher-list", "d.list"]), 0, &[]);
}

#[test]
fn policy_and_hash_key_must_go_together() {
    let set =
        |policy: &str, key: &str| good_and(&format!("policy = '{policy}'\nhash-key = '{key}'\n"));
    refused(
        &set("kamailio", "source"),
        &["v.toml:6:12: error: policy `kamailio` of set `a` cannot hash `source`"],
    );
    warned(&set("kamailio", "call-id"), &[]);
    warned(
        &set("random", "source"),
        &["v.toml:6:12: warning: the hash key has no effect with policy `random`"],
    );
    let general = format!("hash-key = 'header:X-Id'\n{LISTEN}{SET}policy = 'kamailio'\n");
    refused(
        &general,
        &["v.toml:1:12: error: policy `kamailio` of set `a` cannot hash `header:x-id`"],
    );
    let weighted = format!(
        "policy = 'kamailio'\n{}",
        set_of("['sip:10.0.0.1;weight=2']")
    );
    warned(
        &weighted,
        &["v.toml:5:17: warning: the weight has no effect with policy `kamailio`"],
    );
}

#[test]
fn sets_and_routes_are_checked() {
    let second = "[[set]]\nname = 'b'\ndestinations = ['10.0.0.2']\n";
    refused(
        &good_and(SET),
        &["v.toml:6:8: error: two sets are named `a`"],
    );
    warned(
        &good_and(second),
        &["v.toml:6:8: warning: no route leads to set `b`"],
    );
    warned(&good_and(&format!("{second}[[route]]\nset = 'b'\n")), &[]);
    refused(
        &good_and("[[route]]\nset = 'aa'\n"),
        &["v.toml:6:7: error: there is no set `aa`"],
    );
    refused(
        &good_and("[[route]]\nset = 'a'\nlistener = '192.0.2.10:506'\n"),
        &[
            "v.toml:7:12: error: there is no listener `192.0.2.10:506`",
            "did you mean `192.0.2.10:5060`?",
        ],
    );
    refused(
        &good_and("[[route]]\nmethod = 'INVITE'\n"),
        &["v.toml:5:1: error: [[route]] has no `set`"],
    );
    refused(
        &good_and("[[route]]\nset = 'a'\nmethod = []\n"),
        &["v.toml:7:10: error: the list is empty"],
    );
    refused(
        &good_and("[[route]]\nset = 'a'\nmethod = 'IN VITE'\n"),
        &["v.toml:7:10: error: `IN VITE` is not a method"],
    );
    refused(
        &good_and("[[route]]\nset = 'a'\nhost = 'x.org:5060'\n"),
        &[
            "v.toml:7:8: error: a host condition has no port",
            "write `x.org`",
        ],
    );
    refused(
        &good_and("[[route]]\nset = 'a'\nsource = ['10.0.0.0/33']\n"),
        &["v.toml:7:11: error: `10.0.0.0/33` is neither a network nor an address"],
    );
    warned(
        &good_and("[[route]]\nset = 'a'\nmethod = 'invite'\n"),
        &[
            "v.toml:7:10: warning: no request has the method `invite`",
            "write `INVITE`",
        ],
    );
    warned(
        &good_and("[[route]]\nset = 'a'\n[[route]]\nset = 'a'\nmethod = 'ACK'\n"),
        &[
            "v.toml:7:1: warning: this route is never reached",
            "number 1 matches whatever this one does",
        ],
    );
}

#[test]
fn front_balancers_are_checked() {
    let with = |address: &str, networks: &str| {
        format!(
            "[[listener]]\nname = 'front'\naddress = '{address}'\n\
             proxy-protocol = {networks}\n{SET}"
        )
    };
    let output = checked(&with("192.0.2.1", "['10.9.0.0/24', '10.8.0.1']"), &[]);
    said(&output, 0, &[]);
    assert_eq!(stderr(&output), "");
    let listener =
        "listener front: udp:192.0.2.1:5060, PROXY protocol from 10.9.0.0/24, 10.8.0.1/32\n";
    assert!(stdout(&output).starts_with(listener), "{}", stdout(&output));
    refused(
        &with("192.0.2.1", "['10.9.0.0/24', 'balancer']"),
        &["v.toml:4:34: error: `balancer` is neither a network nor an address"],
    );
    refused(
        &with("192.0.2.1", "[]"),
        &["v.toml:4:18: error: the list is empty"],
    );
    refused(
        &format!("proxy-protocol = '10.9.0.1'\n{LISTEN}{SET}"),
        &["v.toml:1:1: error: unknown key `proxy-protocol` in the top level"],
    );
    warned(
        &with("192.0.2.1", "'2001:db8::/32'"),
        &["v.toml:4:18: warning: nothing comes from `2001:db8::/32` to `192.0.2.1:5060`"],
    );
    warned(
        &with("192.0.2.1", "'0.0.0.0/0'"),
        &["v.toml:4:18: warning: `0.0.0.0/0` takes everybody for a front balancer"],
    );
    warned(
        &with("192.0.2.1", "'10.0.0.0/8'"),
        &[
            "v.toml:7:17: warning: `10.0.0.1:5060` lies within `proxy-protocol` of listener `front`",
            "name the front balancers alone",
        ],
    );
}

#[test]
fn following_is_checked() {
    let route = "[[route]]\nset = 'a'\nfollow = 'replaces'\n";
    warned(&good_and(route), &[]);
    refused(
        &good_and("[[route]]\nset = 'a'\nfollow = 'refer'\n"),
        &["v.toml:7:10: error: `refer` cannot be followed"],
    );
    for (key, why) in [
        ("hash-key = 'from-uri'", "it hashes `from-uri`"),
        ("policy = 'random'", "its policy is `random`"),
        ("policy = 'round-robin'", "its policy is `round-robin`"),
    ] {
        warned(
            &format!("{key}\n{}", good_and(route)),
            &[
                "v.toml:8:10: warning: `follow` does not lead to the dialogs of set `a`",
                why,
            ],
        );
    }
    let output = checked(&good_and(route), &[]);
    assert_eq!(stderr(&output), "");
}
