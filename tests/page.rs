//! The status page in a real browser: what it shows, that it lives, what its
//! buttons do to the farm, and that it is fit for a phone.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use support::admin::Admin;
use support::browser::Browser;
use support::dialog::{Scene, response};
use support::net::{V4, free_addresses};
use support::sipp::{Load, Scenario, Sipp};
use support::viaduct::Viaduct;
use support::{LONG, light_load};

const DESKTOP: (u32, u32) = (1280, 1000);
const PHONE: (u32, u32) = (390, 844);

const TOKEN: &str = "a token of the test";

/// The buttons of the first destination.
const ENABLE: &str = "#sets tbody tr:first-child button:nth-child(1)";
const DRAIN: &str = "#sets tbody tr:first-child button:nth-child(2)";
const OUTCOME: &str = "#outcome";

/// A farm of two with an admin address, and a browser at its page.
struct Watch {
    scene: Scene,
    browser: Browser,
    _folder: TempDir,
}

/// A token file in a folder.
fn token_file() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    fs::write(&path, TOKEN).expect("the token file");
    (folder, path)
}

fn url(viaduct: &Viaduct) -> String {
    let tcp = |admin| match admin {
        Admin::Tcp(address) => Some(address),
        Admin::Socket(_) => None,
    };
    let address: SocketAddr = Admin::all(viaduct).into_iter().find_map(tcp).expect("TCP");
    format!("http://{address}/")
}

impl Watch {
    fn at(size: (u32, u32), args: &[&str]) -> Self {
        let (folder, token) = token_file();
        let token = token.to_string_lossy();
        let admin = [
            "--admin-listen",
            "127.0.0.1:0",
            "--admin-token-file",
            &token,
        ];
        let scene = Scene::new(2, &[&admin, args].concat());
        let browser = Browser::start(size);
        browser.open(&url(&scene.viaduct));
        browser.wait("table of destinations", |page| {
            page.text("#sets")
                .contains(&scene.farm[0].address().to_string())
        });
        Self {
            scene,
            browser,
            _folder: folder,
        }
    }

    fn give_token(&self, token: &str) {
        self.browser.type_into("#token", token);
        self.browser.click("#token-form button[type=submit]");
    }

    /// Clicks on a button, and on the one that confirms it.
    fn click_and_confirm(&self, button: &str) {
        self.browser.click(button);
        self.browser.click("#yes");
    }

    #[track_caller]
    fn wait_for_text(&self, css: &str, text: &str) {
        self.browser
            .wait(text, |page| page.text(css).contains(text));
    }

    /// How many of `count` new calls came to each member.
    fn calls(&self, count: usize) -> Vec<usize> {
        self.scene.shares(count)
    }

    /// The browser has nothing to complain of.
    #[track_caller]
    fn assert_quiet(&self) {
        assert_eq!(self.browser.console(), [""; 0]);
    }
}

#[test]
fn the_page_loads_and_shows_the_facts() {
    let watch = Watch::at(DESKTOP, &[]);
    let page = watch.browser.text("body");
    let version = env!("CARGO_PKG_VERSION");
    for fact in [
        version,
        "ready",
        "generation 1",
        "Set default",
        "hash by call-id",
        "AX active",
    ] {
        assert!(page.contains(fact), "no {fact} in\n{page}");
    }
    for member in &watch.scene.farm {
        assert!(page.contains(&member.address().to_string()), "{page}");
    }
    let headers = watch
        .browser
        .value("document.querySelectorAll('#sets th[scope=col]').length");
    assert_eq!(headers, 10);
    watch.assert_quiet();
}

#[test]
fn the_page_comes_with_a_policy_that_admits_nothing_else() {
    let watch = Watch::at(DESKTOP, &[]);
    let admin = Admin::all(&watch.scene.viaduct).swap_remove(0);
    let policies = [admin.get("/"), admin.get("/")].map(|answer| {
        let policy = answer.header("content-security-policy").expect("a policy");
        policy.to_owned()
    });
    assert!(
        policies[0].starts_with("default-src 'none'; script-src 'nonce-"),
        "{policies:?}"
    );
    assert!(!policies[0].contains("unsafe"), "{policies:?}");
    assert_ne!(policies[0], policies[1], "a nonce is for one answer");
    // What somebody smuggles into the page does not run.
    watch.browser.value(
        "(() => { const it = document.createElement('script'); it.textContent = 'window.smuggled = 1'; \
         document.body.append(it); })()",
    );
    assert_eq!(watch.browser.value("window.smuggled ?? null"), Value::Null);
    let complaints = watch.browser.console();
    assert!(
        complaints
            .iter()
            .any(|line| line.contains("Content Security Policy")),
        "{complaints:?}"
    );
}

