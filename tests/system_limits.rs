//! `viaduct check --system`: which limits of a machine are too small for a
//! rate, and what mends them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use proptest::prelude::*;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use viaduct::cli::limits::{Facts, Finding, find};
use viaduct::config::{Config, Gso, Overrides, Steer};
use viaduct::supervisor::open_files;

use support::dns::NameServer;
use support::fixture;
use support::net::{V4, free_addresses};
use support::process::Signal;
use support::upgrading::{self, File};
use support::viaduct::Viaduct;

const DEFAULT_RATE: u64 = 50_000;

/// Two workers, and all else as it comes.
fn config() -> Config {
    let mut config = fixture::config();
    config.workers = 2;
    (config.receive_buffer, config.send_buffer) = (4 << 20, 4 << 20);
    config
}

/// A machine of two cores as Debian 11 sets it up.
fn plain() -> Facts {
    Facts {
        rmem_max: Some(212_992),
        wmem_max: Some(212_992),
        netdev_max_backlog: Some(1000),
        optmem_max: Some(20_480),
        files: Some(1024),
        cores: Some(2),
        segments: Some(true),
        tracked: None,
    }
}

fn too_small(findings: &[Finding]) -> Vec<&str> {
    let bad = findings.iter().filter(|finding| !finding.good);
    bad.map(|finding| finding.what).collect()
}

/// `facts` where `what` is `value`.
fn with(mut facts: Facts, what: &str, value: u64) -> Facts {
    let value = Some(value);
    match what {
        "net.core.rmem_max" => facts.rmem_max = value,
        "net.core.wmem_max" => facts.wmem_max = value,
        "net.core.netdev_max_backlog" => facts.netdev_max_backlog = value,
        "net.core.optmem_max" => facts.optmem_max = value,
        "open files" => facts.files = value,
        "cores" => facts.cores = value,
        "UDP GSO" => facts.segments = Some(true),
        "net.netfilter.nf_conntrack_max" => {
            facts.tracked = facts.tracked.map(|(n, _)| n).zip(value)
        }
        other => panic!("no fact: {other}"),
    }
    facts
}

#[test]
fn a_plain_machine_has_too_small_buffers_and_is_told_how_to_mend_them() {
    let findings = find(&plain(), &config(), DEFAULT_RATE);
    assert_eq!(
        too_small(&findings),
        [
            "net.core.rmem_max",
            "net.core.wmem_max",
            "net.core.optmem_max"
        ]
    );
    let mends = findings
        .iter()
        .filter_map(|finding| finding.mend.as_deref());
    let mends: Vec<_> = mends.collect();
    assert_eq!(mends.len(), 3, "of what is too small alone: {mends:?}");
    assert!(mends.contains(&"sysctl -w net.core.rmem_max=4194304"));
    assert!(mends.contains(&"sysctl -w net.core.optmem_max=131072"));
}

/// Not where the kernel's limit is what makes it small.
#[test]
fn a_receive_buffer_that_asks_for_too_little_is_told_to_ask_for_more() {
    let mut config = config();
    config.receive_buffer = 212_992;
    let findings = find(&plain(), &config, DEFAULT_RATE);
    let finding = findings.iter().find(|each| each.what == "receive-buffer");
    let finding = finding.expect("a finding");
    assert!(!finding.good);
    assert_eq!(finding.mend.as_deref(), Some("--receive-buffer 1447500"));
    // 184 messages of 1,000 octets, 25,000 a second of them.
    assert!(finding.why.contains("for 7 ms"), "{}", finding.why);
    // Of a larger one the kernel grants no more.
    config.receive_buffer = 1 << 20;
    let findings = find(&plain(), &config, DEFAULT_RATE);
    let finding = findings.iter().find(|each| each.what == "receive-buffer");
    let why = &finding.expect("a finding").why;
    assert!(why.contains("for 7 ms"), "{why}");
}

