//! The admin API: which path does what, and its description.

mod bad_packets;
mod change;
mod explained;
mod read;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::{Extension, Json, Router, middleware};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Content, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder, ResponsesBuilder,
};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use bad_packets::{BadPacket, BadPackets, BadPacketsRequest};
pub use change::{Addition, LevelChange, ReloadRequest, Removal, StateChange, WeightChange};

use super::App;
use super::guard;
use super::page;
use super::problem::{PROBLEM_JSON, Problem};

/// Longest body of a request, in octets: as long as a datagram.
const BODY_MAX: usize = 64 * 1024;

/// What everybody may ask.
fn reads() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::with_openapi(Description::openapi())
        .routes(routes!(page::page))
        .routes(routes!(read::livez))
        .routes(routes!(read::scrape))
        .routes(routes!(read::readyz))
        .routes(routes!(read::version))
        .routes(routes!(read::status))
        .routes(routes!(read::sets))
        .routes(routes!(read::set))
        .routes(routes!(read::workers))
        .routes(routes!(read::config))
        .routes(routes!(description))
}

/// What changes something, or tells more than everybody may know.
fn changes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::default()
        .routes(routes!(change::state))
        .routes(routes!(change::weight))
        .routes(routes!(change::add))
        .routes(routes!(change::remove))
        .routes(routes!(change::reload))
        .routes(routes!(change::log_level))
        .routes(routes!(change::upgrade))
        .routes(routes!(bad_packets::bad_packets))
        .routes(routes!(explained::call_id, explained::message))
}

/// All of it.
pub(super) fn router(app: Arc<App>) -> Router {
    let may_change = middleware::from_fn_with_state(Arc::clone(&app), guard::may_change);
    let all = reads().merge(changes().route_layer(may_change));
    let (router, description) = all.split_for_parts();
    router
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(Extension(Arc::new(description)))
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
async fn description(Extension(document): Extension<Arc<Document>>) -> Json<Document> {
    Json(Document::clone(&document))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Viaduct",
        description = "What a running Viaduct tells, and what can be changed of it."
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
