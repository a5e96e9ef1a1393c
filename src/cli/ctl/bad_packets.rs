//! Bad packets as they come.

use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::Ctl;
use crate::control::{BadPacket, BadPackets, BadPacketsRequest};
use crate::worker::MOST_SAMPLES;

/// How often it asks.
const LOOK: Duration = Duration::from_millis(100);

impl Ctl {
    /// Prints the next `count` that go no further for `reason`, or those that
    /// come within `time`.
    pub(super) fn bad_packets(
        &self,
        count: u32,
        reason: Option<&str>,
        time: Duration,
    ) -> io::Result<()> {
        let end = Instant::now() + time;
        let mut left = count;
        let mut all = Vec::new();
        let mut told = Ok(());
        // What others have left there is not of now.
        self.ask_for(left, reason)?;
        while left > 0 && told.is_ok() && Instant::now() < end {
            thread::sleep(LOOK.min(time));
            told = self.ask_for(left, reason).and_then(|mut packets| {
                packets.truncate(left as usize);
                left -= packets.len() as u32;
                if self.json {
                    all.extend(packets);
                    return Ok(());
                }
                let mut out = io::stdout().lock();
                packets.iter().try_for_each(|each| write(&mut out, each))
            });
        }
        // Also where nobody reads on.
        let stopped = self.ask_for(0, None);
        let told = told.and(stopped);
        // Also where an instance has gone that had told of some.
        if self.json {
            writeln!(io::stdout(), "{:#}", json!({ "packets": all }))?;
        } else if left == count && told.is_ok() {
            writeln!(io::stdout(), "no such packet came")?;
        }
        told.map(drop)
    }

    fn ask_for(&self, count: u32, reason: Option<&str>) -> io::Result<Vec<BadPacket>> {
        let request = BadPacketsRequest {
            count: count.min(MOST_SAMPLES),
            reason: reason.map(str::to_owned),
        };
        let answer = self.client.post("/api/v1/bad-packets", &request)?;
        let BadPackets { packets } = self.client.parse(&answer)?;
        Ok(packets)
    }
}

/// Its rows one below the other; they are safe for a terminal already.
fn write(out: &mut impl Write, packet: &BadPacket) -> io::Result<()> {
    let BadPacket {
        at,
        reason,
        explanation,
        source,
        listener,
        length,
        octets,
    } = packet;
    writeln!(
        out,
        "{at} from {source} on listener {listener}, {length} octets: {reason} ({explanation})"
    )?;
    for row in octets.split_inclusive(r"\r\n") {
        writeln!(out, "  {row}")?;
    }
    Ok(())
}
