//! Connections to the admin API that keep their place: others get in.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use support::LONG;
use support::farm::Farm;

#[test]
fn idle_connections_keep_nobody_out() {
    let (farm, admin) = Farm::with_admin(&[""], "", &[]);
    // As many as are served at a time, each with half a request.
    let half: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = UnixStream::connect(admin.path()).expect("a connection");
            let half = stream.write_all(b"GET /livez HTTP/1.1\r\nHost:");
            half.expect("a beginning");
            stream
        })
        .collect();
    assert_eq!(admin.get("/livez").status, 200);
    farm.shares(5);
    drop(half);
    assert_eq!(admin.get("/livez").status, 200);
}

#[test]
fn who_has_rested_longest_makes_room_for_others() {
    let (_farm, admin) = Farm::with_admin(&[""], "", &[]);
    // As many as are served at a time.
    let silent: Vec<_> = (0..64)
        .map(|_| UnixStream::connect(admin.path()).expect("a connection"))
        .collect();
    assert_eq!(admin.get("/livez").status, 200);
    let is_open = |mut stream: &UnixStream| {
        stream.set_nonblocking(true).expect("a socket");
        let read = stream.read(&mut [0]);
        read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    };
    let open: Vec<_> = silent.iter().map(is_open).collect();
    assert!(!open[0] && open[8..].iter().all(|open| *open), "{open:?}");
}

#[test]
fn who_has_asked_while_the_program_stood_still_is_answered() {
    let (farm, admin) = Farm::with_admin(&[""], "", &[]);
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let connect = || UnixStream::connect(admin.path()).expect("a connection");
    let ask = |stream: &mut UnixStream| stream.write_all(request).expect("a request");
    let answered = |stream: &mut UnixStream| {
        let mut answer = [0; 12];
        let read = stream.read_exact(&mut answer);
        read.is_ok() && &answer == b"HTTP/1.1 200"
    };
    // As many as are served at a time, and all are.
    let mut served: Vec<_> = (0..64).map(|_| connect()).collect();
    let last = served.last_mut().expect("a connection");
    ask(last);
    assert!(answered(last));
    farm.scene.viaduct.halt();
    // As long as one has to rest before it makes room.
    thread::sleep(Duration::from_millis(300));
    let mut another = connect();
    ask(&mut another);
    served[..63].iter_mut().for_each(ask);
    farm.scene.viaduct.signal(Signal::CONT);
    assert!(served[..63].iter_mut().all(answered));
    assert!(answered(&mut another));
}

#[test]
fn want_of_open_files_is_told_once_and_so_is_its_end() {
    let (mut farm, admin) = Farm::with_admin(&[""], "", &[]);
    let id = Pid::from_raw(farm.scene.viaduct.id() as i32);
    let limit = |current| {
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(1024),
        };
        prlimit(id, Resource::Nofile, limit).expect("a limit");
    };
    limit(3);
    let waiting = UnixStream::connect(admin.path()).expect("a place in the queue");
    let says = |what: &'static str| move |output: &str| output.contains(what).then_some(());
    let cannot = " accepts no connections: ";
    farm.scene.viaduct.wait_for(cannot, says(cannot));
    limit(1024);
    assert_eq!(admin.get("/livez").status, 200);
    let can = " accepts connections again";
    farm.scene.viaduct.wait_for(can, says(can));
    let output = farm.scene.viaduct.output();
    assert_eq!(output.matches(cannot).count(), 1, "{output}");
    drop(waiting);
}

#[test]
fn who_never_reads_keeps_nobody_out_for_long() {
    let (_farm, admin) = Farm::with_admin(&[""], "", &[]);
    let connect = || UnixStream::connect(admin.path()).expect("a connection");
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    // As many as are served at a time, and more than their sockets hold.
    let deaf: Vec<_> = (0..64)
        .map(|_| {
            let mut stream = connect();
            let asked = request("/api/v1/openapi.json").repeat(200);
            stream.write_all(asked.as_bytes()).expect("requests");
            stream
        })
        .collect();
    let mut stream = connect();
    stream
        .write_all(request("/livez").as_bytes())
        .expect("a request");
    stream.set_read_timeout(Some(LONG)).expect("a timeout");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(deaf);
}

#[test]
fn who_asks_again_and_again_keeps_nobody_out_for_long() {
    let (_farm, admin) = Farm::with_admin(&[""], "", &[]);
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let connect = || UnixStream::connect(admin.path()).expect("a connection");
    // As many as are served at a time, none of which rests.
    let mut busy: Vec<_> = (0..64).map(|_| connect()).collect();
    let mut ask = move || {
        busy.iter_mut()
            .for_each(|each| drop(each.write_all(request)))
    };
    ask();
    let mut stream = connect();
    stream.write_all(request).expect("a request");
    let a_while = Some(Duration::from_secs(3));
    stream.set_read_timeout(a_while).expect("a timeout");
    let end = Instant::now() + LONG;
    let mut answer = [0; 12];
    while stream.read_exact(&mut answer).is_err() {
        assert!(Instant::now() < end, "nobody else is answered");
        ask();
    }
    assert_eq!(&answer, b"HTTP/1.1 200");
}
