//! The admin API: which path does what, and its description.

mod bad_packets;
mod change;
mod explained;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{MethodRouter, get, post};
use axum::{Json, Router, middleware};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, ResponsesBuilder,
};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

pub use bad_packets::{BadPacket, BadPackets, BadPacketsRequest};
pub use change::{Addition, LevelChange, ReloadRequest, Removal, StateChange, WeightChange};

use super::App;
use super::guard;
use super::page;
use super::problem::{PROBLEM_JSON, Problem};

/// Longest body of a request, in octets: as long as a datagram.
const BODY_MAX: usize = 64 * 1024;

/// A path, and what it does.
type Path = (&'static str, MethodRouter<Arc<App>>);

/// What everybody may ask.
fn reads() -> Vec<Path> {
    vec![
        ("/", get(page::page)),
        ("/livez", get(read::livez)),
        ("/metrics", get(read::scrape)),
        ("/readyz", get(read::readyz)),
        ("/api/v1/version", get(read::version)),
        ("/api/v1/status", get(read::status)),
        ("/api/v1/sets", get(read::sets)),
        ("/api/v1/sets/{set}", get(read::set)),
        ("/api/v1/workers", get(read::workers)),
        ("/api/v1/config", get(read::config)),
        ("/api/v1/openapi.json", get(description)),
    ]
}

/// What changes something, or tells more than everybody may know.
fn changes() -> Vec<Path> {
    vec![
        ("/api/v1/destinations/state", post(change::state)),
        ("/api/v1/destinations/weight", post(change::weight)),
        ("/api/v1/destinations/add", post(change::add)),
        ("/api/v1/destinations/remove", post(change::remove)),
        ("/api/v1/reload", post(change::reload)),
        ("/api/v1/log-level", post(change::log_level)),
        ("/api/v1/upgrade", post(change::upgrade)),
        ("/api/v1/bad-packets", post(bad_packets::bad_packets)),
        ("/api/v1/explain", {
            get(explained::call_id).post(explained::message)
        }),
    ]
}

/// All of it.
pub(super) fn router(app: Arc<App>) -> Router {
    let add = |router: Router<Arc<App>>, (path, does): Path| router.route(path, does);
    let may_change = middleware::from_fn_with_state(Arc::clone(&app), guard::may_change);
    let changes = changes().into_iter().fold(Router::new(), add);
    reads()
        .into_iter()
        .fold(Router::new(), add)
        .merge(changes.route_layer(may_change))
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(middleware::from_fn(guard::bounded))
        .with_state(app)
}

async fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "there is no such path")
        .help("GET /api/v1/openapi.json lists those that there are")
}

async fn not_so() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "this path has another method",
    )
    .help("GET reads, POST changes")
}

/// The description of this API, as OpenAPI 3.1.
#[utoipa::path(get, path = "/api/v1/openapi.json",
    responses((status = 200, body = Object), ReadProblems))]
async fn description() -> Json<Document> {
    Json(Description::openapi())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Viaduct",
        description = "What a running Viaduct tells, and what can be changed of it."
    ),
    paths(
        page::page,
        read::livez,
        read::scrape,
        read::readyz,
        read::version,
        read::status,
        read::sets,
        read::set,
        read::workers,
        read::config,
        explained::call_id,
        explained::message,
        description,
        change::state,
        change::weight,
        change::add,
        change::remove,
        change::reload,
        change::log_level,
        change::upgrade,
        bad_packets::bad_packets,
    ),
    components(schemas(Problem)),
    modifiers(&Token)
)]
struct Description;

/// The token for changes over TCP, and for what tells more than others may know.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(bearer));
        }
    }
}

/// How any request can fail.
pub(super) struct ReadProblems;

/// How a change can fail.
struct ChangeProblems;

impl IntoResponses for ReadProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            ("400", "What was sent makes no sense"),
            ("404", "There is no such path or set"),
            ("408", "The request took too long"),
            ("413", "The body is longer than 64 KiB"),
            ("421", "The host asked is neither one address nor localhost"),
        ])
    }
}

impl IntoResponses for ChangeProblems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let mut responses = ReadProblems::responses();
        responses.extend(problems(&[
            ("401", "Over TCP: the token is missing, or another one"),
            (
                "403",
                "Over TCP: there is no token file, so it is only read",
            ),
            ("404", "There is no such set or destination"),
            (
                "409",
                "It would not make sense, needs an upgrade, or is an upgrade that is refused",
            ),
            ("415", "The body is not said to be JSON"),
            ("422", "The configuration has errors"),
            ("503", "No answer within 30 s"),
        ]));
        responses
    }
}

fn problems(all: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let schema = Ref::from_schema_name(Problem::name());
    let content = Content::new(Some(schema));
    let each = all.iter().map(|(status, description)| {
        let response = ResponseBuilder::new().description(*description);
        let response = response.content(PROBLEM_JSON, content.clone());
        (*status, response.build())
    });
    ResponsesBuilder::new()
        .responses_from_iter(each)
        .build()
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_described() {
        let described: Vec<_> = Description::openapi().paths.paths.into_keys().collect();
        let mut served: Vec<_> = reads().into_iter().chain(changes()).collect();
        served.sort_unstable_by_key(|(path, _)| *path);
        let served: Vec<_> = served.iter().map(|(path, _)| *path).collect();
        assert_eq!(described, served);
    }
}
