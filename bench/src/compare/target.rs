//! What is aimed at, and whether it was reached.

use serde::Serialize;

use super::contender::{
    DIRECT, GSO_EQUAL, KAMAILIO, KAMAILIO_TM, MMSG, OFF, STATEFUL, STATELESS, STATELESS_EQUAL,
    TWO_WORKERS, WATCHED,
};
use super::part::{FILLING, FIXED, HALF, IN_PROGRESS, LINGERING, Load, MINUTE, TWICE};
use super::summary::{
    BEGUN, BESIDE, CPU, Cell, GROWTH, LOST, Metric, OCTETS, P50, P99, P999, RATE, RESIDENT,
    Results, Spread, TRANSACTION, UNEXPECTED, WIRE,
};

/// One aim and what was measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) aim: String,
    /// `None` where the run did not measure it.
    pub(crate) measured: Option<Spread>,
    pub(crate) met: Option<bool>,
    /// Why it was not measured, where that is known.
    pub(crate) remark: &'static str,
}

/// Which way is good.
#[derive(Clone, Copy)]
enum Aim {
    AtMost(f64),
    AtLeast(f64),
}

fn target(what: &str, aim: Aim, measured: Option<Spread>) -> Target {
    let (text, met) = match aim {
        Aim::AtMost(bound) => (
            format!("at most {bound}"),
            measured.map(|spread| spread.median <= bound),
        ),
        Aim::AtLeast(bound) => (
            format!("at least {bound}"),
            measured.map(|spread| spread.median >= bound),
        ),
    };
    Target {
        what: what.to_owned(),
        aim: text,
        measured,
        met,
        remark: "",
    }
}

/// Looks up what was measured.
#[derive(Clone, Copy)]
struct Measured<'a>(&'a [Results]);

impl<'a> Measured<'a> {
    /// In the first setup where none is given.
    fn cell(
        self,
        part: &str,
        setup: Option<&str>,
        contender: &str,
        load: Load,
    ) -> Option<&'a Cell> {
        let part = self.0.iter().find(|one| one.name == part)?;
        let setup = setup.or_else(|| part.setups().first().copied())?;
        part.cell(contender, setup, &load.to_string())
    }

    fn headline(self, contender: &str, load: Load) -> Option<&'a Cell> {
        self.cell("headline", None, contender, load)
    }

    fn ratio(self, own: &str, other: &str, load: Load, metric: &Metric) -> Option<Spread> {
        self.headline(own, load)?
            .ratio(self.headline(other, load)?, metric)
    }

    /// CPU a message with a full queue in a setup of an axis.
    fn along(self, axis: &str, setup: &str, own: &str, other: &str) -> Option<Spread> {
        let of = |contender| self.cell(axis, Some(setup), contender, Load::Full);
        of(own)?.ratio(of(other)?, &CPU)
    }
}

/// Every aim, against what `parts` measured. By the medians.
pub(crate) fn all(parts: &[Results]) -> Vec<Target> {
    let measured = Measured(parts);
    let cpu = |own, other, load| measured.ratio(own, other, load, &CPU);
    let pad = STATELESS;
    let (mmsg, gso, kamailio) = (MMSG, GSO_EQUAL, KAMAILIO);
    let full = Load::Full;
    let overload = || {
        let of = |load| measured.cell("load", None, pad, load);
        of(TWICE)?.ratio(of(Load::Saturated)?, &RATE)
    };
    let added = || {
        let direct = measured.headline(DIRECT, FIXED)?;
        measured.headline(pad, FIXED)?.beyond(direct, &P99)
    };
    let two = measured.headline(TWO_WORKERS, full);
    let resident = two.map(|cell| cell.spread(&RESIDENT));
    let mut targets = Vec::new();
    // With all the work there is, by either way to offer it.
    for (when, load) in [("with a full queue", full), ("saturated", Load::Saturated)] {
        let what = format!("CPU a message {when}, pad, times");
        targets.extend([
            target(
                &format!("{what} bare recvmmsg/sendmmsg"),
                Aim::AtMost(0.5),
                cpu(pad, mmsg, load),
            ),
            target(
                &format!("{what} bare GSO (which gets messages of equal length)"),
                Aim::AtMost(1.2),
                cpu(pad, gso, load),
            ),
            target(
                "the same, both with messages of equal length",
                Aim::AtMost(1.2),
                cpu(STATELESS_EQUAL, gso, load),
            ),
            target(
                &format!("{what} Kamailio"),
                Aim::AtMost(0.3),
                cpu(pad, kamailio, load),
            ),
            Target {
                remark: "not in Debian",
                ..target(&format!("{what} OpenSIPS"), Aim::AtMost(0.2), None)
            },
            target(
                &format!("CPU a message {when}, off, times bare recvmmsg/sendmmsg"),
                Aim::AtMost(1.05),
                cpu(OFF, mmsg, load),
            ),
        ]);
    }
    targets.extend([
        target(
            "CPU a message at 50,000 messages/s, pad, times bare recvmmsg/sendmmsg",
            Aim::AtMost(0.6),
            cpu(pad, mmsg, FIXED),
        ),
        target(
            "p99 in us at 50,000 messages/s beyond that without a balancer, pad",
            Aim::AtMost(1000.0),
            added(),
        ),
        target(
            "CPU a message with 10,000 upstream peers, pad, times bare recvmmsg/sendmmsg",
            Aim::AtMost(0.8),
            measured.along("peers", "10000", pad, mmsg),
        ),
        target(
            "CPU a message with 256 destinations, pad, times bare recvmmsg/sendmmsg",
            Aim::AtMost(1.0),
            measured.along("destinations", "256", pad, mmsg),
        ),
        target(
            "messages/s at twice the saturating load, pad, share of those at saturation",
            Aim::AtLeast(0.97),
            overload(),
        ),
    ]);
    for (name, metric) in [("p50", &P50), ("p99", &P99), ("p99.9", &P999)] {
        targets.push(target(
            &format!("{name} at half load, pad, times Kamailio's at its half load"),
            Aim::AtMost(1.0),
            measured.ratio(pad, kamailio, HALF, metric),
        ));
    }
    targets.push(target(
        "resident MiB with two workers",
        Aim::AtMost(12.0),
        resident,
    ));
    targets.extend(stateful(measured));
    let observed = |load| {
        let of = |contender| measured.cell("watched", None, contender, load);
        of(WATCHED).zip(of(STATELESS))
    };
    let watched = |load| observed(load).and_then(|(own, other)| own.ratio(other, &CPU));
    targets.push(target(
        "CPU a message with a full queue, watched by operators, times unwatched",
        Aim::AtMost(1.03),
        watched(full),
    ));
    targets.push(target(
        "the same at 50,000 messages/s",
        Aim::AtMost(1.03),
        watched(FIXED),
    ));
    // What watching takes by itself: it varies less than the ratios, which
    // have in them all that differs between two runs of a program.
    let beside = |load| observed(load).and_then(|(own, other)| own.beyond(other, &BESIDE));
    targets.push(target(
        "% of the CPU time with a full queue beside the workers, watched, beyond that unwatched",
        Aim::AtMost(3.0),
        beside(full),
    ));
    targets.push(target(
        "the same at 50,000 messages/s",
        Aim::AtMost(3.0),
        beside(FIXED),
    ));
    targets
}