/// What is in `config/` is what is asked for.
#[test]
fn the_sysctl_file_is_good_for_the_default_rate() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/99-viaduct-sysctl.conf");
    let text = fs::read_to_string(path).expect("the file");
    let rows = text.lines().filter(|row| !row.starts_with('#'));
    let rows: Vec<_> = rows.filter_map(|row| row.split_once('=')).collect();
    let (asked, others): (Vec<_>, Vec<_>) =
        (rows.iter()).partition(|(key, _)| key.starts_with("net.core."));
    assert!(asked.len() >= 3, "{rows:?}");
    for (key, _) in others {
        let file = Path::new("/proc/sys").join(key.trim().replace('.', "/"));
        assert!(file.exists(), "{file:?}");
    }
    let facts = asked.iter().fold(plain(), |facts, (key, value)| {
        with(facts, key.trim(), value.trim().parse().expect("a number"))
    });
    for workers in [1, 2] {
        let config = Config {
            workers,
            ..config()
        };
        let findings = find(&facts, &config, DEFAULT_RATE);
        assert_eq!(too_small(&findings), [""; 0]);
    }
}

#[test]
fn the_rules_for_the_filter_of_the_kernel_are_rules() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operate.md");
    let text = fs::read_to_string(path).expect("the file");
    let blocks = text.split("nft -f - <<'RULES'\n").skip(1);
    let blocks: Vec<_> = blocks
        .filter_map(|from| from.split_once("RULES\n"))
        .collect();
    assert_eq!(blocks.len(), 2);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rules");
    for (rules, _) in blocks {
        fs::write(&file, rules).expect("a file");
        let check = "PATH=$PATH:/usr/sbin:/sbin; nft --check --file \"$1\"";
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--net", "sh", "-c", check, "sh"]);
        let output = command.arg(&file).output().expect("an end");
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn what_is_not_used_is_not_asked_for() {
    let facts = Facts {
        segments: Some(false),
        ..plain()
    };
    let named = |config: &Config, what: &str| {
        let findings = find(&facts, config, DEFAULT_RATE);
        findings.iter().any(|finding| finding.what == what)
    };
    let mut config = config();
    assert!(named(&config, "UDP GSO") && named(&config, "net.core.optmem_max"));
    assert!(!named(&config, "net.netfilter.nf_conntrack_max"));
    config.gso = Gso::Off;
    config.steer = Steer::Source;
    assert!(!named(&config, "UDP GSO") && !named(&config, "net.core.optmem_max"));
}

#[test]
fn questions_for_names_take_files_for_each_name_server() {
    let files = |config: &Config| {
        let findings = find(&plain(), config, DEFAULT_RATE);
        let files = findings.iter().find(|finding| finding.what == "open files");
        files.expect("a finding").wanted
    };
    let mut config = config();
    config.resolvers = vec![SocketAddr::from(([192, 0, 2, 53], 53)); 2];
    config.resolve = false;
    let sockets = files(&config);
    config.resolve = true;
    assert_eq!(files(&config), sockets + 2 * 256);
    // Those of `/etc/resolv.conf` are three at most.
    config.resolvers.clear();
    assert_eq!(files(&config), sockets + 3 * 256);
}

#[test]
fn a_full_connection_tracking_is_seen() {
    let tracked = |entries| Facts {
        tracked: Some((entries, 65_536)),
        ..plain()
    };
    let is_seen = |entries| {
        let findings = find(&tracked(entries), &config(), DEFAULT_RATE);
        too_small(&findings).contains(&"net.netfilter.nf_conntrack_max")
    };
    assert!(!is_seen(32_768) && is_seen(32_769));
}

#[test]
fn what_nobody_says_is_not_called_too_small() {
    let findings = find(&Facts::default(), &config(), DEFAULT_RATE);
    assert_eq!(too_small(&findings), [""; 0]);
}

fn number() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(0..10_000_000_u64)
}

