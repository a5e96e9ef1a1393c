//! Where a message would go now, for whoever may change things: the octets that
//! would be sent bear our signature.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use utoipa::IntoParams;

use super::ChangeProblems;
use crate::config::{Config, text};
use crate::control::App;
use crate::control::explain::{self, Decider, Explanation};
use crate::control::problem::Problem;
use crate::proxy::Datagram;

/// A plain INVITE.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ByCallId {
    /// Its Call-ID.
    call_id: String,
    /// Where it would come from, with port 5060 unless given.
    from: Option<String>,
    /// The listener that it would come in on.
    listener: Option<String>,
}

/// How a message comes.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Arrival {
    /// Where it comes from, with port 5060 unless given.
    from: Option<String>,
    /// The listener that it comes in on.
    listener: Option<String>,
}

/// What would be done with a plain INVITE that has this Call-ID, and why; as
/// text where `Accept` asks for `text/plain`.
#[utoipa::path(get, path = "/api/v1/explain", params(ByCallId),
    responses((status = 200, body = Object), ChangeProblems), security(("token" = [])))]
pub(super) async fn call_id(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    asked: Result<Query<ByCallId>, QueryRejection>,
) -> Result<Response, Problem> {
    let ByCallId {
        call_id,
        from,
        listener,
    } = query(asked)?;
    if call_id.contains(char::is_control) {
        return Err(Problem::bad_request("a Call-ID has no control characters"));
    }
    let arrival = Arrival { from, listener };
    explain(&app, &headers, &arrival, |config, source| {
        explain::invite(config, source, &call_id)
    })
}

/// What would be done with this message, and why. Nothing is sent or changed.
#[utoipa::path(post, path = "/api/v1/explain", params(Arrival),
    request_body(content(("application/octet-stream")),
        description = "The message as it would arrive in one datagram"),
    responses((status = 200, body = Object), ChangeProblems), security(("token" = [])))]
pub(super) async fn message(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    arrival: Result<Query<Arrival>, QueryRejection>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let arrival = query(arrival)?;
    let body = body.map_err(|rejection| {
        Problem::new(rejection.status(), &rejection.body_text())
            .help("a datagram has 65,535 octets at most")
    })?;
    explain(&app, &headers, &arrival, |_, _| body.to_vec())
}

fn query<T>(asked: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    let asked = asked.map_err(|rejection| Problem::bad_request(&rejection.body_text()))?;
    Ok(asked.0)
}

fn explain(
    app: &App,
    headers: &HeaderMap,
    arrival: &Arrival,
    message: impl FnOnce(&Config, SocketAddr) -> Vec<u8>,
) -> Result<Response, Problem> {
    // One state of things for all of it.
    let facts = app.view.facts.load();
    let config = &facts.config;
    let from = arrival.from.as_deref().map(text::address).transpose()?;
    let named = arrival.listener.as_deref();
    let named = named.map(|name| explain::listener_named(config, name));
    let arrival = named.transpose();
    let arrival = arrival.and_then(|listener| explain::arrival(config, from, listener));
    let (source, listener) = arrival.map_err(|said| Problem::bad_request(&said))?;
    let message = message(config, source);
    let datagram = Datagram {
        bytes: &message,
        source,
        listener,
    };
    let mut decider = Decider::new(facts.proxy.clone());
    let explanation = Explanation::of(config, &mut decider, datagram);
    let accept = headers.get(ACCEPT).map(|accept| accept.as_bytes());
    Ok(match accept {
        Some(accept) if accept.starts_with(b"text/plain") => explanation.text(true).into_response(),
        _ => {
            let json = explanation.json(true).to_string();
            ([(CONTENT_TYPE, "application/json")], json).into_response()
        }
    })
}
