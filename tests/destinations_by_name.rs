//! Destinations that are given by a name (RFC 3263 §4.2): each address that it
//! stands for is one, for as long as DNS says so, and for longer where DNS
//! says nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::json;

use support::admin::Admin;
use support::checking::good;
use support::dialog::{Peer, Scene, read, status};
use support::dns::NameServer;
use support::net::{V4, V6};
use support::process::Signal;
use support::upgrading::File;
use support::wait_until;

/// The members of a farm, of which Viaduct is told by `args` and by `server`.
fn scene(farm: Vec<Peer>, server: &NameServer, args: &[&str]) -> Scene {
    let resolver = server.address().to_string();
    let first = ["--resolver".to_owned(), resolver];
    Scene::with(farm, &first, args)
}

/// The same behind one listener of IPv4.
fn listening(farm: Vec<Peer>, server: &NameServer, to: &[&str]) -> Scene {
    let to = to.iter().flat_map(|to| ["--to", to]);
    let args: Vec<_> = ["--listen", "127.0.0.1:0"].into_iter().chain(to).collect();
    scene(farm, server, &args)
}

/// Sends new calls; how many came to each member that any came to.
fn shares(scene: &Scene, calls: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let (number, _) = scene.pass(scene.request("INVITE").text());
        let ip = scene.farm[number].address().ip();
        *shares.entry(ip.to_string()).or_insert(0) += 1;
    }
    shares
}

/// Those that calls come to.
fn reached(scene: &Scene) -> Vec<String> {
    shares(scene, 30).into_keys().collect()
}

/// Waits for a line that holds `part`, behind `from` in the output.
fn line(scene: &mut Scene, from: usize, part: &str) -> String {
    scene.viaduct.wait_for(part, |output| {
        let found = output[from..].split_inclusive('\n');
        let mut found = found.filter(|line| line.ends_with('\n') && line.contains(part));
        found.next().map(|line| line.trim_end().to_owned())
    })
}

/// Waits until `server` was asked for something `more` times from now on.
fn asked_again(server: &NameServer, more: usize) {
    let wanted = server.asked().len() + more;
    wait_until("another question", || server.asked().len() >= wanted);
}

#[test]
fn each_address_of_a_name_is_a_destination_before_it_is_ready() {
    let (farm, port) = Peer::neighbours::<3>(71);
    let server = NameServer::start(
        "farm.test 3600 A 127.0.0.73
         farm.test 3600 A 127.0.0.71
         farm.test 3600 A 127.0.0.72",
    );
    let name = format!("Farm.TEST:{port}");
    // One of them is listed too, and is no more for it.
    let listed = farm[0].address().to_string();
    let scene = listening(farm, &server, &[&listed, &name]);
    let output = scene.viaduct.output();
    let said = format!(
        "set default: farm.test:{port} is 127.0.0.71:{port}, 127.0.0.72:{port}, 127.0.0.73:{port}\n"
    );
    let at = |part: &str| {
        output
            .find(part)
            .unwrap_or_else(|| panic!("{part} in {output}"))
    };
    assert!(at(&said) < at("ready:"));
    assert!(at("set default: 3 destinations, policy hash") < at("ready:"));
    let resolved = format!(
        "names: resolved by {}, for destinations\n",
        server.address()
    );
    assert!(at(&resolved) < at("ready:"));
    let shares = shares(&scene, 300);
    assert_eq!(shares.len(), 3);
    // 100 expected, with a standard deviation of 8.
    assert!(shares.values().all(|n| (50..150).contains(n)), "{shares:?}");
    // With a port, SRV is not asked for; nor a family that nobody can send to.
    assert_eq!(server.asked_for(), ["farm.test A"]);
    // What a member sends is known to be a member's.
    let request = support::dialog::Request::new("BYE", scene.farm[2].address());
    let phone = Peer::new(V4);
    let request = request.uri(format!("sip:ann@{}", phone.address()));
    scene.farm[2].send(scene.front(), request.text());
    assert_eq!(read(phone.receive()).call_id, request.call_id.into_bytes());
}

