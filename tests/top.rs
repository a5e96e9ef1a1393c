//! `viaduct top` before a running instance: as text, as JSON, and live on a
//! terminal; and the progress of `viaduct ctl drain` there.

use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use support::dialog::{Peer, Request, Scene};
use support::process::Signal;
use support::viaduct::Viaduct;
use support::{LONG, wait_until};

/// A farm of two with an admin socket.
fn scene() -> (Scene, String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock").display().to_string();
    let scene = Scene::new(2, &["--admin", &socket]);
    (scene, socket, folder)
}

fn top(admin: &str, args: &[&str]) -> Output {
    let mut command = Command::new(support::program());
    command.args(["top", "--admin", admin, "--interval", "1s"]);
    command.args(args).env("COLUMNS", "160");
    command.output().expect("viaduct top")
}

/// What it prints while calls are made.
fn top_of_calls(scene: &Scene, admin: &str, args: &[&str]) -> String {
    let output = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| top(admin, args));
        while !watcher.is_finished() {
            scene.pass(scene.request("INVITE").text());
        }
        watcher.join().expect("the watcher")
    });
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn one_look_is_plain_text_with_every_destination_and_worker() {
    let (scene, admin, _folder) = scene();
    // Something that is dropped, and that was seen.
    scene.send("no SIP at all\r\n\r\n");
    let text = top_of_calls(&scene, &admin, &["--once"]);
    let address = |member: &Peer| member.address().to_string();
    for fact in [
        "ready",
        "set default",
        "workers",
        "not-sip",
        &address(&scene.farm[1]),
    ] {
        assert!(text.contains(fact), "no {fact} in\n{text}");
    }
    let line = text
        .lines()
        .find(|line| line.contains(&address(&scene.farm[0])));
    let line = line.unwrap_or_else(|| panic!("{text}"));
    assert!(
        line.contains("AX active") && line.contains("50 %"),
        "{text}"
    );
    let calls = text.lines().find_map(|line| line.strip_prefix("calls "));
    let per_second = calls.and_then(|rest| rest.split_once(" INVITE/s"));
    let (per_second, _) = per_second.unwrap_or_else(|| panic!("{text}"));
    let per_second: f64 = (per_second.trim().replace(',', "").parse())
        .unwrap_or_else(|error| panic!("{error}: {text}"));
    assert!(per_second > 0.0, "{text}");
    assert!(
        !text.contains('\u{1b}'),
        "no codes for a terminal: {text:?}"
    );
}

#[test]
fn a_line_of_json_has_the_rates_of_an_interval() {
    let (scene, admin, _folder) = scene();
    let text = top_of_calls(&scene, &admin, &["--once", "--json"]);
    assert_eq!(text.lines().count(), 1, "{text}");
    let rates: Value = serde_json::from_str(&text).expect("JSON");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{rates:#}"));
    assert!(number(&rates["seconds"]) >= 0.9, "{rates:#}");
    assert!(number(&rates["calls_per_second"]) > 0.0, "{rates:#}");
    let destinations = rates["sets"][0]["destinations"].as_array().expect("a list");
    let shares = destinations.iter().map(|of| number(&of["share"]));
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-6, "{rates:#}");
    assert_eq!(destinations[0]["due"], 0.5, "{rates:#}");
}

#[test]
fn who_is_not_there_is_told_with_what_to_do() {
    let output = top("/nonexistent/admin.sock", &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("/nonexistent/admin.sock") && said.contains("help: "),
        "{said}"
    );
}

/// A terminal of 80 by 24 that a program runs in.
struct Terminal(TempDir);

impl Terminal {
    fn run(program: &str) -> Self {
        let terminal = Self(tempfile::tempdir().expect("a folder"));
        terminal.tmux(&[
            "new-session",
            "-d",
            "-x",
            "80",
            "-y",
            "24",
            "-s",
            "top",
            program,
        ]);
        terminal
    }

    /// With a server of its own, whose socket is in our folder.
    fn tmux(&self, args: &[&str]) -> Output {
        let socket = self.0.path().join("tmux");
        let output = Command::new("tmux")
            .arg("-S")
            .arg(socket)
            .args(["-f", "/dev/null"])
            .args(args)
            .output();
        output.expect("tmux runs (scripts/install-tools installs it)")
    }

    fn press(&self, key: &str) {
        assert!(self.tmux(&["send-keys", "-t", "top", key]).status.success());
    }

