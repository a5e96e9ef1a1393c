//! Tells of what is lost: of each cause at once, and then once a minute while
//! it goes on; never one line for each datagram.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::time::Duration;

use tracing::{Level, debug, info, warn};

use crate::control::metrics::errno_name;
use crate::proxy::{Reason, Status};
use crate::worker::Totals;

/// How long there is nothing more to say of one cause.
const PAUSE: Duration = Duration::from_secs(60);

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    Dropped(Reason),
    /// We answered 503.
    Unavailable,
    /// The kernel did not send, by error number.
    NotSent(i32),
    NotReceived,
    Overflow,
    TableFull,
    NotHandedOver,
    NotAccounted,
    NotMirrored,
    /// Copies that had a place in the queue, and then did not arrive.
    NotCollected,
}

/// What has been told of one cause.
#[derive(Default)]
struct Told {
    /// The count up to which it has been.
    count: u64,
    /// When, if it may go on.
    at: Option<Duration>,
}

/// What has been told of all of them.
#[derive(Default)]
pub(super) struct Losses(BTreeMap<Cause, Told>);

/// Something to say of a cause.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    cause: Cause,
    /// How often it came about since it was told of last.
    count: u64,
    /// Whether it goes on since then.
    goes_on: bool,
}

impl Losses {
    /// Of what sockets have lost nothing more is to be said: inherited ones
    /// count on what they lost before an upgrade.
    pub(super) fn after(totals: &Totals) -> Self {
        let inherited = counted(totals).filter(|(cause, _)| *cause == Cause::Overflow);
        let told = |(cause, count)| (cause, Told { count, at: None });
        Self(inherited.map(told).collect())
    }

    /// Says what there is to say; `now` is the time since the start.
    pub(super) fn say(&mut self, now: Duration, totals: &Totals) {
        for line in self.look(now, counted(totals)) {
            match line.cause.level() {
                Level::WARN => warn!("{line}"),
                Level::INFO => info!("{line}"),
                _ => debug!("{line}"),
            }
        }
    }

    fn look(&mut self, now: Duration, counted: impl Iterator<Item = (Cause, u64)>) -> Vec<Line> {
        let mut lines = Vec::new();
        for (cause, total) in counted.filter(|(_, total)| *total > 0) {
            let told = self.0.entry(cause).or_default();
            if told.at.is_some_and(|at| now < at + PAUSE) {
                continue;
            }
            let count = total.saturating_sub(told.count);
            let at = (count > 0).then_some(now);
            let before = std::mem::replace(told, Told { count: total, at });
            if count > 0 {
                let goes_on = before.at.is_some();
                lines.push(Line {
                    cause,
                    count,
                    goes_on,
                });
            }
        }
        lines
    }
}

/// How often each cause has come about since the start.
fn counted(totals: &Totals) -> impl Iterator<Item = (Cause, u64)> {
    let dropped = Reason::ALL.iter().map(|reason| {
        let count = totals.dropped.get(reason.name());
        (Cause::Dropped(*reason), count.copied().unwrap_or(0))
    });
    let not_sent = totals.send_errors.iter();
    let not_sent = not_sent.map(|(number, count)| (Cause::NotSent(*number), *count));
    let unavailable = totals.replies.get(&Status::ServiceUnavailable.code());
    let overflow = totals.workers.iter().flat_map(|worker| &worker.overflow);
    let accounting = totals.accounting.unwrap_or_default();
    let mirror = totals.mirror.unwrap_or_default();
    let others = [
        (Cause::Unavailable, unavailable.copied().unwrap_or(0)),
        (Cause::NotReceived, totals.receive_errors),
        (Cause::Overflow, overflow.sum()),
        (Cause::TableFull, totals.transactions.full),
        (Cause::NotHandedOver, totals.not_handed_over),
        (Cause::NotAccounted, accounting.dropped),
        (Cause::NotMirrored, mirror.dropped),
        (Cause::NotCollected, mirror.failed),
    ];
    dropped.chain(not_sent).chain(others)
}

