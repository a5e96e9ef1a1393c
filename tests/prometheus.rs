//! A real Prometheus scrapes a running Viaduct, and answers what the shipped
//! dashboard and alerts ask.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::Value;

use support::dialog::{Peer, Request};
use support::monitoring;
use support::net::V4;
use support::process::Process;
use support::servers::Server;
use support::viaduct::Viaduct;
use support::{LONG, repository, wait_until};

/// A Prometheus of the test's own, which scrapes one address.
struct Prometheus {
    _process: Process,
    address: SocketAddr,
}

impl Prometheus {
    fn scraping(target: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let rules = repository().join("config/prometheus/viaduct.rules.yml");
        let config = format!(
            "global: {{scrape_interval: 200ms, evaluation_interval: 200ms}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: viaduct, static_configs: [{{targets: ['{target}']}}]}}]\n",
            rules.display()
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("written");
        let mut command = Command::new("prometheus");
        command.args([
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            "--web.listen-address=127.0.0.1:0",
        ]);
        let mut process = Process::start(command, folder);
        let address = process.wait_for("its address", LONG, |output| {
            output.contains("Server is ready").then_some(())?;
            let line = output.lines().find(|line| line.contains("Listening on"))?;
            let address = line.split("address=").nth(1)?.split_whitespace().next()?;
            address.parse().ok()
        });
        Self {
            _process: process,
            address,
        }
    }

    /// What it answers to a query: the series.
    #[track_caller]
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: String = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let answer = get(self.address, &format!("/api/v1/query?query={encoded}"));
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        answer["data"]["result"].as_array().expect("series").clone()
    }

    /// Waits until a query has an answer.
    #[track_caller]
    fn wait_for(&self, query: &str) {
        wait_until(query, || !self.query(query).is_empty());
    }
}

/// The body of what is at `path`.
#[track_caller]
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.set_read_timeout(Some(LONG)).expect("a limit");
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

#[test]
fn prometheus_scrapes_it_and_the_dashboard_shows_something_everywhere() {
    let (server, caller) = (Server::start(), Peer::new(V4));
    let to = server.address().to_string();
    let mut viaduct = Viaduct::start(&[
        "--listen",
        "127.0.0.1:0",
        "--to",
        &to,
        "--health",
        "on",
        "--admin-listen",
        "127.0.0.1:0",
    ]);
    let admin = viaduct.wait_for("its admin address", |output| {
        let (_, rest) = output.split_once("admin: http://")?;
        rest.lines().next()?.trim_end_matches('/').parse().ok()
    });
    let prometheus = Prometheus::scraping(admin);
    prometheus.wait_for("up == 1");
    // A rate needs two scrapes that differ.
    let mut calls = 0;
    wait_until("a rate", || {
        let request = Request::new("OPTIONS", caller.address());
        caller.send(viaduct.address(0), request.text());
        caller.receive();
        calls += 1;
        let rate = prometheus.query("sum(rate(viaduct_requests_total[1m])) > 0");
        !rate.is_empty()
    });
    let counted = |query: &str| {
        let series = prometheus.query(query);
        // None for a moment where a scrape was late.
        series.first().map_or(0.0, |first| {
            let value = first["value"][1].as_str().expect("a value");
            value.parse::<f64>().expect("a number")
        })
    };
    wait_until("the count of all responses", || {
        counted("sum(viaduct_destination_responses_total{class=\"2xx\"})") >= f64::from(calls)
    });
    for (place, query) in monitoring::queries() {
        let query = query.replace("$__rate_interval", "1m");
        let query = query.replace("$job", ".*").replace("$instance", ".*");
        match &*place {
            "an alert" => assert_eq!(prometheus.query(&query), [] as [Value; 0], "{query}"),
            _ => wait_until(&format!("{place}: {query}"), || {
                !prometheus.query(&query).is_empty()
            }),
        }
    }
    assert_eq!(prometheus.query("ALERTS"), [] as [Value; 0]);
    viaduct.stop();
}
