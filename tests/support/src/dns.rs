//! A small name server of the tests' own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

use super::net::V4;

const TICK: Duration = Duration::from_millis(20);

/// A name server; it ends when dropped.
pub struct NameServer {
    address: SocketAddr,
    records: Arc<Mutex<Vec<Record>>>,
    fails: Arc<AtomicBool>,
    ignored: Arc<Mutex<Vec<String>>>,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    /// With records such as `a.test 60 A 127.0.0.1`, one a line. Of other
    /// names it says that there are none, for as long as `test 1 SOA` gives,
    /// where the zone has that; to those below `silent.test` it
    /// says nothing. What an alias stands for is in the same answer, unless it
    /// is below `apart.test`.
    pub fn start(zone: &str) -> Self {
        let socket = UdpSocket::bind((V4, 0)).expect("a socket of the test");
        socket.set_read_timeout(Some(TICK)).expect("a limit");
        let address = socket.local_addr().expect("an address");
        let records = Arc::new(Mutex::new(read(zone)));
        let fails = Arc::new(AtomicBool::new(false));
        let ignored = Arc::new(Mutex::new(Vec::new()));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (noted, stopped) = (Arc::clone(&asked), Arc::clone(&stop));
        let (known, failing) = (Arc::clone(&records), Arc::clone(&fails));
        let not_heard: Arc<Mutex<Vec<String>>> = Arc::clone(&ignored);
        let serve = move || {
            let mut buffer = vec![0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let query = Message::from_vec(&buffer[..length]).expect("a query");
                let name = query.queries[0].name().to_string().to_lowercase();
                let kind = query.queries[0].query_type();
                let text = format!("{} {kind}", name.trim_end_matches('.'));
                let ignored = not_heard.lock().expect("a list").contains(&text);
                noted.lock().expect("a list").push(text);
                if !ignored && !name.ends_with("silent.test.") {
                    let mut answer = answer(query, &known.lock().expect("a list"));
                    if failing.load(Ordering::Relaxed) {
                        answer.answers.clear();
                        answer.metadata.response_code = ResponseCode::ServFail;
                    }
                    let answer = answer.to_vec().expect("an answer");
                    socket.send_to(&answer, from).expect("sent");
                }
            }
        };
        Self {
            address,
            records,
            fails,
            ignored,
            asked,
            stop,
            thread: Some(std::thread::spawn(serve)),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has these records from now on.
    pub fn change(&self, zone: &str) {
        *self.records.lock().expect("a list") = read(zone);
    }

    /// Whether it says SERVFAIL to everything.
    pub fn fail(&self, fails: bool) {
        self.fails.store(fails, Ordering::Relaxed);
    }

    /// Says nothing to this question, such as `a.test AAAA`.
    pub fn ignore(&self, question: &str) {
        let mut ignored = self.ignored.lock().expect("a list");
        ignored.push(question.to_owned());
    }

    /// What was asked so far, such as `a.test A`, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("a list").clone()
    }

    /// The same, but for questions that are put again, for the answer was late.
    pub fn asked_for(&self) -> Vec<String> {
        let mut asked = self.asked();
        asked.dedup();
        asked
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        // A panic of its own says more than one that it causes.
        assert!(ended.is_none_or(|ended| ended.is_ok()) || std::thread::panicking());
    }
}

fn read(zone: &str) -> Vec<Record> {
    zone.lines().filter_map(record).collect()
}

fn record(line: &str) -> Option<Record> {
    fn parse<T: FromStr>(word: &str) -> T {
        let value = word.parse().ok();
        value.unwrap_or_else(|| panic!("`{word}` in a zone"))
    }
    let words: Vec<&str> = line.split_whitespace().collect();
    let [name, ttl, kind, data @ ..] = words.as_slice() else {
        return None;
    };
    let data = match (*kind, data) {
        ("A", [ip]) => RData::A(A(parse::<Ipv4Addr>(ip))),
        ("AAAA", [ip]) => RData::AAAA(AAAA(parse::<Ipv6Addr>(ip))),
        ("CNAME", [host]) => RData::CNAME(CNAME(whole(host))),
        ("SRV", [priority, weight, port, host]) => RData::SRV(SRV::new(
            parse(priority),
            parse(weight),
            parse(port),
            whole(host),
        )),
        ("SOA", []) => RData::SOA(SOA::new(Name::root(), Name::root(), 1, 1, 1, 1, parse(ttl))),
        _ => panic!("`{line}` in a zone"),
    };
    Some(Record::from_rdata(whole(name), parse(ttl), data))
}

fn whole(text: &str) -> Name {
    let mut name = Name::from_ascii(text).expect("a name");
    name.set_fqdn(true);
    name
}

fn answer(query: Message, records: &[Record]) -> Message {
    let asked = query.queries[0].clone();
    let mut answer = query.into_response();
    answer.metadata.message_type = MessageType::Response;
    let mut name = asked.name().clone();
    let of = |name: &Name| {
        records
            .iter()
            .filter(|record| record.name == *name)
            .cloned()
            .collect()
    };
    let mut found: Vec<Record> = of(&name);
    if asked.query_type() != RecordType::CNAME
        && let Some(RData::CNAME(alias)) = found.first().map(|record| record.data.clone())
    {
        answer.add_answers(found);
        if alias.0.to_string().ends_with("apart.test.") {
            return answer;
        }
        name = alias.0;
        found = of(&name);
    }
    if found.is_empty() {
        answer.metadata.response_code = ResponseCode::NXDomain;
    }
    answer.add_answers(
        found
            .into_iter()
            .filter(|record| record.record_type() == asked.query_type()),
    );
    if answer.answers.is_empty() {
        let authority = records
            .iter()
            .filter(|record| record.record_type() == RecordType::SOA);
        answer.add_authorities(authority.cloned());
    }
    answer
}
