//! What all requests share, and the steps that all of them take: who asks, for what, and what the answer is.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header, request::Parts},
    response::{IntoResponse as _, Response},
};
use chrono::Utc;
use rivulet_auditlog::{Actor, Groups, identify};
use rivulet_events::{ChildId, ParentId};
use rivulet_registry::Registry;
use rivulet_tokens::Verifier;
use rivulet_web::{Hold, Limiter, tagged};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    export::Exports,
    feed::Feeds,
    inspect::Inspect,
    problem::Problem,
    reading::Reading,
    share::Shares,
    viewer::{KeyHash, Viewer},
};

/// What every request shares.
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) tokens: Option<Verifier>,
    pub(crate) pool: PgPool,
    pub(crate) limiter: Limiter<KeyHash>,
    pub(crate) parent_limiter: Limiter<ParentId>,
    /// How many connections of the pool each caller may use.
    pub(crate) shares: Shares,
    pub(crate) feeds: Arc<Feeds>,
    pub(crate) exports: Exports,
    /// What arrives, where that is shown.
    pub(crate) inspect: Option<Inspect>,
    /// A permit for each live stream.
    pub(crate) listeners: Arc<Semaphore>,
    /// Who read what of whom.
    pub(crate) audit: Arc<Groups>,
    /// Ends live streams.
    pub(crate) stopping: CancellationToken,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

/// Opens a request about a child: returns its parameters, the child, and a view of PostgreSQL. Nobody is told what is
/// wrong with a request before it is known who asks.
pub(crate) async fn open<P: DeserializeOwned>(
    app: &App,
    parts: &Parts,
    id: Id,
) -> Result<(P, ChildId, Reading), Problem> {
    let viewer = authenticate(app, parts).await?;
    let asked = parameters(parts)?;
    let child = ChildId::new(uuid(id)?);
    let permit = app.shares.take(viewer, parts.extensions.get()).await?;
    let request = parts.extensions.get();
    let reading = Reading::child(&app.pool, viewer, child, Utc::now(), request).await?;
    Ok((asked, child, reading.holding(permit)))
}

/// Finds out who asks, and counts the request against their rate limit. From then on the connection is kept.
pub(crate) async fn authenticate(app: &App, parts: &Parts) -> Result<Viewer, Problem> {
    let viewer = viewer(app, &parts.headers).await?;
    identify(|| match viewer {
        Viewer::Product(key) => Actor::Key(key),
        Viewer::Parent(parent) => Actor::token(parent.uuid()),
    });
    let taken = match &viewer {
        Viewer::Product(key) => app.limiter.take(key, 1),
        Viewer::Parent(parent) => app.parent_limiter.take(parent, 1),
    };
    taken.map_err(Problem::RateLimited)?;
    if let Some(hold) = parts.extensions.get::<Hold>() {
        hold.keep();
    }
    Ok(viewer)
}

pub(crate) async fn viewer(app: &App, headers: &HeaderMap) -> Result<Viewer, Problem> {
    Viewer::of(headers, &app.registry, app.tokens.as_ref()).await
}

/// The id in the path, or why it cannot be read. An id that cannot be read is refused only after it is known who asks.
pub(crate) type Id = Result<Path<String>, PathRejection>;

pub(crate) fn uuid(id: Id) -> Result<Uuid, Problem> {
    let read = id.ok().and_then(|Path(id)| id.parse().ok());
    read.ok_or(Problem::NotFound("the id in the path must be a UUID"))
}

pub(crate) fn parameters<P: DeserializeOwned>(parts: &Parts) -> Result<P, Problem> {
    let parsed = Query::try_from_uri(&parts.uri);
    let Query(parameters) = parsed.map_err(|error| {
        Problem::InvalidParameter(
            format!("the parameters cannot be read: {}", error.body_text()).into(),
        )
    })?;
    Ok(parameters)
}

/// The answer as JSON that only the client may keep.
pub(crate) async fn answer<T: Serialize>(
    asked: &HeaderMap,
    work: impl Future<Output = Result<T, Problem>>,
) -> Response {
    let body = match work.await.map(|answer| serde_json::to_vec(&answer)) {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => {
            tracing::error!(%error, "an answer could not be written");
            return Problem::Unavailable("the numbers cannot be told now").into_response();
        }
        Err(problem) => return problem.into_response(),
    };
    let mut response = tagged(asked, "application/json", body);
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "private, no-cache"),
        (header::VARY, "authorization"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
