//! The status page: one file, which asks the API for all that it shows.

use axum::http::StatusCode;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

use super::api::ReadProblems;
use super::problem::Problem;

const PAGE: &str = include_str!("page.html");

/// What stands in the page where its nonce goes.
const PLACE: &str = "NONCE";

/// The page. It runs the script and the style that it has itself, told by a
/// nonce of its own, and speaks to nobody but this instance.
#[utoipa::path(get, path = "/", responses(
    (status = 200, description = "The status page", body = String, content_type = "text/html"),
    ReadProblems
))]
pub(super) async fn page() -> Result<Response, Problem> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)
        .map_err(|error| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))?;
    let nonce = format!("{:032x}", u128::from_ne_bytes(octets));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    let page = PAGE.replace(PLACE, &nonce);
    Ok((headers, [(CONTENT_SECURITY_POLICY, policy)], page).into_response())
}