#[test]
fn numbers_change_without_a_reload() {
    let watch = Watch::at(DESKTOP, &[]);
    watch.browser.value("window.loaded = 1");
    let (member, got) = watch.scene.pass(watch.scene.request("INVITE").text());
    let answer = response(&got, "486 Busy Here", "t");
    watch.scene.farm[member].send(watch.scene.front(), answer);
    watch.scene.caller.receive();
    // Rates are of an instant; that it was seen stays.
    let row = member + 1;
    let seen = format!("#sets tbody tr:nth-child({row}) td[data-label='Last seen']");
    assert_eq!(
        watch.browser.text("#sets td[data-label='In a dialog']"),
        "never"
    );
    watch
        .browser
        .wait("age", |page| page.text(&seen) != "never");
    // A call every now and then until one is in the figure.
    let end = Instant::now() + LONG;
    while ["0", "-"].contains(&watch.browser.text("#calls").as_str()) {
        assert!(
            Instant::now() < end,
            "no calls in {}",
            watch.browser.text("body")
        );
        watch.calls(5);
    }
    watch.scene.send("no SIP at all\r\n\r\n");
    watch.wait_for_text("#dropped", "not-sip");
    assert_eq!(
        watch.browser.value("window.loaded"),
        1,
        "it was not loaded again"
    );
    watch.assert_quiet();
}

#[test]
fn a_destination_is_drained_by_a_click_and_gets_no_new_call() {
    let watch = Watch::at(DESKTOP, &[]);
    assert_eq!(
        watch
            .browser
            .value(&format!("document.querySelector('{DRAIN}').disabled")),
        true
    );
    watch.give_token(TOKEN);
    assert!(watch.calls(40).iter().all(|calls| *calls > 0));

    // Who does not confirm has changed nothing.
    watch.browser.click(DRAIN);
    watch.browser.click("#confirm button[value=no]");
    assert_eq!(watch.browser.text(OUTCOME), "");

    watch.click_and_confirm(DRAIN);
    watch.wait_for_text(OUTCOME, "Done: ");
    watch.wait_for_text("#sets", "IX draining");
    assert_eq!(watch.calls(40), [0, 40]);

    watch.click_and_confirm(ENABLE);
    watch.browser.wait("end of the drain", |page| {
        !page.text("#sets").contains("IX")
    });
    assert!(watch.calls(40).iter().all(|calls| *calls > 0));
    watch.assert_quiet();
}

#[test]
fn a_wrong_token_is_told_and_changes_nothing() {
    let watch = Watch::at(DESKTOP, &[]);
    watch.give_token("a wrong one");
    watch.click_and_confirm(DRAIN);
    watch.wait_for_text(OUTCOME, "Not done: this is not the token");
    assert!(watch.calls(40).iter().all(|calls| *calls > 0));
    // It is kept for this tab alone.
    assert_eq!(watch.browser.value("localStorage.length"), 0);
    assert_eq!(watch.browser.value("sessionStorage.token"), "a wrong one");
    watch.browser.click("#forget");
    assert_eq!(watch.browser.value("sessionStorage.length"), 0);
}

#[test]
fn what_operators_write_is_text_and_nothing_else() {
    let watch = Watch::at(DESKTOP, &[]);
    // As an instance would tell it whose names somebody hostile has written.
    watch.browser.value(
        "(() => { const ask = window.fetch; window.fetch = async (...of) => { \
           const status = await (await ask(...of)).json(); \
           status.sets[0].name = '<img src=x onerror=\"window.smuggled=1\">'; \
           status.sets[0].destinations[0].cause = '<b>bold</b>'; \
           return new Response(JSON.stringify(status)); }; })()",
    );
    watch.wait_for_text("#sets", "<img src=x");
    watch.wait_for_text("#sets", "<b>bold</b>");
    assert_eq!(
        watch
            .browser
            .value("document.querySelectorAll('#sets img, #sets td b:not(.bar b)').length"),
        0
    );
    watch.assert_quiet();
}

#[test]
fn a_phone_has_one_column_large_buttons_and_nothing_beyond_its_edge() {
    let watch = Watch::at(PHONE, &[]);
    watch.give_token(TOKEN);
    watch.calls(10);
    let page = &watch.browser;
    assert_eq!(page.value("innerWidth"), PHONE.0);
    let width = page.value("document.documentElement.scrollWidth");
    assert_eq!(width, PHONE.0, "what can be scrolled sideways");
    let columns = page.value(
        "getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length",
    );
    assert_eq!(columns, 1);
    let heights = "Math.min(...[...document.querySelectorAll('main button:not([hidden])')].map(b => b.offsetHeight))";
    assert!(
        page.value(heights).as_f64() >= Some(44.0),
        "{}",
        page.value(heights)
    );
    watch.click_and_confirm(DRAIN);
    watch.wait_for_text("#sets", "IX draining");
    watch.assert_quiet();
}

