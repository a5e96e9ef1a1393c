//! What is told.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::ReadProblems;
use crate::config;
use crate::config::text::first_few;
use crate::control::problem::Problem;
use crate::control::status::{SetStatus, Status, WorkerStatus};
use crate::control::{App, metrics};

/// What a masked secret is told as.
const MASKED: &str = "(kept back)";

/// Whether the process is alive.
#[utoipa::path(get, path = "/livez", responses((status = 200, body = String), ReadProblems))]
pub(super) async fn livez() -> &'static str {
    "alive\n"
}

/// Whether traffic is wanted. Sets whose destinations are down do not count.
#[utoipa::path(get, path = "/readyz", responses(
    (status = 200, description = "It is", body = String),
    (status = 503, description = "Not yet, or no more", body = String),
    ReadProblems
))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> (StatusCode, &'static str) {
    match app.view.is_ready() {
        true => (StatusCode::OK, "ready\n"),
        false => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: it is starting, or it stops after SIGTERM\n",
        ),
    }
}

/// All metrics, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, body = String, content_type = "text/plain"),
    ReadProblems
))]
pub(super) async fn scrape(State(app): State<Arc<App>>) -> impl IntoResponse {
    let kind = [(CONTENT_TYPE, metrics::CONTENT_TYPE)];
    (kind, app.view.metrics())
}

/// Which program this is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Version {
    /// `viaduct`.
    name: &'static str,
    /// Its version.
    version: &'static str,
}

/// The version of the program.
#[utoipa::path(get, path = "/api/v1/version",
    responses((status = 200, body = Version), ReadProblems))]
pub(super) async fn version() -> Json<Version> {
    Json(Version {
        name: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// All that is so now.
#[utoipa::path(get, path = "/api/v1/status",
    responses((status = 200, body = Status), ReadProblems))]
pub(super) async fn status(State(app): State<Arc<App>>) -> Json<Status> {
    Json(Status::of(&app.view))
}

/// The dispatcher sets with their destinations.
#[utoipa::path(get, path = "/api/v1/sets",
    responses((status = 200, body = [SetStatus]), ReadProblems))]
pub(super) async fn sets(State(app): State<Arc<App>>) -> Json<Vec<SetStatus>> {
    Json(Status::of(&app.view).sets)
}

/// One dispatcher set.
#[utoipa::path(get, path = "/api/v1/sets/{set}",
    params(("set" = String, Path, description = "The name of the set")),
    responses((status = 200, body = SetStatus), ReadProblems))]
pub(super) async fn set(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Json<SetStatus>, Problem> {
    let Path(name) = name.map_err(|error| Problem::bad_request(&error.body_text()))?;
    let status = Status::of(&app.view);
    let known = first_few(status.sets.iter().map(|set| &set.name));
    let found = status.sets.into_iter().find(|set| set.name == name);
    found.map(Json).ok_or_else(|| {
        let said = format!("there is no set `{name}`");
        Problem::new(StatusCode::NOT_FOUND, &said).help(&format!("there are: {known}"))
    })
}

/// The workers.
#[utoipa::path(get, path = "/api/v1/workers",
    responses((status = 200, body = [WorkerStatus]), ReadProblems))]
pub(super) async fn workers(State(app): State<Arc<App>>) -> Json<Vec<WorkerStatus>> {
    Json(Status::of(&app.view).workers)
}

/// The configuration in force, changes of operators included, as TOML; keys
/// are kept back.
#[utoipa::path(get, path = "/api/v1/config",
    responses((status = 200, body = String, content_type = "application/toml"), ReadProblems))]
pub(super) async fn config(State(app): State<Arc<App>>) -> impl IntoResponse {
    let mut config = (*app.view.facts.load().config).clone();
    if let Some(mirror) = &mut config.mirror {
        mirror.key = mirror.key.as_ref().map(|_| MASKED.to_owned());
    }
    let toml = config::to_toml(&config);
    ([(CONTENT_TYPE, "application/toml")], toml)
}
