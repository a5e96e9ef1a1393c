//! Accounting: lines outlive their target. tests/accounting_lines.rs has what
//! they say.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tempfile::TempDir;
use viaduct::accounting::{Counts, Ledger};
use viaduct::config::{Accounting, AccountingTarget};
use viaduct::transaction::Finished;

use support::dialog::Scene;
use support::ledger::{end, finished, folder, in_file, ledger, numbers, record, response};
use support::{LONG, wait_until};

#[test]
fn a_file_is_made_for_owner_and_group_and_added_to() {
    let (_folder, path) = folder();
    for number in 0..3 {
        let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
        assert!(record(&ledger, number));
        assert_eq!(
            end(ledger),
            Counts {
                written: 1,
                dropped: 0
            }
        );
    }
    assert_eq!(in_file(&path), [0, 1, 2]);
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o137, 0, "{mode:o}");
}

/// A full disk has cut it off, or a crash.
#[test]
fn a_line_that_was_cut_off_costs_no_other() {
    let (_folder, path) = folder();
    let cut = "{\"time\":\"2026-03-";
    fs::write(&path, cut).expect("a file");
    // Whoever only looks whether it can be written leaves it alone.
    drop(ledger(AccountingTarget::File(path.clone()), &[]));
    assert_eq!(fs::read_to_string(&path).expect("a file"), cut);
    for number in 0..2 {
        let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
        assert!(record(&ledger, number));
        assert_eq!(end(ledger).written, 1);
    }
    let text = fs::read_to_string(&path).expect("a file");
    let (first, others) = text.split_once('\n').expect("lines");
    assert_eq!((first, numbers(others)), (cut, vec![0, 1]));
    // Whoever empties the file takes it away.
    fs::write(&path, cut).expect("a file");
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    File::create(&path).expect("emptied");
    assert!(record(&ledger, 0));
    assert_eq!(end(ledger).written, 1);
    let text = fs::read_to_string(&path).expect("a file");
    assert!(text.starts_with('{'), "{text:?}");
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
    let (folder, _) = folder();
    let target = AccountingTarget::File(folder.path().to_owned());
    let accounting = Accounting {
        target,
        methods: Vec::new(),
    };
    assert!(Ledger::start(&accounting, || 0).is_err());
}

#[test]
fn lines_come_soon_without_anything_behind_them() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    for number in 0..3 {
        assert!(record(&ledger, number));
        wait_until("a line", || in_file(&path).len() == number + 1);
    }
}

/// Records calls from `first` on until one of them comes to `path`; returns
/// the number of the next one.
fn record_until_written(ledger: &Ledger, first: usize, path: &Path) -> usize {
    let mut number = first;
    wait_until("a line in the new file", || {
        assert!(record(ledger, number));
        number += 1;
        std::thread::sleep(Duration::from_millis(50));
        !in_file(path).is_empty()
    });
    number
}

#[test]
fn a_file_that_was_renamed_is_made_anew_and_no_line_is_lost() {
    let (folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    assert!(record(&ledger, 0));
    wait_until("a line", || in_file(&path) == [0]);
    let old = folder.path().join("calls.json.1");
    fs::rename(&path, &old).expect("renamed");
    let end = record_until_written(&ledger, 1, &path);
    drop(ledger);
    let all = [in_file(&old), in_file(&path)].concat();
    assert!(all.into_iter().eq(0..end));
}

#[test]
fn a_file_that_was_deleted_is_made_anew() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    fs::remove_file(&path).expect("deleted");
    let lines = record_until_written(&ledger, 0, &path);
    let counts = end(ledger);
    assert_eq!(
        counts,
        Counts {
            written: lines as u64,
            dropped: 0
        }
    );
    assert_eq!(in_file(&path).last(), Some(&(lines - 1)));
}

#[test]
fn a_file_that_was_cut_is_begun_anew() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    assert!(record(&ledger, 0));
    wait_until("a line", || in_file(&path) == [0]);
    File::create(&path).expect("cut");
    assert!(record(&ledger, 1));
    drop(ledger);
    // No hole is left where the first line was.
    assert_eq!(in_file(&path), [1]);
}

/// What a reader gets of lines.
fn next(reader: &mut impl BufRead) -> usize {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    numbers(&line)[0]
}

fn accepted(listener: &UnixListener) -> BufReader<UnixStream> {
    let (stream, _) = listener.accept().expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a time limit");
    BufReader::new(stream)
}

