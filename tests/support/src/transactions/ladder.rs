//! What went where and when, to be shown where an invariant breaks.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};
use std::net::SocketAddr;

use super::message::Message;

/// Rows that are kept of each call.
const ROWS: usize = 60;

pub struct Ladder {
    names: BTreeMap<SocketAddr, String>,
    calls: BTreeMap<String, VecDeque<String>>,
    seen: BTreeSet<u64>,
    trace: DefaultHasher,
}

impl Ladder {
    pub fn new(names: BTreeMap<SocketAddr, String>) -> Self {
        Self {
            names,
            calls: BTreeMap::new(),
            seen: BTreeSet::new(),
            trace: DefaultHasher::new(),
        }
    }

    /// A datagram that leaves; `delays` are those of its copies.
    pub fn leaves(
        &mut self,
        time: u64,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
        message: &Message,
        delays: &[u64],
    ) {
        (time, from, to, bytes, delays).hash(&mut self.trace);
        let mut hasher = DefaultHasher::new();
        (from, to, bytes).hash(&mut hasher);
        let again = if self.seen.insert(hasher.finish()) {
            ""
        } else {
            "  again"
        };
        let fate = match delays {
            [] => "  LOST".to_owned(),
            [delay] => format!("  +{delay}"),
            _ => format!("  twice: {delays:?}"),
        };
        let what = match message.status() {
            0 => message.method().to_owned(),
            status => format!("{status} ({})", message.method()),
        };
        let tag = match message.to_tag() {
            "" => String::new(),
            tag => format!("  to-tag {tag}"),
        };
        let row = format!(
            "{:>13} -> {:<13} {what:<16} {}{tag}{again}{fate}",
            self.name(from),
            self.name(to),
            message.branch(0),
        );
        self.note(time, message.call_id(), &row);
    }

    /// Something else of one call.
    pub fn note(&mut self, time: u64, call: &str, row: &str) {
        let rows = self.calls.entry(call.to_owned()).or_default();
        if rows.len() == ROWS {
            rows.pop_front();
        }
        rows.push_back(format!("{}  {row}", clock(time)));
    }

    /// Something that concerns all.
    pub fn note_all(&mut self, time: u64, row: &str) {
        let calls: Vec<_> = self.calls.keys().cloned().collect();
        for call in calls {
            self.note(time, &call, &format!("({row})"));
        }
    }

    pub fn name(&self, address: SocketAddr) -> String {
        let known = self.names.get(&address).cloned();
        known.unwrap_or_else(|| address.to_string())
    }

    /// The rows of one call.
    pub fn show(&self, call: &str) -> String {
        let mut text = String::new();
        for row in self.calls.get(call).into_iter().flatten() {
            let _ = writeln!(text, "  {row}");
        }
        text
    }

    /// The same for the same world.
    pub fn trace(&self) -> u64 {
        self.trace.finish()
    }
}

pub fn clock(time: u64) -> String {
    format!("{:>4}.{:03}", time / 1000, time % 1000)
}