#[test]
fn when_the_ttl_is_over_another_answer_takes_effect() {
    let (farm, port) = Peer::neighbours::<3>(71);
    let server = NameServer::start("farm.test 1 A 127.0.0.71\nfarm.test 1 A 127.0.0.72");
    let mut scene = listening(farm, &server, &[&format!("farm.test:{port}")]);
    assert_eq!(reached(&scene), ["127.0.0.71", "127.0.0.72"]);
    let from = scene.viaduct.output().len();
    // The same in another order is nothing new.
    server.change("farm.test 1 A 127.0.0.72\nfarm.test 1 A 127.0.0.71");
    asked_again(&server, 2);
    server.change("farm.test 1 A 127.0.0.73\nfarm.test 1 A 127.0.0.72");
    assert_eq!(
        line(&mut scene, from, "set default:"),
        format!(
            "set default: farm.test:{port} is now 127.0.0.72:{port}, 127.0.0.73:{port} \
             (was 127.0.0.71:{port}, 127.0.0.72:{port})"
        )
    );
    assert_eq!(reached(&scene), ["127.0.0.72", "127.0.0.73"]);
}

#[test]
fn srv_names_hosts_ports_weights_and_priorities_and_all_of_them_count() {
    let (farm, port) = Peer::neighbours::<4>(71);
    let others = "never.test 1 A 127.0.0.74\nlast.test 1 A 127.0.0.73";
    let server = NameServer::start(&format!(
        "_sip._udp.farm.test 1 SRV 20 9 {port} last.test
         _sip._udp.farm.test 1 SRV 10 1 {port} little.test
         _sip._udp.farm.test 1 SRV 10 3 {port} much.test
         _sip._udp.farm.test 1 SRV 5 0 0 never.test
         _sip._udp.farm.test 1 SRV 30 0 {port} never.test
         little.test 1 A 127.0.0.71
         much.test 1 A 127.0.0.72
         {others}"
    ));
    let mut scene = listening(farm, &server, &["farm.test"]);
    line(
        &mut scene,
        0,
        &format!(
            "set default: farm.test is 127.0.0.71:{port} (weight 1, rank 1), \
             127.0.0.72:{port} (weight 3, rank 1), 127.0.0.73:{port} (weight 9, rank 2), \
             127.0.0.74:{port} (weight 1, rank 3)"
        ),
    );
    let met = shares(&scene, 400);
    assert_eq!(met.keys().collect::<Vec<_>>(), ["127.0.0.71", "127.0.0.72"]);
    // 100 expected, with a standard deviation of 9.
    let little = met["127.0.0.71"];
    assert!((50..150).contains(&little), "{little} of 400");
    let from = scene.viaduct.output().len();
    // Behind the first come those of the next priority.
    server.change(&format!(
        "_sip._udp.farm.test 1 SRV 20 9 {port} last.test
         _sip._udp.farm.test 1 SRV 10 3 {port} gone.test\n{others}"
    ));
    line(&mut scene, from, "is now");
    assert_eq!(reached(&scene), ["127.0.0.73"]);
    // Without SRV it is the host itself.
    assert_eq!(server.asked()[0], "_sip._udp.farm.test SRV");
}

#[test]
fn without_srv_a_name_without_a_port_is_a_host_at_5060() {
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let member = Peer::at(SocketAddr::from(([127, 97, high, low.max(1)], 5060)));
    let ip = member.address().ip();
    let zone = format!("test 1 SOA\nfarm.test 3600 A {ip}");
    let server = NameServer::start(&zone);
    let mut scene = listening(vec![member], &server, &["farm.test"]);
    assert_eq!(scene.pass(scene.request("INVITE").text()).0, 0);
    // That there is none holds for its own time, whatever that of the address.
    let service = "_sip._udp.farm.test 60 SRV 1 1 5070 farm.test";
    server.change(&format!("{zone}\n{service}"));
    line(&mut scene, 0, &format!("farm.test is now {ip}:5070"));
}

