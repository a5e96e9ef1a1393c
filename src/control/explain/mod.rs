//! The decision on one message, laid open: for `viaduct explain`, and for the
//! running instance that is asked.

mod decider;
mod on_path;
mod relayed;
mod selected;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use similar::ChangeTag;
use similar::algorithms::{Capture, Replace, myers};

use crate::config::{self, Config, HostPort, Policy, text};
use crate::proxy::{Datagram, Decision, Forward, Selection, Way};

pub use decider::Decider;
use relayed::Relayed;
pub use relayed::unplaced;
use selected::Selected;

/// What an operator should know of decisions without the secret.
pub const NO_SECRET: &str = "no secret file: a running instance has a key of its own, and may \
                             choose otherwise";

/// How long to look for the shortest difference; then any will do.
const DIFF: Duration = Duration::from_millis(500);

/// An address that no real message comes from (RFC 5737, RFC 3849).
fn example_source(v4: bool) -> SocketAddr {
    let ip: IpAddr = match v4 {
        true => [192, 0, 2, 1].into(),
        false => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    SocketAddr::new(ip, crate::sip::DEFAULT_PORT)
}

/// A plain INVITE from `source` with this Call-ID.
#[must_use]
pub fn invite(config: &Config, source: SocketAddr, call_id: &str) -> Vec<u8> {
    let host = config.listeners[0].address;
    format!(
        "INVITE sip:bob@{host} SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bKexample\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@{source}>;tag=example\r\nTo: <sip:bob@{host}>\r\n\
         Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nContact: <sip:alice@{source}>\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// The listener of this name, as an index.
///
/// # Errors
/// There is none; in words, with those that there are.
pub fn listener_named(config: &Config, name: &str) -> Result<usize, String> {
    let names = || config.listeners.iter().map(|each| &*each.name);
    names().position(|each| each == name).ok_or_else(|| {
        let known = text::joined(names());
        format!("there is no listener `{name}`\n  help: there are {known}")
    })
}

/// Where a message comes from, and the listener that it comes in on, as an
/// index: as far as neither is said, an address that no real message comes
/// from, and the first listener of its family.
///
/// # Errors
/// Nothing comes in from there; in words.
pub fn arrival(
    config: &Config,
    source: Option<SocketAddr>,
    listener: Option<usize>,
) -> Result<(SocketAddr, usize), String> {
    let possible = match listener {
        Some(named) => named..named + 1,
        None => 0..config.listeners.len(),
    };
    let is_v4 = |index: &usize| config.listeners[*index].address.is_ipv4();
    let mut all = possible.clone();
    let source = source.unwrap_or_else(|| example_source(all.any(|index| is_v4(&index))));
    let found = possible
        .clone()
        .find(|index| is_v4(index) == source.is_ipv4());
    found.map(|found| (source, found)).ok_or_else(|| {
        let names = text::joined(config.listeners[possible].iter().map(|each| &each.name));
        format!(
            "nothing comes from {source} to {names}: it is of the other address family\n  help: give a \
             source of the same family"
        )
    })
}

/// What is done with one message, and why.
pub struct Explanation<'a> {
    config: &'a Config,
    /// What has decided.
    decider: &'a Decider,
    /// As its sender sent it.
    datagram: Datagram<'a>,
    /// The front balancer that it came by.
    front: Option<SocketAddr>,
    decision: Decision,
    /// See [`unplaced`].
    unplaced: Option<(usize, usize)>,
}

impl<'a> Explanation<'a> {
    /// Decides; `config` is what the decider's proxy was made from.
    pub fn of(config: &'a Config, decider: &'a mut Decider, datagram: Datagram<'a>) -> Self {
        let decision = decider.decide(&datagram);
        let decider = &*decider;
        // What was dropped for the header that it has or lacks, as it came.
        let unwrapped = decider.proxy.unwrap(&datagram);
        let (datagram, front) = unwrapped.unwrap_or((datagram, None));
        Self {
            config,
            decider,
            datagram,
            front,
            decision,
            unplaced: unplaced(config, decider),
        }
    }

    /// As people read it.
    #[must_use]
    pub fn text(&self, secret_known: bool) -> String {
        let mut out = String::new();
        let Datagram {
            bytes,
            source,
            listener,
        } = self.datagram;
        let listener = &self.config.listeners[listener];
        // Writing to a string does not fail.
        let _ = write!(out, "message    {} octets from {source}", bytes.len());
        if let Some(front) = self.front {
            let _ = write!(out, " by front balancer {front}");
        }
        let _ = writeln!(out, " on listener {}", listener.name);
        if let Some(direction) =
            on_path::direction(&self.decider.proxy, self.config, &self.datagram)
        {
            let _ = writeln!(out, "direction  {direction}");
        }
        for cookie in on_path::came(&self.decider.proxy, self.config, bytes) {
            let _ = writeln!(out, "came with  {cookie}");
        }
        if let Some(selected) = self.selected(secret_known) {
            let _ = write!(out, "{selected}");
        }
        if let names @ [_, ..] = &*self.unresolved() {
            let _ = writeln!(
                out,
                "by name    {}: not resolved here; where it is, the decision may be another",
                names.join(", ")
            );
        }
        let (what, why) = self.verdict();
        let _ = writeln!(out, "decision   {what}\nwhy        {why}");
        if let Some(relayed) = self.relayed() {
            let _ = write!(out, "{relayed}");
        }
        for cookie in on_path::added(&self.decider.proxy, self.config, bytes, self.after()) {
            let _ = writeln!(out, "adds       {cookie}");
        }
        for to in self.also() {
            let _ = writeln!(
                out,
                "also       to {to}: the configuration of before chose it, and the call may be there"
            );
        }
        let after = self.after();
        if !after.is_empty() {
            let _ = writeln!(out, "\nbefore and after, {} octets then:", after.len());
            let (before, after) = (lossy(bytes), lossy(after));
            for (sign, line) in difference(&before, &after) {
                let line = line.trim_end_matches(['\r', '\n']);
                let _ = writeln!(out, "{sign} {}", text::printable(line));
            }
        }
        out
    }

    /// As programs read it.
    #[must_use]
    pub fn json(&self, secret_known: bool) -> Value {
        let (what, why) = self.verdict();
        let (action, to) = match self.decision {
            Decision::Forward(Forward { to, .. }) => ("forward", Some(to)),
            Decision::Reply(_) if self.unplaced.is_some() => ("on-failure", None),
            Decision::Reply(reply) => ("reply", Some(reply.to)),
            Decision::Resolve => ("resolve", None),
            Decision::Drop(_) => ("drop", None),
        };
        json!({
            "source": self.datagram.source,
            "front": self.front,
            "listener": self.config.listeners[self.datagram.listener].name,
            "selection": self.selected(secret_known),
            "unresolved": self.unresolved(),
            "action": action,
            "to": to,
            "direction": on_path::direction(&self.decider.proxy, self.config, &self.datagram),
            "cookies": on_path::came(&self.decider.proxy, self.config, self.datagram.bytes),
            "adds": on_path::added(&self.decider.proxy, self.config, self.datagram.bytes, self.after()),
            "also": self.also(),
            "relayed": self.relayed(),
            "decision": what,
            "why": why,
            "before": lossy(self.datagram.bytes),
            "after": lossy(self.after()),
        })
    }

    /// The octets as they leave; empty where nothing is sent yet.
    fn after(&self) -> &[u8] {
        match self.unplaced {
            Some(_) => &[],
            None => self.decider.octets(),
        }
    }

    /// The names whose addresses are not among the destinations.
    fn unresolved(&self) -> Vec<String> {
        let names = self.config.sets.iter().flat_map(config::Set::unresolved);
        names.map(ToString::to_string).collect()
    }

    fn relayed(&self) -> Option<Relayed<'_>> {
        if let Some((set, _)) = self.unplaced {
            return Some(Relayed::elsewhere(self.config, set));
        }
        Relayed::of(
            self.config,
            &self.decider.proxy,
            &self.datagram,
            self.decision,
            self.decider.part(),
        )
    }

    /// Where else the request goes.
    fn also(&self) -> &[SocketAddr] {
        match self.decision {
            Decision::Forward(_) => self.decider.also(),
            Decision::Reply(_) | Decision::Resolve | Decision::Drop(_) => &[],
        }
    }

    fn selected(&self, secret_known: bool) -> Option<Selected<'_>> {
        let Decision::Forward(Forward {
            way: Way::Selected(selection),
            ..
        }) = self.decision
        else {
            return None;
        };
        Some(Selected::of(
            self.config,
            &self.decider.proxy,
            &self.datagram,
            selection,
            secret_known,
        ))
    }

    /// What is done, and the rule behind it.
    fn verdict(&self) -> (String, String) {
        let (what, mut why) = self.judged();
        let kept = matches!(self.decision, Decision::Drop(_) | Decision::Reply(_));
        if kept && rows_end_in_lf(self.datagram.bytes) {
            why += "; its rows end in LF alone, where SIP has CRLF: `sed 's/$/\\r/'` mends a file";
        }
        (what, why)
    }

    fn judged(&self) -> (String, String) {
        match self.decision {
            Decision::Forward(Forward {
                to, listener, way, ..
            }) => {
                let from = &self.config.listeners[listener].name;
                (
                    format!("forward to {to} from listener {from}"),
                    self.way(way),
                )
            }
            Decision::Reply(reply) => (
                match self.unplaced {
                    Some((_, next)) => format!(
                        "no reply yet: a failure rule has it tried in set {}",
                        self.config.sets[next].name
                    ),
                    None => format!("reply {} to {}", reply.status.text(), reply.to),
                },
                format!("{}: {}", reply.reason.name(), reply.reason.explanation()),
            ),
            Decision::Resolve => {
                let HostPort { host, port } = self.decider.wanted();
                let asked = match port {
                    Some(port) => format!("A and AAAA, port {port}"),
                    None => format!("SRV of _sip._udp.{host}, else A and AAAA with port 5060"),
                };
                (
                    format!("would resolve {host} ({asked}) and forward to what it stands for"),
                    self.way(Way::Outbound(None)),
                )
            }
            Decision::Drop(reason) => (
                "drop, nothing is sent".to_owned(),
                format!("{}: {}", reason.name(), reason.explanation()),
            ),
        }
    }

    fn way(&self, way: Way) -> String {
        match way {
            Way::Selected(selection) => {
                let set = &self.config.sets[selection.set];
                match set.policy {
                    Policy::Hash => "the slot of the key belongs to it".to_owned(),
                    Policy::Kamailio => self.by_kamailio(selection),
                    Policy::RoundRobin => "its turn, in a worker that has just started".to_owned(),
                    Policy::Random => "the slot of key and CSeq number belongs to it".to_owned(),
                }
            }
            Way::Former => "no destination takes new work, and the configuration of before chose \
                            it: the call may be there"
                .to_owned(),
            Way::Dialog(place) => format!(
                "the cookie in its Route says that this member of set {} has its dialog \
                 (RFC 3261 §16.4, §16.6 item 4)",
                self.config.sets[usize::from(place.set)].name
            ),
            Way::Named(place) => format!(
                "Route or Request-URI names this member of set {} (RFC 3261 §16.4, §16.5)",
                self.config.sets[usize::from(place.set)].name
            ),
            Way::Outbound(_) => "it comes from a member: it goes where Route or Request-URI says \
                              (RFC 3261 §16.5)"
                .to_owned(),
            Way::Flow => "it comes from a member: it goes to the phone whose address our URI in \
                          Route vouches for (RFC 3327, RFC 5626 §5.3)"
                .to_owned(),
            Way::Allowed => "Route or Request-URI names it, and allow-next-hop holds it, or \
                             member-sources where the cookie in its Route says that a member has \
                             its dialog"
                .to_owned(),
            Way::Response => "our Via vouches for it: the branch verifies (RFC 3261 §18.2.2, \
                              RFC 3581 §4)"
                .to_owned(),
        }
    }

    fn by_kamailio(&self, selection: Selection) -> String {
        let proxy = &self.decider.proxy;
        let set = &proxy.dispatcher().sets()[selection.set];
        let (call_id, _) = (proxy.key(&self.datagram, selection.set)).unwrap_or_default();
        let rule = "the hash modulo the number of destinations";
        match set.first(&call_id) {
            Some(first) if first != selection.destination => format!(
                "{rule} gives {}, which takes no new work: it is the next that does",
                set.definition().destinations[first].uri
            ),
            _ => rule.to_owned(),
        }
    }
}