#[test]
fn a_stream_socket_may_come_late_and_go_and_come() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    for round in 0..2 {
        // Nobody listens; the line waits.
        assert!(record(&ledger, 2 * round));
        let listener = UnixListener::bind(&path).expect("a socket");
        let mut reader = accepted(&listener);
        assert_eq!(next(&mut reader), 2 * round);
        assert!(record(&ledger, 2 * round + 1));
        assert_eq!(next(&mut reader), 2 * round + 1);
        drop((reader, listener));
        fs::remove_file(&path).expect("deleted");
    }
    assert_eq!(
        end(ledger),
        Counts {
            written: 4,
            dropped: 0
        }
    );
}

#[test]
fn at_the_end_a_socket_may_come_late_too() {
    let is_written = || {
        let (_folder, path) = folder();
        let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
        assert!(record(&ledger, 0));
        let ending = std::thread::spawn(|| end(ledger));
        std::thread::sleep(Duration::from_millis(300));
        let _listener = UnixListener::bind(&path).expect("a socket");
        ending.join().expect("an end").written == 1
    };
    // Where the machine stands still for three seconds, it is late.
    assert!((0..5).any(|_| is_written()));
}

#[test]
fn a_reader_that_pauses_gets_each_line_once_and_whole() {
    const LINES: usize = 3_000;
    let (_folder, path) = folder();
    let listener = UnixListener::bind(&path).expect("a socket");
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    (0..LINES).for_each(|number| assert!(record(&ledger, number)));
    let mut reader = accepted(&listener);
    // Longer than a write waits, with more lines than a socket holds.
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(ledger.handle().counts().written < LINES as u64);
    for number in 0..LINES {
        assert_eq!(next(&mut reader), number);
    }
    wait_until("the count", || {
        ledger.handle().counts().written == LINES as u64
    });
}

#[test]
fn a_datagram_socket_gets_a_line_in_each_and_may_go_and_come() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    for round in 0..2 {
        assert!(record(&ledger, 2 * round));
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(LONG)).expect("a time limit");
        assert!(record(&ledger, 2 * round + 1));
        for number in [2 * round, 2 * round + 1] {
            let mut buffer = [0; 4096];
            let length = socket.recv(&mut buffer).expect("a datagram");
            let text = std::str::from_utf8(&buffer[..length]).expect("text");
            assert_eq!(numbers(text), [number]);
        }
        drop(socket);
        fs::remove_file(&path).expect("deleted");
    }
}

#[test]
fn a_socket_without_its_prefix_is_an_error_at_the_start() {
    let (_folder, path) = folder();
    let _socket = UnixListener::bind(&path).expect("a socket");
    let accounting = Accounting {
        target: AccountingTarget::File(path),
        methods: Vec::new(),
    };
    assert!(Ledger::start(&accounting, || 0).is_err());
}

/// A named pipe.
fn pipe() -> (TempDir, PathBuf) {
    let (folder, path) = folder();
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    (folder, path)
}

#[test]
fn a_named_pipe_may_have_its_reader_late() {
    let (_folder, path) = pipe();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    (0..2).for_each(|number| assert!(record(&ledger, number)));
    let mut reader = BufReader::new(File::open(&path).expect("the pipe"));
    (0..2).for_each(|number| assert_eq!(next(&mut reader), number));
    assert!(record(&ledger, 2));
    assert_eq!(next(&mut reader), 2);
}

#[test]
fn a_line_that_no_datagram_holds_is_dropped_and_the_next_one_comes() {
    let (_folder, path) = folder();
    let socket = UnixDatagram::bind(&path).expect("a socket");
    socket.set_read_timeout(Some(LONG)).expect("a time limit");
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    let response = response("INVITE", "0");
    // Each octet takes six in JSON.
    let request_uri = [1; 65_000];
    let long = Finished {
        request_uri: &request_uri,
        ..finished(response.as_bytes())
    };
    assert!(ledger.handle().record(&long));
    assert!(record(&ledger, 1));
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a datagram");
    assert_eq!(
        numbers(std::str::from_utf8(&buffer[..length]).expect("text")),
        [1]
    );
    wait_until("the count", || {
        ledger.handle().counts()
            == Counts {
                written: 1,
                dropped: 1,
            }
    });
}

