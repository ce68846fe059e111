//! The endpoints.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, Method, header, request::Parts},
    response::{IntoResponse as _, Response},
    routing::get,
};
use chrono::{Datelike as _, Days, NaiveDate, Utc};
use rivulet_events::{ChildId, ParentId};
use rivulet_registry::{Registry, keys::Origin};
use rivulet_telemetry::{Metrics, Readiness, operations};
use rivulet_tokens::Verifier;
use rivulet_web::{Limiter, browsers, tagged};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::{CompressionLevel, catch_panic::CatchPanicLayer, compression::CompressionLayer};
use utoipa::{IntoParams, ToSchema, openapi::OpenApi};
use uuid::Uuid;

use crate::{
    answers::{ChildOfFamily, ChildTopics, Daily, Family, Learning},
    docs,
    listen::Watchers,
    live,
    openapi::{Conditional, OfChild, OfFamily, Refusals, Unchanged},
    page,
    problem::Problem,
    range::{self, Range},
    reading::Reading,
    rows::{self, Metric, Streak, Topic},
    viewer::{KeyHash, Viewer},
};

/// Topics in one answer, the latest first.
pub(crate) const TOPICS: usize = 500;

/// What every request shares.
pub(crate) struct App {
    pub(crate) registry: Registry,
    pub(crate) tokens: Option<Verifier>,
    pub(crate) pool: PgPool,
    pub(crate) limiter: Limiter<KeyHash>,
    pub(crate) parent_limiter: Limiter<ParentId>,
    pub(crate) watchers: Arc<Watchers>,
    /// Places for live streams.
    pub(crate) listeners: Arc<Semaphore>,
    /// How many of them may read at once.
    pub(crate) live_reads: Semaphore,
    /// Ends live streams.
    pub(crate) stopping: CancellationToken,
}

pub(crate) fn router(
    app: Arc<App>,
    readiness: Readiness,
    metrics: Metrics,
    document: &OpenApi,
    docs: bool,
    origins: &[Origin],
) -> Router {
    let router = Router::new()
        .route("/v1/children/{id}/daily", get(daily))
        .route("/v1/children/{id}/learning", get(learning))
        .route("/v1/children/{id}/streak", get(streak))
        .route("/v1/children/{id}/topics", get(topics))
        .route("/v1/children/{id}/live", get(live::child))
        .route("/v1/families/{id}", get(family))
        .route("/v1/families/{id}/live", get(live::family))
        // Of numbers alone, which are asked for with a credential: nobody else makes work of this.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .merge(page::router())
        .merge(operations(readiness, metrics))
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
        true => admit(app, &parts.headers).await.err().unwrap_or(problem),
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
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct LearningParameters {
    /// How long one number is for.
    #[serde(default)]
    period: Period,
    /// The first day, of the family's time zone. Without it, thirty days up to the last.
    #[serde(default, deserialize_with = "range::day")]
    from: Option<NaiveDate>,
    /// The last day, 366 in all at most. Without it, today.
    #[serde(default, deserialize_with = "range::day")]
    to: Option<NaiveDate>,
}

#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Period {
    #[default]
    Daily,
    Weekly,
    Monthly,
}

impl Period {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Daily => "daily",
            Self::Weekly => "weekly",
            Self::Monthly => "monthly",
        }
    }

    /// The first day of the period that `day` is in.
    fn start(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Daily => day,
            Self::Weekly => monday(day),
            Self::Monthly => day.with_day(1).unwrap_or(day),
        }
    }
}

/// Of the week that `day` is in.
fn monday(day: NaiveDate) -> NaiveDate {
    let since = Days::new(day.weekday().num_days_from_monday().into());
    day.checked_sub_days(since).unwrap_or(day)
}

/// A child's days
///
/// The rows of `daily_child_metrics`.
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
        Ok(Daily {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            from: range.from,
            to: range.to,
            days: rows::range(&mut reading, child, range).await?,
        })
    })
    .await
}

