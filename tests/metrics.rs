//! What Prometheus gets: names by its rules, everything there from the start,
//! the same in the documentation, and in what the dashboard and the alerts ask.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use support::exposition::Exposition;
use support::fixture;
use support::monitoring::{dashboard, probed, queries};
use support::{LONG, repository, wait_until};
use viaduct::config::{Config, Health, HostPort, Named, State};
use viaduct::control::metrics::{self, Input};
use viaduct::control::{self, Facts};
use viaduct::health::Prober;
use viaduct::mirror;
use viaduct::proxy::{Proxy, Reason, Status};
use viaduct::sip::Method;
use viaduct::supervisor::Instance;
use viaduct::worker::Totals;

fn config(destinations: &[SocketAddr]) -> Config {
    let mut config = fixture::config();
    config.listeners[0].address = SocketAddr::from(([127, 0, 0, 1], 0));
    config.workers = 2;
    let all = &mut config.sets[0].destinations;
    all.truncate(destinations.len());
    for (destination, address) in all.iter_mut().zip(destinations) {
        destination.address = *address;
    }
    config.sets[0].named = ["one.example", "two.example"].map(named).into();
    config
}

fn name(host: &str) -> HostPort {
    HostPort {
        host: host.to_owned(),
        port: None,
    }
}

/// A name of destinations, without a port.
fn named(host: &str) -> Named {
    Named {
        uri: format!("sip:{host}"),
        name: name(host),
        weight: None,
        priority: 0,
        state: State::Active,
        probe: None,
        resolved: false,
    }
}

/// What a scrape of these gives, one destination of which is probed, and one
/// name of which cannot be resolved.
fn scrape(totals: &Totals, config: &Config) -> String {
    let address = config.sets[0].destinations[0].address;
    let mut before = config.clone();
    before.sets[0].destinations.pop();
    let proxy = Proxy::new(&before, fixture::secret()).successor(config);
    let mut facts = Facts::of(Arc::new(config.clone()), &proxy);
    facts.table_id = u64::MAX;
    metrics::text(&Input {
        totals,
        facts: &facts,
        probes: &[probed("farm", address)],
        unresolved: &BTreeSet::from([name("two.example")]),
        reload_taken: false,
        reloaded: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        ready: true,
        denied: 3,
        started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_790_000_000_500),
    })
}

/// One that probes nobody.
fn prober() -> Arc<Prober> {
    Arc::new(Prober::start(|_| {}).expect("a prober"))
}

/// A scrape before any traffic.
fn fresh() -> String {
    let config = config(&[fixture::destination(0), fixture::destination(1)]);
    let instance = Instance::start(config.clone(), fixture::secret()).expect("an instance");
    let mut totals = instance.totals();
    totals.mirror = Some(mirror::Counts {
        sent: 5,
        dropped: 2,
        failed: 1,
    });
    // While its workers run: the process is measured too.
    let text = scrape(&totals, &config);
    instance.stop().expect("a clean end");
    text
}

