//! `viaduct replay`: the decisions on the messages of a capture.

mod outcome;
mod tally;
mod world;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::capture::{self, Captured};
use super::offline;
use super::tunables::Tunables;
use crate::config::Config;
use crate::config::text::printable;
use crate::sip::{self, StartLine};

use outcome::Outcome;
use tally::Tally;
use world::{Place, World};

/// The most characters of a start line that are shown.
const START_LINE: usize = 120;

/// How JSON begins: with the first message, so that a capture that cannot be
/// read leaves nothing half-written.
const BEGIN: &str = "{\"messages\": [";

/// Show what would be done with the messages of a capture.
#[derive(Clone, Debug, Args)]
pub(super) struct ReplayArgs {
    /// A capture of UDP, pcap or pcapng, as tcpdump, dumpcap and tshark write it; `-` for stdin
    #[arg(value_name = "CAPTURE")]
    capture: PathBuf,
    #[command(flatten)]
    tunables: Tunables,
    /// Show only what another configuration would decide otherwise; flags and variables override this file too
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// Take every datagram as if it came in on this listener, but for those that an address of a listener sent; one that listens on all addresses has none there, so give it that of the capture with --listen and --advertise [default: the one whose address, or advertised address, it was sent to]
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn replay(args: &ReplayArgs) -> io::Result<ExitCode> {
    let Some(config) = args.tunables.load()? else {
        return Ok(ExitCode::FAILURE);
    };
    let against = match &args.against {
        Some(file) => match args.tunables.load_from("--against", file)? {
            Some(config) => Some(config),
            None => return Ok(ExitCode::FAILURE),
        },
        None => None,
    };
    let (secret, secret_known) = offline::secret(&config)?;
    let mut other = None;
    if let Some(config) = against {
        let secret = offline::own_secret(&config, &secret)?;
        other = Some(World::new(config, secret, args.listener.as_deref())?);
    }
    let mut replay = Replay {
        world: World::new(config, secret, args.listener.as_deref())?,
        other,
        tally: Tally::default(),
        json: args.json,
    };
    let is_file = args.capture.is_file();
    let mut out = io::BufWriter::new(io::stdout().lock());
    let leavings = capture::read(&args.capture, &mut |captured| {
        replay.message(&mut out, &captured)?;
        // A capture that is no file may come in while it is made.
        match is_file {
            true => Ok(()),
            false => out.flush(),
        }
    })?;
    replay.tally.leavings = leavings;
    replay.tally.secret_known = secret_known;
    let (config, other) = (&replay.world.config, replay.other.as_ref());
    let other: Option<&Config> = other.map(|world| &world.config);
    if args.json {
        let summary = replay.tally.json(config, other);
        let begin = if replay.tally.listed == 0 { BEGIN } else { "" };
        writeln!(out, "{begin}\n], \"summary\": {summary:#}}}")?;
    } else {
        replay.tally.write(&mut out, config, other)?;
    }
    out.flush()?;
    match replay.tally.leavings.damaged {
        None => Ok(ExitCode::SUCCESS),
        Some(damage) => Err(io::Error::other(damage)),
    }
}

struct Replay {
    world: World,
    other: Option<World>,
    tally: Tally,
    json: bool,
}

impl Replay {
    fn message(&mut self, out: &mut dyn Write, captured: &Captured<'_>) -> io::Result<()> {
        let place = self.world.place(captured.source, captured.destination);
        let other = self.other.as_ref();
        let other = other.map(|world| world.place(captured.source, captured.destination));
        if place == Place::Sent || other == Some(Place::Sent) {
            self.tally.sent += 1;
            return Ok(());
        }
        if place == Place::Elsewhere && other.is_none_or(|other| other == Place::Elsewhere) {
            self.tally.elsewhere += 1;
            return Ok(());
        }
        let message = Message::new(captured, self.world.unwrap(captured, place));
        let (outcome, octets) = self.world.decide(captured, place);
        let after = other.zip(self.other.as_mut()).map(|(place, other)| {
            let (after, others) = other.decide(captured, place);
            (after, others == octets)
        });
        let differs = after
            .as_ref()
            .is_some_and(|(after, _)| !after.is_same_as(&outcome));
        self.tally.count(message.class, &outcome, after.as_ref());
        self.tally.longer += u64::from(message.is_longer);
        if after.is_some() && !differs {
            return Ok(());
        }
        let after = after.map(|(after, _)| after);
        if self.json {
            let separator = if self.tally.listed == 0 { BEGIN } else { "," };
            self.tally.listed += 1;
            let value = message.json(&outcome, after.as_ref());
            return write!(out, "{separator}\n{value}");
        }
        self.tally.listed += 1;
        message.write(out, &outcome, after.as_ref())
    }
}

/// A message as it is shown.
struct Message<'a> {
    captured: &'a Captured<'a>,
    start_line: String,
    call_id: Option<String>,
    class: &'static str,
    /// Whether the datagram goes on behind the message.
    is_longer: bool,
}

impl<'a> Message<'a> {
    /// `payload` is without the header of a front balancer.
    fn new(captured: &'a Captured<'a>, payload: &[u8]) -> Self {
        let scanned = sip::scan(payload);
        let bytes = scanned.as_ref().map_or(payload, |message| message.bytes);
        let end = bytes.iter().position(|byte| b"\r\n".contains(byte));
        let line = String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]);
        let mut message = Self {
            captured,
            start_line: printable(&line).chars().take(START_LINE).collect(),
            call_id: None,
            class: "no SIP",
            is_longer: false,
        };
        if let Ok(scanned) = scanned {
            let call_id = String::from_utf8_lossy(scanned.call_id.value.of(bytes));
            message.call_id = Some(printable(&call_id));
            message.is_longer = (scanned.end as usize) < bytes.len();
            message.class = match scanned.start {
                StartLine::Response { .. } => "response",
                StartLine::Request { method, .. } => match method.of(bytes) {
                    b"CANCEL" => "CANCEL",
                    b"ACK" => "ACK",
                    _ if scanned.has_to_tag() => "request in a dialog",
                    _ => "request outside a dialog",
                },
            };
        } else {
            message.start_line = format!("{} octets, no SIP", bytes.len());
        }
        message
    }

    fn write(
        &self,
        out: &mut dyn Write,
        outcome: &Outcome,
        other: Option<&Outcome>,
    ) -> io::Result<()> {
        let Captured {
            at,
            source,
            destination,
            ..
        } = self.captured;
        let seconds = *at as f64 / 1e6;
        let line = &self.start_line;
        write!(out, "{seconds:>12.6}  {source} -> {destination}  {line}")?;
        match other {
            None => writeln!(out, "  => {outcome}"),
            Some(other) => {
                let call_id = self.call_id.as_deref().unwrap_or("none");
                writeln!(out, "\n              Call-ID    {call_id}")?;
                writeln!(out, "              --config   {outcome}")?;
                writeln!(out, "              --against  {other}")
            }
        }
    }

    fn json(&self, outcome: &Outcome, other: Option<&Outcome>) -> Value {
        let mut value = json!({
            "at_us": self.captured.at,
            "source": self.captured.source,
            "destination": self.captured.destination,
            "message": self.start_line,
            "call_id": self.call_id,
            "class": self.class,
            "decision": outcome,
        });
        if let Some(other) = other {
            value["against"] = json!(other);
        }
        value
    }
}