impl Cause {
    /// What others send us is their matter; what we fail at is the operator's.
    fn level(self) -> Level {
        match self {
            Self::Dropped(Reason::Overload) => Level::WARN,
            Self::Dropped(reason) if reason.is_usual() => Level::DEBUG,
            Self::Dropped(_) => Level::INFO,
            _ => Level::WARN,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, count, .. } = *self;
        let (verb, one, several) = match cause {
            Cause::Dropped(_) | Cause::Overflow => ("dropped", "datagram", "datagrams"),
            Cause::Unavailable => ("answered 503 to", "request", "requests"),
            Cause::NotSent(_) => ("could not send", "datagram", "datagrams"),
            Cause::NotReceived => ("failed at", "receive", "receives"),
            Cause::TableFull => ("had no transaction for", "request", "requests"),
            Cause::NotHandedOver => ("could not hand over", "datagram", "datagrams"),
            Cause::NotAccounted => ("lost", "line of accounting", "lines of accounting"),
            Cause::NotMirrored => ("did not mirror", "message", "messages"),
            Cause::NotCollected => ("could not send", "copy", "copies"),
        };
        let what = if count == 1 { one } else { several };
        write!(f, "{verb} {count} {what}")?;
        if self.goes_on {
            write!(f, " in the last {} s", PAUSE.as_secs())?;
        }
        match cause {
            Cause::Dropped(reason) => {
                write!(f, ": {} ({})", reason.name(), reason.explanation())?;
                if reason == Reason::Overload {
                    write!(f, "; mend: more workers, or fewer stateful methods")?;
                }
                Ok(())
            }
            Cause::Unavailable => write!(
                f,
                ": no destination takes new work, or a next hop cannot be reached or resolved"
            ),
            Cause::NotSent(number) => {
                let error = io::Error::from_raw_os_error(number);
                write!(f, ": {}, {error}", errno_name(number))
            }
            Cause::NotReceived => Ok(()),
            Cause::Overflow => write!(
                f,
                ": the receive buffer of a socket was full; mend: a greater receive-buffer, or \
                 more workers"
            ),
            Cause::TableFull => write!(f, ": the table is full; mend: greater transactions"),
            Cause::NotHandedOver => write!(f, ": the queue of the other worker is full"),
            Cause::NotAccounted => write!(f, ": who takes them is too slow, or gone"),
            Cause::NotMirrored => write!(f, ": the queue is full"),
            Cause::NotCollected => write!(
                f,
                ": the collector of the mirror is not there, or they are too long for HEP"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror;
    use crate::worker::WorkerTotals;

    const FORGED: Cause = Cause::Dropped(Reason::ForgedResponse);

    /// What is said at each second, by what has been counted until then.
    fn said(losses: &mut Losses, second: u64, counted: &[(Cause, u64)]) -> Vec<String> {
        let lines = losses.look(Duration::from_secs(second), counted.iter().copied());
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_what_goes_on_once_a_minute() {
        let losses = &mut Losses::default();
        assert_eq!(said(losses, 1, &[(FORGED, 0)]), [""; 0]);
        let first = "dropped 1 datagram: forged-response (A response to no request that we sent: its branch does not verify)";
        assert_eq!(said(losses, 2, &[(FORGED, 1)]), [first]);
        for second in 3..62 {
            assert_eq!(
                said(losses, second, &[(FORGED, second)]),
                [""; 0],
                "{second}"
            );
        }
        let more = said(losses, 62, &[(FORGED, 124)]);
        assert!(more[0].starts_with("dropped 123 datagrams in the last 60 s: forged-response ("));
        assert_eq!(said(losses, 121, &[(FORGED, 125)]), [""; 0]);
        assert_eq!(said(losses, 122, &[(FORGED, 125)]).len(), 1);
        // After a quiet minute the next is a first one.
        for second in 123..200 {
            assert_eq!(said(losses, second, &[(FORGED, 125)]), [""; 0]);
        }
        let again = said(losses, 200, &[(FORGED, 127)]);
        assert!(again[0].starts_with("dropped 2 datagrams: forged-response ("));
    }

    #[test]
    fn causes_are_told_of_one_by_one() {
        let losses = &mut Losses::default();
        assert_eq!(said(losses, 1, &[(Cause::TableFull, 1)]).len(), 1);
        let both = said(
            losses,
            2,
            &[(Cause::TableFull, 2), (Cause::NotSent(111), 2)],
        );
        assert_eq!(
            both,
            ["could not send 2 datagrams: ECONNREFUSED, Connection refused (os error 111)"]
        );
    }

    #[test]
    fn after_an_upgrade_all_is_told_but_what_sockets_lost_before() {
        let mut totals = Totals::default();
        totals.workers.push(WorkerTotals {
            received: 0,
            overflow: vec![7],
            busy: 0.0,
            waiting: 0.0,
        });
        totals.dropped.insert("not-sip".to_owned(), 1);
        let mut losses = Losses::after(&totals);
        let lines = losses.look(Duration::ZERO, counted(&totals));
        let causes: Vec<_> = lines.iter().map(|line| line.cause).collect();
        assert_eq!(causes, [Cause::Dropped(Reason::NotSip)]);
        totals.workers[0].overflow = vec![9];
        let lines = losses.look(Duration::ZERO, counted(&totals));
        assert_eq!((lines[0].cause, lines[0].count), (Cause::Overflow, 2));
    }

    #[test]
    fn all_that_is_counted_is_told_of() {
        let mut totals = Totals::default();
        assert_eq!(counted(&totals).filter(|(_, count)| *count > 0).count(), 0);
        totals.dropped.insert("not-sip".to_owned(), 1);
        totals.send_errors.insert(90, 2);
        totals.replies.insert(503, 3);
        totals.receive_errors = 4;
        totals.transactions.full = 5;
        totals.not_handed_over = 6;
        totals.mirror = Some(mirror::Counts {
            sent: 100,
            dropped: 7,
            failed: 8,
        });
        let lines = Losses::default().look(Duration::ZERO, counted(&totals));
        let counts: Vec<_> = lines.iter().map(|line| line.count).collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8]);
        let levels = lines.iter().map(|line| line.cause.level());
        let warnings = levels.filter(|level| *level == Level::WARN).count();
        assert_eq!(warnings, 7);
        let usual = Cause::Dropped(Reason::KeepAlive);
        assert_eq!(usual.level(), Level::DEBUG);
    }
}