prop_compose! {
    fn machines()(
        (rmem_max, wmem_max, netdev_max_backlog, optmem_max) in
            (number(), number(), number(), number()),
        (files, cores) in (number(), number()),
        segments: Option<bool>,
        tracked in prop::option::of((0..1_000_000_u64, 0..1_000_000_u64)),
    ) -> Facts {
        Facts {
            rmem_max,
            wmem_max,
            netdev_max_backlog,
            optmem_max,
            files,
            cores,
            segments,
            tracked,
        }
    }
}

proptest! {
    /// Who does what is said has a machine that is good for the rate, and for
    /// each lower one.
    #[test]
    fn what_is_mended_is_good(
        machine in machines(),
        rate in 1..10_000_000_u64,
        less in 1..10_000_000_u64,
        workers in 1..200_usize,
        by_source: bool,
    ) {
        let mut config = Config { workers, ..config() };
        config.steer = if by_source { Steer::Source } else { Steer::CallId };
        let mut facts = machine;
        // The number of workers decides what else is wanted.
        let workers = find(&facts, &config, rate).into_iter();
        let mut workers = workers.filter(|finding| finding.what == "workers" && !finding.good);
        if let Some(finding) = workers.next() {
            config.workers = finding.wanted as usize;
        }
        for finding in find(&facts, &config, rate).iter().filter(|finding| !finding.good) {
            match finding.what {
                "receive-buffer" => config.receive_buffer = config.receive_buffer.max(finding.wanted as usize),
                what => facts = with(facts, what, finding.wanted),
            }
        }
        for rate in [rate, rate.min(less)] {
            let findings = find(&facts, &config, rate);
            prop_assert_eq!(too_small(&findings), [""; 0]);
        }
    }
}