/// A child's learning, by period and subject
///
/// The rows of `learning_metrics`, of every period that any of the days is in.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/learning",
    tag = "reading",
    params(OfChild, LearningParameters, Conditional),
    responses(
        (status = 200, description = "Numbers to chart", body = Learning,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn learning(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (asked, child, mut reading): (LearningParameters, _, _) =
            open(&app, &parts, id).await?;
        let range = Range::of(asked.from, asked.to, reading.today)?;
        let sql = format!(
            "SELECT coalesce(json_agg(m ORDER BY period_start, subject, metric_type), '[]')::text FROM (
                 SELECT {METRIC} FROM learning_metrics
                 WHERE child_id = $1 AND period = $2 AND period_start BETWEEN $3 AND $4
             ) m",
            METRIC = Metric::COLUMNS,
        );
        let metrics: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(child.uuid())
            .bind(asked.period.as_str())
            .bind(asked.period.start(range.from))
            .bind(range.to)
            .fetch_one(&mut *reading.tx)
            .await?;
        Ok(Learning {
            child_id: child.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            period: asked.period.as_str(),
            from: range.from,
            to: range.to,
            metrics: rows::raw(metrics)?,
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

/// What a child has met
///
/// The rows of `topic_progress`, the latest topics first.
#[utoipa::path(
    get,
    path = "/v1/children/{id}/topics",
    tag = "reading",
    params(OfChild, Conditional),
    responses(
        (status = 200, description = "Topics over all time", body = ChildTopics,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn topics(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let (NoParameters {}, child, mut reading) = open(&app, &parts, id).await?;
        let sql = format!(
            "SELECT coalesce(json_agg(t ORDER BY last_seen_at DESC, topic), '[]') FROM (
                 SELECT {TOPIC} FROM topic_progress WHERE child_id = $1
                 ORDER BY last_seen_at DESC, topic LIMIT $2 + 1
             ) t",
            TOPIC = Topic::COLUMNS,
        );
        let found: Value = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(child.uuid())
            .bind(TOPICS as i64)
            .fetch_one(&mut *reading.tx)
            .await?;
        let mut topics = match found {
            Value::Array(topics) => topics,
            _ => Vec::new(),
        };
        let more = topics.len() > TOPICS;
        topics.truncate(TOPICS);
        Ok(ChildTopics {
            child_id: child.uuid(),
            topics,
            more,
        })
    })
    .await
}

/// A family's children side by side
///
/// Of each the streak, this week and the one before.
#[utoipa::path(
    get,
    path = "/v1/families/{id}",
    tag = "reading",
    params(OfFamily, Conditional),
    responses(
        (status = 200, description = "Its children", body = Family,
         headers(("ETag" = String, description = "For `If-None-Match`."))),
        Unchanged,
        Refusals,
    ),
)]
pub(crate) async fn family(State(app): State<Arc<App>>, id: Id, parts: Parts) -> Response {
    answer(&parts.headers, async {
        let viewer = admit(&app, &parts.headers).await?;
        let NoParameters {} = parameters(&parts)?;
        let parent = ParentId::new(uuid(id)?);
        let (mut reading, members) =
            Reading::family(&app.pool, viewer, parent, Utc::now(), parts.extensions.get()).await?;
        let this_week = monday(reading.today);
        let last_week = this_week.checked_sub_days(Days::new(7)).unwrap_or(this_week);
        let mut children = Vec::with_capacity(members.len());
        for member in members {
            let (streak, last_active, weeks): (Option<i64>, Option<NaiveDate>, Value) = sqlx::query_as(
                "SELECT CASE WHEN $5 THEN streak_as_of($1, $2) END,
                        (SELECT last_active_date FROM streaks WHERE child_id = $1),
                        (SELECT coalesce(json_object_agg(week_start, to_jsonb(w) - 'child_id' - 'week_start'), '{}')
                         FROM weekly_summaries w WHERE child_id = $1 AND week_start IN ($3, $4))",
            )
            .bind(member.id)
            .bind(reading.today)
            .bind(this_week)
            .bind(last_week)
            .bind(reading.streaks)
            .fetch_one(&mut *reading.tx)
            .await?;
            let week = |start: NaiveDate| weeks.get(start.to_string()).cloned();
            children.push(ChildOfFamily {
                child_id: member.id,
                age_group: member.age_group,
                streak_today: streak,
                last_active_date: last_active,
                this_week: week(this_week),
                last_week: week(last_week),
            });
        }
        Ok(Family {
            parent_id: parent.uuid(),
            timezone: reading.timezone.name(),
            today: reading.today,
            week_start: this_week,
            streaks: reading.streaks,
            children,
        })
    })
    .await
}

/// What is asked, of which child. Nobody is told what is wrong with a request before it is known who asks.
async fn open<P: DeserializeOwned>(
    app: &App,
    parts: &Parts,
    id: Id,
) -> Result<(P, ChildId, Reading), Problem> {
    let viewer = admit(app, &parts.headers).await?;
    let asked = parameters(parts)?;
    let child = ChildId::new(uuid(id)?);
    let request = parts.extensions.get();
    let reading = Reading::child(&app.pool, viewer, child, Utc::now(), request).await?;
    Ok((asked, child, reading))
}

/// Who asks, if they have not asked too much.
pub(crate) async fn admit(app: &App, headers: &HeaderMap) -> Result<Viewer, Problem> {
    let viewer = viewer(app, headers).await?;
    let taken = match &viewer {
        Viewer::Product(key) => app.limiter.take(key, 1),
        Viewer::Parent(parent) => app.parent_limiter.take(parent, 1),
    };
    taken.map_err(Problem::RateLimited)?;
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
async fn answer<T: Serialize>(
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
