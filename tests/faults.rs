//! Faults of the kernel, made by strace: workers go on, or are found out, and a
//! start says what it was.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use support::dialog::Scene;
use support::process::{Process, Signal, trace};
use support::viaduct::worker_of;
use support::{LONG, wait_until};

/// Sends datagrams that are all there when the worker looks.
fn burst(scene: &Scene) {
    scene.viaduct.halt();
    for _ in 0..32 {
        scene.send(scene.request("OPTIONS").text());
    }
    scene.viaduct.signal(Signal::CONT);
    for _ in 0..32 {
        scene.at_farm();
    }
}

/// As where the user has as many watches as `fs.epoll.max_user_watches` says.
#[test]
fn a_socket_that_cannot_be_watched_is_looked_at_all_the_same() {
    let scene = Scene::new(1, &[]);
    // It has watched the socket for the first time.
    scene.pass(scene.request("OPTIONS").text());
    scene.viaduct.wait_for_worker(&["S"]);
    let thread = worker_of(scene.viaduct.id());
    // Of taking a socket from epoll and putting it back again and again, the latter.
    let fault = "inject=epoll_ctl:error=ENOSPC:when=2..20";
    let tracer = trace(&thread, &["trace=epoll_ctl", fault]);
    burst(&scene);
    for _ in 0..3 {
        scene.pass(scene.request("OPTIONS").text());
    }
    let traced = tracer.output();
    assert!(
        traced.contains("EPOLL_CTL_ADD") && traced.contains("(INJECTED)"),
        "{traced}"
    );
    wait_until("another watch", || {
        let traced = tracer.output();
        traced
            .lines()
            .any(|line| line.contains("EPOLL_CTL_ADD") && line.ends_with("= 0"))
    });
    scene.pass(scene.request("OPTIONS").text());
    let told = scene.viaduct.output();
    assert_eq!(told.matches("warning: epoll: ").count(), 1, "{told}");
    scene.viaduct.stop();
}

#[test]
fn a_receive_that_fails_is_counted_unless_icmp_may_have_brought_that() {
    let stateful = ["--stateful", "INVITE"];
    let cases = [
        (&[][..], "ENOMEM", 1),
        (&stateful, "ENOMEM", 1),
        (&stateful, "ECONNREFUSED", 0),
    ];
    for (args, error, count) in cases {
        let mut scene = Scene::new(1, args);
        let thread = worker_of(scene.viaduct.id());
        let fault = format!("inject=recvmmsg:error={error}:when=1");
        let tracer = trace(&thread, &["trace=recvmmsg", &fault]);
        scene.pass(scene.request("OPTIONS").text());
        assert!(tracer.output().contains(error), "{}", tracer.output());
        scene.assert_counter("receive-error", count);
        if count > 0 {
            scene.viaduct.wait_for("the warning", |output| {
                output.contains("failed at 1 receive").then_some(())
            });
        }
    }
}

#[test]
fn a_worker_that_hangs_ends_the_process() {
    let start = || {
        let mut command = Command::new(support::program());
        command.args(["run", "--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]);
        command
            .args(["--workers", "1"])
            .env("VIADUCT_HEALTH", "off");
        let mut viaduct = Process::start(command, tempfile::tempdir().expect("a folder"));
        viaduct.wait_for("line `ready:`", LONG, |output| {
            output.contains("ready:").then_some(())
        });
        viaduct
    };
    let [mut viaduct, idle, stopped] = [(); 3].map(|()| start());
    stopped.signal(Signal::STOP);
    let fault = "inject=/^epoll_p?wait:delay_enter=100s";
    let tracer = trace(&worker_of(viaduct.id()), &["trace=/^epoll_p?wait", fault]);
    let why = "error: worker 0 hangs: the process aborts, to be started anew";
    viaduct.wait_for("an alarm", LONG, |output| {
        output.contains(why).then_some(())
    });
    // A thread that is traced keeps the process from ending.
    drop(tracer);
    let status = viaduct.wait(LONG);
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    // Nor do a worker without work or a process that stands still.
    stopped.signal(Signal::CONT);
    for mut other in [idle, stopped] {
        other.signal(Signal::TERM);
        assert!(other.wait(LONG).success(), "{}", other.output());
    }
}

/// `viaduct run` with a fault of the kernel, once it has said one of `outcomes`.
fn with_fault(fault: &str, args: &[&str], outcomes: &[&str]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("strace");
    // The child is the program, and not who traces it, or it would be left behind.
    let log = ["-D", "-f", "-qq", "-o", "trace", "-e"];
    command.args(log).arg(format!("inject={fault}"));
    command.arg(support::program()).arg("run").args(args);
    command.args(["--listen", "127.0.0.1:0", "--to", "127.0.0.1:9"]);
    command.env("VIADUCT_HEALTH", "off");
    let process = Process::start(command, folder);
    let output = || process.output();
    wait_until("an outcome", || {
        outcomes.iter().any(|text| output().contains(text))
    });
    output()
}

#[test]
fn a_worker_that_cannot_be_pinned_says_so() {
    let fault = "sched_setaffinity:error=EPERM";
    with_fault(
        fault,
        &["--workers", "1"],
        &["warning: worker 0 is not pinned to core "],
    );
}

/// As on a machine of more than 1,024.
#[test]
fn where_the_cores_are_not_to_be_found_out_it_says_so() {
    with_fault(
        "sched_getaffinity:error=EINVAL",
        &["--workers", "1"],
        &["\nwarning: workers are not pinned: "],
    );
}

#[test]
fn where_the_kernel_cuts_no_send_it_says_so() {
    // Of the first, what the buffers are is asked.
    let fault = "getsockopt:error=ENOPROTOOPT:when=3+";
    with_fault(fault, &["--workers", "1"], &["\nwarning: gso: "]);
    let said = with_fault(fault, &["--workers", "1", "--gso", "off"], &["ready:"]);
    assert!(!said.contains("warning: gso"), "{said}");
}

#[test]
fn a_folder_that_is_writable_is_not_said_not_to_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret").display().to_string();
    for fault in ["/^link(at)?$:error=EPERM", "fsync:error=EIO"] {
        let said = with_fault(
            fault,
            &["--secret-file", &path],
            &["must be on a file system that"],
        );
        assert!(said.contains("error: secret file "), "{said}");
    }
}

/// Each of them in turn.
#[test]
fn a_thread_that_cannot_be_started_is_told_as_such() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = ["calls", "admin"].map(|name| folder.path().join(name).display().to_string());
    let more = [
        "--stateful",
        "INVITE",
        "--accounting",
        &files[0],
        "--admin",
        &files[1],
    ];
    let names = [
        "--to",
        "farm.test",
        "--resolver",
        "127.0.0.1:9",
        "--resolve",
        "on",
    ];
    let rest = ["--mirror", "127.0.0.1:9", "--workers", "2"];
    let args = [&more[..], &names, &rest].concat();
    let outcomes = ["ready:", "error: cannot start a thread: "];
    let failed = (1..).take_while(|number| {
        let fault = format!("/^clone3?$:error=EAGAIN:when={number}");
        !with_fault(&fault, &args, &outcomes).contains("ready:")
    });
    let failed = failed.count();
    assert!(failed >= 8, "{failed} threads");
}