    fn screen(&self) -> String {
        let screen = self.tmux(&["capture-pane", "-p", "-t", "top"]);
        String::from_utf8_lossy(&screen.stdout).into_owned()
    }

    /// Waits until the screen has this; what it has then.
    #[track_caller]
    fn wait_for(&self, text: &str) -> String {
        let end = Instant::now() + LONG;
        loop {
            let screen = self.screen();
            if screen.contains(text) {
                return screen;
            }
            assert!(Instant::now() < end, "no {text} on\n{screen}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn on_a_terminal_it_lives_listens_to_keys_and_outlives_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock").display().to_string();
    let farm = Peer::new(support::net::V4);
    let to = farm.address().to_string();
    let run = || Viaduct::start(&["--listen", "127.0.0.1:0", "--to", &to, "--admin", &socket]);
    let viaduct = run();
    let program = support::program();
    let program = program.display();
    let terminal = Terminal::run(&format!("{program} top --admin {socket} --interval 200ms"));
    terminal.wait_for(&to);

    let caller = Peer::new(support::net::V4);
    caller.send(viaduct.address(0), "no SIP at all\r\n\r\n");
    terminal.wait_for("not-sip");
    let request = Request::new("INVITE", caller.address());
    caller.send(viaduct.address(0), request.text());
    farm.receive();

    terminal.press("s");
    terminal.wait_for("sort: requests");
    terminal.press("?");
    terminal.wait_for("keys and words");
    terminal.press("p");
    terminal.wait_for("paused");
    terminal.press("p");

    // It is there, and answers nobody.
    viaduct.signal(Signal::STOP);
    terminal.wait_for(" s old: not reachable: ");
    terminal.wait_for(": timed out");
    viaduct.signal(Signal::CONT);
    viaduct.stop();
    terminal.wait_for(": No such file");
    let viaduct = run();
    terminal.wait_for("dropped                       nothing");
    terminal.press("q");
    wait_until("its end", || {
        let session = terminal.tmux(&["has-session", "-t", "top"]);
        !session.status.success()
    });
    viaduct.stop();
}

#[test]
fn on_a_terminal_that_is_dumb_it_is_plain_text() {
    let (_scene, admin, _folder) = scene();
    let program = support::program();
    let program = program.display();
    let top = format!("TERM=dumb {program} top --admin {admin} --interval 100ms");
    let terminal = Terminal::run(&format!("sh -c '{top}; echo It is over; sleep 60'"));
    terminal.wait_for("It is over");
}

#[test]
fn whoever_ends_it_finds_the_terminal_as_it_was() {
    let (scene, admin, _folder) = scene();
    let program = support::program();
    let program = program.display();
    let top = format!("{program} top --admin {admin} --interval 100ms");
    let modes = "stty -a | grep -e -icanon || echo It is over";
    let terminal = Terminal::run(&format!("sh -c '{top}; {modes}; sleep 60'"));
    terminal.wait_for(&scene.farm[0].address().to_string());
    let shell = terminal.tmux(&["display-message", "-p", "-t", "top", "#{pane_pid}"]);
    let shell = String::from_utf8(shell.stdout).expect("text");
    let shell = shell.trim();
    let kill = format!("kill -TERM $(cat /proc/{shell}/task/{shell}/children)");
    let killed = Command::new("sh").args(["-c", &kill]).status();
    assert!(killed.expect("a shell").success());
    terminal.wait_for("It is over");
}

#[test]
fn the_progress_of_a_drain_stays_on_a_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let admin = folder.path().join("admin.sock").display().to_string();
    // The longest address that there is.
    let to = "[2001:db8:1111:2222:3333:4444:5555:6666]:50600";
    let viaduct = Viaduct::start(&["--listen", "[::1]:0", "--to", to, "--admin", &admin]);
    let program = support::program();
    let program = program.display();
    let drain = format!("{program} ctl --admin {admin} drain {to} --wait");
    let twice = format!("{drain} 4s; echo It is over; {drain}");
    let terminal = Terminal::run(&format!("sh -c '{twice}; echo It failed; sleep 60'"));
    terminal.wait_for(" of 4s");
    let screen = terminal.wait_for("It is over");
    assert!(!screen.contains(" of 4s"), "{screen}");
    let first = terminal.wait_for(" of 15m");
    wait_until("another look", || terminal.screen() != first);
    let screen = terminal.screen();
    assert_eq!(screen.matches("dialogs silent").count(), 1, "{screen}");
    viaduct.stop();
    let screen = terminal.wait_for("It failed");
    assert!(!screen.contains(" of 15m"), "{screen}");
}
