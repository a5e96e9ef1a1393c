//! What is changed: asked of the supervisor, who answers.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::ChangeProblems;
use crate::config::{LogLevel, State as DestinationState, text};
use crate::control::guard::Asker;
use crate::control::problem::Problem;
use crate::control::{App, Change, Command, Done, Order, Place};

/// How long the supervisor may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The state of a destination.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StateChange {
    /// The name of its set; without one, every set that has it.
    #[schema(example = "farm")]
    pub set: Option<String>,
    /// Its address, with port 5060 unless given.
    #[schema(example = "192.0.2.11:5060")]
    pub destination: String,
    /// What it is to be.
    pub state: DestinationState,
}

/// The weight of a destination.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightChange {
    /// The name of its set; without one, every set that has it.
    #[schema(example = "farm")]
    pub set: Option<String>,
    /// Its address, with port 5060 unless given.
    #[schema(example = "192.0.2.11:5060")]
    pub destination: String,
    /// What it is to be.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub weight: u32,
}

/// One more destination.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Addition {
    /// The name of its set.
    #[schema(example = "farm")]
    pub set: String,
    /// As in `--to`.
    #[schema(example = "sip:192.0.2.14:5060;weight=2")]
    pub destination: String,
}

/// A destination that is to leave.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Removal {
    /// The name of its set; without one, every set that has it.
    #[schema(example = "farm")]
    pub set: Option<String>,
    /// Its address, with port 5060 unless given.
    #[schema(example = "192.0.2.11:5060")]
    pub destination: String,
}

/// How the configuration is to be read again.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReloadRequest {
    /// Only tell what it would do.
    pub dry_run: bool,
    /// Forget what operators have changed: the file alone counts.
    pub forget_changes: bool,
}

/// What is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LevelChange {
    /// The least important lines that are written.
    pub level: LogLevel,
}

/// What comes of a change, or why not.
type Outcome = Result<Json<Done>, Problem>;

/// A body of JSON.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let read = Json::<Object<T>>::from_request(request, state).await;
        let Json(Object(read)) = read.map_err(|error| wrong(error.status(), &error.body_text()))?;
        Ok(Self(read))
    }
}

/// An object alone: serde would also take a list, in the order of the fields.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

fn wrong(status: StatusCode, said: &str) -> Problem {
    // That status is kept for errors of the configuration.
    let status = match status {
        StatusCode::UNPROCESSABLE_ENTITY => StatusCode::BAD_REQUEST,
        status => status,
    };
    Problem::new(status, said)
        .help("send the JSON that GET /api/v1/openapi.json describes, as application/json")
}

/// Sets the state of a destination.
#[utoipa::path(post, path = "/api/v1/destinations/state", request_body = StateChange,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn state(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<StateChange>,
) -> Outcome {
    let place = place(asked.set, &asked.destination)?;
    let change = Change::State(place, asked.state);
    ask(&app, asker, Command::Change(change)).await
}

/// Sets the weight of a destination.
#[utoipa::path(post, path = "/api/v1/destinations/weight", request_body = WeightChange,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn weight(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<WeightChange>,
) -> Outcome {
    let place = place(asked.set, &asked.destination)?;
    let help = "give 1 to 1000000; for no new calls, set the state to draining";
    let weight = text::weight(&asked.weight.to_string()).map_err(|fault| fault.help(help))?;
    let change = Change::Weight(place, weight);
    ask(&app, asker, Command::Change(change)).await
}

/// Adds a destination to a set, until it is removed or changes are forgotten.
#[utoipa::path(post, path = "/api/v1/destinations/add", request_body = Addition,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn add(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<Addition>,
) -> Outcome {
    let destination = text::destination(&asked.destination)?;
    let change = Change::Add(asked.set, destination);
    ask(&app, asker, Command::Change(change)).await
}

/// Removes a destination.
#[utoipa::path(post, path = "/api/v1/destinations/remove", request_body = Removal,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn remove(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<Removal>,
) -> Outcome {
    let place = place(asked.set, &asked.destination)?;
    let change = Change::Remove(place);
    ask(&app, asker, Command::Change(change)).await
}

/// Reads the configuration again, whole or not at all.
#[utoipa::path(post, path = "/api/v1/reload", request_body = ReloadRequest,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn reload(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<ReloadRequest>,
) -> Outcome {
    let command = Command::Reload {
        dry_run: asked.dry_run,
        forget_changes: asked.forget_changes,
    };
    ask(&app, asker, command).await
}

/// Has the log say more or less.
#[utoipa::path(post, path = "/api/v1/log-level", request_body = LevelChange,
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn log_level(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
    Body(asked): Body<LevelChange>,
) -> Outcome {
    ask(&app, asker, Command::LogLevel(asked.level)).await
}

/// Starts the binary again with the sockets it has.
#[utoipa::path(post, path = "/api/v1/upgrade",
    responses((status = 200, body = Done), ChangeProblems), security(("token" = [])))]
pub(super) async fn upgrade(
    State(app): State<Arc<App>>,
    Extension(asker): Extension<Asker>,
) -> Outcome {
    ask(&app, asker, Command::Upgrade).await
}

fn place(set: Option<String>, destination: &str) -> Result<Place, Problem> {
    let address = text::destination_address(destination)?;
    Ok(Place { set, address })
}

async fn ask(app: &App, asker: Asker, command: Command) -> Outcome {
    let unavailable = |said| Problem::new(StatusCode::SERVICE_UNAVAILABLE, said);
    let (answer, answered) = oneshot::channel();
    let order = Order::Command {
        command,
        by: asker.to_string(),
        answer,
    };
    let stops = || unavailable("it stops, and takes no more changes");
    app.orders.send(order).map_err(|_| stops())?;
    match tokio::time::timeout(ANSWER, answered).await {
        Ok(Ok(Ok(done))) => Ok(Json(done)),
        Ok(Ok(Err(refusal))) => Err(refusal.into()),
        Ok(Err(_)) => Err(stops()),
        Err(_) => Err(unavailable(
            "no answer within 30 s; the change may still be made: see the status",
        )),
    }
}
