//! Whoever reads the log: nothing waits for that, and an upgrade tells what
//! the program before has counted.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, sync_channel};

use support::admin;
use support::dialog::{Peer, Request, response, status};
use support::net::{V4, free_addresses};
use support::process::{Process, Signal, in_a_network_of_its_own};
use support::{LONG, wait_until};

/// A Viaduct whose log is a pipe.
struct Told {
    process: Process,
    /// Lines of the log. While nobody takes them nobody reads the pipe.
    lines: Receiver<String>,
}

impl Told {
    fn new(args: &[String]) -> Self {
        Self::by("exec \"$0\" run --health off \"$@\" 2>log", args)
    }

    /// The same, started by these commands of the shell.
    fn by(commands: &str, args: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let pipe = folder.path().join("log");
        let made = Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        let mut command = Command::new("sh");
        command
            .args(["-c", commands])
            .arg(support::program())
            .args(args)
            .env_remove("JOURNAL_STREAM")
            .env_remove("STATE_DIRECTORY");
        let process = Process::start(command, folder);
        let (sender, lines) = sync_channel(0);
        std::thread::spawn(move || {
            let log = BufReader::new(File::open(pipe).expect("the log"));
            // Until the test has ended, or what it tests has.
            let mut lines = log.lines().map_while(Result::ok);
            lines.try_for_each(|line| sender.send(line).ok())
        });
        let mut told = Self { process, lines };
        told.until("ready:");
        told
    }

    /// Reads up to a line that begins so; all that was read.
    #[track_caller]
    fn until(&mut self, start: &str) -> Vec<String> {
        let mut read = Vec::new();
        loop {
            let line = self.lines.recv_timeout(LONG);
            let line = line.unwrap_or_else(|_| panic!("no {start} behind {read:?}"));
            read.push(line);
            if read.last().is_some_and(|line| line.starts_with(start)) {
                return read;
            }
        }
    }

    fn upgrade(&mut self) {
        self.process.signal(Signal::USR2);
        self.until("upgrading:");
    }

    /// Whether the program has been executed anew.
    fn is_upgraded(&self) -> bool {
        let environment = fs::read(format!("/proc/{}/environ", self.process.id()));
        let environment = environment.expect("its environment");
        String::from_utf8_lossy(&environment).contains("VIADUCT_INHERITED=")
    }
}

/// Arguments for a farm whose counters are more than a pipe holds.
fn many_members(front: SocketAddr, folder: &Path) -> [String; 2] {
    let member = |number: usize| format!("'127.1.{}.{}:6001'", number / 250, number % 250 + 1);
    let members: Vec<_> = (0..4000).map(member).collect();
    let text = format!(
        "listen = ['{front}']\nworkers = 1\npolicy = 'kamailio'\n\
         [[set]]\nname = 'farm'\ndestinations = [{}]\n",
        members.join(", ")
    );
    let file = folder.join("v.toml");
    fs::write(&file, text).expect("a file");
    ["--config".to_owned(), file.display().to_string()]
}

