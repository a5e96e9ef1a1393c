//! Waiting until a destination has nothing more to do, as far as can be told.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::{Ctl, PlaceArgs, is_watched};
use crate::cli::client::ClientError;
use crate::cli::words::age;
use crate::config::{State, text};
use crate::control::Status;

/// How often it looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long nobody may answer: an upgrade or a restart takes less.
const AWAY: Duration = Duration::from_secs(10);

impl Ctl {
    /// Waits until no request within a dialog has passed between us and a
    /// destination for `quiet`, counted from now at the earliest, for calls that
    /// are being set up have had none yet, and from the start of the program,
    /// which knows of none before.
    pub(super) fn wait_for_quiet(&self, place: &PlaceArgs, quiet: Duration) -> io::Result<()> {
        let address = text::destination_address(&place.destination);
        let address = address.map_err(io::Error::other)?;
        let began = Instant::now();
        let waited = self.wait(place, address, quiet, began);
        if is_watched() {
            write!(io::stderr(), "\r\x1b[K")?;
        }
        waited?;
        if !self.json {
            let quiet = given(quiet);
            writeln!(
                io::stdout(),
                "{address}: no request within a dialog for {quiet}; a call may go on without one"
            )?;
        }
        Ok(())
    }

    fn wait(
        &self,
        place: &PlaceArgs,
        address: SocketAddr,
        quiet: Duration,
        began: Instant,
    ) -> io::Result<()> {
        let mut heard = began;
        let mut err = io::stderr().lock();
        loop {
            // One that hangs is as good as away.
            let patience = AWAY.saturating_sub(heard.elapsed()).max(LOOK);
            let status: Status = match self.client.get_within(patience, "/api/v1/status") {
                Err(ClientError::Unreachable(..)) if heard.elapsed() < AWAY => {
                    thread::sleep(LOOK);
                    continue;
                }
                Err(error @ ClientError::Unreachable(..)) => {
                    let away = text::time_name(AWAY);
                    let said = format!(
                        "nobody has answered for {away}, so {address} may have calls: {error}"
                    );
                    return Err(io::Error::other(said));
                }
                answer => answer?,
            };
            heard = Instant::now();
            let known = began
                .elapsed()
                .min(Duration::from_secs_f64(status.uptime_seconds));
            let last = last_in_dialog(&status, place.set.as_deref(), address)?;
            let silent = last.map_or(known, Duration::from_secs).min(known);
            if silent >= quiet {
                return Ok(());
            }
            if is_watched() {
                // With the longest address it fills 80 columns.
                let (silent, quiet) = (age(Some(silent.as_secs())), given(quiet));
                write!(
                    err,
                    "\r{address}: dialogs silent for {silent} of {quiet}\x1b[K"
                )?;
                err.flush()?;
            }
            thread::sleep(LOOK.min(quiet));
        }
    }
}

/// A time as it is given: in minutes where it has no seconds beside.
fn given(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (seconds @ 60.., 0) if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => text::time_name(time),
    }
}

/// Seconds since the last request within a dialog. What an address that stands
/// in several sets does counts in one of them, whichever is drained.
fn last_in_dialog(
    status: &Status,
    set: Option<&str>,
    address: SocketAddr,
) -> io::Result<Option<u64>> {
    let all = status.sets.iter().flat_map(|each| {
        let is_asked = set.is_none_or(|name| name == each.name);
        let destinations = each.destinations.iter();
        destinations.map(move |destination| (is_asked, destination))
    });
    let all: Vec<_> = all.filter(|(_, each)| each.address == address).collect();
    let mut asked = all.iter().filter(|(is_asked, _)| *is_asked).peekable();
    if asked.peek().is_none() {
        return Err(io::Error::other(format!("{address} is there no more")));
    }
    if asked.any(|(_, each)| each.state == State::Active) {
        return Err(io::Error::other(format!(
            "{address} takes new calls again: somebody has set it active, or a reload or a \
             restart has forgotten that it drains"
        )));
    }
    let ages = all
        .iter()
        .filter_map(|(_, each)| each.last_in_dialog_seconds);
    Ok(ages.min())
}
