//! Signs of death in the traffic itself: a reason to probe at once, never to
//! take a destination down, for datagrams can be forged.

use std::time::Duration;

/// The time over which requests and responses are compared. A server answers
/// an INVITE within 200 ms, if only by 100 (RFC 3261 §17.2.1), so the requests
/// of one second have met with responses in the same second, but for the last.
const WINDOW: Duration = Duration::from_secs(1);

/// The fewest requests that say anything. One caller whom nobody answers
/// sends at most two or three within a second (at 0, 0.5 and 1.5 s: §17.1.1.2),
/// and two seldom begin in the same one.
const FEWEST: u64 = 5;

/// One response to this many requests is as good as none. In good health
/// there are more responses than requests: an INVITE has three, a BYE one, an
/// ACK none.
const FEW: u64 = 10;

/// What has passed between Viaduct and one destination since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Requests that were sent to it.
    pub requests: u64,
    /// Responses that came from it.
    pub responses: u64,
    /// What the stateful relay has found: silence, an ICMP error, a 503 with
    /// Retry-After.
    pub suspected: u64,
}

/// Looks at the samples of one destination, a few times a second.
#[derive(Clone, Copy, Debug)]
pub struct Judge {
    /// The sample at which the window began, and when that was.
    first: Sample,
    began: Duration,
    /// The last known [`Sample::suspected`].
    suspected: u64,
}

impl Judge {
    /// Begins with the sample of `now`, which counts from any moment.
    #[must_use]
    pub fn new(sample: Sample, now: Duration) -> Self {
        Self {
            first: sample,
            began: now,
            suspected: sample.suspected,
        }
    }

    /// What makes the destination suspect, if anything does.
    pub fn look(&mut self, sample: Sample, now: Duration) -> Option<&'static str> {
        let known = std::mem::replace(&mut self.suspected, sample.suspected);
        if sample.suspected > known {
            return Some("a request failed there (silence, ICMP or 503)");
        }
        if now.saturating_sub(self.began) < WINDOW {
            return None;
        }
        let requests = sample.requests.saturating_sub(self.first.requests);
        let responses = sample.responses.saturating_sub(self.first.responses);
        (self.first, self.began) = (sample, now);
        let silent = requests >= FEWEST && responses <= requests / FEW;
        silent.then_some("hardly a request of the last second was answered")
    }
}
