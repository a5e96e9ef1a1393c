//! What the hour has shown: figures, each with its limit.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::ops::Range;

use serde::Serialize;

use super::ctl::Metrics;
use super::operator::{SHOWN, Story};
use crate::document::{Machine, page};
use crate::farm::caller::{Figures, Record as Call};
use crate::sip::SECOND;

/// What was played and what came of it.
#[derive(Serialize)]
pub(super) struct Found {
    pub(super) story: Story,
    pub(super) figures: Figures,
    #[serde(skip)]
    pub(super) records: Vec<Call>,
    /// Of one core.
    pub(super) cpu_percent: f64,
}

#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// None: it is for the record.
    Record,
}

#[derive(Clone, Debug, Serialize)]
struct Figure {
    name: String,
    value: f64,
    limit: Limit,
}

impl Figure {
    fn new(name: impl Into<String>, value: f64, limit: Limit) -> Self {
        Self {
            name: name.into(),
            value,
            limit,
        }
    }

    fn holds(&self) -> bool {
        match self.limit {
            Limit::AtMost(most) => self.value <= most,
            Limit::AtLeast(least) => self.value >= least,
            Limit::Record => true,
        }
    }

    fn row(&self) -> [String; 4] {
        let limit = match self.limit {
            Limit::AtMost(most) => format!("at most {}", number(most)),
            Limit::AtLeast(least) => format!("at least {}", number(least)),
            Limit::Record => String::new(),
        };
        let verdict = match (self.limit, self.holds()) {
            (Limit::Record, _) => "",
            (_, true) => "holds",
            (_, false) => "FALLS SHORT",
        };
        [
            self.name.clone(),
            number(self.value),
            limit,
            verdict.to_owned(),
        ]
    }
}

/// A count as such, anything else to a tenth.
fn number(value: f64) -> String {
    match value.fract() {
        0.0 => format!("{value:.0}"),
        _ => format!("{value:.1}"),
    }
}

impl Found {
    /// Seconds for which the machine did something else at the longest, which is
    /// no fault of Viaduct's.
    fn held_up(&self) -> f64 {
        self.figures.held_up_ms as f64 / 1000.0
    }

    fn figures(&self) -> Vec<Figure> {
        let mut all = self.calls();
        all.extend(self.steps());
        all.extend(self.bad_packets());
        all.extend(self.metrics());
        all
    }

    /// What the callers say.
    fn calls(&self) -> Vec<Figure> {
        use Limit::{AtMost, Record};
        let figures = &self.figures;
        let one = |name: &str, value: u64, limit| Figure::new(name, value as f64, limit);
        vec![
            one("calls", figures.calls, Record),
            one("failed calls", figures.failures(), AtMost(0.0)),
            one("calls cut", figures.cut(), AtMost(0.0)),
            one(
                "calls lost with the destination that was killed",
                figures.lost_with_it,
                Record,
            ),
            one(
                "INVITEs that callers sent again",
                figures.retransmissions,
                Record,
            ),
            Figure::new("INVITE to 200, p99, ms", figures.setup_p99_ms, Record),
            Figure::new(
                "INVITE to 200, longest, ms",
                figures.setup_max_ms,
                AtMost(2500.0 + 1000.0 * self.held_up()),
            ),
            one("callers held up, longest, ms", figures.held_up_ms, Record),
            Figure::new("CPU, % of a core", self.cpu_percent, Record),
        ]
    }

    /// What the operator's steps came to.
    fn steps(&self) -> Vec<Figure> {
        use Limit::{AtLeast, AtMost, Record};
        let story = &self.story;
        let strays: usize = story
            .closed
            .iter()
            .map(|(who, when)| self.taken(*who, when))
            .sum();
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / SECOND as f64;
        let died = story.dead.start;
        let (off, tolerance) = self.off_weight();
        let place = has_place(&story.refusal) && story.unchanged;
        vec![
            Figure::new(
                "new calls at a destination that is drained, away or removed",
                strays as f64,
                AtMost(0.0),
            ),
            Figure::new(
                "from the kill to the last call that was tried there, s",
                seconds(died, self.last_moved()),
                AtMost(3.0 + self.held_up()),
            ),
            Figure::new(
                "from the kill until the metrics showed it, s",
                seconds(died, story.noticed),
                AtMost(3.0 + self.held_up()),
            ),
            Figure::new(
                "share while it warmed up, % of its weight",
                self.warming_share(),
                AtMost(80.0),
            ),
            Figure::new(
                "shares after that, farthest from the weights, % of calls",
                off,
                AtMost(tolerance),
            ),
            Figure::new("upgrades", story.upgrades.into(), AtLeast(2.0)),
            Figure::new(
                "upgrades after which it was another process",
                story.other_process.into(),
                AtMost(0.0),
            ),
            Figure::new(
                "errors refused with file, line and column, and without effect",
                u32::from(place).into(),
                AtLeast(1.0),
            ),
            Figure::new(
                "reloads in a row that were taken",
                story.reloads_in_burst.into(),
                Record,
            ),
        ]
    }