#[test]
fn no_call_waits_for_whoever_reads_the_log() {
    let [front] = free_addresses(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let mut told = Told::new(&many_members(front, folder.path()));
    let caller = Peer::new(V4);
    let request = || Request::new("OPTIONS", caller.address()).max_forwards("Max-Forwards: 0");
    caller.send(front, request().text());
    assert_eq!(status(caller.receive()), 483);
    told.upgrade();
    wait_until("an upgrade that nobody reads of", || told.is_upgraded());
    let octets = request().text();
    caller.send(front, &octets);
    assert_eq!(status(caller.receive()), 483);
    // It is said nevertheless, of the program that has ended.
    let said = told.until("ready:");
    assert!(said.contains(&"counter received 1".to_owned()), "{said:?}");
    assert!(said.contains(&"counter reply-483 1".to_owned()), "{said:?}");
}

#[test]
fn an_operator_and_the_end_wait_for_no_reader_of_the_log() {
    let [front] = free_addresses(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("unix:{}", folder.path().join("admin.sock").display());
    let args = many_members(front, folder.path()).into_iter();
    let args: Vec<_> = args.chain(["--admin".to_owned(), socket.clone()]).collect();
    let mut told = Told::new(&args);
    told.process.signal(Signal::USR1);
    told.until("counter");
    let asked = admin::ctl(&socket, &["log-level", "debug"]).output();
    let asked = asked.expect("viaduct ctl");
    assert!(asked.status.success(), "{asked:?}");
    told.process.signal(Signal::TERM);
    assert!(told.process.wait(LONG).success());
}

/// The other end of a terminal that nobody reads stays in the process.
#[test]
fn nothing_waits_for_a_terminal_that_stands_still() {
    const TERMINAL: &str = "import os, sys\n\
        near, far = os.openpty()\n\
        os.set_inheritable(near, True)\n\
        os.dup2(far, 2)\n\
        os.execv(sys.argv[1], sys.argv[1:])";
    let [front] = free_addresses(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let socket_file = folder.path().join("admin.sock");
    let socket = format!("unix:{}", socket_file.display());
    // Each reload is refused by a line that is longer than what a terminal has
    // room for when it says that it has.
    let file = folder.path().join("v.toml");
    fs::write(&file, "").expect("a file");
    let mut command = Command::new("python3");
    command
        .args(["-c", TERMINAL])
        .arg(support::program())
        .args(["run", "--health", "off", "--to", "127.0.0.1:9", "--config"])
        .arg(&file)
        .args(["--listen", &front.to_string(), "--admin", &socket])
        .env_remove("JOURNAL_STREAM");
    let mut process = Process::start(command, tempfile::tempdir().expect("a folder"));
    wait_until("the admin socket", || socket_file.exists());
    fs::write(&file, format!("{} = 1", "nonsense".repeat(100))).expect("a file");
    for _ in 0..100 {
        let asked = admin::ctl(&socket, &["reload"]).output();
        let said = String::from_utf8(asked.expect("viaduct ctl").stderr).expect("text");
        assert!(said.contains("nonsensenonsense"), "{said}");
    }
    process.signal(Signal::TERM);
    assert!(process.wait(LONG).success());
}

/// Somebody who shares the pipe may have it so.
#[test]
fn a_pipe_that_does_not_wait_loses_no_line() {
    const UNWAITING: &str = "exec python3 -c 'import os, sys\n\
        out = os.open(\"log\", os.O_WRONLY)\n\
        os.set_blocking(out, False)\n\
        os.dup2(out, 2)\n\
        os.execv(sys.argv[1], sys.argv[1:])' \"$0\" run --health off \"$@\"";
    let [front] = free_addresses(V4);
    let folder = tempfile::tempdir().expect("a folder");
    let socket = format!("unix:{}", folder.path().join("admin.sock").display());
    let args = many_members(front, folder.path()).into_iter();
    let args: Vec<_> = args.chain(["--admin".to_owned(), socket.clone()]).collect();
    let mut told = Told::by(UNWAITING, &args);
    told.process.signal(Signal::USR1);
    told.until("counter received");
    // Once that is answered all counters have been said, and the pipe is full.
    let asked = admin::ctl(&socket, &["log-level", "debug"]).output();
    assert!(asked.expect("viaduct ctl").status.success());
    let said = told.until("counter worker-0-received");
    let member = |line: &&String| line.starts_with("counter to-farm-127.1.");
    assert_eq!(said.iter().filter(member).count(), 4000);
}

#[test]
fn lines_that_found_no_room_on_the_disk_are_told_of() {
    in_a_network_of_its_own(
        "ip link set lo up && mount -t tmpfs -o size=64k tmpfs /mnt",
        "where_the_disk_is_small",
    );
}

/// Waits until every thread sleeps.
fn wait_until_idle(process: &Process) {
    let tasks = format!("/proc/{}/task", process.id());
    let is_idle = || {
        let mut threads = fs::read_dir(&tasks).expect("its threads");
        threads.all(|thread| {
            let stat = thread.expect("a thread").path().join("stat");
            fs::read_to_string(stat).is_ok_and(|stat| stat.contains(") S "))
        })
    };
    // One may have woken another that was looked at before.
    wait_until("its idleness", || is_idle() && is_idle());
}

#[test]
#[ignore = "runs with mounts of its own, started by the test above"]
fn where_the_disk_is_small() {
    const HALF: usize = 32 << 10;
    let [front] = free_addresses(V4);
    let (log, ballast) = (Path::new("/mnt/log"), Path::new("/mnt/ballast"));
    let start = "exec \"$0\" run --health off --to 127.0.0.1:9 --listen \"$1\" 2>/mnt/log";
    let mut command = Command::new("sh");
    command.args(["-c", start]).arg(support::program());
    command.arg(front.to_string()).env_remove("JOURNAL_STREAM");
    let process = Process::start(command, tempfile::tempdir().expect("a folder"));
    // Has counters written until `is_so` of the log, and all that they bring done.
    let count_until = |is_so: &dyn Fn(&str) -> bool| {
        loop {
            let said = fs::read_to_string(log).expect("the log");
            process.signal(Signal::USR1);
            wait_until_idle(&process);
            if is_so(&said) {
                return said;
            }
        }
    };
    let is_ready = || fs::read_to_string(log).is_ok_and(|said| said.contains("ready:"));
    wait_until("that it is ready", is_ready);
    fs::write(ballast, [0; HALF]).expect("a file");
    let full = count_until(&|said| said.len() >= HALF);
    assert!(!full.ends_with('\n'), "the last line is whole");
    fs::remove_file(ballast).expect("there is room");
    let said = count_until(&|said| said.contains(" lines of the log are lost"));
    assert!(said[full.len()..].starts_with("\ncounter "), "{said}");
    let told = said.lines().filter(|line| line.contains("are lost"));
    assert!(told.clone().all(|line| line.starts_with("warning: ")));
}

#[test]
fn lines_of_accounting_that_nobody_took_are_counted() {
    const CALLS: usize = 3;
    let [front] = free_addresses(V4);
    let (caller, member) = (Peer::new(V4), Peer::new(V4));
    let args = format!(
        "--listen {front} --to {} --workers 1 --stateful OPTIONS --accounting unix:nobody.sock",
        member.address()
    );
    let args: Vec<_> = args.split(' ').map(str::to_owned).collect();
    let mut told = Told::new(&args);
    for _ in 0..CALLS {
        caller.send(front, Request::new("OPTIONS", caller.address()).text());
        member.send(front, response(member.receive(), "200 OK", "t"));
        assert_eq!(status(caller.receive()), 200);
    }
    told.upgrade();
    let said = told.until("ready:");
    let wanted = format!("counter accounting-dropped {CALLS}");
    assert!(said.contains(&wanted), "{said:?}");
}
