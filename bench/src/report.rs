//! What a load found, as numbers for people (text) and for tools (JSON).

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::check::Checks;
use crate::ledger::Totals;

/// The result of one load.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LoadReport {
    /// Seconds measured, without warm-up and drain.
    pub(crate) seconds: f64,
    /// Messages a second that were asked for; `None` in a closed loop.
    pub(crate) offered_rate: Option<f64>,
    /// Messages a second that came through in the measured time.
    pub(crate) rate: f64,
    /// First requests of a call that reached the farm in the measured time.
    pub(crate) transactions: u64,
    /// 100s of the balancer itself in the measured time; `rate` has none of them.
    pub(crate) own: u64,
    /// Per cent of the measured time in which the generator had work; the
    /// rest it looked at empty sockets.
    pub(crate) generator_busy_percent: f64,
    pub(crate) calls: u64,
    pub(crate) messages: Messages,
    pub(crate) checks: Checks,
    /// Latency of one passage through the balancer.
    pub(crate) latency: Latencies,
}

/// Messages of a whole load, with warm-up. A 100 that is expected of the
/// balancer itself counts as sent.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Messages {
    pub(crate) sent: u64,
    pub(crate) received_by_farm: u64,
    pub(crate) received_by_callers: u64,
    pub(crate) lost: u64,
    /// Came twice, too late, or are none of ours.
    pub(crate) unexpected: u64,
}

impl Messages {
    pub(crate) fn new(totals: Totals, foreign: u64) -> Self {
        Self {
            sent: totals.sent,
            received_by_farm: totals.received_by_farm,
            received_by_callers: totals.received_by_callers,
            lost: totals.lost,
            unexpected: totals.unexpected + foreign,
        }
    }

    /// Messages that came through, in both directions.
    pub(crate) fn received(&self) -> u64 {
        self.received_by_farm + self.received_by_callers
    }

    /// Per cent of the sent messages that did not arrive.
    pub(crate) fn lost_percent(&self) -> f64 {
        100.0 * self.lost as f64 / self.sent.max(1) as f64
    }
}

/// Latencies by direction.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Latencies {
    /// Caller to farm.
    pub(crate) requests: Percentiles,
    /// Farm to caller.
    pub(crate) responses: Percentiles,
    pub(crate) all: Percentiles,
}

impl Latencies {
    pub(crate) fn new(requests: &Histogram<u64>, responses: &Histogram<u64>) -> Self {
        let mut all = requests.clone();
        // Both have the same bounds, so that adding cannot fail.
        let _ = all.add(responses);
        Self {
            requests: Percentiles::new(requests),
            responses: Percentiles::new(responses),
            all: Percentiles::new(&all),
        }
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    #[serde(rename = "p99.9")]
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    fn new(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: nanoseconds.max() as f64 / 1000.0,
        }
    }
}

impl fmt::Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "p50 {:.0}  p90 {:.0}  p99 {:.0}  p99.9 {:.0}  max {:.0} us",
            self.p50, self.p90, self.p99, self.p999, self.max
        )
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = &self.messages;
        match self.offered_rate {
            Some(rate) => writeln!(f, "offered     {rate:.0} messages/s")?,
            None => writeln!(f, "offered     as many as come through (closed loop)")?,
        }
        writeln!(
            f,
            "through     {:.0} messages/s for {:.1} s",
            self.rate, self.seconds
        )?;
        writeln!(f, "generator   {:.0} % busy", self.generator_busy_percent)?;
        writeln!(
            f,
            "messages    {} sent, {} at the farm, {} at the callers, {} calls",
            messages.sent, messages.received_by_farm, messages.received_by_callers, self.calls
        )?;
        writeln!(
            f,
            "amiss       {} lost ({:.4} %), {} unexpected",
            messages.lost,
            messages.lost_percent(),
            messages.unexpected
        )?;
        writeln!(
            f,
            "checks      {} of {} messages failed",
            self.checks.failed, self.checks.checked
        )?;
        if let Some(failure) = &self.checks.first_failure {
            writeln!(f, "first fault {failure}")?;
        }
        writeln!(f, "requests    {}", self.latency.requests)?;
        write!(f, "responses   {}", self.latency.responses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_in_microseconds() {
        let mut histogram = Histogram::new(3).expect("three digits");
        for microseconds in 1..=1000u64 {
            histogram.record(microseconds * 1000).expect("in range");
        }
        let percentiles = Percentiles::new(&histogram);
        for (got, wanted) in [
            (percentiles.p50, 500.0),
            (percentiles.p99, 990.0),
            (percentiles.p999, 999.0),
            (percentiles.max, 1000.0),
        ] {
            assert!((got - wanted).abs() <= wanted / 500.0, "{got} for {wanted}");
        }
    }

    #[test]
    fn loss_is_relative_to_what_was_sent() {
        let totals = Totals {
            sent: 200,
            lost: 1,
            ..Totals::default()
        };
        let lost = Messages::new(totals, 0).lost_percent();
        assert!((lost - 0.5).abs() < 1e-9);
        assert!(Messages::new(Totals::default(), 0).lost_percent().abs() < 1e-9);
    }
}
