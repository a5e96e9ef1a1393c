//! The small texts of stateful relay: times, timers, failures, and where the
//! accounting goes.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::{Accounting, AccountingTarget, OnFailure, Stateful, TIMERS};
use crate::config::Set;
use crate::config::diagnostic::Fault;
use crate::config::text::joined;
use crate::sip::{Scheme, Span, uri};

/// Bounds of every time: below, a machine could not keep it; above, nobody
/// waits.
pub(super) const TIMES: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(3600);

/// Reads a time from 1 ms to 1 h: an integer with its unit, as `500ms`.
pub fn time(text: &str) -> Result<Duration, Fault> {
    time_within(text, TIMES, "1ms to 1h")
}

/// The same within other bounds, which `range` names.
pub(in crate::config) fn time_within(
    text: &str,
    bounds: RangeInclusive<Duration>,
    range: &str,
) -> Result<Duration, Fault> {
    let read = read_time(text).filter(|time| bounds.contains(time));
    read.ok_or_else(|| no_time(text, range))
}

/// The same, or `0s`.
pub fn time_or_none(text: &str) -> Result<Duration, Fault> {
    let fits = |time: &Duration| time.is_zero() || TIMES.contains(time);
    let read = read_time(text).filter(fits);
    read.ok_or_else(|| no_time(text, "0s or 1ms to 1h"))
}

fn no_time(text: &str, range: &str) -> Fault {
    Fault::new(format!("`{text}` is not a time"))
        .help(format!("give {range}: an integer with ms, s, m or h"))
}

fn read_time(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let milliseconds = number.parse::<u64>().ok()?.checked_mul(factor)?;
    Some(Duration::from_millis(milliseconds))
}