    /// What is seen of packets that go no further.
    fn bad_packets(&self) -> Vec<Figure> {
        use Limit::{AtLeast, AtMost, Record};
        let bad = &self.story.bad;
        let of =
            |name: &str, value: f64, limit| Figure::new(format!("bad packets{name}"), value, limit);
        let miscounted = bad.miscounted.iter().map(|(_, by)| by.abs()).sum();
        vec![
            of("", bad.sent as f64, Record),
            of(
                " that ctl showed, escaped",
                bad.shown as f64,
                AtLeast(SHOWN as f64),
            ),
            of(": drops more or less by reason", miscounted, AtMost(0.0)),
            // A few for each reason and for other things, and not one for each.
            of(
                ": lines of the log meanwhile",
                bad.lines as f64,
                AtMost(bad.sent as f64 / 10.0),
            ),
        ]
    }

    /// What Viaduct says of itself.
    fn metrics(&self) -> Vec<Figure> {
        use Limit::{AtLeast, AtMost, Record};
        let made = self.figures.calls as f64;
        let failovers = self.counted("viaduct_failovers_total", "failed-over");
        let invites = self.counted("viaduct_requests_total{method=\"INVITE\"}", "method-INVITE");
        let absorbed = self.counted("viaduct_retransmissions_absorbed_total", "absorbed");
        let overflow = self.counted("viaduct_socket_overflow_total", "overflow-");
        let resent = self.counted("viaduct_retransmissions_sent_total", "retransmitted");
        let again = resent + self.figures.retransmissions as f64;
        let sent_on = invites - failovers;
        let mut all = vec![
            Figure::new("metrics: INVITEs sent on", invites, Record),
            Figure::new("metrics: failovers", failovers, AtLeast(1.0)),
            Figure::new("metrics: retransmissions absorbed", absorbed, Record),
            Figure::new("metrics: retransmissions of its own", resent, Record),
            Figure::new(
                "metrics: calls less, INVITEs lost",
                (made - sent_on).max(0.0),
                AtMost(0.0),
            ),
            Figure::new(
                "metrics: calls more, and no retransmissions",
                (sent_on - made - again).max(0.0),
                AtMost(0.0),
            ),
            Figure::new(
                "metrics: datagrams dropped by sockets",
                overflow,
                AtMost(0.0),
            ),
        ];
        for (reason, count) in self.drops() {
            all.push(Figure::new(
                format!("metrics: dropped, {reason}"),
                count,
                Record,
            ));
        }
        let generation = self.story.after.value("viaduct_config_generation");
        all.push(Figure::new(
            "metrics: generation of the configuration",
            generation.unwrap_or(0.0),
            AtLeast(self.story.reloads_in_burst.into()),
        ));
        let reloaded = self
            .story
            .after
            .value("viaduct_config_last_reload_successful");
        all.push(Figure::new(
            "metrics: last reload was successful",
            reloaded.unwrap_or(0.0),
            AtLeast(1.0),
        ));
        let up = self.story.after.of("viaduct_destination_up{");
        all.push(Figure::new(
            "metrics: destinations that are up",
            up.map(|(_, value)| value).sum(),
            AtLeast(self.story.weights.len() as f64),
        ));
        all
    }

    /// Calls that `who` took of those that began `when`.
    fn taken(&self, who: SocketAddrV4, when: &Range<u64>) -> usize {
        let then = self
            .records
            .iter()
            .filter(|one| when.contains(&one.started));
        then.filter(|one| one.home == Some(who)).count()
    }

    /// When the last call began that was tried at the dead destination first.
    fn last_moved(&self) -> u64 {
        let dead = &self.story.dead;
        let moved = self
            .records
            .iter()
            .filter(|one| one.moved && dead.contains(&one.started));
        moved.map(|one| one.started).max().unwrap_or(dead.start)
    }

    /// Each destination's share of the calls that began `when`, and its
    /// weight's, of 1; and how many calls that were.
    fn shares(&self, when: &Range<u64>) -> (Vec<(SocketAddrV4, f64, f64)>, f64) {
        let story = &self.story;
        let all: u32 = story.weights.iter().sum();
        let those = story.farm.iter().zip(&story.weights);
        let counts: Vec<_> = those
            .map(|(who, weight)| (*who, self.taken(*who, when), *weight))
            .collect();
        let calls = counts
            .iter()
            .map(|(_, count, _)| count)
            .sum::<usize>()
            .max(1) as f64;
        let share = |(who, count, weight): (SocketAddrV4, usize, u32)| {
            (
                who,
                count as f64 / calls,
                f64::from(weight) / f64::from(all),
            )
        };
        (counts.into_iter().map(share).collect(), calls)
    }

