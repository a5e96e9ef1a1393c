//! Why something was not done, as the API tells it (RFC 9457).

use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::order::Refusal;
use crate::config::{Diagnostic, Fault, HELP};

/// The media type of a [`Problem`].
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// Why something was not done. It has no `type`: the status says which kind it
/// is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// What is wrong.
    pub detail: String,
    /// How to mend it.
    pub help: Option<String>,
    /// What is wrong with the configuration, if that is it.
    pub diagnostics: Vec<Diagnostic>,
}

impl Problem {
    /// One that says what is wrong, and perhaps behind it how to mend it.
    pub(super) fn new(status: StatusCode, said: &str) -> Self {
        // Warnings before it may have a help of their own.
        let last = said.rsplit_once(HELP);
        let (detail, help) = match last.filter(|(_, help)| !help.contains('\n')) {
            Some((detail, help)) => (detail, Some(help.to_owned())),
            None => (said, None),
        };
        Self {
            title: status.canonical_reason().unwrap_or_default().to_owned(),
            status: status.as_u16(),
            detail: detail.to_owned(),
            help,
            diagnostics: Vec::new(),
        }
    }

    pub(super) fn help(self, help: &str) -> Self {
        let help = Some(help.to_owned());
        Self { help, ..self }
    }

    /// What was sent makes no sense.
    pub(super) fn bad_request(said: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, said)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::bad_request(&fault.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotFound(_) => StatusCode::NOT_FOUND,
            Refusal::Conflict(_) | Refusal::NeedsUpgrade(_) => StatusCode::CONFLICT,
            Refusal::Configuration(..) => StatusCode::UNPROCESSABLE_ENTITY,
        };
        let problem = Self::new(status, &refusal.to_string());
        match refusal {
            Refusal::Configuration(_, diagnostics) => Self {
                diagnostics,
                ..problem
            },
            _ => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let text = serde_json::to_string(&self).unwrap_or_default();
        let response = (status, [(CONTENT_TYPE, PROBLEM_JSON)], text);
        match status {
            StatusCode::UNAUTHORIZED => ([(WWW_AUTHENTICATE, "Bearer")], response).into_response(),
            _ => response.into_response(),
        }
    }
}