#[test]
fn while_nobody_takes_lines_a_bounded_number_waits_and_the_rest_is_counted() {
    const ALL: usize = 40_000;
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path.clone()), &[]);
    let kept = (0..ALL).filter(|number| record(&ledger, *number));
    let kept: Vec<usize> = kept.collect();
    let all = kept.len() as u64;
    wait_until("all to wait", || ledger.handle().waiting() == all);
    let lost = (ALL - kept.len()) as u64;
    assert!((10_000..20_000).contains(&kept.len()), "{}", kept.len());
    assert_eq!(
        ledger.handle().counts(),
        Counts {
            written: 0,
            dropped: lost
        }
    );
    // All that were kept come, in order.
    let listener = UnixListener::bind(&path).expect("a socket");
    let mut reader = accepted(&listener);
    kept.iter()
        .for_each(|number| assert_eq!(next(&mut reader), *number));
    drop(reader);
    drop(listener);
    assert!(record(&ledger, ALL));
    // And what nobody takes to the end is lost.
    let wanted = Counts {
        written: kept.len() as u64,
        dropped: lost + 1,
    };
    assert_eq!(end(ledger), wanted);
}

/// Few long ones fill it as many short ones do.
#[test]
fn what_waits_is_bounded_in_octets_too() {
    let (_folder, path) = folder();
    let ledger = ledger(AccountingTarget::Socket(path), &[]);
    let response = response("INVITE", "0");
    let request_uri = [b'x'; 65_000];
    let long = Finished {
        request_uri: &request_uri,
        ..finished(response.as_bytes())
    };
    let handle = ledger.handle();
    let taken = (0..2_000).filter(|_| handle.record(&long)).count();
    assert!((100..1_000).contains(&taken), "{taken}");
}