    /// How far, in percent of all calls, shares were from weights at the
    /// most, and how far chance may bring so many calls: Call-IDs are hashed.
    fn off_weight(&self) -> (f64, f64) {
        let (shares, calls) = self.shares(&self.story.settled);
        let off = shares
            .iter()
            .map(|(_, share, weight)| (share - weight).abs());
        let deviation = shares
            .iter()
            .map(|(_, _, weight)| (weight * (1.0 - weight) / calls).sqrt());
        let most = |all: &mut dyn Iterator<Item = f64>| 100.0 * all.fold(0.0, f64::max);
        // Four of them, and half a percent for the hash table's own rounding.
        (
            most(&mut off.into_iter()),
            4.0 * most(&mut deviation.into_iter()) + 0.5,
        )
    }

    fn warming_share(&self) -> f64 {
        let (shares, _) = self.shares(&self.story.warming);
        let mut shares = shares.into_iter();
        let killed = shares.find(|(who, ..)| Some(*who) == self.story.killed);
        killed.map_or(f64::INFINITY, |(_, share, weight)| 100.0 * share / weight)
    }

    /// A counter's growth in all programs that the process has been: the last
    /// one's metrics, and what those before said at their ends, of `line` or,
    /// where that ends in a dash, of all that begins so.
    fn counted(&self, metric: &str, line: &str) -> f64 {
        let sum = |metrics: &Metrics| metrics.of(metric).map(|(_, n)| n).sum::<f64>();
        let said = self.said(line);
        let said = said.filter(|(rest, _)| rest.is_empty() || line.ends_with('-'));
        let said: f64 = said.map(|(_, n)| n).sum();
        said + sum(&self.story.after) - sum(&self.story.before)
    }

    /// The lines `counter NAME VALUE` of the log whose names begin so, each
    /// with the rest of its name.
    fn said<'a>(&'a self, line: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.story.log.lines().filter_map(move |text| {
            let (name, value) = text.strip_prefix("counter ")?.split_once(' ')?;
            Some((name.strip_prefix(line)?, value.parse().ok()?))
        })
    }

    /// Datagrams dropped, by reason.
    fn drops(&self) -> BTreeMap<String, f64> {
        let name = "viaduct_dropped_total{reason=\"";
        let mut drops = BTreeMap::new();
        let last = self
            .story
            .after
            .of(name)
            .filter_map(|(sample, n)| Some((sample.strip_prefix(name)?.split('"').next()?, n)));
        for (reason, n) in last.chain(self.said("drop-")).filter(|(_, n)| *n > 0.0) {
            *drops.entry(reason.to_owned()).or_default() += n;
        }
        drops
    }
}

/// Whether a file, a line and a column are named.
fn has_place(text: &str) -> bool {
    text.split_whitespace().any(|word| {
        let mut parts = word.trim_end_matches(':').rsplitn(3, ':');
        let mut count = || parts.next().is_some_and(|part| part.parse::<u32>().is_ok());
        count()
            && count()
            && parts
                .next()
                .is_some_and(|file| file.ends_with("viaduct.toml"))
    })
}

/// A whole run: what is written as JSON.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    machine: &'a Machine,
    /// Calls a second.
    rate: u32,
    table: Vec<Figure>,
    #[serde(flatten)]
    found: &'a Found,
}

impl<'a> Document<'a> {
    pub(super) fn new(machine: &'a Machine, rate: u32, found: &'a Found) -> Self {
        Self {
            machine,
            rate,
            table: found.figures(),
            found,
        }
    }

    pub(super) fn table(&self) -> Vec<Vec<String>> {
        let head = ["", "figure", "limit", ""].map(str::to_owned);
        let rows = self.table.iter().map(Figure::row);
        std::iter::once(head).chain(rows).map(Vec::from).collect()
    }

    /// The figures that are beyond their limits, and why calls failed.
    pub(super) fn short(&self) -> Vec<String> {
        let figures = self.table.iter().filter(|figure| !figure.holds());
        let mut short: Vec<_> = figures
            .map(|figure| format!("{}: {}", figure.name, number(figure.value)))
            .collect();
        let reasons = [&self.found.figures.failed, &self.found.figures.not_ended];
        let reasons = reasons.into_iter().flatten();
        short.extend(reasons.map(|(reason, count)| format!("{count} calls: {reason}")));
        short
    }