fn check(args: &[&str]) -> Output {
    let mut command = Command::new(support::program());
    command.arg("check").args(args).output().expect("an end")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

#[test]
fn this_machine_is_read() {
    let output = check(&["--system", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(told["ok"], output.status.success());
    assert_eq!(told["rate"], DEFAULT_RATE);
    let limits = told["limits"].as_array().expect("limits");
    let limits: BTreeMap<_, _> = limits
        .iter()
        .map(|limit| (limit["what"].as_str().expect("a name"), limit))
        .collect();
    for name in ["rmem_max", "wmem_max", "netdev_max_backlog"] {
        let there = fs::read_to_string(format!("/proc/sys/net/core/{name}")).expect("a setting");
        let there: u64 = there.trim().parse().expect("a number");
        let limit = limits[format!("net.core.{name}").as_str()];
        assert_eq!(limit["value"], there);
        assert_eq!(limit["good"], limit["wanted"].as_u64() <= Some(there));
    }
    assert_eq!(limits["UDP GSO"]["value"], 1);
    let cores = std::thread::available_parallelism().expect("cores").get();
    assert_eq!(limits["cores"]["value"], cores);
}

/// The configuration says what is wanted, in a file or by flags.
/// No limit depends on which address it is.
#[test]
fn what_is_not_given_goes_with_what_is() {
    for given in [
        &["--listen", "[::1]:5060"][..],
        &["--listen", "127.0.0.1:5062"],
        &["--listen", "192.0.2.10,127.0.0.1:5061"],
        &["--to", "127.0.0.1"],
        &["--to", "10.0.0.1,[2001:db8::1]"],
    ] {
        let output = check(&[&["--system", "--json"], given].concat());
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert!(told["limits"].is_array(), "{given:?}: {told}");
        assert_eq!(told["diagnostics"], serde_json::json!([]), "{given:?}");
    }
}

#[test]
fn what_is_too_small_is_said_with_its_mend() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("viaduct.toml");
    let written = "workers = 1\nreceive-buffer = '900MiB'\nlisten = ['127.0.0.1']\n\
                [[set]]\nname = 'a'\ndestinations = ['192.0.2.1']\n";
    fs::write(&file, written).expect("a file");
    let file = file.to_str().expect("text");
    for args in [
        &["--config", file][..],
        &["--workers", "1", "--receive-buffer", "900MiB"],
    ] {
        let output = check(&[args, &["--system", "--rate", "300000"]].concat());
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for line in [
            "mend: sysctl -w net.core.rmem_max=943718400\n",
            "mend: sysctl -w net.core.netdev_max_backlog=6000\n",
            "workers: 1, wanted 6 workers\n",
            "too small for 300000 messages a second\n",
        ] {
            assert!(said.contains(line), "no {line} in\n{said}");
        }
    }
}

#[test]
fn one_of_a_kind_is_said_in_the_singular() {
    let said = text(&check(&["--system", "--rate", "1", "--workers", "1"]).stdout);
    for line in ["wanted 1 core\n", "workers: 1, wanted 1 worker\n"] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
}

/// What `run` would end at, in its words, and nothing is made to find out.
#[test]
fn files_and_folders_that_run_would_not_find_are_told_with_their_mend() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let write = |at: &str| {
        let text = format!(
            "listen = ['127.0.0.1']\nworkers = 1\nstateful = ['INVITE']\nsecret-file = '{0}/secret'\n\
             [admin]\nsocket = '{0}/admin.sock'\ntoken-file = '{0}/token'\n\
             [accounting]\nto = '{0}/calls.jsonl'\n\
             [[set]]\nname = 'a'\ndestinations = ['192.0.2.1']\n",
            path(at)
        );
        fs::write(path("v.toml"), text).expect("a file");
    };
    let config = path("v.toml");
    let system =
        |more: &[&str]| check(&[&["--system", "--rate", "1", "--config", &config], more].concat());
    write("gone");
    let output = system(&[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for (name, mend) in [
        ("secret file", "the folder must exist"),
        ("token file", "put a token of 16 octets or more in it"),
        ("admin socket", "its folder must exist"),
        ("cannot write accounting to", "have its folder exist"),
    ] {
        let told = said
            .split("unusable   ")
            .find(|told| told.starts_with(name));
        let told = told.unwrap_or_else(|| panic!("no {name} in\n{said}"));
        assert!(told.contains("No such file or directory"), "{told}");
        assert!(told.contains(&format!("           mend: {mend}")), "{told}");
    }
    let told: Value = serde_json::from_slice(&system(&["--json"]).stdout).expect("JSON");
    assert_eq!(
        (&told["ok"], told["files"].as_array().map(Vec::len)),
        (&false.into(), Some(4))
    );
    // `run` stops at the first of them with the same words.
    let run = ["run", "--config", &config];
    let run = Command::new(support::program()).args(run).output();
    let run = text(&run.expect("an end").stderr);
    let files = told["files"].as_array().expect("files").iter();
    let wheres = files.map(|file| file["what"].as_str().expect("text").to_owned());
    assert!(wheres.clone().any(|file| run.contains(&file)), "{run}");

    fs::create_dir(path("there")).expect("a folder");
    fs::write(path("there/token"), "open sesame, please\n").expect("a file");
    write("there");
    let told: Value = serde_json::from_slice(&system(&["--json"]).stdout).expect("JSON");
    assert_eq!(told["files"], serde_json::json!([]));
    let entries = fs::read_dir(path("there")).expect("a folder").count();
    assert_eq!(entries, 1, "nothing is made");
    // What is there may be something else.
    let two_lines = "open sesame, please\nopen sesame, please\n";
    fs::write(path("there/token"), two_lines).expect("a file");
    let said = text(&system(&[]).stdout);
    assert!(
        said.contains("token: it holds more than one line"),
        "{said}"
    );
    fs::write(path("there/token"), "").expect("a file");
    fs::write(path("there/secret"), "no secret").expect("a file");
    let said = text(&system(&[]).stdout);
    assert_eq!(said.matches("unusable   ").count(), 2, "{said}");
    // It may be another file that somebody needs, and dialogs go by the secret.
    assert!(
        said.contains("mend: name the right file, or restore"),
        "{said}"
    );
    fs::create_dir(path("there/calls.jsonl")).expect("a folder");
    fs::write(path("there/admin.sock"), "no socket").expect("a file");
    let said = text(&system(&[]).stdout);
    assert_eq!(said.matches("unusable   ").count(), 4, "{said}");
    for told in [
        "calls.jsonl: Is a directory",
        "admin.sock: there is something else at this path",
        "mend: remove it, or give another path",
    ] {
        assert!(said.contains(told), "no {told} in\n{said}");
    }
}

#[test]
fn a_rate_needs_the_system_and_a_fault_of_the_file_is_told() {
    let output = check(&["--rate", "1000"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    let output = check(&["--system", "--config", "/nowhere/viaduct.toml"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("/nowhere/viaduct.toml"), "{told}");
}

#[test]
fn a_start_takes_no_more_open_files_than_are_said() {
    let listen: [_; 8] = free_addresses(V4);
    let file = File::new(&upgrading::config(
        &listen,
        16,
        &[([192, 0, 2, 1], 5060).into()],
    ));
    let viaduct = Viaduct::start(&file.args());
    let folder = format!("/proc/{}/fd", viaduct.id());
    let open = fs::read_dir(folder).expect("its files").count() as u64;
    let loaded = viaduct::config::load(Some(&file.path()), &Overrides::default());
    let said = *open_files(&loaded.config.expect("a configuration")).start();
    assert!(open <= said, "{open} open, {said} said");
}

#[test]
fn where_it_may_open_fewer_it_does_not_start_and_says_what_mends_it() {
    let [front] = free_addresses(V4);
    let to = ([192, 0, 2, 1], 5060).into();
    let file = File::new(&upgrading::config(&[front], 4, &[to]));
    for files in [12, 20, 30] {
        let script = format!("ulimit -n {files}; exec \"$0\" run \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script]).arg(support::program());
        let output = command.args(file.args()).output().expect("an end");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let limit = format!("takes 48 open files, and the process may have {files} files open");
        assert!(said.contains(&limit), "{said}");
        let mend = "help: ulimit -n 272 (in the unit: LimitNOFILE=272)";
        assert!(said.contains(mend), "{said}");
    }
}

#[test]
fn as_many_open_files_as_check_asks_for_are_enough_for_any_number_of_names() {
    let names = 600;
    let zone: Vec<_> = (0..names)
        .map(|n| format!("m{n}.test 60 A 127.1.{}.{}", n / 250, n % 250 + 1))
        .collect();
    let server = NameServer::start(&zone.join("\n"));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("v.toml").display().to_string();
    // By a policy that has no slots to give away, which takes longer than asking.
    let write = |destinations: &str| {
        let set = format!(
            "[[set]]\nname = 'farm'\npolicy = 'round-robin'\ndestinations = [{destinations}]\n"
        );
        fs::write(&path, format!("listen = ['127.0.0.1:0']\n{set}")).expect("the file");
    };
    write("'127.0.0.71:9'");
    let resolver = server.address().to_string();
    let args = ["--config", &path, "--resolver", &resolver, "--workers", "1"];
    let mut viaduct = Viaduct::start(&args.map(str::to_owned));
    let all: Vec<_> = (0..names).map(|n| format!("'m{n}.test'")).collect();
    write(&all.join(", "));
    let output = check(&[&["--system", "--json"], &args[..]].concat());
    let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let limits = told["limits"].as_array().expect("limits");
    let files = limits.iter().find(|limit| limit["what"] == "open files");
    let wanted = files.and_then(|files| files["wanted"].as_u64());
    let limit = Rlimit {
        current: wanted,
        maximum: wanted,
    };
    let id = Pid::from_raw(viaduct.id() as i32);
    prlimit(id, Resource::Nofile, limit).expect("a limit");
    viaduct.signal(Signal::HUP);
    viaduct.wait_for("all names", |output| {
        (output.matches(" is 127.1.").count() == names).then_some(())
    });
    let output = viaduct.output();
    assert!(!output.contains("no connections"), "{output}");
}
