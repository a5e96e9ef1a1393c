//! What goes wrong once the check of an upgrade has consented: the next program
//! says so, and calls go on.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use serde_json::json;

use support::admin;
use support::dialog::{Peer, Request};
use support::net::{V4, free_addresses};
use support::process::{Signal, in_a_network_of_its_own};
use support::upgrading::{
    File, config, next_line, no_upgrade, put_ours, put_script, start_copy, upgrade,
};
use support::viaduct::Viaduct;
use support::wait_until;

/// An instance that keeps something in a folder, which goes away between the
/// check and the start of the next program.
struct Bereft {
    viaduct: Viaduct,
    peer: Peer,
    _file: File,
}

impl Bereft {
    /// `flag` names what it keeps there.
    fn new(flag: &str) -> Self {
        let [front] = free_addresses(V4);
        let peer = Peer::new(V4);
        let file = File::new(&config(&[front], 2, &[peer.address()]));
        let kept = file.folder().join("kept");
        fs::create_dir(&kept).expect("a folder");
        let place = kept.join("it").display().to_string();
        let (viaduct, program) = start_copy(&file, &[flag, &place]);
        put_script(
            &program,
            &format!(
                "[ \"$1\" = check ] || rm -r {}\nexec {} \"$@\"",
                kept.display(),
                support::program().display()
            ),
        );
        // A secret file that is there would be read.
        if flag == "--secret-file" {
            fs::remove_file(place).expect("a file");
        }
        Self {
            viaduct,
            peer,
            _file: file,
        }
    }

    /// Upgrades; it says this, and calls get through.
    fn upgrade(mut self, says: &str) {
        upgrade(&mut self.viaduct);
        let output = self.viaduct.output();
        assert!(output.contains(says), "no {says} in\n{output}");
        let caller = Peer::new(V4);
        let request = Request::new("OPTIONS", caller.address());
        caller.send(self.viaduct.address(0), request.text());
        self.peer.receive();
        self.viaduct.stop();
    }
}

#[test]
fn a_secret_that_cannot_be_kept_goes_on_all_the_same() {
    let says =
        "warning: the secret is not kept, and calls in set-up break at a restart: secret file ";
    Bereft::new("--secret-file").upgrade(says);
}

#[test]
fn an_admin_socket_that_cannot_be_made_ends_no_call() {
    let says = "error: there is no admin API until the next upgrade (SIGUSR2): admin socket ";
    Bereft::new("--admin").upgrade(says);
}

#[test]
fn an_admin_address_that_was_not_to_be_had_is_tried_by_the_next_check() {
    let [front, taken] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let (mut viaduct, program) = start_copy(&file, &[]);
    let other = TcpListener::bind(taken).expect("a socket");
    let real = support::program().display().to_string();
    put_script(
        &program,
        &format!(
            "[ \"$1\" = check ] && exec {real} \"$@\"\nexec {real} \"$@\" --admin-listen {taken}"
        ),
    );
    upgrade(&mut viaduct);
    let why = format!("cannot listen on http://{taken}: ");
    let says = format!("error: there is no admin API until the next upgrade (SIGUSR2): {why}");
    assert!(viaduct.output().contains(&says), "{}", viaduct.output());
    no_upgrade(&mut viaduct, "upgrade refused, all stays as it is", &why);
    drop(other);
    upgrade(&mut viaduct);
    let has_it = format!("admin: http://{taken}");
    assert!(viaduct.output().contains(&has_it), "{}", viaduct.output());
    viaduct.stop();
}

/// An upgrade to `next` is refused for `why` where its check, and nothing else,
/// meets what strace puts in; then it goes through.
fn seen_beforehand(text: &str, next: &str, inject: &str, why: &str) {
    let file = File::new(text);
    let (mut viaduct, program) = start_copy(&file, &[]);
    file.write(next);
    let real = support::program().display().to_string();
    let fault = format!("strace -f --seccomp-bpf -o /dev/null -e inject={inject}");
    put_script(
        &program,
        &format!("[ \"$1\" = check ] && exec {fault} {real} \"$@\"\nexec {real} \"$@\""),
    );
    no_upgrade(&mut viaduct, "upgrade refused, all stays as it is", why);
    put_ours(&program);
    upgrade(&mut viaduct);
    viaduct.stop();
}

#[test]
fn a_mirror_that_cannot_be_started_is_seen_beforehand() {
    let [front] = free_addresses(V4);
    let text = config(&[front], 1, &[Peer::new(V4).address()]);
    let next = format!("{text}[mirror]\nto = '127.0.0.1:9'\n");
    let why = "cannot start the mirror: Address already in use";
    seen_beforehand(&text, &next, "bind:error=EADDRINUSE", why);
}