#[test]
fn a_service_that_is_an_alias_has_the_srv_of_what_it_stands_for() {
    let (farm, port) = Peer::neighbours::<2>(71);
    let zone = |end: &str| {
        format!(
            "test 60 SOA
             _sip._udp.one.test 1 CNAME _sip._udp.{end}.test
             _sip._udp.two.test 60 CNAME _sip._udp.one.test
             _sip._udp.three.test 60 CNAME _sip._udp.apart.test
             _sip._udp.loop.test 60 CNAME _sip._udp.loop.test
             _sip._udp.apart.test 3600 SRV 1 1 {port} a.test
             _sip._udp.end.test 3600 SRV 1 1 {port} a.test
             _sip._udp.other.test 3600 SRV 1 1 {port} b.test
             a.test 3600 A 127.0.0.71\nb.test 3600 A 127.0.0.72"
        )
    };
    let server = NameServer::start(&zone("end"));
    let names = ["one.test", "two.test", "three.test", "loop.test"];
    let mut scene = listening(farm, &server, &names);
    for name in &names[..3] {
        line(&mut scene, 0, &format!("{name} is 127.0.0.71:{port}"));
    }
    line(&mut scene, 0, "loop.test cannot be resolved: its service");
    // The alias has a TTL of its own.
    server.change(&zone("other"));
    line(&mut scene, 0, &format!("one.test is now 127.0.0.72:{port}"));
}

#[test]
fn a_weight_and_a_priority_of_the_configuration_go_before_those_of_srv() {
    let (farm, port) = Peer::neighbours::<3>(71);
    let server = NameServer::start(&format!(
        "_sip._udp.farm.test 60 SRV 10 50 {port} one.test
         one.test 60 A 127.0.0.71
         one.test 60 A 127.0.0.72"
    ));
    let listed = format!("127.0.0.73:{port};weight=6");
    let scene = listening(farm, &server, &["farm.test;weight=1", &listed]);
    let met = shares(&scene, 400);
    // 300 expected, with a standard deviation of 9.
    assert!((250..350).contains(&met["127.0.0.73"]), "{met:?}");
    let (farm, _) = Peer::neighbours::<1>(71);
    let listed = farm[0].address().to_string();
    let server = NameServer::start("far.test 60 A 127.0.0.99");
    let scene = listening(farm, &server, &["far.test:9;priority=-1", &listed]);
    assert_eq!(reached(&scene), ["127.0.0.71"]);
}

