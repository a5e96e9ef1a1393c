//! Copies of what was dropped, for whoever may change things: they hold what
//! callers wrote.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ChangeProblems;
use super::change::Body;
use crate::config::Config;
use crate::config::text::joined;
use crate::control::App;
use crate::control::problem::Problem;
use crate::proxy::Reason;
use crate::worker::{MOST_SAMPLES, Sample};

/// Which datagrams are to be copied.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BadPacketsRequest {
    /// How many of those that come from now on; 0: no more.
    #[schema(maximum = 64)]
    pub count: u32,
    /// Those that went no further for this reason; without one, for any but
    /// those that are there where all is well.
    #[schema(example = "not-sip")]
    pub reason: Option<String>,
}

/// Those that were copied.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BadPackets {
    /// In order.
    pub packets: Vec<BadPacket>,
}

/// A datagram that was dropped, or answered by ourselves.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BadPacket {
    /// When it came, by RFC 3339.
    pub at: String,
    /// Why it went no further, as in the counters.
    pub reason: String,
    /// The same in a sentence.
    pub explanation: String,
    /// Who sent it.
    #[schema(value_type = String)]
    pub source: SocketAddr,
    /// The name of the listener that it came in on.
    pub listener: String,
    /// How long it is, in octets.
    pub length: usize,
    /// The first 2,048 octets at most: ASCII that can be printed as it is,
    /// but for quotes and backslashes; all else as `\r`, `\n`, `\t` or `\x00`.
    pub octets: String,
}

/// Takes the copies that were made since this was asked last, and asks for
/// copies of bad packets that come from now on.
#[utoipa::path(post, path = "/api/v1/bad-packets", request_body = BadPacketsRequest,
    responses((status = 200, body = BadPackets), ChangeProblems), security(("token" = [])))]
pub(super) async fn bad_packets(
    State(app): State<Arc<App>>,
    Body(asked): Body<BadPacketsRequest>,
) -> Result<Json<BadPackets>, Problem> {
    let reason = asked.reason.as_deref().map(reason).transpose()?;
    if asked.count > MOST_SAMPLES {
        let said = format!("{} copies are too many at once", asked.count);
        let help = format!("ask for {MOST_SAMPLES} at most, and then for more");
        return Err(Problem::bad_request(&said).help(&help));
    }
    let samples = &app.view.shared.samples;
    let taken = samples.take();
    samples.want(asked.count, reason);
    let config = &app.view.facts.load().config;
    let packets = taken.iter().map(|sample| packet(sample, config)).collect();
    Ok(Json(BadPackets { packets }))
}

fn reason(name: &str) -> Result<Reason, Problem> {
    let found = Reason::ALL.iter().find(|reason| reason.name() == name);
    found.copied().ok_or_else(|| {
        let known = joined(Reason::ALL.iter().map(|reason| reason.name()));
        Problem::bad_request(&format!("unknown reason `{name}`"))
            .help(&format!("known are: {known}"))
    })
}

fn packet(sample: &Sample, config: &Config) -> BadPacket {
    let listener = config.listeners.get(sample.listener);
    BadPacket {
        at: humantime::format_rfc3339_millis(sample.at).to_string(),
        reason: sample.reason.name().to_owned(),
        explanation: sample.reason.explanation().to_owned(),
        source: sample.source,
        listener: listener.map_or_else(String::new, |own| own.name.clone()),
        length: sample.length,
        octets: sample.octets.escape_ascii().to_string(),
    }
}