#[test]
fn threads_of_more_workers_that_are_not_to_be_had_are_seen_beforehand() {
    let [front] = free_addresses(V4);
    let text = |workers| config(&[front], workers, &[Peer::new(V4).address()]);
    let why = "cannot start a thread: Resource temporarily unavailable";
    seen_beforehand(&text(1), &text(2), "clone,clone3:error=EAGAIN", why);
}

/// Its file is written in two steps, say.
#[test]
fn a_file_that_is_being_edited_ends_no_call() {
    let [front] = free_addresses(V4);
    let (peer, caller) = (Peer::new(V4), Peer::new(V4));
    let good = config(&[front], 1, &[peer.address()]);
    let file = File::new(&good);
    let (mut viaduct, program) = start_copy(&file, &[]);
    put_script(
        &program,
        &format!(
            "[ \"$1\" = check ] || echo \"wokers = 'many'\" > {}\nexec {} \"$@\"",
            file.path().display(),
            support::program().display()
        ),
    );
    next_line(&mut viaduct, "ready:", |viaduct| {
        viaduct.signal(Signal::USR2);
        wait_until("what is wrong", || viaduct.output().contains("wokers"));
        caller.send(front, Request::new("OPTIONS", caller.address()).text());
        file.write(&good);
    });
    peer.receive();
    viaduct.stop();
}

/// Whoever asks for an upgrade hears what became of it.
#[test]
fn ctl_waits_for_the_next_program() {
    let [front] = free_addresses(V4);
    let file = File::new(&config(&[front], 1, &[Peer::new(V4).address()]));
    let socket = file.folder().join("admin.sock").display().to_string();
    let (viaduct, program) = start_copy(&file, &["--admin", &socket]);
    let ctl = || admin::ctl(&socket, &["upgrade"]).output().expect("an end");
    let output = ctl();
    assert!(output.status.success(), "{output:?}");
    let said = viaduct.output();
    assert_eq!(said.matches("upgraded:").count(), 1, "{said}");
    put_script(
        &program,
        &format!(
            "[ \"$1\" = run ] || exec {} \"$@\"",
            support::program().display()
        ),
    );
    let output = ctl();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    viaduct.ended();
}

/// Before a fake instance whose clock is set back while it upgrades.
#[test]
fn ctl_takes_no_program_for_the_next_one_by_the_clock() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let life = |time, uptime: f64| {
        json!({"time": time, "uptime_seconds": uptime, "ready": true}).to_string()
    };
    let done = json!({
        "said": "upgrading", "generation": 1, "differences": [], "rules": [], "settings": [],
        "moved": [], "warnings": [],
    });
    let answers = [
        ("\r\n\r\n", life(7_200, 100.0)),
        ("{}", done.to_string()),
        ("\r\n\r\n", life(3_600, 100.1)),
        ("\r\n\r\n", life(3_600, 0.01)),
    ];
    let (tell, answered) = mpsc::channel();
    std::thread::spawn(move || {
        for (end, answer) in answers {
            let (mut stream, _) = listener.accept().expect("a question");
            let mut asked = Vec::new();
            while !asked.ends_with(end.as_bytes()) {
                let mut octets = [0; 1024];
                let length = stream.read(&mut octets).expect("a question");
                asked.extend(&octets[..length]);
            }
            tell.send(()).expect("who counts");
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
            let written = stream.write_all((head + &answer).as_bytes());
            written.expect("who asked");
        }
    });
    let output = admin::ctl(&socket, &["upgrade"]).output().expect("an end");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(answered.try_iter().count(), 4);
}

#[test]
fn a_kernel_that_takes_no_program_any_more_reaches_all_workers() {
    in_a_network_of_its_own("ip link set lo up", "where_the_kernel_takes_no_program");
}

#[test]
#[ignore = "runs in a network namespace of its own, started by the test above"]
fn where_the_kernel_takes_no_program() {
    let [front] = free_addresses(V4);
    let peer = Peer::new(V4);
    let text = |workers| config(&[front], workers, &[peer.address()]);
    let file = File::new(&text(2));
    let mut viaduct = Viaduct::start(&file.args());
    fs::write("/proc/sys/net/core/optmem_max", "1024").expect("a setting");
    file.write(&text(3));
    upgrade(&mut viaduct);
    let refused = "the kernel refused to do it by Call-ID";
    assert!(viaduct.output().contains(refused), "{}", viaduct.output());
    for _ in 0..100 {
        let caller = Peer::new(V4);
        let request = Request::new("OPTIONS", caller.address());
        caller.send(front, request.text());
        peer.receive();
    }
    assert!(viaduct.counter("worker-2-received") > 0);
    viaduct.stop();
}