/// This test anew, for the test `name` with `path`.
fn command(name: &str, path: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    command
        .args([
            "--exact",
            name,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("VIADUCT_TEST_PATH", path)
        .stdin(Stdio::null());
    command
}

/// What another process of this test says when it runs the test `name` with
/// `path`: on its standard output and error.
fn child(name: &str, path: &Path) -> (String, String) {
    let output = command(name, path).output().expect("it starts");
    let text = |octets| String::from_utf8(octets).expect("text");
    let (out, err) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    (out, err)
}

fn path_of_child() -> PathBuf {
    std::env::var_os("VIADUCT_TEST_PATH")
        .expect("a path")
        .into()
}

#[test]
fn the_standard_output_gets_the_lines() {
    let (out, _) = child("writes_to_stdout", Path::new("unused"));
    let lines: String = out
        .lines()
        .filter(|line| line.starts_with("{\"time\""))
        .fold(String::new(), |all, line| all + line + "\n");
    assert_eq!(numbers(&lines), [0, 1, 2]);
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn writes_to_stdout() {
    // The harness has written the test's name, without a line end.
    println!();
    let ledger = ledger(AccountingTarget::Stdout, &[]);
    (0..3).for_each(|number| assert!(record(&ledger, number)));
    assert_eq!(
        end(ledger),
        Counts {
            written: 3,
            dropped: 0
        }
    );
}

/// By the program before an upgrade, which has written to the same.
#[test]
fn a_line_that_was_cut_off_in_the_standard_output_costs_no_other() {
    let (_folder, path) = folder();
    let file = File::create(&path).expect("a file");
    let mut command = command("writes_behind_a_torn_line", &path);
    assert!(command.stdout(file).status().expect("an end").success());
    let text = fs::read_to_string(&path).expect("a file");
    let lines = text.lines().filter(|line| line.starts_with("{\"time\""));
    let lines: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(numbers(&lines), [0], "{text}");
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn writes_behind_a_torn_line() {
    print!("{{\"time\":\"2026-03-");
    std::io::stdout().flush().expect("written");
    let ledger = ledger(AccountingTarget::Stdout, &[]);
    assert!(record(&ledger, 0));
    assert_eq!(end(ledger).written, 1);
    println!();
}

/// The program that wrote to it was killed, or has made way for the next one.
#[test]
fn a_pipe_that_is_full_has_whole_lines_only() {
    let (_folder, path) = pipe();
    // With both ends, so that it neither waits for a writer nor ends with one.
    let both = File::options().read(true).write(true).open(&path);
    let mut reader = BufReader::new(both.expect("the pipe"));
    let mut child = command("fills_a_pipe", &path)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    wait_until("a full pipe", || {
        ioctl_fionread(reader.get_ref()).expect("octets") > 58_000
    });
    child.kill().expect("killed");
    child.wait().expect("its end");
    let ledger = ledger(AccountingTarget::File(path), &[]);
    assert!(record(&ledger, ENOUGH));
    let read = std::iter::repeat_with(|| next(&mut reader));
    let before = read.take_while(|number| *number != ENOUGH).count();
    assert!((100..ENOUGH).contains(&before), "{before} lines");
}

/// Lines that no pipe holds.
const ENOUGH: usize = 1_000;

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn fills_a_pipe() {
    let ledger = ledger(AccountingTarget::File(path_of_child()), &[]);
    (0..ENOUGH).for_each(|number| assert!(record(&ledger, number)));
    std::thread::sleep(LONG);
}

/// As `copytruncate` does.
#[test]
fn a_file_that_is_emptied_while_the_disk_is_full_begins_with_a_whole_line() {
    let (_folder, path) = folder();
    let child = command("writes_to_a_small_disk", &path);
    // 512 or 1,024 octets, by the shell: room for one line or two, and a part.
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]);
    shell.arg(child.get_program()).args(child.get_args());
    shell.env("VIADUCT_TEST_PATH", &path).stdin(Stdio::null());
    let output = shell.output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn writes_to_a_small_disk() {
    let path = path_of_child();
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    (0..10).for_each(|number| assert!(record(&ledger, number)));
    let text = || fs::read_to_string(&path).expect("a file");
    let is_torn = || !text().is_empty() && !text().ends_with('\n');
    wait_until("a full disk", is_torn);
    let whole = text().lines().count() - 1;
    File::create(&path).expect("emptied");
    wait_until("a full disk", is_torn);
    let text = text();
    let (lines, _) = text.rsplit_once('\n').expect("a line");
    assert_eq!(numbers(lines)[0], whole);
}

#[test]
fn a_file_that_may_not_grow_ends_no_call() {
    const LIMIT: u64 = 1 << 20;
    let (_folder, path) = folder();
    let file = File::create(&path).expect("a file");
    file.set_len(LIMIT).expect("a long file");
    let mut scene = Scene::still(1, &["--accounting", path.to_str().expect("text")]);
    let id = Pid::from_raw(scene.viaduct.id() as i32);
    let limit = |current| {
        let limit = Rlimit {
            current,
            maximum: None,
        };
        prlimit(id, Resource::Fsize, limit).expect("a limit");
    };
    limit(Some(LIMIT));
    let call = scene.request("INVITE");
    let leg = scene.begin(&call);
    scene.fails_at(&call, &leg, "486 Busy Here", 486);
    let said = |text| move |output: &str| output.contains(text).then_some(());
    let refused = said("takes no lines: File too large");
    scene.viaduct.wait_for("the outage", refused);
    limit(None);
    let taken = said("takes lines again, 0 were lost so far");
    scene.viaduct.wait_for("its end", taken);
}

#[test]
fn an_outage_of_the_file_is_told_once_and_costs_no_line() {
    let (_folder, path) = folder();
    let (_, err) = child("has_a_full_disk", &path);
    let told: Vec<&str> = err
        .lines()
        .filter(|line| line.starts_with("accounting: "))
        .collect();
    let path = path.display();
    assert_eq!(told.len(), 2, "{err}");
    let begins = format!("accounting: {path} takes no lines: No space left on device");
    assert!(told[0].starts_with(&begins), "{err}");
    assert_eq!(
        told[1],
        format!("accounting: {path} takes lines again, 0 were lost so far")
    );
    assert!(err.contains("\n  help: "), "{err}");
}

#[test]
#[ignore = "runs in a process of its own, started by the test above"]
fn has_a_full_disk() {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .without_time()
        .with_level(false)
        .with_target(false)
        .init();
    let path = path_of_child();
    symlink("/dev/full", &path).expect("a link");
    let ledger = ledger(AccountingTarget::File(path.clone()), &[]);
    // Time enough to be tried again and again, of which only one is told.
    for number in 0..3 {
        assert!(record(&ledger, number));
        std::thread::sleep(Duration::from_millis(1_100));
    }
    assert_eq!(ledger.handle().counts(), Counts::default());
    fs::remove_file(&path).expect("deleted");
    wait_until("the file", || in_file(&path) == [0, 1, 2]);
    assert_eq!(
        end(ledger),
        Counts {
            written: 3,
            dropped: 0
        }
    );
}