/// How a time is written.
pub fn time_name(time: Duration) -> String {
    match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Reads a timer and its time: `T1=500ms`.
pub fn timer(text: &str) -> Result<(&'static str, Duration), Fault> {
    let Some((given, value)) = text.split_once('=') else {
        return Err(
            Fault::new(format!("`{text}` names no timer and its time")).help("write `T1=500ms`")
        );
    };
    let names = TIMERS.map(|(name, _)| name);
    let name = names.into_iter().find(|name| *name == given);
    let name = name.ok_or_else(|| {
        let fault = Fault::new(format!("there is no timer `{given}` to set"));
        fault.help(format!("there are: {}", names.join(", ")))
    })?;
    Ok((name, time(value)?))
}

/// Reads a final response after which a request can be tried elsewhere.
pub fn failure(text: &str) -> Result<u16, Fault> {
    let fault = |why: &str| Fault::new(format!("nothing is tried again after `{text}`")).why(why);
    match text.parse() {
        Ok(401 | 407) => Err(fault("a challenge is for the caller to answer")),
        Ok(status @ 300..=599) => Ok(status),
        Ok(600..=699) => Err(fault(
            "a 6xx speaks for every place that the callee may be at (RFC 3261 §16.7 item 5)",
        )),
        _ => Err(
            Fault::new(format!("`{text}` is not the status of a failure"))
                .help("give 300 to 599, but neither 401 nor 407"),
        ),
    }
}

/// The longest Request-URI that a request can get, in octets: there must be room
/// for the Route values of a strict router.
const MAX_REQUEST_URI: usize = 1024;

/// Reads the Request-URI that a request gets: a SIP or tel URI.
pub(super) fn request_uri(text: &str) -> Result<String, Fault> {
    match scheme(text) {
        _ if text.len() > MAX_REQUEST_URI => {
            let length = text.len();
            Err(Fault::new(format!("the Request-URI has {length} octets"))
                .why(format!("{MAX_REQUEST_URI} is the most")))
        }
        Some(Scheme::Sip | Scheme::Tel) => Ok(text.to_owned()),
        Some(Scheme::Sips) => Err(Fault::new(format!("`{text}` cannot be a Request-URI here"))
            .why("`sips:` demands TLS, and Viaduct speaks SIP over UDP")),
        Some(Scheme::Urn | Scheme::Other) | None => {
            Err(Fault::new(format!("`{text}` is not a SIP or tel URI"))
                .help("write `sip:user@host`, without headers and white space"))
        }
    }
}

/// The scheme of a URI that a request can bear; `None` where it is none.
pub(in crate::config) fn scheme(text: &str) -> Option<Scheme> {
    let visible = text.bytes().all(|octet| octet.is_ascii_graphic());
    let read = uri(text.as_bytes(), Span::new(0, text.len())).filter(|_| visible);
    read.map(|uri| uri.scheme)
}

/// Reads where the accounting goes: a path, `stdout` or `-`, or `unix:PATH`.
pub fn accounting_target(text: &str) -> Result<AccountingTarget, Fault> {
    match (text, text.strip_prefix("unix:")) {
        ("" | "unix:", _) => Err(Fault::new("there is no path")
            .help("give a path, `stdout`, or `unix:` and the path of a socket")),
        ("stdout" | "-", _) => Ok(AccountingTarget::Stdout),
        (_, Some(path)) => Ok(AccountingTarget::Socket(PathBuf::from(path))),
        (path, None) => Ok(AccountingTarget::File(PathBuf::from(path))),
    }
}

/// As it is written in the file.
impl fmt::Display for AccountingTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdout => f.write_str("stdout"),
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Stateful {
    /// What it comes to, for people, a line each: none where nothing is
    /// stateful.
    #[must_use]
    pub fn facts(&self) -> Vec<String> {
        let mut facts = Vec::new();
        if !self.methods.is_empty() {
            let (methods, most) = (self.methods.join(", "), self.transactions);
            facts.push(format!("stateful: {methods}, at most {most} transactions"));
            if let Some(Accounting { target, methods }) = &self.accounting {
                let all = methods.is_empty();
                let methods = if all { &self.methods } else { methods };
                facts.push(format!("accounting: {} to {target}", methods.join(", ")));
            }
        }
        facts
    }
}

impl OnFailure {
    /// What it does, for people; `sets` are the configuration's.
    #[must_use]
    pub fn text(&self, sets: &[Set]) -> String {
        let mut text = joined(&self.statuses);
        if !self.from_sets.is_empty() {
            let names = joined(self.from_sets.iter().map(|set| &sets[*set].name));
            text += &format!(" of set {names}");
        }
        text += &format!(" to set {}", sets[self.set].name);
        if let Some(uri) = &self.request_uri {
            text += &format!(" as {uri}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let milliseconds = |text| time(text).map(|time| time.as_millis());
        assert_eq!(milliseconds("1ms"), Ok(1));
        assert_eq!(milliseconds("500ms"), Ok(500));
        assert_eq!(milliseconds("3m"), Ok(180_000));
        assert_eq!(milliseconds("1h"), Ok(3_600_000));
        let bad = [
            "",
            "5",
            "s",
            "0s",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1S",
            "61m",
            "3601s",
            "2h",
            "1d",
            "18446744073709551616ms",
            "18446744073709551615s",
        ];
        for text in bad {
            assert!(time(text).is_err(), "{text}");
        }
        assert_eq!(time_or_none("0s"), Ok(Duration::ZERO));
        assert!(time_or_none("0").is_err());
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["1ms", "999ms", "1s", "1001ms", "180s", "3600s"] {
            assert_eq!(time(text).map(time_name), Ok(text.to_owned()));
        }
        assert_eq!(time_name(Duration::ZERO), "0s");
        for text in ["stdout", "unix:/run/x", "calls.json", "/a b"] {
            let read = accounting_target(text).map(|target| target.to_string());
            assert_eq!(read, Ok(text.to_owned()));
        }
        assert_eq!(accounting_target("-"), Ok(AccountingTarget::Stdout));
    }

    #[test]
    fn timers_have_the_names_of_the_rfc() {
        assert_eq!(timer("T1=1s"), Ok(("T1", Duration::from_secs(1))));
        for text in ["", "T1", "t1=1s", "A=1s", "T1=", "T1=0s", "=1s", "C:3m"] {
            assert!(timer(text).is_err(), "{text}");
        }
    }

    #[test]
    fn failures() {
        for (text, status) in [("300", 300), ("503", 503), ("599", 599)] {
            assert_eq!(failure(text), Ok(status));
        }
        for text in ["", "299", "401", "407", "600", "699", "700", "-1", "65839"] {
            assert!(failure(text).is_err(), "{text}");
        }
    }

    #[test]
    fn request_uris() {
        for text in [
            "sip:box@192.0.2.1",
            "SIP:box@voicemail.example;cause=486",
            "sip:[2001:db8::1]:5070",
            "tel:+4930123456;phone-context=example",
        ] {
            assert_eq!(request_uri(text), Ok(text.to_owned()));
        }
        for text in [
            "",
            "box",
            "sip:",
            "tel:",
            "sips:box@192.0.2.1",
            "http://example.com",
            "sip:a b@192.0.2.1",
            "sip:box@192.0.2.1?Subject=x",
            "sip:box@192.0.2.1\r\nX: y",
            "sip:box@192.0.2.1;x=\0",
            "sip:bÖx@192.0.2.1",
            "<sip:box@192.0.2.1>",
            " sip:box@192.0.2.1",
        ] {
            assert!(request_uri(text).is_err(), "{text}");
        }
        let long = |length: usize| request_uri(&format!("sip:{}@x", "a".repeat(length - 6)));
        assert!(long(MAX_REQUEST_URI).is_ok());
        assert!(long(MAX_REQUEST_URI + 1).is_err());
    }
}