#[test]
fn a_failed_look_up_keeps_what_was_there_and_says_so_once() {
    let (farm, port) = Peer::neighbours::<2>(71);
    let zone = "farm.test 1 A 127.0.0.71\nfarm.test 1 A 127.0.0.72";
    let server = NameServer::start(zone);
    let name = format!("farm.test:{port}");
    // One that never knows, beside it.
    let other = NameServer::start("");
    other.fail(true);
    let second = other.address().to_string();
    let args = ["--listen", "127.0.0.1:0", "--to", &name];
    let more = ["--admin-listen", "127.0.0.1:0", "--resolver", &second];
    let with_admin = [&args[..], &more].concat();
    let mut scene = scene(farm, &server, &with_admin);
    let admin = Admin::of(&scene.viaduct);
    let resolved = |expected: bool| {
        let sample = format!("viaduct_name_resolved{{set=\"default\",name=\"{name}\"}}");
        let wanted = format!("\n{sample} {}\n", u8::from(expected));
        let metrics = admin.get("/metrics").body;
        assert!(metrics.contains(&wanted), "{wanted} in {metrics}");
    };
    resolved(true);
    let from = scene.viaduct.output().len();
    let stays = format!("it stays 127.0.0.71:{port}, 127.0.0.72:{port}");
    server.fail(true);
    let said = line(&mut scene, from, "cannot be resolved");
    let start = format!("warning: set default: farm.test:{port} cannot be resolved: ");
    assert!(said.starts_with(&start) && said.ends_with(&stays), "{said}");
    // What each of them says.
    for server in [&server, &other] {
        let says = format!(" {}: ", server.address());
        assert!(said[start.len() - 1..].contains(&says), "{said}");
    }
    resolved(false);
    let sets = admin.get("/api/v1/sets").json();
    assert_eq!(sets[0]["unresolved"], json!([name]), "{sets}");
    asked_again(&server, 2);
    assert_eq!(reached(&scene).len(), 2);
    server.fail(false);
    assert_eq!(
        line(&mut scene, from, "is resolved again"),
        format!("set default: farm.test:{port} is resolved again")
    );
    resolved(true);
    assert_eq!(
        scene.viaduct.output()[from..].matches("cannot be").count(),
        1
    );
    // That there is no such name any more is no reason to send calls nowhere.
    let from = scene.viaduct.output().len();
    server.change("");
    let said = line(&mut scene, from, "cannot be resolved");
    assert!(
        said.contains(": there is no such name; it stays "),
        "{said}"
    );
    assert_eq!(reached(&scene).len(), 2);
    // Nor is a half.
    server.change("farm.test 1 A 127.0.0.72");
    line(&mut scene, from, &format!("is now 127.0.0.72:{port} (was"));
    assert_eq!(reached(&scene), ["127.0.0.72"]);
}

/// Demands that this is among what `ctl list` and `top` show.
#[track_caller]
fn lists_say(admin: &str, parts: &[&str]) {
    for args in [["ctl", "list"], ["top", "--once"]] {
        let mut viaduct = Command::new(support::program());
        let output = viaduct.args(args).args(["--admin", admin]).output();
        let output = output.expect("viaduct runs");
        let said = String::from_utf8(output.stdout).expect("text");
        for part in parts {
            assert!(said.contains(part), "{args:?}: {part}? {said}");
        }
    }
}

#[test]
fn a_name_that_is_not_there_at_the_start_is_told_and_found_later() {
    let (farm, port) = Peer::neighbours::<1>(71);
    let server = NameServer::start("");
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock").display().to_string();
    let name = format!("farm.test:{port}");
    let args = ["--listen", "127.0.0.1:0", "--admin", &admin, "--to", &name];
    let mut scene = scene(farm, &server, &args);
    let output = scene.viaduct.output();
    let said = format!(
        "warning: set default: farm.test:{port} cannot be resolved: there is no such name; \
         this name adds no destination until it is resolved\n"
    );
    let at = |part: &str| {
        output
            .find(part)
            .unwrap_or_else(|| panic!("{part} in {output}"))
    };
    assert!(at(&said) < at("ready:"), "{output}");
    assert!(output.contains("set default: 0 destinations"), "{output}");
    let answer = scene.answer(scene.request("INVITE").text());
    assert_eq!(status(&answer), 503);
    let missing = format!("  not resolved: {name}\n");
    let empty = "  no destination: new work gets 503 unless a rule takes it\n";
    lists_say(&admin, &[empty, &missing]);
    server.change("farm.test 60 A 127.0.0.71");
    line(
        &mut scene,
        0,
        &format!("farm.test:{port} is 127.0.0.71:{port}"),
    );
    assert_eq!(reached(&scene), ["127.0.0.71"]);
    let output = scene.viaduct.output();
    assert_eq!(output.matches("cannot be resolved").count(), 1);
}

