//! The small texts of an operator's day: what a probe is told, where the
//! admin API is served, what is mirrored.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Accept;
use crate::config::diagnostic::Fault;
use crate::config::stateful::text::{scheme, time_within};
use crate::config::text::{address_or_port, peer};
use crate::sip::Scheme;

/// The port of the admin API over TCP.
pub const ADMIN_PORT: u16 = 8060;
/// The port on which collectors wait for HEP.
const HEP_PORT: u16 = 9060;
/// The longest key, in octets.
const LONGEST_KEY: usize = 255;

/// Reads the time from one probe to the next, 100 ms to 1 h.
pub fn interval(text: &str) -> Result<Duration, Fault> {
    let bounds = Duration::from_millis(100)..=Duration::from_secs(3600);
    time_within(text, bounds, "100ms to 1h")
}

/// Reads how long a probe waits for its response, 10 ms to 1 min.
pub fn timeout(text: &str) -> Result<Duration, Fault> {
    let bounds = Duration::from_millis(10)..=Duration::from_secs(60);
    time_within(text, bounds, "10ms to 1m")
}

/// Reads how long a destination is to be quiet, 1 ms to 24 h.
pub fn quiet(text: &str) -> Result<Duration, Fault> {
    let bounds = Duration::from_millis(1)..=Duration::from_secs(86_400);
    time_within(text, bounds, "1ms to 24h")
}

/// Reads a class of final responses, as `2xx`, or one status.
pub(super) fn accept(text: &str) -> Result<Accept, Fault> {
    match (text.strip_suffix("xx").map(str::parse), text.parse()) {
        (Some(Ok(class @ 2..=6)), _) => Ok(Accept::Class(class)),
        (None, Ok(status @ 200..=699)) => Ok(Accept::Status(status)),
        _ => Err(Fault::new(format!("`{text}` is no final response"))
            .help("give a class from `2xx` to `6xx`, or a status from 200 to 699")),
    }
}

/// As it is written in the file.
impl fmt::Display for Accept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Class(class) => write!(f, "{class}xx"),
            Self::Status(status) => status.fmt(f),
        }
    }
}

/// Reads a SIP URI that a probe bears.
pub(in crate::config) fn sip_uri(text: &str) -> Result<String, Fault> {
    match scheme(text) {
        Some(Scheme::Sip) => Ok(text.to_owned()),
        _ => Err(Fault::new(format!("`{text}` is not a SIP URI"))
            .help("write `sip:user@host`, without headers and white space")),
    }
}

/// Reads an address that the admin API is served at; the port is 8060 unless
/// given, and 0 takes any free one.
pub fn admin_listen(text: &str) -> Result<SocketAddr, Fault> {
    let address = address_or_port(text, ADMIN_PORT)?;
    if address.ip().is_multicast() {
        return Err(Fault::new(format!("`{text}` is a multicast address"))
            .why("the admin API is served over TCP")
            .help("give a unicast address of this machine"));
    }
    Ok(address)
}

/// Reads the address of a collector; the port is 9060 unless given.
pub fn collector(text: &str) -> Result<SocketAddr, Fault> {
    peer(text, HEP_PORT, "a collector")
}

/// Reads a share in percent, with one decimal at most, as thousandths.
pub fn sample(text: &str) -> Result<u32, Fault> {
    let digits = |text: &str| text.bytes().all(|octet| octet.is_ascii_digit());
    let read = || {
        let (whole, tenths) = match text.strip_suffix('%')?.split_once('.') {
            Some((whole, tenths)) if tenths.len() == 1 => (whole, tenths),
            Some(_) => return None,
            None => (text.strip_suffix('%')?, "0"),
        };
        let whole: u32 = whole.parse().ok().filter(|_| digits(whole))?;
        let tenths: u32 = tenths.parse().ok().filter(|_| digits(tenths))?;
        let sample = whole.checked_mul(10)?.checked_add(tenths)?;
        (1..=1000).contains(&sample).then_some(sample)
    };
    read().ok_or_else(|| {
        Fault::new(format!("`{text}` is not a share of calls"))
            .help("give 0.1% to 100%, with one decimal at most")
    })
}

/// How a share is written.
#[must_use]
pub fn sample_name(sample: u32) -> String {
    match (sample / 10, sample % 10) {
        (whole, 0) => format!("{whole}%"),
        (whole, tenths) => format!("{whole}.{tenths}%"),
    }
}

/// Reads a collector's key.
pub(super) fn mirror_key(text: &str) -> Result<String, Fault> {
    match text.len() {
        1..=LONGEST_KEY => Ok(text.to_owned()),
        length => Err(Fault::new(format!("the key is {length} octets long"))
            .help(format!("give 1 to {LONGEST_KEY}, or leave it out"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_bounds_of_their_own() {
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("1h"), Ok(Duration::from_secs(3600)));
        assert!(interval("99ms").is_err() && interval("3601s").is_err());
        assert_eq!(timeout("10ms"), Ok(Duration::from_millis(10)));
        assert_eq!(timeout("1m"), Ok(Duration::from_secs(60)));
        assert!(timeout("9ms").is_err() && timeout("61s").is_err());
    }

    #[test]
    fn what_counts_as_an_answer() {
        for text in ["2xx", "6xx", "200", "501", "699"] {
            let read = accept(text).map(|accept| accept.to_string());
            assert_eq!(read, Ok(text.to_owned()));
        }
        for text in [
            "", "xx", "1xx", "7xx", "2XX", "22xx", "199", "700", "-200", "ok",
        ] {
            assert!(accept(text).is_err(), "{text}");
        }
    }

    #[test]
    fn uris() {
        for text in ["sip:a@example.com", "sip:10.0.0.1:5070;x=y", "SIP:[::1]"] {
            assert_eq!(sip_uri(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "a@example.com",
            "sips:a@example.com",
            "tel:+49",
            "sip:a b@example.com",
            "<sip:a@example.com>",
            "sip:a@example.com?Subject=x",
            "sip:a@example.com\r\nX: y",
        ] {
            assert!(sip_uri(text).is_err(), "{text}");
        }
    }

    #[test]
    fn shares() {
        for (text, thousandths) in [("0.1%", 1), ("12.5%", 125), ("7%", 70), ("100%", 1000)] {
            assert_eq!(sample(text), Ok(thousandths));
            assert_eq!(sample_name(thousandths), text);
        }
        assert_eq!(sample("100.0%"), Ok(1000));
        for text in [
            "",
            "%",
            "1",
            "0%",
            "0.0%",
            "100.1%",
            "1.25%",
            "1.%",
            ".5%",
            "+1%",
            "1.+%",
            "-1%",
            "4294967296%",
            "4294967295%",
        ] {
            assert!(sample(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses_have_ports_of_their_own() {
        let socket = |text: &str| text.parse::<SocketAddr>().expect("an address");
        assert_eq!(admin_listen("127.0.0.1"), Ok(socket("127.0.0.1:8060")));
        assert_eq!(admin_listen("[::1]:0"), Ok(socket("[::1]:0")));
        assert!(admin_listen("224.0.0.1").is_err() && admin_listen("localhost").is_err());
        assert_eq!(collector("10.0.0.9"), Ok(socket("10.0.0.9:9060")));
        for text in ["0.0.0.0", "224.0.0.1", "10.0.0.9:0", "hep.example.com"] {
            assert!(collector(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys() {
        assert!(mirror_key("s").is_ok() && mirror_key(&"s".repeat(255)).is_ok());
        assert!(mirror_key("").is_err() && mirror_key(&"s".repeat(256)).is_err());
    }
}