/// The aims for INVITE with transactions.
fn stateful(measured: Measured<'_>) -> Vec<Target> {
    let times = |other, load, metric| {
        let of = |contender| measured.cell("stateful", None, contender, load);
        of(STATEFUL)?.ratio(of(other)?, metric)
    };
    let minute = |metric| {
        let cell = measured.cell("sustained", None, STATEFUL, MINUTE)?;
        Some(cell.spread(metric))
    };
    let octets = |setup| {
        let cell = measured.cell("memory", Some(setup), STATEFUL, FILLING)?;
        Some(cell.spread(&OCTETS))
    };
    vec![
        target(
            "CPU a message in or out with a full queue, INVITE with transactions, times without",
            Aim::AtMost(1.35),
            times(STATELESS, Load::Full, &WIRE),
        ),
        target(
            "CPU an INVITE transaction with a full queue, times Kamailio's tm",
            Aim::AtMost(0.2),
            times(KAMAILIO_TM, Load::Full, &TRANSACTION),
        ),
        target(
            "CPU an INVITE transaction saturated, times Kamailio's tm",
            Aim::AtMost(0.2),
            times(KAMAILIO_TM, Load::Saturated, &TRANSACTION),
        ),
        // Of 60,000 that are due; those that are under way at a bound count
        // or do not.
        target(
            "INVITE transactions/s for a minute",
            Aim::AtLeast(59_900.0),
            minute(&BEGUN),
        ),
        target("loss % in that minute", Aim::AtMost(0.0), minute(&LOST)),
        target(
            "messages sent again in that minute",
            Aim::AtMost(0.0),
            minute(&UNEXPECTED),
        ),
        target(
            "growth in MiB in its last 25 seconds",
            Aim::AtMost(1.0),
            minute(&GROWTH),
        ),
        target(
            "octets for a transaction that has been answered",
            Aim::AtMost(256.0),
            octets(LINGERING),
        ),
        target(
            "octets for a transaction that rings",
            Aim::AtMost(4096.0),
            octets(IN_PROGRESS),
        ),
    ]
}

/// The aims as a table: head and lines.
pub(crate) fn table(targets: &[Target]) -> Vec<Vec<String>> {
    let head = ["target", "aim", "measured", ""]
        .map(str::to_owned)
        .to_vec();
    let line = |target: &Target| {
        let unknown = || match target.remark {
            "" => "not in this run".to_owned(),
            remark => format!("not measured: {remark}"),
        };
        let measured = target
            .measured
            .map_or_else(unknown, |spread| spread.text(2));
        let met = match target.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "-",
        };
        vec![
            target.what.clone(),
            target.aim.clone(),
            measured,
            met.to_owned(),
        ]
    };
    std::iter::once(head)
        .chain(targets.iter().map(line))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::summary::example;

    fn find<'a>(targets: &'a [Target], what: &str) -> &'a Target {
        let found = targets.iter().find(|target| target.what.contains(what));
        found.expect("a target")
    }

    #[test]
    fn a_target_is_met_by_the_median_and_missed_beyond() {
        let run = |pad: &[f64]| {
            let parts = [example(
                Load::Full,
                &[("bare-mmsg", &[4.0, 4.0, 4.0]), ("viaduct-pad", pad)],
            )];
            find(&all(&parts), "CPU a message with a full queue, pad").met
        };
        assert_eq!(run(&[1.0, 2.0, 9.0]), Some(true));
        assert_eq!(run(&[1.0, 2.1, 9.0]), Some(false));
    }

    #[test]
    fn what_was_not_measured_is_neither_met_nor_missed() {
        let targets = all(&[example(Load::Full, &[("viaduct-pad", &[1.0])])]);
        assert!(targets.iter().all(|target| target.met.is_none()));
        let lines = table(&targets);
        assert_eq!(lines[1][2], "not in this run");
        let opensips = lines.iter().find(|line| line[0].contains("OpenSIPS"));
        assert_eq!(opensips.expect("a line")[2], "not measured: not in Debian");
    }
}