#[test]
fn a_silent_name_server_delays_a_start_and_does_not_prevent_it() {
    let (farm, port) = Peer::neighbours::<1>(71);
    let server = NameServer::start("farm.test 60 A 127.0.0.71");
    let names = [
        format!("farm.silent.test:{port}"),
        format!("farm.test:{port}"),
    ];
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock").display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--admin", &admin];
    let args = [&args[..], &["--to", &names[0], "--to", &names[1]]].concat();
    let scene = scene(farm, &server, &args);
    let missing = format!("  not resolved: {}\n", names[0]);
    lists_say(&admin, &[&missing, &format!("127.0.0.71:{port}")]);
    let output = scene.viaduct.output();
    let about = |line: &&str| line.contains("farm.silent.test");
    let told: Vec<_> = output.lines().filter(about).collect();
    // Where the machine stood still, it has been called so before.
    let is_late = told.len() == 2 && told[0].contains("is not resolved yet");
    assert!(told.len() == 1 || is_late, "{output}");
    let nobody = |line: &&str| line.contains("this name adds no destination until it is resolved");
    assert!(told.iter().all(nobody), "{output}");
    assert_eq!(reached(&scene), ["127.0.0.71"]);
}

#[test]
fn the_families_of_the_listeners_are_asked_for() {
    let (four, six) = (Peer::new(V4), Peer::at(SocketAddr::from((V6, 0))));
    let (port, six_port) = (four.address().port(), six.address().port());
    let server = NameServer::start("farm.test 60 A 127.0.0.1\nfarm.test 60 AAAA ::1");
    let name = format!("farm.test:{six_port}");
    let scene_of_six = scene(vec![six], &server, &["--listen", "[::1]:0", "--to", &name]);
    let said = format!("set default: farm.test:{six_port} is [::1]:{six_port}\n");
    assert!(scene_of_six.viaduct.output().contains(&said));
    let caller = Peer::new(V6);
    let request = support::dialog::Request::new("INVITE", caller.address());
    caller.send(scene_of_six.front(), request.text());
    assert_eq!(
        read(scene_of_six.farm[0].receive()).call_id,
        request.call_id.into_bytes()
    );
    assert_eq!(server.asked_for(), ["farm.test AAAA"]);
    let name = format!("farm.test:{port}");
    let listen = [
        "--listen",
        "127.0.0.1:0",
        "--listen",
        "[::1]:0",
        "--to",
        &name,
    ];
    let scene_of_both = scene(vec![four], &server, &listen);
    let said = format!("farm.test:{port} is 127.0.0.1:{port}, [::1]:{port}\n");
    assert!(scene_of_both.viaduct.output().contains(&said));
}

#[test]
fn an_address_of_ipv4_in_the_form_of_ipv6_counts_where_a_listener_has_ipv4() {
    let server = NameServer::start("farm.test 60 AAAA ::ffff:127.0.0.1");
    for (listen, says) in [
        ("[::1]:0", "cannot be resolved: it has no address; "),
        ("127.0.0.1:0 --listen [::1]:0", "is 127.0.0.1:9\n"),
    ] {
        let args = format!("--to farm.test:9 --listen {listen}");
        let args: Vec<_> = args.split_whitespace().collect();
        let scene = scene(Vec::new(), &server, &args);
        let said = format!("set default: farm.test:9 {says}");
        let output = scene.viaduct.output();
        assert!(output.contains(&said), "{said}? {output}");
    }
}

/// Viaduct, whose farm.test is in `zone`, by the port that it and its member
/// both have; its own address, and that name.
fn by_our_port(zone: &str) -> (Scene, String, String) {
    let (farm, port) = Peer::neighbours::<1>(71);
    let server = NameServer::start(zone);
    let (own, name) = (format!("127.0.0.1:{port}"), format!("farm.test:{port}"));
    let scene = scene(farm, &server, &["--listen", &own, "--to", &name]);
    (scene, own, name)
}

#[test]
fn an_address_that_is_our_own_is_left_out() {
    let (scene, own, _) = by_our_port("farm.test 60 A 127.0.0.1\nfarm.test 60 A 127.0.0.71");
    let said = format!("warning: farm.test is {own} among others, a listener of ours");
    let output = scene.viaduct.output();
    assert!(output.contains(&said), "{output}");
    assert_eq!(reached(&scene), ["127.0.0.71"]);
}