#[test]
fn no_width_leaves_anything_beyond_the_edge() {
    for width in [320, 700, 1100, 1280] {
        let watch = Watch::at((width, 900), &[]);
        let beyond = "[document.documentElement, ...document.querySelectorAll('section')].filter(s => s.scrollWidth > s.clientWidth).length";
        assert_eq!(watch.browser.value(beyond), 0, "at {width}");
    }
}

#[test]
fn an_instance_that_has_gone_is_told_and_found_again() {
    let [admin, listener] = free_addresses(V4);
    let run = || {
        Viaduct::start(&[
            "--listen",
            &listener.to_string(),
            "--to",
            "127.0.0.1:9",
            "--admin-listen",
            &admin.to_string(),
        ])
    };
    let viaduct = run();
    let browser = Browser::start(DESKTOP);
    browser.open(&url(&viaduct));
    browser.wait("fact", |page| page.text("#ready") == "ready");
    viaduct.stop();
    browser.wait("trouble", |page| {
        page.text("#trouble").contains("Not reachable")
    });
    let viaduct = run();
    browser.wait("end of the trouble", |page| {
        page.value("document.getElementById('trouble').hidden") == true
    });
    assert_eq!(browser.text("#ready"), "ready");
    viaduct.stop();
}

/// A farm as an operator sees it: four sipps take what a fifth calls; of the
/// next set nobody answers.
fn farm_at_work() -> (Viaduct, Vec<Sipp>, TempDir) {
    let (folder, token) = token_file();
    let servers: [SocketAddr; 4] =
        [2, 3, 4, 5].map(|host| SocketAddr::from(([127, 0, 5, host], 5060)));
    let text = "listen = ['127.0.5.1:5060']\nworkers = 2\nstateful = ['INVITE']\n\
        [[set]]\nname = 'phones'\ndestinations = ['sip:127.0.5.2;weight=2', 'sip:127.0.5.3', \
        'sip:127.0.5.4', 'sip:127.0.5.5;weight=2']\n[[set]]\nname = 'voicemail'\n\
        destinations = ['sip:127.0.5.6']\n[[route]]\nset = 'voicemail'\nuser-prefix = ['mailbox']\n";
    let file = folder.path().join("viaduct.toml");
    fs::write(&file, text).expect("the configuration");
    let mut sipps: Vec<_> = servers
        .map(|at| Sipp::server(Scenario::Ours("probed_uas.xml"), at))
        .into();
    let viaduct = Viaduct::start(&[
        "--config",
        &file.to_string_lossy(),
        "--health",
        "on",
        "--admin-listen",
        "127.0.5.1:0",
        "--admin-token-file",
        &token.to_string_lossy(),
    ]);
    let load = Load::new(20_000, 200);
    let caller = SocketAddr::from(([127, 0, 5, 9], 5060));
    sipps.push(Sipp::caller(
        Scenario::BuiltIn("uac"),
        caller,
        viaduct.address(0),
        load,
    ));
    (viaduct, sipps, folder)
}

/// `scripts/screenshots` runs this.
#[test]
#[ignore = "it checks nothing: it makes the pictures in docs"]
fn pictures() {
    let _load = light_load();
    let (viaduct, _sipps, _folder) = farm_at_work();
    let docs = support::repository().join("docs");
    let sizes = [
        ("status-page.png", (1280, 1200)),
        ("status-page-phone.png", (390, 1570)),
    ];
    let browsers = sizes.map(|(name, size)| (name, Browser::start(size)));
    for (_, browser) in &browsers {
        browser.open(&url(&viaduct));
    }
    let (_, desktop) = &browsers[0];
    desktop.type_into("#token", TOKEN);
    desktop.click("#token-form button[type=submit]");
    desktop.wait("half a line", |page| {
        page.value("calls.length >= 25") == true
    });
    desktop.click("#sets tbody tr:nth-child(3) button:nth-child(2)");
    desktop.click("#yes");
    desktop.wait("line", |page| page.value("calls.length >= 50") == true);
    for (name, browser) in &browsers {
        browser.screenshot(&docs.join(name));
    }
    let at = url(&viaduct);
    let top = Command::new(support::program())
        .args(["top", "--once", "--admin", at.trim_end_matches('/')])
        .env("COLUMNS", "130")
        .output();
    let top = top.expect("viaduct top").stdout;
    write_between(
        &docs.join("watching.md"),
        ["<!-- top begin -->", "<!-- top end -->"],
        &format!("\n```\n{}```\n", String::from_utf8_lossy(&top)),
    );
}

/// Puts `text` between two marks of a file.
fn write_between(path: &Path, [begin, end]: [&str; 2], text: &str) {
    let old = fs::read_to_string(path).expect("the file");
    let (before, rest) = old.split_once(begin).expect("the first mark");
    let (_, after) = rest.split_once(end).expect("the second mark");
    fs::write(path, format!("{before}{begin}{text}{end}{after}")).expect("the file");
}
