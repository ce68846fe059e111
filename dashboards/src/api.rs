//! The endpoints.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{NaiveDate, Utc};
use rivulet_events::{ChildId, ParentId};
use rivulet_registry::{Registry, keys::Origin};
use rivulet_telemetry::{Operations, Readiness};
use rivulet_tokens::Verifier;
use rivulet_web::{Hold, Limiter, browsers, tagged};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sqlx::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{CompressionLevel, catch_panic::CatchPanicLayer, compression::CompressionLayer};
use utoipa::{IntoParams, openapi::OpenApi};
use uuid::Uuid;

use crate::{
    answers::Daily,
    cursor::{self, FOREIGN, Position},
    docs, families,
    feed::Feeds,
    learning, live,
    openapi::{Conditional, OfChild, Refusals, Unchanged},
    page,
    problem::Problem,
    range::{self, Range},
    reading::Reading,
    rows::{self, Streak},
    share::Shares,
    topics,
    viewer::{KeyHash, Viewer},
};

/// What every request shares.
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) tokens: Option<Verifier>,
    pub(crate) pool: PgPool,
    pub(crate) limiter: Limiter<KeyHash>,
    pub(crate) parent_limiter: Limiter<ParentId>,
    /// What each of them may have of the pool.
    pub(crate) shares: Shares,
    pub(crate) feeds: Arc<Feeds>,
    /// Places for live streams.
    pub(crate) listeners: Arc<Semaphore>,
    /// Ends live streams.
    pub(crate) stopping: CancellationToken,
}

pub(crate) fn router(
    app: Arc<App>,
    readiness: Readiness,
    operations: &Operations,
    document: &OpenApi,
    docs: bool,
    origins: &[Origin],
) -> Router {
    let router = Router::new()
        .route("/v1/children/{id}/daily", get(daily))
        .route("/v1/children/{id}/learning", get(learning::learning))
        .route("/v1/children/{id}/streak", get(streak))
        .route("/v1/children/{id}/topics", get(topics::topics))
        .route("/v1/children/{id}/live", get(live::child))
        .route("/v1/families/{id}", get(families::family))
        .route("/v1/families/{id}/live", get(live::family))
        // Of numbers alone, which are asked for with a credential: nobody else makes work of this.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .merge(page::router())
        .merge(operations.of_role(readiness))
        .merge(rivulet_web::openapi::route(document));
    let router = match docs {
        true => router.merge(docs::routes()),
        false => router,
    };
    let router = router
        .fallback(async |State(app): State<Arc<App>>, parts: Parts| {
            refused(
                &app,
                &parts,
                Problem::NotFound("there is nothing at this path"),
            )
            .await
        })
        .method_not_allowed_fallback(async |State(app): State<Arc<App>>, parts: Parts| {
            refused(&app, &parts, Problem::MethodNotAllowed).await
        })
        .layer(CatchPanicLayer::custom(rivulet_web::panicked))
        .with_state(app);
    if origins.is_empty() {
        return router;
    }
    // Around everything: a page must be able to read why it was refused.
    let pages = browsers(
        origins.iter().map(Origin::as_str),
        Method::GET,
        &[
            header::ACCEPT,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
        ],
        &[header::ETAG],
    );
    router.layer(pages)
}

/// What is not served. Within the API that is told to those whose credential is good, like everything
/// else about it.
async fn refused(app: &App, parts: &Parts, problem: Problem) -> Response {
    let problem = match parts.uri.path().starts_with("/v1/") {
        true => admit(app, parts).await.err().unwrap_or(problem),
        false => problem,
    };
    problem.into_response()
}

/// A path as metrics and logs may know it: without ids.
pub(crate) fn route(path: &str) -> &'static str {
    let rest = match path {
        "/healthz" | "/readyz" | "/metrics" => return "operations",
        "/" => return "page",
        path if path.starts_with("/page/") => return "page",
        "/openapi.json" | "/docs" => return "docs",
        path if path.starts_with("/docs/") => return "docs",
        path => match path.strip_prefix("/v1/families/") {
            Some(id) if id.ends_with("/live") => return "live",
            Some(_) => return "family",
            None => path.strip_prefix("/v1/children/"),
        },
    };
    match rest.and_then(|rest| rest.split_once('/')) {
        Some((_, "daily")) => "daily",
        Some((_, "learning")) => "learning",
        Some((_, "streak")) => "streak",
        Some((_, "topics")) => "topics",
        Some((_, "live")) => "live",
        _ => "other",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParameters {}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DailyParameters {
    /// The first day, of the family's time zone. Without it, thirty days up to the last.
    #[serde(default, deserialize_with = "range::day")]
    from: Option<NaiveDate>,
    /// The last day, 366 in all at most. Without it, today.
    #[serde(default, deserialize_with = "range::day")]
    to: Option<NaiveDate>,
    /// The `next` of the answer that this one goes on from.
    #[serde(default, deserialize_with = "cursor::after")]
    #[param(value_type = Option<String>)]
    after: Option<Position>,
}

/// A child's days
///
/// The rows of `daily_child_metrics`. 512 KiB of them are in one answer at most, which is a year of a child who
/// does much: `next` leads on.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/daily",
    tag = "reading",
    params(OfChild, DailyParameters, Conditional),
    responses(
        (status = 200, description = "The days that have events", body = Daily,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn daily(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (asked, child, mut reading): (DailyParameters, _, _) = open(&app, &parts, id).await?;
        let range = Range::of(asked.from, asked.to, reading.today)?;
        let after = match asked.after {
            None => None,
            Some(Position::Day(day)) => Some(day),
            Some(_) => return Err(FOREIGN),
        };
        let (days, last) = rows::range(&mut reading, child, range.after(after)).await?;
        Ok(Daily {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            from: range.from,
            to: range.to,
            days,
            next: last.map(|day| Position::Day(day).to_string()),
        })
    })
    .await
}

/// A child's streak
///
/// The row of `streaks`, and what the parent sees today.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/streak",
    tag = "reading",
    params(OfChild, Conditional),
    responses(
        (status = 200, description = "Days in a row", body = Streak,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn streak(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (NoParameters {}, child, mut reading) = open(&app, &parts, id).await?;
        rows::streak(&mut reading, child).await
    })
    .await
}

/// What is asked, of which child. Nobody is told what is wrong with a request before it is known who asks.
pub(crate) async fn open<P: DeserializeOwned>(
    app: &App,
    parts: &Parts,
    id: Id,
) -> Result<(P, ChildId, Reading), Problem> {
    let viewer = admit(app, parts).await?;
    let asked = parameters(parts)?;
    let child = ChildId::new(uuid(id)?);
    let place = app.shares.take(viewer, parts.extensions.get()).await?;
    let request = parts.extensions.get();
    let reading = Reading::child(&app.pool, viewer, child, Utc::now(), request).await?;
    Ok((asked, child, reading.holding(place)))
}

/// Who asks, if they have not asked too much.
pub(crate) async fn admit(app: &App, parts: &Parts) -> Result<Viewer, Problem> {
    let viewer = viewer(app, &parts.headers).await?;
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

/// The id in the path, as far as it can be read: what cannot be is refused by us, once we know who asks.
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

/// As JSON that nobody between may keep.
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