/// The lines of both with a sign: `-` is only in `before`, `+` only in `after`.
///
/// One algorithm of the library, called by its name: the entry that takes any of
/// them compiles all of them, a seventh of what there was to compile.
fn difference<'a>(before: &'a str, after: &'a str) -> Vec<(char, &'a str)> {
    let [old, new] = [before, after].map(|text| text.split_inclusive('\n').collect::<Vec<_>>());
    let mut found = Replace::new(Capture::new());
    let deadline = Some(Instant::now() + DIFF);
    let (olds, news) = (0..old.len(), 0..new.len());
    let Ok(()) = myers::diff_deadline_raw(&mut found, &old, olds, &new, news, deadline);
    let operations = found.into_inner().into_ops();
    let changes = (operations.iter()).flat_map(|operation| operation.iter_changes(&old, &new));
    changes
        .map(|change| match change.tag() {
            ChangeTag::Delete => ('-', change.value()),
            ChangeTag::Insert => ('+', change.value()),
            ChangeTag::Equal => (' ', change.value()),
        })
        .collect()
}

/// Whether it is SIP whose first row ends in an LF without a CR, as editors
/// write files.
fn rows_end_in_lf(bytes: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return false;
    };
    let row = &bytes[..end];
    !row.ends_with(b"\r") && memchr::memmem::find(row, b"SIP/2.0").is_some()
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