/// Runs promtool, which scripts/install-tools installs, on a text or a file.
#[track_caller]
fn promtool(arguments: &[&str], input: &str) -> String {
    let mut promtool = Command::new("promtool")
        .args(arguments)
        .current_dir(repository().join("config/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool: scripts/install-tools installs it");
    let mut stdin = promtool.stdin.take().expect("its input");
    stdin.write_all(input.as_bytes()).expect("taken");
    drop(stdin);
    let output = promtool.wait_with_output().expect("its end");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

#[test]
fn promtool_has_nothing_to_say_against_the_metrics() {
    assert_eq!(promtool(&["check", "metrics"], &fresh()), "");
}

#[test]
fn what_can_be_counted_is_there_from_the_start() {
    let found = Exposition::read(&fresh());
    let zero = |sample: String| assert_eq!(found.value(&sample), 0.0, "{sample}");
    for reason in Reason::ALL.iter().map(|reason| reason.name()) {
        zero(format!("viaduct_dropped_total{{reason=\"{reason}\"}}"));
    }
    for method in Method::ALL.iter().map(|method| method.name()) {
        zero(format!("viaduct_requests_total{{method=\"{method}\"}}"));
    }
    for status in Status::ALL.iter().map(|status| status.code()) {
        zero(format!("viaduct_replies_total{{status=\"{status}\"}}"));
    }
    for errno in ["ECONNREFUSED", "EPERM", "ENOBUFS", "EMSGSIZE"] {
        zero(format!("viaduct_send_errors_total{{errno=\"{errno}\"}}"));
    }
    for (worker, class) in [(0, 1), (1, 6)] {
        zero(format!("viaduct_responses_total{{class=\"{class}xx\"}}"));
        zero(format!(
            "viaduct_datagrams_received_total{{worker=\"{worker}\"}}"
        ));
        let listener = fixture::LISTEN;
        zero(format!(
            "viaduct_socket_overflow_total{{listener=\"{listener}\",worker=\"{worker}\"}}"
        ));
        let labels = format!(
            "set=\"farm\",destination=\"{}\"",
            fixture::destination(worker)
        );
        zero(format!(
            "viaduct_destination_responses_total{{{labels},class=\"{class}xx\"}}"
        ));
    }
    zero("viaduct_accounting_dropped_total".to_owned());
    zero("viaduct_time_in_balancer_seconds_bucket{le=\"2.5e-05\"}".to_owned());
    zero("viaduct_batch_datagrams_bucket{le=\"+Inf\"}".to_owned());
    // All but ages have a sample.
    for (name, metric) in &found.metrics {
        let samples = found.samples.keys();
        let has = samples.clone().any(|sample| sample.starts_with(name));
        assert!(has || name.ends_with("_age_seconds"), "{name}: {metric:?}");
    }
}

#[test]
fn facts_are_told_as_they_are() {
    let found = Exposition::read(&fresh());
    let version = env!("CARGO_PKG_VERSION");
    for (sample, value) in [
        (
            &*format!("viaduct_build_info{{version=\"{version}\"}}"),
            1.0,
        ),
        ("viaduct_ready", 1.0),
        ("viaduct_start_time_seconds", 1_790_000_000.5),
        ("viaduct_config_generation", 2.0),
        ("viaduct_config_last_reload_successful", 0.0),
        (
            "viaduct_config_last_reload_success_timestamp_seconds",
            1_800_000_000.0,
        ),
        ("viaduct_table_id", u64::MAX as f64),
        ("viaduct_admin_denied_total", 3.0),
        ("viaduct_set_open{set=\"farm\"}", 0.0),
        (
            "viaduct_name_resolved{set=\"farm\",name=\"one.example\"}",
            1.0,
        ),
        (
            "viaduct_name_resolved{set=\"farm\",name=\"two.example\"}",
            0.0,
        ),
        ("viaduct_mirror_copies_total{outcome=\"sent\"}", 5.0),
        ("viaduct_mirror_copies_total{outcome=\"dropped\"}", 2.0),
        ("viaduct_mirror_copies_total{outcome=\"failed\"}", 1.0),
    ] {
        assert_eq!(found.value(sample), value, "{sample}");
    }
    let of = |name: &str, more: &str| {
        let address = fixture::destination(0);
        found.value(&format!(
            "viaduct_destination_{name}{{set=\"farm\",destination=\"{address}\"{more}}}"
        ))
    };
    assert_eq!(of("probes_total", ",outcome=\"answered\""), 3.0);
    assert_eq!(of("probes_total", ",outcome=\"failed\""), 1.0);
    assert_eq!(of("probe_seconds_bucket", ",le=\"0.001\""), 2.0);
    assert_eq!(of("probe_seconds_bucket", ",le=\"0.1\""), 3.0);
    assert_eq!(of("probe_seconds_sum", ""), 0.0125);
    assert!(found.value("process_resident_memory_bytes") > 1e6);
    assert!(found.value("process_open_fds") > 2.0);
    assert!(found.value("process_max_fds") >= found.value("process_open_fds"));
    assert!(found.value("process_cpu_seconds_total") > 0.0);
    assert!(found.value("process_threads") >= 3.0);
}

#[test]
fn a_destination_shows_its_state_its_health_and_its_weight_for_new_work() {
    let mut config = fixture::config();
    let destinations = &mut config.sets[0].destinations;
    let cases = [
        (State::Active, Health::Up, "active", 1.0, 50.0),
        (State::Active, Health::Warming(10), "active", 1.0, 5.0),
        (State::Active, Health::Down, "active", 0.0, 0.0),
        (State::Draining, Health::Up, "draining", 1.0, 0.0),
    ];
    for (destination, (state, health, ..)) in destinations.iter_mut().zip(cases) {
        (destination.state, destination.health) = (state, health);
        destination.weight = 50;
    }
    let found = Exposition::read(&scrape(&Totals::default(), &config));
    for (number, (_, _, state, up, weight)) in cases.into_iter().enumerate() {
        let address = fixture::destination(number);
        let of = |name: &str, more: &str| {
            found.value(&format!(
                "viaduct_destination_{name}{{set=\"farm\",destination=\"{address}\"{more}}}"
            ))
        };
        assert_eq!(of("up", ""), up, "{address}");
        assert_eq!(of("weight", ""), weight, "{address}");
        for other in ["active", "draining", "disabled"] {
            let is = of("state", &format!(",state=\"{other}\""));
            assert_eq!(is == 1.0, state == other, "{address} {other}");
        }
    }
    // The others are spares now.
    config.sets[0].destinations[0].priority = 1;
    let found = Exposition::read(&scrape(&Totals::default(), &config));
    for (number, weight) in [50.0, 0.0, 0.0, 0.0].into_iter().enumerate() {
        let address = fixture::destination(number);
        let name = format!("viaduct_destination_weight{{set=\"farm\",destination=\"{address}\"}}");
        assert_eq!(found.value(&name), weight, "{address}");
    }
}

#[test]
fn the_figures_of_a_load_add_up() {
    const CALLS: usize = 200;
    let limit = Some(LONG);
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback socket");
        socket.set_read_timeout(limit).expect("a limit");
        socket
    };
    let (phone, server) = (socket(), socket());
    let address = server.local_addr().expect("an address");
    let config = config(&[address]);
    let instance = Instance::start(config.clone(), fixture::secret()).expect("an instance");
    let request = String::from_utf8(fixture::invite()).expect("text");
    let mut buffer = [0; 4096];
    for call in 0..CALLS {
        let request = request.replace("Call-ID: ", &format!("Call-ID: {call}-"));
        phone
            .send_to(request.as_bytes(), instance.address(0))
            .expect("sent");
        let length = server.recv(&mut buffer).expect("a request");
        let response = fixture::answer(&buffer[..length], "SIP/2.0 200 OK");
        server
            .send_to(&response, instance.address(0))
            .expect("sent");
        phone.recv(&mut buffer).expect("a response");
    }
    // The last batch is counted behind its sending.
    wait_until("the count of all", || {
        instance.totals().received >= 2 * CALLS as u64
    });
    let found = Exposition::read(&scrape(&instance.totals(), &config));
    instance.stop().expect("a clean end");
    let calls = CALLS as f64;
    let labels = format!("set=\"farm\",destination=\"{address}\"");
    for (sample, value) in [
        (
            "viaduct_requests_total{method=\"INVITE\"}".to_owned(),
            calls,
        ),
        ("viaduct_responses_total{class=\"2xx\"}".to_owned(), calls),
        (
            format!("viaduct_destination_requests_total{{{labels}}}"),
            calls,
        ),
        (
            format!("viaduct_destination_responses_total{{{labels},class=\"2xx\"}}"),
            calls,
        ),
        ("viaduct_batch_datagrams_sum".to_owned(), 2.0 * calls),
    ] {
        assert_eq!(found.value(&sample), value, "{sample}");
    }
    let age = found.value(&format!(
        "viaduct_destination_last_seen_age_seconds{{{labels}}}"
    ));
    assert!(age < 60.0, "{age} s");
    assert_eq!(found.sum("viaduct_datagrams_received_total"), 2.0 * calls);
    assert_eq!(found.sum("viaduct_dropped_total"), 0.0);
    let batches = found.value("viaduct_batch_datagrams_count");
    let times = found.value("viaduct_time_in_balancer_seconds_count");
    assert!(batches == times && batches > 1.0 && batches <= 2.0 * calls);
    let time = found.value("viaduct_time_in_balancer_seconds_sum") / times;
    assert!(time > 0.0 && time < 10.0, "{time} s a batch");
    assert!(found.sum("viaduct_worker_busy_seconds_total") > 0.0);
    // It was woken up for most of them.
    let waiting = found.sum("viaduct_worker_runnable_wait_seconds_total");
    assert!(waiting > 0.0 && waiting < 60.0, "{waiting} s");
}

#[test]
fn after_the_end_the_figures_stay_and_the_port_is_free() {
    let config = config(&[fixture::destination(0)]);
    let instance = Instance::start(config, fixture::secret()).expect("an instance");
    let (view, address) = (instance.view(prober(), Arc::default()), instance.address(0));
    UdpSocket::bind(address).expect_err("it is in use");
    wait_until("work of each worker", || {
        let workers = view.totals().workers;
        workers.iter().all(|worker| worker.busy > 0.0)
    });
    let stopped = instance.stop().expect("a clean end");
    UdpSocket::bind(address).expect("it is free");
    let workers = view.totals().workers;
    assert_eq!(workers, stopped.workers);
    assert!(
        workers
            .iter()
            .all(|worker| worker.busy > 0.0 && worker.overflow == [0])
    );
}

#[test]
fn uptime_grows_whatever_the_clock_is_set_to() {
    let config = config(&[fixture::destination(0)]);
    let instance = Instance::start(config, fixture::secret()).expect("an instance");
    let mut view = instance.view(prober(), Arc::default());
    view.started += Duration::from_secs(3_600);
    assert!(control::Status::of(&view).uptime_seconds > 0.0);
    instance.stop().expect("a clean end");
}

/// The rows of the table of metrics in the documentation.
fn documented() -> Vec<[String; 5]> {
    let path = repository().join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("docs/metrics.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split(" | ");
        let cells: Vec<_> = cells.map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().ok()
    };
    rows.filter_map(cells).collect()
}

#[test]
fn the_documentation_lists_the_metrics_as_they_are() {
    let found = Exposition::read(&fresh());
    let mut documented = documented();
    documented.sort();
    let in_code = found.metrics.iter().map(|(name, metric)| {
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        [
            name.clone(),
            metric.kind.clone(),
            labels.join(", "),
            metric.help.clone(),
        ]
    });
    let in_docs = documented
        .into_iter()
        .map(|[name, kind, unit, labels, meaning]| {
            assert!(!unit.is_empty(), "{name} has no unit");
            let mut labels: Vec<_> = labels.split(", ").map(str::to_owned).collect();
            labels.sort();
            [name.replace('`', ""), kind, labels.join(", "), meaning]
        });
    let (in_code, in_docs): (Vec<_>, Vec<_>) = (in_code.collect(), in_docs.collect());
    for metric in &in_code {
        // An age has no sample yet, so its labels are not known here.
        let same = |other: &&[String; 4]| {
            let age = metric[0].ends_with("_age_seconds");
            metric[..2] == other[..2] && metric[3] == other[3] && (age || metric[2] == other[2])
        };
        assert!(
            in_docs.iter().any(|other| same(&other)),
            "not documented: {metric:?}"
        );
    }
    assert_eq!(in_code.len(), in_docs.len());
}

#[test]
fn the_documentation_explains_each_reason() {
    let path = repository().join("docs/metrics.md");
    let text = fs::read_to_string(path).expect("docs/metrics.md");
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} |\n", reason.name(), reason.explanation());
        assert!(text.contains(&row), "no row {row}");
    }
}