#[test]
fn a_name_that_is_nothing_but_our_own_is_not_resolved() {
    let (scene, own, name) = by_our_port("farm.test 60 A 127.0.0.1");
    let said = format!("{name} cannot be resolved: {own} is a listener of ours; this name");
    let output = scene.viaduct.output();
    assert!(output.contains(&said), "{output}");
}

/// A configuration with these destinations.
fn config(destinations: &str) -> String {
    format!("listen = ['127.0.0.1:0']\n[[set]]\nname = 'farm'\ndestinations = {destinations}\n")
}

#[test]
fn after_a_reload_other_names_are_followed_and_no_call_is_lost_between() {
    let (farm, port) = Peer::neighbours::<3>(71);
    let server = NameServer::start(
        "one.test 1 A 127.0.0.71\ntwo.test 1 A 127.0.0.72\nthree.test 1 A 127.0.0.73",
    );
    let file = File::new(&config(&format!("['127.0.0.71:{port}']")));
    let path = file.path().display().to_string();
    let mut scene = scene(farm, &server, &["--config", &path]);
    assert!(server.asked().is_empty());
    let reload = |scene: &mut Scene, destinations: &str| {
        let from = scene.viaduct.output().len();
        file.write(&config(destinations));
        scene.viaduct.signal(Signal::HUP);
        line(scene, from, "reload")
    };
    let said = reload(
        &mut scene,
        &format!("['one.test:{port}', 'two.test:{port}']"),
    );
    assert!(said.contains("1 added, 0 removed"), "{said}");
    assert_eq!(reached(&scene), ["127.0.0.71", "127.0.0.72"]);
    let said = reload(
        &mut scene,
        &format!("['three.test:{port}', 'two.test:{port}']"),
    );
    assert!(said.contains("1 added, 1 removed"), "{said}");
    assert_eq!(reached(&scene), ["127.0.0.72", "127.0.0.73"]);
    // What is no longer there is no longer asked for.
    asked_again(&server, 4);
    let before = server.asked().len();
    asked_again(&server, 4);
    let asked = server.asked().split_off(before);
    assert!(!asked.contains(&"one.test A".to_owned()), "{asked:?}");
    assert!(asked.contains(&"two.test A".to_owned()), "{asked:?}");
    // A refused one changes nothing of what is followed.
    let said = reload(&mut scene, "['one.test:5070']\n[[set]]\nname = 'farm'");
    assert!(said.contains("refused"), "{said}");
    // Nor is anything asked for where an upgrade is needed.
    let upgrade = format!("['one.test:{port}']\n[log]\nformat = 'json'");
    let before = server.asked().len();
    let said = reload(&mut scene, &upgrade);
    assert!(said.contains("refused"), "{said}");
    let asked = server.asked().split_off(before);
    assert!(!asked.contains(&"one.test A".to_owned()), "{asked:?}");
    let from = scene.viaduct.output().len();
    server.change("three.test 1 A 127.0.0.71\ntwo.test 1 A 127.0.0.71");
    line(&mut scene, from, "three.test");
    line(&mut scene, from, "two.test");
    assert_eq!(reached(&scene), ["127.0.0.71"]);
}

