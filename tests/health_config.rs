//! What configures probes, as `viaduct check` sees it.

use std::time::Duration;

use viaduct::config::{Accept, Config, Overrides, Probe};

use support::checking::{LISTEN, check, checked, file, good, good_and, load, load_over, refused};
use support::folder::{said, stderr};

/// How the destinations of each set are probed.
fn probes(config: &Config) -> Vec<Vec<Option<Probe>>> {
    let of_set = |set: &viaduct::config::Set| {
        let destinations = set.destinations.iter();
        destinations
            .map(|each| each.probe.as_deref().cloned())
            .collect()
    };
    config.sets.iter().map(of_set).collect()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn every_destination_is_probed_unless_told_otherwise() {
    assert_eq!(probes(&load(&good_and(""))), [[Some(Probe::default())]]);
    for off in ["health = 'off'", "health = false", "health.probe = 'off'"] {
        assert_eq!(probes(&load(&file(off, ""))), [[None]], "{off}");
    }
    for on in ["health = 'on'", "health = { probe = 'on' }"] {
        assert_eq!(probes(&load(&file(on, ""))), [[Some(Probe::default())]]);
    }
}

#[test]
fn a_destination_goes_before_its_set_before_the_file_key_by_key() {
    let toml = format!(
        "{LISTEN}
        [[set]]
        name = 'a'
        health = {{ interval = '5s', from = 'sip:set@example.com' }}
        destinations = [
            '10.0.0.1',
            {{ uri = '10.0.0.2', health = {{ accept = ['200', 404], interval = '7s' }} }},
            {{ uri = '10.0.0.3', health = 'off' }},
        ]
        [[set]]
        name = 'b'
        health = 'off'
        destinations = ['10.0.0.4', {{ uri = '10.0.0.5', health = 'on' }}]
        [[route]]
        set = 'b'
        [health]
        timeout = '200ms'
        down-after = 5
        up-after = 1
        request-uri = 'sip:ping@example.com'
        slow-start = '0s'
        "
    );
    let general = Probe {
        timeout: Duration::from_millis(200),
        down_after: 5,
        up_after: 1,
        request_uri: Some("sip:ping@example.com".to_owned()),
        slow_start: Duration::ZERO,
        ..Probe::default()
    };
    let of_set = Probe {
        interval: seconds(5),
        from: Some("sip:set@example.com".to_owned()),
        ..general.clone()
    };
    let own = Probe {
        interval: seconds(7),
        accept: vec![Accept::Status(200), Accept::Status(404)],
        ..of_set.clone()
    };
    let wanted = [
        vec![Some(of_set), Some(own), None],
        vec![None, Some(general)],
    ];
    assert_eq!(probes(&load(&toml)), wanted);
}

#[test]
fn a_flag_goes_before_the_health_of_the_file_and_off_before_all() {
    let toml = file(
        "",
        "health.interval = '5s'\n[health]\ninterval = '3s'\ntimeout = '300ms'\n",
    );
    let mut overrides = Overrides::default();
    overrides.operation.health.value.interval = Some(seconds(9));
    overrides.operation.health.value.timeout = Some(Duration::from_millis(400));
    let wanted = Probe {
        interval: seconds(5),
        timeout: Duration::from_millis(400),
        ..Probe::default()
    };
    assert_eq!(probes(&load_over(&toml, &overrides)), [[Some(wanted)]]);

    let stubborn = file("", "health = 'on'\n");
    overrides.operation.probes_off = true;
    assert_eq!(probes(&load_over(&stubborn, &overrides)), [[None]]);
    let spared = file("health = 'off'", "");
    overrides.operation.probes_off = false;
    overrides.operation.health.value.probe = Some(true);
    assert!(probes(&load_over(&spared, &overrides))[0][0].is_some());
}

#[test]
fn values_of_health_are_checked() {
    let bounds = [
        ("interval", "'99ms'", "give 100ms to 1h"),
        ("interval", "'61m'", "give 100ms to 1h"),
        ("interval", "1", "expected a string, found integer"),
        ("timeout", "'9ms'", "give 10ms to 1m"),
        ("timeout", "'61s'", "give 10ms to 1m"),
        ("down-after", "0", "give 1 to 100"),
        ("up-after", "101", "give 1 to 100"),
        ("slow-start", "'2h'", "give 0s or 1ms to 1h"),
        ("probe", "'maybe'", "expected true or false"),
        (
            "from",
            "'a@example.com'",
            "`a@example.com` is not a SIP URI",
        ),
        ("from", "'tel:+49'", "`tel:+49` is not a SIP URI"),
        ("request-uri", "'sips:a@b'", "`sips:a@b` is not a SIP URI"),
        ("accept", "['2x']", "`2x` is no final response"),
        ("accept", "['1xx']", "`1xx` is no final response"),
        ("accept", "[199]", "`199` is no final response"),
        ("accept", "[]", "the list is empty"),
    ];
    for (key, value, what) in bounds {
        let place = format!("v.toml:7:{}: error: ", key.len() + 4);
        let column = match value.strip_prefix('[') {
            Some(rest) if rest != "]" => format!("v.toml:7:{}: error: ", key.len() + 5),
            _ => place,
        };
        refused(
            &file("", &format!("[health]\n{key} = {value}\n")),
            &[&column, what],
        );
        // The same in a set and in a destination.
        let set = format!("{LISTEN}[[set]]\nname = 'a'\ndestinations = '10.0.0.1'\n");
        refused(
            &format!("{set}health.{key} = {value}\n"),
            &["v.toml:5:", what],
        );
        let destination = format!("{{ uri = '10.0.0.1', health = {{ {key} = {value} }} }}");
        let toml = format!("{LISTEN}[[set]]\nname = 'a'\ndestinations = [{destination}]\n");
        refused(&toml, &["v.toml:4:", what]);
    }
    refused(
        &file("", "[health]\nintervall = '1s'\n"),
        &[
            "v.toml:7:1: error: unknown key `intervall` in [health]",
            "help: did you mean `interval`?",
        ],
    );
    refused(
        &file("when-all-down = 'forwards'", ""),
        &[
            "v.toml:1:17: error: `forwards` is not a value of when-all-down",
            "help: did you mean `forward`?",
        ],
    );
}

#[test]
fn a_timeout_that_outlasts_the_interval_is_told_once_and_where_it_is_written() {
    let what = "warning: a probe may take longer than the next one is away";
    let once = |toml: &str, args: &[&str], place: &str| {
        let output = checked(toml, args);
        said(&output, 0, &[&format!("{place}{what}")]);
        assert_eq!(stderr(&output).matches(what).count(), 1);
    };
    let second = "[[set]]\nname = 'b'\ndestinations = ['10.0.0.2', '10.0.0.3']\n\
                  [[route]]\nset = 'b'\n";
    let general = format!("{second}[health]\ntimeout = '2s'\n");
    once(&file("", &general), &[], "v.toml:11:1: ");
    once(
        &file("", second),
        &["--health-timeout", "1s"],
        "--health-timeout: ",
    );
    once(
        &file("", second),
        &["--health-interval", "200ms"],
        "--health-interval: ",
    );
    once(
        &file("", "health.interval = '300ms'\n"),
        &[],
        "v.toml:6:1: ",
    );
    let toml = format!(
        "{LISTEN}[[set]]\nname = 'a'\n\
         destinations = [{{ uri = '10.0.0.1', health.timeout = '1s' }}, '10.0.0.2']\n"
    );
    once(&toml, &[], "v.toml:4:17: ");
    // Nothing is probed by them, or the one has been mended elsewhere.
    good(&file("health = { probe = 'off', timeout = '2s' }", ""));
    check(&file("", &general), &["--health-interval", "3s"], 0, &[]);
}
