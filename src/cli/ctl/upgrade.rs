//! An upgrade, and the wait for the next program.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use super::Ctl;
use crate::config::text;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);

/// How long the next program may take until it is ready: two milliseconds for
/// each destination, of which few have as many as ten thousand, and three seconds
/// for names.
const START: Duration = Duration::from_secs(30);

/// What is asked of a status: the program before may be of another version.
#[derive(Deserialize)]
struct Life {
    uptime_seconds: f64,
    ready: bool,
}

impl Ctl {
    /// Upgrades, and waits until the next program is ready.
    pub(super) fn upgrade(&self) -> io::Result<()> {
        let status = "/api/v1/status";
        // Whoever answers here has started before.
        self.client.get::<Life>(status)?;
        let answered = Instant::now();
        self.change("/api/v1/upgrade", &json!({}))?;
        let end = Instant::now() + START;
        loop {
            thread::sleep(LOOK);
            let left = end.saturating_duration_since(Instant::now());
            // Whoever is younger is another.
            let known = answered.elapsed().as_secs_f64();
            let why = match self.client.get_within::<Life>(left.max(LOOK), status) {
                Ok(now) if now.uptime_seconds >= known => "the one of before goes on".to_owned(),
                Ok(now) if now.ready => return Ok(()),
                Ok(_) => "it is not ready".to_owned(),
                Err(error) => error.to_string(),
            };
            if left.is_zero() {
                let time = text::time_name(START);
                let said = format!(
                    "no next program has answered here for {time}, and the log says what became \
                     of it: {why}"
                );
                return Err(io::Error::other(said));
            }
        }
    }
}