#[test]
fn promtool_takes_the_configuration_and_the_alerts_do_as_they_say() {
    promtool(&["check", "config", "prometheus.yml"], "");
    promtool(&["check", "rules", "viaduct.rules.yml"], "");
    promtool(&["test", "rules", "viaduct.rules.test.yml"], "");
    // Each alert has a test.
    let read = |name: &str| {
        let path = repository().join("config/prometheus").join(name);
        fs::read_to_string(path).expect("a file")
    };
    let (rules, tests) = (read("viaduct.rules.yml"), read("viaduct.rules.test.yml"));
    let names = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "));
    assert!(names.clone().count() >= 9);
    for name in names {
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} is not tested"
        );
    }
}

/// The names in a query that begin like a metric's.
fn names(query: &str) -> BTreeSet<&str> {
    let part = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let names = query.split(part);
    let ours = |name: &&str| name.starts_with("viaduct_") || name.starts_with("process_");
    names.filter(ours).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_nothing_that_does_not_exist() {
    let known = Exposition::read(&fresh()).queried();
    let queries = queries();
    assert!(queries.len() > 20, "{queries:?}");
    for (place, query) in queries {
        let names = names(&query);
        assert!(
            !names.is_empty() || query.starts_with("up{"),
            "{place}: {query}"
        );
        for name in names {
            // What has no sample before the first message has a name nevertheless.
            assert!(known.contains(name), "{place}: there is no {name}");
        }
    }
}

#[test]
fn the_dashboard_can_be_imported() {
    let dashboard = dashboard();
    assert_eq!(dashboard["title"], "Viaduct");
    assert!(dashboard["uid"].is_string() && dashboard["schemaVersion"].as_u64() >= Some(36));
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "twice: {}", panel["id"]);
        let (x, w) = (&panel["gridPos"]["x"], &panel["gridPos"]["w"]);
        assert!(x.as_u64().zip(w.as_u64()).is_some_and(|(x, w)| x + w <= 24));
        if panel["type"] != "row" {
            assert!(
                panel["datasource"]["uid"] == "${datasource}",
                "{}",
                panel["title"]
            );
        }
    }
}
