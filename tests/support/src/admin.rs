//! The admin API of a running Viaduct, asked as any HTTP client would.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::farm::Farm;
use super::viaduct::Viaduct;
use super::{LONG, program};

/// Where an instance is asked.
#[derive(Clone)]
pub enum Admin {
    Socket(PathBuf),
    Tcp(SocketAddr),
}

/// `viaduct ctl ARGS…` for the instance at `admin`, which sees none of its
/// variables in the tests' own environment.
pub fn ctl(admin: impl AsRef<OsStr>, args: &[&str]) -> Command {
    let mut command = Command::new(program());
    command
        .env_remove("VIADUCT_ADMIN")
        .env_remove("VIADUCT_ADMIN_TOKEN_FILE");
    command.args(["ctl", "--admin"]).arg(admin).args(args);
    command
}

/// An answer of it.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// By name in lower case.
    headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        let read = serde_json::from_str(&self.body);
        read.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Demands a problem with this status, which says this.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let media_type = self.header("content-type");
        assert_eq!(media_type, Some("application/problem+json"), "{self:?}");
        assert_eq!(self.json()["status"], status, "{self:?}");
        assert!(self.body.contains(says), "{says}? {self:?}");
    }

    /// The same of one that was done.
    #[track_caller]
    pub fn assert_done(self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()
    }
}

impl Admin {
    /// The addresses that its line `admin:` names, the socket first.
    pub fn all(viaduct: &Viaduct) -> Vec<Self> {
        let output = viaduct.output();
        let mut lines = output.lines();
        let line = lines.find_map(|line| line.strip_prefix("admin: "));
        let line = line.unwrap_or_else(|| panic!("no line `admin:` in\n{output}"));
        line.split(", ")
            .map(|place| match place.split_once(':') {
                Some(("unix", path)) => Self::Socket(path.into()),
                Some(("http", rest)) => {
                    let address = rest.trim_start_matches('/').parse();
                    Self::Tcp(address.expect("an address"))
                }
                _ => panic!("{line}"),
            })
            .collect()
    }

    pub fn of(viaduct: &Viaduct) -> Self {
        Self::all(viaduct).swap_remove(0)
    }

    pub fn path(&self) -> &Path {
        match self {
            Self::Socket(path) => path,
            Self::Tcp(address) => panic!("{address} is no path"),
        }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send_post(path, body).answer()
    }

    /// With `Host: localhost` unless `headers` say otherwise.
    pub fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send(method, path, headers, body).answer()
    }

    /// What is to be answered later.
    pub fn send_post(&self, path: &str, body: &Value) -> Asked {
        let headers = [("Content-Type", "application/json")];
        self.send("POST", path, &headers, body.to_string().as_bytes())
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Asked {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            head.push_str("Host: localhost\r\n");
        }
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "Content-Length: {}\r\n\r\n", body.len());
        let sent = [head.as_bytes(), body].concat();
        match self {
            Self::Socket(path) => {
                let stream = UnixStream::connect(path).expect("a connection to the socket");
                stream.set_read_timeout(Some(LONG)).expect("a timeout");
                Asked::new(stream, &sent)
            }
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).expect("a connection");
                stream.set_read_timeout(Some(LONG)).expect("a timeout");
                Asked::new(stream, &sent)
            }
        }
    }

    /// Asks until the answer is as wanted.
    #[track_caller]
    pub fn wait_for<T>(&self, path: &str, wanted: impl Fn(&Value) -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            let found = self.get(path).json();
            if let Some(wanted) = wanted(&found) {
                return wanted;
            }
            assert!(Instant::now() < end, "not in time: {found:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What has been sent.
pub struct Asked(Box<dyn Read>);

impl Asked {
    fn new(mut stream: impl Read + Write + 'static, octets: &[u8]) -> Self {
        // Who is refused early may not be read to the end.
        let _ = stream.write_all(octets);
        Self(Box::new(stream))
    }

    pub fn answer(mut self) -> Answer {
        let mut octets = Vec::new();
        let _ = self.0.read_to_end(&mut octets);
        let text = String::from_utf8_lossy(&octets);
        let (head, body) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("no answer: {text}"));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.filter_map(|line| line.split_once(": "));
        Answer {
            status: status.and_then(|text| text.parse().ok()).expect("a status"),
            headers: headers
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect(),
            body: body.to_owned(),
        }
    }
}

impl Farm {
    /// With an admin socket beside whatever else `args` say.
    pub fn with_admin(states: &[&str], more: &str, args: &[&str]) -> (Self, Admin) {
        let args = [&["--admin", "admin.sock", "--health", "off"], args].concat();
        let farm = Self::new(states, more, &args);
        let admin = Admin::of(&farm.scene.viaduct);
        (farm, admin)
    }

    /// The address of a member, as the API names it.
    pub fn member(&self, number: usize) -> String {
        self.scene.farm[number].address().to_string()
    }
}
