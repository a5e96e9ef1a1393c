//! A few calls by a virtual clock, told step by step.

use std::net::SocketAddr;

use viaduct::config::{Accounting, AccountingTarget, Config};
use viaduct::proxy::Datagram;
use viaduct::transaction::{AttemptId, Lesson};

use super::balancer::{Act, Balancer, Output, Told};
use super::message::Message;
use crate::fixture;

/// A caller, a balancer with a farm, and what has been sent.
pub struct World {
    pub balancer: Balancer,
    pub now: u64,
    calls: u32,
    /// When, where, what; until somebody asks.
    pub sent: Vec<(u64, SocketAddr, Message)>,
    /// The last request of each method that came to each destination.
    pub requests: Vec<(SocketAddr, Message)>,
    attempts: Vec<(SocketAddr, AttemptId)>,
    pub told: Vec<Told>,
    pub learnt: Vec<Lesson>,
}

impl World {
    pub fn new(destinations: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = fixture::config();
        config.sets[0].destinations.truncate(destinations);
        config.stateful.methods = vec!["INVITE".to_owned(), "MESSAGE".to_owned()];
        config.stateful.transactions = 1000;
        config.stateful.accounting = Some(Accounting {
            target: AccountingTarget::Stdout,
            methods: Vec::new(),
        });
        change(&mut config);
        Self {
            balancer: Balancer::new(config),
            now: 1_000_000,
            calls: 0,
            sent: Vec::new(),
            requests: Vec::new(),
            attempts: Vec::new(),
            told: Vec::new(),
            learnt: Vec::new(),
        }
    }

    fn take(&mut self, output: Output) {
        for act in output.acts {
            match act {
                Act::Send(sent) => {
                    let message = Message::read(&sent.bytes).expect("a message");
                    if message.is_request() {
                        self.requests.insert(0, (sent.to, message.clone()));
                    }
                    if let Some(id) = sent.attempt {
                        self.attempts.insert(0, (sent.to, id));
                    }
                    self.sent.push((self.now, sent.to, message));
                }
                Act::Finished(told) => self.told.push(told),
                Act::Learnt(_, lesson) => self.learnt.push(lesson),
                Act::Count(_) => {}
            }
        }
    }

    pub fn receive(&mut self, bytes: &[u8], source: SocketAddr) {
        let datagram = Datagram {
            bytes,
            source,
            listener: 0,
        };
        let output = self.balancer.receive(0, &datagram, self.now);
        self.take(output);
    }

    pub fn wait(&mut self, milliseconds: u64) {
        let end = self.now + milliseconds;
        while let Some(due) = self.balancer.next_due(0).filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let output = self.balancer.expire(0, self.now);
            self.take(output);
        }
        self.now = end;
    }

    /// The request of the last call: all calls have one owner.
    pub fn request(&self, method: &str) -> String {
        let invite = String::from_utf8(fixture::invite()).expect("text");
        invite
            .replace("INVITE sip", &format!("{method} sip"))
            .replace("2 INVITE", &format!("{} {method}", self.calls))
            .replace("nashds8.1", &format!("nashds8.{}", self.calls))
    }

    /// A new call; where its request goes.
    pub fn calls(&mut self, method: &str) -> SocketAddr {
        self.calls += 1;
        self.receive(self.request(method).as_bytes(), fixture::caller());
        self.requests[0].0
    }

    /// A new call that its first destination says nothing to: that one and the
    /// next.
    pub fn abandoned(&mut self) -> (SocketAddr, SocketAddr) {
        let first = self.calls("INVITE");
        self.wait(1_000);
        let second = self.requests[0].0;
        assert_ne!(first, second);
        (first, second)
    }

    pub fn says(&mut self, who: SocketAddr, status: u16) {
        self.says_to("INVITE", who, status, &[]);
    }

    pub fn says_to(&mut self, method: &str, who: SocketAddr, status: u16, rows: &[(&str, String)]) {
        let mut requests = self.requests.iter();
        let request = requests.find(|(to, each)| *to == who && each.method() == method);
        let response = request
            .expect("a request")
            .1
            .response(status, Some("t"), rows);
        self.receive(&response.write(), who);
    }

    pub fn is_out_of_reach(&mut self, who: SocketAddr) {
        let attempt = self.attempts.iter().find(|(to, _)| *to == who);
        let id = attempt.expect("an attempt").1;
        let output = self.balancer.undeliverable(0, id, self.now);
        self.take(output);
    }

    /// What has come to somebody since this was last asked: methods and
    /// statuses.
    pub fn came(&mut self, to: SocketAddr) -> Vec<String> {
        let its = self.sent.extract_if(.., |(_, each, _)| *each == to);
        its.map(|(_, _, message)| match message.status() {
            0 => message.method().to_owned(),
            status => status.to_string(),
        })
        .collect()
    }

    /// When such a message came to somebody: milliseconds behind `start`, in tens,
    /// for a timer fires a little late.
    pub fn times(&self, start: u64, to: SocketAddr, method: &str, status: u16) -> Vec<u64> {
        let such = self.sent.iter().filter(|(_, each, message)| {
            *each == to && message.method() == method && message.status() == status
        });
        such.map(|(at, ..)| (at - start) / 10 * 10).collect()
    }

    pub fn caller_hears(&mut self) -> Vec<String> {
        self.came(fixture::caller())
    }
}
