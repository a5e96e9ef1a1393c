//! Messages and sockets for tests that read as scripts: a caller, a farm
//! that the test plays itself, and Viaduct between them.
//!
//! Requests are text in which every octet is the test's; what comes back is
//! compared as octets, or read by the plain twin. Every wait is bounded.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::net::V4;
use super::twin::{self, StartLine, Twin};
use super::viaduct::Viaduct;
use super::{LONG, program, wait_pausing, wait_until};

const POLL: Duration = Duration::from_micros(100);

/// A socket that the test speaks through.
pub struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Peer {
    /// On a free port of `ip`.
    pub fn new(ip: IpAddr) -> Self {
        Self::at(SocketAddr::new(ip, 0))
    }

    pub fn at(address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).expect("a socket of the test");
        socket
            .set_nonblocking(true)
            .expect("a socket that does not block");
        let address = socket.local_addr().expect("the address of a bound socket");
        Self { socket, address }
    }

    /// So many from 127.0.0.`first` on, with one port; and that port.
    pub fn neighbours<const N: usize>(first: u8) -> (Vec<Self>, u16) {
        let at = |n: usize, port| Self::at(SocketAddr::from(([127, 0, 0, first + n as u8], port)));
        let mut all = vec![at(0, 0)];
        let port = all[0].address.port();
        all.extend((1..N).map(|n| at(n, port)));
        (all, port)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    #[track_caller]
    pub fn send(&self, to: SocketAddr, octets: impl AsRef<[u8]>) {
        let end = Instant::now() + LONG;
        loop {
            match self.socket.send_to(octets.as_ref(), to) {
                Ok(_) => return,
                Err(error) if error.kind() == ErrorKind::WouldBlock && Instant::now() < end => {
                    std::thread::sleep(POLL);
                }
                Err(error) => panic!("cannot send to {to}: {error}"),
            }
        }
    }

    /// The next datagram.
    #[track_caller]
    pub fn receive(&self) -> Vec<u8> {
        self.receive_from().0
    }

    /// The next datagram and where it came from.
    #[track_caller]
    pub fn receive_from(&self) -> (Vec<u8>, SocketAddr) {
        let what = format!("a datagram for {}", self.address);
        wait_pausing(POLL, &what, || self.poll())
    }

    /// The next datagram that comes to one of `peers`: to which, and where it came from.
    #[track_caller]
    pub fn first_of(peers: &[Self]) -> (usize, Vec<u8>, SocketAddr) {
        wait_pausing(POLL, "a datagram for any of them", || {
            let mut peers = peers.iter().enumerate();
            peers.find_map(|(number, peer)| {
                let (octets, source) = peer.poll()?;
                Some((number, octets, source))
            })
        })
    }

    /// The datagram that waits already, if one does.
    pub fn poll(&self) -> Option<(Vec<u8>, SocketAddr)> {
        let mut buffer = vec![0; 65_536];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((length, source)) => {
                    buffer.truncate(length);
                    return Some((buffer, source));
                }
                // An ICMP error of an earlier send.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(error) => panic!("cannot receive on {}: {error}", self.address),
            }
        }
    }

    /// Sends a request that came here back to `to`, as a proxy does, and
    /// returns what comes of it.
    #[track_caller]
    pub fn spiral(&self, to: SocketAddr, octets: &[u8]) -> Vec<u8> {
        let text = String::from_utf8(octets.to_vec()).expect("text");
        let (start, rest) = text.split_once("\r\n").expect("a start line");
        let via = format!("Via: SIP/2.0/UDP {};branch=z9hG4bKloop", self.address);
        self.send(to, format!("{start}\r\n{via}\r\n{rest}"));
        self.receive()
    }

    /// Hears nothing any more: what is sent here is refused, as where nobody is; but
    /// nobody else gets the port.
    pub fn close(&self) {
        self.socket.connect(self.address).expect("a way to itself");
        while self.poll().is_some() {}
    }

    /// Demands that nothing waits. Make sure first that whatever could come
    /// has come: see [`Scene::fence`].
    #[track_caller]
    pub fn assert_silent(&self) {
        if let Some((octets, source)) = self.poll() {
            panic!(
                "{} got from {source}: {}",
                self.address,
                octets.escape_ascii()
            );
        }
    }
}

/// The configuration of a scene, where it is a file.
pub const FILE: &str = "v.toml";

/// A caller, Viaduct with one worker, and a farm.
pub struct Scene {
    pub viaduct: Viaduct,
    pub caller: Peer,
    pub farm: Vec<Peer>,
}

impl Scene {
    /// `members` equal destinations over IPv4, and further arguments.
    pub fn new(members: usize, args: &[&str]) -> Self {
        let farm: Vec<Peer> = (0..members).map(|_| Peer::new(V4)).collect();
        let mut all = vec!["--listen".to_owned(), "127.0.0.1:0".to_owned()];
        for member in &farm {
            all.extend(["--to".to_owned(), member.address().to_string()]);
        }
        Self::with(farm, &all, args)
    }