#[test]
fn a_drained_address_that_leaves_and_comes_back_is_drained_also_after_a_reload() {
    let (farm, port) = Peer::neighbours::<2>(71);
    let both = "farm.test 1 A 127.0.0.71\nfarm.test 1 A 127.0.0.72";
    let server = NameServer::start(both);
    let file = File::new(&config(&format!("['farm.test:{port}']")));
    let path = file.path().display().to_string();
    let socket = file.folder().join("admin.sock").display().to_string();
    let mut scene = scene(farm, &server, &["--config", &path, "--admin", &socket]);
    let admin = Admin::of(&scene.viaduct);
    let address = format!("127.0.0.71:{port}");
    let drain = json!({"destination": address, "state": "draining"});
    admin
        .post("/api/v1/destinations/state", &drain)
        .assert_done();
    let effective = admin.get("/api/v1/config").body;
    let drained = format!(r#"{{ state = "draining", uri = "{address}" }}"#);
    assert!(effective.contains(&drained), "{effective}");
    good(&effective);
    for upgrade in [false, true] {
        let from = scene.viaduct.output().len();
        server.change("farm.test 1 A 127.0.0.72");
        line(&mut scene, from, "is now");
        let (signal, done) = match upgrade {
            true => (Signal::USR2, "ready:"),
            false => (Signal::HUP, "reloaded:"),
        };
        scene.viaduct.signal(signal);
        line(&mut scene, from, done);
        let from = scene.viaduct.output().len();
        server.change(both);
        line(&mut scene, from, &format!("is now {address}"));
        assert_eq!(reached(&scene), ["127.0.0.72"]);
    }
}

#[test]
fn after_an_upgrade_a_look_up_that_fails_changes_nothing_either() {
    let (farm, port) = Peer::neighbours::<2>(71);
    let hosts = |second: &str| {
        format!(
            "_sip._udp.farm.test 1 SRV 10 1 {port} one.test
             _sip._udp.farm.test 1 SRV 10 1 {port} {second}
             one.test 1 A 127.0.0.71
             two.test 1 A 127.0.0.72"
        )
    };
    let server = NameServer::start(&hosts("two.test"));
    let mut scene = listening(farm, &server, &["farm.test"]);
    let stays = format!("it stays 127.0.0.71:{port}, 127.0.0.72:{port}");
    // Nothing is answered, and then one host of two.
    for half in [false, true] {
        let from = scene.viaduct.output().len();
        server.fail(!half);
        server.change(&hosts(if half { "two.silent.test" } else { "two.test" }));
        scene.viaduct.signal(Signal::USR2);
        line(&mut scene, from, "ready:");
        let upgraded = scene.viaduct.output().rfind("upgraded:");
        let from = upgraded.expect("it says so");
        let said = line(&mut scene, from, "cannot be resolved");
        assert!(said.ends_with(&stays), "{said}");
        assert_eq!(reached(&scene), ["127.0.0.71", "127.0.0.72"]);
    }
}

#[test]
fn a_dry_run_says_which_names_it_does_not_count() {
    let (farm, port) = Peer::neighbours::<2>(71);
    let server = NameServer::start("one.test 60 A 127.0.0.71\ntwo.test 60 A 127.0.0.72");
    let file = File::new(&config(&format!("['one.test:{port}']")));
    let path = file.path().display().to_string();
    let socket = file.folder().join("admin.sock").display().to_string();
    let scene = scene(farm, &server, &["--config", &path, "--admin", &socket]);
    let admin = Admin::of(&scene.viaduct);
    file.write(&config(&format!("['one.test:{port}', 'two.test:{port}']")));
    let said = |dry_run| {
        let asked = json!({"dry_run": dry_run});
        let done = admin.post("/api/v1/reload", &asked).assert_done();
        done["said"].as_str().expect("a text").to_owned()
    };
    let not_counted = format!(
        "0 added, 0 removed, 0 changed; \
         set farm: the addresses of two.test:{port} are not known yet and not counted"
    );
    let would = said(true);
    assert!(would.ends_with(&not_counted), "{would}");
    assert!(!server.asked().contains(&"two.test A".to_owned()));
    let done = said(false);
    assert!(done.ends_with("1 added, 0 removed, 0 changed"), "{done}");
    file.write(&config("['gone.test']"));
    let done = admin.post("/api/v1/reload", &json!({})).assert_done();
    let said = done["said"].as_str().expect("a text");
    assert!(said.ends_with("calls are answered 503 unless a failure rule takes them"));
    let warning = &done["warnings"][0]["message"];
    assert_eq!(warning, "set farm: gone.test is not resolved");
}