    /// For publication.
    pub(super) fn page(&self) -> String {
        let mut head = format!(
            "# An operator's hour, in three minutes\n\n\
             Written by `scripts/hour --publish docs`: {} calls a second.\n\
             [bench/README.md](../bench/README.md) says how it is done and what the figures are.\n\n\
             ![Calls a second by destination, and the steps](hour.svg)\n\n",
            self.rate
        );
        for (number, step) in (1..).zip(&self.found.story.steps) {
            let seconds = step.at as f64 / SECOND as f64;
            head += &format!("{number}. {seconds:.0} s: {}\n", step.what);
        }
        page(&head, self.machine, &self.table(), &self.short())
    }
}

#[cfg(test)]
fn address(number: u8) -> SocketAddrV4 {
    SocketAddrV4::new([127, 1, 0, number].into(), 5060)
}

/// Calls, one each second, taken by .1 and .2 in turn.
#[cfg(test)]
pub(super) fn example(calls: u64) -> Found {
    let record = |second: u64| Call {
        started: second * SECOND,
        home: Some(address(1 + (second % 2) as u8)),
        moved: second == 3,
    };
    Found {
        story: Story {
            farm: vec![address(1), address(2)],
            weights: vec![1, 1],
            killed: Some(address(2)),
            settled: 0..calls * SECOND,
            ..Story::default()
        },
        figures: Figures {
            calls,
            ..Figures::default()
        },
        records: (0..calls).map(record).collect(),
        cpu_percent: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hour::operator::BadPackets;

    fn figure(found: &Found, name: &str) -> Figure {
        let all = found.figures();
        let one = all.into_iter().find(|figure| figure.name.contains(name));
        one.expect("a figure")
    }

    #[test]
    fn calls_where_none_belong_and_late_attempts_at_the_dead_fall_short() {
        let mut found = example(100);
        let strays = "new calls at";
        found.story.closed = vec![(address(1), 1..2 * SECOND)];
        assert!(figure(&found, strays).holds());
        found.story.closed = vec![(address(1), 1..3 * SECOND)];
        assert!(!figure(&found, strays).holds());
        let detection = "the last call that was tried";
        found.story.dead = SECOND..9 * SECOND;
        assert_eq!(figure(&found, detection).value, 2.0);
        found.story.dead.start = 0;
        assert!(figure(&found, detection).holds());
        found.records[4].moved = true;
        assert!(!figure(&found, detection).holds());
    }

    #[test]
    fn shares_are_held_against_weights_and_chance() {
        let mut found = example(10_000);
        let name = "farthest from the weights";
        assert_eq!(figure(&found, name).value, 0.0);
        found.story.weights = vec![1, 2];
        let off = figure(&found, name);
        assert!((16.0..17.0).contains(&off.value) && !off.holds(), "{off:?}");
    }

    #[test]
    fn bad_packets_are_shown_counted_and_hardly_told() {
        let mut found = example(1);
        let bad = |sent, shown, by, lines| BadPackets {
            sent,
            shown,
            miscounted: vec![("not-sip", by), ("top-via", -by)],
            lines,
        };
        let mut holds = |bad| {
            found.story.bad = bad;
            found.bad_packets().iter().all(Figure::holds)
        };
        assert!(holds(bad(200, SHOWN, 0.0, 20)));
        assert!(!holds(bad(200, SHOWN - 1, 0.0, 20)));
        assert!(!holds(bad(200, SHOWN, 1.0, 20)));
        assert!(!holds(bad(200, SHOWN, 0.0, 21)));
    }

    #[test]
    fn counters_go_on_over_the_ends_of_programs() {
        let mut found = example(12);
        found.story.log = "counter method-INVITE 5\ncounter method-INVITED 90\n\
            ready: so\ncounter method-INVITE 4\ncounter drop-malformed 2\n"
            .to_owned();
        let metrics = |text| Metrics::read(text);
        found.story.before = metrics("viaduct_requests_total{method=\"INVITE\"} 1\n");
        found.story.after = metrics(
            "viaduct_requests_total{method=\"INVITE\"} 3\n\
             viaduct_dropped_total{reason=\"malformed\"} 1\n",
        );
        assert_eq!(figure(&found, "INVITEs sent on").value, 11.0);
        assert_eq!(figure(&found, "dropped, malformed").value, 3.0);
        let lost = figure(&found, "INVITEs lost");
        assert_eq!((lost.value, lost.holds()), (1.0, false));
        found.figures.calls = 10;
        assert!(!figure(&found, "calls more").holds());
        found.figures.retransmissions = 1;
        assert!(figure(&found, "calls more").holds());
    }

    #[test]
    fn a_place_is_a_file_a_line_and_a_column() {
        assert!(has_place(
            "error: no weight\n  --> /etc/viaduct.toml:12:7\n"
        ));
        assert!(has_place("/etc/viaduct.toml:12:7: no weight"));
        assert!(!has_place("/etc/viaduct.toml:12: no weight"));
        assert!(!has_place("127.0.0.1:5060:1"));
    }
}