    /// A `farm` that `first` and `args` tell Viaduct of.
    pub fn with(farm: Vec<Peer>, first: &[String], args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self::within(folder, farm, first, args)
    }

    /// A `farm` that the text of a file tells Viaduct of, which is in its folder
    /// as [`FILE`].
    pub fn with_file(farm: Vec<Peer>, text: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(FILE);
        std::fs::write(&path, text).expect("the file");
        let first = ["--config".to_owned(), path.display().to_string()];
        Self::within(folder, farm, &first, args)
    }

    fn within(folder: TempDir, farm: Vec<Peer>, first: &[String], args: &[&str]) -> Self {
        let mut all = first.to_vec();
        if !args.contains(&"--workers") {
            all.extend(["--workers".to_owned(), "1".to_owned()]);
        }
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        Self {
            viaduct: Viaduct::start_program(&program(), folder, &all),
            caller: Peer::new(V4),
            farm,
        }
    }

    /// Where Viaduct listens.
    pub fn front(&self) -> SocketAddr {
        self.viaduct.address(0)
    }

    /// A request of the caller with a Call-ID and a branch of its own.
    pub fn request(&self, method: &str) -> Request {
        Request::new(method, self.caller.address())
    }

    /// Sends from the caller.
    #[track_caller]
    pub fn send(&self, octets: impl AsRef<[u8]>) {
        self.caller.send(self.front(), octets);
    }

    /// Sends from the caller; what then comes to a member, and to which.
    #[track_caller]
    pub fn pass(&self, octets: impl AsRef<[u8]>) -> (usize, Vec<u8>) {
        self.send(octets);
        self.at_farm()
    }

    /// Sends `count` new calls; how many came to each member.
    #[track_caller]
    pub fn shares(&self, count: usize) -> Vec<usize> {
        let mut shares = vec![0; self.farm.len()];
        for _ in 0..count {
            shares[self.pass(self.request("INVITE").text()).0] += 1;
        }
        shares
    }

    /// The next datagram that comes to a member, and to which.
    #[track_caller]
    pub fn at_farm(&self) -> (usize, Vec<u8>) {
        self.at_farm_from(self.front())
    }

    /// The same where it leaves by another listener.
    #[track_caller]
    pub fn at_farm_from(&self, listener: SocketAddr) -> (usize, Vec<u8>) {
        let (number, octets, source) = Peer::first_of(&self.farm);
        assert!(source == listener, "from {source}");
        (number, octets)
    }

    /// Sends from the caller; what Viaduct itself answers to it.
    #[track_caller]
    pub fn answer(&self, octets: impl AsRef<[u8]>) -> Vec<u8> {
        self.send(octets);
        let (octets, source) = self.caller.receive_from();
        assert_eq!(source, self.front());
        octets
    }

    /// Waits until Viaduct has done with all that was sent to its first
    /// listener before: its one worker takes datagrams in order.
    #[track_caller]
    pub fn fence(&self) {
        let probe = Peer::new(V4);
        let request = Request::new("OPTIONS", probe.address()).text();
        probe.send(self.front(), &request);
        let call_id = Some(read(&request).call_id);
        let (_, octets) = self.at_farm();
        let found = twin::read(&octets).ok().map(|twin| twin.call_id);
        assert!(
            found == call_id,
            "came to the farm: {}",
            octets.escape_ascii()
        );
    }

    /// Demands that nothing at all comes of what was sent before.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        self.fence();
        self.caller.assert_silent();
        self.farm.iter().for_each(Peer::assert_silent);
    }

    /// Waits until a counter has this value.
    #[track_caller]
    pub fn assert_counter(&mut self, name: &str, value: u64) {
        wait_until(&format!("{value} {name}"), || {
            let found = self.viaduct.counter(name);
            assert!(found <= value, "{name} is {found}, not {value}");
            found == value
        });
    }
}

/// A file with two listeners, `outside` and `inside`, and what else it says.
pub fn two_listeners(members: &[&Peer], outside: &str, inside: &str, rest: &str) -> String {
    let members: Vec<_> = members
        .iter()
        .map(|each| each.address().to_string())
        .collect();
    format!(
        "[[listener]]\nname = 'outside'\naddress = '127.0.0.1:0'\n{outside}\n\
         [[listener]]\nname = 'inside'\naddress = '127.0.0.1:0'\n{inside}\n\
         [[set]]\nname = 'farm'\ndestinations = {members:?}\n{rest}\n"
    )
}

/// A request in the making; [`Request::text`] writes it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub uri: String,
    /// The value of Via.
    pub via: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
    /// The number.
    pub cseq: u32,
    /// Whole rows behind CSeq.
    pub rows: Vec<String>,
    pub body: String,
}

/// Tells the calls of a test process apart.
static CALLS: AtomicUsize = AtomicUsize::new(1);

impl Request {
    /// From `caller`, with a Call-ID and a branch that no other has.
    pub fn new(method: &str, caller: SocketAddr) -> Self {
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        Self {
            method: method.to_owned(),
            uri: "sip:desk@farm.example".to_owned(),
            via: format!("SIP/2.0/UDP {caller};branch=z9hG4bKcall{call}"),
            from: format!("<sip:ann@phones.example>;tag=f{call}"),
            to: "<sip:desk@farm.example>".to_owned(),
            call_id: format!("call-{call}@phones.example"),
            cseq: 1,
            rows: vec!["Max-Forwards: 70".to_owned()],
            body: String::new(),
        }
    }

    #[must_use]
    pub fn uri(mut self, uri: impl Into<String>) -> Self {
        self.uri = uri.into();
        self
    }

    #[must_use]
    pub fn via(mut self, value: impl Into<String>) -> Self {
        self.via = value.into();
        self
    }

    #[must_use]
    pub fn from(mut self, value: impl Into<String>) -> Self {
        self.from = value.into();
        self
    }

    #[must_use]
    pub fn to(mut self, value: impl Into<String>) -> Self {
        self.to = value.into();
        self
    }

    #[must_use]
    pub fn call_id(mut self, value: impl Into<String>) -> Self {
        self.call_id = value.into();
        self
    }

    /// One more row.
    #[must_use]
    pub fn row(mut self, row: impl Into<String>) -> Self {
        self.rows.push(row.into());
        self
    }

    /// Another row of Max-Forwards; none where it is empty.
    #[must_use]
    pub fn max_forwards(mut self, row: &str) -> Self {
        self.rows.retain(|row| !row.starts_with("Max-Forwards"));
        self.rows.extend((!row.is_empty()).then(|| row.to_owned()));
        self
    }

    /// Another method in the same transaction or dialog.
    #[must_use]
    pub fn method(&self, method: &str) -> Self {
        Self {
            method: method.to_owned(),
            ..self.clone()
        }
    }

    /// The octets.
    pub fn text(&self) -> String {
        let Self {
            method,
            uri,
            via,
            from,
            to,
            call_id,
            cseq,
            rows,
            body,
        } = self;
        let rows: String = rows.iter().map(|row| format!("{row}\r\n")).collect();
        format!(
            "{method} {uri} SIP/2.0\r\nVia: {via}\r\nFrom: {from}\r\nTo: {to}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n{rows}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

/// What a server answers to a request that came to it: every Via as it came.
pub fn response(request: impl AsRef<[u8]>, status: &str, to_tag: &str) -> String {
    let twin = read(request);
    let mut rows = String::new();
    for (name, value) in &twin.headers {
        let value = String::from_utf8_lossy(value);
        match name.as_str() {
            "to" if !to_tag.is_empty() && twin.to.tag.is_none() => {
                rows += &format!("To: {value};tag={to_tag}\r\n");
            }
            "via" | "from" | "to" | "call-id" | "cseq" => rows += &format!("{name}: {value}\r\n"),
            _ => {}
        }
    }
    format!("SIP/2.0 {status}\r\n{rows}Content-Length: 0\r\n\r\n")
}

/// Reads a message by the plain twin; panics where it is none.
#[track_caller]
pub fn read(octets: impl AsRef<[u8]>) -> Twin {
    let octets = octets.as_ref();
    twin::read(octets).unwrap_or_else(|refusal| panic!("{refusal:?}: {}", octets.escape_ascii()))
}

/// The status of a response.
#[track_caller]
pub fn status(octets: impl AsRef<[u8]>) -> u16 {
    match read(octets).start {
        StartLine::Response { status, .. } => status,
        request @ StartLine::Request { .. } => panic!("a response expected, not {request:?}"),
    }
}

/// The values of all rows `name`, which hold one each.
#[track_caller]
pub fn values(octets: &[u8], name: &str) -> Vec<String> {
    let headers = read(octets).headers;
    let rows = headers.into_iter().filter(|(each, _)| each == name);
    rows.map(|(_, value)| String::from_utf8(value).expect("text"))
        .collect()
}

/// The branch of the top Via.
#[track_caller]
pub fn branch(octets: impl AsRef<[u8]>) -> String {
    let branch = read(octets).top_via.branch.expect("a branch");
    String::from_utf8(branch).expect("a token")
}

/// Viaduct's Via row in front of `sent`'s first one, with the branch that
/// `got` has; the branch must be one of RFC 3261.
#[track_caller]
pub fn with_own_via(sent: &str, got: &[u8], sent_by: impl std::fmt::Display) -> String {
    let branch = branch(got);
    assert!(
        branch.starts_with("z9hG4bK") && branch.len() > 20,
        "{branch}"
    );
    let (start, rest) = sent.split_once("\r\n").expect("a start line");
    format!("{start}\r\nVia: SIP/2.0/UDP {sent_by};branch={branch}\r\n{rest}")
}

/// Demands equal octets, and shows both where they differ.
#[track_caller]
pub fn assert_octets(found: impl AsRef<[u8]>, wanted: impl AsRef<[u8]>) {
    let (found, wanted) = (found.as_ref(), wanted.as_ref());
    assert!(
        found == wanted,
        "found:\n{}\nwanted:\n{}",
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(wanted)
    );
}
